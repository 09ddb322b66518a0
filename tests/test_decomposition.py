"""What inverses, determinants and decompositions promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, LinAlgError, ShapeError
from tinygrad_ja.testing import strict
from tinygrad_ja.testing.gradcheck import gradcheck

SINGULAR = [[1.0, 2.0], [2.0, 4.0]]


def matrices(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).normal(size=shape), dtype=tg.float64)


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-9)


# ---- what factors are


def test_an_inverse_times_the_matrix_is_the_identity():
    x = matrices(3, 4, 4)
    close(tg.linalg.inv(x) @ x, tg.eye(4, dtype=tg.float64).expand(3, 4, 4))


def test_factors_multiply_to_the_matrix():
    for shape in [(3, 5, 4), (3, 4, 5), (4, 4), (2, 0, 3), (3, 0)]:
        x = matrices(*shape)
        for full in (False, True):
            u, s, vh = tg.linalg.svd(x, full_matrices=full)
            k = s.shape[-1]
            close(u[..., :k] * s.unsqueeze(-2) @ vh[..., :k, :], x)
            for q in (u, vh.mT):
                close(q.mT @ q, tg.eye(q.shape[-1], dtype=tg.float64).expand(*q.shape[:-2], q.shape[-1], q.shape[-1]))
        for mode in ("reduced", "complete"):
            q, r = tg.linalg.qr(x, mode)
            close(q @ r, x)
            close(r.triu(), r)
    x = matrices(3, 4, 4)
    close(
        tg.linalg.eigh(x @ x.mT).eigenvectors @ tg.diag_embed(tg.linalg.eigvalsh(x @ x.mT)),
        x @ x.mT @ tg.linalg.eigh(x @ x.mT)[1],
    )
    lower = tg.linalg.cholesky(x @ x.mT)
    close(lower @ lower.mT, x @ x.mT)
    close(tg.linalg.cholesky(x @ x.mT, upper=True), lower.mT)


def test_a_pseudo_inverse_fulfils_the_four_equations_of_penrose():
    a = matrices(5, 2) @ matrices(2, 4, seed=1)
    p = tg.linalg.pinv(a)
    close(a @ p @ a, a)
    close(p @ a @ p, p)
    close((a @ p).T, a @ p)
    close((p @ a).T, p @ a)
    assert tg.linalg.matrix_rank(a).item() == 2


def test_large_triangular_systems():
    a, b = matrices(100, 100) + 20 * tg.eye(100, dtype=tg.float64), matrices(100, 3, seed=1)
    close(a.triu() @ tg.linalg.solve_triangular(a, b, upper=True), b)
    close(tg.linalg.solve_triangular(a, b.T, upper=False, left=False) @ a.tril(), b.T)
    unit = a.tril(-1) / 40 + tg.eye(100, dtype=tg.float64)
    close(unit @ tg.linalg.solve_triangular(a / 40, b, upper=False, unitriangular=True), b)


def test_the_exponential_of_a_generator_is_a_rotation():
    angle = 2.0
    x = tg.tensor([[0.0, -angle], [angle, 0.0]], dtype=tg.float64)
    rotation = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    np.testing.assert_allclose(tg.matrix_exp(x).numpy(), rotation, rtol=1e-12)
    np.testing.assert_allclose(
        tg.matrix_exp(x * 100).numpy(), np.array([[np.cos(200.0), -np.sin(200.0)], [np.sin(200.0), np.cos(200.0)]]), atol=1e-11
    )
    assert gradcheck(tg.matrix_exp, (matrices(3, 3).requires_grad_(),))
    assert tg.matrix_exp(tg.zeros(2, 0, 0)).shape == (2, 0, 0)
    assert tg.matrix_exp(tg.full((2, 2), math.nan)).isnan().all()


# ---- singular matrices


def test_the_gradient_of_a_determinant_is_the_cofactors_whatever_the_rank():
    for matrix, expected in [
        (SINGULAR, [[4.0, -2.0], [-2.0, 1.0]]),
        ([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]),
        ([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]], [[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]),
    ]:
        x = tg.tensor([matrix], dtype=tg.float64, requires_grad=True)
        tg.linalg.det(x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), [expected], atol=1e-12)


def test_so_is_its_second_derivative():
    # det [[a, b], [c, d]] = a d - b c
    x = tg.zeros(2, 2, dtype=tg.float64).requires_grad_()
    hessian = tg.func.hessian(tg.linalg.det)(x).reshape(4, 4)
    np.testing.assert_allclose(hessian.detach().numpy(), [[0, 0, 0, 1], [0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0]], atol=1e-12)


def test_determinants_of_singular_matrices():
    x = tg.tensor([SINGULAR, [[2.0, 0.0], [0.0, 3.0]]], dtype=tg.float64, requires_grad=True)
    sign, value = tg.linalg.slogdet(x)
    assert sign.tolist() == [0.0, 1.0]
    assert value.tolist() == pytest.approx([-math.inf, math.log(6)])
    value.sum().backward()
    assert np.isinf(x.grad.numpy()[0]).all()
    np.testing.assert_allclose(x.grad.numpy()[1], [[1 / 2, 0], [0, 1 / 3]])


def test_values_that_coincide_have_a_gradient_if_nothing_tells_their_vectors_apart():
    x = tg.eye(3, dtype=tg.float64).requires_grad_()
    (
        tg.linalg.eigh(x)[0].sum() + tg.linalg.svd(x)[1].sum() + tg.linalg.eigvalsh(x).sum() + tg.linalg.svdvals(x).sum()
    ).backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda x: tg.linalg.inv(x), "linalg.inv: the matrix is singular"),
        (lambda x: tg.inverse(x), "linalg.inv"),
        (lambda x: tg.linalg.solve(x, x), "linalg.solve: the matrix is singular"),
        (lambda x: tg.linalg.matrix_power(x, -1), "singular"),
        (lambda x: tg.linalg.cholesky(x - 1), "linalg.cholesky: the matrix is not positive definite"),
        (lambda x: tg.linalg.svd(x * math.nan), "linalg.svd: the algorithm does not converge"),
    ],
)
def test_a_matrix_that_has_none_is_named(call, text, monkeypatch):
    x = tg.tensor([[[1.0, 0.0], [0.0, 1.0]], SINGULAR])
    with pytest.raises(LinAlgError, match=rf"TG-A004.*{text}.*shape \(2, 2, 2\).*Fix: ") as caught:
        call(x)
    assert "matrix [" in str(caught.value)
    assert isinstance(caught.value, (RuntimeError, ValueError))
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(tg.linalg.LinAlgError, match="直し方"):
        call(x)


def test_the_first_matrix_of_the_stack_that_fails_is_named():
    x = tg.eye(2).expand(2, 3, 2, 2).clone()
    x[1, 1] = tg.tensor(SINGULAR)
    with pytest.raises(LinAlgError, match=r"matrix \[1, 1\], shape \(2, 3, 2, 2\)"):
        tg.linalg.inv(x)


# ---- what they refuse

DECOMPOSITIONS = "inv det slogdet cholesky eigh eigvalsh svd svdvals qr pinv matrix_rank matrix_exp".split()
SQUARE = "inv det slogdet cholesky eigh eigvalsh matrix_exp".split()


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_matrices_of_a_dtype_that_lapack_knows_are_needed(name):
    function = getattr(tg.linalg, name)
    with pytest.raises(ShapeError, match=f"linalg.{name}.*2 axes"):
        function(tg.ones(3))
    for dtype in (tg.float16, tg.int64, tg.bool):
        with pytest.raises(DtypeError, match=f"linalg.{name}: dtype {dtype}.*float32 or float64"):
            function(tg.ones(2, 2, dtype=dtype))


@pytest.mark.parametrize("name", SQUARE)
def test_some_need_square_matrices(name):
    with pytest.raises(ShapeError, match="square"):
        getattr(tg.linalg, name)(tg.ones(2, 3))


def test_arguments_that_do_not_fit_are_refused():
    x = tg.eye(2)
    for call, failure in [
        (lambda: tg.linalg.qr(x, "full"), ArgumentError),
        (lambda: tg.linalg.eigh(x, "X"), ArgumentError),
        (lambda: tg.linalg.solve(x, tg.ones(3, 1)), ShapeError),
        (lambda: tg.linalg.solve(x, tg.ones(2), left=False), ShapeError),
        (lambda: tg.linalg.solve(x, tg.ones(2, 1).double()), DtypeError),
        (lambda: tg.linalg.solve_triangular(x, tg.ones(2), upper=True), ShapeError),
        (lambda: tg.linalg.solve(x.expand(3, 2, 2), tg.ones(4, 2, 1)), ShapeError),
        (lambda: tg.linalg.matrix_power(tg.ones(2, 3), 2), ShapeError),
    ]:
        with pytest.raises(failure):
            call()


def test_the_vectors_that_complete_q_have_no_gradient():
    x = matrices(4, 2).requires_grad_()
    tg.linalg.qr(x, "complete").R.sum().backward()
    with pytest.raises(ArgumentError, match="mode='reduced'"):
        tg.linalg.qr(x, "complete").Q.sum().backward()
    tg.linalg.qr(x[:2], "complete").Q.sum().backward()


def test_r_alone_has_a_gradient():
    x = matrices(4, 2).requires_grad_()
    assert gradcheck(lambda x: tg.linalg.qr(x, "r").R, (x,))


def test_the_gradient_of_a_symmetric_matrix_is_symmetric_and_of_the_triangle_that_is_read():
    for call in (tg.linalg.cholesky, tg.linalg.eigvalsh, lambda a: abs(tg.linalg.eigh(a)[1])):
        x = (matrices(4, 4) @ matrices(4, 4).mT + tg.eye(4, dtype=tg.float64)).requires_grad_()
        (call(x) ** 2).sum().backward()
        close(x.grad, x.grad.T)
        y = x.detach().clone()
        y[0, 3] = math.nan  # never read
        close(call(y), call(x.detach()))


# ---- elsewhere


def test_the_general_cofactors_are_those_of_the_cpu():
    for x in (np.array(SINGULAR), np.random.default_rng(0).normal(size=(3, 4, 4)), np.zeros((3, 3)), np.zeros((2, 0, 0))):
        on_cpu, elsewhere = tg.tensor(x, requires_grad=True), tg.Tensor(strict.array(x.astype(np.float32))).requires_grad_()
        for leaf in (on_cpu, elsewhere):
            tg.linalg.det(leaf).sum().backward()
        np.testing.assert_allclose(on_cpu.grad.numpy(), strict.peek(elsewhere.grad.array), rtol=1e-4, atol=1e-5)


def test_under_autocast_linear_algebra_runs_in_float32():
    half = tg.tensor([[2.0, 0.0], [0.0, 4.0]], dtype=tg.float16)
    with tg.autocast("cpu", dtype=tg.float16):
        assert tg.linalg.inv(half).tolist() == [[0.5, 0.0], [0.0, 0.25]]
        assert tg.linalg.solve(half, half).dtype == tg.float32
        assert tg.linalg.det(half).item() == 8.0 and tg.linalg.slogdet(half).sign.item() == 1.0
        assert tg.linalg.cholesky(half @ half).tolist() == [[2.0, 0.0], [0.0, 4.0]]
        assert tg.linalg.svdvals(half).tolist() == tg.linalg.eigh(half).eigenvalues.flip(0).tolist() == [4.0, 2.0]
        assert (
            tg.linalg.matrix_exp(half * 0).tolist() == tg.linalg.pinv(half * 0 + tg.eye(2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]
        )
        assert tg.linalg.matrix_rank(half).item() == 2
