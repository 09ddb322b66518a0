"""Sequence to sequence: one RNN reads a sentence into its last state, a second RNN writes another sentence from that state.

    encoder   h_t = f(E x_t, h_{t-1}),  h_0 = 0                  t = 1 .. S
    decoder   s_0 = h_S,  s_t = f(E' y_{t-1}, s_{t-1})           y_0 = BOS, t = 1 .. T+1
              P(y_t | y_1 .. y_{t-1}, x) = softmax(W s_t + b)    y_{T+1} = EOS

Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks", 2014 (LSTM, the source reversed); Cho et al., "Learning
Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", 2014 (GRU; each step sees h_S, as by ``--peeky``).
f: ``--cell lstm``, ``gru`` or ``rnn``.

In training y_{t-1} is the right word with the probability ``--teacher-forcing``, else the word that the decoder itself found most probable.
Sentences of different lengths are packed, so the encoder computes nothing for padding and h_S is the state after a sentence's own last word.

Data: sums ("16+75" to "91") and dates ("september 27, 1994" to "1994-09-27") of ゼロから作るDeep Learning 2, read as characters; and
50,000 English-Japanese sentences of the Tanaka corpus, read as words, those that occur once being UNK.
What to expect: sums need ``--reverse`` (near the end of the reading stands what the writing begins with) and ``--peeky``; then they are right.
A long sentence does not fit into one vector: that is seen in the last picture, and is what models/attention.py is about.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader
from tinygrad_ja.data.datasets import Addition, Dates, SmallParallelEnJa, synthetic
from tinygrad_ja.data.text import PairBatch, Vocabulary, pair_batch, pair_loader
from tinygrad_ja.errors import refusal
from tinygrad_ja.nn.decoding import beam_search, greedy_search, sample
from tinygrad_ja.nn.evaluating import evaluating
from tinygrad_ja.nn.utils.rnn import PackedSequence, pad_packed_sequence
from tinygrad_ja.training import EarlyStopping, Experiment, Option, Result, Trainer, Update, evaluate
from tinygrad_ja.training.metrics import bleu

TITLE = {
    "en": "an RNN encoder and an RNN decoder: sums, dates, translation (JDLA E certificate: Seq2Seq)",
    "ja": "RNN のエンコーダとデコーダ: 足し算、日付、翻訳 (E資格: Seq2Seq)",
}

RNNS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
State = dict[str, Any]  # what the decoder needs from one word to the next; the first axis of its Tensors is the batch


# ---- the architecture ----------------------------------------------------------------------------


def run_rnn(rnn: nn.Module, x: Any, hidden: Sequence[tg.Tensor] | None = None) -> tuple[Any, list[tg.Tensor]]:
    """A layer over (T, N, D), or packed: outputs, and the last state as [h] or [h, c], each (N, H), two directions added."""
    first = None if hidden is None else [part.unsqueeze(0) for part in hidden]
    output, last = rnn(x, first if first is None or len(first) > 1 else first[0])
    return output, [part.sum(0) for part in (last if isinstance(last, tuple) else (last,))]


class Encoder(nn.Module):
    """Packed words -> the output of every step (N, S, H), the last state, and where padding is (N, S), None where there is none."""

    def __init__(self, words: int, embed: int, hidden: int, cell: str, dropout: float = 0.0, both_ways: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embed)
        self.dropout = nn.Dropout(dropout)
        self.rnn = RNNS[cell](embed, hidden, bidirectional=both_ways, merge="sum")

    def forward(self, source: PackedSequence) -> tuple[tg.Tensor, list[tg.Tensor], tg.Tensor | None]:
        x = self.dropout(self.embedding(source.data))
        packed, last = run_rnn(self.rnn, PackedSequence(x, *source[1:]))
        outputs, lengths = pad_packed_sequence(packed, batch_first=True)
        longest = outputs.shape[1]
        padding = (tg.arange(longest) >= lengths.unsqueeze(1)).to(outputs.device) if lengths.min() < longest else None
        return outputs, last, padding


class Decoder(nn.Module):
    """Words (T, N) and a state -> scores of the next words (T, N, V), and the state behind them."""

    def __init__(self, words: int, embed: int, hidden: int, cell: str, dropout: float = 0.0, peeky: bool = False) -> None:
        super().__init__()
        self.peeky = peeky
        self.embedding = nn.Embedding(words, embed)
        self.dropout = nn.Dropout(dropout)
        self.rnn = RNNS[cell](embed + hidden * peeky, hidden)
        self.affine = nn.Linear(hidden + hidden * peeky, words)

    def start(self, outputs: tg.Tensor, last: list[tg.Tensor], padding: tg.Tensor | None) -> State:
        """The state before the first word."""
        return {"hidden": last, "sentence": last[0]}

    def forward(self, words: tg.Tensor, state: State) -> tuple[tg.Tensor, State]:
        x = self.dropout(self.embedding(words))
        sentence = state["sentence"].expand(len(words), -1, -1)
        if self.peeky:
            x = tg.cat([sentence, x], dim=2)
        s, hidden = run_rnn(self.rnn, x, state["hidden"])
        if self.peeky:
            s = tg.cat([sentence, s], dim=2)
        return self.affine(self.dropout(s)), {**state, "hidden": hidden}


class Seq2seq(nn.Module):
    """Encoder and decoder. ``teacher_forcing``: with this probability the decoder is given the right word, in training."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, teacher_forcing: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.decoder, self.teacher_forcing = encoder, decoder, teacher_forcing

    def read(self, source: PackedSequence) -> State:
        """The decoder's first state."""
        return self.decoder.start(*self.encoder(source))

    def step(self, words: tg.Tensor, state: State) -> tuple[tg.Tensor, State]:
        """One word for each sentence, (N,) -> scores (N, V), as ``nn.decoding`` wants it."""
        scores, state = self.decoder(words.unsqueeze(0), state)
        return scores[0], state

    def forward(self, source: PackedSequence, given: tg.Tensor) -> tg.Tensor:
        """given: BOS and the right words (T, N). Returns the scores of the words that follow, (T, N, V)."""
        state = self.read(source)
        if not self.training or self.teacher_forcing >= 1:
            return self.decoder(given, state)[0]
        words, scores = given[0], []
        for right in given[1:].unbind(0):
            made, state = self.step(words, state)
            scores.append(made)
            forced = tg.rand(len(right), device=right.device) < self.teacher_forcing
            words = tg.where(forced, right, made.detach().argmax(1))
        return tg.stack([*scores, self.step(words, state)[0]])


# ---- the tasks -----------------------------------------------------------------------------------

Pair = tuple[list[str], list[str]]
SETTINGS: dict[str, dict[str, Any]] = {  # unless the command line says otherwise
    "addition": {"cell": "lstm", "embed": 16, "hidden": 128, "dropout": 0.0, "lr": 0.004, "epochs": 25},
    "dates": {"cell": "lstm", "embed": 16, "hidden": 128, "dropout": 0.0, "lr": 0.004, "epochs": 5},
    "translation": {"cell": "gru", "embed": 256, "hidden": 256, "dropout": 0.2, "lr": 0.002, "epochs": 12},
}
QUESTIONS: dict[str, Any] = {"addition": (Addition, synthetic.Additions), "dates": (Dates, synthetic.DateStrings)}


class Task:
    """Pairs of sentences as lists of tokens in a training, a validation and a test part, and their vocabularies.

    words: tokens are words, of which those that occur once are unknown; else characters. reverse: the source is turned round.
    """

    def __init__(self, parts: Sequence[Sequence[tuple[str, str]]], words: bool, reverse: bool = False) -> None:
        self.words, self.reverse, self.join = words, reverse, (" " if words else "").join
        cut: Callable[[str], list[str]] = (lambda text: text.split()) if words else list
        turn = -1 if reverse else 1
        if not all(parts):
            rule = ("at least one for training, validation and test each", "訓練、検証、テストのそれぞれに 1 組以上")
            raise refusal("Task", ("numbers of pairs", "組の数"), [len(part) for part in parts], rule)
        self.train, self.valid, self.test = [[(cut(x)[::turn], cut(y)) for x, y in part] for part in parts]
        self.source, self.target = [Vocabulary([pair[side] for pair in self.train], min_count=1 + words) for side in (0, 1)]
        self.longest = max(len(y) for _, y in self.train) + 1

    def loader(self, pairs: Sequence[Pair], batch_size: int, device: Any, seed: int | None = None) -> DataLoader:
        """Batches of sentences of about one length, with a seed in a random order."""
        how: Any = {} if seed is None else {"shuffle": True, "generator": tg.Generator().manual_seed(seed)}
        return pair_loader(pairs, self.source, self.target, batch_size, device=device, **how)


def real_parts(name: str, **where: Any) -> list[Any]:
    """Training, validation and test part of a task, pairs of texts."""
    if name == "translation":
        return [SmallParallelEnJa(split=part, **where).items for part in ("train", "dev", "test")]
    train, test = [QUESTIONS[name][0](split=part, **where).items for part in ("train", "test")]
    return [train[:-1000], train[-1000:], test]


def made_up_parts(name: str) -> list[Any]:
    """Pairs of the same kind that need no file."""
    source = tg.Generator().manual_seed(1)
    data = synthetic.TinyEnJa(generator=source) if name == "translation" else QUESTIONS[name][1](10_000, generator=source)
    tenth = len(data) // 10
    return [data.items[2 * tenth :], data.items[:tenth], data.items[tenth : 2 * tenth]]


def task_of(parts: list[Any], o: argparse.Namespace) -> Task:
    """The task, cut down as the command line says."""
    sizes = (o.size or None, *[200 if o.quick else None] * 2)
    return Task([part[:size] for part, size in zip(parts, sizes)], o.task == "translation", o.reverse)


# ---- learning and writing ------------------------------------------------------------------------


def loss_of(model: nn.Module, pad: int) -> Callable[[PairBatch], tg.Tensor]:
    """-log P(y_t | y_1 .. y_{t-1}, x), the mean over all words of a batch that are not PAD."""

    def loss(batch: PairBatch) -> tg.Tensor:
        return F.cross_entropy(model(batch.source, batch.given).flatten(0, 1), batch.answer.flatten(), ignore_index=pad)

    return loss


OPTIMIZERS: dict[str, Any] = {"adam": tg.optim.Adam, "sgd": tg.optim.SGD}


def learn(run: Experiment, model: nn.Module, task: Task) -> Trainer:
    """Adam or SGD, the rate falling linearly to 0; the weights of the best validation stay."""
    o = run.options
    loader, valid = task.loader(task.train, o.batch, o.device, o.seed), task.loader(task.valid, 250, o.device)
    optimizer = OPTIMIZERS[o.optimizer](model.parameters(), lr=o.lr)
    steps = max(1, o.epochs * len(loader))
    falling = tg.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    loss, count = loss_of(model, task.target.pad), lambda batch: batch.answer.numel()
    update = run.compiled(Update(loss, optimizer, schedule=falling, clip_norm=1.0))
    check, best = (lambda: evaluate(model, loss, valid, items=count)), EarlyStopping(patience=None, restore_best=True)
    trainer = Trainer(model, update, loader, validate=check, stopping=best, items=count, **run.keeping)
    run.train(trainer)
    return trainer


def write(model: Seq2seq, task: Task, pairs: Sequence[Pair], device: Any, search: Any = greedy_search, **how: Any) -> Any:
    """What the model writes for the source of each pair, lists of tokens; search: a function of ``nn.decoding``."""
    written: list[list[str]] = [[] for _ in pairs]
    with evaluating(model), tg.no_grad():
        for at in range(0, len(pairs), 100):
            batch, order = pair_batch(pairs[at : at + 100], task.source, task.target, device=device)
            found = search(model.step, model.read(batch.source), batch.given[0], task.target.eos, task.longest, **how)
            for i, numbers in zip(order, found):
                written[at + i] = task.target.decode(numbers)
    return written


def exact(written: Sequence[list[str]], pairs: Sequence[Pair]) -> float:
    """The share of answers that are right in every token."""
    return float(np.mean([y == right for y, (_, right) in zip(written, pairs)]))


def bleu_of(written: Sequence[list[str]], pairs: Sequence[Pair], characters: bool = False) -> float:
    """Corpus BLEU by sacrebleu, over the words of the data as they are cut there, or over characters."""
    join = ("" if characters else " ").join
    return bleu([join(y) for y in written], [join(y) for _, y in pairs], tokenize="char" if characters else "none")


LONG = 12  # sentences with so many words and more are reported apart


def assess(model: Seq2seq, task: Task, device: Any, beams: int) -> tuple[list[Result], list[list[str]]]:
    """Let the model write the test part: the results, and what was written."""
    pairs = task.test
    greedy = write(model, task, pairs, device)
    if not task.words:
        label = ("answers right in every character", "全文字が正しい答え")
        return [Result("exact_match", exact(greedy, pairs), label, ".2%")], greedy
    best = write(model, task, pairs, device, beam_search, beams=beams, length_penalty=1.0)
    characters = bleu_of(best, pairs, characters=True)
    made = [
        Result("bleu", bleu_of(best, pairs), ("BLEU of words, beam search", "BLEU (単語)、ビームサーチ"), ".2f"),
        Result("bleu_greedy", bleu_of(greedy, pairs), ("BLEU of words, greedy search", "BLEU (単語)、貪欲法"), ".2f"),
        Result("bleu_characters", characters, ("BLEU of characters, beam search", "BLEU (文字)、ビームサーチ"), ".2f"),
    ]
    for name, english, japanese in (("bleu_short", "under", "未満"), ("bleu_long", "from", "以上")):
        places = [i for i, (x, _) in enumerate(pairs) if (len(x) >= LONG) == (name == "bleu_long")]
        if places:
            label = (f"  of words, sources {english} {LONG} words", f"  単語、{LONG} 語{japanese}の原文")
            made.append(Result(name, bleu_of([best[i] for i in places], [pairs[i] for i in places]), label, ".2f"))
    return made, best


def draw_lengths(run: Experiment, task: Task, written: Sequence[list[str]]) -> None:
    """``lengths.png``: how good the answers are, by the length of the source."""
    lengths = np.array([len(x) for x, _ in task.test])
    wide = 1 + int(lengths.max() - lengths.min()) // 14
    bars = {}
    for low in range(int(lengths.min()), int(lengths.max()) + 1, wide):
        places = np.flatnonzero((lengths >= low) & (lengths < low + wide)).tolist()
        if places:
            some = [written[i] for i in places], [task.test[i] for i in places]
            label = f"{low}" if wide == 1 else f"{low}-{low + wide - 1}"
            bars[f"{label}\n({len(places)})"] = bleu_of(*some) if task.words else 100 * exact(*some)
    name = run.words("BLEU of words", "BLEU (単語)") if task.words else run.words("answers right, %", "正しい答え (%)")
    with run.figure("lengths.png") as axes:
        axes.bar_label(axes.bar(bars.keys(), bars.values(), color="#3182bd"), fmt="%.1f", fontsize=8)
        axes.set(ylabel=name, xlabel=run.words("tokens in the source (sentences)", "原文のトークン数 (文の数)"))


def show_samples(run: Experiment, model: Seq2seq, task: Task, count: int = 4) -> list[list[str]]:
    """Print a few test sentences, and what greedy search, sampling and beam search write for them."""
    pairs, device = task.test[:count], run.options.device
    greedy, source = write(model, task, pairs, device), tg.Generator(device).manual_seed(run.options.seed)
    drawn = write(model, task, pairs, device, sample, temperature=0.8, top_p=0.95, generator=source)
    best = write(model, task, pairs, device, beam_search, beams=run.options.beams, length_penalty=1.0)
    names = ("source", "原文"), ("right", "正解"), ("greedy", "貪欲法"), ("sampled", "サンプリング"), ("beams", "ビームサーチ")
    samples = []
    for (x, y), *ways in zip(pairs, greedy, drawn, best):
        samples.append([task.join(text) for text in (x[:: -1 if task.reverse else 1], y, *ways)])
        print(*(f"{run.told(*name)}: {text}" for name, text in zip(names, samples[-1])), sep="\n")
    return samples


# ---- the program ---------------------------------------------------------------------------------


def options_of(argv: Sequence[str] | None, task: str) -> tuple[list[Option], int]:
    """Options, with the defaults of the task that the command line asks for (else ``task``), and the epochs."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--task", default=task)
    early.add_argument("--optimizer")
    asked = early.parse_known_args(argv)[0]
    usual = SETTINGS.get(asked.task, SETTINGS[task])
    rates = (0.5, 1.0) if asked.optimizer == "sgd" else (usual["lr"], 0.01)
    known = [
        Option("task", task, ("what to learn", "学習する課題"), choices=list(SETTINGS)),
        Option("cell", usual["cell"], ("recurrent layer", "RNN の種類"), choices=list(RNNS)),
        Option("embed", usual["embed"], ("size of the embeddings", "埋め込みの次元"), quick=min(usual["embed"], 32)),
        Option("hidden", usual["hidden"], ("hidden units", "隠れユニットの数"), quick=64),
        Option("dropout", usual["dropout"], ("dropout of embeddings and outputs", "ドロップアウトの割合"), most=1.0),
        Option("bidirectional", False, ("read in both directions, states added", "双方向に読み、状態を足す")),
        Option("reverse", False, ("turn the source round", "入力を逆順にする")),
        Option("teacher_forcing", 1.0, ("probability of the right word as input", "正解の単語を入力する確率"), most=1.0),
        Option("batch", 128, ("sentences in a batch", "バッチの文の数"), quick=64),
        Option("optimizer", "adam", ("optimizer", "最適化手法"), choices=list(OPTIMIZERS)),
        Option("lr", rates[0], ("learning rate at the start", "最初の学習率"), quick=rates[1], least=0.0),
        Option("beams", 5, ("beams of the beam search", "ビームの数"), later=True),
        Option("size", 0, ("training pairs, 0 for all", "訓練に使う組の数 (0 はすべて)"), quick=4000, least=0),
    ]
    return known, usual["epochs"]


OWN = [Option("peeky", False, ("every step of the decoder sees h_S", "デコーダの全時刻に h_S を渡す"))]


def build(task: Task, o: argparse.Namespace) -> Seq2seq:
    """The model that the command line asks for."""
    sizes = (o.embed, o.hidden, o.cell, o.dropout)
    encoder = Encoder(len(task.source), *sizes, o.bidirectional)
    return Seq2seq(encoder, Decoder(len(task.target), *sizes, o.peeky), o.teacher_forcing)


def load_task(run: Experiment) -> Task:
    """The task that the command line names, made up where there are no data."""
    name = run.options.task
    task = task_of(run.data(lambda **where: real_parts(name, **where), lambda: made_up_parts(name), name), run.options)
    if task.words:
        bleu_of([["a"]], [(["a"], ["a"])])  # if its package is missing, say so before the training and not after
    return task


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, write the test part, draw. Returns the results that are also written to ``results.json``."""
    options, epochs = options_of(argv, "addition")
    run = Experiment("seq2seq", TITLE, [*options, *OWN], argv, epochs=epochs, quick_epochs=4)
    task = load_task(run)
    model = build(task, run.options).to(run.options.device)
    return finish(run, learn(run, model, task), model, task)


def finish(run: Experiment, trainer: Trainer, model: Seq2seq, task: Task) -> dict[str, Any]:
    """Pictures, samples, results."""
    results, written = assess(model, task, run.options.device, run.options.beams)
    draw_lengths(run, task, written)
    loss = Result("valid_loss", trainer.stopping.best, ("validation loss", "検証の損失"))
    return run.finish([loss, *results], samples=show_samples(run, model, task))
