"""The workloads of ``python -m benchmarks suite`` are the same work on every side: the losses of the first steps agree."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

import tinygrad_ja as tg
from benchmarks.suite import workloads
from benchmarks.suite.programs import FORMS, Side, build
from benchmarks.suite.rounds import FORMS as FORMS_OF_SIDES

STEPS = 6


def losses(lib, name, form):
    side = Side(lib, workloads.problem(name, quick=True))
    step = build(side, name, form)
    batches = [[side.tensor(array) for array in batch] for batch in side.problem.batches]
    return [step(*batches[i % len(batches)]).item() for i in range(STEPS)]


@pytest.mark.parametrize("name, form", [(name, form) for name in workloads.WORKLOADS for form in FORMS.get(name, ("plain",))])
def test_losses_are_those_of_pytorch(name, form):
    np.testing.assert_allclose(losses(tg, name, form), losses(torch, name, form), rtol=1e-4)


@pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX")
@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_losses_are_those_of_jax(name):
    from benchmarks.suite import jax_side

    forms = FORMS_OF_SIDES["jax"].get(name, ("plain",))
    for form in forms if name == "rnn" else forms[:1]:
        runner = jax_side.Runner(name, workloads.problem(name, quick=True), form, "cpu", 2)
        batches = runner.batches
        theirs = [float(runner.step(batches[i % len(batches)])) for i in range(STEPS)]
        np.testing.assert_allclose(losses(tg, name, FORMS.get(name, ("plain",))[0]), theirs, rtol=1e-4)
