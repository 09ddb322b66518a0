"""Word vectors on a plane: the two directions in which they differ most, with labels that do not lie on one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.host import on_host
from ..errors import error
from .figures import japanese_font

_DOT, _LINE = "#d94801", "#bbbbbb"


def principal_plane(vectors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Principal component analysis to two dimensions: ``(places (N, 2), shares (2,))``, the shares of the variance that the axes hold.

    With X the vectors less their mean and X = U S Vᵀ, the places are the first two columns of U S. The sign of each axis is such that the
    largest place along it is positive. Raises ShapeError unless vectors is (N, D).

    >>> places, shares = principal_plane([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [2.0, 0.5, 0.0], [2.0, -0.5, 0.0]])
    >>> abs(places).round(2).tolist(), shares.round(2).tolist()
    ([[1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [0.0, 0.5]], [0.8, 0.2])
    """
    x = on_host(vectors)
    if x.ndim != 2:
        fix = ("pass one row for each word.", "単語ごとに 1 行を渡してください。")
        raise error("TG-S002", op="principal_plane", rule=("vectors (N, D)", "vectors は (N, D)"), shapes=x.shape, fix=fix)
    x = x.astype(np.float64)
    u, s, _ = np.linalg.svd(x - x.mean(0) if len(x) else x, full_matrices=False)
    places, variance = np.zeros((len(x), 2)), np.zeros(2)
    kept = min(2, len(s))
    places[:, :kept], variance[:kept] = u[:, :kept] * s[:kept], s[:kept] ** 2
    if len(x):
        places *= np.where(places[np.abs(places).argmax(0), [0, 1]] < 0, -1.0, 1.0)
    return places, variance / max(float((s**2).sum()), 1e-300)


def word_map(axes: Any, vectors: Any, labels: Sequence[str], groups: Sequence[int] | None = None) -> np.ndarray:
    """Draw words as points of the plane of their two principal components, each label at a free place beside its point.

    axes: of matplotlib. vectors: (N, D), for words compared by cosine of length 1. labels: N words, Japanese ones too. groups: a number for
    each word; words of one group have one colour. The axes get limits, and names with the share of the variance. Returns the places (N, 2).
    Raises ShapeError unless there is a label (and a group) for each vector.
    """
    places, shares = principal_plane(vectors)
    for given in (labels, groups):
        if given is not None and len(given) != len(places):
            rule = ("vectors (N, D), labels (N), groups (N)", "vectors (N, D)、labels (N)、groups (N)")
            fix = ("pass one label for each vector.", "ベクトルごとにラベルを 1 つ渡してください。")
            raise error("TG-S002", op="word_map", rule=rule, shapes=f"({len(places)}), ({len(given)})", fix=fix)
    colors = [_DOT if groups is None else f"C{group % 10}" for group in (groups or range(len(places)))]
    axes.scatter(places[:, 0], places[:, 1], s=14, c=colors, linewidths=0, zorder=3)
    axes.margins(0.12)
    axes.set(xlabel=f"PC 1 ({shares[0]:.0%})", ylabel=f"PC 2 ({shares[1]:.0%})")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _write(axes, places, labels)
    return places


def _write(axes: Any, places: np.ndarray, labels: Sequence[str]) -> None:
    """Labels one by one, each at the nearest of many places around its point where it covers the fewest labels and points."""
    figure = axes.figure
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else _renderer(figure)
    figure.draw_without_rendering()  # the layout is settled: from now on points have places in pixels
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    points = axes.transData.transform(places)
    room = axes.get_window_extent(renderer)
    size = figure.dpi / 72
    dots = np.concatenate([points - 3 * size, points + 3 * size], 1)
    taken = [*dots]
    look = {"family": ["DejaVu Sans", *filter(None, [japanese_font()])], "fontsize": 8.5, "va": "bottom", "parse_math": False}
    for index in np.lexsort((points[:, 0], -points[:, 1])):
        text = axes.annotate(str(labels[index]), places[index], (0, 0), textcoords="offset points", **look)
        box = text.get_window_extent(renderer)
        width, height = box.width, box.height
        offsets = _around(width, height, size)
        corners = points[index] + offsets
        boxes = np.concatenate([corners, corners + [width, height]], 1)
        cost = _covered(boxes, np.array(taken)) + 4 * _outside(boxes, room) + 0.02 * width * height * np.arange(len(boxes)) / 8
        best = int(cost.argmin())
        offset = offsets[best] / size
        text.set_position(tuple(offset))
        taken.append(boxes[best])
        if best >= 8:  # far from its point: a line leads there
            middle = offset + np.array([width, height]) / (2 * size)
            arrow = {"arrowstyle": "-", "color": _LINE, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2}
            axes.annotate("", places[index], middle, textcoords="offset points", arrowprops=arrow, zorder=1)


def _renderer(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure).get_renderer()


def _around(width: float, height: float, size: float) -> np.ndarray:
    """Lower left corners of a label's box relative to its point: eight places at each of some distances, to the right first."""
    made = []
    for gap in (4, 12, 20, 30, 42):
        d = gap * size
        right, left, middle = d, -width - d, -width / 2
        above, below, level = d * 0.7, -height - d * 0.7, -height / 2
        made += [(right, level), (left, level), (middle, above), (middle, below)]
        made += [(right * 0.7, above), (right * 0.7, below), (left + d * 0.3, above), (left + d * 0.3, below)]
    return np.array(made)


def _covered(boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The area that each box shares with those that are taken."""
    low = np.maximum(boxes[:, None, :2], taken[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], taken[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1).sum(-1)


def _outside(boxes: np.ndarray, room: Any) -> np.ndarray:
    """The area of each box outside of the axes."""
    inside = _covered(boxes, np.array([[room.x0, room.y0, room.x1, room.y1]]))
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1) - inside
