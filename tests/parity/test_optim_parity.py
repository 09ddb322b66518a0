"""Optimizers against PyTorch: the same trajectory for every combination of options, the same state and the same text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import tinygrad_ja as tg

STEPS = 50
SHAPES = [(3, 2), (4,), ()]

SGD = [
    {
        "lr": 0.05,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": decay,
        "nesterov": nesterov,
        "maximize": maximize,
    }
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        (0, 0.9), (0, 0.3), (0, 0.1), (False, True), (False, True)
    )
    if not nesterov or (momentum and not dampening)
]
ADAM = [
    {"lr": 0.03, "betas": betas, "eps": eps, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for betas, eps, decay, amsgrad, maximize in itertools.product(
        ((0.9, 0.999), (0.5, 0.8)), (1e-8, 1e-2), (0, 0.1), (False, True), (False, True)
    )
]


def options_of(**choices):
    """Every combination of the choices."""
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


SHARED = {"weight_decay": (0, 0.1), "maximize": (False, True)}
BETAS = {"betas": ((0.9, 0.999), (0.5, 0.8)), "eps": (1e-8, 1e-2)}
DECOUPLED = {"decoupled_weight_decay": (False, True)}
OTHERS = {
    "Adagrad": options_of(lr=[0.1], lr_decay=(0, 0.1), initial_accumulator_value=(0, 0.5), eps=(1e-10, 1e-2), **SHARED),
    "Adadelta": options_of(lr=(1.0, 0.3), rho=(0.9, 0.5), eps=(1e-6, 1e-2), **SHARED),
    "RMSprop": options_of(lr=[0.01], alpha=(0.99, 0.5), eps=(1e-8, 1e-2), momentum=(0, 0.9), centered=(False, True), **SHARED),
    "Adamax": options_of(lr=[0.03], **BETAS, **SHARED),
    "NAdam": options_of(lr=[0.03], momentum_decay=(4e-3, 0.1), **BETAS, **SHARED, **DECOUPLED),
    "RAdam": options_of(lr=[0.03], **BETAS, **SHARED, **DECOUPLED),
    "ASGD": options_of(lr=[0.05], lambd=(1e-4, 0.1), alpha=(0.75, 0.5), t0=(1e6, 10), **SHARED),
    "Rprop": options_of(lr=[0.01], etas=((0.5, 1.2), (0.3, 1.5)), step_sizes=((1e-6, 50), (1e-3, 0.1)), maximize=(False, True)),
    "Adafactor": options_of(lr=(0.01, 0.5), beta2_decay=(-0.8, -0.3), eps=((None, 1e-3), (1e-3, 0.1)), d=(1.0, 2.0), **SHARED),
}
RULES = [
    *(("SGD", o) for o in SGD),
    *(("Adam", o) for o in ADAM),
    *(("AdamW", o) for o in ADAM),
    *((name, o) for name, options in OTHERS.items() for o in options),
]


@pytest.fixture(autouse=True)
def _float64():
    """PyTorch keeps some numbers of its state (NAdam's product, ASGD's step) in its default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trajectories(name, options):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in SHAPES]
    ours = [tg.tensor(value, requires_grad=True) for value in start]
    theirs = [torch.tensor(value, requires_grad=True) for value in start]
    optimizers = getattr(tg.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(STEPS):
        factors = [rng.normal(size=shape) for shape in SHAPES]
        for params, optimizer, tensor in ((ours, optimizers[0], tg.tensor), (theirs, optimizers[1], torch.tensor)):
            optimizer.zero_grad()
            loss = 0
            for index, (p, factor) in enumerate(zip(params, factors)):
                if index != 1 or step % 3:  # now and then one parameter takes no part
                    loss = loss + (p * p * tensor(np.abs(factor)) / 2 + p * tensor(factor)).sum()
            loss.backward()
            optimizer.step()
        yield ours, theirs, *optimizers


@pytest.mark.parametrize("name, options", RULES, ids=lambda value: value if isinstance(value, str) else "")
def test_trajectory_over_50_steps(name, options):
    for ours, theirs, *optimizers in trajectories(name, options):  # noqa: B007
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-10)
    mine, other = optimizers
    assert set(mine.state_dict()) == set(other.state_dict())
    assert repr_settings(mine) <= repr_settings(other)
    saved, expected = mine.state_dict()["state"], other.state_dict()["state"]
    assert {i: set(e) for i, e in saved.items()} == {
        i: {k for k, v in e.items() if v is not None} for i, e in expected.items() if e
    }
    for index, entries in saved.items():
        for key, value in entries.items():
            made = value.numpy() if isinstance(value, tg.Tensor) else value
            np.testing.assert_allclose(made, np.asarray(expected[index][key]), rtol=1e-10, atol=1e-10)


def repr_settings(optimizer):
    return set(repr(optimizer).splitlines())


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", *OTHERS])
def test_state_of_pytorch_loads_and_goes_on(name):
    options = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1}
    *_, (_, theirs, _, other) = trajectories(name, options)
    fresh = [tg.tensor(p.detach().numpy().copy(), requires_grad=True) for p in theirs]
    loaded = getattr(tg.optim, name)(fresh, lr=1.0)
    converted = {
        "state": {
            i: {k: tg.tensor(v.numpy()) if torch.is_tensor(v) else v for k, v in entries.items()}
            for i, entries in other.state_dict()["state"].items()
        },
        "param_groups": other.state_dict()["param_groups"],
    }
    loaded.load_state_dict(converted)
    for p, q in zip(fresh, theirs):
        p.grad = tg.tensor(np.ones(p.shape))
        q.grad = torch.ones_like(q)
    loaded.step()
    other.step()
    for p, q in zip(fresh, theirs):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping(norm_type, max_norm):
    values = [np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(SHAPES)]
    ours, theirs = (
        [tg.zeros(shape, dtype=tg.float64).requires_grad_() for shape in SHAPES],
        [torch.zeros(s).double() for s in SHAPES],
    )
    for p, q, value in zip(ours, theirs, values):
        p.grad, q.grad = tg.tensor(value), torch.tensor(value)
    mine = tg.nn.utils.clip_grad_norm_(ours, max_norm, norm_type)
    other = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(mine.item(), other.item(), rtol=1e-12)
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
    tg.nn.utils.clip_grad_value_(ours, 0.1)
    torch.nn.utils.clip_grad_value_(theirs, 0.1)
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
