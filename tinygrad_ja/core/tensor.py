"""``Tensor``: an array and, when its history matters, a node of the tape. Its operators are attached by ``tinygrad_ja.ops``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, is_sole_owner, meet, usual_dtype
from ..backend.devices import Device, device_of, get_default_dtype, move
from ..errors import error, joined
from .attached import Attached
from .modes import modes
from .tape import LEAF, Leaf, Node, RemovableHandle, add_tensor_hook, mark_changed, retain_gradient


class Tensor(Attached):
    """A value on a device, with PyTorch's names.

    ``array`` is the NumPy or CuPy array; ``node`` is None for plain data, a leaf for a parameter, else the operator that made it.

    Tensors are values: ``y = x[0]; y += 1`` leaves ``x`` as it is, and an in-place operator on a result gives the name a new value
    whose history the tape knows. Only a leaf that requires gradients changes in place, under ``no_grad``.
    """

    __slots__ = ("array", "node", "_role", "_frozen", "__weakref__")

    def __init__(self, array: Any, node: Node | None = None) -> None:
        if type(array) not in BY_TYPE:
            raise error("TG-T002", op="Tensor", argument="data", type=type(array).__name__)
        self.array = array
        self.node = node

    if TYPE_CHECKING:
        _role: Any
        _frozen: Leaf  # the leaf of a tensor after requires_grad_(False): it comes back with requires_grad_(True)

    # -- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, a tuple."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        """The element type, a NumPy dtype."""
        return self.array.dtype

    @property
    def device(self) -> Device:
        """Where the array lives."""
        return device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        """True on a GPU."""
        return self.device.type == "cuda"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.array.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.array.nbytes

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one axis."""
        return self.array.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    def numel(self) -> int:
        """Number of elements."""
        return int(self.array.size)

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.array.dtype.itemsize

    def is_floating_point(self) -> bool:
        """True for float16, float32 and float64."""
        return self.array.dtype.kind == "f"

    def is_contiguous(self) -> bool:
        """True when the elements lie in C order without gaps."""
        if modes.recording is not None:
            modes.recording.asks_layout = True
        return bool(self.array.flags.c_contiguous)

    # -- the tape

    @property
    def requires_grad(self) -> bool:
        """True for a leaf that wants a gradient and for every result that depends on one."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True unless an operator made this value on the tape."""
        return self.node is None or self.node.operator is LEAF

    @property
    def grad_fn(self) -> Node | None:
        """The node of the operator that made this value; None for a leaf."""
        return None if self.is_leaf else self.node

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward`` summed here: for leaves, and for results after ``retain_grad``."""
        node = self.node if self.node is not None else getattr(self, "_frozen", None)
        if node is None:
            return None
        if modes.recording is not None:
            modes.recording.asks_gradient(node)
        return node.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        node = self.node if self.node is not None else getattr(self, "_frozen", None)
        if value is None:
            if node is not None:
                node.grad = None
                if modes.recording is not None:
                    modes.recording.clears_gradient(node)
            return
        if node is None:
            raise error("TG-G005")
        if type(value) is not Tensor:
            raise error("TG-T002", op="grad", argument="value", type=type(value).__name__)
        if value.array.shape != self.array.shape:
            raise error("TG-S004", actual=tuple(value.array.shape), expected=tuple(self.array.shape))
        if value.array.dtype != self.array.dtype:
            dtypes = joined((value.array.dtype, self.array.dtype))
            raise error("TG-T001", op="grad", dtypes=dtypes, fix=f"tg.{self.array.dtype}")
        if not meet(value.array, self.array):
            raise error("TG-D001", op="grad", devices=joined((str(self.device), str(value.device))), fix=self.device)
        node.grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Make this leaf want a gradient, or not any more. Returns itself.

        Raises DtypeError unless the dtype is floating, GradientError for a result of an operator.
        """
        if not self.is_leaf:
            if requires_grad:
                return self
            raise error("TG-G009", op=self.node.name)  # type: ignore[union-attr]
        if not requires_grad:
            if self.node is not None:
                self._frozen = self.node  # type: ignore[assignment]
                self._frozen.frozen = True
                self.node = None
        elif self.node is None:
            if self.array.dtype.kind != "f":
                raise error("TG-T003", dtype=self.array.dtype)
            if modes.inference:
                raise error("TG-G012")
            if not getattr(self.array.flags, "writeable", True):  # a leaf is changed in place by optimizers
                self.array = self.array.copy()
            leaf = getattr(self, "_frozen", None) or Leaf(self.array)
            leaf.frozen = False
            leaf.shape = self.array.shape
            self.node = leaf
        return self

    def retain_grad(self) -> None:
        """Keep the gradient of this result in ``grad`` when backward passes."""
        if self.node is None:
            raise error("TG-G005")
        if self.node.operator is not LEAF:
            retain_gradient(self.node)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> RemovableHandle:
        """Run ``hook(grad)`` when the gradient of this tensor is known; what it returns, unless None, replaces the gradient."""
        if self.node is None:
            raise error("TG-G005")
        return add_tensor_hook(self.node, hook)

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Sum the gradients of this tensor with respect to the leaves into their ``grad``.

        gradient: cotangent of the same shape; may be left out for a single element.
        inputs: leaves that alone are to receive gradients.
        """
        from .transforms import backward, grad

        if inputs is None:
            backward(self, gradient, retain_graph, create_graph)
            return
        inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        inputs = tuple({id(x.node): x for x in inputs}.values())  # an input that is named twice counts once
        made = grad(self, inputs, gradient, retain_graph, create_graph, allow_unused=True)
        for leaf, g in zip(inputs, made):
            if g is not None:
                leaf.grad = g if leaf.grad is None else leaf.grad + g

    def detach(self) -> Tensor:
        """The same value without history."""
        return Tensor(self.array)

    def detach_(self) -> Tensor:
        """Cut this tensor from its history. Returns itself."""
        self.node = None
        return self

    @property
    def data(self) -> Tensor:
        """The value without history; in-place operators on it change this tensor (``p.data.normal_()``)."""
        alias = Tensor(self.array)
        alias._role = self
        return alias

    @data.setter
    def data(self, value: Tensor) -> None:
        self.array = value.array
        self._note_change()

    # -- change in place

    def _note_change(self) -> None:
        node = self.node
        if node is not None and node.operator is LEAF:
            node.shape = self.array.shape
            mark_changed(node, self.array)  # type: ignore[arg-type]
        else:
            mark_changed(None, self.array)

    def _assign(self, value: Tensor) -> Tensor:
        """Give this tensor another value of the same shape and dtype: the end of every in-place operator. Returns itself."""
        array = value.array
        if array.shape != self.array.shape:
            raise error("TG-S005", actual=tuple(array.shape), expected=tuple(self.array.shape), shape=tuple(self.array.shape))
        if array.dtype is not self.array.dtype:
            if (array.dtype.kind == "f" and self.array.dtype.kind != "f") or (
                array.dtype.kind in "iu" and self.array.dtype.kind == "b"
            ):
                raise error("TG-T006", actual=array.dtype, expected=self.array.dtype)
            from .promotion import cast_to

            value = cast_to(value, self.array.dtype)
            array = value.array
        owner = getattr(self, "_role", None)
        if type(owner) is Tensor:
            owner.array[...] = array
            owner._note_change()
        elif self.node is not None and self.node.operator is LEAF:
            if modes.record is not None:
                raise error("TG-G004", shape=tuple(self.array.shape))
            self.array[...] = array
            self._note_change()
        else:
            if type(array) is not type(self.array) and hasattr(array, "recording"):
                array.recording.replaces(self)
            self.array = array
            if modes.record is not None:
                self.node = value.node
        return self

    def _writable(self) -> Any:
        """The array for writing parts of it in place, when no one could notice: a copy if anybody else holds the array."""
        owner = getattr(self, "_role", self)
        owner = owner if type(owner) is Tensor else self
        if owner.node is not None and owner.node.operator is LEAF:
            if modes.record is not None and owner is self:
                raise error("TG-G004", shape=tuple(self.array.shape))
            return owner.array
        if owner is not self:
            return owner.array
        if not is_sole_owner(self) or not getattr(self.array.flags, "writeable", True):
            self.array = self.array.copy()
        return self.array

    # -- to Python and NumPy

    def item(self) -> Any:
        """The single element as a Python number."""
        if self.array.size != 1:
            raise error("TG-U003", shape=tuple(self.array.shape))
        return self.array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.array.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The NumPy array itself, not a copy. Raises where a gradient is required or the device is no CPU, unless ``force``."""
        if not force:
            if self.node is not None:
                raise error("TG-G011")
            if self.device.type != "cpu":
                raise error("TG-D006", device=self.device)
        return BY_TYPE[type(self.array)].to_host(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """``array + tensor`` runs our operator; any other NumPy function on a Tensor is an error that names ours."""
        from .operator import OPERATORS

        name = OPERATOR_OF_UFUNC.get(ufunc.__name__)
        if method == "__call__" and name and not kwargs and type(inputs[0]) is not Tensor:
            return OPERATORS[name].public(*inputs)
        raise error("TG-U002", function=ufunc.__name__, fix=NAME_OF_UFUNC.get(ufunc.__name__, ufunc.__name__))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        raise error("TG-U002", function=name, fix=_NAME_OF_FUNCTION.get(name, name))

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.node is not None:
            raise error("TG-G011")
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise error("TG-U001", shape=tuple(self.array.shape))
        return bool(self.array)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind == "f":
            raise error("TG-T004", op="index", dtype=self.array.dtype, allowed=("an integer", "整数の dtype"), fix="tg.int64")
        return int(self.item())

    def __len__(self) -> int:
        if not self.array.ndim:
            raise error("TG-U004")
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise error("TG-U004")
        from .operator import OPERATORS

        return iter(OPERATORS["unbind"].public(self, 0))

    def __contains__(self, value: Any) -> bool:
        xp = ARRAY_MODULES[type(self.array)]
        return bool(xp.any(self.array == getattr(value, "array", value)))

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return _text(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise error("TG-G013", op=self.node.name)  # type: ignore[union-attr]
        made = Tensor(self.array.copy())
        if is_parameter(self):
            made._role = PARAMETER
        if self.node is not None:
            made.node = Leaf(made.array)
            if self.node.grad is not None:
                made.node.grad = Tensor(self.node.grad.array.copy())
        memo[id(self)] = made
        return made

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise error("TG-G013", op=self.node.name)  # type: ignore[union-attr]
        host = BY_TYPE[type(self.array)].to_host(self.array)
        return _rebuild, (host, str(self.device), self.node is not None, is_parameter(self))


def _rebuild(array: np.ndarray, device: str, requires_grad: bool, parameter: bool) -> Tensor:
    array = array.astype(usual_dtype(array.dtype))  # an unpickled array has a dtype object of its own
    made = Tensor(move(array, Device(device))).requires_grad_(requires_grad)
    if parameter:
        made._role = PARAMETER
    return made


PARAMETER = object()
"""Role of a tensor that is a parameter of a model; see ``nn.Parameter``."""


def is_parameter(value: object) -> bool:
    """True for what ``nn.Parameter(...)`` returned, frozen or not."""
    return isinstance(value, Tensor) and getattr(value, "_role", None) is PARAMETER


def _text(x: Tensor) -> str:
    host = BY_TYPE[type(x.array)].to_host(x.array)
    body = np.array2string(host, precision=4, separator=", ", prefix="tensor(", threshold=1000)
    notes = []
    if not host.size:
        notes.append(f"size={tuple(host.shape)}")
    if x.device.type != "cpu":
        notes.append(f"device='{x.device}'")
    if host.dtype not in (get_default_dtype(), np.dtype(np.int64), np.dtype(bool)):
        notes.append(f"dtype={host.dtype}")
    if x.node is not None:
        notes.append("requires_grad=True" if x.is_leaf else f"grad_fn=<{x.node.name}>")
    made = f"tensor({', '.join([body, *notes])})"
    return f"Parameter containing:\n{made}" if is_parameter(x) else made


OPERATOR_OF_UFUNC = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "power": "pow",
    "matmul": "matmul",
    "remainder": "remainder",
    "floor_divide": "floor_divide",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
    "bitwise_and": "bitwise_and",
    "bitwise_or": "bitwise_or",
    "bitwise_xor": "bitwise_xor",
}

NAME_OF_UFUNC = {
    **OPERATOR_OF_UFUNC,
    "negative": "neg",
    "absolute": "abs",
    "invert": "bitwise_not",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "rint": "round",
}

_NAME_OF_FUNCTION = {
    "concatenate": "cat",
    "expand_dims": "unsqueeze",
    "power": "pow",
    "swapaxes": "transpose",
    "transpose": "permute",
    "moveaxis": "movedim",
    "clip": "clamp",
    "array_split": "tensor_split",
    "take_along_axis": "gather",
    "max": "amax",
    "min": "amin",
    "amax": "amax",
    "amin": "amin",
}
