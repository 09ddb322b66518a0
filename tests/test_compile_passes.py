"""Passes: each gives a program with the same results, alone and with all others, and does its job."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from program_builder import Builder, RandomProgram, counts, results_of, same_results

from tinygrad_ja.compiler import passes
from tinygrad_ja.compiler.passes import PASSES, optimised
from tinygrad_ja.compiler.passes.fusion import fusion
from tinygrad_ja.compiler.program import Array, Program, flat

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def functions(program: Program) -> list[str]:
    return [i.function for i in program.instructions]


def only(*names: str) -> Callable[[Program], Program]:
    """All passes of these names, and those that clean up."""
    cleaning = ("dead_code", "constant_folding", "common_subexpressions", "views", "algebra")
    return lambda program: optimised(program, disable=set(PASSES) - set(names) - set(cleaning))


# ---- every pass keeps results --------------------------------------------------------------------


def draws(program: Program) -> list[Any]:
    return [i.options["generator"] for i in program.instructions if i.kind == "random"]


@pytest.mark.parametrize("name", [*PASSES, "all"])
@pytest.mark.parametrize("seed", range(12))
def test_a_pass_keeps_the_results_of_random_programs(name: str, seed: int) -> None:
    made = RandomProgram(100 * len(name) + seed, length=60)
    program = made.build()
    changed = optimised(program) if name == "all" else PASSES[name](program)
    assert len(draws(changed)) == len(draws(program))
    before = [g.bit_generator.state for g in draws(program)]
    expected = results_of(program, made.values)
    for generator, state in zip(draws(program), before):
        generator.bit_generator.state = state
    for one, two in zip(expected, results_of(changed, made.values)):
        assert one.shape == two.shape and one.dtype == two.dtype
        np.testing.assert_allclose(two, one, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(one).max(initial=0)))


@pytest.mark.parametrize("name", [*PASSES, "all"])
def test_a_pass_leaves_the_given_program_alone(name: str) -> None:
    program = RandomProgram(5, length=50).build()
    before = [(i, i.inputs, i.outputs, dict(i.options)) for i in program.instructions]
    optimised(program) if name == "all" else PASSES[name](program)
    assert [(i, i.inputs, i.outputs, i.options) for i in program.instructions] == before


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(passes.__path__)])
def test_every_page_has_its_idea_and_examples_that_run(name: str) -> None:
    importlib.import_module(f"tinygrad_ja.compiler.passes.{name}")
    page = sys.modules[f"tinygrad_ja.compiler.passes.{name}"]  # the package has functions of these names
    result = doctest.testmod(page)
    assert not result.failed
    assert result.attempted or name not in PASSES
    assert page.__doc__


def test_passes_can_be_left_out_by_name_and_unknown_names_are_refused() -> None:
    b = Builder()
    x = b.argument(normal(2))
    b.map("exp", x)
    program = b.program(b.map("sin", x))
    assert functions(optimised(program)) == ["sin"]
    assert functions(optimised(program, disable=list(PASSES))) == ["exp", "sin"]
    with pytest.raises(ValueError, match="no such pass: speed"):
        optimised(program, disable=["speed"])


# ---- cleaning up ---------------------------------------------------------------------------------


def test_dead_code_goes_but_random_draws_stay() -> None:
    b = Builder()
    x = b.argument(normal(3, 4))
    b.random(np.random.default_rng(0), 3, 4)
    b.map("exp", b.map("sin", x))
    program = b.program(b.map("tanh", x))
    assert functions(PASSES["dead_code"](program)) == ["random", "tanh"]


def test_common_subexpressions_are_computed_once_but_draws_and_calls_are_not() -> None:
    b = Builder()
    x, y = b.argument(normal(3)), b.argument(normal(3))
    generator = np.random.default_rng(0)
    sums = [b.map("add", x, y), b.map("add", y, x), b.map("subtract", x, y), b.map("subtract", y, x)]
    draws = [b.random(generator, 3), b.random(generator, 3)]
    calls = [b.add("call", "f", [x], (3,), run=lambda a: [a]) for _ in range(2)]
    program = b.program(*sums, *draws, *calls)
    made = PASSES["common_subexpressions"](program)
    assert functions(made) == ["add", "subtract", "subtract", "random", "random", "f", "f"]
    assert made.results[0] is made.results[1]


def test_constants_fold_unless_they_get_large_and_equal_ones_become_one() -> None:
    b = Builder()
    x = b.argument(normal(3))
    two, other = b.constant(2.0, np.float64), b.constant(2.0, np.float64)
    large = b.broadcast(b.constant(1.0, np.float64), 1000, 1000)
    results = b.map("multiply", x, b.map("exp", two)), b.map("multiply", x, two), b.map("multiply", x, other), large
    made = PASSES["constant_folding"](b.program(*results))
    assert functions(made) == ["broadcast", "multiply", "multiply", "multiply"]
    assert sorted(float(v) for v in made.constants.values()) == pytest.approx([1.0, 2.0, np.exp(2.0)])


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda b, x: b.map("multiply", x, 1.0), []),
        (lambda b, x: b.map("divide", x, 1.0), []),
        (lambda b, x: b.map("subtract", x, 0.0), []),
        (lambda b, x: b.map("add", x, -0.0), []),
        (lambda b, x: b.map("negative", b.map("negative", x)), []),
        (lambda b, x: b.map("cast", x), []),
        (lambda b, x: b.map("maximum", x, x), []),
        (lambda b, x: b.map("divide", x, 4.0), ["multiply"]),
        (lambda b, x: b.map("divide", x, 3.0), ["divide"]),
        (lambda b, x: b.map("multiply", b.map("multiply", x, 0.3), 2.0), ["multiply"]),
        (lambda b, x: b.map("multiply", b.map("multiply", x, 0.3), 0.7), ["multiply", "multiply"]),
        (lambda b, x: b.map("add", x, b.map("negative", b.map("exp", x))), ["exp", "subtract"]),
        (lambda b, x: b.map("power", x, 2.0), ["multiply"]),
        (lambda b, x: b.reduce("sum", b.broadcast(x, 5, 3, 4), (0,)), ["multiply"]),
        (lambda b, x: b.reduce("max", b.broadcast(x, 5, 3, 4), (0,)), []),
        (lambda b, x: b.slice(b.join(x, b.map("exp", x)), slice(0, 3, 1), slice(0, 4, 1)), []),
        (lambda b, x: b.join(b.slice(x, slice(0, 1, 1), slice(0, 4, 1)), b.slice(x, slice(1, 3, 1), slice(0, 4, 1))), []),
    ],
)
def test_algebra_simplifies(write: Any, expected: list[str]) -> None:
    b = Builder()
    x = b.argument(np.array([[1.5, -0.0, np.inf, np.nan], *normal(2, 4)]))
    program = b.program(write(b, x))
    made = PASSES["algebra"](program)
    assert [f for f in functions(made) if f != "reshape"] == expected
    same_results(program, made, b.values)


def test_zero_is_dropped_from_a_sum_only_where_its_sign_cannot_be_seen() -> None:
    def program(*after: str) -> Program:
        b = Builder()
        made = b.map("add", b.argument(np.array([-0.0, 1.0])), 0.0)
        for function in after:
            made = b.map("divide", 1.0, made) if function == "divide" else b.map(function, made)
        return b.program(made)

    assert functions(PASSES["algebra"](program("exp"))) == ["exp"]
    assert functions(PASSES["algebra"](program("sin", "absolute"))) == ["sin", "absolute"]
    assert functions(PASSES["algebra"](program("sin", "divide"))) == ["add", "sin", "divide"]
    assert functions(PASSES["algebra"](program("reciprocal"))) == ["add", "reciprocal"]


def test_places_that_cover_an_axis_are_a_join() -> None:
    b = Builder()
    pieces = [b.argument(normal(3, 2)) for _ in range(5)]
    order = [4, 2, 0, 1, 3]
    total = None
    for k in order:
        placed = b.place(pieces[k], (3, 5, 2), slice(None), k)
        total = placed if total is None else b.map("add", total, placed)
    program = b.program(total)
    made = only("algebra")(program)
    assert [f for f in functions(made) if f != "reshape"] == ["concatenate"]
    same_results(program, made, b.values)


def test_two_reads_of_a_table_give_one_gradient() -> None:
    def program(rows: int) -> tuple[Program, Builder]:
        b = Builder()
        tables = []
        for shape in ((3,), (2, 5)):
            x, at = b.argument(normal(*shape, 4)), b.argument(rng.integers(-rows, rows, shape))
            tables.append(b.add_at(x, at, (rows, 4)))
        return b.program(b.map("add", *tables)), b

    given, b = program(9)
    made = PASSES["algebra"](given)
    assert [i.kind for i in made.instructions].count("add_at") == 1
    same_results(given, made, b.values)
    few, _ = program(8)  # copying the rows would cost more than adding the tables
    assert counts(PASSES["algebra"](few)) == counts(few)


def test_views_merge_and_move_behind_element_wise_functions() -> None:
    b = Builder()
    x, w, bias = b.argument(normal(2, 3, 4)), b.parameter(normal(4, 6)), b.parameter(normal(6))
    product = b.reshape(b.matmul(b.reshape(x, 6, 4), w), 2, 3, 6)
    activated = b.map("tanh", b.map("add", product, b.broadcast(bias, 2, 3, 6)))
    heads = b.transpose(b.reshape(activated, 2, 3, 2, 3), 0, 2, 1, 3)
    program = b.program(b.map("multiply", heads, 0.5), b.slice(b.slice(heads, 1), slice(None), 2, None))
    made = PASSES["views"](program)
    maps = [i for i in made.instructions if i.kind == "map"]
    assert [i.output.shape for i in maps] == [(6, 6)] * 3
    assert "broadcast" not in functions(made)
    same_results(program, made, b.values)


def test_functions_of_broadcast_arrays_are_computed_before_the_broadcast() -> None:
    b = Builder()
    x = b.argument(normal(3, 1))
    program = b.program(b.map("exp", b.broadcast(x, 3, 1000)))
    made = PASSES["views"](program)
    assert [i.output.shape for i in made.instructions] == [(3, 1), (3, 1000)]
    same_results(program, made, b.values)


# ---- products ------------------------------------------------------------------------------------


def test_a_stack_times_a_matrix_is_one_product_and_so_is_its_weight_gradient() -> None:
    b = Builder()
    x, w, g = b.argument(normal(3, 4, 5)), b.parameter(normal(5, 6)), b.argument(normal(3, 4, 6))
    dw = b.reduce("sum", b.matmul(b.transpose(x, 0, 2, 1), g), (0,))
    program = b.program(b.matmul(x, w), dw)
    made = PASSES["products"](program)
    shapes = [[a.shape for a in i.inputs] for i in made.instructions if i.kind == "matmul"]
    assert sorted(shapes) == [[(5, 12), (12, 6)], [(12, 5), (5, 6)]]
    same_results(program, made, b.values)


def test_columns_become_rows_and_transposes_go_into_products() -> None:
    b = Builder()
    column, w, x = b.argument(normal(5, 1)), b.parameter(normal(6, 5)), b.argument(normal(4, 5))
    swapped = b.transpose(b.matmul(w, b.transpose(x)))
    program = b.program(b.matmul(w, column), swapped)
    made = PASSES["products"](program)
    shapes = [i.output.shape for i in made.instructions if i.kind == "matmul"]
    assert sorted(shapes) == [(1, 6), (4, 6)]
    assert functions(made).count("transpose") == 1  # of the weight, for both
    same_results(program, made, b.values)


# ---- fusion --------------------------------------------------------------------------------------


def groups(program: Program) -> list[Any]:
    return [i for i in program.instructions if i.kind == "group"]


def softmax(b: Builder, x: Array) -> Array:
    e = b.map("exp", b.map("subtract", x, b.reduce("max", x, (1,), True)))
    return b.map("divide", e, b.reduce("sum", e, (1,), True))


def test_chains_with_row_reductions_and_column_reductions_at_the_end_are_one_group() -> None:
    b = Builder()
    x, y = b.argument(normal(6, 5)), b.argument(normal(6, 5))
    difference = b.map("subtract", softmax(b, x), y)
    program = b.program(difference, b.reduce("sum", difference, (0,)), b.reduce("sum", b.map("square", difference)))
    made = fusion(program)
    (group,) = made.instructions
    assert group.options["space"] == (6, 5) and group.options["inner"] == 1
    assert len(group.outputs) == 3 and set(group.inputs) == set(made.arguments)
    same_results(program, made, b.values)


def test_row_reductions_without_kept_axes_get_them() -> None:
    b = Builder()
    x = b.argument(normal(6, 5))
    mean = b.map("divide", b.reduce("sum", x, (1,)), 5.0)
    centred = b.map("subtract", x, b.reshape(mean, 6, 1))
    program = b.program(centred, b.reduce("sum", b.map("square", centred), (1,)))
    made = fusion(program)
    assert len(groups(made)) == 1
    assert [i.kind for i in made.instructions] == ["group", "view"]
    same_results(program, made, b.values)


def test_groups_hold_what_an_executor_expects() -> None:
    for seed in range(20):
        made = optimised(RandomProgram(seed, length=80).build())
        for group in groups(made):
            space, inner = group.options["space"], group.options["inner"]
            rows = tuple(range(len(space) - inner))
            inside: set[Array] = set()
            final: set[Array] = set()
            for i in group.options["body"]:
                assert i.kind in ("map", "reduce")
                assert not final & set(i.inputs)
                assert all(np.broadcast_shapes(a.shape, space) == space and a.ndim <= len(space) for a in i.inputs)
                if i.kind == "reduce":
                    axes = tuple(sorted(a % i.inputs[0].ndim for a in i.options["axes"]))
                    assert i.inputs[0].shape == space
                    if axes == tuple(range(len(rows), len(space))) and rows:
                        assert i.options["keepdims"]
                    else:
                        assert len(axes) == len(space) or set(axes) <= set(rows)
                        final.update(i.outputs)
                inside.update(i.outputs)
            assert set(group.outputs) <= inside and not set(group.inputs) & inside


def test_what_is_cheap_and_read_by_one_later_group_is_made_there() -> None:
    """The slope of a gate is made of the gate, which the backward reads anyway; that of a function of its input is kept."""
    b = Builder()
    x, w, g = b.argument(normal(32, 32)), b.parameter(normal(32, 32)), b.argument(normal(32, 32))
    y = b.map("tanh", x)
    slope = b.map("subtract", y, b.map("multiply", y, y))
    other = b.map("cos", x)
    z = b.matmul(y, w)
    back = b.map("multiply", b.matmul(g, z), slope)
    program = b.program(z, b.map("add", b.map("multiply", back, y), other))
    made = fusion(program)
    first, last = groups(made)
    assert set(first.outputs) == {y, other}
    assert slope in {a for i in last.options["body"] for a in i.outputs} and y in last.inputs
    same_results(program, made, b.values)


def test_what_is_cheap_stays_where_it_would_keep_another_array_alive() -> None:
    b = Builder()
    x, w = b.argument(normal(32, 32)), b.parameter(normal(32, 32))
    y = b.map("tanh", x)
    twice = b.map("multiply", y, 2.0)
    program = b.program(b.map("multiply", b.matmul(y, w), twice))
    made = fusion(program)
    assert set(groups(made)[0].outputs) == {y, twice}
    same_results(program, made, b.values)


def test_nothing_that_a_group_needs_waits_for_it() -> None:
    b = Builder()
    x, w = b.argument(normal(4, 4)), b.parameter(normal(4, 4))
    y = b.map("exp", x)
    z = b.map("sin", b.matmul(y, w))
    program = b.program(b.map("add", y, z), b.map("multiply", y, 2.0))
    made = fusion(program)
    made.check()
    assert counts(made)["matmul"] == 1
    same_results(program, made, b.values)


def test_updates_of_parameters_become_one_group_each() -> None:
    b = Builder()
    writes = []
    for shape in ((4, 5), (5,), (5, 3)):
        p, m, g = b.parameter(normal(*shape)), b.parameter(normal(*shape)), b.argument(normal(*shape))
        new = b.map("add", b.map("multiply", m, 0.9), g)
        writes += [(m, new), (p, b.map("subtract", p, b.map("multiply", new, 0.1)))]
    made = fusion(b.program(writes=writes))
    assert [len(i.options["body"]) for i in made.instructions] == [4, 4, 4]


def test_the_size_of_groups_and_row_reductions_can_be_limited() -> None:
    b = Builder()
    x = b.argument(normal(4, 5))
    program = b.program(softmax(b, x))
    assert [len(g.options["body"]) for g in groups(fusion(program))] == [5]
    short = fusion(program, largest=2)
    assert max(len(g.options["body"]) for g in groups(short)) == 2
    plain = fusion(program, row_reductions=False)
    assert all(i.kind != "reduce" for g in groups(plain) for i in g.options["body"])
    for made in (short, plain):
        same_results(program, made, b.values)


def test_cross_entropy_and_its_gradient_are_one_group() -> None:
    b = Builder()
    x, classes = b.argument(normal(6, 5)), b.argument(rng.integers(5, size=6))
    scores = b.map("add", x, b.parameter(normal(5)))
    index = b.reshape(classes, 6, 1)
    largest = b.reduce("max", scores, (1,), True)
    e = b.map("exp", b.map("subtract", scores, largest))
    total = b.reduce("sum", e, (1,), True)
    picked = b.add("take", "take_along_axis", [scores, index], (6, 1), axis=1)
    losses = b.map("subtract", b.map("log", total), b.map("subtract", picked, largest))
    same = b.add("map", "equal", [index, b.constant(np.arange(5), np.int64)], (6, 5), np.bool_)
    gradient = b.map("subtract", b.map("divide", e, total), b.map("where", same, 1.0, 0.0, dtype=np.float64))
    program = b.program(losses, gradient)
    made = optimised(program)
    assert [i.kind for i in made.instructions if i.kind != "view"] == ["group"]
    same_results(program, made, b.values)


def test_gates_are_computed_slice_by_slice_with_what_reads_them() -> None:
    b = Builder()
    x, h, bias = b.argument(normal(3, 8)), b.argument(normal(3, 8)), b.parameter(normal(8))
    z = b.map("add", b.map("add", x, h), bias)
    i, f, g, o = (b.slice(z, slice(0, 3, 1), slice(k, k + 2, 1)) for k in (0, 2, 4, 6))
    program = b.program(b.map("multiply", b.map("tanh", i), b.map("sin", f)), b.map("add", b.map("cos", g), b.map("exp", o)))
    made = fusion(program)
    assert all(group.options["space"] == (3, 2) for group in groups(made))
    assert sum(i.kind == "map" for i in flat(made.instructions)) == 2 * 4 + 6
    same_results(program, made, b.values)


def test_one_value_for_each_row_is_computed_in_the_group_that_reads_it() -> None:
    b = Builder()
    x, weight, count = b.argument(normal(6, 5)), b.argument(normal(6, 1)), b.argument(normal())
    scaled = b.map("multiply", b.map("exp", x), b.map("divide", weight, count))
    program = b.program(b.map("subtract", scaled, b.reduce("sum", scaled, (1,), True)))
    made = fusion(program)
    (group,) = made.instructions
    assert group.options["space"] == (6, 5) and group.options["inner"] == 1 and len(group.options["body"]) == 5
    same_results(program, made, b.values)
