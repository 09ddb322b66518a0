"""A size that may vary: what of a graph grows with it is found by writing the graph at three sizes and comparing.

Constants that differ and are ``a · size + b`` (shapes, bounds of slices, counts) become nodes that compute them from the input's shape; arrays
that repeat along an axis that grows become an Expand. Anything else that differs cannot follow, and is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...core.trace import Value
from ...errors import Phrase, error, refusal
from .export_graph import Graph, Node


def _not_allowed(value: Any, rule: Phrase) -> Exception:
    fix = ('dynamic_axes={"input": {0: "batch"}}.', 'dynamic_axes={"input": {0: "batch"}} などとしてください。')
    return refusal("export_onnx", "dynamic_axes", value, rule, fix)


_STEPS = (1, 3)
"""What is added to the size for the second and the third graph."""


def _refuse(reason: Phrase) -> Exception:
    fix = (
        "export with fixed sizes (dynamic_axes=None), or write that part with sizes taken from x.shape.",
        "大きさを固定して書き出す (dynamic_axes=None) か、その部分を x.shape に応じた形で書いてください。",
    )
    return error("TG-A003", op="export_onnx (dynamic_axes)", reason=reason, fix=fix)


@dataclass(frozen=True)
class DynamicAxis:
    """The symbol of a size, and the axes of inputs that have it."""

    symbol: str
    axes: dict[str, tuple[int, ...]]
    promised: dict[str, tuple[int, ...]]
    """Axes of outputs that the caller expects to follow."""

    @classmethod
    def read(cls, given: Mapping[str, Mapping[int, str]], inputs: Mapping[str, Tensor]) -> DynamicAxis:
        """``dynamic_axes`` as PyTorch writes it, checked."""
        axes = {name: tuple(those) for name, those in given.items() if name in inputs}
        promised = {name: tuple(those) for name, those in given.items() if name not in inputs}
        there = all(axis in range(inputs[name].ndim) for name, those in axes.items() for axis in those)
        sizes = {inputs[name].shape[axis] for name, those in axes.items() for axis in those} if there else set()
        symbols = {symbol for those in given.values() for symbol in those.values()}
        if len(sizes) != 1 or len(symbols) != 1 or not all(isinstance(symbol, str) and symbol for symbol in symbols):
            rule = (
                f"names among {list(inputs)}, one symbol, and axes that have one size in the example",
                f"{list(inputs)} の名前、記号は 1 つ、例の中で同じ大きさの軸",
            )
            raise _not_allowed(dict(given), rule)
        return cls(symbols.pop(), axes, promised)

    def spread(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs with a size of 2 where it is less: a size of 1 broadcasts, as others do not."""
        return self.resized(inputs, 2) if self.size(inputs) < 2 else dict(inputs)

    def size(self, inputs: Mapping[str, Any]) -> int:
        """The size in these inputs."""
        name, axes = next(iter(self.axes.items()))
        return inputs[name].shape[axes[0]]

    def resized(self, inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
        """The inputs with another size, elements repeated or left out."""
        made = dict(inputs)
        for name, axes in self.axes.items():
            array = inputs[name].array
            for axis in axes:
                array = np.take(array, np.arange(size) % array.shape[axis], axis)
            made[name] = Tensor(np.ascontiguousarray(array))
        return made

    def free(
        self,
        graph: Graph,
        outputs: Mapping[str, Value],
        inputs: Mapping[str, Tensor],
        again: Callable[[dict[str, Tensor]], tuple[Graph, dict[str, Value]]],
    ) -> dict[str, list[Any]]:
        """Make ``graph`` right for every size. Returns the shapes of inputs and outputs, some of them symbolic."""
        size = self.size(inputs)
        sizes = (size, *[size + step for step in _STEPS])
        others = [again(self.resized(inputs, n)) for n in sizes[1:]]
        _Comparison(graph, [other for other, _ in others], sizes, self._source()).run()
        shapes: dict[str, list[Any]] = {name: list(inputs[name].shape) for name in self.axes}
        for name, axes in self.axes.items():
            for axis in axes:
                shapes[name][axis] = self.symbol
        for name, value in outputs.items():
            grown = zip(value.shape, *[given[name].shape for _, given in others])
            shapes[name] = [self._dimension(f"{name}_{axis}", lengths, sizes) for axis, lengths in enumerate(grown)]
        for name, axes in self.promised.items():
            if name not in outputs or any(isinstance(shapes[name][axis], int) for axis in axes):
                rule = (f"outputs among {list(outputs)}, and axes that follow", f"{list(outputs)} の名前と、変わる軸")
                raise _not_allowed({name: axes}, rule)
        return shapes

    def _dimension(self, name: str, lengths: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
        if len(set(lengths)) == 1:
            return lengths[0]
        return self.symbol if lengths == sizes else name

    def _source(self) -> tuple[str, int]:
        name, axes = next(iter(self.axes.items()))
        return name, axes[0]


class _Comparison:
    """The same graph at three sizes, node by node. ``source``: an input and its axis that has the size."""

    def __init__(self, graph: Graph, others: list[Graph], sizes: tuple[int, ...], source: tuple[str, int]) -> None:
        self.graph, self.others, self.sizes, self.source = graph, others, sizes, source
        self.made: list[Node] = []
        self.replaced: dict[tuple[str, ...], str] = {}

    def run(self) -> None:
        nodes, graph = self.graph.nodes, self.graph
        counts = [len(nodes), *[len(other.nodes) for other in self.others]]
        if len(set(counts)) > 1:
            raise _refuse(
                (
                    f"the program has {counts} nodes at the sizes {list(self.sizes)}",
                    f"大きさ {list(self.sizes)} でノード数が {counts} と変わります",
                )
            )
        graph.nodes = []
        names = [{name: name for name in graph.names.values()} for _ in self.others]
        for node, *same in zip(nodes, *[other.nodes for other in self.others]):
            if any(n.op != node.op or n.attributes != node.attributes or len(n.inputs) != len(node.inputs) for n in same):
                raise _refuse(
                    (
                        f"the node {node.name} ({node.op}) is another one at other sizes",
                        f"ノード {node.name} ({node.op}) が大きさによって変わります",
                    )
                )
            for position, given in enumerate(zip(node.inputs, *[n.inputs for n in same])):
                node.inputs[position] = self._input(node, position, given, names)
            for known, other in zip(names, same):
                known.update(zip(other.outputs, node.outputs))
            graph.nodes.append(node)
        graph.sweep([name for node in nodes for name in node.outputs])

    def _input(self, node: Node, position: int, given: tuple[str, ...], names: list[dict[str, str]]) -> str:
        graphs = (self.graph, *self.others)
        constants = [graph.initializers.get(name) for graph, name in zip(graphs, given)]
        if all(constant is None for constant in constants):
            if any(known.get(name, name) != given[0] for known, name in zip(names, given[1:])):
                raise _refuse((f"{node.name} has other inputs at other sizes", f"{node.name} の入力が大きさによって変わります"))
            return given[0]
        if any(constant is None for constant in constants):
            raise _refuse((f"{node.name} has other inputs at other sizes", f"{node.name} の入力が大きさによって変わります"))
        arrays: list[np.ndarray] = constants  # type: ignore[assignment]
        if all(a.shape == arrays[0].shape and np.array_equal(a, arrays[0], equal_nan=a.dtype.kind == "f") for a in arrays[1:]):
            return given[0]
        if given not in self.replaced:
            self.replaced[given] = self._computed(node, position, arrays)
        return self.replaced[given]

    # -- constants that grow

    def _computed(self, node: Node, position: int, arrays: list[np.ndarray]) -> str:
        first = arrays[0]
        if len({a.shape for a in arrays}) == 1 and first.ndim <= 1:
            entries = [self._line([a.reshape(-1)[i] for a in arrays]) for i in range(first.size)]
            if None not in entries:
                return self._vector(node, position, first, entries)  # type: ignore[arg-type]
        elif first.ndim == arrays[1].ndim:
            made = self._repeated(arrays) or self._counted(arrays)
            if made:
                return made
        shapes = " / ".join(str(a.shape) for a in arrays)
        raise _refuse(
            (
                f"a constant {shapes} that {node.name} ({node.op}) uses at the sizes {list(self.sizes)} does more than grow",
                f"{node.name} ({node.op}) の使う定数 {shapes} が、大きさ {list(self.sizes)} で別のものになります",
            )
        )

    def _line(self, values: list[Any]) -> tuple[int, int] | None:
        """``(a, b)`` where the values are ``a · size + b`` with integers, else None."""
        a = (values[1] - values[0]) / (self.sizes[1] - self.sizes[0])
        b = values[0] - a * self.sizes[0]
        if a != int(a) or b != int(b) or any(a * n + b != value for n, value in zip(self.sizes, values)):
            return None
        return int(a), int(b)

    def _size(self) -> str:
        """The size itself, a vector of one element."""
        name, axis = self.source
        if ("",) not in self.replaced:
            self.replaced["",] = self.graph.add("Shape", name, start=axis, end=axis + 1)
        return self.replaced["",]

    def _entry(self, a: int, b: int) -> str:
        made = self._size()
        if a != 1:
            made = self.graph.add("Mul", made, self.graph.ints([a]))
        return self.graph.add("Add", made, self.graph.ints([b])) if b else made

    def _vector(self, node: Node, position: int, first: np.ndarray, entries: list[tuple[int, int]]) -> str:
        growing = [i for i, (a, _) in enumerate(entries) if a]
        if node.op == "Reshape" and position == 1 and len(growing) == 1 and first.min() > 0:
            return self.graph.ints([-1 if i in growing else int(n) for i, n in enumerate(first)])
        parts = [self._entry(a, b) if a else self.graph.ints([b]) for a, b in entries]
        made = parts[0] if len(parts) == 1 else self.graph.add("Concat", *parts, axis=0)
        if not first.ndim:
            made = self.graph.add("Squeeze", made, self.graph.ints([0]))
        return made if first.dtype == np.int64 else self.graph.cast(made, first.dtype)

    def _repeated(self, arrays: list[np.ndarray]) -> str | None:
        """An array that is the same all along the axes that grow."""
        kept: list[np.ndarray] = []
        grows = [len({a.shape[axis] for a in arrays}) > 1 for axis in range(arrays[0].ndim)]
        for a in arrays:
            part = a[tuple([slice(0, 1) if grow else slice(None) for grow in grows])]
            if not part.size or not np.array_equal(np.broadcast_to(part, a.shape), a, equal_nan=a.dtype.kind == "f"):
                return None
            kept.append(part)
        if any(not np.array_equal(part, kept[0]) for part in kept[1:]):
            return None
        entries = [self._line(list(sizes)) for sizes in zip(*[a.shape for a in arrays])]
        if None in entries:
            return None
        shape = [self._entry(*entry) if entry[0] else self.graph.ints([entry[1]]) for entry in entries]  # type: ignore[misc, index]
        size = shape[0] if len(shape) == 1 else self.graph.add("Concat", *shape, axis=0)
        return self.graph.add("Expand", kept[0], size)

    def _counted(self, arrays: list[np.ndarray]) -> str | None:
        """0, 1, 2, ... up to the size, in any shape with one axis that is not 1."""
        if any(a.dtype != np.int64 or not np.array_equal(a.reshape(-1), np.arange(n)) for a, n in zip(arrays, self.sizes)):
            return None
        zero, one = (self.graph.constant(np.array(n, np.int64)) for n in (0, 1))
        stop = self.graph.add("Squeeze", self._size(), self.graph.ints([0]))
        made = self.graph.add("Range", zero, stop, one)
        return self.graph.reshape(made, [-1 if n != 1 or arrays[0].ndim == 1 else 1 for n in arrays[0].shape])
