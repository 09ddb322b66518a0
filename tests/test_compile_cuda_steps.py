"""Whole training steps through all passes and the GPU executor, whose kernels run on the CPU here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import Emulated, compiler
from cuda_steps import STEPS, run

import tinygrad_ja as tg
from tinygrad_ja.compiler import entry
from tinygrad_ja.compiler.cuda.executor import CudaExecutor
from tinygrad_ja.compiler.passes import optimised

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ or clang++")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[CudaExecutor]:
    """The executors of everything that is compiled in the test: those of a GPU, on the stand-in."""
    made: list[CudaExecutor] = []

    def executor_for(program: Any, array_type: type, disable: Any, backend: Any, pool: Any = None) -> Any:
        better = optimised(program, disable)
        made.append(CudaExecutor(better, machine=Emulated()))
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
