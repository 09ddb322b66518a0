"""A whole recurrent layer in one direction as one operator: RNN, LSTM and GRU over all time steps of a batch.

Each comes in two texts. ``*_steps`` is the loop over time steps, each of them an operator on the tape: back-propagation through time is
the walk back along it. ``*_layer`` is the same value as one operator, with back-propagation through time written out; the loop is its
reference, which the tests hold it to and which gives the higher orders.

Sequences lie in packed form, which serves equal and unequal lengths alike: row after row of step 0, then those of step 1, ...
``batch_sizes[t]`` says how many rows step t has; they never grow. Rows of (T, N, D) in order are that, with T times N. A row keeps its
place among those of a step, so sequences that have ended are missing at the end. ``reverse`` runs from the last step to the first.

Inside of a layer a state is a matrix (H, N), a column an example: then the gates W h of a step are contiguous blocks, and BLAS takes the
product as it lies in memory. The gradients of the gates of all steps are collected in a matrix D, so that the weights' gradients are one
product each, ∂E/∂W = D Z̃ with the states before each step as the rows of Z̃.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..backend.in_place import repeated
from ..core.modes import modes
from ..core.operator import Array, fused
from .gru import gru_step
from .join import _split, cat
from .linalg import linear
from .rnn import activate, activation_backward, column_sum, lstm_step, maybe, rnn_step

__all__ = ["gru_layer", "gru_steps", "lstm_layer", "lstm_steps", "rnn_layer", "rnn_steps"]

AT_ONCE = 128
"""Rows of which the input's part of the gates is made by one product."""


# ---- the loop over time steps --------------------------------------------------------------------


def both(b_ih: Any, b_hh: Any) -> Any:
    """The sum of two biases, each of which may be missing."""
    if b_ih is None or b_hh is None:
        return b_hh if b_ih is None else b_ih
    return b_ih + b_hh


def unroll(
    step: Callable[..., tuple[Any, ...]], gates: Any, state: tuple[Any, ...], batch_sizes: Sequence[int], reverse: bool
) -> tuple[Any, ...]:
    """Run ``state = step(gates of a time step, *state)`` over all steps: the first entries of the states as rows, and the last state.

    The state has a row for every sequence. A step changes those that have not ended, or (reversed) that have begun.
    """
    parts = _split(gates, tuple(batch_sizes), 0)
    outputs = []
    for part in reversed(parts) if reverse else parts:
        n = part.shape[0]
        if n == state[0].shape[0]:
            state = step(part, *state)
            outputs.append(state[0])
        else:
            made = step(part, *[s[:n] for s in state])
            outputs.append(made[0])
            state = tuple([cat([new, old[n:]]) for new, old in zip(made, state)])
    return (cat(outputs[::-1] if reverse else outputs), *state)


def rnn_steps(
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    *,
    batch_sizes: Sequence[int],
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Any, ...]:
    """``rnn_layer`` step by step on the tape."""
    gates = linear(input, w_ih, both(b_ih, b_hh))
    return unroll(lambda gates, h: (rnn_step(gates, h, w_hh, nonlinearity=nonlinearity),), gates, (hx,), batch_sizes, reverse)


def lstm_steps(
    input: Any,
    hx: Any,
    cx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    w_hr: Any = None,
    w_ci: Any = None,
    w_cf: Any = None,
    w_co: Any = None,
    *,
    batch_sizes: Sequence[int],
    reverse: bool = False,
) -> tuple[Any, ...]:
    """``lstm_layer`` step by step on the tape; also with a projection of the state, h = W_hr (o∘tanh(c)), and with peepholes."""

    def step(gates: Any, h: Any, c: Any) -> tuple[Any, Any]:
        h, c = lstm_step(gates, h, c, w_hh, None, w_ci, w_cf, w_co)
        return h if w_hr is None else linear(h, w_hr), c

    return unroll(step, linear(input, w_ih, both(b_ih, b_hh)), (hx, cx), batch_sizes, reverse)


def gru_steps(
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    *,
    batch_sizes: Sequence[int],
    reverse: bool = False,
    reset_after: bool = True,
) -> tuple[Any, ...]:
    """``gru_layer`` step by step on the tape; also with the reset gate before the product (``reset_after=False``)."""
    gates = linear(input, w_ih, b_ih)
    return unroll(
        lambda gates, h: (gru_step(gates, h, w_hh, b_hh, reset_after=reset_after),), gates, (hx,), batch_sizes, reverse
    )


# ---- cases of the tests --------------------------------------------------------------------------


def layer_case(gates: int, states: int) -> Any:
    def case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        features, width = pick.integer(1, 3), pick.integer(1, 3)
        sizes = tuple(sorted([pick.integer(1, 3) for _ in range(pick.integer(1, 4))], reverse=True))
        held = [pick.array((sizes[0], width)) for _ in range(states)]
        weights = pick.array((gates * width, features)), pick.array((gates * width, width))
        biases = maybe(pick, gates * width), maybe(pick, gates * width)
        x = pick.array((sum(sizes), features))
        return (x, *held, *weights, *biases), {"batch_sizes": sizes, "reverse": pick.boolean()}

    return case


def _rnn_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """With relu only where no sum that goes into it is near the kink."""
    args, options = layer_case(1, 1)(pick)
    x, hx, w_ih, w_hh, *biases = args
    before = states_before(rnn_steps(*args, **options, nonlinearity="relu")[0], hx, **options)
    sums = linear(x, w_ih, both(*biases)) + before.dot(w_hh.T)
    smooth = abs(sums).min() < 0.05
    return args, {**options, "nonlinearity": pick.choice(["tanh", "sigmoid"] if smooth else ["relu", "tanh", "sigmoid"])}


# ---- what the layers share, on raw arrays --------------------------------------------------------


def spans_of(batch_sizes: Sequence[int], reverse: bool) -> list[tuple[int, int]]:
    """The rows ``start:stop`` of each step, in the order of the recurrence."""
    spans = list(itertools.pairwise([0, *itertools.accumulate(batch_sizes)]))
    return spans[::-1] if reverse else spans


def widened(*arrays: Any) -> list[Any]:
    """float16 as float32: the sums over many steps are made, and rounded once, there."""
    return [a if a is None or a.dtype.itemsize > 2 else a.astype("float32") for a in arrays]


def halved(weight: Any, width: int) -> Any:
    """A copy with the rows of the sigmoid gates halved: all but the third gate. With σ(z) = (1 + tanh(z / 2)) / 2 one tanh serves all."""
    made = weight.copy()
    made[: 2 * width] *= 0.5
    made[3 * width :] *= 0.5
    return made


def projected(xp: Any, x: Any, w_ih: Any, bias: Any, spans: Sequence[tuple[int, int]]) -> Iterator[Any]:
    """For each step W x + b, a column a row of ``x``. One product makes those of several steps, ``AT_ONCE`` rows at most: few enough to
    be in the processor's cache still when their step comes."""
    widest = max([stop - start for start, stop in spans])
    count = max(1, AT_ONCE // max(1, widest))
    for first in range(0, len(spans), count):
        group = spans[first : first + count]
        low, high = min(group)[0], max(group)[1]
        gates = xp.dot(w_ih, x[low:high].T)
        if bias is not None:
            gates += bias[:, None]
        yield from [gates[:, start - low : stop - low] for start, stop in group]


def block_of(flat: Any, height: int, start: int, stop: int) -> Any:
    """The matrix (height, stop - start) of a step, contiguous in an array that has one for each step."""
    return flat[height * start : height * stop].reshape(height, stop - start)


def states_before(output: Any, hx: Any, batch_sizes: Sequence[int], reverse: bool) -> Any:
    """Z̃: the state before each step, row by row, from the state after it."""
    made = output.copy()
    previous = output[:0]
    for start, stop in spans_of(batch_sizes, reverse):
        begun = min(previous.shape[0], stop - start)
        made[start : start + begun] = previous[:begun]
        made[start + begun : stop] = hx[begun : stop - start]
        previous = output[start:stop]
    return made


def kept_rows(x: Any, batch_sizes: Sequence[int]) -> int:
    """Rows for which a layer has to keep what its backward reads: those of one step when nothing is recorded."""
    return x.shape[0] if modes.record is not None else batch_sizes[0]


def narrowed(dtype: Any, *arrays: Any) -> tuple[Any, ...]:
    """Back from what ``widened`` made."""
    return tuple([None if a is None else a.astype(dtype, copy=False) for a in arrays])


def layer_gradients(needs: tuple[bool, ...], x: Any, before: Any, w_ih: Any, dz: Any, dz_hh: Any = None) -> tuple[Any, ...]:
    """Gradients of x, W_ih, W_hh, b_ih and b_hh, from those of all gates (a column a row of x): of the input's part of their sums, and
    ``dz_hh`` of the state's part where that is another."""
    db_ih = column_sum(dz.T) if needs[3] or needs[4] else None
    db_hh = db_ih if dz_hh is None or not needs[4] else column_sum(dz_hh.T)
    return (
        dz.T.dot(w_ih) if needs[0] else None,
        dz.dot(x) if needs[1] else None,
        (dz if dz_hh is None else dz_hh).dot(before) if needs[2] else None,
        db_ih,
        db_hh,
    )


# ---- the simple layer ----------------------------------------------------------------------------


def _rnn_layer_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    batch_sizes: Sequence[int],
    reverse: bool,
    nonlinearity: str,
    output: Any,
) -> tuple[Any, ...]:
    dtype = input.dtype
    gy, gh, input, hx, w_ih, w_hh, output = widened(*g, input, hx, w_ih, w_hh, output)
    dh = gh.T.copy()
    dz = xp.empty_like(dh, shape=(hx.shape[1], input.shape[0]))
    for start, stop in reversed(spans_of(batch_sizes, reverse)):
        dh_n = dh[:, : stop - start]
        dh_n += gy[start:stop].T
        dz_n = activation_backward(dh_n, output[start:stop].T.copy(), nonlinearity)
        dh_n[...] = xp.dot(w_hh.T, dz_n)
        dz[:, start:stop] = dz_n
    before = states_before(output, hx, batch_sizes, reverse)
    dx, *rest = layer_gradients((needs[0], *needs[2:]), input, before, w_ih, dz)
    return narrowed(dtype, dx, dh.T.copy(), *rest)


@fused(
    _rnn_layer_backward,
    rnn_steps,
    outputs=2,
    aux=("output",),
    signature="(l,i),(n,h),(h,i),(h,h),(h),(h)->(l,h),(n,h)",
    cases=_rnn_case,
)
def rnn_layer(
    xp: Any,
    input: Array,
    hx: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    batch_sizes: Sequence[int],
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> Any:
    """Elman's layer, h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) for all t; returns the rows of all h_t, and the last h.

    Shapes: input (L, I) in packed form, hx (N, H), w_ih (H, I), w_hh (H, H), biases (H). nonlinearity: as for ``rnn_cell``.
    With δ_t = f'(u_t)∘(g_t + W_hhᵀ δ_{t+1}): dx_t = W_ihᵀ δ_t, dW_ih = Σ δ_t x_tᵀ, dW_hh = Σ δ_t h_{t-1}ᵀ, db = Σ δ_t.
    """
    dtype = input.dtype
    input, hx, w_ih, w_hh, b_ih, b_hh = widened(input, hx, w_ih, w_hh, b_ih, b_hh)
    spans = spans_of(batch_sizes, reverse)
    h = hx.T.copy()
    output = xp.empty((input.shape[0], hx.shape[1]), dtype=input.dtype)
    for (start, stop), given in zip(spans, projected(xp, input, w_ih, both(b_ih, b_hh), spans)):
        h_n = h[:, : stop - start]
        z = xp.dot(w_hh, h_n)
        z += given
        h_n[...] = activate(xp, z, nonlinearity)
        output[start:stop] = h_n.T
    (output,) = narrowed(dtype, output)
    return (output, *narrowed(dtype, h.T.copy())), output


# ---- LSTM ----------------------------------------------------------------------------------------


def _lstm_gates(xp: Any, i: Any, f: Any, g: Any, o: Any, c: Any) -> tuple[Any, ...]:
    """From the sums of input and state (see ``halved``): the gates, c', tanh(c') and h'."""
    i, f, o = [xp.tanh(x) * 0.5 + 0.5 for x in (i, f, o)]
    g = xp.tanh(g)
    c = f * c + i * g
    squashed = xp.tanh(c)
    return i, f, g, o, c, squashed, o * squashed


def _lstm_gates_backward(xp: Any, i: Any, f: Any, g: Any, o: Any, c: Any, squashed: Any, dh: Any, dc: Any) -> tuple[Any, ...]:
    """The derivatives of the four sums and of c."""
    through_o = dh * squashed
    dc = dc + o * (dh - through_o * squashed)
    return dc * (g * (i - i * i)), dc * (c * (f - f * f)), dc * (i - i * (g * g)), through_o * (o - o * o), dc * f


def _lstm_layer_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    batch_sizes: Sequence[int],
    reverse: bool,
    output: Any,
    block: Any,
    before: Any,
    squashed: Any,
) -> tuple[Any, ...]:
    dtype, width = input.dtype, hx.shape[1]
    gy, gh, gc, input, hx, w_ih, w_hh, output = widened(*g, input, hx, w_ih, w_hh, output)
    dh, dc = gh.T.copy(), gc.T.copy()
    dz = xp.empty_like(dh, shape=(4 * width, input.shape[0]))
    change = repeated(_lstm_gates_backward, rows=len(hx))
    for start, stop in reversed(spans_of(batch_sizes, reverse)):
        n = stop - start
        i, f, candidate, o = block_of(block, 4 * width, start, stop).reshape(4, width, n)
        c, tanh_c = block_of(before, width, start, stop), block_of(squashed, width, start, stop)
        dh_n, dc_n = dh[:, :n], dc[:, :n]
        dh_n += gy[start:stop].T
        made = xp.empty_like(dh, shape=(4, width, n))
        if not change([i, f, candidate, o, c, tanh_c, dh_n, dc_n], [*made, dc_n]):
            through_o = dh_n * tanh_c
            xp.multiply(through_o, o - o * o, out=made[3])
            dc_n += o * (dh_n - through_o * tanh_c)
            xp.multiply(dc_n, candidate * (i - i * i), out=made[0])
            xp.multiply(dc_n, c * (f - f * f), out=made[1])
            xp.multiply(dc_n, i - i * (candidate * candidate), out=made[2])
            dc_n *= f
        dz_n = made.reshape(4 * width, n)
        dh_n[...] = xp.dot(w_hh.T, dz_n)
        dz[:, start:stop] = dz_n
    states = states_before(output, hx, batch_sizes, reverse)
    dx, *rest = layer_gradients((needs[0], *needs[3:]), input, states, w_ih, dz)
    return narrowed(dtype, dx, dh.T.copy(), dc.T.copy(), *rest)


@fused(
    _lstm_layer_backward,
    lstm_steps,
    outputs=3,
    aux=("output", "block", "before", "squashed"),
    signature="(l,i),(n,h),(n,h),(4h,i),(4h,h),(4h),(4h)->(l,h),(n,h),(n,h)",
    cases=layer_case(4, 2),
)
def lstm_layer(
    xp: Any,
    input: Array,
    hx: Array,
    cx: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    batch_sizes: Sequence[int],
    reverse: bool = False,
) -> Any:
    """``lstm_cell`` for all steps: returns the rows of all h_t, and the last h and c.

    Shapes: input (L, I) in packed form, hx and cx (N, H), w_ih (4H, I), w_hh (4H, H), biases (4H); gates i, f, g, o.
    Source: Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000.
    """
    dtype, width = input.dtype, hx.shape[1]
    input, hx, cx, w_ih, w_hh, b_ih, b_hh = widened(input, hx, cx, w_ih, w_hh, b_ih, b_hh)
    bias = both(b_ih, b_hh)
    spans = spans_of(batch_sizes, reverse)
    gates = projected(xp, input, halved(w_ih, width), None if bias is None else halved(bias, width), spans)
    w_hh = halved(w_hh, width)
    h, c = hx.T.copy(), cx.T.copy()
    rows = kept_rows(input, batch_sizes)
    block = xp.empty(4 * width * rows, dtype=input.dtype)
    before, squashed = xp.empty(width * rows, dtype=input.dtype), xp.empty(width * rows, dtype=input.dtype)
    output = xp.empty((input.shape[0], width), dtype=input.dtype)
    change = repeated(_lstm_gates, rows=len(hx))
    for (start, stop), given in zip(spans, gates):
        n = stop - start
        at = start if rows == input.shape[0] else 0
        z = block_of(block, 4 * width, at, at + n)
        was, tanh_c = block_of(before, width, at, at + n), block_of(squashed, width, at, at + n)
        h_n, c_n = h[:, :n], c[:, :n]
        xp.dot(w_hh, h_n, out=z)
        z += given
        was[...] = c_n
        i, f, candidate, o = z.reshape(4, width, n)
        if not change([i, f, candidate, o, was], [i, f, candidate, o, c_n, tanh_c, h_n]):
            xp.tanh(z, out=z)
            for part in (z[: 2 * width], z[3 * width :]):
                part *= 0.5
                part += 0.5
            c_n *= f
            xp.multiply(i, candidate, out=tanh_c)
            c_n += tanh_c
            xp.tanh(c_n, out=tanh_c)
            xp.multiply(o, tanh_c, out=h_n)
        output[start:stop] = h_n.T
    (output,) = narrowed(dtype, output)
    return (output, *narrowed(dtype, h.T.copy(), c.T.copy())), output, block, before, squashed


# ---- GRU -----------------------------------------------------------------------------------------


def _gru_gates(xp: Any, r: Any, z: Any, n: Any, met: Any, h: Any) -> tuple[Any, ...]:
    """From the sums (see ``halved``), of which that of n is the input's part and ``met`` the state's: the gates and h'."""
    r, z = [xp.tanh(x) * 0.5 + 0.5 for x in (r, z)]
    n = xp.tanh(n + r * met)
    return r, z, n, n + z * (h - n)


def _gru_gates_backward(xp: Any, r: Any, z: Any, n: Any, met: Any, h: Any, dh: Any) -> tuple[Any, ...]:
    """The derivatives of the three sums' parts of the state, of the input's part of n's sum, and of h but for those parts."""
    dn = dh * (1 - z) * (1 - n * n)
    return dn * (met * (r - r * r)), dh * ((h - n) * (z - z * z)), dn * r, dn, dh * z


def _gru_layer_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    batch_sizes: Sequence[int],
    reverse: bool,
    output: Any,
    block: Any,
    met: Any,
) -> tuple[Any, ...]:
    dtype, width = input.dtype, hx.shape[1]
    gy, gh, input, hx, w_ih, w_hh, output = widened(*g, input, hx, w_ih, w_hh, output)
    states = states_before(output, hx, batch_sizes, reverse)
    dh = gh.T.copy()
    dz = xp.empty_like(dh, shape=(3 * width, input.shape[0]))
    dz_hh = xp.empty_like(dz)
    change = repeated(_gru_gates_backward, rows=len(hx))
    for start, stop in reversed(spans_of(batch_sizes, reverse)):
        n = stop - start
        r, z, candidate = block_of(block, 3 * width, start, stop).reshape(3, width, n)
        reset, before = block_of(met, width, start, stop), states[start:stop].T.copy()
        dh_n = dh[:, :n]
        dh_n += gy[start:stop].T
        made = xp.empty_like(dh, shape=(4, width, n))
        dcandidate = made[3]
        if not change([r, z, candidate, reset, before, dh_n], [*made, dh_n]):
            xp.multiply(dh_n, (before - candidate) * (z - z * z), out=made[1])
            xp.multiply(dh_n * (1 - z), 1 - candidate * candidate, out=dcandidate)
            xp.multiply(dcandidate, reset * (r - r * r), out=made[0])
            xp.multiply(dcandidate, r, out=made[2])
            dh_n *= z
        dz_n = made[:3].reshape(3 * width, n)
        dh_n += xp.dot(w_hh.T, dz_n)
        dz_hh[:, start:stop] = dz_n
        dz[: 2 * width, start:stop] = dz_n[: 2 * width]
        dz[2 * width :, start:stop] = dcandidate
    dx, *rest = layer_gradients((needs[0], *needs[2:]), input, states, w_ih, dz, dz_hh)
    return narrowed(dtype, dx, dh.T.copy(), *rest)


@fused(
    _gru_layer_backward,
    gru_steps,
    outputs=2,
    aux=("output", "block", "met"),
    signature="(l,i),(n,h),(3h,i),(3h,h),(3h),(3h)->(l,h),(n,h)",
    cases=layer_case(3, 1),
)
def gru_layer(
    xp: Any,
    input: Array,
    hx: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    batch_sizes: Sequence[int],
    reverse: bool = False,
) -> Any:
    """``gru_cell`` for all steps: returns the rows of all h_t, and the last h.

    Shapes: input (L, I) in packed form, hx (N, H), w_ih (3H, I), w_hh (3H, H), biases (3H); gates r, z, n. Source: Cho et al. 2014.
    """
    dtype, width = input.dtype, hx.shape[1]
    input, hx, w_ih, w_hh, b_ih, b_hh = widened(input, hx, w_ih, w_hh, b_ih, b_hh)
    spans = spans_of(batch_sizes, reverse)
    gates = projected(xp, input, halved(w_ih, width), None if b_ih is None else halved(b_ih, width), spans)
    w_hh = halved(w_hh, width)
    if b_hh is not None:
        b_hh = halved(b_hh, width)[:, None]
    h = hx.T.copy()
    rows = kept_rows(input, batch_sizes)
    block, met = xp.empty(3 * width * rows, dtype=input.dtype), xp.empty(width * rows, dtype=input.dtype)
    output = xp.empty((input.shape[0], width), dtype=input.dtype)
    change = repeated(_gru_gates, rows=len(hx))
    for (start, stop), given in zip(spans, gates):
        n = stop - start
        at = start if rows == input.shape[0] else 0
        sums, reset = block_of(block, 3 * width, at, at + n), block_of(met, width, at, at + n)
        h_n = h[:, :n]
        xp.dot(w_hh, h_n, out=sums)
        if b_hh is not None:
            sums += b_hh
        gate, candidate = sums[: 2 * width], sums[2 * width :]
        reset[...] = candidate
        candidate[...] = given[2 * width :]
        gate += given[: 2 * width]
        r, z = gate.reshape(2, width, n)
        if not change([r, z, candidate, reset, h_n], [r, z, candidate, h_n]):
            xp.tanh(gate, out=gate)
            gate *= 0.5
            gate += 0.5
            candidate += r * reset
            xp.tanh(candidate, out=candidate)
            # h' = n + z (h - n)
            h_n -= candidate
            h_n *= z
            h_n += candidate
        output[start:stop] = h_n.T
    (output,) = narrowed(dtype, output)
    return (output, *narrowed(dtype, h.T.copy())), output, block, met
