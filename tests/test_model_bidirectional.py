"""Both directions: the flip, the formula, the framework's own layer, padding, and that the future helps."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import bidirectional as program
from tinygrad_ja import nn
from tinygrad_ja.data.text import Vocabulary

T, N, D, H = 6, 4, 3, 5
LENGTHS = [6, 3, 1, 4]
SHORT = ["--quick", "--cell", "rnn", "--embedding", "8", "--hidden", "12", "--epochs", "1"]


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def run(folder, *argv):
    return program.main([*SHORT, *argv, "--out", str(folder)])


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def few_made_up_lines(monkeypatch, tmp_path):
    """Neither files nor network, and few lines."""
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    train, valid, test = program.made_up_lines()
    monkeypatch.setattr(program, "made_up_lines", lambda: [train[:800], valid[:60], test[:100]])


def test_a_flip_keeps_the_padding_at_the_end():
    x, lengths = tg.tensor(array(T, N, D)), tg.tensor(LENGTHS)
    made = program.flipped(x, lengths).numpy()
    for n, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(made[:length, n], x.numpy()[:length, n][::-1])
        np.testing.assert_array_equal(made[length:, n], x.numpy()[length:, n])
    np.testing.assert_array_equal(program.flipped(program.flipped(x, lengths), lengths).numpy(), x.numpy())
    np.testing.assert_array_equal(program.flipped(x, tg.tensor([T] * N)).numpy(), tg.flip(x, 0).numpy())


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_the_layer_is_its_formula(merge):
    layer = program.Bidirectional("rnn", D, H, merge).double()
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    x = array(T, N, D)
    made = layer(tg.tensor(x), tg.tensor(LENGTHS)).detach().numpy()

    def states(side, steps):
        h, found = np.zeros(H), []
        for x_t in steps:
            b = w[f"{side}.bias_ih_l0"] + w[f"{side}.bias_hh_l0"]
            h = np.tanh(w[f"{side}.weight_ih_l0"] @ x_t + w[f"{side}.weight_hh_l0"] @ h + b)
            found.append(h)
        return np.array(found)

    for n, length in enumerate(LENGTHS):
        there, back = states("rightwards", x[:length, n]), states("leftwards", x[:length, n][::-1])[::-1]
        expected = np.concatenate([there, back], axis=1) if merge == "concat" else there + back
        np.testing.assert_allclose(made[:length, n], expected, rtol=1e-10)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("cell", list(program.CELLS))
def test_it_equals_the_layer_of_the_framework_in_value_and_gradient(cell, merge):
    layer = program.Bidirectional(cell, D, H, merge).double()
    assert max(program.differences(layer, tg.tensor(array(T, N, D)), tg.tensor(LENGTHS))) < 1e-13
    library, x = program.library_layer(layer).double(), tg.tensor(array(T, N, D))
    for network, made in ((layer, layer(x, tg.tensor([T] * N))), (library, library(x)[0])):
        tg.sin(made).sum().backward()
        assert network.training
    for name, p in layer.rightwards.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), getattr(library, name).grad.numpy(), rtol=1e-10, atol=1e-12)
    for name, p in layer.leftwards.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), getattr(library, f"{name}_reverse").grad.numpy(), rtol=1e-10, atol=1e-12)


def test_a_difference_is_seen():
    layer = program.Bidirectional("gru", D, H).double()
    wrong = tg.tensor([6, 4, 1, 4])  # one length is another, so the padding is read
    x = tg.tensor(array(T, N, D))
    one, other = (layer(x, lengths).detach().numpy() for lengths in (tg.tensor(LENGTHS), wrong))
    assert np.abs(one[:3, 1] - other[:3, 1]).max() > 1e-3
    np.testing.assert_array_equal(one[:, 0], other[:, 0])


def test_padding_changes_nothing_and_the_future_changes_the_past_of_one_network_only():
    words = Vocabulary([list("abc _")])
    line, longer, other = "c_b _", "c_b _ abc", "c_b c"
    for merge, sees in (("concat", True), ("sum", True), (None, False)):
        network = program.Labeller(len(words), "lstm", 4, 5, merge)
        alone = program.probabilities(network, line, words)
        batch = program.batch_of([longer, line], words)
        assert batch.characters.shape == (16, 2) and batch.lengths.tolist() == [9, 5]
        padded = nn.functional.softmax(network(batch.characters, batch.lengths), dim=2).detach().numpy()[: len(line), 1]
        np.testing.assert_allclose(padded, alone, rtol=1e-4, atol=1e-6)
        changed = program.probabilities(network, other, words)[:4]
        assert (np.abs(changed - alone[:4]).max() > 1e-6) == sees


def test_gaps_are_the_vowels():
    words = Vocabulary([list("t_ b c")])
    batch = program.batch_of(["To be", "a"], words)
    assert program.without_vowels("To be, AEIOU") == "t_ b_, _____"
    assert words.decode(batch.characters[:5, 0]) == list("t_ b_")
    assert batch.vowels[:, 0].tolist() == [-100, 3, -100, -100, 1, -100, -100, -100]
    assert batch.vowels[:2, 1].tolist() == [0, -100] and program.gaps_in(batch) == 3


def test_losses_are_means_over_the_gaps():
    words = Vocabulary([list("t_ b c")])
    pair = program.Pair(len(words), "gru", 4, 5, "sum").double()
    batch = program.batch_of(["to be", "ab"], words)
    found = program.measure(pair, batch)
    p = [program.probabilities(pair.both, line, words) for line in ("to be", "ab")]
    truth = [p[0][1, 3], p[0][4, 1], p[1][0, 0]]
    assert found["loss_both"].item() == pytest.approx(-np.log(truth).mean(), rel=1e-6)
    best = [p[0][1].argmax() == 3, p[0][4].argmax() == 1, p[1][0].argmax() == 0]
    assert found["accuracy_both"].item() == pytest.approx(np.mean(best))
    assert found["loss"].item() == pytest.approx(found["loss_both"].item() + found["loss_left"].item())


def test_the_future_helps(tmp_path):
    results = run(tmp_path, "--epochs", "3")
    assert {"curves.png", "gaps.png", "results.json", "log.csv"} < {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["data"] == "synthetic"
    assert results["accuracy"] > results["accuracy_left"] > results["most_frequent"]
    assert results["parameters"] < results["parameters_left"]
    assert results["value_difference"] < 1e-13 and results["gradient_difference"] < 1e-13
    for found in results["examples"]:
        assert program.without_vowels(found["both"]) == found["read"] == program.without_vowels(found["left"])


@pytest.mark.parametrize("cell, merge", [("lstm", "sum"), ("gru", "concat")])
def test_the_other_forms_run(tmp_path, cell, merge):
    results = run(tmp_path, "--cell", cell, "--merge", merge)
    assert results["accuracy"] > results["most_frequent"]


def test_a_resumed_run_ends_as_one_that_did_not_stop(tmp_path):
    whole = run(tmp_path / "a", "--epochs", "2")
    run(tmp_path / "b", "--epochs", "1")
    resumed = run(tmp_path / "b", "--epochs", "2", "--resume")
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    assert all(resumed[name] == whole[name] for name in ("accuracy", "accuracy_left", "examples"))


def test_compiled_the_losses_are_the_same(tmp_path):
    run(tmp_path / "a", "--batch", "100")
    run(tmp_path / "b", "--batch", "100", "--compile")
    np.testing.assert_allclose(losses(tmp_path / "b"), losses(tmp_path / "a"), rtol=1e-4)
