"""``models/truncated_bptt.py``: the gradient is cut at the pieces and the state is not; what is longer than k is not learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models import truncated_bptt as program
from tinygrad_ja.errors import ArgumentError


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data sets nor a network."""
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))


def run(out: Path, *argv: str) -> dict[str, Any]:
    return program.main(["--quick", "--out", str(out), *argv])


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def gradients_of(k: int, steps: int = 6) -> tuple[list[np.ndarray], tg.Tensor, program.StreamRNN, Any]:
    """Of one batch, with a learning rate of 0, which leaves the weights."""
    tg.manual_seed(0)
    model = program.StreamRNN(3, 4).double()
    step = program.Truncated(model, tg.optim.SGD(model.parameters(), lr=0.0), k, rows=2)
    batch = (tg.tensor(np.arange(2 * steps).reshape(steps, 2) % 3), tg.tensor(np.arange(2 * steps).reshape(steps, 2) % 2))
    values = step(batch)
    return [p.grad.numpy() for p in model.parameters()], values["loss"], model, (step, batch)


def test_the_gradient_is_that_of_a_loop_that_is_cut() -> None:
    """A loop over the steps in which the state loses its history before steps 0, 3."""
    made, loss, model, (_, (x, d)) = gradients_of(3)
    state, total = model.start(2), tg.tensor(0.0, dtype=tg.float64)
    for t in range(6):
        if t % 3 == 0:
            state = state.detach()
        scores, state = model(x[t : t + 1], state)
        total = total + F.cross_entropy(scores[0], d[t]) / 6
    expected = tg.grad(total, list(model.parameters()))
    assert loss.item() == pytest.approx(total.item(), rel=1e-12)
    for g, e in zip(made, expected):
        np.testing.assert_allclose(g, e.numpy(), rtol=1e-9, atol=1e-14)


def test_the_loss_is_the_same_for_every_k_and_the_gradient_is_not() -> None:
    made = {k: gradients_of(k) for k in (1, 3, 6, 100)}
    values = [loss.item() for _, loss, *_ in made.values()]
    assert values == pytest.approx([values[0]] * 4, rel=1e-12)
    assert all(np.array_equal(a, b) for a, b in zip(made[6][0], made[100][0]))
    assert not np.allclose(made[1][0][1], made[6][0][1])


def test_the_state_goes_from_batch_to_batch() -> None:
    _, _, model, (step, (x, d)) = gradients_of(2)
    with tg.no_grad():
        _, expected = model(tg.cat([x, x]), model.start(2))
    step((x, d))
    np.testing.assert_allclose(step.state.numpy(), expected.numpy(), rtol=1e-12)
    assert not step.state.requires_grad


def test_the_answer_is_the_bit_of_so_many_steps_ago() -> None:
    stream = program.delayed_bits(5000, 4, seed=0)
    (x, d), *_ = program.Stateful(stream.train, 2, None)
    assert x.shape == d.shape == (program.STEPS, 2)
    np.testing.assert_array_equal(d.numpy()[4:], x.numpy()[:-4])
    text = program.characters("abcabd" * 200)
    (x, d), *_ = program.Stateful(text.train, 1, None)
    np.testing.assert_array_equal(d.numpy()[:-1], x.numpy()[1:])
    assert text.symbols == 4 and 0 < text.chance < np.log(4)


def test_a_delay_that_is_longer_than_the_stream_is_refused() -> None:
    assert program.delayed_bits(1000, 998, seed=0).train.shape == (900, 2)
    with pytest.raises(ArgumentError, match="--delay = 999 is not allowed.*less than 999"):
        program.delayed_bits(1000, 999, seed=0)


def test_only_a_k_longer_than_the_delay_learns(tmp_path: Path) -> None:
    results = run(tmp_path, "--stream", "delay", "--epochs", "2")
    assert results["delay_20"] > 0.8 and results["delay_full"] > 0.8
    assert max(results["delay_1"], results["delay_5"]) < min(results["delay_20"], results["delay_full"]) - 0.1
    assert {"cuts.png", "delay-1", "delay-full"} <= {path.name for path in tmp_path.iterdir()}


def test_characters_are_learned_without_the_data(tmp_path: Path) -> None:
    results = run(tmp_path, "--stream", "shakespeare", "--epochs", "1", "--hidden", "16")
    assert results["data"] == "synthetic"
    assert results["shakespeare_20"] < results["chance"]["shakespeare"]


@pytest.mark.parametrize("cut", ["5", "full"])
def test_resumed_and_compiled_runs_end_the_same(tmp_path: Path, cut: str) -> None:
    def trained(name: str, *argv: str) -> list[float]:
        argv = ("--quick", "--hidden", "8", "--rows", "8", "--out", str(tmp_path / name), *argv)
        run = program.Experiment("truncated_bptt", program.TITLE, program.OPTIONS, argv)
        run.train(program.new_trainer(run, "delay", program.delayed_bits(6000, 3, 0), cut))
        return losses(tmp_path / name / f"delay-{cut}")

    whole = trained("whole", "--epochs", "4")
    trained("parts", "--epochs", "2")
    assert trained("parts", "--epochs", "4", "--resume") == whole
    np.testing.assert_allclose(trained("compiled", "--epochs", "4", "--compile"), whole, rtol=1e-4)
