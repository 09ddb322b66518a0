"""Imported matrix products and what is made of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.arithmetic import add
from ...ops.linalg import einsum, matmul
from ...ops.solve import det
from .import_elementwise import binary
from .import_table import Call, Refusal, imports


def product(call: Call, a: Any, b: Any) -> Any:
    """``a @ b`` within the limit."""
    if a.ndim and b.ndim:
        rows, columns = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
        call.allow([*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns])
    return matmul(a, b)


imports("MatMul")(product)


@imports("Gemm")
def _gemm(call: Call, a: Any, b: Any, c: Any = None) -> Any:
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if call.get("transB", 0) and not call.get("transA", 0) and alpha == beta == 1 and (c is None or c.shape == b.shape[:1]):
        call.allow((*a.shape[:-1], b.shape[0]))
        return F.linear(a, b, c)
    a = a.permute(1, 0) if call.get("transA", 0) else a
    b = b.permute(1, 0) if call.get("transB", 0) else b
    made = product(call, a, b)
    if alpha != 1:
        made = (made * alpha).to(a.dtype)
    if c is None or beta == 0:
        return made
    return binary(call, add, made, c if beta == 1 else (c * beta).to(a.dtype))


@imports("Einsum")
def _einsum(call: Call, *inputs: Any) -> Any:
    equation = call.get("equation").replace(" ", "")
    call.allow(_einsum_shape(equation, inputs))
    return einsum(equation, *inputs)


def _einsum_shape(equation: str, inputs: tuple[Any, ...]) -> list[int]:
    """The shape of the result, so that it can be refused before it is made."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(inputs):
        raise Refusal(
            (f"{len(inputs)} inputs for the equation {equation!r}", f"式 {equation!r} に入力が {len(inputs)} 個あります")
        )
    sizes: dict[str, int] = {}
    rest: tuple[int, ...] = ()
    for term, x in zip(terms, inputs):
        before, dots, after = term.partition("...")
        if dots:
            rest = np.broadcast_shapes(rest, x.shape[len(before) : x.ndim - len(after)])
        sizes.update({letter: max(n, sizes.get(letter, 0)) for letter, n in zip(before, x.shape)})
        sizes.update({letter: max(n, sizes.get(letter, 0)) for letter, n in zip(reversed(after), reversed(x.shape))})
    counts = Counter(left.replace(",", ""))
    letters = right.replace("...", "") if arrow else [letter for letter in sizes if counts[letter] == 1]
    return [*(rest if "..." in (right if arrow else left) else ()), *[sizes.get(letter, 0) for letter in letters]]


@imports("Det")
def _det(call: Call, x: Any) -> Any:
    return det(x)
