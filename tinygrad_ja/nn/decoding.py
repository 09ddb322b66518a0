"""From a model that scores the next token to sequences: greedy search, sampling, beam search.

    def step(tokens, state):                          # tokens (N,): what was chosen last
        output, state = decoder(embedding(tokens), state)
        return output_layer(output), state            # scores (N, V): logits, or log-probabilities

    sentences = beam_search(step, state, start, end=vocabulary.eos, max_length=30, beams=5)

``state`` is whatever the step needs from one token to the next: nested tuples, lists and dicts of Tensors whose first axis is the batch.
``start`` (N,) holds the first tokens, such as "bos". All three return N lists of token numbers, without start and end, stop as soon as all have
ended, and record no gradients. A model is put into evaluation mode by its owner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.random import Generator
from ..core.modes import no_grad
from ..core.nested import mapped
from ..core.tensor import Tensor
from ..errors import error, refusal
from ..ops.comparison import where
from ..ops.creation import arange, multinomial, zeros, zeros_like
from ..ops.join import cat, stack

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""``step(tokens (N,), state) -> (scores (N, V), state)``."""

__all__ = ["beam_search", "greedy_search", "sample"]


def greedy_search(step: Step, state: Any, start: Tensor, end: int | None, max_length: int) -> list[list[int]]:
    """The most probable token at each step.

    end: the token that ends a sequence; None: none does. max_length: tokens at most, ``end`` not counted.
    Raises ArgumentError and ShapeError.

    >>> import tinygrad_ja as tg
    >>> after = tg.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 3.0], [4.0, 0.0, 0.0]])  # 0 ends, 1 and 2 are words
    >>> greedy_search(lambda tokens, state: (after[tokens], state), (), tg.tensor([0, 2]), end=0, max_length=5)
    [[1, 2], []]
    """
    return _one_way("greedy_search", step, state, start, end, max_length, lambda scores: scores.argmax(-1))


def sample(
    step: Step,
    state: Any,
    start: Tensor,
    end: int | None,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator | None = None,
) -> list[list[int]]:
    """Tokens drawn with the probabilities softmax(scores / temperature).

    temperature: below 1 the probable ones become more probable, above 1 less. top_k: only the k most probable tokens are drawn (Fan et al.
    2018). top_p: only the fewest most probable tokens that have the probability p together (nucleus, Holtzman et al. 2020); after ``top_k``.
    generator: of the scores' device; its default generator if None. Other arguments and errors as for ``greedy_search``.

    >>> import tinygrad_ja as tg
    >>> after = tg.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 3.0], [4.0, 0.0, 0.0]])
    >>> step = lambda tokens, state: (after[tokens], state)
    >>> sample(step, (), tg.tensor([0, 0]), end=0, max_length=5, generator=tg.Generator().manual_seed(1))
    [[2], [1]]
    >>> sample(step, (), tg.tensor([0, 0]), end=0, max_length=5, top_k=1)
    [[1, 2], [1, 2]]
    """
    _need("sample", "temperature", temperature, temperature > 0, "temperature > 0")
    _need("sample", "top_k", top_k, top_k is None or (isinstance(top_k, int) and top_k >= 1), "None, int >= 1")
    _need("sample", "top_p", top_p, top_p is None or 0 < top_p <= 1, "None, 0 < top_p <= 1")

    def draw(scores: Tensor) -> Tensor:
        probabilities = filtered((scores / temperature).softmax(-1), top_k, top_p)
        return multinomial(probabilities, 1, generator=generator)[:, 0]

    return _one_way("sample", step, state, start, end, max_length, draw)


def filtered(probabilities: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Probabilities (N, V) of the most probable tokens alone, 0 for the others; not scaled to the sum 1.

    >>> import tinygrad_ja as tg
    >>> filtered(tg.tensor([[0.125, 0.5, 0.125, 0.25]]), top_p=0.6)
    tensor([[0.  , 0.5 , 0.  , 0.25]])
    """
    if top_k is not None and top_k < probabilities.shape[-1]:
        values, places = probabilities.topk(top_k, dim=-1)
        probabilities = zeros_like(probabilities).scatter(-1, places, values)
    if top_p is not None and top_p < 1:
        values, places = probabilities.sort(dim=-1, descending=True)
        before = values.cumsum(-1) - values  # what the more probable ones have together
        kept = values * (before < top_p * values.sum(-1, keepdim=True))
        probabilities = zeros_like(probabilities).scatter(-1, places, kept)
    return probabilities


def _one_way(
    op: str, step: Step, state: Any, start: Tensor, end: int | None, max_length: int, choose: Callable[[Tensor], Tensor]
) -> list[list[int]]:
    """One token after another, ``choose(scores (N, V)) -> (N,)``."""
    _check(op, start, max_length)
    tokens, ended = start, zeros_like(start).bool()
    chosen = []
    with no_grad():
        for _ in range(max_length):
            scores, state = step(tokens, state)
            _check_scores(op, scores, len(start), end)
            if end is None:
                tokens = choose(scores)
                chosen.append(tokens)
                continue
            tokens = where(ended, end, choose(scores))
            chosen.append(tokens)
            ended = ended | (tokens == end)
            if bool(ended.all().item()):
                break
    return [_until(end, row) for row in stack(chosen, dim=1).tolist()]


def beam_search(
    step: Step,
    state: Any,
    start: Tensor,
    end: int,
    max_length: int,
    beams: int = 5,
    length_penalty: float = 0.0,
    return_all: bool = False,
) -> Any:
    """The best sequence that is found when at each step only the ``beams`` best beginnings are kept.

    A sequence y scores log P(y) / ((5 + |y|) / 6)^length_penalty, where |y| counts ``end`` too (Wu et al. 2016, without their coverage):
    with 0 the most probable is the best, above 0 longer ones gain. One that has ended keeps its place among the ``beams`` until better ones
    push it out. The state is repeated and reordered along its first axis, the step is called with N·beams tokens.

    return_all: for each of the N a list of ``(tokens, score)``, best first, instead of the best tokens. One that reached ``max_length`` without
    ``end`` counts as it is. Other arguments and errors as for ``greedy_search``.

    >>> import tinygrad_ja as tg
    >>> after = tg.tensor([[0.01, 0.59, 0.4], [0.3, 0.4, 0.3], [0.98, 0.01, 0.01]])  # 0 ends; 1 looks good at first
    >>> step = lambda tokens, state: (after[tokens].log(), state)
    >>> greedy_search(step, (), tg.tensor([0]), end=0, max_length=2), beam_search(step, (), tg.tensor([0]), 0, 2, beams=2)
    ([[1, 1]], [[2]])
    """
    op = "beam_search"
    _check(op, start, max_length)
    _need(op, "beams", beams, isinstance(beams, int) and beams >= 1, "int >= 1")
    _need(op, "length_penalty", length_penalty, length_penalty >= 0, "length_penalty >= 0")
    n, device = len(start), start.device
    first_rows = arange(n, device=device).unsqueeze(1) * beams  # of each sentence, among N·beams rows
    first = first_rows // beams
    tokens = start.repeat_interleave(beams)
    state = _rows_of(state, (first + zeros(1, beams, dtype=np.int64, device=device)).reshape(-1))
    # only one of the equal first beams counts
    total = where(arange(beams, device=device) == 0, 0.0, -math.inf).repeat(n, 1)
    lengths, ended = zeros(n, beams, device=device), zeros(n, beams, device=device).bool()
    words = zeros(n * beams, 0, dtype=np.int64, device=device)
    with no_grad():
        for done in range(1, max_length + 1):
            scores, state = step(tokens, state)
            _check_scores(op, scores, n * beams, end)
            size = scores.shape[1]
            only_end = where(arange(size, device=device) == end, 0.0, -math.inf)
            log_p = where(ended.reshape(-1, 1), only_end, scores.log_softmax(-1)).reshape(n, beams, size)
            new_lengths = where(ended, lengths, lengths + 1)
            ranked = (total.unsqueeze(2) + log_p) / _penalty(new_lengths, length_penalty).unsqueeze(2)
            best, places = ranked.reshape(n, beams * size).topk(beams, dim=1)
            parents, tokens = places // size, (places % size).reshape(-1)
            rows = (first_rows + parents).reshape(-1)
            lengths, ended = new_lengths.gather(1, parents), ended.gather(1, parents)
            total = best * _penalty(lengths, length_penalty)
            words = cat([words.index_select(0, rows), tokens.unsqueeze(1)], dim=1)
            ended = ended | (tokens.reshape(n, beams) == end)
            if done == max_length or _settled(best, total, ended, length_penalty, max_length, return_all):
                break
            state = _rows_of(state, rows)
    listed = words.reshape(n, beams, -1).tolist()
    if not return_all:
        return [_until(end, ranks[0]) for ranks in listed]
    return [
        [(_until(end, row), score) for row, score in zip(ranks, values) if score > -math.inf]
        for ranks, values in zip(listed, best.tolist())
    ]


def _penalty(lengths: Any, alpha: float) -> Any:
    """((5 + |y|) / 6)^α."""
    return ((5 + lengths) / 6) ** alpha


def _settled(best: Tensor, total: Tensor, ended: Tensor, alpha: float, max_length: int, everything: bool) -> bool:
    """Whether no further step can change the answer: a log-probability only falls, and is divided by no more than that of the last step."""
    open_ones = where(ended, -math.inf, total)
    if everything:
        return bool((open_ones == -math.inf).all().item())
    reachable = open_ones.amax(1) / _penalty(max_length, alpha)
    return bool((ended[:, 0] & (best[:, 0] >= reachable)).all().item())


def _rows_of(state: Any, rows: Tensor) -> Any:
    """The state with these rows of each of its Tensors."""
    return mapped(state, lambda part: type(part) is Tensor, lambda part: part.index_select(0, rows))


def _until(end: int | None, tokens: list[int]) -> list[int]:
    return tokens if end is None or end not in tokens else tokens[: tokens.index(end)]


def _check(op: str, start: Any, max_length: int) -> None:
    if type(start) is not Tensor:
        raise error("TG-T002", op=op, argument="start", type=type(start).__name__)
    if start.ndim != 1 or not len(start) or start.dtype.kind not in "iu":
        rule, fix = ("start: ints, (N,), N >= 1", "start は整数 (N,)、N >= 1"), ("tg.full((N,), bos).",) * 2
        raise error("TG-S002", op=op, rule=rule, shapes=f"{tuple(start.shape)} ({start.dtype})", fix=fix)
    _need(op, "max_length", max_length, isinstance(max_length, int) and max_length >= 1, "int >= 1")


def _check_scores(op: str, scores: Tensor, rows: int, end: int | None) -> None:
    if scores.ndim != 2 or scores.shape[0] != rows or not 0 <= (end or 0) < scores.shape[1]:
        rule = (f"step returns scores ({rows}, V) with V > end = {end}", f"step の返すスコアは ({rows}, V)、V > end = {end}")
        fix = ("score all V tokens for each row.", "行ごとに V 個のトークンのスコアを返してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=tuple(scores.shape), fix=fix)


def _need(op: str, argument: str, value: Any, allowed: bool, rule: str) -> None:
    if not allowed:
        raise refusal(op, argument, value, rule)
