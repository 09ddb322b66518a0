"""The Transformer translates English into Japanese: attention alone, no recurrence.

    PE(pos, 2i) = sin(pos / 10000^(2i/d))      PE(pos, 2i+1) = cos(pos / 10000^(2i/d))
    Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V
    MultiHead(Q, K, V) = concat(head_1 ... head_h) W_O,   head_i = Attention(Q W_Q^i, K W_K^i, V W_V^i)
    FFN(x) = max(0, x W_1 + b_1) W_2 + b_2
    sublayer: LayerNorm(x + f(x)), with --pre-norm x + f(LayerNorm(x))
    lrate = d^-0.5 min(step^-0.5, step warmup^-1.5)

Tokens enter as √d times their embedding plus PE. The pad mask hides the filling behind short sentences, the look-ahead mask hides from a
position what comes after it. The loss has label smoothing 0.1, the output layer shares its matrix with the embedding of the Japanese tokens,
and the weights that translate are the mean over about the last tenth of the steps (in the paper that of the last checkpoints). (Vaswani et
al., Attention is all you need, 2017.)

Data: 50,000 short sentences of the Tanaka corpus (small_parallel_enja), tokens as they stand there. What is reported:
BLEU of tokens and of characters on the 500 sentences of the test, short and long ones apart, and what the heads look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models.seq2seq import LONG, Pair, Task, bleu_of
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, ShapeBatchSampler
from tinygrad_ja.data.datasets import SmallParallelEnJa, synthetic
from tinygrad_ja.nn.decoding import beam_search, greedy_search
from tinygrad_ja.nn.evaluating import evaluating
from tinygrad_ja.optim.swa_utils import AveragedModel
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update, evaluate
from tinygrad_ja.viz.maps import heat_map

TITLE = {
    "en": "Transformer: English-Japanese translation by attention alone (JDLA E certificate: Transformer)",
    "ja": "Transformer: 注意機構だけによる英日翻訳 (E資格: Transformer)",
}


class Size(NamedTuple):
    """d_model, width of the FFN, heads, layers of the encoder and of the decoder."""

    d: int
    ffn: int
    heads: int
    layers: int


SIZES = {"tiny": Size(64, 128, 4, 2), "small": Size(128, 512, 4, 3), "base": Size(512, 2048, 8, 6)}


# ---- the network ---------------------------------------------------------------------------------


def positional_encoding(length: int, d: int) -> tg.Tensor:
    """PE (length, d): sines in the even columns, cosines in the odd ones."""
    pos = tg.arange(length).float().unsqueeze(1)
    angle = pos / 10000 ** (tg.arange(0, d, 2).float() / d)
    return tg.stack([tg.sin(angle), tg.cos(angle)], dim=2).reshape(length, -1)[:, :d]


class MultiHeadAttention(nn.Module):
    """``heads`` attentions side by side. Queries come from x (N, T, d), keys and values from memory (N, S, d), x itself if there is none;
    mask: broadcasts to (N, 1, T, S), True where a query may look. The weights (N, heads, T, S) of the last call are in ``weights`` while
    ``keep`` is set."""

    def __init__(self, d: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads, self.keep = heads, False
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: tg.Tensor, mask: tg.Tensor, memory: tg.Tensor | None = None) -> tg.Tensor:
        memory = x if memory is None else memory
        q, k, v = self.split(self.query(x)), self.split(self.key(memory)), self.split(self.value(memory))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        weights = tg.softmax(scores.masked_fill(~mask, -math.inf), -1)
        if self.keep:
            self.weights = weights.detach()
        return self.out((self.dropout(weights) @ v).transpose(1, 2).reshape(x.shape))

    def split(self, x: tg.Tensor) -> tg.Tensor:
        """(N, T, d) -> (N, heads, T, d / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """FFN(x), for each position by itself."""

    def __init__(self, d: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(d, width), nn.Linear(width, d)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.outer(self.dropout(tg.relu(self.inner(x))))


class Sublayer(nn.Module):
    """The way around a part f, and the normalisation: LayerNorm(x + f(x)), or x + f(LayerNorm(x)) with ``pre_norm``."""

    def __init__(self, part: nn.Module, d: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.part, self.norm, self.dropout, self.pre_norm = part, nn.LayerNorm(d), nn.Dropout(dropout), pre_norm

    def forward(self, x: tg.Tensor, *others: tg.Tensor) -> tg.Tensor:
        if self.pre_norm:
            return x + self.dropout(self.part(self.norm(x), *others))
        return self.norm(x + self.dropout(self.part(x, *others)))


class EncoderLayer(nn.Module):
    """Self-attention, then the FFN."""

    def __init__(self, size: Size, dropout: float = 0.1, pre_norm: bool = False) -> None:
        super().__init__()
        self.self_attention = Sublayer(MultiHeadAttention(size.d, size.heads, dropout), size.d, dropout, pre_norm)
        self.feed_forward = Sublayer(FeedForward(size.d, size.ffn, dropout), size.d, dropout, pre_norm)

    def forward(self, x: tg.Tensor, mask: tg.Tensor) -> tg.Tensor:
        return self.feed_forward(self.self_attention(x, mask))


class DecoderLayer(nn.Module):
    """Self-attention to what is written so far, source-target attention to the encoded sentence, then the FFN."""

    def __init__(self, size: Size, dropout: float = 0.1, pre_norm: bool = False) -> None:
        super().__init__()
        self.self_attention = Sublayer(MultiHeadAttention(size.d, size.heads, dropout), size.d, dropout, pre_norm)
        self.source_attention = Sublayer(MultiHeadAttention(size.d, size.heads, dropout), size.d, dropout, pre_norm)
        self.feed_forward = Sublayer(FeedForward(size.d, size.ffn, dropout), size.d, dropout, pre_norm)

    def forward(self, y: tg.Tensor, memory: tg.Tensor, mask: tg.Tensor, memory_mask: tg.Tensor) -> tg.Tensor:
        y = self.self_attention(y, mask)
        return self.feed_forward(self.source_attention(y, memory_mask, memory))


class TokenEmbedding(nn.Module):
    """√d · embedding + PE, then dropout: tokens (N, T) -> (N, T, d)."""

    def __init__(self, tokens: int, d: int, dropout: float, longest: int = 128) -> None:
        super().__init__()
        self.d, self.dropout = d, nn.Dropout(dropout)
        self.weight = nn.Parameter(tg.empty(tokens, d))
        nn.init.normal_(self.weight, std=d**-0.5)
        self.register_buffer("pe", positional_encoding(longest, d), persistent=False)

    def forward(self, tokens: tg.Tensor) -> tg.Tensor:
        return self.dropout(math.sqrt(self.d) * F.embedding(tokens, self.weight) + self.pe[: tokens.shape[1]])


def pad_mask(tokens: tg.Tensor, pad: int) -> tg.Tensor:
    """(N, T) -> (N, 1, 1, T), False at the filling."""
    return (tokens != pad).unsqueeze(1).unsqueeze(1)


def look_ahead_mask(length: int, device: Any = None) -> tg.Tensor:
    """(T, T), True where the column is not after the row."""
    at = tg.arange(length, device=device)
    return at.unsqueeze(0) <= at.unsqueeze(1)


class Transformer(nn.Module):
    """``forward(source (N, S), target (N, T))``: scores (N, T, V) of the token that follows each of the target."""

    def __init__(
        self, source_tokens: int, target_tokens: int, size: Size, dropout: float = 0.1, pre_norm: bool = False, pad: int = 0
    ) -> None:
        super().__init__()
        self.pad = pad
        self.source, self.target = (TokenEmbedding(n, size.d, dropout) for n in (source_tokens, target_tokens))
        self.encoder = nn.ModuleList([EncoderLayer(size, dropout, pre_norm) for _ in range(size.layers)])
        self.decoder = nn.ModuleList([DecoderLayer(size, dropout, pre_norm) for _ in range(size.layers)])
        self.encoded, self.decoded = (nn.LayerNorm(size.d) if pre_norm else nn.Identity() for _ in range(2))

    def encode(self, source: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """``(memory, mask)``: the encoded tokens (N, S, d) and the pad mask."""
        x, mask = self.source(source), pad_mask(source, self.pad)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoded(x), mask

    def decode(self, target: tg.Tensor, memory: tg.Tensor, memory_mask: tg.Tensor) -> tg.Tensor:
        """(N, T, d). Filling stands behind the sentence, so the look-ahead mask hides it too."""
        y, mask = self.target(target), look_ahead_mask(target.shape[1], target.device)
        for layer in self.decoder:
            y = layer(y, memory, mask, memory_mask)
        return self.decoded(y)

    def forward(self, source: tg.Tensor, target: tg.Tensor) -> tg.Tensor:
        return F.linear(self.decode(target, *self.encode(source)), self.target.weight)

    def step(self, tokens: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        """For ``nn.decoding``: the scores (N, V) after ``tokens`` (N,); state: what is written before, the memory and its mask."""
        written, memory, mask = state
        written = tg.cat([written, tokens.unsqueeze(1)], 1)
        return F.linear(self.decode(written, memory, mask)[:, -1], self.target.weight), (written, memory, mask)

    def translate(self, source: tg.Tensor, bos: int, eos: int, beams: int = 1, max_length: int = 30) -> list[list[int]]:
        """The tokens of the translations of source (N, S), by greedy or by beam search."""
        with evaluating(self), tg.no_grad():
            n = source.shape[0]
            state = (source.new_zeros(n, 0), *self.encode(source))
            start = source.new_zeros(n) + bos
            if beams == 1:
                return greedy_search(self.step, state, start, eos, max_length)
            return beam_search(self.step, state, start, eos, max_length, beams, length_penalty=0.6)


# ---- the data ------------------------------------------------------------------------------------

SHAPES = [(9, 10), (10, 13), (12, 15), (17, 17)]
"""Tokens of the source and of the target to which sentences are filled up; so a compiled step meets four shapes, with 14 % of filling."""


def real_pairs(root: Any = None, download: bool = True) -> list[Any]:
    """The parts train, dev and test of the corpus."""
    return [SmallParallelEnJa(root, part, download=download).items for part in ("train", "dev", "test")]


def synthetic_pairs() -> list[Any]:
    """The same from a tiny grammar."""
    pairs = synthetic.TinyEnJa(generator=tg.Generator().manual_seed(0)).items
    return [pairs[200:], pairs[:100], pairs[100:200]]


def task_of(parts: Sequence[Any], options: Any) -> Task:
    """Tokens and vocabularies of as many pairs as the options want."""
    few = (100, 200) if options.quick else (None, None)
    return Task([parts[0][: options.pairs], parts[1][: few[0]], parts[2][: few[1]]], words=True)


def loader_of(task: Task, pairs: Sequence[Pair], tokens: int, device: Any, seed: int | None = None) -> DataLoader:
    """Batches ``(source (N, S), target (N, T + 1))`` of about ``tokens`` target tokens, in random order by ``seed``. EOS ends both sentences,
    BOS begins the target."""
    numbers = [(task.source.encode(x, eos=True), task.target.encode(y, bos=True, eos=True)) for x, y in pairs]
    sampler = ShapeBatchSampler([(len(x), len(y) - 1) for x, y in numbers], SHAPES, tokens, shuffle=seed is not None)
    rows = []
    for (x, y), (s, t) in zip(numbers, [SHAPES[number] for number in sampler.shape_of]):
        rows.append((np.array(x + [task.source.pad] * (s - len(x))), np.array(y + [task.target.pad] * (t + 1 - len(y)))))
    generator = None if seed is None else tg.Generator().manual_seed(seed)
    return DataLoader(rows, batch_sampler=sampler, device=device, generator=generator)


def translations(model: Transformer, task: Task, sentences: Sequence[list[str]], beams: int = 1) -> list[list[str]]:
    """The target tokens for each sentence."""
    device, made = model.source.weight.device, []
    for first in range(0, len(sentences), 100):
        source, _ = task.source.encode_batch(sentences[first : first + 100], eos=True, batch_first=True, device=device)
        made += [task.target.decode(y) for y in model.translate(source, task.target.bos, task.target.eos, beams)]
    return made


# ---- training ------------------------------------------------------------------------------------


def recent(mean: Any, weights: Any, steps: Any) -> Any:
    """The mean of the weights over about the last tenth of the steps."""
    return mean + (weights - mean) * (10 / (steps + 10))


def measure(model: Transformer, batch: Any, smoothing: float = 0.0) -> dict[str, tg.Tensor]:
    """Cross-entropy of the next token, and the share of right ones; filling is left out."""
    source, target = batch
    scores, wanted = model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten()
    counts = wanted != model.pad
    right = ((scores.argmax(-1) == wanted) & counts).sum() / counts.sum()
    return {"loss": F.cross_entropy(scores, wanted, ignore_index=model.pad, label_smoothing=smoothing), "accuracy": right}


def new_model(task: Task, options: Any) -> Transformer:
    """The network by the options."""
    sizes = len(task.source), len(task.target)
    return Transformer(*sizes, SIZES[options.size], options.dropout, options.pre_norm, task.target.pad).to(options.device)


def learn(run: Experiment, task: Task) -> Transformer:
    """Train; the network with the mean weights."""
    options, size = run.options, SIZES[run.options.size]
    model = new_model(task, options)
    mean = AveragedModel(model, avg_fn=recent)
    averaged: Any = mean.module
    optimizer = tg.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    schedule = tg.optim.lr_scheduler.NoamLR(optimizer, size.d, options.warmup)
    update = Update(lambda batch: measure(model, batch, options.smoothing), optimizer, schedule=schedule)
    held_out = loader_of(task, task.valid, options.tokens, options.device)

    def validate() -> dict[str, float]:
        values = evaluate(averaged, lambda batch: measure(averaged, batch, options.smoothing), held_out)
        return {**values, "bleu": bleu_of(translations(averaged, task, [x for x, _ in task.valid]), task.valid)}

    loader = loader_of(task, task.train, options.tokens, options.device, options.seed)
    trainer = Trainer(model, run.compiled(update), loader, validate=validate, parts={"mean": mean}, **run.keeping)
    trainer.on("step", lambda trainer: mean.update_parameters(model))
    run.train(trainer)
    return averaged


# ---- pictures ------------------------------------------------------------------------------------


def attention_maps(model: Transformer, part: str, source: tg.Tensor, target: tg.Tensor) -> list[tg.Tensor]:
    """The weights (heads, T, S) of each layer of the decoder for one pair. part: ``"source_attention"`` or ``"self_attention"``."""
    layers: list[MultiHeadAttention] = [getattr(layer, part).part for layer in model.decoder]
    for layer in layers:
        layer.keep = True
    with evaluating(model), tg.no_grad():
        model(source, target)
    for layer in layers:
        layer.keep = False
    return [layer.weights[0] for layer in layers]


def draw(run: Experiment, model: Transformer, task: Task, sentence: list[str]) -> None:
    """What each head of the last three layers looks at while ``sentence`` is translated."""
    device, end = run.options.device, [task.target.eos]
    numbers = task.source.encode(sentence, eos=True)
    source = tg.tensor([numbers], device=device)
    found = model.translate(source, task.target.bos, task.target.eos)[0]
    read, written = [task.target.bos, *found], task.target.decode(found + end, keep_specials=True)
    from_source = task.source.decode(numbers, keep_specials=True)
    so_far = task.target.decode(read, keep_specials=True)
    names = run.words("written", "出力"), run.words("source", "原文")
    looks = run.words("word that looks", "見る単語"), run.words("word looked at", "見られる単語")
    for part, rows, columns, axis, title in (
        ("source_attention", written, from_source, names, run.words("source-target attention", "ソース・ターゲット注意")),
        ("self_attention", so_far, so_far, looks, run.words("self-attention of the decoder", "デコーダの自己注意")),
    ):
        maps = attention_maps(model, part, source, tg.tensor([read], device=device))
        first, heads = max(0, len(maps) - 3), len(maps[0])
        shape = len(maps) - first, heads
        with run.figure(f"{part}.png", *shape, (3.2 * heads, 3.4 * shape[0]), title) as grid:
            for (row, head), axes in np.ndenumerate(np.asarray(grid).reshape(shape)):
                layer = first + row
                name = run.words(f"layer {layer + 1}, head {head + 1}", f"第 {layer + 1} 層、ヘッド {head + 1}")
                outer = axis[0] if head == 0 else "", axis[1] if row == shape[0] - 1 else ""
                picture = heat_map(axes, maps[layer][head], rows, columns, name, outer, largest=1.0)
            picture.figure.colorbar(picture, ax=grid, label=run.words("weight", "重み"), shrink=0.6)


# ---- the program ---------------------------------------------------------------------------------

EPOCHS, QUICK_EPOCHS = 16, 6
OPTIONS = [
    Option("size", "small", ("size of the network", "ネットワークの大きさ"), quick="tiny", choices=list(SIZES)),
    Option("pre_norm", False, ("LayerNorm before each part, not after it", "LayerNorm を各部分の後でなく前に置く")),
    Option("warmup", 1500, ("steps in which the learning rate rises", "学習率を上げていくステップ数"), quick=60),
    Option("dropout", 0.1, ("share of dropped elements", "ドロップアウトの割合"), most=1.0),
    Option("smoothing", 0.1, ("label smoothing", "ラベル平滑化"), most=1.0),
    Option("tokens", 2048, ("target tokens in a batch", "1 バッチの目的言語トークン数"), quick=800),
    Option("pairs", 50_000, ("pairs to learn from", "学習に使う文の組の数"), quick=3000),
    Option("beams", 4, ("beams of the search", "ビームサーチのビーム数"), later=True),
]
RESULTS = {
    "bleu": ("BLEU of tokens, test, beam search", "BLEU (トークン、テスト、ビームサーチ)"),
    "bleu_greedy": ("BLEU of tokens, greedy search", "BLEU (トークン、貪欲法)"),
    "bleu_characters": ("BLEU of characters, beam search", "BLEU (文字、ビームサーチ)"),
    "bleu_short": (f"BLEU of tokens, under {LONG} English words", f"BLEU (トークン、英語 {LONG} 語未満の文)"),
    "bleu_long": (f"BLEU of tokens, {LONG} words and more", f"BLEU (トークン、英語 {LONG} 語以上の文)"),
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, translate the test, draw. Returns the results that are also written to ``results.json``."""
    run = Experiment("transformer", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    task = task_of(run.data(real_pairs, synthetic_pairs, "small_parallel_enja"), run.options)
    bleu_of([["a"]], [(["a"], ["a"])])  # if its package is missing, say so before the training and not after
    model = learn(run, task)

    sentences = [x for x, _ in task.test]
    greedy, beam = [translations(model, task, sentences, beams) for beams in (1, run.options.beams)]
    scores = {"bleu": bleu_of(beam, task.test), "bleu_greedy": bleu_of(greedy, task.test)}
    scores["bleu_characters"] = bleu_of(beam, task.test, characters=True)
    for name, long in (("bleu_short", False), ("bleu_long", True)):
        if chosen := [n for n, sentence in enumerate(sentences) if (len(sentence) >= LONG) == long]:
            scores[name] = bleu_of([beam[n] for n in chosen], [task.test[n] for n in chosen])
    draw(run, model, task, min(sentences[:50], key=lambda sentence: abs(len(sentence) - 7)))
    samples = [[" ".join(words) for words in (x, y, right)] for (x, right), y in zip(task.test[:20], beam)]
    print("\n\n".join(["\n".join(sample) for sample in samples[:5]]), end="\n\n")
    return run.finish([Result(name, value, RESULTS[name], ".1f") for name, value in scores.items()], samples=samples)
