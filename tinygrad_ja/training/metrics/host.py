"""What a metric is given, as NumPy arrays on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.host import on_host
from ...errors import error, refusal


def labels(op: str, argument: str, value: Any, classes: int | None = None) -> np.ndarray:
    """Class numbers as a flat array of int64, checked: integers, at least 0 and below ``classes``."""
    made = on_host(value)
    if made.size and made.dtype.kind not in "iub":
        raise refusal(
            op, argument, made.dtype, ("integers", "整数"), ("pass scores.argmax(1).", "scores.argmax(1) を渡してください。")
        )
    made = made.ravel().astype(np.int64)
    if made.size and (made.min() < 0 or (classes is not None and made.max() >= classes)):
        rule = (
            ("class numbers from 0", "0 以上のクラス番号")
            if classes is None
            else (f"0 <= class < {classes}", f"0 <= クラス番号 < {classes}")
        )
        raise refusal(
            op, argument, f"{made.min()} .. {made.max()}", rule, ("check num_classes.", "num_classes を確かめてください。")
        )
    return made


def same_length(op: str, first: np.ndarray, second: np.ndarray) -> None:
    """Raise ShapeError unless the two have as many elements."""
    if len(first) != len(second):
        fix = ("pass as many predictions as targets.", "予測と正解を同じ数だけ渡してください。")
        raise error("TG-S002", op=op, rule=("(N), (N)", "(N), (N)"), shapes=f"{first.shape} {second.shape}", fix=fix)
