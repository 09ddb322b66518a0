"""Layouts: no two arrays that live at the same time share memory, whatever may be computed in place is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from exact_programs import ExactProgram, both_ways
from program_builder import Builder

from tinygrad_ja.compiler import arena, planning
from tinygrad_ja.compiler.arena import Block, most_alive, packed
from tinygrad_ja.compiler.numpy_executor import _at
from tinygrad_ja.compiler.planning import Layout, Place, plan_buffers
from tinygrad_ja.compiler.program import Array, Instruction, Program, run_instruction
from tinygrad_ja.compiler.strides import contiguous, reshaped, same_strides

F = np.float32


class Machine:
    """Runs a program in the memory of a layout. Whatever an instruction may not read is overwritten first: memory of the arena before a step,
    an output before its instruction runs; element-wise instructions run some elements at a time, in any order."""

    def __init__(self, program: Program) -> None:
        self.program, self.layout = program, planning.plan_buffers(program)
        self.rng = np.random.default_rng(0)
        self.memory = np.zeros(self.layout.nbytes, np.uint8)
        self.buffers: dict[Array, Any] = {root: self.memory[at:] for root, at in self.layout.arena.items()}
        self.buffers.update(program.state)
        for a, value in program.constants.items():
            self.buffers[a] = np.array(value, a.dtype)

    def at(self, a: Array, place: Place) -> np.ndarray:
        return _at(self.buffers[place.root], place.offset, a.shape, a.dtype, place.strides)

    def array(self, a: Array) -> np.ndarray:
        return self.at(a, self.layout.places[a])

    def run(self, arguments: Sequence[np.ndarray], numbers: Sequence[float]) -> list[np.ndarray]:
        program = self.program
        self.memory[...] = 0xFF
        for a, value in zip((*program.arguments, *program.numbers), (*arguments, *numbers)):
            self.buffers[a] = np.array(value, a.dtype, order="C")
        with np.errstate(all="ignore"):
            for instruction in program.instructions:
                self.step(instruction)
        results = [self.array(a).copy() for a in program.results]
        left = [entry for entry in program.writes if entry not in self.layout.done_writes]
        new = [self.array(a).copy() for _, a in left]
        for (old, _), value in zip(left, new):
            program.state[old][...] = value
        return results

    def step(self, instruction: Instruction) -> None:
        if instruction.kind == "map":
            self.some_at_a_time(instruction)
        elif instruction.kind == "join":
            for part, place in self.layout.unjoined(instruction):
                self.at(part, place)[...] = self.array(part)
        elif instruction.kind == "group":
            self.group(instruction)
        elif instruction.kind != "view" or instruction in self.layout.copies:
            for y in instruction.outputs:
                self.array(y)[...] = np.frombuffer(b"\xff" * y.dtype.itemsize, y.dtype)[0]
            made = run_instruction(instruction, [self.array(a) for a in instruction.inputs])
            for y, value in zip(instruction.outputs, made):
                self.array(y)[...] = value

    def some_at_a_time(self, instruction: Instruction) -> None:
        y = self.array(instruction.output)
        xs = [np.broadcast_to(self.array(a), y.shape) for a in instruction.inputs]
        order = self.rng.permutation(y.size)
        for some in np.array_split(order, 3):
            at = np.unravel_index(some, y.shape) if y.ndim else ()
            flat = Instruction("map", instruction.function, (), [Array((len(some),), y.dtype)])
            y[at] = run_instruction(flat, [x[at] for x in xs])[0]

    def group(self, group: Instruction) -> None:
        local: dict[Array, Any] = {}
        for instruction in group.options["body"]:
            xs = [local[a] if a in local else self.array(a) for a in instruction.inputs]
            for y, value in zip(instruction.outputs, run_instruction(instruction, xs)):
                if y in group.outputs:
                    local[y] = self.array(y)
                    local[y][...] = value
                else:
                    local[y] = value


def check(seed: int) -> Layout:
    made = ExactProgram(seed)
    program = made.build()
    machine = Machine(program)
    both_ways(program, made.generators(), machine.run, [made.inputs() for _ in range(3)])
    return machine.layout


def test_random_programs_run_in_the_memory_of_their_layout() -> None:
    layouts = [check(seed) for seed in range(60)]
    assert sum([len(layout.done_writes) for layout in layouts]) > 20
    assert sum([len(layout.copies) for layout in layouts]) > 20


BREAKAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "arrays die one instruction too early": lambda patch: patch.setattr(
        planning._Planner,
        "allocate",
        _with(planning._Planner.allocate, lambda p: p.last.update({a: k - 1 for a, k in p.last.items()})),
    ),
    "any input may be overwritten": lambda patch: patch.setattr(planning, "same_index", lambda instruction, x, y: True),
    "strides do not matter": lambda patch: patch.setattr(planning, "same_strides", lambda shape, a, b: True),
    "overlap in the state goes unseen": lambda patch: patch.setattr(planning, "_meet", lambda a, b: a == b),
    "nobody reads the old state": lambda patch: patch.setattr(planning._Planner, "_wanted_by", lambda self, *given: False),
    "nothing has to be copied into joins": lambda patch: patch.setattr(Layout, "unjoined", lambda self, join: []),
    "no view copies": lambda patch: patch.setattr(planning, "view_of", _never_copies(planning.view_of)),
}


def _with(method: Callable[..., Any], before: Callable[[Any], object]) -> Callable[..., Any]:
    def changed(self: Any, *given: Any) -> Any:
        before(self)
        return method(self, *given)

    return changed


def _never_copies(usual: Callable[..., Any]) -> Callable[..., Any]:
    return lambda view, strides: usual(view, strides) or (0, contiguous(view.output.shape, view.output.dtype.itemsize))


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_machine_notices_broken_layouts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKAGES[name](monkeypatch)
    with pytest.raises((AssertionError, ValueError, TypeError)):
        for seed in range(60):
            check(seed)


def test_reshaped_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    copied = 0
    for _ in range(500):
        x = np.zeros(rng.choice([1, 2, 3, 4], size=rng.integers(0, 5)), F)
        x = x.transpose(rng.permutation(x.ndim))[
            tuple([slice(None, None, int(rng.choice([1, 1, 2, -1]))) for _ in range(x.ndim)])
        ]
        x = np.broadcast_to(x, (2, *x.shape)) if rng.random() < 0.2 else np.asarray(x)
        for new in (
            (x.size,),
            (1, x.size),
            (2, x.size // 2),
            (x.size // 2, 2, 1),
            (4, x.size // 4),
            x.shape[::-1],
            (*x.shape[:1], -1, 1),
        ):
            try:
                wanted = x.reshape(new)
            except ValueError:
                continue
            made = reshaped(x.shape, x.strides, wanted.shape, 4)
            assert (made is not None) == np.shares_memory(wanted, x) or not x.size
            copied += made is None
            if made is not None and x.size:
                assert same_strides(wanted.shape, made, wanted.strides)
    assert copied > 50


def test_memory_is_used_again_and_in_place() -> None:
    b = Builder()
    x = b.argument(np.zeros((8, 8), F))
    first = b.map("exp", x)
    second = b.map("tanh", first)
    turned = b.map("exp", b.transpose(second))
    product = b.matmul(turned, second)
    layout = plan_buffers(b.program(b.map("negative", product)))
    assert layout.arena[second] == layout.arena[first] == 0
    assert layout.arena[turned] == 256
    assert layout.arena[b.instructions[-1].output] == layout.arena[product] == 512
    assert layout.nbytes == layout.peak == 768
    plain = plan_buffers(b.program(), reuse=False)
    assert len(set(plain.arena.values())) == 5 and plain.nbytes == 5 * 256


def test_a_view_keeps_its_buffer() -> None:
    b = Builder()
    x = b.argument(np.zeros((4, 8), F))
    made = b.map("exp", x)
    row = b.slice(made, 2)
    other = b.map("exp", x)
    last = b.map("add", other, row)
    layout = plan_buffers(b.program(last))
    assert layout.places[row] == Place(made, 64, (4,))
    assert layout.arena[other] != layout.arena[made] and layout.arena[last] == layout.arena[other]


def test_what_is_joined_is_computed_in_its_place() -> None:
    b = Builder()
    x = b.argument(np.zeros((4, 8), F))
    parts = [b.map("exp", x), b.matmul(x, b.constant(np.zeros((8, 8)))), b.reduce("sum", b.reshape(x, 4, 8, 1), (2,))]
    inner = b.join(*[b.reshape(part, 1, 4, 8) for part in parts])
    given = b.reshape(x, 1, 4, 8)
    outer = b.join(inner, given)
    turned = b.transpose(b.slice(outer, slice(0, 3)), 1, 0, 2)
    wide = b.join(b.map("negative", turned), b.map("exp", turned), axis=2)
    layout = plan_buffers(b.program(b.map("exp", wide)))
    assert [layout.places[part] for part in parts] == [Place(outer, 128 * k, (32, 4)) for k in range(3)]
    assert layout.places[inner].root is layout.places[turned].root is outer
    assert layout.unjoined(inner.maker) == layout.unjoined(wide.maker) == []
    assert layout.unjoined(outer.maker) == [(given, Place(outer, 384, (128, 32, 4)))]
    assert layout.places[wide.maker.inputs[1]] == Place(wide, 32, (192, 64, 4))


def test_pieces_too_short_for_their_readers_are_copied_into_a_join() -> None:
    b = Builder()
    x = b.argument(np.zeros((16, 4), F))
    read, alone = b.map("exp", x), b.map("sin", x)
    joined = b.join(read, alone, axis=1)
    layout = plan_buffers(b.program(b.map("tanh", joined), b.map("tanh", read)))
    assert [part for part, _ in layout.unjoined(joined.maker)] == [read]


def test_joins_of_the_same_arrays_share_them() -> None:
    b = Builder()
    x = b.argument(np.zeros((4, 8), F))
    rows = [b.reshape(b.map("exp", b.slice(x, k)), 1, 8) for k in range(4)]
    some = b.join(*rows[1:3])
    most = b.join(*rows[:3])
    every = b.join(b.join(rows[0]), *rows[1:])
    turned = b.join(*rows[2:0:-1])
    layout = plan_buffers(b.program(*[b.map("tanh", a) for a in (some, most, every, turned)]))
    assert layout.places[some] == Place(every, 32, (32, 4)) and layout.places[most] == Place(every, 0, (32, 4))
    assert layout.places[turned].root is turned and len(layout.unjoined(turned.maker)) == 2


def test_joins_of_the_same_joins_share_them() -> None:
    """Gates of time steps side by side, which are joined for two weights: from all steps, and from all but the last."""
    b = Builder()
    x = b.argument(np.zeros((4, 8), F))
    gates = [b.join(*[b.map(f, b.slice(x, slice(k, k + 1))) for f in ("exp", "tanh")], axis=1) for k in range(4)]
    most, every = b.join(*gates[1:]), b.join(*gates)
    layout = plan_buffers(b.program(b.map("tanh", every), b.map("exp", most)))
    assert layout.places[most] == Place(every, 64, (64, 4))
    assert not any([layout.unjoined(a.maker) for a in (*gates, most, every)])


def test_a_join_of_slices_of_an_argument_is_a_view() -> None:
    b = Builder()
    x, w = b.argument(np.zeros((4, 3, 8), F)), b.parameter(np.zeros((4, 8), F))
    joined = b.join(*[b.slice(x, slice(k, k + 1), slice(0, 2)) for k in range(1, 4)])
    of_state = b.join(b.slice(w, slice(0, 2)), b.slice(w, slice(2, 4)))
    layout = plan_buffers(b.program(b.map("exp", joined), of_state))
    assert layout.places[joined] == Place(x, 96, (96, 32, 4)) and layout.unjoined(joined.maker) == []
    assert layout.places[of_state].root is of_state and len(layout.unjoined(of_state.maker)) == 2


def _updated(read_later: bool, returned: bool) -> tuple[Layout, Array, Array]:
    b = Builder()
    w = b.parameter(np.ones((3, 4), F).T)
    g = b.matmul(w, b.transpose(w))
    new = b.map("subtract", w, b.matmul(g, w))
    late = b.map("exp", w if read_later else new)
    return plan_buffers(b.program(late, *([b.slice(w, 0)] if returned else []), writes=[(w, new)])), w, new


def test_new_values_are_computed_in_the_state() -> None:
    layout, w, new = _updated(False, False)
    assert layout.done_writes == [(w, new)] and layout.places[new] == Place(w, 0, (4, 16))


@pytest.mark.parametrize("read_later, returned", [(True, False), (False, True)])
def test_not_where_the_old_value_is_still_wanted(read_later: bool, returned: bool) -> None:
    layout, _, new = _updated(read_later, returned)
    assert layout.done_writes == [] and layout.places[new].root is new


def test_a_flat_update_is_computed_in_the_state_too() -> None:
    b = Builder()
    w = b.parameter(np.ones((3, 4), F))
    g = b.argument(np.zeros(12, F))
    new = b.reshape(b.map("subtract", b.reshape(w, 12), g), 3, 4)
    layout = plan_buffers(b.program(writes=[(w, new)]))
    assert layout.done_writes == [(w, new)] and layout.nbytes == 0


def test_swapped_state_is_left_to_the_executor() -> None:
    b = Builder()
    v, w = b.parameter(np.ones(3, F)), b.parameter(np.zeros(3, F))
    assert plan_buffers(b.program(writes=[(v, w), (w, v)])).done_writes == []


def _in_group(body: Callable[[Builder, Array], list[Array]]) -> tuple[Layout, Array, list[Array]]:
    b = Builder()
    x = b.map("exp", b.argument(np.zeros((8, 16), F)))
    outside, b.instructions = b.instructions, []
    outputs = body(b, x)
    inner, b.instructions = b.instructions, outside
    b.instructions.append(Instruction("group", "group", [x], outputs, {"body": inner, "space": (8, 16), "inner": 1}))
    return plan_buffers(b.program(*outputs)), x, outputs


def test_groups_overwrite_an_input_after_its_last_reader() -> None:
    layout, x, (y,) = _in_group(lambda b, x: [b.map("tanh", b.map("multiply", x, x))])
    assert layout.arena[y] == layout.arena[x]
    layout, x, (y, z) = _in_group(lambda b, x: [(y := b.map("tanh", x)), b.map("add", y, x)])
    assert layout.arena[y] != layout.arena[x] == layout.arena[z]


def test_groups_with_row_reductions_overwrite_nothing() -> None:
    layout, x, (y,) = _in_group(lambda b, x: [b.map("divide", x, b.reduce("sum", x, (1,), True))])
    assert layout.arena[y] != layout.arena[x]


def test_offsets_are_aligned_and_the_peak_is_below_the_memory_without_reuse() -> None:
    for seed in range(20):
        program = ExactProgram(seed).build()
        layout, plain = plan_buffers(program), plan_buffers(program, reuse=False)
        assert all(offset % 64 == 0 for offset in layout.arena.values())
        assert layout.peak <= layout.nbytes < plain.nbytes


# ---- offsets -------------------------------------------------------------------------------------


def _random_blocks(rng: np.random.Generator) -> list[Block]:
    births = np.sort(rng.integers(0, 60, 80)).tolist()
    return [Block(i, i + int(rng.integers(0, 30)), int(rng.choice([4, 100, 640, 5000, 70_000]))) for i in births]


@pytest.mark.parametrize("way", [packed, arena._in_order, arena._by_size])
def test_blocks_of_one_time_have_memory_of_their_own(way: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        blocks = _random_blocks(rng)
        offsets, nbytes = way(blocks)
        assert most_alive(blocks) <= nbytes
        for i, (a, low) in enumerate(zip(blocks, offsets)):
            assert low % 64 == 0 and low + a.nbytes <= nbytes
            for b, other in zip(blocks[:i], offsets):
                apart = a.death < b.birth or b.death < a.birth
                assert apart or low + a.nbytes <= other or other + b.nbytes <= low


def test_the_most_that_is_alive() -> None:
    blocks = _random_blocks(np.random.default_rng(1))
    assert most_alive(blocks) == max(sum(b.nbytes for b in blocks if b.birth <= t <= b.death) for t in range(100))
    assert most_alive([]) == 0 and packed([]) == ([], 0)


def test_the_largest_come_first_where_that_leaves_fewer_holes() -> None:
    blocks = [Block(0, 1, 64), Block(1, 3, 128), Block(2, 4, 128), Block(4, 5, 320)]
    assert arena._in_order(blocks)[1] > packed(blocks)[1] == most_alive(blocks) == 448
    many = [block for block in blocks for _ in range(arena.MOST_BLOCKS)]
    assert packed(many) == arena._in_order(many)
