"""What happened on a tape, operator by operator: forward as far as the tape kept it, and a whole backward, watched."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import is_array
from ..core.host import on_host
from ..core.operator import Operator
from ..core.tape import LEAF, OUTPUT, Node
from ..core.tensor import Tensor
from ..errors import Phrase, error, refusal
from .rule_text import rules_of
from .tape_copy import TapeCopy, single_root, walk_back

SHOWN = 12
"""Elements of an array that is shown as numbers."""


class Value(NamedTuple):
    """An array in words. ``numbers`` are its elements where they are few, else its range; they, the norm and the dtype are missing where
    the tape does not know them."""

    shape: tuple[int, ...]
    dtype: str = ""
    numbers: str | None = None
    norm: float | None = None


def describe(value: Any) -> Value:
    """A Tensor, array or number in words.

    >>> describe(np.array([3.0, 4.0], dtype=np.float32))
    Value(shape=(2,), dtype='float32', numbers='[3, 4]', norm=5.0)
    """
    if isinstance(value, (bool, int, float)):
        return Value((), type(value).__name__, f"{value:.6g}", abs(float(value)))
    array = on_host(value)
    if array.dtype.kind not in "fciub":
        return Value(array.shape, str(array.dtype), str(value)[:60])
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    return Value(array.shape, str(array.dtype), _numbers(wide), float(np.linalg.norm(wide.ravel())))


def _numbers(array: np.ndarray) -> str:
    if array.size > SHOWN:
        return f"|x| ≤ {abs(array).max():.3g}" if array.dtype.kind == "c" else f"{array.min():.3g} … {array.max():.3g}"
    if array.ndim:
        return "[" + ", ".join(_numbers(part) for part in array) + "]"
    return f"{array.item() + 0.0:.4g}"  # + 0.0: no minus before a zero


@dataclasses.dataclass
class Input:
    """One input of an entry. position: its place among the operator's inputs. kind: "value" for the result of another entry, ``source``
    and its output ``index``; "parameter" for a leaf, ``source`` its place in ``Walkthrough.leaves``; "input" for data without a
    gradient."""

    position: int
    name: str
    kind: str
    label: str = ""
    source: int = -1
    index: int = 0
    value: Value | None = None
    gradient: Value | None = None


@dataclasses.dataclass
class Entry:
    """One operator on the tape: its inputs and outputs, what the tape kept, and what passed in backward (None until reached)."""

    title: str
    operator: Any
    inputs: list[Input]
    outputs: list[Value]
    kept: list[tuple[str, Value]]
    label: str = ""
    is_loss: bool = False
    cotangents: list[Value | None] = dataclasses.field(default_factory=list)

    @property
    def summary(self) -> str:
        """What the operator does: the first sentence of its docstring."""
        text = getattr(getattr(self.operator, "forward", None), "__doc__", None) or ""
        paragraph = " ".join(text.strip().partition("\n\n")[0].split())
        return re.split(r"(?<=[.;])\s", paragraph, maxsplit=1)[0].rstrip(";").replace("``", "")

    @property
    def rules(self) -> list[tuple[str, str]]:
        """The text of its derivatives, see ``rules_of``."""
        return rules_of(self.operator)


@dataclasses.dataclass
class Leaf:
    """A leaf of the tape with its gradient."""

    label: str
    value: Value
    gradient: Value | None = None


class Walkthrough:
    """The tape of ``loss``: ``entries`` in the order in which they ran, ``leaves``, and ``backward``, places of entries in the order in
    which the walk back passed them. names: number of a node, or id of an array, -> name."""

    def __init__(self, loss: Tensor, names: Names, *, unroll: bool = False) -> None:
        root = single_root(loss, "draw", "loss")
        self.entries: list[Entry] = []
        self.leaves: list[Leaf] = []
        self.backward: list[int] = []
        self._names = names
        self._place: dict[int, int] = {}
        copy = TapeCopy([root], unroll=unroll)
        self._labels = {made.number: names.of_node[number] for number, made in copy.copies.items() if number in names.of_node}
        self._root: Any = copy.roots[0]
        values = _known_values(copy.nodes)
        for node in copy.nodes:
            self._add(node, values)
        end = self._operator_of(self._root)
        if end.operator is LEAF:
            raise _refusal()
        last = self.entries[self._place[end.number]]
        last.is_loss = True
        last.outputs[getattr(self._root, "index", 0)] = describe(loss)
        self._watch(copy, loss)

    @staticmethod
    def _operator_of(node: Any) -> Any:
        return node.parents[0] if node.operator is OUTPUT else node

    def _add(self, node: Any, values: Mapping[int, Any]) -> None:
        if node.operator is OUTPUT:
            return
        if node.operator is LEAF:
            self._place[node.number] = len(self.leaves)
            label = self._labels.get(node.number, f"leaf {len(self.leaves)}")
            self.leaves.append(Leaf(label, self._value(node, node.shape, values)))
            return
        self._place[node.number] = len(self.entries)
        if node.shape and isinstance(node.shape[0], tuple):
            outputs = [Value(shape) for shape in node.shape]
        else:
            outputs = [self._value(node, node.shape, values)]
        inputs = [made for position in range(len(node.parents)) if (made := self._input(node, position)) is not None]
        entry = Entry(node.operator.name, node.operator, inputs, outputs, _kept(node), self._labels.get(node.number, ""))
        entry.cotangents = [None] * len(outputs)
        self.entries.append(entry)

    def _value(self, node: Node, shape: tuple[int, ...], values: Mapping[int, Any]) -> Value:
        """A node's value: as the user named it, or as a node kept it."""
        name = self._labels.get(node.number)
        known = values.get(node.number) if name is None else self._names.values[name]
        return Value(shape) if known is None else describe(known)

    def _input(self, node: Any, position: int) -> Input | None:
        """An input of a node, or None for one that was left out."""
        parent = node.parents[position]
        name = node.operator.input_name(position)
        value = _saved_input(node, position)
        if parent is None:
            if value is None:
                return None if name in getattr(node.operator, "optional", ()) else Input(position, name, "input")
            return Input(position, name, "input", self._names.of_array.get(id(value), name), value=describe(value))
        owner = self._operator_of(parent)
        place = self._place[owner.number]
        if owner.operator is LEAF:
            leaf = self.leaves[place]
            return Input(position, name, "parameter", leaf.label, place, value=leaf.value)
        known = Value(parent.shape) if value is None else describe(value)
        return Input(position, name, "value", self.entries[place].title, place, getattr(parent, "index", 0), known)

    def _watch(self, copy: TapeCopy, loss: Tensor) -> None:
        """Run the backward on the copy and note what passes each operator."""
        for node in copy.nodes:
            if node.operator is not LEAF and node.operator is not OUTPUT:
                node.register_hook(self._watcher(node))
        for leaf, g in walk_back(self._root, loss):
            self.leaves[self._place[leaf.number]].gradient = describe(g)

    def _watcher(self, node: Node) -> Any:
        place = self._place[node.number]
        entry = self.entries[place]

        def watch(gradients: tuple[Any, ...], cotangent: Any) -> None:
            self.backward.append(place)
            made = [describe(g) for g in (cotangent if type(cotangent) is tuple else (cotangent,))]
            entry.outputs = [out if out.dtype else out._replace(dtype=g.dtype) for out, g in zip(entry.outputs, made)]
            entry.cotangents = list(made)
            for given in entry.inputs:
                g = gradients[given.position]
                if given.kind != "input" and g is not None:
                    given.gradient = describe(g)

        return watch


def _refusal() -> Exception:
    reason = ("the tensor is a leaf: no operator made it", "このテンソルは葉で、演算の結果ではありません")
    fix = ("pass the loss that was computed from it.", "そこから計算した誤差を渡してください。")
    return error("TG-A003", op="draw", reason=reason, fix=fix)


def _saved_input(node: Any, index: int) -> Any:
    """The value of an input if the node kept it, else None."""
    operator = node.operator
    if not isinstance(operator, Operator):
        return None
    for position, place in operator.saved_inputs:
        if operator.variadic:
            return node.saved[position][index]
        if place == index:
            return node.saved[position]
    return None


def _known_values(nodes: list[Node]) -> dict[int, Any]:
    """Number of a node -> its value, where a node kept it: its own result, or an input of a later one."""
    known: dict[int, Any] = {}
    for node in nodes:
        operator = node.operator
        if not isinstance(operator, Operator):
            continue
        if "y" in operator.saves:
            value = node.saved[operator.saves.index("y")]  # type: ignore[index]
            if value is not None:
                known[node.number] = value
        for index, parent in enumerate(node.parents):
            value = _saved_input(node, index) if parent is not None and parent.number not in known else None
            if parent is not None and value is not None:
                known[parent.number] = value
    return known


def _kept(node: Any) -> list[tuple[str, Value]]:
    """The arrays that the tape keeps for the derivative, by name."""
    if not isinstance(node.operator, Operator):
        return []
    return [(name, describe(value)) for name, value in zip(node.operator.saves, node.saved) if is_array(value)]


# ---- names ---------------------------------------------------------------------------------------


class Names:
    """Names that the user gave to tensors: a Module's parameters, or a dict of name -> Tensor."""

    def __init__(self, given: Any) -> None:
        self.of_node: dict[int, str] = {}
        self.of_array: dict[int, str] = {}
        self.values: dict[str, Any] = {}
        if given is None:
            return
        found = getattr(given, "named_parameters", None)
        pairs = found() if callable(found) else given.items() if isinstance(given, Mapping) else None
        if pairs is None:
            raise _wrong_names(type(given).__name__)
        for name, value in pairs:
            self._add(name, value)

    def _add(self, name: Any, value: Any) -> None:
        if not isinstance(name, str) or type(value) is not Tensor:
            raise _wrong_names(f"{name!r}: {type(value).__name__}")
        self.values[name] = value
        self.of_array[id(value.array)] = name
        if value.node is not None:
            self.of_node[value.node.number] = name


def _wrong_names(value: Phrase) -> Exception:
    rule = ("a Module, or a dict of name -> Tensor", "Module、または「名前: Tensor」の dict")
    fix = ('names=model or names={"W": W, "x": x}.', 'names=model や names={"W": W, "x": x} としてください。')
    return refusal("draw", "names", value, rule, fix)
