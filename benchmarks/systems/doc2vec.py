"""The program ``doc2vec`` in PyTorch, from the same examples, the same noise words and the same initial vectors; and gensim's Doc2Vec at the
same settings, whose documents ``infer_vector`` infers with as many passes as the training has, as it does by default.

    python -m benchmarks.systems.doc2vec --only gensim
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import tinygrad_ja as tg
from benchmarks.systems.peer import clock, data, parsed
from models import doc2vec as program
from models.doc2vec import SPLITS, Reviews
from models.skip_gram import Corpus, Passes, corpus_of
from models.skip_gram import SkipGram as OurSkipGram
from tinygrad_ja.data.text import skipgram_pairs
from tinygrad_ja.training import Option

Features = dict[str, dict[str, np.ndarray]]
"""Vectors of the documents that have a label, by kind and split."""


def table_of(ours: Any) -> nn.Embedding:
    """The rows of a table of ours."""
    return nn.Embedding.from_pretrained(torch.from_numpy(ours.weight.detach().numpy().copy()), freeze=False)


class Model(nn.Module):
    """What the three have in common. ours: the module of ``models/``, whose initial weights, noise words and examples are taken over."""

    draws = 1
    """How often noise is drawn for a batch."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.ours = ours
        self.words, self.output_vectors = table_of(ours.words), table_of(ours.output)

    def noise(self, word: tg.Tensor) -> list[torch.Tensor]:
        """The noise words (N, K) of a batch, on the CPU, for each draw."""
        layer = self.ours.output
        drawn = [layer.sample((len(word), layer.num_negatives), word.unsqueeze(1)) for _ in range(self.draws)]
        return [torch.from_numpy(words.numpy()) for words in drawn]

    def loss(self, h: torch.Tensor, word: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Negative sampling: vectors (N, D) foretell words (N,)."""
        index = torch.cat([word.unsqueeze(1), noise], 1)
        scores = torch.bmm(self.output_vectors(index), h.unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(1)).mean()


class SkipGram(Model):
    """The words alone, for the mean of their vectors."""

    def forward(self, centre: torch.Tensor, context: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.loss(self.words(centre), context, noise)


class DBOW(Model):
    """As in ``models/doc2vec.py``."""

    draws = 2

    def __init__(self, ours: program.DBOW) -> None:
        super().__init__(ours)
        self.documents = table_of(ours.documents)

    def forward(
        self, document: torch.Tensor, word: torch.Tensor, centre: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        return self.loss(self.documents(document), word, first) + self.loss(self.words(centre), word, second)

    def infer(self, corpus: Corpus, o: Any) -> np.ndarray:
        """Vectors (documents, D): ``--steps`` steps down the gradient of the loss, from zero."""
        u, k = self.output_vectors.weight.detach(), self.ours.output.num_negatives
        noise = torch.tensor(np.array(corpus.vocabulary.counts) ** 0.75, dtype=u.dtype, device=u.device)
        noise = k * noise / noise.sum()
        vectors = []
        for begin in range(0, len(corpus.streams), 512):
            texts = corpus.streams[begin : begin + 512]
            share = np.stack([np.bincount(text, minlength=len(u)) / max(1, len(text)) for text in texts])
            a = torch.tensor(share, dtype=u.dtype, device=u.device)
            d = torch.zeros(len(texts), u.shape[1], device=u.device, requires_grad=True)
            for _ in range(o.steps):
                scores = d @ u.T
                (gradient,) = torch.autograd.grad(-(a * F.logsigmoid(scores) + noise * F.logsigmoid(-scores)).sum(), [d])
                d = (d - gradient).detach().requires_grad_()
            vectors.append(d.detach().cpu().numpy())
        return np.concatenate(vectors)


class DM(Model):
    """As in ``models/doc2vec.py``."""

    def __init__(self, ours: program.DM) -> None:
        super().__init__(ours)
        self.documents = table_of(ours.documents)

    def forward(
        self, document: torch.Tensor, contexts: torch.Tensor, centre: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        there = (contexts != self.ours.pad).float()
        words = (self.words(contexts) * there.unsqueeze(2)).sum(1)
        return self.loss((self.documents(document) + words) / (1 + there.sum(1, keepdim=True)), centre, noise)

    def infer(self, corpus: Corpus, o: Any) -> np.ndarray:
        """Vectors (documents, D): new rows are trained by plain SGD, all else is fixed."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.documents = nn.Embedding.from_pretrained(torch.zeros(len(corpus.streams), o.size, device=o.device), freeze=False)
        optimizer = torch.optim.SGD(self.documents.parameters(), lr=self.ours.rate * o.batch_size)
        passes = Passes(corpus, 1.0, o.batch_size, lambda texts: self.ours.examples(texts, o.window), each=1)
        descend(self, optimizer, passes, max(2, o.epochs), o)
        return self.documents.weight.detach().cpu().numpy()


def descend(model: Model, optimizer: torch.optim.Optimizer, passes: Passes, epochs: int, o: Any) -> None:
    """Passes over the examples, eager; the rate falls from pass to pass. The word that is to be foretold is the second column of skip-gram and
    PV-DBOW, the third of PV-DM."""
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / epochs, max(1, epochs - 1))
    for _ in range(epochs):
        for batch in passes:
            noise = model.noise(batch[2] if isinstance(model, DM) else batch[1])
            columns = [torch.from_numpy(column.numpy()) for column in batch]
            loss = model(*[column.to(o.device) for column in (*columns, *noise)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        fall.step()


def learn(model: Model, make: Callable[..., Any], corpus: Corpus, o: Any, each: int = 1) -> float:
    """``--epochs`` passes of Adagrad on dense gradients. Returns the seconds."""
    begin = clock(o)
    passes = Passes(corpus, o.sample, o.batch_size, make, each=each)
    descend(model, torch.optim.Adagrad(model.parameters(), lr=o.lr), passes, max(1, o.epochs), o)
    return clock(o) - begin


def by_torch(reviews: dict[str, Reviews], kept: dict[str, np.ndarray], o: Any) -> tuple[Features, float]:
    """The vectors, and the seconds of the trainings."""
    whole = corpus_of(reviews["train"].sentences, o.min_count)
    vocabulary, counts = whole.vocabulary, whole.vocabulary.counts
    sentences = {split: [reviews[split].sentences[n] for n in kept[split]] for split in SPLITS}
    texts = {
        s: [np.array([vocabulary[w] for w in words if w in vocabulary], np.int64) for words in sentences[s]] for s in SPLITS
    }
    words = SkipGram(OurSkipGram(counts, o.size, negative=o.negative)).to(o.device)
    seconds = learn(words, lambda given: skipgram_pairs(given, o.window, dynamic=True), whole, o, each=o.window + 1)
    table, other = (rows.weight.detach().cpu().numpy() for rows in (words.words, words.output_vectors))
    features = {
        "words": {split: program.mean_of_words(table, texts[split]) for split in SPLITS},
        "words_twice": {split: program.mean_of_words(np.concatenate([table, other], 1), texts[split]) for split in SPLITS},
    }
    kinds: dict[str, Any] = {"dm": DM, "dbow": DBOW}
    for kind in kinds if o.model == "both" else (o.model,):
        ours: Any = program.MODELS[kind](len(whole.streams), counts, o.size, o.negative)
        model = kinds[kind](ours).to(o.device)
        make = lambda given, ours=ours: ours.examples(given, o.window)  # noqa: E731
        seconds += learn(model, make, whole, o, each=o.window + 1 if kind == "dbow" else 1)
        features[kind] = {split: model.infer(whole._replace(streams=texts[split]), o) for split in SPLITS}
    return features, seconds


def by_gensim(reviews: dict[str, Reviews], kept: dict[str, np.ndarray], o: Any) -> tuple[Features, float]:
    """The same of ``gensim.models.Doc2Vec`` on one thread, learning rate as it has it."""
    from gensim.models.doc2vec import Doc2Vec, TaggedDocument

    documents = [TaggedDocument(words, [number]) for number, words in enumerate(reviews["train"].sentences)]
    common = {
        "vector_size": o.size, "window": o.window, "negative": o.negative, "min_count": o.min_count, "sample": o.sample,
        "epochs": o.epochs, "workers": 1, "seed": o.seed + 1,
    }  # fmt: skip
    features: Features = {}
    seconds = 0.0
    kinds = {"dm": {"dm": 1, "dm_mean": 1}, "dbow": {"dm": 0, "dbow_words": 1}}
    for kind in kinds if o.model == "both" else (o.model,):
        begin = clock(o)
        model = Doc2Vec(documents, **kinds[kind], **common)
        seconds += clock(o) - begin
        features[kind] = {
            split: np.stack([model.infer_vector(reviews[split].sentences[n], epochs=o.epochs) for n in kept[split]])
            for split in SPLITS
        }
    return features, seconds


def scored(made: tuple[Features, float], labels: dict[str, np.ndarray]) -> dict[str, float]:
    """What ``results.json`` of the program has: the right labels by the same classifier."""
    features, seconds = made
    if "dm" in features and "dbow" in features:
        features["both"] = {split: np.concatenate([features["dm"][split], features["dbow"][split]], 1) for split in SPLITS}
    scores = {f"{kind}_accuracy": program.judged(vectors, labels).accuracy for kind, vectors in features.items()}
    return scores | {"train_seconds": round(seconds, 3)}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, infer, classify. Results of gensim are named ``gensim_...``."""
    only = Option("only", "both", ("", ""), choices=("both", "torch", "gensim"))
    o = parsed([*program.OPTIONS, only], argv, epochs=program.EPOCHS, quick_epochs=6)
    reviews = data(o, lambda **where: program.sentiment(o.sentences, **where), program.made_up)
    kept = {split: np.flatnonzero(reviews[split].labels >= 0) for split in SPLITS}
    labels = {split: reviews[split].labels[kept[split]] for split in SPLITS}
    made = scored(by_torch(reviews, kept, o), labels) if o.only != "gensim" else {}
    if o.only == "gensim" or (o.only == "both" and find_spec("gensim")):
        made |= {f"gensim_{name}": value for name, value in scored(by_gensim(reviews, kept, o), labels).items()}
    return made


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
