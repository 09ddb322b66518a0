"""Layers with hand-written forward and backward in plain NumPy, as textbooks derive them.

Nothing here uses the framework, and nothing in the framework uses this: it is for reading beside it. Each layer has two twins, the same
composed of plain operators (``tinygrad_ja.textbook.composite``), whose backward is the tape's, and the framework's own fused operator. The
tests prove all three equal in values and gradients.

>>> import numpy as np
>>> from tinygrad_ja.textbook import Affine
>>> layer = Affine(weight=np.ones((1, 2)), bias=np.zeros(1))
>>> y = layer.forward(np.array([[1.0, 2.0]]))
>>> dx = layer.backward(np.ones_like(y))
>>> y, dx, layer.grads["weight"]
(array([[3.]]), array([[1., 1.]]), array([[1., 2.]]))
"""

from .affine import Affine
from .attention import AdditiveAttention, DotAttention, MultiHeadAttention
from .convolution import Convolution, MaxPooling, col2im, im2col
from .embedding import Embedding
from .layer import Layer
from .loss import NegativeSampling, SoftmaxCrossEntropy
from .normalization import BatchNorm, LayerNorm
from .recurrent import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Affine",
    "BatchNorm",
    "Convolution",
    "DotAttention",
    "Embedding",
    "Layer",
    "LayerNorm",
    "MaxPooling",
    "MultiHeadAttention",
    "NegativeSampling",
    "SoftmaxCrossEntropy",
    "col2im",
    "im2col",
]
