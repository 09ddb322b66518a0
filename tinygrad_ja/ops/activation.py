"""Activation functions of neural networks: ``nn.functional.relu`` and its kin. Element-wise but for ``glu``.

``inplace=True`` gives the tensor the result as its new value, as in PyTorch; it saves no memory here.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.operator import Array, Point, elementwise, fused
from ..errors import error
from . import approximations
from .comparison import _where, keep
from .exponential import logistic, sigmoid, tanh
from .methods import attach, attach_in_place
from .piecewise import abs as absolute
from .piecewise import clamp_max
from .special import erf

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def _give(input: Any, result: Any, inplace: bool) -> Any:
    return input._assign(result) if inplace else result


def _any_array(pick: Any) -> Any:
    return (pick.array(pick.shape(), -3.0, 3.0),), {}


# ---- rectifiers ----------------------------------------------------------------------------------


@elementwise(lambda g, y: keep(g, y > 0), points=[Point((0.0,), (0.0,))])
def _relu(xp: Any, input: Array) -> Array:
    """max(x, 0)."""
    return xp.maximum(input, 0)


def relu(input: Any, inplace: bool = False) -> Any:
    """max(x, 0); dy/dx = 1 for x > 0, else 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.relu(tg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return input._assign(_relu(input)) if inplace else _relu(input)


@elementwise(
    lambda g, input, negative_slope: _where(input > 0, g, g * negative_slope),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice((0.01, 0.25, 1.5, -0.5))), {}),
    points=[Point((0.0, 0.25), (0.25,))],
)
def _leaky_relu(xp: Any, input: Array, negative_slope: float = 0.01) -> Array:
    """x for x > 0, else a small multiple of it."""
    if 0 <= negative_slope <= 1:
        return xp.maximum(input, input * negative_slope)
    return xp.where(input > 0, input, input * negative_slope)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x for x > 0, else ``negative_slope * x``; dy/dx = 1 or ``negative_slope``.

    Maas, Hannun and Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.leaky_relu(tg.tensor([-1.0, 2.0]), 0.25)
    tensor([-0.25,  2.  ])
    """
    return _give(input, _leaky_relu(input, negative_slope), inplace)


@elementwise(
    lambda g, input, weight: _where(input > 0, g, g * weight),
    lambda g, input: keep(g * input, input <= 0),
)
def _prelu(xp: Any, input: Array, weight: Array) -> Array:
    """x for x > 0, else weight x."""
    return xp.where(input > 0, input, input * weight)


def prelu(input: Any, weight: Any) -> Any:
    """x for x > 0, else ``weight * x``, with one weight (shape (1,) or ()) or one for each channel (axis 1, shape (C,)).

    dy/dx = 1 or weight; dy/dw = min(x, 0). He et al. 2015, "Delving deep into rectifiers".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.prelu(tg.tensor([[-2.0, -2.0]]), tg.tensor([0.5, 0.25]))
    tensor([[-1. , -0.5]])
    """
    if weight.ndim == 1 and input.ndim > 2:
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2))
    elif input.ndim == 0:
        weight = weight.reshape(())
    return _prelu(input, weight)


def _slope_of_elu(g: Any, input: Any, y: Any, alpha: float, scale: float, input_scale: float) -> Any:
    steepest = alpha * scale * input_scale
    if alpha < 0:
        return _where(input > 0, g * scale, g * (y * input_scale + steepest))
    slope = g * (clamp_max(y, 0.0) * input_scale + steepest)
    return slope if steepest == scale else slope + keep(g, input > 0) * (scale - steepest)


def _case_of_elu(pick: Any) -> Any:
    alpha = pick.choice((1.0, 0.5, 2.0, -0.5))
    return (pick.array(pick.shape()), alpha, pick.choice((1.0, 1.5)), pick.choice((1.0, 0.5, 1 / alpha))), {}


@elementwise(_slope_of_elu, cases=_case_of_elu, points=[Point((0.0, 0.5, 1.5), (0.75,)), Point((0.0, -0.5), (-0.5,))])
def _elu(xp: Any, input: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    """scale x for x > 0, else scale alpha (exp(input_scale x) - 1): ELU, SELU and CELU."""
    negative = xp.expm1(xp.minimum(input, 0) * input_scale) * (alpha * scale)
    return xp.maximum(input, 0) * scale + negative


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x for x > 0, else ``alpha * (exp(x) - 1)``; dy/dx = 1 or y + alpha.

    Clevert, Unterthiner and Hochreiter 2016, "Fast and accurate deep network learning by exponential linear units".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.elu(tg.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    return _give(input, _elu(input, alpha), inplace)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(input: Any, inplace: bool = False) -> Any:
    """``scale * (x or alpha * (exp(x) - 1))`` with the constants that keep mean 0 and variance 1.

    Klambauer et al. 2017, "Self-normalizing neural networks".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.selu(tg.tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return _give(input, _elu(input, _SELU_ALPHA, _SELU_SCALE), inplace)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x for x > 0, else ``alpha * (exp(x / alpha) - 1)``; dy/dx = 1 or y/alpha + 1.

    Barron 2017, "Continuously differentiable exponential linear units".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.celu(tg.tensor([-1.0, 2.0]), alpha=2.0)
    tensor([-0.7869,  2.    ])
    """
    return _give(input, _elu(input, alpha, 1.0, 1.0 / alpha), inplace)


@elementwise(
    lambda g, input, threshold: keep(g, input > threshold),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice((0.0, -0.5, 1.0)), pick.choice((0.0, -1.0, 2.0))), {}),
    points=[Point(([0.5, 1.0, 2.0], 1.0, 5.0), ([0.0, 0.0, 1.0],))],
)
def _threshold(xp: Any, input: Array, threshold: float = 0.0, value: float = 0.0) -> Array:
    """x above the threshold, else the value."""
    return xp.where(input <= threshold, xp.full_like(input, value), input)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x for x > ``threshold``, else ``value``; dy/dx = 1 or 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.threshold(tg.tensor([0.5, 2.0]), 1.0, 9.0)
    tensor([9., 2.])
    """
    return _give(input, _threshold(input, threshold, value), inplace)


# ---- piecewise linear ----------------------------------------------------------------------------


@elementwise(
    lambda g, input, min_val, max_val: keep(g, (input > min_val) & (input < max_val)),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice((-1.0, -0.5)), pick.choice((0.5, 1.0))), {}),
    points=[Point(([-1.0, 0.0, 1.0],), ([0.0, 1.0, 0.0],))],
)
def _hardtanh(xp: Any, input: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Into [min_val, max_val]."""
    return xp.clip(input, min_val, max_val)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x clamped to [``min_val``, ``max_val``]; dy/dx = 1 strictly between them, else 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.hardtanh(tg.tensor([-2.0, 0.5, 2.0]))
    tensor([-1. ,  0.5,  1. ])
    """
    return _give(input, _hardtanh(input, min_val, max_val), inplace)


def relu6(input: Any, inplace: bool = False) -> Any:
    """min(max(x, 0), 6); dy/dx = 1 strictly between 0 and 6, else 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.relu6(tg.tensor([-2.0, 3.0, 8.0]))
    tensor([0., 3., 6.])
    """
    return _give(input, _hardtanh(input, 0.0, 6.0), inplace)


@elementwise(lambda g, input: keep(g, (input > -3) & (input < 3)) * (1 / 6), domain=(-4.0, 4.0))
def _hardsigmoid(xp: Any, input: Array) -> Array:
    """relu6(x + 3) / 6."""
    return xp.clip(input + 3, 0, 6) * (1 / 6)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """relu6(x + 3) / 6; dy/dx = 1/6 for -3 < x < 3, else 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.hardsigmoid(tg.tensor([-4.0, 0.0, 4.0]))
    tensor([0. , 0.5, 1. ])
    """
    return _give(input, _hardsigmoid(input), inplace)


def _slope_of_hardswish(g: Any, input: Any) -> Any:
    ramp = input * (1 / 3) + 0.5
    return keep(g, input > -3) * _where(input >= 3, 1.0, ramp)


@elementwise(_slope_of_hardswish, domain=(-4.0, 4.0), points=[Point(([-3.0, 3.0],), ([0.0, 1.0],))])
def _hardswish(xp: Any, input: Array) -> Array:
    """x relu6(x + 3) / 6."""
    return input * xp.clip(input + 3, 0, 6) * (1 / 6)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """x relu6(x + 3) / 6; dy/dx = 0 up to -3, x/3 + 1/2 up to 3, then 1.

    Howard et al. 2019, "Searching for MobileNetV3".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.hardswish(tg.tensor([-4.0, 1.0, 4.0]))
    tensor([-0.    ,  0.6667,  4.    ])
    """
    return _give(input, _hardswish(input), inplace)


@elementwise(
    lambda g, input, lambd: keep(g, absolute(input) > lambd),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice((0.5, 1.0))), {}),
    points=[Point(([-0.5, 0.5, 0.75], 0.5), ([0.0, 0.0, 1.0],))],
)
def softshrink(xp: Any, input: Array, lambd: float = 0.5) -> Array:
    """x moved towards zero by ``lambd``, 0 between -lambd and lambd; dy/dx = 1 or 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.softshrink(tg.tensor([-2.0, 0.25, 2.0]))
    tensor([-1.5,  0. ,  1.5])
    """
    return input - xp.clip(input, -lambd, lambd)


@elementwise(
    lambda g, y: keep(g, y != 0),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice((0.5, 1.0, 0.0))), {}),
    points=[Point(([-0.5, 0.5, 0.75], 0.5), ([0.0, 0.0, 1.0],)), Point((0.0, 0.0), (0.0,))],
)
def hardshrink(xp: Any, input: Array, lambd: float = 0.5) -> Array:
    """x, but 0 between -lambd and lambd, lambd >= 0; dy/dx = 1 or 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.hardshrink(tg.tensor([-2.0, 0.25, 2.0]))
    tensor([-2.,  0.,  2.])
    """
    return xp.where(xp.absolute(input) <= lambd, xp.zeros_like(input), input)


# ---- smooth --------------------------------------------------------------------------------------


def _gelu_backward(xp: Any, g: Any, input: Any, approximate: str, share: Any) -> Any:
    if approximate == "tanh":
        # share = (1 + tanh u) / 2, so its derivative is 2 share (1 - share) u'. In place: memory costs more than the products here.
        # And 0 x x, unlike 0 (x x), does not overflow for large x.
        bend = (share - share * share) * input
        slope = bend * input
        slope *= input
        slope *= 6 * _GELU_SCALE * _GELU_CUBIC
        bend *= 2 * _GELU_SCALE
        slope += bend
        slope += share
        slope *= g
        return (slope,)
    density = xp.exp(input * input * -0.5) * (1 / math.sqrt(2 * math.pi))
    return (g * (share + input * density),)


def _gelu_reference(input: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return input * (tanh((input + input * input * input * _GELU_CUBIC) * _GELU_SCALE) + 1) * 0.5
    return input * (erf(input * math.sqrt(0.5)) + 1) * 0.5


_GELU_SCALE = math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715


def _case_of_gelu(pick: Any) -> Any:
    wide = pick.choice((3.0, 3.0, 400.0))
    return (pick.array(pick.shape(), -wide, wide),), {"approximate": pick.choice(("none", "tanh"))}


@fused(_gelu_backward, _gelu_reference, aux=("share",), promotes=True, cases=_case_of_gelu)
def gelu(xp: Any, input: Array, approximate: str = "none") -> Array:
    """x Φ(x), Φ the distribution function of the normal distribution, or with ``approximate="tanh"`` its approximation
    (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2; dy/dx = Φ(x) + x φ(x).

    Hendrycks and Gimpel 2016, "Gaussian error linear units".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.gelu(tg.tensor([-1.0, 2.0]))
    tensor([-0.1587,  1.9545])
    """
    if approximate == "tanh":
        # the share is 0 or 1 beyond, and cubes would overflow in float16
        near = input.clip(-100.0, 100.0) if input.dtype == xp.float16 else input
        share = xp.tanh(near * (_GELU_SCALE + (_GELU_SCALE * _GELU_CUBIC) * (near * near))) * 0.5 + 0.5
    elif approximate == "none":
        share = approximations.erf(xp, input * math.sqrt(0.5)) * 0.5 + 0.5
    else:
        raise _unknown_approximation(approximate)
    return input * share, share


def _unknown_approximation(value: Any) -> Exception:
    return error(
        "TG-A001",
        op="gelu",
        argument="approximate",
        value=value,
        rule=("'none' or 'tanh'", "'none' か 'tanh'"),
        fix=("choose one of these.", "この中から選んでください。"),
    )


def _silu_backward(xp: Any, g: Any, input: Any, gate: Any) -> Any:
    return (g * (gate + input * (gate - gate * gate)),)


@fused(_silu_backward, lambda input: input * sigmoid(input), aux=("gate",), promotes=True, cases=_any_array)
def _silu(xp: Any, input: Array) -> Array:
    """x σ(x)."""
    gate = logistic(xp, input)
    return input * gate, gate


def silu(input: Any, inplace: bool = False) -> Any:
    """x σ(x), also called swish; dy/dx = σ(x) (1 + x (1 - σ(x))).

    Elfwing, Uchibe and Doya 2018; Ramachandran, Zoph and Le 2017, "Searching for activation functions".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.silu(tg.tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """
    return _give(input, _silu(input), inplace)


def _mish_backward(xp: Any, g: Any, input: Any, gate: Any) -> Any:
    return (g * (gate + input * logistic(xp, input) * (1 - gate * gate)),)


@fused(_mish_backward, lambda input: input * tanh(softplus(input)), aux=("gate",), promotes=True, cases=_any_array)
def _mish(xp: Any, input: Array) -> Array:
    """x tanh(log(1 + eˣ)), with tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2)."""
    limit = 5.0 if input.dtype == xp.float16 else 20.0
    e = xp.exp(xp.minimum(input, limit))
    ratio = e * (e + 2)
    gate = ratio / (ratio + 2)
    return input * gate, gate


def mish(input: Any, inplace: bool = False) -> Any:
    """x tanh(softplus(x)); dy/dx = t + x σ(x) (1 - t²) with t = tanh(softplus(x)).

    Misra 2019, "Mish: a self regularized non-monotonic activation function".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.mish(tg.tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.944 ])
    """
    return _give(input, _mish(input), inplace)


@elementwise(
    lambda g, input, beta, threshold: _where(input * beta > threshold, g, g * sigmoid(input * beta)),
    cases=lambda pick: (
        (pick.array(pick.shape(), -4.0, 4.0), pick.choice((1.0, 0.5, 2.0, -1.0)), pick.choice((20.0, 3.0))),
        {},
    ),
    points=[
        Point(([2.98, 3.0, 3.02], 1.0, 3.0), ([1 / (1 + math.exp(-2.98)), 1 / (1 + math.exp(-3.0)), 1.0],)),
        Point(([1.49, 1.5, 1.51], 2.0, 3.0), ([1 / (1 + math.exp(-2.98)), 1 / (1 + math.exp(-3.0)), 1.0],)),
    ],
)
def softplus(xp: Any, input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """log(1 + exp(beta x)) / beta, x itself where beta x > ``threshold``; dy/dx = σ(beta x).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.softplus(tg.tensor([-1.0, 2.0, 50.0]))
    tensor([ 0.3133,  2.1269, 50.    ])
    """
    scaled = input * beta
    # log(1 + eˣ) = max(x, 0) + log(1 + e⁻|ˣ|)
    curve = (xp.maximum(scaled, 0) + xp.log1p(xp.exp(-xp.absolute(scaled)))) / beta
    return xp.where(scaled > threshold, input, curve)


@elementwise(lambda g, input: g * sigmoid(-input), domain=(-4.0, 4.0))
def logsigmoid(xp: Any, input: Array) -> Array:
    """log σ(x) = -log(1 + e⁻ˣ) without overflow; dy/dx = σ(-x).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.logsigmoid(tg.tensor([-100.0, 0.0]))
    tensor([-100.    ,   -0.6931])
    """
    return xp.minimum(input, 0) - xp.log1p(xp.exp(-xp.absolute(input)))


@elementwise(lambda g, input: g / ((absolute(input) + 1) * (absolute(input) + 1)))
def softsign(xp: Any, input: Array) -> Array:
    """x / (1 + |x|); dy/dx = 1 / (1 + |x|)².

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.softsign(tg.tensor([-1.0, 3.0]))
    tensor([-0.5 ,  0.75])
    """
    return input / (xp.absolute(input) + 1)


def _slope_of_tanhshrink(g: Any, input: Any) -> Any:
    t = tanh(input)
    return g * (t * t)


@elementwise(_slope_of_tanhshrink)
def tanhshrink(xp: Any, input: Array) -> Array:
    """x - tanh(x); dy/dx = tanh²(x).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.tanhshrink(tg.tensor([0.0, 2.0]))
    tensor([0.   , 1.036])
    """
    return input - xp.tanh(input)


def glu(input: Any, dim: int = -1) -> Any:
    """a σ(b) for the halves a, b of ``input`` along ``dim``, whose size must be even; that size is halved.

    Dauphin et al. 2017, "Language modeling with gated convolutional networks". Raises ShapeError for an odd size.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.glu(tg.tensor([1.0, 2.0, 0.0, 0.0]))
    tensor([0.5, 1. ])
    """
    if not -input.ndim <= dim < input.ndim or input.shape[dim] % 2:
        fix = ("give it an even size along dim.", "dim の大きさを偶数にしてください。")
        raise error(
            "TG-S002",
            op="glu",
            rule=("the size along dim is even", "dim の大きさが偶数"),
            shapes=f"{input.shape}, dim {dim}",
            fix=fix,
        )
    value, gate = input.chunk(2, dim)
    return value * sigmoid(gate)


attach(hardshrink, prelu, relu)
attach_in_place(relu)
