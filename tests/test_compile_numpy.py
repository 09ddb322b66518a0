"""The executor over NumPy: results bit for bit, no memory made in a step, and the same with any number of threads."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from exact_programs import ExactProgram, both_ways, group_of
from program_builder import Builder, RandomProgram, results_of

from tinygrad_ja.backend.random import Generator
from tinygrad_ja.compiler import numpy_blocks, numpy_random
from tinygrad_ja.compiler.numpy_executor import NumpyExecutor
from tinygrad_ja.compiler.program import Array, Instruction, Program, interpret
from tinygrad_ja.errors import TinygradError

F = np.float32


@pytest.mark.parametrize("block, threads", [(32_768, 1), (4, 2), (13, 1), (64, 2)])
def test_random_programs(block: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_blocks, "BLOCK", block)
    monkeypatch.setattr(numpy_blocks, "HEAVY", 200_000 if threads == 1 else 0)
    for seed in range(60):
        made = ExactProgram(seed)
        program = made.build()
        executor = NumpyExecutor(program, threads=threads)
        both_ways(program, made.generators(), executor.run, [made.inputs() for _ in range(3)])


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_of_real_numbers(seed: int) -> None:
    made = RandomProgram(seed, length=60)
    program = made.build()
    draws = [i.options for i in program.instructions if i.kind == "random"]
    wanted = results_of(program, made.values)
    for options in draws:
        options["generator"] = np.random.default_rng(7)
    executor = NumpyExecutor(program)
    with np.errstate(all="ignore"):
        results = [*executor.run(made.values), *program.state.values()]
    for one, other in zip(results, wanted):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same, NaN and the sign of zero included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def runs_like_the_interpreter(program: Program, values: Sequence[Any], exactly: bool = True) -> NumpyExecutor:
    executor = NumpyExecutor(program)
    with np.errstate(all="ignore"):
        for one, other in zip(executor.run(values), interpret(program, values)):
            assert same_bits(one, other) if exactly else np.allclose(one, other, rtol=1e-3, equal_nan=True)
    return executor


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.75, 80.0, -1e30, 1e-40, np.inf, -np.inf, np.nan]
UNARY = """negative absolute exp exp2 log log1p expm1 tanh sin cos sqrt square reciprocal sign floor ceil rint isnan isinf isfinite copy cast
logical_not arctan sinh cbrt trunc""".split()
BINARY = """add subtract multiply divide power maximum minimum fmax greater less equal not_equal fmod remainder floor_divide arctan2 hypot
copysign logical_and""".split()
BOOLEAN = "isnan isinf isfinite logical_not greater less equal not_equal logical_and".split()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(13,), (13, 97)])
def test_element_wise_functions_of_special_values(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    values = [rng.choice(np.array(SPECIAL).clip(-6e4, 6e4).astype(dtype), size=shape) for _ in range(2)]
    b = Builder()
    x, y = b.argument(values[0]), b.argument(values[1])
    made = [b.map(name, x, dtype=np.bool_ if name in BOOLEAN else dtype) for name in UNARY]
    made += [b.map(name, *pair, dtype=np.bool_ if name in BOOLEAN else dtype) for name in BINARY for pair in ((x, y), (x, 0.5))]
    mask = b.map("greater", x, y, dtype=np.bool_)
    for one, two in itertools.permutations(
        [x, y, b.constant(0.0, dtype), b.constant(-0.0, dtype), b.constant(np.nan, dtype)], 2
    ):
        made.append(b.map("where", mask, one, two, dtype=dtype))
    made.append(b.map("clip", x, -1.0, 2.5))
    runs_like_the_interpreter(b.program(*made), values)


@pytest.mark.parametrize("size", [40, 4000])
@pytest.mark.parametrize("reads", range(4))
def test_where_in_the_place_of_what_it_reads(size: int, reads: int) -> None:
    rng = np.random.default_rng(0)
    b = Builder()
    value = rng.normal(size=size).astype(F)
    x = b.argument(value)
    one, two = b.map("sin", x), b.map("cos", x)
    mask = b.map("greater", one, two, dtype=np.bool_)
    pair = [(one, two), (one, x), (x, two), (one, one)][reads]
    program = b.program(b.map("negative", b.map("where", mask, *pair, dtype=F)))
    executor = runs_like_the_interpreter(program, [value])
    taken = {executor.layout.arena[a] for a in (one, two)}
    assert executor.layout.arena[program.instructions[-2].output] in taken


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64, np.bool_])
def test_reductions_of_dtypes_and_orders(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    value = np.asarray(
        rng.choice(np.array(SPECIAL[2:8] if np.dtype(dtype).kind == "f" else [0, 1, 5, 7]), size=(3, 40, 7)), dtype
    )
    value[1:] = np.asarray(rng.integers(0, 3, size=(2, 40, 7)), dtype)
    if np.dtype(dtype).kind == "f":
        value[2, 3] = np.nan
    b = Builder()
    x = b.argument(value)
    views = [x, b.transpose(x, 2, 0, 1), b.slice(x, slice(None), slice(None, None, -2)), b.reshape(x, 840)]
    total = {"b": np.int64, "i": np.int64}.get(np.dtype(dtype).kind, dtype)
    made = []
    for view in views:
        for axes in [axes for n in (1, 2, 3) for axes in itertools.combinations(range(view.ndim), n) if n <= view.ndim]:
            for function, result in (
                ("sum", total),
                ("prod", total),
                ("max", dtype),
                ("min", dtype),
                ("any", np.bool_),
                ("all", np.bool_),
            ):
                made.append(b.reduce(function, view, axes, True, result))
            if len(axes) == 1:
                made += [
                    b.reduce(function, view, axes, keeps, np.int64)
                    for function in ("argmax", "argmin")
                    for keeps in (True, False)
                ]
        made.append(b.add("scan", "cumsum", [view], view.shape, total, axis=0))
    runs_like_the_interpreter(b.program(*made), [value])


def test_sums_are_those_of_the_eager_operator() -> None:
    import tinygrad_ja as tg

    value = np.random.default_rng(0).normal(size=(64, 33)).astype(F)
    b = Builder()
    x = b.argument(value)
    program = b.program(*[b.reduce("sum", x, axes) for axes in ((0,), (1,), (0, 1))])
    made = NumpyExecutor(program).run([value])
    for result, dim in zip(made, (0, 1, None)):
        assert same_bits(result, np.asarray(tg.sum(value, dim)))


def test_products() -> None:
    rng = np.random.default_rng(0)
    whole = lambda *shape: rng.integers(-4, 5, size=shape).astype(F)  # noqa: E731
    b = Builder()
    values = [whole(6, 5), whole(5, 7), whole(3, 6, 5), whole(3, 5, 4), whole(2, 1, 6, 5)]
    a, c, stack, other, wide = [b.argument(v) for v in values]
    made = [b.matmul(a, c), b.matmul(stack, c), b.matmul(stack, other), b.matmul(a, other), b.matmul(wide, other)]
    made += [b.matmul(b.transpose(c), b.transpose(a)), b.matmul(b.slice(a, slice(None, None, -2)), c)]
    made += [b.matmul(b.transpose(a), a), b.matmul(b.slice(a, slice(0, 1)), b.slice(c, slice(None), slice(0, 1)))]
    made += [b.join(b.matmul(a, c), b.map("exp", b.matmul(a, c)), axis=1)]
    integers = [b.add("map", "cast", [x], x.shape, np.int64) for x in (a, c)]
    made.append(b.matmul(*integers))
    runs_like_the_interpreter(b.program(*made), values)
    halves = [b.add("map", "cast", [x], x.shape, np.float16) for x in (a, c)]
    runs_like_the_interpreter(b.program(b.matmul(*halves)), values, exactly=False)


@pytest.mark.parametrize("threads", [1, 2])
def test_stacks_of_small_products_in_threads(threads: int) -> None:
    rng = np.random.default_rng(0)
    b = Builder()
    values = [rng.integers(-4, 5, size=(64, 4, 64, 32)).astype(F) for _ in range(2)]
    x, y = [b.argument(v) for v in values]
    program = b.program(b.matmul(x, b.transpose(y, 0, 1, 3, 2)))
    assert same_bits(NumpyExecutor(program, threads=threads).run(values)[0], interpret(program, values)[0])


def test_mixed_dtypes() -> None:
    rng = np.random.default_rng(0)
    values = [
        rng.integers(0, 9, size=(5, 6)).astype(dtype) for dtype in (np.int64, np.float32, np.float64, np.bool_, np.float16)
    ]
    b = Builder()
    arrays = [b.argument(v) for v in values]
    made = []
    for one, two in itertools.permutations(arrays, 2):
        made.append(b.map("add", one, two, dtype=np.result_type(one.dtype, two.dtype)))
        made.append(b.map("multiply", one, two, dtype=F))
        made.append(b.map("where", arrays[3], one, two, dtype=F))
        made.append(b.map("cast", one, dtype=two.dtype))
    runs_like_the_interpreter(b.program(*made), values)


# ---- indices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 700])
@pytest.mark.parametrize("constant", [False, True])
def test_gathering_and_adding_at_indices(rows: int, constant: bool) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(-4, 5, size=(40, 64)).astype(F)
    indices = rng.integers(-40, 40, size=rows)
    along = rng.integers(-64, 64, size=(40, 1))
    b = Builder()
    x = b.argument(table)
    at, one = (
        (b.constant(indices, np.int64), b.constant(along, np.int64)) if constant else (b.argument(indices), b.argument(along))
    )
    short = b.map("cast", at, dtype=np.int32)
    picked = b.take(x, at)
    made = [picked, b.take(x, short), b.take(b.transpose(x), at, 1), b.take(x, at, 1) if rows == 3 else picked]
    made.append(b.add("take", "take_along_axis", [x, one], (40, 1), axis=1))
    made.append(b.add_at(picked, at, (40, 64)))
    made.append(b.add_at(b.transpose(picked), at, (64, 40), axis=1))
    made.append(b.add("add_at", "take_along_axis", [made[4], one], (40, 64), axis=1))
    made.append(b.take(x, b.reshape(at, 1, rows)))
    program = b.program(*made)
    values = [table] if constant else [table, indices, along]
    executor = NumpyExecutor(program)
    for _ in range(2):
        for one, other in zip(executor.run(values), interpret(program, values)):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rows", [3, 700])
def test_indices_out_of_range_are_refused(rows: int) -> None:
    table = np.zeros((40, 64), F)
    for function in ("take", "add_at", "along"):
        b = Builder()
        x, at = b.argument(table), b.argument(np.zeros((40, 1) if function == "along" else rows, np.int64))
        if function == "take":
            made = b.take(x, at)
        elif function == "add_at":
            made = b.add_at(b.map("exp", b.take(x, b.constant(np.zeros(rows), np.int64))), at, (40, 64))
        else:
            made = b.add("take", "take_along_axis", [x, at], (40, 1), axis=1)
        executor = NumpyExecutor(b.program(made))
        executor.run([table, np.full(at.shape, -40)])
        for wrong in (64, -65):
            with pytest.raises(TinygradError):
                executor.run([table, np.full(at.shape, wrong)])


# ---- random numbers, operators, state ------------------------------------------------------------------


def test_draws_are_those_of_the_generator() -> None:
    generator, twin = Generator().manual_seed(3), Generator().manual_seed(3)
    wanted = [
        ("uniform", ((5, 6), F)),
        ("normal", ((7,), F)),
        ("uniform", ((3,), np.float64)),
        ("normal", ((4, 2), np.float16)),
    ]
    wanted += [("integers", (0, 10, (6,), np.int64)), ("permutation", (9,)), ("beta", (0.5, 2.0, (3,), F))]
    instructions = []
    for method, args in wanted:
        like = getattr(Generator().manual_seed(0), method)(*args)
        instructions.append(
            Instruction("random", method, [], [Array(like.shape, like.dtype)], {"generator": generator, "args": args})
        )
    executor = NumpyExecutor(Program(instructions=instructions, results=[i.output for i in instructions]))
    for seed in (3, 4):
        generator.manual_seed(seed)
        twin.manual_seed(seed)
        for _ in range(2):
            for made, (method, args) in zip(executor.run(), wanted):
                assert same_bits(made, getattr(twin, method)(*args))
    assert generator.get_state() == twin.get_state()
    assert any("permutation" in note for note in executor.notes)


@pytest.mark.parametrize("size", [5, 16_384, 16_387, 150_001])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_uniform_numbers_are_those_of_the_generator(size: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_random, "get_num_threads", lambda: threads)
    generator, twin = Generator().manual_seed(3), Generator().manual_seed(3)
    made = [Array((size,), dtype) for dtype in (F, F, np.float64, F, np.float16)]
    instructions = [
        Instruction("random", "uniform", [], [a], {"generator": generator, "args": (a.shape, a.dtype)}) for a in made
    ]
    executor = NumpyExecutor(Program(instructions=instructions, results=made))
    for _ in range(2):
        for result, a in zip(executor.run(), made):
            assert same_bits(result, twin.uniform(a.shape, a.dtype))
    assert generator.get_state() == twin.get_state()


def test_what_operators_hand_to_each_other_is_not_copied() -> None:
    b = Builder()
    x = b.map("exp", b.argument(np.zeros((4, 6), F)))
    seen: list[np.ndarray] = []

    def first(x: np.ndarray) -> list[np.ndarray]:
        seen.append(x * 2)
        return [seen[-1]]

    def second(y: np.ndarray) -> list[np.ndarray]:
        seen.append(y)
        return [y.sum(axis=1)]

    made = b.add("call", "first", [x], (4, 6), run=first)
    total = b.add("call", "second", [b.reshape(made, 6, 4)], (6,), run=second)
    executor = NumpyExecutor(b.program(b.map("negative", total)))
    (result,) = executor.run([np.zeros((4, 6), F)])
    assert np.shares_memory(seen[0], seen[1]) and result.tolist() == [-8.0] * 6
    assert [note.partition(":")[0] for note in executor.notes] == ["first", "second"]


def test_swapped_and_rotated_state() -> None:
    shared = np.arange(12, dtype=F)
    views = [shared[:4], shared[4:8], shared[8:], shared[6:10]]
    arrays = [Array((4,), F) for _ in views]
    writes = [(arrays[0], arrays[1]), (arrays[1], arrays[2]), (arrays[2], arrays[0])]
    program = Program(state=dict(zip(arrays, views)), results=[arrays[3]], writes=writes)
    assert NumpyExecutor(program).run()[0].tolist() == [6, 7, 8, 9]
    assert shared.tolist() == [4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3]


def test_results_are_new_arrays() -> None:
    b = Builder()
    w = b.parameter(np.zeros(3, F))
    new = b.map("add", w, 1.0)
    executor = NumpyExecutor(b.program(new, w, writes=[(w, new)]))
    first = executor.run()
    second = executor.run()
    assert [r.tolist() for r in first] == [[1, 1, 1], [0, 0, 0]] and [r.tolist() for r in second] == [[2, 2, 2], [1, 1, 1]]


# ---- groups and threads --------------------------------------------------------------------------------


def grouped(seed: int, shape: tuple[int, ...], inner: int) -> tuple[Program, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.argument(rng.integers(-4, 5, size=shape).astype(F))
    b.instructions.append(group_of(b, x, rng, inner))
    return b.program(*b.instructions[-1].outputs), b.values


SPACES = [((6, 4, 5), 1), ((3, 4, 5), 2), ((40,), 0), ((5, 7), 0), ((2, 3, 4, 2), 0), ((4, 6), 2), ((1, 9), 1), ((), 0)]


@pytest.mark.parametrize("shape, inner", SPACES)
def test_groups_in_blocks(shape: tuple[int, ...], inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_blocks, "HEAVY", 0)
    for seed, block in itertools.product(range(25), (1, 7, 1000)):
        monkeypatch.setattr(numpy_blocks, "BLOCK", block)
        program, values = grouped(seed, shape, inner)
        for one, other in zip(NumpyExecutor(program, threads=2).run(values), interpret(program, values)):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def _softmax_program(b: Builder, rows: int) -> tuple[Instruction, list[np.ndarray]]:
    """Softmax, a bias that broadcasts, a sum over rows, and one over everything."""
    x, bias = b.argument(np.zeros((rows, 96), F)), b.argument(np.zeros(96, F))
    outside, b.instructions = b.instructions, []
    moved = b.map("add", x, b.map("multiply", bias, 2.0))
    e = b.map("exp", b.map("subtract", moved, b.reduce("max", moved, (1,), True)))
    y = b.map("divide", e, b.reduce("sum", e, (1,), True))
    outputs = [y, b.reduce("sum", y, (0,)), b.reduce("sum", b.map("square", y), (0, 1))]
    body, b.instructions = b.instructions, outside
    inputs = list(dict.fromkeys(a for i in body for a in i.inputs if a not in {i.output for i in body}))
    group = Instruction("group", "group", inputs, outputs, {"body": body, "space": (rows, 96), "inner": 1})
    b.instructions.append(group)
    rng = np.random.default_rng(0)
    return group, [rng.normal(size=(rows, 96)).astype(F), rng.normal(size=96).astype(F)]


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    b = Builder()
    group, values = _softmax_program(b, 8192)
    program = b.program(*group.outputs)
    alone, together = [NumpyExecutor(program, threads=threads) for threads in (1, 2)]
    for one, other, plain in zip(alone.run(values), together.run(values), interpret(program, values)):
        assert same_bits(one, other)
        np.testing.assert_allclose(one, plain, rtol=1e-4)
    assert len(together.segments) < len(alone.segments)  # its blocks stand in lists, one for each thread


def test_large_functions_are_divided_among_threads() -> None:
    rng = np.random.default_rng(0)
    b = Builder()
    values = [rng.normal(size=(3, 400_000)).astype(F), rng.normal(size=(3, 1)).astype(F)]
    x, y = [b.argument(v) for v in values]
    program = b.program(b.map("tanh", b.map("multiply", x, y)))
    assert same_bits(NumpyExecutor(program, threads=2).run(values)[0], interpret(program, values)[0])


def test_a_small_group_is_the_calls_of_its_instructions() -> None:
    b = Builder()
    group, _ = _softmax_program(b, 4)
    assert len(NumpyExecutor(b.program(*group.outputs)).steps[0][1]) == len(group.options["body"]) + 2  # max takes three


# ---- memory --------------------------------------------------------------------------------------------


def test_a_step_makes_no_memory() -> None:
    rng = np.random.default_rng(0)
    b = Builder()
    values = [rng.normal(size=(1024, 64)).astype(F), rng.integers(0, 50, size=1024)]
    x, at = [b.argument(v) for v in values]
    w, table = b.parameter(rng.normal(size=(64, 192)).astype(F)), b.parameter(rng.normal(size=(50, 64)).astype(F))
    h = b.map("add", b.matmul(x, w), b.constant(rng.normal(size=192)))
    mask = b.map("greater", h, 0.0, dtype=np.bool_)
    h = b.map("maximum", b.map("where", mask, h, b.constant(0.0), dtype=F), 0.1)
    parts = [b.map("exp", b.slice(h, slice(None), slice(64 * k, 64 * k + 64))) for k in range(3)]
    h = b.join(*[b.reshape(part, 1, 1024, 64) for part in parts])
    h = b.map("divide", h, b.reduce("max", h, (2,), True))
    turned = b.reshape(b.transpose(h, 1, 0, 2), 1024, 192)
    generator = Generator().manual_seed(0)
    b.instructions.append(
        Instruction("random", "uniform", [], [Array((1024, 192), F)], {"generator": generator, "args": ((1024, 192), F)})
    )
    dropped = b.map("multiply", turned, b.instructions[-1].output)
    step = b.map("multiply", b.matmul(b.transpose(x), dropped), 0.01)
    new = b.map("subtract", w, step)
    loss = b.reduce("sum", b.map("add", b.take(table, at), b.place(b.slice(x, slice(0, 1020)), (1024, 64), slice(2, 1022))))
    program = b.program(loss, writes=[(w, new), (table, b.map("multiply", table, 0.5))])
    executor = NumpyExecutor(program)
    for _ in range(3):
        executor.run(values)
    tracemalloc.start()
    executor.run(values)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5):
        executor.run(values)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # NumPy takes buffers of up to 8192 elements for operands that broadcast, and gives them back at once; so do draws in two threads.
    assert peak - before < 100_000 and after - before < 1024
    assert min([a.nbytes for i in program.instructions for a in i.outputs if a.size > 20_000]) > 190_000
    assert executor.layout.nbytes > 1_500_000
    assert executor.notes == []
