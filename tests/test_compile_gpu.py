"""``pytest -m gpu``: programs on a real GPU, step by step and as a graph, against the interpreter."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from cuda_maker import Case, Maker
from cuda_programs import CASES, random_case
from cuda_steps import STEPS, run
from test_compile_cuda import build, check, close, draws, small

import tinygrad_ja as tg
from tinygrad_ja.backend.philox import uniform_numbers
from tinygrad_ja.compiler.cuda.executor import CudaExecutor
from tinygrad_ja.compiler.program import interpret

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not tg.cuda_is_available(), reason="needs a GPU and CuPy")]


def on_gpu(case: Case) -> Case:
    import cupy

    case.program.state = {a: cupy.asarray(x) for a, x in case.program.state.items()}
    return case._replace(arguments=[cupy.asarray(x) for x in case.arguments])


def to_host(array: Any) -> np.ndarray:
    import cupy

    return cupy.asnumpy(array)


def test_cublas_is_found():
    from tinygrad_ja.compiler.cuda.cublas import library

    print(library()._name)
    assert library().cublasGemmStridedBatchedEx


@pytest.mark.parametrize("name", [*CASES, *[f"random_{seed}" for seed in range(40)]])
def test_step_by_step(name):
    case = on_gpu(build(name))
    executor = CudaExecutor(case.program, graph=False, share=False)
    check(case, build(name), executor, to_host, runs=2)


@pytest.mark.parametrize("name", [*CASES, *[f"random_{seed}" for seed in range(40)]])
def test_as_a_graph(name):
    case = on_gpu(build(name))
    executor = CudaExecutor(case.program)
    check(case, build(name), executor, to_host, runs=4)
    assert not [note for note in executor.notes if note.startswith("no graph")]
    assert executor.launches == (3 if name == "calls" else 1)


@pytest.mark.parametrize("seed", range(5))
def test_results_equal_the_interpreter_on_cupy(seed):
    import cupy

    case, plain = on_gpu(random_case(seed)), on_gpu(random_case(seed))
    executor = CudaExecutor(case.program)
    for _ in range(3):
        made = executor.run(case.arguments, case.numbers)
        for actual, wanted in zip(made, interpret(plain.program, plain.arguments, plain.numbers, cupy)):
            close(to_host(actual), to_host(wanted), case.rtol, seed)


def test_arguments_of_any_layout():
    import cupy

    case, plain = on_gpu(small()), small()
    executor = CudaExecutor(case.program)
    for k in range(5):
        x = plain.arguments[0] + k
        given = [cupy.asarray(np.asfortranarray(x)), cupy.asarray(np.repeat(x, 2, 1))[:, ::2]][k % 2]
        made, expected = executor.run([given], [k + 1.0]), interpret(plain.program, [x], [k + 1.0])
        close(to_host(made[0]), expected[0], 1e-4, k)


def test_a_replaced_array_of_the_state():
    import cupy

    case, plain = on_gpu(small()), small()
    executor = CudaExecutor(case.program)
    check(case, plain, executor, to_host)
    for program, xp in ((case.program, cupy), (plain.program, np)):
        a = next(iter(program.state))
        program.state[a] = xp.full(a.shape, 0.25, a.dtype)
    check(case, plain, executor, to_host, runs=4)


def test_many_replays_without_waiting():
    """More calls than the host has slots for: each result is that of its own numbers."""
    import cupy

    case, plain = on_gpu(small()), small()
    executor = CudaExecutor(case.program)
    made = [executor.run(case.arguments, [float(k)]) for k in range(300)]
    expected = [interpret(plain.program, plain.arguments, [float(k)]) for k in range(300)]
    for k in (0, 1, 2, 40, 299):
        close(to_host(made[k][0]), expected[k][0], 1e-3, k)
    del made
    cupy.cuda.Device().synchronize()
    free = cupy.cuda.runtime.memGetInfo()[0]
    for _ in range(200):
        executor.run(case.arguments, [1.0])
    cupy.cuda.Device().synchronize()
    assert cupy.cuda.runtime.memGetInfo()[0] == free


def test_runs_on_the_stream_of_the_caller():
    import cupy

    case, plain = on_gpu(small()), small()
    executor = CudaExecutor(case.program)
    check(case, plain, executor, to_host)
    with cupy.cuda.Stream(non_blocking=True):
        check(case, plain, executor, to_host)
    check(case, plain, executor, to_host)


# ---- random numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_eager_draws_are_those_of_numpy(dtype):
    generator = tg.Generator("cuda").manual_seed(11)
    for draw in range(3):
        drawn = to_host(generator.uniform((7, 3), np.dtype(dtype)))
        wanted = uniform_numbers(21, "f8" if dtype == "f8" else "f4", 11, draw).astype(dtype).reshape(7, 3)
        assert np.array_equal(drawn, wanted)


def test_replayed_draws_are_the_eager_ones():
    wanted = [
        ("uniform", (5, 7), "f4", ((5, 7), np.dtype("f4"))),
        ("normal", (33,), "f4", ((33,), np.dtype("f4"))),
        ("normal", (9,), "f8", ((9,), np.dtype("f8"))),
        ("integers", (12,), "i8", (-3, 50, (12,))),
        ("beta", (6,), "f4", (0.4, 0.4, (6,), np.dtype("f4"))),
        ("uniform", (5,), "f2", ((5,), np.dtype("f2"))),
    ]
    eager, replayed = tg.Generator("cuda").manual_seed(3), tg.Generator("cuda").manual_seed(3)
    case = draws(replayed, *wanted)
    executor = CudaExecutor(case.program)
    for _ in range(5):
        made = executor.run([], [])
        for (method, _, _, args), numbers in zip(wanted, made):
            assert np.array_equal(to_host(getattr(eager, method)(*args)), to_host(numbers)), method
    state = eager.get_state()
    assert state == replayed.get_state()
    after = to_host(eager.normal((4,), np.float32))
    assert np.array_equal(to_host(executor.run([], [])[0]).ravel()[:0], after[:0])
    other = tg.Generator("cuda")
    other.set_state(state)
    assert np.array_equal(to_host(other.normal((4,), np.float32)), after)


def test_normal_numbers_are_normal():
    x = to_host(tg.Generator("cuda").manual_seed(5).normal((200000,), np.float32)).astype("f8")
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01 and abs((x**4).mean() - 3) < 0.1


# ---- whole steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_training_steps_equal_eager_ones(name):
    compiled: list[Any] = []

    def wrap(step: Any) -> Any:
        compiled.append(tg.compile(step))
        return compiled[-1]

    losses, arrays = run(name, lambda step: step, "cuda")
    compiled_losses, compiled_arrays = run(name, wrap, "cuda")
    print(name, losses, compiled_losses, compiled[0].notes)
    np.testing.assert_allclose(compiled_losses, losses, rtol=2e-3)
    for actual, expected in zip(compiled_arrays, arrays):
        np.testing.assert_allclose(actual, expected, rtol=2e-2, atol=1e-3)
    assert compiled[0].replays > 0


# ---- speed --------------------------------------------------------------------------------------------


def _perceptron(rows: int = 128, width: int = 256) -> Case:
    """Forward, backward and SGD of an MLP 784-256-10, written out."""
    m = Maker()
    x, t, rate = m.argument((rows, 784)), m.argument((rows, 10)), m.number()
    w, v = m.parameter((784, width)), m.parameter((width, 10))
    for a in (w, v):
        m.state[a] *= 0.05
    h = m.map("tanh", m.matmul(x, w))
    d = m.map("subtract", m.matmul(h, v), t)
    loss = m.reduce("sum", m.map("square", d), (0, 1))
    back = m.matmul(d, m.transpose(v, 1, 0))
    g = m.map("multiply", back, m.map("subtract", m.constant(1.0), m.map("square", h)))
    new = []
    for a, left, right in ((w, x, g), (v, h, d)):
        gradient = m.matmul(m.transpose(left, 1, 0), right)
        m.writes.append((a, m.map("subtract", a, m.map("multiply", gradient, rate))))
        new.append(gradient)
    return m.case("perceptron", loss, numbers=[1e-4], rtol=1e-3)


@pytest.mark.parametrize("tf32", [False, True])
def test_a_training_step(tf32):
    import cupy

    case, plain = on_gpu(_perceptron()), _perceptron()
    executor = CudaExecutor(case.program, tf32=tf32)
    for _ in range(20):
        made = executor.run(case.arguments, case.numbers)
        expected = interpret(plain.program, plain.arguments, plain.numbers)
        close(to_host(made[0]), expected[0], 1e-1 if tf32 else 1e-3, "loss")
    assert executor.launches == 1 and executor.notes == []
    device = cupy.cuda.Device()
    for graph in (True, False):
        executor = CudaExecutor(case.program, tf32=tf32, graph=graph)
        for _ in range(5):
            executor.run(case.arguments, case.numbers)
        device.synchronize()
        begin = time.perf_counter()
        for _ in range(200):
            executor.run(case.arguments, case.numbers)
        issued = time.perf_counter() - begin
        device.synchronize()
        print(
            f"perceptron tf32={tf32} graph={graph}: {(time.perf_counter() - begin) * 5e3:.1f} us a step, {issued * 5e3:.1f} us of the host"
        )
