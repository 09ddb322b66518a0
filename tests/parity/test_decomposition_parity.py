"""Inverses, determinants and decompositions beside PyTorch. Signs of vectors are free, so only what does not see them is compared."""

from __future__ import annotations

import numpy as np
import pytest
from parity.beside_torch import compare, random
from parity.test_products_parity import second_order

STACKS = [(), (3,), (2, 1), (0,)]


def square(*stack, n=4, seed=0):
    """Well conditioned."""
    return random(*stack, n, n, seed=seed) + 4 * np.eye(n)


def positive(*stack, n=4, seed=0):
    """Symmetric, with eigenvalues apart from each other."""
    a = random(*stack, n, n, seed=seed)
    return a @ np.swapaxes(a, -1, -2) + np.diag(np.arange(1.0, n + 1))


def symmetric(x):
    """Through which a gradient becomes symmetric."""
    return (x + x.transpose(-1, -2)) / 2


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("n", [1, 4, 0])
def test_inverse_and_determinants(stack, n):
    x = square(*stack, n=n)
    compare(lambda s, x: [s.linalg.inv(x), s.m.inverse(x), x.inverse()], x, rtol=1e-10, atol=1e-11)
    compare(lambda s, x: [s.linalg.det(x), s.m.det(x), x.det()], x, rtol=1e-10, atol=1e-10)
    compare(lambda s, x: [*s.linalg.slogdet(x), *s.m.slogdet(x), s.m.logdet(x), x.logdet()], x, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_determinants_of_singular_and_negative_matrices():
    singular, mirror = np.array([[1.0, 2.0], [2.0, 4.0]]), np.diag([1.0, -2.0])
    for x in (singular, mirror, np.zeros((2, 2)), np.stack([singular, mirror])):
        compare(lambda s, x: [s.linalg.det(x), *s.linalg.slogdet(x), s.m.logdet(x)], x, gradients=False)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("a, b", [((), ()), ((3,), (3,)), ((), (3,)), ((3,), ()), ((2, 1), (3,)), ((0,), ()), ((2, 3), (1, 3))])
def test_solve(a, b, left):
    x, y = square(*a), random(*b, *((4, 2) if left else (2, 4)), seed=1)
    compare(lambda s, x, y: s.linalg.solve(x, y, left=left), x, y, rtol=1e-10, atol=1e-11)
    for upper in (True, False):
        for unit in (True, False):
            z = x / 4 if unit else x
            compare(
                lambda s, x, y, upper=upper, unit=unit: s.linalg.solve_triangular(x, y, upper=upper, left=left, unitriangular=unit),
                z, y, rtol=1e-9, atol=1e-10,
            )  # fmt: skip


@pytest.mark.parametrize("a, b", [((), (4,)), ((3,), (3, 4)), ((3,), (4,)), ((2, 3), (2, 3, 4))])
def test_solve_for_vectors(a, b):
    compare(lambda s, x, y: s.linalg.solve(x, y), square(*a), random(*b, seed=1), rtol=1e-10, atol=1e-11)


def test_large_triangular_systems_are_solved_by_halves():
    x = square(n=150) + 10 * np.eye(150)
    for upper in (True, False):
        compare(lambda s, x, y, u=upper: s.linalg.solve_triangular(x, y, upper=u), x, random(150, 3), rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore")
def test_a_zero_on_the_diagonal_of_a_triangular_system():
    compare(lambda s, x, y: s.linalg.solve_triangular(x, y, upper=True), np.zeros((2, 2)), np.ones((2, 1)), gradients=False)


@pytest.mark.filterwarnings("ignore:torch.cholesky is deprecated")
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("n", [1, 4, 0])
@pytest.mark.parametrize("upper", [False, True])
def test_cholesky(stack, n, upper):
    x = positive(*stack, n=n)
    compare(lambda s, x: [s.linalg.cholesky(x, upper=upper), s.m.cholesky(x, upper)], x, rtol=1e-10, atol=1e-10)


def test_only_one_triangle_is_read():
    x = positive() + np.triu(random(4, 4, seed=3), 1)
    compare(lambda s, x: [s.linalg.cholesky(x), s.linalg.eigvalsh(x), s.linalg.eigh(x)[0]], x, gradients=False, atol=1e-10)
    x = positive() + np.tril(random(4, 4, seed=3), -1)
    compare(
        lambda s, x: [s.linalg.cholesky(x, upper=True), s.linalg.eigvalsh(x, "U"), s.linalg.eigh(x, UPLO="U")[0]],
        x, gradients=False, atol=1e-10,
    )  # fmt: skip


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("n", [1, 4, 0])
@pytest.mark.parametrize("UPLO", ["L", "U"])
def test_eigh(stack, n, UPLO):
    x = positive(*stack, n=n)
    compare(lambda s, x: [s.linalg.eigvalsh(x, UPLO), s.linalg.eigh(x, UPLO)[0]], x, rtol=1e-9, atol=1e-9)
    compare(lambda s, x: abs(s.linalg.eigh(symmetric(x), UPLO)[1]), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (1, 4), (0, 3), (3, 0)])
def test_svd(stack, shape):
    x = random(*stack, *shape)
    for full in (False, True):
        compare(lambda s, x, full=full: s.linalg.svd(x, full)[1], x, rtol=1e-9, atol=1e-9)
        compare(
            lambda s, x, full=full: [abs(f[..., : min(shape)]) for f in (s.linalg.svd(x, full)[0],)], x, rtol=1e-8, atol=1e-8
        )
        compare(lambda s, x, full=full: abs(s.linalg.svd(x, full)[2][..., : min(shape), :]), x, rtol=1e-8, atol=1e-8)
    compare(lambda s, x: s.linalg.svdvals(x), x, rtol=1e-9, atol=1e-9)
    compare(lambda s, x: s.linalg.pinv(x), x, rtol=1e-7, atol=1e-8)
    compare(lambda s, x: s.linalg.matrix_rank(x), x, gradients=False)


def test_singular_values_that_coincide():
    for x in (np.eye(3), 2 * np.eye(3, 4)):
        compare(lambda s, x: [s.linalg.svdvals(x), s.linalg.eigvalsh(symmetric(x[:3, :3]))], x, atol=1e-12)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (1, 4), (0, 3), (3, 0)])
def test_qr(stack, shape):
    x = random(*stack, *shape)
    compare(lambda s, x: [abs(f) for f in s.linalg.qr(x)], x, rtol=1e-8, atol=1e-8)
    gradients = shape[0] <= shape[1]
    compare(lambda s, x: abs(s.linalg.qr(x, "complete")[1]), x, rtol=1e-8, atol=1e-8, gradients=gradients)
    compare(lambda s, x: [abs(f) for f in s.linalg.qr(x, mode="r")], x, rtol=1e-8, atol=1e-8, gradients=False)


def test_pseudo_inverses_of_lower_rank():
    x = random(5, 2) @ random(2, 4, seed=1)
    for options in ({}, {"rtol": 1e-8}, {"atol": 1e-6}, {"atol": 1e-9, "rtol": 1e-9}, {"rcond": 1e-8}, {"atol": 1.2}):
        compare(lambda s, x, options=options: s.linalg.pinv(x, **options), x, rtol=1e-8, atol=1e-8)
        if "rcond" not in options:
            compare(lambda s, x, options=options: s.linalg.matrix_rank(x, **options), x, gradients=False)
    compare(lambda s, x: [s.m.pinverse(x, 1e-8), x.pinverse(1e-8)], x, rtol=1e-8, atol=1e-8)
    compare(lambda s, x: s.linalg.pinv(symmetric(x @ x.transpose(0, 1)), hermitian=True), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ord", ["nuc", 2, -2])
@pytest.mark.parametrize("dim", [(-2, -1), (0, 2), (2, 1)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_norms_of_singular_values(ord, dim, keepdim):
    x = random(2, 3, 4)
    compare(lambda s, x: s.linalg.matrix_norm(x, ord, dim, keepdim), x, rtol=1e-9, atol=1e-9)
    compare(lambda s, x: s.linalg.norm(x, ord, dim, keepdim), x, rtol=1e-9, atol=1e-9)


def test_the_older_function_norm():
    compare(
        lambda s, x: [s.m.norm(x, "nuc"), s.m.norm(x, "fro"), s.m.norm(x, 1, (0, 1)), s.m.norm(x, None, 0)],
        random(3, 4),
        rtol=1e-9,
    )
    compare(lambda s, x: s.m.norm(x, "nuc", (0, 2)), random(3, 4, 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)])
@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, np.inf])
def test_norms_of_no_elements_are_zero(ord, shape):
    compare(lambda s, x: s.linalg.matrix_norm(x, ord), np.ones(shape), gradients=False)
    compare(lambda s, x: [s.linalg.vector_norm(x, o) for o in (0, 1, 2, 3)], np.ones(shape), gradients=False)


def test_norms_in_half_precision_add_up_in_single():
    x = np.full((2, 3), 300, np.float16)
    compare(lambda s, x: [s.linalg.vector_norm(x, o, 1) for o in (2, 3, 1, np.inf)], x, rtol=1e-3, gradients=False)
    compare(lambda s, x: s.linalg.vector_norm(x), x, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay(dtype):
    x = positive().astype(dtype)
    compare(
        lambda s, x: [s.linalg.inv(x), s.linalg.det(x), s.linalg.solve(x, x[:, 0]), s.linalg.cholesky(x), s.linalg.pinv(x),
                      s.linalg.eigvalsh(x), s.linalg.svdvals(x), abs(s.linalg.qr(x)[1])],
        x, rtol=1e-3, atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [
        lambda s, x: s.linalg.inv(x),
        lambda s, x: s.linalg.det(x),
        lambda s, x: s.linalg.slogdet(x)[1],
        lambda s, x: s.linalg.solve(x, x[:, :2] * x[:, 1:2]),
        lambda s, x: s.linalg.solve_triangular(x, x[:, :2] * x[:, 1:2], upper=True),
        lambda s, x: s.linalg.cholesky(symmetric(x) @ symmetric(x)),
        lambda s, x: [s.linalg.eigh(symmetric(x))[0], abs(s.linalg.eigh(symmetric(x))[1])],
        lambda s, x: s.linalg.eigvalsh(symmetric(x)),
        lambda s, x: [abs(f) for f in s.linalg.svd(x[:, :3], False)],
        lambda s, x: [abs(f) for f in s.linalg.qr(x[:, :3])],
        lambda s, x: s.linalg.qr(x[:3])[1],
        lambda s, x: s.linalg.pinv(x[:, :3]),
        lambda s, x: s.linalg.matrix_norm(x, "nuc"),
    ],
)
def test_second_order(call):
    second_order(call, square(), rtol=1e-7)
