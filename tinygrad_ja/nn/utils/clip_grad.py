"""Gradient clipping (Pascanu et al. 2013), the cure for exploding gradients of recurrent networks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...backend.arrays import ARRAY_MODULES, as_array, is_sole_owner, place_of
from ...backend.devices import device_of, move
from ...core.tensor import Tensor
from ...errors import error
from ...ops.creation import zeros


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if type(parameters) is Tensor else list(parameters)
    return [p.grad for p in given if p.grad is not None]


def _norm(array: Any, norm_type: float) -> Any:
    """The norm of all elements, 0-d, in their dtype; in float32 for float16, whose squares overflow."""
    xp = ARRAY_MODULES[type(array)]
    if array.dtype == "float16":
        array = array.astype("float32")
    if norm_type == math.inf:
        return xp.abs(array).max() if array.size else array.sum()
    if norm_type == 2.0:
        flat = array.reshape(-1)
        return xp.sqrt(xp.dot(flat, flat))
    if norm_type == 0.0:
        return (array != 0).sum().astype(array.dtype)
    return (xp.abs(array) ** norm_type).sum() ** (1.0 / norm_type)


def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all elements of all tensors together, a 0-d Tensor. On a GPU nothing waits for it.

    norm_type: p of the p-norm; ``math.inf`` for the largest absolute value.
    Raises ArgumentError for a NaN or infinite norm, with ``error_if_nonfinite``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.utils.get_total_norm([tg.tensor([3.0]), tg.tensor([4.0])])
    tensor(5.)
    """
    given = [tensors] if type(tensors) is Tensor else list(tensors)
    norm_type = float(norm_type)
    if not given:
        return zeros(())
    place = device_of(given[0].array)
    xp = ARRAY_MODULES[type(given[0].array)]
    parts = [move(as_array(_norm(t.array, norm_type)), place) for t in given]
    total = parts[0] if len(parts) == 1 else as_array(_norm(xp.stack(parts), norm_type))
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        rule = ("with error_if_nonfinite the norm must be finite", "error_if_nonfinite=True のときノルムは有限であること")
        fix = (
            "find the cause under tg.detect_anomaly(), or pass error_if_nonfinite=False",
            "tg.detect_anomaly() の中で原因を探すか、error_if_nonfinite=False を渡してください。",
        )
        raise error(
            "TG-A001", op="clip_grad_norm_", argument=("the total norm", "全体のノルム"), value=total.item(), rule=rule, fix=fix
        )
    return Tensor(total)


def _note_change(gradient: Tensor) -> None:
    if not is_sole_owner(gradient):  # the tape may have saved it
        gradient._note_change()


def _scale(gradient: Tensor, factor: Any) -> None:
    if gradient.node is None:
        gradient.array *= factor
        _note_change(gradient)
    else:  # a gradient with a history of its own may be saved on the tape
        gradient.array = gradient.array * factor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale the gradients in place so that their norm together is at most ``max_norm``: g · min(1, max_norm / ‖g‖).

    parameters: whose ``grad`` is scaled; those without are left out.
    Returns the norm before, a 0-d Tensor.
    Raises ArgumentError for a NaN or infinite norm, with ``error_if_nonfinite``; then nothing has changed.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w / 2).sum().backward()
    >>> tg.nn.utils.clip_grad_norm_([w], max_norm=1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6, 0.8])
    """
    gradients = _gradients(parameters)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    xp = ARRAY_MODULES[type(total.array)]
    # PyTorch's 1e-6 keeps a norm of 0 from dividing; the product with 1 costs less than waiting for the answer
    factor = as_array(xp.minimum(float(max_norm) / (total.array + 1e-6), 1.0))
    here = place_of(factor)
    for gradient in gradients:
        on_device = factor if place_of(gradient.array) == here else move(factor, device_of(gradient.array))
        _scale(gradient, on_device.astype(gradient.dtype, copy=False))
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every element of the gradients, in place, to [-clip_value, clip_value]."""
    limit = float(clip_value)
    for gradient in _gradients(parameters):
        xp = ARRAY_MODULES[type(gradient.array)]
        clipped = xp.clip(gradient.array, -limit, limit)
        if gradient.node is None:
            gradient.array[...] = clipped
            _note_change(gradient)
        else:
            gradient.array = clipped
