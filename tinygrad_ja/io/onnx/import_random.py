"""Imported random numbers. They come from the framework's generator (``tg.manual_seed``), whatever seed the file states."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.creation import bernoulli, multinomial, rand, randn
from .import_elementwise import asked_dtype
from .import_table import Call, imports


def _drawn(call: Call, shape: Any, dtype: np.dtype) -> Any:
    """Uniform or normal numbers, as the operator's name says."""
    call.allow(shape)
    if "Uniform" in call.node.op_type:
        low, high = call.get("low", 0.0), call.get("high", 1.0)
        return (rand(*shape, device=call.device) * (high - low) + low).to(dtype)
    return (randn(*shape, device=call.device) * call.get("scale", 1.0) + call.get("mean", 0.0)).to(dtype)


@imports("RandomNormal", "RandomUniform")
def _random(call: Call) -> Any:
    return _drawn(call, call.get("shape"), asked_dtype(call.get("dtype", 1)))


@imports("RandomNormalLike", "RandomUniformLike")
def _random_like(call: Call, x: Any) -> Any:
    return _drawn(call, x.shape, asked_dtype(call.get("dtype")) if call.get("dtype") else x.dtype)


@imports("Bernoulli")
def _bernoulli(call: Call, x: Any) -> Any:
    return bernoulli(x).to(asked_dtype(call.get("dtype")) if call.get("dtype") else x.dtype)


@imports("Multinomial")
def _multinomial(call: Call, x: Any) -> Any:
    count = call.get("sample_size", 1)
    call.allow((x.shape[0], count))
    return multinomial(x.exp(), count, replacement=True).to(asked_dtype(call.get("dtype", 6)))
