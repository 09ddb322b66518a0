"""One small operator of each kind and shape, and wrong ones, for the tests of ``tinygrad_ja.testing``. Importing registers them."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.core.operator import Array, Constant, elementwise, fused, linear, primitive


@elementwise(lambda g, y: g * y, domain=(-1.0, 1.0))
def demo_exp(xp: Any, input: Array) -> Array:
    return xp.exp(input)


@linear(lambda g, weight: g * weight, cases=lambda pick: ((pick.array((2, 3)), 0.5), {}))
def demo_scale(xp: Any, input: Array, weight: float = 1.0) -> Array:
    return input * weight


@primitive(lambda g, other: g @ other.T, lambda g, input: input.T @ g, signature="(n,k),(k,m)->(n,m)")
def demo_product(xp: Any, input: Array, other: Array) -> Array:
    return xp.matmul(input, other)


@primitive(lambda g, input: (g[0] + g[1] * 2 * input,), outputs=3, joint=True, cases=lambda pick: ((pick.array((4,)),), {}))
def demo_outputs(xp: Any, input: Array) -> Any:
    """The value, its square, and (an integer, no derivative) its sign."""
    return input, input * input, (input > 0).astype(np.int64)


def _pieces(g: Any, tensors: Any) -> Any:
    return tuple([g * 2 * x for x in tensors])


@primitive(_pieces, joint=True, cases=lambda pick: ([pick.array((3,)) for _ in range(pick.integer(1, 3))], {}))
def demo_squares(xp: Any, *tensors: Array) -> Array:
    """Sum of the squares of any number of arrays."""
    total = tensors[0] * tensors[0]
    for x in tensors[1:]:
        total = total + x * x
    return total


def _affine_backward(xp: Any, g: Any, input: Any, weight: Any, bias: Any, needs: Any) -> Any:
    return g * weight, g * input, None if bias is None else g


def _affine_cases(pick: Any) -> Any:
    bias = pick.array((2, 3)) if pick.boolean() else None
    return (pick.array((2, 3)), pick.array((2, 3)), bias), {}


@fused(_affine_backward, lambda x, w, b: x * w if b is None else x * w + b, cases=_affine_cases)
def demo_affine(xp: Any, input: Array, weight: Array, bias: Array | None = None) -> Array:
    made = input * weight
    return made if bias is None else made + bias


@linear(
    lambda g, index, shape: demo_put(g, index, shape),
    cases=lambda pick: ((pick.array((5,)), pick.indices(pick.shape(), 5)), {}),
)
def demo_take(xp: Any, input: Array, index: Constant) -> Array:
    return xp.take(input, index)


@linear(
    lambda g, index: demo_take(g, index),
    cases=lambda pick: ((pick.array((4,)), pick.indices((4,), 5), (5,)), {}),
)
def demo_put(xp: Any, input: Array, index: Constant, size: tuple[int, ...]) -> Array:
    made = xp.zeros(size, dtype=input.dtype)
    xp.add.at(made, index, input)
    return made


@primitive(lambda g: g, lambda g, scale: g * scale, cases=lambda pick: ((pick.array((3,)), 2.0, pick.array((3,))), {}))
def demo_between(xp: Any, input: Array, scale: float, other: Array) -> Array:
    """A plain argument stands between the inputs."""
    return input + scale * other


@primitive(cases=lambda pick: ((pick.array(pick.shape(1, 2)),), {}))
def demo_largest(xp: Any, input: Array) -> Array:
    """Index of the largest element of the last axis: no derivative."""
    return xp.argsort(input, -1)


RIGHT = """demo_exp demo_scale demo_outputs demo_squares demo_affine demo_take demo_put demo_between demo_largest""".split()


# ---- wrong ones: name -> the check that must find it ----------------------------------------------


def _flat(pick: Any) -> Any:
    return (pick.array((3,)),), {}


@elementwise(lambda g, input: g * input)
def wrong_factor(xp: Any, input: Array) -> Array:
    return input * input


@fused(lambda xp, g, input: (g * 2 * input,), lambda x: x * x * x / x.detach() + x * x - x * x, cases=_flat)
def wrong_reference_slope(xp: Any, input: Array) -> Array:
    return input * input


@fused(lambda xp, g, input: (g * 2 * input,), lambda x: x * x + 1.0, cases=_flat)
def wrong_reference(xp: Any, input: Array) -> Array:
    return input * input


def _scribbling(g: Any) -> Any:
    g *= 2.0
    return g


@elementwise(_scribbling)
def wrong_in_place(xp: Any, input: Array) -> Array:
    return input * 2


@elementwise(lambda g, input: g * 2 * input)
def wrong_memory_order(xp: Any, input: Array) -> Array:
    """Reads the memory of its input, whatever the strides say."""
    seen = input if type(input) is not np.ndarray else np.ravel(input, order="K").reshape(input.shape)
    return seen * input


@elementwise(lambda g: g * 2)
def wrong_dtype(xp: Any, input: Array) -> Array:
    return (input * 2).astype(xp.float64)


@elementwise(lambda g: g * 2)
def wrong_module(xp: Any, input: Array) -> Array:
    """Uses NumPy where the array may be on a GPU."""
    return np.multiply(input, 2)


@elementwise(lambda g: g * 2)
def wrong_waiting(xp: Any, input: Array) -> Array:
    """Looks at a value on the host."""
    return input * 2 if input.size == 0 or float(input.sum()) < 1e9 else input * 3


@elementwise(lambda g: g * 2)
def wrong_input_changed(xp: Any, input: Array) -> Array:
    input *= 2
    return input


WRONG = {
    "wrong_factor": "gradient",
    "wrong_reference_slope": "higher order",
    "wrong_reference": "value",
    "wrong_in_place": "gradient",
    "wrong_memory_order": "layouts",
    "wrong_dtype": "dtype",
    "wrong_module": "strict",
    "wrong_waiting": "strict",
    "wrong_input_changed": "value",
}


@linear(lambda g: g)
def not_drawable(xp: Any, input: Array) -> Array:
    return input * 1


def demo_mlp(device: str, seed: int = 0) -> tuple[list[float], list[Any]]:
    """Three steps of gradient descent on a two-layer network; the losses, and the events of the loop on the stand-in."""
    from tinygrad_ja.testing import strict

    rng = np.random.default_rng(seed)
    make = {name: rng.standard_normal(shape) for name, shape in {"x": (8, 3), "t": (8, 2), "w": (3, 5), "v": (5, 2)}.items()}
    tensors = {name: tg.tensor(value, dtype=tg.float64, device=device) for name, value in make.items()}
    w, v = tensors["w"].requires_grad_(), tensors["v"].requires_grad_()
    losses = []
    with strict.watch() as events:
        for _ in range(3):
            miss = (tensors["x"] @ w).tanh() @ v - tensors["t"]
            loss = (miss * miss).mean()
            w.grad = v.grad = None
            loss.backward()
            with tg.no_grad():
                w -= 0.1 * w.grad
                v -= 0.1 * v.grad
            losses.append(loss)
    return [loss.item() for loss in losses], events
