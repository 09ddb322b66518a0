"""Batch normalization: six wrong backward functions."""

# ruff: noqa: F841, RUF059 - who forgets a term has computed it all the same

from __future__ import annotations

import numpy as np

from tinygrad_ja.textbook import composite

from .entry import Arrays, wrong

EPS = 1e-5


def batch_norm(x, gamma, beta):
    """Mean and variance over the batch."""
    mean = x.mean(0)
    centered = x - mean
    var = (centered * centered).mean(0)
    std = (var + EPS).sqrt()
    normalized = centered / std
    return gamma * normalized + beta


def batch_norm_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(5, 3)) * 2 + 1, "gamma": rng.normal(size=3), "beta": rng.normal(size=3)}


def torch_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(4, 3)), "weight": rng.normal(size=3), "bias": rng.normal(size=3)}


@wrong(batch_norm, batch_norm_inputs, "term", place="mean", repair=("dx = dxc\n", "dx = dxc - dmu / batch_size\n"))
def forgets_that_the_mean_depends_on_x(dout, x, gamma, beta):
    batch_size = x.shape[0]
    mu = x.mean(axis=0)
    xc = x - mu
    std = np.sqrt(np.mean(xc**2, axis=0) + EPS)
    xn = xc / std
    dbeta = dout.sum(axis=0)
    dgamma = np.sum(xn * dout, axis=0)
    dxn = gamma * dout
    dxc = dxn / std
    dstd = -np.sum((dxn * xc) / (std * std), axis=0)
    dvar = 0.5 * dstd / std
    dxc += (2.0 / batch_size) * xc * dvar
    dmu = np.sum(dxc, axis=0)
    dx = dxc
    return dx, dgamma, dbeta


@wrong(
    composite.batch_norm,
    torch_inputs,
    "term",
    place="sqrt",
    repair=("- dxhat.mean(0))", "- dxhat.mean(0) - xhat * (dxhat * xhat).mean(0))"),
)
def forgets_that_the_variance_depends_on_x(g, x, weight, bias):
    inv = 1 / np.sqrt(x.var(0) + EPS)
    xhat = (x - x.mean(0)) * inv
    dxhat = g * weight
    dx = inv * (dxhat - dxhat.mean(0))
    return dx, (g * xhat).sum(0), g.sum(0)


@wrong(
    batch_norm,
    batch_norm_inputs,
    "factor",
    place="gamma",
    repair=("np.sum(self.x * dout, axis=0)", "np.sum(self.xn * dout, axis=0)"),
)
class multiplies_gamma_with_what_was_not_normalized:
    def __init__(self, gamma, beta):
        self.params = [gamma, beta]
        self.grads = [np.zeros_like(gamma), np.zeros_like(beta)]

    def forward(self, x):
        gamma, beta = self.params
        self.x = x
        self.xc = x - x.mean(axis=0)
        self.std = np.sqrt(np.mean(self.xc**2, axis=0) + EPS)
        self.xn = self.xc / self.std
        return gamma * self.xn + beta

    def backward(self, dout):
        gamma, _ = self.params
        n = len(dout)
        self.grads[0][...] = np.sum(self.x * dout, axis=0)
        self.grads[1][...] = dout.sum(axis=0)
        dxn = gamma * dout
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dvar = 0.5 * dstd / self.std
        dxc += (2.0 / n) * self.xc * dvar
        return dxc - dxc.sum(axis=0) / n


@wrong(
    composite.batch_norm,
    torch_inputs,
    "scale",
    place="bias",
    repair=("dbeta = np.mean(dy, axis=0)", "dbeta = np.sum(dy, axis=0)"),
)
def averages_beta_over_the_batch(dy, x, gamma, beta):
    N, D = x.shape
    mu, var = np.mean(x, axis=0), np.var(x, axis=0)
    ivar = 1.0 / np.sqrt(var + EPS)
    xhat = (x - mu) * ivar
    dbeta = np.mean(dy, axis=0)
    dgamma = np.sum(dy * xhat, axis=0)
    dxhat = dy * gamma
    dx = ivar / N * (N * dxhat - np.sum(dxhat, axis=0) - xhat * np.sum(dxhat * xhat, axis=0))
    return dx, dgamma, dbeta


@wrong(
    batch_norm,
    batch_norm_inputs,
    "scale",
    place="centered * centered",
    repair=("1.0 / N * np.ones((N, D)) * dvar", "2.0 / N * np.ones((N, D)) * dvar"),
)
def forgets_the_two_of_the_square(dout, x, gamma, beta):
    N, D = dout.shape
    mu = 1.0 / N * np.sum(x, axis=0)
    xmu = x - mu
    var = 1.0 / N * np.sum(xmu**2, axis=0)
    sqrtvar = np.sqrt(var + EPS)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dsqrtvar = -1.0 / sqrtvar**2 * divar
    dvar = 0.5 / sqrtvar * dsqrtvar
    dsq = 1.0 / N * np.ones((N, D)) * dvar
    dxmu = dxhat * ivar + xmu * dsq
    dmu = -np.sum(dxmu, axis=0)
    return dxmu + 1.0 / N * np.ones((N, D)) * dmu, dgamma, dbeta


@wrong(
    batch_norm,
    batch_norm_inputs,
    "sign",
    place="std",
    repair=("dvar = np.sum(dxhat * xc, axis=0) * 0.5", "dvar = np.sum(dxhat * xc, axis=0) * -0.5"),
)
def forgets_the_minus_of_the_reciprocal(g, x, gamma, beta):
    m = len(x)
    xc = x - x.mean(axis=0)
    var = np.sum(xc**2, axis=0) / m
    xhat = xc / np.sqrt(var + EPS)
    dxhat = g * gamma
    dvar = np.sum(dxhat * xc, axis=0) * 0.5 * (var + EPS) ** -1.5
    dmean = np.sum(-dxhat / np.sqrt(var + EPS), axis=0)
    dx = dxhat / np.sqrt(var + EPS) + dvar * 2 * xc / m + dmean / m
    return {"x": dx, "gamma": np.sum(g * xhat, axis=0), "beta": np.sum(g, axis=0)}
