"""``pytest -m gpu``: every operator on the GPU has the values and gradients that it has on the CPU, and mixed precision trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.backend.arrays import is_array
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.testing.case import Case, draw_case
from tinygrad_ja.testing.fuzz import operators_of_the_package
from tinygrad_ja.testing.pick import NumpyChoices, Pick

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not tg.cuda_is_available(), reason="needs a GPU and CuPy")]

DEVICE = "cuda"
SKIPPED = {"to_device"}  # its argument is a device
SIGNS = {"eigh", "svd"}
"""Operators whose vectors may have either sign."""
NAMES = sorted({operator.name for operator in operators_of_the_package()} - SKIPPED)


def run(case: Case, device: str, dtype: Any) -> list[np.ndarray]:
    """Outputs and gradients, as NumPy arrays. The cotangents are cosines of the outputs. Where these may have either sign, their magnitudes,
    and gradients of a weighted sum of their squares."""

    def place(array: np.ndarray) -> Any:
        return tg.tensor(array.astype(dtype) if array.dtype == np.float64 else array, device=device).array

    arrays, constants = case.convert(place)
    inputs = [tg.Tensor(x) if is_array(x) else x for x in arrays]
    for index in case.differentiable:
        inputs[index].requires_grad_()
    outputs = case.outputs(inputs, constants)
    either = case.operator.name in SIGNS
    made = [(abs(y) if either else y).detach().cpu().numpy() for y in outputs]
    live = [y for y in outputs if y.requires_grad]
    if live:
        wanted = [inputs[index] for index in case.differentiable]
        factors = [tg.arange(y.numel(), dtype=y.dtype, device=device).reshape(y.shape) for y in live]
        cotangents = [tg.cos(k) * y.detach() if either else tg.cos(y.detach()) for k, y in zip(factors, live)]
        gradients = tg.grad(live, wanted, cotangents, allow_unused=True)
        made += [g.cpu().numpy() for g in gradients if g is not None]
    return made


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("name", NAMES)
def test_an_operator_gives_what_it_gives_on_the_cpu(name: str, dtype: Any) -> None:
    pick = Pick(NumpyChoices(np.random.default_rng(0)))
    tolerance = 1e-9 if dtype == np.float64 else 2e-3
    for _ in range(8):
        case = draw_case(OPERATORS[name], pick)
        if np.dtype(dtype).name in case.operator.unsupported:
            continue
        ours, expected = run(case, DEVICE, dtype), run(case, "cpu", dtype)
        assert len(ours) == len(expected)
        for a, b in zip(ours, expected):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=str(case))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_trains(dtype: str) -> None:
    tg.manual_seed(0)
    nn = tg.nn
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 2))
    model.to(DEVICE)
    x = tg.tensor(np.random.default_rng(0).standard_normal((32, 1, 8, 8)).astype(np.float32), device=DEVICE)
    target = (x.mean((1, 2, 3)) > 0).to(tg.int64)
    optimizer, scaler = tg.optim.Adam(model.parameters(), lr=1e-2), tg.amp.GradScaler(DEVICE)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with tg.autocast(DEVICE, dtype=dtype):
            loss = nn.functional.cross_entropy(model(x), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert all(p.dtype == tg.float32 and p.grad.dtype == tg.float32 for p in model.parameters())
    assert losses[-1] < 0.2 * losses[0]


def test_waiting_and_memory() -> None:
    before = tg.cuda.memory_allocated()
    x = tg.zeros(1024, 1024, device=DEVICE)
    tg.cuda.synchronize()
    assert tg.cuda.memory_allocated() - before >= x.nbytes and tg.cuda.device_count() >= 1
    assert tg.cuda.get_device_name()
