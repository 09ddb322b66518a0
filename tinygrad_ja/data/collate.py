"""From examples to a batch: PyTorch's ``default_collate`` and ``default_convert``, and a collate function for sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import is_array
from ..backend.devices import get_default_dtype
from ..core.tensor import Tensor
from ..errors import error, joined, refusal
from ..nn.utils.rnn import pad_sequence
from ..ops.creation import from_numpy
from ..ops.join import stack


def default_collate(batch: Sequence[Any]) -> Any:
    """A list of N examples as one batch, by PyTorch's rules, with the batch as the first axis.

    Tensors and arrays of one shape become a Tensor (N, ...); Python's floats one of float64, its ints int64, its bools bool; text stays a
    list; dicts, named tuples and lists keep their form, tuples become lists, each filled with the batches of their elements.
    Raises ShapeError for unequal shapes or lengths, DtypeError for what is none of these, ArgumentError for an empty list.

    >>> default_collate([(1, "a"), (2, "b")])
    [tensor([1, 2]), ('a', 'b')]
    >>> import tinygrad_ja as tg
    >>> default_collate([{"x": tg.ones(3)}, {"x": tg.zeros(3)}])["x"].shape
    (2, 3)
    """
    first = _first("default_collate", batch)
    if type(first) is Tensor:
        return _stacked_tensors(batch)
    if is_array(first):
        return _stacked_arrays(batch)
    if isinstance(first, np.ndarray):  # of a subclass, such as memmap
        return _stacked_arrays([np.asarray(item) for item in batch])
    if isinstance(first, (bool, int, float, np.generic)):
        return _numbers(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _filled(first, {key: default_collate([item[key] for item in batch]) for key in first})
    if isinstance(first, Sequence):
        lengths = {len(item) for item in batch}
        if len(lengths) > 1:
            rule = ("the examples of a batch have one length", "バッチの中のデータの長さは等しい")
            fix = ("cut or fill them to one length, or pass a collate_fn.", "長さをそろえるか、collate_fn を渡してください。")
            raise error("TG-S002", op="default_collate", rule=rule, shapes=joined(sorted(lengths)), fix=fix)
        return _filled(first, [default_collate(parts) for parts in zip(*batch)], tuple_as=list)
    raise error("TG-T002", op="default_collate", argument="item", type=type(first).__name__)


def default_convert(data: Any) -> Any:
    """``data`` with every array in it as a Tensor of the same memory, and tuples as lists; other values stay as they are.

    >>> default_convert([np.ones(2, np.float32), "a"])
    [tensor([1., 1.]), 'a']
    """
    return mapped(_converted, data, tuple_as=list)


def _converted(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "buif":
        return from_numpy(np.asarray(value))
    return Tensor(value) if is_array(value) and not isinstance(value, np.ndarray) else value


def mapped(function: Callable[[Any], Any], data: Any, tuple_as: type = tuple) -> Any:
    """``data`` with ``function`` applied to everything in its dicts, tuples and lists, however deep."""
    if isinstance(data, Mapping):
        return _filled(data, {key: mapped(function, value, tuple_as) for key, value in data.items()})
    if isinstance(data, (list, tuple)):
        return _filled(data, [mapped(function, value, tuple_as) for value in data], tuple_as)
    return function(data)


class PadCollate:
    """A collate function for sequences of different lengths: ``DataLoader(..., collate_fn=PadCollate(batch_first=True))``.

    Every Tensor or array (length, ...) of an example becomes a pair of the padded batch (T, N, ...), with ``batch_first`` (N, T, ...), and
    the lengths (N), int64; everything else becomes what ``default_collate`` makes of it. Dicts, tuples and lists are followed.

    padding_value: what stands behind the shorter sequences; take a ``padding_idx`` or ``ignore_index`` here.
    dim: the axis of an example that is its length; with -1 waveforms (C, length) become (T, N, C), with ``batch_first`` (N, C, T).

    >>> collate = PadCollate(batch_first=True, padding_value=-1)
    >>> (words, lengths), label = collate([(np.array([1, 2, 3]), 0), (np.array([4]), 1)])
    >>> words.tolist(), lengths.tolist(), label.tolist()
    ([[1, 2, 3], [4, -1, -1]], [3, 1], [0, 1])
    """

    def __init__(self, batch_first: bool = False, padding_value: float = 0.0, dim: int = 0) -> None:
        self.batch_first = batch_first
        self.padding_value = padding_value
        self.dim = dim

    def __call__(self, batch: Sequence[Any]) -> Any:
        first = _first("PadCollate", batch)
        if isinstance(first, Mapping):
            return _filled(first, {key: self([item[key] for item in batch]) for key in first})
        if isinstance(first, (list, tuple)):
            return _filled(first, [self(parts) for parts in zip(*batch)], tuple_as=list)
        if getattr(first, "ndim", 0):
            return self._padded([default_convert(item) for item in batch])
        return default_collate(batch)

    def _padded(self, examples: list[Tensor]) -> tuple[Tensor, Tensor]:
        sequences = [x.movedim(self.dim, 0) for x in examples] if self.dim else examples
        padded = pad_sequence(sequences, self.batch_first, self.padding_value)
        if self.dim and self.batch_first:
            padded = padded.movedim(1, self.dim if self.dim < 0 else self.dim + 1)
        return padded, Tensor(np.array([len(x) for x in sequences], np.int64))


def _first(op: str, batch: Sequence[Any]) -> Any:
    if not batch:
        rule, fix = (
            ("at least one example", "1 件以上のデータ"),
            ("pass a list of examples.", "データのリストを渡してください。"),
        )
        raise refusal(op, "batch", batch, rule, fix)
    return batch[0]


def _filled(form: Any, parts: Any, tuple_as: type = tuple) -> Any:
    """``parts`` in the form of a dict, list or tuple, or of a subclass; plain where the subclass cannot be made from them."""
    if hasattr(form, "_fields"):
        return type(form)(*parts)
    if type(form) is tuple:
        return tuple_as(parts)
    if isinstance(form, tuple):
        return parts
    try:
        return type(form)(parts)
    except TypeError:
        return parts


# ---- arrays --------------------------------------------------------------------------------------


def _stacked_tensors(batch: Sequence[Tensor]) -> Tensor:
    arrays = [getattr(item, "array", item) for item in batch]
    if type(arrays[0]) is np.ndarray and not any([getattr(item, "node", None) for item in batch]):
        return _stacked_arrays(arrays)
    _check_shapes(arrays)
    return stack(batch)


def _stacked_arrays(arrays: Sequence[Any]) -> Tensor:
    first = arrays[0]
    _check_shapes(arrays)
    if not isinstance(first, np.ndarray):
        return stack([Tensor(array) for array in arrays])
    if not first.ndim:
        return _tensor(np.array(arrays))
    return _tensor(np.concatenate(arrays).reshape(len(arrays), *first.shape))  # half the time of np.stack


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "buif":
        allowed = ("a bool, integer or float", "bool、整数、浮動小数点")
        raise error("TG-T004", op="default_collate", dtype=array.dtype, allowed=allowed, fix="tg.float32")
    return from_numpy(array)


def _check_shapes(arrays: Sequence[Any]) -> None:
    shapes = {getattr(array, "shape", ()) for array in arrays}
    if len(shapes) > 1:
        rule = ("the examples of a batch have one shape", "バッチの中のデータの形状は等しい")
        fix = (
            "bring them to one shape, or pass collate_fn=PadCollate() for sequences.",
            "形状をそろえるか、系列なら collate_fn=PadCollate() を渡してください。",
        )
        raise error("TG-S002", op="default_collate", rule=rule, shapes=joined(sorted(shapes)), fix=fix)


def _numbers(batch: Sequence[Any]) -> Tensor:
    """Numbers of one batch. PyTorch's rule: where the first is a Python float, float64; floats after an int have the default dtype."""
    first = batch[0]
    array = np.array(batch)
    if isinstance(first, np.generic) or array.dtype.kind != "f":
        return _tensor(array)
    return _tensor(array.astype(np.float64 if isinstance(first, float) else get_default_dtype(), copy=False))
