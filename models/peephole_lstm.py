"""An LSTM whose gates look into the memory: peepholes let it count time steps exactly.

    a, i, f, o = W x_t + U h_{t-1} + b
    c_t = σ(i + V_i∘c_{t-1})∘tanh(a) + σ(f + V_f∘c_{t-1})∘c_{t-1}
    h_t = σ(o + V_o∘c_t)∘tanh(c_t)

Without V a gate sees the memory only through h, and while the output gate is closed it sees nothing. With V it can open exactly when the
memory has reached a value. Input and forget gate look at the memory before the step, the output gate at the one after it. (Gers, Schmidhuber:
Recurrent nets that time and count, 2000; Gers, Schraudolph, Schmidhuber: Learning precise timing with LSTM recurrent networks, 2002.)

Two tasks after that paper, each with the LSTM without peepholes beside it. ``measure``: spikes come in, and at each one the answer is whether F
or F + 1 steps have gone by since the last. ``generate``: make a spike every F + I steps, where I, 0 or 1, is told one step after the spike
before. A stream is right when every answer in it is. Expect both to measure intervals of 20 steps with most seeds,
and those with peepholes to be no faster: see the seeds in docs/models/peephole_lstm.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.lstm import LSTM, State
from models.memory_tasks import COLORS, Reader, keeping, span
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, TensorDataset
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update

TITLE = {
    "en": "peephole LSTM: gates that see the memory time spikes exactly (JDLA E certificate: LSTM, peephole connections)",
    "ja": "のぞき穴結合付き LSTM: メモリセルを見るゲートが、スパイクの時刻を正確に数える (E資格: LSTM, のぞき穴結合)",
}

TASKS = ["measure", "generate"]
OPTIONS = [
    Option("task", "measure", ("measure the distance of spikes, or make them", "スパイクの間隔を測るか、スパイクを作るか"), choices=TASKS),
    Option("interval", 20, ("F: steps between two spikes, or one more", "F: スパイクの間隔 (これか、1 だけ長い)"), quick=6, least=2),
    Option("spikes", 3, ("intervals in a stream of the training", "学習する系列にある間隔の数")),
    Option("hidden", 8, ("hidden units", "隠れユニットの数")),
    Option("lr", 1e-2, ("learning rate of Adam", "Adam の学習率")),
    Option("batch", 32, ("streams in a batch", "ミニバッチの大きさ")),
    Option("steps", 5000, ("training steps", "学習回数"), quick=500),
]  # fmt: skip
LONGER = 3
"""Streams of the test have so many times the intervals of the training."""


class PeepholeLSTM(LSTM):
    """The formulas above. V (3, H): the rows are V_i, V_f and V_o, uniform in ±1/√H at the start."""

    def __init__(self, inputs: int, hidden: int, keep: float = 1.0) -> None:
        super().__init__(inputs, hidden, keep)
        bound = 1 / math.sqrt(hidden)
        self.V = nn.Parameter(tg.empty(3, hidden).uniform_(-bound, bound))

    def step(self, u: tg.Tensor, *state: tg.Tensor) -> State:
        h, c = state
        V_i, V_f, V_o = self.V.unbind(0)
        a, i, f, o = (u + F.linear(h, self.U)).chunk(4, dim=1)
        c = tg.sigmoid(i + V_i * c) * tg.tanh(a) + tg.sigmoid(f + V_f * c) * c
        return tg.sigmoid(o + V_o * c) * tg.tanh(c), c

    def as_layer(self) -> nn.LSTM:
        """The same network as the framework's layer."""
        plain, layer = super().as_layer(), nn.PeepholeLSTM(self.W.shape[1], self.hidden).to(dtype=self.W.dtype)
        peepholes = dict(zip(("weight_ci_l0", "weight_cf_l0", "weight_co_l0"), self.V.detach()))
        layer.load_state_dict({**plain.state_dict(), **peepholes})
        return layer


RIVALS = {"lstm": LSTM, "peephole": PeepholeLSTM}
NAMES = {"lstm": ("LSTM", "LSTM"), "peephole": ("with peepholes", "のぞき穴結合付き")}


def streams(task: str, count: int, interval: int, spikes: int, generator: tg.Generator) -> TensorDataset:
    """``count`` streams of ``spikes`` intervals of F or F + 1 steps: (x, y, counts), float32 (T, 2), (T,), (T,).

    x: is there a spike; and for ``generate`` I as -1 or 1, one step after the spike with which its interval begins. There the only spike that
    comes in is the first: all others have to be made. y: the answer, 0 or 1. counts: 1 where there is one, else 0 (after the last spike; for
    ``measure`` between spikes, too).
    """
    extra = tg.randint(2, (count, spikes), generator=generator).numpy()
    at = np.concatenate([np.zeros((count, 1), np.int64), np.cumsum(interval + extra, axis=1)], axis=1)
    x = np.zeros((count, spikes * (interval + 1) + 1, 2), np.float32)
    y, counts = np.zeros(x.shape[:2], np.float32), np.zeros(x.shape[:2], np.float32)
    rows = np.arange(count)[:, None]
    if task == "measure":
        x[rows, at, 0] = 1
        y[rows, at[:, 1:]] = extra
        counts[rows, at[:, 1:]] = 1
    else:
        x[:, 0, 0] = 1
        x[rows, at[:, :-1] + 1, 1] = 2 * extra - 1  # with the spike it would say when to make it
        y[rows, at[:, 1:]] = 1
        counts[np.arange(x.shape[1]) <= at[:, -1:]] = 1
    return TensorDataset(x, y, counts)


def scores(model: nn.Module, batch: Any) -> dict[str, tg.Tensor]:
    """The cross entropy of the answers, and the share of streams in which every answer is right."""
    x, y, counts = (part.to(next(model.parameters()).device) for part in batch)
    v = model(x.transpose(0, 1)).squeeze(2).T
    loss = (F.binary_cross_entropy_with_logits(v, y, reduction="none") * counts).sum() / counts.sum()
    wrong = ((v > 0).float() - y).abs() * counts
    return {"loss": loss, "right": (wrong.sum(1) == 0).float().mean()}


def learn(run: Experiment, name: str, train: TensorDataset, tests: dict[str, TensorDataset]) -> Trainer:
    """Train one of the two. The validation is that on streams as long as those of the training."""
    options = run.options
    tg.manual_seed(options.seed)
    model = Reader(RIVALS[name](2, options.hidden, span(options.interval)), options.hidden).to(options.device)
    order = tg.Generator().manual_seed(options.seed)
    update = Update(lambda batch: scores(model, batch), tg.optim.Adam(model.parameters(), lr=options.lr), clip_norm=1.0)

    def validate() -> dict[str, float]:
        return {key: value.item() for key, value in scores(model, tests["same"].tensors).items()}

    trainer = Trainer(
        model,
        run.compiled(update),
        DataLoader(train, batch_size=options.batch, shuffle=True, generator=order),
        validate=validate,
        validate_every=max(1, options.steps // 30),
        **keeping(run, name),
    )
    run.train(trainer, iterations=options.steps)
    return trainer


def draw(run: Experiment, models: dict[str, Reader], curves: dict[str, list[tuple[int, float]]], test: TensorDataset) -> None:
    """Share of right streams over the training; and one stream with the answers, and the memory beneath."""
    label = {name: run.words(*NAMES[name]) for name in RIVALS}
    with run.figure("learning.png") as axes:
        for color, (name, points) in zip(COLORS, curves.items()):
            axes.plot(*zip(*points), color=color, linewidth=1.6, label=label[name])
        axes.set(
            title=run.words(
                f"Streams without a mistake, F = {run.options.interval}", f"すべて正しい系列の割合、F = {run.options.interval}"
            ),
            xlabel=run.words("training step", "学習回数"),
            ylabel=run.words("share", "割合"),
            ylim=(-0.03, 1.03),
        )
        axes.legend(frameon=False)
    shown = int((test.tensors[1].sum(1) - run.options.spikes / 2).abs().argmin())  # both answers are in it
    x, y, counts = (part[shown : shown + 1] for part in test.tensors)
    asked = np.flatnonzero(counts[0].numpy())
    with run.figure("stream.png", rows=3, size=(9.0, 6.4)) as (answers, *memories):
        answers.plot(asked, y[0].numpy()[asked], "o", color="0.8", markersize=9, label=run.words("target", "正解"))
        for color, axes, (name, model) in zip(COLORS, memories, models.items()):
            with tg.no_grad():
                inputs = x.transpose(0, 1).to(next(model.parameters()).device)
                states = model.layer.states(inputs)
                p = tg.sigmoid(model(inputs)).cpu().numpy()[:, 0, 0]
            answers.plot(asked, p[asked], ".-", color=color, linewidth=1.4, label=label[name])
            axes.plot(np.stack([c.cpu().numpy()[0] for _, c in states]), linewidth=1.2)
            axes.set(ylabel="$c_t$", title=run.words(f"memory cells: {label[name]}", f"メモリセル: {label[name]}"))
        answers.set(title=run.words("answers", "出力"), ylabel="$y_t$", xlim=memories[0].get_xlim(), ylim=(-0.1, 1.1))
        answers.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        memories[-1].set_xlabel(run.words("time step t", "時刻 t"))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train an LSTM with and without peepholes on the same streams, draw, and return the results."""
    run = Experiment("peephole_lstm", TITLE, OPTIONS, argv)
    options = run.options
    run.source = "synthetic"
    draws = tg.Generator().manual_seed(options.seed + 1)
    train = streams(options.task, 200 * options.batch, options.interval, options.spikes, draws)
    tests = {
        "same": streams(options.task, 200, options.interval, options.spikes, draws),
        "longer": streams(options.task, 200, options.interval, LONGER * options.spikes, draws),
    }
    models: dict[str, Any] = {}
    curves, results = {}, []
    words = {"same": ("right streams", "正しい系列"), "longer": (f"{LONGER} times as long", f"{LONGER} 倍の長さ")}
    for name in RIVALS:
        trainer = learn(run, name, train, tests)
        models[name] = trainer.model
        curves[name] = [(int(row["step"]), row["valid_right"]) for row in trainer.history if "valid_right" in row]
        for length, test in tests.items():
            with tg.no_grad():
                right = scores(trainer.model, test.tensors)["right"].item()
            label: Any = tuple(f"{text}: {of}" for text, of in zip(words[length], NAMES[name]))
            results.append(Result(f"right_{length}_{name}", right, label, ".1%"))
    draw(run, models, curves, tests["same"])
    return run.finish(results, curves=curves)
