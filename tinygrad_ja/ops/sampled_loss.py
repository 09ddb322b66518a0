"""Losses over large vocabularies that look at a few words only: negative sampling and hierarchical softmax.

Mikolov, Sutskever, Chen, Corrado and Dean, 2013, "Distributed representations of words and phrases and their compositionality".
"""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from ..errors import Phrase, error, joined
from .activation import logsigmoid
from .bag import embedding
from .linalg import matmul
from .loss import raw, reduced, reduction_of
from .reduce import sum
from .shape import squeeze, unsqueeze

__all__ = ["hierarchical_softmax_loss", "negative_sampling_loss"]


def _need(op: str, fit: bool, rule: Phrase, *given: Any) -> None:
    if not fit:
        shapes = joined([tuple(x.shape) for x in given])
        fix = ("reshape the indices, or the vectors.", "添字かベクトルを reshape してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=shapes, fix=fix)


def _scores(input: Any, weight: Any, index: Any) -> Any:
    """Scalar products of each vector (..., D) with the rows (..., K) of the table."""
    return squeeze(matmul(embedding(index, weight), unsqueeze(input, -1)), -1)


def negative_sampling_loss(input: Any, target: Any, negative: Any, weight: Any, reduction: str = "mean") -> Any:
    """-log σ(v·u_t) - Σ log σ(-v·u_n): the right word t against words n drawn at random.

    input (..., D): vectors v; target (...): right words; negative (..., K): drawn words; weight (V, D): the output vectors u of all
    words. Returns a loss for each vector, or their "mean" or "sum". Raises ShapeError, and AxisError for a word out of range (on the CPU).

    dv = (σ(v·u_t) - 1) u_t + Σ σ(v·u_n) u_n.

    >>> import tinygrad_ja as tg
    >>> v, u = tg.tensor([[1.0, 0.0]]), tg.zeros(4, 2)
    >>> tg.nn.functional.negative_sampling_loss(v, tg.tensor([2]), tg.tensor([[0, 3]]), u)  # 3 log 2
    tensor(2.0794)
    """
    reduction = reduction_of("negative_sampling_loss", reduction)
    target, negative = raw(target), raw(negative)
    fit = input.shape[:-1] == target.shape == negative.shape[:-1] and input.ndim > 0 and weight.shape[1:] == input.shape[-1:]
    rule = (
        "input (..., D), target (...), negative (..., K), weight (V, D)",
        "input (..., D)、target (...)、negative (..., K)、weight (V, D)",
    )
    _need("negative_sampling_loss", fit, rule, input, target, negative, weight)
    xp = ARRAY_MODULES[type(target)]
    index = xp.concatenate((target[..., None], negative), -1)
    sign = xp.full(index.shape[-1], -1.0, dtype=input.dtype)
    sign[0] = 1.0
    return reduced(-sum(logsigmoid(_scores(input, weight, index) * sign), -1), reduction)


def hierarchical_softmax_loss(input: Any, target: Any, path: Any, sign: Any, weight: Any, reduction: str = "mean") -> Any:
    """-Σ log σ(s v·u) over the inner nodes of a binary tree on the way to the word: its negative log-likelihood, in log V steps.

    input (..., D): vectors v; target (...): words; path (V, L): the inner nodes above each word; sign (V, L): 1 where the way goes left, -1
    where it goes right, 0 past its end (``HuffmanTree`` makes both); weight (nodes, D): the vectors u of the nodes. Returns a loss for
    each vector, or their "mean" or "sum". Raises ShapeError, and AxisError for a word out of range (on the CPU).

    >>> import tinygrad_ja as tg
    >>> tree = tg.nn.HuffmanTree([3, 1, 1])
    >>> v, u = tg.tensor([[1.0], [1.0]]), tg.zeros(2, 1)
    >>> tg.nn.functional.hierarchical_softmax_loss(v, tg.tensor([0, 2]), tree.path, tree.sign, u, "none")  # log 2, 2 log 2
    tensor([0.6931, 1.3863])
    """
    reduction = reduction_of("hierarchical_softmax_loss", reduction)
    target, path, sign = raw(target), raw(path), raw(sign)
    fit = input.shape[:-1] == target.shape and path.shape == sign.shape and input.ndim > 0
    fit = fit and path.ndim == 2 and weight.shape[1:] == input.shape[-1:]
    rule = (
        "input (..., D), target (...), path (V, L), sign (V, L), weight (nodes, D)",
        "input (..., D)、target (...)、path (V, L)、sign (V, L)、weight (節点の数, D)",
    )
    _need("hierarchical_softmax_loss", fit, rule, input, target, path, sign, weight)
    ways = embedding(target, sign.astype(input.dtype))
    terms = logsigmoid(_scores(input, weight, embedding(target, path)) * ways) * (ways != 0)
    return reduced(-sum(terms, -1), reduction)
