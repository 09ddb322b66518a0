"""Three output layers for a large vocabulary, side by side: full softmax, negative sampling, hierarchical softmax.

With h the vector that comes in, w the right word, u the rows of the layer:

    full            -log p(w),  p(w) = exp(u_w · h) / Σ_{w'} exp(u_{w'} · h)                            V products for each example
    negative        -log σ(u_w · h) - Σ_{k=1..K} log σ(-u_{n_k} · h),  n_k ~ q,  q(n) ∝ count(n)^0.75   K + 1 products
    hierarchical    -log p(w),  p(w) = Π_{nodes on the way to w} σ(± u_node · h)                        about log2 V products

In the Huffman tree a word that is counted often has a short way, and the p(w) of all words sum to 1, since σ(x) + σ(-x) = 1 at every node.
Negative sampling gives no p(w); but where its loss is least, u_w · h = log p(w) - log (K q(w)) (Levy and Goldberg 2014), so that
p(w) ∝ q(w) exp(u_w · h) can be read from it and all three be compared by the perplexity of text they have not seen. That holds if the noise may
be the right word too, so here it may; word2vec leaves it out, and then the loss is least at the odds p(w) / (1 - p(w)) instead.

(Morin and Bengio, Hierarchical probabilistic neural network language model, 2005; Mikolov, Sutskever, Chen, Corrado and Dean, Distributed
representations of words and phrases and their compositionality, 2013; Levy and Goldberg, Neural word embedding as implicit matrix
factorization, 2014.)

Data: six novels, the words that occur at least 20 times. The same CBOW model learns with each layer, from the same initial vectors and from
examples that are drawn alike. The full softmax learns the perplexity itself, at a cost that grows with the
vocabulary; the other two learn something else that costs less, and the question is what that does to the word vectors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.cbow import CBOW
from models.skip_gram import OPTIONS, Corpus, FullSoftmax, Passes, grammar, novels, output_layer, speed, train, vectors_of
from tinygrad_ja import nn
from tinygrad_ja.data.text import cbow_windows, keep_probabilities, subsample
from tinygrad_ja.training.experiment import Experiment, Option, Result
from tinygrad_ja.training.metrics import word_similarity

TITLE = {
    "en": "full softmax, negative sampling, hierarchical softmax compared (JDLA E certificate: negative sampling)",
    "ja": "ソフトマックス、負例サンプリング、階層的ソフトマックスの比較 (E資格: 負例サンプリング)",
}
KINDS = ("full", "negative", "hierarchical")
NAMES = {
    "full": ("full softmax", "ソフトマックス"),
    "negative": ("negative sampling", "負例サンプリング"),
    "hierarchical": ("hierarchical softmax", "階層的ソフトマックス"),
}
_OTHER = {
    "min_count": Option("min_count", 20, ("rarer words are left out", "これより少ない単語は除く"), quick=10),
    "batch_size": Option("batch_size", 1024, ("examples a step", "1 回の例の数"), quick=512),
}
HELD_OUT = 0.02
"""Share of each text, its end, that is not trained on."""


# ---- formulas --------------------------------------------------------------------------------------


def by_formula(layer: nn.Module, h: np.ndarray, target: np.ndarray, negative: np.ndarray | None = None) -> float:
    """The mean loss as the formulas at the top say, word by word. negative (N, K): the words that were drawn."""
    sigma = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    u, total = layer.weight.detach().cpu().numpy().astype(np.float64), 0.0
    for i, (x, w) in enumerate(zip(h, target)):
        if isinstance(layer, nn.HierarchicalSoftmax):
            way = zip(layer.tree.path[w], layer.tree.sign[w])
            total -= sum(np.log(sigma(sign * (u[node] @ x))) for node, sign in way if sign)
        elif negative is not None:
            total -= np.log(sigma(u[w] @ x)) + sum(np.log(sigma(-(u[n] @ x))) for n in negative[i])
        else:
            total -= u[w] @ x - np.log(np.exp(u @ x).sum())
    return float(total / len(h))


def formula_error(kind: str, words: int = 50, size: int = 8, examples: int = 20) -> float:
    """How far the layer's loss is from ``by_formula``, for random vectors."""
    random = np.random.default_rng(0)
    layer: Any = output_layer(kind, size, random.integers(1, 100, words).tolist()).double()
    with tg.no_grad():
        layer.weight.copy_(tg.tensor(random.normal(size=tuple(layer.weight.shape))))
    h, target = random.normal(size=(examples, size)), random.integers(0, words, examples)
    if kind != "negative":
        return abs(layer(tg.tensor(h), tg.tensor(target)).item() - by_formula(layer, h, target))
    negative = layer.sample((examples, 5), tg.tensor(target).unsqueeze(1))
    loss = F.negative_sampling_loss(tg.tensor(h), tg.tensor(target), negative, layer.weight)
    return abs(loss.item() - by_formula(layer, h, target, negative.numpy()))


def log_prob(layer: Any, h: tg.Tensor, counts: Sequence[int]) -> tg.Tensor:
    """log p of all words (N, V): exact for the two softmaxes, p ∝ q exp(u · h) for negative sampling."""
    if isinstance(layer, nn.HierarchicalSoftmax):
        return layer.log_prob(h)
    scores = F.linear(h, layer.weight)
    if not isinstance(layer, FullSoftmax):
        scores = scores + layer.power * tg.tensor(counts, dtype=h.dtype, device=h.device).log()
    return F.log_softmax(scores, -1)


# ---- measuring -------------------------------------------------------------------------------------


def made_up() -> Corpus:
    """The sentences of the grammar as one text."""
    corpus = grammar()
    return corpus._replace(streams=[np.concatenate(corpus.streams)])


def held_out(corpus: Corpus, window: int, sample: float, limit: int = 8192) -> tuple[Corpus, tuple[tg.Tensor, tg.Tensor]]:
    """The corpus without the ends of its texts; contexts and centres from those ends, thinned out like the examples of the training."""
    cuts = [int(len(stream) * (1 - HELD_OUT)) for stream in corpus.streams]
    seed = tg.Generator().manual_seed(0)
    ends = subsample([t[cut:] for t, cut in zip(corpus.streams, cuts)], corpus.vocabulary.counts, sample, generator=seed)
    contexts, centres = cbow_windows(ends, window)
    rows = tg.randperm(len(centres), generator=seed)[:limit]
    rest = corpus._replace(streams=[stream[:cut] for stream, cut in zip(corpus.streams, cuts)])
    return rest, (contexts[rows], centres[rows])


def perplexity(model: CBOW, contexts: tg.Tensor, centres: tg.Tensor, counts: Sequence[int]) -> float:
    """exp(-mean log p(centre | context))."""
    device, total = model.words.weight.device, 0.0
    with tg.no_grad():
        for first in range(0, len(centres), 512):
            part = slice(first, first + 512)
            scores = log_prob(model.output, model.mean(contexts[part].to(device)), counts)
            total -= scores.gather(1, centres[part].to(device).unsqueeze(1)).sum().item()
    return float(np.exp(total / max(1, len(centres))))


def unigram_perplexity(centres: tg.Tensor, counts: Sequence[int], sample: float) -> float:
    """That of the words' frequencies in the thinned text, whatever the context."""
    share = np.array(counts) * keep_probabilities(counts, sample)
    return float(np.exp(-np.log(share / share.sum())[centres.numpy()].mean()))


def step_seconds(kind: str, words: int, size: int = 100, examples: int = 512) -> float:
    """Seconds of a loss and its gradients for a vocabulary of so many words with counts like 1 / rank; the fastest of three."""
    layer = output_layer(kind, size, [max(1, 10 * words // (rank + 1)) for rank in range(words)])
    h = tg.randn(examples, size, requires_grad=True)
    target = tg.randint(words, (examples,))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        layer.zero_grad()
        layer(h, target).backward()
        times.append(time.perf_counter() - begin)
    return min(times)


def draw(run: Experiment, sizes: Sequence[int], costs: dict[str, list[float]], perplexities: dict[str, float]) -> None:
    """``costs.png``: time of a step over the size of the vocabulary, and the perplexities."""
    label = {kind: run.words(*NAMES[kind]) for kind in KINDS}
    with run.figure("costs.png", 1, 2, size=(10.0, 4.2)) as (left, right):
        for kind in KINDS:
            left.loglog(sizes, [1000 * seconds for seconds in costs[kind]], marker="o", label=label[kind])
        left.set(
            xlabel=run.words("words V in the vocabulary", "語彙の大きさ V"), ylabel=run.words("milliseconds", "ミリ秒"),
            title=run.words("Loss and gradient of 512 examples", "512 例の損失と勾配にかかる時間"),
        )  # fmt: skip
        left.set_xticks(sizes, [f"{words:,}" for words in sizes], fontsize=9)
        left.set_xticks([], minor=True)
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:g}" if run.quick else "")
        left.legend(frameon=False)
        left.grid(alpha=0.3)
        colors = [f"C{number}" for number in range(len(KINDS))]
        bars = right.bar([label[kind] for kind in KINDS], [perplexities[kind] for kind in KINDS], color=colors, width=0.6)
        right.bar_label(bars, fmt="%.0f", label_type="center", color="white")
        level = perplexities["unigram"]
        note = run.words(f"word frequencies alone: {level:.0f}", f"単語の頻度だけ: {level:.0f}")
        right.axhline(level, color="#666666", linestyle="--", linewidth=1, label=note)
        right.legend(frameon=False)
        right.set(
            title=run.words("Perplexity of unseen text", "未知の文章のパープレキシティ"),
            ylim=(0, 1.25 * max(perplexities.values())),
        )
        right.tick_params(axis="x", labelsize=9)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Check the formulas, train with each layer, compare. Returns what ``results.json`` holds."""
    own = [_OTHER.get(option.name, option) for option in OPTIONS if option.name != "output"]
    run = Experiment("sampled_softmax", TITLE, own, argv, epochs=3, quick_epochs=1)
    options = run.options
    errors = {kind: formula_error(kind) for kind in KINDS}
    whole = run.data(lambda **where: novels(options.titles, options.min_count, **where), made_up, "novels")
    corpus, unseen = held_out(whole, options.window, options.sample)
    counts = corpus.vocabulary.counts
    perplexities = {"unigram": unigram_perplexity(unseen[1], counts, options.sample)}
    results = [
        Result(
            "unigram_perplexity", perplexities["unigram"], ("perplexity of frequencies", "頻度だけのパープレキシティ"), ".1f"
        )
    ]
    for kind in KINDS:
        print(f"-- {run.told(*NAMES[kind])}")
        tg.manual_seed(options.seed)
        model = CBOW(counts, options.size, kind, options.negative).to(options.device)
        if isinstance(model.output, nn.NegativeSampling):
            model.output.exclude_target = False  # Levy and Goldberg's p is that of noise drawn from all words

        def make(texts: list[tg.Tensor], pad: int = model.pad) -> tuple[tg.Tensor, ...]:
            return cbow_windows(texts, options.window, pad=pad, dynamic=True)

        passes = Passes(corpus, options.sample, options.batch_size, make, each=1, device=options.device)
        trainer = train(run, model, passes, folder=kind)
        perplexities[kind] = perplexity(model, *unseen, counts)
        similarity = word_similarity(vectors_of(model, corpus), corpus.vocabulary, corpus.similar)
        english, japanese = NAMES[kind]
        results += [
            Result(
                f"{kind}_perplexity", perplexities[kind], (f"{english}: perplexity", f"{japanese}: パープレキシティ"), ".1f"
            ),
            Result(f"{kind}_similarity", similarity.score, (f"{english}: similarity", f"{japanese}: 類似度"), ".3f"),
            Result(
                f"{kind}_words_per_second",
                speed(trainer, corpus),
                (f"{english}: words a second", f"{japanese}: 単語/秒"),
                ",.0f",
            ),
            Result(f"{kind}_formula_error", errors[kind], (f"{english}: off the formula by", f"{japanese}: 式との差"), ".1e"),
        ]
    sizes = (500, 1000, 2000) if run.quick else (1000, 2000, 4000, 8000, 16000, 32000)
    costs = {kind: [step_seconds(kind, words) for words in sizes] for kind in KINDS}
    draw(run, sizes, costs, perplexities)
    return run.finish(results, words=len(corpus.vocabulary), vocabulary_sizes=sizes, step_seconds=costs)


if __name__ == "__main__":
    main()
