"""The program ``doc2vec`` by gensim: the same reviews, sizes, passes and classifier; documents inferred by ``infer_vector``
with as many passes as the training has, as gensim does by default."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.systems.peer import clock, data, parsed
from models import doc2vec as program
from models.doc2vec import SPLITS


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, infer, classify. {} where gensim is not installed."""
    o = parsed(program.OPTIONS, argv, epochs=program.EPOCHS, quick_epochs=6)
    try:
        from gensim.models.doc2vec import Doc2Vec, TaggedDocument
    except ImportError:
        return {}
    reviews = data(o, lambda **where: program.sentiment(o.sentences, **where), program.made_up)
    kept = {split: np.flatnonzero(reviews[split].labels >= 0) for split in SPLITS}
    labels = {split: reviews[split].labels[kept[split]] for split in SPLITS}
    documents = [TaggedDocument(words, [number]) for number, words in enumerate(reviews["train"].sentences)]
    common = {
        "vector_size": o.size, "window": o.window, "negative": o.negative, "min_count": o.min_count, "sample": o.sample,
        "epochs": o.epochs, "workers": 1, "seed": o.seed + 1,
    }  # fmt: skip
    made: dict[str, Any] = {}
    features: dict[str, dict[str, np.ndarray]] = {}
    seconds = 0.0
    for kind, settings in (("dm", {"dm": 1, "dm_mean": 1}), ("dbow", {"dm": 0, "dbow_words": 1})):
        begin = clock(o)
        model = Doc2Vec(documents, **settings, **common)
        seconds += clock(o) - begin
        features[kind] = {
            split: np.stack([model.infer_vector(reviews[split].sentences[n], epochs=o.epochs) for n in kept[split]])
            for split in SPLITS
        }
    features["both"] = {split: np.concatenate([features["dm"][split], features["dbow"][split]], 1) for split in SPLITS}
    for kind, vectors in features.items():
        made[f"{kind}_accuracy"] = program.judged(vectors, labels).accuracy
    return made | {"train_seconds": round(seconds, 3)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
