"""Parametrized weights beside PyTorch: keys, values, gradients, what training and evaluation do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity.beside_torch import random

import tinygrad_ja as tg

SIDES = [(tg, tg.nn.utils), (torch, torch.nn.utils)]


def pair(make):
    """The same layer on both sides, in float64, with the same values."""
    ours, theirs = make(*SIDES[0]).double(), make(*SIDES[1]).double()
    assert [(key, tuple(v.shape)) for key, v in ours.state_dict().items()] == [
        (key, tuple(v.shape)) for key, v in theirs.state_dict().items()
    ]
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def compare_use(ours, theirs, shape, rtol=1e-9):
    """Outputs, gradients of parameters and buffers after a use agree."""
    x = random(*shape)
    made = []
    for model, tensor in ((ours, tg.tensor(x, dtype=tg.float64)), (theirs, torch.tensor(x))):
        model.zero_grad()
        y = model(tensor)
        (y * y).sum().backward()
        made.append((y.detach().numpy(), dict(model.named_parameters()), dict(model.named_buffers())))
    (y, p, b), (z, q, c) = made
    np.testing.assert_allclose(y, z, rtol=rtol, atol=rtol)
    assert list(p) == list(q)
    for name in p:
        np.testing.assert_allclose(p[name].grad.numpy(), q[name].grad.numpy(), rtol=rtol, atol=rtol, err_msg=name)
    for name in b:
        np.testing.assert_allclose(b[name].numpy(), c[name].numpy(), rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("dim", [0, 1, -2, None])
@pytest.mark.parametrize("where", ["new", "old"])
@pytest.mark.filterwarnings("ignore")
def test_weight_norm(where, dim):
    def make(m, u):
        return (u.parametrizations if where == "new" else u).weight_norm(m.nn.Linear(3, 4), dim=dim)

    ours, theirs = pair(make)
    compare_use(ours, theirs, (5, 3))
    compare_use(ours.eval(), theirs.eval(), (5, 3))


@pytest.mark.parametrize("options", [{}, {"n_power_iterations": 3}, {"dim": 1}])
@pytest.mark.parametrize("where", ["new", "old"])
@pytest.mark.filterwarnings("ignore")
def test_spectral_norm(where, options):
    def make(m, u):
        return (u.parametrizations if where == "new" else u).spectral_norm(m.nn.Linear(3, 4), **options)

    ours, theirs = pair(make)
    for training in (True, True, False, True):
        compare_use(ours.train(training), theirs.train(training), (5, 3))


@pytest.mark.filterwarnings("ignore")
def test_spectral_norm_of_a_vector():
    ours, theirs = pair(lambda m, u: u.parametrizations.spectral_norm(m.nn.Linear(3, 4), "bias"))
    compare_use(ours, theirs, (5, 3))


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder", None])
@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("trivialized", [True, False])
def test_orthogonal(orthogonal_map, sizes, trivialized):
    def make(m, u):
        return u.parametrizations.orthogonal(m.nn.Linear(*sizes), orthogonal_map=orthogonal_map, use_trivialization=trivialized)

    ours, theirs = pair(make)
    with torch.no_grad():  # away from the starting point
        theirs.parametrizations.weight.original += torch.tensor(random(*sizes[::-1])) * (not trivialized or 0.3)
        if orthogonal_map in ("householder", None) and (orthogonal_map or sizes != (4, 4)):
            theirs.parametrizations.weight.original.diagonal().fill_(-1.0)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    compare_use(ours, theirs, (6, sizes[0]), rtol=1e-8)


def test_an_orthogonal_weight_starts_at_the_same_matrix():
    weight = random(4, 4)
    made = []
    for m, u in SIDES:
        layer = m.nn.Linear(4, 4).double()
        with m.no_grad():
            layer.weight.copy_(m.tensor(weight))
        made.append(u.parametrizations.orthogonal(layer).weight.detach().numpy())
    np.testing.assert_allclose(*made, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3)])
def test_reflections_without_a_base_start_there_too(sizes):
    weight = random(*sizes[::-1])
    made = []
    for m, u in SIDES:
        layer = m.nn.Linear(*sizes).double()
        with m.no_grad():
            layer.weight.copy_(m.tensor(weight))
        u.parametrizations.orthogonal(layer, orthogonal_map="householder", use_trivialization=False)
        made.append(layer.parametrizations.weight.original.detach().numpy())
    for triangle in (np.tril if sizes[0] <= sizes[1] else np.triu,):
        np.testing.assert_allclose(triangle(made[0]), triangle(made[1]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 60.0])
def test_matrix_exp(scale):
    x = random(3, 4, 4) * scale / 4
    ours, theirs = tg.tensor(x, dtype=tg.float64).requires_grad_(), torch.tensor(x).requires_grad_()
    y, z = tg.matrix_exp(ours), torch.matrix_exp(theirs)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-12 * float(z.detach().abs().max()))
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-8, atol=1e-11 * float(abs(theirs.grad).max()))
