"""Recurrent cells beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity.beside_torch import random

import tinygrad_ja as tg
from tinygrad_ja.ops.gru import gru_cell
from tinygrad_ja.ops.rnn import lstm_cell, rnn_cell

CELLS = {
    "rnn tanh": (1, 1, rnn_cell, torch.rnn_tanh_cell, {"nonlinearity": "tanh"}),
    "rnn relu": (1, 1, rnn_cell, torch.rnn_relu_cell, {"nonlinearity": "relu"}),
    "lstm": (4, 2, lstm_cell, torch.lstm_cell, {}),
    "gru": (3, 1, gru_cell, torch.gru_cell, {}),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_three_steps_of_a_cell(name, bias, dtype):
    gates, states, ours, theirs, options = CELLS[name]
    n, features, width = 3, 4, 5
    shapes = [(3, n, features), *[(n, width)] * states, (gates * width, features), (gates * width, width)]
    shapes += [(gates * width,)] * 2 if bias else []
    arrays = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]

    def run(tensors, step):
        x, held, weights = tensors[0], tuple(tensors[1 : 1 + states]), tensors[1 + states :]
        for k in range(3):
            made = step(x[k], held, weights)
            held = made if states > 1 else (made,)
        total = (held[0] * held[0]).sum() + held[-1].sum()
        total.backward()
        return [*[h.detach().numpy() for h in held], *[t.grad.numpy() for t in tensors]]

    mine = run([tg.tensor(a, dtype=a.dtype).requires_grad_() for a in arrays], lambda x, h, w: ours(x, *h, *w, **options))
    other = run(
        [torch.tensor(a, requires_grad=True) for a in arrays],
        lambda x, h, w: theirs(x, h if states > 1 else h[0], *w),
    )
    tolerance = 1e-11 if dtype == "float64" else 2e-4
    for a, b in zip(mine, other):
        assert a.dtype == b.dtype == np.dtype(dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
