"""Activations as modules. Each is the function of the same name in ``nn.functional``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..errors import error
from ..ops import activation, creation, exponential, random, softmax
from .module import Module
from .parameter import Parameter


class _Activation(Module):
    """A function of one tensor and settings, which are attributes of the same names."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._settings = tuple(settings)
        self.__dict__.update(settings)

    def forward(self, input: Tensor) -> Tensor:
        """input: any shape."""
        function = type(self).function
        if not self._settings:
            return function(input)
        return function(input, **{name: self.__dict__[name] for name in self._settings})

    def extra_repr(self) -> str:
        values = {name: self.__dict__[name] for name in self._settings}
        return ", ".join(f"{name}={value}" for name, value in values.items() if name != "inplace" or value)


class Sigmoid(_Activation):
    """1 / (1 + e⁻ˣ)."""

    function = staticmethod(exponential.sigmoid)


class Tanh(_Activation):
    """tanh x."""

    function = staticmethod(exponential.tanh)


class ReLU(_Activation):
    """max(0, x).

    >>> import tinygrad_ja as tg
    >>> tg.nn.ReLU()(tg.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    function = staticmethod(activation.relu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class ReLU6(_Activation):
    """min(max(0, x), 6)."""

    function = staticmethod(activation.relu6)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class LeakyReLU(_Activation):
    """x where x > 0, else ``negative_slope``·x."""

    function = staticmethod(activation.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class RReLU(Module):
    """x where x > 0, else r·x; in training r is drawn from [lower, upper) for each element, in evaluation it is their mean (Xu et al. 2015).

    >>> import tinygrad_ja as tg
    >>> tg.nn.RReLU(0.25, 0.75).eval()(tg.tensor([-2.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Tensor) -> Tensor:
        """input: any shape."""
        return random.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}{', inplace=True' if self.inplace else ''}"


class PReLU(Module):
    """x where x > 0, else a·x with a learned a: one for all, or one per channel (axis 1) (He et al. 2015)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(creation.full((num_parameters,), float(init), device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, ...)."""
        return activation.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(_Activation):
    """x where x > 0, else α (eˣ - 1) (Clevert et al. 2016)."""

    function = staticmethod(activation.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class SELU(_Activation):
    """A scaled ELU that keeps mean 0 and variance 1 (Klambauer et al. 2017)."""

    function = staticmethod(activation.selu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class CELU(_Activation):
    """x where x > 0, else α (e^(x/α) - 1) (Barron 2017)."""

    function = staticmethod(activation.celu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class GELU(_Activation):
    """x Φ(x), Φ the normal distribution function; approximate="tanh" for the approximation (Hendrycks and Gimpel 2016)."""

    function = staticmethod(activation.gelu)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(_Activation):
    """x σ(x), also called swish."""

    function = staticmethod(activation.silu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Mish(_Activation):
    """x tanh(softplus(x)) (Misra 2019)."""

    function = staticmethod(activation.mish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Softplus(_Activation):
    """log(1 + e^(βx)) / β; x itself where βx > ``threshold``."""

    function = staticmethod(activation.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = staticmethod(activation.softsign)


class Softshrink(_Activation):
    """x moved towards 0 by λ; 0 where |x| <= λ."""

    function = staticmethod(activation.softshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(_Activation):
    """x, but 0 where |x| <= λ."""

    function = staticmethod(activation.hardshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Tanhshrink(_Activation):
    """x - tanh x."""

    function = staticmethod(activation.tanhshrink)


class Hardtanh(_Activation):
    """x clipped to [min_val, max_val]."""

    function = staticmethod(activation.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(min_val=min_val, max_val=max_val, inplace=inplace)


class Hardsigmoid(_Activation):
    """x/6 + 1/2 clipped to [0, 1]."""

    function = staticmethod(activation.hardsigmoid)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)

    def extra_repr(self) -> str:
        return ""


class Hardswish(_Activation):
    """x times hardsigmoid(x) (Howard et al. 2019)."""

    function = staticmethod(activation.hardswish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)

    def extra_repr(self) -> str:
        return ""


class LogSigmoid(_Activation):
    """log σ(x)."""

    function = staticmethod(activation.logsigmoid)


class Threshold(_Activation):
    """x where x > ``threshold``, else ``value``."""

    function = staticmethod(activation.threshold)

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value, inplace=inplace)


class GLU(_Activation):
    """a σ(b), a and b the two halves of the axis ``dim`` (Dauphin et al. 2017)."""

    function = staticmethod(activation.glu)

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class _AlongAxis(_Activation):
    """A softmax; without ``dim`` it runs over axis 1, or over axis 0 of 0, 1 or 3 axes (PyTorch's old rule)."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)

    def forward(self, input: Tensor) -> Tensor:
        """input: any shape."""
        dim = self.dim
        if dim is None:
            dim = 0 if input.ndim in (0, 1, 3) else 1
        return type(self).function(input, dim)


class Softmax(_AlongAxis):
    """eˣ / Σ eˣ along the axis ``dim``."""

    function = staticmethod(softmax.softmax)


class LogSoftmax(_AlongAxis):
    """log(eˣ / Σ eˣ) along the axis ``dim``."""

    function = staticmethod(softmax.log_softmax)


class Softmin(_AlongAxis):
    """Softmax of -x along the axis ``dim``."""

    function = staticmethod(softmax.softmin)


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W), at each place.

    >>> import tinygrad_ja as tg
    >>> tg.nn.Softmax2d()(tg.zeros(2, 1, 1)).tolist()
    [[[0.5]], [[0.5]]]
    """

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, H, W) or (C, H, W)."""
        if input.ndim not in (3, 4):
            rule = ("(N, C, H, W) or (C, H, W)", "(N, C, H, W) か (C, H, W)")
            fix = ("use Softmax for other shapes.", "ほかの形状には Softmax を使ってください。")
            raise error("TG-S002", op="Softmax2d", rule=rule, shapes=str(tuple(input.shape)), fix=fix)
        return softmax.softmax(input, -3)
