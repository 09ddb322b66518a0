"""Convolutions with a single place, the kernel as large as the image: one matrix product, with nothing laid out anew.

So end networks whose last images are as large as a kernel, and so begin generators that make images of vectors. With x the whole image, w the
whole kernel and y one number for each output:

    convolution    y = W x        transposed    x = Wᵀ y        gradient of the weight    Σ_n y_n x_nᵀ
"""

from __future__ import annotations

import math

import numpy as np

from ..ops.unfold import Sizes


def is_one_place(kernel: Sizes, large: Sizes, small: Sizes, stride: Sizes, before: Sizes, dilation: Sizes) -> bool:
    """Whether ``small`` is the one place at which the kernel lies on an image of the size ``large``."""
    return kernel == large and max(small) == max(dilation) == 1 and not any(before)


def convolution(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, size: Sizes) -> np.ndarray:
    """``weight`` (groups, outputs, channels, *kernel); its dtype is that of the product."""
    groups, outputs = weight.shape[:2]
    made = _rows(input, groups, weight.dtype) @ weight.reshape(groups, outputs, math.prod(weight.shape[2:])).swapaxes(1, 2)
    return _finish(made, (len(input), groups * outputs, *size), bias, input.dtype)


def transposed(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, size: Sizes) -> np.ndarray:
    """``weight`` (groups, channels, outputs, *kernel); its dtype is that of the product."""
    groups, channels, outputs = weight.shape[:3]
    made = _rows(input, groups, weight.dtype) @ weight.reshape(groups, channels, math.prod(weight.shape[2:]))
    return _finish(made, (len(input), groups * outputs, *size), bias, input.dtype)


def gradient_of_weight(input: np.ndarray, other: np.ndarray, kernel: Sizes, groups: int, dtype: np.dtype) -> np.ndarray:
    """(groups·outputs, channels, *kernel) from images and the gradients of their places."""
    made = _rows(other, groups, dtype).swapaxes(1, 2) @ _rows(input, groups, dtype)
    return made.reshape(other.shape[1], input.shape[1] // groups, *kernel).astype(input.dtype, copy=False)


def _rows(array: np.ndarray, groups: int, dtype: np.dtype) -> np.ndarray:
    """(groups, N, all numbers of an image in the group)."""
    return array.astype(dtype, copy=False).reshape(len(array), groups, math.prod(array.shape[1:]) // groups).swapaxes(0, 1)


def _finish(made: np.ndarray, shape: Sizes, bias: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    images = made.swapaxes(0, 1).reshape(shape)
    if bias is not None:
        images += bias.reshape(-1, *[1] * (len(shape) - 2))
    return images.astype(dtype, copy=False)
