"""Convolution in any number of axes, and transposed convolution.

All of it is one trilinear form in the input x, the weight w and a value g for each output,

    T(x, w, g) = Σ x[n, c, q] w[o, c, k] g[n, o, p]    over q = p·stride + k·dilation - before,

and each of the three operators is its derivative with respect to one of them: ``_convolution`` to g, ``_conv_transpose`` to x, ``_conv_weight``
to w. So they are each other's derivatives, of every order.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.operator import Array, primitive
from ..errors import error, joined
from .reduce import _sum
from .shape import squeeze, unsqueeze
from .unfold import Sizes, add_windows, misfit, sizes, window_case, windows, windows_that_fit

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


# ---- the three operators ---------------------------------------------------------------------------


def _wide(xp: Any, array: Any) -> Any:
    """Half precision as single: sums are taken in it."""
    return array.astype(xp.float32) if array.dtype == xp.float16 else array


def _columns(xp: Any, input: Any, kernel: Sizes, size: Sizes, geometry: tuple[Sizes, Sizes, Sizes], groups: int) -> Any:
    """(N, C, *shape) -> (groups, C/groups·|kernel|, N·|size|)."""
    rank = len(size)
    made = windows(xp, input, kernel, size, *geometry)
    made = xp.moveaxis(made, 0, 1 + rank)
    rows = input.shape[1] // groups * math.prod(kernel)
    return made.reshape(groups, rows, input.shape[0] * math.prod(size))


def _by_channel(g: Any, groups: int) -> Any:
    """(N, O, *size) -> (groups, O/groups, N·|size|)."""
    batch, channels = g.shape[:2]
    flat = g.reshape(batch, groups, channels // groups, math.prod(g.shape[2:]))
    return flat.transpose(1, 2, 0, 3).reshape(groups, channels // groups, batch * flat.shape[3])


def _case(of: str) -> Any:
    """Cases of the operator that takes those two of x, w and g."""

    def case(pick: Any) -> Any:
        shape, kernel, size, geometry = window_case(pick)
        groups = pick.integer(1, 2)
        batch, c, o = pick.integer(0, 2), pick.integer(1, 2), pick.integer(1, 2)
        shapes = {"x": (batch, groups * c, *shape), "w": (groups * o, c, *kernel), "g": (batch, groups * o, *size)}
        first, second = [pick.array(shapes[name]) for name in of]
        (made,) = {"x", "w", "g"} - set(of)
        if made == "w":
            return (first, second, kernel, *geometry, groups), {}
        bias = pick.array((groups * (o if made == "g" else c),)) if pick.boolean() else None
        return (first, second, bias, size if made == "g" else shape, *geometry, groups), {}

    return case


def _add_bias(y: Any, bias: Any) -> Any:
    if bias is not None:
        y += bias.reshape(1, -1, *[1] * (y.ndim - 2))
    return y


def _bias_gradient(g: Any) -> Any:
    return _sum(g, tuple([axis for axis in range(g.ndim) if axis != 1]))


@primitive(
    lambda g, weight, shape, stride, before, dilation, groups: _conv_transpose(
        g, weight, None, shape[2:], stride, before, dilation, groups
    ),
    lambda g, input, shape, stride, before, dilation, groups: _conv_weight(
        input, g, shape[2:], stride, before, dilation, groups
    ),
    _bias_gradient,
    cases=_case("xw"),
    autocast="lower",
)
def _convolution(
    xp: Any,
    input: Array,
    weight: Array,
    bias: Array | None,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> Array:
    """y[n, o, p] = bias[o] + Σ x[n, c, p·stride + k·dilation - before] w[o, c, k], x being 0 outside: (N, C, *shape) and
    (O, C/groups, *kernel) -> (N, O, *size)."""
    batch, outputs, kernel = input.shape[0], weight.shape[0], weight.shape[2:]
    columns = _columns(xp, _wide(xp, input), kernel, size, (stride, before, dilation), groups)
    made = xp.matmul(_wide(xp, weight).reshape(groups, outputs // groups, columns.shape[1]), columns)
    made = xp.ascontiguousarray(xp.moveaxis(made.reshape(outputs, batch, *size), 0, 1))
    return _add_bias(made, bias).astype(input.dtype, copy=False)


@primitive(
    lambda g, weight, shape, stride, before, dilation, groups: _convolution(
        g, weight, None, shape[2:], stride, before, dilation, groups
    ),
    lambda g, input, shape, stride, before, dilation, groups: _conv_weight(
        g, input, shape[2:], stride, before, dilation, groups
    ),
    _bias_gradient,
    cases=_case("gw"),
    autocast="lower",
)
def _conv_transpose(
    xp: Any,
    input: Array,
    weight: Array,
    bias: Array | None,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> Array:
    """x[n, c, q] = bias[c] + Σ g[n, o, p] w[o, c, k] over q = p·stride + k·dilation - before: (N, O, *shape) and
    (O, C/groups, *kernel) -> (N, C, *size)."""
    batch, outputs, channels, kernel = input.shape[0], weight.shape[0], groups * weight.shape[1], weight.shape[2:]
    rows = _wide(xp, weight).reshape(groups, outputs // groups, weight.shape[1] * math.prod(kernel))
    columns = xp.matmul(rows.swapaxes(1, 2), _by_channel(_wide(xp, input), groups))
    columns = xp.moveaxis(columns.reshape(channels, *kernel, batch, *input.shape[2:]), 1 + len(kernel), 0)
    made = add_windows(xp, columns, size, stride, before, dilation)
    return _add_bias(made, bias).astype(input.dtype, copy=False)


@primitive(
    lambda g, other, shape, stride, before, dilation, groups: _conv_transpose(
        other, g, None, shape[2:], stride, before, dilation, groups
    ),
    lambda g, input, shape, stride, before, dilation, groups: _convolution(
        input, g, None, shape[2:], stride, before, dilation, groups
    ),
    cases=_case("xg"),
    autocast="lower",
)
def _conv_weight(
    xp: Any, input: Array, other: Array, kernel: Sizes, stride: Sizes, before: Sizes, dilation: Sizes, groups: int
) -> Array:
    """w[o, c, k] = Σ x[n, c, p·stride + k·dilation - before] g[n, o, p] over n and p: (N, C, *shape) and (N, O, *size) ->
    (O, C/groups, *kernel)."""
    outputs, size = other.shape[1], other.shape[2:]
    columns = _columns(xp, _wide(xp, input), kernel, size, (stride, before, dilation), groups)
    made = xp.matmul(_by_channel(_wide(xp, other), groups), columns.swapaxes(1, 2))
    return made.reshape(outputs, input.shape[1] // groups, *kernel).astype(input.dtype, copy=False)


# ---- the public functions --------------------------------------------------------------------------


def _check(op: str, rank: int, input: Any, weight: Any, bias: Any, groups: Any, transposed: bool) -> None:
    """Raise where the shapes do not fit each other, or the dtype has no products."""
    if not isinstance(groups, int) or groups < 1:
        rule = ("an int >= 1", "1 以上の整数")
        raise error(
            "TG-A001", op=op, argument="groups", value=groups, rule=rule, fix=("groups=1.", "groups=1 としてください。")
        )
    x, w = tuple(input.shape), tuple(weight.shape)
    fits = len(w) == rank + 2 and len(x) in (rank + 1, rank + 2) and 0 not in w[2:] and w[0] % groups == 0
    channels = x[-rank - 1] if len(x) > rank else 0
    outputs = (w[1] * groups if transposed else w[0]) if fits else 0
    fits = fits and channels == (w[0] if transposed else w[1] * groups)
    fits = fits and (bias is None or tuple(bias.shape) == (outputs,))
    if not fits:
        axes, kernel = ("L", "H, W", "D, H, W")[rank - 1], ("k", "kh, kw", "kd, kh, kw")[rank - 1]
        layout = f"(C, O/groups, {kernel})" if transposed else f"(O, C/groups, {kernel})"
        rule = (
            f"input (N, C, {axes}) or (C, {axes}), weight {layout}, bias (O), C and O multiples of groups={groups}",
            f"入力 (N, C, {axes}) か (C, {axes})、重み {layout}、バイアス (O)。C と O は groups={groups} の倍数",
        )
        shapes = joined([x, w] if bias is None else [x, w, tuple(bias.shape)])
        fix = (
            "give the weight (and the bias) the number of channels of the input.",
            "重みとバイアスを入力のチャネル数に合わせてください。",
        )
        raise misfit(op, rule, shapes, fix)
    if input.dtype == bool:
        allowed = ("a number", "数の dtype")
        raise error("TG-T004", op=op, dtype=input.dtype, allowed=allowed, fix="tg.float32")


def _unbatched(rank: int, run: Any, input: Any) -> Any:
    """``run(input)`` of an input with or without the axis N."""
    return run(input) if input.ndim == rank + 2 else squeeze(run(unsqueeze(input, 0)), 0)


def _conv(op: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    _check(op, rank, input, weight, bias, groups, transposed=False)
    stride, dilation = sizes(op, "stride", stride, rank, 1), sizes(op, "dilation", dilation, rank, 1)
    shape, kernel = tuple(input.shape[-rank:]), tuple(weight.shape[2:])
    if padding == "same":
        if any([s != 1 for s in stride]):
            rule = ("stride 1 with padding='same'", "padding='same' のときは stride=1")
            fix = ("give the padding as a number.", "padding を数で渡してください。")
            raise error("TG-A001", op=op, argument="stride", value=stride, rule=rule, fix=fix)
        before, size = tuple([d * (k - 1) // 2 for d, k in zip(dilation, kernel)]), shape
    else:
        before = sizes(op, "padding", 0 if padding == "valid" else padding, rank, 0)
        size = windows_that_fit(op, shape, kernel, stride, before, dilation, tuple(input.shape), tuple(weight.shape))
    return _unbatched(rank, lambda x: _convolution(x, weight, bias, size, stride, before, dilation, groups), input)


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Convolution (cross-correlation) along one axis: input (N, C, L) or (C, L), weight (O, C/groups, k), bias (O) -> (N, O, L').

    y[n, o, p] = bias[o] + Σ x[n, c, p·stride + k·dilation - padding] w[o, c, k] with zeros outside, L' = (L + 2 padding - dilation (k - 1) - 1)
    // stride + 1. padding: a number, ``"valid"`` (0) or ``"same"`` (L' = L, stride 1). With groups the channels fall into so many parts that
    do not see each other. float16 is summed in float32. Raises ShapeError and ArgumentError. dx is the transposed convolution of g.

    >>> import tinygrad_ja as tg
    >>> conv1d(tg.tensor([[1.0, 2.0, 4.0, 8.0]]), tg.tensor([[[1.0, -1.0]]]))
    tensor([[-1., -2., -4.]])
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Convolution of images: input (N, C, H, W) or (C, H, W), weight (O, C/groups, kh, kw), bias (O) -> (N, O, H', W').

    Settings as in ``conv1d``, one number or a pair (height, width). Source: LeCun et al. 1989; dilation: Yu and Koltun 2016.

    >>> import tinygrad_ja as tg
    >>> conv2d(tg.arange(9.0).reshape(1, 3, 3), tg.ones(1, 1, 2, 2))
    tensor([[[ 8., 12.],
             [20., 24.]]])
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Convolution of volumes: input (N, C, D, H, W) or without N, weight (O, C/groups, kd, kh, kw), bias (O). Settings as in ``conv1d``,
    one number or three."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def causal_conv1d(input: Any, weight: Any, bias: Any = None, dilation: int = 1, groups: int = 1, stride: int = 1) -> Any:
    """Convolution whose output at time t sees the inputs up to t (up to t·stride) and none later: ``conv1d`` of the input with (k - 1)·dilation
    zeros before it. Input (N, C, L) or (C, L), weight (O, C/groups, k) -> (N, O, ⌈L / stride⌉).

    Source: van den Oord et al. 2016 (WaveNet).

    >>> import tinygrad_ja as tg
    >>> causal_conv1d(tg.tensor([[1.0, 2.0, 4.0, 8.0]]), tg.tensor([[[1.0, 1.0]]]), dilation=2)
    tensor([[ 1.,  2.,  5., 10.]])
    """
    op = "causal_conv1d"
    _check(op, 1, input, weight, bias, groups, transposed=False)
    steps, apart = sizes(op, "stride", stride, 1, 1), sizes(op, "dilation", dilation, 1, 1)
    before = (apart[0] * (weight.shape[2] - 1),)
    size = (-(-input.shape[-1] // steps[0]),)
    return _unbatched(1, lambda x: _convolution(x, weight, bias, size, steps, before, apart, groups), input)


def _transposed(
    op: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Any:
    _check(op, rank, input, weight, bias, groups, transposed=True)
    stride, dilation = sizes(op, "stride", stride, rank, 1), sizes(op, "dilation", dilation, rank, 1)
    padding, extra = sizes(op, "padding", padding, rank, 0), sizes(op, "output_padding", output_padding, rank, 0)
    if any([e >= max(s, d) for e, s, d in zip(extra, stride, dilation)]):
        rule = (f"less than stride {stride} or dilation {dilation}", f"stride {stride} か dilation {dilation} より小さいこと")
        fix = ("output_padding=0.", "output_padding=0 としてください。")
        raise error("TG-A001", op=op, argument="output_padding", value=extra, rule=rule, fix=fix)
    shape, kernel = tuple(input.shape[-rank:]), tuple(weight.shape[2:])
    around = [d * (k - 1) + 1 - 2 * p + e for k, p, e, d in zip(kernel, padding, extra, dilation)]
    size = tuple([(n - 1) * s + a for n, s, a in zip(shape, stride, around)])
    if min(size) < 0:
        rule = (f"an output of size >= 0, not {size}", f"出力の大きさ {size} が 0 以上")
        fix = ("use less padding.", "padding を小さくしてください。")
        raise misfit(op, rule, joined((tuple(input.shape), tuple(weight.shape))), fix)
    return _unbatched(rank, lambda x: _conv_transpose(x, weight, bias, size, stride, padding, dilation, groups), input)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution along one axis, the gradient of ``conv1d`` as an operator: input (N, C, L) or (C, L), weight (C, O/groups, k),
    bias (O) -> (N, O, L').

    Every input element adds the kernel, scaled by it, at its place: y[n, o, p·stride + k·dilation - padding] += x[n, c, p] w[c, o, k],
    L' = (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1. output_padding says which of the sizes L' is meant that a
    convolution takes to L. Raises ShapeError and ArgumentError. dx is the convolution of g. Source: Zeiler et al. 2010.

    >>> import tinygrad_ja as tg
    >>> conv_transpose1d(tg.tensor([[1.0, 2.0]]), tg.tensor([[[1.0, 10.0]]]), stride=2)
    tensor([[ 1., 10.,  2., 20.]])
    """
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution of images: input (N, C, H, W) or (C, H, W), weight (C, O/groups, kh, kw), bias (O). Settings as in
    ``conv_transpose1d``, one number or a pair."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution of volumes: input (N, C, D, H, W) or without N, weight (C, O/groups, kd, kh, kw), bias (O). Settings as in
    ``conv_transpose1d``, one number or three."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)
