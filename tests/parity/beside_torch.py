"""Runs one call on both sides and compares values, dtypes and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

import tinygrad_ja as tg
from tinygrad_ja.nn import functional

OURS = SimpleNamespace(
    m=tg,
    F=functional,
    linalg=tg.linalg,
    tensor=lambda a: tg.tensor(a, dtype=np.asarray(a).dtype),
)
THEIRS = SimpleNamespace(m=torch, F=torch.nn.functional, linalg=torch.linalg, tensor=lambda a: torch.tensor(np.asarray(a)))


def random(*shape, seed=0, dtype=np.float64):
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def outputs(made):
    """What an operator returned, as a list."""
    return list(made) if isinstance(made, (tuple, list)) else [made]


def dtype_of(x):
    """The name that both sides give a dtype."""
    return str(x.dtype).removeprefix("torch.")


def compare(call, *arrays, rtol=1e-12, atol=1e-12, gradients=True):
    """``call(side, *tensors)``: equal shapes, dtypes and values, and equal gradients of all floating arrays."""
    sides = []
    for side in (OURS, THEIRS):
        tensors = [side.tensor(a) for a in arrays]
        if gradients:
            tensors = [t.requires_grad_() if a.dtype.kind == "f" else t for t, a in zip(tensors, map(np.asarray, arrays))]
        ys = outputs(call(side, *tensors))
        live = [y for y in ys if y.requires_grad]
        rng = np.random.default_rng(1)
        total = None
        for y in live:
            weight = side.tensor(rng.normal(size=tuple(y.shape)).astype(dtype_of(y)))
            part = (y * weight).sum()
            total = part if total is None else total + part
        if total is not None:
            total.backward()
        sides.append((ys, tensors))
    (ys, tensors), (zs, others) = sides
    assert len(ys) == len(zs)
    for y, z in zip(ys, zs):
        assert tuple(y.shape) == tuple(z.shape)
        assert dtype_of(y) == dtype_of(z)
        assert y.requires_grad == z.requires_grad
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=rtol, atol=atol)
    for index, (x, other) in enumerate(zip(tensors, others)):
        assert (x.grad is None) == (other.grad is None), f"input {index}"
        if other.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=rtol, atol=atol, err_msg=f"input {index}")
