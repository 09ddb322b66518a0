"""word2vec, skip-gram: a word predicts the words around it, and its weights become its meaning.

    p(c | w) = exp(v_w · u_c) / Σ_{c'} exp(v_w · u_{c'})          loss = -Σ_t Σ_{0 < |j| <= m} log p(w_{t+j} | w_t)

v_w, a row of the table ``words``, is the vector of the word w as a centre; u_c, a row of the output layer, that of c as a neighbour. The sum
over all V words of the denominator is what makes it slow. Three output layers (``models/sampled_softmax.py`` compares them):

    full            softmax and cross-entropy as above, O(V) for each pair
    negative        -log σ(v_w · u_c) - Σ_{k=1..5} log σ(-v_w · u_{n_k}),   n_k drawn with probability ∝ count^0.75
    hierarchical    -Σ_{nodes on the way to c} log σ(± v_w · u_node) in a Huffman tree, O(log V)

Frequent words are thinned out (each occurrence of a word of relative frequency f stays with probability √(t/f)) and the window of each centre
is drawn from 1 to m, as in the papers. Those gradients come from the tape; steps are of Adagrad, which keeps a step size for each
weight: a row that is not in a batch has gradient 0 and stays where it is, so a rare word learns as fast as a frequent one.

(Mikolov, Chen, Corrado and Dean, Efficient estimation of word representations in vector space, 2013; Mikolov, Sutskever, Chen, Corrado and
Dean, Distributed representations of words and phrases and their compositionality, 2013; Duchi, Hazan and Singer, Adaptive subgradient
methods, 2011.)

Data: six novels, 1.46 million words. Neighbours of "whale" are other whales, those of "monday" other days; the rank correlation with how
similar people find 179 pairs of words (WordSim-353) is low, since a million words are few; gensim is beside it in docs/models/skip_gram.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data.datasets import Analogies, Novels, WordSim353
from tinygrad_ja.data.datasets.synthetic import GrammarText
from tinygrad_ja.data.text import Vocabulary, WordTokenizer, keep_probabilities, skipgram_pairs, subsample
from tinygrad_ja.training import EarlyStopping, Trainer, Update
from tinygrad_ja.training.experiment import Experiment, Option, Result
from tinygrad_ja.training.metrics import nearest, word_analogies, word_similarity
from tinygrad_ja.viz import word_map

TITLE = {
    "en": "word2vec skip-gram: a word predicts its neighbours (JDLA E certificate: word2vec, negative sampling)",
    "ja": "word2vec skip-gram: 単語から周りの単語を予測する (E資格: word2vec、負例サンプリング)",
}

OPTIONS = [
    Option("output", "negative", ("output layer", "出力層"), choices=("full", "negative", "hierarchical")),
    Option("size", 100, ("size D of a word vector", "単語ベクトルの次元 D"), quick=50),
    Option("window", 5, ("words to each side, at most", "左右それぞれ最大の単語数")),
    Option("negative", 5, ("words drawn against each right one", "正解 1 語に対する負例の数")),
    Option("min_count", 5, ("rarer words are left out", "これより少ない単語は除く")),
    Option("sample", 1e-3, ("threshold t that thins out frequent words", "頻出語を間引くしきい値 t"), least=1e-12),
    Option("lr", 0.1, ("learning rate of Adagrad", "Adagrad の学習率"), least=1e-12),
    Option("batch_size", 0, ("examples a step (0: 4096, with --output full 512)", "1 回の例の数 (0: 4096、full では 512)"), 1024, least=0),
    Option("titles", 6, ("how many of the novels", "使う小説の数"), quick=1),
]  # fmt: skip

SHOWN = ("king", "whale", "ship", "london", "happy", "father", "monday", "said")
GROUPS: tuple[tuple[str, ...], ...] = (
    ("father", "mother", "brother", "sister", "son", "daughter", "uncle", "aunt", "wife", "husband"),
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    ("ship", "boat", "sea", "whale", "sail", "deck", "captain", "crew", "harpooneer"),
    ("two", "three", "four", "five", "six", "seven", "eight", "ten", "twenty"),
    ("london", "paris", "england", "france", "russia", "moscow", "petersburg"),
    ("said", "cried", "replied", "answered", "asked", "exclaimed", "whispered"),
    ("eyes", "face", "lips", "hands", "arms", "head", "hair", "cheeks"),
    ("happy", "glad", "sorry", "angry", "sad", "miserable", "ashamed"),
)
_GRAMMAR_GROUPS = (
    ("dog", "cat", "bird", "child", "teacher", "horse"),
    ("sees", "likes", "follows", "finds", "calls"),
    ("garden", "house", "tree", "river", "school"),
    ("small", "old", "quick", "red"),
)


class Corpus(NamedTuple):
    """Texts as numbers of words, and what word vectors are judged by. similar: (word, word, score). questions: a is to b as c is to d."""

    streams: list[np.ndarray]
    vocabulary: Vocabulary
    similar: Sequence[tuple[str, str, float]]
    questions: Sequence[tuple[str, str, str, str]]

    @property
    def size(self) -> int:
        """Words in all."""
        return sum(len(stream) for stream in self.streams)


def corpus_of(texts: Sequence[Sequence[str]], min_count: int, similar: Any = (), questions: Any = ()) -> Corpus:
    """Texts as lists of words; words that occur less than ``min_count`` times are left out, as if they were not there."""
    vocabulary = Vocabulary(texts, min_count=min_count, specials={})
    streams = [np.array([vocabulary[word] for word in text if word in vocabulary], np.int64) for text in texts]
    lower = [(a.lower(), b.lower(), score) for a, b, score in similar]
    return Corpus(streams, vocabulary, lower, [tuple(word.lower() for word in question) for question in questions])


def novels(titles: int = 6, min_count: int = 5, **where: Any) -> Corpus:
    """The novels, each one stream of words in lower case without punctuation; WordSim-353 and the analogies."""
    tokenizer = WordTokenizer(lower=True)
    chosen = Novels.titles[-titles:]
    texts = [tokenizer(Novels(title, **where).text.replace("_", " ")) for title in chosen]
    words = [[token for token in text if token[0].isalpha()] for text in texts]
    return corpus_of(words, min_count, WordSim353(**where), Analogies(**where))


def grammar() -> Corpus:
    """Made-up sentences; two words are similar if the grammar has them in one place."""
    sentences = GrammarText(4000, generator=tg.Generator().manual_seed(0)).items
    group_of = {word: group for group in _GRAMMAR_GROUPS for word in group}
    similar = [(a, b, 10.0 * (group_of[a] is group_of[b])) for a in group_of for b in group_of if a < b]
    return corpus_of([[word for word in sentence.split() if word.isalpha()] for sentence in sentences], 1, similar)


# ---- the model -----------------------------------------------------------------------------------


class FullSoftmax(nn.Module):
    """-log softmax(U h)_target, meaned over the batch; U (V, D) starts at zero like those of the other output layers."""

    def __init__(self, size: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(tg.zeros(words, size))

    def forward(self, h: tg.Tensor, target: tg.Tensor) -> tg.Tensor:
        return F.cross_entropy(F.linear(h, self.weight), target)


def output_layer(kind: str, size: int, counts: Sequence[int], negative: int = 5) -> nn.Module:
    """The layer that makes a loss of vectors (N, D) and the words (N,) that they should predict."""
    if kind == "full":
        return FullSoftmax(size, len(counts))
    if kind == "negative":
        return nn.NegativeSampling(size, counts, num_negatives=negative, power=0.75)
    return nn.HierarchicalSoftmax(size, counts)


def word_table(rows: int, size: int) -> nn.Embedding:
    """A table whose rows start uniform in ± 1 / (2 D), as in the original program."""
    table = nn.Embedding(rows, size)
    nn.init.uniform_(table.weight, -0.5 / size, 0.5 / size)
    return table


class SkipGram(nn.Module):
    """The loss of centres (N,) that predict contexts (N,). The word vectors are the rows of ``words.weight`` (V, D)."""

    def __init__(self, counts: Sequence[int], size: int, output: str = "negative", negative: int = 5) -> None:
        super().__init__()
        self.words = word_table(len(counts), size)
        self.output = output_layer(output, size, counts, negative)

    def forward(self, centre: tg.Tensor, context: tg.Tensor) -> tg.Tensor:
        return self.output(self.words(centre), context)


# ---- training ------------------------------------------------------------------------------------


class Passes:
    """Batches of examples, drawn anew for each pass over the texts: words thinned out, windows drawn, examples shuffled.

    make: from thinned texts to tensors with one row for each example. What does not fill a batch is left out.
    """

    def __init__(self, corpus: Corpus, sample: float, batch_size: int, make: Any, each: float, device: str = "cpu") -> None:
        self.corpus, self.sample, self.batch_size, self.make, self.device = corpus, sample, batch_size, make, device
        counts = np.array(corpus.vocabulary.counts)
        self._expected = int(counts @ keep_probabilities(counts, sample) * each)

    def __len__(self) -> int:
        """About how many batches there are."""
        return max(1, self._expected // self.batch_size)

    def __iter__(self) -> Iterator[tuple[tg.Tensor, ...]]:
        counts = self.corpus.vocabulary.counts
        columns = self.make(subsample(self.corpus.streams, counts, self.sample))
        order = tg.randperm(len(columns[0]))
        size = min(self.batch_size, len(order))
        for first in range(0, len(order) - size + 1, max(size, 1)):
            rows = order[first : first + size]
            yield tuple(column[rows].to(self.device) for column in columns)


def train(run: Experiment, model: nn.Module, passes: Passes, folder: str = "") -> Trainer:
    """Adagrad with a rate that falls in equal steps from pass to pass; after each pass the similarity is measured. folder: in ``--out``."""
    options, corpus = run.options, passes.corpus
    optimizer = tg.optim.Adagrad(model.parameters(), lr=options.lr)
    epochs = max(1, options.epochs)
    fall = tg.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / epochs, total_iters=max(1, epochs - 1))

    def validate() -> dict[str, float]:
        return {"similarity": word_similarity(vectors_of(model, corpus), corpus.vocabulary, corpus.similar).score}

    update = Update(lambda batch: model(*batch), optimizer)
    trainer = Trainer(
        model,
        run.compiled(update),
        passes,
        validate=validate,
        schedules=[fall],
        stopping=EarlyStopping("loss", patience=None),
        **(run.keeping | {"folder": options.out / folder}),
    )
    run.train(trainer)
    return trainer


def vectors_of(model: Any, corpus: Corpus) -> np.ndarray:
    """The word vectors, (V, D)."""
    return model.words.weight.detach().cpu().numpy()[: len(corpus.vocabulary)]


# ---- what came out -------------------------------------------------------------------------------


def neighbour_lines(vectors: np.ndarray, corpus: Corpus, words: Sequence[str], count: int = 6) -> list[str]:
    """For each word that is known a line: itself and its nearest ones."""
    tokens = corpus.vocabulary.tokens
    known = [word for word in words if word in corpus.vocabulary]
    lines = []
    for word in known:
        numbers, cosines = nearest(vectors, corpus.vocabulary[word], min(count, len(tokens) - 1))
        lines.append(f"{word:<10}" + "  ".join(f"{tokens[n]} {cosine:.2f}" for n, cosine in zip(numbers, cosines)))
    return lines


def draw_map(run: Experiment, vectors: np.ndarray, corpus: Corpus, groups: Sequence[Sequence[str]]) -> None:
    """``words.png``: groups of words on the plane in which they differ most."""
    found = [(word, group) for group, words in enumerate(groups) for word in words if word in corpus.vocabulary]
    if not found:
        return
    chosen = vectors[[corpus.vocabulary[word] for word, _ in found]]
    unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    with run.figure(
        "words.png", size=(8.5, 6.5), title=run.words("Word vectors on a plane", "平面に写した単語ベクトル")
    ) as axes:
        word_map(axes, unit, [word for word, _ in found], [group for _, group in found])


def speed(trainer: Trainer, corpus: Corpus) -> float:
    """Words of the text that the training passed over in a second."""
    return corpus.size * trainer.epoch / trainer.history[-1]["seconds"] if trainer.history else 0.0


def conclude(run: Experiment, trainer: Trainer, corpus: Corpus) -> dict[str, Any]:
    """Neighbours, picture, table."""
    vectors = vectors_of(trainer.model, corpus)
    real = run.source != "synthetic"
    lines = neighbour_lines(vectors, corpus, SHOWN if real else [group[0] for group in _GRAMMAR_GROUPS])
    print("\n".join([run.told("Nearest words (cosine):", "近い単語 (コサイン類似度):"), *lines]))
    draw_map(run, vectors, corpus, GROUPS if real else _GRAMMAR_GROUPS)
    similarity = word_similarity(vectors, corpus.vocabulary, corpus.similar)
    loss = trainer.history[-1]["loss"] if trainer.history else float("nan")  # --epochs 0
    results = [
        Result("loss", loss, ("loss of the last pass", "最後の 1 周の損失")),
        Result("similarity", similarity.score, ("similarity, Spearman", "類似度 (順位相関)"), ".3f"),
        Result("similarity_pairs", similarity.covered, ("pairs of words", "単語の組"), "d"),
        Result("words_per_second", speed(trainer, corpus), ("words a second", "1 秒あたりの単語"), ",.0f"),
    ]
    analogies = word_analogies(vectors, corpus.vocabulary, corpus.questions)
    if analogies.covered:
        results.append(Result("analogies", analogies.score, ("right analogies", "正しい類推"), ".2%"))
        results.append(Result("analogy_questions", analogies.covered, ("questions", "問題数"), "d"))
    return run.finish(results, words=len(corpus.vocabulary), corpus_words=corpus.size, neighbours=lines)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, show neighbours, draw the map. Returns what ``results.json`` holds."""
    run = Experiment("skip_gram", TITLE, OPTIONS, argv, epochs=10, quick_epochs=3)
    options = run.options
    corpus = run.data(lambda **where: novels(options.titles, options.min_count, **where), grammar, "novels")
    model = SkipGram(corpus.vocabulary.counts, options.size, options.output, options.negative).to(options.device)
    passes = Passes(
        corpus,
        options.sample,
        options.batch_size or (512 if options.output == "full" else 4096),
        lambda texts: skipgram_pairs(texts, options.window, dynamic=True),
        each=options.window + 1,
        device=options.device,
    )
    return conclude(run, train(run, model, passes), corpus)


if __name__ == "__main__":
    main()
