"""The older functions ``weight_norm`` and ``spectral_norm`` (``torch.nn.utils``): a hook computes the weight before each forward.

They are here for the keys of their ``state_dict`` (``weight_g``, ``weight_v``; ``weight_orig``, ``weight_u``, ``weight_v``). New programs use
those of ``parametrizations``.
"""

from __future__ import annotations

from typing import Any

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import error
from ...ops.linalg import mv
from ...ops.norms import normalize
from ...ops.products import vdot
from ...ops.shape import dimension
from ...ops.solve import mT
from ..module import Module
from ..parameter import Parameter
from .parametrizations import as_matrix, check_iterations, default_dim, norm_except_dim, random_unit, tensor_of


class _Normed:
    """A hook that sets ``module.<name>`` before the forward."""

    op: str

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.compute(module))

    def compute(self, module: Any, training: bool | None = None) -> Tensor:
        raise NotImplementedError

    def parts(self) -> list[str]:
        """Names of what the hook has registered."""
        raise NotImplementedError

    def install(self, module: Any, value: Tensor) -> Any:
        """Set the weight for the first time, and from now on before each forward."""
        object.__setattr__(module, self.name, value)
        module.register_forward_pre_hook(self)
        return module


def _hooks(module: Module, kind: type[_Normed], name: str) -> dict[int, _Normed]:
    before = {} if module._hooks is None else module._hooks.before
    return {key: hook for key, (hook, _) in before.items() if isinstance(hook, kind) and hook.name == name}


def _refuse_second(module: Module, kind: type[_Normed], name: str) -> None:
    if _hooks(module, kind, name):
        reason = (f"'{name}' has it already", f"'{name}' にはすでに使われています")
        raise error("TG-A003", op=kind.op, reason=reason, fix=("apply it once.", "1 度だけ使ってください。"))


def _remove(module: Any, kind: type[_Normed], name: str) -> Any:
    found = _hooks(module, kind, name)
    if not found:
        reason = (
            f"'{name}' of {type(module).__name__} does not have it",
            f"{type(module).__name__} の '{name}' には使われていません",
        )
        fix = ("name the weight it was applied to.", "使った重みの名前を渡してください。")
        raise error("TG-A003", op=f"remove_{kind.op}", reason=reason, fix=fix)
    for key, hook in found.items():
        with no_grad():
            weight = hook.compute(module, training=False)
        for part in [name, *hook.parts()]:
            delattr(module, part)
        module.register_parameter(name, Parameter(weight))
        del module._hooks.before[key]
    return module


class WeightNorm(_Normed):
    """w = g v / |v|."""

    op = "weight_norm"

    def __init__(self, name: str, dim: int) -> None:
        super().__init__(name)
        self.dim = dim

    def compute(self, module: Any, training: bool | None = None) -> Tensor:
        """The weight from its length and direction."""
        v = getattr(module, f"{self.name}_v")
        return v * (getattr(module, f"{self.name}_g") / norm_except_dim(v, self.dim))

    def parts(self) -> list[str]:
        return [f"{self.name}_g", f"{self.name}_v"]


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """w = g v / |v| with the parameters ``weight_g`` and ``weight_v`` (Salimans and Kingma 2016). Returns the module.

    dim: the slices that have a length each; None for one length of all.

    >>> import tinygrad_ja as tg
    >>> layer = weight_norm(tg.nn.Linear(3, 2))
    >>> list(layer.state_dict())
    ['bias', 'weight_g', 'weight_v']
    """
    _refuse_second(module, WeightNorm, name)
    weight = tensor_of("weight_norm", module, name)
    hook = WeightNorm(name, -1 if dim is None else dim)
    with no_grad():
        length = norm_except_dim(weight, hook.dim)
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(length))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    return hook.install(module, hook.compute(module))


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight an ordinary parameter again, with its present value. Returns the module."""
    return _remove(module, WeightNorm, name)


class SpectralNorm(_Normed):
    """w / σ."""

    op = "spectral_norm"

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__(name)
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim, eps

    def compute(self, module: Any, training: bool | None = None) -> Tensor:
        """The weight over uᵀ W v, after steps of the power method in training mode."""
        weight = getattr(module, f"{self.name}_orig")
        matrix = as_matrix(weight, self.dim)
        if module.training if training is None else training:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v = normalize(mv(mT(matrix), getattr(module, f"{self.name}_u")), dim=0, eps=self.eps)
                    setattr(module, f"{self.name}_v", v)
                    setattr(module, f"{self.name}_u", normalize(mv(matrix, v), dim=0, eps=self.eps))
        return weight / vdot(getattr(module, f"{self.name}_u"), mv(matrix, getattr(module, f"{self.name}_v")))

    def parts(self) -> list[str]:
        return [f"{self.name}_orig", f"{self.name}_u", f"{self.name}_v"]


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """w / σ with the parameter ``weight_orig`` and the buffers ``weight_u`` and ``weight_v`` (Miyato et al. 2018). Returns the module.

    See ``parametrizations.spectral_norm``.
    """
    check_iterations("spectral_norm", n_power_iterations)
    _refuse_second(module, SpectralNorm, name)
    weight = tensor_of("spectral_norm", module, name)
    axis = dimension("spectral_norm", default_dim(module) if dim is None else dim, weight.shape)
    hook = SpectralNorm(name, n_power_iterations, axis, eps)
    rows, columns = as_matrix(weight.detach(), axis).shape
    delattr(module, name)
    module.register_parameter(f"{name}_orig", weight)
    module.register_buffer(f"{name}_u", random_unit(weight, rows, eps))
    module.register_buffer(f"{name}_v", random_unit(weight, columns, eps))
    return hook.install(module, weight.detach())


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight an ordinary parameter again, with its present value. Returns the module."""
    return _remove(module, SpectralNorm, name)
