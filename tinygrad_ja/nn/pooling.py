"""Pooling layers. Each is the function of ``nn.functional`` with the settings that it was made with; none has parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..ops import adaptive, pool, unpool
from .module import Module


def _tuple(value: Any, count: int) -> tuple[Any, ...]:
    """One number for each axis, as some of PyTorch's layers keep them."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * count


# ---- the largest element of a window -------------------------------------------------------------


class _MaxPool(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        """input: of the shape that the class names. With ``return_indices`` also where the elements were (int64)."""
        settings = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        return type(self).function(input, *settings)

    def extra_repr(self) -> str:
        window = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{window}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest element of each window of (N, C, L) or (C, L); see ``nn.functional.max_pool1d`` for the arguments.

    >>> import tinygrad_ja as tg
    >>> tg.nn.MaxPool1d(2)(tg.tensor([[1.0, 3.0, 2.0, 0.0]]))
    tensor([[3., 2.]])
    """

    function = staticmethod(pool.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of each window of (N, C, H, W) or (C, H, W); see ``nn.functional.max_pool1d`` for the arguments.

    >>> import tinygrad_ja as tg
    >>> tg.nn.MaxPool2d(3, stride=2, padding=1)(tg.zeros(1, 8, 32, 32)).shape
    (1, 8, 16, 16)
    """

    function = staticmethod(pool.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of each window of (N, C, D, H, W) or (C, D, H, W); see ``nn.functional.max_pool1d`` for the arguments."""

    function = staticmethod(pool.max_pool3d)


class _MaxUnpool(Module):
    function: ClassVar[Callable[..., Any]]
    dims: ClassVar[int]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = _tuple(kernel_size, self.dims)
        self.stride = _tuple(kernel_size if stride is None else stride, self.dims)
        self.padding = _tuple(padding, self.dims)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Any:
        """input, indices: what the pooling layer with ``return_indices=True`` returned; output_size: the size before it."""
        return type(self).function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """What ``MaxPool1d`` of the same settings took, back in its places among zeros.

    >>> import tinygrad_ja as tg
    >>> pooled, indices = tg.nn.MaxPool1d(2, return_indices=True)(tg.tensor([[1.0, 3.0, 2.0, 0.0]]))
    >>> tg.nn.MaxUnpool1d(2)(pooled, indices)
    tensor([[0., 3., 2., 0.]])
    """

    function, dims = staticmethod(unpool.max_unpool1d), 1


class MaxUnpool2d(_MaxUnpool):
    """What ``MaxPool2d`` of the same settings took, back in its places among zeros."""

    function, dims = staticmethod(unpool.max_unpool2d), 2


class MaxUnpool3d(_MaxUnpool):
    """What ``MaxPool3d`` of the same settings took, back in its places among zeros."""

    function, dims = staticmethod(unpool.max_unpool3d), 3


# ---- means and norms -----------------------------------------------------------------------------


class _AvgPool(Module):
    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L) or (C, L); see ``nn.functional.avg_pool1d`` for the arguments.

    >>> import tinygrad_ja as tg
    >>> tg.nn.AvgPool1d(2)(tg.tensor([[1.0, 3.0, 2.0, 0.0]]))
    tensor([[2., 1.]])
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = _tuple(kernel_size, 1), _tuple(kernel_size if stride is None else stride, 1)
        self.padding, self.ceil_mode, self.count_include_pad = _tuple(padding, 1), ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Any:
        """input: (N, C, L) or (C, L)."""
        return pool.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _DividedAvgPool(_AvgPool):
    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Any:
        """input: of the shape that the class names."""
        settings = self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override
        return type(self).function(input, self.kernel_size, self.stride, *settings)


class AvgPool2d(_DividedAvgPool):
    """The mean of each window of (N, C, H, W) or (C, H, W); see ``nn.functional.avg_pool2d`` for the arguments."""

    function = staticmethod(pool.avg_pool2d)


class AvgPool3d(_DividedAvgPool):
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W); see ``nn.functional.avg_pool2d`` for the arguments."""

    function = staticmethod(pool.avg_pool3d)


class _LPPool(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Tensor) -> Any:
        """input: of the shape that the class names."""
        return type(self).function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        window = f"kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"
        return f"norm_type={self.norm_type}, {window}"


class LPPool1d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, L) or (C, L), p = ``norm_type``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.LPPool1d(2, 2)(tg.tensor([[3.0, 4.0, 0.0, 1.0]]))
    tensor([[5., 1.]])
    """

    function = staticmethod(pool.lp_pool1d)


class LPPool2d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, H, W) or (C, H, W), p = ``norm_type``."""

    function = staticmethod(pool.lp_pool2d)


class LPPool3d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, D, H, W) or (C, D, H, W), p = ``norm_type``."""

    function = staticmethod(pool.lp_pool3d)


# ---- to a given size -----------------------------------------------------------------------------


class _Adaptive(Module):
    output_size: Any

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_Adaptive):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        """input: of the shape that the class names."""
        return type(self).function(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of ``output_size`` windows of (N, C, L) or (C, L).

    >>> import tinygrad_ja as tg
    >>> tg.nn.AdaptiveAvgPool1d(2)(tg.tensor([[1.0, 3.0, 5.0]]))
    tensor([[2., 4.]])
    """

    function = staticmethod(adaptive.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of windows of (N, C, H, W) or (C, H, W) to an ``output_size``: an int or a pair, where None keeps a size."""

    function = staticmethod(adaptive.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of windows of (N, C, D, H, W) or (C, D, H, W) to an ``output_size``: an int or a triple, where None keeps a size."""

    function = staticmethod(adaptive.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_Adaptive):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        """input: of the shape that the class names. With ``return_indices`` also where the elements were (int64)."""
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` windows of (N, C, L) or (C, L).

    >>> import tinygrad_ja as tg
    >>> tg.nn.AdaptiveMaxPool1d(2)(tg.tensor([[1.0, 3.0, 5.0]]))
    tensor([[3., 5.]])
    """

    function = staticmethod(adaptive.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of windows of (N, C, H, W) or (C, H, W) to an ``output_size``: an int or a pair, where None keeps a size."""

    function = staticmethod(adaptive.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of windows of (N, C, D, H, W) or (C, D, H, W) to an ``output_size``."""

    function = staticmethod(adaptive.adaptive_max_pool3d)
