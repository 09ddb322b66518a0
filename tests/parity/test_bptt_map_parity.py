"""tg.bptt_map beside PyTorch, where each time step uses a copy of the weight of its own and the copies' gradients are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tinygrad_ja as tg
from tinygrad_ja import nn

T, N, D, H = 6, 2, 3, 4


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_hh"])
def test_the_gradient_through_each_step_is_that_of_a_copy_of_the_weight(kind, name):
    tg.manual_seed(0)
    layer = getattr(nn, kind)(D, H).double()
    x = tg.randn(T, N, D, dtype=tg.float64)
    output, _ = layer(x)
    made = tg.bptt_map([(output[s] ** 2).sum() for s in range(T)], layer.get_parameter(f"{name}_l0"))

    cell = getattr(torch.nn, f"{kind}Cell")(D, H).double()
    weights = {key.removesuffix("_l0"): torch.from_numpy(p.detach().numpy()) for key, p in layer.named_parameters()}
    copies = [weights[name].clone().requires_grad_() for _ in range(T)]
    state, losses = None, []
    for x_t, copy in zip(torch.from_numpy(x.numpy()), copies):
        state = torch.func.functional_call(cell, {**weights, name: copy}, (x_t, state))
        losses.append(((state[0] if kind == "LSTM" else state) ** 2).sum())
    for s, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, copies, retain_graph=True, allow_unused=True)
        for t, gradient in enumerate(gradients):
            expected = np.zeros(copies[t].shape) if gradient is None else gradient.numpy()
            np.testing.assert_allclose(made.gradients[s, t], expected, rtol=1e-9, atol=1e-12)
            assert made.matrix[s, t] == pytest.approx(np.linalg.norm(expected), rel=1e-9, abs=1e-12)
