"""Batching: independent instructions of one kind become one, over time steps, sequences of different lengths, and the nodes of trees."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from program_builder import Builder, counts, same_results

from tinygrad_ja.compiler.passes import PASSES, optimised
from tinygrad_ja.compiler.program import Array, Program, flat, interpret

CLEAN = ("trees", "batching", "fusion")
rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def only(*names: str) -> Callable[[Program], Program]:
    """All passes of these names, and those that clean up."""
    cleaning = ("dead_code", "constant_folding", "common_subexpressions", "views", "algebra")
    return lambda program: optimised(program, disable=set(PASSES) - set(names) - set(cleaning))


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


def test_sequences_of_different_lengths_share_one_product() -> None:
    b = Builder()
    lengths = [3, 5, 1, 4]
    w, bias = b.parameter(normal(4, 6)), b.parameter(normal(6))
    xs = [b.argument(normal(n, 4)) for n in lengths]
    ys = [b.map("tanh", b.map("add", b.matmul(x, w), bias)) for x in xs]
    b.part = "backward"
    dw = None
    for x, y in zip(xs, ys):
        part = b.matmul(b.transpose(x), b.map("multiply", y, y))
        dw = part if dw is None else b.map("add", dw, part)
    total = None
    for y in ys:
        loss = b.reduce("sum", b.map("sin", y))
        total = loss if total is None else b.map("add", total, loss)
    program = b.program(dw, total, ys[1])
    made = only("batching")(program)
    assert counts(made)["matmul"] == 2 and counts(made)["map"] == 4 and counts(made)["reduce"] == 1
    assert {i.output.shape[0] for i in made.instructions if i.kind in ("map", "join")} == {sum(lengths)}
    same_results(program, made, b.values)


def test_rows_of_zeros_that_are_filled_one_by_one_are_added_at_once() -> None:
    b = Builder()
    total = None
    for row in (3, 1, 3, 7, 0):
        placed = b.place(b.argument(normal(1, 4)), (10, 4), slice(row, row + 1, 1), slice(0, 4, 1))
        total = placed if total is None else b.map("add", total, placed)
    program = b.program(total)
    made = only("batching")(program)
    assert counts(made) == {"join": 1, "add_at": 1}
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
