"""Whole training steps through all passes and the GPU executor, whose kernels run on the CPU here."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import Emulated, compiler
from cuda_steps import STEPS, run

import tinygrad_ja as tg
from tinygrad_ja.compiler import entry
from tinygrad_ja.compiler.cuda.executor import CudaExecutor
from tinygrad_ja.compiler.passes import optimised
from tinygrad_ja.errors import DeviceError
from tinygrad_ja.testing import strict

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ or clang++")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[CudaExecutor]:
    """The executors of everything that is compiled in the test: those of a GPU, on the stand-in."""
    made: list[CudaExecutor] = []

    def executor_for(program: Any, array_type: type, disable: Any, backend: Any, pool: Any = None) -> Any:
        better = optimised(program, disable)
        machine = Emulated() if array_type is np.ndarray else Emulated(strict.xp, strict.ndarray, strict.peek)
        made.append(CudaExecutor(better, machine=machine))
        return made[-1], better, []

    monkeypatch.setattr(entry, "executor_for", executor_for)
    return made


@pytest.mark.parametrize("name", STEPS)
def test_steps_equal_eager_ones(name, made):
    losses, arrays = run(name, lambda step: step)
    compiled_losses, compiled_arrays = run(name, tg.compile)
    np.testing.assert_allclose(compiled_losses, losses, rtol=1e-3)
    for actual, expected in zip(compiled_arrays, arrays):
        np.testing.assert_allclose(actual, expected, rtol=1e-2, atol=5e-4)
    executor = made[-1]
    print(name, len(executor.steps), "launches in", executor.launches, "graph, kernels", len(executor.kernels), executor.notes)
    if name == "dropped":  # the generator of the CPU
        assert "random numbers of a generator of another device" in executor.notes[0]
    else:
        assert executor.launches == 1 and executor.notes == []
    assert executor._captured is not None


# ---- arguments on the CPU --------------------------------------------------------------------------------


def test_a_step_may_take_its_arguments_to_the_gpu(made: list[CudaExecutor]) -> None:
    w = tg.ones(3, 3, device="strict", requires_grad=True)

    def step(x: Any, y: Any) -> Any:
        w.grad = None
        loss = ((tg.cat([x, y], 1).T.to("strict") @ w) ** 2).sum()
        loss.backward()
        return loss

    compiled = tg.compile(step)
    for _ in range(5):
        batch = tg.randn(3, 1), tg.randn(3, 2)
        found = []
        for function in (step, compiled):
            loss = function(*batch)
            assert w.grad is not None and loss.device == w.grad.device == tg.device("strict")
            found.append([loss.item(), w.grad.cpu().numpy()])
        np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
        np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5, atol=1e-5)
    assert compiled.replays == 3 and len(made) == 1


@pytest.mark.parametrize(
    "function, kept",
    [
        (lambda x, w: x.softmax(0).to("strict") * w, 3),
        (lambda x, w: (x.to("strict") * w).cpu().to("strict") * w, 3),
        (lambda x, w: x.sum().to("strict") * w[[0, 1]], 3),
        (lambda x, w: (x.to("strict") * w).tanh().cpu(), 0),
        (lambda x, w: (x * CENTRE).to("strict") * w, 0),
    ],
    ids=["forward", "there and back", "an index", "returned", "a constant"],
)
def test_results_with_a_history_may_come_from_two_devices(function: Any, kept: int, made: list[CudaExecutor]) -> None:
    w, compiled = tg.tensor([1.0, 2.0], device="strict", requires_grad=True), tg.compile(function)
    for k in range(5):
        x = tg.tensor([0.5, 1.0 + k])
        found = []
        for f in (function, compiled):
            w.grad = None
            with (
                pytest.warns(UserWarning, match="two devices") if f is compiled and k == kept == 0 else contextlib.nullcontext()
            ):
                y = f(x, w)
            y.sum().backward()
            found.append((y.device, y.detach().tolist(), w.grad.device, w.grad.tolist()))
        assert found[0][::2] == found[1][::2]
        np.testing.assert_allclose(found[1][1::2], found[0][1::2], rtol=1e-5)
    assert compiled.replays == kept


def test_gradients_go_back_to_the_device_of_an_argument() -> None:
    w, compiled = tg.tensor([1.0, 2.0], device="strict"), tg.compile(lambda x: (x * x).to("strict") * w)
    x = tg.tensor([3.0, 4.0], requires_grad=True)
    with pytest.warns(UserWarning, match="two devices"):
        y = compiled(x)
    y.sum().backward()
    assert x.grad is not None and x.grad.device == tg.device("cpu") and x.grad.tolist() == [6.0, 16.0]


CENTRE = tg.ones(2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: (x * 2.0, x.to("strict") + w),
        lambda x, w: (x - CENTRE).to("strict") + w,
        lambda x, w: x.add_(1.0).to("strict") + w,
        lambda x, w: w.cpu() + x,
        lambda x, w: (tg.rand(2, device="cpu") + x).to("strict") + w,
        lambda x, w: tg.rand(2, device="cpu").to("strict") + w,
    ],
    ids=["returned", "constant", "written", "moved back", "drawn", "drawn and moved"],
)
def test_what_computes_on_two_devices_is_called_as_it_is(function: Any, made: list[CudaExecutor]) -> None:
    w, compiled = tg.ones(2, device="strict"), tg.compile(function)
    for k in range(4):
        given = [tg.ones(2) * k for _ in range(2)]
        with pytest.warns(UserWarning, match="two devices") if k == 0 else contextlib.nullcontext():
            results = [tg.manual_seed(k) and f(x, w) for f, x in zip((compiled, function), given)]
        ours, expected = [made if isinstance(made, tuple) else (made,) for made in results]
        assert [(x.device, x.tolist()) for x in ours] == [(x.device, x.tolist()) for x in expected]
        assert given[0].tolist() == given[1].tolist()
    assert compiled.replays == 0 and made == []


def test_devices_do_not_mix_in_a_recording() -> None:
    w = tg.ones(2, device="strict")
    with pytest.raises(DeviceError, match="cpu and strict"):
        tg.compile(lambda x: x + w)(tg.ones(2))


def test_a_step_without_arrays_of_its_own_may_move_its_argument() -> None:
    compiled = tg.compile(lambda x: x.to("strict") * 2.0)
    with pytest.warns(UserWarning, match="two devices"):
        assert [compiled(tg.ones(2) * k).tolist() for k in range(3)] == [[0.0] * 2, [2.0] * 2, [4.0] * 2]


def test_the_state_of_an_optimizer_follows_parameters_that_move_between_calls() -> None:
    def run(compiled: bool) -> list[Any]:
        w = tg.nn.Parameter(tg.ones(2, device="strict"))
        adam = tg.optim.Adam([w], lr=0.1)

        def step(x: Any) -> Any:
            adam.zero_grad()
            loss = ((w * x) ** 2).sum()
            loss.backward()
            adam.step()
            return loss

        call = tg.compile(step, backend="plain") if compiled else step
        made = []
        for place in ("strict", "cpu", "strict"):
            w.array, w.grad = w.detach().to(place).array, None
            made += [(call(tg.arange(2.0, device=place)).item(), w.tolist()) for _ in range(4)]
        assert not compiled or call.replays >= 3
        return made

    assert run(True) == run(False)


def test_a_mean_of_the_weights_of_a_model_on_a_gpu_counts_on_the_cpu() -> None:
    def run(compiled: bool) -> list[Any]:
        tg.manual_seed(0)
        model = tg.nn.Linear(3, 1).to("strict")
        means = [tg.optim.swa_utils.AveragedModel(model) for _ in range(2)]
        assert means[0].n_averaged.device == tg.device("cpu")
        sgd = tg.optim.SGD(model.parameters(), lr=0.05)

        def step(x: Any) -> None:
            sgd.zero_grad()
            model(x).square().mean().backward()
            sgd.step()
            for mean in (*means, means[0]):  # twice into the first
                mean.update_parameters(model)

        call = tg.compile(step, backend="plain") if compiled else step
        made = []
        for k in range(8):
            if k == 5:
                means[1].load_state_dict({name: value.clone() for name, value in means[0].state_dict().items()})
            call(tg.arange(6.0, device="strict").reshape(2, 3) * 0.1)
            made.append([{name: value.tolist() for name, value in mean.state_dict().items()} for mean in means])
        assert not compiled or call.replays >= 4
        return made

    assert run(True) == run(False)
