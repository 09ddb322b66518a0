"""VHRED: the KL of Gaussians, the ELBO, annealing, the latent variable, and the program. Without data, so on made-up conversations."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import hred
from models import vhred as program
from models.hred import EOS, PAD
from models.vhred import VHRED, Annealing, Gaussian, kl_divergence
from tinygrad_ja.data import DialogueCollate

pytestmark = pytest.mark.usefixtures("without_data")
SMALL = ["--quick", "--hidden", "24", "--embedding", "16", "--dialogues", "120", "--batch", "8"]


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def model_of(size=12, **options):
    tg.manual_seed(1)
    return VHRED(size, 5, 4, 3, **options).double().eval()


def batch_of(count=3, size=12):
    draw = np.random.default_rng(0)
    dialogues = [
        [[*draw.integers(4, size, draw.integers(1, 6)).tolist(), EOS] for _ in range(draw.integers(2, 6))] for _ in range(count)
    ]
    return DialogueCollate()(dialogues)


def gaussians():
    draw = np.random.default_rng(2)
    return [draw.normal(size=3), draw.uniform(0.3, 2.0, 3), draw.normal(size=3), draw.uniform(0.3, 2.0, 3)]


def test_the_kl_is_the_integral_of_its_definition():
    numbers = gaussians()
    mq, vq, mp, vp = numbers
    x = np.linspace(-20, 20, 40_001)[:, None]
    q, log_ratio = (
        np.exp(-((x - mq) ** 2) / 2 / vq) / np.sqrt(2 * np.pi * vq),
        (x - mp) ** 2 / 2 / vp - (x - mq) ** 2 / 2 / vq + np.log(vp / vq) / 2,
    )
    expected = (q * log_ratio).sum() * (x[1, 0] - x[0, 0])
    tensors = [tg.tensor(value) for value in numbers]
    q, p = Gaussian(*tensors[:2]), Gaussian(*tensors[2:])
    assert kl_divergence(q, p).item() == pytest.approx(expected, rel=1e-8) and kl_divergence(q, q).item() == 0
    tg.manual_seed(0)
    many = Gaussian(*[value.expand(200_000, 3) for value in q])
    z = many.sample()
    estimate = (many.log_density(z) - p.log_density(z)).mean().item()
    assert estimate == pytest.approx(expected, rel=0.02)


def test_the_tape_finds_the_derivatives_of_the_kl():
    mq, vq, mp, vp = numbers = gaussians()
    tensors = [tg.tensor(value, requires_grad=True) for value in numbers]
    kl_divergence(Gaussian(*tensors[:2]), Gaussian(*tensors[2:])).backward()
    by_hand = [(mq - mp) / vp, (1 / vp - 1 / vq) / 2, (mp - mq) / vp, (1 / vp - (vq + (mq - mp) ** 2) / vp**2) / 2]
    for tensor, expected in zip(tensors, by_hand):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-10)


def test_gradients_pass_through_the_sample():
    mean, variance = tg.zeros(5, requires_grad=True), tg.full((5,), 4.0, requires_grad=True)
    z = Gaussian(mean, variance).sample()
    z.sum().backward()
    assert (mean.grad.numpy() == 1).all()
    np.testing.assert_allclose(variance.grad.numpy(), z.detach().numpy() / 2 / (2 * 2), rtol=1e-6)  # dσ/dσ² ε = ε / 2σ, z = σε


def test_the_weight_of_the_kl_grows_in_training_only_and_a_checkpoint_has_it():
    weight = Annealing(4)
    assert [weight().item() for _ in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    other = Annealing(4)
    other().item()
    other.eval()
    assert other().item() == 1.0
    weight.load_state_dict(other.state_dict())
    assert weight().item() == 0.5 and Annealing(0)().item() == 1.0


def test_the_loss_is_the_negative_elbo_per_word():
    model, batch = model_of(), batch_of()
    tg.manual_seed(3)
    values = {name: value.item() for name, value in program.elbo(model, batch).items()}
    tg.manual_seed(3)
    contexts, q, p = model.infer(batch.words)
    scores = model.decode(batch, tg.cat([contexts, q.sample()], dim=2))
    there = batch.words.numpy()[0] != PAD
    kl = (kl_divergence(q, p).detach().numpy() * there).sum()
    reconstruction = program.cross_entropy(scores, batch).item()
    assert values["reconstruction"] == pytest.approx(reconstruction) and values["kl"] == pytest.approx(kl / there.sum())
    assert values["loss"] == pytest.approx(reconstruction + kl / hred.words_of(batch)) and values["kl_weight"] == 1.0


def test_free_bits_and_the_weight_count_in_training():
    model, batch = model_of(anneal=10), batch_of()
    model.train()
    tg.manual_seed(3)
    first = {name: value.item() for name, value in program.elbo(model, batch, free_bits=100.0).items()}
    utterances = (batch.words.numpy()[0] != PAD).sum()
    assert first["kl"] < 100 and first["kl_weight"] == pytest.approx(0.1)
    assert first["loss"] == pytest.approx(first["reconstruction"] + 0.1 * 100 * utterances / hred.words_of(batch))
    loss = program.elbo(model, batch, free_bits=100.0)["loss"]
    loss.backward()
    assert not model.prior.mean.weight.grad.numpy().any()  # all of the KL is free: nothing draws q and p together


def test_the_prior_does_not_see_the_utterance_and_the_posterior_does():
    model, batch = model_of(), batch_of()
    words = batch.words.numpy().copy()
    words[0, 1] = np.where(words[0, 1] > EOS, 4 + (words[0, 1] + 1) % 8, words[0, 1])
    (_, q, p), (_, other_q, other_p) = model.infer(batch.words), model.infer(tg.tensor(words))
    assert (p.mean[1] == other_p.mean[1]).all().item() and (q.mean[1] != other_q.mean[1]).all().item()
    assert (p.mean[2] != other_p.mean[2]).all().item()
    condition = model.condition(batch.words)
    assert (
        condition.shape == (*batch.words.shape[1:], 4 + 3)
        and (condition[..., 4:] != model.condition(batch.words)[..., 4:]).all().item()
    )


def test_dropped_words_are_unknown_to_the_decoder_in_training_only():
    model, batch = model_of(word_drop=1.0), batch_of()
    condition = model.condition(batch.words)
    words = batch.words.numpy()
    unknown = batch._replace(words=tg.tensor(np.full_like(words, hred.UNK)))
    whole = model.decode(batch, condition)
    model.train()
    dropped = model.decode(batch, condition)
    assert (whole != dropped).any().item() and (dropped == model.decode(unknown, condition)).all().item()


def test_more_samples_give_a_tighter_bound():
    model, batch = model_of(), batch_of(20)
    for gaussian in (model.prior, model.posterior):
        tg.nn.init.normal_(gaussian.mean.weight, std=2.0)
    tg.nn.init.normal_(model.decoder.start.weight, std=2.0)
    tg.manual_seed(0)
    elbos = [program.elbo(model, batch)["loss"].item() for _ in range(200)]
    one, many = (np.mean([program.importance_bound(model, [batch], k) for _ in range(20)]) for k in (1, 20))
    assert one == pytest.approx(np.mean(elbos), abs=4 * np.std(elbos) / np.sqrt(20)) and many < one


def test_its_replies_are_more_diverse_than_hreds_and_everything_is_written(tmp_path):
    argv = [*SMALL, "--epochs", "12", "--dialogues", "300"]
    plain = hred.main([*argv, "--out", str(tmp_path / "hred")])
    results = program.main([*argv, "--out", str(tmp_path / "vhred"), "--word-drop", "0.5", "--free-bits", "1.0"])
    names = {"results.json", "replies.txt", "replies.png", "latent.png", "elbo.png", "log.csv"}
    assert names <= {path.name for path in (tmp_path / "vhred").iterdir()}
    assert json.loads((tmp_path / "vhred" / "results.json").read_text()) == results
    assert results["kl"] > 0.3 and results["perplexity_bound"] < results["vocabulary"] / 6
    assert results["greedy_distinct2"] > plain["greedy_distinct2"] and results["different"] > 1.3


def end_of(folder):
    newest = max(folder.glob("checkpoint-*.safetensors"))
    return {name: value.numpy() for name, value in tg.load(newest)["model"].items()}


def test_a_run_that_was_stopped_goes_on_to_the_same_end(tmp_path):
    fixed = ["--anneal", "0"]  # a share of the epochs, which differ here
    run(tmp_path / "whole", "--epochs", "2", *fixed)
    run(tmp_path / "parts", "--epochs", "1", *fixed)
    run(tmp_path / "parts", "--epochs", "2", "--resume", *fixed)
    whole, parts = end_of(tmp_path / "whole"), end_of(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all((whole[name] == parts[name]).all() for name in whole)
    assert whole["kl_weight.done"] == 2 * len(program.loader([[[EOS]]] * 120, 8, "cpu"))


def test_a_compiled_run_has_the_same_losses(tmp_path):
    plain, compiled = (run(tmp_path / name, "--epochs", "1", *flag) for name, flag in (("a", []), ("b", ["--compile"])))
    assert compiled["perplexity_bound"] == pytest.approx(plain["perplexity_bound"], rel=1e-3)
    assert compiled["kl"] == pytest.approx(plain["kl"], rel=1e-2)
