"""autocast against PyTorch's lists for CUDA, as its header has them: what runs in float16, in float32, in the widest dtype of its inputs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.amp import policy
from tinygrad_ja.core.operator import OPERATORS

F, linalg = nn.functional, tg.linalg


def numbers(dtype, *shape):
    return tg.tensor(np.random.default_rng(0).uniform(0.1, 0.9, shape), dtype=dtype)


def half(*shape):
    return numbers(tg.float16, *shape)


def single(*shape):
    return numbers(tg.float32, *shape)


def enlarged(mode, dims, **options):
    return lambda: F.interpolate(half(1, 1, *(4,) * dims), scale_factor=0.5, mode=mode, **options)


def of_a_matrix(*names):
    return {name: lambda name=name: getattr(tg, name)(half(2, 3)) for name in names}


ONES = tg.tensor([1, -1])
CLASSES = tg.tensor([0, 1])

LOWER = {
    "conv1d": lambda: F.conv1d(single(1, 2, 5), single(3, 2, 3), single(3)),
    "conv2d": lambda: F.conv2d(single(1, 2, 5, 5), single(3, 2, 3, 3)),
    "conv3d": lambda: F.conv3d(single(1, 2, 4, 4, 4), single(3, 2, 3, 3, 3)),
    "conv_transpose1d": lambda: F.conv_transpose1d(single(1, 2, 5), single(2, 3, 3)),
    "conv_transpose2d": lambda: F.conv_transpose2d(single(1, 2, 5, 5), single(2, 3, 3, 3), single(3)),
    "conv_transpose3d": lambda: F.conv_transpose3d(single(1, 2, 3, 3, 3), single(2, 3, 3, 3, 3)),
    "prelu": lambda: F.prelu(single(2, 3), single(3)),
    "addmm": lambda: tg.addmm(single(2, 2), single(2, 3), single(3, 2)),
    "addmv": lambda: tg.addmv(single(2), single(2, 3), single(3)),
    "addr": lambda: tg.addr(single(2, 3), single(2), single(3)),
    "matmul": lambda: single(2, 3) @ single(3, 2),
    "einsum": lambda: tg.einsum("ij,jk->ik", single(2, 3), single(3, 2)),
    "mm": lambda: tg.mm(single(2, 3), single(3, 2)),
    "mv": lambda: tg.mv(single(2, 3), single(3)),
    "linalg_vecdot": lambda: linalg.vecdot(single(2, 3), single(2, 3)),
    "linear": lambda: F.linear(single(2, 3), single(4, 3), single(4)),
    "addbmm": lambda: tg.addbmm(single(2, 2), single(4, 2, 3), single(4, 3, 2)),
    "baddbmm": lambda: tg.baddbmm(single(4, 2, 2), single(4, 2, 3), single(4, 3, 2)),
    "bmm": lambda: tg.bmm(single(4, 2, 3), single(4, 3, 2)),
    "linalg_multi_dot": lambda: linalg.multi_dot([single(2, 3), single(3, 2), single(2, 4)]),
    "lstm_cell": lambda: nn.LSTMCell(3, 2)(single(4, 3))[0],
    "gru_cell": lambda: nn.GRUCell(3, 2)(single(4, 3)),
    "rnn_tanh_cell": lambda: nn.RNNCell(3, 2)(single(4, 3)),
    "rnn_relu_cell": lambda: nn.RNNCell(3, 2, nonlinearity="relu")(single(4, 3)),
    "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(single(2, 3), single(4, 3), single(4, 2)),
    # layers that PyTorch treats outside of its list
    "LSTM": lambda: nn.LSTM(3, 2)(single(4, 1, 3))[0],
    "GRU": lambda: nn.GRU(3, 2)(single(4, 1, 3))[0],
    "RNN": lambda: nn.RNN(3, 2)(single(4, 1, 3))[0],
}
FLOAT32 = {
    **of_a_matrix("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt"),
    **of_a_matrix("sinh", "tan", "sum", "prod", "norm"),
    "pow": lambda: half(2) ** 2,
    "pow of a number": lambda: 2 ** half(2),
    "pow of tensors": lambda: half(2) ** half(2),
    "a number over": lambda: 1 / half(2),
    "softplus": lambda: F.softplus(half(2)),
    "layer_norm": lambda: F.layer_norm(half(2, 3), (3,), single(3), single(3)),
    "rms_norm": lambda: F.rms_norm(half(2, 3), (3,), single(3)),
    "group_norm": lambda: F.group_norm(half(2, 4, 3), 2, single(4)),
    "frobenius_norm": lambda: linalg.norm(half(2, 3), "fro"),
    "nuclear_norm": lambda: linalg.norm(half(2, 3), "nuc"),
    "cosine_similarity": lambda: F.cosine_similarity(half(2, 3), half(2, 3)),
    "poisson_nll_loss": lambda: F.poisson_nll_loss(half(3), half(3)),
    "cosine_embedding_loss": lambda: F.cosine_embedding_loss(half(2, 3), half(2, 3), ONES),
    "nll_loss": lambda: F.nll_loss(half(2, 3), CLASSES),
    "nll_loss2d": lambda: F.nll_loss(half(1, 3, 1, 2), CLASSES.reshape(1, 1, 2)),
    "hinge_embedding_loss": lambda: F.hinge_embedding_loss(half(2), ONES),
    "kl_div": lambda: F.kl_div(half(3), half(3), reduction="none"),
    "l1_loss": lambda: F.l1_loss(half(3), half(3)),
    "smooth_l1_loss": lambda: F.smooth_l1_loss(half(3), half(3)),
    "huber_loss": lambda: F.huber_loss(half(3), half(3)),
    "mse_loss": lambda: F.mse_loss(half(3), half(3), reduction="none"),
    "margin_ranking_loss": lambda: F.margin_ranking_loss(half(2), half(2), ONES),
    "multilabel_margin_loss": lambda: F.multilabel_margin_loss(half(2), tg.tensor([0, -1])),
    "soft_margin_loss": lambda: F.soft_margin_loss(half(2), ONES),
    "triplet_margin_loss": lambda: F.triplet_margin_loss(half(2, 3), half(2, 3), half(2, 3)),
    "multi_margin_loss": lambda: F.multi_margin_loss(half(2, 3), CLASSES),
    "binary_cross_entropy_with_logits": lambda: F.binary_cross_entropy_with_logits(half(2), half(2)),
    "dist": lambda: tg.dist(half(2), half(2)),
    "pdist": lambda: F.pdist(half(3, 2)),
    "cdist": lambda: tg.cdist(half(3, 2), half(2, 2)),
    "renorm": lambda: tg.renorm(half(2, 3), 2, 0, 0.5),
    "logsumexp": lambda: tg.logsumexp(half(2, 3), 0),
    "upsample_nearest1d": enlarged("nearest", 1),
    "_upsample_nearest_exact1d": enlarged("nearest-exact", 1),
    "upsample_nearest2d": enlarged("nearest", 2),
    "_upsample_nearest_exact2d": enlarged("nearest-exact", 2),
    "upsample_nearest3d": enlarged("nearest", 3),
    "_upsample_nearest_exact3d": enlarged("nearest-exact", 3),
    "upsample_linear1d": enlarged("linear", 1),
    "upsample_bilinear2d": enlarged("bilinear", 2),
    "_upsample_bilinear2d_aa": enlarged("bilinear", 2, antialias=True),
    "upsample_trilinear3d": enlarged("trilinear", 3),
    "upsample_bicubic2d": enlarged("bicubic", 2),
    "_upsample_bicubic2d_aa": enlarged("bicubic", 2, antialias=True),
    "softmax": lambda: tg.softmax(half(2, 3), 0),
    "softmin": lambda: F.softmin(half(2, 3), 0),
    "log_softmax": lambda: tg.log_softmax(half(2, 3), 0),
    "cumprod": lambda: tg.cumprod(half(2, 3), 0),
    "cumsum": lambda: tg.cumsum(half(2, 3), 0),
    "linalg_vector_norm": lambda: linalg.vector_norm(half(2, 3)),
    "linalg_matrix_norm": lambda: linalg.matrix_norm(half(2, 3), 2),
    "cross_entropy": lambda: F.cross_entropy(half(2, 3), CLASSES),
    "cross entropy of probabilities": lambda: F.cross_entropy(half(2, 3), half(2, 3)),
}
WIDEST = {
    "addcdiv": lambda narrow, wide: tg.addcdiv(narrow(2), wide(2), wide(2)),
    "addcmul": lambda narrow, wide: tg.addcmul(narrow(2), narrow(2), wide(2)),
    "atan2": lambda narrow, wide: tg.atan2(wide(2), narrow(2)),
    "bilinear": lambda narrow, wide: F.bilinear(narrow(2, 3), wide(2, 3), narrow(4, 3, 3)),
    "cross": lambda narrow, wide: tg.cross(narrow(2, 3), wide(2, 3)),
    "dot": lambda narrow, wide: tg.dot(narrow(2), wide(2)),
    "vdot": lambda narrow, wide: tg.vdot(wide(2), narrow(2)),
    "grid_sampler": lambda narrow, wide: F.grid_sample(narrow(1, 1, 3, 3), wide(1, 2, 2, 2), align_corners=True),
    "index_put": lambda narrow, wide: tg.index_put(narrow(3), (CLASSES,), wide(2)),
    "tensordot": lambda narrow, wide: tg.tensordot(narrow(2, 3), wide(3, 2), 1),
    "scatter_add": lambda narrow, wide: tg.scatter_add(narrow(3), 0, CLASSES, wide(2)),
}
AS_GIVEN = {
    **of_a_matrix("mean", "var", "std", "tanh", "sigmoid", "sqrt", "square", "amax", "cos", "erf", "exp2", "relu"),
    "gelu": lambda: F.gelu(half(2)),
    "max_pool1d": lambda: F.max_pool1d(half(1, 2, 4), 2),
    "avg_pool1d": lambda: F.avg_pool1d(half(1, 2, 4), 2),
    "batch_norm": lambda: F.batch_norm(half(2, 3), single(3), single(3), single(3), single(3), True),
    "instance_norm": lambda: F.instance_norm(half(2, 3, 4)),
    "interpolate by area": enlarged("area", 1),
    "embedding": lambda: F.embedding(CLASSES, half(2, 3)),
}
NOT_HERE = {"chain_matmul", "conv_tbc"}
"""Functions of PyTorch's lists that this framework has not."""


def names_in_header(policy_name):
    header = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
    block = re.search(rf"#define AT_FORALL_{policy_name}\(_\)(.*?)\n\n", header.read_text(), re.DOTALL)
    return set(re.findall(r"_\((\w+)", block.group(1)))


@pytest.mark.parametrize(
    "policy_name, cases",
    [("LOWER_PRECISION_FP", LOWER), ("FP32", FLOAT32), ("FP32_SET_OPT_DTYPE", FLOAT32), ("PROMOTE", WIDEST)],
)
def test_every_name_of_pytorchs_lists_is_tested_here(policy_name, cases):
    internal = {"_convolution", "convolution", "native_layer_norm"}
    ours = {name for name in names_in_header(policy_name) if not re.match(r"_thnn|_scaled|.*_flash", name)}
    assert ours - internal - NOT_HERE <= set(cases)
    assert not [name for name in NOT_HERE if hasattr(tg, name) or hasattr(F, name)]


def dtype_under_autocast(call):
    with tg.autocast("cpu", dtype=tg.float16):
        return call().dtype


@pytest.mark.parametrize("name", LOWER)
def test_float32_becomes_float16(name):
    assert dtype_under_autocast(LOWER[name]) == tg.float16


@pytest.mark.parametrize("name", FLOAT32)
def test_float16_becomes_float32(name):
    assert dtype_under_autocast(FLOAT32[name]) == tg.float32


@pytest.mark.parametrize("name", WIDEST)
def test_the_widest_dtype_wins(name):
    for narrow, wide, expected in ((half, single, tg.float32), (half, half, tg.float16), (single, half, tg.float32)):
        assert dtype_under_autocast(lambda: WIDEST[name](narrow, wide)) == expected  # noqa: B023


@pytest.mark.parametrize("name", AS_GIVEN)
def test_float16_stays(name):
    assert dtype_under_autocast(AS_GIVEN[name]) == tg.float16


def test_the_lists_name_operators_that_exist_once():
    listed = policy.LOWER + policy.FLOAT32
    assert len(set(listed)) == len(listed) and set(listed) <= set(OPERATORS)
