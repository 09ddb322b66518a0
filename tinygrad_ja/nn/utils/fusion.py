"""A batch normalization in evaluation is an affine map of each channel, so it can be merged into the layer before it."""

from __future__ import annotations

import copy
from typing import Any

from ...core.tensor import Tensor
from ...errors import error
from ...ops.arithmetic import rsqrt
from ...ops.conversion import cast
from ..parameter import Parameter


def _check(op: str, layer: Any, bn: Any) -> None:
    if layer.training or bn.training or bn.running_mean is None or bn.running_var is None:
        raise error(
            "TG-A001",
            op=op,
            argument="layer, bn",
            value=f"{type(layer).__name__}, {type(bn).__name__}",
            rule=("both in evaluation, bn with running statistics", "両方とも評価モードで、bn が移動平均を持つこと"),
            fix=("call eval() on both.", "両方で eval() を呼んでください。"),
        )


def _merged(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Parameters of the layer whose output is ``scale y + shift``, y being the output of the layer of ``weight`` and ``bias``."""
    made = weight.detach() * scale.reshape(shape)
    total = shift if bias is None else bias.detach() * scale + shift
    dtype = weight.dtype if bias is None else bias.dtype
    return (
        Parameter(cast(made, weight.dtype), weight.requires_grad),
        Parameter(cast(total, dtype), bias is not None and bias.requires_grad),
    )


def _scale_and_shift(mean: Tensor, variance: Tensor, eps: float, weight: Any, bias: Any) -> tuple[Tensor, Tensor]:
    """The affine map of a batch normalization in evaluation."""
    scale = rsqrt(variance.detach() + eps)
    if weight is not None:
        scale = scale * weight.detach()
    shift = -mean.detach() * scale
    return scale, shift if bias is None else shift + bias.detach()


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Any, Any]:
    """Weight and bias of the convolution that equals ``conv_w``, ``conv_b`` followed by a batch normalization.

    transpose: the output channels are axis 1 of the weight, not axis 0. Both results are new Parameters of the dtypes given.
    """
    scale, shift = _scale_and_shift(bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    shape = (1, -1) if transpose else (-1, 1)
    return _merged(conv_w, conv_b, scale, shift, shape + (1,) * (conv_w.ndim - 2))


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A new convolution that equals ``conv`` followed by ``bn``, both in evaluation; ``transpose=True`` for a transposed convolution.

    Raises ArgumentError in training, or without running statistics.
    """
    _check("fuse_conv_bn_eval", conv, bn)
    made = copy.deepcopy(conv)
    made.weight, made.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return made


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Any, Any]:
    """Weight and bias of the affine layer that equals ``linear_w``, ``linear_b`` followed by a batch normalization of its features."""
    scale, shift = _scale_and_shift(bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    return _merged(linear_w, linear_b, scale, shift.expand(linear_w.shape[0]), (-1, 1))


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A new affine layer that equals ``linear`` followed by ``bn``, both in evaluation.

    Raises ArgumentError in training, without running statistics, or when ``bn`` has neither as many features as ``linear`` nor one.

    >>> import tinygrad_ja as tg
    >>> linear, bn = tg.nn.Linear(3, 2).eval(), tg.nn.BatchNorm1d(2).eval()
    >>> x = tg.randn(5, 3)
    >>> tg.allclose(tg.nn.utils.fuse_linear_bn_eval(linear, bn)(x), bn(linear(x)), atol=1e-6)
    True
    """
    _check("fuse_linear_bn_eval", linear, bn)
    if bn.num_features not in (linear.out_features, 1):
        raise error(
            "TG-A001",
            op="fuse_linear_bn_eval",
            argument="bn.num_features",
            value=bn.num_features,
            rule=f"{linear.out_features}, 1",
            fix=("use the normalization that follows this layer.", "この層に続く正規化層を渡してください。"),
        )
    made = copy.deepcopy(linear)
    made.weight, made.bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return made
