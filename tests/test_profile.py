"""``tg.profile``: it counts what runs, says whose line it is, changes nothing, and leaves nothing behind."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.core.modes import modes
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.core.tape import Node
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.profiling.lines import innermost_line
from tinygrad_ja.profiling.recorder import Call, Marks, Recorder
from tinygrad_ja.table import width

F = nn.functional


class Net(nn.Module):
    """Two layers; the lines of its forward are what a profile names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = tg.tanh(self.first(x))  # line of the first layer
        return self.second(h)  # line of the second layer


def number_of(mark):
    """The number of the line of this file that ends with a comment."""
    with open(__file__, encoding="utf-8") as file:
        (number,) = [i for i, line in enumerate(file, 1) if line.endswith(f"  # {mark}\n")]
    return number


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")


@pytest.fixture
def training():
    """A step of a net, and the net."""
    tg.manual_seed(0)
    net = Net()
    optimizer = tg.optim.Adam(net.parameters())
    x, target = tg.randn(5, 6), tg.tensor([0, 1, 2, 0, 1])

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), target)  # line of the loss
        loss.backward()
        optimizer.step()  # line of the update
        return loss.item()

    return step, net


def by_name(profile, by="operator"):
    return {total.name: total for total in profile.totals(by)}


# ---- what it counts


def test_every_operator_of_a_step_is_counted(training):
    step, _ = training
    with tg.profile() as p:
        for _ in range(3):
            step()
    found = by_name(p)
    expected = {
        "linear": 6,
        "tanh": 3,
        "cross_entropy": 3,
        "linear.backward": 6,
        "tanh.backward": 3,
        "cross_entropy.backward": 3,
    }
    assert {name: found[name].calls for name in expected} == expected
    assert found["Adam"].calls == 3 * 4
    assert found["linear"].flops == 3 * 2 * (5 * 6 * 8 + 5 * 8 * 3)
    assert found["linear.backward"].flops == 3 * 2 * (5 * 6 * 8 + 2 * 5 * 8 * 3)  # no gradient for the data
    assert found["tanh"].flops == 3 * 40 and found["tanh"].nbytes == 3 * 2 * 160
    assert found["linear"].shapes == {((5, 6), (8, 6), (8,)): 3, ((5, 8), (3, 8), (3,)): 3}
    parameters = 6 * 8 + 8 + 8 * 3 + 3
    assert found["Adam"].nbytes == 3 * 4 * 7 * parameters  # reads g; reads and writes p, m and v


def test_each_line_gets_its_forward_and_its_backward(training):
    step, _ = training
    with tg.profile() as p:
        step()
    found = {total.line.number: total for total in p.totals("line")}
    marks = ["line of the first layer", "line of the second layer", "line of the loss", "line of the update"]
    first, second, loss, update = [found.pop(number_of(mark)) for mark in marks]
    assert not found
    assert all(total.forward > 0 and total.backward > 0 and total.update == 0 for total in (first, second, loss))
    assert update.update > 0 and update.forward == update.backward == 0
    assert first.line.text.startswith("h = tg.tanh(self.first(x))") and first.line.function == "forward"
    linear = 2 * 5 * 6 * 8
    assert first.flops == linear * 2 + 40 + 40  # with tanh, and the gradient of the weight alone
    assert second.flops == 3 * 2 * 5 * 8 * 3


def test_calls_within_calls_are_in_the_time_of_the_outer_ones_and_count_no_work():
    x = tg.randn(4, 4, requires_grad=True)
    with tg.profile() as p:
        (x @ x).sum().backward()
    outer = next(call for call in p.calls if call.title == "matmul.backward")
    inner = [call for call in p.calls if call.parent is outer]
    assert inner and all(call.part == "backward" and call.flops == call.nbytes == 0 for call in inner)
    assert outer.own == outer.nanoseconds - sum(call.nanoseconds for call in inner) >= 0
    assert outer.start <= inner[0].start and inner[0].start + inner[0].nanoseconds <= outer.start + outer.nanoseconds
    assert outer.flops == 2 * 2 * 64


def test_time_adds_up():
    x = tg.randn(200, 200)
    with tg.profile() as p:
        time.sleep(0.02)
        for _ in range(5):
            x = tg.tanh(x @ x)
    own = sum(total.own for total in p.totals())
    assert own == pytest.approx(sum(total.seconds for total in p.totals("line")))
    assert own + p.outside == pytest.approx(p.seconds)
    assert p.outside >= 0.02


@pytest.mark.parametrize(
    ("run", "name", "macs"),
    [
        (lambda x: tg.einsum("ij,jk->ik", x, x), "einsum", 6**3),
        (lambda x: F.conv2d(x.reshape(1, 1, 6, 6), x[:3, :3].reshape(1, 1, 3, 3)), "convolution", 16 * 9),
        (lambda x: F.scaled_dot_product_attention(x, x, x), "attention", 2 * 6**3),
        (lambda x: x.T @ x, "matmul", 6**3),
    ],
)
def test_a_backward_multiplies_once_for_each_factor_with_a_gradient(run, name, macs):
    x = tg.randn(6, 6, requires_grad=True)
    with tg.profile() as p:
        run(x).sum().backward()
    found = by_name(p)
    assert (found[name].flops, found[f"{name}.backward"].flops) == (2 * macs, 4 * macs)


def test_a_layer_of_lstm_multiplies_twice_as_much_in_its_backward():
    layer, x = nn.LSTM(3, 4), tg.randn(5, 2, 3, requires_grad=True)
    with tg.profile() as p:
        layer(x)[0].sum().backward()
    found = by_name(p)
    macs = 5 * 2 * (3 + 4) * 16
    assert (found["lstm_layer"].flops, found["lstm_layer.backward"].flops) == (2 * macs, 4 * macs)


def test_views_cost_nothing_and_rows_cost_what_is_copied():
    table = tg.randn(1000, 4)
    with tg.profile() as p:
        _ = table.reshape(4, 1000).T
        table[2:5]
        table[tg.tensor([3, 5])]
    found = by_name(p)
    assert all(found[name].nbytes == found[name].flops == 0 for name in ("reshape", "transpose", "getitem"))
    assert found["index_select"].nbytes == 2 * 2 * 16 + 16


def test_what_is_repeated_is_read_once():
    row = np.ones((1, 8), np.float32)
    with tg.profile() as p:
        tg.exp(np.broadcast_to(row, (100, 8)))
    assert by_name(p)["exp"].nbytes == 32 + 3200


# ---- whose line it is


def test_a_part_under_checkpoint_belongs_to_its_own_lines():
    w = tg.randn(4, 4, requires_grad=True)

    def part(x):
        return tg.tanh(x @ w)  # line under a checkpoint

    with tg.profile() as p:
        tg.checkpoint(part, tg.ones(4, 4)).sum().backward()
    found = {total.line.number: total for total in p.totals("line")}[number_of("line under a checkpoint")]
    assert sum(call.title == "tanh" for call in p.calls) == 2  # run again by the backward
    assert found.backward > 0 and found.calls == 2 * 2 + 2


def test_what_was_made_before_has_no_line():
    w = tg.randn(4, 4, requires_grad=True)
    loss = tg.tanh(w).sum()
    with tg.profile() as p:
        loss.backward()
    assert {call.line for call in p.calls if call.title == "tanh.backward"} == {None}
    assert "(made before the profile)" in p.table("line")


def test_second_derivatives_are_seen_too():
    x = tg.randn(3, requires_grad=True)
    with tg.profile() as p:
        (g,) = tg.grad(tg.tanh(x).sum(), x, create_graph=True)  # line of a first derivative
        g.sum().backward()
    found = by_name(p)
    assert found["tanh.backward"].calls == 2 and found["mul.backward"].calls >= 1
    assert {call.line.number for call in p.calls if call.title == "tanh.backward"} == {number_of("line of a first derivative")}
    np.testing.assert_allclose(x.grad.array, -2 * np.tanh(x.array) * (1 - np.tanh(x.array) ** 2), rtol=1e-4, atol=1e-6)


def test_the_innermost_line_passes_over_the_package():
    import sys

    line, in_walk = innermost_line(sys._getframe())
    assert line.function == "test_the_innermost_line_passes_over_the_package" and line.file == __file__ and not in_walk


# ---- it changes nothing


def test_results_are_those_without_it(training):
    step, net = training
    with tg.profile():
        watched = [step() for _ in range(3)]
    state = {name: p.array.copy() for name, p in net.named_parameters()}
    tg.manual_seed(0)
    other = Net()
    optimizer = tg.optim.Adam(other.parameters())
    x, target = tg.randn(5, 6), tg.tensor([0, 1, 2, 0, 1])
    plain = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(other(x), target)
        loss.backward()
        optimizer.step()
        plain.append(loss.item())
    assert watched == plain
    for name, p in other.named_parameters():
        assert np.array_equal(p.array, state[name])


def test_everything_is_as_before_afterwards(training):
    step, _ = training
    step()
    kernels = {name: dict(operator.kernels) for name, operator in OPERATORS.items()}
    backwards = {name: operator.__dict__.get("backward") for name, operator in OPERATORS.items()}
    update = tg.optim.Adam.update
    with pytest.raises(ZeroDivisionError), tg.profile() as p:
        step()
        assert OPERATORS["tanh"].kernels[np.ndarray] is not kernels["tanh"][np.ndarray]
        raise ZeroDivisionError
    assert {name: operator.kernels[np.ndarray] for name, operator in OPERATORS.items() if np.ndarray in kernels[name]} == {
        name: kernel[np.ndarray] for name, kernel in kernels.items() if np.ndarray in kernel
    }
    assert {name: operator.__dict__.get("backward") for name, operator in OPERATORS.items()} == backwards
    assert tg.optim.Adam.update is update
    assert modes.node is Node and modes.record is Node and modes.profiler is None
    number = len(p.calls)
    step()
    assert len(p.calls) == number > 0


def test_no_grad_stays_in_force():
    w = tg.ones(2, requires_grad=True)
    with tg.no_grad(), tg.profile():
        assert not (w * 2).requires_grad
    with tg.profile(), tg.no_grad():
        assert not (w * 2).requires_grad
    with tg.profile():
        assert (w * 2).requires_grad


def test_a_function_that_somebody_kept_works_on_unwatched():
    with tg.profile() as p:
        kept = OPERATORS["tanh"].kernels[np.ndarray]
    assert kept(np.zeros(2)).tolist() == [0, 0] and not p.calls


def test_errors_of_operators_pass_through():
    with tg.profile() as p:
        with pytest.raises(tg.errors.ShapeError, match="TG-S"):
            tg.ones(2, 3) @ tg.ones(2, 3)
        tg.ones(2) + 1
    assert by_name(p)["add"].calls == 1


def test_one_profile_at_a_time():
    with tg.profile(), pytest.raises(ArgumentError, match="TG-A003"), tg.profile():
        pass
    with tg.profile() as p:
        tg.ones(2) + 1
    assert len(p.calls) == 1


def test_multiplications_are_counted_inside_of_a_profile():
    layer = nn.Linear(3, 4)
    with tg.profile() as p:
        assert tg.summary(layer, tg.ones(2, 3)).multiplications == 24
    assert by_name(p)["linear"].calls == 1


def test_other_threads_are_seen_apart():
    x = tg.randn(8, 8, requires_grad=True)

    def work():
        tg.tanh(x).sum()

    with tg.profile() as p:
        tg.exp(x)
        other = threading.Thread(target=work)
        other.start()
        other.join()
    threads = {call.title: call.thread for call in p.calls}
    assert threads["tanh"] == threads["sum"] != threads["exp"]
    assert by_name(p)["tanh"].calls == 1


def test_memory_is_watched_when_asked_for():
    with tg.profile(memory=True) as p:
        kept = tg.exp(tg.zeros(256, 256))
        tg.exp(kept)
    found = by_name(p)["exp"]
    assert 2 * kept.array.nbytes <= found.allocated < 2 * kept.array.nbytes + 10_000
    assert p.peak >= 2 * kept.array.nbytes and kept.array.nbytes <= p.allocated < 2 * kept.array.nbytes
    assert "allocated MB" in p.table() and "allocated MB" in p.table("line")
    with tg.profile() as p:
        pass
    assert p.peak is None and "allocated MB" not in p.table()


# ---- compiled functions, and a GPU


@pytest.fixture
def compiled():
    """Makes a compiled step with its weight, ready to be replayed."""

    def make(backend):
        tg.manual_seed(0)
        w = tg.randn(6, 3, requires_grad=True)
        optimizer = tg.optim.SGD([w], lr=0.1)

        def step(x, target):
            optimizer.zero_grad()
            y = tg.tanh(x @ w)  # line of a compiled forward
            loss = (y - target).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        made = tg.compile(step, backend=backend)
        data = tg.randn(5, 6), tg.randn(5, 3)
        while made.replays == 0:
            made(*data)
        return made, data, w

    return make


def test_instructions_of_a_compiled_step_are_seen_one_by_one(compiled):
    step, data, w = compiled("numpy")
    with tg.profile() as p:
        watched = [step(*data).item() for _ in range(3)]
    plan = step.plan()
    assert {call.part for call in p.calls} == {"forward", "backward", "update"}
    assert sum(call.flops for call in p.calls) == 3 * plan.flops
    assert by_name(p)["matmul"].calls == 3
    found = {total.line.number: total for total in p.totals("line") if total.line is not None}
    line = found[number_of("line of a compiled forward")]
    assert line.forward > 0 and line.backward > 0  # the product of the backward belongs to it too
    other, data, same = compiled("numpy")
    assert watched == [other(*data).item() for _ in range(3)]
    assert np.array_equal(w.array, same.array)


def test_a_compiled_step_that_runs_as_one_is_one_call(compiled):
    step, data, _ = compiled("plain")
    with tg.profile() as p:
        step(*data)
    (call,) = p.calls
    assert (call.title, call.part, call.flops) == ("compiled", "compiled", step.plan().flops)
    assert call.line.function == "test_a_compiled_step_that_runs_as_one_is_one_call"
    assert "compiled ms" in p.table("line")


def test_a_step_may_be_recorded_and_compiled_inside_of_a_profile(compiled):
    with tg.profile() as p:
        step, data, _ = compiled("numpy")
    number = len(p.calls)
    line = {total.line.number: total for total in p.totals("line")}[number_of("line of a compiled forward")]
    assert line.forward > 0 and line.backward > 0 and {call.part for call in p.calls} >= {"forward", "backward"}
    values = [step(*data).item() for _ in range(3)]
    assert len(p.calls) == number and values[2] < values[0]


def test_on_a_gpu_times_are_those_between_marks_in_its_queue():
    class Event:
        now = 0.0

        def record(self):
            Event.now += 2.0  # milliseconds
            self.at = Event.now

    class Cuda:
        class Device:
            def synchronize(self):
                Event.now += 100

        @staticmethod
        def get_elapsed_time(begin, end):
            return end.at - begin.at

    Cuda.Event = Event
    cupy = type("cupy", (), {"cuda": Cuda})
    recorder = Recorder()
    recorder._gpu = Marks(cupy)
    calls = [Call("matmul", "forward", None, None, device) for device in ("cuda", "cpu", "cuda")]
    assert [recorder.run(call, lambda x: x + 1, 1) for call in calls] == [2, 2, 2]
    recorder._gpu.finish(calls)
    assert [(call.start, call.nanoseconds) for call in calls if call.device == "cuda"] == [
        (2_000_000, 2_000_000),
        (6_000_000, 2_000_000),
    ]
    assert calls[1].nanoseconds < 1_000_000


# ---- how it is shown


@pytest.mark.parametrize(
    ("language", "by", "words"),
    [
        ("en", "operator", ["calls", "GFLOP/s", "outside of operators"]),
        ("ja", "operator", ["回数", "GFLOP/s", "演算以外"]),
        ("en", "line", ["code", "backward ms", "update ms"]),
        ("ja", "line", ["コード", "逆伝播 ms", "更新 ms"]),
    ],
)
def test_tables_line_up(training, monkeypatch, language, by, words):
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    step, _ = training
    with tg.profile() as p:
        step()
    text = p.table(by)
    assert all(word in text for word in words)
    head, rule, *rows = text.splitlines()
    rows = rows[: rows.index(rule)]
    assert set(rule) == {"-"} and len(rows) == len(p.totals(by))
    ends = {width(row) for row in (head, *rows)}
    assert len(ends) == 1  # the last column ends at the right


def test_a_table_shows_the_longest_first_and_says_what_is_left_out(training):
    step, _ = training
    with tg.profile() as p:
        step()
    totals = p.totals()
    assert [total.own for total in totals] == sorted([total.own for total in totals], reverse=True)
    lines = p.table(rows=2).splitlines()
    assert lines[2].startswith(totals[0].name) and lines[4] == f"… and {len(totals) - 2} more"
    assert str(p) == repr(p) == p.table()
    with pytest.raises(ArgumentError, match="operator, line"):
        p.table("file")


def test_an_empty_profile_has_a_table():
    with tg.profile() as p:
        pass
    assert p.totals() == [] and "outside of operators" in str(p)


def test_the_trace_is_what_chrome_and_perfetto_read(training, tmp_path):
    step, _ = training
    with tg.profile() as p:
        step()
    path = p.save_trace(tmp_path / "trace.json")
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    names = [event for event in events if event["ph"] == "M"]
    assert [event["name"] for event in names] == ["process_name", "thread_name"]
    complete = [event for event in events if event["ph"] == "X"]
    assert len(complete) == len(p.calls) and len(names) + len(complete) == len(events)
    assert {event["cat"] for event in complete} == {"forward", "backward", "update"}
    assert [event["ts"] for event in complete] == sorted(event["ts"] for event in complete)
    for event in complete:
        assert {"name", "ph", "ts", "dur", "pid", "tid", "args"} <= set(event) and event["dur"] >= 0
    linear = next(event for event in complete if event["name"] == "linear")
    assert linear["args"]["shapes"] == "(5, 6) (8, 6) (8,)" and linear["args"]["flops"] == 480
    assert linear["args"]["line"] == f"test_profile.py:{number_of('line of the first layer')}"
    open_until: list[float] = []  # events of a thread nest
    for event in complete:
        while open_until and open_until[-1] <= event["ts"]:
            open_until.pop()
        end = event["ts"] + event["dur"]
        assert not open_until or end <= open_until[-1] + 0.001
        open_until.append(end)
