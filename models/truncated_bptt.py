"""Truncated back-propagation through time: the state goes on, the path of the gradient is cut after k steps.

    z_t = tanh(W_in x_t + W z_{t-1} + b),   E = Σ_t E_t
    full        ∂E/∂W = Σ_t Σ_{j<=t}        δ_{t,j} z_{j-1}ᵀ
    truncated   ∂E/∂W = Σ_t Σ_{s(t)<=j<=t}  δ_{t,j} z_{j-1}ᵀ      s(t): the first step of the piece of k steps in which t lies

A long stream is read by N rows side by side (stateful batches): the state after one piece is the value, but not the history, from which the
next one begins. Time and memory of a backward are those of k steps, and so is what can be learned: a dependence that is longer than k has no
gradient. (Williams and Peng: An efficient gradient-based algorithm for on-line training of recurrent network trajectories, 1990.)

Each update here uses 100 steps, in 100 / k pieces whose gradients are added; so for every k there are equally many updates on the same data
in the same order, and nothing differs but the cut. (Usually one updates after each piece.) Two streams:

    delay         random bits; the network has to say the bit of ``--delay`` steps ago. Expect nearly 100 % where k is longer, and little more
                  than guessing where it is not: no gradient asks the state to keep the bit, only a faint echo of it is there to be read.
    shakespeare   the next character of Shakespeare's plays. Expect a lower loss from k = 5 than from k = 1, and hardly more from longer ones:
                  what this network learns of English in the time are letters and words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import BPTTLoader
from tinygrad_ja.data.datasets import TinyShakespeare
from tinygrad_ja.data.datasets.synthetic import GrammarText
from tinygrad_ja.errors import refusal
from tinygrad_ja.training import Experiment, Option, Result, Trainer

TITLE = {
    "en": "truncated BPTT: cut after 1, 5, 20 or all steps, state carried on (JDLA E certificate: truncated BPTT)",
    "ja": "打ち切り BPTT: 1、5、20、全時刻で打ち切り、状態は引き継ぐ (E資格: 打ち切り BPTT)",
}
STREAMS = ["delay", "shakespeare"]
OPTIONS = [
    Option("stream", "all", ("what is read", "読ませる系列"), choices=["all", *STREAMS]),
    Option("delay", 10, ("steps to remember in the stream of bits", "ビット列で覚えておく時刻の数"), quick=8),
    Option("hidden", 128, ("hidden units", "隠れユニットの数"), quick=32),
    Option("rows", 32, ("rows read side by side, N", "並べて読む行の数 N")),
    Option("lr", 0.002, ("learning rate of Adam", "Adam の学習率"), quick=0.01),
]
STEPS = 100
CUTS = {"1": 1, "5": 5, "20": 20, "full": STEPS}


class StreamRNN(nn.Module):
    """Symbols (T, N) and a state (1, N, hidden) -> scores of the answer (T, N, symbols) and the next state."""

    def __init__(self, symbols: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, min(symbols, 32))
        self.rnn = nn.RNN(min(symbols, 32), hidden)
        self.read = nn.Linear(hidden, symbols)

    def forward(self, x: tg.Tensor, state: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        z, state = self.rnn(self.embedding(x), state)
        return self.read(z), state

    def start(self, rows: int) -> tg.Tensor:
        """The state before the first step."""
        weight = self.rnn.weight_hh_l0
        return weight.new_zeros(1, rows, weight.shape[1])


class Truncated:
    """An update from pieces of k steps, the state carried from piece to piece and from batch to batch."""

    def __init__(self, model: StreamRNN, optimizer: tg.optim.Optimizer, k: int, rows: int) -> None:
        self.model, self.optimizer, self.k = model, optimizer, k
        self.state = model.start(rows)
        self.parts = {"optimizer": optimizer, "carried": self}

    def __call__(self, batch: tuple[tg.Tensor, tg.Tensor]) -> dict[str, tg.Tensor]:
        x, d = batch
        steps = x.shape[0]
        self.optimizer.zero_grad()

        def piece(x: tg.Tensor, d: tg.Tensor, state: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
            scores, state = self.model(x, state)
            return F.cross_entropy(scores.flatten(0, 1), d.flatten()) * (x.shape[0] / steps), state

        total = x.new_zeros((), dtype=self.state.dtype)
        for loss, state in nn.truncated_bptt(piece, (x, d), self.k, self.state):
            loss.backward()  # the tape of this piece is all there is; the gradients add up
            total, self.state = total + loss.detach(), state
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": total}

    def state_dict(self) -> dict[str, Any]:
        """The carried state, for the checkpoint."""
        return {"state": self.state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self.state = state_dict["state"].to(self.state.device)


class Stream(NamedTuple):
    """Two columns (L, 2): the symbol that is read, and the answer that was due one step before. chance: the loss of a guess that knows
    nothing but how often each answer is right."""

    train: np.ndarray
    test: np.ndarray
    symbols: int
    chance: float


class Stateful:
    """Batches ``(x, d)``, each (STEPS, N), of a stream: those of ``BPTTLoader``. whole: also a last one that is shorter."""

    def __init__(self, columns: np.ndarray, rows: int, device: Any, *, whole: bool = False) -> None:
        self.loader = BPTTLoader(columns, rows, STEPS, drop_last=not whole, device=device)
        self.state_dict, self.load_state_dict = self.loader.state_dict, self.loader.load_state_dict

    def __iter__(self) -> Iterator[tuple[tg.Tensor, tg.Tensor]]:
        return ((x[..., 0], y[..., 1]) for x, y in self.loader)

    def __len__(self) -> int:
        return len(self.loader)


def delayed_bits(length: int, delay: int, seed: int) -> Stream:
    """Random bits; the answer to bit t is bit t - delay."""
    if delay >= length - 1:
        rule = (f"less than {length - 1}, for {length} bits", f"{length} ビットに対して {length - 1} 未満")
        raise refusal("truncated_bptt", "--delay", delay, rule)
    bits = np.random.default_rng(seed).integers(0, 2, length)
    answers = np.concatenate([np.zeros(delay + 1, np.int64), bits[: -delay - 1]])
    return parted(np.stack([bits, answers], axis=1), 2, math.log(2))


def characters(text: str) -> Stream:
    """Characters; the answer is the next one."""
    alphabet, numbers = np.unique(np.array(list(text)), return_inverse=True)
    share = np.bincount(numbers) / len(numbers)
    return parted(np.stack([numbers, numbers], axis=1), len(alphabet), float(-(share * np.log(share)).sum()))


def parted(columns: np.ndarray, symbols: int, chance: float) -> Stream:
    """The last tenth is the test."""
    border = len(columns) * 9 // 10
    return Stream(columns[:border], columns[border:], symbols, chance)


def evaluate_stream(model: StreamRNN, columns: np.ndarray, rows: int) -> dict[str, float]:
    """Loss and share of right answers over a stream, the state carried through all of it."""
    state = model.start(rows)
    totals, steps = {"loss": 0.0, "accuracy": 0.0}, 0
    with tg.no_grad():
        for x, d in Stateful(columns, rows, state.device, whole=True):
            scores, state = model(x, state)
            totals["loss"] += F.cross_entropy(scores.flatten(0, 1), d.flatten()).item() * len(x)
            totals["accuracy"] += (scores.argmax(2) == d).float().mean().item() * len(x)
            steps += len(x)
    return {name: total / steps for name, total in totals.items()}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train one network for each k on each stream, draw the curves. Returns the results."""
    run = Experiment("truncated_bptt", TITLE, OPTIONS, argv, epochs=4, quick_epochs=2)
    o = run.options
    names = STREAMS if o.stream == "all" else [o.stream]
    streams: dict[str, Stream] = {}
    run.source = "synthetic"  # the bits; the plays, if they are read, are named instead
    if "delay" in names:
        streams["delay"] = delayed_bits(100_000 if run.quick else 300_000, o.delay, o.seed)
    if "shakespeare" in names:
        made_up = lambda: GrammarText(3000, generator=tg.Generator().manual_seed(0)).text  # noqa: E731
        text = run.data(lambda **where: TinyShakespeare(split="all", **where).text, made_up, "tinyshakespeare")
        streams["shakespeare"] = characters(text[:80_000] if run.quick else text)

    results, curves, seconds = [], {}, {}
    for name, stream in streams.items():
        for cut in CUTS:
            trainer = new_trainer(run, name, stream, cut)
            report = run.train(trainer)
            curves[name, cut] = trainer.history
            seconds[f"{name}, k = {cut}"] = round(report.seconds, 1)
            scores = evaluate_stream(trainer.model, stream.test, o.rows)  # type: ignore[arg-type]
            k = f"k = {cut}" if cut != "full" else f"k = {STEPS}"
            if name == "delay":
                label = (f"bit of {o.delay} steps ago, {k}: right", f"{o.delay} 時刻前のビット、{k}: 正解率")
                results.append(Result(f"delay_{cut}", scores["accuracy"], label, ".1%"))
            else:
                label = (f"next character, {k}: nats", f"次の文字、{k}: 損失 (nat)")
                results.append(Result(f"shakespeare_{cut}", scores["loss"], label, ".3f"))
    save_pictures(run, streams, curves)
    return run.finish(results, train_seconds_each=seconds, chance={name: stream.chance for name, stream in streams.items()})


def new_trainer(run: Experiment, name: str, stream: Stream, cut: str) -> Trainer:
    """A new network of the same initial weights for every k, and its training."""
    o = run.options
    tg.manual_seed(o.seed)
    model = StreamRNN(stream.symbols, o.hidden).to(o.device)
    step = Truncated(model, tg.optim.Adam(model.parameters(), lr=o.lr), CUTS[cut], o.rows)
    batches = Stateful(stream.train, o.rows, o.device)
    trainer = Trainer(
        model,
        run.compiled(step),
        batches,
        validate=lambda: evaluate_stream(model, stream.test, o.rows),
        validate_every=max(1, len(batches) // 10),
        items=lambda batch: batch[0].numel(),
        curves=False,
        print_rows=False,
        **{**run.keeping, "folder": o.out / f"{name}-{cut}"},
    )

    @trainer.on("epoch")
    def begin_again(trainer: Trainer) -> None:
        step.state = model.start(o.rows)

    return trainer


def save_pictures(
    run: Experiment, streams: Mapping[str, Stream], curves: Mapping[tuple[str, str], list[dict[str, float]]]
) -> None:
    """The loss on the test over the updates, a line for each k."""
    words = run.words
    titles = {
        "delay": words(f"the bit of {run.options.delay} steps ago", f"{run.options.delay} 時刻前のビット"),
        "shakespeare": words("the next character of Shakespeare", "シェイクスピアの次の文字"),
    }
    colors = dict(zip(CUTS, ["#d94801", "#e6ab02", "#1b9e77", "#08519c"]))
    with run.figure("cuts.png", 1, len(streams), (5.0 * len(streams) + 0.5, 3.8)) as panels:
        for axes, (name, stream) in zip(np.atleast_1d(panels), streams.items()):
            for cut, k in CUTS.items():
                points = [(row["step"], row["valid_loss"]) for row in curves[name, cut] if "valid_loss" in row]
                if points:
                    axes.plot(*zip(*points), color=colors[cut], linewidth=1.6, label=f"k = {k}")
            if name == "delay":
                axes.axhline(stream.chance, color="0.5", linestyle=":", label=words("guessing", "当てずっぽう"))
            axes.set(title=titles[name], xlabel=words("update", "更新の回数"), ylabel=words("loss, nats", "損失 (nat)"))
            axes.grid(alpha=0.3)
        np.atleast_1d(panels)[0].legend(frameon=False, fontsize=9)
