"""Truncated back-propagation through time: long sequences in pieces of k steps, the state carried from piece to piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..core.tensor import Tensor
from ..errors import error, joined


def detach_state(state: Any) -> Any:
    """The same state without its history: a Tensor, None, or tuples, lists and dicts of them.

    >>> import tinygrad_ja as tg
    >>> h = tg.ones(2, requires_grad=True) * 2
    >>> h.requires_grad, detach_state((h, None))[0].requires_grad
    (True, False)
    """
    if type(state) is Tensor:
        return state.detach()
    if isinstance(state, (tuple, list)):
        parts = [detach_state(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if isinstance(state, dict):
        return {name: detach_state(part) for name, part in state.items()}
    return state


def truncated_bptt(
    step: Callable[..., tuple[Any, Any]], sequence: Any, k: int, state: Any = None, *, batch_first: bool = False
) -> Iterator[tuple[Any, Any]]:
    """Run ``step`` on pieces of ``k`` time steps and carry the state on, cut from its history at each border.

    With the loss E = Σ_t E_t and state z_t = f(z_{t-1}, x_t), full BPTT sums over all earlier steps,
    ∂E/∂W = Σ_t Σ_{j<=t} δ_{t,j} z_{j-1}ᵀ. Here the inner sum stops at the first step of the piece that holds t: the value of the
    incoming state counts, its dependence on W does not. Memory and time of a backward are those of k steps, however long the sequence.

    step: called as ``step(x, state)``, or ``step(x, y, state)`` when ``sequence`` is the tuple ``(x, y)``; returns ``(result, state)``.
    sequence: a Tensor (T, ...), or a tuple of Tensors with the same T; with ``batch_first`` (N, T, ...).
    k: steps per piece; the last one may be shorter.
    state: where the first piece starts, passed on as it is (detached). Tensor, None, or nested tuples, lists and dicts of Tensors.
    Yields ``(result, state)`` after each piece, the state detached. For stateful batches pass the last state to the next call.
    Raises ArgumentError for k < 1, ShapeError for sequences of unequal length.

    >>> import tinygrad_ja as tg
    >>> from tinygrad_ja import nn
    >>> rnn, read = nn.RNN(1, 4), nn.Linear(4, 1)
    >>> optimizer = tg.optim.SGD([*rnn.parameters(), *read.parameters()], lr=0.1)
    >>> def step(x, y, state):
    ...     z, state = rnn(x, state)
    ...     return nn.functional.mse_loss(read(z), y), state
    >>> wave = tg.sin(tg.linspace(0.0, 9.0, 11)).reshape(11, 1, 1)
    >>> for loss, state in truncated_bptt(step, (wave[:-1], wave[1:]), k=4):
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> state.shape
    (1, 1, 4)
    """
    several = isinstance(sequence, (tuple, list))
    tensors = tuple(sequence) if several else (sequence,)
    axis = 1 if batch_first else 0
    _check(tensors, k, axis)
    return _pieces(step, tensors, k, state, axis)


def _check(tensors: tuple[Tensor, ...], k: int, axis: int) -> None:
    if not isinstance(k, int) or k < 1:
        raise error(
            "TG-A001",
            op="truncated_bptt",
            argument="k",
            value=k,
            rule=("an int, k >= 1", "1 以上の整数"),
            fix=("pass the steps per piece.", "1 区間の時刻の数を渡してください。"),
        )
    shapes = joined([tuple(x.shape) for x in tensors])
    if any(x.ndim <= axis for x in tensors) or len({x.shape[axis] for x in tensors}) != 1:
        rule = (
            ("the same number of time steps, (N, T, ...)", "時刻の数 T が同じ (N, T, ...)")
            if axis
            else ("the same number of time steps, (T, ...)", "時刻の数 T が同じ (T, ...)")
        )
        raise error(
            "TG-S002",
            op="truncated_bptt",
            rule=rule,
            shapes=shapes,
            fix=("check batch_first and the lengths.", "batch_first と長さを確かめてください。"),
        )


def _pieces(
    step: Callable[..., tuple[Any, Any]], tensors: tuple[Tensor, ...], k: int, state: Any, axis: int
) -> Iterator[tuple[Any, Any]]:
    state = detach_state(state)
    for start in range(0, tensors[0].shape[axis], k):
        piece = (slice(None),) * axis + (slice(start, start + k),)
        result, state = step(*[x[piece] for x in tensors], state)
        state = detach_state(state)
        yield result, state
