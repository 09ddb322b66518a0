"""The first program: what it computes, that it learns, and that it resumes bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_ja as tg
from models import binary_addition as program
from tinygrad_ja.errors import StateError


def run(tmp_path, *argv):
    return program.main(["--out", str(tmp_path), *argv])


def test_bits_are_lowest_first_and_sums_come_back():
    numbers = tg.tensor([0, 1, 6, 255])
    assert program.to_bits(numbers).array.T.tolist()[2] == [0, 1, 1, 0, 0, 0, 0, 0]
    assert program.from_bits(program.to_bits(numbers)).tolist() == [0, 1, 6, 255]
    x, d = program.make_batch(tg.tensor([3]), tg.tensor([5]))
    assert x.shape == (8, 1, 2) and d[:, 0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_the_model_is_the_formula():
    tg.manual_seed(0)
    model = program.SimpleRNN(2, 4, 1, "tanh").double()
    model.initialize("normal")
    model.b.data.normal_()
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    x, _ = program.make_batch(tg.tensor([77]), tg.tensor([13]))
    z, expected = np.zeros(4), []
    for t in range(8):
        z = np.tanh(p["W_in"] @ x.array[t, 0] + p["W"] @ z + p["b"])
        expected.append(1 / (1 + np.exp(-(p["W_out"] @ z + p["c"]))))
    np.testing.assert_allclose(model(x.double()).detach().array[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("init, std", [("normal", 1.0), ("xavier", 1 / 16), ("he", np.sqrt(2) / 16)])
def test_initial_weights_have_the_named_spread(init, std):
    model = program.SimpleRNN(2, 256, 1)
    model.initialize(init)
    assert model.W.detach().array.std() == pytest.approx(std, rel=0.05)
    assert not model.b.detach().array.any()


def test_a_quick_run_learns_and_writes_everything(tmp_path, capsys):
    results = run(tmp_path, "--iterations", "300", "--plot-interval", "100")
    names = {"loss.png", "accuracy.png", "results.json", "log.csv", "log.jsonl", "checkpoint-00000300.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert printed.count("iters: ") == 3 and "Pred: [" in printed and " + " in printed and "exact sums" in printed


def test_the_printout_shows_the_bits_and_the_sum_that_was_read_from_them():
    predicted = program.to_bits(tg.tensor([7])).unsqueeze(2)  # one bit too much
    assert program.printout(300, 0.25, predicted, tg.tensor([[2], [3]])).splitlines() == [
        "iters: 300",
        "Loss: 0.250000",
        "Pred: [1 1 1 0 0 0 0 0]",
        "True: [1 0 1 0 0 0 0 0]",
        "2 + 3 = 7",
        "-" * 12,
    ]


def test_an_epoch_is_as_many_pairs_as_iterations(tmp_path):
    results = run(tmp_path, "--iterations", "20", "--epochs", "3", "--plot-interval", "10")
    assert results["iterations"] == 60 and results["options"]["epochs"] == 3
    assert run(tmp_path, "--epochs", "0")["loss"] is None


def test_a_compiled_run_gives_the_same_losses_and_printouts(tmp_path, capsys):
    base = ["--iterations", "60", "--plot-interval", "10"]
    printed = []
    for name, more in (("plain", []), ("compiled", ["--compile"])):
        run(tmp_path / name, *base, *more)
        lines = capsys.readouterr().out.splitlines()
        printed.append([line for line in lines if line.startswith(("iters", "Pred", "True", "Loss"))])
    assert printed[0] == printed[1] and len(printed[0]) == 24
    np.testing.assert_allclose(losses_of(tmp_path / "compiled"), losses_of(tmp_path / "plain"), rtol=1e-5)


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_learning_succeeds_with_the_default_setting(tmp_path):
    """Every option but the number of iterations is the default; the whole default run is in the documentation."""
    results = run(tmp_path, "--iterations", "6000", "--plot-interval", "1000")
    assert results["bit_accuracy"] > 0.95


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("init", ["normal", "xavier", "he"])
def test_all_options_run(tmp_path, activation, init):
    results = run(tmp_path, "--iterations", "20", "--activation", activation, "--init", init, "--plot-interval", "10")
    assert 0.0 <= results["exact_sums"] <= results["bit_accuracy"] <= 1.0


def weights_after(tmp_path):
    newest = max(tmp_path.glob("checkpoint-*.safetensors"))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    values = {row["step"]: (row["loss"], row["accuracy"]) for row in rows}
    return {name: value.array for name, value in tg.load(newest)["model"].items()}, values


def test_resume_continues_bit_for_bit(tmp_path):
    run(tmp_path / "whole", "--iterations", "60", "--plot-interval", "10")
    run(tmp_path / "parts", "--iterations", "30", "--plot-interval", "10")
    run(tmp_path / "parts", "--iterations", "60", "--plot-interval", "10", "--resume")
    (whole, losses), (parts, other_losses) = weights_after(tmp_path / "whole"), weights_after(tmp_path / "parts")
    assert losses == other_losses and list(losses) == [10, 20, 30, 40, 50, 60]
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])


def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    base = ["--iterations", "400", "--plot-interval", "100", "--checkpoint-interval", "20"]
    run(tmp_path / "whole", *base)
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "models", "binary_addition", "--out", str(killed), *base]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("iters: 200"):
            break
    child.kill()
    child.wait()
    child.stdout.close()
    steps = [saved.step for saved in tg.io.Checkpoints(killed, {}).saved()]
    assert steps and 20 <= max(steps) < 400
    run(killed, *base, "--resume")
    (whole, losses), (resumed, other_losses) = weights_after(tmp_path / "whole"), weights_after(killed)
    assert losses == other_losses
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name])


def test_resume_with_other_options_is_refused_and_changes_nothing(tmp_path):
    run(tmp_path, "--iterations", "20", "--plot-interval", "10")
    path = tmp_path / "checkpoint-00000020.safetensors"
    before = path.read_bytes()
    with pytest.raises(StateError, match="hidden"):
        run(tmp_path, "--iterations", "40", "--hidden", "8", "--resume")
    assert path.read_bytes() == before


def test_resume_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(StateError, match="TG-F004.*checkpoint-.*--resume"):
        run(tmp_path, "--iterations", "20", "--resume")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run(tmp_path, "--iterations", "20", "--plot-interval", "10")
    path = tmp_path / "checkpoint-00000020.safetensors"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StateError, match="TG-F005"):
        run(tmp_path, "--iterations", "40", "--resume")
