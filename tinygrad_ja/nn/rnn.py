"""Recurrent layers: RNN, LSTM and GRU over whole sequences, and their cells for one step.

Names, shapes and the order of gates are PyTorch's: ``weight_ih_l0`` (gates·H, D) maps the input, ``weight_hh_l0`` (gates·H, H) the
state, and ``_reverse`` marks the backward direction. Gates: LSTM i, f, g, o; GRU r, z, n. All start uniform in ±1/√H.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..core.tensor import Tensor
from ..errors import Phrase, error, joined
from ..ops import creation
from ..ops.gru import gru_cell, gru_step
from ..ops.join import cat, stack, unbind
from ..ops.linalg import linear
from ..ops.random import dropout
from ..ops.rnn import lstm_cell, lstm_step, rnn_cell, rnn_step
from ..ops.shape import squeeze, unsqueeze
from . import init
from .module import Module
from .parameter import Parameter

PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")


class RNNBase(Module):
    """What the layers share: parameters, and the loop over layers, directions and time steps.

    Back-propagation through time is nothing but the tape of that loop. The input's products of all steps are one product.
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
        *,
        peephole: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for argument, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if value < 1:
                raise self._refusal(argument, value, f"{argument} >= 1")
        if not 0 <= dropout <= 1:
            raise self._refusal("dropout", dropout, "0 <= dropout <= 1")
        if dropout and num_layers == 1:
            warnings.warn(f"dropout={dropout} acts between layers, so it does nothing with num_layers=1", stacklevel=3)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self._names: list[list[str]] = []
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size * self._directions
            for direction in range(self._directions):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
                if bias:
                    shapes.update(bias_ih=(rows,), bias_hh=(rows,))
                if peephole:
                    shapes.update(dict.fromkeys(PEEPHOLES, (hidden_size,)))
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                for name, shape in shapes.items():
                    setattr(self, name + suffix, Parameter(creation.empty(*shape, device=device, dtype=dtype)))
                self._names.append([name + suffix for name in shapes])
        self.reset_parameters()

    def _refusal(self, argument: str, value: Any, rule: Phrase) -> Exception:
        return error(
            "TG-A001",
            op=type(self).__name__,
            argument=argument,
            value=value,
            rule=rule,
            fix=("check the setting.", "設定を確かめてください。"),
        )

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters, one list for each layer and direction."""
        return [[self.__dict__[name] for name in names] for names in self._names]

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do here; programs written for PyTorch on a GPU call it."""

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        parts += [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ", ".join(parts)

    # -- one step, which the subclasses define

    def _project(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        """The input's part of the gates for all steps, both biases included."""
        return linear(x, w["weight_ih"], w["bias_ih"] + w["bias_hh"] if self.bias else None)

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    # -- the loop

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Returns ``(output, h_n)``, an LSTM ``(output, (h_n, c_n))``.

        input: (T, N, D), with ``batch_first`` (N, T, D); or (T, D) without a batch.
        hx: the first state (num_layers·directions, N, H), zeros if None; an LSTM takes the pair (h_0, c_0).
        output: the last layer's h of every step, (T, N, directions·H); h_n: the last state of every layer and direction.
        Raises ShapeError when the sizes do not fit.
        """
        batched = input.ndim == 3
        x = input if batched else unsqueeze(input, 1) if input.ndim == 2 else self._misfit(input)
        time = 1 if self.batch_first and batched else 0
        if x.shape[-1] != self.input_size or not x.shape[time]:
            self._misfit(input)
        held = self._first_states(hx, x.shape[1 - time], batched, x)

        finals: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self._directions):
                index = layer * self._directions + direction
                w = {name.partition("_l")[0]: self.__dict__[name] for name in self._names[index]}
                made, final = self._run(x, held[index], w, time, bool(direction))
                outputs.append(made)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, dim=2)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = dropout(x, self.dropout, True)

        last = [stack(states, dim=0) for states in zip(*finals)]
        if not batched:
            x, last = squeeze(x, 1), [squeeze(state, 1) for state in last]
        return x, last[0] if self.states == 1 else tuple(last)

    def _run(
        self, x: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor], time: int, backwards: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer in one direction: the outputs of all steps, and the last state."""
        steps = unbind(self._project(x, w), time)
        outputs = []
        for gates in reversed(steps) if backwards else steps:
            state = self._step(gates, state, w)
            outputs.append(state[0])
        return stack(outputs[::-1] if backwards else outputs, dim=time), state

    def _first_states(self, hx: Any, n: int, batched: bool, x: Tensor) -> list[tuple[Tensor, ...]]:
        """The state that each layer and direction starts from."""
        count = self.num_layers * self._directions
        if hx is None:
            zeros = creation.zeros(n, self.hidden_size, dtype=x.dtype, device=x.device)
            return [(zeros,) * self.states] * count
        given = (hx,) if self.states == 1 else hx
        if not isinstance(given, (tuple, list)) or len(given) != self.states or any(type(s) is not Tensor for s in given):
            needed = ("None or a Tensor", "None または Tensor")
            if self.states == 2:
                needed = ("None or a pair (h_0, c_0) of Tensors", "None または Tensor の組 (h_0, c_0)")
            raise self._refusal("hx", type(hx).__name__, needed)
        shape = (count, n, self.hidden_size) if batched else (count, self.hidden_size)
        for state in given:
            if tuple(state.shape) != shape:
                batch = ("batch, ", "バッチ、") if batched else ("", "")
                rule = (
                    f"hx {shape}: num_layers·directions, {batch[0]}hidden_size",
                    f"hx は {shape} (num_layers·方向の数、{batch[1]}hidden_size)",
                )
                found = joined([tuple(s.shape) for s in given])
                raise error(
                    "TG-S002",
                    op=type(self).__name__,
                    rule=rule,
                    shapes=found,
                    fix=("check the batch and the layers.", "バッチの大きさと層の数を確かめてください。"),
                )
        parts = [unbind(state if batched else unsqueeze(state, 1), 0) for state in given]
        return list(zip(*parts))

    def _misfit(self, input: Tensor) -> Any:
        axes = "N, T" if self.batch_first else "T, N"
        rule = (
            f"input ({axes}, {self.input_size}) or (T, {self.input_size}), T >= 1",
            f"input は ({axes}, {self.input_size}) または (T, {self.input_size})、T >= 1",
        )
        fix = (
            f"the last axis must be input_size={self.input_size}; batch_first is {self.batch_first}.",
            f"最後の次元を input_size={self.input_size} にしてください (batch_first は {self.batch_first})。",
        )
        raise error("TG-S002", op=type(self).__name__, rule=rule, shapes=tuple(input.shape), fix=fix)


class RNN(RNNBase):
    """h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) for every step (Elman 1990).

    nonlinearity: f, "tanh", "relu" or (not in PyTorch) "sigmoid".

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
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        _check_nonlinearity("RNN", nonlinearity)
        self.nonlinearity = nonlinearity

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return (rnn_step(gates, state[0], w["weight_hh"], nonlinearity=self.nonlinearity),)


class LSTM(RNNBase):
    """c_t = f∘c_{t-1} + i∘g, h_t = o∘tanh(c_t), where i, f, o are sigmoids and g a tanh of affine maps of x_t and h_{t-1}
    (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    peephole: the gates see c too, by vectors ``weight_ci``, ``weight_cf`` (c_{t-1}) and ``weight_co`` (c_t) (Gers and Schmidhuber 2000;
    not in PyTorch).

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
        *,
        peephole: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            peephole=peephole,
            device=device,
            dtype=dtype,
        )
        self.peephole = peephole

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return lstm_step(gates, *state, w["weight_hh"], None, *[w.get(name) for name in PEEPHOLES])

    def extra_repr(self) -> str:
        return super().extra_repr() + (", peephole=True" if self.peephole else "")


class GRU(RNNBase):
    """h_t = (1 - z)∘n + z∘h_{t-1}, with the update gate z and a new state n that sees h_{t-1} through the reset gate r
    (Cho et al. 2014).

    reset_after: n = tanh(W_in x + b_in + r∘(W_hn h + b_hn)), as PyTorch and cuDNN have it; with False (not in PyTorch) the textbook's
    n = tanh(W_in x + b_in + W_hn (r∘h) + b_hn).

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
        *,
        reset_after: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        self.reset_after = reset_after

    def _project(self, x: Tensor, w: dict[str, Tensor]) -> Tensor:
        return linear(x, w["weight_ih"], w.get("bias_ih"))  # bias_hh stands inside of r∘(...)

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return (gru_step(gates, state[0], w["weight_hh"], w.get("bias_hh"), reset_after=self.reset_after),)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")


# ---- cells ---------------------------------------------------------------------------------------


def _check_nonlinearity(op: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu", "sigmoid"):
        rule = ("'tanh', 'relu' or 'sigmoid'", "'tanh'、'relu'、'sigmoid' のどれか")
        raise error(
            "TG-A001",
            op=op,
            argument="nonlinearity",
            value=repr(nonlinearity),
            rule=rule,
            fix=("choose one of them.", "この中から選んでください。"),
        )


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
            elif input.ndim == 1 and state.ndim == 1:
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
        _check_nonlinearity("RNNCell", nonlinearity)
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
    """One step of ``LSTM``. peephole: the gates see c too (not in PyTorch).

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
        *,
        peephole: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.peephole = peephole
        if peephole:
            for name in PEEPHOLES:
                setattr(self, name, Parameter(creation.empty(hidden_size, device=device, dtype=dtype)))
            self.reset_parameters()

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """input: (N, D) or (D,); hx: the pair (h, c), each (N, H) or (H,), zeros if None. Returns (h', c')."""
        x, h, c = self._rows(input, (None, None) if hx is None else tuple(hx))
        peepholes = [self.__dict__.get(name) for name in PEEPHOLES]
        h, c = lstm_cell(x, h, c, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, *peepholes)
        return (h, c) if input.ndim == 2 else (squeeze(h, 0), squeeze(c, 0))

    def extra_repr(self) -> str:
        return super().extra_repr() + (", peephole=True" if self.peephole else "")


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
        *,
        reset_after: bool = True,
        device: Any = None,
        dtype: Any = None,
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
