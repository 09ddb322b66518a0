"""Learning curves as PNG files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import error
from ..io.files import replacing


def pyplot() -> Any:
    """Matplotlib's pyplot, drawing into files. Raises ArgumentError when it is not installed."""
    try:
        import matplotlib
    except ImportError as failure:
        raise error("TG-A002", package="matplotlib", install="matplotlib") from failure
    matplotlib.use("Agg")
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
    plot = pyplot()
    figure, axes = plot.subplots(figsize=(7.0, 4.2), layout="constrained")
    smooth = _running_mean(values, window)
    if window > 1 and len(values) > window:
        axes.plot(steps, values, color="#9ecae1", linewidth=0.8, label="each point")
        axes.plot(
            steps[window // 2 : window // 2 + len(smooth)], smooth, color="#08519c", linewidth=1.8, label=f"mean of {window}"
        )
        axes.legend(frameon=False)
    else:
        axes.plot(steps, values, color="#08519c", linewidth=1.5)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    if y_range is not None:
        axes.set_ylim(*y_range)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path = Path(path)
    try:
        with replacing(path) as file:
            figure.savefig(file, dpi=120, format="png")
    finally:
        plot.close(figure)
    return path


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    made, total = [], 0.0
    for index, value in enumerate(values):
        total += value
        if index >= window:
            total -= values[index - window]
        if index >= window - 1:
            made.append(total / window)
    return made
