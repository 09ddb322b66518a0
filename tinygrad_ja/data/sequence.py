"""Long sequences in pieces: streams side by side for truncated BPTT, and sliding windows over a time series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..backend.devices import Device, usable
from ..core.tensor import Tensor
from ..errors import error, refusal
from .collate import default_convert
from .dataset import Dataset
from .sampler import batches_of, positive


class BPTTLoader:
    """A long stream for truncated BPTT: N parts of it side by side, in pieces of T time steps whose target is the next element.

    With S = (L - 1) // N, row n of the batch reads x_t = stream[nS + t] and y_t = stream[nS + t + 1], t = 0 .. S-1; piece k covers
    t = kT .. kT + T - 1. The state after one piece is therefore the one before the next, for every row: carry it on with
    ``nn.detach_state``. (The division is that of Zaremba et al. 2014.)

    stream: a Tensor, array or list (L, ...): words as indices, or the values of a time series.
    batch_size: N. bptt: T; the last piece may be shorter, or is left out with ``drop_last``.
    Yields ``(x, y)``, each (T, N, ...), with ``batch_first`` (N, T, ...). ``sequence`` is the pair for all S steps, as
    ``nn.truncated_bptt`` takes it.
    Raises ArgumentError when the stream is too short for N parts.

    >>> loader = BPTTLoader(np.arange(9), batch_size=2, bptt=3)
    >>> for x, y in loader:
    ...     print(x.tolist(), y.tolist())
    [[0, 4], [1, 5], [2, 6]] [[1, 5], [2, 6], [3, 7]]
    [[3, 7]] [[4, 8]]
    """

    def __init__(
        self,
        stream: Any,
        batch_size: int,
        bptt: int,
        *,
        batch_first: bool = False,
        drop_last: bool = False,
        device: str | Device | None = None,
    ) -> None:
        whole = _as_series("BPTTLoader", "stream", stream)
        self.batch_size = positive("BPTTLoader", "batch_size", batch_size)
        self.bptt = positive("BPTTLoader", "bptt", bptt)
        self.batch_first = batch_first
        self.drop_last = drop_last
        self.device = None if device is None else usable(Device(device))
        self.steps = (len(whole) - 1) // batch_size
        if self.steps < 1:
            rule = (
                f"at least {batch_size + 1} elements for {batch_size} parts",
                f"{batch_size} 系列には {batch_size + 1} 個以上の要素が必要",
            )
            fix = ("choose a smaller batch_size.", "batch_size を小さくしてください。")
            value = (f"{len(whole)} elements", f"{len(whole)} 個の要素")
            raise refusal("BPTTLoader", "stream", value, rule, fix)
        self.sequence: tuple[Tensor, Tensor] = (self._side_by_side(whole[:-1]), self._side_by_side(whole[1:]))
        self._delivered = 0
        self._resumes = False

    def _side_by_side(self, whole: np.ndarray) -> Tensor:
        rows = whole[: self.steps * self.batch_size].reshape(self.batch_size, self.steps, *whole.shape[1:])
        return Tensor(np.ascontiguousarray(rows if self.batch_first else rows.swapaxes(0, 1)))

    def __len__(self) -> int:
        """Number of pieces."""
        return batches_of(self.steps, self.bptt, self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self._resumes:
            self._delivered = 0
        self._resumes = False
        return self._pieces()

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        axis = 1 if self.batch_first else 0
        for number in range(self._delivered, len(self)):
            piece = (slice(None),) * axis + (slice(number * self.bptt, (number + 1) * self.bptt),)
            x, y = (whole[piece] for whole in self.sequence)
            self._delivered = number + 1
            yield (x, y) if self.device is None else (x.to(self.device), y.to(self.device))

    def state_dict(self) -> dict[str, Any]:
        """How many pieces of the present pass were delivered. The recurrent state that belongs to it is the program's to save."""
        return {"batches": self._delivered, "length": len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``: the next iteration begins with the piece that would have come.

        Raises StateError for a stream of another length.
        """
        given = state.get("batches") if isinstance(state, dict) else None
        if not isinstance(given, int) or state.get("length") != len(self) or not 0 <= given <= len(self):
            reason = (f"{state!r} in a pass of {len(self)} pieces", f"1 周が {len(self)} 区間のところに {state!r}")
            fix = ("make the loader as it was when the state was saved.", "状態を保存したときと同じ引数で作ってください。")
            raise error("TG-F003", what="BPTTLoader", reason=reason, fix=fix)
        self._delivered = given
        self._resumes = True


class WindowDataset(Dataset):
    """Sliding windows over a time series: example i is ``(x, y)``, ``window`` steps and the ``horizon`` steps that follow them.

    series: Tensor, array or list (L, ...). stride: steps between the beginnings of neighbouring windows.
    x = series[i·stride : i·stride + window], y = the next ``horizon`` elements. Raises ArgumentError when not one window fits.

    >>> data = WindowDataset(np.arange(6), window=3, horizon=2)
    >>> len(data), [part.tolist() for part in data[1]]
    (2, [[1, 2, 3], [4, 5]])
    """

    def __init__(self, series: Any, window: int, horizon: int = 1, stride: int = 1) -> None:
        op = "WindowDataset"
        self.series = _as_series(op, "series", series)
        self.window = positive(op, "window", window)
        self.horizon = positive(op, "horizon", horizon)
        self.stride = positive(op, "stride", stride)
        if len(self.series) < window + horizon:
            value = (f"{len(self.series)} steps", f"{len(self.series)} ステップ")
            rule = (f"at least window + horizon = {window + horizon}", f"window + horizon = {window + horizon} 以上")
            fix = ("choose a smaller window.", "window を小さくしてください。")
            raise refusal(op, "series", value, rule, fix)

    def __len__(self) -> int:
        return (len(self.series) - self.window - self.horizon) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):
            size = len(self)
            raise error("TG-I002", op="WindowDataset", index=index, size=size, shape=(size,), first=-size, last=size - 1)
        x, y = self.gather([index])
        return x[0], y[0]

    def gather(self, indices: Sequence[int]) -> list[Tensor]:
        starts = np.asarray(indices, np.intp) % len(self) * self.stride
        places = starts[:, None] + np.arange(self.window + self.horizon)
        both = self.series[places]
        return [Tensor(both[:, : self.window].copy()), Tensor(both[:, self.window :].copy())]


def _as_series(op: str, argument: str, given: Any) -> np.ndarray:
    """A Tensor of the CPU, an array or a list of numbers as an array with at least one axis."""
    try:
        converted = default_convert(given if type(given) is Tensor else np.asarray(given))
    except ValueError:  # a list of lists of different lengths
        converted = None
    if type(converted) is not Tensor:
        raise error("TG-T002", op=op, argument=argument, type=type(given).__name__)
    array = converted.detach().numpy()
    if not array.ndim:
        rule, fix = ("at least one axis, (L, ...)", "1 次元以上 (L, ...)"), ("pass a sequence.", "系列を渡してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=array.shape, fix=fix)
    return array
