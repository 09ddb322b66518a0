"""Perplexity, BLEU, distinct-n, edit distance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from ...core.host import on_host
from ...errors import error, refusal
from .host import same_length


def perplexity(loss: float) -> float:
    """e to the mean negative log-likelihood of a token (in nats): the number of words that the model hesitates between.

    >>> round(perplexity(math.log(50.0)), 6)
    50.0
    """
    return math.exp(loss) if loss < 700 else math.inf


class Perplexity:
    """Gathers the mean negative log-likelihood over batches of different numbers of tokens.

    >>> gathered = Perplexity()
    >>> gathered.update(2.0, tokens=30)
    >>> gathered.update(1.0, tokens=10)
    >>> gathered.loss
    1.75
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self.total, self.tokens = 0.0, 0

    def update(self, loss: Any, tokens: int) -> None:
        """Add a batch: its mean loss per token (a number or a Tensor of one element) and its number of tokens."""
        self.total += float(on_host(loss)) * tokens
        self.tokens += tokens

    @property
    def loss(self) -> float:
        """Mean over all tokens, NaN before the first."""
        return self.total / self.tokens if self.tokens else float("nan")

    @property
    def value(self) -> float:
        """The perplexity of all tokens together."""
        return perplexity(self.loss)


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> float:
    """Corpus BLEU from 0 to 100 (Papineni et al. 2002), by the package sacrebleu, so that the number can be compared.

    hypotheses: N translations. references: N texts, or for several references N lists of them, each of the same length.
    tokenize: sacrebleu's name: "13a" (the usual one for English), "char" (characters: Japanese without a tokenizer), "none" (split at
    spaces: text that is tokenised already), "ja-mecab", "intl".
    Raises ArgumentError without the package, for an unknown name and for none or an unequal number of sentences.

    >>> round(bleu(["the cat sat on the mat ."], ["the cat sat on a mat ."]), 1)
    48.9
    """
    try:
        import sacrebleu
    except ImportError as failure:
        raise error("TG-A002", package="sacrebleu", install="sacrebleu") from failure
    if not len(hypotheses) or len(hypotheses) != len(references):
        given = f"{len(hypotheses)}, {len(references)}"
        rule = ("as many references as hypotheses, at least one", "参照訳と訳文が同じ数で、1 つ以上")
        raise refusal("bleu", "references", given, rule, ("pass both in full.", "両方をすべて渡してください。"))
    if not all(isinstance(hypothesis, str) for hypothesis in hypotheses):
        rule = ("texts (str)", "文 (str)")
        fix = (
            'join tokens: " ".join(tokens), and tokenize="none".',
            'トークンなら " ".join(tokens) とし、tokenize="none" としてください。',
        )
        raise refusal("bleu", "hypotheses", type(hypotheses[0]).__name__, rule, fix)
    several = [[texts] if isinstance(texts, str) else list(texts) for texts in references]
    if len({len(texts) for texts in several}) != 1:
        rule = ("the same number of references for each sentence", "どの文にも同じ数の参照訳")
        raise refusal(
            "bleu", "references", sorted({len(texts) for texts in several}), rule, ("fill them up.", "数をそろえてください。")
        )
    known = sacrebleu.BLEU.TOKENIZERS
    if tokenize not in known:
        raise refusal(
            "bleu", "tokenize", repr(tokenize), ", ".join(known), ("choose one of these.", "どれかを選んでください。")
        )
    streams = [list(stream) for stream in zip(*several)]
    measure = sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    return float(measure.corpus_score(list(hypotheses), streams).score)


def distinct(replies: Iterable[Sequence[Hashable]], n: int = 1) -> float:
    """distinct-n: different n-grams over all n-grams, of all replies together (Li et al. 2016). 1 when none comes twice, near 0 for a model
    that always says the same. More replies give a smaller number, so compare equally many.

    replies: lists of tokens. n: words in an n-gram. NaN when no reply has n tokens. Raises ArgumentError.

    >>> replies = [["i", "do", "not", "know"], ["i", "do", "not"]]
    >>> round(distinct(replies), 3), distinct(replies, n=2)
    (0.571, 0.6)
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise refusal("distinct", "n", repr(n), ("an int above 0", "1 以上の整数"))
    if isinstance(replies, str):
        rule = ("lists of tokens", "トークンのリストを並べたもの")
        raise refusal("distinct", "replies", "str", rule, ("[text.split()].", "[text.split()] としてください。"))
    found: set[tuple[Hashable, ...]] = set()
    total = 0
    for reply in replies:
        grams = list(zip(*[reply[start:] for start in range(n)]))
        found.update(grams)
        total += len(grams)
    return len(found) / total if total else math.nan


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that make ``a`` into ``b`` (Levenshtein 1966). Strings, or lists of tokens.

    >>> edit_distance("kitten", "sitting")
    3
    """
    numbers: dict[Hashable, int] = {}
    x = np.array([numbers.setdefault(token, len(numbers)) for token in a], dtype=np.int64)
    y = np.array([numbers.setdefault(token, len(numbers)) for token in b], dtype=np.int64)
    columns = np.arange(len(y) + 1)
    row = columns.copy()
    for i, token in enumerate(x, 1):
        new = np.empty_like(row)
        new[0] = i
        new[1:] = np.minimum(row[1:] + 1, row[:-1] + (y != token))
        # insertions run along the row: new[j] = min over k <= j of new[k] + (j - k)
        row = np.minimum.accumulate(new - columns) + columns
    return int(row[-1])


def error_rate(hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> float:
    """Edit distances over the length of the references, all sentences together: character error rate for strings, word error rate for
    lists of words.

    >>> error_rate(["abd", "x"], ["abc", "xy"])
    0.4
    """
    same_length("error_rate", np.empty(len(hypotheses)), np.empty(len(references)))
    length = sum(map(len, references))
    distance = sum(edit_distance(a, b) for a, b in zip(hypotheses, references))
    return distance / length if length else (0.0 if distance == 0 else math.inf)
