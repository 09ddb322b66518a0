"""Weights of recurrent layers from programs that order the gates in another way and multiply from the other side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.host import on_host
from ..core.tensor import Tensor
from ..errors import Phrase, error, refusal

_GATES: Mapping[str, str] = {"RNN": "h", "LSTM": "ifgo", "GRU": "rzn"}
"""The gates of each layer in the order of ``nn``: input, forget, candidate, output; reset, update, candidate."""


def recurrent_weights(
    kind: str, wx: Any, wh: Any, b: Any = None, *, gates: str | None = None, layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """The state of a layer of ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` from matrices that stand on the right: x Wx + h Wh + b.

    kind: ``"RNN"``, ``"LSTM"`` or ``"GRU"``. wx: (D, G H) for G gates of H units, wh: (H, G H), b: (G H,), or (2, G H) when input and
    state have a bias each, or None for a layer with ``bias=False``. Arrays or Tensors.
    gates: the order of the gates in the columns, in the letters of ``nn``: i, f, g (candidate), o for an LSTM, r, z, n (candidate) for a
    GRU. None: as in ``nn``, ``"ifgo"`` and ``"rzn"``. Keras has ``"ifgo"`` and ``"zrn"``; the LSTM of "Deep Learning from Scratch 2" has
    ``"fgio"``.
    layer, reverse: which part of a stacked or bidirectional layer it becomes. Join the dicts of several for ``load_state_dict``.
    Raises ShapeError for shapes that do not belong together; ArgumentError for unknown letters, and for a GRU with one bias: there the reset
    gate comes before the product, tanh(x Wx + (r h) Wh + b), another function than that of ``nn.GRU``, tanh(x Wx + b + r (h Wh + c)).

    >>> import tinygrad_ja as tg
    >>> H = 3
    >>> state = recurrent_weights("LSTM", np.zeros((2, 4 * H)), np.zeros((H, 4 * H)), np.zeros(4 * H), gates="fgio")
    >>> tg.nn.LSTM(2, H).load_state_dict(state)
    <All keys matched successfully>
    """
    given = {"wx": on_host(wx), "wh": on_host(wh), **({} if b is None else {"b": np.atleast_2d(on_host(b))})}
    columns = _columns(kind, gates)
    _check_shapes(len(columns), given)
    if kind == "GRU" and "b" in given and len(given["b"]) == 1:
        raise _refusal(
            "b",
            ("one bias", "バイアスが 1 つ"),
            ("two for a GRU, (2, 3 H)", "GRU では 2 つ、(2, 3 H)"),
            (
                "its reset gate is applied before the product, which nn.GRU cannot do; train it with reset_after=True.",
                "リセットゲートを積の前に掛ける式で、nn.GRU とは別の関数です。reset_after=True で学習し直してください。",
            ),
        )
    ordered = {name: _reordered(array, columns) for name, array in given.items()}
    suffix = f"_l{layer}{'_reverse' if reverse else ''}"
    state = {f"weight_ih{suffix}": ordered["wx"].T, f"weight_hh{suffix}": ordered["wh"].T}
    if "b" in ordered:
        biases = ordered["b"]
        state[f"bias_ih{suffix}"] = biases[0]
        state[f"bias_hh{suffix}"] = biases[1] if len(biases) == 2 else np.zeros_like(biases[0])
    return {name: Tensor(np.ascontiguousarray(array)) for name, array in state.items()}


def _columns(kind: str, gates: str | None) -> list[int]:
    """For each gate of ``nn``, its place among the gates that are given."""
    if kind not in _GATES:
        raise _refusal("kind", repr(kind), ", ".join(_GATES), ("choose one of them.", "どれかを選んでください。"))
    own = _GATES[kind]
    order = own if gates is None else gates
    if sorted(order) != sorted(own):
        raise _refusal(
            "gates", repr(gates), (f"the letters of {own!r}", f"{own!r} の文字"), ("order them.", "並べ替えてください。")
        )
    return [order.index(gate) for gate in own]


def _check_shapes(count: int, given: dict[str, np.ndarray]) -> None:
    hidden = given["wh"].shape[0] if given["wh"].ndim == 2 else 0
    width = count * hidden
    wrong = [
        name
        for name, array in given.items()
        if array.ndim != 2 or array.shape[1] != width or (name == "b" and array.shape[0] not in (1, 2))
    ]
    if wrong or not hidden:
        raise error(
            "TG-S002",
            op="recurrent_weights",
            rule=f"wx (D, {count} H), wh (H, {count} H), b ({count} H,) or (2, {count} H)",
            shapes=", ".join(f"{name} {array.shape}" for name, array in given.items()),
            fix=("pass matrices that stand on the right: x @ wx.", "右から掛ける行列 (x @ wx) を渡してください。"),
        )


def _reordered(array: np.ndarray, columns: list[int]) -> np.ndarray:
    rows = array.shape[0]
    return array.reshape(rows, len(columns), -1)[:, columns].reshape(rows, -1)


def _refusal(argument: str, value: Phrase, rule: Phrase, fix: Phrase) -> Exception:
    return refusal("recurrent_weights", argument, value, rule, fix)
