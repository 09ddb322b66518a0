"""``tg.compile``: the function that users call, and what it gives back.

The first calls are recorded, each of them an ordinary run; as soon as two recordings agree, the program that they share is optimised, and
from then on calls with arguments of those shapes are replays:

    guard       is everything that the function can reach as it was? (``reach.py``)
    numbers     learning rates and counters are read, schedules go on (``marks.py``)
    program     one executor runs it (``numpy_executor.py``, ``native/``, ``cuda/``)
    effects     gradients, results and attributes get their new arrays

Anything that does not fit a known recording is recorded anew; a function that never comes to rest is called as it is, with a warning.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..backend.devices import device_of
from ..backend.random import record_draws
from ..core.modes import modes
from ..core.tape import Leaf
from ..core.tensor import Tensor
from ..core.trace import Value, read_by
from ..core.traced import Traced
from ..errors import UsageError, error, refusal, text
from .arguments import Arguments, objects_in
from .entry import Entry, Run, build
from .owned import LOOKS_INTO, looks_into_leaf, owner_of
from .planning import Pool
from .reach import Reach, Replayable
from .recording import Recording
from .signature import Call, describe, recognizer
from .unseen import Witness

_recording = threading.RLock()
"""One recording at a time: while it runs, parameters hold traced arrays."""

ATTEMPTS = 6
"""Recordings of one signature that may differ in a row, or programs for it that are never used, before the function is called as it is."""

NEW_KEYS = 24
"""Signatures in a row that come once only, before one is recorded no earlier than at its second call."""


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: a recording makes many objects that stay, and the collector would look through them over and over.
    In the end they count as old, so that it does not look through all of them at once either."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled and gc.get_freeze_count() == 0:  # else the user has frozen some, which are to stay so
            gc.freeze()
            gc.unfreeze()
        if enabled:
            gc.enable()


class Compiled(Replayable):
    """A function that is recorded once and replayed; what ``tg.compile`` returns.

    ``plan()`` shows the program of the last call. ``recordings`` counts recorded calls, ``replays`` the others.
    """

    def __init__(self, function: Callable[..., Any], disable: Iterable[str], backend: str | None, cache_size: int) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.disable, self.backend, self.cache_size = tuple(disable), backend, cache_size
        self.recordings = self.replays = 0
        self._entries: dict[Any, list[Entry]] = {}
        self._candidates: dict[Any, Run] = {}
        self._attempts: dict[Any, int] = {}
        self._eager: dict[Any, str] = {}
        self._unused: dict[Any, int] = {}
        self._once: dict[Any, None] = {}
        self._passing = ""
        self._changing = 0  # signatures of which a call has changed containers that it was given
        self._last: Entry | None = None
        self._lock = threading.RLock()
        self._pool = Pool()

    def __getattr__(self, name: str) -> Any:
        """What a compiled Module is asked for is its Module's."""
        if name.startswith("__") or "__wrapped__" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if modes.recording is not None:  # inside of another recording its operators belong to that
            return self.__wrapped__(*args, **kwargs)
        with self._lock:
            entry = self._last
            known = None if entry is None or entry.recognize is None else entry.recognize(args, kwargs)
            call = describe(args, kwargs) if known is None else known
            if entry is None or entry.key != call.key or not entry.holds():
                entry = self._find(call)
            if entry is not None:
                self._last = entry
                if entry.recognize is None:
                    entry.recognize = recognizer(args, kwargs, call)
                if entry.meets(call):
                    return self.__wrapped__(*args, **kwargs)
                self.replays += 1
                return entry.replay(call, args, kwargs)
            if modes.anomaly:  # which looks at every value
                return self.__wrapped__(*args, **kwargs)
            if call.key in self._eager or self._changing >= ATTEMPTS // 2 or self._is_passing(call.key):
                return self.__wrapped__(*args, **kwargs)
            with _recording, _uncollected():
                return self._record(args, kwargs, call)

    def _is_passing(self, key: Any) -> bool:
        """Whether this signature is one of many that come once only: then it is not worth a recording yet."""
        if key in self._candidates or key in self._entries or key in self._once:
            self._once.clear()
            return False
        self._once[key] = None
        if len(self._once) <= NEW_KEYS:
            return False
        if len(self._once) > 10 * NEW_KEYS:
            del self._once[next(iter(self._once))]
        elif len(self._once) == NEW_KEYS + 1:
            before = list(self._once)[-2]
            number = next((i for i, (a, b) in enumerate(zip(before, key)) if a != b), 0)
            reason = f"argument {number} is another one at each call", f"引数 {number} が呼び出しごとに違います"
            self._passing = text("TG-P003", name=getattr(self, "__name__", "step"), reason=reason)
            warnings.warn(self._passing, UserWarning, stacklevel=4)
        return True

    def _find(self, call: Call) -> Entry | None:
        for entry in self._entries.get(call.key, ()):
            if entry.holds():
                return entry
        with _recording:  # perhaps another thread's recording was in the way
            for entry in self._entries.get(call.key, ()):
                if entry.holds():
                    return entry
        return None

    def __reduce__(self) -> Any:
        """Copies and pickles know the function and the options; they record anew."""
        named: Any = sys.modules.get(getattr(self, "__module__", ""))
        for part in getattr(self, "__qualname__", "").split("."):
            named = getattr(named, part, None)
        if named is self:
            return self.__qualname__
        return Compiled, (self.__wrapped__, self.disable, self.backend, self.cache_size)

    # -- recording

    def _record(self, args: Any, kwargs: Any, call: Call) -> Any:
        made, run = record(self.__wrapped__, args, kwargs, call, again=call.key in self._candidates)
        self.recordings += 1
        before = self._candidates.pop(call.key, None)
        if run.refusal is not None:
            if run.eager:
                self._changing += run.changes_arguments
                self._give_up(call.key, run.refusal)
            return made
        self._attempts[call.key] = self._attempts.get(call.key, 0) + 1
        problem: Any = None
        if before is not None:
            other_gradients = any([entry.has_other_gradients() for entry in self._entries.get(call.key, ())])
            entry, problem = build(before, run, self.disable, self.backend, self._pool, other_gradients)
            if entry is not None:
                reason = self._keep(entry)
                if reason is not None:
                    self._give_up(call.key, reason)
                return made
        if self._attempts[call.key] >= ATTEMPTS and problem is not None:
            self._give_up(call.key, problem)
        else:
            self._candidates[call.key] = run
            self._forget()
        return made

    def _forget(self) -> None:
        """Bound what is kept of calls that never became a program."""
        while len(self._candidates) > self.cache_size:
            oldest = next(iter(self._candidates))
            del self._candidates[oldest]
            self._attempts.pop(oldest, None)
        while len(self._eager) > 16 * self.cache_size:
            del self._eager[next(iter(self._eager))]

    def _keep(self, entry: Entry) -> Any:
        """Keep a program. Returns why there should be none, if it is one of many that were never used."""
        self._attempts.pop(entry.key, None)
        known = self._entries.get(entry.key)
        if known and not known[0].used:
            self._unused[entry.key] = self._unused.get(entry.key, 0) + 1
            if self._unused[entry.key] >= ATTEMPTS // 2:
                del self._entries[entry.key]
                changed = known[0].changed()
                return f"{changed} changes", f"{changed} が変わります"
        else:
            self._unused.pop(entry.key, None)
        entries = self._entries.setdefault(entry.key, [])
        entries.insert(0, entry)
        held = [(key, e) for key, known in self._entries.items() for e in known]
        if len(held) > self.cache_size:
            oldest = min(held, key=lambda pair: pair[1].used)
            self._entries[oldest[0]].remove(oldest[1])
        self._last = entry
        return None

    def _give_up(self, key: Any, reason: Any) -> None:
        said = self.notes
        self._eager[key] = text("TG-P003", name=getattr(self, "__name__", "step"), reason=reason)
        if self._eager[key] not in said:
            warnings.warn(self._eager[key], UserWarning, stacklevel=4)

    # -- looking at it

    @property
    def notes(self) -> list[str]:
        """Why calls of some signatures are not replayed."""
        return [*dict.fromkeys(self._eager.values()), *([self._passing] if self._passing else [])]

    def plan(self) -> Any:
        """The program of the last replayed call: operators, shapes, buffers, FLOPs and bytes.

        Raises UsageError when nothing has been compiled yet, and where calls are not replayed, with the reason.
        """
        if self._last is None and self.notes:
            raise error("TG-P011", name=getattr(self, "__name__", "step"), notes="\n".join(self.notes))
        if self._last is None:
            raise error("TG-P004", name=getattr(self, "__name__", "step"), calls=self.recordings)
        return self._last.plan()

    def reset(self) -> None:
        """Forget all recordings."""
        with self._lock:
            for held in (self._entries, self._candidates, self._attempts, self._eager, self._unused, self._once):
                held.clear()
            self._passing = ""
            self._last = None
            self._changing = 0
            self._pool = Pool()

    def __repr__(self) -> str:
        entries = sum(map(len, self._entries.values()))
        return f"<compiled {getattr(self, '__name__', 'function')}: {entries} programs, {self.replays} replays>"


def compile(
    function: Callable[..., Any] | None = None,
    *,
    disable: Iterable[str] = (),
    backend: str | None = None,
    cache_size: int = 64,
) -> Any:
    """Record ``function`` once, optimise it, and replay it at later calls. A function and a decorator.

    function: any function of Tensors: a forward pass, or a whole training step with backward, clipping and optimizers. Parameters, states of
    optimizers and buffers are found, not declared.
    disable: names of passes that are left out (``plan().passes`` lists them); ``"memory"`` gives each buffer memory of its own.
    backend: "numpy", "native" (needs llvmlite) or "plain"; by default the fastest that is there. On a GPU it is "cuda".
    cache_size: how many programs are kept, one for each signature: shapes, dtypes, devices, other arguments and modes.

    Results are those of the plain call, to rounding where a pass sums in another order. A Tensor's value cannot be read inside
    (TG-U016); numbers of Python that the function reads are watched, and when one has changed the function is recorded anew.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([w], lr=0.1)
    >>> @tg.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w * x).sum() - 1) ** 2
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [round(step(tg.ones(2)).item(), 4) for _ in range(4)]
    [4.0, 1.44, 0.5184, 0.1866]
    >>> step.recordings, step.replays
    (2, 2)
    """
    if function is None:
        return functools.partial(compile, disable=disable, backend=backend, cache_size=cache_size)
    if not callable(function):
        raise error("TG-P005", type=type(function).__name__)
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise error("TG-P010", name=getattr(function, "__name__", "step"))
    if type(cache_size) is not int or cache_size < 1:
        raise refusal(
            "compile", "cache_size", cache_size, ("at least 1 program", "1 個以上"), ("cache_size=64.", "cache_size=64 など。")
        )
    from .passes import MEMORY, PASSES

    disable = (disable,) if isinstance(disable, str) else tuple(disable)
    known = (*PASSES, MEMORY)
    unknown = [name for name in disable if name not in known]
    if unknown:
        raise error("TG-P009", name=", ".join(map(repr, unknown)), allowed=", ".join(known))
    return Compiled(function, disable, backend, cache_size)


def record(function: Callable[..., Any], args: Any, kwargs: Any, call: Call, again: bool) -> tuple[Any, Run]:
    """Run ``function`` and record it: what it returned, and the recording with all that a replay has to know. again: whether there is a
    recording to compare this one with."""
    from .lower import EXPAND

    reach = Reach(function, *objects_in(args, kwargs), *call.leaves)
    kinds = [*map(type, call.arrays), *(type(t.array) for t in reach.tensors.values())]
    recording = Recording(_array_type(kinds), expand=lambda operator, arguments: operator.name in EXPAND)
    run = Run(call, reach, recording)
    if not {id(owner_of(t.array)) for t in reach.tensors.values()}.isdisjoint([id(owner_of(a)) for a in call.arrays]):
        reason = (
            "an argument shares memory with a Tensor that it reaches",
            "引数が、関数から手の届く Tensor とメモリを共有しています",
        )
        run.refuse(reason, eager=True)
        return function(*args, **kwargs), run
    if looks_into_leaf(list(reach.tensors.values())):
        run.refuse(LOOKS_INTO, eager=True)
        return function(*args, **kwargs), run
    arguments = Arguments(lambda x: recording.input(x) if type(x) is Tensor else recording.argument(x), call.leaves)
    try:
        arguments.hand(args, kwargs)
        stand_ins = [made.array if type(made) is Tensor else made for made, _ in arguments.given]
        recording.memory.note_arguments(zip(stand_ins, call.arrays), reach.read_by_python())
        reading = _recorded(function, arguments, run, again)
        if recording.elsewhere:
            there = [a for a in (*call.arrays, *(t.array for t in reach.tensors.values())) if type(a) is recording.array_type]
            recording.place = device_of(there[0] if there else recording.xp.empty(0))
            recording.forget_unused([store.value for store in run.stores])
        again = reading is None and run.backward_changes and not run.has_effects()
        results = run.results(call) if reading is None and not again else None
    finally:
        arguments.put_back(run.real)
    if again:
        recording.memory.take_back()
        run.let_go()
        recording.take_back_draws()
        return function(*args, **kwargs), run
    if reading is not None:
        if run.has_effects():
            raise reading
        recording.memory.take_back()
        run.let_go()
        recording.take_back_draws()
        name = reading.operator  # type: ignore[attr-defined]
        run.refuse((f"what {name} does depends on values", f"{name} の動作が値によって変わります"), eager=True)
        return function(*args, **kwargs), run
    if recording.elsewhere:
        _refuse_two_devices(run)
    run.refuse_overlaps()
    run.let_go()
    return results, run


def _recorded(function: Callable[..., Any], arguments: Arguments, run: Run, again: bool) -> UsageError | None:
    """Call the function while everything that it reaches and is given is traced. Returns the error of an operator whose work depends on
    values, which ended it."""
    reach, recording = run.reach, run.recording
    tensors = list(reach.tensors.values())
    leaves = [leaf for t in tensors if isinstance(leaf := t.node or getattr(t, "_frozen", None), Leaf)]
    grads = {id(leaf): (leaf, leaf.grad) for leaf in leaves}
    recording.rates.watch([*reach.rates, *reach.counts])
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        recording.sources.codes[id(code)] = code, getattr(function, "__globals__", {})
    recording.sources.begun_by = sys._getframe().f_code
    recording.hold(tensors, [g for _, g in grads.values() if g is not None])
    recording.witness = Witness(run.reach, again)
    run.note_gradients(grads)
    drawing, autocast = record_draws(recording), modes.autocast
    modes.recording = recording
    modes.autocast = None if autocast is None else autocast.renewed()
    reading: UsageError | None = None
    try:
        made = recording.witness.call(function, arguments.args, arguments.kwargs)
        run.note_containers(arguments)
        run.derive(made, arguments)
    except UsageError as failure:
        if not getattr(failure, "operator", "") or arguments.changes() or arguments.changed(lambda x: False) is not None:
            raise
        reading = failure
    finally:
        modes.recording, modes.autocast = None, autocast
        record_draws(drawing)
        recording.give_back()
        run.settle_links()
        new = [x.array if type(x) is Tensor else x for x in arguments.new()]
        recording.finish(grads, [*run.traced, *(array for array in new if type(array) is Traced)])
        if reading is None:
            recording.finish_arguments(arguments.given)
    return reading


def _refuse_two_devices(run: Run) -> None:
    """Refuse a recording that computes on two devices in a way that no program can."""
    recording = run.recording
    changed = [value for pair in (*recording.writes, *recording.argument_writes, *recording.renewals) for value in pair]
    changed = [value for value in changed if type(value) is Value]
    changed += [recording.inputs[place] for place, _ in (*recording.argument_writes, *run.others)]
    changed += [effect.value for effect in recording.gradients if effect.value is not None]
    if recording.derivation is not None:
        changed += recording.derivation.gradients
    changed += [*recording.outputs, *(store.value for store in run.stores), *(v for _, vs in recording.afterwards for v in vs)]
    changed += [traced.entry for *_, traced in recording.draws]
    taken = {id(held.traced_value) for held in recording.held}
    taken -= read_by([step for step in recording.steps if step.operator.name != "to_device"])
    read = [value for value in recording.captured if id(value) not in taken]
    if recording.away([*changed, *read]) or not recording.moved_to <= {recording.place}:
        reason = (
            "it computes on two devices, beyond arguments that it takes from one to the other",
            "引数をほかのデバイスから移すだけでなく、2 つのデバイスで計算しています",
        )
        run.refuse(reason, eager=True)


def _array_type(kinds: Iterable[type]) -> type:
    return next((kind for kind in dict.fromkeys(kinds) if kind not in (np.ndarray, Traced)), np.ndarray)
