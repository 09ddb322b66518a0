"""Gated recurrent unit: two gates and no memory apart from the state.

    z = σ(x W_z + h U_z + b_z)                  update: how much of the state is new
    r = σ(x W_r + h U_r + b_r)                  reset: how much of the old state the candidate sees
    ĥ = tanh(x W_h + (r∘h) U_h + b_h)           candidate
    h' = (1-z)∘h + z∘ĥ

(Cho et al.: Learning phrase representations using RNN encoder-decoder, 2014; the form above: Chung et al.: Empirical evaluation of gated
recurrent neural networks, 2014.) ``--form`` has the two others that are in use:

    swapped      h' = z∘h + (1-z)∘ĥ                             as in Cho et al. and in PyTorch: z says how much stays
    reset_after  swapped, and ĥ = tanh(x W_h + b_h + r∘(h U_h + d_h))   PyTorch's and cuDNN's: r acts on the product, which has a bias

The first two are one network: since 1 - σ(u) = σ(-u), W_z, U_z and b_z change their signs. The third is another one; it equals ``nn.GRU``.
The program shows both.

The tasks are those of ``memory_tasks.py``, sunspots a year ahead and the adding problem; a simple RNN and an LSTM of the same size learn
beside the GRU. Expect the GRU to be about as good as the LSTM with three quarters of its weights.
"""

from __future__ import annotations

import math
from typing import Any

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.lstm import LSTM, Recurrent, State
from models.memory_tasks import OPTIONS, Rivals, learn_adding, learn_sunspots, made_up_spots, span, sunspots
from tinygrad_ja import nn
from tinygrad_ja.training import Experiment, Option, Result

TITLE = {
    "en": "GRU in its three forms: sunspots a year ahead, and a sum to remember (JDLA E certificate: GRU)",
    "ja": "GRU の 3 つの形: 1 年先の太陽黒点数の予測と、長く覚える足し算 (E資格: GRU)",
}
FORMS = ["chung", "swapped", "reset_after"]


class GRU(Recurrent):
    """The formulas above. State: (h,). The rows of W, U and b stand in the order z, r, h; d_h (H,) is there with ``reset_after`` alone.

    form: ``"chung"``, ``"swapped"`` or ``"reset_after"``. keep: σ(keep) of the state stays at a step, at the start.
    """

    blocks = 3

    def __init__(self, inputs: int, hidden: int, form: str = "chung", keep: float = 0.0) -> None:
        super().__init__(inputs, hidden)
        self.form = form
        with tg.no_grad():
            self.b[:hidden] = -keep if form == "chung" else keep
        bound = 1 / math.sqrt(hidden)
        self.d_h = nn.Parameter(tg.empty(hidden).uniform_(-bound, bound)) if form == "reset_after" else None

    def step(self, u: tg.Tensor, *state: tg.Tensor) -> State:
        (h,) = state
        x_z, x_r, x_h = u.chunk(3, dim=1)
        U_zr, U_h = self.U[: 2 * self.hidden], self.U[2 * self.hidden :]
        h_z, h_r = F.linear(h, U_zr).chunk(2, dim=1)
        z, r = tg.sigmoid(x_z + h_z), tg.sigmoid(x_r + h_r)
        if self.form == "reset_after":
            candidate = tg.tanh(x_h + r * F.linear(h, U_h, self.d_h))
        else:
            candidate = tg.tanh(x_h + F.linear(r * h, U_h))
        if self.form == "chung":
            return ((1 - z) * h + z * candidate,)
        return (z * h + (1 - z) * candidate,)

    def swapped(self) -> GRU:
        """The same network in the other of the first two forms: the signs of all that makes z are changed."""
        made = GRU(self.W.shape[1], self.hidden, "swapped" if self.form == "chung" else "chung").to(dtype=self.W.dtype)
        with tg.no_grad():
            for name in ("W", "U", "b"):
                z, rest = getattr(self, name).split([self.hidden, 2 * self.hidden])
                getattr(made, name).copy_(tg.cat([-z, rest]))
        return made

    def as_layer(self) -> nn.GRU:
        """The same network as the framework's layer, whose rows stand in the order r, z, h and whose z is that of the swapped form."""
        if self.form == "chung":
            return self.swapped().as_layer()
        layer = nn.GRU(self.W.shape[1], self.hidden, reset_after=self.form == "reset_after").to(dtype=self.W.dtype)
        with tg.no_grad():
            for name, own in (("weight_ih_l0", self.W), ("weight_hh_l0", self.U), ("bias_ih_l0", self.b)):
                z, r, h = own.chunk(3)
                getattr(layer, name).copy_(tg.cat([r, z, h]))
            layer.bias_hh_l0.zero_()
            if self.d_h is not None:
                layer.bias_hh_l0[2 * self.hidden :] = self.d_h
        return layer


def largest_difference(one: nn.Module, other: nn.Module, x: tg.Tensor) -> float:
    """Between the outputs of two recurrent layers for x (T, N, D), in float64."""
    with tg.no_grad():
        first, second = (layer.to(x.device).double()(x.double())[0] for layer in (one, other))
        return (first - second).abs().max().item()


def show_equality(run: Experiment) -> list[Result]:
    """Each form beside the network that equals it, on random input: the largest difference of their outputs."""
    x = tg.randn(50, 4, 2, generator=tg.Generator().manual_seed(run.options.seed))
    pairs = {form: GRU(2, run.options.hidden, form).double() for form in FORMS}
    labels = {
        "chung": ("the form of Chung et al. - swapped", "Chung らの形 - swapped"),
        "swapped": ("swapped - nn.GRU(reset_after=False)", "swapped - nn.GRU(reset_after=False)"),
        "reset_after": ("reset after - nn.GRU", "reset_after - nn.GRU"),
    }
    others = {
        "chung": pairs["chung"].swapped(),
        "swapped": pairs["swapped"].as_layer(),
        "reset_after": pairs["reset_after"].as_layer(),
    }
    return [
        Result(f"difference_{form}", largest_difference(pairs[form], others[form], x), labels[form], ".1e") for form in FORMS
    ]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train at both tasks beside a simple RNN and an LSTM, draw, and return the results."""
    form = Option("form", "chung", ("which of the forms above", "上の 3 つの形のどれか"), choices=FORMS)
    run = Experiment("gru", TITLE, [form, *OPTIONS], argv, epochs=10, quick_epochs=3)
    months = run.data(sunspots, made_up_spots, "sunspots")
    keep, name = span(run.options.lag), run.options.form
    rivals: Rivals = {"rnn": nn.RNN, "lstm": LSTM, "gru": lambda inputs, hidden: GRU(inputs, hidden, name)}
    remembering: Rivals = {
        "rnn": nn.RNN,
        "lstm": lambda inputs, hidden: LSTM(inputs, hidden, keep, -keep),
        "gru": lambda inputs, hidden: GRU(inputs, hidden, name, keep),
    }
    return run.finish([*learn_sunspots(run, rivals, months), *learn_adding(run, remembering), *show_equality(run)])
