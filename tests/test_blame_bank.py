"""``tg.blame`` judged by a bank of wrong and right backward functions, written before and apart from it.

``pytest tests/test_blame_bank.py -s -k score`` prints what was planted, what was named first, and how often that was right.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from blame_bank import RIGHT, WRONG
from blame_bank.entry import Arrays, Entry, gradients

import tinygrad_ja as tg

STEP = 1e-6


def slope(entry: Entry, g: np.ndarray, arguments: Arrays, name: str, direction: np.ndarray) -> float:
    """Σ g ∘ y differentiated along a direction of one argument, by central differences."""
    above, below = (entry.output(arguments | {name: arguments[name] + step * direction}) for step in (STEP, -STEP))
    return float((g * (above - below)).sum() / (2 * STEP))


def along(gradient: np.ndarray, direction: np.ndarray) -> float:
    """Their product, nan when the shapes differ by more than axes of size 1."""
    if [n for n in np.shape(gradient) if n > 1] != [n for n in direction.shape if n > 1]:
        return np.nan
    return float((np.reshape(gradient, direction.shape) * direction).sum())


def disagreeing(entry: Entry, backward: Any) -> list[str]:
    """Arguments whose gradient is not the numerical one along two random directions."""
    rng = np.random.default_rng(0)
    arguments = entry.arguments()
    g = rng.normal(size=entry.output(arguments).shape)
    found = {name: grad for name, grad in gradients(backward, g.copy(), entry.arguments()).items() if grad is not None}
    directions = {name: rng.normal(size=(2, *arguments[name].shape)) for name in found}
    return [
        name
        for name, gradient in found.items()
        if not np.allclose(
            [along(gradient, d) for d in directions[name]],
            [slope(entry, g, arguments, name, d) for d in directions[name]],
            rtol=1e-4,
            atol=1e-5,
        )
    ]


def named(entries: list[Entry]) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.name)


def test_the_bank_has_sixty_wrong_and_at_least_25_right_backward_functions():
    assert len(WRONG) == len({entry.name for entry in WRONG}) == 60
    assert len(RIGHT) == len({entry.name for entry in RIGHT}) >= 25


@named(WRONG)
def test_a_wrong_backward_is_wrong_and_the_planted_piece_is_all_that_is_wrong(entry):
    assert disagreeing(entry, entry.written(entry.inputs()))
    assert not disagreeing(entry, entry.repaired(entry.inputs()))


@named(RIGHT)
def test_a_right_backward_agrees_with_numerical_differentiation(entry):
    assert not disagreeing(entry, entry.written(entry.inputs()))


@pytest.mark.parametrize("seed", range(4))
@named(RIGHT)
def test_a_right_backward_is_never_blamed(entry, seed):
    inputs = entry.inputs(seed)
    diagnosis = tg.blame(entry.written(inputs), entry.layer, inputs)
    assert diagnosis.right, diagnosis
    assert not diagnosis.faults


@pytest.mark.parametrize("seed", range(2))
@named(WRONG)
def test_a_wrong_backward_is_not_blamed_any_more_once_it_is_repaired(entry, seed):
    inputs = entry.inputs(seed)
    diagnosis = tg.blame(entry.repaired(inputs), entry.layer, inputs)
    assert diagnosis.right, diagnosis
    assert not diagnosis.faults


@cache
def diagnoses() -> list[tuple[Entry, Any]]:
    """What ``tg.blame`` says of each wrong backward."""
    return [(entry, tg.blame(entry.written(entry.inputs()), entry.layer, entry.inputs())) for entry in WRONG]


def names(entry: Entry, diagnosis: Any) -> bool:
    """Whether the fault that stands first is of the planted kind, at the planted place."""
    if not diagnosis.faults:
        return False
    first = diagnosis.faults[0]
    place = rf"(?<!\w){re.escape(entry.place)}(?!\w)"
    return first.kind in entry.kinds and bool(re.search(place, f"{first.operator} {first.line} {first.text}"))


def row(entry: Entry, diagnosis: Any) -> str:
    """A line of the table, and under it what was said instead of the planted fault."""
    first = diagnosis.faults[0] if diagnosis.faults else None
    hit = names(entry, diagnosis)
    kind, certain = first.kind if first else "nothing", "certain" if diagnosis.certain else "unsure"
    line = f"{' or '.join(entry.kinds):20} {kind:11} {certain:8} {'yes' if hit else 'NO':4} {entry.name}"
    return line if hit else f"{line}\n     asked for: {entry.place or 'no place'}; said: {first and first.text}"


def test_the_score_of_planted_faults_that_are_named_first():
    hits = sum(names(*pair) for pair in diagnoses())
    certain = sum(names(entry, diagnosis) and diagnosis.certain for entry, diagnosis in diagnoses())
    print(f"\n{'planted':20} {'named first':20} hit  backward", *(row(*pair) for pair in diagnoses()), sep="\n")
    print(f"{hits} of {len(WRONG)} planted faults are named first, {certain} of them as certain")
    assert hits >= 0.9 * len(WRONG)


def test_most_faults_that_are_named_first_are_certain():
    assert sum(names(entry, diagnosis) and diagnosis.certain for entry, diagnosis in diagnoses()) >= 0.8 * len(WRONG)


def test_a_wrong_backward_is_never_called_right():
    assert not [entry.name for entry, diagnosis in diagnoses() if diagnosis.right]
