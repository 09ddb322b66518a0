"""What the Transformer promises beyond agreement with PyTorch: who sees what, positions, devices, learning."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.testing import strict

S, N, E = 6, 3, 8
SIZES = {"d_model": E, "nhead": 2, "dim_feedforward": 16}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def output(module, *arrays, **masks):
    with tg.no_grad():
        return module.eval()(*map(tg.from_numpy, arrays), **masks).numpy()


# ---- who sees what -------------------------------------------------------------------------------


def test_without_positions_an_encoder_does_not_know_the_order():
    layer, x, order = tg.nn.TransformerEncoderLayer(**SIZES), random(S, N, E), np.array([3, 0, 5, 1, 2, 4])
    np.testing.assert_allclose(output(layer, x[order]), output(layer, x)[order], atol=2e-6)


@pytest.mark.parametrize("norm_first", [False, True])
def test_under_the_causal_mask_no_step_sees_a_later_one(norm_first):
    layer = tg.nn.TransformerEncoderLayer(**SIZES, norm_first=norm_first)
    x, mask = random(S, N, E), tg.nn.Transformer.generate_square_subsequent_mask(S)
    changed = x.copy()
    changed[4:] = 7.0 * random(2, N, E, seed=1)
    for hint in (False, True):
        before, after = (output(layer, a, src_mask=mask, is_causal=hint) for a in (x, changed))
        np.testing.assert_allclose(after[:4], before[:4], atol=2e-6)
        assert not np.allclose(after[4:], before[4:])


def test_padded_steps_have_no_influence():
    model = tg.nn.Transformer(E, 2, 2, 2, 16, batch_first=True)
    src, tgt = random(N, S, E), random(N, 4, E, seed=1)
    padding = np.arange(S) >= np.array([[S], [2], [4]])
    changed = np.where(padding[..., None], np.float32(50.0), src)
    masks = {"src_key_padding_mask": tg.from_numpy(padding), "memory_key_padding_mask": tg.from_numpy(padding)}
    np.testing.assert_allclose(output(model, changed, tgt, **masks), output(model, src, tgt, **masks), atol=2e-6)


def test_a_sample_that_is_all_padding_stays_finite():
    layer = tg.nn.TransformerEncoderLayer(**SIZES, batch_first=True)
    x = tg.tensor(random(N, S, E)).requires_grad_()
    made = layer(x, src_key_padding_mask=tg.tensor(np.arange(N)[:, None].repeat(S, 1) == 1))
    made.sum().backward()
    assert np.isfinite(made.detach().numpy()).all() and np.isfinite(x.grad.numpy()).all()


def test_layers_of_a_stack_start_equal_and_share_nothing():
    encoder = tg.nn.TransformerEncoder(tg.nn.TransformerEncoderLayer(**SIZES), 3)
    first, last = encoder.layers[0].linear1.weight, encoder.layers[2].linear1.weight
    np.testing.assert_array_equal(first.detach().numpy(), last.detach().numpy())
    assert not np.shares_memory(first.array, last.array)
    assert len(list(encoder.parameters())) == 3 * len(list(encoder.layers[0].parameters()))


# ---- positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 4, 7])
def test_positions_are_sines_and_cosines(d):
    layer = tg.nn.PositionalEncoding(d, dropout=0.0, max_len=50)
    made = layer(tg.zeros(50, d)).numpy()
    for t in (0, 1, 31):
        for column in range(d):
            angle = t / 10000 ** ((column - column % 2) / d)
            assert made[t, column] == pytest.approx(np.cos(angle) if column % 2 else np.sin(angle), abs=1e-6)


def test_positions_run_along_the_time_axis():
    x = random(5, 3, 4)
    table = tg.nn.PositionalEncoding(4, dropout=0.0).pe.numpy()
    time_first = output(tg.nn.PositionalEncoding(4), x)
    batch_first = output(tg.nn.PositionalEncoding(4, batch_first=True), x.swapaxes(0, 1).copy())
    np.testing.assert_allclose(time_first, x + table[:5, None], rtol=1e-6)
    np.testing.assert_array_equal(batch_first, time_first.swapaxes(0, 1))
    np.testing.assert_array_equal(output(tg.nn.PositionalEncoding(4, batch_first=True), x[:, 0].copy()), time_first[:, 0])


def test_the_table_of_positions_moves_with_the_model_and_is_not_stored():
    layer = tg.nn.PositionalEncoding(4)
    assert not layer.state_dict()
    assert layer.double().pe.dtype == np.float64
    assert tg.nn.PositionalEncoding(4, device="strict", dtype=np.float16).pe.dtype == np.float16
    assert not layer.pe.requires_grad


def test_dropout_of_positions_acts_in_training():
    layer = tg.nn.PositionalEncoding(4, dropout=0.5)
    assert (layer(tg.ones(20, 2, 4)).numpy() == 0).any()
    assert repr(layer).startswith("PositionalEncoding(\n  4, max_len=5000, batch_first=False\n")


# ---- dtypes, devices, errors, learning -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_stay(dtype):
    model = tg.nn.Transformer(E, 2, 1, 1, 16, dtype=dtype)
    src, tgt = (tg.tensor(random(S, N, E, seed=seed), dtype=dtype).requires_grad_() for seed in (0, 1))
    mask = tg.nn.Transformer.generate_square_subsequent_mask(S, dtype=dtype)
    made = model(src, tgt, tgt_mask=mask)
    made.sum().backward()
    assert {made.dtype, src.grad.dtype, tgt.grad.dtype, *[p.grad.dtype for p in model.parameters()]} == {np.dtype(dtype)}


def test_it_runs_as_on_a_gpu():
    model = tg.nn.Transformer(E, 2, 1, 1, 16, dropout=0.0, activation="gelu", batch_first=True, device="strict")
    src, tgt = (tg.tensor(random(N, S, E, seed=seed), device="strict") for seed in (0, 1))
    padding = tg.tensor(np.arange(S) >= np.array([[S], [2], [4]]), device="strict")
    mask = tg.nn.Transformer.generate_square_subsequent_mask(S, device="strict")
    with strict.watch() as events:
        made = model(src, tgt, tgt_mask=mask, src_key_padding_mask=padding, memory_key_padding_mask=padding)
        made.sum().backward()
    assert not events
    assert all(p.grad is not None for p in model.parameters())


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="'relu', 'gelu' or a function"):
        tg.nn.TransformerEncoderLayer(E, 2, activation="tanh")
    model = tg.nn.Transformer(E, 2, 1, 1, 16)
    with pytest.raises(ShapeError, match=r"\(T, N, 8\), one N for both"):
        model(tg.ones(S, N, E), tg.ones(S, N + 1, E))
    with pytest.raises(ShapeError, match=r"\(T, N, 8\)"):
        model(tg.ones(S, N, E), tg.ones(S, N, E + 1))
    layer = tg.nn.PositionalEncoding(4, max_len=5)
    for shape in ((6, 1, 4), (5, 1, 3), (4,)):
        with pytest.raises(ShapeError, match=r"T <= 5"):
            layer(tg.ones(*shape))


def test_it_learns_to_reverse_a_sequence():
    tg.manual_seed(0)
    embedding, position = tg.nn.Embedding(6, 16), tg.nn.PositionalEncoding(16, dropout=0.0, batch_first=True)
    model, head = tg.nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True), tg.nn.Linear(16, 6)
    optimizer = tg.optim.Adam([p for m in (embedding, model, head) for p in m.parameters()], lr=3e-3)
    mask = tg.nn.Transformer.generate_square_subsequent_mask(4)
    rng = np.random.default_rng(0)
    for _ in range(150):
        words = rng.integers(1, 6, (32, 4))
        answer = words[:, ::-1].copy()
        shifted = np.concatenate([np.zeros((32, 1), np.int64), answer[:, :-1]], 1)
        src, tgt = position(embedding(tg.tensor(words))), position(embedding(tg.tensor(shifted)))
        logits = head(model(src, tgt, tgt_mask=mask))
        loss = tg.nn.functional.cross_entropy(logits.reshape(-1, 6), tg.tensor(answer.reshape(-1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.detach().numpy().argmax(-1) == answer).mean() > 0.9
