"""The program ``char_lm`` in PyTorch: same text, same pieces in the same order, same initial weights, same schedule."""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models import char_lm as program
from tinygrad_ja.data import BPTTLoader
from tinygrad_ja.data.datasets.synthetic import GrammarText

from .peer import clock, data, parsed

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentLM(nn.Module):
    """As in ``models/char_lm.py``; the names of the parameters are the same."""

    def __init__(self, size: int, hidden: int, embedding: int, cell: str, layers: int, dropout: float, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, embedding)
        self.recurrent = LAYERS[cell](embedding, hidden, layers, dropout=dropout if layers > 1 else 0.0)
        self.output = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(dropout)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        h, state = self.recurrent(self.dropout(self.embedding(x)), state)
        return self.output(self.dropout(h)), state


def pieces(numbers: np.ndarray, o: argparse.Namespace, drop_last: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The pieces (x, y), each (T, N), of one pass over the text."""
    loader = BPTTLoader(numbers, o.streams, o.steps, drop_last=drop_last)
    return [tuple(torch.from_numpy(part.numpy().copy()).to(o.device) for part in piece) for piece in loader]  # type: ignore[misc]


def cross_entropy(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean over all symbols."""
    return F.cross_entropy(scores.flatten(0, 1), y.flatten())


def validation_loss(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Nats per symbol."""
    model.eval()
    state, total, count = None, 0.0, 0
    with torch.no_grad():
        for x, y in batches:
            scores, state = model(x, state)
            total += cross_entropy(scores, y).item() * y.numel()
            count += y.numel()
    model.train()
    return total / count


def trained(
    o: argparse.Namespace, size: int, embedding: int, cell: str, layers: int, tied: bool, train: np.ndarray, valid: np.ndarray
) -> tuple[nn.Module, dict[str, Any], float]:
    """The model after the last epoch, the weights of its best epoch, and the seconds of training and validation."""
    initial = program.RecurrentLM(size, o.hidden, embedding, cell=cell, layers=layers, dropout=o.dropout, tied=tied)
    model = RecurrentLM(size, o.hidden, embedding, cell, layers, o.dropout, tied)
    model.load_state_dict({name: torch.from_numpy(value.numpy().copy()) for name, value in initial.state_dict().items()})
    model.to(o.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=o.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)
    batches, held_out = pieces(train, o, drop_last=True), pieces(valid, o, drop_last=False)
    best, best_weights = math.inf, model.state_dict()
    begin = clock(o)
    for epoch in range(o.epochs):
        state = None
        for x, y in batches:
            scores, state = model(x, state)
            state = tuple(part.detach() for part in state) if cell == "lstm" else state.detach()
            loss = cross_entropy(scores, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        found = validation_loss(model, held_out)
        print(f"{cell} epoch {epoch + 1}: validation {found:.4f}", file=sys.stderr, flush=True)
        if found < best:
            best, best_weights = found, copy.deepcopy(model.state_dict())
    return model, best_weights, clock(o) - begin


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and validate."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    train, valid, vocabulary = program.encoded(data(o, program.shakespeare, lambda: GrammarText(5000).text))
    if o.quick:
        train, valid = train[: program.QUICK_SIZES[0]], valid[: program.QUICK_SIZES[1]]
    model, _, seconds = trained(o, len(vocabulary), o.embedding, o.cell, o.layers, False, train, valid)
    loss = validation_loss(model, pieces(valid, o, drop_last=False))
    return {"loss": loss, "bits": loss / math.log(2), "perplexity": math.exp(loss), "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
