"""``Plan``: what it says of a program is what the program, its layout and its executor are; and its picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compiler.cost import instruction_cost, program_cost, total
from tinygrad_ja.compiler.plan import PassCount, Plan, live_peak, title_of
from tinygrad_ja.compiler.planning import plan_buffers
from tinygrad_ja.compiler.program import Array, Instruction, Program, Source
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.table import width
from tinygrad_ja.viz.plan_picture import MOST_LINES

SVG = "{http://www.w3.org/2000/svg}"


class Executor:
    """What a plan asks an executor for."""

    name = "numbers"
    reason = "there is no GPU"
    notes = ("sort runs as it is", "sort runs as it is", "argsort too")
    calls = 5
    nbytes = 4096


def example():
    """A layer with its gradient and the update of its weight: the program before and after fusion, and its arrays by name."""
    x, w, b, lr = Array((8, 6), "f4", "x"), Array((6, 4), "f4", "w"), Array((1, 4), "f4", "b"), Array((), "f4", "lr")
    h, z, y, s = [Array(shape, "f4", name) for shape, name in (((8, 4), "h"), ((8, 4), "z"), ((8, 4), "y"), ((1, 4), "s"))]
    t, d, u, new = [Array(shape, "f4", name) for shape, name in (((6, 8), "t"), ((6, 4), "d"), ((6, 4), "u"), ((6, 4), "new"))]
    forward, update = Source("linear", "forward", f"{__file__}:1"), Source("SGD", "update", "")
    product = Instruction("matmul", "matmul", [x, w], [h], source=forward)
    body = [
        Instruction("map", "add", [h, b], [z], source=forward),
        Instruction("map", "tanh", [z], [y], source=Source("tanh", "forward", f"{__file__}:2")),
        Instruction("reduce", "sum", [y], [s], {"axes": (0,), "keepdims": True}, Source("linear", "backward", f"{__file__}:1")),
    ]
    rest = [
        Instruction("view", "transpose", [x], [t], {"axes": (1, 0)}, Source("linear", "backward")),
        Instruction("matmul", "matmul", [t, y], [d], source=Source("linear", "backward")),
        Instruction("map", "multiply", [d, lr], [u], source=update),
        Instruction("map", "subtract", [w, u], [new], source=update),
    ]
    state = {w: np.ones((6, 4), np.float32), b: np.zeros((1, 4), np.float32)}
    recorded = Program([x], [lr], state, {}, [product, *body, *rest], [s], [(w, new)])
    group = Instruction("group", "group", [h, b], [y, s], {"body": body, "space": (8, 4), "inner": 1})
    fused = Program([x], [lr], state, {}, [product, group, *rest], [s], [(w, new)])
    fused.check()
    return recorded, fused


def plan_of(**changes):
    recorded, program = example()
    given = {
        "recorded": recorded,
        "operators": 5,
        "passes": [PassCount("views", 8, 8), PassCount("fusion", 8, 6)],
        "layout": plan_buffers(program),
    }
    return Plan(program, **{**given, "executor": Executor(), **changes})


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")


# ---- what it says


def test_steps_are_the_instructions_with_their_arrays_costs_and_sources():
    plan = plan_of()
    program = plan.program
    assert [step.kind for step in plan.steps] == ["matmul", "group", "view", "matmul", "map", "map"]
    for step, instruction in zip(plan.steps, program.instructions):
        assert step.inputs == list(map(repr, instruction.inputs)) and step.shapes == [a.shape for a in instruction.outputs]
        assert (step.flops, step.nbytes) == instruction_cost(instruction)
        assert step.operator == title_of(instruction)
    product, group, *_, update = plan.steps
    assert product.operator == "linear" and product.place == "test_plan.py:1" and product.code.startswith('"""``Plan``')
    assert group.operator == "linear, tanh, linear.backward"
    assert [part.function for part in group.body] == ["add", "tanh", "sum"] and group.body[1].number == "1.1"
    assert sum(part.flops for part in group.body) == group.flops
    assert update.operator == "SGD.update" and update.writes == ["w"]


def test_sums_are_those_of_the_program():
    plan = plan_of()
    assert (plan.flops, plan.nbytes) == program_cost(plan.program)
    assert plan.recorded_cost.flops == plan.flops and plan.recorded_cost.nbytes > plan.nbytes
    for by in ("operator", "line"):
        assert total(plan.costs(by).values()) == (plan.flops, plan.nbytes)
    assert set(plan.costs()) == {"linear", "tanh", "linear.backward", "SGD.update"}
    assert (plan.recorded_instructions, plan.instructions, len(plan.steps)) == (8, 8, 6)


def test_buffers_are_those_of_the_layout():
    plan = plan_of()
    layout = plan_buffers(plan.program)
    for step, instruction in zip(plan.steps, plan.program.instructions):
        for array, buffer in zip(instruction.outputs, step.buffers):
            place = layout.places[array]
            if place.root in layout.arena:
                assert buffer == f"arena+{layout.arena[place.root] + place.offset}"
            else:
                assert buffer.partition("+")[0] == repr(place.root)
    assert plan.steps[2].buffers == ["x"]  # a view of the argument
    assert plan.steps[5].buffers == ["w"]  # written where the state lies


def test_the_peak_of_a_recording_is_that_of_a_simulation():
    random = np.random.default_rng(0)
    for _ in range(20):
        known, instructions = [Array((int(random.integers(1, 9)),), "f4")], []
        for _ in range(15):
            (source,) = random.choice(np.array(known, dtype=object), 1)
            if random.random() < 0.3:
                made = Array(source.shape, "f4")
                instructions.append(Instruction("view", "reshape", [source], [made]))
            else:
                made = Array((int(random.integers(1, 9)),), "f4")
                instructions.append(Instruction("map", "exp", [source], [made]))
            known.append(made)
        program = Program(known[:1], instructions=instructions, results=known[-1:])

        def owner(array, program=program):
            while array.maker is not None and array.maker.kind == "view":
                (array,) = array.maker.inputs
            return None if array in program.arguments else array

        peak = 0
        for position in range(len(instructions)):
            made_so_far = {owner(a) for i in instructions[: position + 1] for a in i.outputs}
            still_read = {owner(a) for i in instructions[position:] for a in i.inputs} | {owner(known[-1])}
            still_read |= {owner(a) for a in instructions[position].outputs}
            peak = max(peak, sum(a.nbytes for a in made_so_far & still_read if a is not None))
        assert live_peak(program) == peak


def test_a_plan_is_json():
    made = json.loads(json.dumps(plan_of().to_dict()))
    assert made["operators"] == 5 and made["calls"] == 5 and made["notes"] == ["sort runs as it is", "argsort too"]
    assert made["passes"][1] == {"name": "fusion", "before": 8, "after": 6}
    assert made["steps"][1]["body"][1]["text"] == "y = tanh(z)"


def test_state_that_is_not_used_is_left_out():
    recorded, program = example()
    program.state = {Array((9,), "f4"): np.zeros(9, np.float32), **program.state}
    plan = Plan(program, recorded=recorded)
    assert [repr(a) for a in plan.program.state] == ["w", "b"] and plan.state_nbytes == 96 + 16


def test_a_plan_needs_nothing_but_a_program():
    plan = Plan(example()[1])
    assert plan.calls is None and plan.arena is None and "? calls" in str(plan)


# ---- the table


@pytest.mark.parametrize(("language", "words"), [("en", ["instruction", "buffer"]), ("ja", ["命令", "バッファ"])])
def test_the_table_lines_up_in_both_languages(monkeypatch, language, words):
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    lines = str(plan_of()).splitlines()
    assert "numbers (there is no GPU)" in lines[0] and any("argsort too" in line for line in lines)
    assert any(line.split() == ["fusion", "8", "6"] for line in lines) and "views" not in "\n".join(lines[:12])
    first, second = [i for i, line in enumerate(lines) if set(line) == {"-"}]
    head, rows = lines[second - 1], lines[second + 1 :]
    assert second == first + 2 and all(word in head for word in words)
    assert len(rows) == 6 + 3
    for word in words:
        start = width(head[: head.index(word)])
        for row in rows:
            text, columns = "", 0
            for letter in row:
                if columns >= start:
                    break
                text, columns = text + letter, columns + width(letter)
            assert columns == start and text.endswith(" ")


def test_groups_are_opened_or_summed_up():
    plan = plan_of()
    assert "group(h, b): add, tanh, sum" in plan.table(bodies=False) and "1.1" not in plan.table(bodies=False)
    assert "    1.1" not in plan.table(rows=8)  # would not fit
    assert "1.1" in plan.table(bodies=True)


def test_a_long_table_is_shortened_in_its_middle():
    plan = plan_of()
    lines = plan.table(rows=4).splitlines()
    assert "… 2 more …" in lines
    assert [line.split()[0] for line in lines[-5:]] == ["0", "1", "…", "4", "5"]


# ---- the picture


def words_of(drawing):
    """The texts of an SVG that must be well-formed XML."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(drawing.svg()).iter(f"{SVG}text")]


def test_the_picture_has_a_box_for_each_instruction_that_is_no_view():
    drawing = tg.draw(plan_of())
    assert [box.title for box in drawing.boxes] == [
        "matmul",
        "linear, tanh, linear.backward: group",
        "matmul",
        "multiply",
        "subtract",
    ]
    assert drawing.boxes[1].inner == ["z = add(h, b)", "y = tanh(z)", "s = sum(y, axes=(0,), keepdims=True)"]
    words = words_of(drawing)
    assert {"forward", "backward", "update", "→ w", "y", "u"} <= set(words)
    assert [box.column for box in drawing.boxes] == [0, 0, 1, 2, 2]
    reads = drawing.boxes[2].reads
    assert [(read.label, read.source, read.kind) for read in reads] == [("xᵀ", None, "input"), ("y", 1, "more")]


def test_a_compiled_function_is_drawn_by_its_plan():
    class Compiled:
        def plan(self):
            return plan_of()

    assert words_of(tg.draw(Compiled())) == words_of(tg.draw(plan_of()))


def test_the_picture_is_japanese_where_messages_are(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    assert {"順伝播", "逆伝播", "更新"} <= set(words_of(tg.draw(plan_of())))


def test_the_picture_is_saved_as_svg_only(tmp_path):
    drawing = tg.draw(plan_of())
    assert drawing.save(tmp_path / "plan.svg").read_text(encoding="utf-8") == drawing.svg() == drawing._repr_svg_()
    with pytest.raises(ArgumentError, match="plan.svg"):
        drawing.save(tmp_path / "plan.png")


def chain(length, operators):
    """A chain of element-wise functions that come from operators by turns."""
    x = Array((4,), "f4")
    arrays, instructions = [x], []
    for number in range(length):
        made = Array((4,), "f4")
        source = Source(operators[number * len(operators) // length])
        instructions.append(Instruction("map", "exp", arrays[-1:], [made], source=source))
        arrays.append(made)
    return Plan(Program([x], instructions=instructions, results=arrays[-1:]))


def test_many_instructions_of_one_operator_are_drawn_as_one():
    drawing = tg.draw(chain(200, ["softmax", "gelu", "softmax"]))
    assert [box.title for box in drawing.boxes] == ["softmax × 67", "gelu × 67", "softmax × 66"]
    assert len(drawing.boxes[0].inner) == MOST_LINES and drawing.boxes[0].inner[-1] == "… 54 …"
    assert [read.source for box in drawing.boxes for read in box.reads] == [None, 0, 1]


def test_what_cannot_be_drawn_readably_is_refused_with_a_fix():
    plan = chain(200, [f"operator {n}" for n in range(100)])
    with pytest.raises(ArgumentError, match=r"limit=80.*limit=100"):
        tg.draw(plan)
    assert len(tg.draw(plan, limit=100).boxes) == 100
