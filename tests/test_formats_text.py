"""Readers of formats that are text, annotations, trees, game records, tables: right values, and a fault named for every wrong file."""

from __future__ import annotations

import gzip
import json
import sys
from string import ascii_uppercase
from xml.etree import ElementTree

import numpy as np
import pytest
from format_files import refused, voc, written

import tinygrad_ja as tg
from tinygrad_ja.data import formats
from tinygrad_ja.nn.tree import RecursiveNN

# ---- Pascal VOC


def test_voc_reads_boxes_names_and_flags(tmp_path):
    text = voc((1, 2, 5, 6), (0, 0, 20, 10)).replace(b"</object>", b"<difficult>1</difficult></object>", 1)
    found = formats.read_voc(written(tmp_path, "a.xml", text))
    assert found.boxes.tolist() == [[1, 2, 5, 6], [0, 0, 20, 10]] and found.boxes.dtype == np.float32
    assert found.names == ["cat", "cat"] and found.difficult.tolist() == [True, False] and found.size == (20, 10)
    assert formats.read_voc(written(tmp_path, "b.xml", voc())).boxes.shape == (0, 4)
    utf_16 = written(tmp_path, "c.xml", voc((1, 2, 5, 6)).decode().encode("utf-16"))
    assert formats.read_voc(utf_16).boxes.tolist() == [[1, 2, 5, 6]]
    claim = written(tmp_path, "d.xml", b'<?xml version="1.0" encoding="no-such"?>' + voc())
    assert formats.read_voc(claim).size == (20, 10)  # no decoder but UTF-8 and UTF-16 is ever reached


def test_voc_agrees_with_pythons_xml_parser(tmp_path):
    text = voc((1.5, 2, 5, 6.25), (0, 0, 20, 10), name="大&amp;小")
    found = formats.read_voc(written(tmp_path, "a.xml", text))
    for box, name, one in zip(found.boxes.tolist(), found.names, ElementTree.fromstring(text).iter("object")):
        assert name == one.findtext("name")
        assert box == [float(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]


def test_a_box_without_an_area_is_refused_or_dropped(tmp_path):
    path = written(tmp_path, "a.xml", voc((3, 3, 3, 5), (1, 1, 2, 2)))
    refused(formats.read_voc, path, "object 0 has no area")
    assert formats.read_voc(path, degenerate="drop").boxes.tolist() == [[1, 1, 2, 2]]


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(f'<!ENTITY a{n} "&a{n - 1 or ""};&a{n - 1 or ""};">' for n in range(1, 40)) + "]>"
)
WRONG_ANNOTATIONS = {
    "empty": b"",
    "no xml": b"\x89PNG",
    "cut": voc((1, 2, 3, 4))[:-20],
    "document type": b"<!DOCTYPE annotation>" + voc(),
    "entity bomb": LAUGHS.encode() + voc(extra="<x>&a39;</x>"),
    "unknown entity": voc(extra="<x>&b;</x>"),
    "external entity": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + voc(extra="<x>&b;</x>"),
    "deep": b"<annotation>" + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</annotation>",
    "long name": b"<annotation><" + b"a" * 10_000 + b"/></annotation>",
    "long text": voc((1, 2, 5, 6), name="x" * 5000),
    "no size": voc(size=""),
    "size twice": voc(size="<size><width>20</width><width>20</width><height>10</height></size>"),
    "no pixels": voc(size="<size><width>0</width><height>10</height></size>"),
    "half a pixel": voc(size="<size><width>9.5</width><height>10</height></size>"),
    "outside": voc((1, 2, 21, 6)),
    "negative": voc((-1, 2, 5, 6)),
    "not a number": voc(("nan", 2, 5, 6)),
    "underscore": voc(("1_0", 2, 5, 6)),
    "huge": voc((1, 2, "9" * 400, 6)),
    "no name": voc((1, 2, 5, 6), name=""),
}


@pytest.mark.parametrize("name", WRONG_ANNOTATIONS)
def test_a_wrong_annotation_is_refused(tmp_path, name):
    refused(formats.read_voc, written(tmp_path, "a.xml", WRONG_ANNOTATIONS[name]), "TG-F005.*Pascal VOC")


# ---- trees


def nested(text: str) -> object:
    """An independent parser: brackets as Python lists."""
    return json.loads("".join({"(": "[", ")": "]", " ": ","}.get(c, c) for c in text.replace("a", '"a"').replace("b", '"b"')))


def unfolded(tree: formats.Tree, node: int) -> object:
    label = int(tree.labels[node])
    children = tree.children[node]
    return [label, *(unfolded(tree, child) for child in children)] if children else [label, tree.words[node]]


@pytest.mark.parametrize(
    "text", ["(3 a)", "(3 (2 a) (4 b))", "(0 (1 (2 a) (3 b)) (4 (0 (1 a) (2 a)) (3 b)))", "(1 (2 a) (3 b) (4 a))"]
)
def test_trees_are_what_their_brackets_say(tmp_path, text):
    (tree,) = formats.read_trees(written(tmp_path, "a.txt", text.encode() + b"\n"))
    assert unfolded(tree, len(tree.labels) - 1) == nested(text)
    assert all(child < node for node, children in enumerate(tree.children) for child in children)
    assert tree.children[: len(tree.words)] == [()] * len(tree.words)


def test_words_are_split_at_the_ascii_space_only(tmp_path):
    (tree,) = formats.read_trees(written(tmp_path, "a.txt", "(2 (1 2\u00a01\\/2) (3 -LRB-))".encode()))
    assert tree.words == ["2\u00a01\\/2", "-LRB-"]


def test_a_deep_tree_needs_no_recursion_and_the_layers_take_it(tmp_path):
    depth = 5 * sys.getrecursionlimit()
    text = "(1 (2 a) " * depth + "(3 b)" + ")" * depth
    (tree,) = formats.read_trees(written(tmp_path, "a.txt", text.encode()))
    assert len(tree.words) == depth + 1 and tree.labels[-1] == 1
    (small,) = formats.read_trees(written(tmp_path, "b.txt", b"(3 (2 a) (4 (2 b) (2 c)))"))
    assert RecursiveNN(4)(tg.randn(3, 4), small.children).shape == (5, 4)


@pytest.mark.parametrize(
    "line",
    [
        "(",
        ")",
        "()",
        "(2)",
        "(2 a",
        "(2 a))",
        "(2 a) b",
        "(2 a) (2 b)",
        "(2 a b)",
        "(2 a (3 b))",
        "(2 (3 b) a)",
        "(5 a)",
        "(-1 a)",
        "(x a)",
    ]
    + ["a", "(2 (3 ))", "(99999999999 a)", "(2 a", "((2 a))"],
)
def test_a_line_that_is_no_tree_is_refused_with_its_number(tmp_path, line):
    refused(formats.read_trees, written(tmp_path, "a.txt", b"(2 a)\n" + line.encode()), "line 2")


# ---- SGF


def test_sgf_reads_the_main_line_with_set_up_passes_and_escapes(tmp_path):
    text = "(;GM[1]FF[4]SZ[9]HA[2]KM[0.5]RE[W+2.5]AB[cc][gg]AW[aa:bb]C[a \\] and \\\\ and\\\n end];W[ee](;B[]C[x];W[tt])(;B[aa](;W[bb])))"
    game = formats.read_sgf(written(tmp_path, "a.sgf", text.encode()))
    assert (game.size, game.handicap, game.komi, game.result) == (9, 2, 0.5, "W+2.5")
    assert game.black == [(2, 2), (6, 6)] and game.white == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert game.moves == [("W", (4, 4)), ("B", None), ("W", None)]
    assert game.properties["C"] == ["a ] and \\ and end"]


def test_sgf_reads_old_files_and_large_boards(tmp_path):
    old = formats.read_sgf(written(tmp_path, "a.sgf", "(;Black[pd]White[dp]EVent[Caf\xe9])".encode("latin-1")))
    assert old.size == 19 and old.moves == [("B", (15, 3)), ("W", (3, 15))] and old.properties["EV"] == ["Café"]
    large = formats.read_sgf(written(tmp_path, "b.sgf", b"(;SZ[52];B[Zt];W[tt])"))
    assert large.moves == [("B", (51, 19)), ("W", (19, 19))]  # tt is a pass on boards up to 19 only


def test_thousands_of_variations_need_no_recursion(tmp_path):
    text = "(;SZ[9]" + "(;B[aa]" * 50_000 + ")" * 50_000 + ")"
    refused(formats.read_sgf, written(tmp_path, "a.sgf", text.encode()), "more than 10000 moves")
    text = "(;SZ[9];B[bb](;W[cc])" + "(;B[aa]" * 50_000 + ")" * 50_000 + ")"
    assert formats.read_sgf(written(tmp_path, "b.sgf", text.encode())).moves == [("B", (1, 1)), ("W", (2, 2))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "(;",
        "(;B[aa]",
        "(;B[aa]))",
        "(;B[aa]) x",
        "(;B[aa])(;B[bb])",
        ";B[aa]",
        "(;B)",
        "(;B[aa)",
        "(;B[jj]SZ[9])",
        "(;B[abc])",
    ]
    + [
        "(;B[a])",
        "(;B[aa]B[bb])",
        "(;GM[2])",
        "(;SZ[0])",
        "(;SZ[53])",
        "(;SZ[9:9])",
        "(;KM[x])",
        "(;HA[1.5])",
        "(;AB[])",
        "(;AB[aa:bb:cc])",
    ]
    + [
        "(;;B[aa];AW[bb])",
        "(;B[aa](;W[bb]);B[cc])",
        "((;B[aa]))",
        "(;B[aa]())",
        "(;" + "C" * 100 + "[x])",
        "(;SZ[9]" + "AB[aa:ii]" + "AW[aa])",
    ],
)
def test_a_wrong_game_record_is_refused(tmp_path, text):
    refused(formats.read_sgf, written(tmp_path, "a.sgf", text.encode()), "TG-F005.*SGF")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(;SZ[52]AB" + "[aa:ZZ]" * 9_000 + ")", "more stones are set up"),
        ("(;C" + "[]" * 500_000 + ")", "more than 10000 values"),
        ("(" + ";" * 1_000_000 + ")", "more than 100000 nodes"),
        (
            "(;" + "".join(f"{a}{b}{c}[]" for a in ascii_uppercase for b in ascii_uppercase for c in ascii_uppercase) + ")",
            "one too many",
        ),
    ],
    ids=["stones", "values", "nodes", "properties"],
)
def test_a_record_that_would_fill_the_memory_is_refused(tmp_path, text, why):
    refused(formats.read_sgf, written(tmp_path, "a.sgf", text.encode()), why)


# ---- tables


def test_tables_and_series_are_read_with_their_quotes(tmp_path):
    path = written(tmp_path, "a.csv", b'month,"pass,engers"\r\n"Jan ""49""",112\r\n\r\nFeb,1.5e2\r\n')
    assert list(formats.read_table(path)) == [["month", "pass,engers"], ['Jan "49"', "112"], ["Feb", "1.5e2"]]
    assert formats.read_series(path, "pass,engers")["pass,engers"].tolist() == [112.0, 150.0]
    tabs = written(tmp_path, "b.tab", b"x\ty\n1\t2\n")
    assert {key: value.tolist() for key, value in formats.read_series(tabs, delimiter="\t").items()} == {"x": [1.0], "y": [2.0]}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "line 1"),
        ("a,b\n1\n", "line 2: 1 cells"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells"),
        ('a\n"1\n', "line"),
        ('a\n"1"2\n', "line 2"),
        ("a,a\n1,2\n", "repeats"),
        ("a\nx\n", "line 2.*not a number"),
        ("a\nnan\n", "line 2.*not a number"),
        ("a\n1_0\n", "line 2.*not a number"),
        ("b\n1\n", "lacks"),
    ],
)
def test_a_wrong_table_is_refused_with_the_line(tmp_path, text, match):
    columns = ("a",) if "lacks" in match else ()
    refused(lambda path: formats.read_series(path, *columns), written(tmp_path, "a.csv", text.encode()), match)


def test_parallel_texts_have_equally_many_lines(tmp_path):
    left = written(tmp_path, "a.en", b"one\n\nthree\n")
    right = written(tmp_path, "a.ja", "一\n\n三\n".encode())
    assert formats.read_pairs(left, right) == [("one", "一"), ("", ""), ("three", "三")]
    short = written(tmp_path, "b.ja", "一\n".encode())
    refused(lambda path: formats.read_pairs(left, path), short, "1 lines, but .* has 3")


def test_json_lines_are_read_one_by_one(tmp_path):
    values = [{"a": [1, 2.5, None, True, "三"]}, [], "x", 12345678901234567890]
    text = "\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    for name, data in (("a.jsonl", text.encode()), ("a.jsonl.gz", gzip.compress(text.encode() + b"\n\n"))):
        assert list(formats.read_json_lines(written(tmp_path, name, data))) == values
    long = written(tmp_path, "b.jsonl", b"".join(b"%d\n" % n for n in range(100_000)))
    assert list(formats.read_json_lines(long)) == list(range(100_000))


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{'a': 1}",
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"1" * 5000,
        b'"\xff"',
        b"[" * 100_000,
        b'"' + b"x" * 1_100_000 + b'"',
        b"1 2",
        b'{"a": 1, "a": 2}',
    ],
    ids=["open", "quotes", "nan", "infinity", "overflow", "digits", "bytes", "deep", "long", "two", "name twice"],
)
def test_a_wrong_json_line_is_refused_with_its_number(tmp_path, line):
    refused(formats.read_json_lines, written(tmp_path, "a.jsonl", b"[]\n" + line + b"\n"), "line 2")
