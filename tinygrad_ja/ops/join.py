"""Joining and splitting. ``cat`` and ``split`` are each other's transpose, ``stack`` and ``unbind`` too; each is one entry on the tape, so
the backward of a loop over T time steps costs O(T)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, is_array
from ..core.operator import Array, linear
from ..core.tensor import Tensor
from ..errors import AxisError, Phrase, ShapeError, error, joined
from .methods import attach
from .shape import _expand, _reshape, _sizes, atleast_1d, atleast_2d, atleast_3d, dimension

__all__ = [
    "block_diag",
    "cartesian_prod",
    "cat",
    "chunk",
    "column_stack",
    "combinations",
    "concat",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "meshgrid",
    "split",
    "split_with_sizes",
    "stack",
    "tensor_split",
    "unbind",
    "vsplit",
    "vstack",
]


def _shapes_differ(op: str, tensors: Sequence[Any], rule: Phrase) -> Exception:
    shapes = joined([tuple(x.shape) for x in tensors])
    return error(
        "TG-S002",
        op=op,
        rule=rule,
        shapes=shapes,
        fix=("slice, pad or reshape them to fit.", "スライス、パディング、reshape などで合わせてください。"),
    )


def _listed(op: str, tensors: Any) -> tuple[Any, ...]:
    """The tensors to join as a tuple; a lone Tensor or array in the place of the list is refused."""
    if type(tensors) is Tensor or is_array(tensors) or not isinstance(tensors, Iterable):
        raise error(
            "TG-A001",
            op=op,
            argument="tensors",
            value=type(tensors).__name__,
            rule=("a list or tuple of Tensors", "Tensor のリストまたはタプル"),
            fix=(f"put them into a list: tg.{op}([a, b]).", f"リストに入れて tg.{op}([a, b]) としてください。"),
        )
    made = tuple(tensors)
    _need_some(op, made)
    return made


def _need_some(op: str, tensors: Sequence[Any]) -> None:
    if not tensors:
        raise error(
            "TG-A001",
            op=op,
            argument="tensors",
            value="()",
            rule=("at least one tensor", "テンソルが 1 つ以上あること"),
            fix=("pass a list of tensors.", "テンソルのリストを渡してください。"),
        )


# ---- cat and split -------------------------------------------------------------------------------


def _cut_case(pick: Any) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """A shape without the cut axis' size, the axis, and the sizes of its parts."""
    shape = pick.shape(min_dims=1, max_side=3)
    sizes = tuple([pick.integer(0, 3) for _ in range(pick.integer(1, 4))])
    return shape, pick.integer(0, len(shape) - 1), sizes


def _with_size(shape: Sequence[int], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _cat_case(pick: Any) -> Any:
    shape, dim, sizes = _cut_case(pick)
    return tuple([pick.array(_with_size(shape, dim, size)) for size in sizes]), {"dim": dim, "sizes": sizes}


def _split_case(pick: Any) -> Any:
    shape, dim, sizes = _cut_case(pick)
    return (pick.array(_with_size(shape, dim, sum(sizes))), sizes, dim), {}


@linear(lambda g, dim, sizes: _split(g, sizes, dim), joint=True, promotes=True, cases=_cat_case)
def _cat(xp: Any, *tensors: Array, dim: int = 0, sizes: tuple[int, ...] = ()) -> Array:
    """Tensors one behind the other along ``dim``, where they have ``sizes``; the transpose splits."""
    try:
        return xp.concatenate(tensors, dim)
    except ValueError as failure:
        raise _shapes_differ(
            "cat", tensors, (f"the shapes agree except in dim {dim}", f"次元 {dim} 以外の大きさが等しい")
        ) from failure


@linear(lambda g, sizes, dim: _cat(*g, dim=dim, sizes=sizes), outputs=0, cases=_split_case)
def _split(xp: Any, input: Array, sizes: tuple[int, ...], dim: int) -> tuple[Array, ...]:
    """Parts of ``sizes`` along ``dim``; the transpose joins them."""
    front = (slice(None),) * dim
    made, start = [], 0
    for size in sizes:
        part = (*front, slice(start, start + size))
        made.append(input[part])
        start += size
    return tuple(made)


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors one behind the other along ``dim``; all other sizes agree. Different dtypes are promoted; tensors of shape (0,) are
    skipped, as in PyTorch. The derivative splits the cotangent.

    Raises ShapeError when the sizes of another axis differ, ArgumentError when ``tensors`` is no list.

    >>> import tinygrad_ja as tg
    >>> tg.cat([tg.tensor([1.0, 2.0]), tg.tensor([3.0])])
    tensor([1., 2., 3.])
    """
    tensors = _listed("cat", tensors)
    try:
        shape = tensors[0].shape
        if not shape:
            raise _shapes_differ("cat", tensors, ("at least 1 axis (stack joins scalars)", "1 次元以上 (スカラーなら stack)"))
        axis = dimension("cat", dim, shape)
        return _cat(*tensors, dim=axis, sizes=tuple([x.shape[axis] for x in tensors]))
    except (AxisError, ShapeError):
        kept = [x for x in tensors if x.shape != (0,)]
        if not kept or len(kept) == len(tensors):
            raise
        return cat(kept, dim)
    except IndexError as failure:  # fewer axes than the first tensor has
        raise _shapes_differ("cat", tensors, ("the same number of axes", "次元数が等しい")) from failure
    except AttributeError as failure:
        kind = next(type(x).__name__ for x in tensors if not hasattr(x, "shape"))
        raise error("TG-T002", op="cat", argument="tensors", type=kind) from failure


concat = concatenate = cat


def split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Parts of the given sizes along ``dim``, which they fill exactly. The derivative is ``cat`` of all parts' cotangents at once."""
    shape = input.shape
    dim = dimension("split", dim, shape)
    sizes = tuple(split_sizes)
    if not shape or sum(sizes) != shape[dim] or any([size < 0 for size in sizes]):
        length = shape[dim] if shape else 0
        rule = (
            f"the sizes are 0 or more and sum to {length}, the size of dim {dim} of shape {tuple(shape)}",
            f"大きさは 0 以上で、合計は形状 {tuple(shape)} の次元 {dim} の大きさ {length}",
        )
        raise error(
            "TG-A001",
            op="split",
            argument="split_sizes",
            value=sizes,
            rule=rule,
            fix=("correct the sizes.", "大きさを直してください。"),
        )
    return _split(input, sizes, dim)


def split(tensor: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Parts of one size (the last may be smaller) or of given sizes, along ``dim``.

    >>> import tinygrad_ja as tg
    >>> tg.split(tg.tensor([1.0, 2.0, 3.0]), 2)
    (tensor([1., 2.]), tensor([3.]))
    """
    if not isinstance(split_size_or_sections, int):
        return split_with_sizes(tensor, split_size_or_sections, dim)
    axis = dimension("split", dim, tensor.shape)
    length, size = (tensor.shape or (0,))[axis], split_size_or_sections
    if size < 0 or (size == 0 and length) or not tensor.shape:
        raise error(
            "TG-A001",
            op="split",
            argument="split_size",
            value=size,
            rule=("1 or more", "1 以上"),
            fix=("give a positive size.", "正の大きさを渡してください。"),
        )
    count = max(1, -(-length // size)) if size else 1
    return _split(tensor, (size,) * (count - 1) + (length - size * (count - 1),), axis)


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """At most ``chunks`` parts of equal size along ``dim``; the last may be smaller.

    >>> import tinygrad_ja as tg
    >>> [x.tolist() for x in tg.chunk(tg.tensor([1, 2, 3, 4, 5]), 3)]
    [[1, 2], [3, 4], [5]]
    """
    axis = dimension("chunk", dim, input.shape)
    if chunks < 1 or not input.shape:
        raise error(
            "TG-A001",
            op="chunk",
            argument="chunks",
            value=chunks,
            rule=("1 or more, of 1 axis or more", "1 以上、テンソルは 1 次元以上"),
            fix=("chunks=1.", "chunks=1 などとしてください。"),
        )
    length = input.shape[axis]
    if not length:
        return _split(input, (0,) * chunks, axis)
    return split(input, -(-length // chunks), axis)


def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """``n`` parts, the first of which are larger by one where the size does not divide; or the parts between the given indices.

    >>> import tinygrad_ja as tg
    >>> [x.tolist() for x in tg.tensor_split(tg.tensor([1, 2, 3, 4]), (1, 3))]
    [[1], [2, 3], [4]]
    """
    axis = dimension("tensor_split", dim, input.shape)
    length = input.shape[axis]
    given = getattr(indices_or_sections, "array", indices_or_sections)
    given = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(given, int):
        if given < 1:
            raise error(
                "TG-A001",
                op="tensor_split",
                argument="sections",
                value=given,
                rule=("1 or more", "1 以上"),
                fix=("sections=1.", "sections=1 などとしてください。"),
            )
        part, larger = divmod(length, given)
        return _split(input, (part + 1,) * larger + (part,) * (given - larger), axis)
    cuts = [0, *[min(max(i + length if i < 0 else i, 0), length) for i in given], length]
    if all([a <= b for a, b in itertools.pairwise(cuts)]):
        return _split(input, tuple([b - a for a, b in itertools.pairwise(cuts)]), axis)
    front = (slice(None),) * axis  # cuts that go back: overlapping parts
    parts = [(*front, slice(a, b)) for a, b in itertools.pairwise(cuts)]
    return tuple([input[part] for part in parts])


def _split_evenly(op: str, input: Any, indices_or_sections: Any, dim: int, ndim: int) -> tuple[Any, ...]:
    if input.ndim < ndim:
        raise _shapes_differ(op, [input], (f"at least {ndim} axes", f"{ndim} 次元以上"))
    length = input.shape[dim]
    if isinstance(indices_or_sections, int) and (indices_or_sections < 1 or length % indices_or_sections):
        rule = (f"it divides {length}, the size of dim {dim}", f"次元 {dim} の大きさ {length} の約数であること")
        raise error(
            "TG-A001",
            op=op,
            argument="sections",
            value=indices_or_sections,
            rule=rule,
            fix=("use tensor_split.", "tensor_split を使ってください。"),
        )
    return tensor_split(input, indices_or_sections, dim)


def hsplit(input: Any, indices_or_sections: Any) -> tuple[Any, ...]:
    """``tensor_split`` by columns (along the only axis of a 1-d tensor), into equal parts or at indices."""
    return _split_evenly("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


def vsplit(input: Any, indices_or_sections: Any) -> tuple[Any, ...]:
    """``tensor_split`` by rows, into equal parts or at indices."""
    return _split_evenly("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Any, indices_or_sections: Any) -> tuple[Any, ...]:
    """``tensor_split`` along the third axis, into equal parts or at indices."""
    return _split_evenly("dsplit", input, indices_or_sections, 2, 3)


# ---- stack and unbind ----------------------------------------------------------------------------


def _stack_case(pick: Any) -> Any:
    shape = pick.shape(max_dims=2)
    arrays = tuple([pick.array(shape) for _ in range(pick.integer(1, 4))])
    return arrays, {"dim": pick.axis(len(shape) + 1)}


def _unbind_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, min_side=1)
    return (pick.array(shape), pick.axis(len(shape))), {}


@linear(lambda g, dim: _unbind(g, dim), joint=True, promotes=True, cases=_stack_case)
def _stack(xp: Any, *tensors: Array, dim: int = 0) -> Array:
    """Tensors of one shape along a new axis; the transpose unbinds it."""
    try:
        return xp.stack(tensors, dim)
    except ValueError as failure:
        if isinstance(failure, np.exceptions.AxisError):
            raise
        raise _shapes_differ("stack", tensors, ("all shapes agree", "すべて同じ形状")) from failure


@linear(lambda g, dim: _stack(*g, dim=dim), outputs=0, cases=_unbind_case)
def _unbind(xp: Any, input: Array, dim: int = 0) -> tuple[Array, ...]:
    """The slices along ``dim``; the transpose stacks them."""
    if not input.ndim:
        raise error("TG-U004")
    return tuple(xp.moveaxis(input, dim, 0) if dim else input)


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors of one shape along a new axis ``dim``. Different dtypes are promoted. The derivative unbinds the cotangent.

    >>> import tinygrad_ja as tg
    >>> tg.stack([tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0])], dim=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    tensors = _listed("stack", tensors)
    return _stack(*tensors, dim=dimension("stack", dim, tensors[0].shape, 1) if dim else 0)


def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """The slices along ``dim``, as a tuple; one entry on the tape, so that using all T of them costs O(T) in backward.

    >>> import tinygrad_ja as tg
    >>> tg.unbind(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    (tensor([1., 2.]), tensor([3., 4.]))
    """
    return _unbind(input, dimension("unbind", dim, input.shape) if dim else 0)


def hstack(tensors: Sequence[Any]) -> Any:
    """Side by side: along the second axis, along the only one of 1-d tensors."""
    made = [atleast_1d(x) for x in tensors]
    _need_some("hstack", made)
    return cat(made, 0 if made[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Any]) -> Any:
    """One below the other; a 1-d tensor is a row."""
    return cat([atleast_2d(x) for x in tensors], 0)


def dstack(tensors: Sequence[Any]) -> Any:
    """One behind the other, along the third axis."""
    return cat([atleast_3d(x) for x in tensors], 2)


def column_stack(tensors: Sequence[Any]) -> Any:
    """Side by side; a 1-d tensor is a column."""
    return cat([_reshape(x, (-1, 1)) if x.ndim < 2 else x for x in tensors], 1)


# ---- grids and products --------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Coordinates of the grid of 1-d tensors: the i-th result varies along axis i (``"ij"``), or the first two axes exchanged (``"xy"``).

    >>> import tinygrad_ja as tg
    >>> [x.tolist() for x in tg.meshgrid(tg.tensor([1, 2]), tg.tensor([3, 4]), indexing="ij")]
    [[[1, 1], [2, 2]], [[3, 4], [3, 4]]]
    """
    vectors = [_reshape(x, (-1,)) for x in _sizes(tensors)]
    _need_some("meshgrid", vectors)
    if indexing not in ("ij", "xy"):
        raise error(
            "TG-A001",
            op="meshgrid",
            argument="indexing",
            value=indexing,
            rule=("'ij' or 'xy'", "'ij' か 'xy'"),
            fix=("indexing='ij'.", "indexing='ij' としてください。"),
        )
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        places[:2] = 1, 0
    size = [0] * len(vectors)
    for place, x in zip(places, vectors):
        size[place] = x.shape[0]
    made = []
    for place, x in zip(places, vectors):
        column = tuple([x.shape[0] if axis == place else 1 for axis in range(len(size))])
        made.append(_expand(_reshape(x, column), tuple(size)))
    return tuple(made)


def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of one element from each 1-d tensor, as rows; the last one varies fastest."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([_reshape(x, (-1,)) for x in meshgrid(*tensors)], 1)


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All sets of ``r`` elements of a 1-d tensor, as rows of a (count, r) tensor.

    >>> import tinygrad_ja as tg
    >>> tg.combinations(tg.tensor([1, 2, 3])).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    if input.ndim != 1:
        raise _shapes_differ("combinations", [input], ("1 axis", "1 次元"))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.shape[0]), r))
    xp = ARRAY_MODULES[type(getattr(input, "array", input))]
    from .selection import _index_select

    return _index_select(input, 0, xp.asarray(np.array(rows, dtype=np.int64).reshape(len(rows), r)))


def block_diag(*tensors: Any) -> Any:
    """The matrices along the diagonal of a larger one that is zero elsewhere; a vector is a row.

    >>> import tinygrad_ja as tg
    >>> tg.block_diag(tg.tensor([[1.0]]), tg.tensor([[2.0, 3.0]]))
    tensor([[1., 0., 0.],
            [0., 2., 3.]])
    """
    from .padding import constant_pad_nd

    blocks = [atleast_2d(x) for x in _sizes(tensors)]
    _need_some("block_diag", blocks)
    for block in blocks:
        if block.ndim != 2:
            raise _shapes_differ("block_diag", blocks, ("at most 2 axes", "2 次元以下"))
    widths = [block.shape[1] for block in blocks]
    rows = []
    for i, block in enumerate(blocks):
        rows.append(constant_pad_nd(block, (sum(widths[:i]), sum(widths[i + 1 :]))))
    return cat(rows, 0)


attach(split, split_with_sizes, chunk, tensor_split, hsplit, vsplit, dsplit, unbind)
