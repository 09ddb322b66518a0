"""Products and norms beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random

SHAPES = [
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 2)),
    ((3, 4), (4, 2)),
    ((5, 3, 4), (4,)),
    ((4,), (5, 4, 2)),
    ((5, 3, 4), (4, 2)),
    ((2, 5, 3, 4), (4, 2)),
    ((3, 4), (5, 4, 2)),
    ((5, 3, 4), (5, 4, 2)),
    ((1, 3, 4), (5, 4, 2)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((0, 3, 4), (4, 2)),
    ((3, 0), (0, 2)),
]


@pytest.mark.parametrize("a, b", SHAPES)
def test_matmul_of_every_rank(a, b):
    compare(lambda s, x, y: x @ y, random(*a), random(*b, seed=1))
    compare(lambda s, x, y: s.m.matmul(x, y), random(*a), random(*b, seed=1))


@pytest.mark.parametrize("a, b", SHAPES[:12])
def test_second_order_of_matmul(a, b):
    found = []
    for s in (OURS, THEIRS):
        x, y = s.tensor(random(*a)).requires_grad_(), s.tensor(random(*b, seed=1)).requires_grad_()
        gradient = s.m.autograd.grad if s is THEIRS else s.m.grad
        gx, gy = gradient((x @ y * (x @ y)).sum(), (x, y), create_graph=True)
        found.append([h.numpy() for h in gradient((gx * gx).sum() + (gy * gy).sum(), (x, y))])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_transposed_operands():
    compare(lambda s, x, y: x.transpose(0, 1) @ y.transpose(0, 1), random(4, 3), random(2, 4))
    compare(lambda s, x, y: x.transpose(-1, -2) @ y, random(5, 4, 3), random(4, 2))


def test_integers():
    compare(lambda s, x, y: x @ y, np.arange(6).reshape(2, 3), np.arange(12).reshape(3, 4))


def test_products_with_fixed_rank():
    compare(lambda s, x, y: s.m.mm(x, y), random(2, 3), random(3, 4))
    compare(lambda s, x, y: s.m.bmm(x, y), random(5, 2, 3), random(5, 3, 4))
    compare(lambda s, x, y: s.m.mv(x, y), random(2, 3), random(3))
    compare(lambda s, x, y: s.m.dot(x, y), random(3), random(3, seed=1))
    compare(lambda s, x, y: s.m.outer(x, y), random(3), random(4))


@pytest.mark.parametrize("a, b", [((3,), (3,)), ((2, 3), (4, 3)), ((2, 3), (5, 4, 3)), ((), (3,)), ((2, 2), ())])
def test_inner(a, b):
    compare(lambda s, x, y: s.m.inner(x, y), random(*a), random(*b, seed=1))


@pytest.mark.parametrize("options", [{}, {"beta": 0.5, "alpha": 2.0}, {"beta": 0}])
@pytest.mark.parametrize("shape", [(2, 4), (4,), (2, 1)])
def test_addmm(shape, options):
    if options.get("beta") == 0:
        compare(lambda s, x, y: s.m.addmm(s.tensor(np.full(shape, math.nan)), x, y, **options), random(2, 3), random(3, 4))
    else:
        compare(lambda s, c, x, y: s.m.addmm(c, x, y, **options), random(*shape), random(2, 3), random(3, 4))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (2, 1, 5, 3), (0, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear(shape, bias):
    if bias:
        compare(lambda s, x, w, b: s.F.linear(x, w, b), random(*shape), random(4, 3), random(4))
    else:
        compare(lambda s, x, w: s.F.linear(x, w), random(*shape), random(4, 3))


@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ij , jk -> ki", [(2, 3), (3, 4)]),
        ("ii->", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("iij->j", [(3, 3, 2)]),
        ("iii->i", [(3, 3, 3)]),
        ("ij->ji", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ij->j", [(2, 3)]),
        ("i,j->ij", [(2,), (3,)]),
        ("i,i->", [(3,), (3,)]),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)]),
        ("...ij,...jk", [(5, 2, 3), (3, 4)]),
        ("...ij,...jk->...ik", [(6, 1, 2, 3), (5, 3, 4)]),
        ("b...i,ij->b...j", [(5, 2, 3), (3, 4)]),
        ("...->", [(2, 3)]),
        ("i...->...", [(2, 3)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("ij,k->jk", [(2, 3), (4,)]),
        ("ij,j->ij", [(2, 3), (3,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ij,ij->", [(2, 3), (2, 3)]),
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("n,n,n->n", [(3,), (3,), (3,)]),
        ("ij,ik,il->jkl", [(2, 3), (2, 4), (2, 5)]),
        ("Ab,bA->A", [(2, 3), (3, 2)]),
        ("bi,bj,ijk->bk", [(2, 3), (2, 4), (3, 4, 5)]),
    ],
)
def test_einsum(equation, shapes):
    arrays = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    compare(lambda s, *xs: s.m.einsum(equation, *xs), *arrays, rtol=1e-11, atol=1e-11)
    compare(lambda s, *xs: s.m.einsum(equation, xs), *arrays, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ord", [None, "fro", 1, -1, math.inf, -math.inf])
@pytest.mark.parametrize("dim", [None, (0, 1), (1, 2), (-1, 0)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_matrix_norms(ord, dim, keepdim):
    x = random(3, 4) if dim is None else random(2, 3, 4)
    compare(lambda s, x: s.linalg.norm(x, ord, dim, keepdim), x)
    if ord is not None:
        compare(lambda s, x: s.linalg.matrix_norm(x, ord, dim or (-2, -1), keepdim), x)


@pytest.mark.parametrize("ord", [None, 2, 1, 0, 3, math.inf])
def test_vector_norms(ord):
    compare(lambda s, x: s.linalg.norm(x, ord, 1), random(3, 4), gradients=ord != 0)
    compare(lambda s, x: s.linalg.vector_norm(x, 2 if ord is None else ord, (0, 1), True), random(3, 4), gradients=ord != 0)


@pytest.mark.parametrize("shape", [(32, 32), (3, 5), (2, 3, 7), (4, 200), (5,), (1, 1), ()])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_softmax_of_small_and_large_logits(name, scale, shape):
    x = random(*shape) * scale
    for dim in (-1, 0):
        compare(lambda s, x, dim=dim: getattr(s.m, name)(x, dim), x)
        compare(lambda s, x, dim=dim: getattr(s.m, name)(x, dim), x.astype(np.float32), rtol=3e-6, atol=2e-6)


@pytest.mark.parametrize("offset", [-300.0, -20.0, 20.0, 70.0, 300.0])
def test_softmax_does_not_depend_on_an_offset(offset):
    x = (random(8, 8) + offset).astype(np.float32)
    compare(lambda s, x: [s.m.softmax(x, -1), s.m.log_softmax(x, -1)], x, rtol=5e-6, atol=5e-6)


@pytest.mark.filterwarnings("ignore")
def test_softmax_of_masked_rows():
    inf, nan = math.inf, math.nan
    rows = np.array([[-inf, 0.0, 1.0], [-inf, -inf, 3.0]], np.float32)
    compare(lambda s, x: s.m.softmax(x, -1), rows, rtol=1e-6)
    compare(lambda s, x: s.m.log_softmax(x, -1), rows, gradients=False, rtol=1e-6)
    rows = np.array([[-inf, -inf, -inf], [0.0, nan, 1.0], [inf, 0.0, 0.0]], np.float32)
    compare(lambda s, x: [s.m.softmax(x, -1), s.m.log_softmax(x, -1)], rows, gradients=False)


def test_softmin_and_dtype():
    compare(lambda s, x: s.F.softmin(x, 1), random(3, 4))
    compare(lambda s, x: s.m.softmax(x, 1, dtype=s.m.float64), random(3, 4, dtype=np.float32))
