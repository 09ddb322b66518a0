"""The programs ``vhred`` and (by ``hred.py``) ``hred`` in PyTorch: same dialogues in the same order, same initial weights, same budget."""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import hred, vhred
from models.hred import BOS, EOS, MAX_WORDS, PAD, UNK
from tinygrad_ja.data import DataLoader
from tinygrad_ja.training.metrics import distinct

from .peer import clock, data, parsed


class HRED(nn.Module):
    """The model of ``models/hred.py``, under the same names."""

    def __init__(
        self, words: int, embedding: int, hidden: int, dropout: float, word_drop: float = 0.0, latent: int = 0
    ) -> None:
        super().__init__()
        condition = hidden + latent
        self.embedding = nn.Embedding(words, embedding, padding_idx=PAD)
        self.encoder = nn.ModuleDict({"rnn": nn.GRU(embedding, hidden)})
        self.context = nn.GRU(hidden, hidden)
        self.decoder = nn.ModuleDict(
            {
                "start": nn.Linear(condition, hidden),
                "lead": nn.Linear(condition, embedding, bias=False),
                "rnn": nn.GRU(embedding, hidden),
                "output": nn.Linear(hidden, words),
            }
        )
        self.dropout, self.word_drop = nn.Dropout(dropout), word_drop

    def encode(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Summaries and contexts, (D, N, H)."""
        _, turns, n = words.shape
        flat = words.flatten(1, 2)
        states, _ = self.encoder["rnn"](self.dropout(self.embedding(flat)))
        last = (flat != PAD).sum(0).clamp(min=1) - 1
        summaries = states[last, torch.arange(turns * n, device=words.device)].view(turns, n, -1)
        contexts, _ = self.context(summaries)
        return summaries, torch.cat([torch.zeros_like(contexts[:1]), contexts[:-1]])

    def decode(self, words: Tensor, places: Tensor, condition: Tensor) -> Tensor:
        """Scores (K, V)."""
        flat, condition = words.flatten(1, 2), condition.flatten(0, 1)
        before = torch.cat([torch.full_like(flat[:1], BOS), flat[:-1]])
        if self.training and self.word_drop:
            before = before.masked_fill(torch.rand(before.shape, device=before.device) < self.word_drop, UNK)
        first = torch.tanh(self.decoder["start"](condition)).unsqueeze(0)
        states, _ = self.decoder["rnn"](self.dropout(self.embedding(before)) + self.decoder["lead"](condition), first)
        return self.decoder["output"](self.dropout(states.flatten(0, 1)[places]))

    def condition(self, words: Tensor) -> Tensor:
        """(D, N, C)."""
        return self.encode(words)[1]

    def losses(self, words: Tensor, places: Tensor) -> dict[str, Tensor]:
        """The loss and its parts."""
        return {"loss": cross_entropy(self.decode(words, places, self.condition(words)), words, places)}

    def greedy(self, condition: Tensor) -> list[list[int]]:
        """The most probable word after the other."""
        tokens = torch.full((len(condition),), BOS, device=condition.device)
        state = torch.tanh(self.decoder["start"](condition)).unsqueeze(0)
        lead = self.decoder["lead"](condition)
        made = []
        for _ in range(MAX_WORDS):
            output, state = self.decoder["rnn"]((self.embedding(tokens) + lead).unsqueeze(0), state)
            scores = self.decoder["output"](output[0])
            tokens = scores[:, EOS:].argmax(1) + EOS
            made.append(tokens)
        rows = torch.stack(made, 1).tolist()
        return [row[: row.index(EOS)] if EOS in row else row for row in rows]


class GaussianNet(nn.Module):
    """μ and σ²."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, features)
        self.mean = nn.Linear(features, latent)
        self.variance = nn.Linear(features, latent)

    def forward(self, features: Tensor) -> torch.distributions.Normal:
        """The distribution."""
        hidden = torch.tanh(self.hidden(features))
        deviation = (F.softplus(self.variance(hidden)) + 1e-4).sqrt()
        return torch.distributions.Normal(self.mean(hidden), deviation, validate_args=False)


class VHRED(HRED):
    """The model of ``models/vhred.py``."""

    def __init__(self, o: argparse.Namespace, words: int, anneal: int) -> None:
        super().__init__(words, o.embedding, o.hidden, o.dropout, o.word_drop, o.latent)
        self.prior, self.posterior = GaussianNet(o.hidden, o.latent), GaussianNet(2 * o.hidden, o.latent)
        self.anneal, self.free_bits, self.done = anneal, o.free_bits, 0

    def condition(self, words: Tensor) -> Tensor:
        """(D, N, H + Z), z from the prior."""
        contexts = self.encode(words)[1]
        return torch.cat([contexts, self.prior(contexts).sample()], 2)

    def losses(self, words: Tensor, places: Tensor) -> dict[str, Tensor]:
        """The negative ELBO and its parts."""
        summaries, contexts = self.encode(words)
        q, p = self.posterior(torch.cat([contexts, summaries], 2)), self.prior(contexts)
        scores = self.decode(words, places, torch.cat([contexts, q.rsample()], 2))
        there = words[0] != PAD
        kl = torch.distributions.kl_divergence(q, p).sum(2) * there
        weight, charged = 1.0, kl
        if self.training:
            self.done += 1
            weight = min(self.done / max(self.anneal, 1), 1.0)
            charged = kl.clamp(min=self.free_bits) * there if self.free_bits else kl
        reconstruction = cross_entropy(scores, words, places)
        loss = reconstruction + weight * charged.sum() / (words != PAD).sum()
        return {"loss": loss, "reconstruction": reconstruction}


def cross_entropy(scores: Tensor, words: Tensor, places: Tensor) -> Tensor:
    """Mean over the words."""
    return F.cross_entropy(scores, words.flatten()[places], ignore_index=PAD)


def batches(loader: DataLoader, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Words and places of one pass."""
    for batch in loader:
        yield torch.from_numpy(batch.words.numpy()).to(device), torch.from_numpy(batch.places.numpy()).to(device)


@torch.no_grad()
def evaluated(model: HRED, loader: DataLoader, device: str) -> dict[str, float]:
    """Means of the losses over all words."""
    model.eval()
    totals: dict[str, float] = {}
    count = 0
    for words, places in batches(loader, device):
        here = int((words != PAD).sum())
        for name, value in model.losses(words, places).items():
            totals[name] = totals.get(name, 0.0) + value.item() * here
        count += here
    model.train()
    return {name: total / count for name, total in totals.items()}


@torch.no_grad()
def replies(model: HRED, loader: DataLoader, device: str) -> list[list[int]]:
    """The most probable reply in the place of every turn but the first."""
    model.eval()
    made = []
    for words, _ in batches(loader, device):
        there = words[0] != PAD
        there[0] = False
        made += model.greedy(model.condition(words)[there])
    return made


def compare(argv: Sequence[str] | None, latent: bool) -> dict[str, Any]:
    """Train as the program does, and test with the weights of the best epoch."""
    program = vhred if latent else hred
    o = parsed([*hred.OPTIONS, *(vhred.OWN if latent else [])], argv, hred.EPOCHS, hred.QUICK_EPOCHS)
    corpus = hred.prepare(data(o, hred.read, hred.made_up), o.dialogues, o.min_count)
    train = hred.loader(corpus.train, o.batch, "cpu", o.seed)
    valid, test = (hred.loader(part, 2 * o.batch, "cpu") for part in (corpus.valid, corpus.test))
    size = len(corpus.vocabulary)
    sizes = (size, o.embedding, o.hidden)
    if latent:
        model: HRED = VHRED(o, size, round(o.anneal * o.epochs * len(train)))
        ours: Any = program.VHRED(*sizes, o.latent)
    else:
        model = HRED(*sizes, o.dropout)
        ours = program.HRED(*sizes)
    model.load_state_dict({name: torch.from_numpy(p.detach().numpy().copy()) for name, p in ours.named_parameters()})
    model.to(o.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=o.lr)

    begin, best, kept = clock(o), math.inf, model.state_dict()
    for _ in range(o.epochs):
        for words, places in batches(train, o.device):
            optimizer.zero_grad()
            model.losses(words, places)["loss"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        loss = evaluated(model, valid, o.device)["loss"]
        if loss < best:
            best, kept = loss, copy.deepcopy(model.state_dict())
    seconds = clock(o) - begin

    model.load_state_dict(kept)
    values = evaluated(model, test, o.device)
    spoken = replies(model, test, o.device)
    results = {"perplexity_bound" if latent else "perplexity": math.exp(values["loss"])}
    if latent:
        count = sum([len(said) for dialogue in corpus.test for said in dialogue])
        results["kl"] = (values["loss"] - values["reconstruction"]) * count / sum(map(len, corpus.test))
    return {
        **results,
        "greedy_distinct1": distinct(spoken, 1),
        "greedy_distinct2": distinct(spoken, 2),
        "train_seconds": seconds,
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and test VHRED."""
    return compare(argv, latent=True)


if __name__ == "__main__":
    print(json.dumps(main()))
