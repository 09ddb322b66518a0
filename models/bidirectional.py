"""A bidirectional recurrent network puts the vowels back into a text: what stands left and right of a gap decides.

    →h_t = cell(x_t, →h_{t-1})       t = 1 ... T, from left to right
    ←h_t = cell'(x_t, ←h_{t+1})      t = T ... 1, from right to left, with weights of its own
    h_t  = [→h_t ; ←h_t]  or  →h_t + ←h_t
    y_t  = softmax(W h_t + b)

The backward pass is the forward pass of a sequence that was turned round: flip, run, flip back. In a batch the sequences have unequal lengths,
so each is flipped within its own length; the padding stays at its end and is never read before the text. The program proves that the layer
written this way and ``nn.LSTM(bidirectional=True)`` on packed sequences have the same values and the same gradients. (Schuster, Paliwal,
Bidirectional recurrent neural networks, 1997; Graves, Schmidhuber, Framewise phoneme classification with bidirectional LSTM, 2005.)

Data: lines of Shakespeare's plays in small letters, every a, e, i, o, u replaced by "_". A network that reads from left to right, with a state
as wide as both directions together (and more weights), learns from the same batches. Of "th_ c_t" it has read "th_ c_" when it must answer;
the bidirectional one has seen the "t". In the run of docs/models/bidirectional.md 59 % of the vowels are right from the left alone and 78 %
from both sides; always "e" gives 30 %.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import BucketBatchSampler, DataLoader
from tinygrad_ja.data.datasets import TinyShakespeare, synthetic
from tinygrad_ja.data.text import Vocabulary
from tinygrad_ja.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update, evaluate

TITLE = {
    "en": "bidirectional RNN, LSTM or GRU puts the vowels back into Shakespeare (JDLA E certificate: bidirectional RNN)",
    "ja": "双方向 RNN、LSTM、GRU で、シェイクスピアから消した母音を復元 (E資格: 双方向 RNN)",
}
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
OPTIONS = [
    Option("cell", "lstm", ("the recurrent cell", "再帰セルの種類"), choices=list(CELLS)),
    Option("merge", "concat", ("both directions side by side, or added", "両方向を並べる (concat) か、足す (sum)"), choices=["concat", "sum"]),
    Option("hidden", 96, ("size of the state of one direction", "1 方向の状態の大きさ"), quick=32),
    Option("embedding", 32, ("size of the vectors of the characters", "文字ベクトルの大きさ"), quick=16),
    Option("lr", 3e-3, ("learning rate of Adam at the start", "Adam の学習率 (はじめの値)"), quick=1e-2),
    Option("decay", 0.75, ("its factor after each epoch", "1 エポックごとに学習率に掛ける値")),
    Option("batch", 32, ("lines in a batch", "ミニバッチの行数")),
]  # fmt: skip
VOWELS, GAP, IGNORED = "aeiou", "_", -100
STEPS = 8
"""Batches are padded to a multiple of so many steps, so that a compiled step meets only a few lengths."""


class Bidirectional(nn.Module):
    """Two recurrent layers of one kind over the same sequence, one of them from its end. The output is merged by "concat" or "sum"."""

    def __init__(self, cell: str, input_size: int, hidden: int, merge: str = "concat") -> None:
        super().__init__()
        self.cell, self.merge = cell, merge
        self.rightwards = CELLS[cell](input_size, hidden)
        self.leftwards = CELLS[cell](input_size, hidden)

    def forward(self, x: tg.Tensor, lengths: tg.Tensor) -> tg.Tensor:
        """(T, N, input_size), lengths (N,) -> (T, N, 2·hidden), or (T, N, hidden) for "sum"."""
        there, _ = self.rightwards(x)
        back, _ = self.leftwards(flipped(x, lengths))
        back = flipped(back, lengths)
        return tg.cat([there, back], dim=2) if self.merge == "concat" else there + back


def flipped(x: tg.Tensor, lengths: tg.Tensor) -> tg.Tensor:
    """Each sequence n turned round within its length: (T, N, ...), step t becomes step lengths[n] - 1 - t. The padding stays where it is."""
    time = tg.arange(x.shape[0], device=x.device).unsqueeze(1)
    source = tg.where(time < lengths, lengths - 1 - time, time)
    return x[source, tg.arange(x.shape[1], device=x.device)]


class Labeller(nn.Module):
    """Character vectors, a recurrent layer in one or two directions, scores of the vowels at every character."""

    def __init__(self, characters: int, cell: str, embedding: int, hidden: int, merge: str | None) -> None:
        """merge: None reads from left to right only, with a state of 2·hidden."""
        super().__init__()
        self.vectors = nn.Embedding(characters, embedding)
        self.both = merge is not None
        self.rnn = Bidirectional(cell, embedding, hidden, merge) if merge else CELLS[cell](embedding, 2 * hidden)
        self.output = nn.Linear(hidden if merge == "sum" else 2 * hidden, len(VOWELS))

    def forward(self, characters: tg.Tensor, lengths: tg.Tensor) -> tg.Tensor:
        """(T, N), (N,) -> scores (T, N, 5). What a one-directional network makes of padding comes after the text, so it needs no lengths."""
        x = self.vectors(characters)
        h = self.rnn(x, lengths) if self.both else self.rnn(x)[0]
        return self.output(h)


class Pair(nn.Module):
    """The network that reads both ways and the one that reads one way; they share nothing but the batches."""

    def __init__(self, characters: int, cell: str, embedding: int, hidden: int, merge: str) -> None:
        super().__init__()
        self.both = Labeller(characters, cell, embedding, hidden, merge)
        self.left = Labeller(characters, cell, embedding, hidden, None)


class Lines(NamedTuple):
    """A batch of lines, padded at the end."""

    characters: tg.Tensor
    """int64 (T, N)."""
    lengths: tg.Tensor
    """int64 (N,)."""
    vowels: tg.Tensor
    """int64 (T, N): the number of the vowel that belongs into a gap, -100 elsewhere."""


def without_vowels(line: str) -> str:
    """
    >>> without_vowels("To be")
    't_ b_'
    """
    return "".join(GAP if letter in VOWELS else letter for letter in line.lower())


def batch_of(lines: Sequence[str], vocabulary: Vocabulary, device: Any = "cpu") -> Lines:
    """Lines as a batch."""
    characters, lengths = vocabulary.encode_batch([list(without_vowels(line)) for line in lines])
    characters = F.pad(characters, (0, 0, 0, -characters.shape[0] % STEPS), value=vocabulary.pad)
    vowels = np.full(characters.shape, IGNORED)
    for n, line in enumerate(lines):
        for t, letter in enumerate(line.lower()):
            if letter in VOWELS:
                vowels[t, n] = VOWELS.index(letter)
    return Lines(characters.to(device), lengths.to(device), tg.tensor(vowels, device=device))


def measure(pair: Pair, batch: Lines) -> dict[str, tg.Tensor]:
    """Mean loss of a vowel and share of right vowels, of both networks. No weight belongs to both, so the gradient of the sum of their losses
    is that of each."""
    found, gaps = {}, batch.vowels.reshape(-1)
    for name, network in (("both", pair.both), ("left", pair.left)):
        scores = network(batch.characters, batch.lengths).reshape(-1, len(VOWELS))
        right = (scores.argmax(1) == gaps).float().sum() / (gaps != IGNORED).float().sum()
        found.update({f"loss_{name}": F.cross_entropy(scores, gaps), f"accuracy_{name}": right})
    return {"loss": found["loss_both"] + found["loss_left"], **found}


# -- the same layer of the library


def library_layer(layer: Bidirectional) -> Any:
    """``nn.LSTM(bidirectional=True)`` (or RNN, GRU) with the weights of ``layer``."""
    made = CELLS[layer.cell](layer.rightwards.input_size, layer.rightwards.hidden_size, bidirectional=True, merge=layer.merge)
    weights = layer.rightwards.state_dict()
    weights.update({f"{name}_reverse": value for name, value in layer.leftwards.state_dict().items()})
    made.load_state_dict(weights)
    return made


def differences(layer: Bidirectional, x: tg.Tensor, lengths: tg.Tensor) -> tuple[float, float]:
    """``layer`` and the library's on packed sequences, in float64: the largest difference of their outputs and of ∂/∂x Σ sin(output)."""
    ours = Bidirectional(layer.cell, layer.rightwards.input_size, layer.rightwards.hidden_size, layer.merge)
    ours.load_state_dict(layer.state_dict())
    outputs, gradients = [], []
    for network in (ours.double(), library_layer(layer).double()):
        given = x.detach().cpu().double().requires_grad_()
        if isinstance(network, Bidirectional):
            made = network(given, lengths.cpu())
        else:
            packed = pack_padded_sequence(given, lengths.cpu(), enforce_sorted=False)
            made, _ = pad_packed_sequence(network(packed)[0], total_length=len(x))
        text = (tg.arange(len(made)).unsqueeze(1) < lengths.cpu()).unsqueeze(2)
        made = tg.where(text, made, 0.0)
        tg.sin(made).sum().backward()
        outputs.append(made.detach())
        assert given.grad is not None
        gradients.append(given.grad)
    return tuple((a - b).abs().max().item() for a, b in (outputs, gradients))


# -- the run


def shakespeare(**where: Any) -> list[list[str]]:
    """Lines to learn from, for validation, for the test."""
    return [TinyShakespeare(split=split, **where).items for split in ("train", "valid", "test")]


def made_up_lines() -> list[list[str]]:
    """Lines of a small grammar."""
    lines = synthetic.GrammarText(3000, generator=tg.Generator().manual_seed(0)).items
    return [lines[:2000], lines[2000:2500], lines[2500:]]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train both networks, test, compare with the library's layer, draw. Returns the results."""
    run = Experiment("bidirectional", TITLE, OPTIONS, argv, epochs=6, quick_epochs=2)
    o = run.options
    parts = run.data(shakespeare, made_up_lines, "tinyshakespeare")
    train, valid, test = ([line for line in part if GAP in without_vowels(line)] for part in parts)
    if run.quick:
        train, valid, test = train[:2000], valid[:200], test[:300]
    vocabulary = Vocabulary([list(without_vowels(line)) for line in train])

    pair = Pair(len(vocabulary), o.cell, o.embedding, o.hidden, o.merge).to(o.device)
    collate = partial(batch_of, vocabulary=vocabulary, device=o.device)
    order = BucketBatchSampler([len(line) for line in train], o.batch, drop_last=True)
    optimizer = tg.optim.Adam(pair.parameters(), lr=o.lr)
    in_order = [DataLoader(sorted(part, key=len), 100, collate_fn=collate) for part in (valid, test)]
    trainer = Trainer(
        pair,
        run.compiled(Update(partial(measure, pair), optimizer)),
        DataLoader(train, batch_sampler=order, collate_fn=collate),
        validate=lambda: evaluate(pair, partial(measure, pair), in_order[0], items=gaps_in),
        schedules=[tg.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)],
        items=gaps_in,
        curves=False,
        **run.keeping,
    )
    run.train(trainer)

    score = evaluate(pair, partial(measure, pair), in_order[1], items=gaps_in)
    vowels = [letter for line in test for letter in line.lower() if letter in VOWELS]
    most = max(vowels.count(letter) for letter in VOWELS) / len(vowels)
    batch = batch_of(test[:8], vocabulary, o.device)
    in_values, in_gradients = differences(pair.both.rnn, pair.both.vectors(batch.characters), batch.lengths)
    save_curves(run, trainer.history)
    save_gaps(run, pair, test, vocabulary)
    examples = [restored(pair, line, vocabulary) for line in test[:5]]
    for found in examples:
        print("\n".join([found["read"], f"  {found['left']}   (→)", f"  {found['both']}   (↔)"]))
    return run.finish(
        [
            Result("accuracy", score["accuracy_both"], ("right vowels, read both ways", "双方向の母音の正解率"), ".2%"),
            Result("accuracy_left", score["accuracy_left"], ("right vowels, read from the left", "左からのみの正解率"), ".2%"),
            Result("most_frequent", most, ("always the most frequent vowel", "いつも最頻の母音と答えた場合"), ".2%"),
            Result("parameters", count(pair.both), ("parameters, both ways", "双方向のパラメータ数"), ",d"),
            Result("parameters_left", count(pair.left), ("parameters, from the left", "左からのみのパラメータ数"), ",d"),
            Result("value_difference", in_values, ("difference to the library's layer", "nn の双方向層との差、値"), ".1e"),
            Result("gradient_difference", in_gradients, ("the same, gradients", "同じく、勾配"), ".1e"),
        ],
        examples=examples,
    )


def gaps_in(batch: Lines) -> tg.Tensor:
    """How many vowels a batch asks for."""
    return (batch.vowels != IGNORED).sum()


def count(network: nn.Module) -> int:
    """The number of its parameters."""
    return sum(p.numel() for p in network.parameters())


def probabilities(network: Labeller, line: str, vocabulary: Vocabulary) -> np.ndarray:
    """Of every vowel at every character of a line (T, 5)."""
    batch = batch_of([line], vocabulary, next(network.parameters()).device)
    with tg.no_grad():
        return F.softmax(network(batch.characters, batch.lengths), dim=2)[: len(line), 0].cpu().numpy()


def restored(pair: Pair, line: str, vocabulary: Vocabulary) -> dict[str, str]:
    """A line as the networks read it, and as each fills it in."""
    read = without_vowels(line)
    made = {"read": read}
    for name, network in (("left", pair.left), ("both", pair.both)):
        best = probabilities(network, line, vocabulary).argmax(1)
        made[name] = "".join(VOWELS[vowel] if letter == GAP else letter for letter, vowel in zip(read, best))
    return made


def save_curves(run: Experiment, history: Sequence[dict[str, float]]) -> None:
    """Loss and right vowels of both networks over the epochs."""
    words = run.words
    networks = (("both", words("both ways", "双方向"), "#08519c"), ("left", words("from the left", "左からのみ"), "#d94801"))
    panels = (("loss", words("loss of a vowel", "母音の損失")), ("accuracy", words("right vowels", "母音の正解率")))
    parts = (("", "--", words("training", "訓練")), ("valid_", "-", words("validation", "検証")))
    epochs = range(1, len(history) + 1)
    with run.figure("curves.png", 1, 2, (9.0, 3.8)) as grid:
        for axes, (value, title) in zip(grid, panels):
            for (name, who, color), (prefix, style, part) in itertools.product(networks, parts):
                values = [row[f"{prefix}{value}_{name}"] for row in history]
                label = words(f"{who}, {part}", f"{who}、{part}")
                axes.plot(epochs, values, style, color=color, marker="o", markersize=3, label=label)
            axes.set(title=title, xlabel=words("epoch", "エポック"), xticks=epochs)
            axes.grid(alpha=0.3)
        grid[0].legend(frameon=False, fontsize=8)


def save_gaps(run: Experiment, pair: Pair, lines: Iterable[str], vocabulary: Vocabulary) -> None:
    """A line of 25 to 45 characters (else any): what each network believes in every gap."""
    words, lines = run.words, list(lines)
    line = next((line for line in lines if 25 <= len(line) <= 45 and "," in line), lines[0])
    title = words("Probability of each vowel in each gap; dots: the true one", "それぞれの空所での各母音の確率 (点は正解)")
    names = (("left", words("read from the left", "左からのみ")), ("both", words("read both ways", "双方向")))
    with run.figure("gaps.png", 2, 1, (10.0, 4.6), title) as grid:
        for axes, (name, label) in zip(grid, names):
            p = probabilities(getattr(pair, name), line, vocabulary)
            is_gap = np.array([letter == GAP for letter in without_vowels(line)])
            picture = axes.imshow(np.where(is_gap, p.T, 0), cmap="Blues", vmin=0, vmax=1, aspect="auto")
            truth = [(t, VOWELS.index(letter)) for t, letter in enumerate(line.lower()) if letter in VOWELS]
            axes.scatter(*zip(*truth), color="#d94801", s=12)
            axes.set_xticks(range(len(line)), without_vowels(line))
            axes.set_yticks(range(len(VOWELS)), VOWELS)
            axes.tick_params(length=0)
            axes.set_title(label, fontsize=10)
        grid[0].figure.colorbar(picture, ax=grid, label=words("probability", "確率"))
