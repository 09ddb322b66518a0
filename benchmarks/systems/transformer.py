"""The program ``transformer`` with ``nn.Transformer``'s layers of PyTorch: same pairs, same batches in the same order, same initial weights,
same schedule, same mean of the weights. The searches are ours, with PyTorch's network as their step."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

import tinygrad_ja as tg
from benchmarks.systems.peer import clock, data, parsed
from models import transformer as program
from models.seq2seq import LONG, Task, bleu_of
from tinygrad_ja.nn.decoding import beam_search, greedy_search


class Translator(nn.Module):
    """As ``models.transformer.Transformer``, from PyTorch's layers."""

    pe: torch.Tensor

    def __init__(
        self, source: int, target: int, size: program.Size, dropout: float = 0.1, pre_norm: bool = False, pad: int = 0
    ) -> None:
        super().__init__()
        self.d, self.pad = size.d, pad
        self.source, self.target = nn.Embedding(source, size.d), nn.Embedding(target, size.d)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("pe", array(program.positional_encoding(128, size.d)), persistent=False)
        given: Any = {"batch_first": True, "norm_first": pre_norm, "dropout": dropout}
        norms = [nn.LayerNorm(size.d) if pre_norm else None for _ in range(2)]
        encoder = nn.TransformerEncoderLayer(size.d, size.heads, size.ffn, **given)
        decoder = nn.TransformerDecoderLayer(size.d, size.heads, size.ffn, **given)
        self.encoder = nn.TransformerEncoder(encoder, size.layers, norms[0], enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, size.layers, norms[1])

    def embedded(self, table: nn.Embedding, tokens: torch.Tensor) -> torch.Tensor:
        return self.dropout(math.sqrt(self.d) * table(tokens) + self.pe[: tokens.shape[1]])

    def encode(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padding = source == self.pad
        return self.encoder(self.embedded(self.source, source), src_key_padding_mask=padding), padding

    def decode(self, target: torch.Tensor, memory: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        steps = target.shape[1]
        later = torch.ones(steps, steps, dtype=torch.bool, device=target.device).triu(1)
        return self.decoder(
            self.embedded(self.target, target), memory, tgt_mask=later, memory_key_padding_mask=padding, tgt_is_causal=True
        )

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.linear(self.decode(target, *self.encode(source)), self.target.weight)


def array(value: tg.Tensor, device: Any = "cpu") -> torch.Tensor:
    """A copy for PyTorch."""
    return torch.from_numpy(np.array(value.detach().cpu().numpy())).to(device)


def copy_attention(ours: Any, theirs: nn.MultiheadAttention) -> None:
    """The weights of one of our attentions."""
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([array(part.weight) for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([array(part.bias) for part in parts]))
    copy_plain(ours.out, theirs.out_proj)


def copy_plain(ours: Any, theirs: nn.Module) -> None:
    """The weights of a layer that has the same names in both."""
    theirs.load_state_dict({name: array(value) for name, value in ours.state_dict().items()})


def copy_layer(ours: Any, theirs: Any) -> None:
    """The weights of a layer of the encoder or the decoder."""
    parts = [ours.self_attention, getattr(ours, "source_attention", None), ours.feed_forward]
    copy_attention(ours.self_attention.part, theirs.self_attn)
    if parts[1] is not None:
        copy_attention(parts[1].part, theirs.multihead_attn)
    copy_plain(ours.feed_forward.part.inner, theirs.linear1)
    copy_plain(ours.feed_forward.part.outer, theirs.linear2)
    for number, part in enumerate([part for part in parts if part is not None], 1):
        copy_plain(part.norm, getattr(theirs, f"norm{number}"))


def copy_model(ours: program.Transformer, theirs: Translator) -> None:
    """All weights."""
    with torch.no_grad():
        theirs.source.weight.copy_(array(ours.source.weight))
        theirs.target.weight.copy_(array(ours.target.weight))
        for mine, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
            for a, b in zip(mine, other.layers):
                copy_layer(a, b)


def translations(model: Translator, task: Task, sentences: Sequence[list[str]], device: Any, beams: int = 1) -> list[list[str]]:
    """The target tokens for each sentence."""
    made: list[list[str]] = []
    model.eval()
    for first in range(0, len(sentences), 100):
        source, _ = task.source.encode_batch(sentences[first : first + 100], eos=True, batch_first=True)
        made += [task.target.decode(numbers) for numbers in searched(model, task, source, device, beams)]
    model.train()
    return made


@torch.no_grad()
def searched(model: Translator, task: Task, source: tg.Tensor, device: Any, beams: int) -> list[list[int]]:
    """The tokens for each row of source (N, S). The memory stays on the device, the state has the number of its row."""
    memory, padding = model.encode(array(source, device))

    def step(tokens: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        written, rows = state
        written = tg.cat([written, tokens.unsqueeze(1)], 1)
        so_far, places = array(written, device), array(rows, device)
        y = model.decode(so_far, memory[places], padding[places])[:, -1]
        return tg.tensor(F.linear(y, model.target.weight).cpu().numpy()), (written, rows)

    n = source.shape[0]
    state, start = (source.new_zeros(n, 0), tg.arange(n)), source.new_zeros(n) + task.target.bos
    if beams == 1:
        return greedy_search(step, state, start, task.target.eos, 30)
    return beam_search(step, state, start, task.target.eos, 30, beams, length_penalty=0.6)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, and translate the test."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    task = program.task_of(data(o, program.real_pairs, program.synthetic_pairs), o)
    size = program.SIZES[o.size]
    given = (len(task.source), len(task.target), size, o.dropout, o.pre_norm, task.target.pad)
    model = Translator(*given)
    copy_model(program.Transformer(*given), model)
    model.to(o.device)
    mean = AveragedModel(model, avg_fn=program.recent)
    averaged: Any = mean.module
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda at: size.d**-0.5 * min((at + 1) ** -0.5, (at + 1) * o.warmup**-1.5)
    )
    loader = program.loader_of(task, task.train, o.tokens, "cpu", o.seed)
    held_out = program.loader_of(task, task.valid, o.tokens, "cpu")

    def loss_of(network: nn.Module, batch: Any) -> torch.Tensor:
        source, target = (array(part, o.device) for part in batch)
        scores = network(source, target[:, :-1]).flatten(0, 1)
        return F.cross_entropy(scores, target[:, 1:].flatten(), ignore_index=task.target.pad, label_smoothing=o.smoothing)

    begin = clock(o)
    for epoch in range(o.epochs):
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(model)
        mean.eval()
        with torch.no_grad():
            counts = [len(batch[0]) for batch in held_out]
            loss = sum(loss_of(mean, batch).item() * count for batch, count in zip(held_out, counts)) / sum(counts)
        score = bleu_of(translations(averaged, task, [x for x, _ in task.valid], o.device), task.valid)
        print(f"epoch {epoch + 1}: validation {loss:.4f}, BLEU {score:.2f}", file=sys.stderr, flush=True)
    seconds = clock(o) - begin
    sentences = [x for x, _ in task.test]
    greedy, beam = (translations(averaged, task, sentences, o.device, beams) for beams in (1, o.beams))
    results = {"bleu": bleu_of(beam, task.test), "bleu_greedy": bleu_of(greedy, task.test)}
    results["bleu_characters"] = bleu_of(beam, task.test, characters=True)
    for name, long in (("bleu_short", False), ("bleu_long", True)):
        chosen = [n for n, sentence in enumerate(sentences) if (len(sentence) >= LONG) == long]
        if chosen:
            results[name] = bleu_of([beam[n] for n in chosen], [task.test[n] for n in chosen])
    return {**results, "train_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
