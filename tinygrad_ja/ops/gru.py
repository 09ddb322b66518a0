"""One time step of a gated recurrent unit as one operator. Its gates live in blocks (3, N, H) in PyTorch's order r, z, n."""

from __future__ import annotations

from typing import Any

from ..core.operator import Array, fused
from .exponential import sigmoid, tanh
from .join import split
from .linalg import linear, weight_gradient
from .rnn import cell_case, column_sum, project, project_backward, sigmoid_in_place, step_case

__all__ = ["gru_cell", "gru_step"]


def _blocks(z: Any, width: int) -> Any:
    """(N, 3H) as (3, N, H), a view."""
    return z.reshape(z.shape[0], 3, width).transpose(1, 0, 2)


def _gru_forward(xp: Any, zx: Any, hx: Any, w_hh: Any, b_hh: Any, reset_after: bool) -> tuple[Any, Any, Any]:
    """h', the block of gates, and what the reset gate met: h W_hnᵀ + b_hn (reset after), or r∘h (reset before)."""
    n, width = hx.shape
    block = xp.empty((3, n, width), dtype=hx.dtype)
    r, z, candidate = block
    given = _blocks(zx, width)
    if reset_after:
        held = _blocks(project(hx, w_hh, b_hh), width)
        xp.add(given[:2], held[:2], out=block[:2])
        sigmoid_in_place(xp, block[:2])
        met = held[2].copy()
        xp.multiply(r, met, out=candidate)
    else:
        held = project(hx, w_hh[: 2 * width], None if b_hh is None else b_hh[: 2 * width])
        xp.add(given[:2], held.reshape(n, 2, width).transpose(1, 0, 2), out=block[:2])
        sigmoid_in_place(xp, block[:2])
        met = r * hx
        candidate[...] = project(met, w_hh[2 * width :], None if b_hh is None else b_hh[2 * width :])
    candidate += given[2]
    xp.tanh(candidate, out=candidate)
    h = hx - candidate
    h *= z
    h += candidate
    return h, block, met


def _gru_backward(xp: Any, g: Any, hx: Any, w_hh: Any, block: Any, met: Any, reset_after: bool) -> tuple[Any, Any, Any, Any]:
    """Gradients of the two projections (N, 3H), of h, and of W_hh."""
    n, width = hx.shape
    r, z, candidate = block
    dx = xp.empty((n, 3, width), dtype=block.dtype)
    through_z = g * z
    made = xp.empty(block.shape, dtype=block.dtype)
    # n' = (1 - z) (1 - n²),  z' = (h - n) z (1 - z)
    last = g - through_z
    tail = last * candidate
    tail *= candidate
    xp.subtract(last, tail, out=made[2])
    xp.subtract(hx, candidate, out=made[1])
    made[1] *= g
    if reset_after:
        xp.multiply(made[2], met, out=made[0])
    else:
        dmet = made[2].dot(w_hh[2 * width :])
        xp.multiply(dmet, hx, out=made[0])
    slope = block[:2] * block[:2]
    xp.subtract(block[:2], slope, out=slope)
    both = made[:2]
    both *= slope
    dx.transpose(1, 0, 2)[...] = made
    dh = dx
    if reset_after:
        dh = dx.copy()
        dh[:, 2] *= r
        dh = dh.reshape(n, 3 * width)
        dhx = dh.dot(w_hh)
        dw = weight_gradient(dh, hx)
    else:
        dh = dx.reshape(n, 3 * width)
        dhx = dh[:, : 2 * width].dot(w_hh[: 2 * width])
        dhx += dmet * r
        dw = xp.concatenate([dh[:, : 2 * width].T.dot(hx), made[2].T.dot(met)])
    dhx += through_z
    return dx.reshape(n, 3 * width), dh, dhx, dw


def _gru_step_backward(
    xp: Any,
    g: Any,
    needs: tuple[bool, ...],
    hx: Any,
    w_hh: Any,
    reset_after: bool,
    block: Any,
    met: Any,
) -> tuple[Any, ...]:
    dx, dh, dhx, dw = _gru_backward(xp, g, hx, w_hh, block, met, reset_after)
    return dx, dhx, dw, column_sum(dh) if needs[3] else None


def _gru_step_reference(gates: Any, hx: Any, w_hh: Any, b_hh: Any, reset_after: bool) -> Any:
    width = hx.shape[-1]
    x_rz, x_n = gates[:, : 2 * width], gates[:, 2 * width :]
    w_rz, w_n = w_hh[: 2 * width], w_hh[2 * width :]
    b_rz, b_n = (None, None) if b_hh is None else (b_hh[: 2 * width], b_hh[2 * width :])
    r, z = split(x_rz + linear(hx, w_rz, b_rz), width, 1)
    r, z = sigmoid(r), sigmoid(z)
    met = r * linear(hx, w_n, b_n) if reset_after else linear(r * hx, w_n, b_n)
    candidate = tanh(x_n + met)
    return (1 - z) * candidate + z * hx


def _order(pick: Any, width: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (), {"reset_after": pick.boolean()}


@fused(
    _gru_step_backward,
    _gru_step_reference,
    aux=("block", "met"),
    signature="(n,3h),(n,h),(3h,h),(3h)->(n,h)",
    cases=step_case(3, 1, _order),
)
def gru_step(xp: Any, gates: Array, hx: Array, w_hh: Array, b_hh: Array | None = None, *, reset_after: bool = True) -> Any:
    """``gru_cell`` with ``gates`` = x W_ihᵀ + b_ih (N, 3H) made before."""
    return _gru_forward(xp, gates, hx, w_hh, b_hh, reset_after)


def _gru_cell_backward(
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
    dx, dh, dhx, dw = _gru_backward(xp, g, hx, w_hh, block, met, reset_after)
    dinput, dw_ih, db_ih = project_backward(dx, (needs[0], needs[2], needs[4]), input, w_ih)
    return dinput, dhx, dw_ih, dw, db_ih, column_sum(dh) if needs[5] else None


def _gru_cell_reference(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, reset_after: bool) -> Any:
    return _gru_step_reference(linear(input, w_ih, b_ih), hx, w_hh, b_hh, reset_after)


@fused(
    _gru_cell_backward,
    _gru_cell_reference,
    aux=("block", "met"),
    signature="(n,i),(n,h),(3h,i),(3h,h),(3h),(3h)->(n,h)",
    cases=cell_case(3, 1, _order),
)
def gru_cell(
    xp: Any,
    input: Array,
    hx: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    reset_after: bool = True,
) -> Any:
    """GRU cell. Rows of the weights: gates r, z, n.

    r = σ(x W_ir + h W_hr), z = σ(x W_iz + h W_hz), n = tanh(x W_in + b_in + r∘(h W_hn + b_hn)), h' = (1 - z)∘n + z∘h; with
    ``reset_after=False`` the textbook's n = tanh(x W_in + b_in + (r∘h) W_hn + b_hn).
    Shapes: input (N, I), hx (N, H), w_ih (3H, I), w_hh (3H, H), biases (3H). Source: Cho et al. 2014.
    """
    return _gru_forward(xp, project(input, w_ih, b_ih), hx, w_hh, b_hh, reset_after)
