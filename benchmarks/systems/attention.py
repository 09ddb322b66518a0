"""The programs ``attention`` and ``seq2seq`` (``--attention none``) in PyTorch: same pairs, batches in the same order, same initial weights.

Only the training is PyTorch's; the weights that it ends with are put into our model, which then writes the test part.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

import tinygrad_ja as tg
from benchmarks.systems.peer import clock, data, parsed
from models import attention, seq2seq
from tinygrad_ja.data.text import PairBatch
from tinygrad_ja.training import Option

LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
Hidden = tuple[torch.Tensor, ...]


def run_rnn(rnn: nn.Module, x: Any, hidden: Hidden | None = None) -> tuple[Any, Hidden]:
    """Outputs, and the last state as (h,) or (h, c), each (N, H), two directions added."""
    first = None if hidden is None else tuple(part.unsqueeze(0).contiguous() for part in hidden)
    output, last = rnn(x, first if first is None or len(first) > 1 else first[0])
    return output, tuple(part.sum(0) for part in (last if isinstance(last, tuple) else (last,)))


class Score(nn.Module):
    """The attentions of ``models/attention.py``, with the same names of parameters."""

    def __init__(self, kind: str, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        if kind in ("bahdanau", "general"):
            self.W = nn.Linear(hidden, hidden, bias=False)
        if kind == "bahdanau":
            self.U = nn.Linear(hidden, hidden)
        if kind == "concat":
            self.W = nn.Linear(2 * hidden, hidden, bias=False)
        if kind in ("bahdanau", "concat"):
            self.v = nn.Linear(hidden, 1, bias=False)
        if kind == "scaled":
            self.W_Q, self.W_K, self.W_V = (nn.Linear(hidden, hidden, bias=False) for _ in range(3))

    def prepare(self, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.kind == "scaled":
            return self.W_K(h), self.W_V(h)
        if self.kind == "concat":
            return F.linear(h, self.W.weight[:, h.shape[2] :]), h
        return {"bahdanau": lambda: self.U(h), "general": lambda: self.W(h), "dot": lambda: h}[self.kind](), h

    def forward(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        if self.kind == "scaled":
            q = self.W_Q(q) / math.sqrt(keys.shape[2])
        if self.kind in ("bahdanau", "concat"):
            by_query = self.W(q) if self.kind == "bahdanau" else F.linear(q, self.W.weight[:, : q.shape[2]])
            e = self.v(torch.tanh(by_query.unsqueeze(2) + keys.unsqueeze(1))).squeeze(3)
        else:
            e = torch.bmm(q, keys.transpose(1, 2))
        if padding is not None:
            e = e.masked_fill(padding.unsqueeze(1), -math.inf)
        return torch.bmm(e.softmax(2), values)


class Encoder(nn.Module):
    """Embedding, dropout, a packed RNN; with self-attention if asked for."""

    def __init__(self, words: int, o: argparse.Namespace) -> None:
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(words, o.embed), nn.Dropout(o.dropout)
        self.rnn = LAYERS[o.cell](o.embed, o.hidden, bidirectional=o.bidirectional)
        self.attention = Score("scaled", o.hidden) if o.self_attention else None
        self.ways = 1 + o.bidirectional

    def forward(self, source: PackedSequence) -> tuple[torch.Tensor, Hidden, torch.Tensor | None]:
        packed, last = run_rnn(self.rnn, PackedSequence(self.dropout(self.embedding(source.data)), source.batch_sizes))
        h, lengths = pad_packed_sequence(packed, batch_first=True)
        h = h.unflatten(2, (self.ways, -1)).sum(2)
        longest = h.shape[1]
        padding = (torch.arange(longest) >= lengths.unsqueeze(1)).to(h.device) if lengths.min() < longest else None
        if self.attention is not None:
            h = h + self.attention(h, *self.attention.prepare(h), padding)
        return h, last, padding


class Decoder(nn.Module):
    """All words at once, but one after another for Bahdanau."""

    def __init__(self, words: int, o: argparse.Namespace) -> None:
        super().__init__()
        self.kind, self.peeky = o.attention, o.peeky
        self.embedding, self.dropout = nn.Embedding(words, o.embed), nn.Dropout(o.dropout)
        self.rnn = LAYERS[o.cell](o.embed + o.hidden * (o.peeky or o.attention == "bahdanau"), o.hidden)
        if self.kind != "none":
            self.attention, self.W_c = Score(self.kind, o.hidden), nn.Linear(2 * o.hidden, o.hidden)
        self.affine = nn.Linear(o.hidden * (1 + o.peeky), words)

    def forward(self, given: torch.Tensor, h: torch.Tensor, hidden: Hidden, padding: torch.Tensor | None) -> torch.Tensor:
        x = self.dropout(self.embedding(given))
        if self.kind == "none":
            sentence = hidden[0].expand(len(given), -1, -1)
            s, _ = run_rnn(self.rnn, torch.cat([sentence, x], 2) if self.peeky else x, hidden)
            return self.affine(self.dropout(torch.cat([sentence, s], 2) if self.peeky else s))
        keys, values = self.attention.prepare(h)
        if self.kind == "bahdanau":
            made = []
            for x_t in x.unbind(0):
                c_t = self.attention(hidden[0].unsqueeze(1), keys, values, padding)
                s_t, hidden = run_rnn(self.rnn, torch.cat([x_t, c_t[:, 0]], 1).unsqueeze(0), hidden)
                made.append((s_t, c_t.transpose(0, 1)))
            s, c = (torch.cat(parts) for parts in zip(*made))
        else:
            s, _ = run_rnn(self.rnn, x, hidden)
            c = self.attention(s.transpose(0, 1), keys, values, padding).transpose(0, 1)
        return self.affine(self.dropout(torch.tanh(self.W_c(torch.cat([c, s], 2)))))


class Seq2seq(nn.Module):
    """Encoder and decoder with teacher forcing."""

    def __init__(self, task: seq2seq.Task, o: argparse.Namespace) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(len(task.source), o), Decoder(len(task.target), o)

    def forward(self, source: PackedSequence, given: torch.Tensor) -> torch.Tensor:
        return self.decoder(given, *self.encoder(source))


def converted(batch: PairBatch, device: str) -> tuple[PackedSequence, torch.Tensor, torch.Tensor]:
    """A batch as Tensors of PyTorch."""
    source, given, answer = batch
    data, sizes, given_, answer_ = [
        torch.from_numpy(x.numpy().copy()) for x in (source.data, source.batch_sizes, given, answer)
    ]
    return PackedSequence(data.to(device), sizes), given_.to(device), answer_.to(device)


def train(model: Seq2seq, task: seq2seq.Task, o: argparse.Namespace) -> float:
    """Adam or SGD with a rate that falls linearly to 0; the weights of the best validation stay. Returns its loss."""
    loader, valid = task.loader(task.train, o.batch, "cpu", o.seed), task.loader(task.valid, 250, "cpu")
    optimizer: Any = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[o.optimizer](model.parameters(), lr=o.lr)
    steps = max(1, o.epochs * len(loader))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    best, weights = math.inf, copy.deepcopy(model.state_dict())

    def loss_of(batch: PairBatch) -> tuple[torch.Tensor, int]:
        source, given, answer = converted(batch, o.device)
        return F.cross_entropy(
            model(source, given).flatten(0, 1), answer.flatten(), ignore_index=task.target.pad
        ), answer.numel()

    for epoch in range(o.epochs):
        model.train()
        for batch in loader:
            loss, _ = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            falling.step()
        model.eval()
        with torch.no_grad():
            found = [(loss.item(), count) for loss, count in map(loss_of, valid)]
        mean = sum(loss * count for loss, count in found) / sum(count for _, count in found)
        print(f"epoch {epoch + 1}: validation {mean:.4f}", file=sys.stderr, flush=True)
        if mean < best:
            best, weights = mean, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return best


def options_of(argv: Sequence[str] | None) -> tuple[list[Option], int]:
    """Those of both programs."""
    known, epochs = seq2seq.options_of(argv, "dates")
    own = [option._replace(choices=["none", *option.choices]) if option.choices else option for option in attention.OWN]
    return [option for option in known if option.name != "teacher_forcing"] + own + seq2seq.OWN, epochs


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train in PyTorch, write the test part."""
    options, epochs = options_of(argv)
    o = parsed(options, argv, epochs, 4)
    o.teacher_forcing = 1.0
    task = seq2seq.task_of(
        data(o, lambda **where: seq2seq.real_parts(o.task, **where), lambda: seq2seq.made_up_parts(o.task)), o
    )
    ours = (seq2seq if o.attention == "none" else attention).build(task, o)
    model = Seq2seq(task, o)
    model.load_state_dict({name: torch.from_numpy(value.numpy().copy()) for name, value in ours.state_dict().items()})
    model.to(o.device)
    begin = clock(o)
    valid_loss = train(model, task, o)
    seconds = clock(o) - begin
    ours.load_state_dict({name: tg.tensor(value.cpu().numpy()) for name, value in model.state_dict().items()})
    results, _ = seq2seq.assess(ours, task, "cpu", o.beams)
    return {"valid_loss": valid_loss, **{result.name: result.value for result in results}, "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
