"""The recurrent cells as texts for symbols: each gate is a part of its own, so that a step between two products is one pass."""

from __future__ import annotations

from typing import Any

from ..ops.rnn import activate, activation_backward, column_sum, project, project_backward
from .symbolic import Symbol
from .symbolic_shapes import side_by_side


def is_zero(value: Any) -> bool:
    """Whether a cotangent is known to be zero: that of an output that nobody used."""
    return isinstance(value, Symbol) and value.fill is not None and value.fill == 0


def _sigmoid(xp: Any, z: Any) -> Any:
    return xp.tanh(z * 0.5) * 0.5 + 0.5


def _lstm_forward(xp: Any, z: Any, cx: Any, w_ci: Any, w_cf: Any, w_co: Any) -> Any:
    width = cx.shape[1]
    i, f, g, o = [z[:, k * width : (k + 1) * width] for k in range(4)]
    i = _sigmoid(xp, i if w_ci is None else i + w_ci * cx)
    f = _sigmoid(xp, f if w_cf is None else f + w_cf * cx)
    g = xp.tanh(g)
    c = f * cx + i * g
    o = _sigmoid(xp, o if w_co is None else o + w_co * c)
    tanh_c = xp.tanh(c)
    return (o * tanh_c, c), side_by_side([i, f, o, g]), tanh_c


def lstm_step(
    xp: Any, gates: Any, hx: Any, cx: Any, w_hh: Any, b_hh: Any = None, w_ci: Any = None, w_cf: Any = None, w_co: Any = None
) -> Any:
    return _lstm_forward(xp, project(hx, w_hh, b_hh) + gates, cx, w_ci, w_cf, w_co)


def _both_projections(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    made = x.dot(w_ih.T) + h.dot(w_hh.T)
    if b_ih is None and b_hh is None:
        return made
    return made + (b_ih + b_hh if b_ih is not None and b_hh is not None else b_ih if b_hh is None else b_hh)


def lstm_cell(
    xp: Any,
    input: Any,
    hx: Any,
    cx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    w_ci: Any = None,
    w_cf: Any = None,
    w_co: Any = None,
) -> Any:
    return _lstm_forward(xp, _both_projections(input, hx, w_ih, w_hh, b_ih, b_hh), cx, w_ci, w_cf, w_co)


def _lstm_backward(
    xp: Any, g: Any, needs_c: bool, cx: Any, block: Any, tanh_c: Any, w_ci: Any, w_cf: Any, w_co: Any
) -> tuple[Any, Any, tuple[Any, ...]]:
    """dz (N, 4H), dc of the state before, and the gradients of the peepholes."""
    gh, gc = g
    i, f, o, candidate = block
    through_h = gh * tanh_c
    dz_o = through_h * (o - o * o)
    dc = gh * o - through_h * o * tanh_c
    if not is_zero(gc):
        dc = dc + gc
    dw_ci = dw_cf = dw_co = None
    if w_co is not None:
        dc = dc + dz_o * w_co
        dw_co = column_sum(dz_o * (f * cx + i * candidate))
    dz_i = dc * candidate * (i - i * i)
    dz_f = dc * cx * (f - f * f)
    last = dc * i
    dz_g = last - last * candidate * candidate
    before = dc * f if needs_c else None
    if w_ci is not None:
        before = None if before is None else before + dz_i * w_ci
        dw_ci = column_sum(dz_i * cx)
    if w_cf is not None:
        before = None if before is None else before + dz_f * w_cf
        dw_cf = column_sum(dz_f * cx)
    return xp.concatenate([dz_i, dz_f, dz_g, dz_o], 1), before, (dw_ci, dw_cf, dw_co)


def lstm_step_backward(
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
    dz, dc, peepholes = _lstm_backward(xp, g, needs[2], cx, block, tanh_c, w_ci, w_cf, w_co)
    dh, dw_hh, db_hh = project_backward(dz, (needs[1], needs[3], needs[4]), hx, w_hh)
    return (dz, dh, dc, dw_hh, db_hh, *peepholes)


def _cell_gradients(dz: Any, needs: tuple[bool, ...], input: Any, hx: Any, w_ih: Any, w_hh: Any) -> tuple[Any, ...]:
    db = column_sum(dz) if needs[4] or needs[5] else None
    return (
        dz.dot(w_ih) if needs[0] else None,
        dz.dot(w_hh) if needs[1] else None,
        dz.T.dot(input) if needs[2] else None,
        dz.T.dot(hx) if needs[3] else None,
        db,
        db,
    )


def lstm_cell_backward(
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
    dz, dc, peepholes = _lstm_backward(xp, g, needs[2], cx, block, tanh_c, w_ci, w_cf, w_co)
    dx, dh, *rest = _cell_gradients(dz, needs[:2] + needs[3:], input, hx, w_ih, w_hh)
    return (dx, dh, dc, *rest, *peepholes)


def _gru_forward(xp: Any, zx: Any, hx: Any, w_hh: Any, b_hh: Any, reset_after: bool) -> tuple[Any, Any, Any]:
    width = hx.shape[1]

    def gate(array: Any, k: int) -> Any:
        return array[:, k * width : (k + 1) * width]

    if reset_after:
        held = project(hx, w_hh, b_hh)
    else:
        held = project(hx, w_hh[: 2 * width], None if b_hh is None else b_hh[: 2 * width])
    r, z = [_sigmoid(xp, gate(zx, k) + gate(held, k)) for k in range(2)]
    if reset_after:
        met = gate(held, 2)
        candidate = r * met
    else:
        met = r * hx
        candidate = project(met, w_hh[2 * width :], None if b_hh is None else b_hh[2 * width :])
    candidate = xp.tanh(candidate + gate(zx, 2))
    return (hx - candidate) * z + candidate, side_by_side([r, z, candidate]), met


def gru_step(xp: Any, gates: Any, hx: Any, w_hh: Any, b_hh: Any = None, *, reset_after: bool = True) -> Any:
    return _gru_forward(xp, gates, hx, w_hh, b_hh, reset_after)


def gru_cell(
    xp: Any, input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, *, reset_after: bool = True
) -> Any:
    return _gru_forward(xp, project(input, w_ih, b_ih), hx, w_hh, b_hh, reset_after)


def _gru_backward(
    xp: Any, g: Any, needs_h: bool, needs_w: bool, hx: Any, w_hh: Any, block: Any, met: Any, reset_after: bool
) -> Any:
    """Gradients of the two projections (N, 3H), of h, and of W_hh."""
    width = hx.shape[1]
    r, z, candidate = block
    through_z = g * z
    last = g - through_z
    dn = last - last * candidate * candidate
    dz = (hx - candidate) * g * (z - z * z)
    dmet = None if reset_after else dn.dot(w_hh[2 * width :])
    dr = (dn * met if reset_after else dmet * hx) * (r - r * r)
    dx = xp.concatenate([dr, dz, dn], 1)
    dh = xp.concatenate([dr, dz, dn * r], 1) if reset_after else dx
    dhx = dw = None
    if needs_h:
        dhx = dh.dot(w_hh) if reset_after else dh[:, : 2 * width].dot(w_hh[: 2 * width]) + dmet * r
        dhx = dhx + through_z
    if needs_w:
        dw = dh.T.dot(hx) if reset_after else xp.concatenate([dh[:, : 2 * width].T.dot(hx), dn.T.dot(met)])
    return dx, dh, dhx, dw


def gru_step_backward(
    xp: Any, g: Any, needs: tuple[bool, ...], hx: Any, w_hh: Any, reset_after: bool, block: Any, met: Any
) -> tuple[Any, ...]:
    dx, dh, dhx, dw = _gru_backward(xp, g, needs[1], needs[2], hx, w_hh, block, met, reset_after)
    return dx, dhx, dw, column_sum(dh) if needs[3] else None


def gru_cell_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    reset_after: bool,
    block: Any,
    met: Any,
) -> tuple[Any, ...]:
    dx, dh, dhx, dw = _gru_backward(xp, g, needs[1], needs[3], hx, w_hh, block, met, reset_after)
    dinput, dw_ih, db_ih = project_backward(dx, (needs[0], needs[2], needs[4]), input, w_ih)
    return dinput, dhx, dw_ih, dw, db_ih, column_sum(dh) if needs[5] else None


def _slope(g: Any, y: Any, nonlinearity: str) -> Any:
    """g f'(z), in one subtraction less for tanh."""
    return g - g * y * y if nonlinearity == "tanh" else activation_backward(g, y, nonlinearity)


def rnn_step_backward(
    xp: Any, g: Any, y: Any, needs: tuple[bool, ...], hx: Any, w_hh: Any, nonlinearity: str
) -> tuple[Any, ...]:
    dz = _slope(g, y, nonlinearity)
    return (dz, *project_backward(dz, needs[1:], hx, w_hh))


def rnn_cell_backward(
    xp: Any, g: Any, y: Any, needs: tuple[bool, ...], input: Any, hx: Any, w_ih: Any, w_hh: Any, nonlinearity: str
) -> tuple[Any, ...]:
    return _cell_gradients(_slope(g, y, nonlinearity), needs, input, hx, w_ih, w_hh)


def rnn_cell(
    xp: Any,
    input: Any,
    hx: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    *,
    nonlinearity: str = "tanh",
) -> Any:
    return activate(xp, _both_projections(input, hx, w_ih, w_hh, b_ih, b_hh), nonlinearity)
