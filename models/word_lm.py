"""A language model of words: how probable is a sentence, and which word comes next?

    P(w_1, ..., w_m) = Π_i P(w_i | w_1, ..., w_{i-1})
    h_t = tanh(W_x E[w_t] + W_h h_{t-1} + b)             (simple RNN; or an LSTM or GRU in its place)
    P(w_{t+1} | w_1 .. w_t) = softmax(W_out h_t + b_out)
    perplexity = exp(- 1/m Σ_i log P(w_i | w_1, ..., w_{i-1}))

The perplexity is the number of equally probable words among which the model hesitates. The baseline, a unigram model, knows only how often
each word occurs: P(w) = (count + 1) / (total + V). Words that are rare in the training text, and with them all that it lacks, are one word,
<unk>; the end of a line is the word <eos>. Perplexities compare only with the same vocabulary.

Mikolov, Karafiát, Burget, Černocký, Khudanpur: Recurrent neural network based language model, 2010. Zaremba, Sutskever, Vinyals: Recurrent
neural network regularization, 2014. Press, Wolf: Using the output embedding to improve language models, 2017 (--tied). The network and its
training by truncated BPTT are those of ``char_lm``.

Data: the validation part of WikiText-2 to learn from (0.2 million words; its last tenth chooses the epoch), the test part to measure on; or
a novel. By default an RNN and an LSTM of the same size are trained one after the other: both end far below the unigram model, the LSTM
below the RNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygrad_ja as tg
from models.char_lm import LAYERS, CarriedLoss, RecurrentLM, read, symbols, unigram_loss, validation_loss, write
from tinygrad_ja.data import BPTTLoader
from tinygrad_ja.data.datasets import Novels, WikiText2
from tinygrad_ja.data.datasets.synthetic import GrammarText
from tinygrad_ja.data.text import Vocabulary, WordTokenizer
from tinygrad_ja.training import EarlyStopping, Experiment, Option, Result, Trainer, Update
from tinygrad_ja.training.metrics import perplexity

TITLE = {
    "en": "words of Wikipedia: an RNN and an LSTM predict the next word, perplexity (JDLA E certificate: language model, RNN, LSTM)",
    "ja": "Wikipedia の単語: RNN と LSTM が次の単語を予測、パープレキシティ (E資格: 言語モデル、RNN、LSTM)",
}

OPTIONS = [
    Option("cell", "both", ("the recurrent layer; both: rnn, then lstm", "再帰層の種類。both は rnn と lstm"), choices=["both", *LAYERS]),
    Option("corpus", "wikitext2", ("the text", "テキスト"), choices=["wikitext2", *Novels.titles]),
    Option("min_count", 3, ("rarer words are <unk>", "これより少ない単語は <unk>")),
    Option("hidden", 200, ("units of the layer, and size of a word's vector", "ユニットの数、単語ベクトルの次元"), quick=64),
    Option("dropout", 0.5, ("share of the vectors E[w] and h that is dropped", "ベクトル E[w] と h を落とす割合"), quick=0.2, most=1.0),
    Option("tied", False, ("W_out is the table of word vectors E", "W_out を単語ベクトルの表 E と共有する")),
    Option("steps", 35, ("T, words of a piece", "T: 1 区間の単語数"), quick=20),
    Option("streams", 20, ("N, parts of the text side by side", "N: 並べて読むテキストの数")),
    Option("lr", 5e-3, ("learning rate of AdamW at the start", "AdamW の学習率 (はじめの値)")),
    Option("decay", 0.8, ("its factor after each epoch", "1 エポックごとに学習率に掛ける値")),
    Option("prompt", "", ("words to go on from (default: the first of the test)", "続きを書く語句 (既定値: テストの冒頭)")),
    Option("length", 60, ("words to write", "生成する単語数"), quick=20),
    Option("temperature", 0.8, ("of the sample", "サンプルの温度"), least=0.01),
]  # fmt: skip
WRITING = ("prompt", "length", "temperature", "cell")
"""Options that may differ when a run goes on."""

EPOCHS, QUICK_EPOCHS = 10, 3
QUICK_LINES = 800, 200
"""Lines to learn from and to test on under ``--quick``."""

SPECIALS = {"unk": "<unk>", "eos": "<eos>"}
Lines = list[list[str]]


def next_words(model: RecurrentLM, context: Sequence[int]) -> np.ndarray:
    """P(w | context) for all V words, (V,)."""
    return read(model, context)[0].softmax(-1).cpu().numpy()


def sentence_log_probability(model: RecurrentLM, numbers: Sequence[int], before: int) -> float:
    """log P(w_1, ..., w_m) = Σ_i log P(w_i | w_0, ..., w_{i-1}) of a sentence, where w_0 = ``before``, such as <eos>."""
    model.eval()
    device = model.output.weight.device
    x = tg.tensor(np.array([before, *numbers[:-1]], np.int64), device=device).unsqueeze(1)
    y = tg.tensor(np.array(numbers, np.int64), device=device).unsqueeze(1)
    with tg.no_grad():
        log_p = model(x, model.zeros(1))[0][:, 0].log_softmax(-1)
    return log_p.gather(1, y).sum().item()


# -- data


def wikitext(**where: Any) -> tuple[Lines, Lines]:
    """Lines to learn from and to test on: the validation and the test part of WikiText-2, which is cut into tokens already."""
    train, test = ([line.split() for line in WikiText2(split=split, **where).items] for split in ("valid", "test"))
    return train, test


def novel(title: str, **where: Any) -> tuple[Lines, Lines]:
    """The first 90 % of a novel's paragraphs and the rest, in lower case."""
    cut = WordTokenizer(lower=True)
    return split_90([cut(paragraph) for paragraph in Novels(title, **where).text.split("\n\n")])


def lines_of(corpus: str, quick: bool, **where: Any) -> tuple[Lines, Lines]:
    """What ``--corpus`` names; under ``--quick`` the first lines of it."""
    train, test = wikitext(**where) if corpus == "wikitext2" else novel(corpus, **where)
    return (train[: QUICK_LINES[0]], test[: QUICK_LINES[1]]) if quick else (train, test)


def grammar() -> tuple[Lines, Lines]:
    """Made-up sentences."""
    return split_90([line.split() for line in GrammarText(1000).items])


def split_90(lines: Lines) -> tuple[Lines, Lines]:
    """The first nine tenths and the rest."""
    border = len(lines) * 9 // 10
    return lines[:border], lines[border:]


def encoded(lines: Lines, vocabulary: Vocabulary) -> np.ndarray:
    """All lines as one sequence of numbers, each with <eos> at its end. Empty ones are left out."""
    return np.array([n for line in lines if line for n in vocabulary.encode(line, eos=True)], np.int64)


class Texts:
    """The numbers to learn from, to choose the epoch by, and to test on, with the vocabulary of the first."""

    def __init__(self, train: Lines, test: Lines, min_count: int) -> None:
        train, valid = split_90(train)
        self.vocabulary = Vocabulary(train, min_count=min_count, specials=SPECIALS)
        self.train, self.valid, self.test = (encoded(lines, self.vocabulary) for lines in (train, valid, test))
        self.test_lines = [line for line in test if len(line) > 10] or test

    def prompt(self, text: str) -> list[int]:
        """<eos> and the words of a prompt; without one, the first five known words that a line of the test begins with."""
        beginnings = [line[:5] for line in self.test_lines]
        familiar = [words for words in beginnings if all(word in self.vocabulary for word in words) and "<unk>" not in words]
        return [self.vocabulary.eos, *self.vocabulary.encode(text.split() or [*familiar, *beginnings][0])]

    @property
    def unknown(self) -> float:
        """The share of <unk> in the test."""
        return float((self.test == self.vocabulary.unk).mean())


# -- the run


def cells(name: str) -> list[str]:
    """The recurrent layers that ``--cell`` asks for."""
    return ["rnn", "lstm"] if name == "both" else [name]


def train_model(run: Experiment, texts: Texts, cell: str) -> tuple[RecurrentLM, list[dict[str, float]]]:
    """A model with the weights of its best epoch, and the rows of its training."""
    o = run.options
    tg.manual_seed(o.seed)
    model = RecurrentLM(len(texts.vocabulary), o.hidden, o.hidden, cell=cell, dropout=o.dropout, tied=o.tied).to(o.device)
    optimizer = tg.optim.AdamW(model.parameters(), lr=o.lr, weight_decay=0.01)
    measure = CarriedLoss(model, o.streams)
    settings = {name: value for name, value in run.keeping["settings"].items() if name not in WRITING}

    def validate() -> dict[str, float]:
        loss = validation_loss(model, texts.valid, o.streams, o.steps)
        return {"loss": loss, "perplexity": perplexity(loss)}

    trainer = Trainer(
        model,
        run.compiled(Update(measure, optimizer, clip_norm=1.0)),
        BPTTLoader(texts.train, o.streams, o.steps, drop_last=True, device=o.device),
        validate=validate,
        schedules=[tg.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)],
        stopping=EarlyStopping("valid_loss", patience=None, restore_best=True),
        parts={"state": measure},
        items=symbols,
        folder=o.out / cell,
        settings={**settings, "cell": cell},
    )
    trainer.on("epoch", lambda trainer: measure.forget())
    run.train(trainer)
    return model, trainer.history


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, test, predict and write. Returns the results."""
    run = Experiment("word_lm", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    o = run.options
    train, test = run.data(lambda **where: lines_of(o.corpus, run.quick, **where), grammar, o.corpus)
    texts = Texts(train, test, o.min_count)
    size = len(texts.vocabulary)
    print(run.told(f"{len(texts.train):,} words, {size:,} different ones", f"学習用 {len(texts.train):,} 語、語彙 {size:,} 語"))

    models, histories, results = {}, {}, []
    for cell in cells(o.cell):
        models[cell], histories[cell] = train_model(run, texts, cell)
        loss = validation_loss(models[cell], texts.test, o.streams, o.steps)
        label = (f"perplexity of the test, {cell.upper()}", f"テストのパープレキシティ、{cell.upper()}")
        results.append(Result(f"{cell}_perplexity", perplexity(loss), label, ".2f"))
    save_perplexities(run, histories, perplexity(unigram_loss(texts.train, texts.valid, size)))

    model = models[cell]
    context = texts.prompt(o.prompt)
    save_next_words(run, models, texts.vocabulary, context)
    written = save_texts(run, models, texts.vocabulary, context)
    ordered, shuffled = in_and_out_of_order(model, texts, o.seed)
    unigram = perplexity(unigram_loss(texts.train, texts.test, size))
    name = cell.upper()
    return run.finish(
        [
            *results,
            Result("unigram_perplexity", unigram, ("the same, unigram model", "同じく、ユニグラムモデル"), ".2f"),
            Result("log_p", ordered, (f"log P of 20 lines, {name}", f"20 行の log P の平均、{name}"), ".1f"),
            Result("log_p_shuffled", shuffled, ("the same, words shuffled", "同じく、語順をばらばらにして"), ".1f"),
            Result("vocabulary", size, ("words in the vocabulary", "語彙の単語数"), ",d"),
            Result("unknown", texts.unknown, ("<unk> in the test", "テスト中の <unk>"), ".1%"),
        ],
        texts=written,
    )


def save_perplexities(run: Experiment, histories: dict[str, list[dict[str, float]]], baseline: float) -> None:
    """Validation perplexity after each epoch, beside that of the unigram model."""
    words = run.words
    with run.figure("perplexity.png") as axes:
        for color, (cell, history) in zip(("#d94801", "#08519c"), histories.items()):
            rows = [row for row in history if "valid_perplexity" in row]
            axes.plot(
                [row["epoch"] for row in rows], [row["valid_perplexity"] for row in rows], "o-", color=color, label=cell.upper()
            )
        axes.axhline(baseline, color="gray", linestyle="--", label=words("unigram model", "ユニグラムモデル"))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(
            xlabel=words("epoch", "エポック"),
            ylabel=words("perplexity", "パープレキシティ"),
            title=words("Perplexity of the validation text", "検証テキストのパープレキシティ"),
        )
        axes.set_ylim(0, 1.3 * baseline)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def save_next_words(run: Experiment, models: dict[str, RecurrentLM], vocabulary: Vocabulary, context: list[int]) -> None:
    """What comes after ``context``: the whole distribution in ``next_CELL.txt``, its ten most probable words printed and in ``next.png``."""
    known = said(vocabulary, context)
    title = f"The next word after “{known}”", f"「{known}」の次の単語"
    with run.figure("next.png", 1, len(models), (4.6 * len(models), 3.6), run.words(*title).replace("$", r"\$")) as grid:
        for axes, (cell, model) in zip(np.atleast_1d(grid), models.items()):
            p = next_words(model, context)
            order = p.argsort()[::-1]
            whole = [f"{p[n]:.6f}  {vocabulary.tokens[n]}" for n in order]
            (run.options.out / f"next_{cell}.txt").write_text("\n".join(whole) + "\n", encoding="utf-8")
            best, others = order[:10], order[10:]
            rest = run.told(f"({len(others):,} others)", f"(ほか {len(others):,} 語)")
            print(f"\n{cell.upper()}: {run.told(*title)}", *whole[:10], f"{p[others].sum():.6f}  {rest}", sep="\n")
            axes.barh(range(len(best)), p[best], color="#08519c")
            axes.set_yticks(range(len(best)), [vocabulary.tokens[n].replace("$", r"\$") for n in best])
            axes.invert_yaxis()
            axes.set(title=cell.upper(), xlabel=run.words("probability", "確率"))
        right = max(axes.get_xlim()[1] for axes in np.atleast_1d(grid))
        for axes in np.atleast_1d(grid):
            axes.set_xlim(0, right)
            axes.locator_params(axis="x", nbins=5)


def save_texts(run: Experiment, models: dict[str, RecurrentLM], vocabulary: Vocabulary, context: list[int]) -> dict[str, str]:
    """How the models go on from ``context``, by argmax and by sampling, never with <unk>: printed, and in ``samples.txt``."""
    o = run.options
    texts = {}
    for cell, model in models.items():
        for name, temperature in (("argmax", 0.0), (f"temperature {o.temperature:g}", o.temperature)):
            made = write(model, context, o.length, temperature, o.seed, never=[vocabulary.unk])
            texts[f"{cell}, {name}"] = said(vocabulary, [*context, *made])
    parts = [f"==== {name} ====\n{text}\n" for name, text in texts.items()]
    (o.out / "samples.txt").write_text("\n".join(parts), encoding="utf-8")
    print("", *parts, sep="\n")
    return texts


def said(vocabulary: Vocabulary, numbers: Sequence[int]) -> str:
    """The words with spaces; a line ends where <eos> stands."""
    return " ".join(vocabulary.decode(numbers, keep_specials=True)).replace("<eos>", "\n").replace(" \n ", "\n").strip()


def in_and_out_of_order(model: RecurrentLM, texts: Texts, seed: int) -> tuple[float, float]:
    """log P of lines of the test (their first 40 words; the mean of 20), and of the same words shuffled: to a unigram model both are one."""
    vocabulary = texts.vocabulary
    stream = np.random.default_rng(seed)
    pairs = []
    for line in texts.test_lines[:20]:
        numbers = vocabulary.encode(line[:40])
        shuffled = stream.permutation(numbers).tolist()
        pairs.append([sentence_log_probability(model, order, vocabulary.eos) for order in (numbers, shuffled)])
    ordered, shuffled_too = np.mean(pairs, axis=0)
    return float(ordered), float(shuffled_too)
