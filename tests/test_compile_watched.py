"""What a compiled function reads less plainly than by a name or an attribute: hooks, schedules, arrays of NumPy, files and clocks, settings."""

from __future__ import annotations

import contextlib
import cProfile
import datetime
import io
import json
import logging
import os
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stale_python import PHASES, assert_never_stale, three

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import UsageError

Case = Callable[[], Any]

# ---- hooks of Tensors that were there before -----------------------------------------------------


def gradient_of(w: Any) -> Callable[[Any], Any]:
    def step(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad * 1

    return step


def closure_of_a_hook() -> Any:
    w, factor = tg.ones(3, requires_grad=True), [2.0]
    w.register_hook(lambda g: g * factor[0])
    return gradient_of(w), lambda k: factor.__setitem__(0, 2.0 + k)


def object_that_is_a_hook() -> Any:
    class Scaled:
        factor = 2.0

        def __call__(self, g: Any) -> Any:
            return g * self.factor

    w, scaled = tg.ones(3, requires_grad=True), Scaled()
    w.register_hook(scaled)
    return gradient_of(w), lambda k: setattr(scaled, "factor", 2.0 + k)


def hooks_that_come_and_go() -> Any:
    w, handles = tg.ones(3, requires_grad=True), []

    def change(k: int) -> None:
        if k % 2:
            handles.append(w.register_hook(lambda g: g * (5.0 + k)))
        else:
            handles.pop().remove()

    return gradient_of(w), change


def hook_of_an_argument() -> Any:
    w, factor = tg.ones(3, requires_grad=True), [2.0]
    w.register_hook(lambda g: g * factor[0])

    def step(w: Any, x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad * 1

    return step, lambda k: factor.__setitem__(0, 2.0 + k), lambda k: (w, three())


@pytest.mark.parametrize("make", [closure_of_a_hook, object_that_is_a_hook, hooks_that_come_and_go, hook_of_an_argument])
def test_hooks_of_leaves_are_watched(make: Case) -> None:
    assert assert_never_stale(make).replays >= PHASES


def test_a_hook_of_a_leaf_that_counts_is_refused() -> None:
    w, calls = tg.ones(3, requires_grad=True), [0]

    def hook(g: Any) -> None:
        calls[0] += 1

    w.register_hook(hook)
    step = tg.compile(gradient_of(w))
    with pytest.raises(UsageError, match="TG-P001.*calls"):
        for _ in range(4):
            step(three())


def test_a_hook_that_a_step_puts_on_and_takes_off_is_replayed() -> None:
    w = tg.ones(3, requires_grad=True)
    plain = gradient_of(w)

    def step(x: Any) -> Any:
        handle = w.register_hook(lambda g: g * 2)
        made = plain(x)
        handle.remove()
        return made

    compiled = tg.compile(step)
    for _ in range(8):
        assert compiled(three()).tolist() == [2.0, 4.0, 6.0]
    assert compiled.replays >= 4


# ---- settings, keys, modules ---------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[None]:
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


def number_of_threads() -> Any:
    tg.set_num_threads(1)
    return lambda x: x * tg.get_num_threads(), lambda k: tg.set_num_threads(1 + k % 3)


def attributes_of_keys() -> Any:
    class Key:
        scale = 2.0

    key = Key()
    table = {key: 1.0}

    def step(x: Any) -> Any:
        for held, weight in table.items():
            x = x * held.scale * weight
        return x

    return step, lambda k: setattr(key, "scale", 2.0 + k)


def module_that_answers_for_names(**names: Any) -> Case:
    def make() -> Any:
        values = {"S": 2.0}
        module = types.ModuleType("made_by_hand")
        vars(module).update(names, __getattr__=lambda name: values["S"])
        return lambda x: x * module.S, lambda k: values.update(S=2.0 + k)

    return make


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "make",
    [number_of_threads, attributes_of_keys, module_that_answers_for_names(), module_that_answers_for_names(__file__=1.0)],
    ids=["threads", "keys", "module", "file"],
)
def test_settings_keys_and_functions_of_modules_are_watched(make: Case) -> None:
    assert assert_never_stale(make).replays >= PHASES


# ---- files and clocks ----------------------------------------------------------------------------


def of_text(path: Path) -> float:
    with open(path) as file:
        return float(file.read())


def of_size(path: Path) -> float:
    return float(os.path.getsize(path))


READERS: dict[str, Callable[[Path], float]] = {
    "open": of_text,
    "io.open": lambda path: float(io.open(path).read()),  # noqa: UP020
    "read_text": lambda path: float(path.read_text()),
    "Path.open": lambda path: float(path.open().readline()),
    "exists": lambda path: 2.0 if path.with_suffix(".0").exists() else 3.0,
    "os.path.exists": lambda path: 2.0 if os.path.exists(f"{path}.0") else 3.0,
    "getsize": of_size,
    "listdir": lambda path: float(len(os.listdir(path.parent))),
    "loadtxt": lambda path: float(np.loadtxt(path)),
    "fromfile": lambda path: float(np.fromfile(path, sep=" ")[0]),
    "np.load": lambda path: float(np.load(path.with_suffix(".npy"))[0]),
    "tg.load": lambda path: tg.load(path.with_suffix(".pt")).item(),
    "json": lambda path: float(json.loads(path.read_bytes())),
}


@pytest.mark.parametrize("kind", READERS)
def test_files_that_a_helper_reads_are_read_at_each_call(kind: str, tmp_path: Path) -> None:
    path, read = tmp_path / "number", READERS[kind]

    def write(value: float) -> None:
        path.write_text(f"{value}" if value < 5 else f"{value}0")
        np.save(path.with_suffix(".npy"), np.full(1, value))
        tg.save(tg.tensor(value), path.with_suffix(".pt"))
        if value > 2:
            path.with_suffix(".0").touch()
            Path(f"{path}.0").touch()

    def helper() -> float:
        return read(path)

    step = tg.compile(lambda x: x * helper())
    with pytest.warns(UserWarning, match=r"it calls \w+"):
        for value in (2.0, 2.0, 2.0, 2.0, 5.0, 5.0, 7.0):
            write(value)
            assert step(tg.ones(1)).item() == helper()
    assert step.replays == 0


CLOCKS: dict[str, Callable[[], Any]] = {
    "time.time": time.time,
    "perf_counter": lambda: time.perf_counter(),
    "datetime.now": lambda: datetime.datetime.now().microsecond,
    "today": lambda: datetime.date.today().day,
    "random": lambda: os.urandom(1)[0],
    "cwd": lambda: len(os.getcwd()),
    "Path.cwd": lambda: len(str(Path.cwd())),
}


@pytest.mark.parametrize("kind", CLOCKS)
def test_clocks_of_a_helper_are_not_frozen(kind: str) -> None:
    class Since:
        def now(self) -> float:
            return float(CLOCKS[kind]())

    since = Since()

    def helper() -> float:
        return since.now()

    step = tg.compile(lambda x: x + helper() * 0)
    with pytest.warns(UserWarning, match=r"it calls \w+"):
        for _ in range(4):
            step(tg.ones(1))
    assert step.replays == 0


class Saved(nn.Module):
    """A module that can be saved, and that notes when."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.saved, self.text = nn.Linear(3, 3), 0.0, ""

    def save(self, path: Path) -> None:
        with open(path, "wb") as file:
            file.write(self.layer.weight.detach().numpy().tobytes())
        self.saved = time.time()

    def forward(self, x: Any) -> Any:
        if not self.text:
            self.text = Path(__file__).read_text()
        return self.layer(x)


def test_functions_that_could_read_a_file_but_do_not_are_replayed() -> None:
    model = Saved()
    step = tg.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(8):
            step(three())
    assert step.replays >= 4


def test_what_may_run_is_looked_at_where_another_profiler_is_at_work(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("2")
    step, profiler = tg.compile(lambda x: x * of_text(path)), cProfile.Profile()
    with pytest.warns(UserWarning, match=r"it calls open"):
        profiler.enable()
        for _ in range(4):
            step(tg.ones(1))
        profiler.disable()
    assert profiler.getstats() and step.replays == 0


def test_a_logger_and_a_module_that_is_imported_are_no_clocks() -> None:
    def step(x: Any) -> Any:
        import colorsys

        logging.getLogger("step").warning("runs")
        load = colorsys.rgb_to_hsv(1.0, 0.0, 0.0)[2]
        return x * load

    compiled = tg.compile(step)
    for _ in range(6):
        sys.modules.pop("colorsys", None)
        assert compiled(tg.ones(1)).item() == 1
    assert compiled.replays > 0 and not compiled.notes


# ---- arrays of NumPy -----------------------------------------------------------------------------


def read_by_python(read: Callable[[Any], float]) -> Case:
    """An array that becomes a Tensor, and that Python reads as well."""

    def case() -> Any:
        a = np.ones(3, np.float32)
        return lambda x: x * tg.tensor(a) + read(a), lambda k: a.__setitem__(0, 1.0 + 4 * k)

    return case


def read_under_another_name() -> Any:
    class Held:
        a = np.ones(3, np.float32)

        def scale(self) -> float:
            b = self.a
            return float(b[0])

    held = Held()
    return lambda x: x * tg.from_numpy(held.a) + held.scale(), lambda k: held.a.__setitem__(0, 1.0 + k)


def read_by_a_function_of_the_same_name() -> Any:
    a = np.ones(3, np.float32)

    def tensor(array: Any) -> Any:
        return tg.tensor(array) * float(array[0])

    return lambda x: x * tensor(a), lambda k: a.__setitem__(0, 1.0 + k)


def read_in_a_tuple() -> Any:
    a = np.ones(3, np.float32)
    pair = (a, 1.0)
    return lambda x: x * tg.tensor(a) + float(pair[0][0]), lambda k: a.__setitem__(0, 1.0 + k)


def a_large_one() -> Any:
    a = np.zeros((200, 100), np.float32)
    return lambda x: x * float(a[7, 7]), lambda k: a.__setitem__((7, 7), 1.0 + k)


def read_by_any_name() -> Any:
    a = np.ones(3, np.float32)
    held, names = types.SimpleNamespace(a=a), ["".join("a")]

    def step(x: Any) -> Any:
        return x * tg.tensor(held.a) + sum([float(getattr(held, name)[0]) for name in names])

    return step, lambda k: a.__setitem__(0, 1.0 + k)


@pytest.mark.parametrize(
    "make",
    [
        read_by_python(lambda a: float(a[0]) * 2),
        read_by_python(lambda a: 2.0 if a.sum() < 4 else 3.0),
        read_by_python(lambda a: sum(a)),
        read_under_another_name,
        read_by_a_function_of_the_same_name,
        read_in_a_tuple,
        read_by_any_name,
        a_large_one,
    ],
    ids=["element", "branch", "loop", "attribute", "function", "tuple", "name", "large"],
)
def test_arrays_that_python_reads_are_watched_also_where_they_become_tensors(make: Case) -> None:
    assert assert_never_stale(make).replays >= PHASES


class Filled:
    """A buffer that is filled anew before each call."""

    def __init__(self) -> None:
        self.buffer = np.zeros(3, np.float32)

    def fill(self, k: int) -> None:
        self.buffer[...] = k
        assert self.buffer.sum() == 3 * k

    def by_as_tensor(self, x: Any) -> Any:
        return x * tg.as_tensor(self.buffer)

    def by_from_numpy(self, x: Any) -> Any:
        y = tg.from_numpy(self.buffer)
        return x + y

    def by_tensor(self, x: Any) -> Any:
        return (x * tg.tensor(self.buffer, dtype=tg.float32)).sum()


@pytest.mark.parametrize("name", ["as_tensor", "from_numpy", "tensor"])
def test_a_buffer_that_only_becomes_a_tensor_is_refilled_without_a_new_recording(name: str) -> None:
    filled = Filled()
    step = getattr(filled, f"by_{name}")
    compiled = tg.compile(step)
    for k in range(12):
        filled.fill(k)
        np.testing.assert_array_equal(compiled(three()).numpy(), step(three()).numpy())
    assert (compiled.recordings, compiled.replays) == (2, 10)


def test_a_buffer_that_numpy_reads_and_that_is_refilled_runs_as_it_is() -> None:
    buffer = np.zeros(3, np.float32)
    compiled = tg.compile(lambda x: x * tg.from_numpy(buffer) + float(buffer.max()))
    with pytest.warns(UserWarning, match="buffer changes"):
        for k in range(16):
            buffer[...] = k
            assert compiled(tg.ones(3)).tolist() == [2.0 * k] * 3
    assert compiled.recordings < 12


def test_a_step_that_counts_in_an_array_that_becomes_a_tensor_is_refused() -> None:
    counts = np.zeros(3, np.float32)

    def step(x: Any) -> Any:
        counts[0] += 1
        return x * tg.tensor(counts)

    compiled = tg.compile(step)
    with pytest.raises(UsageError, match="TG-P001.*counts"):
        for _ in range(4):
            compiled(three())


# ---- schedules and scalers -----------------------------------------------------------------------


def annealed(inside: bool, read: Callable[[Any], Any], make: Callable[[Any], Any]) -> Case:
    """A training step whose loss reads something of a schedule that steps now and then, or in each step."""

    def case() -> Any:
        layer = nn.Linear(3, 3)
        optimizer = tg.optim.SGD(layer.parameters(), lr=0.01)
        schedule = make(optimizer)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = layer(x).square().sum() + read(schedule) * layer.weight.square().sum()
            loss.backward()
            optimizer.step()
            if inside:
                schedule.step()
            return loss.detach()

        return step, lambda k: None if inside else schedule.step()

    return case


def exponential(optimizer: Any) -> Any:
    return tg.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


class Halved(tg.optim.lr_scheduler.LRScheduler):
    """A schedule of the user."""

    def get_lr(self) -> list[float]:
        return [lr * 0.5**self.last_epoch for lr in self.base_lrs]

    def progress(self) -> float:
        return self.last_epoch / 10


READS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "epoch": (lambda s: min(1.0, s.last_epoch / 10), exponential),
    "rate": (lambda s: s.get_lr()[0], exponential),
    "state": (lambda s: s.state_dict()["last_epoch"], exponential),
    "getattr": (lambda s: getattr(s, "_step_count"), exponential),  # noqa: B009
    "of the user": (lambda s: s.progress(), Halved),
    "setting": (lambda s: s.T_max, lambda o: tg.optim.lr_scheduler.CosineAnnealingLR(o, 8)),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", READS)
def test_what_a_step_reads_of_a_schedule_is_watched(kind: str, inside: bool) -> None:
    compiled = assert_never_stale(annealed(inside, *READS[kind]))
    assert inside or compiled.replays >= PHASES


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("make", [exponential, Halved, lambda o: tg.optim.lr_scheduler.LambdaLR(o, lambda e: 0.9**e)])
def test_a_schedule_that_a_step_does_not_read_goes_on_in_replays(make: Callable[[Any], Any], inside: bool) -> None:
    compiled = assert_never_stale(annealed(inside, lambda s: 1.0, make))
    assert compiled.recordings <= 3 and compiled.replays >= 17


def scaled_by(read: Callable[[Any], float], change: Callable[[Any, int], Any]) -> Case:
    def case() -> Any:
        scaler = tg.amp.GradScaler("cpu", init_scale=4.0)
        return lambda x: x * read(scaler), lambda k: change(scaler, k)

    return case


@pytest.mark.parametrize(
    "make",
    [
        scaled_by(lambda s: s.get_growth_factor(), lambda s, k: s.set_growth_factor(2.0 + k)),
        scaled_by(lambda s: s._growth_interval, lambda s, k: s.set_growth_interval(2 + k)),
        scaled_by(lambda s: s.state_dict()["backoff_factor"], lambda s, k: s.set_backoff_factor(0.5 / k)),
        scaled_by(lambda s: 2.0 if s.is_enabled() else 3.0, lambda s, k: setattr(s, "_enabled", not s._enabled)),
    ],
    ids=["growth", "attribute", "state", "enabled"],
)
def test_settings_of_a_scaler_are_watched(make: Case) -> None:
    assert assert_never_stale(make).replays >= PHASES


def test_a_step_that_reads_how_far_its_schedule_is_says_so() -> None:
    found = []
    for wrap in (lambda f: f, tg.compile):
        tg.manual_seed(0)
        step = wrap(annealed(True, *READS["epoch"])()[0])
        with pytest.warns(UserWarning, match="last_epoch") if found else contextlib.nullcontext():
            found.append([step(three()).item() for _ in range(20)])
    assert found[0] == pytest.approx(found[1])


def test_a_file_of_the_users_named_profile_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "profile.py").write_text("")
    (tmp_path / "number.txt").write_text("2")
    script = tmp_path / "script.py"
    script.write_text(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import tinygrad_ja as tg\n"
        "def read():\n    with open('number.txt') as file:\n        return float(file.read())\n"
        "step = tg.compile(lambda x: x * read())\n"
        "print([step(tg.ones(1)).item() for _ in range(3)], 'open()' in step.notes[0])\n"
    )
    made = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert made.stdout == "[2.0, 2.0, 2.0] True\n"
