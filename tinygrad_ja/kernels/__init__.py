"""Faster kernels of operators per array type. They may only override what ``ops/`` defines."""

from . import numpy_elementwise, numpy_indexing, numpy_linalg, numpy_loss, numpy_reduce, numpy_shape, numpy_softmax

__all__ = ["numpy_elementwise", "numpy_indexing", "numpy_linalg", "numpy_loss", "numpy_reduce", "numpy_shape", "numpy_softmax"]
