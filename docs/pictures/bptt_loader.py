"""The picture of docs/data.md: how BPTTLoader lays a stream out in rows and pieces. What is drawn is what the loader gives.

python docs/pictures/bptt_loader.py     writes docs/images/bptt_loader.png and, with Japanese words, docs/images/bptt_loader_ja.png
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

import tinygrad_ja as tg
from tinygrad_ja.data import BPTTLoader
from tinygrad_ja.viz.figures import Words

IMAGES = Path(__file__).resolve().parent.parent / "images"
LENGTH, ROWS, STEPS = 25, 4, 3
COLOURS = ("#9ecae1", "#a1d99b", "#fdd0a2", "#dadaeb")
GAP = 1.4


def cell(axes: Any, left: float, bottom: float, width: float, colour: str, text: str, note: str = "") -> None:
    """One element of the stream, and below it what it predicts."""
    axes.add_patch(Rectangle((left, bottom), width, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    axes.text(left + width / 2, bottom + (0.62 if note else 0.5), text, ha="center", va="center", fontsize=11)
    axes.text(left + width / 2, bottom + 0.22, note, ha="center", va="center", fontsize=9, color="#444444")


def draw(path: Path) -> None:
    """The stream above, the pieces below, with the state that is carried from one to the next."""
    words = Words()
    loader = BPTTLoader(tg.arange(LENGTH), ROWS, STEPS)
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots()
    for i in range(LENGTH):
        row = i // loader.steps
        cell(axes, i * 0.6, 5.7, 0.6, COLOURS[row] if row < ROWS else "#eeeeee", str(i))
    axes.text(0, 7.0, words("the stream", "元の系列"), fontsize=12)
    axes.text((LENGTH - 0.5) * 0.6, 5.3, words("y only", "y だけ"), ha="center", fontsize=9, color="#444444")
    for number, (x, y) in enumerate(loader):
        left = 4.0 + number * (STEPS + GAP)
        title = words(f"piece {number + 1}: x and y ({STEPS}, {ROWS})", f"{number + 1} 番目の区間: x と y ({STEPS}, {ROWS})")
        axes.text(left + STEPS / 2, 4.35, title, ha="center", fontsize=11)
        for n in range(ROWS):
            for t in range(STEPS):
                cell(axes, left + t, 3 - n, 1, COLOURS[n], str(x[t, n].item()), f"y = {y[t, n].item()}")
            if number:
                ends = ((left - GAP + 0.08, 3.5 - n), (left - 0.08, 3.5 - n))
                axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color="#08519c"))
        if number:
            axes.text(left - GAP / 2, -0.5, words("state", "状態"), ha="center", color="#08519c", fontsize=11)
    axes.text(3.7, 2.0, words(f"N = {ROWS} rows", f"N = {ROWS} 行"), ha="right", va="center", fontsize=11)
    axes.set(xlim=(-0.2, 15.2), ylim=(-0.8, 7.6), aspect="equal")
    axes.set_axis_off()
    figure.savefig(path, dpi=100)
    print(path.relative_to(IMAGES.parent.parent))


if __name__ == "__main__":
    for language, name in (("en", "bptt_loader.png"), ("ja", "bptt_loader_ja.png")):
        os.environ["TINYGRAD_JA_LANG"] = language
        with matplotlib.rc_context(Words().settings):
            draw(IMAGES / name)
