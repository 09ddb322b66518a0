"""DLPack with PyTorch on the CPU, in both directions."""

from __future__ import annotations

import numpy as np
import torch

import tinygrad_ja as tg


def test_from_torch_shares_memory():
    t = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    x = tg.from_dlpack(t)
    t[0, 0] = 42.0
    assert x.tolist() == t.tolist() and x.dtype == tg.float32


def test_to_torch_shares_memory():
    x = tg.arange(6, dtype=tg.float64)
    t = torch.from_dlpack(x)
    t[1] = -1.0
    assert x.tolist()[1] == -1.0 and np.shares_memory(t.numpy(), x.array)


def test_strided_and_transposed_values_survive():
    t = torch.arange(12.0).reshape(3, 4)
    assert tg.from_dlpack(t.t()).tolist() == t.t().tolist()
    assert torch.from_dlpack(tg.from_dlpack(t)[:, 1].contiguous()).tolist() == t[:, 1].tolist()
