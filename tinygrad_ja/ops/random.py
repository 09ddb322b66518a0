"""Operators with a random part."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.devices import device_of
from ..backend.random import default_generator
from ..core.operator import Array, Constant, linear
from ..errors import error

__all__ = ["dropout"]


def _mask_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape()
    return (pick.array(shape), pick.mask(shape), pick.choice([1.0, 2.0, 1.25])), {}


@linear(lambda g, mask, scale: apply_mask(g, mask, scale), cases=_mask_case)
def apply_mask(xp: Any, input: Array, mask: Constant, scale: float) -> Array:
    """``scale * input`` where the mask is True, 0 elsewhere; its own transpose."""
    made = xp.multiply(input, mask)
    return made if scale == 1.0 else made * scale


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Each element becomes 0 with probability ``p``, the others are multiplied by 1 / (1 - p); nothing happens unless ``training``.

    The mask comes from the default generator of the input's device. dy/dx = mask / (1 - p).
    Source: Srivastava et al., 2014, "Dropout"; scaled while training ("inverted"), as PyTorch does.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.dropout(tg.tensor([1.0, 2.0]), p=0.5, training=False)
    tensor([1., 2.])
    """
    if not 0.0 <= p <= 1.0:
        rule = ("a probability from 0 to 1", "0 から 1 の確率")
        raise error("TG-A001", op="dropout", argument="p", value=p, rule=rule, fix=("p=0.5.", "p=0.5 などとしてください。"))
    if not training or p == 0.0:
        return input
    array = getattr(input, "array", input)
    generator = default_generator(device_of(array))
    mask = generator.uniform(tuple(array.shape), np.float32) >= p
    made = apply_mask(input, mask, 1.0 / (1.0 - p) if p < 1.0 else 1.0)
    return input._assign(made) if inplace else made
