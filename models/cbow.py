"""word2vec, CBOW: the words around a place predict the word that stands there.

    h_t = 1/n Σ_{0 < |j| <= m} v_{w_{t+j}}          p(w_t | context) = exp(u_{w_t} · h_t) / Σ_w exp(u_w · h_t)
    loss = -Σ_t log p(w_t | context)

h is the mean of the rows v of the n words to both sides (n = 2m inside a text); where a window reaches over the end, or was drawn smaller than
m, there is a padding word, which the mean leaves out. The output layer is the full softmax above, negative sampling or hierarchical softmax,
as for ``models/skip_gram.py``, from which everything but the mean is taken. A text gives one example for each word where skip-gram has one
for each pair, so CBOW is several times faster, and does a little worse on rare words, whose vectors are only seen inside of means.

(Mikolov, Chen, Corrado and Dean, Efficient estimation of word representations in vector space, 2013.)

Data: six novels, 1.46 million words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tinygrad_ja as tg
from models.skip_gram import OPTIONS, Passes, conclude, grammar, novels, output_layer, train, word_table
from tinygrad_ja import nn
from tinygrad_ja.data.text import cbow_windows
from tinygrad_ja.training.experiment import Experiment

TITLE = {
    "en": "word2vec CBOW: the mean of the neighbours predicts the word (JDLA E certificate: word2vec)",
    "ja": "word2vec CBOW: 周りの単語の平均から中央の単語を予測する (E資格: word2vec)",
}


class CBOW(nn.Module):
    """The loss of contexts (N, 2m) that predict centres (N,). The word vectors are the first V rows of ``words.weight`` (V + 1, D); the
    number V is the padding."""

    def __init__(self, counts: Sequence[int], size: int, output: str = "negative", negative: int = 5) -> None:
        super().__init__()
        self.pad = len(counts)
        self.words = word_table(len(counts) + 1, size)
        self.output = output_layer(output, size, counts, negative)

    def mean(self, contexts: tg.Tensor) -> tg.Tensor:
        """h (N, D): the mean of the rows of those words of each context that are no padding."""
        there = (contexts != self.pad).float()
        rows = self.words(contexts) * there.unsqueeze(2)
        return rows.sum(1) / there.sum(1, keepdim=True).clamp(min=1.0)

    def forward(self, contexts: tg.Tensor, centre: tg.Tensor) -> tg.Tensor:
        return self.output(self.mean(contexts), centre)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, show neighbours, draw the map. Returns what ``results.json`` holds."""
    run = Experiment("cbow", TITLE, OPTIONS, argv, epochs=15, quick_epochs=6)
    options = run.options
    corpus = run.data(lambda **where: novels(options.titles, options.min_count, **where), grammar, "novels")
    model = CBOW(corpus.vocabulary.counts, options.size, options.output, options.negative).to(options.device)
    passes = Passes(
        corpus,
        options.sample,
        options.batch_size or (512 if options.output == "full" else 4096),
        lambda texts: cbow_windows(texts, options.window, pad=model.pad, dynamic=True),
        each=1,
        device=options.device,
    )
    return conclude(run, train(run, model, passes), corpus)


if __name__ == "__main__":
    main()
