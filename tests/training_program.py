"""A small training program, started by tests in a process of its own: ``python training_program.py FOLDER KIND [--resume] [--slow]``.

KIND says how batches come: ``loader`` (a DataLoader that shuffles), ``workers`` (the same with two threads), ``list``, or ``generator``
(a class of one's own that shuffles with the default generator).
"""

from __future__ import annotations

import sys
import time

import tinygrad_ja as tg
from tinygrad_ja import nn, optim
from tinygrad_ja.training import EarlyStopping, Trainer, Update, evaluate

EPOCHS = 4


class Shuffled:
    """Batches in an order that is drawn anew in each epoch."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        order = tg.randperm(len(self.batches)).tolist()
        return (self.batches[index] for index in order)


def loader_of(kind, x, target):
    batches = [(x[i : i + 4], target[i : i + 4]) for i in range(0, len(x), 4)]
    if kind == "list":
        return batches
    if kind == "generator":
        return Shuffled(batches)
    data = tg.data.TensorDataset(x, target)
    return tg.data.DataLoader(data, batch_size=4, shuffle=True, num_workers=2 if kind == "workers" else 0)


def build(folder, kind, **options):
    """Everything that moves: dropout, batch normalisation, gathered gradients, a schedule of each sort, validation, early stopping."""
    tg.manual_seed(0)
    x = tg.randn(40, 3)
    target = x.sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    per_step = optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    per_epoch = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    def measure(batch):
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    return Trainer(
        model,
        Update(measure, optimizer, accumulate=3, clip_norm=1.0, schedule=per_step),
        loader_of(kind, x, target),
        validate=lambda: evaluate(model, measure, [(x[:8], target[:8])]),
        folder=folder,
        schedules=[plateau, per_epoch],
        stopping=EarlyStopping(patience=30),
        validate_every=7,
        log_every=3,
        settings={"kind": kind},
        curves=False,
        **options,
    )


if __name__ == "__main__":
    trainer = build(sys.argv[1], sys.argv[2], checkpoint_every=2)
    if "--slow" in sys.argv:
        trainer.on("step", lambda t: time.sleep(0.02))
    trainer.on("step", lambda t: print(f"done {t.iteration}", flush=True))
    report = trainer.run(epochs=EPOCHS, resume="auto" if "--resume" in sys.argv else False)
    sys.exit(130 if report.interrupted else 0)
