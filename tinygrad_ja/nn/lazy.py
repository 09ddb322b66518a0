"""Layers that learn the size of their input from the first one they see.

Until then their parameters and buffers have no shape. The layer becomes an ordinary one when it is first called; its parameters stay the
same objects.
"""

from __future__ import annotations

from typing import Any

from ..core.modes import modes
from ..core.tensor import Tensor
from ..errors import error
from .linear import Linear
from .uninitialized import UninitializedParameter, is_lazy


class LazyModuleMixin:
    """Stands before the ordinary layer among the bases of a lazy one: ``class LazyLinear(LazyModuleMixin, Linear)``.

    The lazy layer assigns ``UninitializedParameter()`` and ``UninitializedBuffer()`` in ``__init__``, sets ``cls_to_become``, and defines
    ``initialize_parameters(*args)``, which gets the arguments of the first call and materializes whatever has no shape yet.
    ``state_dict`` shows such entries as they are; the ``state_dict`` of an initialized layer can be loaded into a lazy one.
    """

    cls_to_become: type | None = None
    """Class of the layer from its first call on; None: it stays what it is."""

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materialize the parameters and buffers for the arguments of the first call."""
        raise NotImplementedError(f"{type(self).__name__}.initialize_parameters")

    def has_uninitialized_params(self) -> bool:
        """True while a parameter or a buffer of this layer has no shape."""
        return any(is_lazy(self.__dict__[name]) for name in self._roles)  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "_inferred" in self.__dict__:
            return super().__call__(*args, **kwargs)  # type: ignore[misc]
        if modes.recording is not None:
            raise error("TG-U015", kind=type(self).__name__, name="forward")
        self.initialize_parameters(*args, **kwargs)
        if self.has_uninitialized_params():
            raise error("TG-U015", kind=type(self).__name__, name="forward")
        if self.cls_to_become is None:
            self.__dict__["_inferred"] = True
        else:
            self.__class__ = self.cls_to_become
        return self(*args, **kwargs)


class LazyLinear(LazyModuleMixin, Linear):
    """A ``Linear`` that takes ``in_features`` from its first input, and is an ordinary ``Linear`` from then on.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.LazyLinear(2)
    >>> layer
    LazyLinear(in_features=0, out_features=2, bias=True)
    >>> layer.weight
    <UninitializedParameter>
    >>> layer(tg.zeros(5, 3)).shape
    (5, 2)
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    cls_to_become = Linear
    weight: Any
    bias: Any

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, False)
        self.out_features = out_features
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, once they have shapes."""
        if not self.has_uninitialized_params() and self.in_features:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """input: (..., in_features)."""
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            self.weight.materialize((self.out_features, self.in_features))
            if self.bias is not None:
                self.bias.materialize((self.out_features,))
            self.reset_parameters()
        self.in_features = self.weight.shape[-1]
