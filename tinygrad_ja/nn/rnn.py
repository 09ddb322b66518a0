"""Recurrent layers: RNN, LSTM and GRU over whole sequences. Their cells for one step are in ``rnn_cell.py``.

Names, shapes and the order of gates are PyTorch's: ``weight_ih_l0`` (gates·H, D) maps the input, ``weight_hh_l0`` (gates·H, H) the
state, and ``_reverse`` marks the backward direction. Gates: LSTM i, f, g, o; GRU r, z, n. All start uniform in ±1/√H.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from ..core.tensor import Tensor
from ..errors import error, joined, refusal
from ..ops import creation
from ..ops.join import cat, stack, unbind
from ..ops.random import dropout
from ..ops.recurrent_layer import gru_layer, gru_steps, lstm_layer, lstm_steps, rnn_layer
from ..ops.selection import index_select
from ..ops.shape import reshape, squeeze, transpose, unsqueeze
from . import init
from .module import Module
from .parameter import Parameter
from .rnn_cell import PEEPHOLES, check_nonlinearity
from .utils.rnn import PackedSequence


class RNNBase(Module):
    """What the layers share: parameters, and the loop over layers and directions.

    Each layer in each direction is one operator of ``ops/recurrent_layer.py``, or the loop over time steps there, whose tape is
    back-propagation through time.
    """

    gates = 1
    states = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool = False,
        merge: str = "concat",
    ) -> None:
        super().__init__()
        op = type(self).__name__
        for argument, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int) or value < 1:
                raise refusal(op, argument, value, (f"an int, {argument} >= 1", f"整数、{argument} >= 1"))
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise refusal(op, "dropout", dropout, "0 <= dropout <= 1")
        if not 0 <= proj_size < hidden_size:
            raise refusal(op, "proj_size", proj_size, "0 <= proj_size < hidden_size")
        if merge not in ("concat", "sum"):
            raise refusal(op, "merge", repr(merge), ("'concat' or 'sum'", "'concat' か 'sum'"))
        if dropout and num_layers == 1:
            warnings.warn(f"dropout={dropout} acts between layers, so it does nothing with num_layers=1", stacklevel=3)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self.proj_size, self.merge = proj_size, merge
        self._names: list[list[str]] = []
        rows, width = self.gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else width * (self._directions if merge == "concat" else 1)
            for direction in range(self._directions):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, width)}
                if bias:
                    shapes.update(bias_ih=(rows,), bias_hh=(rows,))
                if proj_size:
                    shapes.update(weight_hr=(proj_size, hidden_size))
                if peephole:
                    shapes.update(dict.fromkeys(PEEPHOLES, (hidden_size,)))
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                for name, shape in shapes.items():
                    setattr(self, name + suffix, Parameter(creation.empty(*shape, device=device, dtype=dtype)))
                self._names.append([name + suffix for name in shapes])
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters, one list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._names]

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do here; programs written for PyTorch on a GPU call it."""

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "merge": "concat",
        }
        parts += [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ", ".join(parts)

    def _layer(
        self, rows: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor], batch_sizes: Sequence[int], reverse: bool
    ) -> tuple[Tensor, ...]:
        """One layer in one direction: the outputs of all steps as rows, and the last state."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Returns ``(output, h_n)``, an LSTM ``(output, (h_n, c_n))``.

        input: (T, N, D), with ``batch_first`` (N, T, D); (T, D) without a batch; or a ``PackedSequence``.
        hx: the first state (num_layers·directions, N, H), zeros if None; an LSTM takes the pair (h_0, c_0).
        output: the last layer's h of every step, (T, N, directions·H), packed for packed input; h_n: the last state of every layer and
        direction. Raises ShapeError when the sizes do not fit.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3):
            raise self._misfit(input)
        batched = input.ndim == 3
        x = unsqueeze(input, 1) if not batched else transpose(input, 0, 1) if self.batch_first else input
        t, n, size = x.shape
        if size != self.input_size or not t:
            raise self._misfit(input)
        state = self._first_state(hx, (n,) if batched else (), x)
        if not batched:
            state = [unsqueeze(s, 1) for s in state]
        rows, last = self._all_layers(reshape(x, (t * n, size)), state, (n,) * t)
        output = reshape(rows, (t, n, rows.shape[1]))
        if not batched:
            return squeeze(output, 1), self._state([squeeze(s, 1) for s in last])
        return transpose(output, 0, 1) if self.batch_first else output, self._state(last)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        rows, batch_sizes, order, inverse = input
        if rows.ndim != 2 or rows.shape[1] != self.input_size:
            raise self._misfit(rows)
        sizes = tuple(batch_sizes.tolist())
        state = self._first_state(hx, (sizes[0],), rows)
        if order is not None and hx is not None:
            state = [index_select(s, 1, order) for s in state]
        made, last = self._all_layers(rows, state, sizes)
        if inverse is not None:
            last = [index_select(s, 1, inverse) for s in last]
        return PackedSequence(made, batch_sizes, order, inverse), self._state(last)

    def _state(self, state: list[Tensor]) -> Any:
        return state[0] if self.states == 1 else tuple(state)

    def _all_layers(self, x: Tensor, state: list[Tensor], batch_sizes: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The last layer's outputs as rows, and the last state of every layer and direction."""
        first = list(zip(*[unbind(s, 0) for s in state]))
        finals = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self._directions):
                index = layer * self._directions + direction
                w = {name.partition("_l")[0]: getattr(self, name) for name in self._names[index]}
                made, *final = self._layer(x, first[index], w, batch_sizes, bool(direction))
                outputs.append(made)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, dim=1) if self.merge == "concat" else outputs[0] + outputs[1]
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = dropout(x, self.dropout, True)
        return x, [stack(states, dim=0) for states in zip(*finals)]

    def _first_state(self, hx: Any, batch: tuple[int, ...], x: Tensor) -> list[Tensor]:
        """The state to start from, checked; zeros for None."""
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        shapes = [(self.num_layers * self._directions, *batch, width) for width in widths]
        if hx is None:
            return [creation.zeros(*shape, dtype=x.dtype, device=x.device) for shape in shapes]
        given = [hx] if self.states == 1 else hx
        if not isinstance(given, (tuple, list)) or len(given) != self.states or any(type(s) is not Tensor for s in given):
            needed = ("None or a Tensor", "None または Tensor")
            if self.states == 2:
                needed = ("None or a pair (h_0, c_0) of Tensors", "None または Tensor の組 (h_0, c_0)")
            raise refusal(type(self).__name__, "hx", type(hx).__name__, needed)
        if [tuple(s.shape) for s in given] != shapes:
            wanted = shapes[0] if shapes[0] == shapes[-1] else joined(shapes)
            axes = ("batch, ", "バッチ、") if batch else ("", "")
            rule = (
                f"hx {wanted}: num_layers·directions, {axes[0]}hidden_size",
                f"hx は {wanted} (num_layers·方向の数、{axes[1]}hidden_size)",
            )
            raise error(
                "TG-S002",
                op=type(self).__name__,
                rule=rule,
                shapes=joined([tuple(s.shape) for s in given]),
                fix=("check the batch and the layers.", "バッチの大きさと層の数を確かめてください。"),
            )
        return list(given)

    def _misfit(self, input: Tensor) -> Exception:
        axes = "N, T" if self.batch_first else "T, N"
        rule = (
            f"input ({axes}, {self.input_size}) or (T, {self.input_size}), T >= 1",
            f"input は ({axes}, {self.input_size}) または (T, {self.input_size})、T >= 1",
        )
        fix = (
            f"the last axis must be input_size={self.input_size}; batch_first is {self.batch_first}.",
            f"最後の次元を input_size={self.input_size} にしてください (batch_first は {self.batch_first})。",
        )
        return error("TG-S002", op=type(self).__name__, rule=rule, shapes=tuple(input.shape), fix=fix)


class RNN(RNNBase):
    """h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) for every step (Elman 1990).

    nonlinearity: f, "tanh", "relu" or (not in PyTorch) "sigmoid".
    merge: with ``bidirectional``, "concat" puts the outputs of both directions side by side, "sum" (not in PyTorch) adds them.

    >>> import tinygrad_ja as tg
    >>> output, h_n = tg.nn.RNN(3, 4, num_layers=2)(tg.zeros(5, 1, 3))
    >>> output.shape, h_n.shape
    ((5, 1, 4), (2, 1, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        merge: str = "concat",
    ) -> None:
        check_nonlinearity("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, merge=merge
        )
        self.nonlinearity = nonlinearity

    def _layer(
        self, rows: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor], batch_sizes: Sequence[int], reverse: bool
    ) -> tuple[Tensor, ...]:
        weights = (w["weight_ih"], w["weight_hh"], w.get("bias_ih"), w.get("bias_hh"))
        return rnn_layer(rows, *state, *weights, batch_sizes=batch_sizes, reverse=reverse, nonlinearity=self.nonlinearity)


class LSTM(RNNBase):
    """c_t = f∘c_{t-1} + i∘g, h_t = o∘tanh(c_t), where i, f, o are sigmoids and g a tanh of affine maps of x_t and h_{t-1}
    (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    proj_size: the size of h if not 0, h_t = W_hr (o∘tanh(c_t)) with ``weight_hr_l0`` (Sak et al. 2014).
    peephole: the gates see c too, by vectors ``weight_ci``, ``weight_cf`` (c_{t-1}) and ``weight_co`` (c_t) (Gers and Schmidhuber 2000;
    not in PyTorch). merge: see ``RNN``.

    >>> import tinygrad_ja as tg
    >>> output, (h_n, c_n) = tg.nn.LSTM(3, 4, bidirectional=True)(tg.zeros(5, 1, 3))
    >>> output.shape, h_n.shape, c_n.shape
    ((5, 1, 8), (2, 1, 4), (2, 1, 4))
    """

    gates = 4
    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool = False,
        merge: str = "concat",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            peephole=peephole,
            merge=merge,
        )
        self.peephole = peephole

    def _layer(
        self, rows: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor], batch_sizes: Sequence[int], reverse: bool
    ) -> tuple[Tensor, ...]:
        weights = (w["weight_ih"], w["weight_hh"], w.get("bias_ih"), w.get("bias_hh"))
        if not (self.proj_size or self.peephole):
            return lstm_layer(rows, *state, *weights, batch_sizes=batch_sizes, reverse=reverse)
        more = [w.get(name) for name in ("weight_hr", *PEEPHOLES)]
        h, c = state
        return lstm_steps(rows, h, c, *weights, *more, batch_sizes=batch_sizes, reverse=reverse)

    def extra_repr(self) -> str:
        return super().extra_repr() + (", peephole=True" if self.peephole else "")


class PeepholeLSTM(LSTM):
    """``LSTM(peephole=True)``: an LSTM whose gates see the memory c, i = σ(... + w_ci∘c_{t-1}), f = σ(... + w_cf∘c_{t-1}),
    o = σ(... + w_co∘c_t) (Gers and Schmidhuber 2000; not in PyTorch). Arguments as for ``LSTM``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.PeepholeLSTM(3, 4)
    PeepholeLSTM(3, 4)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, peephole=True, **kwargs)

    def extra_repr(self) -> str:
        return RNNBase.extra_repr(self)


class GRU(RNNBase):
    """h_t = (1 - z)∘n + z∘h_{t-1}, with the update gate z and a new state n that sees h_{t-1} through the reset gate r
    (Cho et al. 2014).

    reset_after: n = tanh(W_in x + b_in + r∘(W_hn h + b_hn)), as PyTorch and cuDNN have it; with False (not in PyTorch) the textbook's
    n = tanh(W_in x + b_in + W_hn (r∘h) + b_hn). merge: see ``RNN``.

    >>> import tinygrad_ja as tg
    >>> output, h_n = tg.nn.GRU(3, 4, batch_first=True)(tg.zeros(2, 5, 3))
    >>> output.shape, h_n.shape
    ((2, 5, 4), (1, 2, 4))
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
        merge: str = "concat",
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, merge=merge
        )
        self.reset_after = reset_after

    def _layer(
        self, rows: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor], batch_sizes: Sequence[int], reverse: bool
    ) -> tuple[Tensor, ...]:
        weights = (w["weight_ih"], w["weight_hh"], w.get("bias_ih"), w.get("bias_hh"))
        if self.reset_after:
            return gru_layer(rows, *state, *weights, batch_sizes=batch_sizes, reverse=reverse)
        (h,) = state
        return gru_steps(rows, h, *weights, batch_sizes=batch_sizes, reverse=reverse, reset_after=False)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
