"""``tg.compile``: nothing that a compiled function has read goes stale, and what cannot be replayed is refused."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pytest
from compiled_runs import batches, train

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import CompileError, UsageError

# ---- when to record again ------------------------------------------------------------------------


def settle(step: Any, *args: Any) -> Any:
    """Call until replays happen."""
    for _ in range(5):
        made = step(*args)
    assert step.replays > 0, step.notes
    return made


def test_new_shapes_dtypes_arguments_and_modes_are_recorded_anew() -> None:
    layer = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

    @tg.compile
    def forward(x: Any, power: int = 1, *, flag: bool = False) -> Any:
        with tg.no_grad():
            return (layer(x) ** power).sum() if flag else (layer(x) ** power).mean()

    def plain(x: Any, **more: Any) -> float:
        return forward.__wrapped__(x, **more).item()

    layer.eval()
    a, b = tg.ones(2, 3), tg.ones(5, 3)
    for x, more in ((a, {}), (b, {}), (a, {"power": 2}), (a, {"power": 2, "flag": True})):
        for _ in range(4):
            assert forward(x, **more).item() == pytest.approx(plain(x, **more))
    seen = forward.recordings
    assert forward(a).item() == pytest.approx(plain(a)) and forward.recordings == seen
    layer.train()
    values = {forward(a).item() for _ in range(6)}
    assert len(values) > 1
    layer.eval()
    assert forward(a).item() == pytest.approx(plain(a))
    layer.double()
    for _ in range(3):
        assert forward(a.double()).dtype == tg.float64


def test_the_cache_is_bounded() -> None:
    step = tg.compile(lambda x: (x * 2).sum(), cache_size=3)
    for n in range(1, 8):
        for _ in range(3):
            assert step(tg.ones(n)).item() == 2 * n
    assert sum(map(len, step._entries.values())) <= 3


SCALE = 2.0


def test_a_global_number_that_changes() -> None:
    global SCALE
    SCALE = 2.0
    step = tg.compile(lambda x: x * SCALE)
    settle(step, tg.ones(2))
    SCALE = 3.0
    assert step(tg.ones(2)).tolist() == [3, 3]
    SCALE = 2.0
    assert step(tg.ones(2)).tolist() == [2, 2]


def test_a_changed_attribute_a_list_a_closure_and_a_class_attribute() -> None:
    class Settings:
        factor = 2.0

    class Model(nn.Module):
        depth = 1

        def __init__(self) -> None:
            super().__init__()
            self.scales = [1.0, 2.0]
            self.settings = Settings()
            self.table = {"shift": 1.0}

        def forward(self, x: Any) -> Any:
            for scale in self.scales:
                x = x * scale
            return x * self.settings.factor + self.table["shift"] + bias + self.depth

    bias = 0.0
    model = Model()

    @tg.compile
    def step(x: Any) -> Any:
        return model(x)

    def check(expected: float) -> None:
        for _ in range(4):
            assert step(tg.ones(1)).item() == expected

    check(6)
    model.scales.append(3.0)
    check(14)
    model.scales[0] = 0.5
    check(8)
    model.settings.factor = 1.0
    check(5)
    model.table["shift"] = 2.0
    check(6)
    bias = 10.0
    check(16)
    Model.depth = 2
    check(17)
    Settings.factor = 4.0  # hidden behind the instance's own
    check(17)


def test_a_captured_tensor_that_is_replaced_or_changed_in_place() -> None:
    held = {"x": tg.tensor([1.0, 2.0])}
    step = tg.compile(lambda y: y + held["x"])
    settle(step, tg.zeros(2))
    held["x"] = tg.tensor([5.0, 6.0])
    assert step(tg.zeros(2)).tolist() == [5, 6]
    held["x"] += 1
    assert step(tg.zeros(2)).tolist() == [6, 7]
    held["x"][0] = 0.0
    assert step(tg.zeros(2)).tolist() == [0, 7]
    held["x"].array[...] = 3.0
    assert step(tg.zeros(2)).tolist() == [3, 3]


def test_a_batch_in_a_global_name() -> None:
    class Now:
        batch: Any = None

    step = tg.compile(lambda: (Now.batch * 2).sum())
    for n in range(10):
        Now.batch = tg.full((3,), float(n))
        assert step().item() == 6 * n


def test_weights_that_are_loaded_and_moved() -> None:
    model = nn.Linear(2, 1)
    step = tg.compile(tg.no_grad(lambda x: model(x)))
    settle(step, tg.ones(1, 2))
    model.load_state_dict({"weight": tg.tensor([[1.0, 2.0]]), "bias": tg.tensor([0.5])})
    assert step(tg.ones(1, 2)).item() == 3.5
    model.weight.data = tg.tensor([[3.0, 4.0]])
    assert step(tg.ones(1, 2)).item() == 7.5
    model.weight = nn.Parameter(tg.tensor([[0.0, 1.0]]))
    assert step(tg.ones(1, 2)).item() == 1.5


def test_an_optimizer_that_is_loaded_and_whose_settings_change() -> None:
    def make() -> Any:
        w = tg.tensor([1.0, 2.0], requires_grad=True)
        optimizer = tg.optim.Adam([w], lr=0.1)

        def step() -> Any:
            optimizer.zero_grad()
            loss = (w * w).sum()
            loss.backward()
            optimizer.step()
            return loss

        return w, optimizer, step

    results = []
    for wrap in (lambda f: f, tg.compile):
        w, optimizer, step = make()
        step = wrap(step)
        for _ in range(6):
            step()
        saved = copy.deepcopy(optimizer.state_dict())
        for _ in range(3):
            step()
        optimizer.load_state_dict(saved)
        for _ in range(5):
            step()
        optimizer.param_groups[0]["lr"] = 0.01
        step()
        optimizer.param_groups[0]["betas"] = (0.5, 0.9)
        optimizer.param_groups[0]["weight_decay"] = 0.1
        for _ in range(4):
            step()
        results.append(w.detach().numpy().copy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5)


# ---- traps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda loss: float(loss),
        lambda loss: loss.item(),
        lambda loss: bool(loss > 0),
        lambda loss: f"{loss}",
        lambda loss: loss.tolist(),
        lambda loss: loss.numpy(force=True),
        lambda loss: range(loss.long() if hasattr(loss, "long") else loss.int()),
    ],
)
def test_reading_a_value_shows_the_line_and_leaves_everything_whole(read: Any) -> None:
    w = tg.tensor([2.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=0.5)

    @tg.compile
    def step() -> Any:
        optimizer.zero_grad()
        loss = (w * 1.0).sum()
        loss.backward()
        optimizer.step()
        read(loss)

    with pytest.raises(UsageError, match="test_compile_again.py"):
        step()
    assert type(w.array) is np.ndarray and w.tolist() == [1.5]  # as far as an eager run would have come
    assert w.grad.tolist() == [1.0]
    (w * 2).sum().backward()
    assert w.grad.tolist() == [3.0]


def test_an_exception_in_the_middle() -> None:
    w = tg.tensor([2.0], requires_grad=True)
    fail = [True]

    @tg.compile
    def step() -> Any:
        loss = (w * w).sum()
        if fail[0]:
            raise KeyError("no")
        loss.backward()
        return loss

    for _ in range(2):
        with pytest.raises(KeyError):
            step()
        assert type(w.array) is np.ndarray and w.grad is None
    fail[0] = False
    for _ in range(4):
        w.grad = None
        assert step().item() == 4.0
        assert w.grad.tolist() == [4.0]


def test_a_list_that_grows_is_refused_and_named() -> None:
    losses: list[Any] = []

    @tg.compile
    def step(x: Any) -> Any:
        loss = (x * 2).sum()
        losses.append(loss)
        return loss

    step(tg.ones(2))
    with pytest.raises(CompileError, match="losses"):
        step(tg.ones(2))
    assert [loss.item() for loss in losses] == [4.0, 4.0]


def test_a_counter_is_refused_and_named() -> None:
    class Model:
        calls = 0

    model = Model()

    @tg.compile
    def step(x: Any) -> Any:
        model.calls = model.calls + 1
        return x * model.calls

    with pytest.raises(CompileError, match="calls"):
        for _ in range(4):
            step(tg.ones(2))


def test_constants_that_differ_from_call_to_call_are_refused() -> None:
    import itertools

    count = itertools.count().__next__  # nobody sees it move

    @tg.compile
    def step(x: Any) -> Any:
        return x + tg.tensor([float(count()), 1.0])

    with pytest.raises(CompileError, match="test_compile_again.py"):
        for _ in range(3):
            step(tg.ones(2))

    @tg.compile
    def number(x: Any) -> Any:
        return x * float(count())

    with pytest.raises(CompileError, match="test_compile_again.py"):
        for _ in range(3):
            number(tg.ones(2))


def test_random_numbers_of_python_are_not_frozen() -> None:
    import random

    step = tg.compile(lambda x: x * random.random())
    assert len({step(tg.ones(1)).item() for _ in range(8)}) == 8
    other = tg.compile(lambda x: x * float(np.random.rand()))
    assert len({other(tg.ones(1)).item() for _ in range(8)}) == 8


def test_a_number_that_changes_at_every_call_warns_and_stays_right() -> None:
    class Now:
        t = 0

    step = tg.compile(lambda x: x * Now.t)
    with pytest.warns(UserWarning, match="Now.t|changes"):
        for t in range(20):
            Now.t = t
            assert step(tg.ones(1)).item() == t


def test_a_method_of_an_object_that_counts_is_called_as_it_is_and_the_count_is_named() -> None:
    class Training:
        def __init__(self) -> None:
            self.w, self.epoch = tg.ones(2, requires_grad=True), 0
            self.sgd = tg.optim.SGD([self.w], lr=0.1)

        def step(self, x: Any) -> Any:
            self.sgd.zero_grad()
            loss = ((self.w * x) ** 2).sum()
            loss.backward()
            self.sgd.step()
            return loss

    plain, counting = Training(), Training()
    step = tg.compile(counting.step)
    with pytest.warns(UserWarning, match=r"self\.epoch changes"):
        for _ in range(10):
            assert step(tg.ones(2)).item() == pytest.approx(plain.step(tg.ones(2)).item())
            counting.epoch += 1
    assert step.recordings < 10 and step.replays == 0


def test_a_tensor_with_another_history_at_each_call_is_named() -> None:
    p, w = tg.ones(2, requires_grad=True), tg.zeros(2)
    step = tg.compile(lambda x: (w * x).sum())
    with pytest.warns(UserWarning, match=r"w\.grad_fn changes"):
        for k in range(1, 10):
            p.grad = None
            w.detach_().add_(p)
            y = step(tg.ones(2) * 2.0)
            y.backward()
            assert y.item() == 4.0 * k and p.grad.tolist() == [2.0, 2.0]


def test_a_compiled_function_inside_of_another() -> None:
    inner = tg.compile(lambda x: x * SCALE)
    outer = tg.compile(lambda x: inner(x) + 1)
    global SCALE
    SCALE = 2.0
    for _ in range(4):
        assert outer(tg.ones(1)).item() == 3
    assert inner.recordings == 0
    SCALE = 5.0
    assert outer(tg.ones(1)).item() == 6
    SCALE = 2.0


def test_two_compiled_functions_share_parameters() -> None:
    runs = []
    for wrap in (lambda f: f, tg.compile):
        tg.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = tg.optim.Adam(model.parameters(), lr=0.1)
        step = wrap(train(model, optimizer, lambda m, x: m(x).square().mean()))
        evaluate = wrap(tg.no_grad(lambda x, model=model: model(x).sum()))
        made = []
        for (x,) in batches(10, (4, 3)):
            made += [step(x).item(), evaluate(x).item()]
        runs.append(made)
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4, atol=1e-6)


def test_threads() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    weights = [p.detach().numpy().copy() for p in model.parameters()]
    functions = [tg.compile(tg.no_grad(lambda x, k=k: model(x) * k)) for k in (1.0, 2.0)]
    x = tg.ones(3, 4)
    expected = model(x).detach().numpy()
    failures: list[Any] = []

    def work(index: int) -> None:
        try:
            for n in range(60):
                if n % 3 == 0:
                    found = model(x).detach().numpy()  # eagerly, perhaps while another thread records
                    np.testing.assert_allclose(found, expected, rtol=1e-5)
                made = functions[index % 2](x)
                np.testing.assert_allclose(made.numpy(), expected * (1 + index % 2), rtol=1e-5)
                if n % 20 == 19:
                    functions[index % 2].reset()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    for p, before in zip(model.parameters(), weights):
        assert p.array.tolist() == before.tolist()


def test_results_are_not_overwritten_by_the_next_call(backend: str) -> None:
    step = tg.compile(lambda x: (x + 1, x * 2), backend=backend)
    settle(step, tg.ones(2))
    a, b = step(tg.tensor([1.0, 2.0]))
    step(tg.tensor([8.0, 9.0]))
    assert a.tolist() == [2, 3] and b.tolist() == [2, 4]


def test_arguments_are_not_changed(backend: str) -> None:
    def inplace(x: Any) -> Any:
        x += 1
        x[0] = 0.0
        return x * 2

    step = tg.compile(inplace, backend=backend)
    x = tg.tensor([1.0, 2.0])
    plain = inplace(tg.tensor([1.0, 2.0])).tolist()
    for _ in range(5):
        assert step(tg.tensor([1.0, 2.0])).tolist() == plain
    del x


def test_results_of_other_kinds() -> None:
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    @tg.compile
    def step(x: Any) -> Any:
        return {"a": x * 2, "list": [x.sum(), None, "text", 3], "w": w}

    for _ in range(4):
        made = step(tg.ones(2))
        assert made["a"].tolist() == [2, 2] and made["list"][0].item() == 2 and made["list"][1:] == [None, "text", 3]
        assert made["w"] is w


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(CompileError, match="function"):
        tg.compile(3)
    with pytest.raises(CompileError, match="numpy"):
        settle(tg.compile(lambda x: x + 1, backend="fortran"), tg.ones(1))
    with pytest.raises(CompileError, match="plan"):
        tg.compile(lambda x: x).plan()


def test_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    losses: list[Any] = []

    def step(x: Any) -> None:
        losses.append(x * 2)

    compiled = tg.compile(step)
    with pytest.raises(CompileError, match="再生"):
        for _ in range(3):
            compiled(tg.ones(1))


def test_methods_and_decorators_with_options() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        @tg.compile(disable=("batching",))
        def predict(self, x: Any) -> Any:
            with tg.no_grad():
                return self.layer(x)

    a, b = Model(), Model()
    for _ in range(4):
        for model in (a, b):
            assert model.predict(tg.ones(1, 2)).item() == pytest.approx(model.layer(tg.ones(1, 2)).item())


def test_what_the_caller_of_a_step_reads_is_no_part_of_it():
    """The steps of an Update stand in no line of the user's; whoever runs it may look at the learning rate and at the clock."""
    import time

    w = tg.tensor([2.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=0.1)
    falling = tg.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    update = tg.compile(tg.training.Update(lambda x: ((w - x) ** 2).sum(), optimizer, schedule=falling, clip_norm=1.0))
    rates, begin = [], time.perf_counter()
    for _ in range(8):
        update(tg.zeros(1))
        rates.append(optimizer.param_groups[0]["lr"])
    assert update.replays > 0 and not update.notes and len(set(rates)) == 8 and time.perf_counter() > begin


def test_programs_of_one_function_share_their_memory(backend: str) -> None:
    """Several shapes, called in any order: results stay what they were, and equal eager ones."""
    layer = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 6))
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.05)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        y = layer(x)
        (y * x).mean().backward()
        optimizer.step()
        return y

    before = {name: value.clone() for name, value in layer.state_dict().items()}
    sizes = [3, 9, 3, 9, 3, 9, 30, 30, 30, 3, 9, 30, 3, 30, 9, 3]
    inputs = [tg.randn(n, 6) for n in sizes]
    expected = [step(x).detach() for x in inputs]
    layer.load_state_dict(before)
    compiled = tg.compile(step, backend=backend)
    made = [compiled(x).detach() for x in inputs]
    assert compiled.replays >= 7
    for actual, wanted in zip(made, expected):
        np.testing.assert_allclose(actual.cpu().numpy(), wanted.cpu().numpy(), rtol=1e-5, atol=1e-6)


def test_an_argument_whose_dtype_is_another_object() -> None:
    """``argmax`` of CuPy gives such, and so does what was unpickled."""
    alike = np.array([1, 2], np.dtype("q"))
    usual = alike.view(np.dtype("l"))
    assert alike.dtype == usual.dtype and alike.dtype is not usual.dtype
    step = tg.compile(lambda a, b: (a == b, a + b, b * a.float()))
    for k in range(4):
        made = step(tg.Tensor(alike + k), tg.Tensor(usual))
        assert [x.tolist() for x in made] == [[k == 0] * 2, [2 + k, 4 + k], [1.0 + k, 4.0 + 2 * k]]
    assert step.replays > 0
