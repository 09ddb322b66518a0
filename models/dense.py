"""The affine layer, as W x + b and as one matrix, in a multilayer perceptron that reads handwritten digits.

    y = W x + b                        (inputs -> outputs)
    y = M x̃,   M = [W | b],   x̃ = (x, 1)

The bias is the weight of an input that is always 1, so an affine map is a linear one of a vector that is longer by one. Both forms have the
same values, and their gradients are the same numbers in another arrangement: ∂E/∂M = [∂E/∂W | ∂E/∂b]. The program proves both to rounding
on the trained network. The network is 784-512-512-10 with ReLU and softmax cross entropy, as in any introduction (Rumelhart, Hinton,
Williams: Learning representations by back-propagating errors, 1986; He et al.: Delving deep into rectifiers, 2015, for the initial weights).

Data: MNIST, the last 5,000 training digits held out for validation. Expect about 98.4 % of the 10,000 test digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, TensorDataset
from tinygrad_ja.data.datasets import MNIST
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update, evaluate
from tinygrad_ja.training.metrics import ConfusionMatrix, accuracy

TITLE = {
    "en": "affine layers, W x + b and as one matrix: a perceptron reads digits (JDLA E certificate: affine layer, MLP)",
    "ja": "全結合層: W x + b と 1 つの行列、多層パーセプトロンで数字認識 (E資格: 全結合層、MLP)",
}

OPTIONS = [
    Option("form", "affine", ("W x + b, or one matrix on (x, 1)", "W x + b か、(x, 1) に掛ける 1 つの行列か"), choices=["affine", "matrix"]),
    Option("hidden", 512, ("units of each hidden layer", "隠れ層のユニットの数"), quick=64),
    Option("layers", 2, ("hidden layers", "隠れ層の数")),
    Option("lr", 1e-3, ("learning rate of Adam at the start", "Adam の学習率 (はじめの値)"), quick=3e-3),
    Option("decay", 0.75, ("its factor after each epoch", "1 エポックごとに学習率に掛ける値")),
    Option("batch", 128, ("digits in a batch", "ミニバッチの大きさ")),
]  # fmt: skip
PIXELS, CLASSES = 28 * 28, 10
EPOCHS, QUICK_EPOCHS, QUICK_SIZES = 10, 2, (10_000, 1000, 2000)

Digits = tuple[tg.Tensor, tg.Tensor]
"""Images, uint8 (N, 28, 28), and labels, int64 (N,)."""


class Affine(nn.Module):
    """y = W x + b for each row x: (N, inputs) -> (N, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(nn.init.kaiming_normal_(tg.zeros(outputs, inputs)))
        self.b = nn.Parameter(tg.zeros(outputs))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x @ self.W.T + self.b


class OneMatrix(nn.Module):
    """y = M (x, 1) for each row x: (N, inputs) -> (N, outputs). M (outputs, inputs + 1), its last column is the bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.M = nn.Parameter(matrix_of(Affine(inputs, outputs)))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        x_1 = tg.cat([x, x.new_ones(x.shape[0], 1)], dim=1)
        return x_1 @ self.M.T


def joined(W: tg.Tensor, b: tg.Tensor) -> tg.Tensor:
    """[W | b], (outputs, inputs + 1)."""
    return tg.cat([W, b.unsqueeze(1)], dim=1)


def matrix_of(layer: nn.Module) -> tg.Tensor:
    """M of a layer in either form, on the CPU."""
    parts = [p.detach().cpu() for p in layer.parameters()]
    return joined(*parts) if len(parts) == 2 else parts[0].clone()


FORMS = {"affine": Affine, "matrix": OneMatrix}


class MLP(nn.Module):
    """Layers of one form with ReLU between them: (N, sizes[0]) -> scores (N, sizes[-1])."""

    def __init__(self, sizes: list[int], form: str = "affine") -> None:
        super().__init__()
        self.form = form
        self.layers = nn.ModuleList([FORMS[form](inputs, outputs) for inputs, outputs in pairwise(sizes)])

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)

    @property
    def sizes(self) -> list[int]:
        """Units of all layers, the inputs first."""
        shapes = [next(layer.parameters()).shape for layer in self.layers]
        return [shapes[0][1] - (self.form == "matrix"), *[shape[0] for shape in shapes]]


def in_form(model: MLP, form: str) -> MLP:
    """The same network in the other form (or a copy of it in its own), in float64."""
    made = MLP(model.sizes, form).double()
    for old, new in zip(model.layers, made.layers):
        M = matrix_of(old).double()
        parts = {"M": M} if form == "matrix" else {"W": M[:, :-1], "b": M[:, -1]}
        new.load_state_dict(parts)
    return made


def differences(model: MLP, x: tg.Tensor, labels: tg.Tensor) -> tuple[float, float]:
    """Both forms of ``model`` on one batch in float64: the largest difference of scores, and of gradients ∂E/∂M - [∂E/∂W | ∂E/∂b], each
    relative to the largest number that is compared."""
    affine, matrix = (in_form(model, form).to(x.device) for form in ("affine", "matrix"))
    scores = []
    for network in (affine, matrix):
        y = network(x.double())
        F.cross_entropy(y, labels).backward()
        scores.append(y.detach())
    pairs = [(joined(a.W.grad, a.b.grad), b.M.grad) for a, b in zip(affine.layers, matrix.layers)]
    return _largest(*scores), max(_largest(a, b) for a, b in pairs)


def _largest(a: tg.Tensor, b: tg.Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


# -- data


def digits(**where: Any) -> tuple[Digits, Digits]:
    """MNIST: what to learn from, and the test."""
    made = [MNIST(train=train, **where) for train in (True, False)]
    train, test = [(part.data, part.targets) for part in made]
    return train, test


def made_up_digits(sizes: tuple[int, int] = (4000, 1000)) -> tuple[Digits, Digits]:
    """Ten rough patterns, each moved and noisy, in the shape of ``digits``; always the same."""
    stream = np.random.default_rng(0)
    patterns = np.kron(stream.random((CLASSES, 5, 5)) < 0.5, np.ones((4, 4)))

    def drawn(size: int) -> Digits:
        labels = stream.integers(0, CLASSES, size)
        images = stream.normal(20.0, 30.0, (size, 28, 28))
        for image, label, (row, column) in zip(images, labels, stream.integers(2, 7, (size, 2))):
            image[row : row + 20, column : column + 20] += 160.0 * patterns[label]
        return tg.tensor(images.clip(0, 255).astype(np.uint8)), tg.tensor(labels)

    return drawn(sizes[0]), drawn(sizes[1])


def parts_of(all_digits: tuple[Digits, Digits], quick: bool, sizes: tuple[int, ...] = QUICK_SIZES) -> list[Digits]:
    """Training, validation (the last twelfth of what there is to learn from) and test; for a quick run the first ``sizes``."""
    (images, labels), test = all_digits
    held_out = len(labels) // 12
    parts = [(images[:-held_out], labels[:-held_out]), (images[-held_out:], labels[-held_out:]), test]
    return [(x[:size], y[:size]) for (x, y), size in zip(parts, sizes)] if quick else parts


def as_rows(images: tg.Tensor) -> tg.Tensor:
    """uint8 (N, 28, 28) -> float32 (N, 784), 0 to 1."""
    return images.reshape(images.shape[0], -1).float() / 255


# -- the run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, test, prove that both forms are one. Returns the results."""
    run = Experiment("dense", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    o = run.options
    train, valid, test = parts_of(run.data(digits, made_up_digits, "mnist"), run.quick)
    model = MLP([PIXELS, *[o.hidden] * o.layers, CLASSES], o.form).to(o.device)
    start = matrix_of(model.layers[0])

    def measure(batch: Digits) -> dict[str, Any]:
        x, target = batch
        scores = model(as_rows(x))
        return {"loss": F.cross_entropy(scores, target), "accuracy": (scores.argmax(1) == target).float().mean()}

    loader = DataLoader(TensorDataset(*train), o.batch, shuffle=True, drop_last=True, device=o.device)
    optimizer = tg.optim.Adam(model.parameters(), lr=o.lr)
    trainer = Trainer(
        model,
        run.compiled(Update(measure, optimizer)),
        loader,
        validate=lambda: evaluate(model, measure, in_batches(valid, o.device)),
        schedules=[tg.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)],
        **run.keeping,
    )
    run.train(trainer)

    with tg.no_grad():
        scores = tg.cat([model(as_rows(x)) for x, _ in in_batches(test, o.device)]).cpu()
    right = accuracy(scores, test[1])
    x, target = next(in_batches(test, o.device))
    in_values, in_gradients = differences(model, as_rows(x), target)
    save_pictures(run, model, start, scores, test)
    return run.finish(
        [
            Result("accuracy", right, ("right digits of the test", "テストの正解率"), ".2%"),
            Result("parameters", sum(p.numel() for p in model.parameters()), ("parameters", "パラメータ数"), ",d"),
            Result("value_difference", in_values, ("W x + b against M (x, 1), values", "W x + b と M (x, 1) の差、値"), ".1e"),
            Result("gradient_difference", in_gradients, ("the same, gradients", "同じく、勾配"), ".1e"),
        ]
    )


def in_batches(part: Digits, device: Any, size: int = 500) -> Iterator[Digits]:
    """In their order, ``size`` at a time."""
    for begin in range(0, len(part[1]), size):
        yield part[0][begin : begin + size].to(device), part[1][begin : begin + size].to(device)


def save_pictures(run: Experiment, model: MLP, start: tg.Tensor, scores: tg.Tensor, test: Digits) -> None:
    """What 24 hidden units have learned, as images; the matrix [W | b] of the last layer; digits read wrongly; who is taken for whom.

    start: M of the first layer before the training.
    """
    words = run.words
    predicted, labels = scores.argmax(1).numpy(), test[1].numpy()
    title = words("What training changed in rows of W, first layer", "学習で変わった分 (第 1 層の W の行)")
    with run.figure("weights.png", 3, 8, (8.0, 3.4), title) as grid:
        for axes, row in zip(grid.flat, (matrix_of(model.layers[0]) - start).numpy()):
            limit = np.abs(row[:-1]).max() or 1.0
            axes.imshow(row[:-1].reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
        without_ticks(grid)

    last = matrix_of(model.layers[-1]).numpy()[:, -33:]
    with run.figure("matrix.png", size=(8.0, 3.4)) as axes:
        limit = np.abs(last).max()
        picture = axes.imshow(last, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.axvline(last.shape[1] - 1.5, color="black", linewidth=1.5)
        axes.figure.colorbar(picture, ax=axes)
        axes.set(
            title=words("M = [W | b] of the last layer: the end of W, and b", "最後の層の M = [W | b]: W の終わりの部分と b"),
            xlabel=words("hidden unit", "隠れユニット"),
            ylabel=words("digit", "数字"),
            yticks=range(CLASSES),
        )
        units = range(0, last.shape[1] - 1, 4)
        axes.set_xticks(
            [*units, last.shape[1] - 1], [*(str(model.sizes[-2] - last.shape[1] + 1 + unit) for unit in units), "b"]
        )

    wrong = np.flatnonzero(predicted != labels)
    with run.figure("mistakes.png", 2, 8, (8.0, 2.9), words("Read wrongly: true → read", "読み間違い: 正解 → 予測")) as grid:
        for axes, index in zip(grid.flat, wrong):
            axes.imshow(test[0].numpy()[index], cmap="gray_r")
            axes.set_title(f"{labels[index]} → {predicted[index]}", fontsize=9)
        without_ticks(grid)

    confusion = ConfusionMatrix(CLASSES)
    confusion.update(scores, test[1])
    confusion.plot(run.options.out / "confusion.png", list(MNIST.classes))


def without_ticks(grid: Any) -> None:
    """Images need no scale, and a place without one no frame."""
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_visible(bool(axes.images))
