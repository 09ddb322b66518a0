"""A language model of characters: a recurrent network reads a text and says, at each place, how probable each next character is.

    h_t, c_t = LSTM(E[x_t], h_{t-1}, c_{t-1})            (or GRU, or h_t = tanh(W_x E[x_t] + W_h h_{t-1} + b))
    P(x_{t+1} | x_1 .. x_t) = softmax(W_out h_t + b_out)
    L = - 1/T Σ_t log P(x_{t+1} | x_1 .. x_t)            nats per character

The text is one long sequence. N parts of it lie side by side and are read T characters at a time (truncated BPTT): the state (h, c) goes
on from piece to piece, the gradient stops at the border. A trained model writes: draw x_{t+1} from P, read it, and so on. Dividing the
scores by a temperature below 1 makes it careful, above 1 bold; with argmax it always takes the most probable character, and soon repeats
itself.

Mikolov, Karafiát, Burget, Černocký, Khudanpur: Recurrent neural network based language model, 2010. Sutskever, Martens, Hinton:
Generating text with recurrent neural networks, 2011. Zaremba, Sutskever, Vinyals: Recurrent neural network regularization, 2014 (where
dropout goes). Karpathy: The unreasonable effectiveness of recurrent neural networks, 2015.

Data: tinyshakespeare, 1,115,394 characters, the first 90 % to learn from, the last 10 % to validate on. Expect below 1.60 nats per
character for an LSTM; the frequencies of single characters alone give 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import BPTTLoader
from tinygrad_ja.data.datasets import TinyShakespeare
from tinygrad_ja.data.datasets.synthetic import GrammarText
from tinygrad_ja.data.text import Vocabulary
from tinygrad_ja.nn.decoding import greedy_search, sample
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update, evaluate
from tinygrad_ja.training.metrics import perplexity

TITLE = {
    "en": "characters of Shakespeare: a language model by truncated BPTT writes plays (JDLA E certificate: RNN, LSTM, BPTT)",
    "ja": "シェイクスピアの文字: 打ち切り BPTT で学習した言語モデルが戯曲を書く (E資格: RNN、LSTM、BPTT)",
}

OPTIONS = [
    Option("cell", "lstm", ("the recurrent layer", "再帰層の種類"), choices=["rnn", "lstm", "gru"]),
    Option("hidden", 256, ("units of a layer", "1 層のユニットの数"), quick=128),
    Option("embedding", 64, ("size of a character's vector", "文字ベクトルの次元")),
    Option("layers", 1, ("recurrent layers", "再帰層の数")),
    Option("dropout", 0.2, ("share of the outputs of each layer that is dropped", "各層の出力を落とす割合"), quick=0.0, most=1.0),
    Option("steps", 64, ("T, characters of a piece", "T: 1 区間の文字数"), quick=32),
    Option("streams", 32, ("N, parts of the text side by side", "N: 並べて読むテキストの数")),
    Option("lr", 4e-3, ("learning rate of AdamW at the start", "AdamW の学習率 (はじめの値)"), quick=1e-2),
    Option("decay", 0.8, ("its factor after each epoch", "1 エポックごとに学習率に掛ける値")),
    Option("prompt", "ROMEO:\n", ("how the written texts begin", "生成するテキストの書き出し")),
    Option("length", 600, ("characters to write", "生成する文字数"), quick=200),
    Option("temperature", 0.8, ("of the sample in results.json", "results.json に入れるサンプルの温度"), least=0.01),
]  # fmt: skip
WRITING = ("prompt", "length", "temperature")
"""Options that may differ when a run goes on: they matter after the training."""

EPOCHS, QUICK_EPOCHS = 12, 4
QUICK_SIZES = 60_000, 8_000
"""Characters to learn from and to validate on under ``--quick``."""

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
TEMPERATURES = (0.5, 0.8, 1.0, 1.5)

State = list[tg.Tensor]
"""[h] or [h, c], each (layers, N, H)."""


class RecurrentLM(nn.Module):
    """The equations above. Symbols x (T, N) and the state before them -> scores (T, N, V) of the next symbols, and the state after them.

    cell: rnn, lstm or gru. tied: W_out is the table of embeddings E (Press and Wolf 2017), which takes embedding = hidden.
    """

    def __init__(
        self,
        size: int,
        hidden: int,
        embedding: int,
        *,
        cell: str = "lstm",
        layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, embedding)
        self.recurrent = LAYERS[cell](embedding, hidden, layers, dropout=dropout if layers > 1 else 0.0)
        self.output = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(dropout)
        self.has_cell = cell == "lstm"
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, x: tg.Tensor, state: State) -> tuple[tg.Tensor, State]:
        embedded = self.dropout(self.embedding(x))
        h, after = self.recurrent(embedded, tuple(state) if self.has_cell else state[0])
        return self.output(self.dropout(h)), list(after) if self.has_cell else [after]

    def zeros(self, streams: int) -> State:
        """The state before anything was read."""
        weight = self.output.weight
        layer = self.recurrent
        return [weight.new_zeros(layer.num_layers, streams, layer.hidden_size) for _ in range(1 + self.has_cell)]


class CarriedLoss:
    """The loss of one piece (x, y), each (T, N), after the other: the state goes on, cut from its history. It belongs into checkpoints."""

    def __init__(self, model: RecurrentLM, streams: int) -> None:
        self.model = model
        self.state = model.zeros(streams)

    def __call__(self, batch: tuple[tg.Tensor, tg.Tensor]) -> dict[str, tg.Tensor]:
        x, y = batch
        scores, after = self.model(x, self.state)
        for index, part in enumerate(after):
            self.state[index] = part.detach()
        return {"loss": F.cross_entropy(scores.flatten(0, 1), y.flatten())}

    def forget(self) -> None:
        """Zeros again, for the beginning of the text."""
        for index, part in enumerate(self.state):
            self.state[index] = tg.zeros_like(part)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"state": [part.clone() for part in self.state]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        for index, part in enumerate(state_dict["state"]):
            self.state[index] = part.to(self.state[index].device)


def validation_loss(model: RecurrentLM, numbers: np.ndarray, streams: int, steps: int) -> float:
    """Mean negative log-likelihood of a symbol, in nats; each of the ``streams`` parts is read from its beginning to its end."""
    loader = BPTTLoader(numbers, streams, steps, device=model.output.weight.device)
    return evaluate(model, CarriedLoss(model, streams), loader, items=symbols)["loss"]


def symbols(batch: tuple[tg.Tensor, tg.Tensor]) -> int:
    """How many symbols a batch predicts."""
    return batch[1].numel()


def unigram_loss(train: np.ndarray, held_out: np.ndarray, size: int) -> float:
    """The baseline that knows no context: nats per symbol under P(w) = (count + 1) / (total + V)."""
    counts = np.bincount(train, minlength=size) + 1.0
    return float(-np.log(counts / counts.sum())[held_out].mean())


# -- after the training


def read(model: RecurrentLM, numbers: Sequence[int]) -> tuple[tg.Tensor, State]:
    """Scores (V,) of what follows these symbols, and the state behind them. Without a record, in evaluation mode."""
    model.eval()
    x = tg.tensor(np.array(numbers, np.int64), device=model.output.weight.device).unsqueeze(1)
    with tg.no_grad():
        scores, state = model(x, model.zeros(1))
    return scores[-1, 0], state


def write(
    model: RecurrentLM, numbers: Sequence[int], length: int, temperature: float = 0.0, seed: int = 0, never: Sequence[int] = ()
) -> list[int]:
    """``length`` symbols that follow ``numbers``: drawn with softmax(scores / temperature); with temperature 0 by argmax. Those in
    ``never`` are not taken."""
    device = model.output.weight.device
    allowed = tg.zeros(model.output.weight.shape[0], device=device)
    for symbol in never:
        allowed[symbol] = -np.inf

    def step(chosen: tg.Tensor, state: State) -> tuple[tg.Tensor, State]:
        scores, state = model(chosen.unsqueeze(0), state)
        return scores[0] + allowed, state

    *before, last = numbers
    state = read(model, before)[1] if before else model.zeros(1)
    first = tg.tensor([last], device=device)
    model.eval()
    if not temperature:
        return greedy_search(step, state, first, None, length)[0]
    generator = tg.Generator(device).manual_seed(seed)
    return sample(step, state, first, None, length, temperature, generator=generator)[0]


def known(text: str, vocabulary: Vocabulary) -> list[int]:
    """The numbers of a prompt's characters; those that the training text lacks are left out, and an empty prompt is a new line."""
    return vocabulary.encode([c for c in text.replace("\\n", "\n") if c in vocabulary] or vocabulary.tokens[:1])


def save_texts(run: Experiment, model: RecurrentLM, vocabulary: Vocabulary) -> dict[str, str]:
    """``samples.txt``: what the model writes by argmax and at several temperatures. The texts by name."""
    o = run.options
    prompt = known(o.prompt, vocabulary)
    texts = {}
    for temperature in (0.0, *sorted({*TEMPERATURES, o.temperature})):
        written = write(model, prompt, o.length, temperature, o.seed)
        texts[f"temperature {temperature:g}" if temperature else "argmax"] = "".join(vocabulary.decode([*prompt, *written]))
    parts = [f"==== {name} ====\n{text}\n" for name, text in texts.items()]
    (o.out / "samples.txt").write_text("\n".join(parts), encoding="utf-8")
    return texts


def save_pictures(run: Experiment, model: RecurrentLM, vocabulary: Vocabulary, valid: np.ndarray) -> None:
    """What the model finds surprising in a piece of the validation text; the next character at three temperatures."""
    words = run.words
    length = min(70, len(valid) // 2)
    begin = min(500, len(valid) - length - 1)
    piece = valid[begin : begin + length]
    model.eval()
    x = tg.tensor(valid[: begin + length], device=model.output.weight.device).unsqueeze(1)
    with tg.no_grad():
        log_p = model(x, model.zeros(1))[0][:, 0].log_softmax(-1).cpu().numpy()
    surprise = -log_p[begin - 1 : begin + length - 1][np.arange(length), piece]
    with run.figure("surprise.png", size=(11.0, 3.2)) as axes:
        axes.bar(range(length), surprise, color=["#d94801" if value > 3 else "#08519c" for value in surprise])
        axes.set_xticks(range(length), [shown(vocabulary.tokens[n]) for n in piece], fontsize=10, va="baseline")
        axes.tick_params(axis="x", length=0, pad=12)
        axes.margins(x=0.01)
        axes.set(
            title=words("How surprising each character of the validation text is", "検証テキストの各文字がどれだけ意外か"),
            ylabel=words("- log P (nats)", "- log P (ナット)"),
        )
    prompt = known(run.options.prompt, vocabulary)
    scores = read(model, prompt)[0].cpu()
    best = scores.numpy().argsort()[::-1][:15]
    context = "".join(shown(vocabulary.tokens[n]) for n in prompt[-20:])
    with run.figure(
        "next.png", 1, 3, (11.0, 3.2), words(f"The next character after “{context}”", f"「{context}」の次の文字")
    ) as grid:
        for axes, temperature in zip(grid, (0.5, 1.0, 1.5)):
            axes.bar(range(len(best)), (scores / temperature).softmax(-1).numpy()[best], color="#08519c")
            axes.set_xticks(range(len(best)), [shown(vocabulary.tokens[n]) for n in best])
            axes.set_ylim(grid[0].get_ylim())
            axes.set_title(words(f"temperature {temperature}", f"温度 {temperature}"))
        grid[0].set_ylabel(words("probability", "確率"))


def shown(character: str) -> str:
    """A character as a label: spaces and line ends are made visible."""
    return {" ": "␣", "\n": "↵", "$": r"\$"}.get(character, character)


# -- the run


def shakespeare(**where: Any) -> str:
    """The whole of tinyshakespeare."""
    return TinyShakespeare(split="all", **where).text


def encoded(text: str) -> tuple[np.ndarray, np.ndarray, Vocabulary]:
    """The first 90 % and the last 10 % of a text in numbers, and the vocabulary of its characters, which has no unknown ones."""
    vocabulary = Vocabulary([list(text)], specials={})
    numbers = np.array(vocabulary.encode(list(text)), np.int64)
    border = len(numbers) * 90 // 100
    return numbers[:border], numbers[border:], vocabulary


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, validate, write. Returns the results."""
    run = Experiment("char_lm", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    o = run.options
    train, valid, vocabulary = encoded(run.data(shakespeare, lambda: GrammarText(5000).text, "tinyshakespeare"))
    if run.quick:
        train, valid = train[: QUICK_SIZES[0]], valid[: QUICK_SIZES[1]]

    model = RecurrentLM(len(vocabulary), o.hidden, o.embedding, cell=o.cell, layers=o.layers, dropout=o.dropout).to(o.device)
    optimizer = tg.optim.AdamW(model.parameters(), lr=o.lr, weight_decay=0.01)
    measure = CarriedLoss(model, o.streams)
    keeping = run.keeping
    keeping["settings"] = {name: value for name, value in keeping["settings"].items() if name not in WRITING}
    trainer = Trainer(
        model,
        run.compiled(Update(measure, optimizer, clip_norm=1.0)),
        BPTTLoader(train, o.streams, o.steps, drop_last=True, device=o.device),
        validate=lambda: {"loss": validation_loss(model, valid, o.streams, o.steps)},
        schedules=[tg.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)],
        parts={"state": measure},
        items=symbols,
        **keeping,
    )
    trainer.on("epoch", lambda trainer: measure.forget())
    run.train(trainer)

    loss = validation_loss(model, valid, o.streams, o.steps)
    texts = save_texts(run, model, vocabulary)
    save_pictures(run, model, vocabulary, valid)
    print(texts[f"temperature {o.temperature:g}"], end="\n\n")
    return run.finish(
        [
            Result("loss", loss, ("validation, nats per character", "検証、1 文字あたりのナット"), ".4f"),
            Result("bits", loss / np.log(2), ("the same in bits", "同じく、ビット"), ".4f"),
            Result("perplexity", perplexity(loss), ("perplexity", "パープレキシティ"), ".3f"),
            Result(
                "unigram_loss",
                unigram_loss(train, valid, len(vocabulary)),
                ("without context, nats", "文脈なし、ナット"),
                ".4f",
            ),
            Result("parameters", sum(p.numel() for p in model.parameters()), ("parameters", "パラメータ数"), ",d"),
        ],
        texts=texts,
    )
