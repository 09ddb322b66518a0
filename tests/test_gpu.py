"""``pytest -m gpu``: the real thing, on a machine with a GPU and CuPy."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not tg.cuda_is_available(), reason="needs a GPU and CuPy")]


def test_moving_there_and_back():
    x = tg.arange(6, dtype=tg.float32).reshape(2, 3)
    y = x.cuda()
    assert y.is_cuda and str(y.device) == "cuda:0" and y.cpu().tolist() == x.tolist()
    assert (y * 2.0).sum().item() == 30.0 and (2.0 * y).is_cuda


def test_gradients_flow_across_devices():
    w = tg.ones(3, requires_grad=True)
    (w.cuda() * 3.0).sum().backward()
    assert not w.grad.is_cuda and w.grad.tolist() == [3.0, 3.0, 3.0]


def test_mixed_devices_name_both():
    with pytest.raises(tg.errors.DeviceError, match="cpu.*cuda:0|cuda:0.*cpu"):
        tg.ones(2) + tg.ones(2).cuda()


def test_default_device_as_context():
    with tg.device("cuda"):
        assert tg.zeros(2).is_cuda
    assert not tg.zeros(2).is_cuda


def test_dlpack_with_cupy_shares_memory():
    import cupy

    x = cupy.arange(4, dtype="f4")
    y = tg.from_dlpack(x)
    x[0] = 9.0
    assert y.tolist()[0] == 9.0
    back = cupy.from_dlpack(y)
    assert back.data.ptr == x.data.ptr


def test_random_generators_are_per_device():
    tg.manual_seed(1)
    a = tg.randn(4, device="cuda").tolist()
    tg.manual_seed(1)
    assert tg.randn(4, device="cuda").tolist() == a


def test_an_rnn_trains_to_the_same_losses_as_on_the_cpu():
    def losses(device):
        tg.manual_seed(0)
        rnn, head = tg.nn.LSTM(4, 8), tg.nn.Linear(8, 1)
        x = tg.tensor(np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32))
        rnn.to(device)
        head.to(device)
        x = x.to(device)
        optimizer = tg.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.01)
        made = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = (head(rnn(x)[0]) ** 2).mean()
            loss.backward()
            tg.nn.utils.clip_grad_norm_(rnn.parameters(), 1.0)
            optimizer.step()
            made.append(loss.item())
        return made

    np.testing.assert_allclose(losses("cuda"), losses("cpu"), rtol=1e-4)
