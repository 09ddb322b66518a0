"""Attention against PyTorch: values, gradients, dtypes, masks, what is refused; layers with PyTorch's weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, THEIRS, compare, random

import tinygrad_ja as tg

TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def attend(**settings):
    return lambda side, query, key, value, *mask: side.F.scaled_dot_product_attention(query, key, value, *mask, **settings)


def qkv(query=(2, 3, 4, 5), key=(2, 3, 6, 5), value=(2, 3, 6, 7), dtype=np.float64):
    return [random(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate((query, key, value))]


def bool_mask(*shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.6


def float_mask(*shape, seed=0):
    return np.where(bool_mask(*shape, seed=seed), random(*shape, seed=seed), -np.inf)


# ---- scaled dot products -------------------------------------------------------------------------

SHAPES = {
    "four axes": ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
    "three axes": ((2, 4, 5), (2, 6, 5), (2, 6, 5)),
    "two axes": ((4, 5), (6, 5), (6, 5)),
    "five axes": ((2, 1, 2, 4, 5), (2, 1, 2, 4, 5), (2, 1, 2, 4, 5)),
    "one key for all": ((2, 3, 4, 5), (1, 1, 6, 5), (1, 1, 6, 5)),
    "batches that broadcast": ((2, 1, 4, 5), (1, 3, 6, 5), (2, 3, 6, 5)),
    "one query": ((2, 3, 1, 5), (2, 3, 6, 5), (2, 3, 6, 5)),
    "no query": ((2, 3, 0, 5), (2, 3, 6, 5), (2, 3, 6, 5)),
    "no key": ((2, 3, 4, 5), (2, 3, 0, 5), (2, 3, 0, 5)),
    "no batch": ((0, 3, 4, 5), (0, 3, 6, 5), (0, 3, 6, 5)),
    "no feature": ((2, 4, 0), (2, 6, 0), (2, 6, 3)),
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("causal", [False, True])
def test_shapes(shapes, causal):
    compare(attend(is_causal=causal), *qkv(*shapes), **TIGHT)


@pytest.mark.parametrize("scale", [None, 1.0, 0.3, -0.7, 0.0])
def test_scale(scale):
    compare(attend(scale=scale), *qkv(), **TIGHT)


MASKS = [(4, 6), (1, 6), (4, 1), (3, 4, 6), (2, 1, 4, 6), (2, 1, 1, 6), (2, 3, 4, 6), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", MASKS)
def test_bool_masks(shape):
    compare(attend(), *qkv(), bool_mask(*shape), **TIGHT)


@pytest.mark.parametrize("shape", MASKS)
def test_float_masks_and_their_gradients(shape):
    compare(attend(), *qkv(), float_mask(*shape), **TIGHT)


@pytest.mark.parametrize(
    "mask", [np.zeros((4, 6), bool), np.full((4, 6), -np.inf), np.eye(4, 6, dtype=bool)[::-1] & (np.arange(6) > 1)]
)
def test_queries_that_may_look_at_nothing_give_0(mask):
    compare(attend(), *qkv(), mask, **TIGHT)


@pytest.mark.parametrize("heads", [(4, 2, 2), (4, 1, 1), (4, 4, 4), (4, 2, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_queries(heads, masked):
    arrays = qkv(*[(2, h, n, 5) for h, n in zip(heads, (3, 6, 6))])
    compare(attend(enable_gqa=True), *arrays, *([float_mask(4, 3, 6)] if masked else []), **TIGHT)


@pytest.mark.parametrize(
    "mask", [None, bool_mask(4, 6), float_mask(4, 6).astype(np.float16), float_mask(4, 6).astype(np.float32)]
)
def test_half_precision(mask):
    arrays = qkv(dtype=np.float16)
    compare(attend(), *arrays, *([] if mask is None else [mask]), rtol=4e-3, atol=2e-3)


@pytest.mark.parametrize("mask", [None, bool_mask(4, 6), float_mask(4, 6).astype(np.float32)])
def test_single_precision(mask):
    compare(attend(), *qkv(dtype=np.float32), *([] if mask is None else [mask]), rtol=2e-5, atol=2e-6)


def test_a_single_mask_for_double_queries():
    compare(attend(), *qkv(), float_mask(4, 6).astype(np.float32), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("size", [10.0, 100.0, 1e4])
def test_large_scores(size):
    query, key, value = qkv()
    compare(attend(scale=1.0), query * size, key, value, rtol=1e-8, atol=1e-8 * size)


def test_a_batch_large_enough_for_blocks_and_threads():
    shapes = [(8, 4, 40, 8), (8, 4, 50, 8), (8, 4, 50, 6)]
    for mask in ([], [float_mask(40, 50)], [float_mask(8, 1, 1, 50)]):
        compare(attend(), *qkv(*shapes), *mask, **TIGHT)


def test_dropout_of_everything_and_of_nothing():
    compare(attend(dropout_p=1.0), *qkv())
    compare(attend(dropout_p=0.0), *qkv())


def test_second_derivatives():
    arrays, mask = qkv(), bool_mask(4, 6)
    mask[1] = False
    made = []
    for side, grad in ((OURS, tg.grad), (THEIRS, torch.autograd.grad)):
        inputs = [side.tensor(a).requires_grad_() for a in arrays]
        if side is THEIRS:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                y = side.F.scaled_dot_product_attention(*inputs, attn_mask=side.tensor(mask))
        else:
            y = side.F.scaled_dot_product_attention(*inputs, attn_mask=side.tensor(mask))
        first = grad((y * y * y).sum(), inputs, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), inputs)
        made.append([t.detach().numpy() for t in (*first, *second)])
    for a, b in zip(*made):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


BAD = {
    "one axis": lambda side: ([side.tensor(np.ones(3))] * 3, {}),
    "features differ": lambda side: ([side.tensor(np.ones(s)) for s in ((2, 3), (2, 4), (2, 4))], {}),
    "lengths differ": lambda side: ([side.tensor(np.ones(s)) for s in ((2, 3), (4, 3), (5, 3))], {}),
    "integers": lambda side: ([side.tensor(np.ones((2, 3), np.int64))] * 3, {}),
    "dtypes differ": lambda side: ([side.tensor(np.ones((2, 3), d)) for d in (np.float32, np.float64, np.float64)], {}),
    "mask and causal": lambda side: (
        [side.tensor(np.ones((2, 3)))] * 3,
        {"attn_mask": side.tensor(np.ones((2, 2), bool)), "is_causal": True},
    ),
    "mask of a wrong shape": lambda side: (
        [side.tensor(np.ones((2, 3)))] * 3,
        {"attn_mask": side.tensor(np.ones((2, 3), bool))},
    ),
    "mask that would enlarge": lambda side: (
        [side.tensor(np.ones((2, 3)))] * 3,
        {"attn_mask": side.tensor(np.ones((4, 2, 2), bool))},
    ),
    "integer mask": lambda side: ([side.tensor(np.ones((2, 3)))] * 3, {"attn_mask": side.tensor(np.ones((2, 2), np.int64))}),
    "double mask": lambda side: ([side.tensor(np.ones((2, 3), np.float32))] * 3, {"attn_mask": side.tensor(np.ones((2, 2)))}),
    "dropout": lambda side: ([side.tensor(np.ones((2, 3)))] * 3, {"dropout_p": 1.5}),
    "heads do not divide": lambda side: (
        [side.tensor(np.ones(s)) for s in ((4, 2, 3), (3, 2, 3), (3, 2, 3))],
        {"enable_gqa": True},
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_both_refuse(name):
    for side, kind in ((THEIRS, (RuntimeError, AssertionError)), (OURS, tg.errors.TinygradError)):
        tensors, settings = BAD[name](side)
        with pytest.raises(kind):
            side.F.scaled_dot_product_attention(*tensors, **settings)


# ---- several heads -------------------------------------------------------------------------------


def heads_call(**settings):
    """multi_head_attention_forward of E = 6 in 2 heads."""

    def call(side, query, key, value, *rest):
        names = [name for name in settings if settings[name] is Ellipsis]
        given = {**settings, **dict(zip(names, rest))}
        positional = [
            given.pop(name, default)
            for name, default in [
                ("in_proj_weight", None),
                ("in_proj_bias", None),
                ("bias_k", None),
                ("bias_v", None),
                ("add_zero_attn", False),
                ("dropout_p", 0.0),
                ("out_proj_weight", None),
                ("out_proj_bias", None),
            ]
        ]
        made = side.F.multi_head_attention_forward(query, key, value, 6, 2, *positional, **given)
        return [y for y in made if y is not None]

    return call


WEIGHTS = {
    "in_proj_weight": random(18, 6, seed=10),
    "in_proj_bias": random(18, seed=11),
    "out_proj_weight": random(6, 6, seed=12),
    "out_proj_bias": random(6, seed=13),
}
INPUTS = [random(*shape, seed=seed) for seed, shape in enumerate([(4, 3, 6), (5, 3, 6), (5, 3, 6)])]


def compare_heads(inputs=INPUTS, weights=WEIGHTS, arrays=None, **settings):
    arrays = {**weights, **(arrays or {})}
    compare(heads_call(**dict.fromkeys(arrays, ...), **settings), *inputs, *arrays.values(), **TIGHT)


@pytest.mark.parametrize("need, average", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("bias_kv, zero", list(itertools.product([False, True], repeat=2)))
def test_heads_with_further_keys(need, average, bias_kv, zero):
    more = {"bias_k": random(1, 1, 6, seed=20), "bias_v": random(1, 1, 6, seed=21)} if bias_kv else {}
    for mask in ({}, {"key_padding_mask": bool_mask(3, 5)}, {"attn_mask": float_mask(4, 5, seed=1)}):
        if need and "attn_mask" in mask:
            mask["attn_mask"][:, 0] = 0.0
        if need and "key_padding_mask" in mask:
            mask["key_padding_mask"][:, 0] = False
        compare_heads(arrays={**more, **mask}, need_weights=need, average_attn_weights=average, add_zero_attn=zero)


@pytest.mark.parametrize("need", [True, False])
@pytest.mark.parametrize("padding", [None, bool_mask(3, 5), random(3, 5, seed=3)], ids=["none", "bool", "float"])
@pytest.mark.parametrize("mask", [None, bool_mask(4, 5), random(4, 5, seed=4), bool_mask(6, 4, 5), random(6, 4, 5)])
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_heads_with_masks(need, padding, mask):
    masks = {"key_padding_mask": padding, "attn_mask": mask}
    masks = {name: np.array(a) for name, a in masks.items() if a is not None}
    for a in masks.values():
        a[..., 0] = 0  # PyTorch gives NaN where all is masked and the weights are wanted
    compare_heads(arrays=masks, need_weights=need)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_heads_where_all_is_masked():
    masks = {"key_padding_mask": np.array([[True] * 5, [False] * 5, [False] * 5])}
    compare_heads(arrays=masks, need_weights=False)
    made = []
    for side in (OURS, THEIRS):
        arrays = [side.tensor(a) for a in (*INPUTS, *WEIGHTS.values(), *masks.values())]
        y, _ = heads_call(**dict.fromkeys([*WEIGHTS, *masks], ...))(side, *arrays)
        made.append(np.isnan(y.numpy()))
    assert made[0].any()
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("need", [True, False])
def test_heads_with_static_keys(need):
    static = {"static_k": random(6, 7, 3, seed=30), "static_v": random(6, 7, 3, seed=31)}
    compare_heads(arrays=static, need_weights=need)
    compare_heads(
        arrays={**static, "key_padding_mask": np.arange(21).reshape(3, 7) % 3 == 1}, need_weights=need, add_zero_attn=False
    )


def test_heads_with_separate_weights():
    inputs = [random(*shape, seed=seed) for seed, shape in enumerate([(4, 3, 6), (5, 3, 2), (5, 3, 7)])]
    weights = {name: random(6, n, seed=n) for name, n in [("q_proj_weight", 6), ("k_proj_weight", 2), ("v_proj_weight", 7)]}
    for bias in ({}, {"in_proj_bias": WEIGHTS["in_proj_bias"]}):
        out = {"out_proj_weight": WEIGHTS["out_proj_weight"]}
        compare_heads(inputs, {**weights, **bias, **out}, use_separate_proj_weight=True)


def test_heads_without_a_batch():
    inputs = [x[:, 0] for x in INPUTS]
    for masks in ({}, {"key_padding_mask": np.arange(5) > 3}, {"attn_mask": random(2, 4, 5)}):
        compare_heads(inputs, arrays=masks)
        compare_heads(inputs, arrays=masks, need_weights=False)


@pytest.mark.parametrize("need", [True, False])
def test_the_causal_hint(need):
    causal = np.where(np.tri(4, 4, dtype=bool), 0.0, -np.inf)
    inputs = [x[:4] for x in INPUTS]
    compare_heads(inputs, arrays={"attn_mask": causal}, is_causal=True, need_weights=need)
    padding = np.array([[False] * 4, [False] * 4, [False, False, True, True]])
    masks = {"attn_mask": causal != 0, "key_padding_mask": padding}
    compare_heads(inputs, arrays=masks, is_causal=True, need_weights=need)


@pytest.mark.parametrize("same", ["qkv", "kv", "qk", "none"])
def test_the_same_tensor_for_several_inputs(same):
    x, y, z = (random(4, 3, 6, seed=seed) for seed in range(3))

    def call(side, x, y, z, *weights):
        inputs = {"qkv": (x, x, x), "kv": (x, y, y), "qk": (x, x, z), "none": (x, y, z)}[same]
        made = heads_call(**dict.fromkeys(WEIGHTS, ...))(side, *inputs, *weights)
        return [*made, y * 1, z * 1]

    compare(call, x, y, z, *WEIGHTS.values(), **TIGHT)


# ---- the layer -----------------------------------------------------------------------------------

LAYERS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "without bias": {"bias": False},
    "bias_kv and zeros": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "other features": {"kdim": 3, "vdim": 5},
    "one head": {"num_heads": 1},
}


@pytest.mark.parametrize("settings", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("need", [True, False])
def test_layer(settings, training, need):
    settings = {"embed_dim": 6, "num_heads": 2, **settings}
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(**settings).double().train(training)
    mine = tg.nn.MultiheadAttention(**settings).double().train(training)
    assert [(n, tuple(v.shape)) for n, v in mine.state_dict().items()] == [
        (n, tuple(v.shape)) for n, v in theirs.state_dict().items()
    ]
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert repr(mine) == repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")
    mine.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    first = settings.get("batch_first", False)
    shapes = [(4, 3, 6), (5, 3, settings.get("kdim", 6)), (5, 3, settings.get("vdim", 6))]
    arrays = [random(*((n, t, f) if first else (t, n, f)), seed=seed) for seed, (t, n, f) in enumerate(shapes)]
    padding = np.arange(15).reshape(3, 5) % 4 == 3
    made = []
    for lib, layer in ((tg, mine), (torch, theirs)):
        inputs = [lib.tensor(a).requires_grad_() for a in arrays]
        y, weights = layer(*inputs, key_padding_mask=lib.tensor(padding), need_weights=need)
        loss = (y * y).sum() + (weights * weights).sum() if need else (y * y).sum()
        loss.backward()
        grads = [p.grad.numpy() for p in layer.parameters()] + [x.grad.numpy() for x in inputs]
        made.append([y.detach().numpy(), *grads] + ([weights.detach().numpy()] if need else []))
    for a, b in zip(*made):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_initial_values_have_the_same_distribution():
    mine, theirs = tg.nn.MultiheadAttention(64, 4, add_bias_kv=True), torch.nn.MultiheadAttention(64, 4, add_bias_kv=True)
    for (name, p), (_, q) in zip(mine.named_parameters(), theirs.named_parameters()):
        a, b = p.detach().numpy(), q.detach().numpy()
        assert a.std() == pytest.approx(b.std(), rel=0.05 if a.size > 1000 else 0.5), name
        if a.size > 1000:
            assert abs(a).max() == pytest.approx(abs(b).max(), rel=0.02), name
