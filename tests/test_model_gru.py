"""GRU: its three forms are their formulas, which of them are equal, and that it remembers."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import gru as program
from tinygrad_ja.errors import StateError

T, N, D, H = 6, 3, 2, 4


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def run(folder, *argv):
    """A run that takes a second."""
    short = ["--quick", "--lag", "6", "--hidden", "8", "--epochs", "1", "--steps", "10"]
    return program.main([*short, *argv, "--out", str(folder)])


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    """Made-up data everywhere: neither files nor network."""
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


def outputs(layer, x):
    return layer(tg.tensor(x))[0].detach().numpy()


@pytest.mark.parametrize("form", program.FORMS)
def test_the_layer_is_its_formula(form):
    layer = program.GRU(D, H, form).double()
    w = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    x, h = array(T, N, D), np.zeros((N, H))
    (W_z, W_r, W_h), (U_z, U_r, U_h), (b_z, b_r, b_h) = (np.split(w[name], 3) for name in ("W", "U", "b"))
    made = outputs(layer, x)
    for t in range(T):
        z, r = sigmoid(x[t] @ W_z.T + h @ U_z.T + b_z), sigmoid(x[t] @ W_r.T + h @ U_r.T + b_r)
        if form == "reset_after":
            candidate = np.tanh(x[t] @ W_h.T + b_h + r * (h @ U_h.T + w["d_h"]))
        else:
            candidate = np.tanh(x[t] @ W_h.T + (r * h) @ U_h.T + b_h)
        h = (1 - z) * h + z * candidate if form == "chung" else z * h + (1 - z) * candidate
        np.testing.assert_allclose(made[t], h, rtol=1e-12, atol=1e-15)


def test_changing_the_signs_of_the_update_gate_swaps_z_and_1_minus_z():
    layer, x = program.GRU(D, H).double(), array(T, N, D)
    other = layer.swapped()
    assert other.form == "swapped" and (other.U[:H] == -layer.U[:H]).all() and (other.U[H:] == layer.U[H:]).all()
    np.testing.assert_allclose(outputs(other, x), outputs(layer, x), rtol=1e-10, atol=1e-14)
    back = other.swapped()
    assert back.form == "chung"
    for name in ("W", "U", "b"):
        np.testing.assert_array_equal(getattr(back, name).detach().numpy(), getattr(layer, name).detach().numpy())


@pytest.mark.parametrize("form", program.FORMS)
def test_each_form_has_an_equal_in_the_framework(form):
    own, x = program.GRU(D, H, form).double(), array(T, N, D)
    layer = own.as_layer()
    assert layer.reset_after == (form == "reset_after")
    np.testing.assert_allclose(outputs(layer, x), outputs(own, x), rtol=1e-10, atol=1e-14)
    for network in (own, layer):
        (network(tg.tensor(x))[0] ** 2).sum().backward()
    z, r, h = np.split(own.U.grad.numpy(), 3)
    sign = -1 if form == "chung" else 1
    np.testing.assert_allclose(layer.weight_hh_l0.grad.numpy(), np.concatenate([r, sign * z, h]), rtol=1e-8, atol=1e-14)


def test_reset_before_and_after_are_different_networks():
    """With the same weights, and no bias inside of the product, they differ; with r = 1 they would not."""
    before, x = program.GRU(D, H, "swapped").double(), array(T, N, D)
    after = program.GRU(D, H, "reset_after").double()
    with tg.no_grad():
        for name in ("W", "U", "b"):
            getattr(after, name).copy_(getattr(before, name))
        after.d_h.zero_()
        assert np.abs(outputs(after, x) - outputs(before, x)).max() > 1e-4
        for layer in (before, after):
            layer.b[H : 2 * H] = 1e3
    np.testing.assert_allclose(outputs(after, x), outputs(before, x), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("form", program.FORMS)
def test_how_much_stays_at_first_can_be_chosen(form):
    """With an open door for the state nothing changes it: h stays where it began."""
    layer = program.GRU(D, H, form, keep=50.0).double()
    h = tg.tensor(array(N, H))
    _, (last,) = layer(tg.tensor(array(T, N, D)), (h,))
    np.testing.assert_allclose(last.detach().numpy(), h.numpy(), rtol=1e-10)


def test_a_quick_run_remembers_and_writes_everything(tmp_path):
    results = run(tmp_path, "--steps", "300", "--hidden", "16")
    assert results["adding_error_gru"] < 0.5 / 6  # always 1: 1/6
    assert max(results[f"difference_{form}"] for form in program.FORMS) < 1e-12
    assert results["data"] == "synthetic" and json.loads((tmp_path / "results.json").read_text()) == results
    assert {"sunspots.png", "adding.png", "sunspots", "adding"} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("form", ["swapped", "reset_after"])
def test_the_other_forms_run_too(tmp_path, form):
    assert run(tmp_path, "--form", form, "--steps", "2")["adding_error_gru"] > 0


def test_a_run_that_goes_on_ends_where_the_whole_one_does(tmp_path):
    whole = run(tmp_path / "whole", "--steps", "10")
    run(tmp_path / "parts", "--steps", "5")
    with pytest.raises(StateError, match="form"):
        run(tmp_path / "parts", "--steps", "10", "--resume", "--form", "swapped")
    parts = run(tmp_path / "parts", "--steps", "10", "--resume")
    for name in ("sunspots_gru", "adding_error_rnn", "adding_error_gru"):
        assert whole[name] == parts[name]


def test_compiled_it_learns_the_same(tmp_path):
    eager, compiled = run(tmp_path / "eager"), run(tmp_path / "compiled", "--compile")
    for name in ("sunspots_gru", "adding_error_gru"):
        assert compiled[name] == pytest.approx(eager[name], rel=1e-3)
