"""Line search: a step size that lowers the loss enough and flattens its slope enough (Nocedal and Wright 2006, algorithms 3.5 and 3.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend.arrays import ARRAY_MODULES


class _Point(NamedTuple):
    """A step size, and the loss, the gradient and the slope along the direction there."""

    t: float
    loss: float
    gradient: Any
    slope: float


def cubic_minimum(a: _Point, b: _Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum of the cubic with the losses and slopes of two points, kept within bounds (the two points themselves, if None); the
    middle where it has none."""
    low, high = bounds or (min(a.t, b.t), max(a.t, b.t))
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = square**0.5
    left, right = (a, b) if a.t <= b.t else (b, a)
    t = right.t - (right.t - left.t) * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2))
    return min(max(t, low), high)


def strong_wolfe(
    evaluate: Callable[[float], tuple[float, Any]],
    t: float,
    direction: Any,
    loss: float,
    gradient: Any,
    slope: float,
    tolerance: float,
    max_evaluations: int,
    sufficient: float = 1e-4,
    flat: float = 0.9,
) -> tuple[float, Any, float, int]:
    """A step size that satisfies the strong Wolfe conditions, or the best one found.

    evaluate: step size -> (loss, gradient) there. t: the first size to try. loss, gradient, slope: at 0. tolerance: of the bracket's length.
    Returns (loss, gradient, step size, evaluations).
    """
    xp = ARRAY_MODULES[type(direction)]
    scale = float(xp.max(xp.abs(direction)))

    def at(t: float) -> _Point:
        value, g = evaluate(t)
        return _Point(t, value, g, float(g.dot(direction)))

    def too_high(point: _Point) -> bool:
        return point.loss > loss + sufficient * point.t * slope

    # widen until a bracket holds a good point
    previous, point = _Point(0.0, loss, gradient, slope), at(t)
    evaluations, rounds, done = 1, 0, False
    bracket: list[_Point]
    while True:
        if rounds >= max_evaluations:
            bracket = [_Point(0.0, loss, gradient, slope), point]
            break
        if too_high(point) or (rounds > 1 and point.loss >= previous.loss):
            bracket = [previous, point]
            break
        if abs(point.slope) <= -flat * slope:
            bracket, done = [point], True
            break
        if point.slope >= 0:
            bracket = [previous, point]
            break
        bounds = (point.t + 0.01 * (point.t - previous.t), point.t * 10)
        previous, point = point, at(cubic_minimum(previous, point, bounds))
        evaluations += 1
        rounds += 1

    # narrow it
    low, high = (0, -1) if bracket[0].loss <= bracket[-1].loss else (-1, 0)
    stuck = False
    while not done and rounds < max_evaluations:
        first, last = min(bracket[0].t, bracket[1].t), max(bracket[0].t, bracket[1].t)
        if (last - first) * scale < tolerance:
            break
        t = cubic_minimum(bracket[0], bracket[1])
        margin = 0.1 * (last - first)
        if min(last - t, t - first) < margin:  # near an end: go there once, then a tenth inside
            if stuck or t >= last or t <= first:
                t = last - margin if abs(t - last) < abs(t - first) else first + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        point = at(t)
        evaluations += 1
        rounds += 1
        if too_high(point) or point.loss >= bracket[low].loss:
            bracket[high] = point
            low, high = (0, -1) if bracket[0].loss <= bracket[-1].loss else (-1, 0)
        else:
            if abs(point.slope) <= -flat * slope:
                done = True
            elif point.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
    best = bracket[low]
    return best.loss, best.gradient, best.t, evaluations
