"""The table of imported operators. A family's file adds its operators with ``imports`` and ``plain``.

An operator of ONNX becomes a function ``f(call, *inputs)``: ``call`` gives the attributes, the version and the limits, an input is a
Tensor (a list for a sequence, None where it was left out), the result one value or a tuple of them. All versions of an operator are in its
one function, which asks ``call.opset`` where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...backend.devices import Device
from ...core.tensor import Tensor
from ...errors import Phrase, error

if TYPE_CHECKING:
    from .import_graph import Graph, Node
    from .import_run import Run

Function = Callable[..., Any]


class Importer(NamedTuple):
    """How an operator runs.

    control: the inputs that set it up (a ratio, a limit, running statistics) and so are never trained. from_source: whether its function
    wants the node's bytes in the file.
    """

    function: Function
    control: tuple[int, ...] = ()
    from_source: bool = False


IMPORTERS: dict[tuple[str, str], Importer] = {}
"""(domain, operator) -> how it runs. The domain of ONNX's own operators is ``""``."""


def imports(
    *names: str, control: Sequence[int] = (), domain: str = "", from_source: bool = False
) -> Callable[[Function], Function]:
    """Enter the decorated function ``f(call, *inputs)`` for these operators."""

    def enter(function: Function) -> Function:
        for name in names:
            IMPORTERS[domain, name] = Importer(function, tuple(control), from_source)
        return function

    return enter


def plain(functions: Mapping[str, Function]) -> None:
    """Enter operators without attributes, whose inputs are those of the function."""
    for name, function in functions.items():
        imports(name)(partial(_without_call, function))


def _without_call(function: Function, call: Call, *inputs: Any) -> Any:
    return function(*inputs)


class Refusal(Exception):
    """A node asks for what it must not or cannot have. The run turns it into an error that names the file and the node."""

    def __init__(self, reason: Phrase) -> None:
        super().__init__(reason if isinstance(reason, str) else reason[0])
        self.reason = reason


class Call:
    """One node at work: what its function may ask."""

    __slots__ = ("node", "opset", "outer", "run")

    def __init__(self, node: Node, run: Run, outer: dict[str, Any]) -> None:
        self.node = node
        self.opset = node.opset
        self.run = run
        self.outer = outer

    def get(self, attribute: str, default: Any = None) -> Any:
        """The value of an attribute: int, float, str, a list of them, an array or a ``Graph``."""
        return self.node.attributes.get(attribute, default)

    @property
    def outputs(self) -> int:
        """How many results the graph has names for."""
        return len(self.node.outputs)

    def wants(self, position: int) -> bool:
        """Whether the graph uses the result at ``position``."""
        return position < len(self.node.outputs) and bool(self.node.outputs[position])

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.run.model.training

    @property
    def device(self) -> Device:
        """Where operators without inputs make their results."""
        return self.run.device

    def allow(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, if a value of this shape is within the limit; else an error, before any memory is taken.

        An empty axis counts as one, since the sum along it has as many elements as the others make.
        """
        shape = tuple([int(n) for n in shape])
        if min(shape, default=0) < 0:
            raise Refusal((f"the shape {shape} has a negative size", f"形状 {shape} に負の大きさがあります"))
        count = math.prod([n or 1 for n in shape])
        limit = self.run.model.max_elements
        if count > limit:
            raise self.too_much(
                ("the number of elements of a value (max_elements)", "値の要素数 (max_elements) "), count, limit
            )
        return shape

    def too_much(self, what: tuple[str, str], value: int, limit: int) -> Exception:
        """The error for a value above a limit."""
        place = self.node.place
        named = (f"{what[0]} in {place}", f"{place} での{what[1]}")
        return error("TG-F008", path=self.run.model.path, what=named, value=value, limit=limit)

    def body(self, attribute: str, inputs: Sequence[Any]) -> list[Any]:
        """Run the graph that is the value of ``attribute``; it sees the values round this node too."""
        graph: Graph = self.get(attribute)
        return self.run.graph(graph, inputs, self.outer)

    def remember(self, position: int, value: Tensor) -> None:
        """Change the model's buffer that is the input at ``position``, if it is one (running statistics)."""
        self.run.remember(self.node.inputs[position], value)


def integers(value: Any) -> list[int]:
    """The numbers in an integer Tensor, flat: a shape, axes, a count."""
    return [int(n) for n in value.reshape(-1).tolist()]


def number(value: Any, default: Any = None) -> Any:
    """The Python number in a Tensor of one element; ``default`` for an input that was left out."""
    return default if value is None else value.reshape(-1)[0].item()


def axes_of(call: Call, given: Any, default: Any = None) -> Any:
    """Axes from the input ``given`` where there is one, else from the attribute ``axes``, as older versions have them."""
    return integers(given) if given is not None else call.get("axes", default)
