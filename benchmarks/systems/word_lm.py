"""The program ``word_lm`` in PyTorch: same words, same pieces in the same order, same initial weights, same schedule."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import tinygrad_ja as tg
from models import word_lm as program

from .char_lm import pieces, trained, validation_loss
from .peer import data, parsed


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train the RNN and the LSTM, and test each with the weights of its best epoch."""
    o = parsed(program.OPTIONS, argv, program.EPOCHS, program.QUICK_EPOCHS)
    lines = data(o, lambda **where: program.lines_of(o.corpus, o.quick, **where), program.grammar)
    texts = program.Texts(*lines, o.min_count)
    results: dict[str, Any] = {"train_seconds": 0.0}
    for cell in program.cells(o.cell):
        tg.manual_seed(o.seed)
        model, best, seconds = trained(o, len(texts.vocabulary), o.hidden, cell, 1, o.tied, texts.train, texts.valid)
        model.load_state_dict(best)
        results[f"{cell}_perplexity"] = math.exp(validation_loss(model, pieces(texts.test, o, drop_last=False)))
        results["train_seconds"] += seconds
    return results


if __name__ == "__main__":
    print(json.dumps(main()))
