"""Whose an array is. In-place operators of a Tensor give it another array, and whoever shares the one that it had keeps that; a program writes
into the array that the Tensor has, which is the same only where nobody else sees it."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Sequence
from typing import Any

from ..backend.arrays import BY_TYPE, is_sole_owner
from ..core.tape import Leaf
from ..core.tensor import Tensor
from ..errors import Phrase
from .strides import bounds_of

_claims: dict[int, tuple[weakref.ref[Tensor], weakref.ref[Any]]] = {}
"""By the id of a Tensor: the Tensor, and the array in it that programs write. (Programs hold such arrays, so counting who does no longer
tells whose they are.)"""


LOOKS_INTO: Phrase = (
    "it can reach a parameter, or changes an array, a part of which is the array of another Tensor as well",
    "手の届くパラメータか、書き換える配列の一部が、別の Tensor の配列にもなっています",
)


def owner_of(array: Any) -> Any:
    """The array whose memory ``array`` is a part of."""
    while getattr(array, "base", None) is not None and type(array.base) in BY_TYPE:
        array = array.base
    return array


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays of one owner may have elements in common."""
    (low, high), (begin, end) = bounds_of(a), bounds_of(b)
    return low < end and begin < high


def looks_into_leaf(tensors: Sequence[Tensor]) -> bool:
    """Whether a Tensor that wants gradients, which an optimizer would write into, has elements in common with another one's array: a captured
    view of a parameter, say. (Tensors that have one array between them are no matter.)"""
    of_owner: dict[int, list[Tensor]] = collections.defaultdict(list)
    for tensor in tensors:
        of_owner[id(owner_of(tensor.array))].append(tensor)
    for together in of_owner.values():
        for leaf in together if len(together) > 1 else ():
            if isinstance(leaf.node, Leaf) and any(
                [x.array is not leaf.array and overlap(x.array, leaf.array) for x in together]
            ):
                return True
    return False


def is_whole(array: Any) -> bool:
    """Whether an array can be written, and is no part of another object's memory."""
    return getattr(array, "base", None) is None and getattr(array.flags, "writeable", True)


def own_arrays(tensors: Sequence[Tensor]) -> set[int]:
    """The ids of those Tensors whose arrays nobody else sees, as far as can be told."""
    alone = [is_sole_owner(tensor) for tensor in tensors]  # before anything here holds an array
    count = collections.Counter([id(owner_of(tensor.array)) for tensor in tensors])
    return {
        id(tensor)
        for tensor, sole in zip(tensors, alone)
        if is_whole(tensor.array) and count[id(owner_of(tensor.array))] == 1 and (sole or _is_claimed(tensor))
    }


def claim(tensor: Tensor) -> None:
    """From now on the array of this Tensor is one that programs write."""
    key, forget = id(tensor), _claims.pop
    _claims[key] = weakref.ref(tensor, lambda _: forget(key, None)), weakref.ref(tensor.array)


def _is_claimed(tensor: Tensor) -> bool:
    known = _claims.get(id(tensor))
    return known is not None and known[0]() is tensor and known[1]() is tensor.array
