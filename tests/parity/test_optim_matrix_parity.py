"""L-BFGS and Muon against PyTorch, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import tinygrad_ja as tg


def trajectory(lib, options, steps=12):
    rng = np.random.default_rng(0)
    a = lib.tensor(rng.normal(size=(6, 4)))
    b = lib.tensor(rng.normal(size=(6,)))
    w = lib.tensor(rng.normal(size=(4,)), requires_grad=True)
    c = lib.tensor(rng.normal(size=()), requires_grad=True)
    optimizer = lib.optim.LBFGS([w, c], **options)

    def closure():
        optimizer.zero_grad()
        rest = a @ w + c - b
        loss = (rest * rest).sum() + (w**4).sum() / 10 + lib.cos(c) * (w * w).sum() / 5
        loss.backward()
        return loss

    made = []
    for _ in range(steps):
        optimizer.step(closure)
        made.append(np.append(w.detach().numpy(), c.detach().numpy()))
    state = optimizer.state[w]
    return np.array(made), state["n_iter"], state["func_evals"]


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.05},
        {"lr": 0.5, "max_iter": 4},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "max_iter": 5, "history_size": 2},
        {"line_search_fn": "strong_wolfe", "max_iter": 3, "max_eval": 6, "lr": 0.1},
        {"line_search_fn": "strong_wolfe", "lr": 5.0, "max_iter": 6},
        {"tolerance_grad": 1e-2, "lr": 0.1},
        {"tolerance_change": 1e-2, "lr": 0.1},
    ],
)
def test_lbfgs(options):
    ours, theirs = trajectory(tg, options), trajectory(torch, options)
    # the method amplifies the last bit of a scalar product, whose order of summation differs
    np.testing.assert_allclose(ours[0][:2], theirs[0][:2], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    assert ours[1:] == theirs[1:]


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3)])
@pytest.mark.parametrize(
    "nesterov, adjust, decay", list(itertools.product((True, False), (None, "original", "match_rms_adamw"), (0.0, 0.1)))
)
def test_muon_without_the_rounding_to_bfloat16(shape, nesterov, adjust, decay, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    p, q = tg.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    options = {"lr": 0.05, "weight_decay": decay, "nesterov": nesterov, "adjust_lr_fn": adjust}
    ours, theirs = tg.optim.Muon([p], **options), torch.optim.Muon([q], **options)
    for _ in range(50):
        g = rng.normal(size=shape)
        p.grad, q.grad = tg.tensor(g), torch.tensor(g)
        ours.step()
        theirs.step()
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-10)
