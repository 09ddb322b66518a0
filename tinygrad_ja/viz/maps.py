"""Heat maps of a matrix whose rows and columns are tokens, such as attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..core.host import on_host
from ..errors import error, joined
from .figures import Words, japanese_font, matplotlib


def heat_map(
    axes: Any,
    weights: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
    names: tuple[str, str] = ("", ""),
    largest: float | None = None,
) -> Any:
    """Draw a matrix into matplotlib's ``axes``, dark where it is large, with its tokens beside it. Returns the image, for a colour bar.

    weights: (R, C), a Tensor, an array or lists; NaN stays white. rows, columns: R and C tokens, Japanese too: where matplotlib finds no font
    for a token, its number stands there instead ("#3"). The colours go from 0, or from the smallest number where that is negative, to the
    largest, or to ``largest``, so that several maps can share a colour bar. names: what the rows and the columns are, written beside and below
    them. Raises ShapeError when the labels do not fit, ArgumentError without matplotlib.

    >>> figure = matplotlib().figure.Figure()
    >>> image = heat_map(figure.subplots(), [[0.9, 0.1], [0.2, 0.8]], rows=["私", "は"], columns=["i", "am"])
    >>> image.get_array().shape
    (2, 2)
    """
    matrix = on_host(weights)
    if matrix.shape != (len(rows), len(columns)) or not matrix.size:
        rule = (
            "weights (R, C), R >= 1 rows and C >= 1 columns",
            "weights は (R, C)、行と列のトークンは R 個と C 個 (1 個以上)",
        )
        fix = ("one token for each row and each column.", "行と列のそれぞれにトークンを 1 つずつ渡してください。")
        raise error("TG-S002", op="heat_map", rule=rule, shapes=joined([matrix.shape, (len(rows), len(columns))]), fix=fix)
    colours = {"cmap": "Blues", "vmin": min(0.0, float(np.nanmin(matrix))), "vmax": largest}
    image = axes.imshow(matrix, **colours, aspect="auto", interpolation="nearest")
    shown = [[_shown(token, place) for place, token in enumerate(tokens)] for tokens in (rows, columns)]
    upright = max(len(name) for name in shown[1]) <= 2
    size = max(4.0, min(10.0, 200.0 / max(matrix.shape)))
    look = {"family": [*filter(None, [japanese_font()]), "DejaVu Sans"], "fontsize": size, "parse_math": False}
    axes.set_yticks(range(len(rows)), shown[0], **look)
    turned = {} if upright else {"rotation": 60, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), shown[1], **look, **turned)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks([place - 0.5 for place in range(1, len(columns))], minor=True)
    axes.set_yticks([place - 0.5 for place in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    for text, put in ((title, axes.set_title), (names[0], axes.set_ylabel), (names[1], axes.set_xlabel)):
        if text:
            put(text, **Words().font)
    return image


def _shown(token: str, place: int) -> str:
    """The token, or its number where a character of it is in no font. A space is made visible."""
    token = token.replace(" ", "␣") or "∅"
    return token if set(token) <= _characters(japanese_font()) else f"#{place}"


@lru_cache
def _characters(font: str | None) -> frozenset[str]:
    """What can be drawn with this font and matplotlib's own."""
    manager = matplotlib().font_manager
    from matplotlib.ft2font import FT2Font

    found: set[str] = set()
    for name in filter(None, ["DejaVu Sans", font]):
        found.update(map(chr, FT2Font(manager.findfont(name)).get_charmap()))
    return frozenset(found)


__all__ = ["heat_map"]
