"""Accuracy, confusion matrix, precision, recall, F1, IoU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.host import on_host
from ...errors import error, refusal
from ...viz.figures import Words, matplotlib, save_figure
from .host import labels, same_length


def accuracy(scores: Any, target: Any, *, k: int = 1, ignore_index: int | None = None) -> float:
    """Share of targets that are among the ``k`` highest scores (top-k accuracy).

    scores: (..., C) floating, of C classes; or class numbers of any shape (then k = 1). target: integers of the shape (...).
    ignore_index: targets of this value do not count. Of equal scores the lower class number is taken first.
    Returns a number from 0 to 1; NaN when no target counts. Raises ShapeError, ArgumentError.

    >>> accuracy([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], [2, 0])
    0.5
    >>> accuracy([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], [2, 0], k=2)
    1.0
    """
    given, wanted = on_host(scores), on_host(target).ravel()
    if given.dtype.kind == "f":
        if not 1 <= k <= given.shape[-1]:
            raise refusal(
                "accuracy",
                "k",
                k,
                f"1 <= k <= {given.shape[-1]}",
                ("choose k in this range.", "この範囲の k を選んでください。"),
            )
        best = np.argsort(-given, axis=-1, kind="stable")[..., :k].reshape(-1, k)
    else:
        best = given.reshape(-1, 1)
    same_length("accuracy", best, wanted)
    if ignore_index is not None:
        best, wanted = best[wanted != ignore_index], wanted[wanted != ignore_index]
    return float((best == wanted[:, None]).any(axis=1).mean()) if wanted.size else float("nan")


def confusion_matrix(predicted: Any, target: Any, num_classes: int, *, ignore_index: int | None = None) -> np.ndarray:
    """How often class i (row) was taken for class j (column): (C, C) int64.

    >>> confusion_matrix([0, 1, 1], [0, 1, 0], 2)
    array([[1, 1],
           [0, 1]])
    """
    wanted = on_host(target).ravel()
    guessed = on_host(predicted).ravel()
    same_length("confusion_matrix", guessed, wanted)
    if ignore_index is not None:
        guessed, wanted = guessed[wanted != ignore_index], wanted[wanted != ignore_index]
    guessed = labels("confusion_matrix", "predicted", guessed, num_classes)
    wanted = labels("confusion_matrix", "target", wanted, num_classes)
    return np.bincount(wanted * num_classes + guessed, minlength=num_classes**2).reshape(num_classes, num_classes)


def binary_iou(predicted: Any, target: Any) -> float:
    """Intersection over union of two masks; 1 when both are empty.

    >>> binary_iou([[True, True], [False, False]], [[True, False], [True, False]])
    0.3333333333333333
    """
    a, b = on_host(predicted).astype(bool), on_host(target).astype(bool)
    if a.shape != b.shape:
        fix = ("pass two masks of one shape.", "同じ形状の 2 つのマスクを渡してください。")
        raise error("TG-S002", op="binary_iou", rule="(...), (...)", shapes=f"{a.shape} {b.shape}", fix=fix)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


class Scores(NamedTuple):
    """Precision, recall and F1: of each class as (C,) arrays, or one number each when they are averaged."""

    precision: Any
    recall: Any
    f1: Any


class ConfusionMatrix:
    """Gathers (C, C) counts over batches, row the true class, column the predicted one; everything else is read off them.

    A value whose denominator is 0 (a class that was never predicted, or never there) is 0, as in scikit-learn.

    >>> gathered = ConfusionMatrix(2)
    >>> gathered.update([0, 1, 1], [0, 1, 0])
    >>> gathered.update([1], [1])
    >>> gathered.accuracy, gathered.scores("macro").f1
    (0.75, 0.7333333333333334)
    """

    def __init__(self, num_classes: int, *, ignore_index: int | None = None) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self.matrix = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)

    def update(self, predicted: Any, target: Any) -> None:
        """Add a batch: class numbers of one shape, or scores with one axis more (classes on axis 1, as PyTorch has them)."""
        guessed = on_host(predicted)
        if guessed.dtype.kind == "f":
            guessed = guessed.argmax(axis=1)
        self.matrix += confusion_matrix(guessed, target, self.num_classes, ignore_index=self.ignore_index)

    @property
    def accuracy(self) -> float:
        """Share of the diagonal."""
        total = int(self.matrix.sum())
        return int(np.trace(self.matrix)) / total if total else float("nan")

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, (C,): TP / (TP + FP + FN); NaN for a class that is neither there nor predicted."""
        hits = np.diag(self.matrix)
        union = self.matrix.sum(0) + self.matrix.sum(1) - hits
        with np.errstate(invalid="ignore"):
            return hits / np.where(union == 0, np.nan, union)

    @property
    def mean_iou(self) -> float:
        """Mean of ``iou`` over the classes that occur."""
        return float(np.nanmean(self.iou)) if self.matrix.any() else float("nan")

    def scores(self, average: str | None = None) -> Scores:
        """Precision TP / (TP + FP), recall TP / (TP + FN), F1 = 2 P R / (P + R).

        average: None for each class; "macro" for the mean over classes, "weighted" by their true counts, "micro" over all counts.
        Raises ArgumentError for another name.
        """
        if average not in (None, "macro", "micro", "weighted"):
            rule = "None, 'macro', 'micro', 'weighted'"
            raise refusal(
                "ConfusionMatrix.scores", "average", repr(average), rule, ("choose one of these.", "どれかを選んでください。")
            )
        hits, guessed, true = np.diag(self.matrix), self.matrix.sum(0), self.matrix.sum(1)
        if average == "micro":
            hits, guessed, true = hits.sum(), guessed.sum(), true.sum()
        precision, recall = _ratio(hits, guessed), _ratio(hits, true)
        made = Scores(precision, recall, _ratio(2 * hits, guessed + true))
        if average is None:
            return made
        weights = true if average == "weighted" else np.ones_like(true)
        return Scores(*[float(_ratio((part * weights).sum(), weights.sum())) for part in made])

    def plot(self, path: str | os.PathLike[str], names: Sequence[str] | None = None) -> Path:
        """Draw the matrix as a PNG, rows normalised for the colour, counts written in. Returns the path."""
        words = Words()
        package = matplotlib()
        count = self.num_classes
        names = [str(i) for i in range(count)] if names is None else list(names)
        with package.rc_context(words.settings):
            figure = package.figure.Figure(figsize=(1.8 + 0.5 * count, 1.5 + 0.5 * count), layout="constrained")
            axes = figure.add_subplot()
            shares = _ratio(self.matrix, self.matrix.sum(1, keepdims=True))
            image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for i in range(count):
                for j in range(count):
                    colour = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, int(self.matrix[i, j]), ha="center", va="center", color=colour, fontsize=8)
            axes.set_xticks(range(count), names, rotation=90 if max(map(len, names), default=0) > 3 else 0)
            axes.set_yticks(range(count), names)
            axes.set(xlabel=words("predicted", "予測"), ylabel=words("true", "正解"))
            figure.colorbar(image, ax=axes, shrink=0.8, label=words("share of the row", "行の中での割合"))
            return save_figure(figure, path)


def _ratio(part: Any, whole: Any) -> Any:
    """part / whole, 0 where whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)
