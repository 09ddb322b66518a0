"""Faster NumPy texts of products: ``a.dot(b)`` costs half of ``np.matmul`` for small matrices, and takes transposed views as they are.
Half precision is multiplied in single, for which there is BLAS: a hundred times as fast. Cofactors by an inverse, where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.operator import OPERATORS, kernel
from ..ops.linalg import _einsum, linear, matmul, matmul_nt, matmul_tn
from ..ops.solve import cofactor

cofactors_by_svd = OPERATORS["cofactor"].kernel_for(np)
einsum_as_written = OPERATORS["einsum"].kernel_for(np)

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def _in_single(kernel: Callable[..., Any], *arrays: Any, **options: Any) -> np.ndarray:
    return kernel(*[None if a is None else a.astype(SINGLE) for a in arrays], **options).astype(HALF)


@kernel(matmul, np.ndarray)
def matmul_numpy(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Matrix product."""
    if input.dtype is HALF:
        return _in_single(matmul_numpy, input, other)
    if other.ndim == 2:
        if input.ndim == 2:
            return input.dot(other)
        if input.ndim > 2:
            rows = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
            return rows.dot(other).reshape(input.shape[:-1] + other.shape[1:])
    return np.matmul(input, other)


@kernel(matmul_nt, np.ndarray)
def matmul_nt_numpy(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A Bᵀ."""
    if input.dtype is HALF:
        return _in_single(matmul_nt_numpy, input, other)
    return input.dot(other.T)


@kernel(matmul_tn, np.ndarray)
def matmul_tn_numpy(input: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Aᵀ B."""
    if input.dtype is HALF:
        return _in_single(matmul_tn_numpy, input, other)
    return input.T.dot(other)


@kernel(linear, np.ndarray)
def linear_numpy(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Affine map with the bias added in place."""
    if input.dtype is HALF:
        return _in_single(linear_numpy, input, weight, bias)
    if input.ndim == 2:
        y = input.dot(weight.T)
        if bias is not None:
            y += bias
        return y
    shape = input.shape[:-1] + weight.shape[:1]
    y = input.reshape(math.prod(input.shape[:-1]), input.shape[-1]).dot(weight.T)
    if bias is not None:
        y += bias
    return y.reshape(shape)


@kernel(cofactor, np.ndarray)
def cofactor_numpy(input: np.ndarray) -> np.ndarray:
    """det(A) A⁻ᵀ, a tenth of the work, unless a pivot is exactly 0. Near it, det and inverse have the same small pivot, which cancels."""
    try:
        inverse = np.linalg.inv(input)
    except np.linalg.LinAlgError:
        return cofactors_by_svd(input)
    return np.linalg.det(input)[..., None, None] * inverse.swapaxes(-1, -2)


@kernel(_einsum, np.ndarray)
def einsum_numpy(*operands: np.ndarray, equation: str) -> np.ndarray:
    """Sum of products."""
    if operands[0].dtype is HALF:
        return _in_single(einsum_as_written, *operands, equation=equation)
    return einsum_as_written(*operands, equation=equation)
