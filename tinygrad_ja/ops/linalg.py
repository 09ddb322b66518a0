"""Products of vectors, matrices and stacks of matrices, and norms of matrices."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.modes import modes
from ..core.operator import Array, primitive
from ..core.promotion import autocasts
from ..core.waiting_products import Products
from ..errors import Phrase, error, joined
from .diagonal import diagonal
from .methods import attach
from .reduce import _sum
from .shape import _expand, _reshape, _transpose, unsqueeze

__all__ = [
    "bmm",
    "dot",
    "einsum",
    "inner",
    "linear",
    "matmul",
    "mm",
    "mv",
    "outer",
]


# ---- the three products of matrices: A B, A Bᵀ, Aᵀ B ----------------------------------------------
#
# Their derivatives are each other, so no transposition is ever recorded:
#   Y = A B :  dA = g Bᵀ,  dB = Aᵀ g      Y = A Bᵀ:  dA = g B,  dB = gᵀ A      Y = Aᵀ B:  dA = B gᵀ,  dB = A g


def _matrix_case(a: str, b: str) -> Any:
    def case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        size = {axis: pick.integer(1, 3) for axis in "mkn"}
        return (pick.array(tuple([size[i] for i in a])), pick.array(tuple([size[i] for i in b]))), {}

    return case


@primitive(
    lambda g, other: matmul(g, other),
    lambda g, input: matmul_tn(g, input),
    signature="(m,k),(n,k)->(m,n)",
    cases=_matrix_case("mk", "nk"),
)
def matmul_nt(xp: Any, input: Array, other: Array) -> Array:
    """A Bᵀ for two matrices."""
    return xp.dot(input, other.T)


@primitive(
    lambda g, other: matmul_nt(other, g),
    lambda g, input: matmul(input, g),
    signature="(k,m),(k,n)->(m,n)",
    cases=_matrix_case("km", "kn"),
)
def matmul_tn(xp: Any, input: Array, other: Array) -> Array:
    """Aᵀ B for two matrices."""
    return xp.dot(input.T, other)


def _rows(x: Any) -> Any:
    """All leading axes as one: a stack of row vectors as one matrix."""
    return x if x.ndim == 2 else _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _matmul_left(g: Any, other: Any, shape: tuple[int, ...]) -> Any:
    """Gradient of the left factor, of that shape up to broadcasting."""
    if other.ndim == 2:
        return matmul_nt(g, other) if len(shape) == 2 else matmul(g, _transpose(other, 0, 1))
    if other.ndim == 1:
        return unsqueeze(g, -1) * other
    if len(shape) == 1:
        return _reshape(matmul(other, unsqueeze(g, -1)), tuple(other.shape[:-1]))
    return matmul(g, _transpose(other, -1, -2))


def _matmul_right(g: Any, input: Any, shape: tuple[int, ...]) -> Any:
    """Gradient of the right factor, of that shape up to broadcasting."""
    if input.ndim == 1:
        return unsqueeze(input, -1) * unsqueeze(g, -2) if len(shape) > 1 else g * input
    if len(shape) == 1:
        return matmul(_reshape(g, (-1,)), _rows(input))
    if len(shape) == 2:
        return matmul_tn(_rows(input), _rows(g))
    return matmul(_transpose(input, -1, -2), g)


def _matmul_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    m, k, n = pick.integer(1, 3), pick.integer(1, 3), pick.integer(1, 3)
    batch_a, batch_b = pick.broadcastable(2)
    a = pick.choice([(k,), (m, k), (*batch_a, m, k)])
    b = pick.choice([(k,), (k, n), (*batch_b, k, n)])
    return (pick.array(a), pick.array(b)), {}


@primitive(_matmul_left, _matmul_right, broadcasts=True, signature="(...,m,k),(...,k,n)->(...,m,n)", cases=_matmul_case)
def matmul(xp: Any, input: Array, other: Array) -> Array:
    """Matrix product ``input @ other``. A 1-D operand is a row (left) or column (right) vector and loses that axis in the result;
    leading axes are stacks that broadcast.

    Shapes (..., m, k) @ (..., k, n) -> (..., m, n); dA = g Bᵀ, dB = Aᵀ g.

    >>> import tinygrad_ja as tg
    >>> tg.matmul(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    if other.ndim == 2 and input.ndim > 2:
        # one product instead of a stack of them
        shape = input.shape[:-1] + other.shape[1:]
        return xp.dot(input.reshape(math.prod(input.shape[:-1]), input.shape[-1]), other).reshape(shape)
    return xp.matmul(input, other)


def _require(op: str, rule: str, ndims: tuple[int, ...], *tensors: Any) -> None:
    if tuple([x.ndim for x in tensors]) != ndims:
        shapes = joined([tuple(x.shape) for x in tensors])
        raise error(
            "TG-S002",
            op=op,
            rule=rule,
            shapes=shapes,
            fix=("use matmul, which takes any number of axes.", "何次元でも扱える matmul を使ってください。"),
        )


def mm(input: Any, mat2: Any) -> Any:
    """Product of two matrices, (m, k) and (k, n)."""
    _require("mm", "(m,k),(k,n)->(m,n)", (2, 2), input, mat2)
    return matmul(input, mat2)


def bmm(input: Any, mat2: Any) -> Any:
    """Product of two stacks of matrices, (b, m, k) and (b, k, n), without broadcasting."""
    _require("bmm", "(b,m,k),(b,k,n)->(b,m,n)", (3, 3), input, mat2)
    if input.shape[0] != mat2.shape[0]:
        shapes = joined((tuple(input.shape), tuple(mat2.shape)))
        raise error(
            "TG-S002",
            op="bmm",
            rule="(b,m,k),(b,k,n)->(b,m,n)",
            shapes=shapes,
            fix=("use matmul, which broadcasts.", "ブロードキャストする matmul を使ってください。"),
        )
    return matmul(input, mat2)


def mv(input: Any, vec: Any) -> Any:
    """Product of a matrix (m, k) and a vector (k,)."""
    _require("mv", "(m,k),(k)->(m)", (2, 1), input, vec)
    return matmul(input, vec)


@autocasts("widest")
def dot(input: Any, tensor: Any) -> Any:
    """Inner product of two vectors of one length.

    >>> import tinygrad_ja as tg
    >>> tg.dot(tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]))
    tensor(11.)
    """
    _require("dot", "(k),(k)->()", (1, 1), input, tensor)
    return matmul(input, tensor)


def inner(input: Any, other: Any) -> Any:
    """Inner products over the last axes: (..., k) and (*, k) -> (..., *). A scalar multiplies."""
    if not input.ndim or not other.ndim:
        return input * other
    shape = tuple(input.shape[:-1]) + tuple(other.shape[:-1])
    return _reshape(matmul_nt(_rows(input), _rows(other)), shape)


def outer(input: Any, vec2: Any) -> Any:
    """Products of each pair: (m,) and (n,) -> (m, n)."""
    _require("outer", "(m),(n)->(m,n)", (1, 1), input, vec2)
    return unsqueeze(input, 1) * vec2


# ---- the affine map ------------------------------------------------------------------------------

WAITING = 1 << 12
"""Elements of a weight from which on its products wait for one another."""


def weight_gradient(dz: Any, x: Any) -> Any:
    """dzᵀ x of raw arrays; as ``Products`` where the walk back asks for that (``modes.products``) and a sum of such pays: writing the matrix
    costs more than copying the rows."""
    if modes.products and type(dz) is np.ndarray and type(x) is np.ndarray and dz.ndim == 2:
        (rows, m), n = dz.shape, x.shape[1]
        if rows * (m + n) < m * n >= WAITING and dz.dtype == x.dtype and dz.dtype.char in "fd":
            return Products(dz, x)
    return dz.T.dot(x)


def gradient_of_weight(g: Any, input: Any) -> Any:
    """gᵀ x of rows: ``weight_gradient`` in a walk back over arrays of NumPy, else an operator, which has derivatives itself."""
    raw = modes.products and type(g) is np.ndarray and g.dtype.char in "fd"
    return weight_gradient(g, input) if raw else matmul_tn(g, input)


def _linear_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    i, o = pick.integer(1, 3), pick.integer(1, 3)
    bias = pick.array((o,)) if pick.boolean() else None
    return (pick.array((*pick.shape(), i)), pick.array((o, i)), bias), {}


@primitive(
    lambda g, weight: matmul(g, weight),
    lambda g, input: gradient_of_weight(_rows(g), _rows(input)),
    lambda g: _sum(_rows(g), 0),
    signature="(...,i),(o,i),(o)->(...,o)",
    cases=_linear_case,
)
def linear(xp: Any, input: Array, weight: Array, bias: Array | None = None) -> Array:
    """Affine map ``input @ weightᵀ + bias`` of the last axis.

    Shapes (..., in), (out, in), (out,) -> (..., out); dx = g W, dW = gᵀ x, db = sum of g over the leading axes.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.linear(tg.tensor([1.0, 2.0]), tg.tensor([[1.0, 1.0], [0.0, 2.0]]), tg.tensor([0.5, 0.0]))
    tensor([3.5, 4. ])
    """
    shape = input.shape[:-1] + weight.shape[:1]
    if input.ndim > 2:
        input = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    y = xp.dot(input, weight.T)
    if bias is not None:
        y += bias
    return y.reshape(shape)


# ---- Einstein summation --------------------------------------------------------------------------


@functools.lru_cache(1024)
def _pair_plan(a: str, b: str, out: str) -> tuple[Any, ...]:
    """How two operands become one stack of matrix products: axes to sum away in each, and the order of axes of each."""
    batch = [i for i in out if i in a and i in b]
    contracted = [i for i in a if i in b and i not in out]
    left = [i for i in out if i in a and i not in b]
    right = [i for i in out if i in b and i not in a]
    lost_a = tuple([k for k, i in enumerate(a) if i not in b and i not in out])
    lost_b = tuple([k for k, i in enumerate(b) if i not in a and i not in out])
    a = "".join([i for i in a if i in b or i in out])
    b = "".join([i for i in b if i in a or i in out])
    order_a = tuple([a.index(i) for i in (*batch, *left, *contracted)])
    order_b = tuple([b.index(i) for i in (*batch, *contracted, *right)])
    made = [*batch, *left, *right]
    return lost_a, lost_b, order_a, order_b, len(batch), len(left), tuple([made.index(i) for i in out])


def _contract_pair(xp: Any, x: Any, y: Any, a: str, b: str, out: str) -> Any:
    """Einstein sum of two arrays as one matrix product (or a stack of them)."""
    lost_a, lost_b, order_a, order_b, batch, left, final = _pair_plan(a, b, out)
    if lost_a:
        x = xp.sum(x, lost_a)
    if lost_b:
        y = xp.sum(y, lost_b)
    x, y = x.transpose(order_a), y.transpose(order_b)
    stack, rows = x.shape[:batch], x.shape[batch : batch + left]
    inside = x.shape[batch + left :]
    columns = y.shape[batch + len(inside) :]
    k = math.prod(inside)
    x = x.reshape(*stack, math.prod(rows), k)
    y = y.reshape(*stack, k, math.prod(columns))
    made = xp.matmul(x, y) if batch else xp.dot(x, y)
    return made.reshape(stack + rows + columns).transpose(final)


def _contract(xp: Any, operands: Sequence[Any], terms: list[str], out: str) -> Any:
    """From left to right, two operands at a time; an index lives as long as a later term or the output has it."""
    x, a = operands[0], terms[0]
    for position in range(1, len(operands)):
        later = set(out).union(*terms[position + 1 :])
        b = terms[position]
        kept = out if position == len(operands) - 1 else "".join([i for i in dict.fromkeys(a + b) if i in later])
        x, a = _contract_pair(xp, x, operands[position], a, b, kept), kept
    lost = tuple([k for k, i in enumerate(a) if i not in out])
    if lost:
        x = xp.sum(x, lost, None, None)
        a = "".join([i for i in a if i in out])
    return x if a == out else x.transpose([a.index(i) for i in out])


def _einsum_vjp(g: Any, operands: Sequence[Any], equation: str, needs: tuple[bool, ...]) -> list[Any]:
    """The gradient of one operand is the sum of the same kind in which the output and that operand change places; an index that only
    this operand has was summed away, so its gradient is the same all along it."""
    terms, out = _terms(equation)
    made: list[Any] = []
    for position, term in enumerate(terms):
        if not needs[position]:
            made.append(None)
            continue
        others = terms[:position] + terms[position + 1 :]
        known = set(out).union(*others)
        kept = "".join([i for i in term if i in known])
        rest = [*operands[:position], *operands[position + 1 :]]
        gradient = _einsum(g, *rest, equation=",".join([out, *others]) + "->" + kept)
        if kept != term:
            shape = tuple(operands[position].shape)
            gradient = _reshape(gradient, tuple([n if i in known else 1 for i, n in zip(term, shape)]))
            gradient = _expand(gradient, shape)
        made.append(gradient)
    return made


def _terms(equation: str) -> tuple[list[str], str]:
    inputs, _, out = equation.partition("->")
    return inputs.split(","), out


def _einsum_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    equation = pick.choice(
        [
            "ij,jk->ik",
            "ij->ji",
            "ij->",
            "i,j->ij",
            "bij,bjk->bik",
            "ij,jk,kl->il",
            "ij,kj->k",
            "ijk,k,j->i",
            "ij,k->jk",
            "ijk,ik->k",
        ]
    )
    size = {axis: pick.integer(1, 3) for axis in "ijklb"}
    terms, _ = _terms(equation)
    return tuple([pick.array(tuple([size[i] for i in term])) for term in terms]), {"equation": equation}


@primitive(_einsum_vjp, joint=True, cases=_einsum_case)
def _einsum(xp: Any, *operands: Array, equation: str) -> Array:
    """Einstein sum in which no term has an index twice and equal indices have equal sizes."""
    terms, out = _terms(equation)
    return _contract(xp, operands, terms, out)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _invalid_equation(equation: str, reason: Phrase) -> Exception:
    return error(
        "TG-A001",
        op="einsum",
        argument="equation",
        value=repr(equation),
        rule=reason,
        fix=("for example 'bij,bjk->bik'.", "例えば 'bij,bjk->bik' のように書いてください。"),
    )


@functools.lru_cache(1024)
def _parse(equation: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """Terms and output with the ellipsis replaced by letters of its own, and the implicit output made explicit."""
    text = equation.replace(" ", "")
    inputs, arrow, out = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise _invalid_equation(
            equation, (f"one term for each of the {len(ndims)} operands", f"{len(ndims)} 個の入力のそれぞれに項を 1 つ")
        )
    bare = text.replace("...", "").replace("->", "").replace(",", "")
    if any([i not in _LETTERS for i in bare]):
        raise _invalid_equation(equation, ("letters, ',', '...' and '->' only", "使えるのは英字、','、'...'、'->' だけ"))
    free = [i for i in reversed(_LETTERS) if i not in text]
    hidden = [n - len(term.replace("...", "")) for term, n in zip(terms, ndims)]
    for term, n, missing in zip(terms, ndims, hidden):
        if missing < 0 or (missing and "..." not in term):
            raise _invalid_equation(
                equation,
                (
                    f"as many indices as axes; the term '{term}' meets an operand with {n} axes",
                    f"添字の数は次元数と同じ (項 '{term}' に対する入力は {n} 次元)",
                ),
            )
    widest = max([0, *[count for term, count in zip(terms, hidden) if "..." in term]])
    dots = "".join(free[:widest])
    full = tuple([term.replace("...", dots[widest - count :]) for term, count in zip(terms, hidden)])
    if not arrow:
        once = [i for i in sorted(set(bare)) if inputs.count(i) == 1]
        return full, dots + "".join(once)
    result = out.replace("...", dots)
    if len(set(result)) != len(result) or not set(result) <= set("".join(full)):
        raise _invalid_equation(
            equation,
            (
                "each index of the output once, and each of them in some term",
                "出力の添字はどれも 1 度だけ、どれかの項に現れるもの",
            ),
        )
    return full, result


def einsum(equation: str, *operands: Any) -> Any:
    """Sum of products by Einstein's convention, as ``torch.einsum``: explicit or implicit output, ``...`` for axes that broadcast,
    an index twice in a term for the diagonal.

    The gradient of an operand is the sum in which it and the output change places.

    >>> import tinygrad_ja as tg
    >>> tg.einsum("ij,j->i", tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    terms, out = _parse(equation, tuple([x.ndim for x in operands]))
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands):
        for i, n in zip(term, x.shape):
            if sizes.setdefault(i, n) == 1:
                sizes[i] = n
            elif n not in (1, sizes[i]):
                shapes = joined([tuple(x.shape) for x in operands])
                raise error(
                    "TG-S002",
                    op="einsum",
                    rule=equation,
                    shapes=shapes,
                    fix=(f"give index '{i}' one size.", f"添字 '{i}' の大きさをそろえてください。"),
                )
    prepared = [_prepared(x, term, sizes) for x, term in zip(operands, terms)]
    return _einsum(*[x for x, _ in prepared], equation=",".join([term for _, term in prepared]) + "->" + out)


def _prepared(x: Any, term: str, sizes: dict[str, int]) -> tuple[Any, str]:
    """An operand without repeated indices (its diagonal instead), and without axes of size 1 that broadcast."""
    while len(set(term)) != len(term):
        i = next(i for i in term if term.count(i) > 1)
        first = term.index(i)
        second = term.index(i, first + 1)
        x = diagonal(x, 0, first, second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + i
    kept = [k for k, i in enumerate(term) if x.shape[k] == sizes[i]]
    if len(kept) < len(term):
        x = _reshape(x, tuple([x.shape[k] for k in kept]))
        term = "".join([term[k] for k in kept])
    return x, term


def _matmul_from_left(self: Any, other: Any) -> Any:
    """``other @ self``."""
    return matmul(other, self)


attach(matmul, mm, bmm, mv, dot, inner, outer, __matmul__=matmul, __rmatmul__=_matmul_from_left)
