"""Costs of programs: operations and bytes by hand, for every kind of instruction, and sums that do not depend on how a program is grouped."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_ja.compiler.cost import Cost, costs_by, instruction_cost, parts, program_cost, stored, total
from tinygrad_ja.compiler.program import Array, Instruction, Program, Source


def array(*shape, dtype="float32"):
    return Array(shape, dtype)


def made(kind, function, inputs, shape, **options):
    """An instruction with one output."""
    return Instruction(kind, function, inputs, [array(*shape)], options)


@pytest.mark.parametrize(
    ("kind", "function", "inputs", "output", "flops", "elements"),
    [
        ("matmul", "matmul", [(3, 4), (4, 5)], (3, 5), 2 * 3 * 4 * 5, 12 + 20 + 15),
        ("matmul", "matmul", [(7, 3, 4), (4, 5)], (7, 3, 5), 7 * 2 * 3 * 4 * 5, 84 + 20 + 105),
        ("map", "add", [(3, 4), (1, 4)], (3, 4), 12, 12 + 4 + 12),
        ("map", "tanh", [(3, 4)], (3, 4), 12, 24),
        ("map", "copy", [(3, 4)], (3, 4), 0, 24),
        ("reduce", "sum", [(3, 4)], (3, 1), 12, 15),
        ("scan", "cumsum", [(3, 4)], (3, 4), 12, 24),
        ("join", "concatenate", [(3, 4), (2, 4)], (5, 4), 0, 40),
        ("place", "place", [(2, 4)], (5, 4), 0, 28),
        ("random", "normal", [], (5, 4), 0, 20),
    ],
)
def test_each_kind_counts_as_by_hand(kind, function, inputs, output, flops, elements):
    instruction = made(kind, function, [array(*shape) for shape in inputs], output)
    assert instruction_cost(instruction) == Cost(flops, 4 * elements)


def test_an_array_that_is_read_twice_is_read_from_memory_once():
    x = array(8, 8)
    assert instruction_cost(made("map", "multiply", [x, x], (8, 8))) == Cost(64, 2 * 256)


def test_a_view_moves_nothing_unless_it_has_to_copy():
    view = made("view", "transpose", [array(3, 4)], (4, 3), axes=(1, 0))
    assert instruction_cost(view) == Cost(0, 0)
    assert instruction_cost(view, [view]) == Cost(0, 2 * 48)


def test_what_is_broadcast_counts_as_it_is_stored():
    row = array(1, 6)
    wide = made("view", "broadcast", [row], (100, 6)).output
    turned = made("view", "transpose", [wide], (6, 100), axes=(1, 0)).output
    part = made("view", "slice", [array(50, 50)], (2, 50), key=(slice(0, 2),)).output
    assert (stored(row), stored(wide), stored(turned), stored(part)) == (24, 24, 24, 400)
    assert instruction_cost(made("map", "exp", [wide], (100, 6))).nbytes == 24 + 2400


def test_rows_of_a_table_count_and_not_the_table():
    table, indices = array(10_000, 8), array(5, dtype="int64")
    assert instruction_cost(made("take", "take", [table, indices], (5, 8), axis=0)) == Cost(0, 2 * 160 + 40)
    back = made("add_at", "take", [array(5, 8), indices], (10_000, 8), axis=0)
    assert instruction_cost(back) == Cost(40, 320_000 + 3 * 160 + 40)


def test_an_operator_that_runs_as_it_is_counts_its_products():
    x, weight = array(2, 3, 8, 8), array(5, 3, 3, 3)
    convolution = made("call", "convolution", [x, weight], (2, 5, 6, 6))
    assert instruction_cost(convolution).flops == 2 * (2 * 5 * 6 * 6) * 27
    assert instruction_cost(made("call", "sort", [x], (2, 3, 8, 8))).flops == 384
    assert instruction_cost(made("call", "linear.backward", [x], (5, 3, 3, 3))).flops == 384


def test_groups_count_what_they_hold_and_what_crosses_their_border():
    x, bias = array(64, 16), array(1, 16)
    add = made("map", "add", [x, bias], (64, 16))
    tanh = made("map", "tanh", [add.output], (64, 16))
    again = made("map", "multiply", [tanh.output, x], (64, 16))
    column = made("reduce", "sum", [again.output], (1, 16), axes=(0,), keepdims=True)
    body = [add, tanh, again, column]
    group = Instruction("group", "group", [x, bias], [again.output, column.output], {"body": body})
    assert instruction_cost(group) == Cost(4 * 1024, 4 * (1024 + 16 + 1024 + 16))
    each = dict(parts(group))
    assert [each[part].nbytes for part in body] == [4 * 1040, 0, 4096, 64]


def random_program(seed):
    """Element-wise functions, reductions and products of square arrays, with sources."""
    random = np.random.default_rng(seed)
    known = [array(6, 6) for _ in range(3)]
    given, instructions = list(known), []
    for number in range(20):
        source = Source(
            f"operator {random.integers(4)}", ("forward", "backward")[number // 10], f"model.py:{random.integers(3)}"
        )
        a, b = [known[i] for i in random.integers(len(known), size=2)]
        kind, function = [("map", "add"), ("map", "tanh"), ("matmul", "matmul")][random.integers(3)]
        instruction = Instruction(kind, function, [a] if function == "tanh" else [a, b], [array(6, 6)], {}, source)
        instructions.append(instruction)
        known.append(instruction.output)
    return Program(given, instructions=instructions, results=known[-1:])


@pytest.mark.parametrize("seed", range(10))
def test_sums_by_operator_and_by_line_add_up_to_the_program(seed):
    program = random_program(seed)
    whole = program_cost(program)
    maps = sum(i.kind == "map" for i in program.instructions)
    assert whole.flops == maps * 36 + (20 - maps) * 2 * 6**3
    for key in (lambda source: source.operator, lambda source: source.line, lambda source: (source.part, source.line)):
        found = costs_by(program, key)
        assert total(found.values()) == whole
        assert set(found) == {key(i.source) for i in program.instructions}


@pytest.mark.parametrize("seed", range(10))
def test_grouping_keeps_operations_and_saves_bytes(seed):
    program = random_program(seed)
    run = [i for i in program.instructions if i.kind == "map"][-4:]
    inside = {i.output for i in run}
    inputs = list(dict.fromkeys(a for i in run for a in i.inputs if a not in inside))
    group = Instruction("group", "group", inputs, [run[-1].output], {"body": run})
    separate = total(map(instruction_cost, run))
    assert instruction_cost(group).flops == separate.flops
    assert instruction_cost(group).nbytes < separate.nbytes
    assert total(cost for _, cost in parts(group)) == instruction_cost(group)
