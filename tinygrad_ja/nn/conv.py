"""Convolutions as layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..core.tensor import Tensor
from ..errors import Phrase, error
from ..ops import conv, creation
from ..ops.padding import pad
from ..ops.unfold import Sizes, misfit, sizes
from . import init
from .lazy import LazyModuleMixin
from .module import Module
from .parameter import Parameter
from .uninitialized import UninitializedParameter

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all of them share: settings, parameters, their initialisation."""

    rank = 0
    transposed = False
    padding: Any
    weight: Any
    bias: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self._check_channels()
        self.kernel_size = self._sizes("kernel_size", kernel_size, 1)
        self.stride = self._sizes("stride", stride, 1)
        self.padding = padding if isinstance(padding, str) else self._sizes("padding", padding, 0)
        self.dilation = self._sizes("dilation", dilation, 1)
        self.output_padding = self._sizes("output_padding", output_padding, 0)
        self.padding_mode = padding_mode
        self._check_padding()
        self._make_parameters(bias, device, dtype)
        self.reset_parameters()

    def _make_parameters(self, bias: bool, device: Any, dtype: Any) -> None:
        self.weight = Parameter(creation.empty(*self._weight_shape(), device=device, dtype=dtype))
        offset = creation.empty(self.out_channels, device=device, dtype=dtype) if bias else None
        self.register_parameter("bias", None if offset is None else Parameter(offset))

    def _sizes(self, argument: str, value: Any, least: int) -> Sizes:
        return sizes(type(self).__name__, argument, value, self.rank, least)

    def _refusal(self, argument: str, rule: Phrase, fix: Phrase) -> Exception:
        return error("TG-A001", op=type(self).__name__, argument=argument, value=getattr(self, argument), rule=rule, fix=fix)

    def _check_channels(self) -> None:
        if self.groups < 1:
            raise self._refusal("groups", ("an int >= 1", "1 以上の整数"), ("groups=1.", "groups=1 としてください。"))
        for argument in ("in_channels", "out_channels"):
            if getattr(self, argument) % self.groups:
                rule = (f"a multiple of groups={self.groups}", f"groups={self.groups} の倍数")
                raise self._refusal(argument, rule, ("choose other groups.", "groups を変えてください。"))

    def _check_padding(self) -> None:
        if self.padding_mode not in (_PADDING_MODES[:1] if self.transposed else _PADDING_MODES):
            rule = "'zeros'" if self.transposed else (f"one of {_PADDING_MODES}", f"{_PADDING_MODES} のどれか")
            raise self._refusal("padding_mode", rule, ("padding_mode='zeros'.", "padding_mode='zeros' としてください。"))
        if isinstance(self.padding, str) and (self.transposed or self.padding not in ("valid", "same")):
            rule = ("a number for each axis", "次元ごとの数") if self.transposed else "'valid', 'same'"
            raise self._refusal("padding", rule, ("padding=0.", "padding=0 などとしてください。"))
        if self.padding == "same" and any(s != 1 for s in self.stride):
            rule = ("stride 1 with padding='same'", "padding='same' のときは stride=1")
            raise self._refusal("stride", rule, ("give the padding as a number.", "padding を数で渡してください。"))

    def _weight_shape(self) -> tuple[int, ...]:
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.rank:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.rank:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.rank:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class _Conv(_ConvNd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, device, dtype
        )

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, in_channels, ...), or without N."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = pad(input, self._border(), self.padding_mode), 0
        convolution = (conv.conv1d, conv.conv2d, conv.conv3d)[self.rank - 1]
        return convolution(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _border(self) -> list[int]:
        """``(before, after)`` of each axis, the last one first, as ``pad`` wants them."""
        made: list[int] = []
        for axis in reversed(range(self.rank)):
            if self.padding == "same":
                around = self.dilation[axis] * (self.kernel_size[axis] - 1)
                made += [around // 2, around - around // 2]
            else:
                made += [0, 0] if self.padding == "valid" else [self.padding[axis]] * 2
        return made


class Conv1d(_Conv):
    """Convolution of (N, C, L) or (C, L): y[n, o, p] = bias[o] + Σ x[n, c, p·stride + k·dilation - padding] weight[o, c, k].

    ``weight`` is (out_channels, in_channels/groups, kernel_size), ``bias`` (out_channels,); both start uniform in ±1/√fan_in, fan_in =
    in_channels/groups · kernel_size. padding: a number, ``"valid"`` or ``"same"``. padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or
    ``"circular"``. See ``nn.functional.conv1d``.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.Conv1d(2, 3, 5, padding="same")
    >>> layer
    Conv1d(2, 3, kernel_size=(5,), stride=(1,), padding=same)
    >>> layer(tg.zeros(4, 2, 7)).shape
    (4, 3, 7)
    """

    rank = 1


class Conv2d(_Conv):
    """Convolution of images (N, C, H, W) or (C, H, W); settings are one number or a pair (height, width). See ``Conv1d``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.Conv2d(3, 8, 3, stride=2, padding=1)(tg.zeros(4, 3, 32, 32)).shape
    (4, 8, 16, 16)
    """

    rank = 2


class Conv3d(_Conv):
    """Convolution of volumes (N, C, D, H, W) or (C, D, H, W); settings are one number or three. See ``Conv1d``."""

    rank = 3


class _ConvTranspose(_ConvNd):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """input: (N, in_channels, ...), or without N. output_size: which of the possible sizes is meant, instead of output_padding."""
        extra = self.output_padding if output_size is None else self._extra(input, tuple(output_size))
        convolution = (conv.conv_transpose1d, conv.conv_transpose2d, conv.conv_transpose3d)[self.rank - 1]
        return convolution(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _extra(self, input: Tensor, output_size: tuple[int, ...]) -> Sizes:
        """The output_padding that gives an output of that size, which may be written with the leading axes."""
        shape = input.shape[-self.rank :]
        settings = zip(shape, self.stride, self.padding, self.dilation, self.kernel_size)
        least = tuple([(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in settings])
        most = tuple([n + s - 1 for n, s in zip(least, self.stride)])
        size = output_size[input.ndim - self.rank :] if len(output_size) == input.ndim else output_size
        if len(size) != self.rank or not all(a <= n <= b for a, n, b in zip(least, size, most)):
            rule = (f"a size from {least} to {most}", f"{least} から {most} までの大きさ")
            fix = (f"output_size={least}.", f"output_size={least} などとしてください。")
            op = type(self).__name__
            raise error("TG-A001", op=op, argument="output_size", value=output_size, rule=rule, fix=fix)
        return tuple([n - a for n, a in zip(size, least)])


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, C, L) or (C, L), the gradient of a ``Conv1d`` with respect to its input.

    ``weight`` is (in_channels, out_channels/groups, kernel_size), ``bias`` (out_channels,); both start uniform in ±1/√(out_channels/groups ·
    kernel_size). See ``nn.functional.conv_transpose1d``.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.ConvTranspose1d(2, 3, 3, stride=2)
    >>> layer(tg.zeros(4, 2, 5)).shape, layer(tg.zeros(4, 2, 5), output_size=[12]).shape
    ((4, 3, 11), (4, 3, 12))
    """

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images (N, C, H, W) or (C, H, W); settings are one number or a pair. See ``ConvTranspose1d``."""

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes (N, C, D, H, W) or (C, D, H, W); settings are one number or three. See ``ConvTranspose1d``."""

    rank = 3


# ---- the number of input channels comes from the first input ----------------------------------------


class _LazyConv(LazyModuleMixin, _ConvNd):
    """Takes the arguments of the ordinary layer without ``in_channels``."""

    def __init__(self, out_channels: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(0, out_channels, *args, **kwargs)

    def _make_parameters(self, bias: bool, device: Any, dtype: Any) -> None:
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.register_parameter("bias", UninitializedParameter(device=device, dtype=dtype) if bias else None)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, once they have shapes."""
        if not self.has_uninitialized_params() and self.in_channels:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """input: (N, in_channels, ...), or without N."""
        if self.has_uninitialized_params():
            if input.ndim not in (self.rank + 1, self.rank + 2):
                rule = (
                    f"an input of {self.rank + 1} or {self.rank + 2} axes",
                    f"入力の軸は {self.rank + 1} か {self.rank + 2} 個",
                )
                raise misfit(type(self).__name__, rule, input.shape, ("reshape it.", "reshape で形状を合わせてください。"))
            self.in_channels = input.shape[-self.rank - 1]
            self._check_channels()
            self.weight.materialize(self._weight_shape())
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))
            self.reset_parameters()
        first, second = self.weight.shape[:2]
        self.in_channels = first if self.transposed else second * self.groups


class LazyConv1d(_LazyConv, Conv1d):
    """A ``Conv1d`` that takes ``in_channels`` from its first input, and is an ordinary ``Conv1d`` from then on."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A ``Conv2d`` that takes ``in_channels`` from its first input, and is an ordinary ``Conv2d`` from then on. Arguments:
    ``LazyConv2d(out_channels, kernel_size, ...)``, the rest as for ``Conv2d``.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.LazyConv2d(8, 3)
    >>> layer
    LazyConv2d(0, 8, kernel_size=(3, 3), stride=(1, 1))
    >>> layer(tg.zeros(4, 3, 6, 6)).shape
    (4, 8, 4, 4)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A ``Conv3d`` that takes ``in_channels`` from its first input, and is an ordinary ``Conv3d`` from then on."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConv, ConvTranspose1d):
    """A ``ConvTranspose1d`` that takes ``in_channels`` from its first input, and is an ordinary ``ConvTranspose1d`` from then on."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConv, ConvTranspose2d):
    """A ``ConvTranspose2d`` that takes ``in_channels`` from its first input, and is an ordinary ``ConvTranspose2d`` from then on."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConv, ConvTranspose3d):
    """A ``ConvTranspose3d`` that takes ``in_channels`` from its first input, and is an ordinary ``ConvTranspose3d`` from then on."""

    cls_to_become = ConvTranspose3d
