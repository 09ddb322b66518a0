"""Why gradients vanish or explode on the way back through time, and what helps: memory cells, and clipping.

    h_t = f(u_t),   u_t = W x_t + U h_{t-1} + b
    ∂E/∂h_t = J_{t+1}ᵀ J_{t+2}ᵀ .. J_Tᵀ ∂E/∂h_T,   J_k = ∂h_k/∂h_{k-1} = diag(f'(u_k)) U

A product of T - t matrices. With singular values of U of at most s and f' <= γ it is at most (γ s)^{T-t}, and γ is 1/4 for the sigmoid, 1 for
tanh and relu: below 1 the error vanishes, above it may explode. (Hochreiter: Untersuchungen zu dynamischen neuronalen Netzen, 1991; Bengio,
Simard, Frasconi: Learning long-term dependencies with gradient descent is difficult, 1994; Pascanu, Mikolov, Bengio: On the difficulty of
training recurrent neural networks, 2013.)

Shown on the monthly sunspot numbers: ‖∂E/∂h_t‖ for the RNN with three functions f, small and large U, beside the memory of an LSTM, of its
constant error carousel, and a GRU; the norm of the product beside its bound. Then the cure for explosion, clipping the gradient g of all
weights together,

    g ← g · min(1, threshold / ‖g‖)

in a training that breaks down without it and learns with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.gru import GRU
from models.lstm import CEC, LSTM, Recurrent, State, error_norms
from models.memory_tasks import (
    AHEAD,
    COLORS,
    WARM,
    WINDOW,
    Months,
    Reader,
    forecasts,
    keeping,
    made_up_spots,
    rmse,
    scaled,
    sunspots,
)
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, WindowDataset
from tinygrad_ja.errors import refusal
from tinygrad_ja.func import jacrev
from tinygrad_ja.training import Experiment, Option, Result, Trainer

TITLE = {
    "en": "vanishing and exploding gradients seen, and clipping (JDLA E certificate: vanishing gradient, gradient clipping)",
    "ja": "勾配の消失と爆発を見る。勾配クリッピング (E資格: 勾配消失、勾配クリッピング)",
}

OPTIONS = [
    Option("hidden", 32, ("hidden units", "隠れユニットの数")),
    Option("lag", 60, ("time steps that the error goes back", "誤差がさかのぼる時刻の数"), quick=30, least=2),
    Option("small", 0.5, ("singular values of the small U", "小さい U の特異値"), least=0),
    Option("large", 2.0, ("singular values of the large U", "大きい U の特異値"), least=0),
    Option("gain", 1.5, ("singular values of U at the start of the training", "学習を始めるときの U の特異値"), least=0),
    Option("threshold", 0.3, ("largest norm of a clipped gradient", "クリッピングのしきい値"), least=0),
    Option("lr", 0.3, ("learning rate of SGD", "SGD の学習率")),
    Option("batch", 32, ("windows in a batch", "ミニバッチの大きさ")),
]

ACTIVATIONS = {"sigmoid": tg.sigmoid, "tanh": tg.tanh, "relu": F.relu}
STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
"""γ, the largest slope."""


class RNN(Recurrent):
    """h_t = f(W x_t + U h_{t-1} + b). State: (h,). All singular values of U are ``scale`` at the start."""

    def __init__(self, inputs: int, hidden: int, activation: str = "tanh", scale: float = 1.0) -> None:
        super().__init__(inputs, hidden)
        self.activation = activation
        nn.init.orthogonal_(self.U, gain=scale)
        nn.init.zeros_(self.b)

    def step(self, u: tg.Tensor, *state: tg.Tensor) -> State:
        return (ACTIVATIONS[self.activation](u + F.linear(state[0], self.U)),)


def slopes(f: Callable[[tg.Tensor], tg.Tensor], at: np.ndarray) -> np.ndarray:
    """f'(u) at many places, by the tape."""
    u = tg.tensor(at, requires_grad=True)
    f(u).sum().backward()
    made: Any = u.grad
    return made.numpy()


def jacobians(layer: Recurrent, x: tg.Tensor) -> list[np.ndarray]:
    """J_2 .. J_T of one sequence x (T, 1, D): J_k = ∂h_k/∂h_{k-1}, (H, H), of a layer whose state is h alone."""
    with tg.no_grad():
        states = [h for (h,) in layer.states(x)]
        gates = F.linear(x, layer.W, layer.b)
    steps = [lambda h, u=u: layer.step(u, h)[0].squeeze(0) for u in gates[1:]]
    return [jacrev(step)(h).squeeze(1).detach().numpy() for step, h in zip(steps, states)]


def product_norms(layer: Recurrent, x: tg.Tensor) -> np.ndarray:
    """The largest singular value of J_T J_{T-1} .. J_{t+1}, for t = 1 .. T."""
    product, norms = np.eye(layer.hidden), [1.0]
    for J in reversed(jacobians(layer, x)):
        product = product @ J
        norms.append(float(np.linalg.norm(product, 2)))
    return np.array(norms[::-1])


# ---- the error on its way back ---------------------------------------------------------------------------------------------------


def sequences(months: Months, lag: int) -> tg.Tensor:
    """Eight parts of the series, float64 (lag, 8, 1)."""
    latest = len(months.values) - lag
    if latest < 0:
        rule = (f"at most {len(months.values)}, the months that there are", f"月の数 {len(months.values)} 以下")
        raise refusal("vanishing_gradient", "--lag", lag, rule)
    begins = np.linspace(0, latest, 8).astype(int)
    parts = np.stack([scaled(months.values[begin : begin + lag]) for begin in begins], axis=1)
    return tg.tensor(parts[:, :, None].astype(np.float64))


def show_slopes(run: Experiment) -> list[Result]:
    """Draw f' of the three functions; the largest of the sigmoid's."""
    u = np.linspace(-6, 6, 601)
    with run.figure("slopes.png") as axes:
        for color, (name, f) in zip(COLORS, ACTIVATIONS.items()):
            axes.plot(u, slopes(f, u), color=color, linewidth=1.8, label=name)
        axes.axhline(0.25, color="0.5", linestyle="--", linewidth=1.0)
        axes.set(
            title=run.words("Slopes: sigmoid' is at most 1/4", "活性化関数の傾き: sigmoid' は 1/4 以下"),
            xlabel="u",
            ylabel="f'(u)",
        )
        axes.legend(frameon=False)
    return [
        Result("sigmoid_slope", slopes(tg.sigmoid, u).max(), ("largest slope of the sigmoid", "sigmoid の傾きの最大値"), ".4f")
    ]


def show_errors(run: Experiment, x: tg.Tensor) -> list[Result]:
    """‖∂E/∂h_t‖ (with a memory: ‖∂E/∂c_t‖) for x (T, N, 1), E = Σ h_T, of new networks. Draws it."""
    options, norms = run.options, {}
    for activation in ACTIVATIONS:
        for size in ("small", "large"):
            tg.manual_seed(options.seed)
            norms[f"{activation}_{size}"] = error_norms(
                RNN(1, options.hidden, activation, getattr(options, size)).double(), x, lambda h: h.sum()
            )
    for name, kind in (("lstm", LSTM), ("gru", GRU), ("cec", CEC)):
        tg.manual_seed(options.seed)
        norms[name] = error_norms(kind(1, options.hidden).double(), x, lambda h: h.sum())
    with run.figure("errors.png", size=(9.0, 5.0)) as axes:
        steps = np.arange(1, len(x) + 1)
        for name, values in norms.items():
            label, color, style = _line(run, name)
            axes.semilogy(steps, np.maximum(values, 1e-300), color=color, linestyle=style, linewidth=1.7, label=label)
        axes.set(
            title=run.words("Error of the last output at the steps before", "最後の出力の誤差が、前の時刻へどれだけ戻るか"),
            xlabel=run.words("time step t", "時刻 t"),
            ylabel=run.words("norm of the error at step t", "時刻 t での誤差のノルム"),
            ylim=(1e-20, None),
        )
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    texts = ("error at step 1 / at step T", "時刻 1 の誤差 / 時刻 T の誤差")
    return [
        Result(
            f"kept_{name}", values[0] / values[-1], (f"{texts[0]}: {_plain(name, 0)}", f"{texts[1]}: {_plain(name, 1)}"), ".1e"
        )
        for name, values in norms.items()
    ]


def _plain(name: str, language: int) -> str:
    kind, _, size = name.partition("_")
    if not size:
        return {"lstm": "LSTM", "gru": "GRU", "cec": "CEC (f = 1)"}[kind]
    return f"{kind}, " + {"small": ("small U", "小さい U"), "large": ("large U", "大きい U")}[size][language]


def _line(run: Experiment, name: str) -> tuple[str, str, str]:
    """Label, colour and style of a curve."""
    kind, _, size = name.partition("_")
    color = dict(zip([*ACTIVATIONS, "lstm", "gru"], COLORS)).get(kind, "black")
    return run.words(_plain(name, 0), _plain(name, 1)), color, {"small": "--", "large": "-", "": "-."}[size]


def show_products(run: Experiment, x: tg.Tensor) -> list[Result]:
    """The norm of the product of J for one sequence x (T, 1, 1), U with singular values 1, beside the bound γ^{T-t}. Draws it."""
    back = np.arange(len(x))[::-1]
    largest = 0.0
    with run.figure("products.png") as axes:
        for color, activation in zip(COLORS, ACTIVATIONS):
            tg.manual_seed(run.options.seed)
            norms = product_norms(RNN(1, run.options.hidden, activation).double(), x)
            bound = STEEPEST[activation] ** back.astype(np.float64)
            largest = max(largest, float((norms / bound).max()))
            axes.semilogy(back, norms, color=color, linewidth=1.8, label=activation)
            axes.semilogy(back, bound, color=color, linewidth=1.0, linestyle=":")
        axes.set(
            title=run.words("Product of the Jacobians (dotted: bound)", "ヤコビ行列の積のノルム (点線: 上界)"),
            xlabel=run.words("number of factors T - t", "因子の数 T - t"),
            ylabel=run.words("largest singular value", "最大の特異値"),
        )
        axes.legend(frameon=False)
    return [
        Result(
            "product_over_bound", largest, ("product of the Jacobians / bound, at most", "ヤコビ行列の積 / 上界 (最大)"), ".4f"
        )
    ]


# ---- clipping --------------------------------------------------------------------------------------------------------------------


def clip(gradients: list[tg.Tensor], threshold: float) -> tuple[list[tg.Tensor], tg.Tensor]:
    """g · min(1, threshold / ‖g‖) for all gradients together, and ‖g‖."""
    norm = tg.stack([g.norm() for g in gradients]).norm()
    factor = (threshold / norm).clamp(max=1.0)
    return [g * factor for g in gradients], norm


class Step:
    """A training step of SGD that clips, or with the threshold infinity does not; it also returns ‖g‖ as it was."""

    def __init__(self, measure: Callable[[Any], tg.Tensor], optimizer: tg.optim.SGD, threshold: float) -> None:
        self.measure, self.optimizer, self.threshold = measure, optimizer, threshold
        self.parts = {"optimizer": optimizer}

    def __call__(self, batch: Any) -> dict[str, tg.Tensor]:
        weights = self.optimizer.param_groups[0]["params"]
        loss = self.measure(batch)
        self.optimizer.zero_grad()
        loss.backward()
        gradients, norm = clip([w.grad for w in weights], self.threshold)
        for w, g in zip(weights, gradients):
            w.grad = g
        self.optimizer.step()
        return {"loss": loss.detach(), "norm": norm}


def learn(run: Experiment, name: str, threshold: float, values: np.ndarray) -> Trainer:
    """An RNN with tanh forecasts the sunspots of a year later. The run ends when the loss is no number any more."""
    options = run.options
    tg.manual_seed(options.seed)
    model = Reader(RNN(1, options.hidden, "tanh", options.gain), options.hidden).to(options.device)
    windows = WindowDataset(values, WINDOW, AHEAD, stride=2 if run.quick else 1)
    order = tg.Generator().manual_seed(options.seed)

    def measure(batch: list[tg.Tensor]) -> tg.Tensor:
        whole = tg.cat(batch, dim=1).T.unsqueeze(2).to(options.device)
        return F.mse_loss(model(whole[:WINDOW])[WARM:], whole[AHEAD:][WARM:])

    trainer = Trainer(
        model,
        run.compiled(Step(measure, tg.optim.SGD(model.parameters(), lr=options.lr), threshold)),
        DataLoader(windows, batch_size=options.batch, shuffle=True, drop_last=True, generator=order),
        log_every=1,
        print_rows=False,
        curves=False,
        check_loss=False,
        **keeping(run, name),
    )

    @trainer.on("begin")
    @trainer.on("step")
    def watch(trainer: Trainer) -> None:
        values = trainer.values or (trainer.history or [{"loss": 0.0}])[-1]
        if not math.isfinite(float(values["loss"])):
            trainer.stop()

    run.train(trainer)
    return trainer


def show_clipping(run: Experiment, months: Months) -> list[Result]:
    """The same training with and without clipping. Draws losses and norms of the gradient."""
    train = scaled(months.values[: months.span("train")[1]])
    first, last = months.span("test")
    trainers = {
        name: learn(run, name, limit, train) for name, limit in (("free", math.inf), ("clipped", run.options.threshold))
    }
    labels = {
        "free": run.words("without clipping", "クリッピングなし"),
        "clipped": run.words("with clipping", "クリッピングあり"),
    }
    with run.figure("clipping.png", columns=2, size=(10.0, 4.2)) as both:
        for color, (name, trainer) in zip(COLORS, trainers.items()):
            for axes, value in zip(both, ("loss", "norm")):
                rows = [(row["step"], row[value]) for row in trainer.history if 0 < row.get(value, 0) < 1e30]
                axes.loglog(*zip(*rows), color=color, linewidth=1.2, label=labels[name], marker="o" if len(rows) < 30 else None)
        for axes, title in zip(both, (run.words("loss", "損失"), run.words("norm of the gradient ‖g‖", "勾配のノルム ‖g‖"))):
            axes.set(title=title, xlabel=run.words("training step", "学習回数"))
        both[1].axhline(
            run.options.threshold, color="0.5", linestyle="--", linewidth=1.0, label=run.words("threshold", "しきい値")
        )
        both[1].legend(frameon=False)
    error = rmse(forecasts(trainers["clipped"].model, months, "test"), months.values[first:last])
    as_now = rmse(months.values[first - AHEAD : last - AHEAD], months.values[first:last])
    return [
        Result("steps_free", trainers["free"].iteration, ("steps, without clipping", "学習回数: クリッピングなし"), "d"),
        Result("steps_clipped", trainers["clipped"].iteration, ("steps, with clipping", "学習回数: クリッピングあり"), "d"),
        Result("rmse_clipped", error, ("sunspots, RMSE: with clipping", "黒点数の RMSE: クリッピングあり"), ".2f"),
        Result("rmse_as_now", as_now, ("sunspots, RMSE: as now", "黒点数の RMSE: 今の値のまま"), ".2f"),
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Draw slopes, errors and products; train with and without clipping; return the results."""
    run = Experiment("vanishing_gradient", TITLE, OPTIONS, argv, epochs=10, quick_epochs=3)
    months = run.data(sunspots, made_up_spots, "sunspots")
    x = sequences(months, run.options.lag)
    seen = [*show_slopes(run), *show_products(run, x[:, :1]), *show_errors(run, x)]
    return run.finish([*seen, *show_clipping(run, months)])
