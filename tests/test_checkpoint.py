"""Checkpoints: what is kept, what is restored, and what happens to damaged files and to parts that refuse."""

from __future__ import annotations

import os
import random
import re
import time
import warnings

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn, optim
from tinygrad_ja.errors import ArgumentError, StateError
from tinygrad_ja.io import Checkpoints
from tinygrad_ja.optim.swa_utils import AveragedModel, get_ema_avg_fn


class Cursor:
    """The smallest part: a position."""

    def __init__(self, position=0):
        self.position = position

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        if state["position"] < 0:
            raise ValueError("a negative position")
        self.position = state["position"]


def steps(checkpoints):
    return [saved.step for saved in checkpoints.saved()]


# ---- everything comes back


class Run:
    """A training run with everything that has a state."""

    def __init__(self):
        tg.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.ema = AveragedModel(self.model, avg_fn=get_ema_avg_fn(0.9), use_buffers=True)
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
        self.schedule = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=20)
        self.scaler = tg.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
        self.order, self.numpys, self.pythons = tg.Generator().manual_seed(1), np.random.default_rng(2), random.Random(3)
        self.older = np.random.RandomState(4)
        self.losses = []

    def parts(self):
        return {name: value for name, value in vars(self).items() if name != "losses"}

    def step(self):
        x = tg.randn(8, 3, generator=self.order) + self.pythons.random() + random.random()
        d = tg.from_numpy((self.numpys.normal(size=(8, 1)) + np.random.random() + self.older.normal()).astype(np.float32))
        loss = nn.functional.mse_loss(self.model(x), d)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.ema.update_parameters(self.model)
        self.losses.append(loss.item())

    def numbers(self):
        named = {**self.model.state_dict(), **self.ema.state_dict()}
        return {name: value.array.tobytes() for name, value in named.items()}


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    random.seed(4)
    np.random.seed(5)
    whole = Run()
    checkpoints = Checkpoints(tmp_path, whole.parts())
    for _ in range(5):
        whole.step()
    path = checkpoints.save(5, extra={"losses": whole.losses})
    for _ in range(5):
        whole.step()

    resumed = Run()
    found = Checkpoints(tmp_path, resumed.parts()).restore()
    assert (found.step, found.metric, found.path) == (5, None, path)
    resumed.losses = found.extra["losses"]
    for _ in range(5):
        resumed.step()
    assert resumed.losses == whole.losses and resumed.numbers() == whole.numbers()
    assert resumed.schedule.get_last_lr() == whole.schedule.get_last_lr()
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()


def test_any_safetensors_reader_sees_the_weights(tmp_path):
    model = nn.Sequential(nn.Linear(2, 1))
    path = Checkpoints(tmp_path, {"model": model}).save(3)
    assert path.name == "checkpoint-00000003.safetensors"
    assert tg.io.load_safetensors(path)["model.0.weight"].tolist() == model[0].weight.tolist()
    other = nn.Sequential(nn.Linear(2, 1))
    other.load_state_dict(tg.load(path)["model"])
    assert other[0].weight.tolist() == model[0].weight.tolist()


def test_streams_on_another_device_go_on(tmp_path):
    """Whether a run saves or not, and whether it is resumed, it draws the same."""

    def begun():
        tg.manual_seed(0)
        tg.rand(2, device="strict")
        return tg.Generator("strict").manual_seed(1)

    def draw(generator):
        return [tg.rand(3, device="strict").tolist(), tg.rand(3, device="strict", generator=generator).tolist()]

    expected = draw(begun())
    own = begun()
    Checkpoints(tmp_path, {"own": own}).save(7)
    assert draw(own) == expected
    tg.manual_seed(9)
    other = tg.Generator("strict")
    Checkpoints(tmp_path, {"own": other}).restore()
    assert draw(other) == expected


def test_a_file_of_an_earlier_version_has_the_seed_of_a_stream_on_a_gpu(tmp_path):
    own = tg.Generator("strict")
    path = Checkpoints(tmp_path, {"own": own}).save(7)
    state = tg.load(path)
    state["own"] = {"seed": 5}
    tg.save(state, path)
    Checkpoints(tmp_path, {"own": own}).restore()
    assert own.get_state() == tg.Generator("strict").manual_seed(5).get_state()


def test_a_stream_is_restored_after_the_parts_that_may_draw_from_it(tmp_path):
    stream = random.Random(0)

    class Drawing(Cursor):
        def load_state_dict(self, state):
            stream.random()

    checkpoints = Checkpoints(tmp_path, {"stream": stream, "drawing": Drawing()})
    checkpoints.save(1)
    expected = stream.random()
    checkpoints.restore()
    assert stream.random() == expected


def test_nothing_to_restore(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none", {"cursor": Cursor()})
    assert checkpoints.restore() is None and checkpoints.restore("best") is None
    assert checkpoints.best() is None and checkpoints.saved() == [] and not (tmp_path / "none").exists()


# ---- which files stay


def test_the_newest_and_the_best_stay(tmp_path):
    cursor = Cursor()
    checkpoints = Checkpoints(tmp_path, {"cursor": cursor}, keep=2, best=1)
    for step, metric in enumerate([5.0, 1.0, float("nan"), 3.0, 2.0, None]):
        cursor.position = 10 * step
        checkpoints.save(step, metric=metric)
    assert steps(checkpoints) == [1, 4, 5]
    assert checkpoints.best().step == 1
    assert checkpoints.restore("best").metric == 1.0 and cursor.position == 10
    assert checkpoints.restore().step == 5 and cursor.position == 50
    assert checkpoints.restore(4).metric == 2.0 and cursor.position == 40
    assert checkpoints.restore(checkpoints.best().path).step == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"checkpoint-{n:08d}.safetensors" for n in (1, 4, 5)]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"keep": 1, "best": 0}, [5]),
        ({"keep": None}, [0, 1, 2, 3, 4, 5]),
        ({"keep": 1, "best": 2, "mode": "max"}, [0, 3, 5]),
        ({"keep": 1, "best": 2}, [1, 2, 5]),
        ({"keep": 9}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_keep_best_and_mode(tmp_path, options, left):
    checkpoints = Checkpoints(tmp_path, {"cursor": Cursor()}, **options)
    for step, metric in enumerate([5.0, 1.0, 1.0, 3.0, 2.0, 2.5]):
        checkpoints.save(step, metric=metric)
    assert steps(checkpoints) == left


def test_a_metric_may_be_a_tensor(tmp_path):
    Checkpoints(tmp_path, {}).save(1, metric=tg.tensor(0.5))
    assert Checkpoints(tmp_path, {}).best().metric == 0.5


def test_the_newest_is_what_was_written_last_and_not_the_largest_step(tmp_path):
    """After going back to an older step, or starting anew in the same folder, the files of the abandoned course go."""
    cursor = Cursor()
    checkpoints = Checkpoints(tmp_path, {"cursor": cursor}, keep=2, best=0)
    for step in (100, 200):
        checkpoints.save(step)
    again = Checkpoints(tmp_path, {"cursor": cursor}, keep=2, best=0)
    again.save(1)
    assert again.restore().step == 1 and steps(again) == [200, 1]
    again.save(2)
    assert steps(again) == [1, 2]
    cursor.position = 7
    again.save(2)
    cursor.position = 0
    again.restore()
    assert cursor.position == 7 and steps(again) == [1, 2]


def test_files_of_others_are_left_alone(tmp_path):
    names = ["notes.txt", "checkpoint-best.safetensors", "checkpoint-00000001.safetensors.bak", ".checkpoint-1.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    checkpoints = Checkpoints(tmp_path, {"cursor": Cursor()}, keep=1, best=0)
    for step in range(3):
        checkpoints.save(step)
    assert {p.name for p in tmp_path.iterdir()} == {*names, "checkpoint-00000002.safetensors"}


def test_what_killed_runs_left_goes_after_an_hour(tmp_path):
    old, new = (tmp_path / f".checkpoint-00000001.safetensors.{mark}.tmp" for mark in ("0123abcd", "4567abcd"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3700,) * 2)
    Checkpoints(tmp_path, {"cursor": Cursor()}).save(2)
    assert not old.exists() and new.exists()


# ---- damaged files


def test_a_damaged_newest_file_is_passed_over_with_a_warning(tmp_path):
    cursor = Cursor()
    checkpoints = Checkpoints(tmp_path, {"cursor": cursor, "w": nn.Linear(2, 2)}, keep=3)
    for step in (1, 2, 3):
        cursor.position = step
        checkpoints.save(step, metric=step)
    newest = tmp_path / "checkpoint-00000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])  # its header says that more follows
    middle = tmp_path / "checkpoint-00000002.safetensors"
    changed = bytearray(middle.read_bytes())
    changed[-1] ^= 1  # in an array: only its checksum can tell
    middle.write_bytes(changed)
    with pytest.warns(UserWarning) as found:
        assert checkpoints.restore().step == 1
    assert cursor.position == 1
    told = sorted(str(warning.message) for warning in found)
    assert len(told) == 2 and "00000002" in told[0] and "00000003" in told[1]
    assert all("[TG-F005]" in message and "passed over" in message for message in told)
    with pytest.raises(StateError, match="TG-F005.*00000002"):
        checkpoints.restore(2)
    with pytest.raises(ArgumentError, match="a step that was saved: 1, 2"):  # the header of 3 is damaged
        checkpoints.restore(3)


def test_a_damaged_file_does_not_take_the_place_of_a_good_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"cursor": Cursor()}, keep=2, best=0)
    for step in (1, 2):
        checkpoints.save(step)
    (tmp_path / "checkpoint-00000009.safetensors").write_bytes(b"half")
    checkpoints.save(3)
    assert steps(checkpoints) == [2, 3] and (tmp_path / "checkpoint-00000009.safetensors").exists()


def test_a_run_never_starts_anew_because_every_file_is_damaged(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"cursor": Cursor()})
    checkpoints.save(1).write_bytes(b"half")
    for which in ("newest", "best", tmp_path / "checkpoint-00000001.safetensors"):
        with pytest.raises(StateError, match="TG-F005.*00000001"):
            checkpoints.restore(which)


ABOUT = {"step": 1, "metric": None, "serial": 1}


@pytest.mark.parametrize(
    "state",
    [
        {"cursor": {"position": 1}},
        {"checkpoint": {**ABOUT, "serial": "1"}, "cursor": {"position": 1}, "streams": {}, "extra": None},
        {"checkpoint": ABOUT, "cursor": {"position": 1}, "streams": None, "extra": None},
        {"checkpoint": ABOUT, "cursor": {"position": 1}, "streams": {}},
        [1],
    ],
)
def test_a_file_of_tg_save_is_no_checkpoint(tmp_path, state):
    tg.save(state, tmp_path / "checkpoint-00000001.safetensors")
    with pytest.raises(StateError, match="not Checkpoints.*tg.load"):
        Checkpoints(tmp_path, {"cursor": Cursor()}).restore()


# ---- all or nothing


def test_when_one_part_refuses_none_has_changed(tmp_path):
    def build(width):
        model = nn.Linear(2, width)
        return {"first": Cursor(), "model": model, "optimizer": optim.SGD(model.parameters(), lr=0.5)}

    saved = build(3)
    saved["first"].position = 8
    checkpoints = Checkpoints(tmp_path, saved)
    tg.manual_seed(1)
    random.seed(1)
    path = checkpoints.save(1)

    parts = build(4)
    tg.manual_seed(2)
    random.seed(2)
    before = parts["model"].weight.tolist()
    with pytest.raises(StateError, match=r"TG-F001.*Linear"):
        Checkpoints(tmp_path, parts).restore()
    assert parts["first"].position == 0 and parts["model"].weight.tolist() == before
    assert tg.get_rng_state() == tg.Generator().manual_seed(2).get_state() and random.getstate() == random.Random(2).getstate()

    parts = {**build(3), "last": Cursor(-1)}
    saved["last"] = Cursor(-1)
    Checkpoints(tmp_path, saved).save(2)
    parts["last"].position, parts["optimizer"].param_groups[0]["lr"] = 5, 0.1
    before = parts["model"].weight.tolist()
    with pytest.raises(ValueError, match="a negative position"):
        Checkpoints(tmp_path, parts).restore()
    assert parts["first"].position == 0 and parts["last"].position == 5
    assert parts["model"].weight.tolist() == before and parts["optimizer"].param_groups[0]["lr"] == 0.1
    assert path.exists()


def test_other_parts_than_saved_are_refused_by_name(tmp_path):
    Checkpoints(tmp_path, {"a": Cursor(), "b": Cursor()}).save(1)
    with pytest.raises(StateError, match="TG-F003.*it holds a, b, the parts are a, c"):
        Checkpoints(tmp_path, {"a": Cursor(), "c": Cursor()}).restore()


def test_what_cannot_be_saved_leaves_the_older_file(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"cursor": Cursor()})
    checkpoints.save(1)
    with pytest.raises(ArgumentError, match=r"state\['extra'\]"):
        checkpoints.save(2, extra=object())
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-00000001.safetensors"]


# ---- settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": Cursor()}, "parts = Cursor is not allowed"),
        ({"parts": {"x": 3}}, "'x': int is not allowed"),
        ({"parts": {"extra": Cursor()}}, "'extra' is not allowed"),
        ({"parts": {3: Cursor()}}, "3 is not allowed"),
        ({"keep": 0}, "keep = 0"),
        ({"keep": True}, "keep = True"),
        ({"best": -1}, "best = -1"),
        ({"mode": "least"}, "mode = 'least'"),
    ],
)
def test_settings_outside_of_their_range_are_refused(tmp_path, options, words):
    with pytest.raises(ArgumentError, match=f"TG-A001.*{re.escape(words)}"):
        Checkpoints(tmp_path, **{"parts": {}, **options})


def test_steps_outside_of_their_range_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    for step in (-1, 1.0, "1", None, True):
        with pytest.raises(ArgumentError, match="step"):
            checkpoints.save(step)
    checkpoints.save(123_456_789)
    with pytest.raises(ArgumentError, match="a step that was saved: 123456789"):
        checkpoints.restore(5)
    with pytest.raises(FileNotFoundError):
        checkpoints.restore("none.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoints.restore().step == 123_456_789
