"""Tables as text: columns aligned as a terminal shows them, where a Japanese character is two columns wide."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """Columns that a terminal takes for ``text``; a mark that sits on the letter before it takes none.

    >>> width("loss"), width("損失"), width("Z\\u0303")
    (4, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text
    )


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """One line a row, the first ``left`` columns aligned to the left and the others to the right, two spaces between them.

    >>> print(*aligned([["name", "count"], ["weights", "1,024"], ["重み", "8"]]), sep="\\n")
    name     count
    weights  1,024
    重み         8
    """
    widths = [max(map(width, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, most) in enumerate(zip(row, widths)):
            blanks = " " * (most - width(cell))
            cells.append(cell + blanks if index < left else blanks + cell)
        lines.append("  ".join(cells).rstrip())
    return lines
