"""Trees in brackets, as in the Stanford Sentiment Treebank: ``(3 (2 good) (2 film))``, a label on every node, one tree a line."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ...io.files import FilePath, damaged
from .content import decoded, read_content

# a leaf "(2 word)", the start of another node "(3", or an end
_TOKEN = re.compile(r" *(?:\( *(?P<label>[0-9]{1,9})(?: +(?P<word>[^() ]+) *\))?|(?P<end>\)))")
_LINE = 1 << 20


class Tree(NamedTuple):
    """A sentence with a label on every node. Nodes are numbered as the layers of ``nn`` over trees want them: first the leaves, in the
    order of the sentence, then the inner nodes, children before parents, so that the root is the last one."""

    words: list[str]
    """The word of each leaf."""
    children: list[tuple[int, ...]]
    """For every node the numbers of its children; ``()`` for a leaf."""
    labels: np.ndarray
    """int64 (nodes,)."""


def read_trees(path: FilePath, classes: int = 5, limit: int = 1 << 23) -> list[Tree]:
    """The trees in a file, one a line. Words are split at the ASCII space only.

    classes: labels are 0 to ``classes - 1``. Raises StateError with the number of the line (TG-F005; TG-F008 above ``limit`` bytes).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.txt"); _ = path.write_text("(3 (2 a) (4 (2 good) (2 film)))\\n")
    >>> read_trees(path)
    [Tree(words=['a', 'good', 'film'], children=[(), (), (), (1, 2), (0, 3)], labels=array([2, 2, 2, 4, 3]))]
    """
    return parse_trees(read_content(path, limit), path, classes)


def parse_trees(data: bytes, name: FilePath, classes: int = 5) -> list[Tree]:
    """``read_trees`` of bytes; ``name`` is what an error calls them."""
    lines = decoded(data, name).split("\n")
    return [_tree(line.rstrip(" \r"), number, name, classes) for number, line in enumerate(lines, 1) if line.strip(" \r")]


def _tree(line: str, number: int, name: FilePath, classes: int) -> Tree:
    """The tree in a line. What is open is kept in a list, so that a deep tree needs no recursion."""
    words: list[str] = []
    leaves: list[int] = []  # labels
    inner: list[int] = []
    # of the inner nodes; leaf k as k, inner node k as -1 - k, since the number of leaves is not known yet
    children: list[list[int]] = []
    top: list[int] = []
    opened: list[tuple[int, list[int]]] = []
    at = 0
    while len(line) <= _LINE and (found := _TOKEN.match(line, at)):
        label, word, end = found.groups()
        if top or (end and not (opened and opened[-1][1])):
            break
        at = found.end()
        if end:
            above, below = opened.pop()
            inner.append(above)
            children.append(below)
        elif word is None:
            opened.append((int(label), []))
            continue
        else:
            words.append(word)
            leaves.append(int(label))
        node = -len(inner) if end else len(leaves) - 1
        (opened[-1][1] if opened else top).append(node)
    if at < len(line) or not top:
        fault = (f"line {number}: no tree, at character {at}", f"{number} 行目: {at} 文字目が木として読めません")
        raise damaged(name, "tree", fault)
    if max(leaves + inner) >= classes:
        fault = (f"line {number}: a label is above {classes - 1}", f"{number} 行目: {classes - 1} を超えるラベルがあります")
        raise damaged(name, "tree", fault)
    count = len(leaves)
    numbered = [tuple([node if node >= 0 else count - 1 - node for node in below]) for below in children]
    return Tree(words, [()] * count + numbered, np.array(leaves + inner, np.int64))
