"""What attention promises beyond the checks that every operator passes, and what PyTorch lacks: additive and multiplicative scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.kernels import numpy_attention
from tinygrad_ja.nn import functional as F
from tinygrad_ja.nn.functional_call import functional_call
from tinygrad_ja.testing import fuzz, gradcheck, strict

sdpa = F.scaled_dot_product_attention


def random(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def tensors(*arrays):
    return [tg.tensor(a, dtype=a.dtype).requires_grad_() for a in arrays]


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- scaled dot products -------------------------------------------------------------------------


def test_the_formula():
    q, k, v, mask = random(4, 5), random(6, 5, seed=1), random(6, 3, seed=2), random(4, 6, seed=3)
    expected = softmax(q @ k.T / math.sqrt(5) + mask) @ v
    np.testing.assert_allclose(sdpa(*map(tg.tensor, (q, k, v, mask))).numpy(), expected, rtol=1e-6)


def test_queries_of_zeros_average_the_values_they_may_see():
    value = np.arange(1.0, 5.0)[:, None]
    made = sdpa(tg.zeros(4, 2), tg.zeros(4, 2), tg.tensor(value, dtype=np.float32), is_causal=True)
    np.testing.assert_allclose(made.numpy()[:, 0], [1.0, 1.5, 2.0, 2.5])


def test_arrays_in_array_out():
    q = random(2, 4, 3)
    made = sdpa(q, q, q, np.eye(4, dtype=bool))
    assert type(made) is np.ndarray
    np.testing.assert_allclose(made, q)


def test_a_query_that_may_look_at_nothing_gives_0_and_passes_no_gradient_on():
    q, k, v = tensors(random(2, 3), random(4, 3, seed=1), random(4, 3, seed=2))
    mask = np.array([[True] * 4, [False] * 4])
    made = sdpa(q, k, v, tg.tensor(mask))
    made.sum().backward()
    assert made.detach().numpy()[1].tolist() == [0.0] * 3
    assert q.grad.numpy()[1].tolist() == [0.0] * 3
    assert np.isfinite(k.grad.numpy()).all()


@pytest.mark.parametrize("block", [4, 12])
@pytest.mark.parametrize("by_blas", [0, 10**9])
def test_blocks_and_threads_pass_every_check(monkeypatch, block, by_blas):
    monkeypatch.setattr(numpy_attention, "BLOCK", block)
    monkeypatch.setattr(numpy_attention, "PASSES", 10**6)
    monkeypatch.setattr(numpy_attention, "SHARED_BY_BLAS", by_blas)
    before = tg.get_num_threads()
    tg.set_num_threads(2)
    try:
        fuzz("attention", examples=40)
    finally:
        tg.set_num_threads(before)


@pytest.mark.parametrize("size", [1.0, 40.0, 1e3])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 2e-3), (np.float16, 2e-2)])
def test_large_scores_in_blocks(size, dtype, tolerance):
    q, k, v = (random(8, 80, 4, seed=seed).astype(dtype) for seed in range(3))
    q = (q * dtype(size)).astype(dtype)
    made = sdpa(*map(tg.from_numpy, (q, k, v)))
    wide = [a.astype(np.float64) for a in (q, k, v)]
    expected = softmax(wide[0] @ wide[1].swapaxes(1, 2) / 2) @ wide[2]
    assert made.dtype == dtype
    np.testing.assert_allclose(made.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("steps", [4, 80])
def test_nan_shows(steps):
    q = random(8, steps, 4)
    q[3, 1] = np.nan
    made = sdpa(*map(tg.tensor, (q, random(8, steps, 4), random(8, steps, 4))))
    wrong = np.isnan(made.numpy()).any(-1)
    assert wrong[3, 1] and wrong.sum() == 1


def test_nothing_as_large_as_the_scores_waits_for_the_backward():
    q, k, v = tensors(*(random(2, 300, 4, seed=seed) for seed in range(3)))
    made = sdpa(q, k, v)
    saved = [a.nbytes for a in made.node.saved if isinstance(a, np.ndarray)]
    assert sum(saved) < 6 * q.array.nbytes < 2 * 300 * 300 * 8


def test_output_and_gradients_lie_in_memory_as_the_query_does():
    x = tg.tensor(random(40, 8, 3 * 4)).requires_grad_()  # (T, N, heads * d)
    heads = x.reshape(40, 8, 3, 4).permute(1, 2, 0, 3)
    made = sdpa(heads, heads, heads)
    merged = made.permute(2, 0, 1, 3).reshape(40, 8, 12)
    assert np.shares_memory(made.detach().numpy(), merged.detach().numpy())


def test_dropout_removes_weights_and_scales_the_others():
    tg.manual_seed(0)
    made = sdpa(tg.zeros(50, 2), tg.zeros(40, 2), tg.eye(40), dropout_p=0.25).numpy()  # the weights themselves
    np.testing.assert_allclose(np.unique(made), [0.0, 1 / 40 / 0.75], rtol=1e-6)
    assert (made == 0).mean() == pytest.approx(0.25, abs=0.04)
    tg.manual_seed(0)
    np.testing.assert_array_equal(made, sdpa(tg.zeros(50, 2), tg.zeros(40, 2), tg.eye(40), dropout_p=0.25).numpy())


def test_dropout_of_half_precision():
    x = tg.tensor(random(2, 5, 4), dtype=np.float16).requires_grad_()
    made = sdpa(x, x, x, dropout_p=0.5)
    made.sum().backward()
    assert made.dtype == np.float16 and x.grad.dtype == np.float16


def test_the_gradient_of_a_learned_bias_of_positions():
    q, k, v, bias = tensors(random(2, 2, 3, 4), random(2, 2, 3, 4, seed=1), random(2, 2, 3, 4, seed=2), random(2, 3, 3, seed=3))
    assert gradcheck(lambda *given: sdpa(*given), (q, k, v, bias))


def test_what_is_refused():
    x = tg.ones(2, 4, 3)
    with pytest.raises(ShapeError, match=r"\[TG-S002\] scaled_dot_product_attention: .*\(3,\)"):
        sdpa(tg.ones(3), tg.ones(3), tg.ones(3))
    with pytest.raises(ShapeError, match=r"\(\.\.\.,l,e\),\(\.\.\.,s,e\)"):
        sdpa(x, tg.ones(2, 4, 5), x)
    with pytest.raises(ShapeError):
        sdpa(x, x, x, tg.ones(3, 2, 4, 4))
    with pytest.raises(DtypeError, match="TG-T004"):
        sdpa(*[tg.ones(2, 3, dtype=np.int64)] * 3)
    with pytest.raises(DtypeError, match=r"attn_mask.*bool / float32"):
        sdpa(x, x, x, tg.ones(4, 4, dtype=np.int64))
    with pytest.raises(ArgumentError, match="is_causal"):
        sdpa(x, x, x, tg.ones(4, 4, dtype=bool), is_causal=True)
    with pytest.raises(ArgumentError, match="dropout"):
        sdpa(x, x, x, dropout_p=-0.1)
    with pytest.raises(ShapeError, match="Hq a multiple of H"):
        sdpa(tg.ones(4, 2, 3), tg.ones(3, 2, 3), tg.ones(3, 2, 3), enable_gqa=True)
    with pytest.raises(ShapeError, match="Hq a multiple of H"):
        sdpa(tg.ones(2, 3), tg.ones(2, 3), tg.ones(2, 3), enable_gqa=True)


# ---- additive and multiplicative scores ----------------------------------------------------------

N, S, L = 2, 5, 3


def additive(q, k, v, weight):
    scores = np.tanh(q[:, :, None] + k[:, None]) @ weight
    return softmax(scores) @ v, softmax(scores)


def test_additive_attention_is_bahdanaus():
    arrays = random(N, L, 4), random(N, S, 4, seed=1), random(N, S, 6, seed=2), random(4, seed=3)
    made = F.additive_attention(*map(tg.tensor, arrays))
    for y, expected in zip(made, additive(*arrays)):
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5)


def test_dot_attention_is_luongs():
    q, k, v = random(N, L, 4), random(N, S, 4, seed=1), random(N, S, 6, seed=2)
    weights = softmax(0.5 * q @ k.swapaxes(1, 2))
    made = F.dot_attention(*map(tg.tensor, (q, k, v)), scale=0.5)
    np.testing.assert_allclose(made[0].numpy(), weights @ v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made[1].numpy(), weights, rtol=1e-5)


LAYERS = {
    "additive": lambda **where: tg.nn.AdditiveAttention(4, 6, hidden_dim=7, bias=True, **where),
    "dot": lambda **where: tg.nn.LuongAttention(6, **where),
    "general": lambda **where: tg.nn.LuongAttention(4, 6, method="general", **where),
    "concat": lambda **where: tg.nn.LuongAttention(4, 6, method="concat", hidden_dim=7, **where),
}
layers = pytest.mark.parametrize("name", LAYERS)


def inputs(name, *axes):
    return random(N, *axes, 6 if name == "dot" else 4), random(N, S, 6, seed=1), np.arange(S) >= np.array([[S], [2]])


@layers
def test_one_step_of_a_decoder_is_one_query(name):
    layer = LAYERS[name](dtype=np.float64)
    query, key, padding = map(tg.from_numpy, inputs(name, L))
    context, weights = layer(query, key, key_padding_mask=padding)
    assert (context.shape, weights.shape) == ((N, L, 6), (N, L, S))
    for step in range(L):
        once = layer(query[:, step], key, key_padding_mask=padding)
        for alone, whole in zip(once, (context, weights)):
            np.testing.assert_allclose(alone.detach().numpy(), whole.detach().numpy()[:, step], rtol=1e-12)


@layers
def test_padded_keys_have_no_weight_and_no_influence(name):
    layer = LAYERS[name](dtype=np.float64)
    query, key, padding = inputs(name)
    changed = np.where(padding[..., None], 100.0, key)
    made = [layer(*map(tg.from_numpy, (query, k)), key_padding_mask=tg.from_numpy(padding)) for k in (key, changed)]
    np.testing.assert_allclose(made[0][0].detach().numpy(), made[1][0].detach().numpy(), rtol=1e-12)
    weights = made[0][1].detach().numpy()
    assert (weights[padding] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1.0)


@layers
def test_where_all_is_padding_the_context_is_0(name):
    query, key, _ = inputs(name)
    context, weights = LAYERS[name](dtype=np.float64)(
        *map(tg.from_numpy, (query, key)), key_padding_mask=tg.ones(N, S, dtype=bool)
    )
    assert not context.detach().numpy().any() and not weights.detach().numpy().any()


@layers
def test_gradients_of_layers(name):
    layer = LAYERS[name](dtype=np.float64)
    query, key, padding = inputs(name, L)

    names = [name for name, _ in layer.named_parameters()]

    def context(query, key, value, *parameters):
        return functional_call(layer, dict(zip(names, parameters)), (query, key, value, tg.from_numpy(padding)))[0]

    assert gradcheck(context, (*tensors(query, key, random(N, S, 3, seed=5)), *layer.parameters()))


@layers
def test_layers_run_as_on_a_gpu(name):
    layer = LAYERS[name](device="strict")
    query, key, padding = (
        tg.tensor(a, device="strict", dtype=np.float32 if a.dtype.kind == "f" else a.dtype) for a in inputs(name)
    )
    with strict.watch() as events:
        context, _ = layer(query.requires_grad_(), key, key_padding_mask=padding)
        context.sum().backward()
    assert not events
    assert context.dtype == np.float32 and query.grad.dtype == np.float32


def test_the_scores_of_luong():
    query, key, _ = inputs("general")
    q, k = tg.from_numpy(query), tg.from_numpy(key)
    general = LAYERS["general"](dtype=np.float64)
    scores = np.einsum("ni,ij,nsj->ns", query, general.weight.detach().numpy(), key)
    np.testing.assert_allclose(general(q, k)[1].detach().numpy(), softmax(scores), rtol=1e-12)
    concat = LAYERS["concat"](dtype=np.float64)
    both = np.concatenate([np.broadcast_to(query[:, None], (N, S, 4)), key], -1)
    scores = np.tanh(both @ concat.weight.detach().numpy().T) @ concat.v.detach().numpy()
    np.testing.assert_allclose(concat(q, k)[1].detach().numpy(), softmax(scores), rtol=1e-12)


def test_the_scores_of_bahdanau_and_keys_projected_once():
    layer = LAYERS["additive"](dtype=np.float64)
    query, key, _ = inputs("additive")
    by_name = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    met = (query @ by_name["query_proj.weight"].T)[:, None] + key @ by_name["key_proj.weight"].T + by_name["key_proj.bias"]
    q, k = tg.from_numpy(query), tg.from_numpy(key)
    for given in (None, layer.key_proj(k)):
        weights = layer(q, k, projected_key=given)[1].detach().numpy()
        np.testing.assert_allclose(weights, softmax(np.tanh(met) @ by_name["weight"]), rtol=1e-12)


def test_settings_of_layers_show_and_are_checked():
    assert repr(LAYERS["concat"]()) == "LuongAttention(4, 6, method='concat', hidden_dim=7)"
    assert repr(LAYERS["dot"]()) == "LuongAttention(6, 6, method='dot')"
    assert repr(LAYERS["additive"]()).startswith("AdditiveAttention(\n  4, 6, hidden_dim=7\n")
    with pytest.raises(ArgumentError, match="dot, general or concat"):
        tg.nn.LuongAttention(4, method="sum")
    with pytest.raises(ArgumentError, match="for the method dot"):
        tg.nn.LuongAttention(4, 6)


# ---- several heads -------------------------------------------------------------------------------


@pytest.mark.parametrize("need", [True, False])
def test_several_heads_run_as_on_a_gpu(need):
    layer = tg.nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True, device="strict")
    x = tg.tensor(random(3, 5, 8), device="strict", dtype=np.float32)
    padding = tg.tensor(np.arange(5) > np.array([[4], [3], [2]]), device="strict")
    mask = tg.tensor(np.triu(np.ones((5, 5), bool), 1), device="strict")
    with strict.watch() as events:
        y, _ = layer(x, x, x, key_padding_mask=padding, attn_mask=mask, need_weights=need)
        y.sum().backward()
    assert not events and y.dtype == np.float32


def test_dropout_of_heads_acts_in_training_only():
    layer, x = tg.nn.MultiheadAttention(8, 2, dropout=0.5), tg.tensor(random(5, 3, 8), dtype=np.float32)
    training = layer(x, x, x)[1].detach().numpy()
    assert (training == 0).any()
    evaluated = layer.eval()(x, x, x)[1].detach().numpy()
    np.testing.assert_allclose(evaluated.sum(-1), 1.0, rtol=1e-5)


def test_what_several_heads_refuse():
    layer, x = tg.nn.MultiheadAttention(8, 2), tg.ones(5, 3, 8)
    refused = [
        (ShapeError, "without N|\\(L, N, E\\)", (tg.ones(8), x, x), {}),
        (ShapeError, "multiple of num_heads", (tg.ones(5, 3, 6), x, x), {}),
        (ShapeError, "key \\(S, N, Ek\\)", (x, x, x[1:]), {}),
        (ShapeError, "key \\(S, N, Ek\\)", (x, x[:, 1:], x[:, 1:]), {}),
        (ShapeError, "key_padding_mask \\(3, 5\\)", (x, x, x), {"key_padding_mask": tg.ones(5, 3, dtype=bool)}),
        (ShapeError, "attn_mask \\(5, 5\\) or \\(6, 5, 5\\)", (x, x, x), {"attn_mask": tg.ones(3, 5, 5, dtype=bool)}),
        (DtypeError, "attn_mask", (x, x, x), {"attn_mask": tg.ones(5, 5, dtype=np.int64)}),
        (ArgumentError, "generate_square_subsequent_mask", (x, x, x), {"is_causal": True}),
    ]
    for kind, message, given, settings in refused:
        with pytest.raises(kind, match=message):
            layer(*given, **settings)
    with pytest.raises(ArgumentError, match="multiple of num_heads"):
        tg.nn.MultiheadAttention(8, 3)


def test_shapes_are_refused_in_japanese_too(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    layer, x = tg.nn.MultiheadAttention(8, 2), tg.ones(5, 3, 8)
    for given, mask in (((tg.ones(8), x, x), None), ((x, x, x), tg.ones(3, 3, dtype=bool))):
        with pytest.raises(ShapeError, match="または") as caught:
            layer(*given, attn_mask=mask)
        assert " or " not in str(caught.value)


def test_weights_of_their_own_must_be_given():
    x = tg.ones(5, 3, 8)
    with pytest.raises(ArgumentError, match="k_proj_weight"):
        F.multi_head_attention_forward(
            *[x] * 3,
            8,
            2,
            None,
            None,
            None,
            None,
            False,
            0.0,
            tg.ones(8, 8),
            None,
            use_separate_proj_weight=True,
            q_proj_weight=tg.ones(8, 8),
        )
    with pytest.raises(ArgumentError, match="bias_k and bias_v together"):
        F.multi_head_attention_forward(
            *[x] * 3, 8, 2, tg.ones(24, 8), None, tg.ones(1, 1, 8), None, False, 0.0, tg.ones(8, 8), None
        )
    with pytest.raises(ShapeError, match=r"static_k \(6, S, 4\)"):
        F.multi_head_attention_forward(
            *[x] * 3, 8, 2, tg.ones(24, 8), None, None, None, False, 0.0, tg.ones(8, 8), None, static_k=tg.ones(3, 5, 4)
        )


def test_a_mask_of_integers_is_told_to_become_bool() -> None:
    layer, x = tg.nn.MultiheadAttention(4, 2, batch_first=True), tg.randn(1, 3, 4)
    with pytest.raises(tg.errors.DtypeError, match=r"x.to\(tg.bool\)"):
        layer(x, x, x, key_padding_mask=tg.tensor([[0, 0, 1]]))
