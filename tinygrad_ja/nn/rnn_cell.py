"""Recurrent cells: one time step of an RNN, an LSTM or a GRU. The layers over whole sequences are in ``rnn.py``."""

from __future__ import annotations

import math
from typing import Any

from ..core.tensor import Tensor
from ..errors import error, joined, refusal
from ..ops import creation
from ..ops.gru import gru_cell
from ..ops.rnn import NONLINEARITIES, lstm_cell, rnn_cell
from ..ops.shape import squeeze, unsqueeze
from . import init
from .module import Module
from .parameter import Parameter

PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")


def check_nonlinearity(op: str, nonlinearity: str) -> None:
    """Refuse what is no nonlinearity of an Elman network."""
    if nonlinearity not in NONLINEARITIES:
        rule = ("'tanh', 'relu' or 'sigmoid'", "'tanh'、'relu'、'sigmoid' のどれか")
        raise refusal(op, "nonlinearity", repr(nonlinearity), rule)


class RNNCellBase(Module):
    """What the cells share: parameters, and checks of the shapes."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(creation.empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(creation.empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(creation.empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")

    def _rows(self, input: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Input and states as matrices (N, ...), states of zeros where they are None."""
        x = input if input.ndim == 2 else unsqueeze(input, 0) if input.ndim == 1 else None
        if x is None or x.shape[1] != self.input_size:
            raise self._misfit(input, states)
        shape = (x.shape[0], self.hidden_size)
        made = [x]
        for state in states:
            if state is None:
                state = creation.zeros(*shape, dtype=x.dtype, device=x.device)
            elif type(state) is not Tensor:
                raise error("TG-T002", op=type(self).__name__, argument="hx", type=type(state).__name__)
            elif state.ndim != input.ndim:
                raise self._misfit(input, states)
            elif input.ndim == 1:
                state = unsqueeze(state, 0)
            if tuple(state.shape) != shape:
                raise self._misfit(input, states)
            made.append(state)
        return tuple(made)

    def _misfit(self, input: Tensor, states: tuple[Any, ...]) -> Exception:
        rule = (
            f"input (N, {self.input_size}) and state (N, {self.hidden_size}), or both without N",
            f"input は (N, {self.input_size})、状態は (N, {self.hidden_size})、またはどちらも N なし",
        )
        shapes = joined([tuple(s.shape) for s in (input, *states) if s is not None])
        return error(
            "TG-S002",
            op=type(self).__name__,
            rule=rule,
            shapes=shapes,
            fix=("check input_size and the batch.", "input_size とバッチの大きさを確かめてください。"),
        )


class RNNCell(RNNCellBase):
    """h' = f(W_ih x + b_ih + W_hh h + b_hh): one step of ``RNN``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.RNNCell(3, 4)(tg.zeros(2, 3)).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        check_nonlinearity("RNNCell", nonlinearity)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input: (N, D) or (D,); hx: (N, H) or (H,), zeros if None. Returns h'."""
        x, h = self._rows(input, (hx,))
        w = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        made = rnn_cell(x, h, *w, nonlinearity=self.nonlinearity)
        return made if input.ndim == 2 else squeeze(made, 0)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(RNNCellBase):
    """One step of ``LSTM``. peephole: see there (not in PyTorch).

    >>> import tinygrad_ja as tg
    >>> h, c = tg.nn.LSTMCell(3, 4)(tg.zeros(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.peephole = peephole
        if peephole:
            for name in PEEPHOLES:
                setattr(self, name, Parameter(creation.empty(hidden_size, device=device, dtype=dtype)))
            self.reset_parameters()

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """input: (N, D) or (D,); hx: the pair (h, c), each (N, H) or (H,), zeros if None. Returns (h', c')."""
        if hx is not None and not (isinstance(hx, (tuple, list)) and len(hx) == 2):
            needed = ("None or a pair (h, c) of Tensors", "None または Tensor の組 (h, c)")
            raise refusal(type(self).__name__, "hx", type(hx).__name__, needed)
        x, h, c = self._rows(input, (None, None) if hx is None else tuple(hx))
        peepholes = [getattr(self, name) for name in PEEPHOLES] if self.peephole else []
        h, c = lstm_cell(x, h, c, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, *peepholes)
        return (h, c) if input.ndim == 2 else (squeeze(h, 0), squeeze(c, 0))

    def extra_repr(self) -> str:
        return super().extra_repr() + (", peephole=True" if self.peephole else "")


class PeepholeLSTMCell(LSTMCell):
    """One step of ``PeepholeLSTM``: ``LSTMCell(peephole=True)`` (not in PyTorch).

    >>> import tinygrad_ja as tg
    >>> [name for name, _ in tg.nn.PeepholeLSTMCell(3, 4).named_parameters()][-3:]
    ['weight_ci', 'weight_cf', 'weight_co']
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, peephole=True)

    def extra_repr(self) -> str:
        return RNNCellBase.extra_repr(self)


class GRUCell(RNNCellBase):
    """One step of ``GRU``. reset_after: see there.

    >>> import tinygrad_ja as tg
    >>> tg.nn.GRUCell(3, 4)(tg.zeros(2, 3)).shape
    (2, 4)
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.reset_after = reset_after

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input: (N, D) or (D,); hx: (N, H) or (H,), zeros if None. Returns h'."""
        x, h = self._rows(input, (hx,))
        w = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        made = gru_cell(x, h, *w, reset_after=self.reset_after)
        return made if input.ndim == 2 else squeeze(made, 0)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
