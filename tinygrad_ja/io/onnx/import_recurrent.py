"""Imported recurrent layers: RNN, GRU and LSTM with every attribute that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ...nn import functional as F
from ...ops.comparison import where
from ...ops.creation import arange, zeros
from ...ops.join import stack
from ...ops.linalg import matmul
from ...ops.piecewise import clamp
from .import_table import Call, imports

Activation = Callable[[Any], Any]
State = tuple[Any, ...]

# name -> (function of x, alpha and beta; usual alpha; usual beta); None where it has no such number
_ACTIVATIONS: dict[str, tuple[Callable[..., Any], float | None, float | None]] = {
    "affine": (lambda x, a, b: x * a + b, 1.0, 0.0),
    "elu": (lambda x, a, b: F.elu(x, a), 1.0, None),
    "hardsigmoid": (lambda x, a, b: clamp(x * a + b, 0.0, 1.0), 0.2, 0.5),
    "leakyrelu": (lambda x, a, b: F.leaky_relu(x, a), 0.01, None),
    "relu": (lambda x, a, b: F.relu(x), None, None),
    "scaledtanh": (lambda x, a, b: F.tanh(x * b) * a, 1.0, 1.0),
    "sigmoid": (lambda x, a, b: F.sigmoid(x), None, None),
    "softplus": (lambda x, a, b: F.softplus(x), None, None),
    "softsign": (lambda x, a, b: F.softsign(x), None, None),
    "tanh": (lambda x, a, b: F.tanh(x), None, None),
    "thresholdedrelu": (lambda x, a, b: where(x > a, x, x * 0), 1.0, None),
}


def _activations(call: Call, usual: list[str], directions: int) -> list[Activation]:
    """The activations of all directions in a row; those with an alpha or beta take the next of the lists of the node.

    ``clip`` bounds what goes into each, except the last one of an LSTM, which sees the whole cell, as in onnxruntime.
    """
    names = call.get("activations") or usual * directions
    alphas, betas = iter(call.get("activation_alpha") or []), iter(call.get("activation_beta") or [])
    clip = call.get("clip")
    whole = range(2, len(names), 3) if len(usual) == 3 else ()
    return [_activation(name, alphas, betas, None if i in whole else clip) for i, name in enumerate(names)]


def _activation(name: str, alphas: Iterator[float], betas: Iterator[float], clip: float | None) -> Activation:
    function, alpha, beta = _ACTIVATIONS[name.lower()]
    a = None if alpha is None else next(alphas, alpha)
    b = None if beta is None else next(betas, beta)
    if clip is None:
        return lambda x: function(x, a, b)
    return lambda x: function(clamp(x, -clip, clip), a, b)


class _Layer:
    """What the three layers share: directions, lengths, layout, initial states and the loop over time."""

    def __init__(self, call: Call, x: Any, lengths: Any, batch_first: bool) -> None:
        direction = call.get("direction", "forward")
        self.reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        self.batch_first = batch_first
        self.x = x.permute(1, 0, 2) if batch_first else x
        self.lengths = lengths

    def states(self, initial: Any, hidden: int) -> list[Any]:
        """The first state of each direction (N, H); zeros where none is given."""
        if initial is None:
            made = zeros(self.x.shape[1], hidden, dtype=self.x.dtype, device=self.x.device)
            return [made] * len(self.reverse)
        return list((initial.permute(1, 0, 2) if self.batch_first else initial).unbind(0))

    def run(self, steps: Sequence[Callable[[Any, State], State]], first: Sequence[State]) -> tuple[Any, ...]:
        """Y (T, D, N, H) and the last states (D, N, H) for a step function and first states for each direction."""
        outputs, last = [], []
        for step, state, reverse in zip(steps, first, self.reverse):
            y, state = self._direction(step, state, self._turned(self.x) if reverse else self.x)
            outputs.append(self._turned(y) if reverse else y)
            last.append(state)
        made = [stack(outputs, 1), *[stack(list(states), 0) for states in zip(*last)]]
        if self.batch_first:
            made = [made[0].permute(2, 0, 1, 3), *[state.permute(1, 0, 2) for state in made[1:]]]
        return tuple(made)

    def _direction(self, step: Callable[[Any, State], State], state: State, x: Any) -> tuple[Any, State]:
        outputs = []
        for t in range(x.shape[0]):
            new = step(x[t], state)
            if self.lengths is None:
                state = new
                outputs.append(new[0])
                continue
            inside = (self.lengths > t).reshape(-1, 1)
            state = tuple([where(inside, after, before) for after, before in zip(new, state)])
            outputs.append(where(inside, new[0], new[0] * 0))
        if not outputs:
            return zeros(0, *state[0].shape, dtype=x.dtype, device=x.device), state
        return stack(outputs, 0), state

    def _turned(self, x: Any) -> Any:
        """Each sequence from its end; padding stays behind."""
        if self.lengths is None:
            return x.flip(0)
        steps = arange(x.shape[0], device=x.device).reshape(-1, 1)
        places = where(steps < self.lengths, self.lengths - 1 - steps, steps)
        return x.gather(0, places.unsqueeze(-1).expand(x.shape))


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    made = matmul(x, weight.permute(1, 0))
    return made if bias is None else made + bias


def _biases(b: Any, direction: int) -> tuple[Any, Any]:
    """The biases of input and state."""
    return (None, None) if b is None else b[direction].chunk(2, 0)


def _rnn_step(w: Any, r: Any, wb: Any, rb: Any, f: Activation, x: Any, state: State) -> State:
    return (f(_affine(x, w, wb) + _affine(state[0], r, rb)),)


@imports("RNN", control=(4,))
def _rnn(call: Call, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, initial_h: Any = None) -> Any:
    layer = _Layer(call, x, lengths, bool(call.get("layout", 0)))
    count = len(layer.reverse)
    f = _activations(call, ["Tanh"], count)
    steps = [partial(_rnn_step, w[i], r[i], *_biases(b, i), f[i]) for i in range(count)]
    return layer.run(steps, [(h,) for h in layer.states(initial_h, r.shape[-1])])


def _gru_step(
    w: Any, r: Any, wb: Any, rb: Any, f: Activation, g: Activation, reset_behind: bool, x: Any, state: State
) -> State:
    h = state[0]
    wz, wr, wh = _affine(x, w, wb).chunk(3, -1)
    rz_weight, rr_weight, rh_weight = r.chunk(3, 0)
    rz_bias, rr_bias, rh_bias = (None,) * 3 if rb is None else rb.chunk(3, 0)
    z = f(wz + _affine(h, rz_weight, rz_bias))
    reset = f(wr + _affine(h, rr_weight, rr_bias))
    from_state = reset * _affine(h, rh_weight, rh_bias) if reset_behind else _affine(reset * h, rh_weight, rh_bias)
    return ((1 - z) * g(wh + from_state) + z * h,)


@imports("GRU", control=(4,))
def _gru(call: Call, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, initial_h: Any = None) -> Any:
    layer = _Layer(call, x, lengths, bool(call.get("layout", 0)))
    count = len(layer.reverse)
    f = _activations(call, ["Sigmoid", "Tanh"], count)
    behind = bool(call.get("linear_before_reset", 0))
    steps = [partial(_gru_step, w[i], r[i], *_biases(b, i), f[2 * i], f[2 * i + 1], behind) for i in range(count)]
    return layer.run(steps, [(h,) for h in layer.states(initial_h, r.shape[-1])])


def _lstm_step(
    w: Any, r: Any, wb: Any, rb: Any, peep: Any, activations: list[Activation], coupled: bool, x: Any, state: State
) -> State:
    f, g, squash = activations
    h, cell = state
    i, o, forget, candidate = (_affine(x, w, wb) + _affine(h, r, rb)).chunk(4, -1)
    pi, po, pf = (None,) * 3 if peep is None else peep.chunk(3, 0)
    i = f(i if pi is None else i + pi * cell)
    forget = 1 - i if coupled else f(forget if pf is None else forget + pf * cell)
    cell = forget * cell + i * g(candidate)
    o = f(o if po is None else o + po * cell)
    return o * squash(cell), cell


@imports("LSTM", control=(4,))
def _lstm(
    call: Call,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    initial_h: Any = None,
    initial_c: Any = None,
    peepholes: Any = None,
) -> Any:
    layer = _Layer(call, x, lengths, bool(call.get("layout", 0)))
    count, hidden = len(layer.reverse), r.shape[-1]
    f = _activations(call, ["Sigmoid", "Tanh", "Tanh"], count)
    coupled = bool(call.get("input_forget", 0))
    steps = [
        partial(
            _lstm_step, w[i], r[i], *_biases(b, i), None if peepholes is None else peepholes[i], f[3 * i : 3 * i + 3], coupled
        )
        for i in range(count)
    ]
    return layer.run(steps, list(zip(layer.states(initial_h, hidden), layer.states(initial_c, hidden))))
