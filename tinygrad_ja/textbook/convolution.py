"""Convolution and max pooling by im2col: every window becomes a row of a matrix."""

from __future__ import annotations

import numpy as np

from .layer import Layer


def im2col(x: np.ndarray, height: int, width: int, stride: int = 1, pad: int = 0) -> np.ndarray:
    """Windows of images (N, C, H, W) as rows: (N·OH·OW, C·height·width).

    >>> import numpy as np
    >>> im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2, 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    n, c, h, w = x.shape
    oh, ow = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    columns = np.empty((n, c, height, width, oh, ow), x.dtype)
    for i in range(height):
        for j in range(width):
            columns[:, :, i, j] = x[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
    return columns.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(columns: np.ndarray, shape: tuple[int, ...], height: int, width: int, stride: int = 1, pad: int = 0) -> np.ndarray:
    """The transpose of ``im2col``: each value is added to the pixel it came from. shape: of the images."""
    n, c, h, w = shape
    oh, ow = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    windows = columns.reshape(n, oh, ow, c, height, width).transpose(0, 3, 4, 5, 1, 2)
    x = np.zeros((n, c, h + 2 * pad, w + 2 * pad), columns.dtype)
    for i in range(height):
        for j in range(width):
            x[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride] += windows[:, :, i, j]
    return x[:, :, pad : pad + h, pad : pad + w]


class Convolution(Layer):
    """y[n, m] = b_m + Σ_c x[n, c] ⋆ W[m, c]. Framework: ``tg.nn.functional.conv2d``, ``tg.nn.Conv2d``.

    weight: (M, C, FH, FW). bias: (M,). x: (N, C, H, W); y: (N, M, OH, OW) with OH = (H + 2 pad - FH) // stride + 1.
    As a matrix product Y = K Wᵀ + b of the windows K, so backward is that of an affine layer, and ``col2im``.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray, stride: int = 1, pad: int = 0) -> None:
        super().__init__(weight=weight, bias=bias)
        self.stride, self.pad = stride, pad

    def forward(self, x: np.ndarray) -> np.ndarray:
        weight = self.params["weight"]
        m, _, fh, fw = weight.shape
        n, _, h, w = self.shape = x.shape
        oh, ow = (h + 2 * self.pad - fh) // self.stride + 1, (w + 2 * self.pad - fw) // self.stride + 1
        self.columns = im2col(x, fh, fw, self.stride, self.pad)
        y = self.columns @ weight.reshape(m, -1).T + self.params["bias"]
        return y.reshape(n, oh, ow, m).transpose(0, 3, 1, 2)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        weight = self.params["weight"]
        m, _, fh, fw = weight.shape
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, m)
        self.grads["weight"] = (rows.T @ self.columns).reshape(weight.shape)
        self.grads["bias"] = rows.sum(axis=0)
        return col2im(rows @ weight.reshape(m, -1), self.shape, fh, fw, self.stride, self.pad)


class MaxPooling(Layer):
    """The largest value of each window. Framework: ``tg.nn.functional.max_pool2d``, ``tg.nn.MaxPool2d``.

    x: (N, C, H, W); y: (N, C, OH, OW). Backward: dy goes to the place of the (first) largest value, nothing to the others.
    """

    def __init__(self, size: int, stride: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, size if stride is None else stride

    def forward(self, x: np.ndarray) -> np.ndarray:
        n, c, h, w = self.shape = x.shape
        oh, ow = (h - self.size) // self.stride + 1, (w - self.size) // self.stride + 1
        windows = im2col(x, self.size, self.size, self.stride).reshape(n, oh, ow, c, self.size**2)
        self.largest = windows.argmax(axis=-1)
        return windows.max(axis=-1).transpose(0, 3, 1, 2)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        windows = np.zeros((*self.largest.shape, self.size**2), dy.dtype)
        np.put_along_axis(windows, self.largest[..., None], dy.transpose(0, 2, 3, 1)[..., None], axis=-1)
        rows = windows.reshape(-1, self.shape[1] * self.size**2)
        return col2im(rows, self.shape, self.size, self.size, self.stride)
