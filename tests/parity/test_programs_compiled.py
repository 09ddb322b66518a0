"""Random small programs, compiled and plain: values and gradients. The programs are those that are compared with PyTorch elsewhere."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from parity.beside_torch import OURS
from parity.program_layers import STEPS

import tinygrad_ja as tg
from tinygrad_ja.errors import UsageError
from tinygrad_ja.testing.pick import NumpyChoices, Pick

DTYPES = ("f4", "f8", "f4", "f2")
TOLERANCE = {"f2": 2e-2, "f4": 3e-4, "f8": 1e-8}


class Program:
    """A step of a dozen random operators; ``leaves``: its arguments."""

    def __init__(self, seed: int) -> None:
        pick = Pick(NumpyChoices(np.random.default_rng(seed)))
        self.dtype = DTYPES[seed % 4]
        shapes = [pick.shape(max_dims=3, max_side=3) for _ in range(pick.integer(1, 2))]
        shapes += pick.broadcastable(2) if pick.boolean() else [()]
        self.leaves = [np.asarray(pick.distinct(tuple(min(n, 3) for n in s)) + 0.01).astype(self.dtype) for s in shapes]
        self.steps: list[Any] = []
        self.text = [f"v{i} = leaf{a.shape}" for i, a in enumerate(self.leaves)]
        values: list[Any] = [tg.tensor(a, dtype=a.dtype).requires_grad_() for a in self.leaves]
        for _ in range(pick.integer(3, 12)):
            self._add(pick, values)
        self.chosen = sorted({len(values) - 1, *[pick.integer(0, len(values) - 1) for _ in range(3)]})
        self.weights = [pick.rng.normal(size=tuple(values[i].shape)) for i in self.chosen]

    def _add(self, pick: Pick, values: list[Any]) -> None:
        i, j = len(values) - 1 - pick.integer(0, min(len(values), 4) - 1), pick.integer(0, len(values) - 1)
        name = pick.choice([name for name in STEPS if name != "hook"])
        call = STEPS[name](pick, tuple(values[i].shape))
        if call is None:
            return
        try:
            y = call(OURS, values[i], values[j])
        except Exception:  # these two do not fit
            return
        if y.numel() > 200:
            call = self._after(call, lambda y: y.reshape(-1)[:7])
        if y.numel() and not float(y.detach().abs().max()) <= 20:
            call = self._after(call, lambda y: y.tanh())
        self.text.append(f"v{len(values)} = {name}(v{i}{tuple(values[i].shape)}, v{j})")
        self.steps.append((call, i, j))
        values.append(call(OURS, values[i], values[j]))

    @staticmethod
    def _after(call: Any, change: Any) -> Any:
        return lambda side, x, other: change(call(side, x, other))

    def __call__(self, *given: Any) -> Any:
        leaves = [x.clone().requires_grad_() for x in given]
        values: list[Any] = list(leaves)
        for call, i, j in self.steps:
            values.append(call(OURS, values[i], values[j]))
        total = None
        for i, weight in zip(self.chosen, self.weights):
            if values[i].requires_grad:
                part = (values[i] * OURS.tensor(weight.astype(values[i].dtype))).sum()
                total = part if total is None else total + part
        if total is not None:
            total.backward()
        return [v.detach() for v in values], [x.grad for x in leaves]


def elements(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [a for part in value for a in elements(part)]
    return [None if value is None else value.numpy().copy()]


def agree(seed: int, backend: str) -> bool:
    """Whether a program was replayed, and gave what the plain one gives; False where it was refused."""
    program = Program(seed)
    compiled = tg.compile(program, backend=backend)
    tolerance = TOLERANCE[program.dtype]
    for k in range(4):
        given = [tg.tensor(np.asarray(a * (1 + 0.001 * k)), dtype=a.dtype) for a in program.leaves]
        made = []
        for function in (program, compiled):
            tg.manual_seed(k)
            try:
                made.append(elements(function(*given)))
            except UsageError:
                return False
        assert len(made[0]) == len(made[1])
        for x, y in zip(*made):
            assert (x is None) == (y is None), program.text
            if x is not None:
                finite = np.abs(x[np.isfinite(x)]) if x.dtype.kind == "f" else np.empty(0)
                scale = 1 + (float(finite.max()) if finite.size else 0)
                assert x.dtype == y.dtype
                np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance * scale, err_msg="\n".join(program.text))
    return compiled.replays > 0


@pytest.mark.parametrize("backend", ["numpy", "native", "plain"])
def test_random_programs(backend: str, examples: int) -> None:
    if backend == "native":
        pytest.importorskip("llvmlite")
    first = {"numpy": 0, "native": 100_000, "plain": 200_000}[backend]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        replayed = [agree(first + seed, backend) for seed in range(2 * examples)]
    assert sum(replayed) > examples
