"""Compiled steps of many kinds beside the same steps run plainly; what they share with the caller; what they leave behind."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import tracemalloc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from step_cases import CASES, F, assert_same, case, state_of, trainer

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.core import trace
from tinygrad_ja.core.modes import modes
from tinygrad_ja.core.traced import Traced
from tinygrad_ja.errors import GradientError, UsageError

# ---- arguments and results -------------------------------------------------------------------------


@case
def arguments_that_are_changed_in_place() -> Any:
    def step(x: Any, y: Any) -> Any:
        x.add_(1)
        x[0] = 7
        y[1:].mul_(3)
        return x * 2, y.sum()

    return step, lambda k: (tg.randn(3), tg.randn(3))


@case
def one_tensor_twice() -> Any:
    def step(x: Any, y: Any) -> Any:
        x.add_(1)
        return y * 2

    def args(k: int) -> Any:
        x = tg.randn(3)
        return x, x if k > 3 else tg.randn(3)

    return step, args


@case
def arguments_that_are_state() -> Any:
    held = tg.zeros(4)

    def step(x: Any) -> Any:
        held.add_(1)
        return x * 2, held * 1

    return step, lambda k: (tg.randn(2) if k < 4 else held[1:3],), [held]


@case
def arguments_that_are_parameters() -> Any:
    w = tg.randn(3).requires_grad_()
    optimizer = tg.optim.SGD([w], lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss, x * 1

    return step, lambda k: (w.detach(),), [w]


@case
def views_and_captured_tensors_in_place() -> Any:
    held = tg.zeros(4, 3)

    def step(x: Any) -> Any:
        held[1].add_(x)
        held[:, 0].mul_(0.5)
        y = x * 2
        y[1:].add_(held[1, 1:])
        return held.sum(0), y, held[1], held.T, x.view(-1)

    return step, lambda k: (tg.randn(3),), [held]


@case
def arguments_that_lie_anyhow() -> Any:
    def args(k: int) -> Any:
        ways = [tg.randn(4, 4)[::2], tg.randn(4, 2).T, tg.randn(2, 8)[:, ::2], tg.randn(2, 4).flip(1), tg.randn(4).expand(2, 4)]
        return (ways[k % 5],)

    return lambda x: (x.sum(0), x.reshape(-1) * 2, x.T @ x, x.exp()), args


@case
def transposes_of_fewer_axes() -> Any:
    def step(x: Any, y: Any) -> Any:
        z = (x + 1).transpose(0, 1)
        return tg.hypot(y, z), y * z, (z * 2 + y).sum(0)

    return step, lambda k: (tg.randn(2, 3), tg.randn(1, 1, 1))


@case
def reductions_of_repeated_elements() -> Any:
    def step(x: Any) -> Any:
        wide, tall = x.expand(3, 2), x.reshape(2, 1).expand(2, 3)
        made = [f(y, d) for y in (wide, tall) for d in (0, 1) for f in (tg.sum, tg.amax, tg.mean, tg.prod, tg.var)]
        return [*made, F.softmax(wide, 1), F.softmax(tall, 1), wide.sum(1, keepdim=True) * 2, x.expand(2, 3, 2).sum((0, 2))]

    return step, lambda k: (tg.randn(2),)


@case
def functions_of_sums_over_rows_in_double_precision() -> Any:
    def step(x: Any) -> Any:
        total, largest = x.abs().sum(1, keepdim=True), x.amax(1, keepdim=True)
        names = ("log", "exp", "tanh", "log1p", "sin", "exp2", "log2")
        return [total, largest, x / total, *[getattr(y, name)() for y in (total, largest.abs()) for name in names]]

    return step, lambda k: (tg.randn(5, 3).double(),)


@case
def no_elements() -> Any:
    def step(x: Any) -> Any:
        padded = F.pad(x, (1, 1), value=0.7)
        return (
            x * 2,
            x.sum(0),
            x.sum(1),
            tg.cat([x, x]),
            x @ x.T,
            x.T @ x,
            F.softmax(x, 1),
            padded.sum(),
            padded.sum(0),
            padded.prod(0),
        )

    return step, lambda k: (tg.randn(0, 3),)


@case
def one_element_and_other_dtypes() -> Any:
    def step(x: Any, i: Any, b: Any) -> Any:
        return (
            (x * 2).tanh(),
            x.half() + 1,
            x.double() / 3,
            i // 3,
            i % 3,
            i.sum(),
            b & (i > 2),
            ~b,
            i.float() / 2,
            i.argmax(),
            -i,
        )

    return step, lambda k: (tg.randn(()), tg.randint(-9, 9, (6,)), tg.rand(6) > 0.5)


@case
def what_is_not_finite() -> Any:
    def step(x: Any) -> Any:
        made = [
            x.max(),
            x.min(),
            tg.maximum(x, x.flip(0)),
            F.relu(x),
            x.clamp(-1, 1),
            x.sum(),
            F.softmax(x, 0),
            x.sign(),
            x.isnan(),
        ]
        return [*made, tg.where(x > 0, x, -x), F.gelu(x), x.tanh(), x.sigmoid(), F.softplus(x), x.exp(), x.log()]

    odd = tg.tensor([1.0, float("nan"), -2.0, float("inf"), -float("inf"), 0.0])
    return step, lambda k: (odd if k % 2 else tg.tensor([1.0, 3.0, -2.0, 88.0, -float("inf"), -0.0]),)


@case
def a_recurrence_over_no_sequences() -> Any:
    cell, head = nn.RNNCell(3, 4), nn.Linear(4, 2)
    model = nn.ModuleList([cell, head])

    def loss(x: Any) -> Any:
        h, total = tg.zeros(0, 4), tg.zeros(())
        for row in x:
            h = cell(row, h)
            total = total + head(h).square().sum()
        return total

    return trainer(model, loss), lambda k: (tg.randn(5, 0, 3),), state_of(model)


@pytest.mark.parametrize("name", CASES)
def test_a_step_beside_the_plain_one(name: str, backend: str) -> None:
    compiled = assert_same(CASES[name], backend)
    assert compiled.replays > 0 or name == "arguments_that_are_parameters"


def test_arguments_by_name_in_any_order() -> None:
    step = tg.compile(lambda **given: given["a"] - given["b"] * 2)
    for k in range(16):
        a, b = tg.randn(2), tg.randn(2)
        made = step(b=b, a=a) if k % 3 else step(a=a, b=b)
        np.testing.assert_allclose(made.numpy(), (a - b * 2).numpy(), rtol=1e-6)
    assert step.replays > 8


@pytest.mark.parametrize("keep", ["tensor", "array", "changed"])
def test_gradients_that_somebody_keeps_stay_as_they_are(keep: str) -> None:
    def make() -> Any:
        model, kept = nn.Linear(3, 3), []
        step = trainer(model, lambda x: model(x).square().mean())

        def after() -> list[Any]:
            gradient = model.weight.grad
            if keep == "changed":
                gradient.mul_(2.0)
            kept.append(gradient.numpy() if keep == "array" else gradient)
            return list(kept)

        return step, lambda k: (tg.randn(6, 3),), state_of(model), after

    assert assert_same(make, "numpy").replays > 0


# ---- what is left behind ---------------------------------------------------------------------------


def network(backend: str | None = "numpy") -> tuple[nn.Module, Any, Any]:
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
    return model, optimizer, tg.compile(trainer(model, lambda x: model(x).square().mean(), optimizer), backend=backend)


def test_replays_keep_nothing() -> None:
    _, _, step = network(None)
    x = tg.randn(6, 4)
    for _ in range(100):
        step(x)
    gc.collect()
    tracemalloc.start()
    try:
        step(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5_000):
            step(x)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


def test_what_nobody_holds_is_freed() -> None:
    model, optimizer, step = network()
    for _ in range(5):
        step(tg.ones(6, 4))
    references = [weakref.ref(model), weakref.ref(step), weakref.ref(step._last), weakref.ref(step._last.executor)]
    del model, optimizer, step
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_calls_that_never_become_a_program_are_not_kept() -> None:
    step = tg.compile(lambda x, n: x * n, cache_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(300):
            step(tg.ones(1), n)
    assert len(step._candidates) <= 4 and len(step._once) < 300 and len(step._eager) <= 64


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
def test_an_interruption_at_any_operator_leaves_no_trace(failure: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    x, plain = tg.randn(6, 4), trace.Trace.note_step
    for at in range(1, 200, 4):
        model, optimizer, step = network("plain")
        if at % 8 == 1:
            step.__wrapped__(x)
        left = [at]

        def note_step(self: Any, *args: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if not left[0]:
                raise failure
            return plain(self, *args)

        monkeypatch.setattr(trace.Trace, "note_step", note_step)
        try:
            step(x)
        except failure:
            pass
        monkeypatch.setattr(trace.Trace, "note_step", plain)
        assert modes.recording is None
        held = [*state_of(model), *[p.grad for p in model.parameters() if p.grad is not None]]
        assert not [t for t in held if type(t.array) is Traced]
        numbers = [v for state in optimizer.state.values() for v in state.values()]
        assert not [v for v in numbers if type(v) is Traced or (isinstance(v, float) and type(v) is not float)]
        for _ in range(4):
            assert np.isfinite(step(x).item())
        if left[0] > 0:
            break
    assert at > 60


class Holding(nn.Module):
    """A module with a compiled part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.compiled = tg.compile(self.layer)

    def forward(self, x: Any) -> Any:
        return self.compiled(x)


@tg.compile
def doubled(x: Any) -> Any:
    return x * 2


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_and_pickles(again: Callable[[Any], Any]) -> None:
    x, model = tg.randn(3, 4), Holding()
    for _ in range(4):
        model(x)
    other = again(model)
    with tg.no_grad():
        other.layer.weight.zero_()
        for _ in range(4):
            np.testing.assert_allclose(other(x).numpy(), np.broadcast_to(other.layer.bias.detach().numpy(), (3, 2)))
            np.testing.assert_allclose(model(x).numpy(), model.layer(x).numpy(), rtol=1e-5)
    assert again(doubled) is doubled


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process() -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256))
    step = tg.compile(tg.no_grad(lambda x: model(x).sum()))
    x = tg.randn(256, 256)
    for _ in range(4):
        expected = step(x).item()
    child = os.fork()
    if not child:
        signal.alarm(20)
        made = [step(x).item() for _ in range(5)]
        os._exit(0 if np.allclose(made, expected, rtol=1e-3, atol=1e-2) else 1)
    assert os.waitpid(child, 0)[1] == 0


# ---- what is refused -------------------------------------------------------------------------------


def test_parameters_that_change_before_the_backward() -> None:
    layer = nn.Linear(3, 3)
    forward = tg.compile(lambda x: (layer(x) * layer.weight.sum()).tanh())
    for _ in range(4):
        made = forward(tg.ones(2, 3))
    assert forward.replays
    with tg.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(GradientError, match="TG-G003"):
        made.sum().backward()


@pytest.mark.parametrize("moving", [0, 4])
@pytest.mark.parametrize("loaded", [1, 2, 3, 5])
def test_an_optimizer_may_be_loaded_at_any_call(loaded: int, moving: int) -> None:
    def run(compiled: bool) -> list[float]:
        w = tg.ones(1, requires_grad=True)
        sgd = tg.optim.SGD([w], lr=0.125, momentum=0.5)

        def step(x: Any) -> None:
            sgd.zero_grad()
            (w * x).sum().backward()
            sgd.step()

        call, made = tg.compile(step) if compiled else step, []
        for k in range(10):
            if k == loaded:
                sgd.load_state_dict(copy.deepcopy(sgd.state_dict()))
            call(tg.ones(1) if k >= moving else tg.zeros(1))
            made.append(w.item())
        return made

    assert run(True) == pytest.approx(run(False))


def test_a_function_that_changes_a_parameter_before_it_uses_it_has_gradients_at_each_call(backend: str) -> None:
    w = nn.Parameter(tg.ones(2))

    def halved(x: Any) -> Any:
        with tg.no_grad():
            w.mul_(0.5)
        return (w * w * x).sum()

    forward = tg.compile(halved, backend=backend)
    for k in range(5):
        w.grad = None
        forward(tg.ones(2)).backward()
        assert w.grad is not None and w.grad.tolist() == [0.5**k] * 2
    assert forward.replays == 3


@pytest.mark.parametrize("calls", range(4))
@pytest.mark.parametrize("take", [lambda w: w, lambda w: w[0], lambda w: w.detach().T])
def test_what_was_saved_of_a_parameter_before_a_step_changed_it_is_refused(take: Any, calls: int) -> None:
    w, v = nn.Parameter(tg.ones(2, 2)), nn.Parameter(tg.ones(2))
    sgd = tg.optim.SGD([w], lr=0.1)

    @tg.compile
    def step(x: Any) -> None:
        sgd.zero_grad()
        (w * x).sum().backward()
        sgd.step()

    for _ in range(calls):
        step(tg.ones(2))
    y = (v * take(w)).sum()
    step(tg.ones(2))
    with pytest.raises(GradientError, match="TG-G003"):
        y.backward()


def test_anomalies_are_found_where_a_compiled_step_is_called_as_it_is() -> None:
    w = nn.Parameter(tg.ones(2))

    @tg.compile
    def step(x: Any) -> None:
        w.grad = None
        (w * x).log().sum().backward()

    for _ in range(3):
        step(tg.ones(2))
    with tg.detect_anomaly():
        step(tg.ones(2))
        with np.errstate(all="ignore"), pytest.raises(GradientError, match="test_compile_steps.py"):
            step(tg.zeros(2))
    step(tg.ones(2))
    assert (step.recordings, step.replays) == (2, 2) and w.grad is not None and w.grad.tolist() == [1.0, 1.0]


def again(x: Any) -> Any:
    state = tg.get_rng_state()
    first = tg.rand(3)
    tg.set_rng_state(state)
    return x + tg.rand(3) - first


GENERATOR = tg.Generator()


@pytest.mark.filterwarnings("ignore:.*called as it is:UserWarning")
@pytest.mark.parametrize(
    "step", [lambda x: (tg.manual_seed(3), x + tg.rand(3))[1], again, lambda x: x * GENERATOR.initial_seed()]
)
def test_states_of_random_numbers_inside_of_a_step(step: Any) -> None:
    made = []
    for function in (step, compiled := tg.compile(step)):
        tg.manual_seed(5)
        made.append([[GENERATOR.manual_seed(k // 3), function(tg.ones(3)).tolist(), tg.rand(1).item()][1:] for k in range(6)])
    assert made[0] == made[1] and "the state of random numbers" in compiled.notes[0]


def test_lazy_layers_are_called_once_before() -> None:
    step = tg.compile(nn.LazyLinear(2))
    with pytest.raises(UsageError, match="call the model once"):
        step(tg.ones(1, 3))
