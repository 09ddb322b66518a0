"""Long short-term memory: a memory cell with gates keeps what a simple RNN forgets.

    a, i, f, o = W x_t + U h_{t-1} + b        one affine map, split in four
    c_t = σ(i)∘tanh(a) + σ(f)∘c_{t-1}         the memory
    h_t = σ(o)∘tanh(c_t)                      the output

Along the memory ∂c_t/∂c_{t-1} is the forget gate σ(f). With f = 1 the error ∂E/∂c_t stays the same at every step however far back it goes:
the constant error carousel (CEC). (Hochreiter, Schmidhuber: Long short-term memory, 1997; the forget gate: Gers, Schmidhuber, Cummins:
Learning to forget, 2000. Its bias begins at 1: Jozefowicz, Zaremba, Sutskever: An empirical exploration of recurrent network architectures,
2015.)

Two tasks, each with a simple RNN of the same size beside it. The monthly sunspot numbers since 1749: at every month the number of a year later
is forecast. The adding problem of the 1997 paper: in 100 random numbers two are marked, and at the end their sum is asked for. Expect the RNN
to be somewhat worse at the sunspots and to learn nothing at all at the adding problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.memory_tasks import COLORS, OPTIONS, Rivals, learn_adding, learn_sunspots, made_up_spots, of, span, sunspots
from tinygrad_ja import nn
from tinygrad_ja.data.datasets import synthetic
from tinygrad_ja.training import Experiment, Result

TITLE = {
    "en": "LSTM: sunspots a year ahead, and a sum to remember; the constant error carousel (JDLA E certificate: LSTM, CEC)",
    "ja": "LSTM: 1 年先の太陽黒点数の予測と、長く覚える足し算。CEC (定誤差カルーセル) を確かめる (E資格: LSTM, CEC)",
}

State = tuple[tg.Tensor, ...]
"""What a recurrent layer carries from step to step, each (N, H); the first is h."""


class Recurrent(nn.Module):
    """A recurrent layer from its formula, which is ``step``. The rest is the loop over time, and its tape is back-propagation through time.

    W (blocks·H, D) maps the input of a step, U (blocks·H, H) the h before it, and b (blocks·H) is added: uniform in ±1/√H at the start.
    """

    blocks = 1
    parts = 1

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        bound = 1 / math.sqrt(hidden)
        rows = self.blocks * hidden
        self.W = nn.Parameter(tg.empty(rows, inputs).uniform_(-bound, bound))
        self.U = nn.Parameter(tg.empty(rows, hidden).uniform_(-bound, bound))
        self.b = nn.Parameter(tg.empty(rows).uniform_(-bound, bound))

    def step(self, u: tg.Tensor, *state: tg.Tensor) -> State:
        """The state after one time step, from the state before it and u = W x_t + b, (N, blocks·H)."""
        raise NotImplementedError

    def states(self, x: tg.Tensor, state: State | None = None) -> list[State]:
        """The state after each step of x (T, N, D). It begins with zeros, or with ``state``."""
        now = state if state is not None else (x.new_zeros(x.shape[1], self.hidden),) * self.parts
        made = []
        for u in F.linear(x, self.W, self.b).unbind(0):
            now = self.step(u, *now)
            made.append(now)
        return made

    def forward(self, x: tg.Tensor, state: State | None = None) -> tuple[tg.Tensor, State]:
        """h of every step (T, N, H), and the last state."""
        made = self.states(x, state)
        return tg.stack([h for h, *_ in made]), made[-1]


class LSTM(Recurrent):
    """The formulas above. State: (h, c).

    keep, admit: the biases of forget and input gate at the start. σ(keep) of the memory stays at a step. admit None: small and random.
    """

    blocks = 4
    parts = 2

    def __init__(self, inputs: int, hidden: int, keep: float = 1.0, admit: float | None = None) -> None:
        super().__init__(inputs, hidden)
        with tg.no_grad():
            self.b[2 * hidden : 3 * hidden] = keep
            if admit is not None:
                self.b[hidden : 2 * hidden] = admit

    def step(self, u: tg.Tensor, *state: tg.Tensor) -> State:
        h, c = state
        a, i, f, o = (u + F.linear(h, self.U)).chunk(4, dim=1)
        c = tg.sigmoid(i) * tg.tanh(a) + tg.sigmoid(f) * c
        return tg.sigmoid(o) * tg.tanh(c), c

    def as_layer(self) -> nn.LSTM:
        """The same network as the framework's layer, whose rows stand in the order i, f, a, o: what it computes is equal."""
        layer = nn.LSTM(self.W.shape[1], self.hidden).to(dtype=self.W.dtype)
        with tg.no_grad():
            for name, own in (("weight_ih_l0", self.W), ("weight_hh_l0", self.U), ("bias_ih_l0", self.b)):
                a, i, f, o = own.chunk(4, dim=0)
                getattr(layer, name).copy_(tg.cat([i, f, a, o]))
            layer.bias_hh_l0.zero_()
        return layer


class CEC(LSTM):
    """The case f = 1, with no error through the gates into earlier steps (the truncated gradient of the 1997 paper): ∂E/∂c_t is constant."""

    def step(self, u: tg.Tensor, *state: tg.Tensor) -> State:
        h, c = state
        a, i, _, o = (u + F.linear(h.detach(), self.U)).chunk(4, dim=1)
        c = tg.sigmoid(i) * tg.tanh(a) + c
        return tg.sigmoid(o) * tg.tanh(c), c


def error_norms(layer: Recurrent, x: tg.Tensor, E: Callable[[tg.Tensor], tg.Tensor]) -> np.ndarray:
    """‖∂E/∂s_t‖ for t = 1 .. T, with the error E(h_T) of the last output alone: s is the memory c where there is one, else h."""
    states = layer.states(x)
    errors: Any = tg.grad(E(states[-1][0]), [state[-1] for state in states])
    return np.array([error.norm().item() for error in errors])


def show_carousel(run: Experiment) -> list[Result]:
    """How large the error of the last output is at each earlier step, for new networks. Draws it."""
    lag, hidden = run.options.lag, run.options.hidden
    sums = synthetic.Adding(8, length=lag, generator=tg.Generator().manual_seed(0))
    x = sums.tensors[0].transpose(0, 1).to(run.options.device)
    layers = {"LSTM": LSTM(2, hidden), "CEC": CEC(2, hidden)}
    norms = {name: error_norms(layer.to(run.options.device), x, lambda h: h.sum()) for name, layer in layers.items()}
    with run.figure("carousel.png") as axes:
        for color, (name, values) in zip(COLORS[1:], norms.items()):
            axes.semilogy(np.arange(1, lag + 1), values, color=color, linewidth=1.8, label=name)
        axes.set(
            title=run.words("Error in the memory, from the last output back", "最後の出力から記憶へ戻る誤差"),
            xlabel=run.words("time step t", "時刻 t"),
            ylabel=r"$\Vert\partial E/\partial c_t\Vert$",
        )
        axes.legend(frameon=False)
    return [
        Result(f"kept_{name.lower()}", values[0] / values[-1], of(name, "error that reaches step 1", "時刻 1 まで届く誤差"), ".2g")
        for name, values in norms.items()
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train at both tasks beside a simple RNN, draw, and return the results."""
    run = Experiment("lstm", TITLE, OPTIONS, argv, epochs=10, quick_epochs=3)
    months = run.data(sunspots, made_up_spots, "sunspots")
    rivals: Rivals = {"rnn": nn.RNN, "lstm": LSTM}
    keep = span(run.options.lag)
    remembering: Rivals = {"rnn": nn.RNN, "lstm": lambda inputs, hidden: LSTM(inputs, hidden, keep, -keep)}
    return run.finish([*learn_sunspots(run, rivals, months), *learn_adding(run, remembering), *show_carousel(run)])
