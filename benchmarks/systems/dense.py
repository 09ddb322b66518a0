"""The program ``dense`` in PyTorch: same digits in the same order, same initial weights, same schedule.

``nn.Linear`` is what PyTorch has for W x + b, so both forms of the program are compared with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.systems.peer import clock, data, parsed
from models import dense as program
from tinygrad_ja.data import DataLoader, TensorDataset


def perceptron(initial: program.MLP) -> nn.Sequential:
    """Linear layers with ReLU between them, with the weights of our model."""
    layers: list[nn.Module] = []
    for (inputs, outputs), ours in zip(pairwise(initial.sizes), initial.layers):
        linear = nn.Linear(inputs, outputs)
        M = torch.from_numpy(program.matrix_of(ours).numpy().copy())
        linear.load_state_dict({"weight": M[:, :-1], "bias": M[:, -1]})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def as_rows(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 28, 28) -> float32 (N, 784)."""
    return images.flatten(1).float() / 255


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right digits."""
    with torch.no_grad():
        found = [model(as_rows(part)).argmax(1) for part in images.split(500)]
    return (torch.cat(found) == labels).float().mean().item()


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and test."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    train, valid, test = program.parts_of(data(o, program.digits, program.made_up_digits), o.quick)
    on_device = [[torch.from_numpy(x.numpy()).to(o.device) for x in part] for part in (valid, test)]

    model = perceptron(program.MLP([program.PIXELS, *[o.hidden] * o.layers, program.CLASSES], o.form)).to(o.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=o.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)
    loader = DataLoader(TensorDataset(*train), o.batch, shuffle=True, drop_last=True)
    begin = clock(o)
    for epoch in range(o.epochs):
        for images, labels in loader:
            x, target = (torch.from_numpy(part.numpy()).to(o.device) for part in (images, labels))
            loss = F.cross_entropy(model(as_rows(x)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: validation {accuracy(model, *on_device[0]):.4f}", file=sys.stderr, flush=True)
    seconds = clock(o) - begin
    return {"accuracy": accuracy(model, *on_device[1]), "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
