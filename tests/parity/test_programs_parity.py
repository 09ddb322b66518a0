"""Random small programs give PyTorch's values, gradients and gradients of gradients.

A program has some leaves and a dozen steps; each step takes earlier values (so values fan out) and runs at once on both sides. The
wide run is ``pytest tests/parity/test_programs_parity.py --examples 2000``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity.beside_torch import OURS, THEIRS
from parity.program_layers import STEPS

from tinygrad_ja.testing.pick import HypothesisChoices, Pick

SIDES = (OURS, THEIRS)
LARGE = 20.0


class Program:
    """Leaves and steps, running on both sides as they are drawn."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.text: list[str] = []
        self.hooked: set[int] = set()
        shapes = [pick.shape(max_dims=3, max_side=3) for _ in range(pick.integer(1, 2))]
        shapes += pick.broadcastable(2) if pick.boolean() else [()]
        arrays = [pick.distinct(tuple(min(n, 3) for n in shape)) + 0.01 for shape in shapes]
        self.leaves = [[side.tensor(a).requires_grad_() for a in arrays] for side in SIDES]
        self.values = [list(leaves) for leaves in self.leaves]
        self.text += [f"v{i} = leaf{a.shape}" for i, a in enumerate(arrays)]

    def __repr__(self) -> str:
        return "\n".join(self.text)

    def run_step(self) -> None:
        pick, ours = self.pick, self.values[0]
        recent = min(len(ours), 4)
        i = len(ours) - 1 - pick.integer(0, recent - 1)
        j = pick.integer(0, len(ours) - 1)
        name = pick.choice(list(STEPS))
        call = STEPS[name](pick, tuple(ours[i].shape))
        if call is None:
            return
        if name in ("arithmetic", "divide", "power", "where", "lerp"):
            try:
                np.broadcast_shapes(ours[i].shape, ours[j].shape)
            except ValueError:
                j = i
        self.text.append(f"v{len(ours)} = {name}(v{i}{tuple(ours[i].shape)}, v{j})")
        try:
            theirs = call(THEIRS, self.values[1][i], self.values[1][j])
        except (RuntimeError, IndexError, ValueError):
            with pytest.raises((RuntimeError, IndexError, ValueError)):
                call(OURS, self.values[0][i], self.values[0][j])
            return
        made = [call(OURS, self.values[0][i], self.values[0][j]), theirs]
        if made[0].numel() > 200:
            made = [y.reshape(-1)[:7] for y in made]
        if made[0].numel() and float(made[0].detach().abs().max()) > LARGE:
            made = [y.tanh() for y in made]
        assert made[0].requires_grad == made[1].requires_grad, self
        self.same(made[0], made[1], f"v{len(ours)}")
        if name == "hook":
            self.hooked.add(len(ours))
        for values, y in zip(self.values, made):
            values.append(y)

    def same(self, x: Any, z: Any, what: str) -> None:
        assert tuple(x.shape) == tuple(z.shape), f"{what}\n{self}"
        assert str(x.dtype) == str(z.dtype).removeprefix("torch."), f"{what}\n{self}"
        a, b = x.detach().numpy(), z.detach().clone().numpy()
        scale = 1.0 + (np.abs(b[np.isfinite(b)]).max() if np.isfinite(b).any() else 0.0)
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * scale, err_msg=f"{what}\n{self}")

    def projection(self, side: Any, tensors: Sequence[Any], seed: int) -> Any:
        """A number that depends on every element, by random weights; None when nothing requires a gradient."""
        total = None
        for k, t in enumerate(tensors):
            if t is None or not t.requires_grad:
                continue
            weight = np.random.default_rng((seed, k)).normal(size=tuple(t.shape))
            part = (t * side.tensor(weight)).sum()
            total = part if total is None else total + part
        return total

    def check_gradients(self) -> None:
        """First and second order, at the leaves and at one value between."""
        live = [i for i, v in enumerate(self.values[0]) if v.requires_grad]
        # PyTorch's grad of a hooked value is before its hooks when it also lies on the way to another input, else after them
        inner = self.pick.choice([i for i in live if i not in self.hooked])
        chosen = sorted({live[-1], *[self.pick.choice(live) for _ in range(2)]})
        gradients: list[Any] = []
        seconds: list[Any] = []
        for side, values, leaves in zip(SIDES, self.values, self.leaves):
            total = self.projection(side, [values[i] for i in chosen], 1)
            targets = [*leaves, values[inner]]
            made = side.m.autograd.grad(total, targets, create_graph=True, allow_unused=True)
            gradients.append(made)
            again = self.projection(side, made, 2)
            if again is None:
                seconds.append([None] * len(leaves))
            else:
                seconds.append(side.m.autograd.grad(again, leaves, retain_graph=True, allow_unused=True))
            total.backward()
        for k, (x, z) in enumerate(zip(*gradients)):
            assert (x is None) == (z is None), f"gradient {k}\n{self}"
            if x is not None:
                self.same(x, z, f"gradient {k} of {chosen}, inner {inner}")
        for k, (x, z) in enumerate(zip(*seconds)):
            self.same_or_zero(x, z, f"second order of leaf {k} of {chosen}, inner {inner}")
        for k, (x, z) in enumerate(zip(*self.leaves)):
            assert (x.grad is None) == (z.grad is None), f"leaf {k}\n{self}"
            if x.grad is not None:
                self.same(x.grad, z.grad, f"grad of leaf {k} of {chosen}")

    def same_or_zero(self, x: Any, z: Any, what: str) -> None:
        """The two sides differ in where they notice that a second derivative is zero: there one has None."""
        if x is not None and z is not None:
            self.same(x, z, what)
        else:
            given = z if x is None else x
            assert given is None or not given.detach().clone().numpy().any(), f"{what}\n{self}"


@st.composite
def programs(draw: Callable[[Any], Any]) -> Program:
    pick = Pick(HypothesisChoices(draw))
    program = Program(pick)
    for _ in range(pick.integer(3, 12)):
        program.run_step()
    return program


def test_random_programs_agree(examples: int) -> None:
    @settings(
        max_examples=examples * 10, suppress_health_check=list(HealthCheck), derandomize=True, deadline=None, database=None
    )
    @given(programs())
    def check(program: Program) -> None:
        program.check_gradients()

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        check()
