"""Two tasks for the recurrent networks of ``lstm.py`` and ``gru.py``, which learn them side by side from the same data.

Sunspots: the monthly numbers since 1749 are read one by one, and after each month the number of a year later is forecast. The loss is the
squared error of the square roots, and the weights that are best on the validation part count.

The adding problem (``synthetic.Adding``; Hochreiter, Schmidhuber: Long short-term memory, 1997): two of many random numbers are marked, and at
the end their sum is asked for. Nothing but the memory can answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, WindowDataset
from tinygrad_ja.data.datasets import Sunspots, synthetic
from tinygrad_ja.training import EarlyStopping, Experiment, Option, Result, Trainer, Update

OPTIONS = [
    Option("hidden", 32, ("hidden units", "隠れユニットの数"), quick=16),
    Option("lr", 5e-3, ("learning rate of Adam", "Adam の学習率"), quick=1e-2),
    Option("batch", 32, ("sequences in a batch", "ミニバッチの大きさ")),
    Option("steps", 3000, ("training steps at the adding problem", "足し算の学習回数"), quick=400),
    Option("lag", 100, ("length T of an adding problem", "足し算の系列の長さ T"), quick=10, least=2),
]

COLORS = ("#d94801", "#08519c", "#238b45", "#6a51a3", "#969696")


class Reader(nn.Module):
    """y_t = V h_t + d on top of a recurrent layer: (T, N, inputs) -> (T, N, 1)."""

    def __init__(self, layer: nn.Module, hidden: int) -> None:
        super().__init__()
        self.layer = layer
        self.read = nn.Linear(hidden, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.read(self.layer(x)[0])


Rivals = Mapping[str, Callable[[int, int], nn.Module]]
"""Name -> a recurrent layer from the sizes of input and state."""


def of(name: str, english: str, japanese: str) -> tuple[str, str]:
    """A label of the table, for one of the rivals."""
    return f"{english}: {name.upper()}", f"{japanese}: {name.upper()}"


def keeping(run: Experiment, *names: str) -> dict[str, Any]:
    """``run.keeping`` for one of several trainings: a folder of its own. How many steps there are may change when a run goes on."""
    settings = {name: value for name, value in run.keeping["settings"].items() if name != "steps"}
    return {"folder": run.options.out.joinpath(*names), "settings": settings}


# ---- sunspots: a forecast for the month a year later -----------------------------------------------------------------------------

AHEAD, WINDOW, WARM = 12, 132, 24
"""Months ahead, months of a training window (a cycle of the sun), and those at its start whose forecasts do not count."""


def scaled(spots: Any) -> Any:
    """√spots to about -1 .. 3: the root makes the noise the same at low and at high activity."""
    return spots**0.5 / 5 - 1


def unscaled(y: Any) -> Any:
    """Back to numbers of spots."""
    return (5 * (y.clip(-1) + 1)) ** 2


class Months(NamedTuple):
    """A monthly series (L,), its first 70 % for training, the next 15 % for validation, the last 15 % for the test."""

    time: np.ndarray
    values: np.ndarray

    def span(self, part: str) -> tuple[int, int]:
        """First and last (exclusive) month of ``"train"``, ``"valid"`` or ``"test"``."""
        borders = [0, int(0.7 * len(self.values)), int(0.85 * len(self.values)), len(self.values)]
        at = ("train", "valid", "test").index(part)
        return borders[at], borders[at + 1]


def sunspots(**where: Any) -> Months:
    """The monthly sunspot numbers."""
    read = Sunspots(**where)
    return Months(read.time.numpy(), read.values.numpy())


def made_up_spots() -> Months:
    """A cycle of eleven years with noise."""
    wave = synthetic.Sine(1200, period=132.0, noise=0.15, generator=tg.Generator().manual_seed(0)).values.numpy()
    return Months(1900 + np.arange(len(wave)) / 12, 60 * (1 + wave).clip(0))


def forecasts(model: nn.Module, months: Months, part: str) -> np.ndarray:
    """What the model says about each month of a part, a year before, having seen at least the three cycles up to then."""
    first, last = months.span(part)
    begin = max(0, first - AHEAD - 3 * WINDOW)
    x = tg.tensor(scaled(months.values[begin : last - AHEAD])).reshape(-1, 1, 1)
    with tg.no_grad():
        y = model(x.to(next(model.parameters()).device))
    made: np.ndarray = unscaled(y.cpu().numpy()[-(last - first) :, 0, 0])
    return made


def rmse(predicted: np.ndarray, true: np.ndarray) -> float:
    """Root mean squared error."""
    return float(np.sqrt(((predicted - true) ** 2).mean()))


def learn_sunspots(run: Experiment, rivals: Rivals, months: Months) -> list[Result]:
    """Train each rival on windows of the training part; the weights with the best validation count. Draws the forecasts of the test."""
    first, last = months.span("test")
    true = months.values[first:last]
    guesses = {name: learn_forecast(run, name, make, months) for name, make in rivals.items()}
    with run.figure("sunspots.png", size=(9.0, 4.2)) as axes:
        axes.plot(months.time[first:last], true, color="0.75", linewidth=1.0, label=run.words("measured", "実測値"))
        for color, (name, guess) in zip(COLORS, guesses.items()):
            axes.plot(months.time[first:last], guess, color=color, linewidth=1.5, label=name.upper())
        axes.set(
            title=run.words(
                "Sunspots of the test part, forecast 12 months before", "テスト期間の太陽黒点数: 12 か月前からの予測"
            ),
            xlabel=run.words("year", "年"),
            ylabel=run.words("sunspot number", "黒点数"),
        )
        axes.legend(frameon=False)
    errors = {name: rmse(guess, true) for name, guess in guesses.items()}
    as_now = rmse(months.values[first - AHEAD : last - AHEAD], true)
    return [
        *[
            Result(f"sunspots_{name}", error, of(name, "sunspots, RMSE", "黒点数の RMSE"), ".2f")
            for name, error in errors.items()
        ],
        Result("sunspots_as_now", as_now, ("sunspots, RMSE: as now", "黒点数の RMSE: 今の値のまま"), ".2f"),
    ]


def learn_forecast(run: Experiment, name: str, make: Callable[[int, int], nn.Module], months: Months) -> np.ndarray:
    """Train one model; its forecasts for the test part."""
    options = run.options
    tg.manual_seed(options.seed)
    model = Reader(make(1, options.hidden), options.hidden).to(options.device)
    series = scaled(months.values[: months.span("train")[1]])
    windows = WindowDataset(series, WINDOW, AHEAD, stride=4 if run.quick else 1)
    order = tg.Generator().manual_seed(options.seed)
    loader = DataLoader(windows, batch_size=options.batch, shuffle=True, drop_last=True, generator=order)

    def measure(batch: list[tg.Tensor]) -> tg.Tensor:
        whole = tg.cat(batch, dim=1).T.unsqueeze(2).to(options.device)  # (WINDOW + AHEAD, N, 1)
        return F.mse_loss(model(whole[:WINDOW])[WARM:], whole[AHEAD:][WARM:])

    def validate() -> dict[str, float]:
        first, last = months.span("valid")
        return {"rmse": rmse(forecasts(model, months, "valid"), months.values[first:last])}

    update = Update(measure, tg.optim.Adam(model.parameters(), lr=options.lr), clip_norm=1.0)
    stopping = EarlyStopping("valid_rmse", patience=None, restore_best=True)
    kept = keeping(run, "sunspots", name)
    run.train(Trainer(model, run.compiled(update), loader, validate=validate, stopping=stopping, **kept))
    return forecasts(model, months, "test")


# ---- the adding problem ----------------------------------------------------------------------------------------------------------

CLOSE = 0.04
"""An answer is right when it is off by less (1997)."""


def span(steps: int) -> float:
    """The bias of a gate that keeps 1 - 1/steps at each step: what is in the memory lasts about so many steps (Tallec, Ollivier: Can
    recurrent neural networks warp time?, 2018)."""
    return math.log(steps - 1)


def learn_adding(run: Experiment, rivals: Rivals) -> list[Result]:
    """Train each rival on the same sums. Draws the error over the training."""
    lag, batch = run.options.lag, run.options.batch
    seeded = [tg.Generator().manual_seed(run.options.seed + part) for part in (1, 2)]
    train = synthetic.Adding((100 if run.quick else 1000) * batch, length=lag, generator=seeded[0])
    test = synthetic.Adding(100 if run.quick else 1000, length=lag, generator=seeded[1])
    results, curves = [], {}
    for name, make in rivals.items():
        trainer = learn_sums(run, name, make, train, test)
        curves[name] = [(row["step"], row["valid_loss"]) for row in trainer.history if "valid_loss" in row]
        last = trainer.history[-1]
        results += [
            Result(f"adding_error_{name}", last["valid_loss"], of(name, "adding, squared error", "足し算の二乗誤差"), ".5f"),
            Result(f"adding_right_{name}", last["valid_right"], of(name, "adding, right answers", "足し算の正解率"), ".1%"),
        ]
    with run.figure("adding.png") as axes:
        for color, (name, points) in zip(COLORS, curves.items()):
            axes.semilogy(*zip(*points), color=color, linewidth=1.6, label=name.upper())
        axes.axhline(1 / 6, color="0.5", linestyle="--", linewidth=1.0, label=run.words("always 1", "いつも 1 と答える"))
        axes.set(
            title=run.words(f"Adding problem, T = {lag}", f"足し算の問題、T = {lag}"),
            xlabel=run.words("training step", "学習回数"),
            ylabel=run.words("squared error of new sums", "新しい問題での二乗誤差"),
        )
        axes.legend(frameon=False)
    return results


def learn_sums(run: Experiment, name: str, make: Callable[[int, int], nn.Module], train: Any, test: Any) -> Trainer:
    """Train one model at the adding problem."""
    options = run.options
    tg.manual_seed(options.seed)
    model = Reader(make(2, options.hidden), options.hidden).to(options.device)
    order = tg.Generator().manual_seed(options.seed)
    loader = DataLoader(train, batch_size=options.batch, shuffle=True, drop_last=True, generator=order)

    def measure(batch: list[tg.Tensor]) -> dict[str, tg.Tensor]:
        x, y = (part.to(options.device) for part in batch)
        answer = model(x.transpose(0, 1))[-1]
        return {"loss": F.mse_loss(answer, y), "right": ((answer - y).abs() < CLOSE).float().mean()}

    update = Update(measure, tg.optim.Adam(model.parameters(), lr=options.lr), clip_norm=1.0)
    trainer = Trainer(
        model,
        run.compiled(update),
        loader,
        validate=lambda: {key: value.item() for key, value in measure(test.tensors).items()},
        validate_every=max(1, options.steps // 20),
        **keeping(run, "adding", name),
    )
    run.train(trainer, iterations=options.steps)
    return trainer
