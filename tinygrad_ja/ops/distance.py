"""Distances and similarities of vectors: of pairs, and of all with all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.threads import in_parts
from ..core.operator import Array, Point, fused, primitive
from ..core.promotion import autocasts, result_type
from ..errors import Phrase, error, joined
from .comparison import _where, eq
from .conversion import cast
from .decomposition import detached
from .extremum import amax
from .linalg import matmul
from .norms import _norm, norm
from .piecewise import abs, clamp_min, sign
from .reduce import mean, sum
from .selection import _index_select
from .shape import _expand, _reshape, broadcast_shapes, unsqueeze
from .solve import mT

__all__ = ["cdist", "cosine_similarity", "pairwise_distance", "pdist"]

_AT_ONCE = {True: 1 << 18, False: 1 << 24}
"""Elements of the differences between rows that are held at a time. On the CPU they stay in the cache."""


def _by_blocks(xp: Any, work: Callable[[slice], None], rows: int, elements: int) -> None:
    """``work(slice)`` for blocks of rows that have about ``_AT_ONCE`` of all ``elements``; on the CPU in several threads."""
    step = max(1, _AT_ONCE[xp is np] * rows // max(elements, 1))
    if xp is np:
        in_parts(work, rows, elements, step)
        return
    for start in range(0, rows, step):
        work(slice(start, start + step))


def _apart(x1: Any, x2: Any) -> Any:
    """Differences of all rows of x1 and all of x2: (..., P, M) and (..., R, M) -> (..., P, R, M)."""
    return unsqueeze(x1, -2) - unsqueeze(x2, -3)


# ---- all with all --------------------------------------------------------------------------------


def _slope(difference: Any, p: float) -> Any:
    """What of the cotangent each coordinate gets, but for a factor of the pair: the derivative of |d|^p / p."""
    if p == 1:
        return sign(difference)
    if p == 2:
        return difference
    size = abs(difference)
    if p == math.inf:
        return _where(eq(size, amax(size, -1, True)), sign(difference), 0.0)
    return sign(difference) * _where(eq(size, 0), 1.0, size) ** (p - 1)


def _pull_reference(weight: Any, x1: Any, x2: Any, p: float) -> Any:
    return sum(unsqueeze(weight, -1) * _slope(_apart(x1, x2), p), -2)


def _pull_case(pick: Any) -> Any:
    (x1, x2, p, _), _ = _cdist_case(pick)
    return (pick.array((*x1.shape[:-1], x2.shape[-2])), x1, x2, p or 2.0), {}


@fused(None, _pull_reference, cases=_pull_case)
def _pull(xp: Any, weight: Array, x1: Array, x2: Array, p: float) -> Array:
    """Σ_r weight_pr · φ(x1_p - x2_r), φ the slope of the norm. Block by block, so memory stays small."""
    made = xp.empty(x1.shape, dtype=x1.dtype)

    def work(rows: slice) -> None:
        slope = _slope(_apart(x1[..., rows, :], x2), p)
        made[..., rows, :] = xp.matmul(weight[..., rows, None, :], slope)[..., 0, :]

    _by_blocks(xp, work, x1.shape[-2], weight.size * x1.shape[-1])
    return made


def _cdist_vjp(g: Any, x1: Any, x2: Any, y: Any, p: float, by_products: bool, needs: tuple[bool, ...]) -> list[Any]:
    if p == 0:
        return [x1 * 0, x2 * 0]
    # between equal points the slope is 0, whatever the weight
    weight = g if p == math.inf else g * _where(eq(y, 0), 1.0, y) ** (1 - p)
    if by_products:
        back = mT(weight)
        return [x1 * sum(weight, -1, True) - matmul(weight, x2), x2 * sum(back, -1, True) - matmul(back, x1)]
    return [
        _pull(weight, x1, x2, p) if needs[0] else None,
        _pull(mT(weight), x2, x1, p) if needs[1] else None,
    ]


def _cdist_case(pick: Any) -> Any:
    batch = pick.shape(max_dims=1, max_side=2)
    columns = pick.integer(1, 3)
    p, by_products = pick.choice([(p, p == 2.5) for p in (2.0, 2.5, 1.0, 3.0, math.inf, 0.5, 1.5, 0.0)])
    rows = pick.shape(min_dims=2, max_dims=2)
    x1 = pick.distinct((*batch, rows[0], columns))
    x2 = np.asarray(3.03 + 0.37 * pick.distinct((*batch, rows[1], columns)))
    return (x1, x2, 2.0 if by_products else p, by_products), {}


@primitive(
    _cdist_vjp,
    joint=True,
    cases=_cdist_case,
    points=[
        Point(([[1.0, 2.0]], [[1.0, 2.0]], p, by_products), (0.0, 0.0))
        for p, by_products in [(2.0, False), (2.0, True), (1.0, False), (3.0, False), (0.5, False), (math.inf, False)]
    ]
    + [
        Point(([[0.0, 0.0]], [[2.0, 2.0]], math.inf), ([[-1.0, -1.0]], [[1.0, 1.0]])),
        Point(([[0.0, 3.0]], [[4.0, 3.0]], 0.5), ([[-1.0, 0.0]], [[1.0, 0.0]])),
        Point(([[0.0, 3.0]], [[4.0, 3.0]], 3.0), ([[-1.0, 0.0]], [[1.0, 0.0]])),
    ],
)
def _cdist(xp: Any, x1: Array, x2: Array, p: float = 2.0, by_products: bool = False) -> Array:
    """Distances of all rows of x1 to all of x2; with ``by_products`` as √(|a|² + |b|² - 2 a·b).

    dx1 = Σ_r g_pr sign(d) |d|^(p-1) / y^(p-1), 0 for equal points; for p = inf every coordinate that is the largest gets all of g.
    """
    if by_products and x1.dtype.itemsize > 2:
        squares = _sum_of_squares(x1)[..., :, None] + _sum_of_squares(x2)[..., None, :]
        return xp.sqrt(xp.maximum(squares - 2 * xp.matmul(x1, x2.swapaxes(-1, -2)), 0))
    made = xp.empty((*x1.shape[:-1], x2.shape[-2]), dtype=x1.dtype)

    def work(rows: slice) -> None:
        made[..., rows, :] = _norm(_apart(x1[..., rows, :], x2), p, -1)

    _by_blocks(xp, work, x1.shape[-2], made.size * x1.shape[-1])
    return made


def _sum_of_squares(x: Any) -> Any:
    return sum(x * x, -1)


_PRODUCTS_FROM = 25
_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


def _check_p(op: str, p: float) -> float:
    if p < 0:
        fix = ("p=2.", "p=2 などとしてください。")
        raise error("TG-A001", op=op, argument="p", value=p, rule=("0 or more, or inf", "0 以上、または inf"), fix=fix)
    return float(p)


def _check_floating(op: str, *tensors: Any) -> None:
    for x in tensors:
        if x.dtype.kind != "f":
            raise error("TG-T004", op=op, dtype=x.dtype, allowed=("a floating dtype", "浮動小数点の dtype"), fix="tg.float32")


@autocasts("float32")
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = _MODES[0]) -> Any:
    """p-norm distances of all rows of ``x1`` (..., P, M) to all rows of ``x2`` (..., R, M): (..., P, R) (``torch.cdist``).

    p: 0 (the number of different coordinates) and more, or inf. compute_mode: whether Euclidean distances come from a matrix product,
        which is fast but rounds more: by default where P or R is above 25. The data are centred first, so that a common offset costs no
        digits.

    dy/dx1 = sign(d) |d|^(p-1) / y^(p-1), 0 for equal points.

    >>> import tinygrad_ja as tg
    >>> tg.cdist(tg.tensor([[0.0, 0.0], [3.0, 0.0]]), tg.tensor([[3.0, 4.0]]))
    tensor([[5.],
            [4.]])
    """
    p = _check_p("cdist", p)
    _check_floating("cdist", x1, x2)
    shapes = tuple(x1.shape), tuple(x2.shape)
    if min(x1.ndim, x2.ndim) < 2 or shapes[0][-1] != shapes[1][-1]:
        fix = ("give both as many columns.", "列の数をそろえてください。")
        raise error("TG-S002", op="cdist", rule="(...,p,m),(...,r,m)->(...,p,r)", shapes=joined(shapes), fix=fix)
    if compute_mode not in _MODES and compute_mode is not None:
        rule: Phrase = " | ".join(_MODES)
        fix = ("leave it out.", "省いてください。")
        raise error("TG-A001", op="cdist", argument="compute_mode", value=repr(compute_mode), rule=rule, fix=fix)
    stack = broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    x1, x2 = [x if shape[:-2] == stack else _expand(x, (*stack, *shape[-2:])) for x, shape in zip((x1, x2), shapes)]
    if not shapes[0][-1]:
        p = 1.0  # no coordinates: all distances are 0, whatever p
    many = max(shapes[0][-2], shapes[1][-2]) > _PRODUCTS_FROM and compute_mode != _MODES[2]
    if p != 2 or not (many or compute_mode == _MODES[1]) or not x2.shape[-2]:
        return _cdist(x1, x2, p, False)
    centre = mean(detached(x2), -2, True)
    return _cdist(x1 - centre, x2 - centre, p, True)


@autocasts("float32")
def pdist(input: Any, p: float = 2.0) -> Any:
    """p-norm distances of all pairs of rows of an (N, M) matrix, N (N - 1) / 2 of them: the upper triangle of ``cdist(x, x)``, row by row
    (``torch.nn.functional.pdist``).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.pdist(tg.tensor([[0.0], [1.0], [3.0]]))
    tensor([1., 3., 2.])
    """
    p = _check_p("pdist", p)
    _check_floating("pdist", input)
    if input.ndim != 2:
        fix = ("use cdist for stacks.", "次元の多いものには cdist を使ってください。")
        raise error("TG-S002", op="pdist", rule="(n,m)->(n*(n-1)/2)", shapes=str(tuple(input.shape)), fix=fix)
    n = input.shape[0]
    rows, columns = np.triu_indices(n, 1)
    whole = _cdist(input, input, p, False)
    xp = ARRAY_MODULES[type(getattr(input, "array", input))]
    return _index_select(_reshape(whole, (-1,)), 0, xp.asarray(rows * n + columns))


# ---- pairs ---------------------------------------------------------------------------------------


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """|x1 - x2 + eps|_p along the last axis (``torch.nn.functional.pairwise_distance``); the others broadcast. eps keeps the gradient
    of equal vectors finite.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.pairwise_distance(tg.tensor([[3.0, 4.0]]), tg.tensor([0.0, 0.0]), eps=0.0)
    tensor([5.])
    """
    return norm(x1 - x2 + eps, p, -1, keepdim)


@autocasts("float32")
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 · x2 / (max(|x1|, eps) max(|x2|, eps)) along ``dim``; the tensors broadcast.

    dx1 = (x2 / |x2| - y x1 / |x1|) / |x1|.

    >>> import tinygrad_ja as tg
    >>> tg.cosine_similarity(tg.tensor([[3.0, 4.0]]), tg.tensor([[4.0, 3.0]]))
    tensor([0.96])
    """
    common = result_type(x1, x2)
    if common.kind != "f":
        raise error(
            "TG-T004",
            op="cosine_similarity",
            dtype=common,
            allowed=("a floating dtype", "浮動小数点の dtype"),
            fix="tg.float32",
        )
    shape = broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    units = [_unit(x, common, shape, dim, eps) for x in (x1, x2)]
    return sum(units[0] * units[1], dim)


def _unit(x: Any, dtype: Any, shape: Sequence[int], dim: int, eps: float) -> Any:
    if x.dtype != dtype:
        x = cast(x, dtype)
    if tuple(x.shape) != tuple(shape):
        x = _expand(x, tuple(shape))
    return x / clamp_min(norm(x, 2, dim, True), eps)
