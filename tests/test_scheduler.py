"""Schedules of the learning rate: formulas that PyTorch has not, what they refuse and what they say."""

from __future__ import annotations

import json
import warnings

import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, StateError
from tinygrad_ja.optim import lr_scheduler as schedules


def optimizer(lr: float = 1.0) -> tg.optim.SGD:
    return tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=lr)


def rates(scheduler: schedules.LRScheduler, steps: int) -> list[float]:
    made = []
    for _ in range(steps):
        made.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return made


def test_noam_rises_in_a_line_and_falls_with_the_root() -> None:
    d, warmup = 512, 10
    made = rates(schedules.NoamLR(optimizer(2.0), d, warmup), 40)
    expected = [2.0 * d**-0.5 * min(s**-0.5, s * warmup**-1.5) for s in range(1, 41)]
    assert made == pytest.approx(expected, rel=1e-14)
    assert max(made) == made[warmup - 1]


def test_a_schedule_that_comes_before_the_optimizer_is_noticed() -> None:
    scheduler = schedules.StepLR(optimizer(), 1)
    with pytest.warns(UserWarning, match=r"optimizer.step\(\)"):
        scheduler.step()


def test_the_right_order_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates(schedules.SequentialLR(o := optimizer(), [schedules.StepLR(o, 1), schedules.StepLR(o, 1)], [2]), 5)


@pytest.mark.parametrize(
    "build",
    [
        lambda o: schedules.StepLR(o, 3),
        lambda o: schedules.MultiStepLR(o, (1, 2)),
        lambda o: schedules.OneCycleLR(o, 1.0, 20, cycle_momentum=False),
        lambda o: schedules.CyclicLR(o, 0.1, 1.0, cycle_momentum=False),
        lambda o: schedules.ReduceLROnPlateau(o),
        lambda o: schedules.ChainedScheduler([schedules.LambdaLR(o, lambda t: 1.0)]),
    ],
)
def test_states_are_plain_data(build) -> None:
    scheduler = build(optimizer())
    assert json.loads(json.dumps(scheduler.state_dict())) == scheduler.state_dict()


def test_a_chain_or_a_sequence_begins_anew_at_its_milestone() -> None:
    o = optimizer()
    chain = schedules.ChainedScheduler([schedules.ConstantLR(o, 0.5, 2), schedules.ExponentialLR(o, 0.1)])
    inner = schedules.SequentialLR(o, [schedules.ConstantLR(o, 0.25, 9), schedules.StepLR(o, 1, 0.5)], [2])
    scheduler = schedules.SequentialLR(o, [schedules.ConstantLR(o, 0.1, 9), chain, inner], [2, 5])
    expected = [0.1, 0.1, 0.5, 0.05, 0.01, 0.25, 0.25, 1.0, 0.5]  # 0.5, 0.5 · 0.1, then without the half: 0.1²
    assert rates(scheduler, 9) == pytest.approx(expected)


@pytest.mark.parametrize(
    "build", [lambda o: schedules.LambdaLR(o, lambda t: 1.0), lambda o: schedules.CosineAnnealingWarmRestarts(o, 3)]
)
def test_a_group_that_a_schedule_does_not_know_is_noticed(build) -> None:
    scheduler = build(o := optimizer())
    o.add_param_group({"params": [tg.ones(1, requires_grad=True)]})
    o.step()
    with pytest.raises(ArgumentError, match="param_groups = 2.*1 groups"):
        scheduler.step()


def test_a_plateau_lowers_groups_that_were_added() -> None:
    scheduler = schedules.ReduceLROnPlateau(o := optimizer(), patience=0, min_lr=0.05)
    o.add_param_group({"params": [tg.ones(1, requires_grad=True)], "lr": 0.3})
    for _ in range(2):
        scheduler.step(1.0)
    assert scheduler.get_last_lr() == pytest.approx([0.1, 0.05])
    scheduler = schedules.ReduceLROnPlateau(o, patience=0, min_lr=[0.1, 0.2])
    o.add_param_group({"params": [tg.ones(1, requires_grad=True)]})
    scheduler.step(1.0)
    with pytest.raises(ArgumentError, match="min_lrs.*3 values"):
        scheduler.step(1.0)


@pytest.mark.parametrize("t_mult", [1, 2])
def test_restarts_go_on_from_a_last_epoch(t_mult) -> None:
    straight = rates(schedules.CosineAnnealingWarmRestarts(optimizer(), 2, t_mult), 12)
    o = optimizer()
    o.param_groups[0]["initial_lr"] = 1.0
    assert rates(schedules.CosineAnnealingWarmRestarts(o, 2, t_mult, last_epoch=6), 5) == pytest.approx(straight[7:])


def test_a_state_that_fits_in_part_changes_nothing() -> None:
    def chain(*gammas: float) -> schedules.ChainedScheduler:
        o = optimizer()
        return schedules.ChainedScheduler([schedules.ExponentialLR(o, gamma) for gamma in gammas])

    scheduler = chain(0.5, 0.9)
    wrong = chain(0.1, 0.2).state_dict()
    wrong["_schedulers"][1] = schedules.MultiStepLR(optimizer(), [1]).state_dict()
    with pytest.raises(StateError, match="milestones"):
        scheduler.load_state_dict(wrong)
    assert rates(scheduler, 2) == pytest.approx([1.0, 0.45])
    with pytest.raises(ArgumentError, match="2 states"):
        scheduler.load_state_dict(chain(0.5).state_dict())


def test_a_state_of_another_schedule_is_refused() -> None:
    with pytest.raises(StateError, match="milestones"):
        schedules.StepLR(optimizer(), 1).load_state_dict(schedules.MultiStepLR(optimizer(), [1]).state_dict())


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: schedules.StepLR(None, 1), "an Optimizer"),  # type: ignore[arg-type]
        (lambda: schedules.StepLR(optimizer(), 1, last_epoch=3), "initial_lr"),
        (lambda: schedules.StepLR(optimizer(), 0), "step_size >= 1"),
        (lambda: schedules.LambdaLR(optimizer(), [lambda t: 1.0] * 2), "one a group"),
        (lambda: schedules.LambdaLR(optimizer(), 0.5), "a function"),  # type: ignore[arg-type]
        (lambda: schedules.ConstantLR(optimizer(), 2.0), "factor"),
        (lambda: schedules.LinearLR(optimizer(), 0.0), "start_factor"),
        (lambda: schedules.CosineAnnealingWarmRestarts(optimizer(), 0), "T_0"),
        (lambda: schedules.OneCycleLR(optimizer(), 1.0), "total_steps"),
        (lambda: schedules.OneCycleLR(tg.optim.Adagrad([tg.ones(1, requires_grad=True)]), 1.0, 10), "cycle_momentum"),
        (lambda: schedules.CyclicLR(optimizer(), 0.1, 1.0, mode="square"), "triangular2"),
        (lambda: schedules.ReduceLROnPlateau(optimizer(), factor=1.0), "factor < 1"),
        (lambda: schedules.ReduceLROnPlateau(optimizer(), mode="least"), "'min', 'max'"),
        (lambda: schedules.ChainedScheduler([]), "at least one"),
        (lambda: schedules.ChainedScheduler([1]), "no metric"),  # type: ignore[list-item]
        (
            lambda: schedules.ChainedScheduler([schedules.StepLR(optimizer(), 1), schedules.StepLR(optimizer(), 1)]),
            "one optimizer",
        ),
        (lambda: schedules.ChainedScheduler([schedules.ReduceLROnPlateau(optimizer())]), "no metric"),
        (lambda: schedules.SequentialLR(o := optimizer(), [schedules.StepLR(o, 1)], [3]), "one fewer"),
        (lambda: rates(schedules.OneCycleLR(optimizer(), 1.0, 3, cycle_momentum=False), 6), "total_steps = 3"),
    ],
)
def test_wrong_settings_are_refused(build, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        build()
