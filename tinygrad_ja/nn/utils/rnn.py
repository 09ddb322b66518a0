"""Batches of sequences of unequal length: padded to one length, or packed without the padding (``torch.nn.utils.rnn``).

Packed rows are ordered by time: the rows of step 0 of all sequences, longest first, then those of step 1, ... ``batch_sizes[t]`` is the
number of sequences that have a step t. So a recurrent layer computes nothing for padding, and the last state of each sequence is that of
its own last step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backend.arrays import ARRAY_MODULES
from ...core.tensor import Tensor
from ...errors import Phrase, error, joined
from ...ops.creation import from_numpy, full
from ...ops.join import cat, stack, unbind
from ...ops.padding import constant_pad_nd
from ...ops.selection import index_select
from ...ops.shape import reshape

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


def _refusal(op: str, argument: str, value: Any, rule: Phrase, fix: Phrase) -> Exception:
    return error("TG-A001", op=op, argument=argument, value=value, rule=rule, fix=fix)


# ---- the packed form -----------------------------------------------------------------------------


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """Sequences in packed form; made by ``pack_padded_sequence`` and ``pack_sequence``, taken and returned by ``RNN``, ``LSTM``, ``GRU``.

    data: the rows (sum of lengths, ...). batch_sizes: int64 (T,), always on the CPU.
    sorted_indices: where each packed sequence stood before sorting; unsorted_indices: the inverse. None when nothing was sorted.
    """

    __slots__ = ()
    read_by_python = ("batch_sizes",)
    """Fields that are read as numbers of Python, so that a compiled function takes them for constants."""

    def __new__(
        cls, data: Any, batch_sizes: Tensor | None = None, sorted_indices: Any = None, unsorted_indices: Any = None
    ) -> PackedSequence:
        if batch_sizes is None:  # PackedSequence((data, batch_sizes))
            data, batch_sizes = data
        if batch_sizes.device.type != "cpu":
            rule, fix = ("on the CPU", "CPU にあること"), ("batch_sizes.cpu().", "batch_sizes.cpu() としてください。")
            raise _refusal("PackedSequence", "batch_sizes", f"a Tensor on {batch_sizes.device}", rule, fix)
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """``data`` converted as by ``Tensor.to``, the indices on its device; the object itself when nothing changes."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        moved = [None if indices is None else indices.to(data.device) for indices in self[2:]]
        return type(self)(data, self.batch_sizes, *moved)

    def cuda(self, device: Any = "cuda") -> PackedSequence:
        """On a GPU."""
        return self.to(device)

    def cpu(self) -> PackedSequence:
        """On the CPU."""
        return self.to("cpu")

    def double(self) -> PackedSequence:
        """``data`` as float64."""
        return self.to(np.float64)

    def float(self) -> PackedSequence:
        """``data`` as float32."""
        return self.to(np.float32)

    def half(self) -> PackedSequence:
        """``data`` as float16."""
        return self.to(np.float16)

    def long(self) -> PackedSequence:
        """``data`` as int64."""
        return self.to(np.int64)

    def int(self) -> PackedSequence:
        """``data`` as int32."""
        return self.to(np.int32)

    def short(self) -> PackedSequence:
        """``data`` as int16."""
        return self.to(np.int16)

    def char(self) -> PackedSequence:
        """``data`` as int8."""
        return self.to(np.int8)

    def byte(self) -> PackedSequence:
        """``data`` as uint8."""
        return self.to(np.uint8)

    @property
    def is_cuda(self) -> bool:
        """True when ``data`` is on a GPU."""
        return self.data.is_cuda


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes this one.

    >>> import tinygrad_ja as tg
    >>> tg.nn.utils.rnn.invert_permutation(tg.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    return None if permutation is None else permutation.argsort()


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Rows of a padded batch without the padding.

    input: (T, N, ...), with ``batch_first`` (N, T, ...). lengths: N ints, 1 to T, a list or a Tensor on the CPU.
    enforce_sorted: the lengths must not grow along the batch. With False the sequences are sorted (equal ones keep their order), and
    layers and ``pad_packed_sequence`` give results and states in the batch's own order.
    Gradients go to the rows; the padding's are 0. Raises ShapeError or ArgumentError.

    >>> import tinygrad_ja as tg
    >>> padded = tg.tensor([[1, 2, 3], [4, 0, 0]])
    >>> packed = pack_padded_sequence(padded, [3, 1], batch_first=True)
    >>> packed.data, packed.batch_sizes
    (tensor([1, 4, 2, 3]), tensor([2, 1, 1]))
    """
    op = "pack_padded_sequence"
    lead = tuple(input.shape[:2])
    given = _host_lengths(op, lengths)
    t_max, n = lead[::-1] if batch_first else lead if len(lead) == 2 else (0, -1)
    if given.shape != (n,) or not n:
        axes = ("(N, T, ...)", "(N,)") if batch_first else ("(T, N, ...)", "(N,)")
        raise error(
            "TG-S002",
            op=op,
            rule=(f"input {axes[0]} and lengths {axes[1]}, N >= 1", f"input は {axes[0]}、lengths は {axes[1]}、N >= 1"),
            shapes=joined([tuple(input.shape), given.shape]),
            fix=("check batch_first.", "batch_first を確かめてください。"),
        )
    if given.min() < 1 or given.max() > t_max:
        rule = (f"each from 1 to T = {t_max}", f"どれも 1 以上 T = {t_max} 以下")
        fix = ("leave empty sequences out.", "空の系列は除いてください。")
        raise _refusal(op, "lengths", given.tolist(), rule, fix)
    order = np.argsort(-given, kind="stable")
    if enforce_sorted and (np.diff(given) > 0).any():
        rule = ("in decreasing order with enforce_sorted=True", "enforce_sorted=True のときは長い順")
        raise _refusal(op, "lengths", given.tolist(), rule, ("enforce_sorted=False.", "enforce_sorted=False としてください。"))
    batch_sizes = (given > np.arange(given.max())[:, None]).sum(1)
    steps, places = _steps_and_places(batch_sizes)
    rows = order[places] * t_max + steps if batch_first else steps * n + order[places]
    data = index_select(_joined_axes(input), 0, _on_device_of(input, rows))
    return PackedSequence(data, from_numpy(batch_sizes), None if enforce_sorted else _on_device_of(input, order))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of ``pack_padded_sequence``: the padded batch, and the lengths (int64, on the CPU), both in the batch's own order.

    total_length: the number of steps of the result, at least that of the longest sequence. ArgumentError when it is less.

    >>> import tinygrad_ja as tg
    >>> packed = pack_sequence([tg.tensor([1, 2, 3]), tg.tensor([4])])
    >>> pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    (tensor([[ 1,  2,  3],
            [ 4, -1, -1]]), tensor([3, 1]))
    """
    data = sequence.data
    batch_sizes = sequence.batch_sizes.numpy()
    longest, n = len(batch_sizes), int(batch_sizes[0])
    length = longest if total_length is None else total_length
    if length < longest:
        rule = (f"at least {longest}, the longest sequence's length", f"最も長い系列の長さ {longest} 以上")
        fix = ("raise it.", "大きくしてください。")
        raise _refusal("pad_packed_sequence", "total_length", total_length, rule, fix)
    order = np.arange(n) if sequence.sorted_indices is None else sequence.sorted_indices.cpu().numpy()
    steps, places = _steps_and_places(batch_sizes)
    rows = np.full((length, n), len(data))  # that of the padding, behind all others
    rows[steps, order[places]] = np.arange(len(data))
    lengths = (rows < len(data)).sum(0)
    if batch_first:
        rows = rows.T
    padding = full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    made = index_select(cat([data, padding]), 0, _on_device_of(data, rows.reshape(-1)))
    return reshape(made, (*rows.shape, *data.shape[1:])), from_numpy(lengths)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packed sequences from a list of them, each (length, ...).

    >>> import tinygrad_ja as tg
    >>> pack_sequence([tg.tensor([1, 2, 3]), tg.tensor([4])]).data
    tensor([1, 4, 2, 3])
    """
    given = list(sequences)
    return pack_padded_sequence(pad_sequence(given), [len(x) for x in given], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The list of sequences, in the order in which they were packed."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


# ---- padding -------------------------------------------------------------------------------------


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (length, ...) as one Tensor (T, N, ...), with ``batch_first`` (N, T, ...); the shorter ones are filled up to T.

    padding_side: "right" or "left", the end at which ``padding_value`` is put. Raises ShapeError when other axes differ.

    >>> import tinygrad_ja as tg
    >>> pad_sequence([tg.tensor([1, 2, 3]), tg.tensor([4])], batch_first=True)
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    op = "pad_sequence"
    if padding_side not in ("right", "left"):
        rule, fix = ("'right' or 'left'", "'right' か 'left'"), ("choose one.", "どちらかを選んでください。")
        raise _refusal(op, "padding_side", repr(padding_side), rule, fix)
    given = list(sequences) if isinstance(sequences, Iterable) else []
    if not given or any(type(x) is not Tensor for x in given):
        rule, fix = ("a list of Tensors, not empty", "空でない Tensor のリスト"), ("pass a list.", "リストを渡してください。")
        raise _refusal(op, "sequences", type(sequences).__name__, rule, fix)
    if any(not x.ndim or x.shape[1:] != given[0].shape[1:] for x in given):
        rule = ("(length, ...) with all other axes equal", "(長さ, ...) で、ほかの次元は等しい")
        fix = ("check the first axis.", "最初の次元を確かめてください。")
        raise error("TG-S002", op=op, rule=rule, shapes=joined([tuple(x.shape) for x in given]), fix=fix)
    longest = max(len(x) for x in given)
    made = []
    for x in given:
        missing = longest - len(x)
        ends = (0, missing) if padding_side == "right" else (missing, 0)
        made.append(constant_pad_nd(x, ((0, 0) * (x.ndim - 1) + ends), padding_value) if missing else x)
    return stack(made, dim=0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The inverse of ``pad_sequence`` (with ``padding_side="right"``): the first ``lengths[n]`` steps of each sequence.

    >>> import tinygrad_ja as tg
    >>> [x.tolist() for x in unpad_sequence(tg.tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)]
    [[1, 2, 3], [4]]
    """
    given = _host_lengths("unpad_sequence", lengths.cpu() if type(lengths) is Tensor else lengths)
    n = padded_sequences.shape[0 if batch_first else 1]
    if given.shape != (n,):
        rule = (f"one length for each of the {n} sequences", f"{n} 個の系列のそれぞれに長さを 1 つ")
        shapes = joined([tuple(padded_sequences.shape), given.shape])
        fix = ("check batch_first.", "batch_first を確かめてください。")
        raise error("TG-S002", op="unpad_sequence", rule=rule, shapes=shapes, fix=fix)
    parts = unbind(padded_sequences, 0 if batch_first else 1)
    return [x[: max(length, 0)] for x, length in zip(parts, given.tolist())]


# ---- positions of rows, on the host --------------------------------------------------------------


def _host_lengths(op: str, lengths: Any) -> np.ndarray:
    """Lengths as int64 on the host; a Tensor must be there already."""
    if type(lengths) is Tensor:
        if lengths.device.type != "cpu":
            rule, fix = ("on the CPU", "CPU にあること"), ("lengths.cpu().", "lengths.cpu() としてください。")
            raise _refusal(op, "lengths", f"a Tensor on {lengths.device}", rule, fix)
        return lengths.numpy().astype(np.int64)
    return np.array([int(length) for length in lengths], np.int64)


def _steps_and_places(batch_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of the packed form its time step, and its place among the rows of that step."""
    steps = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    starts = np.cumsum(batch_sizes) - batch_sizes
    return steps, np.arange(len(steps)) - starts[steps]


def _joined_axes(x: Tensor) -> Tensor:
    """The first two axes as one."""
    return reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def _on_device_of(x: Tensor, indices: np.ndarray) -> Tensor:
    return Tensor(ARRAY_MODULES[type(x.array)].asarray(indices))
