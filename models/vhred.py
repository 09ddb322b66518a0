"""VHRED: HRED with a latent variable z_n in each utterance, what is going to be said, before it is decided how it is worded.

    prior      p(z_n | U_<n)  = N(μ_p, diag σ_p²)     from the context c_{n-1}
    posterior  q(z_n | U_<=n) = N(μ_q, diag σ_q²)     from c_{n-1} and the summary h_n of the utterance itself
    z_n = μ_q + σ_q ∘ ε,  ε ~ N(0, I)                 in training; z_n ~ prior in a conversation
    d_{n,0} = tanh(D_0 [c_{n-1}; z_n] + b_0), and so on as in ``hred.py`` with [c_{n-1}; z_n] for c_{n-1}

    log P(U_1 .. U_N) >= Σ_n E_q[log P(U_n | z_n, U_<n)] - KL(q(z_n | U_<=n) || p(z_n | U_<n))        (ELBO)
    KL(q || p) = ½ Σ_i (log σ_p²/σ_q² + (σ_q² + (μ_q - μ_p)²) / σ_p² - 1)

A decoder that is good at guessing words learns to do without z, and the KL falls to 0. Against that, the weight of the KL grows from 0 to 1
(annealing), the decoder loses a share of its words in training (word dropout), and the first nats of the KL cost nothing (free bits). (Serban
et al., A hierarchical latent variable encoder-decoder model for generating dialogues, 2017; Bowman et al., Generating sentences from a
continuous space, 2016; Kingma et al., Improving variational inference with inverse autoregressive flow, 2016.)

Data: as for ``hred.py``. In the run of docs/models/vhred.md the bound by the ELBO was 9 % above HRED's perplexity (12.45, 11.41), the KL 1.9
nats for an utterance. Distinct-2 of the most probable replies was 1.1 times HRED's, which PyTorch's pair of runs does not show.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.hred import (
    EPOCHS,
    GREEDY,
    HRED,
    OPTIONS,
    PAD,
    QUICK_EPOCHS,
    SAMPLED,
    Corpus,
    converse,
    cross_entropy,
    distinct_results,
    draw_lines,
    loader,
    made_up,
    prepare,
    read,
    words_of,
    write_samples,
)
from tinygrad_ja import nn
from tinygrad_ja.data import DialogueBatch, DialogueCollate
from tinygrad_ja.data.text import WordTokenizer
from tinygrad_ja.nn.evaluating import evaluating
from tinygrad_ja.training import EarlyStopping, Trainer, Update, evaluate
from tinygrad_ja.training.experiment import Experiment, Option, Result
from tinygrad_ja.training.metrics import perplexity

TITLE = {
    "en": "VHRED: dialogue with a latent variable for each utterance, ELBO and KL annealing (JDLA E certificate: VHRED, VAE)",
    "ja": "VHRED: 発話ごとの潜在変数による対話。ELBO と KL アニーリング (E資格: VHRED、VAE)",
}

OWN = [
    Option("latent", 48, ("size of z", "z の次元"), quick=16),
    Option(
        "anneal",
        0.5,
        ("share of the training in which the weight of the KL grows to 1", "KL の重みを 1 まで増やす学習の割合"),
        most=1.0,
    ),
    Option(
        "word_drop", 0.25, ("share of the decoder's words that become unknown", "デコーダの入力で未知語にする割合"), most=1.0
    ),
    Option(
        "free_bits", 1.0, ("nats of an utterance's KL that cost nothing", "発話の KL のうち損失に数えない nat 数"), least=0.0
    ),
    Option("samples", 10, ("samples of z for the tighter bound", "より厳しい下界に使う z の標本数"), quick=3, later=True),
]


class Gaussian(NamedTuple):
    """Means and variances (..., Z) of independent normal distributions."""

    mean: tg.Tensor
    variance: tg.Tensor

    def sample(self) -> tg.Tensor:
        """μ + σ ∘ ε: the randomness is in ε, so gradients reach μ and σ (reparameterisation)."""
        return self.mean + self.variance.sqrt() * tg.randn_like(self.mean)

    def log_density(self, z: tg.Tensor) -> tg.Tensor:
        """log N(z; μ, σ²) (...), summed over the Z."""
        return -0.5 * ((z - self.mean) ** 2 / self.variance + self.variance.log() + math.log(2 * math.pi)).sum(-1)


def kl_divergence(q: Gaussian, p: Gaussian) -> tg.Tensor:
    """KL(q || p) (...) in closed form, summed over the Z."""
    return 0.5 * (tg.log(p.variance / q.variance) + (q.variance + (q.mean - p.mean) ** 2) / p.variance - 1).sum(-1)


class GaussianNet(nn.Module):
    """μ and σ² from features, by one hidden layer: σ² = softplus(·), kept away from 0."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, features)
        self.mean = nn.Linear(features, latent)
        self.variance = nn.Linear(features, latent)

    def forward(self, features: tg.Tensor) -> Gaussian:
        hidden = tg.tanh(self.hidden(features))
        return Gaussian(self.mean(hidden), F.softplus(self.variance(hidden)) + 1e-4)


class Annealing(nn.Module):
    """The weight of the KL: step / steps, 1 from then on. The number of the step is a buffer, so that checkpoints have it."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("done", tg.zeros(()))

    def forward(self) -> tg.Tensor:
        if not self.training:
            return tg.ones_like(self.done)
        self.done += 1
        return (self.done / max(self.steps, 1)).clamp(max=1.0)


class VHRED(HRED):
    """HRED whose decoder is led by [c_{n-1}; z_n]."""

    def __init__(
        self,
        words: int,
        embedding: int,
        hidden: int,
        latent: int,
        dropout: float = 0.0,
        word_drop: float = 0.0,
        anneal: int = 0,
    ) -> None:
        super().__init__(words, embedding, hidden, dropout, word_drop, latent)
        self.prior = GaussianNet(hidden, latent)
        self.posterior = GaussianNet(2 * hidden, latent)
        self.kl_weight = Annealing(anneal)

    def infer(self, words: tg.Tensor) -> tuple[tg.Tensor, Gaussian, Gaussian]:
        """Contexts (D, N, H), posterior and prior (D, N, Z) of all utterances."""
        summaries, contexts = self.encode(words)
        return contexts, self.posterior(tg.cat([contexts, summaries], dim=2)), self.prior(contexts)

    def condition(self, words: tg.Tensor) -> tg.Tensor:
        """[c_{n-1}; z_n] with z_n from the prior, a new one at each call: (D, N, H + Z)."""
        contexts = self.encode(words)[1]
        return tg.cat([contexts, self.prior(contexts).sample()], dim=2)

    def forward(self, batch: DialogueBatch) -> tuple[tg.Tensor, tg.Tensor]:  # type: ignore[override]
        """Scores (K, V) of the words with z from the posterior, and KL(q || p) (D, N), 0 where there is no utterance."""
        contexts, q, p = self.infer(batch.words)
        scores = self.decode(batch, tg.cat([contexts, q.sample()], dim=2))
        return scores, kl_divergence(q, p) * (batch.words[0] != PAD)


def elbo(model: VHRED, batch: DialogueBatch, free_bits: float = 0.0) -> dict[str, tg.Tensor]:
    """The parts of the negative ELBO, in nats per word; ``loss`` has the KL with its weight of this step."""
    scores, kl = model(batch)
    there = batch.words[0] != PAD
    words, utterances = (batch.words != PAD).sum(), there.sum()
    reconstruction = cross_entropy(scores, batch)
    charged = (kl.clamp(min=free_bits) * there if model.training and free_bits else kl).sum() / words
    weight = model.kl_weight()
    return {
        "loss": reconstruction + weight * charged,
        "reconstruction": reconstruction,
        "kl": kl.sum() / utterances,
        "kl_weight": weight,
    }


def importance_bound(model: VHRED, batches: Iterable[DialogueBatch], samples: int) -> float:
    """A tighter bound than the ELBO, in nats per word: -log 1/K Σ_k P(U | z_k) p(z_k) / q(z_k), z_k ~ q (Burda et al. 2016)."""
    total, words = 0.0, 0
    with evaluating(model), tg.no_grad():
        for batch in batches:
            contexts, q, p = model.infer(batch.words)
            turns, n = contexts.shape[:2]
            logs = []
            for _ in range(samples):
                z = q.sample()
                nats = cross_entropy(model.decode(batch, tg.cat([contexts, z], dim=2)), batch, "none")
                words_in = tg.zeros(turns * n, device=nats.device).index_add(0, batch.places % (turns * n), nats)
                logs.append((p.log_density(z) - q.log_density(z)).flatten() - words_in)
            there = (batch.words[0] != PAD).flatten()
            bound = tg.logsumexp(tg.stack(logs), 0) - math.log(samples)
            total -= float((bound * there).sum().item())
            words += int(words_of(batch))
    return total / words


def draw_curves(run: Experiment, trainer: Trainer) -> None:
    """``elbo.png``: reconstruction and KL over the steps, with the weight of the KL."""
    rows = trainer.history
    steps = [row["step"] for row in rows]
    panels = (
        ("reconstruction", run.words("reconstruction, nats per word", "再構成項 (nat / 単語)")),
        ("kl", run.words("KL, nats per utterance", "KL (nat / 発話)")),
        ("kl_weight", run.words("weight of the KL", "KL の重み")),
    )
    parts = (("", run.words("training", "訓練"), "#08519c"), ("valid_", run.words("validation", "検証"), "#d94801"))
    with run.figure("elbo.png", 1, 3, size=(13.0, 3.8)) as grid:
        for axes, (name, title) in zip(grid, panels):
            for prefix, label, color in parts[: 1 if name == "kl_weight" else 2]:
                points = [(step, row[prefix + name]) for step, row in zip(steps, rows) if prefix + name in row]
                axes.plot([x for x, _ in points], [y for _, y in points], color=color, label=label, marker="o", markersize=3)
            axes.set(title=title, xlabel=run.words("step", "ステップ"))
            axes.set_ylim(bottom=0.0 if name != "reconstruction" else None)
            axes.grid(alpha=0.3)
        grid[0].legend(frameon=False)


def draw_latent(run: Experiment, model: VHRED, corpus: Corpus) -> None:
    """``latent.png``: the most probable replies to one context for eight z from the prior, and the KL of each element of z over the test."""
    join = WordTokenizer().detokenize
    dialogue = corpus.test[len(corpus.test) // 2][:5]
    batch = DialogueCollate(PAD)([dialogue] * 8)
    with evaluating(model), tg.no_grad():
        words = batch.words.to(run.options.device)
        turn = len(dialogue) - 1
        replies = model.replies(model.condition(words)[turn], GREEDY)
        kls = []
        for part in loader(corpus.test, 32, run.options.device):
            _, q, p = model.infer(part.words)
            each = kl_divergence(*[Gaussian(*[value.unsqueeze(-1) for value in one]) for one in (q, p)])
            kls.append(each[part.words[0] != PAD])
    before = [f"{'US'[d % 2]}: {join(corpus.vocabulary.decode(text))}" for d, text in enumerate(dialogue[:-1])]
    after = [f"[z{number}] {join(corpus.vocabulary.decode(reply))}" for number, reply in enumerate(replies, 1)]
    with run.figure("latent.png", 1, 2, size=(12.5, 4.8)) as (left, right):
        left.set_title(run.words("One context, eight z: most probable replies", "1 つの文脈と 8 個の z: 最も確からしい応答"))
        left.figure.set_figheight(max(4.8, draw_lines(left, before, after, width=80) + 0.6))
        height = np.sort(tg.cat(kls).mean(0).cpu().numpy())[::-1]
        right.bar(np.arange(1, len(height) + 1), height, color="#08519c")
        right.set_title(
            run.words("How much each element of z is used: its KL", "z の各成分がどれだけ使われるか: 成分ごとの KL")
        )
        right.set(
            xlabel=run.words("elements of z, sorted", "z の成分 (大きい順)"),
            ylabel=run.words("nats per utterance", "nat / 発話"),
        )
        right.grid(alpha=0.3, axis="y")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, draw, answer. Returns what is written to ``results.json``."""
    run = Experiment("vhred", TITLE, [*OPTIONS, *OWN], argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    options = run.options
    corpus = prepare(run.data(read, made_up, "sgd"), options.dialogues, options.min_count)
    train = loader(corpus.train, options.batch, options.device, options.seed)
    valid, test = (loader(part, 2 * options.batch, options.device) for part in (corpus.valid, corpus.test))
    sizes = (len(corpus.vocabulary), options.embedding, options.hidden, options.latent)
    anneal = round(options.anneal * options.epochs * len(train))
    model = VHRED(*sizes, options.dropout, options.word_drop, anneal).to(options.device)

    def measure(batch: DialogueBatch) -> dict[str, tg.Tensor]:
        return elbo(model, batch, options.free_bits)

    step = Update(measure, tg.optim.Adam(model.parameters(), lr=options.lr), clip_norm=1.0)
    stopping = EarlyStopping("valid_loss", patience=None, restore_best=True)
    validate = functools.partial(evaluate, model, measure, valid, items=words_of)
    trainer = Trainer(
        model,
        run.compiled(step),
        train,
        validate=validate,
        stopping=stopping,
        items=words_of,
        log_every=max(len(train) // 5, 1),
        curves=False,
        **run.keeping,
    )
    run.train(trainer)

    draw_curves(run, trainer)
    draw_latent(run, model, corpus)
    bound = evaluate(model, measure, test, items=words_of)
    words = sum(int(words_of(batch)) for batch in test) / sum(map(len, corpus.test))
    tighter = importance_bound(model, test, options.samples)
    versions = [list(converse(model, test, corpus.vocabulary, GREEDY)) for _ in range(5)]
    sampled = list(converse(model, test, corpus.vocabulary, SAMPLED))
    label = run.words("most probable, z", "最尤、z")
    write_samples(
        run, [*versions[:3], sampled], [*(f"{label}{number}" for number in (1, 2, 3)), run.words("sampled", "サンプル")]
    )
    different = [len({tuple(turn.reply) for turn in turns}) for turns in zip(*versions)]
    return run.finish(
        [
            Result(
                "perplexity_bound",
                perplexity(bound["loss"]),
                ("perplexity, bound by the ELBO", "パープレキシティ (ELBO による上界)"),
                ".2f",
            ),
            Result(
                "perplexity_importance",
                perplexity(tighter),
                (
                    f"perplexity, bound by {options.samples} samples of z",
                    f"パープレキシティ (z の標本 {options.samples} 個による上界)",
                ),
                ".2f",
            ),
            Result(
                "reconstruction", bound["reconstruction"], ("reconstruction, nats per word", "再構成項 (nat / 単語)"), ".3f"
            ),
            Result(
                "kl", (bound["loss"] - bound["reconstruction"]) * words, ("KL, nats per utterance", "KL (nat / 発話)"), ".3f"
            ),
            Result(
                "different",
                float(np.mean(different)),
                ("different replies for 5 z, of 5", "5 個の z による異なる応答の数"),
                ".2f",
            ),
            *distinct_results(
                {
                    "greedy": ("most probable replies", "最も確からしい応答", [turn.reply for turn in versions[0]]),
                    "sampled": ("sampled replies", "サンプリングした応答", [turn.reply for turn in sampled]),
                    "said": ("what people said", "人の発話", [turn.said for turn in sampled]),
                }
            ),
        ],
        vocabulary=len(corpus.vocabulary),
        steps_per_epoch=len(train),
    )
