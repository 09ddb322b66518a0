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
import time
from pathlib import Path
from typing import Any, NamedTuple

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.errors import error
from tinygrad_ja.training import pyplot, save_curve

TITLE = {
    "en": "binary addition by a simple RNN: BPTT is what the tape does (JDLA E certificate: RNN, BPTT)",
    "ja": "単純な RNN による 2 進数の足し算: BPTT はテープが行う (E資格: RNN, BPTT)",
}

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


def evaluate(model: SimpleRNN) -> Score:
    """Share of right bits and of exactly right sums over all 128 x 128 pairs."""
    device = model.W.device
    numbers = tg.arange(LARGEST, device=device)
    a = numbers.repeat_interleave(LARGEST)
    b = numbers.repeat(LARGEST)
    x, d = make_batch(a, b)
    with tg.no_grad():
        right = (model(x) > 0.5) == (d > 0.5)
    return Score(right.float().mean().item(), right.all(0).float().mean().item())


class Run:
    """A training run: everything that a checkpoint has to hold so that a resumed run continues bit for bit."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        tg.manual_seed(options.seed)
        self.generator = tg.Generator().manual_seed(options.seed + 1)
        self.model = SimpleRNN(2, options.hidden, 1, options.activation)
        self.model.initialize(options.init)
        self.model.to(options.device)
        self.optimizer = tg.optim.SGD(self.model.parameters(), lr=options.lr)
        self.iteration = 0
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def step(self) -> tuple[float, tg.Tensor, tg.Tensor]:
        """One iteration: draw a pair, learn from it. Returns the loss, the predicted bits and the summands."""
        pair = tg.randint(LARGEST, (2, 1), generator=self.generator).to(self.options.device)
        x, d = make_batch(pair[0], pair[1])
        y = self.model(x)
        loss = squared_error(y, d)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.iteration += 1
        predicted = (y.detach() > 0.5).float()
        self.losses.append(loss.item())
        self.accuracies.append((predicted == d).float().mean().item())
        return self.losses[-1], predicted[:, :, 0], pair

    _CHOICES = ("hidden", "init", "activation", "lr", "seed")

    def state(self) -> dict[str, Any]:
        """All state, for ``tg.save``."""
        return {
            "program": "binary_addition",
            "options": {name: getattr(self.options, name) for name in self._CHOICES},
            "iteration": self.iteration,
            "losses": self.losses,
            "accuracies": self.accuracies,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``; nothing changes when it belongs to a run with other options."""
        mine = {name: getattr(self.options, name) for name in self._CHOICES}
        if state.get("program") != "binary_addition" or state.get("options") != mine:
            raise error(
                "TG-F003",
                what="checkpoint",
                reason=f"it was written with {state.get('options')}, this run has {mine}",
                fix="use the same options, or start without --resume.",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.iteration = state["iteration"]
        self.losses, self.accuracies = list(state["losses"]), list(state["accuracies"])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in ``path``. Raises StateError when there is none."""
    if not path.exists():
        raise error("TG-F004", path=path)
    return tg.load(path)


def report(run: Run, loss: float, predicted: tg.Tensor, pair: tg.Tensor) -> str:
    """The printout of the course: loss, predicted and true bits (lowest first), and the sum that was read from them."""
    a, b = (int(n) for n in pair.flatten().tolist())
    guess = from_bits(predicted).item()
    true = to_bits(tg.tensor([a + b]))
    as_text = ["[" + " ".join(str(int(bit)) for bit in bits.flatten().tolist()) + "]" for bits in (predicted, true)]
    lines = [f"iters: {run.iteration}", f"Loss: {loss:.6f}", f"Pred: {as_text[0]}", f"True: {as_text[1]}"]
    return "\n".join([*lines, f"{a} + {b} = {guess}", "-" * 12])


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m models binary_addition", description=TITLE["en"])
    parser.add_argument("--iterations", type=int, default=10_000, help="number of pairs to learn from (default 10000)")
    parser.add_argument("--hidden", type=int, default=16, help="hidden units (default 16)")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate (default 0.1)")
    parser.add_argument("--init", choices=["normal", "xavier", "he"], default="normal", help="initial weights (default normal)")
    parser.add_argument(
        "--activation", choices=list(ACTIVATIONS), default="sigmoid", help="hidden activation (default sigmoid)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (default cpu)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/binary_addition"), help="folder for pictures, results, checkpoint"
    )
    parser.add_argument("--plot-interval", type=int, default=100, help="iterations between printouts (default 100)")
    parser.add_argument("--checkpoint-interval", type=int, default=1000, help="iterations between checkpoints (default 1000)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument("--quick", action="store_true", help="1000 iterations, for a first look")
    options = parser.parse_args(argv)
    if options.quick:
        options.iterations = min(options.iterations, 1000)
    for name in ("iterations", "hidden", "plot_interval", "checkpoint_interval"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


def train(run: Run) -> None:
    """Run the remaining iterations, with a progress bar, the printout and checkpoints."""
    try:
        from tqdm import tqdm
    except ImportError as failure:
        raise error("TG-A002", package="tqdm", install="tqdm") from failure
    options = run.options
    with tqdm(total=options.iterations, initial=run.iteration, unit="it", dynamic_ncols=True) as bar:
        while run.iteration < options.iterations:
            loss, predicted, pair = run.step()
            bar.update()
            if run.iteration % options.plot_interval == 0:
                bar.set_postfix(loss=f"{loss:.4f}")
                bar.write(report(run, loss, predicted, pair))
            if run.iteration % options.checkpoint_interval == 0 or run.iteration == options.iterations:
                tg.save(run.state(), options.out / "checkpoint.npz")


def save_pictures(run: Run) -> None:
    """Loss and bit accuracy over the iterations, as PNG."""
    interval = run.options.plot_interval
    steps = list(range(interval, len(run.losses) + 1, interval))
    means = [[sum(values[s - interval : s]) / interval for s in steps] for values in (run.losses, run.accuracies)]
    about = f"{run.options.activation}, {run.options.init} init, seed {run.options.seed}"
    axis: dict[str, Any] = {"x_label": f"iteration (mean of {interval})", "window": 5}
    out = run.options.out
    save_curve(out / "loss.png", steps, means[0], title=f"Binary addition: loss ({about})", y_label="squared error E", **axis)
    save_curve(
        out / "accuracy.png",
        steps,
        means[1],
        title=f"Binary addition: right bits ({about})",
        y_label="share of right bits",
        y_range=(0.0, 1.05),
        **axis,
    )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, draw, evaluate. Returns the results that are also written to ``results.json``."""
    options = parse(argv)
    pyplot()  # if it is missing, say so before the training and not after
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    if options.resume:
        run.restore(load_checkpoint(options.out / "checkpoint.npz"))
    start = time.perf_counter()
    train(run)
    seconds = time.perf_counter() - start
    save_pictures(run)
    score = evaluate(run.model)
    results = {
        "iterations": run.iteration,
        "loss": sum(run.losses[-100:]) / len(run.losses[-100:]),
        "bit_accuracy": score.bits,
        "exact_sums": score.sums,
        "seconds": round(seconds, 3),
        "seed": options.seed,
        "device": str(options.device),
    }
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"{'iterations':<42}{run.iteration:>12}")
    print(f"{'loss (mean of the last 100)':<42}{results['loss']:>12.6f}")
    print(f"{'right bits, all 128 x 128 pairs':<42}{score.bits:>11.2%} ")
    print(f"{'exact sums, all 128 x 128 pairs':<42}{score.sums:>11.2%} ")
    print(f"{'seconds':<42}{seconds:>12.1f}")
    print(f"pictures, results and checkpoint: {options.out}")
    return results
