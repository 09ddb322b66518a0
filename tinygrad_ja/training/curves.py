"""Learning curves as PNG files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import refusal
from ..viz.figures import Words, japanese_font, save_figure
from ..viz.figures import matplotlib as load_matplotlib

_DARK, _PALE, _OTHER = "#08519c", "#9ecae1", "#d94801"


def pyplot() -> Any:
    """Matplotlib's pyplot, drawing into files. Raises ArgumentError when it is not installed."""
    load_matplotlib().use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def save_curve(
    path: str | os.PathLike[str],
    steps: Sequence[float],
    values: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    window: int = 1,
    y_range: tuple[float, float] | None = None,
) -> Path:
    """Draw ``values`` over ``steps`` into a PNG; with ``window > 1`` also their running mean. Returns the path.

    The file is written under a temporary name and renamed. Raises ArgumentError when matplotlib is missing.
    """
    words = Words()
    with lettering():
        figure = load_matplotlib().figure.Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.subplots()
        smooth = _running_mean(values, window)
        if window > 1 and len(values) > window:
            axes.plot(steps, values, color=_PALE, linewidth=0.8, label=words("each point", "各点"))
            middle = steps[window // 2 : window // 2 + len(smooth)]
            axes.plot(middle, smooth, color=_DARK, linewidth=1.8, label=words(f"mean of {window}", f"{window} 点の平均"))
            axes.legend(frameon=False)
        else:
            axes.plot(steps, values, color=_DARK, linewidth=1.5)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if y_range is not None:
            axes.set_ylim(*y_range)
        _plain(axes)
        return save_figure(figure, path)


def save_curves(
    path: str | os.PathLike[str], history: Sequence[Mapping[str, float]], *, names: Sequence[str] | None = None, title: str = ""
) -> Path:
    """Draw a history of training into one PNG: a panel for each value, with its training and its validation (``valid_`` before the name).

    history: rows with ``"step"`` and values, as a Trainer keeps them and its logs hold them. names: which values, in this order; else all but
    times, and the learning rate only when it changes. Labels are Japanese when messages are and matplotlib finds a font for it, else English.
    Returns the path. Raises ArgumentError when matplotlib is missing, or there is nothing to draw.
    """
    chosen = _names(history) if names is None else list(names)
    if not chosen or not history:
        rule = ("at least one row with a value", "値のある行が 1 つ以上")
        fix = ("train first.", "先に学習を実行してください。")
        raise refusal("save_curves", "history", ("empty", "(空)"), rule, fix)
    words = _WORDS["ja" if Words().japanese else "en"]
    columns = min(len(chosen), 3)
    lines = -(-len(chosen) // columns)
    with lettering():
        figure = load_matplotlib().figure.Figure(figsize=(5.2 * columns, 3.8 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, name in zip(grid.flat, chosen):
            _panel(axes, history, name, words)
        for axes in list(grid.flat)[len(chosen) :]:
            axes.set_visible(False)
        if title:
            figure.suptitle(title)
        return save_figure(figure, path)


_WORDS = {
    "en": {"step": "step", "train": "training", "valid": "validation", "lr": "learning rate"},
    "ja": {
        "step": "ステップ",
        "train": "訓練",
        "valid": "検証",
        "lr": "学習率",
        "loss": "損失",
        "accuracy": "正解率",
        "error": "誤差",
        "perplexity": "パープレキシティ",
        "precision": "適合率",
        "recall": "再現率",
        "f1": "F1",
    },
}


def lettering() -> Any:
    """A context in which matplotlib takes a Japanese font for the letters that its own lacks."""
    matplotlib = load_matplotlib()
    families = [*matplotlib.rcParams["font.family"], *filter(None, [japanese_font()])]
    return matplotlib.rc_context({"font.family": families})


def _names(history: Sequence[Mapping[str, float]]) -> list[str]:
    """The values of a history, ``valid_loss`` with ``loss``."""
    found = dict.fromkeys(name.removeprefix("valid_") for row in history for name in row)
    rates = {row["lr"] for row in history if "lr" in row}
    hidden = {"step", "epoch", "seconds"} | ({"lr"} if len(rates) < 2 else set())
    return [name for name in found if name not in hidden]


def _panel(axes: Any, history: Sequence[Mapping[str, float]], name: str, words: Mapping[str, str]) -> None:
    """Training and validation of one value over the steps."""
    for key, label, color in ((name, words["train"], _DARK), (f"valid_{name}", words["valid"], _OTHER)):
        points = [(row["step"], row[key]) for row in history if key in row]
        if points:
            marker = "o" if len(points) < 30 else None
            axes.plot(*zip(*points), color=color, linewidth=1.6, marker=marker, markersize=3.5, label=label)
    if any(f"valid_{name}" in row for row in history):
        axes.legend(frameon=False)
    axes.set(xlabel=words["step"], title=words.get(name, name))
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    made, total = [], 0.0
    for index, value in enumerate(values):
        total += value
        if index >= window:
            total -= values[index - window]
        if index >= window - 1:
            made.append(total / window)
    return made
