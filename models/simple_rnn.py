"""The simple RNN in its four forms, on real time series.

    u_t = W_in x_t + W z_{t-1} + b        z_t = f(u_t),  z_0 = 0        f: sigmoid, tanh or ReLU
    many-to-many     v_t = W_out z_t + c              at every t: the value of the next month
    many-to-one      v = W_out z_T + c                once, when the window is read
    one-to-many      z_1 = f(W_in x + b),  z_{t+1} = f(W_y v_t + W z_t + b),  v_t = W_out z_t + c
                                                      x is the window as one vector; each output is the next input
    previous-state   v_t = W_out (x_t, z_{t-1}) + c   from the input and the state before it (a_{t-1} in many books): the output
                                                      needs not wait for z_t

The output function is the identity and the loss the mean of (v - d)^2. (Elman: Finding structure in time, 1990, the network with state;
Jordan: Serial order, 1986, the output as the next input.) The gradient through time is what the tape does.

Data: sunspots per month since 1749 or airline passengers per month 1949 - 1960; the first 65 % to learn from, 15 % for validation, the last
20 % as the test. Every form gets the same windows of the past (one cycle: 11 years of sunspots, 1 year of passengers), and none may be worse
than persistence, which says that the next month is as this one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.binary_addition import ACTIVATIONS
from models.memory_tasks import sunspots as monthly_sunspots
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, TensorDataset, WindowDataset
from tinygrad_ja.data.datasets import AirPassengers
from tinygrad_ja.data.datasets.synthetic import Sine
from tinygrad_ja.training import EarlyStopping, Experiment, Option, Result, Trainer, Update, evaluate

TITLE = {
    "en": "simple RNN: many-to-many, many-to-one, one-to-many predict a time series (JDLA E certificate: RNN)",
    "ja": "単純な RNN: 多対多、多対一、一対多で時系列を予測 (E資格: RNN)",
}
SERIES = ["sunspots", "passengers"]
VARIANTS = ["many-to-many", "many-to-one", "one-to-many", "previous-state"]
OPTIONS = [
    Option("variant", "all", ("form of the network", "ネットワークの形"), choices=["all", *VARIANTS]),
    Option("series", "sunspots", ("time series", "時系列"), choices=SERIES),
    Option("activation", "tanh", ("hidden activation f", "隠れ層の活性化関数 f"), choices=list(ACTIVATIONS)),
    Option("hidden", 32, ("hidden units", "隠れユニットの数"), quick=16),
    Option("lr", 0.003, ("learning rate of Adam", "Adam の学習率"), quick=0.01),
    Option("batch", 64, ("windows in a batch", "ミニバッチの大きさ")),
]


# -- the network in its four forms


class Recurrence(nn.Module):
    """z_t = f(W_in x_t + W z_{t-1} + b). Input (T, N, inputs), output: the states z_0 = 0, z_1 ... z_T, each (N, hidden)."""

    def __init__(self, inputs: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.W_in = nn.Parameter(nn.init.normal_(tg.zeros(hidden, inputs), std=inputs**-0.5))
        self.W = nn.Parameter(nn.init.orthogonal_(tg.zeros(hidden, hidden)))
        self.b = nn.Parameter(tg.zeros(hidden))

    def step(self, projected: tg.Tensor, z: tg.Tensor) -> tg.Tensor:
        """The next state. projected: W_in x_t + b, (N, hidden)."""
        return ACTIVATIONS[self.activation](projected + F.linear(z, self.W))

    def forward(self, x: tg.Tensor) -> list[tg.Tensor]:
        states = [x.new_zeros(x.shape[1], self.W.shape[0])]
        for projected in F.linear(x, self.W_in, self.b).unbind(0):
            states.append(self.step(projected, states[-1]))
        return states


class Form(nn.Module):
    """What the forms share. Input: windows (N, T). Output (N, S); the last ``horizon`` columns predict what follows the window."""

    inputs, horizon = 1, 1

    def __init__(self, window: int, horizon: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.recurrence = Recurrence(self.inputs, hidden, activation)
        self.read = nn.Linear(hidden, 1)

    def target(self, x: tg.Tensor, following: tg.Tensor) -> tg.Tensor:
        """What the output has to be, of windows (N, T) and the values (N, horizon) that follow them."""
        return following[:, :1]


class ManyToMany(Form):
    """v_t = W_out z_t + c for every t: (N, T) -> (N, T)."""

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        states = self.recurrence(x.T.unsqueeze(2))
        return self.read(tg.stack(states[1:])).squeeze(2).T

    def target(self, x: tg.Tensor, following: tg.Tensor) -> tg.Tensor:
        return tg.cat([x[:, 1:], following[:, :1]], dim=1)


class ManyToOne(Form):
    """v = W_out z_T + c: (N, T) -> (N, 1)."""

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.read(self.recurrence(x.T.unsqueeze(2))[-1])


class OneToMany(Form):
    """The window is one input; then each output is the next one: (N, T) -> (N, horizon)."""

    def __init__(self, window: int, horizon: int, hidden: int, activation: str) -> None:
        self.inputs, self.horizon = window, horizon
        super().__init__(window, horizon, hidden, activation)
        self.W_y = nn.Parameter(nn.init.normal_(tg.zeros(hidden, 1)))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        recurrence, outputs = self.recurrence, []
        _, z = recurrence(x.unsqueeze(0))
        for _ in range(self.horizon - 1):
            outputs.append(self.read(z))
            z = recurrence.step(F.linear(outputs[-1], self.W_y, recurrence.b), z)
        return tg.cat([*outputs, self.read(z)], dim=1)

    def target(self, x: tg.Tensor, following: tg.Tensor) -> tg.Tensor:
        return following


class PreviousState(ManyToMany):
    """v_t = W_out (x_t, z_{t-1}) + c for every t: (N, T) -> (N, T). z_T is not needed."""

    def __init__(self, window: int, horizon: int, hidden: int, activation: str) -> None:
        super().__init__(window, horizon, hidden, activation)
        self.read = nn.Linear(1 + hidden, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        rows = x.T.unsqueeze(2)
        before = tg.stack(self.recurrence(rows)[:-1])
        return self.read(tg.cat([rows, before], dim=2)).squeeze(2).T


FORMS: dict[str, type[Form]] = dict(zip(VARIANTS, [ManyToMany, ManyToOne, OneToMany, PreviousState]))


# -- the series


class Series(NamedTuple):
    """Values for each month, what a network sees of them, and how its outputs become values again.

    growth: the network sees log(value / value before) instead of the value, for a series that grows. window, horizon: months that are read
    and months that one-to-many predicts. unit: in English and in Japanese.
    """

    time: np.ndarray
    values: np.ndarray
    growth: bool
    window: int
    horizon: int
    unit: tuple[str, str]

    @property
    def seen(self) -> np.ndarray:
        """(L,), or (L - 1,) with ``growth``; not yet scaled."""
        return np.diff(np.log(self.values)) if self.growth else self.values

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the part to learn from."""
        part = self.seen[: self.bounds[0]]
        return float(part.mean()), float(part.std())

    @property
    def bounds(self) -> tuple[int, int]:
        """Where validation and test begin."""
        return int(0.65 * len(self.seen)), int(0.8 * len(self.seen))

    def windows(self) -> list[TensorDataset]:
        """Windows (N, window) and what follows them (N, horizon), scaled: to learn from, for validation, for the test. What has to be predicted
        lies in one part; what is read may reach back into the part before."""
        mean, deviation = self.scale
        scaled = ((self.seen - mean) / deviation).astype(np.float32)
        first, second = self.bounds
        parts = [scaled[:first], scaled[first - self.window : second], scaled[second - self.window :]]
        made = [WindowDataset(part, self.window, self.horizon) for part in parts]
        return [TensorDataset(*windows.gather(range(len(windows)))) for windows in made]

    def test_values(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each window of the test: the last value that is read (N,), and the values that follow (N, horizon)."""
        begin = self.bounds[1] + self.growth
        places = np.arange(begin, len(self.values) - self.horizon + 1)
        return self.values[places - 1], self.values[places[:, None] + np.arange(horizon)]

    def as_values(self, outputs: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Outputs of a network (N, H) as values; last (N,): the values before."""
        mean, deviation = self.scale
        seen = outputs.astype(np.float64) * deviation + mean
        return last[:, None] * np.exp(seen.cumsum(axis=1)) if self.growth else seen


def sunspots(**where: Any) -> Series:
    """Sunspots per month, as they are; a cycle has about 11 years."""
    time, values = monthly_sunspots(**where)
    return Series(time, values.astype(np.float64), False, 132, 24, ("sunspots", "黒点数"))


def passengers(**where: Any) -> Series:
    """Airline passengers per month, of which the network sees the growth."""
    data = AirPassengers(**where)
    return Series(data.time.numpy(), data.values.double().numpy(), True, 13, 12, ("passengers (1,000)", "旅客数 (千人)"))


def made_up() -> Series:
    """A noisy wave."""
    wave = Sine(800, period=25.0, noise=0.1, generator=tg.Generator().manual_seed(0)).values.double().numpy()
    return Series(np.arange(len(wave)) / 12, 50 + 40 * wave, False, 25, 12, ("value", "値"))


# -- the run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train the forms that were asked for, compare them with persistence, draw predictions. Returns the results."""
    run = Experiment("simple_rnn", TITLE, OPTIONS, argv, epochs=40, quick_epochs=3)
    o = run.options
    series = run.data({"sunspots": sunspots, "passengers": passengers}[o.series], made_up, o.series)
    if run.quick:
        series = series._replace(window=min(series.window, 24), horizon=12)
    chosen = VARIANTS if o.variant == "all" else [o.variant]
    predictions = {variant: predicted(run, variant, series) for variant in chosen}

    results, long = [], "one-to-many"
    for horizon, names in ((1, [v for v in chosen if v != long]), (series.horizon, [v for v in chosen if v == long])):
        last, truth = series.test_values(horizon)
        months = (f"next {horizon} months", f"今後 {horizon} か月") if horizon > 1 else ("next month", "翌月")
        kept = {"persistence" + "_long" * (horizon > 1): np.repeat(last[:, None], horizon, axis=1)}
        for name, made in {**{n: predictions[n] for n in names}, **(kept if names else {})}.items():
            error = float(np.sqrt(np.mean((made - truth) ** 2)))
            label = (f"{name.replace('_long', '')}, {months[0]}: RMSE", f"{_ja(name)}、{months[1]}: RMSE")
            results.append(Result("rmse_" + name.replace("-", "_"), error, label, ".2f"))
    save_pictures(run, series, predictions)
    return run.finish(results, parameters={v: sum(p.numel() for p in new_model(v, series, o).parameters()) for v in chosen})


def _ja(name: str) -> str:
    names = dict(zip(VARIANTS, ["多対多", "多対一", "一対多", "前の状態から出力"]))
    return names.get(name, "直前の値のまま")


def new_model(variant: str, series: Series, options: Any) -> Form:
    """The network of one form, as the options say."""
    return FORMS[variant](series.window, series.horizon, options.hidden, options.activation)


def predicted(run: Experiment, variant: str, series: Series) -> np.ndarray:
    """Train one form; what it predicts for each window of the test, (N, horizon) values."""
    o = run.options
    tg.manual_seed(o.seed)
    model = new_model(variant, series, o).to(o.device)
    train, valid, test = series.windows()

    def measure(batch: list[tg.Tensor]) -> tg.Tensor:
        x, following = batch
        return F.mse_loss(model(x), model.target(x, following))

    def judge(batch: list[tg.Tensor]) -> tg.Tensor:
        x, following = batch
        return F.mse_loss(model(x)[:, -model.horizon :], following[:, : model.horizon])

    update = Update(measure, tg.optim.Adam(model.parameters(), lr=o.lr), clip_norm=1.0)
    held_out = DataLoader(valid, 512, device=o.device)
    trainer = Trainer(
        model,
        run.compiled(update),
        DataLoader(train, o.batch, shuffle=True, device=o.device),
        validate=lambda: evaluate(model, judge, held_out),
        stopping=EarlyStopping(patience=None, restore_best=True),
        **{**run.keeping, "folder": o.out / variant},
    )
    run.train(trainer)
    model.eval()
    with tg.no_grad():
        outputs = model(test.tensors[0].to(o.device))[:, -model.horizon :]
    last, _ = series.test_values(1)
    return series.as_values(outputs.cpu().numpy(), last)


def save_pictures(run: Experiment, series: Series, predictions: dict[str, np.ndarray]) -> None:
    """The end of the test with the predictions of the next month; and continuations by one-to-many from some of its months."""
    words, (last, truth) = run.words, series.test_values(1)
    time = series.time[series.bounds[1] + series.growth :]
    shown = slice(-min(len(last), 240), None)
    next_month = {name: made for name, made in predictions.items() if name != "one-to-many"}
    if next_month:
        with run.figure("prediction.png", len(next_month), size=(8.0, 1.2 + 2.2 * len(next_month))) as panels:
            for axes, (name, made) in zip(np.atleast_1d(panels), next_month.items()):
                x = time[: len(last)][shown]
                axes.plot(x, truth[shown, 0], color="0.6", linewidth=1.6, label=words("truth", "実際の値"))
                axes.plot(
                    x, made[shown, 0], color="#08519c", linewidth=1.1, label=words("predicted a month before", "1 か月前の予測")
                )
                axes.set(title=words(name, _ja(name)), ylabel=words(*series.unit))
                axes.grid(alpha=0.3)
            np.atleast_1d(panels)[0].legend(frameon=False, ncols=2, fontsize=9)
            np.atleast_1d(panels)[-1].set_xlabel(words("year", "年"))
    if "one-to-many" in predictions:
        with run.figure("continuation.png", size=(8.0, 3.6)) as axes:
            axes.plot(time, series.values[-len(time) :], color="0.6", linewidth=1.4, label=words("truth", "実際の値"))
            for begin in range(0, len(last), series.horizon):
                color, label = "#d94801", words("continued by the network", "ネットワークが続けた値")
                line = predictions["one-to-many"][begin]
                axes.plot(
                    time[begin : begin + len(line)], line, color=color, linewidth=1.6, label=label if begin == 0 else None
                )
                axes.plot(time[begin], line[0], "o", color=color, markersize=3)
            title = words(f"One-to-many: {series.horizon} months at a time", f"一対多: {series.horizon} か月分をまとめて予測")
            axes.set(title=title, xlabel=words("year", "年"), ylabel=words(*series.unit))
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
