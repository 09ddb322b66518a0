"""``Recording``: a trace of a whole training step, with what happens in place: parameters, gradients, running means, optimizers.

While a function is recorded, every Tensor that it can reach (``reach.py``) holds a traced array instead of its own, so that all its operators
are seen; ``finish`` puts the arrays back and writes into them what the step computed. The recorded run is therefore an ordinary run: whoever
looks at parameters, gradients or results afterwards finds what an eager call would have left.

An array that was there before is *live*: the program reads it where it lies. Writing into it gives a new value of the trace; at the end of the
step the last of them goes into the array (``writes``).
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..amp.grad_scaler import GradScaler
from ..backend.arrays import ARRAY_MODULES, BY_TYPE
from ..backend.devices import device_of
from ..backend.random import Generator
from ..core.nested import found, mapped
from ..core.operator import Operator
from ..core.tape import LEAF, Leaf, changed_since, mark_changed, next_number
from ..core.tensor import Tensor
from ..core.trace import Trace, Value, read_by
from ..core.traced import Elsewhere, Traced
from ..optim.lr_scheduler.base import LRScheduler
from .code_names import READS_RATES, names_of
from .derive import below
from .links import Link
from .marks import BackwardOf, Draw, Numbers
from .owned import claim, is_whole, own_arrays, owner_of
from .schedules import Rates
from .shared_memory import SharedMemory
from .sources import Sources
from .unseen import Witness

SMALL, SMALL_BY_STEP = 1 << 18, 1 << 10
"""Bytes that a recording may hold although no program reads them, in all and for each step: looking for them takes longer than they are
worth."""


class Held(NamedTuple):
    """A Tensor whose array is replaced by a traced one while the recording runs."""

    tensor: Tensor
    array: Any
    traced: Traced
    traced_value: Value


class GradientEffect(NamedTuple):
    """What the step leaves in ``grad`` of a leaf: a value of the trace, or None."""

    leaf: Leaf
    value: Value | None


class Recording(Trace):
    """One recorded call.

    inputs, steps, outputs: as in every trace. ``captured``: Values of arrays that were there before. ``writes``: pairs (captured Value, the
    Value it takes). ``gradients``: what the step leaves in the leaves. ``numbers``: what it reads from Python anew at each call, with the
    ``actions`` on the side of Python; ``afterwards``: functions that get values of the step when it has run. ``steady``: False when the step
    made state that the next call will find (an optimizer's first step).
    """

    mutable = True

    def __init__(self, array_type: type = np.ndarray, expand: Callable[[Operator, dict[str, Any]], bool] | None = None) -> None:
        self.sources = Sources(self)
        super().__init__(note=self.sources.of, expand=expand)
        self.array_type, self.xp = array_type, ARRAY_MODULES[array_type]
        self.thread = threading.get_ident()
        self.numbers = Numbers()
        self.writes: list[tuple[Value, Value]] = []
        self.gradients: list[GradientEffect] = []
        self.argument_writes: list[tuple[int, Value]] = []
        """Places of arguments whose arrays the step writes, and what they become."""
        self.ends: dict[int, Leaf] = {}
        """By the places of arguments with a history: the leaf that stands for it."""
        self.renewals: list[tuple[Held, Value]] = []
        """Tensors that get an array of their own, since others see the one that they had, and what is in it."""
        self.renewed: set[int] = set()
        """Ids of captured Values whose Tensors the step gives other arrays; the program writes into those that they have."""
        self.afterwards: list[tuple[Callable[..., Any], tuple[Value, ...]]] = []
        self.identities: list[tuple[Any, Any, Any]] = []
        """(container, key, value): what has to be where it is for the recording to hold."""
        self.steady = True
        self._started = next_number()
        self.derivation: Any = None
        self.node: Any = None
        """Whose backward runs now; None in hooks, and while the forward of a checkpoint runs again."""
        self._overwritten: list[Any] = []
        self.condition: Tensor | None = None  # of the writes of the moment: where it is True they do not happen
        self.reached: dict[int, Leaf] = {}
        self.cleared: dict[int, Leaf] = {}
        """Leaves whose gradient the function has set to None, whether there was one or not."""
        self.asked: dict[int, tuple[Leaf, Tensor | None]] = {}
        """Leaves that were asked for their gradient, and what it was the first time."""
        self._acting = False
        self._held: dict[int, Traced] = {}
        self._arrays: list[tuple[Traced, Any, Value]] = []
        self.held: list[Held] = []
        self._stand_ins: list[Traced] = []  # for ``inputs``
        self._own: set[int] = set()  # ids of held Tensors whose arrays nobody else sees
        self._gradients: set[int] = set()  # ids of held Tensors that are gradients
        self._latest: dict[int, Traced] = {}  # by the id of the traced array that a Tensor held: the one that it got in place
        self._marks: dict[Operator, BackwardOf] = {}
        self.memory = SharedMemory(self)
        self.draws: list[tuple[Generator, str, tuple[Any, ...], Traced]] = []
        self._states: dict[int, tuple[Generator, Any]] = {}
        self._again: int | None = None
        self.witness: Witness
        """Who has seen what else ran."""
        self.place: Any = None
        """The device of the program, where some arguments are elsewhere."""
        self.moved_to: set[Any] = set()
        """Devices of the program's kind to which it moves arrays."""
        self._away: set[int] = set()  # ids of Values of arrays that are elsewhere
        self.rates = Rates()
        self.moves_rates = False
        """Whether a schedule or a GradScaler goes on during the step."""
        self.asks_layout = False
        """Whether the function looks how elements lie in memory."""
        self.seeded = False
        """Whether the function asks for the state of a stream of random numbers, or sets it, which a program does not repeat."""
        self.crossed = False
        """Whether another thread has met a traced array; what it makes of that is no part of the recording."""
        self.chosen = ""
        """An operator whose result has as many elements as values happen to be chosen, or ""."""

    # -- arrays that were there before

    @property
    def captured(self) -> list[Value]:
        """Values of the arrays that were there before, in the order in which they were met."""
        return [value for _, _, value in self._arrays]

    def capture(self, array: Any) -> Traced:
        """The traced array that stands for ``array`` in this recording; writes into it stay."""
        if not self.is_mine():
            return Traced(array, self, Value("", array))
        held = self._held.get(id(array))
        if held is None:
            value = Value(f"c{len(self._arrays)}", array, array=array)
            value.live = True
            self._note_device(array, value)
            held = self._held[id(array)] = Traced(array, self, value)
            self._arrays.append((held, array, value))
        return held

    def input(self, x: Tensor, name: str = "") -> Tensor:
        """A stand-in for an argument; where that has a history it has one that ends in a leaf (``ends``), which will get a gradient."""
        made = Tensor(self.argument(x.array))
        if x.node is not None:
            self.ends[len(self.inputs) - 1] = below(made)
        return made

    def argument(self, array: Any) -> Traced:
        """A stand-in for an array that the call brings."""
        value = Value(f"x{len(self.inputs)}", array)
        self.inputs.append(value)
        self._note_device(array, value)
        self._stand_ins.append(Traced(array, self, value))
        return self._stand_ins[-1]

    def _note_device(self, array: Any, value: Value) -> None:
        if type(array) is not self.array_type:
            self.elsewhere = True
            self._away.add(id(value))

    def hold(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Let these Tensors hold traced arrays until ``give_back``."""
        self._own = own_arrays(tensors) | {id(g) for g in gradients if is_whole(g.array)}
        self._gradients = set(map(id, gradients))
        for tensor in (*tensors, *gradients):
            array = tensor.array
            traced = self.capture(array)
            self.held.append(Held(tensor, array, traced, traced.entry))
            tensor.array = traced

    def is_mine(self) -> bool:
        """Whether this thread is recorded: parameters hold traced arrays meanwhile, which others may use."""
        if threading.get_ident() == self.thread:
            return True
        self.crossed = True
        return False

    def replaces(self, tensor: Tensor) -> None:
        """A Tensor gets another array in place; it keeps it."""

    def write(self, traced: Traced, new: Traced) -> None:
        """What is written into an array is seen in its views, and in what it is a view of."""
        self.memory.write(traced, new)

    def blank(self, array: Any) -> Traced:
        """Zeros and the like, made just now."""
        return Traced(array, self, self.capture(array).entry)

    # -- steps

    def record(self, operator: Operator, arguments: dict[str, Any]) -> Any:
        """As every trace; another thread that meets a traced array runs the operator as if there were no recording."""
        if not self.is_mine():
            if self.array_type is not np.ndarray:  # only NumPy's functions find the elements in what is saved for the backward
                raise Elsewhere
            plain = mapped(arguments, _is_traced, lambda array: array._elements)
            inputs = plain[operator.variadic] if operator.variadic else [plain[name] for name in operator.inputs]
            return operator.call(operator.kernels[self.array_type], inputs, plain)
        made = self.record_again(operator, arguments)
        self.memory.note(operator, arguments, made)
        return made

    def record_again(self, operator: Operator, arguments: dict[str, Any]) -> Any:
        """Note a step of which no array is a view that is known already."""
        made = super().record(operator, arguments)
        if self.elsewhere or operator.name == "to_device":
            for traced in found(made, Traced):
                self._note_device(traced._elements, traced.entry)
                if operator.name == "to_device" and type(traced._elements) is self.array_type:
                    self.moved_to.add(device_of(traced._elements))
        if operator.name == "argwhere" or (operator.name == "getitem" and _has_mask(arguments)):
            self.chosen = self.chosen or operator.name
        return made

    def record_backward(
        self, operator: Operator, usual: Callable[..., Any], saved: tuple[Any, ...], parents: Any, g: Any
    ) -> Any:
        """The backward of a fused operator as one step, or through its reference where that was recorded."""
        values = dict(zip(operator.saves, saved))
        if self._expand is not None and self._expand(operator, values):
            return operator.backward_by_reference(saved, parents, g)
        mark = self._marks.setdefault(operator, BackwardOf(operator))
        shapes = tuple([None if parent is None else tuple(parent.shape) for parent in parents])
        arguments = {"saved": saved, "g": g, "needs": tuple([s is not None for s in shapes]), "shapes": shapes}
        taken, plain = self.both(arguments)
        if self.elsewhere:
            _, plain = self.at_one_place(mark, plain)
        return self.note_step(mark, taken, mark.run(**plain))

    def draw(self, generator: Generator, method: str, args: tuple[Any, ...]) -> Any:
        """Random numbers; while a checkpointed part runs again, those of its first run."""
        if self._again is not None:
            known = self.draws[self._again]
            self._again += 1
            assert known[:3] == (generator, method, args), "a checkpointed part drew other random numbers when it ran again"
            return known[3]
        if id(generator) not in self._states:
            self._states[id(generator)] = generator, generator.plain_state()
        made = generator.plainly(method, args)
        traced = self.note_step(Draw(generator, method), {"method": method, "args": args}, made)
        self._note_device(made, traced.entry)
        self.draws.append((generator, method, args, traced))
        return traced

    def take_back_draws(self) -> None:
        """Let generators go on as if nothing had been drawn."""
        for generator, state in self._states.values():
            generator.set_state(state)

    def random_state(self) -> Any:
        """What a checkpoint keeps to draw the same numbers again."""
        return len(self.draws) if self._again is None else self._again

    def set_random_state(self, state: int) -> None:
        """Draw again from there; the end of what was drawn so far goes on with new numbers."""
        self._again = None if state == len(self.draws) else state

    def leaves_reached(self, leaves: Iterable[Leaf]) -> None:
        """Leaves that a backward has given gradients; those that the function made itself are its own affair."""
        self.reached.update({id(leaf): leaf for leaf in leaves if leaf.number < self._started})

    def clears_gradient(self, node: Any) -> None:
        """Somebody sets the gradient of a leaf to None."""
        if node.number < self._started:
            self.cleared[id(node)] = node

    def asks_gradient(self, node: Any) -> None:
        """Somebody looks at the gradient of a leaf, or whether there is one: an optimizer, say, which leaves the parameter out if not."""
        if node.operator is LEAF:  # ``modes`` are of this thread
            self.asked.setdefault(id(node), (node, node.grad))

    # -- what happens in Python

    def act(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method that changes numbers of Python only, now and at each replay; what it calls of the same kind belongs to it."""
        if self._acting:
            return method(*args, **kwargs)
        self.moves_rates |= bool(args) and isinstance(args[0], (LRScheduler, GradScaler))
        self.rates.look()
        read = next((value for value in args if self.holds(value)), None)
        if read is not None:  # it reads a value of the step, as a schedule that watches the loss does: when the program has run
            self.later(lambda array: method(*[Tensor(array) if a is read else a for a in args], **kwargs), read)
            return None
        self._acting = True
        try:
            made = method(*args, **kwargs)
        finally:
            self._acting = False
        self.rates.expect()
        self.numbers.actions.append(lambda: method(*args, **kwargs))
        return made

    def update(self, optimizer: Any) -> None:
        """The step of an optimizer."""
        from .updates import record_update

        record_update(self, optimizer)

    def unless(self, left_out: Tensor, function: Callable[[], Any]) -> Any:
        """Call a function whose writes and counts happen only where ``left_out`` is False when the program runs."""
        self.condition = left_out
        try:
            return function()
        finally:
            self.condition = None

    def later(self, function: Callable[..., Any], *values: Tensor) -> None:
        """Call ``function`` with the elements of ``values``, now and after each replay."""
        self.moves_rates |= isinstance(getattr(function, "__self__", None), GradScaler)
        self.afterwards.append((function, tuple([value.array.entry for value in values])))
        self.rates.look()
        acting, self._acting = self._acting, True
        try:
            function(*[value.array._elements for value in values])
        finally:
            self._acting = acting
        self.rates.expect()

    def reads_rates(self) -> bool:
        """Whether code of the user reads learning rates as numbers of Python, so that they have to be as they were."""
        return not READS_RATES.isdisjoint(self.names())

    def reads_counts(self, counts: Iterable[Link]) -> bool:
        """Whether code of the user reads one of these numbers in the state of an optimizer."""
        names = {link.key for link in counts}
        return any(["state" in used.attributes and names & used.texts for used in map(names_of, self.ran())])

    def names(self) -> frozenset[str]:
        """Names that code of the user uses which ran."""
        return frozenset().union(*[names_of(code).names for code in self.ran()])

    def ran(self) -> list[types.CodeType]:
        """Code of the user that ran."""
        return self.witness.ran([code for code, _ in self.sources.codes.values()])

    # -- the end

    def give_back(self) -> None:
        """End the recording: all Tensors have arrays again, their own ones or those that they got in place."""
        self.open = False
        for held in self.held:
            tensor, array, traced, value = held
            now = tensor.array
            tensor.array = array
            if type(now) is not Traced or now.recording is not self:
                if now is not array:  # rebound to an array that is not of this recording
                    tensor.array = now
                    self.steady = False
            elif now is not traced and now.entry is not traced.entry:
                if id(tensor) in self._own and now.shape == array.shape and now.dtype == array.dtype:
                    self._latest[id(traced)] = now
                    self.renewed |= set() if id(tensor) in self._gradients else {id(value)}
                else:
                    tensor.array = plain_copy(now)
                    self.renewals.append((held, now.entry))
                if id(tensor) not in self._gradients:
                    claim(tensor)

    def finish(self, grads: dict[int, tuple[Leaf, Tensor | None]], results: Iterable[Traced]) -> None:
        """Write into arrays what the step wrote into them. ``grads``: the leaves and what their ``grad`` was before. ``results``: what is
        handed out, which stays as it was when the step made it."""
        last = [(self._latest.get(id(traced), traced), array, value) for traced, array, value in self._arrays]
        written = [(now, array, value) for now, array, value in last if now.entry is not value]
        self._keep_apart([*results, *(now for now, _, _ in written)], [array for _, array, _ in written])
        for now, array, value in written:
            self.writes.append((value, now.entry))
            if self.derivation is not None:
                self._overwritten.append(array.copy())
            array[...] = now._elements
            if changed_since(self._started, now):
                mark_changed(None, array)
        for leaf in (*self.reached.values(), *self.cleared.values()):
            grads.setdefault(id(leaf), (leaf, None))
        for leaf, before in grads.values():
            self._settle_gradient(leaf, before)

    def finish_arguments(self, given: Sequence[tuple[Any, Any]]) -> None:
        """Write into the arrays of arguments what the step has written into those of their stand-ins, and give Tensors the arrays that
        their stand-ins got in place. given: pairs of those."""
        for place, (traced, (made, x)) in enumerate(zip(self._stand_ins, given)):
            if traced.entry is not self.inputs[place] and traced.shape == self.inputs[place].shape:
                self.argument_writes.append((place, traced.entry))
                array = x.array if type(x) is Tensor else x
                array[...] = traced._elements
            if type(x) is Tensor and made.array is not traced:
                x.array = plain_copy(made.array) if type(made.array) is Traced else made.array

    def with_other_arrays(self, given: Sequence[tuple[Any, Any]]) -> list[tuple[int, Tensor]]:
        """Stand-ins of Tensors to which the step has given another array, with their places."""
        made = []
        for place, (traced, (x, _)) in enumerate(zip(self._stand_ins, given)):
            if type(x) is Tensor and x.array is not traced:
                x.array = self.traced(x.array)
                made.append((place, x))
        return made

    def _keep_apart(self, traced: Iterable[Traced], arrays: Sequence[Any]) -> None:
        """Let none of these traced arrays lie in memory that is about to be written."""
        owners = {id(owner_of(array)) for array in arrays}
        for one in traced:
            if id(owner_of(one._elements)) in owners:
                one._elements = one._elements.copy()

    def away(self, values: Iterable[Any]) -> bool:
        """Whether any of these Values is of an array on another device."""
        return self.elsewhere and not self._away.isdisjoint(map(id, values))

    def kept_elements(self) -> list[Any]:
        """Elements of what ``derivation.kept`` names: random numbers, and what was in arrays before the step wrote into them."""
        return [*(traced._elements for *_, traced in self.draws), *self._overwritten]

    def let_go(self, gradients: Iterable[Tensor]) -> set[int]:
        """When the caller has its results: keep no elements but those of arrays that were there before, and of these neither ``gradients``
        nor scratch arrays that no step reads. Returns the ids of those gradients."""
        self.node = self.sources.known = None  # which would hold the graph below them
        for held in (self._overwritten, self._held, self._latest, self._stand_ins, self.ends, self._anywhere):
            held.clear()
        self.memory.let_go()
        for traced, array, _ in self._arrays:
            traced._elements = array
        for *_, traced in self.draws:
            traced.forget()
        before = set(map(id, gradients))
        watched = {id(h.traced_value) for h in self.held if id(h.tensor) not in before}
        loose = [(array.nbytes, id(value)) for _, array, value in self._arrays if id(value) not in watched]
        if sum([nbytes for nbytes, _ in loose]) < max(SMALL, SMALL_BY_STEP * len(self.steps)):
            return set()
        return self._forget({value for _, value in loose} - self.used())

    def forget_unused(self, stored: Iterable[Value]) -> None:
        """Keep no arrays of other devices with which the step has nothing to do. stored: what it has put into attributes and items."""
        used = self.used() | set(map(id, stored))
        self._forget({id(value) for _, _, value in self._arrays if id(value) in self._away and id(value) not in used})

    def used(self) -> set[int]:
        """The ids of Values that steps read, and of what the program leaves."""
        ends = [*self.outputs, *(v for pair in self.writes for v in pair), *(g.value for g in self.gradients)]
        ends += [v for _, v in (*self.argument_writes, *self.renewals)]
        ends += [v for _, values in self.afterwards for v in values]
        ends += [] if self.derivation is None else self.derivation.gradients
        return set(map(id, ends)) | read_by(self.steps)

    def _forget(self, unread: set[int]) -> set[int]:
        """Keep no captured arrays of these Values. Returns the ids of the Tensors that held them."""
        self._arrays = [known for known in self._arrays if id(known[2]) not in unread]
        gone = {id(h.tensor) for h in self.held if id(h.traced_value) in unread}
        self.held = [h for h in self.held if id(h.traced_value) not in unread]
        return gone

    def _settle_gradient(self, leaf: Leaf, before: Tensor | None) -> None:
        after = leaf.grad
        if after is None:
            if before is not None or id(leaf) in self.cleared:
                self.gradients.append(GradientEffect(leaf, None))
            return
        array = after.array
        if type(array) is Traced and array.recording is self:
            self.gradients.append(GradientEffect(leaf, array.entry))
            leaf.grad = Tensor(plain_copy(array))

    def settled(self, value: Any) -> Any:
        """Results for the caller: nested values with the elements of traced Tensors, without history."""
        return mapped(value, self.holds, lambda x: Tensor(plain_copy(x.array)) if type(x) is Tensor else plain_copy(x))

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is a Tensor or an array of this recording."""
        array = value.array if type(value) is Tensor else value
        return type(array) is Traced and array.recording is self


def plain_copy(array: Traced) -> Any:
    """The elements of a traced array as an array of its own."""
    return array._elements.copy()


def _has_mask(arguments: dict[str, Any]) -> bool:
    index = [value for name, value in arguments.items() if name != "input"]
    return any([array.dtype.kind == "b" for array in found(index, Traced, *BY_TYPE)])


def _is_traced(value: Any) -> bool:
    return type(value) is Traced


def is_leaf(tensor: Tensor) -> bool:
    """Whether the tensor is a leaf that wants gradients."""
    return tensor.node is not None and tensor.node.operator is LEAF
