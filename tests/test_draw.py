"""tg.draw: what the picture says of the tape is what the tape does."""

from __future__ import annotations

import html
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.core.operator import OPERATORS, Array, elementwise
from tinygrad_ja.errors import ArgumentError, DtypeError, GradientError
from tinygrad_ja.testing import strict
from tinygrad_ja.viz.layout import Block, lanes, place, time_steps
from tinygrad_ja.viz.rule_text import rules_of, text_of

SVG = "{http://www.w3.org/2000/svg}"


def rnn(steps=3, hidden=4):
    """A simple RNN by hand: the loss and the names of its tensors."""
    tg.manual_seed(0)
    names = {name: tg.randn(*shape, requires_grad=True) for name, shape in (("W", (hidden, hidden)), ("W_out", (1, hidden)))}
    z, loss = tg.zeros(hidden), 0.0
    for t in range(steps):
        z = tg.sigmoid(names["W"] @ z + 0.5)
        loss = loss + ((names["W_out"] @ z - t) ** 2).sum() / 2
    return loss, names


def words_of(svg):
    """The texts of an SVG that must be well-formed XML."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# ---- what it knows of the tape


def test_every_operator_is_there_with_its_shapes_and_gradients():
    w = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x = tg.tensor([1.0, -1.0])
    drawing = tg.draw((tg.tanh(w @ x) * 3).sum(), {"w": w, "x": x})
    product, tanh, times, total = drawing.walk.entries
    assert [entry.title for entry in drawing.walk.entries] == ["matmul", "tanh", "mul", "sum"]
    assert [(given.name, given.kind, given.label) for given in product.inputs] == [
        ("input", "parameter", "w"),
        ("other", "input", "x"),
    ]
    assert product.inputs[1].value.numbers == "[1, -1]"
    assert (tanh.inputs[0].kind, tanh.inputs[0].source) == ("value", 0)
    y = np.tanh([-1.0, -1.0])
    assert tanh.cotangents[0].norm == pytest.approx(np.sqrt(18)) and tanh.cotangents[0].shape == (2,)
    assert tanh.inputs[0].gradient.norm == pytest.approx(np.linalg.norm(3 * (1 - y * y)))
    assert tanh.rules == [("input", "lambda g, y: g - g * (y * y)")] and tanh.kept[0][0] == "y"
    assert times.inputs[1].value.numbers == "3" and total.is_loss
    assert total.outputs[0].numbers == f"{float(3 * y.sum()):.4g}"
    assert drawing.walk.backward == [3, 2, 1, 0]


def test_the_gradients_of_the_leaves_are_those_of_backward():
    loss, names = rnn()
    drawn = {leaf.label: leaf.gradient.norm for leaf in tg.draw(loss, names).walk.leaves}
    loss.backward()
    assert drawn == {name: pytest.approx(np.linalg.norm(p.grad.array)) for name, p in names.items()}


def test_what_each_use_sends_to_a_parameter_is_what_bptt_map_finds():
    loss, names = rnn()
    entries = tg.draw(loss, names).walk.entries
    sent = [given.gradient.norm for entry in entries for given in entry.inputs if given.label == "W"]
    np.testing.assert_allclose(sent, tg.bptt_map([loss], names["W"]).matrix[0], rtol=1e-6)


def test_a_module_lends_its_parameters_names():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    drawing = tg.draw(model(tg.randn(5, 3)).sum(), model)
    assert {leaf.label for leaf in drawing.walk.leaves} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert {"0.weight", "(4, 3)", "linear", "relu"} <= set(words_of(drawing.svg()))


def test_results_can_be_named_too_and_then_show_their_values():
    w = tg.ones(2, requires_grad=True)
    z = w + 1.0
    assert tg.draw(z.sum()).walk.entries[0].outputs[0].numbers is None  # a sum keeps nothing
    drawing = tg.draw(z.sum(), {"z": z})
    assert drawing.walk.entries[0].outputs[0].numbers == "[2, 2]" and "z = add" in words_of(drawing.svg())


def test_a_gradient_that_is_not_finite_is_shown_as_it_is():
    w = tg.tensor([0.0, 1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        drawing = tg.draw((w.sqrt() * 0.0 + w.log()).sum(), {"w": w})
    assert drawing.walk.leaves[0].gradient.numbers == "[nan, 1]"
    assert "‖g‖ nan" in words_of(drawing.svg()) and "NaN" not in drawing.html().split('id="data"')[1].split("</script>")[0]


def test_a_layer_is_one_operator_or_a_cell_for_each_step():
    layer = nn.LSTM(3, 4, num_layers=2)
    output, _ = layer(tg.randn(5, 2, 3))
    loss = (output**2).sum()
    assert [entry.title for entry in tg.draw(loss, layer).walk.entries].count("lstm_layer") == 2
    unrolled = tg.draw(loss, layer, unroll=True)
    assert [entry.title for entry in unrolled.walk.entries].count("lstm_cell") == 10
    assert [word for word in words_of(unrolled.svg()) if word.startswith("t = ")] == [f"t = {t}" for t in range(5)]
    loss.backward()
    for leaf in unrolled.walk.leaves:
        assert leaf.gradient.norm == pytest.approx(np.linalg.norm(layer.get_parameter(leaf.label).grad.array), rel=1e-4)


def test_several_outputs_and_checkpoints_are_drawn():
    w = tg.arange(6.0).requires_grad_()
    first, _ = w.chunk(2)
    values, _ = tg.checkpoint(lambda x: x.exp(), first).sort()
    drawing = tg.draw(values.sum(), {"w": w})
    titles = [entry.title for entry in drawing.walk.entries]
    assert "exp" in titles and "checkpoint" not in titles
    assert len(drawing.walk.entries[0].outputs) == 2
    words_of(drawing.svg())


def test_nothing_changes_on_the_tape():
    loss, names = rnn()
    z = loss.node.parents[1]
    tg.draw(loss, names).html()
    assert all(p.grad is None for p in names.values()) and z.hooks is None
    loss.backward()
    assert all(p.grad is not None for p in names.values())


def test_arrays_of_another_device_are_brought_to_the_host():
    w = tg.Tensor(strict.array(np.ones(3, np.float32))).requires_grad_()
    drawing = tg.draw((w * w).sum(), {"w": w})
    assert drawing.walk.leaves[0].gradient.numbers == "[2, 2, 2]"


# ---- derivatives' texts


def test_every_operator_has_a_text_for_its_derivative():
    for operator in OPERATORS.values():
        for _, text in rules_of(operator):
            assert text.startswith(("lambda ", "def ")) or text in OPERATORS, operator.name
            assert not text.endswith(": ..."), operator.name


def test_lambdas_on_one_line_are_told_apart():
    assert rules_of(OPERATORS["sub"]) == [("input", "lambda g: g"), ("other", "lambda g: -g")]
    first, second = (lambda g, y: g * y), (lambda g, y: g / y)
    assert (text_of(first), text_of(second)) == ("lambda g, y: g * y", "lambda g, y: g / y")


def test_an_operator_without_a_source_shows_its_parameters():
    made = elementwise(eval("lambda g, input: g * 2"))
    try:
        double = made(_typed_double)
        w = tg.ones(2, requires_grad=True)
        assert tg.draw(double(w).sum()).walk.entries[0].rules == [("input", "lambda g, input: ...")]
    finally:
        OPERATORS.pop("typed_double")


def _typed_double(xp, input: Array):
    return input * 2


_typed_double.__annotations__["input"] = Array

# ---- layout


def test_steps_of_a_recurrence_are_found_and_their_preparations_with_them():
    #   x0 -> a0 -> b0      x1 -> a1 -> b1: the leaf 7 is used by a0 and a1, and a1 takes a0
    sources = [[], [0], [1], [], [3, 1], [4]]
    leaves = [[], [7], [], [], [7], []]
    assert time_steps(sources, leaves) == ([0, 0, 0, 1, 1, 1], 2)
    assert time_steps([[], [], [0, 1]], [[7], [7], []]) is None  # side by side, not one after another
    assert time_steps([], []) is None


def test_what_serves_or_collects_several_steps_stands_before_or_after_them():
    #   p serves a0, a1 and a2, each of which takes the one before; s collects all three, and f follows
    sources = [[], [0], [0, 1], [0, 2], [1, 2, 3], [4]]
    leaves = [[5], [7], [7], [7], [], []]
    assert time_steps(sources, leaves) == ([-1, 0, 1, 2, 3, 3], 3)
    layer = nn.RNN(2, 3)
    output, _ = layer(tg.randn(4, 1, 2))
    assert tg.draw(output.sum(), layer, unroll=True)._picture.headings == ["t = 0", "t = 1", "t = 2", "t = 3", ""]


def test_the_columns_of_a_recurrent_network_line_up():
    loss, names = rnn(steps=5)
    picture = tg.draw(loss, names)._picture
    rows = {}
    for item, block in zip(picture.items, picture.layout.blocks):
        rows.setdefault(block.column, []).append((item.entry.title, block.row, block.y))
    assert len(rows) == 5 and all(sorted(rows[column]) == sorted(rows[1]) for column in range(5))
    assert picture.headings == [f"t = {t}" for t in range(5)]


def random_blocks(seed, count=60):
    rng = np.random.default_rng(seed)
    columns = np.sort(rng.integers(0, 4, count))
    blocks = []
    for i in range(count):
        ports = [(int(j), 10.0 + 20 * p) for p, j in enumerate(rng.integers(0, i, rng.integers(0, 4)))] if i else []
        blocks.append(Block(float(rng.integers(60, 160)), float(rng.integers(40, 120)), 30.0, int(columns[i]), ports))
    return blocks


@pytest.mark.parametrize("seed", range(10))
def test_no_two_blocks_overlap_and_no_edge_crosses_a_block(seed):
    layout = place(random_blocks(seed))
    for a in layout.blocks:
        assert 0 <= a.x and a.x + a.width <= layout.width and 0 <= a.y and a.y + a.height <= layout.height
        for b in layout.blocks:
            if a is not b:
                assert a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
    for edge in layout.edges:
        assert layout.blocks[edge.source].y > layout.blocks[edge.target].y or len(edge.points) == 6
        if len(edge.points) != 6:
            continue
        for (x0, y0), (x1, y1) in zip(edge.points, edge.points[1:]):
            left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
            for i, block in enumerate(layout.blocks):
                if i not in (edge.source, edge.target):
                    beside = right <= block.x or left >= block.x + block.width
                    assert beside or bottom <= block.y or top >= block.y + block.height


def test_edges_side_by_side_have_lanes_of_their_own():
    spans = [(0, 10), (1, 4), (5, 8), (9, 12), (2, 3)]
    made = lanes(spans)
    for i, (a, b) in enumerate(spans):
        for j, (c, d) in enumerate(spans[:i]):
            assert made[i] != made[j] or b < c or d < a
    assert max(made) == 2


def test_a_drawing_is_the_same_every_time():
    assert tg.draw(*rnn()).html() == tg.draw(*rnn()).html()


# ---- long tapes


def test_a_long_recurrence_is_shortened_by_whole_steps():
    loss, names = rnn(steps=60)
    picture = tg.draw(loss, names, limit=40)._picture
    assert len(picture.items) <= 41
    (group,) = [item for item in picture.items if item.entry is None]
    assert sum(len(item.entries) for item in picture.items) == len(picture.walk.entries)
    assert picture.headings[:2] == ["t = 0", "t = 1"] and "t = 2 … 57" in picture.headings
    assert len(group.entries) == len(picture.walk.entries) * 56 // 60
    assert f"… {len(group.entries)} …" in words_of(picture.svg())


def test_a_long_chain_is_shortened_in_its_middle():
    y = w = tg.ones(3, requires_grad=True)
    for _ in range(3000):
        y = tg.sin(y)
    drawing = tg.draw(y.sum(), {"w": w}, limit=20)
    assert [len(item.entries) for item in drawing._picture.items] == [1] * 10 + [2981] + [1] * 10
    words_of(drawing.svg())


def test_work_grows_no_faster_than_the_tape():
    def calls(count):
        y = tg.ones(3, requires_grad=True)
        for _ in range(count):
            y = tg.sin(y) + y
        loss = y.sum()
        made = [0]

        def note(frame, event, argument):
            made[0] += event in ("call", "c_call")

        sys.setprofile(note)
        try:
            tg.draw(loss, limit=10**9).svg()
        finally:
            sys.setprofile(None)
        return made[0]

    calls(10)  # sources of derivatives are looked up once
    assert calls(600) < 7 * calls(100)


def test_an_operator_with_many_parameters_shows_some_of_them():
    leaves = [tg.ones(2, requires_grad=True) for _ in range(500)]
    drawing = tg.draw(tg.stack(leaves).sum())
    words = words_of(drawing.svg())
    assert "… 489 …" in words and "leaf 10" in words and "leaf 11" not in words


# ---- files


def test_names_cannot_become_markup(tmp_path):
    w = tg.ones(2, requires_grad=True)
    name = "<script>alert(1)</script>&\"'</svg>\x00\x1b{x}\ud800"
    drawing = tg.draw((w * w).sum(), {name: w})
    assert any(word.startswith("<script>alert(1)") for word in words_of(drawing.svg()))
    text = drawing.html()
    assert text.count("<script") == 2 and "alert(1)</script>" not in text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["leaves"][0]["label"] == name
    assert drawing.save(tmp_path / "tape.svg").exists() and drawing.save(tmp_path / "tape.html").exists()


def test_the_page_needs_nothing_from_elsewhere():
    text = tg.draw(*rnn()).html()
    assert set(re.findall(r"https?://[^\"'\s<>]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text and not re.search(r"<(link|img|iframe)[^>]*(src|href)=\"(?!data:)", text)


def test_a_notebook_gets_the_page_in_a_frame():
    drawing = tg.draw(*rnn())
    frame = drawing._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == drawing.html()
    assert 'sandbox="allow-scripts"' in frame and drawing._repr_svg_().startswith("<svg")


@pytest.mark.parametrize("language, word", [("en", "parameter"), ("ja", "パラメータ")])
def test_the_words_are_in_the_language_of_messages(monkeypatch, language, word):
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    drawing = tg.draw(*rnn())
    assert word in words_of(drawing.svg()) and f'<html lang="{language}">' in drawing.html()


def test_wrong_arguments_explain_themselves(tmp_path):
    loss, names = rnn()
    with pytest.raises(DtypeError, match="TG-T002.*loss"):
        tg.draw(1.0)
    with pytest.raises(GradientError, match="TG-G005"):
        tg.draw(loss.detach())
    with pytest.raises(GradientError, match="TG-G001"):
        tg.draw(names["W"] * 2)
    with pytest.raises(ArgumentError, match="TG-A003.*leaf"):
        tg.draw(tg.ones(1, requires_grad=True))
    for bad in (3, [("W", names["W"])], {"W": 1.0}, {1: names["W"]}):
        with pytest.raises(ArgumentError, match="TG-A001.*names"):
            tg.draw(loss, bad)
    for bad in (2, 0.5, True):
        with pytest.raises(ArgumentError, match="TG-A001.*limit"):
            tg.draw(loss, limit=bad)
    with pytest.raises(ArgumentError, match=r"TG-A001.*\.svg or \.html"):
        tg.draw(loss).save(tmp_path / "tape.png")
    loss.backward()
    with pytest.raises(GradientError, match="TG-G002"):
        tg.draw(loss)
