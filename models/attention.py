"""Attention: at each word that it writes, the decoder looks at all states of the encoder, at those that matter most.

    e_tj = a(q_t, h_j)        how well the state h_j of the encoder fits            j = 1 .. S
    α_t  = softmax(e_t)       weights, sum 1
    c_t  = Σ_j α_tj h_j       the context

    bahdanau  a = vᵀ tanh(W q + U h)       q_t = s_{t-1},  s_t = f([E y_{t-1}; c_t], s_{t-1})
    dot       a = qᵀ h                     q_t = s_t,      s_t = f(E y_{t-1}, s_{t-1})
    general   a = qᵀ W h                   q_t = s_t
    concat    a = vᵀ tanh(W [q; h])        q_t = s_t
    scaled    softmax(Q Kᵀ / √d) V         Q = W_Q s,  K = W_K h,  V = W_V h

    s̃_t = tanh(W_c [c_t; s_t])             P(y_t | ...) = softmax(W_s s̃_t)

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2014 (here without maxout); Luong, Pham and
Manning, "Effective Approaches to Attention-based Neural Machine Translation", 2015 (dot, general, concat; global, without input feeding);
Vaswani et al., "Attention Is All You Need", 2017 (scaled). ``--self-attention``: the states of the encoder first look at one another.

With q_t = s_t the attention of all steps is one product of matrices; Bahdanau's has to go step by step, as c_t goes into s_t.

Data: that of models/seq2seq.py. What to expect: with ``--bidirectional`` dates are right after a few passes, and the map shows day,
month and year being looked up. For translations compare with models/seq2seq.py, above all long sentences.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.seq2seq import RNNS, Encoder, Seq2seq, State, Task, finish, learn, load_task, options_of, run_rnn, write
from tinygrad_ja import nn
from tinygrad_ja.data.text import pair_batch
from tinygrad_ja.nn.evaluating import evaluating
from tinygrad_ja.nn.utils.rnn import PackedSequence
from tinygrad_ja.training import Experiment, Option
from tinygrad_ja.viz import heat_map

TITLE = {
    "en": "attention: the decoder looks at every word of the source (JDLA E certificate: Attention, Seq2Seq)",
    "ja": "Attention: デコーダが原文のすべての単語を見る (E資格: Attention、Seq2Seq)",
}


# ---- the scores ----------------------------------------------------------------------------------


class Attention(nn.Module):
    """softmax of a score, and the weighted sum. A kind of attention says what its keys and values are, and what the score is."""

    def prepare(self, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """Keys and values of the states h (N, S, H): what is the same for all queries."""
        return h, h

    def score(self, q: tg.Tensor, keys: tg.Tensor) -> tg.Tensor:
        """e (N, T, S) for the queries q (N, T, H)."""
        return q @ keys.transpose(1, 2)

    def forward(
        self, q: tg.Tensor, keys: tg.Tensor, values: tg.Tensor, padding: tg.Tensor | None = None
    ) -> tuple[tg.Tensor, tg.Tensor]:
        """Contexts (N, T, H) and weights (N, T, S); nothing looks at padding (N, S)."""
        e = self.score(q, keys)
        if padding is not None:
            e = e.masked_fill(padding.unsqueeze(1), -math.inf)
        weights = e.softmax(2)
        return weights @ values, weights


class Dot(Attention):
    """qᵀ h."""

    def __init__(self, hidden: int) -> None:
        super().__init__()


class General(Attention):
    """qᵀ W h."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.W = nn.Linear(hidden, hidden, bias=False)

    def prepare(self, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        return self.W(h), h


class Additive(Attention):
    """vᵀ tanh(W q + U h)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.W = nn.Linear(hidden, hidden, bias=False)
        self.U = nn.Linear(hidden, hidden)
        self.v = nn.Linear(hidden, 1, bias=False)

    def prepare(self, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        return self.U(h), h

    def score(self, q: tg.Tensor, keys: tg.Tensor) -> tg.Tensor:
        return self.v(tg.tanh(self.W(q).unsqueeze(2) + keys.unsqueeze(1))).squeeze(3)


class Concat(Attention):
    """vᵀ tanh(W [q; h]); with W = (W_q W_h) that is W_q q + W_h h, so W_h h is made once."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.W = nn.Linear(2 * hidden, hidden, bias=False)
        self.v = nn.Linear(hidden, 1, bias=False)

    def prepare(self, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        return F.linear(h, self.W.weight[:, h.shape[2] :]), h

    def score(self, q: tg.Tensor, keys: tg.Tensor) -> tg.Tensor:
        by_query = F.linear(q, self.W.weight[:, : q.shape[2]])
        return self.v(tg.tanh(by_query.unsqueeze(2) + keys.unsqueeze(1))).squeeze(3)


class ScaledDot(Attention):
    """softmax(Q Kᵀ / √d) V."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.W_Q, self.W_K, self.W_V = [nn.Linear(hidden, hidden, bias=False) for _ in range(3)]

    def prepare(self, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        return self.W_K(h), self.W_V(h)

    def score(self, q: tg.Tensor, keys: tg.Tensor) -> tg.Tensor:
        return self.W_Q(q) @ keys.transpose(1, 2) / math.sqrt(keys.shape[2])


KINDS = {"bahdanau": Additive, "dot": Dot, "general": General, "concat": Concat, "scaled": ScaledDot}


# ---- encoder and decoder -------------------------------------------------------------------------


class SelfAttentiveEncoder(Encoder):
    """Each state of the encoder looks at all of them, itself too, and adds what it finds. ``weights``: those of the last call."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.attention = ScaledDot(self.rnn.hidden_size)

    def look(self, h: tg.Tensor, padding: tg.Tensor | None) -> tuple[tg.Tensor, tg.Tensor]:
        """What the states find, and the weights (N, S, S)."""
        return self.attention(h, *self.attention.prepare(h), padding)

    def forward(self, source: PackedSequence) -> tuple[tg.Tensor, list[tg.Tensor], tg.Tensor | None]:
        h, last, padding = super().forward(source)
        return h + self.look(h, padding)[0], last, padding


class AttentionDecoder(nn.Module):
    """Words (T, N) and a state -> scores of the next words (T, N, V), and the state behind them, with the ``weights`` (N, T, S)."""

    def __init__(self, words: int, embed: int, hidden: int, cell: str, dropout: float = 0.0, kind: str = "general") -> None:
        super().__init__()
        self.before = kind == "bahdanau"  # the RNN's step comes after the look
        self.embedding = nn.Embedding(words, embed)
        self.dropout = nn.Dropout(dropout)
        self.rnn = RNNS[cell](embed + hidden * self.before, hidden)
        self.attention = KINDS[kind](hidden)
        self.W_c = nn.Linear(2 * hidden, hidden)
        self.affine = nn.Linear(hidden, words)

    def start(self, h: tg.Tensor, last: list[tg.Tensor], padding: tg.Tensor | None) -> State:
        """The state before the first word."""
        keys, values = self.attention.prepare(h)
        return {"hidden": last, "keys": keys, "values": values, "padding": padding}

    def forward(self, words: tg.Tensor, state: State) -> tuple[tg.Tensor, State]:
        x = self.dropout(self.embedding(words))
        s, c, hidden, weights = (self.look_first if self.before else self.look_after)(x, state)
        s = tg.tanh(self.W_c(tg.cat([c, s], dim=2)))
        return self.affine(self.dropout(s)), {**state, "hidden": hidden, "weights": weights}

    def look_after(self, x: tg.Tensor, state: State) -> tuple[Any, ...]:
        """Luong: all s_t, then all c_t at once."""
        s, hidden = run_rnn(self.rnn, x, state["hidden"])
        c, weights = self.attention(s.transpose(0, 1), state["keys"], state["values"], state["padding"])
        return s, c.transpose(0, 1), hidden, weights

    def look_first(self, x: tg.Tensor, state: State) -> tuple[Any, ...]:
        """Bahdanau: c_t by s_{t-1}, then s_t."""
        hidden, made = state["hidden"], []
        for x_t in x.unbind(0):
            c, weights = self.attention(hidden[0].unsqueeze(1), state["keys"], state["values"], state["padding"])
            s, hidden = run_rnn(self.rnn, tg.cat([x_t, c[:, 0]], dim=1).unsqueeze(0), hidden)
            made.append((s, c.transpose(0, 1), weights))
        s, c, weights = zip(*made)
        return tg.cat(s), tg.cat(c), hidden, tg.cat(weights, dim=1)


# ---- pictures ------------------------------------------------------------------------------------


def draw_attention(run: Experiment, model: Seq2seq, task: Task, count: int = 4) -> None:
    """Which words of the source were looked at for each word that was written: ``attention.png`` and ``self_attention.png``."""
    long = [pair for pair in task.test if len(pair[0]) >= min(8, task.longest)]
    pairs = (long or task.test)[:count]
    written = write(model, task, pairs, run.options.device)
    batch, order = pair_batch(
        [(x, y) for (x, _), y in zip(pairs, written)], task.source, task.target, device=run.options.device
    )
    with evaluating(model), tg.no_grad():
        _, state = model.decoder(batch.given, model.read(batch.source))
    weight = run.words("weight", "重み")
    columns = 2 if len(pairs) > 1 else 1
    rows = -(-len(pairs) // columns)
    with run.figure("attention.png", rows, columns, (5.6 * columns, 4.4 * rows)) as axes:
        names = run.words("written", "出力"), run.words("source", "原文")
        for at, i in enumerate(order):
            source, target = pairs[i][0], [*written[i], "EOS"]
            place = axes.flat[i] if len(pairs) > 1 else axes
            picture = heat_map(
                place, state["weights"][at, : len(target), : len(source)], target, source, names=names, largest=1.0
            )
        picture.figure.colorbar(picture, ax=axes, label=weight, shrink=0.8)
    if isinstance(model.encoder, SelfAttentiveEncoder):
        with evaluating(model), tg.no_grad():
            h, _, padding = Encoder.forward(model.encoder, batch.source)
            weights = model.encoder.look(h, padding)[1]
        source = pairs[order[0]][0]
        with run.figure("self_attention.png", size=(5.6, 4.8)) as axes:
            names = run.words("word that looks", "見る単語"), run.words("word looked at", "見られる単語")
            matrix = weights[0, : len(source), : len(source)]
            picture = heat_map(axes, matrix, source, source, names=names, largest=1.0)
            picture.figure.colorbar(picture, ax=axes, label=weight)


# ---- the program ---------------------------------------------------------------------------------


OWN = [
    Option("attention", "general", ("the score", "スコアの種類"), choices=list(KINDS)),
    Option("self_attention", False, ("the encoder's states look at one another", "エンコーダの状態どうしも見る")),
]


def build(task: Task, o: argparse.Namespace) -> Seq2seq:
    """The model that the command line asks for."""
    sizes = (o.embed, o.hidden, o.cell, o.dropout)
    encoder = (SelfAttentiveEncoder if o.self_attention else Encoder)(len(task.source), *sizes, o.bidirectional)
    return Seq2seq(encoder, AttentionDecoder(len(task.target), *sizes, o.attention), o.teacher_forcing)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, write the test part, draw. Returns the results that are also written to ``results.json``."""
    options, epochs = options_of(argv, "dates")
    run = Experiment("attention", TITLE, [*options, *OWN], argv, epochs=epochs, quick_epochs=4)
    task = load_task(run)
    model = build(task, run.options).to(run.options.device)
    trainer = learn(run, model, task)
    draw_attention(run, model, task)
    return finish(run, trainer, model, task)
