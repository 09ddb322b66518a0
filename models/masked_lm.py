"""A masked language model: a Transformer encoder guesses hidden words from both sides, and what it has learnt serves another task.

    x̃: x with 15 % of its words chosen; of these 80 % become <mask>, 10 % a random word, 10 % stay
    h = Encoder(√d E[x̃] + PE)                                    (layers as in models/transformer.py, LayerNorm before each part)
    P(x_i | x̃) = softmax(E LayerNorm(GELU(W h_i + b)) + c)
    loss = -mean of log P(x_i | x̃) over the chosen i

Nobody labels anything for this. Afterwards the encoder is left as it is: the mean of h over a sentence is a feature vector, from which a linear
classifier tells positive from negative film reviews (SST, two classes); the same classifier on the features of the same network before it
learnt is the comparison. The rows of E are word vectors. (Devlin et al., BERT: Pre-training of deep bidirectional transformers for language
understanding, 2019; its second task, whether one sentence follows another, is left out, as is its fine-tuning.)

Data: the sentences of the Stanford Sentiment Treebank without their labels, of WikiText-2 (validation and test part) and of six novels, 2.3
million words. The features of the network judge about 65 % of the reviews rightly, those of the network before training 59 %.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.transformer import EncoderLayer, Size, TokenEmbedding, pad_mask
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, ShapeBatchSampler
from tinygrad_ja.data.datasets import Novels, SentimentTrees, WikiText2, synthetic
from tinygrad_ja.data.text import Vocabulary, WordTokenizer, mask_tokens
from tinygrad_ja.nn.evaluating import evaluating
from tinygrad_ja.training import Experiment, Option, Probe, Result, Trainer, Update, evaluate, linear_probe
from tinygrad_ja.viz.words import word_map

TITLE = {
    "en": "masked language model: pre-training by guessing hidden words, features reused (JDLA E certificate: BERT)",
    "ja": "マスク言語モデル: 隠した単語を当てる事前学習と、その特徴の再利用 (E資格: BERT)",
}
SIZES = {"tiny": Size(64, 128, 4, 2), "small": Size(128, 512, 4, 3), "base": Size(768, 3072, 12, 12)}
SPECIALS = {"pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}


# ---- the network ---------------------------------------------------------------------------------


class MaskedLM(nn.Module):
    """``forward(tokens (N, T), places (K,))``: scores (K, V) of the words at these places, counted through all N·T."""

    def __init__(self, words: int, size: Size, dropout: float = 0.1, pad: int = 0) -> None:
        super().__init__()
        self.pad = pad
        self.embedding = TokenEmbedding(words, size.d, dropout)
        self.layers = nn.ModuleList([EncoderLayer(size, dropout, pre_norm=True) for _ in range(size.layers)])
        self.norm = nn.LayerNorm(size.d)
        self.transform = nn.Sequential(nn.Linear(size.d, size.d), nn.GELU(), nn.LayerNorm(size.d))
        self.bias = nn.Parameter(tg.zeros(words))

    def encode(self, tokens: tg.Tensor) -> tg.Tensor:
        """h (N, T, d)."""
        h, mask = self.embedding(tokens), pad_mask(tokens, self.pad)
        for layer in self.layers:
            h = layer(h, mask)
        return self.norm(h)

    def forward(self, tokens: tg.Tensor, places: tg.Tensor) -> tg.Tensor:
        h = self.encode(tokens).flatten(0, 1)
        return F.linear(self.transform(F.embedding(places, h)), self.embedding.weight, self.bias)

    def features(self, tokens: tg.Tensor) -> tg.Tensor:
        """(N, T) -> (N, d): the mean of h over the words of each sentence."""
        words = (tokens != self.pad).float().unsqueeze(-1)
        return (self.encode(tokens) * words).sum(1) / words.sum(1)


# ---- the data ------------------------------------------------------------------------------------

LENGTHS = [(12,), (20,), (32,), (56,)]
"""Numbers of words to which sentences are filled up; longer ones are cut."""
LONGEST = LENGTHS[-1][0]


class Review(NamedTuple):
    """A sentence of SST; label 1 is positive, 0 negative, -1 neutral."""

    words: list[str]
    label: int


class Texts(NamedTuple):
    """sentences: to learn from. reviews: in the parts train, dev, test."""

    sentences: list[list[str]]
    reviews: list[list[Review]]


def real_texts(others: bool, root: Any, download: bool) -> Texts:
    """SST, and with ``others`` WikiText-2 and the novels; everything in lower case."""
    trees = [SentimentTrees(root, split, download=download) for split in ("train", "dev", "test")]
    reviews = [
        [Review([word.lower() for word in tree.words], polarity(int(tree.labels[-1]))) for tree in part.items] for part in trees
    ]
    sentences = [review.words for review in reviews[0]]
    if others:
        for split in ("valid", "test"):
            lines = [
                line.lower().split()
                for line in WikiText2(root, split, download=download).items
                if not line.strip().startswith("=")
            ]
            sentences += [sentence for line in lines for sentence in cut(line)]
        cutter = WordTokenizer(lower=True)
        for title in Novels.titles:
            sentences += cut(cutter(Novels(title, root, download=download).text))
    return Texts(sentences, reviews)


def polarity(label: int) -> int:
    """Of the five classes of SST: 1 for the upper two, 0 for the lower two, -1."""
    return -1 if label == 2 else int(label > 2)


def cut(words: Sequence[str]) -> list[list[str]]:
    """A text as sentences of 4 to LONGEST words, cut behind ``.``, ``!`` and ``?``, or where they become too long."""
    made: list[list[str]] = [[]]
    for word in words:
        made[-1].append(word)
        if word in ".!?" or len(made[-1]) == LONGEST:
            made.append([])
    return [sentence for sentence in made if len(sentence) >= 4]


def synthetic_texts() -> Texts:
    """Sentences of a tiny grammar; "positive" are those that begin with "the"."""
    lines = synthetic.GrammarText(1500, generator=tg.Generator().manual_seed(0)).items
    reviews = [Review(line.split(), int(line.startswith("the"))) for line in lines]
    return Texts([review.words for review in reviews[:1200]], [reviews[:1200], reviews[1200:1350], reviews[1350:]])


def filled(vocabulary: Vocabulary, sentences: Iterable[Sequence[str]], shapes: Sequence[int]) -> list[np.ndarray]:
    """The numbers of each sentence, filled up to its shape or cut."""
    made = []
    for words, shape in zip(sentences, shapes):
        numbers = vocabulary.encode(words[:LONGEST])
        made.append(np.array(numbers + [vocabulary.pad] * (LENGTHS[shape][0] - len(numbers))))
    return made


def loader_of(
    vocabulary: Vocabulary,
    sentences: Sequence[Sequence[str]],
    words: int,
    device: Any,
    seed: int,
    shuffle: bool = False,
) -> DataLoader:
    """Batches ``(masked (N, T), places (K,), hidden (K,))`` of about ``words`` words: what is read, where words are hidden, and which. K is a
    fifth of N·T, more than are chosen, so that a compiled step meets few shapes; the rest of ``hidden`` is -100, which does not count."""

    def collate(rows: Sequence[np.ndarray]) -> tuple[tg.Tensor, tg.Tensor, tg.Tensor]:
        masked, labels = mask_tokens(np.stack(rows), vocabulary)
        room = labels.size // 5
        places = np.flatnonzero(labels != -100)[:room]
        places = np.concatenate([places, np.zeros(room - len(places), np.int64)])
        hidden = np.where(np.arange(room) < (labels != -100).sum(), labels.reshape(-1)[places], -100)
        return tg.tensor(masked), tg.tensor(places), tg.tensor(hidden)

    sampler = ShapeBatchSampler([(min(len(sentence), LONGEST),) for sentence in sentences], LENGTHS, words, shuffle)
    rows = filled(vocabulary, sentences, sampler.shape_of.tolist())
    return DataLoader(
        rows, batch_sampler=sampler, collate_fn=collate, device=device, generator=tg.Generator().manual_seed(seed)
    )


# ---- pre-training --------------------------------------------------------------------------------


def measure(model: MaskedLM, batch: Any) -> dict[str, tg.Tensor]:
    """Cross-entropy of the hidden words, and the share of those that are guessed."""
    masked, places, hidden = batch
    scores = model(masked, places)
    count = (hidden != -100).sum().clamp(min=1)  # chance may hide no word of a small batch
    loss = F.cross_entropy(scores, hidden, ignore_index=-100, reduction="sum") / count
    return {"loss": loss, "accuracy": (scores.argmax(-1) == hidden).sum() / count}


def up_and_down(steps: int) -> Callable[[int], float]:
    """The factor of the learning rate: up to 1 in the first tenth of the steps, then down to 0."""
    warmup = max(1, steps // 10)
    return lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / (steps - warmup + 1)))


def learn(run: Experiment, model: MaskedLM, vocabulary: Vocabulary, texts: Texts) -> dict[str, float]:
    """Train; loss and accuracy on the sentences of SST's dev part, whose masks are always the same."""
    options = run.options
    loader = loader_of(vocabulary, texts.sentences, options.tokens, options.device, options.seed, shuffle=True)
    steps = max(1, options.epochs * len(loader))
    optimizer = tg.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = tg.optim.lr_scheduler.LambdaLR(optimizer, up_and_down(steps))
    dev = [review.words for review in texts.reviews[1]]
    held_out = list(loader_of(vocabulary, dev, options.tokens, options.device, seed=0))

    def validate() -> dict[str, float]:
        return evaluate(model, lambda batch: measure(model, batch), held_out, items=lambda batch: (batch[2] != -100).sum())

    update = Update(lambda batch: measure(model, batch), optimizer, schedule=schedule, clip_norm=1.0)
    run.train(Trainer(model, run.compiled(update), loader, validate=validate, **run.keeping))
    return validate()


# ---- what it is good for -------------------------------------------------------------------------


def features_of(model: MaskedLM, vocabulary: Vocabulary, sentences: Sequence[Sequence[str]], device: Any) -> tg.Tensor:
    """(N, d): the mean-pooled features of sentences."""
    made = []
    with evaluating(model), tg.no_grad():
        for first in range(0, len(sentences), 128):
            some = [words[:LONGEST] for words in sentences[first : first + 128]]
            made.append(model.features(vocabulary.encode_batch(some, batch_first=True, device=device)[0]))
    return tg.cat(made)


def guesses(model: MaskedLM, vocabulary: Vocabulary, sentence: str, count: int = 5) -> list[tuple[str, float]]:
    """The most probable words for ``<mask>`` in a sentence."""
    numbers = vocabulary.encode(sentence.split())
    device = model.bias.device
    with evaluating(model), tg.no_grad():
        place = tg.tensor([numbers.index(vocabulary.special("mask"))], device=device)
        values, words = model(tg.tensor([numbers], device=device), place).softmax(-1)[0].topk(count)
    return list(zip(vocabulary.decode(words, keep_specials=True), values.tolist()))


BLANKS = (
    "it 's a <mask> film .",
    "this is one of the best <mask> of the year .",
    "the <mask> is too long and the characters are dull .",
    "he opened the <mask> and went out .",
)
WORDS = (
    "good great best funny charming beautiful powerful touching fun bad worst dull boring stupid silly awful flat weak "
    "film movie comedy drama story director actor cast man woman boy girl king queen mother father he she they we".split()
)


def draw(run: Experiment, model: MaskedLM, vocabulary: Vocabulary, judged: Sequence[Probe], labels: np.ndarray) -> None:
    """The guesses for the blanks, the word vectors, and how the classifiers' scores fall apart."""
    with run.figure("guesses.png", len(BLANKS), 1, (6.4, 1.9 * len(BLANKS))) as panels:
        for axes, sentence in zip(panels, BLANKS):
            words, shares = zip(*guesses(model, vocabulary, sentence))
            axes.barh(range(len(words)), shares, color="#6baed6")
            axes.set_yticks(range(len(words)), words, parse_math=False)
            axes.invert_yaxis()
            axes.set_title(sentence, fontsize=10)
        panels[-1].set_xlabel(run.words("probability", "確率"))
    known = [word for word in WORDS if word in vocabulary] or list(vocabulary.tokens[len(SPECIALS) :][:40])
    vectors = F.normalize(model.embedding.weight.detach()[[vocabulary[word] for word in known]], dim=-1)
    with run.figure("words.png", size=(7.5, 6.0), title=run.words("the embedding's vectors", "埋め込みベクトル")) as axes:
        word_map(axes, vectors, known)
    titles = run.words("random weights", "学習前の重み"), run.words("pre-trained", "事前学習後")
    with run.figure("features.png", 1, 2, (9.0, 3.8)) as panels:
        for axes, one, title in zip(panels, judged, titles):
            for label, name in ((0, run.words("negative", "否定的")), (1, run.words("positive", "肯定的"))):
                axes.hist(one.outputs.cpu().numpy()[labels == label], bins=30, alpha=0.6, label=name)
            axes.set_title(f"{title}: {one.accuracy:.1%}")
            axes.set_xlabel(run.words("score of the classifier", "分類器のスコア"))
            axes.legend(frameon=False)


# ---- the program ---------------------------------------------------------------------------------

EPOCHS, QUICK_EPOCHS = 8, 2
OPTIONS = [
    Option("size", "small", ("size of the network", "ネットワークの大きさ"), quick="tiny", choices=list(SIZES)),
    Option(
        "corpus",
        "all",
        ("sst alone, or with WikiText-2 and novels", "sst のみか、WikiText-2 と小説も使うか"),
        quick="sst",
        choices=["sst", "all"],
    ),
    Option("lr", 2e-3, ("highest learning rate", "最大の学習率"), quick=5e-3, least=0.0),
    Option("dropout", 0.1, ("share of dropped elements", "ドロップアウトの割合"), quick=0.0, most=1.0),
    Option("tokens", 4096, ("words in a batch", "1 バッチの単語数"), quick=1024),
    Option("words", 12_000, ("words of the vocabulary at most", "語彙の最大単語数"), quick=3000),
]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Pre-train, judge the features, draw. Returns the results that are also written to ``results.json``."""
    run = Experiment("masked_lm", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    options = run.options
    others = options.corpus == "all"
    names = "sst, wikitext2, novels" if others else "sst"
    texts = run.data(lambda **where: real_texts(others, **where), synthetic_texts, names)
    vocabulary = Vocabulary(texts.sentences, min_count=2, max_size=options.words, specials=SPECIALS)
    model = MaskedLM(len(vocabulary), SIZES[options.size], options.dropout, vocabulary.pad).to(options.device)
    untrained = copy.deepcopy(model)
    values = learn(run, model, vocabulary, texts)

    parts = [[review for review in part if review.label >= 0] for part in texts.reviews]
    labels = [tg.tensor([float(review.label) for review in part], device=options.device) for part in parts]
    judged = []
    for network in (untrained, model):
        features = [features_of(network, vocabulary, [review.words for review in part], options.device) for part in parts]
        judged.append(linear_probe(features, labels))
    draw(run, model, vocabulary, judged, labels[2].cpu().numpy())
    filled_in = {sentence: [word for word, _ in guesses(model, vocabulary, sentence)] for sentence in BLANKS}
    for sentence, words in filled_in.items():
        print(sentence, " / ".join(words), sep="\n    ")
    usual = vocabulary.tokens[max(range(len(SPECIALS), len(vocabulary)), key=lambda number: vocabulary.counts[number])]
    held_out = [word for review in texts.reviews[1] for word in review.words if word in vocabulary]
    return run.finish(
        [
            Result("loss", values["loss"], ("loss of the hidden words, nats", "隠した単語の損失 (nat)"), ".3f"),
            Result("accuracy", values["accuracy"], ("hidden words guessed", "当てた隠し単語の割合"), ".1%"),
            Result(
                "usual",
                held_out.count(usual) / len(held_out),
                (f"always guessing {usual!r}", f"常に {usual!r} と答えた場合"),
                ".1%",
            ),
            Result(
                "sst", judged[1].accuracy, ("SST, two classes: pre-trained features", "SST 2 クラス: 事前学習した特徴"), ".1%"
            ),
            Result(
                "sst_random", judged[0].accuracy, ("SST, two classes: random features", "SST 2 クラス: 学習前の特徴"), ".1%"
            ),
        ],
        guesses=filled_in,
    )
