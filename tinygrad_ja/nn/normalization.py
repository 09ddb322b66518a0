"""Normalization over a layer, a group, an instance or neighbouring channels."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import error
from ..ops import creation, layer_norm, normalization
from . import init
from .batchnorm import _LazyNorm, _NormBase
from .module import Module
from .parameter import Parameter


def _ones_and_zeros(shape: tuple[int, ...], affine: bool, bias: bool, device: Any, dtype: Any) -> tuple[Any, Any]:
    """Memory for a weight and a bias, None for what is not wanted."""
    made = [
        Parameter(creation.empty(*shape, device=device, dtype=dtype)) if wanted else None
        for wanted in (affine, affine and bias)
    ]
    return made[0], made[1]


def _start(weight: Any, bias: Any) -> None:
    if weight is not None:
        init.ones_(weight)
    if bias is not None:
        init.zeros_(bias)


class LayerNorm(Module):
    """Each sample to mean 0 and variance 1 over its last axes, then y = z weight + bias, both of ``normalized_shape``.

    normalized_shape: the sizes of these axes, an int or a tuple. Source: Ba, Kiros and Hinton 2016.

    >>> import tinygrad_ja as tg
    >>> tg.nn.LayerNorm(2, eps=0.0)(tg.tensor([[1.0, 3.0], [5.0, 7.0]])).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        made = _ones_and_zeros(self.normalized_shape, elementwise_affine, bias, device, dtype)
        self.register_parameter("weight", made[0])
        self.register_parameter("bias", made[1])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _start(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """input: (..., *normalized_shape)."""
        return layer_norm.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """x / √(mean(x²) + eps) over the last axes, times ``weight`` of ``normalized_shape``.

    eps: None for the distance from 1 to the next number of the dtype. Source: Zhang and Sennrich 2019.

    >>> import tinygrad_ja as tg
    >>> tg.nn.RMSNorm(2)(tg.tensor([[3.0, -3.0]])).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter("weight", _ones_and_zeros(self.normalized_shape, elementwise_affine, False, device, dtype)[0])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        _start(self.weight, None)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., *normalized_shape)."""
        return layer_norm.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Groups of ``num_channels / num_groups`` channels of (N, C, ...) to mean 0 and variance 1 in each sample, then y = z weight + bias.

    weight, bias: (C). Raises ArgumentError when ``num_groups`` does not divide ``num_channels``. Source: Wu and He 2018.

    >>> import tinygrad_ja as tg
    >>> tg.nn.GroupNorm(1, 2, eps=0.0)(tg.tensor([[1.0, 3.0], [5.0, 7.0]])).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise error(
                "TG-A001",
                op="GroupNorm",
                argument="num_groups",
                value=num_groups,
                rule=(f"a divisor of num_channels = {num_channels}", f"num_channels = {num_channels} の約数"),
                fix=("num_groups=1.", "num_groups=1 などとしてください。"),
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        made = _ones_and_zeros((num_channels,), affine, bias, device, dtype)
        self.register_parameter("weight", made[0])
        self.register_parameter("bias", made[1])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _start(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, ...)."""
        return normalization.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class _InstanceNorm(_NormBase):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, ...), or one sample (C, ...)."""
        self._check_rank(input)
        single = input.ndim == self.ranks[0]
        axis = 0 if single else 1
        if input.shape[axis] != self.num_features and (self.affine or self.track_running_stats):
            raise self._wrong_channels(input, axis)
        made = normalization.instance_norm(
            input.unsqueeze(0) if single else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return made.squeeze(0) if single else made

    def _wrong_channels(self, input: Tensor, axis: int) -> Exception:
        return error(
            "TG-S002",
            op=type(self).__name__,
            rule=(
                f"C = num_features = {self.num_features} at axis {axis}",
                f"軸 {axis} の C は num_features = {self.num_features}",
            ),
            shapes=tuple(input.shape),
            fix=("build the layer with the number of channels.", "チャネル数に合わせて層を作ってください。"),
        )


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample of (N, C, L), or of one sample (C, L), to mean 0 and variance 1 over its places.

    affine: y = z weight + bias, both (C). track_running_stats: in evaluation by statistics that followed the training. Source: Ulyanov et
    al. 2016.

    >>> import tinygrad_ja as tg
    >>> tg.nn.InstanceNorm1d(1, eps=0.0)(tg.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])).tolist()
    [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalization of (N, C, H, W) or (C, H, W); see ``InstanceNorm1d``."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalization of (N, C, D, H, W) or (C, D, H, W); see ``InstanceNorm1d``."""

    ranks = (4, 5)


class LazyInstanceNorm1d(_LazyNorm, _InstanceNorm):
    """``InstanceNorm1d`` with parameters and running statistics that takes ``num_features`` from its first input."""

    cls_to_become = InstanceNorm1d
    ranks = InstanceNorm1d.ranks


class LazyInstanceNorm2d(_LazyNorm, _InstanceNorm):
    """``InstanceNorm2d`` with parameters and running statistics that takes ``num_features`` from its first input."""

    cls_to_become = InstanceNorm2d
    ranks = InstanceNorm2d.ranks


class LazyInstanceNorm3d(_LazyNorm, _InstanceNorm):
    """``InstanceNorm3d`` with parameters and running statistics that takes ``num_features`` from its first input."""

    cls_to_become = InstanceNorm3d
    ranks = InstanceNorm3d.ranks


class LocalResponseNorm(Module):
    """x / (k + alpha/size Σ x²)^beta over ``size`` neighbouring channels. Source: Krizhevsky, Sutskever and Hinton 2012.

    >>> import tinygrad_ja as tg
    >>> tg.nn.LocalResponseNorm(2)
    LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, d1, ...)."""
        return layer_norm.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
