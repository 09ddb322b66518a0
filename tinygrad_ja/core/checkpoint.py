"""Checkpointing: keep only the inputs of a part of the computation and run it again when backward needs it (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import random
from .modes import enable_grad, modes
from .tape import Output, Outputs, next_number, nodes_below
from .tensor import Tensor


class _Checkpoint:
    """Stands as the operator of a checkpointed part. It has no derivative: ``expand`` runs the part again, and the walk back goes on
    through the nodes that this records."""

    name = "checkpoint"
    expands = True
    saves_arrays = True
    saved_inputs: tuple[Any, ...] = ()

    def expand(self, saved: tuple[Any, ...], cotangents: tuple[Any, ...]) -> list[tuple[Any, Any]]:
        function, args, kwargs, state = saved
        now = random.get_rng_state()
        if state is not None:
            random.set_rng_state(state)
        try:
            with enable_grad():
                outputs = _outputs(function(*args, **kwargs))
        finally:
            random.set_rng_state(now)
        return [(y.node, g) for y, g in zip(outputs, cotangents) if y.node is not None]

    def describe_saved(self, saved: Any) -> str:
        return "the inputs"

    def input_name(self, index: int) -> str:
        return f"input {index}"


CHECKPOINT = _Checkpoint()


def _outputs(made: Any) -> tuple[Tensor, ...]:
    return tuple(made) if isinstance(made, (tuple, list)) else (made,)


def checkpoint(function: Callable[..., Any], *args: Any, preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """Run ``function(*args, **kwargs)``, a Tensor or a tuple of Tensors, and forget what is inside: backward runs it again.

    Memory of the part falls to its inputs; its time doubles. Gradients, of every order, are those without the checkpoint, also
    for parameters that ``function`` uses without taking them as arguments. With ``preserve_rng_state`` (CPU) dropout draws the same
    numbers again (``torch.utils.checkpoint``).
    """
    if modes.record is None:
        return function(*args, **kwargs)
    state = random.get_rng_state() if preserve_rng_state else None
    args = tuple(Tensor(a.array, a.node) if type(a) is Tensor else a for a in args)  # later rebinding must not reach us
    start = next_number()
    made = function(*args, **kwargs)
    outputs = _outputs(made)
    below = nodes_below([y.node for y in outputs])
    inner = {number for number in below if number > start}
    outer = {p.number: p for number in inner for p in below[number].parents if p is not None and p.number < start}
    outer |= {y.node.number: y.node for y in outputs if y.node is not None and y.node.number < start}
    if not outer:
        return made
    arrays = [y.array for y in outputs]
    node = modes.record(CHECKPOINT, tuple(outer.values()), (function, args, kwargs, state), Outputs(arrays))
    tensors = tuple(Tensor(y, Output(node, i, y)) if y.dtype.kind == "f" else Tensor(y) for i, y in enumerate(arrays))
    return tensors if isinstance(made, (tuple, list)) else tensors[0]
