"""HRED answers in a conversation: an RNN over the words of each utterance, another over the utterances, and a decoder that sees the latter.

    h_{n,m} = GRU(h_{n,m-1}, e(w_{n,m}))          utterance encoder: words m = 1 .. M_n of utterance n
    c_n     = GRU(c_{n-1}, h_{n,M_n})             context RNN: what was said up to utterance n
    d_{n,0} = tanh(D_0 c_{n-1} + b_0)
    d_{n,m} = GRU(d_{n,m-1}, e(w_{n,m-1}) + D_1 c_{n-1})
    P(w_{n,m} | w_{n,<m}, U_1 .. U_{n-1}) = softmax(W_o d_{n,m} + b_o)

so P(U_1 .. U_N) = Π_n Π_m P(w_{n,m} | ...): the loss is the cross-entropy of every word, of all utterances of a dialogue at once. (Sordoni et
al., A hierarchical recurrent encoder-decoder for generative context-aware query suggestion, 2015; Serban et al., Building end-to-end dialogue
systems using generative hierarchical neural network models, 2016.)

Data: 5,000 dialogues of a user with an assistant (Schema-Guided Dialogue). Expect a perplexity that rises clearly when the decoder gets the
context of another dialogue, and replies that fit but repeat each other: most are one of a few safe sentences. See ``vhred.py``.
"""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import BucketBatchSampler, DataLoader, DialogueBatch, DialogueCollate
from tinygrad_ja.data.datasets import SchemaGuidedDialogues
from tinygrad_ja.data.datasets.language import Dialogue
from tinygrad_ja.data.datasets.synthetic import TableTalk
from tinygrad_ja.data.text import Vocabulary, WordTokenizer
from tinygrad_ja.nn.decoding import greedy_search, sample
from tinygrad_ja.nn.evaluating import evaluating
from tinygrad_ja.training import EarlyStopping, Trainer, Update, evaluate
from tinygrad_ja.training.experiment import Experiment, Option, Result
from tinygrad_ja.training.metrics import distinct, perplexity

TITLE = {
    "en": "HRED: dialogue by a hierarchy of RNNs, words and utterances (JDLA E certificate: HRED)",
    "ja": "HRED: 単語と発話の階層的な RNN による対話 (E資格: HRED)",
}

PAD, UNK, BOS, EOS = range(4)  # as Vocabulary numbers them
MAX_TURNS, MAX_WORDS = 24, 24  # the rest of longer dialogues and utterances is cut off (5 % of the words)
EPOCHS, QUICK_EPOCHS = 8, 3
OPTIONS = [
    Option("embedding", 96, ("size of word vectors", "単語ベクトルの大きさ"), quick=48),
    Option("hidden", 192, ("units of each RNN", "各 RNN のユニット数"), quick=64),
    Option(
        "dropout", 0.2, ("dropout of word vectors and outputs", "単語ベクトルと出力のドロップアウト率"), quick=0.0, most=1.0
    ),
    Option("batch", 8, ("dialogues in a batch", "バッチの対話の数"), quick=4),
    Option("lr", 2e-3, ("learning rate of Adam", "Adam の学習率"), quick=1e-2, least=0.0),
    Option("min_count", 8, ("rarer words are unknown", "これより少ない単語は未知語"), quick=3),
    Option("dialogues", 5000, ("dialogues to learn from", "学習に使う対話の数"), quick=320),
]

# -- data


class Corpus(NamedTuple):
    """Dialogues as lists of utterances, each a list of word numbers that ends with EOS unless it was cut."""

    vocabulary: Vocabulary
    train: list[list[list[int]]]
    valid: list[list[list[int]]]
    test: list[list[list[int]]]


def read(**where: Any) -> list[Any]:
    """The dialogues for training, validation and test."""
    return [SchemaGuidedDialogues(split=split, **where) for split in ("train", "dev", "test")]


def made_up() -> list[Any]:
    """Conversations from a few rules in their place."""
    return [TableTalk(size, generator=tg.Generator().manual_seed(seed)) for seed, size in enumerate((400, 60, 60))]


def prepare(parts: Sequence[Sequence[Dialogue]], dialogues: int, min_count: int) -> Corpus:
    """Words, lower case, as numbers. ``dialogues`` are taken from all over the training set, a tenth as many for validation and for test."""
    tokenizer = WordTokenizer(lower=True)
    taken = []
    for part, most in zip(parts, (dialogues, dialogues // 10, dialogues // 10)):
        places = np.linspace(0, len(part) - 1, min(max(most, 1), len(part))).astype(int)
        taken.append([[tokenizer(turn.text) for turn in part[int(place)].turns[:MAX_TURNS]] for place in places])
    vocabulary = Vocabulary((words for dialogue in taken[0] for words in dialogue), min_count=min_count)
    return Corpus(
        vocabulary,
        *[[[vocabulary.encode(words, eos=True)[:MAX_WORDS] for words in dialogue] for dialogue in part] for part in taken],
    )


def loader(dialogues: list[list[list[int]]], size: int, device: str, seed: int | None = None) -> DataLoader:
    """Batches of dialogues of about one number of turns, then of about one length of utterances; with a seed in random order."""
    collate = DialogueCollate(PAD)
    keys = [turns * 2 * MAX_WORDS + words for turns, words in map(collate.shape, dialogues)]
    sampler = BucketBatchSampler(keys, size, shuffle=seed is not None)
    generator = None if seed is None else tg.Generator().manual_seed(seed)
    return DataLoader(dialogues, batch_sampler=sampler, collate_fn=collate, generator=generator, device=device)


def words_of(batch: DialogueBatch) -> tg.Tensor:
    """How many words a batch has, the ends of utterances counted."""
    return (batch.words != PAD).sum()


# -- model


class UtteranceEncoder(nn.Module):
    """The state of a GRU behind the last word of each utterance."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(embedding, hidden)

    def forward(self, vectors: tg.Tensor, words: tg.Tensor) -> tg.Tensor:
        """vectors (T, M, E) of words (T, M) -> (M, H)."""
        states, _ = self.rnn(vectors)
        last = (words != PAD).sum(0).clamp(min=1) - 1
        rows = last * words.shape[1] + tg.arange(words.shape[1], device=words.device)
        return states.flatten(0, 1).index_select(0, rows)


class Decoder(nn.Module):
    """A language model of utterances that is led by a condition (M, C): for HRED the context c_{n-1}."""

    def __init__(self, words: int, embedding: int, hidden: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.start = nn.Linear(condition, hidden)
        self.lead = nn.Linear(condition, embedding, bias=False)
        self.rnn = nn.GRU(embedding, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, words)

    def forward(self, vectors: tg.Tensor, condition: tg.Tensor, places: tg.Tensor) -> tg.Tensor:
        """vectors (T, M, E) of the words before each word -> scores (K, V) of the words at ``places``."""
        first = tg.tanh(self.start(condition)).unsqueeze(0)
        states, _ = self.rnn(vectors + self.lead(condition), first)
        return self.output(self.dropout(states.flatten(0, 1).index_select(0, places)))


class HRED(nn.Module):
    """The equations above. word_drop: share of the decoder's words that become unknown in training (Bowman et al. 2016)."""

    def __init__(
        self, words: int, embedding: int, hidden: int, dropout: float = 0.0, word_drop: float = 0.0, latent: int = 0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding, padding_idx=PAD)
        self.encoder = UtteranceEncoder(embedding, hidden)
        self.context = nn.GRU(hidden, hidden)
        self.decoder = Decoder(words, embedding, hidden, hidden + latent, dropout)
        self.dropout, self.word_drop = nn.Dropout(dropout), word_drop

    def encode(self, words: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """words (T, D, N) -> summaries h_n of the utterances and contexts c_{n-1} of what came before them, both (D, N, H)."""
        _, turns, n = words.shape
        flat = words.flatten(1, 2)
        summaries = self.encoder(self.dropout(self.embedding(flat)), flat).reshape(turns, n, -1)
        contexts, _ = self.context(summaries)
        return summaries, tg.cat([tg.zeros_like(contexts[:1]), contexts[:-1]])

    def decode(self, batch: DialogueBatch, condition: tg.Tensor) -> tg.Tensor:
        """Scores (K, V) of the words of all utterances, each from the words before it and its condition (D, N, C)."""
        words = batch.words.flatten(1, 2)
        before = tg.cat([tg.full_like(words[:1], BOS), words[:-1]])
        if self.training and self.word_drop:
            before = tg.where(tg.rand(*before.shape, device=before.device) < self.word_drop, UNK, before)
        return self.decoder(self.dropout(self.embedding(before)), condition.flatten(0, 1), batch.places)

    def condition(self, words: tg.Tensor) -> tg.Tensor:
        """What leads each utterance, before it is known: (D, N, C)."""
        return self.encode(words)[1]

    def forward(self, batch: DialogueBatch) -> tg.Tensor:
        """Scores (K, V) of the words."""
        return self.decode(batch, self.condition(batch.words))

    def step(self, tokens: tg.Tensor, state: dict[str, tg.Tensor]) -> tuple[tg.Tensor, dict[str, tg.Tensor]]:
        """One step of a reply: scores (N, V) of the next words, never PAD, UNK or BOS, and the new state."""
        d, lead = state["d"], state["lead"]
        output, last = self.decoder.rnn((self.embedding(tokens) + lead).unsqueeze(0), d.unsqueeze(0))
        scores = self.decoder.output(output[0])
        silent = tg.arange(scores.shape[1], device=scores.device) < EOS
        return scores.masked_fill(silent, -math.inf), {"d": last[0], "lead": lead}

    def replies(self, condition: tg.Tensor, choose: Callable[..., list[list[int]]]) -> list[list[int]]:
        """A reply to each condition (M, C), by ``choose(step, state, start)``: ``GREEDY`` or ``SAMPLED``."""
        state = {"d": tg.tanh(self.decoder.start(condition)), "lead": self.decoder.lead(condition)}
        return choose(self.step, state, tg.full((condition.shape[0],), BOS, device=condition.device))


GREEDY = functools.partial(greedy_search, end=EOS, max_length=MAX_WORDS)
SAMPLED = functools.partial(sample, end=EOS, max_length=MAX_WORDS)


def cross_entropy(scores: tg.Tensor, batch: DialogueBatch, reduction: str = "mean") -> tg.Tensor:
    """-log P of the words at the places of a batch; places of PAD do not count."""
    return F.cross_entropy(scores, batch.words.flatten().index_select(0, batch.places), ignore_index=PAD, reduction=reduction)


# -- evaluation


def by_turn(model: HRED, batches: DataLoader, exchanged: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """-log P of the words of turn 0, 1, ..., summed over all dialogues, and how many words there are. exchanged: each dialogue is read with the
    contexts of its neighbour in the batch; a dialogue that is alone in its batch is left out."""
    losses, counts = np.zeros(MAX_TURNS), np.zeros(MAX_TURNS)
    with evaluating(model), tg.no_grad():
        for batch in batches:
            _, turns, n = batch.words.shape
            if exchanged and n < 2:
                continue
            condition = model.condition(batch.words)
            scores = model.decode(batch, tg.cat([condition[:, 1:], condition[:, :1]], dim=1) if exchanged else condition)
            turn = batch.places.cpu().numpy() // n % turns
            losses += np.bincount(turn, cross_entropy(scores, batch, "none").cpu().numpy(), MAX_TURNS)
            counts += (batch.words != PAD).sum((0, 2)).cpu().numpy() @ np.eye(turns, MAX_TURNS)
    return losses, counts


class Exchange(NamedTuple):
    """A turn of a dialogue: what was said before, what was said, and what a model says instead. Words."""

    before: list[list[str]]
    said: list[str]
    reply: list[str]


def converse(model: HRED, batches: DataLoader, vocabulary: Vocabulary, choose: Callable[..., Any]) -> Iterator[Exchange]:
    """A reply in the place of every turn of every dialogue but the first."""
    with evaluating(model), tg.no_grad():
        for batch in batches:
            words = batch.words.cpu().numpy()
            there = np.flatnonzero((words[0] != PAD) & (np.arange(words.shape[1]) > 0)[:, None])
            condition = model.condition(batch.words).flatten(0, 1).index_select(0, tg.tensor(there, device=batch.words.device))
            for place, reply in zip(there, model.replies(condition, choose)):
                d, n = divmod(int(place), words.shape[2])
                texts = [vocabulary.decode(words[:, turn, n]) for turn in range(d + 1)]
                yield Exchange(texts[:-1], texts[-1], vocabulary.decode(reply))


def distinct_results(spoken: dict[str, tuple[str, str, list[list[str]]]]) -> list[Result]:
    """distinct-1 and distinct-2 of several lists of replies: name -> (English, Japanese, replies)."""
    return [
        Result(f"{name}_distinct{n}", distinct(replies, n), (f"distinct-{n}, {english}", f"distinct-{n}、{japanese}"), ".4f")
        for name, (english, japanese, replies) in spoken.items()
        for n in (1, 2)
    ]


def write_samples(run: Experiment, versions: Sequence[Sequence[Exchange]], labels: Sequence[str]) -> None:
    """``replies.txt``: 40 turns from all over the test, each with its reply in every version, and ``replies.png``: three of them."""
    join = WordTokenizer().detokenize
    blocks = []
    for place in np.linspace(0, len(versions[0]) - 1, 40).astype(int):
        turn = versions[0][place]
        first = max(len(turn.before) - 4, 0)
        before = [f"{'US'[d % 2]}: {join(turn.before[d])}" for d in range(first, len(turn.before))]
        after = [(run.words("said", "実際"), turn.said), *((label, row[place].reply) for label, row in zip(labels, versions))]
        blocks.append((before, [f"[{label}] {join(text)}" for label, text in after]))
    (run.options.out / "replies.txt").write_text("\n\n".join("\n".join(a + b) for a, b in blocks) + "\n", encoding="utf-8")
    title = run.words(
        "Replies to turns of the test (U: user, S: assistant)", "テストの対話への応答 (U: 利用者、S: アシスタント)"
    )
    with run.figure("replies.png", 1, 3, size=(13.5, 4.2), title=title) as grid:
        heights = [draw_lines(axes, turns, written) for axes, (turns, written) in zip(grid, blocks[10::10])]
        grid[0].figure.set_figheight(max(4.2, max(heights) + 0.6))


def draw_lines(axes: Any, before: Sequence[str], after: Sequence[str], width: int = 52) -> float:
    """A conversation: what was said in black, the replies in blue below. Returns how many inches it is high."""
    axes.set_axis_off()
    down, look = 0.0, {"fontsize": 9, "linespacing": 1.25, "va": "top", "parse_math": False}  # points; $ is money here
    for color, lines in (("black", before), ("#08519c", after)):
        for line in lines:
            wrapped = textwrap.wrap(line, width, subsequent_indent="    ")
            place = {"xycoords": "axes fraction", "textcoords": "offset points"}
            axes.annotate("\n".join(wrapped), (0, 1), (0, -down), color=color, **place, **look).set_in_layout(False)
            down += 13 * len(wrapped) + 3
        down += 5
    return down / 72


Sums = tuple[np.ndarray, np.ndarray]


def draw_context(run: Experiment, own: Sums, exchanged: Sums) -> None:
    """``context.png``: perplexity by turn, with the right context and with another one."""
    curves = (
        (exchanged, run.words("context of another dialogue", "別の対話の文脈"), "#d94801"),
        (own, run.words("its own context", "本来の文脈"), "#08519c"),
    )
    with run.figure("context.png") as axes:
        for (losses, counts), label, color in curves:
            turns = np.flatnonzero(counts)
            axes.plot(turns + 1, np.exp(losses[turns] / counts[turns]), marker="o", markersize=4, color=color, label=label)
        axes.set(
            xlabel=run.words("turn of the dialogue", "対話の何番目の発話か"), ylabel=run.words("perplexity", "パープレキシティ")
        )
        axes.set_title(run.words("What the context is worth", "文脈の効果"))
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, draw, answer. Returns what is written to ``results.json``."""
    run = Experiment("hred", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    options = run.options
    corpus = prepare(run.data(read, made_up, "sgd"), options.dialogues, options.min_count)
    train = loader(corpus.train, options.batch, options.device, options.seed)
    valid, test = (loader(part, 2 * options.batch, options.device) for part in (corpus.valid, corpus.test))
    model = HRED(len(corpus.vocabulary), options.embedding, options.hidden, options.dropout).to(options.device)

    def measure(batch: DialogueBatch) -> dict[str, tg.Tensor]:
        return {"loss": cross_entropy(model(batch), batch)}

    step = Update(measure, tg.optim.Adam(model.parameters(), lr=options.lr), clip_norm=1.0)
    stopping = EarlyStopping("valid_loss", patience=None, restore_best=True)
    validate = functools.partial(evaluate, model, measure, valid, items=words_of)
    run.train(Trainer(model, run.compiled(step), train, validate=validate, stopping=stopping, items=words_of, **run.keeping))

    own, exchanged = by_turn(model, test), by_turn(model, test, exchanged=True)
    draw_context(run, own, exchanged)
    greedy, sampled = (list(converse(model, test, corpus.vocabulary, choose)) for choose in (GREEDY, SAMPLED))
    write_samples(run, [greedy, sampled], [run.words("most probable", "最尤"), run.words("sampled", "サンプル")])
    contexts = [("perplexity", own, ("perplexity", "パープレキシティ"))]
    if exchanged[1].any():  # a test of one dialogue has no other
        label = ("perplexity with the context of another dialogue", "別の対話の文脈を与えたときのパープレキシティ")
        contexts.append(("exchanged_perplexity", exchanged, label))
    return run.finish(
        [
            *[
                Result(name, perplexity(losses.sum() / counts.sum()), label, ".2f")
                for name, (losses, counts), label in contexts
            ],
            *distinct_results(
                {
                    "greedy": ("most probable replies", "最も確からしい応答", [turn.reply for turn in greedy]),
                    "sampled": ("sampled replies", "サンプリングした応答", [turn.reply for turn in sampled]),
                    "said": ("what people said", "人の発話", [turn.said for turn in greedy]),
                }
            ),
        ],
        vocabulary=len(corpus.vocabulary),
        steps_per_epoch=len(train),
    )
