"""Peephole LSTM: its formula, the framework's layer, the streams of spikes, and that it learns to time them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import lstm
from models import peephole_lstm as program

T, N, D, H = 6, 3, 2, 4


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def run(folder, *argv):
    """A run that takes a second."""
    return program.main(["--quick", "--interval", "3", "--spikes", "2", "--steps", "20", *argv, "--out", str(folder)])


def with_peepholes():
    layer = program.PeepholeLSTM(D, H).double()
    with tg.no_grad():
        layer.V.copy_(tg.tensor(array(3, H, seed=5)))
    return layer


def test_the_layer_is_its_formula():
    layer = with_peepholes()
    w = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    V_i, V_f, V_o = w["V"]
    x, h, c = array(T, N, D), array(N, H, seed=1), array(N, H, seed=2)
    made = layer(tg.tensor(x), (tg.tensor(h), tg.tensor(c)))[0].detach().numpy()
    for t in range(T):
        a, i, f, o = np.split(x[t] @ w["W"].T + h @ w["U"].T + w["b"], 4, axis=1)
        c = sigmoid(i + V_i * c) * np.tanh(a) + sigmoid(f + V_f * c) * c
        h = sigmoid(o + V_o * c) * np.tanh(c)
        np.testing.assert_allclose(made[t], h, rtol=1e-12)


def test_it_equals_the_layer_of_the_framework_in_value_and_gradient():
    own = with_peepholes()
    layer, x = own.as_layer(), tg.tensor(array(T, N, D))
    for network in (own, layer):
        (network(x)[0] ** 2).sum().backward()
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), own(x)[0].detach().numpy(), rtol=1e-12)
    for name, expected in zip(("ci", "cf", "co"), own.V.grad.numpy()):
        np.testing.assert_allclose(getattr(layer, f"weight_{name}_l0").grad.numpy(), expected, rtol=1e-9)


def test_without_v_it_is_the_plain_lstm():
    tg.manual_seed(3)
    plain = lstm.LSTM(D, H)
    tg.manual_seed(3)
    layer, x = program.PeepholeLSTM(D, H), tg.randn(T, N, D)
    layer.V.data.zero_()
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), plain(x)[0].detach().numpy())


@pytest.mark.parametrize("task", program.TASKS)
def test_spikes_are_f_or_one_more_steps_apart(task):
    made = program.streams(task, 50, interval=5, spikes=3, generator=tg.Generator().manual_seed(0))
    x, y, counts = (part.numpy() for part in made.tensors)
    assert x.shape == (50, 19, 2) and y.shape == counts.shape == (50, 19)
    for n in range(50):
        spikes = np.flatnonzero(x[n, :, 0]) if task == "measure" else np.append(0, np.flatnonzero(y[n]))
        extra = np.diff(spikes) - 5
        assert len(spikes) == 4 and set(extra) <= {0, 1}
        if task == "measure":
            assert (y[n, spikes[1:]] == extra).all() and not np.delete(y[n], spikes[1:]).any() and not x[n, :, 1].any()
            assert (np.flatnonzero(counts[n]) == spikes[1:]).all()
        else:
            assert x[n, :, 0].sum() == x[n, 0, 0] == 1
            assert (x[n, spikes[:-1] + 1, 1] == 2 * extra - 1).all() and np.abs(x[n, :, 1]).sum() == 3
            assert not x[n, spikes[1:]].any()  # what comes in never tells that a spike is due
            assert (counts[n] == (np.arange(19) <= spikes[-1])).all()
    assert len(np.unique(x[:, :, 1] if task == "generate" else y, axis=0)) == 8


def test_a_stream_with_one_mistake_is_wrong_and_what_does_not_count_does_not():
    class Answers(tg.nn.Module):
        def __init__(self, v):
            super().__init__()
            self.v = tg.nn.Parameter(tg.tensor(v))

        def forward(self, x):
            return self.v.T.unsqueeze(2)

    y, counts = np.array([[0, 1, 0], [0, 1, 0]], np.float32), np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    batch = [tg.zeros(2, 3, 2), tg.tensor(y), tg.tensor(counts)]
    v = np.array([[-1, 2, 9], [3, 2, -9]], np.float32)
    made = program.scores(Answers(v), batch)
    p = sigmoid(v[:, :2])
    expected = -np.mean(y[:, :2] * np.log(p) + (1 - y[:, :2]) * np.log(1 - p))
    assert made["right"].item() == 0.5 and made["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_quick_run_learns_to_time_and_writes_everything(tmp_path):
    results = run(tmp_path, "--steps", "400")
    assert results["right_same_peephole"] > 0.9  # with two intervals, who guesses has a quarter of the streams right
    assert results["data"] == "synthetic" and json.loads((tmp_path / "results.json").read_text()) == results
    assert {"learning.png", "stream.png", "lstm", "peephole"} <= {p.name for p in tmp_path.iterdir()}


def test_making_spikes_runs_too(tmp_path):
    results = run(tmp_path, "--task", "generate")
    assert 0 <= results["right_longer_peephole"] <= 1


def test_a_run_that_goes_on_ends_where_the_whole_one_does(tmp_path):
    def end(folder):
        newest = max((folder / "peephole").glob("checkpoint-*.safetensors"))
        return {name: value.array for name, value in tg.load(newest)["model"].items()}

    run(tmp_path / "whole")
    run(tmp_path / "parts", "--steps", "10")
    run(tmp_path / "parts", "--resume")
    whole, parts = end(tmp_path / "whole"), end(tmp_path / "parts")
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name])


def test_compiled_it_learns_the_same(tmp_path):
    losses = []
    for way in ([], ["--compile"]):
        folder = tmp_path / str(len(way))
        run(folder, *way)
        losses.append([json.loads(line)["loss"] for line in (folder / "peephole" / "log.jsonl").read_text().splitlines()])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
