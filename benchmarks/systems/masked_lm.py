"""The program ``masked_lm`` with PyTorch's encoder layers: same sentences, same masks in the same order, same initial weights, same schedule;
the linear classifier is the same function on the features of either network."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import tinygrad_ja as tg
from benchmarks.systems.peer import clock, data, parsed
from benchmarks.systems.transformer import array, copy_layer, copy_plain
from models import masked_lm as program
from models.transformer import Size, positional_encoding
from tinygrad_ja.data.text import Vocabulary
from tinygrad_ja.training import linear_probe


class MaskedLM(nn.Module):
    """As in ``models/masked_lm.py``, from PyTorch's layers."""

    pe: torch.Tensor

    def __init__(self, words: int, size: Size, dropout: float, pad: int) -> None:
        super().__init__()
        self.d, self.pad = size.d, pad
        self.embedding = nn.Embedding(words, size.d)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("pe", array(positional_encoding(128, size.d)), persistent=False)
        layer = nn.TransformerEncoderLayer(size.d, size.heads, size.ffn, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, size.layers, nn.LayerNorm(size.d), enable_nested_tensor=False)
        self.transform = nn.Sequential(nn.Linear(size.d, size.d), nn.GELU(), nn.LayerNorm(size.d))
        self.bias = nn.Parameter(torch.zeros(words))

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.dropout(math.sqrt(self.d) * self.embedding(tokens) + self.pe[: tokens.shape[1]])
        return self.encoder(h, src_key_padding_mask=tokens == self.pad)

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        h = self.encode(tokens).flatten(0, 1)[places]
        return F.linear(self.transform(h), self.embedding.weight, self.bias)

    def features(self, tokens: torch.Tensor) -> torch.Tensor:
        words = (tokens != self.pad).float().unsqueeze(-1)
        return (self.encode(tokens) * words).sum(1) / words.sum(1)


def copy_model(ours: program.MaskedLM, theirs: MaskedLM) -> None:
    """All weights."""
    with torch.no_grad():
        theirs.embedding.weight.copy_(array(ours.embedding.weight))
        for a, b in zip(ours.layers, theirs.encoder.layers):
            copy_layer(a, b)
        copy_plain(ours.transform, theirs.transform)


def features_of(model: MaskedLM, vocabulary: Vocabulary, sentences: Sequence[Sequence[str]], device: Any) -> tg.Tensor:
    """(N, d): the mean-pooled features of sentences."""
    made = []
    model.eval()
    with torch.no_grad():
        for first in range(0, len(sentences), 128):
            some = [words[: program.LONGEST] for words in sentences[first : first + 128]]
            made.append(model.features(array(vocabulary.encode_batch(some, batch_first=True)[0], device)))
    return tg.tensor(torch.cat(made).cpu().numpy())


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Pre-train, and judge the features."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    texts = data(o, lambda **where: program.real_texts(o.corpus == "all", **where), program.synthetic_texts)
    vocabulary = Vocabulary(texts.sentences, min_count=2, max_size=o.words, specials=program.SPECIALS)
    given = (len(vocabulary), program.SIZES[o.size], o.dropout, vocabulary.pad)
    model = MaskedLM(*given)
    copy_model(program.MaskedLM(*given), model)
    model.to(o.device)
    untrained = copy.deepcopy(model)
    loader = program.loader_of(vocabulary, texts.sentences, o.tokens, "cpu", o.seed, shuffle=True)
    dev = [review.words for review in texts.reviews[1]]
    held_out = list(program.loader_of(vocabulary, dev, o.tokens, "cpu", seed=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=o.lr, betas=(0.9, 0.98), weight_decay=0.01)
    steps = max(1, o.epochs * len(loader))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, program.up_and_down(steps))

    def measure(batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        masked, places, hidden = (array(part, o.device) for part in batch)
        scores = model(masked, places)
        right = (scores.argmax(-1) == hidden).sum()
        return F.cross_entropy(scores, hidden, ignore_index=-100), right, (hidden != -100).sum()

    def validate() -> tuple[float, float]:
        model.eval()
        with torch.no_grad():
            found = [[value.item() for value in measure(batch)] for batch in held_out]
        model.train()
        count = sum(n for _, _, n in found)
        return sum(loss * n for loss, _, n in found) / count, sum(right for _, right, _ in found) / count

    begin = clock(o)
    for epoch in range(o.epochs):
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            measure(batch)[0].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        loss, accuracy = validate()
        print(f"epoch {epoch + 1}: validation {loss:.4f}, accuracy {accuracy:.3f}", file=sys.stderr, flush=True)
    seconds = clock(o) - begin
    loss, accuracy = validate()
    parts = [[review for review in part if review.label >= 0] for part in texts.reviews]
    labels = [tg.tensor([float(review.label) for review in part]) for part in parts]
    shares = []
    for network in (model, untrained):
        features = [features_of(network, vocabulary, [review.words for review in part], o.device) for part in parts]
        shares.append(linear_probe(features, labels).accuracy)
    return {"loss": loss, "accuracy": accuracy, "sst": shares[0], "sst_random": shares[1], "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
