"""Affine layers, activations and small networks: nine wrong backward functions."""

# ruff: noqa: RUF059 - not all that a learner unpacks is used

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.nn import functional as F

from .entry import Arrays, filled, wrong


def affine(x, W, b):
    return x @ W + b


def affine_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(4, 3)), "W": rng.normal(size=(3, 5)), "b": rng.normal(size=5)}


def linear_inputs(rng: np.random.Generator) -> Arrays:
    """As many outputs as inputs."""
    return {"x": rng.normal(size=(3, 4)), "weight": rng.normal(size=(4, 4)), "bias": rng.normal(size=4)}


def two_layers(x, W1, b1, W2, b2):
    hidden = tg.sigmoid(x @ W1 + b1)
    return hidden @ W2 + b2


def two_layers_inputs(rng: np.random.Generator) -> Arrays:
    N, D, H, M = 4, 3, 5, 2
    return {
        "x": rng.normal(size=(N, D)),
        "W1": rng.normal(size=(D, H)),
        "b1": rng.normal(size=H),
        "W2": rng.normal(size=(H, M)),
        "b2": rng.normal(size=M),
    }


def square_layers(x, W1, W2):
    """Two layers of the same size."""
    hidden = F.relu(x @ W1)
    return tg.tanh(hidden @ W2)


def square_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(3, 4)), "W1": rng.normal(size=(4, 4)), "W2": rng.normal(size=(4, 4)) * 0.5}


def residual(x, W1, b1, W2, b2):
    hidden = F.relu(x @ W1 + b1)
    change = hidden @ W2 + b2
    return x + change


def residual_inputs(rng: np.random.Generator) -> Arrays:
    N, D, H = 4, 3, 5
    return {
        "x": rng.normal(size=(N, D)),
        "W1": rng.normal(size=(D, H)),
        "b1": rng.normal(size=H),
        "W2": rng.normal(size=(H, D)),
        "b2": rng.normal(size=D),
    }


def leaky(x, W1, b1, W2):
    hidden = F.leaky_relu(x @ W1 + b1, 0.1)
    return hidden @ W2


def leaky_inputs(rng: np.random.Generator) -> Arrays:
    return {
        "x": rng.normal(size=(4, 3)),
        "W1": rng.normal(size=(3, 5)),
        "b1": rng.normal(size=5),
        "W2": rng.normal(size=(5, 2)),
    }


def squared_error(x, W, b, t):
    y = x @ W + b
    error = y - t
    return (error * error).mean()


def squared_error_inputs(rng: np.random.Generator) -> Arrays:
    return affine_inputs(rng) | {"t": rng.normal(size=(4, 5))}


def tied_autoencoder(x, W, b, c):
    """The decoder's matrix is the encoder's, transposed."""
    code = tg.tanh(x @ W + b)
    return code @ W.T + c


def tied_inputs(rng: np.random.Generator) -> Arrays:
    return {
        "x": rng.normal(size=(4, 5)),
        "W": rng.normal(size=(5, 3)) * 0.6,
        "b": rng.normal(size=3),
        "c": rng.normal(size=5),
    }


@wrong(affine, affine_inputs, "shape", place="b", repair=("self.db = dout\n", "self.db = np.sum(dout, axis=0)\n"))
class hands_on_the_gradient_of_the_bias_unsummed:
    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        dx = np.dot(dout, W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = dout
        self.grads = [self.dW, self.db]
        return dx


@wrong(
    filled(nn.Linear(4, 4)),
    lambda rng: {"input": rng.normal(size=(3, 4))},
    "transpose",
    place="weight",
    repair=("x.T @ grad_out,", "grad_out.T @ x,"),
)
def lays_the_gradient_of_the_weight_out_the_other_way(grad_out, x, weight, bias):
    return grad_out @ weight, x.T @ grad_out, grad_out.sum(0)


@wrong(affine, affine_inputs, "scale", place="W", repair=("x.T @ g / len(x)", "x.T @ g"))
def averages_over_the_batch(g, x, W, b):
    return {"x": g @ W.T, "W": x.T @ g / len(x), "b": g.sum(axis=0)}


@wrong(square_layers, square_inputs, "transpose", place="W2", repair=("delta2 @ W2\n", "delta2 @ W2.T\n"))
def forgets_to_transpose_the_second_matrix(g, x, W1, W2):
    z1 = x @ W1
    a1 = np.maximum(z1, 0)
    y = np.tanh(a1 @ W2)
    delta2 = g * (1 - y**2)
    da1 = delta2 @ W2
    delta1 = da1 * (z1 > 0)
    return delta1 @ W1.T, x.T @ delta1, a1.T @ delta2


@wrong(two_layers, two_layers_inputs, "activation", place="sigmoid", repair=("s = sigmoid(a1)", "s = a1"))
def takes_the_sigmoid_of_a_sigmoid(g, x, W1, b1, W2, b2):
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    a1 = sigmoid(x @ W1 + b1)
    dW2, db2 = a1.T @ g, g.sum(axis=0)
    s = sigmoid(a1)
    dz1 = (g @ W2.T) * s * (1 - s)
    dW1, db1 = x.T @ dz1, dz1.sum(axis=0)
    return dz1 @ W1.T, dW1, db1, dW2, db2


@wrong(square_layers, square_inputs, "swap", repair=("return dx, dW2, dW1", "return dx, dW1, dW2"))
def returns_the_gradients_from_last_to_first(g, x, W1, W2):
    h = np.dot(x, W1)
    mask = h <= 0
    h = np.where(mask, 0, h)
    y = np.tanh(np.dot(h, W2))
    dz = g * (1 - y * y)
    dW2 = np.dot(h.T, dz)
    dh = np.dot(dz, W2.T)
    dh[mask] = 0
    dW1 = np.dot(x.T, dh)
    dx = np.dot(dh, W1.T)
    return dx, dW2, dW1


@wrong(residual, residual_inputs, "term", place="x + change", repair=("dx = np.dot(dh, W1.T)\n", "dx = g + np.dot(dh, W1.T)\n"))
def forgets_the_shortcut(g, x, W1, b1, W2, b2):
    h = np.maximum(np.dot(x, W1) + b1, 0)
    dW2 = np.dot(h.T, g)
    db2 = np.sum(g, axis=0)
    dh = np.dot(g, W2.T)
    dh[h == 0] = 0
    dW1 = np.dot(x.T, dh)
    db1 = np.sum(dh, axis=0)
    dx = np.dot(dh, W1.T)
    return dx, dW1, db1, dW2, db2


@wrong(leaky, leaky_inputs, "activation", place="leaky_relu", repair=("np.where(z > 0, 1, 0)", "np.where(z > 0, 1, 0.1)"))
def takes_the_slope_of_the_plain_relu(g, x, W1, b1, W2):
    z = x @ W1 + b1
    h = np.where(z > 0, z, 0.1 * z)
    dz = (g @ W2.T) * np.where(z > 0, 1, 0)
    return dz @ W1.T, x.T @ dz, dz.sum(0), h.T @ g


@wrong(tied_autoencoder, tied_inputs, "term", place="code @ W.T", repair=("dW = x.T @ dz\n", "dW = x.T @ dz + g.T @ code\n"))
def forgets_that_the_decoder_uses_the_same_matrix(g, x, W, b, c):
    code = np.tanh(x @ W + b)
    dcode = g @ W
    dz = dcode * (1 - code**2)
    dW = x.T @ dz
    return dz @ W.T, dW, dz.sum(axis=0), g.sum(axis=0)
