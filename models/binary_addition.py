"""A simple RNN learns to add two binary numbers, lowest bit first.

    u_t = W_in x_t + W z_{t-1} + b      z_t = f(u_t)
    v_t = W_out z_t + c                 y_t = sigmoid(v_t)
    E   = sum_t (y_t - d_t)^2 / 2

x_t holds bit t of both summands and d_t is bit t of their sum, so the carry has to live in the state z (16 units). One random pair per
iteration, plain SGD. The gradient through time is what the tape does; there is no derivative in this file. (Elman, Finding structure in
time, 1990; Werbos, Backpropagation through time, 1990.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.training import Experiment, Option, Result, Trainer, save_curve

TITLE = {
    "en": "binary addition by a simple RNN: BPTT is what the tape does (JDLA E certificate: RNN, BPTT)",
    "ja": "単純な RNN による 2 進数の足し算: BPTT はテープが行う (E資格: RNN, BPTT)",
}

OPTIONS = [
    Option("iterations", 10_000, ("pairs to learn from in an epoch", "1 エポックで学習に使う組の数"), quick=1000),
    Option("hidden", 16, ("hidden units", "隠れユニットの数")),
    Option("lr", 0.1, ("learning rate", "学習率")),
    Option("init", "normal", ("initial weights", "重みの初期値"), choices=["normal", "xavier", "he"]),
    Option("activation", "sigmoid", ("hidden activation", "隠れ層の活性化関数"), choices=["sigmoid", "relu", "tanh"]),
    Option("plot_interval", 100, ("iterations between printouts", "途中経過を表示する間隔")),
    Option("checkpoint_interval", 1000, ("iterations between checkpoints", "チェックポイントの間隔")),
]

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

    def __init__(
        self, model: SimpleRNN, optimizer: tg.optim.Optimizer, compiled: Callable[[Any], Any] = lambda step: step
    ) -> None:
        self.parts = {"optimizer": optimizer}

        def learn(pair: tg.Tensor) -> tuple[dict[str, tg.Tensor], tg.Tensor]:
            x, d = make_batch(pair[0], pair[1])
            y = model(x)
            loss = squared_error(y, d)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            predicted = (y.detach() > 0.5).float()
            return {"loss": loss, "accuracy": (predicted == d).float().mean()}, predicted

        self.learn = compiled(learn)

    def __call__(self, pair: tg.Tensor) -> dict[str, tg.Tensor]:
        values, self.predicted = self.learn(pair)
        self.pair = pair
        return values


def printout(iteration: int, loss: float, predicted: tg.Tensor, pair: tg.Tensor) -> str:
    """The printout of the course: loss, predicted and true bits (lowest first), and the sum that was read from them."""
    a, b = (int(n) for n in pair.flatten().tolist())
    guess = from_bits(predicted[:, :, 0]).item()
    true = to_bits(tg.tensor([a + b]))
    as_text = ["[" + " ".join(str(int(bit)) for bit in bits.flatten().tolist()) + "]" for bits in (predicted, true)]
    lines = [f"iters: {iteration}", f"Loss: {loss:.6f}", f"Pred: {as_text[0]}", f"True: {as_text[1]}"]
    return "\n".join([*lines, f"{a} + {b} = {guess}", "-" * 12])


def new_trainer(run: Experiment) -> Trainer:
    """Model, optimizer and pairs by the options, with the printout."""
    options = run.options
    model = SimpleRNN(2, options.hidden, 1, options.activation)
    model.initialize(options.init)
    model.to(options.device)
    step = Step(model, tg.optim.SGD(model.parameters(), lr=options.lr), run.compiled)
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


def save_pictures(trainer: Trainer, run: Experiment) -> None:
    """Loss and bit accuracy over the iterations, as PNG."""
    options, words = run.options, run.words
    steps, losses, accuracies = ([row[name] for row in trainer.history] for name in ("step", "loss", "accuracy"))
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


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, draw, evaluate. Returns the results that are also written to ``results.json``."""
    run = Experiment("binary_addition", TITLE, OPTIONS, argv)
    trainer = new_trainer(run)
    # pairs come without end, so an epoch is as long as one likes
    report = run.train(trainer, iterations=run.options.epochs * run.options.iterations)
    if trainer.history:
        save_pictures(trainer, run)
    score = evaluate(trainer.model)
    return run.finish(
        [
            Result("bit_accuracy", score.bits, ("right bits, all 128 x 128 pairs", "正しいビット (全 128 x 128 組)"), ".2%"),
            Result("exact_sums", score.sums, ("exact sums, all 128 x 128 pairs", "正しい和 (全 128 x 128 組)"), ".2%"),
        ],
        iterations=report.steps,
        loss=report.values.get("loss"),
    )
