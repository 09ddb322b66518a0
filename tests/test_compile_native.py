"""The compiled executor: its mathematics over all of float32, loops, products, indices, threads, and whole programs against the interpreter."""

from __future__ import annotations

import os
import sys
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from exact_programs import ExactProgram, both_ways
from program_builder import Builder, RandomProgram, results_of

import tinygrad_ja as tg
from tinygrad_ja.compiler.native import available
from tinygrad_ja.compiler.native.executor import NativeExecutor
from tinygrad_ja.compiler.native.expressions import _FUNCTIONS
from tinygrad_ja.compiler.native.target import _compiler
from tinygrad_ja.compiler.program import Array, Instruction, Program, interpret

usable, reason = available()
pytestmark = pytest.mark.skipif(not usable, reason=reason)

F = np.float32


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = tg.get_num_threads()
    tg.set_num_threads(2)
    yield
    tg.set_num_threads(before)


def like_the_interpreter(program: Program, values: Sequence[Any], rtol: float = 1e-5, atol: float = 1e-5) -> NativeExecutor:
    """Run a program twice and compare; nothing may fall back to NumPy's calls."""
    executor = NativeExecutor(program)
    assert not executor.notes
    with np.errstate(all="ignore"):
        wanted = interpret(program, values)
        executor.run(values)
        results = executor.run(values)
    for one, other in zip(results, wanted):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
    return executor


# ---- element by element ------------------------------------------------------------------------------


def all_kinds_of_numbers() -> np.ndarray:
    """float32 from every binade, both signs, special values, and many around 0."""
    patterns = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32).view(F)
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-45,
        -1e-45,
        1.1754944e-38,
        1,
        -1,
        88.72283,
        88.72284,
        -103.97208,
        -104,
        3.4e38,
    ]
    return np.concatenate(
        [np.array(special, F), patterns, np.linspace(-20, 20, 40_001, dtype=F), np.linspace(-1, 1, 20_001, dtype=F)]
    )


@pytest.mark.parametrize(
    "function, ulps",
    [
        ("exp", 1.1), ("exp2", 1.1), ("expm1", 1.6), ("log", 1.0), ("log2", 2.0), ("log10", 2.1), ("log1p", 1.6), ("tanh", 2.4),
        ("sqrt", 0.51), ("reciprocal", 0.51), ("sin", 1.0), ("cos", 1.0),
    ],
)  # fmt: skip
def test_functions_of_float32(function: str, ulps: float) -> None:
    b = Builder()
    x = all_kinds_of_numbers()
    executor = NativeExecutor(b.program(b.map(function, b.argument(x))))
    assert not executor.notes
    with np.errstate(all="ignore"):
        exact = getattr(np, function)(x.astype(np.float64))
        wanted = exact.astype(F)
    (made,) = executor.run([x])
    usual = np.isfinite(wanted) & np.isfinite(made)
    np.testing.assert_array_equal(made[~usual], wanted[~usual])
    defined = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(made[defined]), np.signbit(wanted[defined]))
    error = np.abs(made[usual] - exact[usual]) / np.spacing(np.abs(wanted[usual])).astype(np.float64)
    assert error.max() <= ulps


SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, 2.5, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_every_function_at_special_values(dtype: type) -> None:
    left, right = [a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL)]
    if np.dtype(dtype).kind != "f":
        left, right = [np.nan_to_num(a, posinf=7, neginf=-7).astype(dtype) for a in (left, right)]
    left, right = left.astype(dtype), right.astype(dtype)
    for function in _FUNCTIONS:
        ufunc = getattr(np, function)
        b = Builder()
        inputs = [b.argument(v) for v in (left, right)[: ufunc.nin]]
        try:
            with np.errstate(all="ignore"):
                made = ufunc(*b.values)
        except (TypeError, ValueError):
            continue
        executor = NativeExecutor(b.program(b.map(function, *inputs, dtype=made.dtype)))
        with np.errstate(all="ignore"):
            (result,) = executor.run(b.values)
        np.testing.assert_allclose(result, made, rtol=1e-6, err_msg=function)


@pytest.mark.parametrize("old", ["?", "i4", "i8", "u1", "f4", "f8"])
@pytest.mark.parametrize("new", ["?", "i4", "i8", "f4", "f8"])
def test_casts(old: str, new: str) -> None:
    b = Builder()
    x = b.argument(np.array([0, 1, 2, 3, 100, 0, 7] * 5).astype(old))
    like_the_interpreter(b.program(b.add("map", "cast", [x], x.shape, np.dtype(new))), b.values)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (16,), (47,), (5000,), (3, 7), (300, 301), (2, 1, 4, 5)])
def test_sizes_with_and_without_a_rest(shape: tuple[int, ...]) -> None:
    b = Builder()
    x = b.argument(np.random.default_rng(0).normal(size=shape).astype(F))
    y = b.map("tanh", x)
    like_the_interpreter(b.program(y, b.map("add", x, y), b.map("greater", x, 0.25, dtype=np.bool_)), b.values)


def test_views_of_all_kinds_as_operands() -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    x, y = b.argument(rng.normal(size=(40, 33)).astype(F)), b.argument(rng.normal(size=(33, 40)).astype(F))
    turned = b.slice(x, slice(None, None, -1), slice(3, 30, 2))
    z = b.map("add", b.transpose(x), y)
    wide = b.map("multiply", b.broadcast(b.slice(x, slice(0, 1)), 40, 33), x)
    again = b.reshape(b.transpose(z), 33, 40)
    like_the_interpreter(b.program(z, wide, again, b.map("square", turned), b.join(z, again, axis=1)), b.values)


# ---- reductions and groups -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["sum", "prod", "max", "min", "any", "all"])
@pytest.mark.parametrize(
    "shape, axes",
    [
        ((100_003,), (0,)), ((64, 100), (0,)), ((64, 100), (1,)), ((64, 100), (0, 1)), ((3000, 70), (0,)), ((3000, 70), (1,)),
        ((8, 6, 5, 5), (0, 2, 3)), ((8, 6, 50, 50), (1,)), ((3, 1, 5), (1,)), ((5000, 1), (1,)), ((), ()),
    ],
)  # fmt: skip
def test_reductions(function: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    x = rng.random(shape) < 0.01 if function in ("any", "all") else rng.normal(size=shape).astype(F)
    if function == "prod":
        x = (1 + x * 1e-3).astype(F)
    given = b.argument(x)
    kept, lost = b.reduce(function, given, axes, True), b.reduce(function, given, axes)
    like_the_interpreter(b.program(kept, lost), b.values, rtol=2e-5, atol=1e-4)


def test_a_long_sum_is_accurate() -> None:
    x = np.random.default_rng(0).random(1_000_003).astype(F)
    b = Builder()
    executor = NativeExecutor(b.program(b.reduce("sum", b.argument(x))))
    (made,) = executor.run([x])
    assert abs(made - x.sum(dtype=np.float64)) <= np.spacing(made)


def test_whole_numbers_and_extremes_with_nan() -> None:
    b = Builder()
    whole = b.argument(np.arange(-500, 600).reshape(100, 11))
    x = np.random.default_rng(0).normal(size=(100, 11)).astype(F)
    x[3, 4] = np.nan
    real = b.argument(x)
    results = [b.reduce(f, a, axes) for f in ("sum", "max", "min") for a in (whole, real) for axes in ((0,), (1,), (0, 1))]
    like_the_interpreter(b.program(*results), b.values)


def group_of(b: Builder, space: tuple[int, ...], inner: int, outputs: Sequence[Array]) -> None:
    """Turn the instructions that were written so far into one group."""
    body = list(b.instructions)
    made = [i.outputs[0] for i in body]
    inputs = [a for a in dict.fromkeys([a for i in body for a in i.inputs]) if a not in made]
    b.instructions[:] = [Instruction("group", "group", inputs, outputs, {"body": body, "space": space, "inner": inner})]


SPACES = [(4, 10), (128, 10), (8, 4, 33, 64), (7, 3, 33), (2048, 128), (5, 3000), (1, 16), (3, 1)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SPACES)
def test_softmax_as_a_group(shape: tuple[int, ...], dtype: type) -> None:
    b = Builder()
    x = b.argument(np.random.default_rng(0).normal(size=shape).astype(dtype))
    last = (len(shape) - 1,)
    e = b.map("exp", b.map("subtract", x, b.reduce("max", x, last, True)))
    total = b.reduce("sum", e, last, True)
    y = b.map("divide", e, total)
    group_of(b, shape, 1, [y, total])
    like_the_interpreter(b.program(y, total), b.values, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SPACES)
def test_layer_norm_with_sums_over_rows_as_a_group(shape: tuple[int, ...], dtype: type) -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    x, weight, bias = (
        b.argument(rng.normal(size=shape).astype(dtype)),
        *[b.argument(rng.normal(size=shape[-1]).astype(dtype)) for _ in "wb"],
    )
    last, rows = (len(shape) - 1,), tuple(range(len(shape) - 1))
    centred = b.map("subtract", x, b.map("divide", b.reduce("sum", x, last, True), float(shape[-1])))
    variance = b.map("divide", b.reduce("sum", b.map("square", centred), last, True), float(shape[-1]))
    size = b.map("sqrt", b.map("add", variance, 1e-5))
    normal = b.map("divide", centred, size)
    y = b.map("add", b.map("multiply", normal, weight), bias)
    columns, kept = b.reduce("sum", normal, rows), b.reduce("max", y, rows, True)
    total = b.reduce("sum", size)
    group_of(b, shape, 1, [y, normal, size, columns, kept, total])
    like_the_interpreter(b.program(y, normal, size, columns, kept, total), b.values, rtol=2e-4, atol=2e-3)


def test_a_group_over_two_inner_axes() -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    x, scale = b.argument(rng.normal(size=(6, 5, 7, 9)).astype(F)), b.argument(rng.normal(size=(7, 1)).astype(F))
    scaled = b.map("multiply", x, scale)
    mean = b.map("divide", b.reduce("sum", scaled, (2, 3), True), 63.0)
    y = b.map("tanh", b.map("subtract", scaled, mean))
    z = b.map("multiply", b.reduce("max", y, (2, 3), True), y)
    group_of(b, (6, 5, 7, 9), 2, [y, z])
    like_the_interpreter(b.program(y, z), b.values)


# ---- products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(8):
        m, n, k = [int(size) for size in rng.choice([1, 2, 7, 14, 15, 16, 31, 33, 64, 100], 3)]
        stack: tuple[int, ...] = [(), (), (3,), (2, 3)][rng.integers(4)]
        dtype = [F, F, np.float64][rng.integers(3)]
        b = Builder()
        shapes = [(*(stack if rng.random() < 0.7 else ()), *s) for s in ((m, k), (k, n))]
        factors = []
        for shape in shapes:
            if rng.random() < 0.4:
                x = b.argument(rng.normal(size=(*shape[:-2], shape[-1], shape[-2])).astype(dtype))
                factors.append(b.transpose(x, *range(len(shape) - 2), len(shape) - 1, len(shape) - 2))
            else:
                factors.append(b.argument(rng.normal(size=shape).astype(dtype)))
        like_the_interpreter(b.program(b.matmul(*factors)), b.values, rtol=1e-4, atol=1e-4)


def test_products_of_what_broadcasts_or_leaves_elements_out() -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    x, row = b.argument(rng.normal(size=(24, 40)).astype(F)), b.argument(rng.normal(size=(1, 1)).astype(F))
    results = [
        b.matmul(b.broadcast(row, 5, 24), x), b.matmul(x, b.broadcast(row, 40, 30)), b.matmul(b.slice(x, slice(None, None, 3)), b.transpose(x)),
        b.matmul(b.slice(x, slice(None), slice(None, None, 2)), b.slice(x, slice(4, 24), slice(1, None, 2))),
    ]  # fmt: skip
    like_the_interpreter(b.program(*results), b.values, atol=1e-4)


def test_a_weight_of_many_products_is_copied_once_in_each_step() -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    w = b.parameter(rng.normal(size=(20, 20)).astype(F) / 5)
    x = b.argument(rng.normal(size=(3, 20)).astype(F))
    h = x
    for _ in range(5):
        h = b.map("tanh", b.matmul(h, b.transpose(w)))
    program = b.program(h, writes=[(w, b.map("multiply", w, 0.9))])
    executor = NativeExecutor(program)
    other = Program(
        program.arguments, (), {w: program.state[w].copy()}, program.constants, program.instructions, [h], program.writes
    )
    for _ in range(3):
        np.testing.assert_allclose(executor.run(b.values)[0], interpret(other, b.values)[0], rtol=1e-5, atol=1e-6)
    assert len(executor._panels) == 1
    np.testing.assert_allclose(program.state[w], other.state[w], rtol=1e-6)


# ---- indices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["take", "add_at"])
@pytest.mark.parametrize("function", ["take", "take_along_axis"])
def test_indices(kind: str, function: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ndim = int(rng.integers(1, 4))
        wide = tuple(rng.choice([1, 2, 5, 16, 40], ndim).tolist())
        axis = int(rng.integers(ndim))
        shape = tuple(rng.choice([1, 2, 5, 30], rng.integers(3)).tolist())
        if function == "take_along_axis":
            shape = (*wide[:axis], 4, *wide[axis + 1 :])
        narrow = shape if function == "take_along_axis" else (*wide[:axis], *shape, *wide[axis + 1 :])
        source, target = (wide, narrow) if kind == "take" else (narrow, wide)
        indices = rng.integers(-wide[axis], wide[axis], shape).astype(rng.choice(["i4", "i8"]))
        b = Builder()
        x, i = b.argument(rng.normal(size=source).astype(rng.choice(["f4", "f8"]))), b.argument(indices)
        program = b.program(b.add(kind, function, [x, i], target, axis=axis))
        executor = like_the_interpreter(program, b.values)
        wrong = np.array(indices)
        wrong.reshape(-1)[-1] = wide[axis]
        with pytest.raises(IndexError, match="TG-I002"):
            executor.run([b.values[0], wrong])
        executor.run(b.values)  # and all is well again


def test_places() -> None:
    b = Builder()
    x = b.argument(np.random.default_rng(0).normal(size=(10, 20)).astype(F))
    like_the_interpreter(
        b.program(
            b.place(x, (20, 40), slice(3, 13), slice(0, 40, 2)),
            b.place(x, (3, 10, 20), 1),
            b.place(x, (10, 21), ..., slice(1, 21)),
        ),
        b.values,
    )


# ---- whole programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    made = ExactProgram(seed)
    program = made.build()
    both_ways(program, made.generators(), NativeExecutor(program).run, [made.inputs() for _ in range(3)])


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_of_real_numbers(seed: int) -> None:
    made = RandomProgram(seed, length=60)
    program = made.build()
    draws = [i.options for i in program.instructions if i.kind == "random"]
    wanted = results_of(program, made.values)
    for options in draws:
        options["generator"] = np.random.default_rng(7)
    executor = NativeExecutor(program)
    with np.errstate(all="ignore"):
        results = [*executor.run(made.values), *program.state.values()]
    for one, other in zip(results, wanted):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_an_operator_in_between_and_a_dtype_without_machine_code() -> None:
    b = Builder()
    x = b.argument(np.arange(12, dtype=F).reshape(3, 4))
    y = b.map("exp", x)
    z = b.add("call", "sort", [y], (3, 4), run=lambda a: [np.sort(-a)])
    half = b.map("tanh", b.add("map", "cast", [z], (3, 4), np.float16))
    program = b.program(b.map("add", z, y), half)
    executor = NativeExecutor(program)
    for one, other in zip(executor.run(b.values), interpret(program, b.values)):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert any(["float16" in note for note in executor.notes]) and any(["sort" in note for note in executor.notes])


def test_the_hook_of_profiles_sees_every_instruction() -> None:
    b = Builder()
    x = b.argument(np.ones((4, 4), F))
    program = b.program(b.map("exp", b.matmul(x, b.map("add", x, 1.0))))
    executor = NativeExecutor(program)
    seen: list[str] = []

    def watch(instruction: Instruction, calls: Sequence[Any]) -> None:
        seen.append(instruction.function)
        for call in calls:
            call()

    results = executor.run(b.values, (), watch)
    assert seen == ["add", "matmul", "exp"]
    np.testing.assert_allclose(results[0], interpret(program, b.values)[0])


# ---- memory and threads ----------------------------------------------------------------------------------


def large() -> Builder:
    """A program whose every instruction is worth two threads."""
    b = Builder()
    rng = np.random.default_rng(0)
    x, w = b.argument(rng.normal(size=(512, 640)).astype(F)), b.parameter(rng.normal(size=(640, 300)).astype(F) / 25)
    y = b.map("tanh", b.matmul(x, w))
    e = b.map("exp", y)
    share = b.map("divide", e, b.reduce("sum", e, (1,), True))
    gradient = b.matmul(b.transpose(x), share)
    new = b.map("subtract", w, b.map("multiply", gradient, 0.01))
    b.writes = [(w, new)]  # type: ignore[attr-defined]
    b.results = [share, b.reduce("sum", y), b.reduce("sum", y, (0,)), b.take(y, b.argument(rng.integers(0, 512, 2000)))]  # type: ignore[attr-defined]
    return b


def run_large() -> list[np.ndarray]:
    b = large()
    program = b.program(*b.results, writes=b.writes)  # type: ignore[attr-defined]
    executor = NativeExecutor(program)
    assert executor._table._records[:, 2].max() > 1
    results = [executor.run(b.values) for _ in range(3)][-1]
    return [*results, *program.state.values()]


def test_results_do_not_depend_on_the_number_of_threads(two_threads: None) -> None:
    several = run_large()
    tg.set_num_threads(3)
    more = run_large()
    tg.set_num_threads(1)
    for one, other, another in zip(run_large(), several, more):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, another)


def test_steps_of_several_python_threads_side_by_side(two_threads: None) -> None:
    wanted, found = run_large(), []
    workers = [threading.Thread(target=lambda: found.append(run_large())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for results in found:
        for one, other in zip(results, wanted):
            np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="processes are not copied here")
def test_a_copied_process_has_threads_of_its_own(two_threads: None) -> None:
    wanted = run_large()
    child = os.fork()
    if not child:
        try:
            same = all([np.array_equal(one, other) for one, other in zip(run_large(), wanted)])
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_step_makes_no_memory_besides_its_results() -> None:
    b = large()
    program = b.program(writes=b.writes)  # type: ignore[attr-defined]
    executor = NativeExecutor(program)
    for _ in range(3):
        executor.run(b.values)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(5):
        executor.run(b.values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 2_000


def test_equal_loops_are_compiled_once() -> None:
    def program(rows: int) -> tuple[Program, list[Any]]:
        b = Builder()
        x = b.argument(np.ones((rows, 4001), F))
        return b.program(b.map("tanh", b.map("multiply", x, 1.25))), b.values

    NativeExecutor(program(30)[0])
    known = len(_compiler().addresses)
    like_the_interpreter(*program(31))
    assert len(_compiler().addresses) == known


def test_a_wrong_index_stops_the_step_before_the_state_changes() -> None:
    b = Builder()
    table = b.parameter(np.arange(12, dtype=F).reshape(4, 3))
    rows = b.take(table, b.argument(np.array([1, 3])))
    scale = b.map("add", b.reduce("sum", rows), 1.0)
    program = b.program(scale, writes=[(table, b.map("multiply", table, scale))])
    executor = NativeExecutor(program)
    with pytest.raises(tg.errors.AxisError, match="take: index 4 is out of range for an axis of size 4"):
        executor.run([np.array([1, 4])])
    np.testing.assert_array_equal(program.state[table], np.arange(12, dtype=F).reshape(4, 3))
    assert executor.run([np.array([1, 3])])[0] == 43
