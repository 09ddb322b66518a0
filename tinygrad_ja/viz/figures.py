"""Matplotlib, where it is installed, and the language of the words in a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import error, language
from ..io.files import replacing

JAPANESE_FONTS = (
    "IPAexGothic",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Hiragino Sans",
    "Yu Gothic",
    "Meiryo",
    "MS Gothic",
    "TakaoGothic",
    "VL Gothic",
)


def matplotlib() -> Any:
    """The package matplotlib. Raises ArgumentError when it is not installed."""
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.font_manager
    except ImportError as failure:
        raise error("TG-A002", package="matplotlib", install="matplotlib") from failure
    return matplotlib


def japanese_font() -> str | None:
    """The name of a font with Japanese characters that matplotlib can find, or None."""
    known = {font.name for font in matplotlib().font_manager.fontManager.ttflist}
    return next((name for name in JAPANESE_FONTS if name in known), None)


def save_figure(figure: Any, path: str | os.PathLike[str], kind: str = "png") -> Path:
    """Write a figure, whole or not at all; returns the path. kind: ``"png"``, ``"svg"`` or ``"pdf"``."""
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format=kind)
    return Path(path)


class Words:
    """The language and font of a picture's words: Japanese when messages are and there is a font for it, else English. ``font`` holds
    the keywords that matplotlib's texts take for it."""

    def __init__(self) -> None:
        name = japanese_font() if language() == "ja" else None
        self.japanese = name is not None
        self.font: dict[str, Any] = {} if name is None else {"family": [name, "DejaVu Sans"]}

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for ``matplotlib.rc_context`` that give all texts of a figure this font."""
        return {f"font.{name}": value for name, value in self.font.items()}

    def __call__(self, english: str, japanese: str) -> str:
        return japanese if self.japanese else english
