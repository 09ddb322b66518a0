"""The table of exported operators: operator of tinygrad_ja -> the function that writes ONNX nodes for it. A family's file fills it.

The names of a function's parameters say what it gets, as with derivatives: ``graph`` first, then arguments of the operator by name (arrays
as ``Value`` of the trace), and ``y``, the result as a Value (a list of them where there are several). It returns the name of the result in
the graph, or one for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.names import names_of
from ...errors import Phrase

if TYPE_CHECKING:
    from ...core.trace import Step
    from .export_graph import Graph

Function = Callable[..., Any]


class Exporter(NamedTuple):
    """How an operator is written. ``when``: which arguments it takes, where not all; others go to the operator's reference."""

    function: Function
    when: Callable[[dict[str, Any]], bool] | None

    def write(self, graph: Graph, step: Step) -> Any:
        """Write the nodes of a step; returns the names of its results."""
        names = names_of(self.function)[1:]
        y = step.outputs if step.operator.several else step.outputs[0]
        given = {**step.arguments, "y": y}
        return self.function(graph, **{name: given[name] for name in names})


EXPORTERS: dict[str, Exporter] = {}
"""Name of an operator -> how it is written."""


def exports(*operators: str, when: Callable[[dict[str, Any]], bool] | None = None) -> Callable[[Function], Function]:
    """Enter the decorated function for these operators."""

    def enter(function: Function) -> Function:
        for name in operators:
            EXPORTERS[name] = Exporter(function, when)
        return function

    return enter


class Refusal(Exception):
    """A step has no ONNX nodes. The export adds the operator and the layer."""

    def __init__(self, reason: Phrase, fix: Phrase) -> None:
        super().__init__(reason if isinstance(reason, str) else reason[0])
        self.reason, self.fix = reason, fix


FROM_18: tuple[Phrase, Phrase] = (
    ("ONNX has it from opset 18 on", "ONNX では opset 18 以降にあります"),
    ("opset_version=18.", "opset_version=18 としてください。"),
)
"""Reason and fix of a Refusal."""
