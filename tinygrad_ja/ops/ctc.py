"""Connectionist temporal classification: the probability of a sequence of labels when nobody says which label belongs to which step.

Graves, Fernández, Gomez and Schmidhuber, 2006, "Connectionist temporal classification". The labels l₁ l₂ ... of a sequence, with a blank
before, between and after them, are the states 0 ... 2S of a lattice. A path stays, goes on by one state, or goes on by two where that leaves
out a blank between different labels. All paths are summed step by step, for all sequences of a batch at once, as logarithms.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import ARRAY_MODULES, is_array
from ..core.operator import Array, Constant, Point, fused
from ..core.tensor import Tensor
from ..errors import Phrase, error
from ..errors import joined as joined_shapes
from .comparison import _where
from .conversion import _cast
from .exponential import logaddexp
from .join import cat
from .loss import raw, reduced, reduction_of
from .piecewise import clamp_min
from .selection import _index_select, gather
from .shape import reshape, squeeze, unsqueeze

__all__ = ["ctc_loss"]

_NEVER = -1e30
"""Logarithm of the probability 0: unlike -inf it may be subtracted from itself. It fits float32, and no real loss comes near it."""


class _Lattice(NamedTuple):
    """The states of every sequence, (2S + 1, N). What may not be has ``_NEVER``, what may be 0."""

    position: Any
    """Where the label of a state stands among the N C log-probabilities of a step."""
    state: Any
    """Whether there is the state: a sequence may be shorter than others."""
    jump: Any
    """Whether a path may come from two states below; for two states more. Paths start with the jump into state 1, or end with that into the
    state above the last one."""


def _lattice(xp: Any, targets: Any, target_lengths: Any, blank: int, classes: int, dtype: Any) -> _Lattice:
    batch, length = targets.shape
    labels = xp.full((2 * length + 1, batch), blank, dtype=np.int64)
    labels[1::2] = xp.where(xp.arange(length)[:, None] < target_lengths, targets.T, blank)
    jump = xp.zeros((2 * length + 3, batch), dtype=bool)
    jump[1] = True
    jump[3::2] = xp.arange(1, length + 1)[:, None] >= target_lengths
    jump[3:-2:2] |= labels[3::2] != labels[1:-2:2]
    state = xp.arange(2 * length + 1)[:, None] <= 2 * target_lengths
    position = labels + xp.arange(batch) * classes
    return _Lattice(position, (~state * _NEVER).astype(dtype), (~jump * _NEVER).astype(dtype))


def _sum_paths(xp: Any, made: Any, emissions: Any, jump: Any, first: int, last: int) -> None:
    """Fill ``made`` (T + 1, 2 + states, 2N) for the steps ``first`` to ``last``, from both ends at once.

    ``made[t + 1, 2 + s, n]`` is the log-probability of all paths of sequence n up to step t that are in state s there, and
    ``made[t + 1, 2 + s, N + n]`` the same for time and states in the opposite order. It holds 0 where a path begins, one step and one state
    before, and ``_NEVER`` elsewhere.
    """
    penalty = xp.concatenate((jump[:-2], jump[:1:-1]), 1)
    emitted = xp.concatenate((emissions[first:last], emissions[::-1, ::-1][first:last]), 2)
    ways = xp.stack((penalty, penalty, penalty))
    total = xp.empty_like(penalty)
    stay, go, skip = ways
    for t in range(first, last):
        now, then = made[t], made[t + 1, 2:]
        xp.add(now[:-2], penalty, out=skip)
        xp.maximum(now[2:], now[1:-1], out=total)
        xp.maximum(total, skip, out=total)
        xp.subtract(now[2:], total, out=stay)
        xp.subtract(now[1:-1], total, out=go)
        xp.subtract(skip, total, out=skip)
        xp.exp(ways, out=ways)
        xp.add(stay, go, out=stay)
        xp.add(stay, skip, out=stay)
        xp.log(stay, out=stay)
        xp.add(total, stay, out=total)
        xp.add(total, emitted[t - first], out=total)
        xp.maximum(total, then, out=then)


def _meet(xp: Any, made: Any, jump: Any, middle: int) -> Any:
    """Log-probability of all paths, from those up to step ``middle`` and those from there to the end; ``_NEVER`` for sequences that end
    before."""
    batch = jump.shape[1]
    above = made[len(made) - 1 - middle, ::-1, batch:]
    ways = xp.stack((above[:-2], above[1:-1], above[2:] + jump[2:])) + made[middle, 2:, :batch]
    top = xp.max(ways, (0, 1))
    return xp.log(xp.sum(xp.exp(ways - top), (0, 1))) + top


def _ctc_backward(
    xp: Any,
    g: Any,
    log_probs: Any,
    lattice: _Lattice,
    emissions: Any,
    made: Any,
    total: Any,
    middle: int,
) -> tuple[Any]:
    # dx[t, n, c] = -(share of the paths of n that emit c at step t): those up to there times those from there, over all
    steps, _, batch = emissions.shape
    _sum_paths(xp, made, emissions, lattice.jump, middle, steps)  # the half that the loss did not need
    share = made[1:, 2:, :batch] + made[:0:-1, :1:-1, batch:]
    share -= emissions
    share -= xp.where(total < _NEVER / 2, 0.0, total).astype(total.dtype)
    xp.minimum(share, lattice.state, out=share)
    xp.exp(share, out=share)
    share *= -g.astype(share.dtype)
    gradient = xp.zeros_like(share, shape=(steps, log_probs.size // steps))
    gradient[:, lattice.position[0]] = xp.sum(share[:, ::2], 1)
    place = xp.arange(steps)[:, None, None] * gradient.shape[1] + lattice.position[1::2]
    xp.add.at(gradient.reshape(-1), place.reshape(-1), share[:, 1::2].reshape(-1))
    return (xp.asarray(gradient.reshape(log_probs.shape), log_probs.dtype),)


def _ctc_reference(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int, zero_infinity: bool
) -> Any:
    # one step after the other, in the dtype of the logarithms
    targets, input_lengths, target_lengths = map(raw, (targets, input_lengths, target_lengths))
    xp = ARRAY_MODULES[type(targets)]
    steps, batch, classes = log_probs.shape
    rows = reshape(_wide(log_probs), (steps, batch * classes))
    lattice = _lattice(xp, targets, target_lengths, blank, classes, rows.dtype)
    emissions = clamp_min(_index_select(rows, 1, lattice.position) + lattice.state, _NEVER)
    alpha = xp.full(lattice.jump.shape, _NEVER, dtype=rows.dtype)
    edge = alpha[:2].copy()
    alpha[1] = 0.0
    for t in range(steps):
        ways = logaddexp(logaddexp(alpha[2:], alpha[1:-1]), alpha[:-2] + lattice.jump[:-2]) + emissions[t]
        alpha = _where(t < input_lengths, cat([edge, ways]), alpha)
    last = 2 * target_lengths[None] + 2
    total = squeeze(logaddexp(gather(alpha, 0, last), gather(alpha, 0, last - 1)), 0)
    return _cast(_where(raw(total) < _NEVER / 2, 0.0 if zero_infinity else math.inf, -total), log_probs.dtype)


def _wide(log_probs: Any) -> Any:
    return _cast(log_probs, np.dtype(np.float32)) if log_probs.dtype.itemsize < 4 else log_probs


def _ctc_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    steps, batch, classes, length = pick.integer(1, 7), pick.integer(1, 3), pick.integer(2, 4), pick.integer(0, 3)
    blank, zero_infinity = pick.integer(0, classes - 1), pick.boolean()
    targets = (blank + 1 + pick.indices((batch, length), classes - 1)) % classes
    target_lengths = np.maximum(pick.indices((batch,), length + 1), pick.indices((batch,), length + 1))
    input_lengths = 1 + pick.indices((batch,), steps)
    if not zero_infinity:  # no sequence without a path: an infinite loss has no differences
        repeats = [np.count_nonzero(row[1:n] == row[: n - 1]) if n else 0 for row, n in zip(targets, target_lengths)]
        target_lengths = np.where(target_lengths + repeats <= input_lengths, target_lengths, 0)
    return (pick.array((steps, batch, classes), -3.0, 0.0), targets, input_lengths, target_lengths, blank, zero_infinity), {}


@fused(
    _ctc_backward,
    _ctc_reference,
    aux=("lattice", "emissions", "made", "total", "middle"),
    cases=_ctc_case,
    points=[
        # one step cannot hold two labels: no path, no gradient
        Point(([[[-1.0, -1.0, -1.0]]], np.array([[1, 2]]), np.array([1]), np.array([2])), (0.0,)),
    ],
)
def _ctc(
    xp: Any,
    log_probs: Array,
    targets: Constant,
    input_lengths: Constant,
    target_lengths: Constant,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Any:
    """-log of the sum over all paths, for each sequence: log_probs (T, N, C), targets (N, S) -> (N)."""
    steps, batch, classes = log_probs.shape
    rows = log_probs.reshape(steps, batch * classes)
    dtype = xp.promote_types(rows.dtype, xp.float32)
    lattice = _lattice(xp, targets, target_lengths, blank, classes, dtype)
    emissions = xp.take(rows, lattice.position, 1).astype(dtype, copy=False)
    emissions += lattice.state
    xp.maximum(emissions, _NEVER, out=emissions)
    made = xp.full((steps + 1, len(lattice.jump), 2 * batch), _NEVER, dtype=dtype)
    last, sequence, middle = 2 * target_lengths, xp.arange(batch), (steps + 1) // 2
    made[0, 1, :batch] = 0.0
    made[steps - input_lengths, len(lattice.state) - last, sequence + batch] = 0.0
    _sum_paths(xp, made, emissions, lattice.jump, 0, middle)
    end = xp.minimum(input_lengths, middle)
    ended = xp.logaddexp(made[end, last + 2, sequence], made[end, last + 1, sequence])
    total = xp.where(input_lengths < middle, ended, _meet(xp, made, lattice.jump, middle))
    loss = xp.where(total < _NEVER / 2, 0.0 if zero_infinity else xp.inf, -total)
    return loss.astype(log_probs.dtype), lattice, emissions, made, total, middle


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """Negative log-likelihood of label sequences, summed over all alignments (connectionist temporal classification).

    log_probs (T, N, C), or (T, C) for one sequence: log-probabilities of C classes at T steps, usually from ``log_softmax``.
    targets: class indices without the ``blank``, (N, S) padded with anything, or the labels of all sequences in one axis.
    input_lengths, target_lengths: how many steps and labels each sequence has; N integers (tensor, list, tuple or, for one sequence,
    a number). "mean" divides each loss by its target's length (at least 1) before it takes the mean.

    A target that its input is too short for has an infinite loss (0 with ``zero_infinity``) and no gradient.
    Raises ShapeError, DtypeError, ArgumentError for a blank or a length out of range, AxisError for a class out of range (values are
    seen on the CPU only).

    dx[t, n, c] = -(the share of the alignments, by probability, that have c at step t). This is the derivative for independent
    log-probabilities; after ``log_softmax`` the gradient of its input is that of PyTorch. Source: Graves et al., 2006.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([[0.5, 0.5], [0.5, 0.5]]).log()  # of the 4 alignments of 2 steps, 3 mean the label 1: 11, 01, 10
    >>> tg.nn.functional.ctc_loss(x, tg.tensor([1]), 2, 1).exp()
    tensor(1.3333)
    """
    reduction = reduction_of("ctc_loss", reduction)
    single = log_probs.ndim == 2
    if single:
        log_probs = unsqueeze(log_probs, 1)
    if log_probs.ndim != 3 or 0 in log_probs.shape:
        _refuse_shape(("log_probs (T, N, C) or (T, C), not empty", "log_probs は空でない (T, N, C) か (T, C)"), log_probs)
    steps, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        _refuse_value("blank", blank, f"0 <= blank < {classes}")
    xp = ARRAY_MODULES[type(raw(log_probs))]
    labels = raw(targets)
    if labels.dtype.kind not in "iu":
        raise error("TG-T004", op="ctc_loss", dtype=labels.dtype, allowed=("an integer dtype", "整数の dtype"), fix="tg.int64")
    joined = labels.ndim == 1
    if labels.ndim not in (1, 2) or (not joined and labels.shape[0] != batch):
        _refuse_shape(("targets (N, S), or in one axis", "targets は (N, S) か 1 次元"), log_probs, labels)
    inputs = _lengths(xp, "input_lengths", input_lengths, batch, steps)
    lengths = _lengths(xp, "target_lengths", target_lengths, batch, labels.shape[-1])
    labels = _rows(xp, labels, lengths) if joined else labels
    if xp is np:
        labels = labels[:, : lengths.max()]
        _need_classes(labels, lengths, classes)
    loss = _ctc(log_probs, labels, inputs, lengths, blank, zero_infinity)
    if reduction == "mean":
        loss = loss / xp.maximum(lengths, 1).astype(loss.dtype)
    return reshape(loss, ()) if single and reduction == "none" else reduced(loss, reduction)


def _refuse_shape(rule: Phrase, *given: Any) -> None:
    shapes = joined_shapes([tuple(x.shape) for x in given])
    fix = ("see help() for the shapes.", "形状は help() で確かめてください。")
    raise error("TG-S002", op="ctc_loss", rule=rule, shapes=shapes, fix=fix)


def _refuse_value(argument: str, value: Any, rule: str) -> None:
    fix = (f"choose a number with {rule}.", f"{rule} の数を渡してください。")
    raise error("TG-A001", op="ctc_loss", argument=argument, value=value, rule=rule, fix=fix)


def _lengths(xp: Any, name: str, value: Any, batch: int, most: int) -> Any:
    """Lengths as N int64 on the device of the log-probabilities, from 0 to ``most`` (seen where they are on the CPU)."""
    array = value.array if type(value) is Tensor else value if is_array(value) else np.asarray(value)
    if array.size != batch:
        _refuse_shape((f"{name} has N = {batch} elements", f"{name} の要素は N = {batch} 個"), array)
    if array.dtype.kind not in "iu":
        raise error("TG-T004", op="ctc_loss", dtype=array.dtype, allowed=("an integer dtype", "整数の dtype"), fix="tg.int64")
    if type(array) is np.ndarray and not (0 <= array.min() and array.max() <= most):
        _refuse_value(name, array.tolist(), f"0 <= n <= {most}")
    return xp.asarray(array.reshape(-1)).astype(np.int64, copy=False)


def _rows(xp: Any, labels: Any, lengths: Any) -> Any:
    """Sequences that stand one after the other, as rows of the longest one's length (for which a GPU must wait)."""
    starts = xp.cumsum(lengths) - lengths
    if xp is np and labels.size != lengths.sum():
        shape = f"({lengths.sum()},)"
        _refuse_shape((f"targets {shape}: as many as target_lengths say", f"targets は target_lengths の合計 {shape}"), labels)
    index = starts[:, None] + xp.arange(int(lengths.max()))
    return labels[xp.minimum(index, labels.size - 1)] if index.size else xp.zeros(index.shape, dtype=np.int64)


def _need_classes(labels: np.ndarray, lengths: np.ndarray, classes: int) -> None:
    counts = np.arange(labels.shape[1]) < lengths[:, None]
    wrong = labels[counts & ((labels < 0) | (labels >= classes))]
    if wrong.size:
        raise error("TG-I002", op="ctc_loss", index=int(wrong[0]), size=classes, first=0, last=classes - 1, shape=labels.shape)
