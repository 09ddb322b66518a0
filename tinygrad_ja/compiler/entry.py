"""``Run``: all that is known of one recorded call. ``Entry``: a program that replays such calls, made from two runs that agree."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from ..backend.devices import move
from ..core.modes import modes
from ..core.tape import Leaf, next_number, stamper
from ..core.tensor import Tensor
from ..core.trace import Value
from ..errors import Phrase, error
from . import agreement
from .arguments import Argument, container_at, put
from .derive import CompiledOperator, Derivation, Recorded, with_history
from .executors import executor_for
from .links import Attributes, Link, guard_of, same
from .lower import lower
from .owned import owner_of
from .planning import Pool
from .recording import Held, Recording, is_leaf
from .run import Result, Run, layouts_of, rebuilt
from .signature import Call

# ---- from two runs to a program ------------------------------------------------------------------


def build(
    first: Run, second: Run, disable: Sequence[str], backend: str | None, pool: Pool, other_gradients: bool = False
) -> tuple[Entry | None, Phrase | None]:
    """An entry, if the two runs agree; else None and why not. other_gradients: whether gradients from outside are known to be other Tensors
    from time to time, though they may be the same ones in both runs. Raises UsageError where constants went stale or an effect was repeated."""
    before, after = first.recording, second.recording
    if not (before.steady and after.steady):
        return None, None
    repeated = [path for path in second.unsteady if path in first.unsteady]
    if repeated:
        raise error("TG-P001", what=repeated[0])
    if second.unsteady:
        return None, None
    if before.crossed or after.crossed:
        return None, (
            "another thread computes with Tensors that it reaches",
            "関数から手の届く Tensor を別のスレッドが使っています",
        )
    if not _same_derivation(before.derivation, after.derivation):
        return None, ("gradients go elsewhere at each call", "勾配の行き先が呼び出しごとに違います")
    if not _align(first, second, first.structure, second.structure):
        what = (
            "it returns another object, which is no Tensor, at each call",
            "Tensor でない別のオブジェクトを毎回返しています",
        )
        return None, what
    if [s.link.path for s in first.stores] != [s.link.path for s in second.stores]:
        return None, ("it stores Tensors elsewhere at each call", "Tensor の保存先が呼び出しごとに違います")
    if not _align(first, second, [first.changes, first.others, first.leaves], [second.changes, second.others, second.leaves]):
        what = (
            "it puts Tensors elsewhere into its arguments at each call",
            "引数の中の Tensor の置き場所が呼び出しごとに違います",
        )
        return None, what
    if [_name_of(h.tensor, first) for h, _ in before.renewals] != [_name_of(h.tensor, second) for h, _ in after.renewals]:
        return None, None  # Tensors that have arrays of their own only now
    if [id(effect.leaf) for effect in before.gradients] != [id(effect.leaf) for effect in after.gradients]:
        return None, ("gradients go elsewhere at each call", "勾配の行き先が呼び出しごとに違います")
    difference, partners = agreement.compare(before, after, ([s.value for s in first.stores], [s.value for s in second.stores]))
    moved = _plain_changes(first, second)
    if difference is not None:
        if difference.stale and not moved:
            raise error("TG-P002", what=difference.what, line=_shown_line(difference.line))
        return None, difference.what if not moved else (f"{moved[0]} changes", f"{moved[0]} が変わります")
    arguments: list[tuple[Value, Callable[[], Any]]] = []
    held = {id(h.array): h for h in after.held}
    written, states = {id(value) for value, _ in after.writes}, {id(array) for *_, array in after.identities}
    for value in after.captured:
        partner = partners.get(value)
        if partner is None:
            continue
        holder = held.get(id(value.array))
        anew = after.away([value]) or (
            other_gradients and holder is not None and second.leaf_of_gradient(holder.tensor) is not None
        )
        if agreement.same_memory(partner.array, value.array) and not anew:
            continue
        reader = _reader(holder, second)
        if reader is not None and [h.traced_value for h in after.held].count(value) > 1:
            return None, ("Tensors that it reaches share an array", "関数から手の届く Tensor が配列を共有しています")
        if reader is not None:
            arguments.append((value, reader))
        elif id(value) in written or id(value.array) in states:
            return None, ("an array that it changes is another one", "書き換える配列が別のものになっています")
        elif agreement.equal_elements(partner.array, value.array):
            value.live = False
        elif moved:
            return None, (f"{moved[0]} changes", f"{moved[0]} が変わります")
        elif not any([value in step.inputs for step in after.steps]):
            return None, ("it returns other elements, which it did not compute", "計算していない、毎回違う要素を返しています")
        else:
            what = (f"a constant {value.shape} holds other elements", f"定数 {value.shape} の要素が違います")
            raise error("TG-P002", what=what, line=_shown_line(_first_use(after, value)))
    return Entry(second, arguments, disable, backend, pool), None


def _align(first: Run, second: Run, a: Any, b: Any) -> bool:
    """Whether what two runs returned is alike, but for the Tensors."""
    if a is b or same(a, b) or (type(a) is Result and a == b):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list, collections.deque)):
        return len(a) == len(b) and all([_align(first, second, x, y) for x, y in zip(a, b)])
    if isinstance(a, set):
        return bool(a == b)
    if isinstance(a, dict):
        return list(a) == list(b) and all([_align(first, second, a[name], b[name]) for name in a])
    if dataclasses.is_dataclass(a):
        return all([_align(first, second, getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)])
    return False


def _same_derivation(a: Derivation | None, b: Derivation | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and a.alike(b))


def _reader(held: Held | None, run: Run) -> Callable[[], Any] | None:
    """How to find at each call the Tensor of an array that is another one each time: itself, or through the link that leads to it."""
    return None if held is None else _reader_of(held.tensor, run)


def _reader_of(tensor: Tensor, run: Run) -> Callable[[], Any]:
    """The same for a Tensor that the recorded call has found."""
    leaf = run.leaf_of_gradient(tensor)
    if leaf is not None:
        return lambda: leaf.grad
    link = run.link_to(tensor)
    if link is None or is_leaf(tensor):
        return lambda: tensor
    return link.now


def _name_of(tensor: Tensor, run: Run) -> Any:
    """What a Tensor that may be another one at each call is known by."""
    leaf = run.leaf_of_gradient(tensor)
    if leaf is not None:
        return id(leaf)
    link = run.link_to(tensor)
    return id(tensor) if link is None else link.path


def _plain_changes(first: Run, second: Run) -> list[str]:
    """Paths of what the user changed between the two runs: anything but one Tensor that took the place of another. Among them is
    ``p.grad`` where a gradient was there in one of them only."""
    reads = second.recording.reads_rates()
    old, new = first.values(reads), second.values(reads)
    made = [path for path in new if path in old and _differ(old[path], new[path])] + second.states_that_differ(first)
    return made if {id(leaf) for leaf in first.absent} == {id(leaf) for leaf in second.absent} else [*made, "p.grad"]


def _differ(a: Any, b: Any) -> bool:
    return a is not b and not same(a, b) and not (isinstance(a, Tensor) and isinstance(b, Tensor))


def _first_use(recording: Recording, value: Value) -> str:
    return next((step.note.line for step in recording.steps if value in step.inputs), "")


def _shown_line(line: str) -> str:
    """A place in a file as a traceback shows it."""
    import linecache

    name, _, number = line.rpartition(":")
    if not name:
        return ""
    return f'  File "{name}", line {number}\n    {linecache.getline(name, int(number)).strip()}\n'


class Gradient:
    """What a program leaves in ``grad`` of a leaf: a Tensor whose array it writes at each replay, or None.

    An eager step makes a new gradient each time; where somebody keeps the last one, the Tensor or its array, that one stays as it is.
    """

    __slots__ = ("leaf", "tensor", "array", "_holders", "_saved")

    def __init__(self, leaf: Leaf, array: Any) -> None:
        self.leaf, self.array = leaf, array
        self.tensor = None if array is None else Tensor(array)
        self._holders = 0
        self._saved: Any = None

    def is_kept(self) -> bool:
        """Whether somebody else holds the array, or the Tensor, or has changed that."""
        array, tensor = self.array, self.tensor
        if array is None or tensor is None:
            return False
        if tensor.array is not array:
            return True
        holders = getrefcount(array)
        if not self._holders:  # at the first replay nobody has seen it
            self._holders = holders
        return holders > self._holders or getrefcount(tensor) > 3 + (self.leaf.grad is tensor)

    def leave(self) -> None:
        """Before the program runs: let others keep what they hold."""
        array, tensor = self.array, self.tensor
        assert tensor is not None
        if getrefcount(array) + (tensor.array is not array) > self._holders:
            self._saved = array.copy()
        if tensor.array is array:
            tensor.array = array.copy() if self._saved is None else self._saved.copy()
        self.tensor = Tensor(array)

    def come_back(self) -> None:
        """After it has run: the array as others hold it, and another one for the gradient."""
        if self._saved is not None and self.tensor is not None:
            self.tensor.array = self.array.copy()
            self.array[...] = self._saved
            self._saved = None


class Entry:
    """A program for calls of one signature, and when it may be used.

    holds(): whether everything that the recording took for granted is still so. replay(arrays): run it for a call that brings these arrays.
    """

    def __init__(
        self,
        run: Run,
        arguments: Sequence[tuple[Value, Callable[[], Any]]],
        disable: Sequence[str],
        backend: str | None,
        pool: Pool,
    ) -> None:
        started = time.perf_counter()
        recording = run.recording
        self.key, self.structure, self.run = run.key, run.structure, run
        self.used = 0
        self.recognize: Callable[..., Call | None] | None = None
        """What ``describe`` says of calls of this signature, in less time (``signature.recognizer``)."""
        self._readers = [reader for _, reader in arguments]
        changing = {id(value) for value, _ in arguments}
        self._gradient_writes: list[tuple[Value, Value]] = []
        self._leaves = [self._gradient_of(leaf, value) for leaf, value in recording.gradients]
        self._layouts = [*run.layouts, *layouts_of(value.array for value, _ in arguments)] if recording.asks_layout else None
        brought = recording.inputs[: run.brought]
        inputs = [*brought, *(value for value, _ in arguments)]
        self._away = [place for place, value in enumerate(inputs) if recording.away([value])]
        stored = [store for store in run.stores if store.moved is None]
        self._moves = [(s.link, _reader_of(s.moved, run)) for s in run.stores if s.moved is not None]
        outputs = [*recording.outputs, *(s.value for s in stored)]
        self._later = [(function, len(outputs) + i) for i, (function, _) in enumerate(recording.afterwards)]
        outputs += [values[0] for _, values in recording.afterwards]
        place_of = {id(value): place for place, value in enumerate(inputs)}
        readers = {id(value): reader for value, reader in arguments}
        renewed = [(readers[id(v)], new) for v, new in recording.writes if id(v) in changing and id(v) in recording.renewed]
        renewed += [(readers.get(id(h.traced_value), _same_each_time(h.tensor)), new) for h, new in recording.renewals]
        self._renewals = [(reader, len(outputs) + i) for i, (reader, _) in enumerate(renewed)]
        outputs += [value for _, value in renewed]
        changed = [
            (place_of[id(v)], new) for v, new in recording.writes if id(v) in changing and id(v) not in recording.renewed
        ]
        changed += recording.argument_writes
        writes = [(value, new) for value, new in recording.writes if id(value) not in changing]
        self._argument_writes = [(place, len(outputs) + i) for i, (place, _) in enumerate(changed)]
        outputs += [value for _, value in changed]
        self._written = {id(owner_of(value.array)) for value, _ in writes}
        self._changed = [place for place, _ in (*self._argument_writes, *run.others)]
        self._owners = {id(owner_of(value.array)) for value in recording.captured} if self._changed else set()
        self._kept = len(outputs)
        derivation = self.derivation = recording.derivation
        outputs += derivation.kept(recording) if derivation is not None else []
        captured = [value for value in recording.captured if id(value) not in changing]
        captured += [place for place, _ in self._gradient_writes]
        steps = recording.steps if derivation is None else recording.steps[: derivation.start]
        self.recorded = Recorded(inputs, captured, steps, outputs, writes + self._gradient_writes)
        self.program, numbers = lower(self.recorded)
        self._before = recording.numbers.function([n.source for n in numbers], actions=True)
        self.executor, self.optimised, self.counts = executor_for(self.program, recording.array_type, disable, backend, pool)
        if derivation is not None:
            self._operator = self._compiled_operator(derivation, inputs, captured, disable, backend)
        self.holds = self._guard(run, changing)
        self._stores = [(s.link, len(recording.outputs) + i) for i, s in enumerate(stored)]
        self._results = len(recording.outputs)
        written = [h.tensor for h in recording.held if is_leaf(h.tensor) and _written(recording, h)]
        self._stamp = (
            stamper([(tensor.node, tensor.array) for tensor in written if isinstance(tensor.node, Leaf)]) if written else None
        )
        self._is_tensor = run.is_tensor
        self._changes = run.changes
        single = type(self.structure) is Result and self.structure.place == 0 and self.structure.tensor
        self._single = single and not (run.others or run.leaves or run.changes or self.derivation)
        self.build_seconds = time.perf_counter() - started

    def _compiled_operator(
        self, derivation: Derivation, inputs: list[Value], captured: list[Value], disable: Sequence[str], backend: str | None
    ) -> CompiledOperator:
        """The operator whose backward is the second program."""
        recording = self.run.recording
        program, numbers = lower(derivation.backward(recording, inputs, captured))
        executor, _, _ = executor_for(program, recording.array_type, disable, backend)
        self._of_backward = recording.numbers.function([n.source for n in numbers])
        return CompiledOperator("compiled", derivation.at_home(executor.run, recording.place))

    def _gradient_of(self, leaf: Leaf, value: Value | None) -> Gradient:
        """The gradient of a leaf, whose array the program writes at each replay."""
        if value is None:
            return Gradient(leaf, None)
        array = self.run.recording.xp.empty(value.shape, value.dtype)
        place = Value("", array, array=array)
        place.live = True
        self._gradient_writes.append((place, value))
        return Gradient(leaf, array)

    def _guard(self, run: Run, changing: set[int]) -> Callable[[], bool]:
        recording, reach = run.recording, run.reach
        live = [value.array for value in recording.captured]
        used = set(map(id, live))
        self._gradient_links: list[Link] = []
        loose = {id(s.link.value) for s in run.stores if isinstance(s.link.value, Tensor)}
        links = [Link(*identity, "") for identity in recording.identities]
        paths = {id(link.value): link.path for link in reach.links}
        read = recording.used()
        for held in recording.held:
            if id(held.array) not in used:
                continue
            tensor, path = held.tensor, paths.get(id(held.tensor), "a Tensor")
            changes = id(held.traced_value) in changing
            if changes and tensor.node is None:
                loose.add(id(tensor))
                continue
            leaf = run.leaf_of_gradient(tensor)
            if leaf is not None and not changes and id(held.traced_value) not in read:
                continue
            if leaf is not None:
                self._gradient_links.append(Link(Attributes(leaf), "grad", tensor, "a gradient"))
            links.append(Link(Attributes(tensor), "node", tensor.node, f"{path}.grad_fn"))  # where gradients go
            links += [] if changes else [Link(Attributes(tensor), "array", tensor.array, f"{path}.array")]
        links += [Link(Attributes(leaf), "grad", None, "") for leaf in run.absent]
        anew = {id(held.tensor) for held in recording.held if id(held.traced_value) in changing}
        present = [leaf for leaf, gradient in run.present if gradient not in anew]
        links += self._gradient_links
        free: dict[int, list[Link]] = {}
        for link in (*reach.links, *(reach.rates if recording.reads_rates() else ())):
            if id(link.value) in loose:
                free.setdefault(id(link.value), []).append(link)
            else:
                links.append(link)
        states = run.watched_states(live)
        states += run.counts()
        self._watched = links, states, reach
        guard = guard_of(links, reach.sizes, reach.orders, reach.sets, reach.absent.values(), states, free.values(), present)
        checks = recording.numbers.checks
        if not checks and not self._readers:
            return guard
        compare = recording.numbers.function([f"({source}) == {value!r}" for source, value in checks.items()])
        values = self.recorded.inputs[len(self.recorded.inputs) - len(self._readers) :]
        likes = [(reader, value, getattr(reader(), "node", None) is None) for reader, value in zip(self._readers, values)]

        def holds() -> bool:
            return guard() and all(compare()) and all([_fits(*like) for like in likes])

        return holds

    def has_other_gradients(self) -> bool:
        """Whether a gradient that the program reads where it lies is another Tensor now."""
        return any([link.now() is not link.value for link in self._gradient_links])

    def changed(self) -> str:
        """Something that is no longer as the recording took it for granted."""
        links, states, reach = self._watched
        changed = [link.path for link in links if link.now() is not link.value and not same(link.now(), link.value)]
        changed += [state.path for state in states if not state.holds()]
        changed += [path for _, path in reach.resized()]
        return next(filter(None, changed), "something")

    def replay(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the program: what the function would return."""
        self.used = next_number()
        given = self._given(call)
        if self._away:
            given = [move(x, self.run.recording.place) if i in self._away else x for i, x in enumerate(given)]
        containers = [container_at(args, kwargs, path) for path, _ in self._changes]
        values = self._of_backward() if self.derivation is not None else ()
        kept = [gradient for gradient in self._leaves if gradient.is_kept()]
        for gradient in kept:
            gradient.leave()
        moved = [(link, reader()) for link, reader in self._moves]
        renewed = [(reader(), index) for reader, index in self._renewals]
        if modes.profiler is None:
            results = self.executor.run(given, self._before())
        else:
            from .watched import run_watched

            results = run_watched(modes.profiler, self.executor, given, self._before())
        for gradient in kept:
            gradient.come_back()
        for gradient in self._leaves:
            if gradient.leaf.grad is not gradient.tensor:
                gradient.leaf.grad = gradient.tensor
        if self._stamp is not None:
            self._stamp()
        for link, index in self._stores:
            link.put(Tensor(results[index]))
        for link, tensor in moved:
            link.put(tensor)
        for function, index in self._later:
            function(results[index])
        for place, index in self._argument_writes:
            given[place][...] = results[index]
        for tensor, index in renewed:
            _renew(tensor, results[index])
        if self._single:
            return Tensor(results[0])
        made = self._made(call, given, results, values)
        self.run.leave(call, made)

        def real(x: Any) -> Any:
            return made[x.place] if type(x) is Result else call.holders[x.place]

        for container, (path, structure) in zip(containers, self._changes):
            put(container, path[-1][1], rebuilt(structure, _stands_for_another, real, whole=True))
        return rebuilt(self.structure, _stands_for_another, real, whole=True)

    def _made(self, call: Call, given: Sequence[Any], results: Sequence[Any], values: Any) -> list[Any]:
        """The program's results as the function would give them: Tensors, with a history where they want gradients, and arrays."""
        if self.derivation is None:
            return [Tensor(array) if is_tensor else array for array, is_tensor in zip(results, self._is_tensor)]
        saved = ([*given, *results[self._kept :]], values)
        tensors = with_history(self._operator, self.derivation, call, results[: self._results], saved)
        return [x if is_tensor else x.array for x, is_tensor in zip(tensors, self._is_tensor)]

    def _given(self, call: Call) -> Sequence[Any]:
        """The arrays of a call's arguments, and those of Tensors that are others at each call."""
        return call.arrays if not self._readers else [*call.arrays, *[read().array for read in self._readers]]

    def meets(self, call: Call) -> bool:
        """Whether an array that this call brings, or that is read anew, shares memory with state that the program changes; or one that it
        changes, with another such array or with state; or whether one lies in memory otherwise than when the function looked at that."""
        written, given = self._written, self._given(call)
        if self._layouts is not None and layouts_of(given) != self._layouts:
            return True
        for array in given:
            if id(array) in written or (array.base is not None and id(owner_of(array)) in written):
                return True
        if not self._changed:
            return False
        owners = [id(owner_of(array)) for array in given]
        if any([owners[place] in self._owners for place in self._changed]):
            return True
        return any([owners.count(owners[place]) > 1 for place, _ in self._argument_writes])

    def plan(self) -> Any:
        """What ``compiled.plan()`` shows."""
        from .plan import Plan

        return Plan(
            self.optimised,
            recorded=self.program,
            operators=len(self.recorded.steps),
            passes=self.counts,
            layout=getattr(self.executor, "layout", None),
            executor=self.executor,
            device="cpu" if self.run.recording.array_type is np.ndarray else "cuda",
        )


def _written(recording: Recording, held: Held) -> bool:
    return any(value is held.traced_value for value, _ in recording.writes)


def _same_each_time(tensor: Tensor) -> Callable[[], Any]:
    return lambda: tensor


def _renew(tensor: Tensor, array: Any) -> None:
    """Give a Tensor another array, as an in-place operator does."""
    tensor.array = array
    if is_leaf(tensor):
        tensor._note_change()


def _stands_for_another(x: Any) -> bool:
    return type(x) is Result or type(x) is Argument


def _fits(reader: Callable[[], Any], value: Value, without_history: bool) -> bool:
    tensor = reader()
    if type(tensor) is not Tensor or (tensor.node is None) is not without_history:
        return False
    array = tensor.array
    return array.shape == value.shape and array.dtype == value.dtype and type(array) is type(value.array)
