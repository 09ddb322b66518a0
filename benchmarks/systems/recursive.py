"""The program ``recursive`` in PyTorch: same trees in the same order, batched by height, same initial weights, same schedule."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import tinygrad_ja as tg
from benchmarks.systems.peer import clock, data, parsed
from models import recursive as program
from tinygrad_ja.data import DataLoader
from tinygrad_ja.nn.tree import plan


class Batch(NamedTuple):
    """Nodes by height: the words of the leaves, for each height above them the places of left and right children among all nodes below,
    and labels and roots in that order."""

    words: torch.Tensor
    children: list[torch.Tensor]
    labels: torch.Tensor
    roots: torch.Tensor


def by_height(batch: program.Forest, device: str) -> Batch:
    """A forest in the order in which it is computed."""
    made = plan("recursive", batch.tree, len(batch.words), (2,))
    order = np.array(made.order)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    leaf_order = np.argsort(np.argsort(made.levels[0]))  # words are in the order of the sentences
    children = [place[[kid for node in level for kid in made.children[node]]] for level in made.levels[1:]]
    labels, roots, words = batch.labels.numpy()[order], place[batch.roots.numpy()], batch.words.numpy()[leaf_order]
    parts = (words, labels, roots, *children)
    moved = torch.from_numpy(np.concatenate(parts)).to(device)  # at once: each copy to a GPU waits for it
    words_, labels_, roots_, *children_ = moved.split([len(part) for part in parts])
    return Batch(words_, children_, labels_, roots_)


class RecursiveNN(nn.Module):
    """v = tanh(W [v_left; v_right] + b)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, 2 * size))
        self.bias = nn.Parameter(torch.empty(size))

    def forward(self, x: torch.Tensor, children: list[torch.Tensor]) -> torch.Tensor:
        v = x
        for kids in children:
            both = v[kids].reshape(len(kids) // 2, -1)
            v = torch.cat([v, torch.tanh(F.linear(both, self.weight, self.bias))])
        return v


class BinaryTreeLSTM(nn.Module):
    """The binary Tree-LSTM; the parameters are those of the layer in ``tinygrad_ja.nn``."""

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, input_size))
        self.weight_hh = nn.Parameter(torch.empty(5 * hidden, 2 * hidden))
        self.bias = nn.Parameter(torch.empty(4 * hidden))

    def forward(self, x: torch.Tensor, children: list[torch.Tensor]) -> torch.Tensor:
        i, _, g, o = F.linear(x, self.weight_ih, self.bias).chunk(4, dim=1)
        c = torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        b_i, b_f, b_g, b_o = self.bias.chunk(4)
        bias = torch.cat([b_i, b_f, b_f, b_g, b_o])
        for kids in children:
            gates = F.linear(h[kids].reshape(len(kids) // 2, -1), self.weight_hh, bias)
            i, f_left, f_right, g, o = gates.chunk(5, dim=1)
            left, right = c[kids].reshape(len(kids) // 2, -1).chunk(2, dim=1)
            new = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(f_left) * left + torch.sigmoid(f_right) * right
            h, c = torch.cat([h, torch.sigmoid(o) * torch.tanh(new)]), torch.cat([c, new])
        return h


class TreeClassifier(nn.Module):
    """As in ``models/recursive.py``; the names of the parameters are the same."""

    def __init__(self, like: program.TreeClassifier, dropout: float) -> None:
        super().__init__()
        words, size = like.vectors.weight.shape
        classes, hidden = like.output.weight.shape
        self.unknown, self.word_dropout = like.unknown, like.word_dropout
        self.vectors = nn.Embedding(words, size)
        self.network = RecursiveNN(hidden) if like.cell == "rnn" else BinaryTreeLSTM(size, hidden)
        self.drop = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)
        self.load_state_dict({name: torch.from_numpy(value.numpy().copy()) for name, value in like.state_dict().items()})

    def forward(self, batch: Batch) -> torch.Tensor:
        words = batch.words
        if self.training and self.word_dropout:
            words = torch.where(torch.rand(words.shape, device=words.device) < self.word_dropout, self.unknown, words)
        return self.output(self.drop(self.network(self.drop(self.vectors(words)), batch.children)))


def accuracy(model: TreeClassifier, batches: Iterable[Batch]) -> float:
    """Share of roots with the right class."""
    model.eval()
    with torch.no_grad():
        found = [(model(batch)[batch.roots].argmax(1) == batch.labels[batch.roots]).float() for batch in batches]
    model.train()
    return torch.cat(found).mean().item()


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, choose the epoch by the validation sentences, test."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    train, *others = program.chosen_trees(data(o, program.sentiment_trees, program.made_up_trees), o.quick, o.binary)
    vocabulary, classes = program.vocabulary_of(train), 2 if o.binary else 5
    like = program.TreeClassifier(vocabulary, o.cell, o.embedding, o.hidden, classes, o.dropout, o.word_dropout)
    model = TreeClassifier(like, o.dropout).to(o.device)
    collate = partial(program.forest, vocabulary=vocabulary, classes=classes)
    loader = DataLoader(train, o.batch, shuffle=True, collate_fn=collate, generator=tg.Generator().manual_seed(o.seed))
    valid, test = ([by_height(batch, o.device) for batch in DataLoader(part, 100, collate_fn=collate)] for part in others)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=o.lr, weight_decay=o.weight_decay)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)
    best, best_weights = 0.0, model.state_dict()
    begin = clock(o)
    for epoch in range(o.epochs):
        for forest in loader:
            batch = by_height(forest, o.device)
            loss = F.cross_entropy(model(batch), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        found = accuracy(model, valid)
        print(f"epoch {epoch + 1}: validation {found:.4f}", file=sys.stderr, flush=True)
        if found > best:
            best, best_weights = found, copy.deepcopy(model.state_dict())
    seconds = clock(o) - begin
    model.load_state_dict(best_weights)
    return {"accuracy": accuracy(model, test), "accuracy_valid": best, "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
