"""Schedules of the learning rate against PyTorch: the same rates and momenta at every step, in chains, after a jump, and after a reload."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import tinygrad_ja as tg

STEPS = 40

SCHEDULES = [
    ("LambdaLR", {"lr_lambda": lambda t: 0.9**t}),
    ("LambdaLR", {"lr_lambda": [lambda t: 0.9**t, lambda t: 1 / (t + 1)]}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.95 if t % 2 else 1.01}),
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 7, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 30], "gamma": 0.3}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 9}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 20}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {"total_iters": 12, "power": 2.0}),
    ("PolynomialLR", {}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": STEPS}),
    ("OneCycleLR", {"max_lr": [1.0, 0.5], "epochs": 5, "steps_per_epoch": 10, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": STEPS, "three_phase": True, "pct_start": 0.2, "div_factor": 4.0}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": STEPS, "cycle_momentum": False, "final_div_factor": 10.0}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5}),
    ("CyclicLR", {"base_lr": [0.01, 0.02], "max_lr": 0.1, "step_size_up": 4, "step_size_down": 6, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "exp_range", "gamma": 0.9}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "scale_fn": lambda x: 1 / x, "cycle_momentum": False}),
]
IDS = [f"{name}-{index}" for index, (name, _) in enumerate(SCHEDULES)]


def pair(optimizer="SGD"):
    """An optimizer with two groups on both sides."""
    options = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {"lr": 0.1}}[optimizer]
    sides = []
    for lib in (tg, torch):
        params = [lib.ones(2, requires_grad=True) for _ in range(2)]
        for p in params:
            p.grad = lib.ones(2)
        groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.05}]
        sides.append(getattr(lib.optim, optimizer)(groups, **options))
    return sides


def rates(optimizer):
    entries = [[group["lr"], group.get("momentum", 0.0), *group.get("betas", ())] for group in optimizer.param_groups]
    return np.array(entries, dtype=float)


def compare(optimizers, schedulers, steps=STEPS, **options):
    for _ in range(steps):
        np.testing.assert_allclose(rates(optimizers[0]), rates(optimizers[1]), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(schedulers[0].get_last_lr(), schedulers[1].get_last_lr(), rtol=1e-12, atol=1e-15)
        for optimizer, scheduler in zip(optimizers, schedulers):
            optimizer.step()
            scheduler.step(**options)


def make(optimizers, name, options):
    modules = (tg.optim.lr_scheduler, torch.optim.lr_scheduler)
    return [getattr(module, name)(optimizer, **options) for module, optimizer in zip(modules, optimizers)]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name, options", SCHEDULES, ids=IDS)
def test_rates_and_momenta_of_every_step(optimizer, name, options):
    optimizers = pair(optimizer)
    compare(optimizers, make(optimizers, name, options))


@pytest.mark.parametrize("name, options", SCHEDULES, ids=IDS)
def test_it_goes_on_where_a_saved_one_stood(name, options):
    optimizers = pair()
    schedulers = make(optimizers, name, options)
    compare(optimizers, schedulers, 11)
    state, groups = schedulers[0].state_dict(), optimizers[0].state_dict()
    fresh = pair()[0]
    resumed = getattr(tg.optim.lr_scheduler, name)(fresh, **options)
    resumed.load_state_dict(state)
    fresh.load_state_dict(groups)
    compare([fresh, optimizers[1]], [resumed, schedulers[1]], 15)


@pytest.mark.parametrize("name, options", SCHEDULES, ids=IDS)
def test_a_state_of_pytorch_is_gone_on_from(name, options):
    optimizers = pair()
    schedulers = make(optimizers, name, options)
    compare(optimizers, schedulers, 11)
    fresh = pair()[0]
    resumed = getattr(tg.optim.lr_scheduler, name)(fresh, **options)
    resumed.load_state_dict(schedulers[1].state_dict())
    fresh.load_state_dict({"state": {}, "param_groups": optimizers[1].state_dict()["param_groups"]})
    compare([fresh, optimizers[1]], [resumed, schedulers[1]], 15)


@pytest.mark.parametrize(
    "name, options", [s for s in SCHEDULES if s[0] in ("StepLR", "MultiStepLR", "LinearLR", "PolynomialLR")]
)
def test_a_jump_to_an_epoch(name, options):
    optimizers = pair()
    schedulers = make(optimizers, name, options)
    for epoch in (3, 17, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for optimizer, scheduler in zip(optimizers, schedulers):
                optimizer.step()
                scheduler.step(epoch)
        np.testing.assert_allclose(rates(optimizers[0]), rates(optimizers[1]), rtol=1e-12)


@pytest.mark.parametrize("t_mult", [1, 2, 3])
def test_warm_restarts_between_epochs(t_mult):
    optimizers = pair()
    schedulers = make(optimizers, "CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": t_mult})
    for epoch in np.arange(0, 30, 0.35):
        for scheduler in schedulers:
            scheduler.step(float(epoch))
        np.testing.assert_allclose(rates(optimizers[0]), rates(optimizers[1]), rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "max", "patience": 2, "factor": 0.5},
        {"threshold_mode": "abs", "threshold": 0.2, "patience": 1, "cooldown": 3},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 1, "min_lr": [0.02, 0.01]},
        {"patience": 0, "min_lr": 0.001, "eps": 1e-3},
    ],
)
def test_plateau(options):
    optimizers = pair()
    schedulers = make(optimizers, "ReduceLROnPlateau", options)
    for metric in np.random.default_rng(0).normal(size=80).round(1) + 2:
        for scheduler in schedulers:
            scheduler.step(metric)
        np.testing.assert_allclose(rates(optimizers[0]), rates(optimizers[1]), rtol=1e-12)
        assert schedulers[0].num_bad_epochs == schedulers[1].num_bad_epochs


def test_plateau_with_a_group_that_was_added():
    optimizers = pair()
    schedulers = make(optimizers, "ReduceLROnPlateau", {"patience": 1, "min_lr": 0.01})
    for step, metric in enumerate(np.random.default_rng(0).normal(size=40).round(1) + 2):
        for lib, optimizer, scheduler in zip((tg, torch), optimizers, schedulers):
            if step == 10:
                optimizer.add_param_group({"params": [lib.ones(1, requires_grad=True)], "lr": 0.3})
            scheduler.step(metric)
        np.testing.assert_allclose(rates(optimizers[0]), rates(optimizers[1]), rtol=1e-12)


PARTS = [
    ("ConstantLR", {"factor": 0.1, "total_iters": 4}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 6}),
    ("StepLR", {"step_size": 2, "gamma": 0.7}),
]


def parts(optimizers, names):
    made = [make(optimizers, name, options) for name, options in names]
    return [list(side) for side in zip(*made)]


@pytest.mark.parametrize("count, milestones", [(2, [5]), (3, [3, 9]), (4, [1, 2, 20])])
def test_one_after_the_other(count, milestones):
    optimizers = pair()
    libraries = (tg.optim.lr_scheduler, torch.optim.lr_scheduler)
    sides = parts(optimizers, PARTS[:count])
    sequences = [lib.SequentialLR(o, side, milestones) for lib, o, side in zip(libraries, optimizers, sides)]
    compare(optimizers, sequences)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_all_at_once(count):
    optimizers = pair()
    libraries = (tg.optim.lr_scheduler, torch.optim.lr_scheduler)
    chains = [lib.ChainedScheduler(side) for lib, side in zip(libraries, parts(optimizers, PARTS[:count]))]
    compare(optimizers, chains)


def test_a_chain_in_a_sequence():
    optimizers = pair()
    libraries = (tg.optim.lr_scheduler, torch.optim.lr_scheduler)
    sequences = []
    for lib, optimizer in zip(libraries, optimizers):
        chain = lib.ChainedScheduler([lib.ConstantLR(optimizer, 0.5, 3), lib.ExponentialLR(optimizer, 0.9)])
        sequences.append(lib.SequentialLR(optimizer, [chain, lib.StepLR(optimizer, 2)], [4]))
    for _ in range(12):
        np.testing.assert_allclose(rates(optimizers[0]), rates(optimizers[1]), rtol=1e-12)
        for optimizer, scheduler in zip(optimizers, sequences):
            optimizer.step()
            scheduler.step()
