"""Passes: each gives a program with the same results, alone and with all others, and does its job."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from program_builder import Builder, RandomProgram, counts, results_of, same_results

from tinygrad_ja.compile.passes import PASSES, optimised
from tinygrad_ja.compile.passes.fusion import fusion
from tinygrad_ja.compile.program import Array, Program, flat, interpret

CLEAN = ("trees", "batching", "fusion")
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


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_explains_itself_with_an_example_that_runs(name: str) -> None:
    module = sys.modules[f"tinygrad_ja.compile.passes.{name}"]
    result = doctest.testmod(module)
    assert not result.failed
    assert result.attempted or name == "trees"


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


# ---- batching ------------------------------------------------------------------------------------


class Recurrence:
    """A recurrent network in the way that a Python loop and the tape write it: h = tanh(x Wᵀ + h Uᵀ + b), y = h Vᵀ, E = Σ sum((y - t)²),
    with its backward and plain steps of gradient descent."""

    def __init__(self, steps: int, rows: int = 3, width: int = 5) -> None:
        self.b = b = Builder()
        self.steps = steps
        self.weights = [b.parameter(0.4 * normal(width, width)) for _ in range(3)]
        self.bias = b.parameter(normal(width))
        xs, targets = b.argument(normal(steps, rows, width)), b.argument(normal(steps, rows, width))
        w, u, v = self.weights
        h, loss = b.argument(normal(rows, width)), None
        states, inputs, differences = [h], [], []
        for t in range(steps):
            inputs.append(b.slice(xs, t))
            z = b.map("add", b.matmul(inputs[t], b.transpose(w)), b.matmul(h, b.transpose(u)))
            h = b.map("tanh", b.map("add", z, self.bias))
            states.append(h)
            differences.append(b.map("subtract", b.matmul(h, b.transpose(v)), b.slice(targets, t)))
            error = b.reduce("sum", b.map("square", differences[t]))
            loss = error if loss is None else b.map("add", loss, error)
        b.part = "backward"
        gradients: list[Any] = [None] * 4
        flowing = None
        for t in reversed(range(steps)):
            dy = b.map("multiply", differences[t], 2.0)
            dh = b.matmul(dy, v)
            if flowing is not None:
                dh = b.map("add", flowing, dh)
            y = states[t + 1]
            dz = b.map("subtract", dh, b.map("multiply", dh, b.map("multiply", y, y)))
            parts = [
                b.matmul(b.transpose(dz), inputs[t]),
                b.matmul(b.transpose(dz), states[t]),
                b.matmul(b.transpose(dy), states[t + 1]),
                b.reduce("sum", dz, (0,)),
            ]
            gradients = [p if g is None else b.map("add", g, p) for g, p in zip(gradients, parts)]
            flowing = b.matmul(dz, u) if t else None
        b.part = "update"
        writes = []
        for p, g in zip([*self.weights, self.bias], gradients):
            writes.append((p, b.map("subtract", p, b.map("multiply", g, 0.001))))
        assert loss is not None
        self.program = b.program(loss, h, writes=writes)


def test_batching_leaves_only_the_recurrence_step_by_step() -> None:
    steps = 8
    net = Recurrence(steps)
    made = only("batching")(net.program)
    assert counts(net.program)["matmul"] == 3 * steps + steps + (steps - 1) + 3 * steps
    # forward and backward through time, the projections in and out, three gradients (one of them without its first step) and dh
    assert counts(made)["matmul"] <= steps + (steps - 1) + 2 + 3 + 1 + 1
    assert counts(made)["reduce"] <= 3
    same_results(net.program, made, net.b.values)


def test_batched_time_steps_lie_one_behind_the_other_in_the_order_of_time() -> None:
    made = only("batching")(Recurrence(6).program)
    joins = [i for i in made.instructions if i.kind == "join"]
    assert all(i.options["axis"] == 0 for i in joins)
    order = {output: k for k, i in enumerate(made.instructions) for output in i.outputs}
    forward = [[order[a] for a in i.inputs if a in order] for i in joins if i.source.part == "forward"]
    backward = [[order[a] for a in i.inputs if a in order] for i in joins if i.source.part == "backward"]
    assert forward and all(one < two for positions in forward for one, two in pairwise(positions))
    assert [positions for positions in backward if len(positions) >= 6 and positions == sorted(positions)[::-1]]


def test_the_number_of_batches_does_not_grow_with_the_number_of_time_steps() -> None:
    few, many = (only("batching")(Recurrence(steps).program) for steps in (5, 25))
    grown = {kind: counts(many)[kind] - counts(few)[kind] for kind in ("matmul", "map", "reduce", "join")}
    assert grown == {"matmul": 2 * 20, "map": grown["map"], "reduce": 0, "join": 0}
    assert grown["map"] <= 7 * 20


def test_lookups_in_one_table_and_their_gradients_are_batched() -> None:
    b = Builder()
    table, indices = b.parameter(normal(10, 4)), [b.argument(rng.integers(10, size=3)) for _ in range(5)]
    rows = [b.take(table, i) for i in indices]
    total = None
    for i, row in zip(indices, rows):
        g = b.add_at(b.map("sin", row), i, (10, 4))
        total = g if total is None else b.map("add", total, g)
    program = b.program(total)
    made = only("batching")(program)
    assert counts(made)["take"] == 1 and counts(made)["add_at"] == 1 and counts(made)["map"] == 1
    same_results(program, made, b.values)


def test_time_steps_cut_from_the_second_axis_are_moved_to_the_front_at_once() -> None:
    b = Builder()
    x, w = b.argument(normal(3, 6, 4)), b.parameter(normal(4, 5))
    ys = [b.matmul(b.slice(x, slice(None), t), w) for t in range(6)]
    program = b.program(b.map("add", b.map("sin", ys[0]), b.map("sin", ys[5])), *ys[1:5])
    made = only("batching")(program)
    assert counts(made)["matmul"] == 1 and counts(made).get("join", 0) == 0
    same_results(program, made, b.values)


def test_element_wise_functions_that_nobody_needs_side_by_side_stay_where_they_are() -> None:
    b = Builder()
    h = b.argument(normal(4, 4))
    squares = []
    for _ in range(6):
        h = b.map("tanh", h)
        squares.append(b.map("multiply", h, h))
    total = h
    for square in squares[::-1]:
        total = b.map("tanh", b.map("subtract", total, square))
    program = b.program(total)
    made = only("batching")(program)
    assert counts(made) == counts(program)


# ---- trees ---------------------------------------------------------------------------------------


def random_tree(leaves: int) -> Any:
    if leaves == 1:
        return int(rng.integers(12))
    left = int(rng.integers(1, leaves))
    return random_tree(left), random_tree(leaves - left)


def height(tree: Any) -> int:
    return 1 + max(map(height, tree)) if isinstance(tree, tuple) else 0


def tree_program(trees: list[Any]) -> tuple[Program, Builder]:
    """v = tanh([left, right] Wᵀ + b) for each inner node, words as rows of a table, the sum of the roots, and the gradient of W."""
    b = Builder()
    table, w, bias = b.parameter(normal(12, 4)), b.parameter(normal(4, 8)), b.parameter(normal(4))
    gradients: list[Array] = []

    def value(tree: Any) -> tuple[Array, Any]:
        if not isinstance(tree, tuple):
            return b.slice(table, tree), None
        (left, one), (right, two) = map(value, tree)
        both = b.join(left, right)
        y = b.map("tanh", b.map("add", b.reshape(b.matmul(b.reshape(both, 1, 8), b.transpose(w)), 4), bias))
        return y, (both, y, one, two)

    roots = [value(tree) for tree in trees]
    total = roots[0][0]
    for root, _ in roots[1:]:
        total = b.map("add", total, root)
    b.part = "backward"

    def back(node: Any, g: Array) -> None:
        if node is None:
            return
        both, y, one, two = node
        dz = b.reshape(b.map("subtract", g, b.map("multiply", g, b.map("multiply", y, y))), 1, 4)
        gradients.append(b.matmul(b.transpose(dz), b.reshape(both, 1, 8)))
        dboth = b.reshape(b.matmul(dz, w), 8)
        back(one, b.slice(dboth, slice(0, 4)))
        back(two, b.slice(dboth, slice(4, 8)))

    seed = b.argument(normal(4))
    for _, node in roots:
        back(node, seed)
    dw = gradients[0]
    for g in gradients[1:]:
        dw = b.map("add", dw, g)
    return b.program(total, dw), b


def test_the_nodes_of_all_trees_run_height_by_height() -> None:
    trees = [random_tree(int(rng.integers(2, 9))) for _ in range(16)]
    program, b = tree_program(trees)
    made = only("trees")(program)
    levels = max(map(height, trees))
    assert counts(program)["matmul"] > 10 * levels
    assert counts(made)["matmul"] <= 2 * levels + 1
    assert sum(n for kind, n in counts(made).items() if kind != "view") <= 26 * levels + 10
    same_results(program, made, b.values)
    same_results(program, optimised(program), b.values)


def test_programs_without_trees_are_left_to_batching() -> None:
    program = optimised(Recurrence(5).program, disable=CLEAN)
    assert PASSES["trees"](program) is program


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


# ---- all together --------------------------------------------------------------------------------


def test_the_whole_recurrent_step_trains_as_the_plain_program_does() -> None:
    plain, fast = Recurrence(7), Recurrence(7)
    for one, two in zip(plain.program.state, fast.program.state):
        fast.program.state[two][...] = plain.program.state[one]
    fast.b.values = plain.b.values
    optimal = optimised(fast.program)
    first = None
    for _ in range(20):
        one, two = interpret(plain.program, plain.b.values), interpret(optimal, plain.b.values)
        np.testing.assert_allclose(two[0], one[0], rtol=1e-9)
        first = one[0] if first is None else first
    assert one[0] < 0.9 * first
    assert len(list(flat(optimal.instructions))) < len(plain.program.instructions) / 2
