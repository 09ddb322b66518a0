"""``Run``: all that is known of one recorded call."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import BY_TYPE
from ..backend.devices import move
from ..core.below import nodes_below
from ..core.nested import found, mapped
from ..core.tape import Leaf
from ..core.tensor import Tensor
from ..core.trace import Value, read_by
from ..core.traced import Traced
from ..errors import Phrase
from .arguments import Arguments, Settling, items_of, object_attributes, slots_in
from .derive import CompiledOperator, Derivation, with_history
from .executors import PlainExecutor
from .links import Link, State
from .lower import lower
from .owned import LOOKS_INTO, overlap, owner_of
from .reach import MOST, Reach
from .recording import Held, Recording, is_leaf, plain_copy
from .signature import Call


class Result(NamedTuple):
    """Stands in what the function returned for one of the program's results; ``tensor``: as a Tensor or as a bare array."""

    place: int
    tensor: bool


class Made(NamedTuple):
    """Stands in what the function returned for a new object: its class, and its attributes."""

    kind: type
    attributes: dict[str, Any]


class Store(NamedTuple):
    """An attribute, or an item, that the step gave another Tensor: where, and a Value of it. moved: that Tensor, if it was there before, in
    another's place."""

    link: Link
    value: Value
    moved: Tensor | None = None


class Run:
    """One recorded call: the recording, what the function could reach, and what it left behind.

    refusal: why no program can be made from it, or None. eager: whether later calls need not be recorded either.
    """

    def __init__(self, call: Call, reach: Reach, recording: Recording) -> None:
        self.key, self.brought = call.key, len(call.arrays)
        self.layouts = layouts_of(call.arrays)
        self.reach, self.recording = reach, recording
        self.refusal: Phrase | None = None
        self.eager = False
        self.stores: list[Store] = []
        self.unsteady: list[str] = []
        self.absent: list[Leaf] = []
        """Leaves that had no gradient before, and that a backward reached or that were asked for one."""
        self.present: list[tuple[Leaf, int]] = []
        """Leaves that were asked for the gradient that they had before, and its id."""
        self.structure: Any = None
        self.entangled: Any = None
        """What the function returned, if that is an object that no program can make anew."""
        self.outputs: list[Value] = []
        self.changes_arguments = False
        self.backward_changes = False
        """Whether the backward of the results changes something, as hooks may, and a checkpoint that runs again."""
        self.changes: Any = []
        """Where the function has put Tensors into containers among its arguments, and which."""
        self.others: list[tuple[int, Result]] = []
        """Places of Tensors among the arguments that get other arrays in place, and which."""
        self.leaves: list[tuple[int, Result | None]] = []
        """Places of Tensors among the arguments that the function has let want gradients, and those."""
        self.traced: list[Traced] = []
        self.made: list[Any] = []
        self._results: dict[int, Result] = {}
        self._settled: dict[int, Any] = {}
        self._grads: dict[int, tuple[Leaf, Tensor | None]] = {}
        self._random = random.getstate(), _state_of_numpy()

    def refuse(self, reason: Phrase, eager: bool = False) -> None:
        """No program can be made of this run."""
        self.refusal, self.eager = reason, eager

    def note_gradients(self, grads: dict[int, tuple[Leaf, Tensor | None]]) -> None:
        """What ``grad`` of each leaf was before."""
        self._grads = dict(grads)

    def note_containers(self, arguments: Arguments) -> None:
        """After the run: whether the function has changed containers among its arguments in a way that no program can repeat."""
        reached, recording = self.reach.tensors, self.recording
        changed = arguments.changed(lambda x: id(x) in reached or recording.holds(x))
        given = set(map(id, arguments.objects))
        if changed is None:
            changed = next((container for container, _ in self.reach.resized() if id(container) in given), None)
        if changed is not None:
            name = next(kind.__name__ for kind in (dict, list, deque, set) if isinstance(changed, kind))
            self.refuse((f"it changes a {name} that it was given", f"引数として渡された {name} を変更しています"), eager=True)
            self.changes_arguments = True

    def settle_links(self) -> None:
        """After the run: bring what the step stored in attributes and items back to real arrays, and note what it changed."""
        recording = self.recording
        held = {id(h.tensor): h.traced_value for h in recording.held}
        settling = Settling(self.real, {}, False, dict(self.reach.known))
        for link in self.reach.changed():
            now = link.now()
            if isinstance(now, Tensor) and recording.holds(now):
                self.stores.append(Store(link, now.array.entry))
                link.put(recording.settled(now))
            elif isinstance(now, Tensor) and now.node is None and id(now) in held:  # one that was there, in another's place
                self.stores.append(Store(link, held[id(now)], now))
            else:
                self.unsteady.append(link.path)
                link.put(settling.of(now) if not self._holds(now) else recording.settled(now))
        for container, path in self.reach.resized():
            self.unsteady.append(path)
            if isinstance(container, set):
                parts = [settling.of(part) for part in container]
                container.clear()
                container.update(parts)
            keys = range(len(container)) if isinstance(container, (list, deque)) else list(container)
            for key in keys if not isinstance(container, set) else ():
                if self._holds(container[key]):
                    container[key] = recording.settled(container[key])
        written = [*(value.array for value, _ in recording.writes), *recording.memory.written]
        self.unsteady += [state.path for state in self.reach.moved() if not is_one_of(state.owner, written)]
        self.unsteady += recording.rates.by_hand()
        before = [(leaf, seen, self._grads.get(id(leaf), (leaf, None))[1]) for leaf, seen in recording.asked.values()]
        self.present = [(leaf, id(seen)) for leaf, seen, was in before if seen is not None and seen is was]
        absent = {**recording.reached, **{id(leaf): leaf for leaf, seen, _ in before if seen is None}}
        self.absent = [leaf for leaf in absent.values() if self._grads.get(id(leaf), (leaf, None))[1] is None]
        recording.asked.clear()
        reason = self._reason()
        if reason is not None and self.refusal is None:
            self.refuse(reason, eager=True)

    def has_effects(self) -> bool:
        """Whether the function has changed anything that another run of it would find."""
        recording = self.recording
        arrays = [recording.writes, recording.renewals, recording.argument_writes, self.stores]
        python = [recording.numbers.actions, recording.afterwards, self.unsteady]
        return any(map(bool, [*arrays, *python])) or any([g.value is not None for g in recording.gradients])

    def refuse_overlaps(self) -> None:
        """Refuse a run that writes into an array a part of which it reads as another array: a view of a parameter, say, after the update."""
        recording = self.recording
        written = {id(value): value.array for value, _ in recording.writes}
        owners = {id(owner_of(array)) for array in written.values()}
        others = [value for value in recording.captured if id(value) not in written and id(owner_of(value.array)) in owners]
        if not others:
            return
        ends = [*recording.outputs, *(v for _, v in recording.writes), *(store.value for store in self.stores)]
        read = read_by(recording.steps) | set(map(id, ends))
        for array in written.values():
            if any([id(other) in read and overlap(array, other.array) for other in others]):
                self.refuse(LOOKS_INTO, eager=True)
                return

    def _holds(self, value: Any) -> bool:
        """Whether something that the step stored is of this recording, or has such things in it."""
        return any(map(self.recording.holds, found(value, Tensor, Traced)))

    def _reason(self) -> tuple[str, str] | None:
        """Why the function is not to be recorded at all, or None."""
        if not self.reach.complete:
            return f"it can reach more than {MOST:,} values", f"{MOST:,} 個を超える値に手が届きます"
        if self._drew_elsewhere() or any([not source.holds() for source in self.reach.random]):
            return "it draws random numbers of Python or NumPy", "Python または NumPy の乱数を使っています"
        if self.recording.seeded:
            return "it reads or sets the state of random numbers", "乱数の状態を読むか、設定しています"
        if self.recording.chosen:
            name = {"getitem": "x[mask]", "argwhere": "nonzero"}[self.recording.chosen]
            return f"the shape of {name} depends on values", f"{name} の形状が値によって変わります"
        if self.recording.moves_rates and self.recording.reads_rates():
            reading = "it reads a learning rate or a scale, and lets the schedule or the scaler go on as well"
            return reading, "学習率やスケールを読み、そのスケジュールやスケーラーも進めています"
        if self.reach.counts and self.recording.reads_counts(self.reach.counts):
            return "it reads a number in the state of an optimizer", "optimizer の状態にある数を読んでいます"
        called = self.recording.witness.called(self.recording.sources.codes.values())
        return (
            None
            if called is None
            else (f"it calls {called}, whose result may differ", f"結果が毎回変わり得る {called} を呼んでいます")
        )

    def _drew_elsewhere(self) -> bool:
        state, (key, position) = self._random
        now = _state_of_numpy()
        return state != random.getstate() or position != now[1] or not np.array_equal(key, now[0])

    def derive(self, made: Any, arguments: Arguments) -> None:
        """While the recording is still open: what ``made`` and the containers among the arguments hold, what Tensors that the call brings
        have become, and the gradients of results that want some."""
        recording, reached = self.recording, self.reach.tensors
        wanting: list[tuple[int, Tensor]] = []

        def note(x: Any) -> Any:
            if id(x) in reached:
                return x
            array = x.array if type(x) is Tensor else x
            if type(x) is Tensor and x.node is None and type(array) is recording.array_type:  # made of nothing that is traced
                array = recording.capture(array)
            elif not recording.holds(x):
                return x
            known = self._results.get(id(x))
            if known is None:
                known = self._results[id(x)] = Result(len(self.outputs), type(x) is Tensor)
                if type(x) is Tensor and x.node is not None and not _freed(x.node):
                    wanting.append((known.place, x))
                self.traced.append(array)
                self.outputs.append(array.entry)
            return known

        taken_apart = self._taken_apart(made)
        if self.entangled is None:
            self.structure = rebuilt(taken_apart, _is_tensor_or_array, note)
        else:
            self.entangled = made
            self._settle(made, lambda x: (note(x), x)[1])
        if self.refusal is None:
            self.changes = rebuilt(arguments.changes(), _is_tensor_or_array, note)
        for x in arguments.new():
            note(x)
        self.others = [(i, note(x)) for i, x in recording.with_other_arrays(arguments.given)]
        new_leaves = [(i, x) for i, (x, _) in enumerate(arguments.given) if type(x) is Tensor and is_leaf(x)]
        self.leaves = [(i, None if x.grad is None else note(x.grad)) for i, x in new_leaves]
        recording.outputs = list(self.outputs)
        if wanting:
            places, tensors = zip(*wanting)
            before, sizes = self._moment()
            recording.derivation = Derivation(recording, tensors, places, {id(leaf): i for i, leaf in recording.ends.items()})
            after = self._moment()
            if sizes != after[1] or any([a is not b for a, b in zip(before, after[0])]):
                self._take_back(before)
                reason = "its backward changes what the function reaches", "逆伝播が、関数から手の届くものを書き換えます"
                self.refuse(reason, eager=True)
                self.backward_changes = True

    def _moment(self) -> tuple[list[Any], list[int]]:
        """What a backward may change: what links lead to, and values of Tensors that the function reaches; and the sizes of containers."""
        values = [value for held in self.recording.held for value in (held.tensor.array, held.traced.entry)]
        return [*[link.now() for link in self.reach.links], *values], [len(container) for container, *_ in self.reach.sizes]

    def _take_back(self, before: list[Any]) -> None:
        """Let links lead to where they led, and containers hold what they held."""
        for link, value in zip(self.reach.links, before):
            if link.now() is not value:
                link.put(value)
        for container, _ in self.reach.resized():
            if isinstance(container, (dict, list)):
                known = {link.key for link in self.reach.links if link.container is container}
                for key in [key for key, _ in reversed(items_of(container)) if key not in known]:
                    del container[key]

    def _taken_apart(self, value: Any, above: tuple[int, ...] = ()) -> Any:
        """What the function returned, with ``Made`` in place of new objects that hold something of the recording. above: ids of what holds
        ``value``."""
        if id(value) in above:
            self._entangle(
                value, ("it returns an object that leads back to itself", "自分自身をたどれるオブジェクトを返しています")
            )
            return value
        above = (*above, id(value))
        if type(value) in (list, tuple):
            return type(value)([self._taken_apart(part, above) for part in value])
        if type(value) is dict:
            return {name: self._taken_apart(part, above) for name, part in value.items()}
        if type(value) in (Tensor, Traced) or id(value) in self.reach.known or dataclasses.is_dataclass(value):
            return value
        attributes = object_attributes(value)
        if attributes is None:
            if any([self._holds(part) for _, part in slots_in(value)]):
                self._entangle(value, ("it returns an object with __slots__", "__slots__ のあるオブジェクトを返しています"))
            return value
        parts = {name: self._taken_apart(part, above) for name, part in attributes.items()}
        return Made(type(value), parts) if self._holds(list(parts.values())) or any(found(parts, Made)) else value

    def _entangle(self, value: Any, reason: Phrase) -> None:
        self.entangled = value
        self.refuse(reason, eager=True)

    def _settle(self, value: Any, real: Callable[[Any], Any]) -> Any:
        return Settling(real, {}, False, dict(self.reach.known)).of(value)

    def results(self, call: Call) -> Any:
        """What the function returned, for the caller. Tensors that the call brought get what they have become."""
        if self.recording.derivation is not None:
            self.made = self._with_history(call)
        else:
            arrays = [plain_copy(traced) for traced in self.traced]
            self.made = [Tensor(array) if is_tensor else array for array, is_tensor in zip(arrays, self.is_tensor)]
        self._go_on_below(call)
        self.leave(call, self.made)
        if self.entangled is not None:
            return self._settle(self.entangled, self.real)
        return rebuilt(self.structure, lambda x: type(x) is Result, lambda x: self.made[x.place], whole=True)

    def leave(self, call: Call, made: Sequence[Any]) -> None:
        """Let Tensors that the call brought become what the function made of them; ``made``: all results."""
        for place, result in self.others:
            take_over(call.holders[place], made[result.place])
        for place, gradient in self.leaves:
            call.holders[place].requires_grad_()
            call.holders[place].grad = None if gradient is None else made[gradient.place]

    def _go_on_below(self, call: Call) -> None:
        """Where the function has called ``backward`` and that came to an argument with a history: go on there, as no program does."""
        for place, leaf in self.recording.ends.items():
            if leaf.grad is not None:
                call.holders[place].backward(self.recording.settled(leaf.grad), retain_graph=True)
                self.refuse(
                    ("its backward goes on behind an argument", "逆伝播が、引数を計算したところまでさかのぼります"), eager=True
                )

    @property
    def is_tensor(self) -> list[bool]:
        """Which of the results are Tensors, and not bare arrays."""
        return [result.tensor for result in self._results.values()]

    def real(self, x: Any) -> Any:
        """What the caller gets in place of something of this recording; where the function has failed, without its history."""
        known = self._results.get(id(x))
        if known is not None and self.made:
            return self.made[known.place]
        if id(x) in self.reach.tensors or not self.recording.holds(x):
            return x
        known = self._settled.get(id(x))
        if known is None:
            known = self._settled[id(x)] = self.recording.settled(x)
        return known

    def _with_history(self, call: Call) -> list[Any]:
        """The results of the recorded call, as it is but for the arrays: their backward interprets this recording."""
        recording, derivation = self.recording, self.recording.derivation
        kept = recording.kept_elements()
        inputs = recording.inputs[: len(call.arrays)]
        program, numbers = lower(derivation.backward(recording, inputs, recording.captured))
        if recording.elsewhere:
            for held in (program.constants, program.state):
                held.update({a: move(x, recording.place) for a, x in held.items()})
        executor = PlainExecutor(program, recording.xp)
        values = recording.numbers.function([n.source for n in numbers])()
        operator = CompiledOperator("compiled", derivation.at_home(executor.run, recording.place))
        arrays = [traced._elements for traced in self.traced]
        tensors = with_history(operator, derivation, call, arrays, ([*call.arrays, *kept], values))
        return [x if is_tensor else x.array for x, is_tensor in zip(tensors, self.is_tensor)]

    def let_go(self) -> None:
        """When the caller has its results: hold no memory that no program will read."""
        gone = self.recording.let_go([gradient for _, gradient in self._grads.values() if gradient is not None])
        self._grads = {key: (leaf, g) for key, (leaf, g) in self._grads.items() if g is not None and id(g) not in gone}
        self.traced.clear()
        self.made.clear()
        self.entangled = None
        self._settled.clear()

    def holder(self, array: Any) -> Held | None:
        """The Tensor that held this array while the run was recorded."""
        return next((held for held in self.recording.held if held.array is array), None)

    def leaf_of_gradient(self, tensor: Tensor) -> Leaf | None:
        """The leaf whose ``grad`` this Tensor was before the run."""
        return next((leaf for leaf, gradient in self._grads.values() if gradient is tensor), None)

    def link_to(self, tensor: Tensor) -> Link | None:
        """A link that leads to this Tensor."""
        return next((link for link in self.reach.links if link.value is tensor), None)

    def values(self, rates: bool) -> dict[str, Any]:
        """Path -> value of all links; those to learning rates too, if the function reads them."""
        return {link.path: link.value for link in (*self.reach.links, *(self.reach.rates if rates else ()))}

    def counts(self) -> list[State]:
        """What the function reads of schedules and of GradScalers."""
        names = self.recording.names() if self.reach.counted else frozenset()
        states = [part.state(names) for part in self.reach.counted]
        return [state for state in states if state is not None]

    def watched_states(self, live: Sequence[Any]) -> list[State]:
        """What has to be as it was, but for arrays that the program reads where they lie (``live``), and of which Python reads nothing."""
        codes = self.recording.ran()
        return [
            state
            for state in self.reach.states
            if not is_one_of(state.owner, live) or not self.reach.only_made_tensors(state.owner, codes)
        ]

    def states_that_differ(self, other: Run) -> list[str]:
        """Paths of what was not the same before another run: arrays of NumPy and the like, and what the function reads of schedules."""
        states = {id(state.owner): state.was for state in other.reach.states}
        changed = [s.path for s in self.reach.states if id(s.owner) in states and states[id(s.owner)] != s.was]
        before = {id(part.owner): part.attributes for part in other.reach.counted}
        names = self.recording.names() if self.reach.counted else frozenset()
        return changed + [
            f"{part.path}.{name}"
            for part in self.reach.counted
            for name in part.read_by(names)
            if before.get(id(part.owner), part.attributes)[name] != part.attributes[name]
        ]


def _state_of_numpy() -> tuple[np.ndarray, int]:
    """The generator of ``np.random``'s own functions: its key, and the position in it."""
    state: Any = np.random.get_state()
    return state[1], state[2]


def _is_tensor_or_array(x: Any) -> bool:
    return isinstance(x, Tensor) or type(x) in BY_TYPE


def rebuilt(value: Any, chosen: Callable[[Any], bool], change: Callable[[Any], Any], whole: bool = False) -> Any:
    """As ``mapped``, and through sets, deques and dataclasses. ``whole``: ``Made`` becomes an object."""

    def part_of(part: Any) -> Any:
        return rebuilt(part, chosen, change, whole)

    if type(value) is Made:
        attributes = part_of(value.attributes)
        if not whole:
            return Made(value.kind, attributes)
        made: Any = object.__new__(value.kind)
        vars(made).update(attributes)
        return made
    if type(value) in (set, list, tuple):
        return type(value)([part_of(part) for part in value])
    if type(value) is deque:
        return deque([part_of(part) for part in value], value.maxlen)
    if type(value) is dict:
        return {name: part_of(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        made = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(made, field.name, part_of(getattr(value, field.name)))
        return made
    return mapped(value, chosen, change)


def layouts_of(arrays: Iterable[Any]) -> list[bool]:
    """Which arrays lie in C order without gaps."""
    return [array.flags.c_contiguous for array in arrays]


def take_over(x: Tensor, other: Tensor) -> None:
    """Give a Tensor the array of another one, as an in-place operator does, and its history."""
    x.array = other.array
    if other.node is not None:
        x.node = other.node


def is_one_of(array: Any, others: Sequence[Any]) -> bool:
    """Whether an array is, or shares its memory with, one of ``others``."""
    if type(array) is np.ndarray:
        return any([type(o) is np.ndarray and np.may_share_memory(array, o) for o in others])
    if type(array) not in BY_TYPE:
        return False
    owner = owner_of(array)
    return any([type(o) is type(array) and owner_of(o) is owner and overlap(array, o) for o in others])


def _freed(node: Any) -> bool:
    """Whether a backward has been through the graph behind a result."""
    return any(below.saved is None for below in nodes_below([node]).values())
