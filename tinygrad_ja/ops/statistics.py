"""Sums and means that leave NaN out, covariance and correlation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..errors import Phrase, error
from .arithmetic import sqrt
from .comparison import _where, isnan, logical_not
from .conversion import _cast
from .diagonal import diagonal
from .linalg import matmul
from .methods import attach
from .piecewise import clamp
from .reduce import floating, sum
from .shape import _reshape, squeeze, transpose, unsqueeze

__all__ = ["corrcoef", "cov", "nanmean", "nansum"]


def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over ``dim`` (int, tuple, or None for all axes) in which NaN counts as 0. dy/dx = 1, and 0 at NaN.

    >>> import tinygrad_ja as tg
    >>> tg.nansum(tg.tensor([1.0, float("nan"), 2.0]))
    tensor(3.)
    """
    if input.dtype.kind == "f":
        input = _where(isnan(input), 0.0, input)
    return sum(input, dim, keepdim, dtype=dtype)


def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Mean over ``dim`` (int, tuple, or None for all axes) of the elements that are not NaN; NaN where there is none.

    Raises DtypeError for integers.

    >>> import tinygrad_ja as tg
    >>> tg.nanmean(tg.tensor([1.0, float("nan"), 2.0]))
    tensor(1.5)
    """
    if input.dtype.kind != "f":
        allowed = ("a floating dtype", "浮動小数点の dtype")
        raise error("TG-T004", op="nanmean", dtype=input.dtype, allowed=allowed, fix="tg.float32")
    count = sum(logical_not(isnan(input)), dim, keepdim)
    total = nansum(input, dim, keepdim, dtype=dtype)
    return total / _cast(count, total.dtype)


# ---- covariance ----------------------------------------------------------------------------------


def _weights(name: str, weights: Any, samples: Any, kinds: str, dtype: Phrase) -> Any:
    if weights.dtype.kind not in kinds:
        raise error("TG-T004", op="cov", dtype=weights.dtype, allowed=dtype, fix="tg.int64" if "i" in kinds else "tg.float32")
    if tuple(weights.shape) != (samples.shape[-1],):
        rule = (f"{name} has one number for each sample", f"{name} は標本ごとに数が 1 つ")
        shapes = f"input {tuple(samples.shape)}, {name} {tuple(weights.shape)}"
        fix = (f"give it the shape ({samples.shape[-1]},).", f"形状を ({samples.shape[-1]},) にしてください。")
        raise error("TG-S002", op="cov", rule=rule, shapes=shapes, fix=fix)
    array = getattr(weights, "array", weights)
    if type(array) is np.ndarray and array.size and array.min() < 0:  # a GPU would have to be waited for
        fix = ("drop such samples.", "その標本を除いてください。")
        raise error(
            "TG-A001", op="cov", argument=name, value=array.min(), rule=("no weight is negative", "重みは 0 以上"), fix=fix
        )
    return weights


def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """Covariance matrix of variables in the rows of ``input`` (variables, samples), or the variance of a 1-d input, 0-d.

    correction: what is taken from the number of samples in the divisor. fweights: how often each sample counts, integers.
    aweights: how much it counts, floats. C = Σ_k w_k (x_k - m)(x_k - m)ᵀ / (Σ w - correction), where with aweights the correction is
    multiplied by Σ w a / Σ w. Raises ShapeError for more than 2 axes.

    >>> import tinygrad_ja as tg
    >>> tg.cov(tg.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if input.ndim > 2:
        fix = ("reshape it to a matrix.", "行列に reshape してください。")
        rule = ("(variables, samples)", "(変数、標本)")
        raise error("TG-S002", op="cov", rule=rule, shapes=str(tuple(input.shape)), fix=fix)
    samples = floating(input) if input.ndim == 2 else _reshape(floating(input), (1, -1))
    weight: Any = None
    if fweights is not None:
        weight = _cast(_weights("fweights", fweights, samples, "iu", ("an integer dtype", "整数の dtype")), samples.dtype)
    if aweights is not None:
        aweights = _weights("aweights", aweights, samples, "f", ("a floating dtype", "浮動小数点の dtype"))
        weight = aweights if weight is None else weight * aweights
    count = samples.shape[-1] if weight is None else sum(weight)
    divisor: Any = count - correction
    if aweights is not None and correction:
        divisor = count - correction * sum(weight * aweights) / count
    if weight is None and divisor <= 0:
        warnings.warn("cov: no degree of freedom is left (samples <= correction)", RuntimeWarning, stacklevel=2)
    deviation = samples - sum(samples if weight is None else samples * weight, -1, True) / count
    product = matmul(deviation if weight is None else deviation * weight, transpose(deviation, 0, 1))
    return squeeze(product / (max(divisor, 0.0) if weight is None else clamp(divisor, 0.0)))


def corrcoef(input: Any) -> Any:
    """Correlation matrix (Pearson) of variables in the rows of ``input`` (variables, samples); 1 for a 1-d input.

    R_ij = C_ij / sqrt(C_ii C_jj), clipped to [-1, 1].

    >>> import tinygrad_ja as tg
    >>> tg.corrcoef(tg.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    covariance = cov(input)
    if not covariance.ndim:
        return covariance / covariance
    scale = sqrt(diagonal(covariance))
    return clamp(covariance / unsqueeze(scale, 1) / unsqueeze(scale, 0), -1.0, 1.0)


attach(corrcoef, cov, nanmean, nansum)
