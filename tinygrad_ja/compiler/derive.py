"""Compiled functions whose results want gradients: a model's forward pass, after which an ordinary ``loss.backward()`` follows.

The recording goes on through the backward of the results, with cotangents that stand for what the caller will send. From its steps two
programs are made: one for the results, one for the gradients. The second computes again what it needs of the first, as a checkpoint does, so
nothing has to be kept between the two but the arguments, random numbers, and state that the first one overwrites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..backend.arrays import ARRAY_MODULES
from ..backend.devices import device_of, move
from ..core.below import nodes_below
from ..core.modes import modes
from ..core.tape import LEAF, Leaf, Node, Output, Outputs, next_number, run_backward
from ..core.tensor import Tensor
from ..core.trace import Value
from ..errors import error
from .marks import Draw

if TYPE_CHECKING:
    from .recording import Recording
    from .signature import Call


class Recorded(NamedTuple):
    """What ``lower`` reads."""

    inputs: list[Value]
    captured: list[Value]
    steps: list[Any]
    outputs: list[Value]
    writes: list[tuple[Value, Value]]


class Derivation:
    """What a recording adds for results that want gradients.

    outputs: their places among the recording's outputs. cotangents: a Value for each. targets: the nodes that get gradients, those of
    ``sources`` (arguments with a history) by their places among the inputs, others as they are. gradients: a Value, or None, for each target.
    homes: the devices of the gradients, where the function computes on two; else None.
    """

    def __init__(self, recording: Recording, results: Sequence[Tensor], places: Sequence[int], inputs: dict[int, int]) -> None:
        self.places = list(places)
        self.start = len(recording.steps)  # of the steps of the backward
        below = nodes_below([y.node for y in results])
        leaves = [node for node in below.values() if node.operator is LEAF and not getattr(node, "frozen", False)]
        cotangents = [recording.argument(ARRAY_MODULES[type(y.array._elements)].ones(y.shape, y.dtype)) for y in results]
        self.cotangents: list[Value] = [g.entry for g in cotangents]
        found: dict[int, Any] = {node.number: None for node in leaves}
        roots = [(y.node, g) for y, g in zip(results, cotangents) if y.node is not None]
        hooks = [(leaf, leaf.hooks) for leaf in leaves]
        for leaf in leaves:  # these run in the caller's backward, on the whole gradient
            leaf.hooks = None
        try:
            run_backward(roots, retain_graph=True, targets=found)
        finally:
            for leaf, held in hooks:
                leaf.hooks = held
        reached = [node for node in leaves if found[node.number] is not None]
        self.targets: list[Node] = [node for node in reached if id(node) not in inputs]
        self.sources = [inputs[id(node)] for node in reached if id(node) in inputs]
        ordered = [*self.targets, *(node for node in reached if id(node) in inputs)]
        gradients = [recording.traced(found[node.number]) for node in ordered]
        self.gradients: list[Value] = [g.entry for g in gradients]
        self.homes = [device_of(g._elements) for g in gradients] if recording.elsewhere else None

    def kept(self, recording: Recording) -> list[Value]:
        """What the second program has to be given of the first: random numbers, and state that the step overwrites."""
        drawn = [step.result for step in recording.steps if isinstance(step.operator, Draw)]
        return [*drawn, *(old for old, _ in recording.writes)]

    def backward(self, recording: Recording, given: Sequence[Value], captured: Sequence[Value]) -> Recorded:
        """The second program: from ``given`` (inputs of the first), what is kept and the cotangents to the gradients."""
        kept = self.kept(recording)
        inputs = [*given, *kept, *self.cotangents]
        known = set(map(id, inputs))
        steps = [step for step in recording.steps if not isinstance(step.operator, Draw)]
        return Recorded(inputs, [v for v in captured if id(v) not in known], steps, self.gradients, [])

    def at_home(self, run: Callable[[list[Any], Any], list[Any]], place: Any) -> Callable[[list[Any], Any], list[Any]]:
        """``run``, a program on one device, with everything brought there and each gradient brought back to where it belongs."""
        homes = self.homes
        if homes is None:
            return run

        def moved(arrays: list[Any], numbers: Any) -> list[Any]:
            return [move(g, home) for g, home in zip(run([move(x, place) for x in arrays], numbers), homes)]

        return moved

    def alike(self, other: Derivation) -> bool:
        """Whether another recording's derivation gives gradients to the same nodes."""
        same = len(self.targets) == len(other.targets) and all([a is b for a, b in zip(self.targets, other.targets)])
        return same and self.places == other.places and self.sources == other.sources


class CompiledOperator:
    """Stands as the operator of a compiled function on the tape: its backward runs the second program."""

    expands = False
    adders: dict[type, Callable[..., None]] = {}  # noqa: RUF012 - never changed
    saves_arrays = True
    kind = "compiled"
    saved_inputs: tuple[Any, ...] = ()
    saves: tuple[str, ...] = ()

    def __init__(self, name: str, run: Callable[[list[Any], Any], list[Any]]) -> None:
        self.name = name
        self._run = run

    def backward(self, saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> list[Any]:
        """The gradients of the targets."""
        given, numbers, moment = saved
        for index, parent in enumerate(parents):  # what is computed again must find the parameters of the first time
            if type(parent) is Leaf and parent.changed > moment:
                raise error("TG-G003", op=self.name, input=self.input_name(index), shape=parent.shape)
        made = self._run([*given, *(g if type(g) is tuple else (g,))], numbers)
        return [None if parent is None else gradient for parent, gradient in zip(parents, made)]

    def differentiate(self, saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
        """Higher orders would need a third program."""
        raise error("TG-P008", name=self.name)

    def lift(self, saved: tuple[Any, ...], node: Any) -> tuple[Any, ...]:
        """The saved values as they are."""
        return saved

    def describe_saved(self, saved: Any) -> Any:
        """For messages."""
        return ("the arguments", "引数")

    def input_name(self, index: int) -> str:
        """For messages."""
        return f"input {index}"


class Passing(CompiledOperator):
    """Stands on the tape for all that an argument was computed with: its backward hands the gradient on to a leaf."""

    def __init__(self) -> None:
        super().__init__("argument", lambda arrays, numbers: arrays)

    def differentiate(self, saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
        """Also of higher orders."""
        return [g]


def below(tensor: Tensor) -> Leaf:
    """Give a Tensor a history that ends in a leaf, and return that."""
    leaf = Leaf(tensor.array)
    tensor.node = Node(Passing(), (leaf,), ([], (), next_number()), tensor.array)
    return leaf


def with_history(
    operator: CompiledOperator, derivation: Derivation, call: Call, arrays: Sequence[Any], saved: tuple[Any, ...]
) -> list[Tensor]:
    """Results with one node of the tape behind those that want gradients. ``arrays``: all results."""
    histories = dict(call.histories)
    parents = [*derivation.targets, *(histories[place].node for place in derivation.sources)]
    made = [Tensor(array) for array in arrays]
    chosen = [arrays[place] for place in derivation.places]
    if modes.record is not None:
        node = modes.record(operator, tuple(parents), (*saved, next_number()), Outputs(chosen))
        for index, place in enumerate(derivation.places):
            made[place] = Tensor(arrays[place], Output(node, index, arrays[place]))
    return made
