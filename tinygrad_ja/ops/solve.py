"""Systems of linear equations, inverses and determinants of stacks of square matrices.

LAPACK computes (cuSOLVER on a GPU), in float32 and float64 alone. Every derivative is text of the same operators, so it has every order.

Sources: Giles, "An extended collection of matrix derivative results for forward and reverse mode automatic differentiation" (2008).
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import BY_TYPE
from ..core.operator import Array, Point, fused, primitive
from ..core.promotion import autocasts
from ..errors import Phrase, error, joined
from .comparison import _where, lt
from .diagonal import tril, triu
from .linalg import matmul
from .methods import attach
from .reduce import _exclusive, sum
from .shape import _expand, _reshape, _transpose, broadcast_shapes, unsqueeze

__all__ = ["det", "inverse", "logdet", "matrix_exp", "matrix_power", "slogdet"]

NO_HALF = {"float16": "LAPACK has no half precision"}
"""``unsupported=`` of the operators that LAPACK computes."""

WAITS = "a GPU is asked whether it succeeded"


class SignAndLog(NamedTuple):
    """What ``slogdet`` returns: det = sign · exp(logabsdet)."""

    sign: Any
    logabsdet: Any


# ---- what a matrix must be -----------------------------------------------------------------------


def check_matrices(op: str, *matrices: Any, square: bool = True, lapack: bool = True) -> None:
    """Raise unless all are stacks of matrices, the first (with ``square``) of square ones, of a dtype that LAPACK takes."""
    shapes = joined([tuple(x.shape) for x in matrices])
    if any(x.ndim < 2 for x in matrices):
        fix = ("reshape it to a matrix first.", "先に行列に reshape してください。")
        raise error("TG-S002", op=op, rule=("at least 2 axes", "2 次元以上"), shapes=shapes, fix=fix)
    if square and matrices[0].shape[-1] != matrices[0].shape[-2]:
        fix = ("pass a square matrix.", "正方行列を渡してください。")
        raise error("TG-S002", op=op, rule=("a square matrix, (..., n, n)", "正方行列 (..., n, n)"), shapes=shapes, fix=fix)
    for x in matrices:
        if lapack and x.dtype not in (np.float32, np.float64):
            raise error("TG-T004", op=op, dtype=x.dtype, allowed=("float32 or float64", "float32 か float64"), fix="tg.float32")


def lapack(op: str, reason: Phrase, fix: Phrase, xp: Any, function: Callable[..., Any], *matrices: Any) -> Any:
    """``function(*matrices)``; where LAPACK fails, an error with ``reason`` and ``fix`` that names the matrix of the stack."""
    cupyx = sys.modules.get("cupyx") if xp.__name__ == "cupy" else None
    with contextlib.nullcontext() if cupyx is None else cupyx.errstate(linalg="raise"):
        try:
            return function(*matrices)
        except np.linalg.LinAlgError as failure:
            shape = tuple(matrices[0].shape)
            bad = next((list(index) for index in np.ndindex(shape[:-2]) if _fails(function, [x[index] for x in matrices])), [])
            which = (f"matrix {bad}, ", f"行列 {bad}、") if bad else ""
            raise error("TG-A004", op=op, reason=reason, which=which, shape=shape, fix=fix) from failure


def _fails(function: Callable[..., Any], args: list[Any]) -> bool:
    try:
        function(*args)
    except np.linalg.LinAlgError:
        return True
    return False


_SINGULAR = ("the matrix is singular", "行列が特異です (逆行列がありません)")
_USE_PINV = (
    "use linalg.pinv, or add a small multiple of the identity.",
    "linalg.pinv を使うか、単位行列の小さな定数倍を加えてください。",
)


def mT(x: Any) -> Any:
    """The matrices transposed."""
    return _transpose(x, -1, -2)


def well_conditioned(pick: Any, rows: int, columns: int, batch: tuple[int, ...] | None = None) -> Any:
    """Matrices with singular values from about 1 to 2.5, no two of them closer than 0.2: cases of decompositions."""
    shape = pick.shape(max_dims=2, max_side=3) if batch is None else batch
    rank = min(rows, columns)
    left, right = (np.linalg.qr(pick.rng.normal(size=(*shape, n, n)))[0] for n in (rows, columns))
    values = 1 + (np.argsort(pick.rng.uniform(size=(*shape, rank)), -1) + pick.rng.uniform(0.1, 0.4, (*shape, rank))) * 0.5
    return np.asarray((left[..., :rank] * values[..., None, :]) @ np.swapaxes(right, -1, -2)[..., :rank, :])


# ---- inverse and solution ------------------------------------------------------------------------


def square_case(pick: Any) -> Any:
    """A case of one stack of well conditioned square matrices."""
    n = pick.integer(0, 4)
    return (well_conditioned(pick, n, n),), {}


@primitive(
    lambda g, y: -matmul(mT(y), matmul(g, mT(y))),
    cases=square_case,
    unsupported=NO_HALF,
    syncs=WAITS,
    points=[Point(([[2.0, 0.0], [0.0, 4.0]],), ([[-0.25, -0.125], [-0.125, -0.0625]],))],
)
def _inv(xp: Any, input: Array, strict: bool = True) -> Array:
    """Y = A⁻¹; dA = -Yᵀ g Yᵀ. Without ``strict`` the inverse of a singular matrix is infinite and no error."""
    if strict:
        return lapack("linalg.inv", _SINGULAR, _USE_PINV, xp, xp.linalg.inv, input)
    try:
        return xp.linalg.inv(input)
    except np.linalg.LinAlgError:
        made = xp.full_like(input, np.inf)
        for index in np.ndindex(input.shape[:-2]):
            with contextlib.suppress(np.linalg.LinAlgError):
                made[index] = xp.linalg.inv(input[index])
        return made


@autocasts("float32")
def inv(A: Any) -> Any:
    """Inverse of square matrices (..., n, n). Raises LinAlgError for a singular one; prefer ``linalg.solve`` to a product with it.

    dA = -Yᵀ g Yᵀ (Giles 2008, 2.2.3).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.inv(tg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    check_matrices("linalg.inv", A)
    return _inv(A)


inverse = inv


def _solve_case(pick: Any) -> Any:
    n, k = pick.integer(0, 4), pick.integer(0, 3)
    a = well_conditioned(pick, n, n)
    return (a, pick.array((*a.shape[:-1], k))), {}


def _solve_vjp(g: Any, A: Any, y: Any, needs: tuple[bool, ...]) -> list[Any]:
    right = _solve(mT(A), g)
    return [-matmul(right, mT(y)) if needs[0] else None, right]


@primitive(_solve_vjp, joint=True, cases=_solve_case, unsupported=NO_HALF, syncs=WAITS)
def _solve(xp: Any, A: Array, B: Array) -> Array:
    """X with A X = B, for as many matrices in A as in B; dB = A⁻ᵀ g, dA = -dB Xᵀ."""
    return lapack("linalg.solve", _SINGULAR, _USE_PINV, xp, xp.linalg.solve, A, B)


def _same_stack(op: str, A: Any, B: Any, left: bool) -> tuple[Any, Any]:
    """Both with the same leading axes; raises unless their matrices fit."""
    shapes = (tuple(A.shape), tuple(B.shape))
    if A.shape[-1] != B.shape[-2 if left else -1]:
        rule = "(...,n,n),(...,n,k)->(...,n,k)" if left else "(...,n,n),(...,k,n)->(...,k,n)"
        fix = ("transpose one of them, or change left=.", "一方を転置するか left= を変えてください。")
        raise error("TG-S002", op=op, rule=rule, shapes=joined(shapes), fix=fix)
    stack = broadcast_shapes(*[shape[:-2] for shape in shapes])
    return tuple([x if shape[:-2] == stack else _expand(x, (*stack, *shape[-2:])) for x, shape in zip((A, B), shapes)])


@autocasts("float32")
def solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """X with A X = B (or X A = B with ``left=False``); leading axes are stacks that broadcast (``torch.linalg.solve``).

    A: (..., n, n). B: (..., n, k), or vectors: (n,), or (..., n) with exactly the leading axes of A.
    Raises LinAlgError for a singular matrix. dB = A⁻ᵀ g, dA = -dB Xᵀ (Giles 2008, 2.3.1).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.solve(tg.tensor([[2.0, 0.0], [0.0, 4.0]]), tg.tensor([2.0, 2.0]))
    tensor([1. , 0.5])
    """
    check_matrices("linalg.solve", A)
    if B.ndim == 1 or (B.ndim == A.ndim - 1 and tuple(B.shape) == tuple(A.shape[:-1])):
        if not left:
            fix = ("pass a matrix of one row.", "1 行の行列を渡してください。")
            rule = ("left=False needs a matrix B", "left=False のとき B は行列")
            raise error("TG-S002", op="linalg.solve", rule=rule, shapes=str(tuple(B.shape)), fix=fix)
        return _reshape(made := solve(A, unsqueeze(B, -1)), tuple(made.shape[:-1]))
    check_matrices("linalg.solve", A, B)
    A, B = _same_stack("linalg.solve", A, B, left)
    return _solve(A, B) if left else mT(_solve(mT(A), mT(B)))


# ---- triangular systems --------------------------------------------------------------------------

_ROWS_AT_ONCE = 32
"""Smaller systems are solved row by row; of larger ones the halves, with a matrix product between them."""


def _substitute(xp: Any, a: Any, b: Any, upper: bool, unit: bool) -> Any:
    n = a.shape[-1]
    if n <= _ROWS_AT_ONCE:
        x = xp.empty(b.shape, dtype=b.dtype)
        for i in reversed(range(n)) if upper else range(n):
            known = slice(i + 1, n) if upper else slice(0, i)
            row = b[..., i, :] - xp.matmul(a[..., i : i + 1, known], x[..., known, :])[..., 0, :]
            x[..., i, :] = row if unit else row / a[..., i, i, None]
        return x
    parts = slice(0, n // 2), slice(n // 2, n)
    first, then = reversed(parts) if upper else parts
    x = _substitute(xp, a[..., first, first], b[..., first, :], upper, unit)
    z = _substitute(xp, a[..., then, then], b[..., then, :] - xp.matmul(a[..., then, first], x), upper, unit)
    return xp.concatenate([z, x] if upper else [x, z], -2)


def _triangular_case(pick: Any) -> Any:
    n, k = pick.integer(0, 4), pick.integer(0, 3)
    stack = pick.shape(max_dims=2, max_side=3)
    a = pick.array((*stack, n, n)) / 2 + np.eye(n) * pick.choice([2.0, -2.0])
    return (a, pick.array((*stack, n, k)), pick.boolean(), pick.boolean()), {}


def _triangular_vjp(g: Any, A: Any, y: Any, upper: bool, unitriangular: bool) -> list[Any]:
    right = _solve_triangular(mT(A), g, not upper, unitriangular)
    edge = int(unitriangular)
    product = -matmul(right, mT(y))
    return [triu(product, edge) if upper else tril(product, -edge), right]


@primitive(_triangular_vjp, joint=True, cases=_triangular_case, unsupported=NO_HALF)
def _solve_triangular(xp: Any, A: Array, B: Array, upper: bool, unitriangular: bool = False) -> Array:
    """X with A X = B by substitution; dB = A⁻ᵀ g, dA = the triangle of -dB Xᵀ."""
    return _substitute(xp, A, B, upper, unitriangular)


@autocasts("float32")
def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """X with A X = B (or X A = B with ``left=False``) for triangular matrices, of which the other triangle, and with ``unitriangular``
    the diagonal, is not read (``torch.linalg.solve_triangular``).

    A: (..., n, n); B: (..., n, k); leading axes broadcast. A zero on the diagonal gives infinities, not an error.
    """
    check_matrices("linalg.solve_triangular", A, B)
    A, B = _same_stack("linalg.solve_triangular", A, B, left)
    if left:
        return _solve_triangular(A, B, upper, unitriangular)
    return mT(_solve_triangular(mT(A), mT(B), not upper, unitriangular))


# ---- determinants --------------------------------------------------------------------------------


def _others(xp: Any, s: Any) -> Any:
    """Along the last axis, the product of all other elements."""
    return _exclusive(xp, s) * _exclusive(xp, s[..., ::-1])[..., ::-1]


def _without_pairs(xp: Any, s: Any) -> Any:
    """p[..., i, j]: the product of all elements but those at i and j; 0 for i = j."""
    n = s.shape[-1]
    place = xp.arange(n)
    behind = xp.where(place > place[:, None], s[..., None, :], 1)  # row i: the elements behind i
    upper = _exclusive(xp, s)[..., :, None] * _exclusive(xp, behind) * _exclusive(xp, s[..., ::-1])[..., None, ::-1]
    upper = xp.triu(upper, 1)
    return upper + upper.swapaxes(-1, -2)


def _rotated(xp: Any, input: Any) -> tuple[Any, Any, Any, Any]:
    """``U, s, Vᵀ`` and det U · det V."""
    u, s, vt = xp.linalg.svd(input)
    sign = xp.linalg.det(u) * xp.linalg.det(vt)
    return u, s, vt, sign


def _minors_reference(g: Any, input: Any) -> Any:
    c = cofactor(input)
    inside = unsqueeze(unsqueeze(sum(g * c, (-1, -2)), -1), -1)
    return (inside * c - matmul(c, matmul(mT(g), c))) / unsqueeze(unsqueeze(_det(input), -1), -1)


def _minors_case(pick: Any) -> Any:
    n = pick.integer(1, 4)
    a = well_conditioned(pick, n, n)
    return (pick.array(a.shape), a), {}


_RANK_ONE = [[1.0, 2.0], [2.0, 4.0]]


@fused(None, _minors_reference, cases=_minors_case, unsupported=NO_HALF)
def _minors(xp: Any, g: Array, input: Array) -> Array:
    """Gradient of <g, cofactors of A>: (<g, C> C - C gᵀ C) / det A, in the form that holds for singular matrices too.

    For A = U S Vᵀ with s = diag S, and G = Uᵀ g V: U X Vᵀ det U det V, where X_ii = Σ_j p_ij G_jj and X_ij = -p_ij G_ji, p_ij the product of
    all s but s_i and s_j. Its own derivative is the one of the quotient, for invertible matrices.
    """
    u, s, vt, sign = _rotated(xp, input)
    turned = xp.matmul(u.swapaxes(-1, -2), xp.matmul(g, vt.swapaxes(-1, -2)))
    pairs = _without_pairs(xp, s)
    straight = xp.matmul(pairs, xp.diagonal(turned, 0, -2, -1)[..., None])
    inside = straight * xp.eye(s.shape[-1], dtype=s.dtype) - pairs * turned.swapaxes(-1, -2)
    return sign[..., None, None] * xp.matmul(u, xp.matmul(inside, vt))


@primitive(
    lambda g, input: _minors(g, input),
    cases=square_case,
    unsupported=NO_HALF,
    points=[
        Point((_RANK_ONE,), ([[1.0, -1.0], [-1.0, 1.0]],)),
        Point(([[0.0, 0.0], [0.0, 0.0]],), ([[1.0, -1.0], [-1.0, 1.0]],)),
    ],
)
def cofactor(xp: Any, input: Array) -> Array:
    """Matrices of cofactors, the derivative of det: det(A) A⁻ᵀ where A is invertible, by singular values U S Vᵀ wherever it is not:
    det U · det V · U diag(Π_{j≠i} s_j) Vᵀ."""
    u, s, vt, sign = _rotated(xp, input)
    return sign[..., None, None] * xp.matmul(u * _others(xp, s)[..., None, :], vt)


@primitive(
    lambda g, input: unsqueeze(unsqueeze(g, -1), -1) * cofactor(input),
    cases=square_case,
    unsupported=NO_HALF,
    points=[
        Point((_RANK_ONE,), ([[4.0, -2.0], [-2.0, 1.0]],)),
        Point(([[0.0, 0.0], [0.0, 0.0]],), (0.0,)),
        Point(([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]],), ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]],)),
    ],
)
def _det(xp: Any, input: Array) -> Array:
    """Determinants; dA = g · cofactors of A, right for singular matrices too."""
    return xp.linalg.det(input)


@autocasts("float32")
def det(A: Any) -> Any:
    """Determinants of square matrices (..., n, n) -> (...).

    dA = g · cofactors(A), which is g det(A) A⁻ᵀ for an invertible A. First and second derivatives are right for singular matrices too,
    of any rank; third ones need an invertible matrix.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.det(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(-2.)
    """
    check_matrices("linalg.det", A)
    return _det(A)


@primitive(
    lambda g, input: unsqueeze(unsqueeze(g[1], -1), -1) * mT(_inv(input, False)),
    outputs=2,
    cases=square_case,
    unsupported=NO_HALF,
    points=[Point(([[2.0, 0.0], [0.0, 4.0]],), ([[0.5, 0.0], [0.0, 0.25]],)), Point((_RANK_ONE,), (math.inf,))],
)
def _slogdet(xp: Any, input: Array) -> Any:
    """Sign and log |det|; d log|det A| = A⁻ᵀ, the sign has no derivative."""
    return tuple(xp.linalg.slogdet(input))


@autocasts("float32")
def slogdet(A: Any) -> SignAndLog:
    """``(sign, logabsdet)`` of determinants, which may be too large or too small for a float: (0, -inf) for a singular matrix.

    d logabsdet / dA = A⁻ᵀ, infinite where A is singular.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.slogdet(tg.tensor([[0.0, 1.0], [1.0, 0.0]]))
    SignAndLog(sign=tensor(-1.), logabsdet=tensor(0.))
    """
    check_matrices("linalg.slogdet", A)
    return SignAndLog(*_slogdet(A))


@autocasts("float32")
def logdet(input: Any) -> Any:
    """Logarithm of determinants: -inf for 0, NaN for a negative one (``torch.logdet``)."""
    check_matrices("logdet", input)
    sign, value = _slogdet(input)
    return _where(lt(sign, 0), np.nan, value)


# ---- powers --------------------------------------------------------------------------------------


def matrix_power(input: Any, n: int) -> Any:
    """The product of n equal square matrices, by repeated squaring; of inverses for n < 0, the identity for 0.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.matrix_power(tg.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    check_matrices("linalg.matrix_power", input, lapack=n < 0)
    if n < 0:
        return matrix_power(_inv(input), -n)
    if n == 0:
        return identity_like(input)
    made, square = None, input
    while True:
        if n % 2:
            made = square if made is None else matmul(made, square)
        n //= 2
        if not n:
            return made
        square = matmul(square, square)


_PADE = (
    64764752532480000.0,
    32382376266240000.0,
    7771770303897600.0,
    1187353796428800.0,
    129060195264000.0,
    10559470521600.0,
    670442572800.0,
    33522128640.0,
    1323241920.0,
    40840800.0,
    960960.0,
    16380.0,
    182.0,
    1.0,
)


@autocasts("float32")
def matrix_exp(input: Any) -> Any:
    """Exponentials of square matrices, Σ Aᵏ / k!, by scaling and squaring with a Padé approximant (Higham 2005).

    A GPU waits, for the number of squarings depends on the norm.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.matrix_exp(tg.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    check_matrices("linalg.matrix_exp", input)
    held = getattr(input, "array", input)
    if not held.size:
        return input
    largest = float(abs(held).sum(-2).max())
    if not math.isfinite(largest):
        return input * math.nan
    times = max(0, math.ceil(math.log2(max(largest / 5.371920351148152, 1.0))))
    a = input * 2.0**-times
    a2 = matmul(a, a)
    a4 = matmul(a2, a2)
    a6 = matmul(a4, a2)
    b, eye = [c / _PADE[0] for c in _PADE], identity_like(input)
    odd = matmul(a6, a6 * b[13] + a4 * b[11] + a2 * b[9]) + a6 * b[7] + a4 * b[5] + a2 * b[3] + eye * b[1]
    even = matmul(a6, a6 * b[12] + a4 * b[10] + a2 * b[8]) + a6 * b[6] + a4 * b[4] + a2 * b[2] + eye
    odd = matmul(a, odd)
    made = _solve(even - odd, even + odd)
    for _ in range(times):
        made = matmul(made, made)
    return made


def identity_like(input: Any) -> Any:
    """Identity matrices in place of the input's. No gradient."""
    held = getattr(input, "array", input)
    xp = BY_TYPE[type(held)].xp
    made = xp.zeros_like(held) + xp.eye(held.shape[-1], dtype=held.dtype)
    return made if held is input else type(input)(made)


attach(slogdet, logdet, matrix_exp, matrix_power, det, inverse=inverse)
