"""Hidden words for masked language models (Devlin et al., NAACL 2019, section 3.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend.random import Generator
from ...errors import error, refusal
from ...ops.comparison import where
from ..arrays import array_of, cpu_stream, placed
from .vocabulary import Vocabulary


def mask_tokens(
    input: Any,
    vocabulary: Vocabulary,
    probability: float = 0.15,
    ignore_index: int = -100,
    *,
    generator: Generator | None = None,
) -> tuple[Any, Any]:
    """``(masked, labels)``: which words a model reads, and which it has to guess.

    Each ordinary word is chosen with ``probability``; of the chosen ones 80 % become "mask", 10 % a random ordinary word, 10 % stay. labels
    has the chosen words and elsewhere ``ignore_index``, as ``F.cross_entropy`` takes it. Special tokens are never chosen.

    input: int64, any shape, array or Tensor on any device. vocabulary: with a special token of the role "mask". The numbers come from
    ``generator``, by default the CPU's. Raises ArgumentError or DtypeError.

    >>> import tinygrad_ja as tg
    >>> vocabulary = Vocabulary([["a", "b", "c"]], specials={"pad": "<pad>", "mask": "<mask>"})
    >>> masked, labels = mask_tokens(tg.tensor([2, 3, 4, 0]), vocabulary, probability=1.0)
    >>> labels.tolist()
    [2, 3, 4, -100]
    """
    array = array_of("mask_tokens", input)
    if array.dtype.kind not in "iu":
        raise error("TG-T004", op="mask_tokens", dtype=array.dtype, allowed="int64", fix="tg.int64")
    if not 0 <= probability <= 1:
        rule, fix = ("0 <= probability <= 1", "0 以上 1 以下"), ("probability=0.15.", "probability=0.15 などとしてください。")
        raise refusal("mask_tokens", "probability", probability, rule, fix)
    mask, special = vocabulary.special("mask"), len(vocabulary.specials)
    if len(vocabulary) == special:
        reason = ("the vocabulary has no ordinary word", "語彙に普通の単語がありません")
        raise error("TG-A003", op="mask_tokens", reason=reason, fix=("make it from texts.", "テキストから作ってください。"))
    stream, shape = cpu_stream(generator), tuple(array.shape)
    chosen = placed(stream.uniform(shape, np.float64) < probability, input) & (input >= special)
    fate = stream.uniform(shape, np.float64)
    other = stream.integers(special, len(vocabulary), shape, array.dtype)
    fates = [placed(part, input) for part in (fate < 0.8, fate < 0.9, other)]
    hidden = where(fates[0], mask, where(fates[1], fates[2], input))
    return where(chosen, hidden, input), where(chosen, input, ignore_index)
