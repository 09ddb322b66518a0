"""Products said with those of ``linalg``: with a sum added, of more than two factors, of vectors, over chosen axes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from ..core.operator import Array, primitive
from ..core.promotion import autocasts, result_type
from ..errors import Phrase, error, joined
from .conversion import cast
from .diagonal import diagonal
from .linalg import _require, _rows, bmm, dot, einsum, matmul, mm, mv, outer
from .methods import attach, attach_in_place
from .reduce import sum
from .shape import _expand, _reshape, dimension

__all__ = ["addbmm", "addmm", "addmv", "addr", "baddbmm", "cross", "kron", "tensordot", "trace", "vdot"]


# ---- beta * input + alpha * product --------------------------------------------------------------


def _combined(op: str, input: Any, product: Any, beta: float, alpha: float) -> Any:
    """``beta * input + alpha * product``, where the input is expanded to the product's shape, never the other way round."""
    kind = product.dtype.kind
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if kind != "f" and isinstance(factor, float):
            rule = ("an integer for integer tensors", "整数のテンソルには整数")
            fix = ("pass an integer, or convert the tensors.", "整数を渡すか、テンソルを変換してください。")
            raise error("TG-A001", op=op, argument=name, value=factor, rule=rule, fix=fix)
    if input.dtype != product.dtype:
        raise error("TG-T001", op=op, dtypes=joined((input.dtype, product.dtype)), fix=f"tg.{product.dtype}")
    if alpha != 1:
        product = product * alpha
    if tuple(input.shape) != tuple(product.shape):
        input = _expand(input, tuple(product.shape))
    if beta == 0:
        return product
    return product + (input if beta == 1 else input * beta)


@autocasts("lower")
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * (mat1 @ mat2)``; with beta 0 the values of ``input`` do not count, not even NaN.

    >>> import tinygrad_ja as tg
    >>> tg.addmm(tg.tensor([1.0, 2.0]), tg.ones(1, 3), tg.ones(3, 2))
    tensor([[4., 5.]])
    """
    return _combined("addmm", input, mm(mat1, mat2), beta, alpha)


@autocasts("lower")
def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * (mat @ vec)`` of a matrix (m, k) and a vector (k,)."""
    return _combined("addmv", input, mv(mat, vec), beta, alpha)


@autocasts("lower")
def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * outer(vec1, vec2)``: a change of rank one. Unlike its relatives it promotes dtypes."""
    common = result_type(input, vec1, vec2)
    input, vec1, vec2 = [x if x.dtype == common else cast(x, common) for x in (input, vec1, vec2)]
    return _combined("addr", input, outer(vec1, vec2), beta, alpha)


@autocasts("lower")
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * bmm(batch1, batch2)``, matrix by matrix."""
    return _combined("baddbmm", input, bmm(batch1, batch2), beta, alpha)


@autocasts("lower")
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * sum_b batch1[b] @ batch2[b]``: one product of two matrices, the stacks laid side by side."""
    _require("addbmm", "(b,m,k),(b,k,n)->(m,n)", (3, 3), batch1, batch2)
    if batch1.shape[0] != batch2.shape[0]:
        shapes = joined((tuple(batch1.shape), tuple(batch2.shape)))
        fix = ("give both the same number of matrices.", "行列の個数をそろえてください。")
        raise error("TG-S002", op="addbmm", rule="(b,m,k),(b,k,n)->(m,n)", shapes=shapes, fix=fix)
    return _combined("addbmm", input, einsum("bmk,bkn->mn", batch1, batch2), beta, alpha)


# ---- vectors -------------------------------------------------------------------------------------


def vdot(input: Any, other: Any) -> Any:
    """Inner product of two vectors; the same as ``dot``, for there are no complex numbers here."""
    _require("vdot", "(k),(k)->()", (1, 1), input, other)
    return dot(input, other)


@autocasts("lower")
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """Inner products of vectors along ``dim``; the other axes broadcast (``torch.linalg.vecdot``).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.vecdot(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([1.0, -1.0]))
    tensor([-1., -1.])
    """
    return sum(x * y, dim)


def _cross_case(pick: Any) -> Any:
    shape = list(pick.shape(min_dims=1))
    dim = pick.axis(len(shape))
    shape[dim] = 3
    narrow = [1 if i != dim % len(shape) and pick.boolean() else n for i, n in enumerate(shape)]
    pair = [tuple(shape), tuple(narrow)]
    if pick.boolean():
        pair.reverse()
    return (pick.array(pair[0]), pick.array(pair[1]), dim), {}


@primitive(
    lambda g, other, dim: _cross(other, g, dim),
    lambda g, input, dim: _cross(g, input, dim),
    broadcasts=True,
    cases=_cross_case,
)
def _cross(xp: Any, input: Array, other: Array, dim: int = -1) -> Array:
    """a × b along an axis of size 3. Since <g, a × b> is the volume of (g, a, b), da = b × g and db = g × a."""
    return xp.cross(input, other, axis=dim)


def _check_cross(op: str, input: Any, other: Any, dim: int) -> int:
    shapes = joined((tuple(input.shape), tuple(other.shape)))
    if input.ndim != other.ndim:
        fix = ("add axes of size 1 in front of one of them.", "一方の先頭に大きさ 1 の次元を加えてください。")
        raise error("TG-S002", op=op, rule=("as many axes in both", "次元数が等しい"), shapes=shapes, fix=fix)
    axis = dimension(op, dim, input.shape)
    if not input.ndim or (input.shape[axis], other.shape[axis]) != (3, 3):
        rule = (f"size 3 along dim {dim}", f"dim {dim} の大きさは 3")
        fix = ("choose the axis of the three components.", "3 成分が並ぶ次元を選んでください。")
        raise error("TG-S002", op=op, rule=rule, shapes=shapes, fix=fix)
    return axis


def linalg_cross(input: Any, other: Any, *, dim: int = -1) -> Any:
    """Vector product along ``dim``, an axis of size 3; the other axes broadcast (``torch.linalg.cross``).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.cross(tg.tensor([1.0, 0.0, 0.0]), tg.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    return _cross(input, other, _check_cross("linalg.cross", input, other, dim))


@autocasts("widest")
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """Vector product along ``dim``; without it, along the first axis of size 3. See ``linalg.cross``."""
    if dim is None:
        dim = next((axis for axis, n in enumerate(input.shape) if n == 3), None)
    if dim is None:
        shapes = joined((tuple(input.shape), tuple(other.shape)))
        fix = ("a vector product needs three components.", "ベクトル積には 3 つの成分が必要です。")
        raise error("TG-S002", op="cross", rule=("one axis of size 3", "大きさ 3 の次元がある"), shapes=shapes, fix=fix)
    return _cross(input, other, _check_cross("cross", input, other, dim))


def trace(input: Any) -> Any:
    """Sum of the diagonal of a matrix.

    >>> import tinygrad_ja as tg
    >>> tg.trace(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    _require_ndim("trace", "(m,n)->()", (2,), input)
    return sum(diagonal(input))


def linalg_diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Diagonals of matrices as the last axis (``torch.linalg.diagonal``)."""
    return diagonal(A, offset, dim1, dim2)


def _require_ndim(op: str, rule: Phrase, ndims: Sequence[int], input: Any) -> None:
    if input.ndim not in ndims:
        fix = ("reshape it first.", "先に reshape してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=str(tuple(input.shape)), fix=fix)


# ---- over chosen axes ----------------------------------------------------------------------------


@autocasts("widest")
def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """Sum of products over several axes at once.

    dims: an int n, for the last n axes of ``a`` and the first n of ``b``; or a pair of lists, the axes of ``a`` and those of ``b``. The
    other axes of ``a``, then those of ``b``, are the result's. One matrix product.

    >>> import tinygrad_ja as tg
    >>> tg.tensordot(tg.ones(2, 3, 4), tg.ones(4, 3, 5), dims=([1, 2], [1, 0])).shape
    (2, 5)
    """
    first, second = _axes_to_contract(a, b, dims)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    left, right = letters[: a.ndim], list(letters[a.ndim : a.ndim + b.ndim])
    for i, j in zip(first, second):
        if a.shape[i] != b.shape[j] and 1 not in (a.shape[i], b.shape[j]):
            shapes = joined((tuple(a.shape), tuple(b.shape)))
            rule = (f"axis {i} of a is as long as axis {j} of b", f"a の次元 {i} と b の次元 {j} の大きさが等しい")
            fix = ("choose other axes in dims.", "dims で別の次元を選んでください。")
            raise error("TG-S002", op="tensordot", rule=rule, shapes=shapes, fix=fix)
        right[j] = left[i]
    kept = [i for k, i in enumerate(left) if k not in first] + [i for k, i in enumerate(right) if k not in second]
    return einsum(f"{left},{''.join(right)}->{''.join(kept)}", a, b)


def _axes_to_contract(a: Any, b: Any, dims: Any) -> tuple[list[int], list[int]]:
    def refuse(rule: Phrase) -> Exception:
        fix = ("for example dims=([1, 2], [1, 0]).", "例えば dims=([1, 2], [1, 0]) のように書いてください。")
        return error("TG-A001", op="tensordot", argument="dims", value=dims, rule=rule, fix=fix)

    if not isinstance(dims, (tuple, list)):
        count = int(dims)
        if not 0 <= count <= min(a.ndim, b.ndim):
            raise refuse(("from 0 to the number of axes of both", "0 以上、どちらの次元数以下"))
        return list(range(a.ndim - count, a.ndim)), list(range(count))
    if len(dims) != 2:
        raise refuse(("a pair of lists of axes", "次元の並びの組"))
    first, second = ([part] if isinstance(part, int) else list(part) for part in dims)
    first = [dimension("tensordot", dim, a.shape) for dim in first]
    second = [dimension("tensordot", dim, b.shape) for dim in second]
    once = len(set(first)) == len(first) and len(set(second)) == len(second)
    if len(first) != len(second) or not once or (first and not (a.ndim and b.ndim)):
        raise refuse(("as many axes of a as of b, each once", "a と b の次元は同じ個数で、どれも 1 度だけ"))
    return first, second


def kron(input: Any, other: Any) -> Any:
    """Kronecker product: every element of the input times all of ``other``, block by block; any number of axes.

    >>> import tinygrad_ja as tg
    >>> tg.kron(tg.tensor([[1.0, 2.0]]), tg.tensor([[1.0], [3.0]]))
    tensor([[1., 2.],
            [3., 6.]])
    """
    ndim = max(input.ndim, other.ndim)
    a = (1,) * (ndim - input.ndim) + tuple(input.shape)
    b = (1,) * (ndim - other.ndim) + tuple(other.shape)
    product = _reshape(input, _flat([(n, 1) for n in a])) * _reshape(other, _flat([(1, n) for n in b]))
    return _reshape(product, tuple([n * m for n, m in zip(a, b)]))


def _flat(pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple([n for pair in pairs for n in pair])


# ---- more than two factors -----------------------------------------------------------------------


def multi_dot(tensors: Sequence[Any]) -> Any:
    """Product of two or more matrices in the order of multiplications that costs least (``torch.linalg.multi_dot``). The first and the
    last factor may be vectors.

    The order is found by dynamic programming (Cormen et al., Introduction to Algorithms, 15.2).

    >>> import tinygrad_ja as tg
    >>> tg.linalg.multi_dot([tg.ones(2, 9), tg.ones(9, 9), tg.ones(9)])
    tensor([81., 81.])
    """
    factors = list(tensors)
    if len(factors) < 2:
        rule = ("two factors or more", "2 個以上")
        fix = ("a single matrix needs no product.", "1 個なら積は要りません。")
        raise error("TG-A001", op="linalg.multi_dot", argument="tensors", value=f"{len(factors)}", rule=rule, fix=fix)
    ends = (factors[0].ndim, factors[-1].ndim)
    if ends[0] == 1:
        factors[0] = _reshape(factors[0], (1, -1))
    if ends[1] == 1:
        factors[-1] = _reshape(factors[-1], (-1, 1))
    chained = all(x.ndim == 2 for x in factors) and all(x.shape[1] == y.shape[0] for x, y in itertools.pairwise(factors))
    if not chained:
        shapes = joined([tuple(x.shape) for x in tensors])
        rule = ("(a,b),(b,c),(c,d)...; vectors only at the ends", "(a,b),(b,c),(c,d)...。ベクトルは両端だけ")
        fix = ("transpose or reshape one of them.", "どれかを転置するか reshape してください。")
        raise error("TG-S002", op="linalg.multi_dot", rule=rule, shapes=shapes, fix=fix)
    sizes = (*[x.shape[0] for x in factors], factors[-1].shape[1])
    made = _multiplied(factors, _cheapest_splits(sizes), 0, len(factors) - 1)
    return _reshape(made, tuple([n for n, ndim in zip(made.shape, ends) if ndim == 2]))


@functools.lru_cache(256)
def _cheapest_splits(sizes: tuple[int, ...]) -> dict[tuple[int, int], int]:
    """For each run of factors, from the first to the last, the factor after which it is cut in two."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            costs = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i, j] = min(costs)
            split[i, j] = i + costs.index(cost[i, j])
    return split


def _multiplied(factors: Sequence[Any], split: dict[tuple[int, int], int], first: int, last: int) -> Any:
    if first == last:
        return factors[first]
    cut = split[first, last]
    return matmul(_multiplied(factors, split, first, cut), _multiplied(factors, split, cut + 1, last))


# ---- a bilinear form -----------------------------------------------------------------------------


@autocasts("widest")
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """y_o = x₁ᵀ W_o x₂ + b_o (``torch.nn.functional.bilinear``).

    Shapes (..., i), (..., j), (o, i, j), (o,) -> (..., o).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.bilinear(tg.tensor([1.0, 2.0]), tg.tensor([3.0]), tg.ones(4, 2, 1))
    tensor([9., 9., 9., 9.])
    """
    fits = (
        weight.ndim == 3
        and input1.ndim > 0
        and tuple(input1.shape[:-1]) == tuple(input2.shape[:-1])
        and (input1.shape[-1], input2.shape[-1]) == tuple(weight.shape[1:])
        and (bias is None or tuple(bias.shape) == tuple(weight.shape[:1]))
    )
    if not fits:
        shapes = joined([tuple(x.shape) for x in (input1, input2, weight, bias) if x is not None])
        fix = ("transpose or reshape one of them.", "どれかを転置するか reshape してください。")
        raise error("TG-S002", op="bilinear", rule="(...,i),(...,j),(o,i,j),(o)->(...,o)", shapes=shapes, fix=fix)
    made = einsum("bi,oij,bj->bo", _rows_of(input1), weight, _rows_of(input2))
    if bias is not None:
        made = made + bias
    return _reshape(made, (*input1.shape[:-1], weight.shape[0]))


def _rows_of(x: Any) -> Any:
    return _reshape(x, (1, -1)) if x.ndim == 1 else _rows(x)


attach(vdot, addmm, addmv, addbmm, baddbmm, addr, cross, kron, trace)
attach_in_place(addmm, addmv, addbmm, baddbmm, addr)
