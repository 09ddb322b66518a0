"""Gradients side by side, as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..viz.figures import Words, matplotlib, save_figure


def draw(path: str | os.PathLike[str], pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """One row for each name: the given gradient, the right one, the difference; all in the colours of the right one's range."""
    words = Words()
    package = matplotlib()
    with package.rc_context(words.settings):
        figure = package.figure.Figure(figsize=(8.2, 0.6 + 1.55 * len(pairs)), layout="constrained")
        rows = figure.subplots(len(pairs), 3, squeeze=False)
        titles = (words("yours", "手で書いたもの"), words("the tape's", "テープ"), words("difference", "差"))
        for row, (name, (mine, right)) in zip(rows, pairs.items()):
            largest = float(np.abs(right).max(initial=0.0)) or 1.0
            shown = [mine, right, mine - right if mine.shape == right.shape else None]
            image = None
            for axes, value in zip(row, shown):
                image = _panel(axes, value, largest) or image
            row[0].set_ylabel(f"{name}\n{right.shape}", rotation=0, ha="right", va="center")
            if image is not None:
                figure.colorbar(image, ax=row[-1], shrink=0.9)
        for axes, title in zip(rows[0], titles):
            axes.set_title(title)
        return save_figure(figure, path)


def _panel(axes: Any, value: np.ndarray | None, largest: float) -> Any:
    axes.set_xticks([])
    axes.set_yticks([])
    if value is None:
        axes.text(0.5, 0.5, "≠", ha="center", va="center", transform=axes.transAxes, fontsize=14)
        return None
    flat = value.reshape(-1, value.shape[-1]) if value.ndim > 1 else value.reshape(1, -1)
    return axes.imshow(flat, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
