"""How the step of an optimizer is recorded: its rule runs on traced arrays, with the numbers that change from call to call in place of floats.

Such numbers are the learning rate and what a parameter's state counts; other settings are constants of the recording, which is made anew when
one of them changes. The states of all parameters of an optimizer usually count in step, so one number serves them all; ``same`` checks that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..backend.arrays import is_array
from ..backend.devices import device_of, move
from ..core.operator import OPERATORS
from ..core.traced import Traced
from ..optim.optimizer import follow
from .marks import Number

if TYPE_CHECKING:
    from ..optim.optimizer import Optimizer
    from .recording import Recording


def live_names(group: dict[str, Any]) -> tuple[str, ...]:
    """Settings of a group that may change from call to call: the learning rate, and momentum where a schedule moves that, too."""
    if "max_momentum" in group:
        return "lr", "momentum" if "momentum" in group else "betas"
    return ("lr",)


def record_update(recording: Recording, optimizer: Optimizer) -> None:
    """Run ``optimizer.step()`` in a recording."""
    recording.rates.look()
    counted: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    commits: list[Commit] = []
    recording.identities.append((vars(optimizer), "state", optimizer.state))
    for index, group in enumerate(optimizer.param_groups):
        live_group = dict(group)
        for name in live_names(group):
            key, value = f"{id(optimizer)}_{index}_{name}", group.get(name)
            if isinstance(value, (int, float)):
                live_group[name] = recording.numbers.read(key, _reader(group, name))
            elif isinstance(value, tuple):
                live_group[name] = tuple(
                    [recording.numbers.read(f"{key}_{i}", _part(group, name, i)) for i in range(len(value))]
                )
        for p in group["params"]:
            if p.grad is None:
                continue
            state = optimizer.state.get(p)
            if state is None:
                state = optimizer.state[p] = {}
            elif state:
                follow(getattr(p.array, "_elements", p.array), state)
            recording.identities.append((optimizer.state, p, state))
            live: dict[str, Any] = {}
            for name, value in state.items():
                if is_array(value):
                    live[name] = recording.capture(value)
                    recording.identities.append((state, name, value))
                elif _is_number(value):
                    alike = counted.setdefault((name, value), [])
                    alike.append(state)
                    live[name] = recording.numbers.read(f"{id(optimizer)}_{id(alike[0])}_{name}", _reader(alike[0], name))
                else:
                    live[name] = value
            _update(recording, optimizer, p, live_group, state, live, commits)
    for (name, _), states in counted.items():
        if len(states) > 1:
            recording.numbers.check(f"same_{id(states[0])}_{name}", _same(states, name))
    optimizer.stepped = True
    recording.rates.expect()
    _commit(recording, commits)


def _update(
    recording: Recording,
    optimizer: Optimizer,
    p: Any,
    group: dict[str, Any],
    state: dict[str, Any],
    live: dict[str, Any],
    commits: list[Commit],
) -> None:
    before = dict(live)
    arrays = {"": p.array, **{name: value for name, value in live.items() if type(value) is Traced}}
    old = {name: (value._elements, value.entry) for name, value in arrays.items()}
    optimizer.update(p.array, p.grad.array, group, live)
    if recording.condition is not None:
        for name, array in arrays.items():
            kept = Traced(*_reordered(recording, old[name]))
            condition = move(recording.condition.array, device_of(array))
            array.become(OPERATORS["where"].public(condition, kept, array))
    for name, value in live.items():
        if type(value) is Traced:
            if name not in state:
                state[name] = value._elements.copy()
                recording.steady = False
            elif value is not before[name]:
                before[name].become(value)
        elif type(value) is Number:
            if name not in state or value is not before[name]:
                commits.append(Commit(state, name, type(state.get(name, 0.0)), value.source))
                recording.steady = recording.steady and name in state
        elif name not in state or state[name] is not value:
            recording.steady = recording.steady and name in state and bool(state[name] == value)
            state[name] = value
    p._note_change()


def _reordered(recording: Recording, old: tuple[Any, Any]) -> tuple[Any, Any, Any]:
    elements, entry = old
    return elements, recording, entry


class Commit(NamedTuple):
    """A number that goes into an optimizer's state at the end of its step."""

    state: dict[str, Any]
    name: str
    kind: type
    source: str


def _commit(recording: Recording, commits: list[Commit]) -> None:
    """Let the counters go on, unless the step is left out."""
    if not commits:
        return
    sources = list(dict.fromkeys(commit.source for commit in commits))
    values = recording.numbers.function(sources)
    places = [(commit.state, commit.name, commit.kind, sources.index(commit.source)) for commit in commits]

    def put() -> None:
        now = values()
        for state, name, kind, index in places:
            state[name] = kind(now[index])

    if recording.condition is None:
        recording.act(put, (), {})
        return

    def unless(left_out: Any) -> None:
        if not bool(left_out):
            put()

    recording.later(unless, recording.condition)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _reader(entries: dict[str, Any], name: str) -> Callable[[], float]:
    return lambda: entries[name]


def _part(entries: dict[str, Any], name: str, index: int) -> Callable[[], float]:
    return lambda: entries[name][index]


def _same(states: list[dict[str, Any]], name: str) -> Callable[[], bool]:
    first = states[0]
    others = states[1:]
    return lambda: all([state[name] == first[name] for state in others])
