"""A simple RNN learns to add two binary numbers, lowest bit first.

    u_t = W_in x_t + W z_{t-1} + b      z_t = f(u_t)
    v_t = W_out z_t + c                 y_t = sigmoid(v_t)
    E   = sum_t (y_t - d_t)^2 / 2

x_t holds bit t of both summands and d_t is bit t of their sum, so the carry has to live in the state z (16 units). One random pair per
iteration, plain SGD. The gradient through time is what the tape does; there is no derivative in this file. (Elman, Finding structure in
time, 1990; Werbos, Backpropagation through time, 1990.)
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.errors import language
from tinygrad_ja.table import width
from tinygrad_ja.training import Trainer, pyplot, save_curve
from tinygrad_ja.viz.figures import Words

TITLE = {
    "en": "binary addition by a simple RNN: BPTT is what the tape does (JDLA E certificate: RNN, BPTT)",
    "ja": "単純な RNN による 2 進数の足し算: BPTT はテープが行う (E資格: RNN, BPTT)",
}

_HELP = {
    "en": {
        "iterations": "number of pairs to learn from (default 10000)",
        "hidden": "hidden units (default 16)",
        "lr": "learning rate (default 0.1)",
        "init": "initial weights (default normal)",
        "activation": "hidden activation (default sigmoid)",
        "seed": "seed of all random numbers (default 0)",
        "device": "cpu, cuda or cuda:1 (default cpu)",
        "out": "folder for pictures, results, checkpoint",
        "plot_interval": "iterations between printouts (default 100)",
        "checkpoint_interval": "iterations between checkpoints (default 1000)",
        "resume": "continue from the checkpoint in --out",
        "quick": "1000 iterations, for a first look",
    },
    "ja": {
        "iterations": "学習に使う組の数 (既定値 10000)",
        "hidden": "隠れユニットの数 (既定値 16)",
        "lr": "学習率 (既定値 0.1)",
        "init": "重みの初期値 (既定値 normal)",
        "activation": "隠れ層の活性化関数 (既定値 sigmoid)",
        "seed": "乱数シード (既定値 0)",
        "device": "cpu、cuda、cuda:1 のどれか (既定値 cpu)",
        "out": "図、結果、チェックポイントを書き出すフォルダ",
        "plot_interval": "途中経過を表示する間隔 (既定値 100)",
        "checkpoint_interval": "チェックポイントの間隔 (既定値 1000)",
        "resume": "--out のチェックポイントから続ける",
        "quick": "1000 回だけ。まず試したいとき",
    },
}
_BITS_RIGHT = {"en": "right bits, all 128 x 128 pairs", "ja": "正しいビット (全 128 x 128 組)"}
_SUMS_RIGHT = {"en": "exact sums, all 128 x 128 pairs", "ja": "正しい和 (全 128 x 128 組)"}

BITS = 8
LARGEST = 2 ** (BITS - 1)  # the sum of two numbers below it fits into BITS bits

ACTIVATIONS = {"sigmoid": tg.sigmoid, "relu": F.relu, "tanh": tg.tanh}


class SimpleRNN(nn.Module):
    """The equations above. Input (T, N, inputs), output (T, N, outputs): y_t for every time step."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: str = "sigmoid") -> None:
        super().__init__()
        self.activation = activation
        self.W_in = nn.Parameter(tg.zeros(hidden, inputs))
        self.W = nn.Parameter(tg.zeros(hidden, hidden))
        self.b = nn.Parameter(tg.zeros(hidden))
        self.W_out = nn.Parameter(tg.zeros(outputs, hidden))
        self.c = nn.Parameter(tg.zeros(outputs))

    def initialize(self, init: str) -> None:
        """Draw the weights: ``normal`` N(0, 1), ``xavier`` N(0, 1/n), ``he`` N(0, 2/n), n inputs of the layer. Biases stay 0."""
        for weight in (self.W_in, self.W, self.W_out):
            fan_in = weight.shape[1]
            std = {"normal": 1.0, "xavier": math.sqrt(1 / fan_in), "he": math.sqrt(2 / fan_in)}[init]
            nn.init.normal_(weight, std=std)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        f = ACTIVATIONS[self.activation]
        z = x.new_zeros(x.shape[1], self.W.shape[0])
        states = []
        for projected in F.linear(x, self.W_in, self.b).unbind(0):
            z = f(projected + F.linear(z, self.W))
            states.append(z)
        return tg.sigmoid(F.linear(tg.stack(states), self.W_out, self.c))


def squared_error(y: tg.Tensor, d: tg.Tensor) -> tg.Tensor:
    """E = sum_t (y_t - d_t)^2 / 2."""
    return ((y - d) ** 2).sum() / 2


def to_bits(numbers: tg.Tensor) -> tg.Tensor:
    """(N,) integers -> (BITS, N) float bits, lowest first."""
    weights = 2 ** tg.arange(BITS, device=numbers.device)
    return ((numbers.unsqueeze(0) // weights.unsqueeze(1)) % 2).float()


def from_bits(bits: tg.Tensor) -> tg.Tensor:
    """(BITS, N) bits, lowest first -> (N,) integers."""
    weights = 2 ** tg.arange(BITS, device=bits.device)
    return (bits.long() * weights.unsqueeze(1)).sum(0)


def make_batch(a: tg.Tensor, b: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
    """Numbers (N,), (N,) -> inputs (BITS, N, 2) and target bits (BITS, N, 1)."""
    x = tg.stack([to_bits(a), to_bits(b)], dim=2)
    return x, to_bits(a + b).unsqueeze(2)


class Score(NamedTuple):
    """Shares, 0 to 1, over all pairs."""

    bits: float
    sums: float


def evaluate(model: nn.Module) -> Score:
    """Share of right bits and of exactly right sums over all 128 x 128 pairs."""
    device = next(model.parameters()).device
    numbers = tg.arange(LARGEST, device=device)
    a = numbers.repeat_interleave(LARGEST)
    b = numbers.repeat(LARGEST)
    x, d = make_batch(a, b)
    with tg.no_grad():
        right = (model(x) > 0.5) == (d > 0.5)
    return Score(right.float().mean().item(), right.all(0).float().mean().item())


class Pairs:
    """Pairs of summands without end, tensors (2, 1). Its state is that of its random numbers, so a resumed run draws what would have come."""

    def __init__(self, seed: int, device: str) -> None:
        self.generator = tg.Generator().manual_seed(seed)
        self.device = device

    def __iter__(self) -> Iterator[tg.Tensor]:
        while True:
            yield tg.randint(LARGEST, (2, 1), generator=self.generator).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return self.generator.get_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self.generator.set_state(state)


class Step:
    """One iteration of learning from a pair. ``pair`` and ``predicted`` (its bits) are kept for the printout."""

    def __init__(self, model: SimpleRNN, optimizer: tg.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.parts = {"optimizer": optimizer}

    def __call__(self, pair: tg.Tensor) -> dict[str, tg.Tensor]:
        x, d = make_batch(pair[0], pair[1])
        y = self.model(x)
        loss = squared_error(y, d)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.pair, self.predicted = pair, (y.detach() > 0.5).float()
        return {"loss": loss, "accuracy": (self.predicted == d).float().mean()}


def printout(iteration: int, loss: float, predicted: tg.Tensor, pair: tg.Tensor) -> str:
    """The printout of the course: loss, predicted and true bits (lowest first), and the sum that was read from them."""
    a, b = (int(n) for n in pair.flatten().tolist())
    guess = from_bits(predicted[:, :, 0]).item()
    true = to_bits(tg.tensor([a + b]))
    as_text = ["[" + " ".join(str(int(bit)) for bit in bits.flatten().tolist()) + "]" for bits in (predicted, true)]
    lines = [f"iters: {iteration}", f"Loss: {loss:.6f}", f"Pred: {as_text[0]}", f"True: {as_text[1]}"]
    return "\n".join([*lines, f"{a} + {b} = {guess}", "-" * 12])


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m models binary_addition", description=TITLE[language()])
    text = _HELP[language()]
    parser.add_argument("--iterations", type=int, default=10_000, help=text["iterations"])
    parser.add_argument("--hidden", type=int, default=16, help=text["hidden"])
    parser.add_argument("--lr", type=float, default=0.1, help=text["lr"])
    parser.add_argument("--init", choices=["normal", "xavier", "he"], default="normal", help=text["init"])
    parser.add_argument("--activation", choices=list(ACTIVATIONS), default="sigmoid", help=text["activation"])
    parser.add_argument("--seed", type=int, default=0, help=text["seed"])
    parser.add_argument("--device", default="cpu", help=text["device"])
    parser.add_argument("--out", type=Path, default=Path("runs/binary_addition"), help=text["out"])
    parser.add_argument("--plot-interval", type=int, default=100, help=text["plot_interval"])
    parser.add_argument("--checkpoint-interval", type=int, default=1000, help=text["checkpoint_interval"])
    parser.add_argument("--resume", action="store_true", help=text["resume"])
    parser.add_argument("--quick", action="store_true", help=text["quick"])
    options = parser.parse_args(argv)
    if options.quick:
        options.iterations = min(options.iterations, 1000)
    for name in ("iterations", "hidden", "plot_interval", "checkpoint_interval"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


def new_trainer(options: argparse.Namespace) -> Trainer:
    """Model, optimizer and pairs by the options, with the printout."""
    tg.manual_seed(options.seed)
    model = SimpleRNN(2, options.hidden, 1, options.activation)
    model.initialize(options.init)
    model.to(options.device)
    step = Step(model, tg.optim.SGD(model.parameters(), lr=options.lr))
    trainer = Trainer(
        model,
        step,
        Pairs(options.seed + 1, options.device),
        folder=options.out,
        log_every=options.plot_interval,
        checkpoint_every=options.checkpoint_interval,
        settings={name: getattr(options, name) for name in ("hidden", "init", "activation", "lr", "seed")},
        items=lambda pair: 1,
        print_rows=False,
        curves=False,
    )

    @trainer.on("row")
    def show(trainer: Trainer) -> None:
        loss = float(trainer.values["loss"])
        trainer.write(printout(trainer.iteration, loss, step.predicted, step.pair))

    return trainer


def save_pictures(trainer: Trainer, options: argparse.Namespace) -> None:
    """Loss and bit accuracy over the iterations, as PNG."""
    steps, losses, accuracies = ([row[name] for row in trainer.history] for name in ("step", "loss", "accuracy"))
    words = Words()
    about = words(
        f"{options.activation}, {options.init} init, seed {options.seed}",
        f"{options.activation}、初期値 {options.init}、シード {options.seed}",
    )
    interval = options.plot_interval
    x_label = words(f"iteration (mean of {interval})", f"回数 ({interval} 回の平均)")
    save_curve(
        options.out / "loss.png",
        steps,
        losses,
        title=words(f"Binary addition: loss ({about})", f"2 進数の足し算: 損失 ({about})"),
        x_label=x_label,
        y_label=words("squared error E", "二乗誤差 E"),
        window=5,
    )
    save_curve(
        options.out / "accuracy.png",
        steps,
        accuracies,
        title=words(f"Binary addition: right bits ({about})", f"2 進数の足し算: 正しいビット ({about})"),
        x_label=x_label,
        y_label=words("share of right bits", "正しいビットの割合"),
        window=5,
        y_range=(0.0, 1.05),
    )


def main(argv: list[str] | None = None) -> dict[str, Any] | int:
    """Train, draw, evaluate. Returns the results that are also written to ``results.json``, or 130 after Ctrl-C."""
    options = parse(argv)
    pyplot()  # if it is missing, say so before the training and not after
    trainer = new_trainer(options)
    report = trainer.run(iterations=options.iterations, resume=options.resume)
    if report.interrupted:
        return 130
    save_pictures(trainer, options)
    score = evaluate(trainer.model)
    results = {
        "iterations": report.steps,
        "loss": report.values["loss"],
        "bit_accuracy": score.bits,
        "exact_sums": score.sums,
        "seconds": round(report.seconds, 3),
        "seed": options.seed,
        "device": str(options.device),
    }
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for label, share in ((_BITS_RIGHT, score.bits), (_SUMS_RIGHT, score.sums)):
        name = label[language()]
        print(f"{name}{' ' * (36 - width(name))}{share:>8.2%}")
    return results
