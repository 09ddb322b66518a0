"""From the bytes of an ONNX file to a checked ``Graph``: what a graph is, and the reader that refuses what is not one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...errors import Phrase, StateError, error
from ..files import damaged
from .import_table import IMPORTERS, Call, Importer
from .import_tensor import Fault, NoSuchType, declared_bytes, dtype_of, read_tensor

OLDEST_OPSET = 6
_DEPTH = 32
_LONGEST_NAME, _LONGEST_LIST = 100, 1500  # characters in an error

Scopes = list[set[str]]
"""Names of values, those of the innermost graph last."""


class Value(NamedTuple):
    """A declared input: its dtype and shape, None where the file leaves them open. A size is an int, or a str or None when it is free."""

    name: str
    dtype: np.dtype | None
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        shape = "" if self.shape is None else str(tuple(self.shape)).replace("'", "").replace("None", "?")
        return " ".join([part for part in (self.name, str(self.dtype or ""), shape) if part])


@dataclass
class Node:
    """One operator of a graph.

    place: how errors call it. last: the values that nobody needs after it. source: its bytes in the file, where its definition needs them.
    """

    op_type: str
    domain: str
    opset: int
    place: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    importer: Importer
    last: tuple[str, ...] = ()
    source: bytes = b""
    definitions: dict[Any, Graph] = field(default_factory=dict)

    def graphs(self) -> Iterable[Graph]:
        """The graphs among the attributes: branches and bodies."""
        for value in self.attributes.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Graph):
                    yield item


@dataclass
class Graph:
    """A list of nodes in the order in which they run.

    stored: name -> array of each constant of this graph. trained: the names among them that are initializers, which may be trained.
    captured: the names that come from round this graph. places: name -> where the model keeps the constant, filled in by the model.
    fixed: constants that no model keeps, those of a definition, as Tensors. An output "" is not wanted.
    """

    name: str
    inputs: list[Value]
    outputs: list[str]
    nodes: list[Node]
    stored: dict[str, np.ndarray]
    trained: set[str]
    captured: set[str] = field(default_factory=set)
    fixed: dict[str, Any] = field(default_factory=dict)
    places: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def all(self) -> Iterator[Graph]:
        """This graph and all in it, each once, although functions may share the bodies that they call."""
        waiting = [self]
        seen = {id(self)}
        while waiting:
            graph = waiting.pop()
            yield graph
            for node in graph.nodes:
                for inner in node.graphs():
                    if id(inner) not in seen:
                        seen.add(id(inner))
                        waiting.append(inner)


class Reader:
    """Reads the graphs of one file. ``read`` is the door; everything that is wrong becomes a StateError with the file and the place."""

    def __init__(
        self, path: str, folder: str, opsets: Mapping[str, int], functions: Iterable[Any], max_nodes: int, max_bytes: int
    ) -> None:
        self.path = path
        self.folder = folder
        self.opsets = opsets
        self.functions = {(function.domain, function.name): function for function in functions}
        self.max_nodes = max_nodes
        self.max_bytes = max_bytes
        self.nodes = 0
        self.bytes = 0
        self.depth = 0
        self.control: set[str] = set()
        self.unknown: set[str] = set()
        self.bodies: dict[Any, Graph] = {}

    def damage(self, place: str, fault: Phrase) -> StateError:
        """The error for a fault at a place of the file."""
        english, japanese = fault if isinstance(fault, tuple) else (fault, fault)
        return damaged(
            self.path, "ONNX", (f"{place}: {english}" if place else english, f"{place}: {japanese}" if place else japanese)
        )

    def read(self, proto: Any) -> Graph:
        """The graph of the model. Raises StateError: TG-F005 for a fault, TG-F011 for all operators and types that cannot be imported."""
        graph = self.graph(proto, [])
        self.refuse_unknown()
        return graph

    def refuse_unknown(self) -> None:
        """Raise the error that lists every operator and type met so far that cannot be imported."""
        if self.unknown:
            names = ", ".join([name[:_LONGEST_NAME] for name in sorted(self.unknown)])
            raise error("TG-F011", path=self.path, missing=names[:_LONGEST_LIST])

    # ---- graphs

    def graph(self, proto: Any, outside: Scopes) -> Graph:
        """A graph whose nodes may also use the names ``outside`` of it."""
        place = f"graph {proto.name!r}"
        self._go_deeper(place)
        if proto.sparse_initializer:
            raise self.damage(place, ("sparse initializers are not supported", "疎な初期値には対応していません"))
        stored = self._initializers(proto.initializer)
        trained = set(stored)
        inputs = [self._value(value) for value in proto.input if value.name not in stored]
        names = self._unique(place, [value.name for value in inputs], set(stored))
        scopes = [*outside, names]
        nodes = self._nodes(proto.node, scopes, stored)
        outputs = [value.name for value in proto.output]
        self._require(place, outputs, scopes)
        self.depth -= 1
        return _finished(Graph(proto.name, inputs, outputs, nodes, stored, trained))

    def function(self, proto: Any, attributes: Mapping[str, Any], wanted: Iterable[str]) -> Graph:
        """The body of a function of the file, or of the standard, for a node with these attributes and outputs; "" is not wanted."""
        place = f"function {proto.name!r}"
        self._go_deeper(place)
        stored: dict[str, np.ndarray] = {}
        names = self._unique(place, self._names(place, proto.input), set())
        defaults = {attribute.name: attribute for attribute in proto.attribute_proto}
        bound = {name: self._attribute(place, value, [], {}) for name, value in defaults.items()} | dict(attributes)
        opsets = self.opsets
        self.opsets = {**opsets, **{entry.domain: entry.version for entry in proto.opset_import}}
        nodes = self._nodes(proto.node, [names], stored, bound)
        self.opsets = opsets
        outputs = [name if used else "" for name, used in zip(self._names(place, proto.output), wanted)]
        self._require(place, [name for name in outputs if name], [names])
        self.depth -= 1
        inputs = [Value(name, None, None) for name in proto.input]
        return _finished(Graph(proto.name, inputs, outputs, nodes, stored, set()))

    def definition(self, node: Any, body: Any) -> Graph:
        """The standard's definition ``body`` of a node's operator, with the attributes of the node."""
        attributes = {item.name: self._attribute(node.name, item, [], {}) for item in node.attribute}
        graph = self.function(body, attributes, node.output)
        self.refuse_unknown()
        return graph

    def _go_deeper(self, place: str) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.damage(
                place, (f"graphs lie more than {_DEPTH} deep in each other", f"グラフの入れ子が {_DEPTH} を超えています")
            )

    def _unique(self, place: str, names: list[str], taken: set[str]) -> set[str]:
        for name in names:
            if name in taken or not name:
                raise self.damage(place, (f"two values are called {name!r}", f"{name!r} という名前の値が 2 つあります"))
            taken.add(name)
        return taken

    def _names(self, place: str, names: Iterable[Any]) -> list[str]:
        """A list of names; protobuf hands over those that are not UTF-8 as bytes."""
        names = list(names)
        if any([not isinstance(name, str) for name in names]):
            raise self.damage(place, ("a name that is not UTF-8 text", "UTF-8 ではない名前があります"))
        return names

    def _require(self, place: str, wanted: Iterable[str], scopes: Scopes) -> None:
        for name in wanted:
            if not any([name in scope for scope in scopes]):
                raise self.damage(
                    place,
                    (
                        f"uses the value {name!r}, which nothing before it makes",
                        f"値 {name!r} を使っていますが、それより前で作られていません",
                    ),
                )

    def _initializers(self, protos: Iterable[Any]) -> dict[str, np.ndarray]:
        stored: dict[str, np.ndarray] = {}
        names: set[str] = set()
        for tensor in protos:
            self._unique("", [tensor.name], names)
            stored[tensor.name] = self._tensor(f"initializer {tensor.name!r}", tensor)
        return stored

    def _tensor(self, place: str, tensor: Any) -> np.ndarray:
        try:
            self.bytes += declared_bytes(tensor)
            if self.bytes > self.max_bytes:
                what = ("the number of bytes of its constants", "定数のバイト数")
                raise error("TG-F008", path=self.path, what=what, value=self.bytes, limit=self.max_bytes)
            return read_tensor(tensor, self.folder)
        except NoSuchType as missing:
            self.unknown.add(str(missing))
            return np.zeros(0)
        except Fault as fault:
            raise self.damage(place, fault.phrase) from None

    def _dtype(self, number: int) -> np.dtype | None:
        """The dtype with ONNX's number, None for none; one that is not here is noted."""
        try:
            return dtype_of(number) if number else None
        except NoSuchType as missing:
            self.unknown.add(str(missing))
            return None

    def _value(self, proto: Any) -> Value:
        kind = proto.type.WhichOneof("value")
        if kind != "tensor_type":
            return Value(proto.name, None, None)
        described = proto.type.tensor_type
        dtype = self._dtype(described.elem_type)
        if not described.HasField("shape"):
            return Value(proto.name, dtype, None)
        sizes = [getattr(axis, axis.WhichOneof("value") or "", None) for axis in described.shape.dim]
        return Value(proto.name, dtype, tuple([None if isinstance(n, int) and n <= 0 else n for n in sizes]))

    # ---- nodes

    def _nodes(
        self,
        protos: Iterable[Any],
        scopes: Scopes,
        stored: dict[str, np.ndarray],
        bound: Mapping[str, Any] | None = None,
    ) -> list[Node]:
        """The nodes in order; the innermost scope grows by their outputs, ``stored`` by the values of Constant nodes."""
        nodes: list[Node] = []
        for number, proto in enumerate(protos):
            self.nodes += 1
            if self.nodes > self.max_nodes:
                what = ("the number of its nodes", "ノードの数")
                raise error("TG-F008", path=self.path, what=what, value=f"> {self.max_nodes}", limit=self.max_nodes)
            node = self._node(proto, number, scopes, bound or {})
            self._unique(node.place, [name for name in node.outputs if name], scopes[-1])
            constant = node.attributes.get("value") if node.op_type == "Constant" and not node.domain else None
            if isinstance(constant, np.ndarray) and len(node.outputs) == 1:
                stored[node.outputs[0]] = constant
            else:
                nodes.append(node)
        return nodes

    def _node(self, proto: Any, number: int, scopes: Scopes, bound: Mapping[str, Any]) -> Node:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        place = f"node {proto.name!r} ({proto.op_type})" if proto.name else f"node {number} ({proto.op_type})"
        inputs, outputs = self._names(place, proto.input), self._names(place, proto.output)
        self._require(place, [name for name in inputs if name], scopes)
        attributes = {}
        for attribute in proto.attribute:
            if attribute.ref_attr_name and attribute.ref_attr_name not in bound:
                continue  # the caller left it out, so the operator's default holds
            attributes[attribute.name] = self._attribute(place, attribute, scopes, bound)
        opset = self._opset(place, domain, proto)
        importer = self._importer(place, proto, domain, opset, attributes)
        self.control |= {inputs[i] for i in importer.control if i < len(inputs)}
        node = Node(proto.op_type, domain, opset, place, inputs, outputs, attributes, importer)
        if importer.from_source:
            node.source = proto.SerializeToString()
        return node

    def _opset(self, place: str, domain: str, proto: Any) -> int:
        if domain in self.opsets:
            return self.opsets[domain]
        if (proto.domain, proto.op_type) in self.functions:
            return 1
        shown = domain or "ai.onnx"
        raise self.damage(
            place, (f"the file states no version of the domain {shown!r}", f"ドメイン {shown!r} の版が書かれていません")
        )

    def _importer(self, place: str, proto: Any, domain: str, opset: int, attributes: dict[str, Any]) -> Importer:
        function = self.functions.get((proto.domain, proto.op_type))
        if function is not None:
            body = self._body(function, attributes, tuple(proto.output))
            attributes.clear()
            attributes["body"] = body
            return Importer(_call_function)
        known = IMPORTERS.get((domain, proto.op_type))
        if known is None:
            self.unknown.add(f"{proto.op_type} ({domain or 'ai.onnx'} {opset})")
            return Importer(lambda call, *inputs: None)
        self._check_against_schema(place, proto, domain, opset, attributes)
        return known

    def _body(self, function: Any, attributes: dict[str, Any], wanted: tuple[str, ...]) -> Graph:
        """The body of a function of the file; nodes without attributes share one."""
        key = function.domain, function.name, tuple([bool(name) for name in wanted])
        if attributes:
            return self.function(function, attributes, wanted)
        if key not in self.bodies:
            self.bodies[key] = self.function(function, attributes, wanted)
        return self.bodies[key]

    def _check_against_schema(self, place: str, proto: Any, domain: str, opset: int, attributes: Mapping[str, Any]) -> None:
        """The number of inputs and outputs and the names and types of attributes have to be those that the standard states."""
        schema = _schema(proto.op_type, opset, domain)
        if schema is None:
            self.unknown.add(f"{proto.op_type} ({domain or 'ai.onnx'} {opset})")
            return
        for what, given, least, most in (
            (("inputs", "入力"), len(proto.input), schema.min_input, schema.max_input),
            (("outputs", "出力"), len(proto.output), schema.min_output, schema.max_output),
        ):
            if not least <= given <= most:
                english = f"{given} {what[0]}, but the operator has {least} to {most}"
                raise self.damage(place, (english, f"{what[1]}が {given} 個ですが、この演算では {least} から {most} 個です"))
        for attribute in proto.attribute:
            described = schema.attributes.get(attribute.name)
            if described is None or int(described.type.value) != attribute.type:
                name = attribute.name
                english = f"the operator has no attribute {name!r} of this type"
                raise self.damage(place, (english, f"この演算にこの型の属性 {name!r} はありません"))
        missing = [name for name, known in schema.attributes.items() if known.required and name not in attributes]
        if missing:
            raise self.damage(place, (f"the attribute {missing[0]!r} is missing", f"属性 {missing[0]!r} がありません"))

    def _attribute(self, place: str, proto: Any, scopes: Scopes, bound: Mapping[str, Any]) -> Any:
        """int, float, str, array, ``Graph``, or a list of them; None for a type."""
        if proto.ref_attr_name:
            return bound[proto.ref_attr_name]
        kind = _ATTRIBUTES.get(proto.type)
        if kind is None:
            raise self.damage(
                place,
                (
                    f"the attribute {proto.name!r} has a type that is not supported",
                    f"属性 {proto.name!r} の型には対応していません",
                ),
            )
        value = getattr(proto, kind)
        if kind == "i" and proto.name in _DTYPE_ATTRIBUTES:
            self._dtype(value)
        if kind in ("f", "i"):
            return value
        if kind in ("floats", "ints"):
            return list(value)
        if kind == "s":
            return value.decode()
        if kind == "strings":
            return [item.decode() for item in value]
        if kind == "t":
            return self._tensor(place, value)
        if kind == "tensors":
            return [self._tensor(place, item) for item in value]
        if kind == "g":
            return self.graph(value, scopes)
        if kind == "graphs":
            return [self.graph(item, scopes) for item in value]
        return None


def _call_function(call: Call, *inputs: Any) -> Any:
    return tuple(call.run.graph(call.get("body"), inputs, {}))


@lru_cache(4096)
def _schema(name: str, opset: int, domain: str) -> Any:
    """What the standard states about an operator, None if it has none of this name and version."""
    import onnx

    try:
        return onnx.defs.get_schema(name, opset, domain)
    except onnx.defs.SchemaError:
        return None


_DTYPE_ATTRIBUTES = {"dtype", "output_datatype", "output_dtype", "precision", "softmax_precision", "stash_type", "to"}
_ATTRIBUTES = {
    1: "f",
    2: "i",
    3: "s",
    4: "t",
    5: "g",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
    13: "tp",
}


def _finished(graph: Graph) -> Graph:
    """The graph with what it captures, and after each node the names that may go."""
    made = {value.name for value in graph.inputs} | set(graph.stored)
    needed = set(graph.outputs)
    for node in graph.nodes:
        made |= set(node.outputs)
    for node in reversed(graph.nodes):
        used = {name for name in node.inputs if name}
        for inner in node.graphs():
            used |= inner.captured
        node.last = tuple(sorted(((used | set(node.outputs)) & made) - needed))
        needed |= used
    graph.captured = needed - made - {""}
    return graph
