"""Faster kernels of operators per array type. They may only override what ``ops/`` defines."""

from . import (
    numpy_attention,
    numpy_conv,
    numpy_elementwise,
    numpy_indexing,
    numpy_linalg,
    numpy_loss,
    numpy_normalization,
    numpy_order,
    numpy_pool,
    numpy_reduce,
    numpy_resample,
    numpy_scan,
    numpy_shape,
    numpy_softmax,
)

__all__ = [
    "numpy_attention",
    "numpy_conv",
    "numpy_elementwise",
    "numpy_indexing",
    "numpy_linalg",
    "numpy_loss",
    "numpy_normalization",
    "numpy_order",
    "numpy_pool",
    "numpy_reduce",
    "numpy_resample",
    "numpy_scan",
    "numpy_shape",
    "numpy_softmax",
]
