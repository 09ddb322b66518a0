"""The steps of the random programs: one call each that reads the same for both libraries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from parity.beside_torch import OURS

import tinygrad_ja as tg

STEPS: dict[str, Callable[..., Any]] = {}
"""Name -> a function of ``pick`` and the shape of x that returns the call ``call(side, x, other)``, or None where it has no sense."""


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put a kind of step into the table."""
    STEPS[function.__name__.strip("_")] = function
    return function


def plain(name: str, call: Callable[..., Any]) -> None:
    """A step without choices."""
    STEPS[name] = lambda pick, shape: call


# ---- steps: element by element

for name in ("neg", "tanh", "sin", "cos", "sigmoid", "abs", "relu", "square", "erf", "atan", "sign", "floor", "expm1"):
    plain(name, lambda side, x, other, name=name: getattr(side.m, name)(x))

plain("exp", lambda side, x, other: side.m.exp(-x.abs()))
plain("log", lambda side, x, other: side.m.log(x * x + 0.5))
plain("sqrt", lambda side, x, other: side.m.sqrt(x * x + 1))
plain("rsqrt", lambda side, x, other: side.m.rsqrt(x * x + 1))
plain("log1p", lambda side, x, other: side.m.log1p(x.abs()))
plain("softplus", lambda side, x, other: side.F.softplus(x))
plain("gelu", lambda side, x, other: side.F.gelu(x))
plain("same_operand", lambda side, x, other: x * x - x / (x * x + 1))
plain("scalar_first", lambda side, x, other: 1.5 - 2 * x)
plain("scalar_divided", lambda side, x, other: 1 / (x * x + 2))
plain("cube", lambda side, x, other: x**3)
plain("mask_times", lambda side, x, other: (x > 0) * x)
plain("clone", lambda side, x, other: x.clone())
plain("detached_part", lambda side, x, other: x * x.detach())


@step
def arithmetic(pick, shape):
    name = pick.choice(["add", "sub", "mul", "maximum", "minimum", "hypot", "atan2", "fmod"])
    if name == "fmod":
        return lambda side, x, other: side.m.fmod(x, other.abs() + 1)
    if name in ("hypot", "atan2"):
        return lambda side, x, other: getattr(side.m, name)(x, other * other + 1)
    return lambda side, x, other: getattr(side.m, name)(x, other)


@step
def divide(pick, shape):
    return lambda side, x, other: x / (other * other + 1)


@step
def power(pick, shape):
    return lambda side, x, other: (x * x + 1) ** side.m.tanh(other)


@step
def where(pick, shape):
    if pick.boolean():
        return lambda side, x, other: side.m.where(x > other, x, other)
    return lambda side, x, other: side.m.where(other > 0, x * 2, x)


@step
def lerp(pick, shape):
    return lambda side, x, other: side.m.lerp(x, other, 0.25)


@step
def clamp(pick, shape):
    low = pick.choice([None, -0.5, 0.0])
    high = pick.choice([0.5, 1.0])
    return lambda side, x, other: x.clamp(low, high)


@step
def masked_fill(pick, shape):
    mask = pick.mask(shape)
    return lambda side, x, other: x.masked_fill(side.tensor(mask), 0.3)


# ---- steps: reductions


def _dims(pick, shape):
    if pick.integer(0, 3) == 0 or not shape:
        return None
    return pick.axes(len(shape)) if pick.boolean() else pick.axis(len(shape))


@step
def reduce(pick, shape):
    name = pick.choice(["sum", "mean", "amax", "amin", "logsumexp"])
    dim, keepdim = _dims(pick, shape), pick.boolean()
    if dim is None:
        return (lambda side, x, other: getattr(x, name)()) if name in ("sum", "mean") else None
    return lambda side, x, other: getattr(x, name)(dim, keepdim)


@step
def reduce_axis(pick, shape):
    name = pick.choice(["prod", "max", "min", "std", "var", "norm", "median_of_three"])
    if not shape:
        return None
    dim = pick.axis(len(shape))
    if name in ("max", "min"):
        return lambda side, x, other: getattr(x, name)(dim)[0]
    if name in ("std", "var"):
        return (lambda side, x, other: getattr(x, name)(dim)) if shape[dim] > 1 else None
    if name == "norm":
        return lambda side, x, other: (x + 3).norm(dim=dim)
    if name == "median_of_three":
        return lambda side, x, other: x.sort(dim, descending=True)[0].narrow(dim, shape[dim] // 2, 1)
    return lambda side, x, other: (x * x + 0.5).prod(dim)


@step
def running(pick, shape):
    if not shape:
        return None
    name, dim = pick.choice(["cumsum", "softmax", "log_softmax"]), pick.axis(len(shape))
    if name == "log_softmax":  # away from 0, where the last digit would decide the sign
        return lambda side, x, other: x.log_softmax(dim) - 0.3
    return lambda side, x, other: getattr(x, name)(dim)


# ---- steps: shapes


@step
def reshape(pick, shape):
    size = math.prod(shape)
    target = pick.choice([(-1,), tuple(shape)[::-1], (1, *shape), (size, 1)]) if size else (0,)
    return lambda side, x, other: x.reshape(target)


@step
def transpose(pick, shape):
    if len(shape) < 2:
        return None
    a, b = pick.axis(len(shape)), pick.axis(len(shape))
    return lambda side, x, other: x.transpose(a, b)


@step
def permute(pick, shape):
    rest = list(range(len(shape)))
    order = [rest.pop(pick.integer(0, len(rest) - 1)) for _ in shape]
    return lambda side, x, other: x.permute(order)


@step
def axes_of_one(pick, shape):
    dim = pick.integer(-len(shape) - 1, len(shape))
    return (lambda side, x, other: x.unsqueeze(dim)) if pick.boolean() else (lambda side, x, other: x.squeeze())


@step
def expand(pick, shape):
    count = pick.integer(1, 3)
    return lambda side, x, other: x.expand(count, *shape)


@step
def flip_or_roll(pick, shape):
    if not shape:
        return None
    dim = pick.axis(len(shape))
    if pick.boolean():
        return lambda side, x, other: x.flip(dim)
    shift = pick.integer(-2, 2)
    return lambda side, x, other: x.roll(shift, dim)


@step
def triangle(pick, shape):
    if len(shape) < 2:
        return None
    name, diagonal = pick.choice(["tril", "triu"]), pick.integer(-1, 1)
    return lambda side, x, other: getattr(x, name)(diagonal)


@step
def diagonal(pick, shape):
    offset = pick.integer(-1, 1)
    return (lambda side, x, other: x.diagonal(offset, -2, -1)) if len(shape) >= 2 else None


@step
def pad(pick, shape):
    if not shape:
        return None
    left, right = pick.integer(0, 1), pick.integer(0, 2)
    return lambda side, x, other: side.F.pad(x, (left, right), value=0.5)


# ---- steps: joining and taking apart


@step
def join(pick, shape):
    ways = ["stack", "cat_self", "cat_other"]
    way = pick.choice(ways)
    if way == "stack":
        dim = pick.integer(-len(shape) - 1, len(shape))
        return lambda side, x, other: side.m.stack([x, x * 2, x.detach()], dim)
    if not shape:
        return None
    dim = pick.axis(len(shape))
    if way == "cat_self":
        return lambda side, x, other: side.m.cat([x, -x, x], dim)
    return lambda side, x, other: side.m.cat([x, side.m.ones_like(x) * other.sum()], dim)


@step
def split(pick, shape):
    if not shape:
        return None
    dim = pick.axis(len(shape))
    if not shape[dim]:
        return None
    keep = pick.integer(0, 1)
    way = pick.choice(["unbind", "split", "chunk"])
    if way == "unbind":
        return lambda side, x, other: x.unbind(dim)[-keep]
    return lambda side, x, other: getattr(x, way)(2, dim)[-keep]


@step
def unbind_and_mix(pick, shape):
    if not shape or shape[0] < 2:
        return None

    def call(side, x, other):
        parts = x.unbind(0)
        return side.m.stack([parts[0] * parts[-1], parts[-1], parts[0]])

    return call


# ---- steps: indices


@step
def basic_index(pick, shape):
    if not shape or 0 in shape:
        return None
    items: list[Any] = []
    for n in shape[: pick.integer(1, len(shape))]:
        kind = pick.integer(0, 3)
        if kind == 0:
            items.append(pick.integer(-n, n - 1))
        elif kind == 1:
            items.append(slice(pick.integer(0, n - 1), pick.integer(-1, n), pick.integer(1, 2)))
        elif kind == 2:
            items += [None, slice(None)]
        else:
            items.append(slice(None))
    if pick.boolean() and len([i for i in items if i is not None]) < len(shape):
        items = [Ellipsis, *items]
    return lambda side, x, other: x[tuple(items)]


def _advanced(pick, shape):
    """An index with arrays, as NumPy arrays."""
    kind = pick.choice(["rows", "pairs", "mask", "row_mask", "around", "beside_int", "list"])
    first = shape[0]
    if kind == "rows":
        return (pick.indices(pick.choice([(3,), (2, 2), ()]), first) - pick.choice([0, first]),)
    if kind == "list":
        return (pick.indices((3,), first).tolist(),)
    if kind == "mask":
        return (pick.mask(shape),)
    if kind == "row_mask":
        return (pick.mask(shape[:1]),)
    if len(shape) < 2:
        return None
    if kind == "pairs":
        return (pick.indices((2, 1), first), pick.indices((3,), shape[1]))
    if len(shape) < 3:
        return (slice(None), pick.indices((2,), shape[1]))
    if kind == "around":
        return (pick.indices((2,), first), slice(None), pick.indices((2,), shape[2]))
    return (pick.integer(0, first - 1), slice(None), pick.indices((2,), shape[2]))


def _on(side, index):
    return tuple([side.tensor(i) if isinstance(i, np.ndarray) else i for i in index])


@step
def advanced_index(pick, shape):
    if not shape or 0 in shape:
        return None
    index = _advanced(pick, shape)
    return index and (lambda side, x, other: x[_on(side, index)])


@step
def gather(pick, shape):
    if not shape or 0 in shape:
        return None
    dim = pick.axis(len(shape))
    index = pick.indices(shape, shape[dim])
    way = pick.choice(["gather", "scatter_add", "index_select", "index_add"])
    if way == "gather":
        return lambda side, x, other: x.gather(dim, side.tensor(index))
    if way == "scatter_add":
        return lambda side, x, other: x.scatter_add(dim, side.tensor(index), x * 2)
    rows = pick.indices((2,), shape[dim])
    if way == "index_select":
        return lambda side, x, other: x.index_select(dim, side.tensor(rows))
    return lambda side, x, other: x.index_add(dim, side.tensor(rows), x.index_select(dim, side.tensor(rows)) * 0.5)


# ---- steps: in place. Here tensors are values, so a new name of the same memory is enough; PyTorch needs a copy.


def _own(side, x):
    return x.view(x.shape) if side is OURS else x.clone()


@step
def in_place(pick, shape):
    way = pick.choice(["+=", "*=", "-=", "tanh_", "clamp_", "masked_fill_"])

    def call(side, x, other):
        y = _own(side, x)
        value = other.sum()
        if way == "+=":
            y += value
        elif way == "*=":
            y *= value
        elif way == "-=":
            y -= y * 0.5
        elif way == "masked_fill_":
            y.masked_fill_(y > 0.5, 0.25)
        else:
            y = getattr(y, way)(*([-1, 1] if way == "clamp_" else []))
        return y * x

    return call


@step
def write_part(pick, shape):
    if not shape or 0 in shape:
        return None
    way = pick.choice(["scalar", "value", "overlap", "mask", "add"])
    row = pick.integer(-shape[0], shape[0] - 1)
    mask = pick.mask(shape)

    def call(side, x, other):
        y = _own(side, x)
        if way == "scalar":
            y[row] = 0.5
        elif way == "value":
            y[row] = other.mean() if other.numel() else 1.0
        elif way == "overlap" and side is OURS:
            y[1:] = y[:-1]
        elif way == "overlap":
            y[1:] = y[:-1].clone()
        elif way == "mask":
            y[side.tensor(mask)] = x.sum()
        else:
            y[row] += x[0] * 2
        return y

    return call


@step
def write_rows(pick, shape):
    if not shape or 0 in shape:
        return None
    index = (np.unique(pick.indices((3,), shape[0])),)

    def call(side, x, other):
        y = _own(side, x)
        at = _on(side, index)
        y[at] = x[at] * other.sum()
        y[at] *= 0.5
        return y

    return call


# ---- steps: products


@step
def matrix_product(pick, shape):
    way = pick.choice(["gram", "einsum", "einsum_outer", "vector", "inner"])
    if len(shape) == 2 and way == "gram":
        return lambda side, x, other: x @ x.T
    if len(shape) == 2 and way == "einsum":
        return lambda side, x, other: side.m.einsum("ij,kj->ik", x, x * 2)
    if len(shape) == 3:
        return lambda side, x, other: side.m.matmul(x, x.transpose(1, 2))
    if len(shape) >= 1 and way == "vector":
        return lambda side, x, other: x @ x.sum(tuple(range(len(shape) - 1))) if len(shape) > 1 else x @ x
    if len(shape) == 1:
        return lambda side, x, other: side.m.outer(x, x.flip(0))
    return None


# ---- steps: the tape


@step
def detach(pick, shape):
    return lambda side, x, other: x.detach()


@step
def without_grad(pick, shape):
    def call(side, x, other):
        with side.m.no_grad():
            y = x.tanh() * 2
        return y + x

    return call


@step
def hook(pick, shape):
    def call(side, x, other):
        y = x * 2
        if y.requires_grad:
            y.register_hook(lambda g: g * 0.5)
            y.retain_grad()
        return y

    return call


@step
def checkpoint(pick, shape):
    def part(y, z):
        return (y * z.sum()).tanh() * y

    def call(side, x, other):
        return tg.checkpoint(part, x, other) if side is OURS else part(x, other)

    return call
