"""A copy of a tape, made to be walked and watched: the walk leaves the original as it is, with its saved arrays and every ``grad``. Hooks
of operators and results come along, those of leaves do not.

In the copy, checkpointed parts have been run again, so their operators are on it; recurrent layers can be unrolled into one cell for each
time step; and each use of a value can be given a leaf of its own, so that the gradient through that use alone is seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..backend.arrays import ARRAY_MODULES
from ..core.below import nodes_below
from ..core.modes import enable_grad, modes
from ..core.tape import LEAF, OUTPUT, Leaf, Node, Output, next_number, refuse_changed, run_backward
from ..core.tensor import Tensor
from ..errors import error
from ..ops.gru import gru_cell
from ..ops.recurrent_layer import unroll
from ..ops.rnn import lstm_cell, rnn_cell

# ---- recurrent layers, a cell for each time step -------------------------------------------------


def _unrolled(cell: Callable[..., Any], states: int) -> Callable[..., tuple[Any, ...]]:
    """The text of a recurrent layer in which every time step uses every weight: the layer's own reference projects all inputs at once."""

    def layer(input: Any, *rest: Any, batch_sizes: Sequence[int], reverse: bool, **options: Any) -> tuple[Any, ...]:
        weights = rest[states:]

        def step(x: Any, *state: Any) -> tuple[Any, ...]:
            made = cell(x, *state, *weights, **options)
            return made if states > 1 else (made,)

        return unroll(step, input, rest[:states], batch_sizes, reverse)

    return layer


LAYERS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "rnn_layer": _unrolled(rnn_cell, 1),
    "lstm_layer": _unrolled(lstm_cell, 2),
    "gru_layer": _unrolled(gru_cell, 1),
}
"""name of the operator of a whole recurrent layer -> its unrolled text."""


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """The tape records, in the precision of the operators as they are."""
    before, modes.autocast = modes.autocast, None
    try:
        with enable_grad():
            yield
    finally:
        modes.autocast = before


def _run_unrolled(node: Node) -> list[Node | None]:
    """Run a recurrent layer again as cells; the nodes of its outputs."""
    operator = node.operator
    values = dict(zip(operator.saves, operator.lift(node.saved, node)))
    with _recording():
        outputs = operator.call(LAYERS[operator.name], [values[name] for name in operator.inputs], values)
    return [y.node for y in outputs]


def _run_checkpoint(node: Node) -> list[Node | None]:
    """Run a checkpointed part again; the nodes of its outputs."""
    made: list[Node | None] = [None] * len(node.shape)
    with _recording():
        for inner, index in node.operator.expand(node.saved, tuple(range(len(made)))):
            made[index] = inner
    return made


# ---- the copy ------------------------------------------------------------------------------------


class Use(NamedTuple):
    """One use of the value that the copy is made towards: the leaf that stands for it there, and who uses it as which input."""

    leaf: Leaf
    consumer: str
    input: str


class TapeCopy:
    """A copy of the tape below ``roots``.

    toward: a node; then only what lies on a path to it is copied, and ``uses`` lists its uses in the order in which they ran.
    apart: each of these uses has a leaf of its own, else all have one.
    unroll: recurrent layers become cells.
    Attributes: ``roots``, the copies of the roots, None where a root does not depend on ``toward``; ``nodes``, all copies in the order
    in which they ran; ``copies``, number of an original node -> its copy.
    Raises GradientError for a tape that a backward has freed, or whose leaves were changed since.
    """

    def __init__(self, roots: Iterable[Node], *, toward: Node | None = None, apart: bool = False, unroll: bool = False) -> None:
        roots = list(roots)
        self.toward, self.apart, self.unroll = toward, apart, unroll
        self.nodes: list[Node] = []
        self.uses: list[Use] = []
        self.copies: dict[int, Node] = {}
        self._instead: dict[tuple[int, int], Node | None] = {}
        below = nodes_below(roots)
        for number in sorted(below):
            self._add(below[number])
        self.roots = [self.copies.get(root.number) for root in roots]
        if unroll:
            reached = nodes_below(self.roots)
            self.nodes = [node for node in self.nodes if node.number in reached]

    def _add(self, node: Node) -> None:
        operator = node.operator
        if operator is LEAF:
            if self.toward is None:
                self._keep(node, Leaf(node))
        elif self.toward is not None and node.number == self.toward.number:
            pass  # what lies behind it does not matter
        elif operator is OUTPUT:
            self._add_output(node)
        elif operator.expands or (self.unroll and operator.name in LAYERS):
            self._add_expanded(node)
        else:
            self._add_operator(node)

    def _keep(self, node: Node, copy: Node) -> None:
        self.copies[node.number] = copy
        self.nodes.append(copy)

    def _add_operator(self, node: Node) -> None:
        parents = tuple([self._parent(node, index) for index in range(len(node.parents))])
        if not any([parent is not None for parent in parents]):
            return
        _check(node)
        copy = Node(node.operator, parents, node.saved, node)
        if node.hooks is not None:  # hooks may change gradients; keeping ``grad`` of a result is for the original
            copy.hooks = {"tensor": dict(node.hooks["tensor"]), "operator": dict(node.hooks["operator"]), "retain": False}
        self._keep(node, copy)

    def _add_output(self, node: Any) -> None:
        owner = node.parents[0].number
        if (owner, node.index) in self._instead:
            inner = self._instead[owner, node.index]
            copy = None if inner is None else self.copies.get(inner.number)
            if copy is not None:
                self.copies[node.number] = copy
        elif owner in self.copies:
            part = _part_of_join(self.copies[owner], node.index) if self.unroll else None
            if part is not None:
                self.copies[node.number] = part
            else:
                self._keep(node, Output(self.copies[owner], node.index, node))

    def _add_expanded(self, node: Node) -> None:
        _check(node)
        start = next_number()
        outputs = _run_checkpoint(node) if node.operator.expands else _run_unrolled(node)
        for inner in _made_since(start, outputs):
            self._add(inner)
        for index, output in enumerate(outputs):
            self._instead[node.number, index] = output

    def _parent(self, node: Node, index: int) -> Node | None:
        """The copy of a parent, or a leaf for this use of ``toward``."""
        parent = node.parents[index]
        if parent is None:
            return None
        if self.toward is None or parent.number != self.toward.number:
            return self.copies.get(parent.number)
        leaf = self.uses[0].leaf if self.uses and not self.apart else Leaf(parent)
        self.uses.append(Use(leaf, node.operator.name, node.operator.input_name(index)))
        return leaf


def _part_of_join(split: Node, index: int) -> Node | None:
    """What a layer joins and the next one splits again is one and the same: the node of that part, or None."""
    join = split.parents[0]
    if split.name != "split" or join is None or join.name != "cat" or split.hooks is not None or join.hooks is not None:
        return None
    if tuple([None if part is None else part.shape for part in join.parents]) != split.shape:
        return None
    return join.parents[index]


def _check(node: Node) -> None:
    if node.saved is None:
        raise error("TG-G002", op=node.operator.name)
    refuse_changed(node)


def _made_since(start: int, outputs: Iterable[Node | None]) -> list[Node]:
    """The nodes behind ``outputs`` that are newer than ``start``, in the order in which they were made."""
    seen: dict[int, Node] = {}
    stack = [node for node in outputs if node is not None]
    while stack:
        node = stack.pop()
        if node.number > start and node.number not in seen:
            seen[node.number] = node
            stack.extend([parent for parent in node.parents if parent is not None])
    return [seen[number] for number in sorted(seen)]


def single_root(loss: Any, op: str, argument: str) -> Node:
    """The node of a loss: a Tensor with one element and a history. Raises DtypeError, GradientError where it is something else."""
    if type(loss) is not Tensor:
        raise error("TG-T002", op=op, argument=argument, type=type(loss).__name__)
    if loss.node is None:
        raise error("TG-G005")
    if loss.array.size != 1:
        raise error("TG-G001", shape=tuple(loss.shape))
    return loss.node


def walk_back(root: Node, loss: Any) -> list[tuple[Leaf, Any]]:
    """Walk back through a copy from the node that stands for ``loss``: leaves and their gradients."""
    xp = ARRAY_MODULES[type(loss.array)]
    return run_backward([(root, xp.ones_like(loss.array))], retain_graph=True)
