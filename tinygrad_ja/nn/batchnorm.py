"""Batch normalization, and what instance normalization shares with it: parameters and running statistics for each channel."""

from __future__ import annotations

from typing import Any

from ..core.modes import modes
from ..core.tensor import Tensor
from ..errors import error
from ..ops import creation, normalization
from . import init
from .lazy import LazyModuleMixin
from .module import Module
from .parameter import Parameter
from .uninitialized import UninitializedBuffer, UninitializedParameter


class _NormBase(Module):
    """``weight`` and ``bias`` (C) with ``affine``; ``running_mean``, ``running_var`` (C) and ``num_batches_tracked`` with
    ``track_running_stats``."""

    ranks: tuple[int, ...] = ()
    """How many axes an input may have."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats

        def empty() -> Tensor:
            return creation.empty(num_features, device=device, dtype=dtype)

        self.register_parameter("weight", Parameter(empty()) if affine else None)
        self.register_parameter("bias", Parameter(empty()) if affine and bias else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", empty() if tracked else None)
        self.register_buffer("running_var", empty() if tracked else None)
        self.register_buffer("num_batches_tracked", creation.tensor(0, device=device) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what was seen: mean 0, variance 1, no batch."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and no running statistics."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check_rank(self, input: Tensor) -> None:
        if input.ndim not in self.ranks:
            ranks = [str(rank) for rank in self.ranks]
            raise error(
                "TG-S002",
                op=type(self).__name__,
                rule=(f"an input of {' or '.join(ranks)} axes", f"入力の軸は {' か '.join(ranks)} 個"),
                shapes=tuple(input.shape),
                fix=("use the layer of that number of axes, or reshape.", "軸の数に合う層を使うか、reshape してください。"),
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_NormBase):
    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, ...)."""
        self._check_rank(input)
        follows = self.training and self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        if follows and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if self.momentum is None:
                count = self.num_batches_tracked
                # a recording takes the count as an array, which is there at every replay
                momentum = 1.0 / (float(count) if modes.recording is None else count.array.astype(self.running_mean.dtype))
        given = follows or not self.training
        return normalization.batch_norm(
            input,
            self.running_mean if given else None,
            self.running_var if given else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            momentum,
            self.eps,
        )


class _LazyNorm(LazyModuleMixin, _NormBase):
    """A normalization that takes ``num_features`` from its first input: the size of axis 1."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, False, False, device, dtype, bias=False)
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.weight = UninitializedParameter(device=device, dtype=dtype)
            if bias:
                self.bias = UninitializedParameter(device=device, dtype=dtype)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(device=device, dtype=dtype)
            self.running_var = UninitializedBuffer(device=device, dtype=dtype)
            self.num_batches_tracked = creation.tensor(0, device=device)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and no running statistics, once they have shapes."""
        if not self.has_uninitialized_params() and self.num_features:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """input: (N, C, ...)."""
        self._check_rank(input)
        given = [value for value in (self.weight, self.bias, self.running_mean, self.running_var) if value is not None]
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            for value in given:
                value.materialize((self.num_features,))
            self.reset_parameters()
        self.num_features = given[0].shape[0] if given else input.shape[1]


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L): each channel to mean 0 and variance 1 over the batch, then y = z weight + bias.

    In training ``running_mean`` and ``running_var`` follow the batches, ``(1 - momentum) old + momentum new`` (``momentum=None``: their plain
    mean), and in evaluation they take the place of the batch's statistics. Source: Ioffe and Szegedy 2015.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.BatchNorm1d(2, eps=1e-9)
    >>> layer(tg.tensor([[1.0, 5.0], [3.0, 9.0]])).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> layer.running_mean
    tensor([0.2, 0.7])
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W); see ``BatchNorm1d``."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalization of (N, C, D, H, W); see ``BatchNorm1d``."""

    ranks = (5,)


class LazyBatchNorm1d(_LazyNorm, _BatchNorm):
    """``BatchNorm1d`` that takes ``num_features`` from its first input.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.LazyBatchNorm1d()
    >>> layer(tg.randn(4, 3)).shape, layer.num_features
    ((4, 3), 3)
    """

    cls_to_become = BatchNorm1d
    ranks = BatchNorm1d.ranks


class LazyBatchNorm2d(_LazyNorm, _BatchNorm):
    """``BatchNorm2d`` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm2d
    ranks = BatchNorm2d.ranks


class LazyBatchNorm3d(_LazyNorm, _BatchNorm):
    """``BatchNorm3d`` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm3d
    ranks = BatchNorm3d.ranks
