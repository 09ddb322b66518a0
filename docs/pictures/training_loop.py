"""The picture of training_loop.md, in both languages: learning curves of a network that learns three spirals from noisy labels.

    python docs/pictures/training_loop.py

prints the table of the page and writes docs/images/training_loop_curves.png and training_loop_curves_ja.png.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import tinygrad_ja as tg
from tinygrad_ja import nn, optim
from tinygrad_ja.training import EarlyStopping, Trainer, Update, evaluate, save_curves

IMAGES = Path(__file__).resolve().parent.parent / "images"


def spirals(count: int, arms: int = 3) -> tuple[tg.Tensor, tg.Tensor]:
    """Points (count, 2) on spiral arms and the number of the arm of each (count,); one label in ten is drawn at random."""
    labels = tg.arange(count) % arms
    radius = tg.rand(count)
    angle = 4 * radius + labels * (2 * math.pi / arms) + 0.15 * tg.randn(count)
    points = tg.stack([radius * tg.cos(angle), radius * tg.sin(angle)], dim=1)
    wrong = tg.rand(count) < 0.1
    return points, tg.where(wrong, tg.randint(arms, (count,)), labels)


def train(folder: str) -> Trainer:
    """Train until the validation has not become better for 30 epochs."""
    tg.manual_seed(0)
    train_data, valid_data = tg.data.TensorDataset(*spirals(300)), tg.data.TensorDataset(*spirals(300))
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def measure(batch: tuple[tg.Tensor, tg.Tensor]) -> dict[str, tg.Tensor]:
        x, target = batch
        y = model(x)
        return {"loss": nn.functional.cross_entropy(y, target), "accuracy": (y.argmax(1) == target).float().mean()}

    trainer = Trainer(
        model,
        Update(measure, optimizer, clip_norm=1.0),
        tg.data.DataLoader(train_data, batch_size=30, shuffle=True),
        validate=lambda: evaluate(model, measure, tg.data.DataLoader(valid_data, batch_size=300)),
        folder=folder,
        stopping=EarlyStopping("valid_loss", patience=30, restore_best=True),
        curves=False,
    )
    trainer.run(epochs=300)
    return trainer


def main() -> None:
    """Train once, draw twice."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = train(folder)
    titles = {"en": "Three spirals, one label in ten wrong", "ja": "3 つの渦巻き (ラベルの 1 割は誤り)"}
    for language, name in (("en", "training_loop_curves.png"), ("ja", "training_loop_curves_ja.png")):
        os.environ["TINYGRAD_JA_LANG"] = language
        print(save_curves(IMAGES / name, trainer.history, title=titles[language]))


if __name__ == "__main__":
    main()
