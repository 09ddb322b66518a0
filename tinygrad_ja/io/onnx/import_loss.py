"""Imported losses."""

from __future__ import annotations

from typing import Any

from ...nn import functional as F
from .import_table import Call, imports


def _nll(call: Call, log_probabilities: Any, target: Any, weight: Any) -> Any:
    ignored = call.get("ignore_index", -(2**31))  # a class that no target is
    reduction = call.get("reduction", "mean")
    return F.nll_loss(log_probabilities, target.to("int64"), weight, ignore_index=ignored, reduction=reduction)


@imports("NegativeLogLikelihoodLoss", control=(2,))
def _negative_log_likelihood_loss(call: Call, x: Any, target: Any, weight: Any = None) -> Any:
    return _nll(call, x, target, weight)


@imports("SoftmaxCrossEntropyLoss", control=(2,))
def _softmax_cross_entropy_loss(call: Call, scores: Any, target: Any, weight: Any = None) -> Any:
    log_probabilities = F.log_softmax(scores, 1)
    return _nll(call, log_probabilities, target, weight), log_probabilities
