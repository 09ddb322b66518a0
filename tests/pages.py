"""The Python blocks of a Markdown page, and how they are run: in their order, in one namespace, as a reader would type them."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tinygrad_ja as tg

ROOT = Path(__file__).resolve().parent.parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^```python *(?P<condition>[a-z-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One block: the line where it starts, its text, and ``gpu`` or ``no-gpu`` where only such a machine can run it."""

    line: int
    condition: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that start with three back-ticks and ``python``."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield Block(text.count("\n", 0, found.start("text")), found["condition"], found["text"])


def run(page: Path) -> dict[str, Any]:
    """Run the blocks of a page; what they define. A block of ``>>>`` lines must print what it shows."""
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.condition and (block.condition == "gpu") != tg.cuda_is_available():
            continue
        if block.text.startswith(">>> "):
            compare(doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line), names)
        else:
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
    return names


def compare(example: doctest.DocTest, names: dict[str, Any]) -> None:
    """Run one text of ``>>>`` lines; AssertionError shows what differs."""
    example.globs = names
    differences: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=differences.append, clear_globs=False)
    assert not differences, "".join(differences)
