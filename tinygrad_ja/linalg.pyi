"""Signatures of ``tinygrad_ja.linalg``. Written by ``python -m tinygrad_ja stubs``."""

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .backend.devices import Device as Device
from .backend.random import Generator as Generator
from .core.tensor import Tensor as Tensor
from .errors import LinAlgError as LinAlgError


class _Eigen(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor

class _QR(NamedTuple):
    Q: Tensor
    R: Tensor

class _SVD(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor

class _SignAndLog(NamedTuple):
    sign: Tensor
    logabsdet: Tensor

def cholesky(A: Any, *, upper: builtins.bool = False) -> Tensor:
    """Cholesky factor L, lower triangular with A = L Lᵀ (or with ``upper`` U = Lᵀ), of symmetric positive definite matrices (..., n, n),"""
    ...
def cross(input: Any, other: Any, *, dim: builtins.int = -1) -> Tensor:
    """Vector product along ``dim``, an axis of size 3; the other axes broadcast (``torch.linalg.cross``)."""
    ...
def det(A: Any) -> Tensor:
    """Determinants of square matrices (..., n, n) -> (...)."""
    ...
def diagonal(A: Any, *, offset: builtins.int = 0, dim1: builtins.int = -2, dim2: builtins.int = -1) -> Tensor:
    """Diagonals of matrices as the last axis (``torch.linalg.diagonal``)."""
    ...
def eigh(A: Any, UPLO: builtins.str = 'L') -> _Eigen:
    """Eigenvalues (..., n) in ascending order and eigenvectors (..., n, n), as columns, of symmetric matrices, of which the triangle"""
    ...
def eigvalsh(A: Any, UPLO: builtins.str = 'L') -> Tensor:
    """Eigenvalues of symmetric matrices, in ascending order; the gradient is right for equal eigenvalues too."""
    ...
def inv(A: Any) -> Tensor:
    """Inverse of square matrices (..., n, n). Raises LinAlgError for a singular one; prefer ``linalg.solve`` to a product with it."""
    ...
def matmul(input: Tensor | Any, other: Tensor | Any) -> Tensor:
    """Matrix product ``input @ other``. A 1-D operand is a row (left) or column (right) vector and loses that axis in the result;"""
    ...
def matrix_exp(input: Any) -> Tensor:
    """Exponentials of square matrices, Σ Aᵏ / k!, by scaling and squaring with a Padé approximant (Higham 2005)."""
    ...
def matrix_norm(A: Any, ord: Any = 'fro', dim: Any = (-2, -1), keepdim: builtins.bool = False, *, dtype: Any = None) -> Tensor:
    """Norm of matrices, as ``torch.linalg.matrix_norm``: "fro"; "nuc", 2 and -2, the sum, the largest and the smallest of the singular"""
    ...
def matrix_power(input: Any, n: builtins.int) -> Tensor:
    """The product of n equal square matrices, by repeated squaring; of inverses for n < 0, the identity for 0."""
    ...
def matrix_rank(A: Any, tol: builtins.float | None = None, *, atol: builtins.float | None = None, rtol: builtins.float | None = None, hermitian: builtins.bool = False) -> Tensor:
    """Number of singular values above max(atol, rtol · the largest one); int64 (``torch.linalg.matrix_rank``)."""
    ...
def multi_dot(tensors: Sequence[Any]) -> Tensor:
    """Product of two or more matrices in the order of multiplications that costs least (``torch.linalg.multi_dot``). The first and the"""
    ...
def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: builtins.bool = False, *, dtype: Any = None) -> Tensor:
    """Vector or matrix norm, as ``torch.linalg.norm``: without ``ord`` the 2-norm of all elements over ``dim``; with it a matrix norm for"""
    ...
def pinv(A: Any, rcond: builtins.float | None = None, *, atol: builtins.float | None = None, rtol: builtins.float | None = None, hermitian: builtins.bool = False) -> Tensor:
    """Pseudo-inverse (Moore and Penrose), (..., m, n) -> (..., n, m) (``torch.linalg.pinv``)."""
    ...
def qr(A: Any, mode: builtins.str = 'reduced') -> _QR:
    """A = Q R with orthonormal columns in Q and an upper triangular R, for (..., m, n) (``torch.linalg.qr``)."""
    ...
def slogdet(A: Any) -> _SignAndLog:
    """``(sign, logabsdet)`` of determinants, which may be too large or too small for a float: (0, -inf) for a singular matrix."""
    ...
def solve(A: Any, B: Any, *, left: builtins.bool = True) -> Tensor:
    """X with A X = B (or X A = B with ``left=False``); leading axes are stacks that broadcast (``torch.linalg.solve``)."""
    ...
def solve_triangular(A: Any, B: Any, *, upper: builtins.bool, left: builtins.bool = True, unitriangular: builtins.bool = False) -> Tensor:
    """X with A X = B (or X A = B with ``left=False``) for triangular matrices, of which the other triangle, and with ``unitriangular``"""
    ...
def svd(A: Any, full_matrices: builtins.bool = True) -> _SVD:
    """A = U diag(S) Vh with singular values S in descending order, for (..., m, n) (``torch.linalg.svd``)."""
    ...
def svdvals(A: Any) -> Tensor:
    """Singular values (..., min(m, n)) in descending order; the gradient U diag(g) Vᵀ is right for equal ones too."""
    ...
def vecdot(x: Any, y: Any, *, dim: builtins.int = -1) -> Tensor:
    """Inner products of vectors along ``dim``; the other axes broadcast (``torch.linalg.vecdot``)."""
    ...
def vector_norm(x: Any, ord: builtins.float = 2, dim: Any = None, keepdim: builtins.bool = False, *, dtype: Any = None) -> Tensor:
    """Norm of the elements over ``dim``, as ``torch.linalg.vector_norm``: (sum |x|^ord)^(1/ord), ±inf and 0 included."""
    ...
