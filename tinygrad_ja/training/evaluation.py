"""Values of batches and their means: what a step returns, and ``evaluate`` over a whole loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..backend.arrays import is_array
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import error, refusal
from ..nn.evaluating import evaluating
from ..nn.module import Module

Measure = Callable[[Any], Any]
"""A function of a batch that returns the loss, or a dict of values with the loss as ``"loss"``."""


def evaluate(
    model: Module, measure: Measure, loader: Iterable[Any], *, items: Callable[[Any], int | Tensor] | None = None
) -> dict[str, float]:
    """The means of the values that ``measure(batch)`` returns, over all batches of ``loader``: in evaluation mode and without recording.

    A batch counts by its number of items; ``items(batch)`` says how many it has, otherwise the length of its first array. Afterwards every
    module is in the mode that it had. Raises ArgumentError for an empty loader and for values that are no numbers.

    >>> import tinygrad_ja as tg
    >>> model = tg.nn.Dropout(0.5)
    >>> batches = [tg.tensor([1.0, 2.0, 3.0]), tg.tensor([10.0])]
    >>> evaluate(model, lambda x: {"loss": model(x).mean(), "largest": x.max()}, batches)
    {'loss': 4.0, 'largest': 4.75}
    """
    means = Means("evaluate")
    with evaluating(model), no_grad():
        for batch in loader:
            means.add(values_of("evaluate", measure(batch)), (items or items_of)(batch), 0)
    made = means.take()
    if not made:
        raise no_batch("evaluate")
    return made


def no_batch(op: str) -> Exception:
    """The error for a loader that gives no batch."""
    rule = ("at least one batch in each epoch", "エポックごとに 1 つ以上のバッチ")
    fix = (
        "give a loader, not an iterator that is used up; with drop_last, one whose batches are no larger than the data.",
        "使い終わったイテレータでなく、loader を渡してください。drop_last のときは、バッチをデータより大きくしないでください。",
    )
    return refusal(op, "loader", ("no batch", "バッチなし"), rule, fix)


def items_of(batch: Any) -> int:
    """The length of the first array in a batch: a Tensor, an array, or nested tuples, lists and dicts of them; 1 when there is none.

    >>> import tinygrad_ja as tg
    >>> items_of((tg.zeros(32, 3), tg.zeros(32)))
    32
    """
    if isinstance(batch, Tensor) or is_array(batch):
        return int(batch.shape[0]) if batch.ndim else 1
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)) and batch:
        return items_of(batch[0])
    return 1


def values_of(op: str, made: Any) -> dict[str, Any]:
    """What a step returned, as a dict with an entry ``"loss"``. Raises ArgumentError for anything else."""
    values = dict(made) if isinstance(made, Mapping) else {"loss": made}
    for name, value in values.items():
        one = isinstance(value, (int, float)) or (getattr(value, "size", None) is not None and math.prod(value.shape) == 1)
        if not isinstance(name, str) or not one:
            shape = f" {tuple(value.shape)}" if hasattr(value, "shape") else ""
            raise _refused(op, f"{name!r}: {type(value).__name__}{shape}")
    if "loss" not in values:
        raise _refused(op, f"dict ({', '.join(values)})")
    return values


def _refused(op: str, value: str) -> Exception:
    argument = ("what the function of a batch returns", "バッチの関数の戻り値")
    rule = ("the loss (one number), or a dict of numbers with 'loss'", "損失 (1 つの数)、または 'loss' を含む数の dict")
    fix = ('return {"loss": loss, "accuracy": accuracy}.', '{"loss": loss, "accuracy": accuracy} の形で返してください。')
    return refusal(op, argument, value, rule, fix)


class Means:
    """Means of values since the last ``take``, each batch counted by its items.

    Values and numbers of items on a GPU are fetched some steps later, so that the host need not wait for it in every step. check_loss: a
    loss that is NaN or infinite is an error that names the step.
    """

    LATER = 32
    """So many steps may wait on a GPU to be fetched."""

    def __init__(self, op: str, check_loss: bool = False) -> None:
        self.op = op
        self.check_loss = check_loss
        self.totals: dict[str, list[float]] = {}
        self.items = 0
        """Of all batches so far, those that wait not counted."""
        self._waiting: list[tuple[Mapping[str, Any], int | Tensor, int]] = []
        self.latest: dict[str, float] = {}

    def add(self, values: Mapping[str, Any], items: int | Tensor, step: int) -> None:
        """Take note of the values of a batch."""
        self._waiting.append((values, items, step))
        if len(self._waiting) >= self.LATER or not getattr(values["loss"], "is_cuda", False):
            self.settle()

    def settle(self) -> None:
        """Fetch what is waiting. Raises ArgumentError at the first loss that is not finite."""
        waiting, self._waiting = self._waiting, []
        for values, items, step in waiting:
            self.latest = {name: float(value) for name, value in values.items()}
            if self.check_loss and not math.isfinite(self.latest["loss"]):
                raise _not_finite(self.op, self.latest["loss"], step)
            count = int(items)
            self.items += count
            for name, value in self.latest.items():
                total = self.totals.setdefault(name, [0.0, 0.0])
                total[0] += value * count
                total[1] += count

    def restore(self, totals: Mapping[str, Sequence[float]], items: int) -> None:
        """Go on from ``totals`` and ``items`` of an earlier part of the run."""
        self.totals = {name: list(total) for name, total in totals.items()}
        self.items = items
        self._waiting, self.latest = [], {}

    def take(self) -> dict[str, float]:
        """The means, and a new start."""
        self.settle()
        made = {name: total / count for name, (total, count) in self.totals.items() if count}
        self.totals = {}
        return made


def detached(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without their graphs."""
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}


def _not_finite(op: str, loss: float, step: int) -> Exception:
    return error(
        "TG-A003",
        op=op,
        reason=(f"the loss is {loss} at step {step}", f"ステップ {step} で損失が {loss} になりました"),
        fix=(
            "run it under tg.detect_anomaly(), which names the operator; usual reasons are a learning rate that is too high (or no "
            "clipping) and the logarithm or division of 0. The last checkpoint is from before.",
            "tg.detect_anomaly() の中で実行すると、原因の演算がわかります。よくある原因は、大きすぎる学習率 (勾配クリッピングなし) や、0 の"
            "対数、0 での割り算です。最後のチェックポイントはそれより前のものです。",
        ),
    )
