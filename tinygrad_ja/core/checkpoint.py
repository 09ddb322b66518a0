"""Checkpointing: keep only the inputs of a part of the computation and run it again when backward needs it (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import random
from ..errors import Phrase
from .below import nodes_below
from .modes import enable_grad, modes
from .tape import Output, Outputs, next_number
from .tensor import Tensor


class _Checkpoint:
    """Stands as the operator of a checkpointed part. It has no derivative: ``expand`` runs the part again, and the walk back goes on
    through the nodes that this records."""

    name = "checkpoint"
    expands = True
    saved_inputs: tuple[Any, ...] = ()

    def expand(self, saved: tuple[Any, ...], cotangents: tuple[Any, ...]) -> list[tuple[Any, Any]]:
        function, args, kwargs, state, autocast = saved
        now, autocast_now = random.get_rng_states(), modes.autocast
        if state is not None:
            random.set_rng_states(state)
        modes.autocast = None if autocast is None else autocast.renewed()
        try:
            with enable_grad():
                outputs = _outputs(function(*_as_now(args), **_as_now(kwargs)))
        finally:
            modes.autocast = autocast_now
            random.set_rng_states(now)
        return [(y.node, g) for y, g in zip(outputs, cotangents) if type(y) is Tensor and y.node is not None]

    def describe_saved(self, saved: Any) -> Phrase:
        return ("the inputs", "入力")

    def input_name(self, index: int) -> str:
        return f"input {index}"


CHECKPOINT = _Checkpoint()


def _as_now(value: Any) -> Any:
    """Arguments as they are now: rebinding a Tensor among them (``h += 1``), later or by a run, must not reach the next run."""
    if type(value) is Tensor:
        return Tensor(value.array, value.node)
    if type(value) in (tuple, list):
        return type(value)([_as_now(item) for item in value])
    return {key: _as_now(item) for key, item in value.items()} if type(value) is dict else value


def _outputs(made: Any) -> tuple[Any, ...]:
    return tuple(made) if isinstance(made, (tuple, list)) else (made,)


def checkpoint(function: Callable[..., Any], *args: Any, preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """Run ``function(*args, **kwargs)``, a Tensor or a tuple of Tensors, and forget what is inside: backward runs it again.

    Memory of the part falls to its inputs; its time doubles. Gradients, of every order, are those without the checkpoint, also
    for parameters that ``function`` uses without taking them as arguments. With ``preserve_rng_state`` dropout draws the same
    numbers again, on every device; the second run is under the ``autocast`` of the first (``torch.utils.checkpoint``).
    """
    if modes.record is None:
        return function(*args, **kwargs)
    state = random.get_rng_states() if preserve_rng_state else None
    args, kwargs = _as_now(args), _as_now(kwargs)
    start = next_number()
    made = function(*_as_now(args), **_as_now(kwargs))
    outputs = _outputs(made)
    tensors = [y for y in outputs if type(y) is Tensor]
    below = nodes_below([y.node for y in tensors])
    inner = {number for number in below if number > start}
    outer = {p.number: p for number in inner for p in below[number].parents if p is not None and p.number < start}
    outer |= {y.node.number: y.node for y in tensors if y.node is not None and y.node.number < start}
    if not outer:
        return made
    # what is no Tensor passes through
    shapes = Outputs([y.array for y in tensors])
    shapes.shape = tuple([y.array.shape if type(y) is Tensor else () for y in outputs])
    node = modes.record(CHECKPOINT, tuple(outer.values()), (function, args, kwargs, state, modes.autocast), shapes)
    results = tuple([_output(node, i, y) for i, y in enumerate(outputs)])
    return results if isinstance(made, (tuple, list)) else results[0]


def _output(node: Any, index: int, y: Any) -> Any:
    """A result of a checkpointed part as an output of its node."""
    if type(y) is not Tensor:
        return y
    return Tensor(y.array, Output(node, index, y.array)) if y.array.dtype.kind == "f" else Tensor(y.array)
