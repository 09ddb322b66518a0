"""A recurrent network reads an image row by row, from top to bottom, and says which digit it is: many-to-one.

    h_t = cell(x_t, h_{t-1})      x_t: row t of the image (28 pixels), t = 1 ... 28, h_0 = 0
    y   = softmax(W h_28 + b)     only the last state is asked

    RNN     h_t = tanh(W_x x_t + W_h h_{t-1} + b)
    LSTM    c_t = f_t∘c_{t-1} + i_t∘g_t,  h_t = o_t∘tanh(c_t),  i, f, o = σ(W x_t + U h_{t-1} + b), g = tanh(W_g x_t + U_g h_{t-1} + b_g)
    GRU     h_t = (1 - z_t)∘n_t + z_t∘h_{t-1},  r, z = σ(W x_t + U h_{t-1} + b),  n = tanh(W_n x_t + b_n + r_t∘(U_n h_{t-1} + c_n))

The image is never seen as a whole: what the upper rows showed has to be kept in the state. As the same W is asked after every row, one can
watch the network make up its mind. (Elman, Finding structure in time, 1990; Hochreiter, Schmidhuber, Long short-term memory, 1997; Cho et
al., Learning phrase representations using RNN encoder-decoder, 2014; rows as time steps: Le, Jaitly, Hinton, A simple way to initialize
recurrent networks of rectified linear units, 2015, there pixel by pixel.)

Data: MNIST, the last 5,000 training digits held out for validation. Expect above 98.5 % of the 10,000 test digits with the LSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.dense import CLASSES, Digits, digits, in_batches, made_up_digits, parts_of, without_ticks
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, TensorDataset
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update, evaluate
from tinygrad_ja.training.metrics import accuracy

TITLE = {
    "en": "an RNN reads digits row by row, many-to-one: RNN, LSTM or GRU (JDLA E certificate: RNN, LSTM, GRU)",
    "ja": "画像の行を時系列とみなして数字を認識 (many-to-one): RNN、LSTM、GRU (E資格: RNN、LSTM、GRU)",
}
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
OPTIONS = [
    Option("cell", "lstm", ("the recurrent cell", "再帰セルの種類"), choices=list(CELLS)),
    Option("hidden", 128, ("size of the state h", "状態 h の大きさ"), quick=64),
    Option("lr", 3e-3, ("learning rate of Adam at the start", "Adam の学習率 (はじめの値)"), quick=5e-3),
    Option("decay", 0.75, ("its factor after each epoch", "1 エポックごとに学習率に掛ける値")),
    Option("clip", 1.0, ("largest norm of the gradient", "勾配のノルムの上限")),
    Option("batch", 128, ("digits in a batch", "ミニバッチの大きさ")),
]
EPOCHS, QUICK_EPOCHS, QUICK_SIZES = 12, 2, (5000, 500, 1000)


class RowClassifier(nn.Module):
    """A recurrent layer over rows, and a softmax layer on its state (the softmax itself is in the loss)."""

    def __init__(self, cell: str = "lstm", hidden: int = 128, width: int = 28, classes: int = CLASSES) -> None:
        super().__init__()
        self.rnn = CELLS[cell](width, hidden)
        self.output = nn.Linear(hidden, classes)

    def states(self, x: tg.Tensor) -> tg.Tensor:
        """Rows (T, N, width) -> the state after every row (T, N, hidden)."""
        return self.rnn(x)[0]

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        """Rows (T, N, width) -> scores (N, classes), from the last state."""
        return self.output(self.states(x)[-1])

    def opinions(self, x: tg.Tensor) -> tg.Tensor:
        """Rows (T, N, width) -> the probabilities of all classes after every row (T, N, classes)."""
        return F.softmax(self.output(self.states(x)), dim=2)


def as_steps(images: tg.Tensor) -> tg.Tensor:
    """uint8 (N, 28, 28) -> float32 (28, N, 28), 0 to 1: the rows are the time steps."""
    return images.transpose(0, 1).float() / 255


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, test, draw. Returns the results."""
    run = Experiment("row_rnn", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    o = run.options
    train, valid, test = parts_of(run.data(digits, made_up_digits, "mnist"), run.quick, QUICK_SIZES)
    model = RowClassifier(o.cell, o.hidden).to(o.device)

    def measure(batch: Digits) -> dict[str, Any]:
        x, target = batch
        scores = model(as_steps(x))
        return {"loss": F.cross_entropy(scores, target), "accuracy": (scores.argmax(1) == target).float().mean()}

    optimizer = tg.optim.Adam(model.parameters(), lr=o.lr)
    trainer = Trainer(
        model,
        run.compiled(Update(measure, optimizer, clip_norm=o.clip)),
        DataLoader(TensorDataset(*train), o.batch, shuffle=True, drop_last=True, device=o.device),
        validate=lambda: evaluate(model, measure, in_batches(valid, o.device)),
        schedules=[tg.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)],
        **run.keeping,
    )
    run.train(trainer)

    model.eval()
    with tg.no_grad():
        opinions = tg.cat([model.opinions(as_steps(x)) for x, _ in in_batches(test, o.device)], dim=1).cpu()
    after_row = [accuracy(of_row, test[1]) for of_row in opinions]
    save_pictures(run, opinions.numpy(), after_row, test)
    return run.finish(
        [
            Result("accuracy", after_row[-1], ("right digits of the test", "テストの正解率"), ".2%"),
            Result(
                "accuracy_half", after_row[13], ("after the upper half (14 rows) alone", "上半分 (14 行) を読んだ時点で"), ".2%"
            ),
            Result("parameters", sum(p.numel() for p in model.parameters()), ("parameters", "パラメータ数"), ",d"),
        ],
        accuracy_after_row=after_row,
    )


# -- pictures


def save_pictures(run: Experiment, opinions: np.ndarray, after_row: list[float], test: Digits) -> None:
    """How the probabilities evolve row by row, how many digits are known after each row, digits that are read wrongly.

    opinions: (28, N, 10), for the test digits."""
    words, images, labels = run.words, test[0].numpy(), test[1].numpy()
    rows = np.arange(1, len(opinions) + 1)
    predicted = opinions[-1].argmax(1)
    title = words("Probabilities of the digits, row by row", "1 行読むごとに変わる、各数字の確率")
    with run.figure("row_by_row.png", 3, 4, (10.0, 7.6), title) as grid:
        for (image, chart), index in zip(grid.reshape(6, 2), chosen(opinions, labels)):
            image.imshow(images[index], cmap="gray_r")
            image.set(xticks=[], yticks=[0, 13, 27], yticklabels=[1, 14, 28], ylabel=words("row", "行"))
            image.set_title(f"{labels[index]} → {predicted[index]}", fontsize=10)
            picture = chart.imshow(opinions[:, index], cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            chart.set(xticks=range(CLASSES), yticks=[0, 13, 27], yticklabels=[1, 14, 28], xlabel=words("digit", "数字"))
        grid[0, 0].figure.colorbar(picture, ax=grid, label=words("probability", "確率"), shrink=0.6)
    with run.figure("after_row.png") as axes:
        axes.plot(rows, np.array(after_row) * 100, color="#08519c", marker="o", markersize=3.5)
        axes.set(
            title=words("Right digits when the reading stops after a row", "その行までで読むのをやめたときの正解率"),
            xlabel=words("rows read", "読んだ行数"),
            ylabel=words("right digits of the test (%)", "テストの正解率 (%)"),
            ylim=(0, 102),
        )
        axes.grid(alpha=0.3)
    wrong = np.flatnonzero(predicted != labels)
    with run.figure("mistakes.png", 2, 8, (8.0, 2.9), words("Read wrongly: true → read", "読み間違い: 正解 → 予測")) as grid:
        for axes, index in zip(grid.flat, wrong.tolist()):
            axes.imshow(images[index], cmap="gray_r")
            axes.set_title(f"{labels[index]} → {predicted[index]}", fontsize=9)
        without_ticks(grid)


def chosen(opinions: np.ndarray, labels: np.ndarray, count: int = 6) -> list[int]:
    """Digits to look at: the right ones of which the network was wrongly sure halfway, the surest first, one of each class at most; then
    others in their order."""
    halfway, right = opinions[len(opinions) // 2], opinions[-1].argmax(1) == labels
    surprise = np.where(right & (halfway.argmax(1) != labels), halfway.max(1), 0.0)
    order = np.argsort(-surprise, kind="stable").tolist()
    firsts = {int(labels[index]): index for index in reversed(order)}
    return sorted(firsts.values(), key=order.index)[:count]
