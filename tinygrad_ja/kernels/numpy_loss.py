"""Faster NumPy text of cross entropy, with the check of the class indices, which costs nothing on the CPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..core.operator import OPERATORS, backward_kernel, kernel
from ..ops.loss import _cross_entropy, _cross_entropy_backward, check_classes
from .machine_code import run, with_machine_code
from .numpy_reduce import ones
from .numpy_softmax import LARGE, _largest, exponentials, in_blocks_of_rows, row_sums

_general = OPERATORS["cross_entropy"].kernel_for(np)


@kernel(_cross_entropy, np.ndarray)
def cross_entropy_numpy(
    input: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Machine code for many logits, else NumPy's."""
    classes = input.shape[1] if input.ndim > 1 else input.shape[0]
    ignored = check_classes("cross_entropy", target, classes, ignore_index, input.shape)

    usual = functools.partial(_by_numpy, ignored)
    return run(OPERATORS["cross_entropy"], usual, input, target, weight, ignore_index, reduction, label_smoothing)


def _by_numpy(
    ignored: bool,
    input: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Any:
    """``ignored``: whether some targets are. Rows of moderate logits without weights: no maximum is subtracted, and nothing is masked."""
    classes = input.shape[-1]
    plain = input.ndim == 2 and weight is None and not label_smoothing and not ignored
    if not plain or not input.size or input.dtype.char not in "fd" or not input.flags.c_contiguous:
        return _general(input, target, weight, ignore_index, reduction, label_smoothing)
    position = target + _row_starts(input.shape)
    if input.size < LARGE:
        loss, numerators, totals = _of_rows(input, position)
    else:
        loss, totals = np.empty((2, len(input)), input.dtype)
        totals, numerators = totals[:, None], np.empty_like(input)

        def work(part: slice) -> None:
            here = position[part] - part.start * classes
            loss[part], _, totals[part] = _of_rows(input[part], here, numerators[part])

        in_blocks_of_rows(work, input)
    if reduction != "none":
        loss = loss.dot(ones(loss.size, loss.dtype))
        if reduction == "mean":
            loss /= input.shape[0]
    return loss, numerators, totals, None, None, position


def _of_rows(x: np.ndarray, position: np.ndarray, out: np.ndarray | None = None) -> tuple[Any, Any, Any]:
    """Loss of each row, exponentials and their sums."""
    numerators, totals = exponentials(x, 8.0, 1e-2, out)
    if numerators is None:
        x = x - _largest(x, 1, None, None, True)
        numerators = np.exp(x, out)
        totals = row_sums(numerators)
    loss = np.log(totals).ravel()
    loss -= x.ravel().take(position)
    return loss, numerators, totals


@backward_kernel(_cross_entropy, np.ndarray)
def cross_entropy_backward_numpy(
    g: Any,
    input: np.ndarray,
    weight: np.ndarray | None,
    reduction: str,
    label_smoothing: float,
    numerators: np.ndarray,
    totals: np.ndarray,
    scale: Any,
    valid: Any,
    position: np.ndarray,
) -> tuple[Any]:
    """dx = (softmax(x) - onehot) g in threads, where nothing is weighted, smoothed or ignored."""
    if scale is not None or label_smoothing or numerators.size < LARGE or input.dtype is not numerators.dtype:
        return _cross_entropy_backward(
            np, g, input, weight, reduction, label_smoothing, numerators, totals, scale, valid, position
        )
    strength = g / len(numerators) if reduction == "mean" else g.reshape(-1, 1) if reduction == "none" else g
    factor, made = strength / totals, np.empty_like(numerators)
    in_blocks_of_rows(lambda part: np.multiply(numerators[part], factor[part], made[part]), made)
    made.reshape(-1)[position] -= strength.reshape(-1)
    return (made,)


def _row_starts(shape: tuple[int, ...]) -> np.ndarray:
    """Flat position of the first element of each row."""
    return np.arange(0, shape[0] * shape[1], shape[1])


with_machine_code(_cross_entropy, forward=False)
