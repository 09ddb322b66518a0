"""One time step of recurrent networks, each as one operator: RNN and LSTM (with peepholes). The GRU is in ``gru.py``.

A ``cell`` takes the input of the step. A ``step`` takes the input's projection ``x W_ihᵀ + b_ih`` instead, so that the projections of a
whole sequence can be made by one product. Weights are PyTorch's: rows are the gates one after another.
"""

from __future__ import annotations

from typing import Any

from ..core.operator import Array, fused
from ..errors import error
from .activation import relu
from .comparison import keep
from .exponential import sigmoid, tanh
from .linalg import linear, weight_gradient
from .reduce import _sum

__all__ = ["lstm_cell", "lstm_step", "rnn_cell", "rnn_step"]

NONLINEARITIES = {"tanh": tanh, "relu": relu, "sigmoid": sigmoid}


# ---- cases of the tests --------------------------------------------------------------------------


def _sizes(pick: Any) -> tuple[int, int, int]:
    return pick.integer(1, 3), pick.integer(1, 3), pick.integer(1, 3)


def maybe(pick: Any, *shape: int) -> Any:
    return pick.array(shape) if pick.boolean() else None


def cell_case(gates: int, states: int, extra: Any = lambda pick, width: ((), {})) -> Any:
    def case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        n, features, width = _sizes(pick)
        held = [pick.array((n, width)) for _ in range(states)]
        weights = pick.array((gates * width, features)), pick.array((gates * width, width))
        more, keywords = extra(pick, width)
        bias = maybe(pick, gates * width), maybe(pick, gates * width)
        return (pick.array((n, features)), *held, *weights, *bias, *more), keywords

    return case


def step_case(gates: int, states: int, extra: Any = lambda pick, width: ((), {})) -> Any:
    def case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        n, _, width = _sizes(pick)
        held = [pick.array((n, width)) for _ in range(states)]
        more, keywords = extra(pick, width)
        weights = pick.array((gates * width, width)), maybe(pick, gates * width)
        return (pick.array((n, gates * width)), *held, *weights, *more), keywords

    return case


# ---- affine maps on raw arrays -------------------------------------------------------------------


def project(x: Any, weight: Any, bias: Any) -> Any:
    """x Wᵀ + b, a new array."""
    made = x.dot(weight.T)
    if bias is not None:
        made += bias
    return made


def _project_both(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """x W_ihᵀ + b_ih + h W_hhᵀ + b_hh, a new array."""
    made = x.dot(w_ih.T)
    made += h.dot(w_hh.T)
    if b_ih is not None and b_hh is not None:
        made += b_ih + b_hh
    elif b_ih is not None or b_hh is not None:
        made += b_ih if b_hh is None else b_hh
    return made


def column_sum(dz: Any) -> Any:
    return _sum(dz, 0)


def project_backward(dz: Any, needs: tuple[bool, ...], x: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Gradients of x, W and b; a missing bias needs none."""
    return (
        dz.dot(weight) if needs[0] else None,
        weight_gradient(dz, x) if needs[1] else None,
        column_sum(dz) if needs[2] else None,
    )


# ---- the simple cell -----------------------------------------------------------------------------


def activate(xp: Any, z: Any, nonlinearity: str) -> Any:
    if nonlinearity == "tanh":
        return xp.tanh(z, out=z)
    if nonlinearity == "relu":
        return xp.maximum(z, 0, out=z)
    if nonlinearity == "sigmoid":
        return sigmoid_in_place(xp, z)
    raise error(
        "TG-A001",
        op="rnn_cell",
        argument="nonlinearity",
        value=repr(nonlinearity),
        rule=("tanh, relu or sigmoid", "tanh、relu、sigmoid のどれか"),
        fix=("'tanh'.", "'tanh' などとしてください。"),
    )


def sigmoid_in_place(xp: Any, z: Any) -> Any:
    """1 / (1 + exp(-z)) as (tanh(z / 2) + 1) / 2, which never overflows."""
    z *= 0.5
    xp.tanh(z, out=z)
    z *= 0.5
    z += 0.5
    return z


def activation_backward(g: Any, y: Any, nonlinearity: str) -> Any:
    if nonlinearity == "tanh":
        made = g * y
        made *= y
        made -= g
        made *= -1.0
        return made
    if nonlinearity == "relu":
        return keep(g, y > 0)
    made = y - y * y
    made *= g
    return made


def _rnn_step_backward(
    xp: Any, g: Any, y: Any, needs: tuple[bool, ...], hx: Any, w_hh: Any, nonlinearity: str
) -> tuple[Any, ...]:
    dz = activation_backward(g, y, nonlinearity)
    return (dz, *project_backward(dz, needs[1:], hx, w_hh))


def _rnn_step_reference(gates: Any, hx: Any, w_hh: Any, b_hh: Any, nonlinearity: str) -> Any:
    return NONLINEARITIES[nonlinearity](gates + linear(hx, w_hh, b_hh))


def _with_nonlinearity(case: Any, sum_of: Any) -> Any:
    """Cases of an Elman cell with each of its functions; relu only where no ``sum_of`` the arguments is near its kink."""

    def drawn(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, _ = case(pick)
        smooth = abs(sum_of(*args)).min() < 0.05
        return args, {"nonlinearity": pick.choice(["tanh", "sigmoid"] if smooth else ["relu", "tanh", "sigmoid"])}

    return drawn


@fused(
    _rnn_step_backward,
    _rnn_step_reference,
    signature="(n,h),(n,h),(h,h),(h)->(n,h)",
    cases=_with_nonlinearity(step_case(1, 1), lambda gates, *held: gates + project(*held)),
)
def rnn_step(xp: Any, gates: Array, hx: Array, w_hh: Array, b_hh: Array | None = None, *, nonlinearity: str = "tanh") -> Array:
    """h' = f(gates + h W_hhᵀ + b_hh), with ``gates`` = x W_ihᵀ + b_ih made before. Shapes (N, H), (N, H), (H, H), (H)."""
    z = project(hx, w_hh, b_hh)
    z += gates
    return activate(xp, z, nonlinearity)


def _rnn_cell_backward(
    xp: Any,
    g: Any,
    y: Any,
    needs: tuple[bool, ...],
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    nonlinearity: str,
) -> tuple[Any, ...]:
    dz = activation_backward(g, y, nonlinearity)
    return _cell_gradients(dz, needs, input, hx, w_ih, w_hh)


def _cell_gradients(dz: Any, needs: tuple[bool, ...], input: Any, hx: Any, w_ih: Any, w_hh: Any) -> tuple[Any, ...]:
    """Gradients of a cell's six arguments from that of the sum of its two projections."""
    db = column_sum(dz) if needs[4] or needs[5] else None
    return (
        dz.dot(w_ih) if needs[0] else None,
        dz.dot(w_hh) if needs[1] else None,
        weight_gradient(dz, input) if needs[2] else None,
        weight_gradient(dz, hx) if needs[3] else None,
        db,
        db,
    )


def _rnn_cell_reference(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, nonlinearity: str) -> Any:
    return _rnn_step_reference(linear(input, w_ih, b_ih), hx, w_hh, b_hh, nonlinearity)


@fused(
    _rnn_cell_backward,
    _rnn_cell_reference,
    signature="(n,i),(n,h),(h,i),(h,h),(h),(h)->(n,h)",
    cases=_with_nonlinearity(cell_case(1, 1), _project_both),
)
def rnn_cell(
    xp: Any,
    input: Array,
    hx: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    nonlinearity: str = "tanh",
) -> Array:
    """Elman's cell: h' = f(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh), f one of "tanh", "relu", "sigmoid".

    Shapes: input (N, I), hx (N, H), w_ih (H, I), w_hh (H, H), biases (H). dz = g f'(z); dx = dz W_ih, dh = dz W_hh, dW = dzᵀ x.
    """
    z = _project_both(input, hx, w_ih, w_hh, b_ih, b_hh)
    return activate(xp, z, nonlinearity)


# ---- LSTM ----------------------------------------------------------------------------------------
#
# The gates live in one block (4, N, H) in the order i, f, o, g: each is contiguous, and the three sigmoids lie side by side. The
# parameters keep PyTorch's order i, f, g, o, so the last two change places on the way in and out.


def _lstm_forward(xp: Any, z: Any, cx: Any, w_ci: Any, w_cf: Any, w_co: Any) -> tuple[Any, Any, Any, Any]:
    """h, c, the block of gates, and tanh(c), from the projections z (N, 4H)."""
    n, width = cx.shape
    block = xp.empty((4, n, width), dtype=z.dtype)
    parts = z.reshape(n, 4, width).transpose(1, 0, 2)
    block[:2] = parts[:2]
    block[:1:-1] = parts[2:]
    i, f, o, g = block
    if w_ci is not None:
        i += w_ci * cx
    if w_cf is not None:
        f += w_cf * cx
    if w_co is None:
        squashed = block[:3]
        squashed *= 0.5
        xp.tanh(block, out=block)
        squashed *= 0.5
        squashed += 0.5
    else:
        sigmoid_in_place(xp, block[:2])
        xp.tanh(g, out=g)
    c = f * cx
    c += i * g
    if w_co is not None:
        o += w_co * c
        sigmoid_in_place(xp, o)
    tanh_c = xp.tanh(c)
    return o * tanh_c, c, block, tanh_c


def _lstm_backward(
    xp: Any, g: Any, cx: Any, block: Any, tanh_c: Any, w_ci: Any, w_cf: Any, w_co: Any
) -> tuple[Any, Any, tuple[Any, ...]]:
    """dz (N, 4H), dc of the state before, and the gradients of the peepholes."""
    gh, gc = g
    i, f, o, candidate = block
    made = xp.empty(block.shape, dtype=block.dtype)
    slope = block[:3] * block[:3]
    xp.subtract(block[:3], slope, out=slope)  # of the sigmoids: s (1 - s)
    through_h = gh * tanh_c
    xp.multiply(through_h, slope[2], out=made[2])
    # dc = gc + gh o (1 - tanh²(c)), and through the output gate's peephole
    dc = gh * o
    through_h *= o
    through_h *= tanh_c
    dc -= through_h
    dc += gc
    dw_co = None
    if w_co is not None:
        dc += made[2] * w_co
        dw_co = column_sum(made[2] * (f * cx + i * candidate))
    xp.multiply(dc, candidate, out=made[0])
    xp.multiply(dc, cx, out=made[1])
    both = made[:2]
    both *= slope[:2]
    last = made[3]
    xp.multiply(dc, i, out=last)
    tail = last * candidate
    tail *= candidate
    last -= tail
    dc *= f
    dw_ci = dw_cf = None
    if w_ci is not None:
        dc += made[0] * w_ci
        dw_ci = column_sum(made[0] * cx)
    if w_cf is not None:
        dc += made[1] * w_cf
        dw_cf = column_sum(made[1] * cx)
    n, width = cx.shape
    dz = xp.empty((n, 4, width), dtype=block.dtype)
    parts = dz.transpose(1, 0, 2)
    parts[:2] = made[:2]
    parts[2:] = made[:1:-1]
    return dz.reshape(n, 4 * width), dc, (dw_ci, dw_cf, dw_co)


def _lstm_step_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    hx: Any,
    cx: Any,
    w_hh: Any,
    w_ci: Any,
    w_cf: Any,
    w_co: Any,
    block: Any,
    tanh_c: Any,
) -> tuple[Any, ...]:
    dz, dc, peepholes = _lstm_backward(xp, g, cx, block, tanh_c, w_ci, w_cf, w_co)
    dh, dw_hh, db_hh = project_backward(dz, (needs[1], needs[3], needs[4]), hx, w_hh)
    return (dz, dh, dc, dw_hh, db_hh, *peepholes)


def _lstm_step_reference(
    gates: Any, hx: Any, cx: Any, w_hh: Any, b_hh: Any, w_ci: Any, w_cf: Any, w_co: Any
) -> tuple[Any, Any]:
    width = cx.shape[-1]
    z = gates + linear(hx, w_hh, b_hh)
    i, f, candidate, o = [z[:, k * width : (k + 1) * width] for k in range(4)]
    i = i if w_ci is None else i + cx * w_ci
    f = f if w_cf is None else f + cx * w_cf
    c = sigmoid(f) * cx + sigmoid(i) * tanh(candidate)
    o = o if w_co is None else o + c * w_co
    return sigmoid(o) * tanh(c), c


def _peepholes(pick: Any, width: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (maybe(pick, width), maybe(pick, width), maybe(pick, width)), {}


@fused(
    _lstm_step_backward,
    _lstm_step_reference,
    outputs=2,
    aux=("block", "tanh_c"),
    signature="(n,4h),(n,h),(n,h),(4h,h),(4h),(h),(h),(h)->(n,h),(n,h)",
    cases=step_case(4, 2, _peepholes),
)
def lstm_step(
    xp: Any,
    gates: Array,
    hx: Array,
    cx: Array,
    w_hh: Array,
    b_hh: Array | None = None,
    w_ci: Array | None = None,
    w_cf: Array | None = None,
    w_co: Array | None = None,
) -> Any:
    """``lstm_cell`` with ``gates`` = x W_ihᵀ + b_ih (N, 4H) made before. Returns (h, c)."""
    z = project(hx, w_hh, b_hh)
    z += gates
    h, c, block, tanh_c = _lstm_forward(xp, z, cx, w_ci, w_cf, w_co)
    return (h, c), block, tanh_c


def _lstm_cell_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    input: Any,
    hx: Any,
    cx: Any,
    w_ih: Any,
    w_hh: Any,
    w_ci: Any,
    w_cf: Any,
    w_co: Any,
    block: Any,
    tanh_c: Any,
) -> tuple[Any, ...]:
    dz, dc, peepholes = _lstm_backward(xp, g, cx, block, tanh_c, w_ci, w_cf, w_co)
    dx, dh, *rest = _cell_gradients(dz, needs[:2] + needs[3:], input, hx, w_ih, w_hh)
    return (dx, dh, dc, *rest, *peepholes)


def _lstm_cell_reference(
    input: Any, hx: Any, cx: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, w_ci: Any, w_cf: Any, w_co: Any
) -> tuple[Any, Any]:
    return _lstm_step_reference(linear(input, w_ih, b_ih), hx, cx, w_hh, b_hh, w_ci, w_cf, w_co)


@fused(
    _lstm_cell_backward,
    _lstm_cell_reference,
    outputs=2,
    aux=("block", "tanh_c"),
    signature="(n,i),(n,h),(n,h),(4h,i),(4h,h),(4h),(4h),(h),(h),(h)->(n,h),(n,h)",
    cases=cell_case(4, 2, _peepholes),
)
def lstm_cell(
    xp: Any,
    input: Array,
    hx: Array,
    cx: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    w_ci: Array | None = None,
    w_cf: Array | None = None,
    w_co: Array | None = None,
) -> Any:
    """LSTM cell; returns (h, c). Rows of the weights: gates i, f, g, o.

    i = σ(z_i + w_ci c), f = σ(z_f + w_cf c), c' = f c + i tanh(z_g), o = σ(z_o + w_co c'), h' = o tanh(c'), with
    z = x W_ihᵀ + b_ih + h W_hhᵀ + b_hh. Shapes: input (N, I), hx and cx (N, H), w_ih (4H, I), w_hh (4H, H), biases (4H), peepholes (H).
    Source: Hochreiter & Schmidhuber 1997; forget gate and peepholes: Gers & Schmidhuber 2000.
    """
    z = _project_both(input, hx, w_ih, w_hh, b_ih, b_hh)
    h, c, block, tanh_c = _lstm_forward(xp, z, cx, w_ci, w_cf, w_co)
    return (h, c), block, tanh_c
