"""Decompositions of stacks of matrices, and what is computed from them: singular values, ranks, pseudo-inverses.

An operator here has one output, its factors below each other, so that a derivative can ask for all of them and is text of the framework
for every order. The public functions cut it. Signs of vectors are LAPACK's, as NumPy's and PyTorch's are: a loss must not depend on them.

Sources: Giles, "An extended collection of matrix derivative results" (2008); Walter and Lehmann, "Algorithmic differentiation of linear
algebra functions with application in optimum experimental design" (2010); Murray, "Differentiation of the Cholesky decomposition" (2016);
Townsend, "Differentiating the singular value decomposition" (2016); Golub and Pereyra, "The differentiation of pseudo-inverses" (1973).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..core.operator import Array, Point, linear, primitive
from ..core.promotion import autocasts
from ..errors import Phrase, error
from .comparison import _where, eq
from .creation import zeros_like
from .diagonal import diag_embed, tril
from .join import cat
from .linalg import matmul
from .methods import attach
from .padding import constant_pad_nd
from .reduce import sum
from .shape import _reshape, unsqueeze
from .solve import NO_HALF, WAITS, _solve_triangular, check_matrices, lapack, mT, square_case, well_conditioned

__all__ = ["cholesky", "pinverse"]


class Eigen(NamedTuple):
    """What ``linalg.eigh`` returns."""

    eigenvalues: Any
    eigenvectors: Any


class SVD(NamedTuple):
    """What ``linalg.svd`` returns: A = U diag(S) Vh."""

    U: Any
    S: Any
    Vh: Any


class QR(NamedTuple):
    """What ``linalg.qr`` returns: A = Q R."""

    Q: Any
    R: Any


_NOT_CONVERGED = ("the algorithm does not converge", "計算が収束しません")
_CHECK_FINITE = ("check the matrix for NaN and infinity.", "行列に NaN や無限大がないか調べてください。")


# ---- symmetric matrices --------------------------------------------------------------------------


def _to_triangle(g: Any, symmetric: bool) -> Any:
    part = tril(g) + tril(mT(g), -1)
    return (part + mT(part)) / 2 if symmetric else part


@linear(
    _to_triangle,
    # the convention is no derivative, so finite differences are asked without it
    cases=lambda pick: ((pick.array((*pick.shape(max_dims=2), n := pick.integer(0, 3), n)),), {}),
    points=[Point(([[1.0, 2.0], [3.0, 4.0]], True), (1.0,)), Point(([[1.0, 2.0], [3.0, 4.0]],), ([[1.0, 0.0], [2.0, 1.0]],))],
)
def _from_triangle(xp: Any, input: Array, symmetric: bool = False) -> Array:
    """The symmetric matrix that the lower triangle stands for. With ``symmetric`` the gradient is symmetric too, by PyTorch's convention:
    as if both triangles moved together."""
    return xp.tril(input) + xp.tril(input, -1).swapaxes(-1, -2)


def _symmetric_case(pick: Any) -> Any:
    n = pick.integer(0, 4)
    a = well_conditioned(pick, n, n)
    return (np.asarray(a @ np.swapaxes(a, -1, -2)),), {}


def _evened(input: Any) -> Any:
    """(A + Aᵀ) / 2: A itself for the symmetric matrices that come here, and a function of both triangles for finite differences."""
    return (input + input.swapaxes(-1, -2)) / 2


def _half_diagonal(x: Any) -> Any:
    """The lower triangle with half of its diagonal."""
    return (tril(x) + tril(x, -1)) / 2


def _cholesky_vjp(g: Any, y: Any) -> Any:
    inside = _half_diagonal(matmul(mT(y), g))
    upper = mT(y)
    half = _solve_triangular(upper, inside + mT(inside), True)
    return _solve_triangular(upper, mT(half), True) / 2


@primitive(
    _cholesky_vjp,
    cases=_symmetric_case,
    unsupported=NO_HALF,
    syncs=WAITS,
    points=[Point(([[4.0]],), ([[0.25]],))],
)
def _cholesky(xp: Any, input: Array) -> Array:
    """L with L Lᵀ = A; dA = L⁻ᵀ (P + Pᵀ) L⁻¹ / 2, P the lower triangle of Lᵀ g with half of its diagonal."""
    reason = ("the matrix is not positive definite", "行列が正定値ではありません")
    fix = ("add a small multiple of the identity.", "単位行列の小さな定数倍を加えてください。")
    return lapack("linalg.cholesky", reason, fix, xp, xp.linalg.cholesky, _evened(input))


@autocasts("float32")
def linalg_cholesky(A: Any, *, upper: bool = False) -> Any:
    """Cholesky factor L, lower triangular with A = L Lᵀ (or with ``upper`` U = Lᵀ), of symmetric positive definite matrices (..., n, n),
    of which one triangle is read (``torch.linalg.cholesky``).

    Raises LinAlgError for a matrix that is not positive definite. The gradient is symmetric (Murray 2016, eq. 10).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.cholesky(tg.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    check_matrices("linalg.cholesky", A)
    made = _cholesky(_from_triangle(mT(A) if upper else A, True))
    return mT(made) if upper else made


@autocasts("float32")
def cholesky(input: Any, upper: bool = False) -> Any:
    """The same as ``linalg.cholesky``."""
    return linalg_cholesky(input, upper=upper)


def _eigh_vjp(g: Any, y: Any) -> Any:
    vectors, values = y[..., :-1, :], y[..., -1, :]
    gap = unsqueeze(values, -2) - unsqueeze(values, -1)
    # vectors of one eigenvalue may turn among themselves: a loss that does not see that has no gradient there
    turns = matmul(mT(vectors), g[..., :-1, :]) / _where(eq(gap, 0), math.inf, gap)
    whole = matmul(vectors, matmul(turns + diag_embed(g[..., -1, :]), mT(vectors)))
    return (whole + mT(whole)) / 2


@primitive(
    _eigh_vjp,
    cases=_symmetric_case,
    unsupported=NO_HALF,
    syncs=WAITS,
    points=[Point(([[3.0, 0.0], [0.0, 3.0]],), ([[1.0, 0.0], [0.0, 1.0]],))],
)
def _eigh(xp: Any, input: Array) -> Array:
    """Eigenvectors V as columns and the eigenvalues w, in ascending order, as one more row.

    dA = V (Vᵀ gV / (w_j - w_i) + diag gw) Vᵀ, made symmetric; where w_i = w_j the quotient counts as 0.
    """
    values, vectors = lapack("linalg.eigh", _NOT_CONVERGED, _CHECK_FINITE, xp, xp.linalg.eigh, _evened(input))
    return xp.concatenate([vectors, values[..., None, :]], -2)


def _eigvalsh_vjp(g: Any, input: Any) -> Any:
    vectors = _eigh(input)[..., :-1, :]
    return matmul(vectors * unsqueeze(g, -2), mT(vectors))


@primitive(
    _eigvalsh_vjp,
    cases=_symmetric_case,
    unsupported=NO_HALF,
    syncs=WAITS,
    points=[Point(([[3.0, 0.0], [0.0, 3.0]],), ([[1.0, 0.0], [0.0, 1.0]],))],
)
def _eigvalsh(xp: Any, input: Array) -> Array:
    """Eigenvalues alone, in ascending order; dA = V diag(g) Vᵀ, for which the backward computes V."""
    return lapack("linalg.eigvalsh", _NOT_CONVERGED, _CHECK_FINITE, xp, xp.linalg.eigvalsh, _evened(input))


def _symmetric(op: str, A: Any, UPLO: str) -> Any:
    """The symmetric matrix that one triangle stands for."""
    check_matrices(op, A)
    if UPLO not in ("L", "U", "l", "u"):
        rule = ("'L' or 'U', the triangle that is read", "'L' か 'U' (読む三角部分)")
        fix = ("UPLO='L'.", "UPLO='L' としてください。")
        raise error("TG-A001", op=op, argument="UPLO", value=repr(UPLO), rule=rule, fix=fix)
    return _from_triangle(A if UPLO in "Ll" else mT(A), True)


@autocasts("float32")
def eigh(A: Any, UPLO: str = "L") -> Eigen:
    """Eigenvalues (..., n) in ascending order and eigenvectors (..., n, n), as columns, of symmetric matrices, of which the triangle
    ``UPLO`` is read (``torch.linalg.eigh``).

    The gradient is symmetric (Giles 2008, 3.1). It is not finite in theory where eigenvalues coincide and the loss tells their vectors
    apart; here the part that would be infinite counts as 0.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.eigh(tg.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    made = _eigh(_symmetric("linalg.eigh", A, UPLO))
    return Eigen(made[..., -1, :], made[..., :-1, :])


@autocasts("float32")
def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues of symmetric matrices, in ascending order; the gradient is right for equal eigenvalues too.

    dA = V diag(g) Vᵀ.
    """
    return _eigvalsh(_symmetric("linalg.eigvalsh", A, UPLO))


# ---- orthogonal and triangular -------------------------------------------------------------------


def _tall_case(pick: Any) -> Any:
    n = pick.integer(0, 3)
    return (well_conditioned(pick, n + pick.integer(0, 2), n),), {}


def _qr_vjp(g: Any, y: Any, shape: tuple[int, ...]) -> Any:
    rows = shape[-2]
    q, r = y[..., :rows, :], mT(y[..., rows:, :])
    gq, gr = g[..., :rows, :], mT(g[..., rows:, :])
    inside = tril(matmul(r, mT(gr)) - matmul(mT(gq), q))
    inside = inside + mT(tril(inside, -1))
    return mT(_solve_triangular(r, mT(gq + matmul(q, inside)), True))


@primitive(_qr_vjp, cases=_tall_case, unsupported=NO_HALF)
def _qr(xp: Any, input: Array) -> Array:
    """Q, and below it Rᵀ, of matrices with at least as many rows as columns.

    dA = (gQ + Q M) R⁻ᵀ, M the symmetric matrix with the lower triangle of R gRᵀ - gQᵀ Q (Walter and Lehmann 2010).
    """
    q, r = xp.linalg.qr(input)
    return xp.concatenate([q, r.swapaxes(-1, -2)], -2)


def undetermined(g: Any, input: Any) -> Any:
    """The input; an error if there is a gradient of vectors that it does not determine."""
    if g.shape[-1]:
        fix = ("use mode='reduced'.", "mode='reduced' を使ってください。")
        reason = (
            "the vectors that complete Q are not determined by the matrix, so they have no gradient",
            "Q を補う列ベクトルは行列から一意に決まらないので、勾配がありません",
        )
        raise error("TG-A003", op="linalg.qr", reason=reason, fix=fix)
    return input


@primitive(lambda g, input: zeros_like(undetermined(g, input)), cases=square_case, unsupported=NO_HALF)
def _complement(xp: Any, input: Array) -> Array:
    """Orthonormal columns, as many as are missing, that complete those of the input to a square orthogonal matrix."""
    return xp.linalg.qr(input, "complete")[0][..., input.shape[-1] :]


@autocasts("float32")
def qr(A: Any, mode: str = "reduced") -> QR:
    """A = Q R with orthonormal columns in Q and an upper triangular R, for (..., m, n) (``torch.linalg.qr``).

    mode: "reduced", Q (m, k) and R (k, n) with k = min(m, n); "complete", Q (m, m) and R (m, n), whose gradient raises for m > n; "r", an
    empty Q and R alone, which here has a gradient. The signs are LAPACK's.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.qr(tg.tensor([[3.0], [4.0]])).R
    tensor([[-5.]])
    """
    check_matrices("linalg.qr", A, square=False)
    if mode not in ("reduced", "complete", "r"):
        rule: Phrase = ("'reduced', 'complete' or 'r'", "'reduced'、'complete'、'r' のどれか")
        fix = ("mode='reduced'.", "mode='reduced' としてください。")
        raise error("TG-A001", op="linalg.qr", argument="mode", value=repr(mode), rule=rule, fix=fix)
    rows, columns = A.shape[-2:]
    made = _qr(A[..., :rows] if columns > rows else A)
    q, r = made[..., :rows, :], mT(made[..., rows:, :])
    if columns > rows:  # the columns that Q does not come from
        r = cat([r, matmul(mT(q), A[..., rows:])], -1)
    if mode == "complete" and rows > columns:
        q = cat([q, _complement(q)], -1)
        r = constant_pad_nd(r, (0, 0, 0, rows - columns))
    return QR(_reshape(q[..., :0], (0,)), r) if mode == "r" else QR(q, r)


# ---- singular values -----------------------------------------------------------------------------


def _any_case(pick: Any) -> Any:
    return (well_conditioned(pick, pick.integer(0, 4), pick.integer(0, 4)),), {}


def _svd_vjp(g: Any, y: Any, shape: tuple[int, ...]) -> Any:
    m, n = shape[-2:]
    u, s, v = y[..., :m, :], y[..., m, :], y[..., m + 1 :, :]
    gu, gs, gv = g[..., :m, :], g[..., m, :], g[..., m + 1 :, :]
    row, column = unsqueeze(s, -2), unsqueeze(s, -1)
    gap = (row - column) * (row + column)
    gap = _where(eq(gap, 0), math.inf, gap)  # vectors of one value may turn among themselves, as in eigh
    by_u, by_v = matmul(mT(u), gu), matmul(mT(v), gv)
    inside = (by_u - mT(by_u)) / gap * row + column * (by_v - mT(by_v)) / gap + diag_embed(gs)
    made = matmul(u, inside)
    large = _where(eq(row, 0), math.inf, row)
    if m > n:
        made = made + (gu - matmul(u, by_u)) / large
    made = matmul(made, mT(v))
    if n > m:
        made = made + matmul(u, mT((gv - matmul(v, by_v)) / large))
    return made


@primitive(_svd_vjp, cases=_any_case, unsupported=NO_HALF, syncs=WAITS, points=[Point(([[0.0], [0.0]],), ([[1.0], [0.0]],))])
def _svd(xp: Any, input: Array) -> Array:
    """U, the singular values s as one row, and V below each other, min(m, n) columns.

    dA = U (((Uᵀ gU - gUᵀ U) / E) S + S ((Vᵀ gV - gVᵀ V) / E) + diag gs) Vᵀ + (1 - U Uᵀ) gU S⁻¹ Vᵀ + U S⁻¹ gVᵀ (1 - V Vᵀ) with
    E_ij = s_j² - s_i² (Townsend 2016); a quotient by 0 counts as 0.
    """
    u, s, vt = lapack("linalg.svd", _NOT_CONVERGED, _CHECK_FINITE, xp, lambda a: xp.linalg.svd(a, False), input)
    return xp.concatenate([u, s[..., None, :], vt.swapaxes(-1, -2)], -2)


def _svdvals_vjp(g: Any, input: Any, shape: tuple[int, ...]) -> Any:
    made = _svd(input)
    m = shape[-2]
    return matmul(made[..., :m, :] * unsqueeze(g, -2), mT(made[..., m + 1 :, :]))


@primitive(
    _svdvals_vjp,
    cases=_any_case,
    unsupported=NO_HALF,
    syncs=WAITS,
    points=[Point(([[3.0, 0.0], [0.0, 3.0]],), ([[1.0, 0.0], [0.0, 1.0]],)), Point(([[2.0, 0.0]],), ([[1.0, 0.0]],))],
)
def _svdvals(xp: Any, input: Array) -> Array:
    """Singular values alone, in descending order; dA = U diag(g) Vᵀ, for which the backward computes U and V."""
    return lapack("linalg.svdvals", _NOT_CONVERGED, _CHECK_FINITE, xp, lambda a: xp.linalg.svd(a, False, False), input)


@autocasts("float32")
def svd(A: Any, full_matrices: bool = True) -> SVD:
    """A = U diag(S) Vh with singular values S in descending order, for (..., m, n) (``torch.linalg.svd``).

    full_matrices: U (m, m) and Vh (n, n); otherwise U (m, k) and Vh (k, n), k = min(m, n). The vectors behind the first k have no gradient.
    The gradient needs different singular values unless the loss does not tell their vectors apart (Townsend 2016).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.svd(tg.tensor([[0.0, 2.0], [3.0, 0.0]])).S
    tensor([3., 2.])
    """
    check_matrices("linalg.svd", A, square=False)
    m, n = A.shape[-2:]
    made = _svd(A)
    u, s, v = made[..., :m, :], made[..., m, :], made[..., m + 1 :, :]
    if full_matrices and m > n:
        u = cat([u, _complement(detached(u))], -1)
    if full_matrices and n > m:
        v = cat([v, _complement(detached(v))], -1)
    return SVD(u, s, mT(v))


def detached(x: Any) -> Any:
    """The value without history."""
    return x.detach() if hasattr(x, "detach") else x


@autocasts("float32")
def svdvals(A: Any) -> Any:
    """Singular values (..., min(m, n)) in descending order; the gradient U diag(g) Vᵀ is right for equal ones too."""
    check_matrices("linalg.svdvals", A, square=False)
    return _svdvals(A)


# ---- rank and pseudo-inverse ---------------------------------------------------------------------


def _tolerance(shape: tuple[int, ...], dtype: Any, atol: float | None, rtol: float | None) -> tuple[float, float]:
    """PyTorch's defaults: relative, eps times the larger size, unless an absolute one is given."""
    if rtol is None:
        rtol = max(shape[-2:]) * float(np.finfo(dtype).eps) if not atol else 0.0
    return 0.0 if atol is None else atol, rtol


@autocasts("float32")
def matrix_rank(
    A: Any, tol: float | None = None, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Any:
    """Number of singular values above max(atol, rtol · the largest one); int64 (``torch.linalg.matrix_rank``).

    rtol is eps · max(m, n) unless it or ``atol`` (or ``tol``, its older name) is given.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.matrix_rank(tg.tensor([[1.0, 2.0], [2.0, 4.0]]))
    tensor(1)
    """
    check_matrices("linalg.matrix_rank", A, square=hermitian)
    atol, rtol = _tolerance(A.shape, A.dtype, tol if atol is None else atol, rtol)
    values = _svdvals(detached(A))
    return sum(values > _where(values[..., :1] * rtol > atol, values[..., :1] * rtol, atol), -1)


def _pinv_vjp(g: Any, input: Any, y: Any) -> Any:
    gt, yt = mT(g), mT(y)
    outside = gt - matmul(input, matmul(y, gt))
    inside = gt - matmul(gt, matmul(y, input))
    return matmul(outside, matmul(y, yt)) + matmul(yt, matmul(y, inside)) - matmul(yt, matmul(g, yt))


@primitive(
    _pinv_vjp,
    cases=_any_case,
    unsupported=NO_HALF,
    syncs=WAITS,
    points=[Point(([[2.0, 0.0], [0.0, 0.0]],), ([[-0.25, 0.25], [0.25, 0.0]],))],
)
def _pinv(xp: Any, input: Array, atol: float = 0.0, rtol: float = 1e-15) -> Array:
    """P = V s⁺ Uᵀ; dA = (1 - A P) gᵀ P Pᵀ + Pᵀ P gᵀ (1 - P A) - Pᵀ g Pᵀ, while the rank stays as it is (Golub and Pereyra 1973)."""
    u, s, vt = lapack("linalg.pinv", _NOT_CONVERGED, _CHECK_FINITE, xp, lambda a: xp.linalg.svd(a, False), input)
    kept = s > xp.maximum(s[..., :1] * rtol, atol)
    inverse = xp.where(kept, 1 / xp.where(kept, s, 1), 0)
    return xp.matmul(vt.swapaxes(-1, -2) * inverse[..., None, :], u.swapaxes(-1, -2))


@autocasts("float32")
def pinv(
    A: Any, rcond: float | None = None, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Any:
    """Pseudo-inverse (Moore and Penrose), (..., m, n) -> (..., n, m) (``torch.linalg.pinv``).

    Singular values up to max(atol, rtol · the largest one) count as 0; rtol is eps · max(m, n) unless it or ``atol`` is given (``rcond`` is
    its older name). ``hermitian`` says that A is symmetric; the result is the same.

    dA = (1 - A P) gᵀ P Pᵀ + Pᵀ P gᵀ (1 - P A) - Pᵀ g Pᵀ, right while the rank stays the same.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.pinv(tg.tensor([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[0.5, 0. ],
            [0. , 0. ]])
    """
    check_matrices("linalg.pinv", A, square=hermitian)
    return _pinv(A, *_tolerance(A.shape, A.dtype, atol, rcond if rtol is None else rtol))


@autocasts("float32")
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """The same as ``linalg.pinv``, with another default: singular values up to ``rcond`` times the largest count as 0."""
    return pinv(input, rtol=rcond)


attach(cholesky, pinverse)
