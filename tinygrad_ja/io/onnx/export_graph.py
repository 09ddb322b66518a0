"""An ONNX graph while it is written: nodes, named results and initializers. Knows ONNX's operators, but none of tinygrad_ja's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.trace import Value
from .import_tensor import DTYPES

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


def number_of(dtype: Any) -> int:
    """ONNX's number of a dtype.

    >>> number_of(np.float32)
    1
    """
    return _NUMBERS[np.dtype(dtype)]


class Node(NamedTuple):
    """One node: operator, names of inputs ("" where one is left out) and outputs, attributes, and its own name."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    name: str


class Graph:
    """Nodes in the order of their run.

    opset: the version of ONNX's operators. place: where new nodes belong, such as ``"/encoder/0"``; it begins their names.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.place = ""
        self.nodes: list[Node] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.names: dict[Value, str] = {}
        self._by_content: dict[Any, str] = {}
        self._taken: dict[str, int] = {}
        self._reshaped: dict[str, tuple[str, tuple[int, ...]]] = {}

    # -- nodes

    def add(self, op: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node and return the name of its output, or a tuple of names where ``outputs`` is not 1.

        inputs: Values, names, arrays (which become initializers) or None. Attributes that are None are left out.
        """
        name = self._fresh(f"{self.place}/{op}")
        made = [f"{name}_output_{number}" for number in range(outputs)]
        given = [self.name(x) for x in inputs]
        while given and not given[-1]:
            given.pop()
        present = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(Node(op, given, made, present, name))
        return made[0] if outputs == 1 else tuple(made)

    def name(self, x: Any) -> str:
        """The name in the graph of a Value, a name, an array or None."""
        if x is None:
            return ""
        if isinstance(x, str):
            return x
        if isinstance(x, Value):
            if x not in self.names:
                assert x.array is not None, x
                self.names[x] = self._captured(x)
            return self.names[x]
        return self.constant(x)

    def reserve(self, name: str) -> str:
        """A name that nothing else gets."""
        return self._fresh(name)

    def _fresh(self, name: str) -> str:
        count = self._taken.get(name, 0)
        self._taken[name] = count + 1
        return self._fresh(f"{name}_{count}") if count else name

    # -- constants

    def _captured(self, value: Value) -> str:
        assert value.array is not None
        name = self._fresh(value.name)
        self.initializers[name] = value.array
        return name

    def constant(self, array: Any, name: str = "constant") -> str:
        """An initializer of that content, shared with equal ones."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._by_content:
            self._by_content[key] = self._fresh(name)
            self.initializers[self._by_content[key]] = array.copy()
        return self._by_content[key]

    def ints(self, values: Sequence[int]) -> str:
        """A vector of int64: shapes, axes, bounds of slices."""
        return self.constant(np.array(list(values), np.int64), "shape")

    def number(self, value: Any, like: Any) -> str:
        """A number as a constant of the dtype of ``like``, a Value or a dtype."""
        return self.constant(np.array(value, getattr(like, "dtype", like)), "number")

    def operand(self, value: Any, like: Any) -> str:
        """What stands beside a Tensor in an element-wise operator: an array, or a Python number in the dtype of ``like``."""
        return self.number(value, like) if isinstance(value, (bool, int, float)) else self.name(value)

    # -- what many operators need

    def cast(self, x: Any, dtype: Any) -> str:
        """``x`` in another dtype."""
        return self.add("Cast", x, to=number_of(dtype))

    def reshape(self, x: Any, size: Sequence[int], shape: Sequence[int] | None = None) -> str:
        """``x`` in the shape ``size``. ``shape``: what it has now, where known; then nothing is done for nothing."""
        size, source = tuple(size), self.name(x)
        origin, before = self._reshaped.get(source, (source, None if shape is None else tuple(shape)))
        if before == size and -1 not in size:
            return origin
        made = self.add("Reshape", origin, self.ints(size))
        if before is not None:
            self._reshaped[made] = (origin, before)
        return made

    def slice(self, x: Any, axis: int, start: int, stop: int, step: int = 1) -> str:
        """The part ``start:stop:step`` of one axis."""
        return self.add("Slice", x, self.ints([start]), self.ints([stop]), self.ints([axis]), self.ints([step]))

    def reduce(self, op: str, x: Any, axes: Sequence[int] | None, keepdim: bool) -> str:
        """``ReduceSum`` and its like over ``axes`` (None: all of them)."""
        options: dict[str, Any] = {"keepdims": int(keepdim)}
        if axes is None:
            return self.add(op, x, **options)
        if not axes:  # of a 0-d array: nothing to reduce, where ONNX would reduce all
            return self.name(x)
        if op == "ReduceSum" or self.opset >= 18:
            return self.add(op, x, self.ints(axes), **options)
        return self.add(op, x, axes=list(axes), **options)

    def transpose(self, x: Any, first: int, second: int, ndim: int) -> str:
        """Two axes exchanged."""
        order = list(range(ndim))
        order[first], order[second] = order[second], order[first]
        return self.add("Transpose", x, perm=order)

    def gather_flat(self, x: Value, positions: np.ndarray) -> str:
        """The elements of ``x`` at row-major ``positions``, in the shape of those."""
        return self.add("Gather", self.reshape(x, (-1,), x.shape), positions.astype(np.int64), axis=0)

    # -- the end

    def sweep(self, outputs: Sequence[str]) -> None:
        """Drop nodes and initializers that no output needs."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        self.nodes = kept[::-1]
        self.initializers = {name: array for name, array in self.initializers.items() if name in needed}

    def rename(self, old: str, new: str) -> None:
        """Give the result ``old`` another name."""
        for node in self.nodes:
            for names in (node.inputs, node.outputs):
                names[:] = [new if name == old else name for name in names]


def flat_positions(shape: Sequence[int], kernel: Any) -> np.ndarray:
    """Where each element of ``kernel(array)`` comes from: its row-major number in an array of ``shape``. ``kernel`` only picks elements."""
    return np.asarray(kernel(np.arange(math.prod(shape), dtype=np.int64).reshape(tuple(shape))))
