"""The program ``row_rnn`` in PyTorch: same digits in the same order, same initial weights, same schedule."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.systems.char_lm import LAYERS
from benchmarks.systems.peer import clock, data, parsed
from models import row_rnn as program
from tinygrad_ja.data import DataLoader, TensorDataset


class RowClassifier(nn.Module):
    """As in ``models/row_rnn.py``; the names of the parameters are the same."""

    def __init__(self, cell: str, hidden: int) -> None:
        super().__init__()
        self.rnn = LAYERS[cell](28, hidden)
        self.output = nn.Linear(hidden, program.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.rnn(x)[0][-1])


def as_steps(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 28, 28) -> float32 (28, N, 28)."""
    return images.transpose(0, 1).float() / 255


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right digits."""
    with torch.no_grad():
        found = [model(as_steps(part)).argmax(1) for part in images.split(500)]
    return (torch.cat(found) == labels).float().mean().item()


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and test."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    train, valid, test = program.parts_of(data(o, program.digits, program.made_up_digits), o.quick, program.QUICK_SIZES)
    on_device = [[torch.from_numpy(x.numpy()).to(o.device) for x in part] for part in (valid, test)]

    initial = program.RowClassifier(o.cell, o.hidden)
    model = RowClassifier(o.cell, o.hidden)
    model.load_state_dict({name: torch.from_numpy(value.numpy().copy()) for name, value in initial.state_dict().items()})
    model.to(o.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=o.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)
    loader = DataLoader(TensorDataset(*train), o.batch, shuffle=True, drop_last=True)
    begin = clock(o)
    for epoch in range(o.epochs):
        for images, labels in loader:
            x, target = (torch.from_numpy(part.numpy()).to(o.device) for part in (images, labels))
            loss = F.cross_entropy(model(as_steps(x)), target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), o.clip)
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: validation {accuracy(model, *on_device[0]):.4f}", file=sys.stderr, flush=True)
    seconds = clock(o) - begin
    return {"accuracy": accuracy(model, *on_device[1]), "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
