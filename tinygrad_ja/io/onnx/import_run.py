"""One forward pass through a graph: values by name, node after node, each let go after its last use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...backend.devices import Device
from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import Phrase, TinygradError, error
from .import_graph import Graph, Node
from .import_table import Call, Refusal

if TYPE_CHECKING:
    from .import_module import OnnxModule


_ALIVE = 4


class Run:
    """What belongs to one forward pass: the model, the device, how many nodes may still run, and how many elements the values have.

    All values that nodes have made and still need may have four times as many elements as one of them.
    """

    def __init__(self, model: OnnxModule, device: Device) -> None:
        self.model = model
        self.device = device
        self.left = model.max_runs
        self.alive = 0

    def graph(self, graph: Graph, inputs: Sequence[Any], outer: dict[str, Any]) -> list[Any]:
        """The outputs of a graph for its inputs; ``outer`` are the values round it."""
        self._spend()
        values = {name: outer[name] for name in graph.captured}
        values.update(graph.fixed)
        for name, (owner, attribute) in graph.places.items():
            values[name] = getattr(owner, attribute)
        values.update(zip([value.name for value in graph.inputs], inputs))
        before = self.alive
        sizes: dict[str, int] = {}
        for node in graph.nodes:
            self.node(node, values, sizes)
        self.alive = before
        return [values[name] if name else None for name in graph.outputs]

    def node(self, node: Node, values: dict[str, Any], sizes: dict[str, int]) -> None:
        """Run one node and enter its results into ``values``, and how many elements they have into ``sizes``."""
        self._spend()
        inputs = [values[name] if name else None for name in node.inputs]
        results = self._results(node, inputs, values)
        for name, result in zip(node.outputs, results):
            if name:
                values[name] = result
                sizes[name] = result.numel() if type(result) is Tensor else 0
                self.alive += sizes[name]
        if self.alive > _ALIVE * self.model.max_elements:
            what = (f"the number of elements of all values after {node.place}", f"{node.place} の後のすべての値の要素数")
            raise error("TG-F008", path=self.model.path, what=what, value=self.alive, limit=_ALIVE * self.model.max_elements)
        for name in node.last:
            values.pop(name, None)
            self.alive -= sizes.pop(name, 0)

    def _spend(self) -> None:
        """Count a node, or a round of a graph, so that a pass ends."""
        self.left -= 1
        if self.left < 0:
            what = ("the number of nodes run in one pass (max_runs)", "1 回の実行で動くノードの数 (max_runs) ")
            limit = self.model.max_runs
            raise error("TG-F008", path=self.model.path, what=what, value=f"> {limit}", limit=limit)

    def _results(self, node: Node, inputs: list[Any], values: dict[str, Any]) -> tuple[Any, ...]:
        try:
            made = node.importer.function(Call(node, self, values), *inputs)
        except TinygradError as failure:
            if failure.code in ("TG-F008", "TG-F011", "TG-F012"):
                raise  # it names the file and the node already
            raise self._failed(node, str(failure)) from failure
        except Refusal as refusal:
            raise self._failed(node, refusal.reason) from None
        except Exception as failure:  # a foreign graph can ask for anything; the user learns which node it was
            raise self._failed(node, f"{type(failure).__name__}: {failure}") from failure
        results = made if isinstance(made, tuple) else (made,)
        if len(results) < len(node.outputs):
            raise self._failed(node, (f"it has {len(results)} results", f"結果は {len(results)} 個です"))
        return results

    def _failed(self, node: Node, reason: Phrase) -> TinygradError:
        return error("TG-F012", path=self.model.path, node=node.place, reason=reason)

    def remember(self, name: str, value: Tensor) -> None:
        """Give the buffer that holds the constant ``name`` of the model's graph a new value."""
        place = self.model.graph.places.get(name)
        if place is not None:
            with no_grad():
                getattr(*place).copy_(value)
