"""The program ``skip_gram`` in PyTorch, from the same pairs, the same noise words and the same initial vectors; and gensim's word2vec at
the same settings, which learns pair after pair in C.

    python -m benchmarks.systems.skip_gram --output hierarchical --only gensim
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import tinygrad_ja as tg
from benchmarks.systems.peer import clock, data, parsed
from models import skip_gram as program
from models.skip_gram import Corpus, Passes
from tinygrad_ja.data.text import skipgram_pairs
from tinygrad_ja.training import Option
from tinygrad_ja.training.metrics import word_analogies, word_similarity

LONGEST = 10_000
"""Gensim leaves out the words after so many of one text."""


class SkipGram(nn.Module):
    """As in ``models/skip_gram.py``. ours: the module there, whose initial weights and noise words or tree are taken over."""

    def __init__(self, ours: program.SkipGram, output: str) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(torch.from_numpy(ours.words.weight.detach().numpy().copy()), freeze=False)
        layer: Any = ours.output
        self.output_vectors = nn.Embedding.from_pretrained(torch.zeros(*layer.weight.shape), freeze=False)
        self.kind, self.layer = output, layer
        if output == "hierarchical":
            self.path = nn.Buffer(torch.from_numpy(layer.tree.path))
            self.sign = nn.Buffer(torch.from_numpy(layer.tree.sign.astype(np.float32)))

    def noise(self, context: tg.Tensor) -> torch.Tensor | None:
        """The noise words (N, K) of a batch, on the CPU; None where the output layer has none."""
        if self.kind != "negative":
            return None
        drawn = self.layer.sample((len(context), self.layer.num_negatives), context.unsqueeze(1))
        return torch.from_numpy(drawn.numpy())

    def forward(self, centre: torch.Tensor, context: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        v = self.words(centre)
        if self.kind == "full":
            return F.cross_entropy(F.linear(v, self.output_vectors.weight), context)
        if self.kind == "hierarchical":
            sign = self.sign[context]
            scores = torch.bmm(self.output_vectors(self.path[context]), v.unsqueeze(2)).squeeze(2)
            return -(F.logsigmoid(scores * sign) * (sign != 0)).sum(1).mean()
        assert noise is not None
        index = torch.cat([context.unsqueeze(1), noise], 1)
        scores = torch.bmm(self.output_vectors(index), v.unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(1)).mean()


def scored(vectors: np.ndarray, corpus: Corpus, vocabulary: Any, seconds: float, epochs: int) -> dict[str, Any]:
    """What ``results.json`` of the program has."""
    return {
        "similarity": word_similarity(vectors, vocabulary, corpus.similar).score,
        "analogies": word_analogies(vectors, vocabulary, corpus.questions).score,
        "words_per_second": corpus.size * epochs / seconds,
        "train_seconds": round(seconds, 3),
    }


def by_torch(corpus: Corpus, o: Any) -> dict[str, Any]:
    """Adagrad on dense gradients, eager."""
    ours = program.SkipGram(corpus.vocabulary.counts, o.size, o.output, o.negative)
    model = SkipGram(ours, o.output).to(o.device)
    size = o.batch_size or (512 if o.output == "full" else 4096)
    passes = Passes(corpus, o.sample, size, lambda texts: skipgram_pairs(texts, o.window, dynamic=True), each=o.window + 1)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=o.lr)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / max(1, o.epochs), max(1, o.epochs - 1))
    begin, loss = clock(o), torch.zeros(())
    for _ in range(o.epochs):
        losses = []
        for batch in passes:
            centre, context = (torch.from_numpy(part.numpy()).to(o.device) for part in batch)
            noise = model.noise(batch[1])
            loss = model(centre, context, None if noise is None else noise.to(o.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        loss = torch.stack(losses).mean()
        fall.step()
    seconds = clock(o) - begin
    vectors = model.words.weight.detach().cpu().numpy()
    return {"loss": float(loss), **scored(vectors, corpus, corpus.vocabulary, seconds, o.epochs)}


def by_gensim(corpus: Corpus, o: Any) -> dict[str, Any]:
    """``gensim.models.Word2Vec`` on one thread, learning rate as it has it."""
    from gensim.models import Word2Vec

    if o.output == "full":
        raise ValueError("gensim has no full softmax: --only torch")
    words = np.array(corpus.vocabulary.tokens)
    texts = [
        words[stream[first : first + LONGEST]].tolist() for stream in corpus.streams for first in range(0, len(stream), LONGEST)
    ]
    tree = o.output == "hierarchical"
    begin = clock(o)
    model = Word2Vec(
        texts, vector_size=o.size, window=o.window, min_count=1, sg=1, hs=int(tree), sample=o.sample,
        negative=0 if tree else o.negative, ns_exponent=0.75, epochs=o.epochs, workers=1, seed=o.seed + 1,
    )  # fmt: skip
    seconds = clock(o) - begin
    return scored(model.wv.vectors, corpus, model.wv.key_to_index, seconds, o.epochs)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and measure. Results of gensim are named ``gensim_...``."""
    only = Option("only", "both", ("", ""), choices=("both", "torch", "gensim"))
    o = parsed([*program.OPTIONS, only], argv, epochs=10, quick_epochs=3)
    corpus = data(o, lambda **where: program.novels(o.titles, o.min_count, **where), program.grammar)
    made = by_torch(corpus, o) if o.only != "gensim" else {}
    if o.only == "gensim" or (o.only == "both" and o.output != "full" and find_spec("gensim")):
        made |= {f"gensim_{name}": value for name, value in by_gensim(corpus, o).items()}
    return made


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
