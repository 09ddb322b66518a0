"""A batch normalization merged into the layer before it computes what both did."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.nn import utils


def trained(bn):
    """The normalization in float64 with random parameters and statistics, in evaluation."""
    rng = np.random.default_rng(0)
    bn.double().eval()
    for value in [*bn.parameters(), *bn.buffers()]:
        if value.dtype == tg.float64:
            value.array[...] = rng.uniform(0.5, 2.0, value.shape)
    return bn


def random(*shape):
    return tg.from_numpy(np.random.default_rng(1).normal(size=shape))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("features", [4, 1])
def test_an_affine_layer(bias, affine, features):
    linear = tg.nn.Linear(3, 4, bias=bias).double().eval()
    bn = trained(tg.nn.BatchNorm1d(features, affine=affine))
    x = random(5, 3)
    y = linear(x)
    expected = bn(y) if features == 4 else bn(y.reshape(20, 1)).reshape(5, 4)
    np.testing.assert_allclose(
        utils.fuse_linear_bn_eval(linear, bn)(x).detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-12
    )


CONVOLUTIONS = {
    "Conv1d": ("BatchNorm1d", (2, 4, 9), {}),
    "Conv2d": ("BatchNorm2d", (2, 4, 7, 7), {"groups": 2, "stride": 2}),
    "Conv3d": ("BatchNorm3d", (2, 4, 4, 4, 5), {}),
    "ConvTranspose1d": ("BatchNorm1d", (2, 4, 5), {}),
    "ConvTranspose2d": ("BatchNorm2d", (2, 4, 4, 4), {"stride": 2}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution(name, bias):
    norm, shape, options = CONVOLUTIONS[name]
    conv = getattr(tg.nn, name)(4, 6, 3, bias=bias, **options).double().eval()
    bn = trained(getattr(tg.nn, norm)(6))
    x = random(*shape)
    fused = utils.fuse_conv_bn_eval(conv, bn, transpose="Transpose" in name)
    np.testing.assert_allclose(fused(x).detach().numpy(), bn(conv(x)).detach().numpy(), rtol=1e-11, atol=1e-11)


def test_the_parameters_given_stay_as_they_are_and_the_new_ones_are_leaves_of_their_dtype():
    linear, bn = tg.nn.Linear(3, 4).half().eval(), tg.nn.BatchNorm1d(4).eval()
    before = linear.weight.tolist()
    fused = utils.fuse_linear_bn_eval(linear, bn)
    assert linear.weight.tolist() == before
    assert isinstance(fused.weight, tg.nn.Parameter) and fused.weight.is_leaf and fused.weight.requires_grad
    assert fused.weight.dtype == fused.bias.dtype == tg.float16
    assert list(dict(fused.named_parameters())) == ["weight", "bias"]


def test_what_cannot_be_merged_is_refused():
    linear, bn = tg.nn.Linear(3, 4), tg.nn.BatchNorm1d(4)
    with pytest.raises(ArgumentError, match="call eval"):
        utils.fuse_linear_bn_eval(linear, bn)
    with pytest.raises(ArgumentError, match="running statistics"):
        utils.fuse_conv_bn_eval(linear.eval(), tg.nn.BatchNorm1d(4, track_running_stats=False).eval())
    with pytest.raises(ArgumentError, match="num_features"):
        utils.fuse_linear_bn_eval(linear, tg.nn.BatchNorm1d(3).eval())
