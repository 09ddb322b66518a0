"""What distances promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.nn import functional as F


@pytest.mark.parametrize("p, expected", [(0, 2), (1, 7), (2, 5), (math.inf, 4)])
def test_distances_of_a_right_triangle(p, expected):
    x, y = tg.tensor([[0.0, 1.0, 0.0]]), tg.tensor([[3.0, 1.0, 4.0]])
    assert tg.cdist(x, y, p).item() == pytest.approx(expected)
    assert F.pdist(tg.cat([x, y]), p).tolist() == pytest.approx([expected])
    assert F.pairwise_distance(x, y, p, eps=0.0).tolist() == pytest.approx([expected])
    assert tg.dist(x, y, p).item() == pytest.approx(expected)


def test_the_gradient_between_equal_points_is_zero():
    x = tg.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    for p in (0, 0.5, 1, 2, 3, math.inf):
        x.grad = None
        (tg.cdist(x, x, p).sum() + F.pdist(x, p).sum()).backward()
        assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_common_offset_costs_no_digits():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(40, 3)).astype(np.float32) for _ in range(2))
    far = np.float32(4096)  # a power of 2: nothing is lost by adding it but the last bits of x and y
    x, y = (x + far) - far, (y + far) - far
    exact = np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=-1)
    a, b = tg.tensor(x + far, requires_grad=True), tg.tensor(y + far)
    made = tg.cdist(a, b)
    np.testing.assert_allclose(made.detach().numpy(), exact, atol=1e-4)
    made.sum().backward()
    slope = ((x[:, None] - y[None]) / exact[..., None]).sum(1)
    np.testing.assert_allclose(a.grad.numpy(), slope, atol=1e-2)


def test_large_inputs_are_taken_block_by_block():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 600)), rng.normal(size=(30, 600))
    made = tg.cdist(tg.tensor(x), tg.tensor(y), 1.0)
    np.testing.assert_allclose(made.numpy(), abs(x[:, None] - y).sum(-1), rtol=1e-5)
    a = tg.tensor(x, requires_grad=True, dtype=tg.float64)
    tg.cdist(a, tg.tensor(y, dtype=tg.float64), 1.0).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.sign(x[:, None] - y).sum(1))


def test_half_precision_does_not_overflow_inside():
    x, y = tg.full((1, 4), 300.0, dtype=tg.float16), tg.zeros(1, 4, dtype=tg.float16)
    assert tg.cdist(x, y).item() == 600
    assert F.cosine_similarity(x, x).item() == pytest.approx(1, abs=2e-3)
    assert F.normalize(x).tolist() == [[0.5] * 4]


def test_the_cosine_of_any_length_is_between_minus_one_and_one():
    x = tg.tensor([[1e-3, 0.0], [1e3, 1e3]])
    assert F.cosine_similarity(x, -x).tolist() == pytest.approx([-1, -1])


def test_renorm_scales_only_what_is_longer():
    x = tg.tensor([[3.0, 4.0], [0.3, 0.4]], requires_grad=True)
    y = tg.renorm(x, 2, 0, 1.0)
    np.testing.assert_allclose(y.detach().numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)
    y[0].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0.2 * 0.16, -0.2 * 0.12], [0, 0]], atol=1e-6)  # (1 - x xᵀ/25) 1 / 5


@pytest.mark.parametrize(
    "call, failure, text",
    [
        (lambda x: tg.cdist(x, x, -1), ArgumentError, "p = -1"),
        (lambda x: tg.cdist(x, x, 2.0, "fast"), ArgumentError, "compute_mode"),
        (lambda x: tg.cdist(x[0], x), ShapeError, "cdist"),
        (lambda x: tg.cdist(x, x[:, :2]), ShapeError, "as many columns"),
        (lambda x: tg.cdist(x.long(), x.long()), DtypeError, "TG-T004"),
        (lambda x: tg.cdist(x, x.double()), DtypeError, "TG-T001"),
        (lambda x: F.pdist(x[0]), ShapeError, "pdist"),
        (lambda x: F.pdist(x, -1), ArgumentError, "pdist"),
        (lambda x: F.cosine_similarity(x.long(), x.long()), DtypeError, "cosine_similarity"),
        (lambda x: tg.renorm(x, 0, 0, 1.0), ArgumentError, "renorm: p"),
        (lambda x: tg.renorm(x, 2, 0, -1.0), ArgumentError, "maxnorm"),
        (lambda x: tg.renorm(x[0], 2, 0, 1.0), ShapeError, "renorm"),
        (lambda x: tg.norm(x, "max"), ArgumentError, "'fro' or 'nuc'"),
        (lambda x: tg.norm(x, 2, dtype=tg.float16), DtypeError, "narrower"),
        (lambda x: tg.linalg.vector_norm(x[:0], math.inf), ShapeError, "at least one"),
        (lambda x: tg.linalg.vector_norm(x[:0], -1, 0), ShapeError, "at least one"),
        (lambda x: tg.linalg.matrix_norm(x[:0], -2), ShapeError, "at least one"),
        (lambda x: tg.linalg.matrix_norm(x, 3), ArgumentError, "ord"),
        (lambda x: tg.linalg.matrix_norm(x[0]), ShapeError, "matrix_norm"),
        (lambda x: tg.linalg.matrix_norm(x, 1, (0, 0)), ArgumentError, "once"),
        (lambda x: tg.linalg.norm(x[None], 2), ShapeError, "linalg.norm"),
        (lambda x: tg.linalg.norm(x[0], "nuc"), ShapeError, "matrix_norm"),
    ],
)
def test_bad_input_is_refused(call, failure, text):
    with pytest.raises(failure, match=text):
        call(tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]))


def test_norms_by_singular_values():
    x = tg.tensor([[3.0, 0.0], [0.0, -4.0], [0.0, 0.0]])
    assert [tg.linalg.matrix_norm(x, ord).item() for ord in ("nuc", 2, -2)] == pytest.approx([7, 4, 3])
    assert tg.linalg.matrix_norm(x, 2, keepdim=True).shape == (1, 1)
    assert tg.norm(x, "nuc").item() == pytest.approx(7)
