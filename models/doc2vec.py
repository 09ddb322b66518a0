"""doc2vec: a vector for every document, learned like those of words. PV-DM, PV-DBOW, and both side by side.

    PV-DM     h = (d + Σ_j v_{w_{t+j}}) / (1 + n)        p(w_t | document, context) = softmax(U h)_{w_t}
    PV-DBOW   h = d                                      p(w | document) = softmax(U h)_w     for each word w of the document

d is the document's row of a table, v the words' rows, n the number of words around the place t. In PV-DM (distributed memory) d joins the
context as what is known of the document beyond the window; in PV-DBOW (distributed bag of words) d alone has to foretell the words, in any
order. Instead of the softmax over all words both use negative sampling, as word2vec does. With PV-DBOW the words learn by skip-gram at the
same time and share U, which makes better vectors (Dai, Olah and Le 2015). "Both" is the two vectors joined.

A document that was not there in the training is inferred: everything that was learned stays fixed, and only a new row d is trained until it
foretells the words of the new document. Here the vectors of all documents, those of the classifier's training set too, are inferred in this
way, so that the classifier meets the same kind of vectors in the test. For PV-DBOW no noise needs to be drawn for that: with a(w) the share
of w among the words of the document, p(w) the probability that w is drawn as noise and k drawn words for each right one,

    loss(d) = Σ_w -a(w) log σ(u_w · d) - k p(w) log σ(-u_w · d)

where the noise may be the right word too, which the training rules out; the tape differentiates it with respect to d.

(Le and Mikolov, Distributed representations of sentences and documents, 2014; Dai, Olah and Le, Document embedding with paragraph vectors,
2015.)

Data: film reviews of the Stanford Sentiment Treebank, positive or negative (neutral ones only help to learn the words). A linear classifier
on document vectors is compared with one on the mean of the word vectors (skip-gram, same sentences, same size; v and u joined for "both").
The sentences are short and few, 8,544: about 75 % of the labels are right either way, 71 % by PV-DM, and a point is the standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.skip_gram import Corpus, Passes, SkipGram, corpus_of, output_layer, word_table
from tinygrad_ja import nn
from tinygrad_ja.data.datasets import SentimentTrees
from tinygrad_ja.data.text import cbow_windows, skipgram_pairs
from tinygrad_ja.errors import refusal
from tinygrad_ja.training import EarlyStopping, Probe, Trainer, Update, linear_probe
from tinygrad_ja.training.experiment import Experiment, Option, Result
from tinygrad_ja.training.metrics import nearest

TITLE = {
    "en": "doc2vec: PV-DM and PV-DBOW, vectors of documents (JDLA E certificate: doc2vec)",
    "ja": "doc2vec: PV-DM と PV-DBOW による文書ベクトル (E資格: doc2vec)",
}
OPTIONS = [
    Option("model", "both", ("which model", "モデル"), choices=("dm", "dbow", "both")),
    Option("size", 300, ("size D of a vector", "ベクトルの次元 D"), quick=32),
    Option("window", 5, ("words to each side, at most", "左右それぞれ最大の単語数")),
    Option("negative", 5, ("words drawn against each right one", "正解 1 語に対する負例の数")),
    Option("min_count", 2, ("rarer words are left out", "これより少ない単語は除く")),
    Option("sample", 1e-3, ("threshold t that thins out frequent words", "頻出語を間引くしきい値 t"), least=1e-12),
    Option("lr", 0.1, ("learning rate of Adagrad", "Adagrad の学習率"), least=1e-12),
    Option("batch_size", 1024, ("examples a step", "1 回の例の数")),
    Option("steps", 5, ("steps of the inference of PV-DBOW", "PV-DBOW の推論のステップ数"), later=True),
    Option("sentences", 8544, ("sentences of the training set at most", "訓練に使う文の数 (最大)"), quick=1500),
]  # fmt: skip
SPLITS = ("train", "dev", "test")
EPOCHS = 20


class Reviews(NamedTuple):
    """A split: sentences as lists of words, and labels: 1 positive, 0 negative, -1 neutral."""

    sentences: list[list[str]]
    labels: np.ndarray


def sentiment(sentences: int = 8544, **where: Any) -> dict[str, Reviews]:
    """The sentences of the treebank in lower case; five classes become two and neutral."""
    made = {}
    for split in SPLITS:
        data = SentimentTrees(split=split, **where)
        order = np.random.default_rng(0).permutation(len(data))[: sentences if split == "train" else len(data)]
        trees = [data[n] for n in order.tolist()]
        roots = np.array([int(tree.labels[-1]) for tree in trees])
        labels = np.where(roots == 2, -1, (roots > 2).astype(np.int64))
        made[split] = Reviews([[word.lower() for word in tree.words] for tree in trees], labels)
    return made


def made_up() -> dict[str, Reviews]:
    """Reviews by a few rules: praise and blame choose other words."""
    random: Any = np.random.default_rng(0)
    opinions = ("bad dull boring weak awful slow".split(), "good fine moving strong lovely clever".split())
    things, middle = "film story acting plot ending music".split(), "the is and a very with this its".split()
    made = {}
    for split, count in zip(SPLITS, (600, 150, 300)):
        labels = random.integers(0, 2, count)
        pick = lambda words, n: [words[at] for at in random.integers(0, len(words), n)]  # noqa: E731
        sentences = [[*pick(middle, 4), *pick(things, 3), *pick(opinions[label], 3)] for label in labels]
        made[split] = Reviews(sentences, labels)
    return made


# ---- the models ------------------------------------------------------------------------------------


class DBOW(nn.Module):
    """The loss of documents (N,) that predict words (N,). Centres (N,) of windows predict them too, as in skip-gram, so that the rows u know
    more of the words than a few short documents say."""

    def __init__(self, documents: int, counts: Sequence[int], size: int, negative: int = 5) -> None:
        super().__init__()
        self.documents = word_table(documents, size)
        self.words = word_table(len(counts), size)
        self.output = output_layer("negative", size, counts, negative)

    def forward(self, document: tg.Tensor, word: tg.Tensor, centre: tg.Tensor) -> tg.Tensor:
        return self.output(self.documents(document), word) + self.output(self.words(centre), word)

    def examples(self, texts: list[tg.Tensor], window: int) -> tuple[tg.Tensor, ...]:
        """Each word with its document, as often as it is in a window, with the centre of that."""
        words, document = tg.cat(texts), _document_of(texts)
        places = np.split(np.arange(len(words)), np.cumsum([len(text) for text in texts])[:-1])
        centres, contexts = skipgram_pairs(places, window, dynamic=True)
        return document[centres], words[contexts], words[centres]

    def infer(self, run: Experiment, corpus: Corpus) -> np.ndarray:
        """Vectors (documents, D) of the texts of ``corpus``: ``--steps`` steps down the gradient of the loss, from zero.

        The learning rate is 1, the steps are few: at its minimum the loss has a short text by heart.
        """
        u, negative = self.output.weight.detach(), self.output.num_negatives
        noise = tg.tensor(np.array(corpus.vocabulary.counts) ** 0.75, dtype=u.dtype, device=u.device)
        noise = negative * noise / noise.sum()
        vectors = []
        for first in range(0, len(corpus.streams), 512):
            texts = corpus.streams[first : first + 512]
            share = np.stack([np.bincount(text, minlength=len(u)) / max(1, len(text)) for text in texts])
            a = tg.tensor(share, dtype=u.dtype, device=u.device)
            d = tg.zeros(len(texts), u.shape[1], dtype=u.dtype, device=u.device, requires_grad=True)
            for _ in range(run.options.steps):
                (gradient,) = tg.grad(inference_loss(d, u, a, noise), [d])
                d = (d - gradient).detach().requires_grad_()
            vectors.append(d.detach().cpu().numpy())
        return np.concatenate(vectors)


def inference_loss(d: tg.Tensor, u: tg.Tensor, a: tg.Tensor, noise: tg.Tensor) -> tg.Tensor:
    """loss(d) of PV-DBOW, summed over the documents d (N, D). u (V, D): words; a (N, V): shares of the words; noise (V,): k p(w)."""
    scores = d @ u.T
    return -(a * F.logsigmoid(scores) + noise * F.logsigmoid(-scores)).sum()


class DM(nn.Module):
    """The loss of documents (N,) and contexts (N, 2m) that predict centres (N,). The word V is the padding."""

    rate = 0.1
    """Learning rate of inference, for each example."""

    def __init__(self, documents: int, counts: Sequence[int], size: int, negative: int = 5) -> None:
        super().__init__()
        self.pad = len(counts)
        self.documents = word_table(documents, size)
        self.words = word_table(len(counts) + 1, size)
        self.output = output_layer("negative", size, counts, negative)

    def forward(self, document: tg.Tensor, contexts: tg.Tensor, centre: tg.Tensor) -> tg.Tensor:
        there = (contexts != self.pad).float()
        words = (self.words(contexts) * there.unsqueeze(2)).sum(1)
        h = (self.documents(document) + words) / (1 + there.sum(1, keepdim=True))
        return self.output(h, centre)

    def examples(self, texts: list[tg.Tensor], window: int) -> tuple[tg.Tensor, ...]:
        """Each word with its document and its neighbours."""
        contexts, centres = cbow_windows(texts, window, pad=self.pad, dynamic=True)
        return _document_of(texts), contexts, centres

    def infer(self, run: Experiment, corpus: Corpus) -> np.ndarray:
        """Vectors (documents, D) of the texts of ``corpus``: new rows, from zero, are trained; all else is fixed and stays as it is.

        Small steps of plain SGD, with all words and as many passes as the training had: larger steps would learn a short text by heart.
        """
        options, old, fixed = run.options, self.documents, [p for p in self.parameters() if p.requires_grad]
        passes = max(2, options.epochs)
        for parameter in fixed:
            parameter.requires_grad_(False)
        table = tg.zeros(len(corpus.streams), options.size, device=options.device)
        self.documents = nn.Embedding.from_pretrained(table, freeze=False)
        make = lambda texts: self.examples(texts, options.window)  # noqa: E731
        batches = Passes(corpus, 1.0, options.batch_size, make, each=1, device=options.device)
        rate = self.rate * options.batch_size  # the loss is a mean over the batch
        optimizer = tg.optim.SGD(self.documents.parameters(), lr=rate)
        fall = tg.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / passes, total_iters=passes - 1)
        step = run.compiled(Update(lambda batch: self(*batch), optimizer))
        Trainer(self, step, batches, schedules=[fall], stopping=EarlyStopping("loss", patience=None), progress=False).run(
            epochs=passes
        )
        vectors = self.documents.weight.detach().cpu().numpy()
        self.documents = old
        for parameter in fixed:
            parameter.requires_grad_(True)
        return vectors


def _document_of(texts: list[tg.Tensor]) -> tg.Tensor:
    lengths = tg.tensor([len(text) for text in texts])
    return tg.arange(len(texts)).repeat_interleave(lengths)


MODELS = {"dm": DM, "dbow": DBOW}


def learn(run: Experiment, model: nn.Module, make: Any, corpus: Corpus, folder: str, each: int = 1) -> None:
    """``--epochs`` passes of Adagrad. make: from thinned texts to examples. folder: in ``--out``."""
    options = run.options
    passes = Passes(corpus, options.sample, options.batch_size, make, each=each, device=options.device)
    optimizer = tg.optim.Adagrad(model.parameters(), lr=options.lr)
    epochs = max(1, options.epochs)
    fall = tg.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / epochs, total_iters=max(1, epochs - 1))
    step = run.compiled(Update(lambda batch: model(*batch), optimizer))
    keeping = run.keeping | {"folder": options.out / folder}
    run.train(Trainer(model, step, passes, schedules=[fall], stopping=EarlyStopping("loss", patience=None), **keeping))


# ---- what the vectors are good for -----------------------------------------------------------------


def mean_of_words(vectors: np.ndarray, texts: Sequence[np.ndarray]) -> np.ndarray:
    """A bag of words as the mean of their vectors; zeros for an empty text."""
    return np.stack([vectors[text].mean(0) if len(text) else np.zeros_like(vectors[0]) for text in texts])


def judged(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> Probe:
    """What a linear classifier makes of document vectors."""
    x, y = ([tg.tensor(part[split].astype(np.float32)) for split in SPLITS] for part in (features, labels))
    return linear_probe(x, y)


def draw(run: Experiment, names: Sequence[str], scores: Sequence[Probe], labels: np.ndarray) -> None:
    """``accuracy.png``: the features compared; what the classifier on the last of them says of positive and negative reviews."""
    with run.figure("accuracy.png", 1, 2, size=(10.0, 4.0)) as (left, right):
        bars = left.barh(names, [100 * score.accuracy for score in scores], color=["#999999"] * 2 + ["C0"] * (len(names) - 2))
        left.bar_label(bars, fmt="%.1f", padding=3)
        left.invert_yaxis()
        left.set(xlim=(40, 100), xlabel="%", title=run.words("Right labels of the test", "テストの正解率"))
        about = run.words(f"Classifier on {names[-1]}", f"{names[-1]} の分類器の出力")
        outputs = scores[-1].outputs.numpy()
        for label, word in ((0, run.words("negative", "否定的")), (1, run.words("positive", "肯定的"))):
            right.hist(outputs[labels == label], bins=30, alpha=0.6, label=word)
        right.axvline(0, color="#666666", linewidth=1)
        right.set(title=about, xlabel="w · x + b", ylabel=run.words("reviews", "レビュー数"))
        right.legend(frameon=False)


def neighbour_lines(vectors: np.ndarray, sentences: Sequence[Sequence[str]], chosen: Sequence[int]) -> list[str]:
    """Documents, each with the two that are nearest."""
    lines = []
    for place in chosen:
        numbers, cosines = nearest(vectors, place, 2)
        lines.append(" ".join(sentences[place])[:110])
        lines += [f"    {cosine:.2f}  {' '.join(sentences[n])[:100]}" for n, cosine in zip(numbers, cosines)]
    return lines


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, infer, classify, compare. Returns what ``results.json`` holds."""
    run = Experiment("doc2vec", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=6)
    options = run.options
    reviews = run.data(lambda **where: sentiment(options.sentences, **where), made_up, "sst")
    whole = corpus_of(reviews["train"].sentences, options.min_count)
    vocabulary, counts = whole.vocabulary, whole.vocabulary.counts
    kept = {split: np.flatnonzero(reviews[split].labels >= 0) for split in SPLITS}
    labels = {split: reviews[split].labels[kept[split]] for split in SPLITS}
    if min(map(len, labels.values())) == 0:
        counts_of = {split: len(part) for split, part in labels.items()}
        rule = ("at least one in each part", "どの部分にも 1 つ以上")
        raise refusal("doc2vec", ("positive or negative reviews", "肯定的か否定的なレビュー"), counts_of, rule)
    sentences = {split: [reviews[split].sentences[n] for n in kept[split]] for split in SPLITS}
    texts = {
        s: [np.array([vocabulary[w] for w in words if w in vocabulary], np.int64) for words in sentences[s]] for s in SPLITS
    }

    features = {}
    words = SkipGram(counts, options.size, negative=options.negative).to(options.device)
    pairs = lambda given: skipgram_pairs(given, options.window, dynamic=True)  # noqa: E731
    learn(run, words, pairs, whole, "words", each=options.window + 1)
    table = words.words.weight.detach().cpu().numpy()
    features["words"] = {split: mean_of_words(table, texts[split]) for split in SPLITS}
    twice = np.concatenate([table, words.output.weight.detach().cpu().numpy()], 1)  # rows v and u
    features["words_twice"] = {split: mean_of_words(twice, texts[split]) for split in SPLITS}
    for kind in ("dm", "dbow") if options.model == "both" else (options.model,):
        model: Any = MODELS[kind](len(whole.streams), counts, options.size, options.negative).to(options.device)
        examples = lambda given, model=model: model.examples(given, options.window)  # noqa: E731
        learn(run, model, examples, whole, kind, each=options.window + 1 if kind == "dbow" else 1)
        features[kind] = {split: model.infer(run, whole._replace(streams=texts[split])) for split in SPLITS}
    if options.model == "both":
        features["both"] = {split: np.concatenate([features["dm"][split], features["dbow"][split]], 1) for split in SPLITS}

    scores = {kind: judged(features[kind], labels) for kind in features}
    titles = {
        "words": ("mean of word vectors v", "単語ベクトル v の平均"),
        "words_twice": ("mean of v and u (2D)", "v と u の平均 (2D 次元)"),
        "dm": ("PV-DM",) * 2,
        "dbow": ("PV-DBOW",) * 2,
        "both": ("PV-DM + PV-DBOW (2D)", "PV-DM + PV-DBOW (2D 次元)"),
    }
    draw(run, [run.words(*titles[kind]) for kind in scores], list(scores.values()), labels["test"])
    lines = neighbour_lines(list(features.values())[-1]["test"], sentences["test"], range(3))
    print("\n".join([run.told("Nearest reviews (cosine):", "近いレビュー (コサイン類似度):"), *lines]))
    results = [Result(f"{kind}_accuracy", score.accuracy, titles[kind], ".2%") for kind, score in scores.items()]
    majority = max(labels["test"].mean(), 1 - labels["test"].mean())
    results.append(Result("majority", float(majority), ("the commoner label", "多い方のラベル"), ".2%"))
    return run.finish(
        results, dev={kind: score.valid_accuracy for kind, score in scores.items()}, words=len(vocabulary), neighbours=lines
    )


if __name__ == "__main__":
    main()
