"""Every layer, with several settings each, and inputs for it: what the export to ONNX must carry over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn

Case = tuple[Callable[..., Any], tuple[Any, ...]]

RNG = np.random.default_rng(0)


def normal(*shape: int) -> tg.Tensor:
    """Numbers that differ from each other, so that no maximum is a tie."""
    size = int(np.prod(shape))
    return tg.from_numpy(RNG.permutation(np.linspace(-2.0, 2.1, size)).reshape(shape).astype(np.float32))


def chance(*shape: int) -> tg.Tensor:
    return tg.from_numpy(RNG.uniform(0.05, 0.95, shape).astype(np.float32))


def whole(high: int, *shape: int) -> tg.Tensor:
    return tg.from_numpy(RNG.integers(0, high, shape))


def signs(*shape: int) -> tg.Tensor:
    return tg.from_numpy(np.where(RNG.uniform(size=shape) < 0.5, -1.0, 1.0).astype(np.float32))


def image(dims: int, *, batched: bool = True, size: int = 7) -> tg.Tensor:
    """(N, C, ...) of that many places axes, or without N."""
    return normal(*([2] if batched else []), 4, *[size - axis for axis in range(dims)])


class Calling(nn.Module):
    """Layers and what to do with them, where ``layer(*args)`` is not all."""

    def __init__(self, call: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.call = call

    def forward(self, *args: Any) -> Any:
        return self.call(*self.layers, *args)


PICTURES = {1: "1d", 2: "2d", 3: "3d"}


def warmed(layer: nn.Module, *inputs: tg.Tensor) -> nn.Module:
    """The layer after two steps of training, so that its statistics say something."""
    layer.train()
    for _ in range(2):
        layer(*inputs)
    return layer


# ---- one family after the other ------------------------------------------------------------------


def activations() -> Iterator[tuple[str, Case]]:
    plain = "Hardsigmoid Hardswish Identity LogSigmoid Mish ReLU ReLU6 SELU SiLU Sigmoid Softsign Tanh Tanhshrink".split()
    for name in plain:
        yield name, (getattr(nn, name)(), (normal(3, 5),))
    options: dict[str, list[Any]] = {
        "CELU": [{}, {"alpha": 0.5}],
        "ELU": [{}, {"alpha": 0.5}],
        "GELU": [{}, {"approximate": "tanh"}],
        "GLU": [{"dim": 1}],
        "Hardshrink": [{}, {"lambd": 1.0}],
        "Hardtanh": [{}, {"min_val": -0.5, "max_val": 0.25}],
        "LeakyReLU": [{}, {"negative_slope": 0.3}],
        "RReLU": [{}],
        "Softmax": [{"dim": 1}, {"dim": 0}],
        "LogSoftmax": [{"dim": 1}, {"dim": 0}],
        "Softmin": [{"dim": 1}],
        "Softplus": [{}, {"beta": 2.0, "threshold": 3.0}],
        "Softshrink": [{}, {"lambd": 1.0}],
        "Threshold": [{"threshold": 0.1, "value": 20.0}],
        "Dropout": [{}],
        "AlphaDropout": [{}],
        "PReLU": [{}],
    }
    for name, settings in options.items():
        for setting in settings:
            yield f"{name} {setting}", (getattr(nn, name)(**setting), (normal(3, 4),))
    yield "PReLU of channels", (nn.PReLU(4), (image(2),))
    yield "PReLU of a matrix", (nn.PReLU(4), (normal(2, 4),))
    yield "Softmax2d", (nn.Softmax2d(), (image(2),))
    yield "Dropout1d", (nn.Dropout1d(), (image(1),))
    yield "Dropout2d", (nn.Dropout2d(), (image(2),))
    yield "Dropout3d", (nn.Dropout3d(), (image(3),))
    yield "FeatureAlphaDropout", (nn.FeatureAlphaDropout(), (image(2),))


def convolutions() -> Iterator[tuple[str, Case]]:
    settings: list[dict[str, Any]] = [
        {},
        {"stride": 2, "padding": 1},
        {"padding": "same", "dilation": 2},
        {"groups": 2, "bias": False},
        {"stride": 3},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 1, "padding_mode": "circular"},
    ]
    for dims, suffix in PICTURES.items():
        for setting in settings:
            yield f"Conv{suffix} {setting}", (getattr(nn, f"Conv{suffix}")(4, 6, 3, **setting), (image(dims),))
        yield f"Conv{suffix} without N", (getattr(nn, f"Conv{suffix}")(4, 6, 3), (image(dims, batched=False),))
        yield f"LazyConv{suffix}", (getattr(nn, f"LazyConv{suffix}")(6, 2), (image(dims),))
        transposed: list[dict[str, Any]] = [
            {},
            {"stride": 2, "padding": 1, "output_padding": 1},
            {"groups": 2, "bias": False, "dilation": 2},
            {"stride": 3, "padding": 2},
            {"dilation": 2, "padding": 1, "output_padding": 1},
        ]
        for setting in transposed:
            layer = getattr(nn, f"ConvTranspose{suffix}")(4, 6, 3, **setting)
            yield f"ConvTranspose{suffix} {setting}", (layer, (image(dims, size=5),))
        yield f"LazyConvTranspose{suffix}", (getattr(nn, f"LazyConvTranspose{suffix}")(6, 2), (image(dims),))
    weight = normal(6, 4, 3)
    yield "causal_conv1d", (lambda x: nn.functional.causal_conv1d(x, weight, dilation=2), (image(1),))
    yield "Unfold", (nn.Unfold((2, 3), dilation=2, padding=1, stride=2), (image(2),))
    yield "Unfold without N", (nn.Unfold(2), (image(2, batched=False),))
    yield "Fold", (nn.Fold((5, 6), (2, 3), padding=1, stride=2), (normal(2, 12, 9),))
    yield "Fold dilated", (nn.Fold((5, 6), 2, dilation=2), (normal(2, 8, 12),))


def pools() -> Iterator[tuple[str, Case]]:
    for dims, suffix in PICTURES.items():
        for setting in (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": 2, "dilation": 2, "stride": 1},
            {"kernel_size": 3, "stride": 2, "ceil_mode": True},
            {"kernel_size": 2, "return_indices": True},
            {"kernel_size": 5, "stride": 1, "padding": 2},
            {"kernel_size": 5, "stride": 1, "padding": 2, "return_indices": True},
        ):
            yield f"MaxPool{suffix} {setting}", (getattr(nn, f"MaxPool{suffix}")(**setting), (image(dims),))
        yield f"MaxPool{suffix} without N", (getattr(nn, f"MaxPool{suffix}")(2), (image(dims, batched=False),))
        for setting in (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
            {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        ):
            yield f"AvgPool{suffix} {setting}", (getattr(nn, f"AvgPool{suffix}")(**setting), (image(dims),))
        yield f"AvgPool{suffix} without N", (getattr(nn, f"AvgPool{suffix}")(2), (image(dims, batched=False),))
        for size in (1, 3, 5):
            yield f"AdaptiveAvgPool{suffix} {size}", (getattr(nn, f"AdaptiveAvgPool{suffix}")(size), (image(dims),))
            yield f"AdaptiveMaxPool{suffix} {size}", (getattr(nn, f"AdaptiveMaxPool{suffix}")(size), (image(dims),))
        yield (
            f"AdaptiveMaxPool{suffix} indices",
            (getattr(nn, f"AdaptiveMaxPool{suffix}")(3, return_indices=True), (image(dims),)),
        )
        yield f"LPPool{suffix}", (getattr(nn, f"LPPool{suffix}")(2, 2), (chance(2, 4, *[6] * dims),))
        pool = getattr(nn, f"MaxPool{suffix}")(2, return_indices=True)
        unpool = getattr(nn, f"MaxUnpool{suffix}")(2)
        both = Calling(lambda pool, unpool, x: unpool(*pool(x)), pool, unpool)
        yield f"MaxUnpool{suffix}", (both, (normal(2, 3, *[6, 4, 2][:dims]),))
        values, indices = pool(normal(2, 3, *[6, 4, 2][:dims]))
        yield f"MaxUnpool{suffix} of inputs", (unpool, (values, indices))
    yield "AvgPool2d divisor_override", (nn.AvgPool2d(2, divisor_override=3), (image(2),))
    yield "AvgPool2d (2, 3)", (nn.AvgPool2d((2, 3), (1, 2)), (image(2),))


def sizes() -> Iterator[tuple[str, Case]]:
    modes = {1: ["nearest", "linear"], 2: ["nearest", "bilinear", "bicubic"], 3: ["nearest", "trilinear"]}
    for dims, names in modes.items():
        for mode in names:
            yield f"Upsample {dims} {mode}", (nn.Upsample(scale_factor=2, mode=mode), (image(dims, size=4),))
            yield f"Upsample {dims} {mode} to 5", (nn.Upsample(5, mode=mode), (image(dims, size=4),))
            if mode != "nearest":
                layer = nn.Upsample(scale_factor=2, mode=mode, align_corners=True)
                yield f"Upsample {dims} {mode} corners", (layer, (image(dims, size=4),))
    yield "Upsample nearest-exact", (nn.Upsample(scale_factor=2.5, mode="nearest-exact"), (image(2, size=4),))
    yield "Upsample area", (nn.Upsample(3, mode="area"), (image(2),))
    yield "UpsamplingBilinear2d", (nn.UpsamplingBilinear2d(scale_factor=2), (image(2, size=4),))
    yield "UpsamplingNearest2d", (nn.UpsamplingNearest2d(scale_factor=3), (image(2, size=4),))
    yield "PixelShuffle", (nn.PixelShuffle(2), (image(2),))
    yield "PixelUnshuffle", (nn.PixelUnshuffle(2), (normal(2, 3, 4, 6),))
    yield "ChannelShuffle", (nn.ChannelShuffle(2), (image(2),))
    yield "Flatten", (nn.Flatten(), (image(2),))
    yield "Flatten part", (nn.Flatten(2, 3), (image(2),))
    yield "Unflatten", (nn.Unflatten(1, (2, 2)), (image(1),))
    pads = {"Circular": {}, "Constant": {"value": 1.5}, "Reflection": {}, "Replication": {}, "Zero": {}}
    for dims, suffix in PICTURES.items():
        for kind, more in pads.items():
            layer = getattr(nn, f"{kind}Pad{suffix}")((1, 2) * dims, **more)
            yield f"{kind}Pad{suffix}", (layer, (image(dims),))
        yield f"ConstantPad{suffix} cut", (getattr(nn, f"ConstantPad{suffix}")((-1, 1) * dims, 0.5), (image(dims),))


def norms() -> Iterator[tuple[str, Case]]:
    for dims, suffix in PICTURES.items():
        x = image(dims)
        batch, instance = getattr(nn, f"BatchNorm{suffix}"), getattr(nn, f"InstanceNorm{suffix}")
        yield f"BatchNorm{suffix}", (warmed(batch(4), x), (x,))
        yield f"BatchNorm{suffix} plain", (warmed(batch(4, affine=False, eps=1e-2), x), (x,))
        yield f"BatchNorm{suffix} of the batch", (batch(4, track_running_stats=False), (x,))
        yield f"LazyBatchNorm{suffix}", (getattr(nn, f"LazyBatchNorm{suffix}")(), (x,))
        yield f"InstanceNorm{suffix}", (instance(4), (x,))
        yield f"InstanceNorm{suffix} affine", (instance(4, affine=True), (x,))
        yield f"InstanceNorm{suffix} tracked", (warmed(instance(4, track_running_stats=True), x), (x,))
        yield f"LazyInstanceNorm{suffix}", (getattr(nn, f"LazyInstanceNorm{suffix}")(), (x,))
        yield f"InstanceNorm{suffix} without N", (instance(4), (image(dims, batched=False),))
    yield "BatchNorm1d of a matrix", (warmed(nn.BatchNorm1d(4), normal(6, 4)), (normal(6, 4),))
    yield "GroupNorm", (nn.GroupNorm(2, 4), (image(2),))
    yield "GroupNorm of a matrix", (nn.GroupNorm(2, 4, affine=False), (normal(3, 4),))
    yield "GroupNorm of channels", (nn.GroupNorm(4, 4), (image(1),))
    yield "LayerNorm", (nn.LayerNorm(4), (normal(2, 3, 4),))
    yield "LayerNorm of two axes", (nn.LayerNorm((3, 4), eps=1e-3), (normal(2, 3, 4),))
    yield "LayerNorm plain", (nn.LayerNorm(4, elementwise_affine=False), (normal(2, 4),))
    yield "LayerNorm no bias", (nn.LayerNorm(4, bias=False), (normal(2, 4),))
    yield "RMSNorm", (nn.RMSNorm(4), (normal(2, 3, 4),))
    yield "RMSNorm plain", (nn.RMSNorm((3, 4), elementwise_affine=False, eps=1e-3), (normal(2, 3, 4),))
    yield "LocalResponseNorm", (nn.LocalResponseNorm(3), (image(2),))
    yield "LocalResponseNorm even", (nn.LocalResponseNorm(2, alpha=0.1), (image(1),))


def linears() -> Iterator[tuple[str, Case]]:
    yield "Linear", (nn.Linear(3, 4), (normal(2, 3),))
    yield "Linear of more axes", (nn.Linear(3, 4), (normal(2, 5, 3),))
    yield "Linear of a vector", (nn.Linear(3, 4), (normal(3),))
    yield "Linear no bias", (nn.Linear(3, 4, bias=False), (normal(2, 3),))
    yield "LazyLinear", (nn.LazyLinear(4), (normal(2, 3),))
    yield "Bilinear", (nn.Bilinear(3, 4, 5), (normal(2, 3), normal(2, 4)))
    yield "Bilinear no bias", (nn.Bilinear(3, 4, 5, bias=False), (normal(2, 6, 3), normal(2, 6, 4)))
    yield "Embedding", (nn.Embedding(7, 3), (whole(7, 2, 5),))
    yield "Embedding padded", (nn.Embedding(7, 3, padding_idx=1), (whole(7, 5),))
    for mode in ("sum", "mean", "max"):
        yield f"EmbeddingBag {mode}", (nn.EmbeddingBag(7, 3, mode=mode), (whole(7, 2, 5),))
    offsets = tg.tensor([0, 2, 5])
    yield "EmbeddingBag offsets", (Calling(lambda bag, x: bag(x, offsets), nn.EmbeddingBag(7, 3)), (whole(7, 8),))
    weighted = Calling(lambda bag, x, w: bag(x, per_sample_weights=w), nn.EmbeddingBag(7, 3, mode="sum"))
    yield "EmbeddingBag weights", (weighted, (whole(7, 2, 4), chance(2, 4)))
    yield "CosineSimilarity", (nn.CosineSimilarity(), (normal(3, 4), normal(3, 4)))
    yield "PairwiseDistance", (nn.PairwiseDistance(), (normal(3, 4), normal(3, 4)))
    yield "PairwiseDistance 1", (nn.PairwiseDistance(1.0, keepdim=True), (normal(3, 4), normal(3, 4)))


def recurrent() -> Iterator[tuple[str, Case]]:
    x = normal(5, 2, 3)
    for name in ("RNN", "LSTM", "GRU"):
        layer = getattr(nn, name)
        settings: list[dict[str, Any]] = [
            {},
            {"num_layers": 2},
            {"bidirectional": True, "batch_first": True},
            {"bias": False},
            {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
        ]
        for setting in settings:
            yield f"{name} {setting}", (layer(3, 4, **setting), (x,))
        state: Any = normal(1, 2, 4)
        yield f"{name} from a state", (layer(3, 4), (x, (state, normal(1, 2, 4)) if name == "LSTM" else state))
        yield f"{name} without N", (layer(3, 4), (normal(5, 3),))
        yield f"{name} packed", (Calling(_packed, layer(3, 4)), (x,))
        cell = getattr(nn, f"{name}Cell")(3, 4)
        yield f"{name}Cell", (cell, (normal(2, 3),))
        held = normal(2, 4)
        yield f"{name}Cell from a state", (cell, (normal(2, 3), (held, normal(2, 4)) if name == "LSTM" else held))
    yield "RNN relu", (nn.RNN(3, 4, nonlinearity="relu"), (x,))
    yield "LSTM projected", (nn.LSTM(3, 4, proj_size=2), (x,))
    yield "PeepholeLSTM", (nn.PeepholeLSTM(3, 4), (x,))
    yield "PeepholeLSTMCell", (nn.PeepholeLSTMCell(3, 4), (normal(2, 3),))
    tree = ((0, 1), 2)
    yield "BinaryTreeLSTM", (Calling(lambda f, x: f(x, tree), nn.BinaryTreeLSTM(3, 4)), (normal(3, 3),))
    yield "NaryTreeLSTM", (Calling(lambda f, x: f(x, ((0, 1, 2), 3)), nn.NaryTreeLSTM(3, 4, 3)), (normal(4, 3),))
    children = [(), (), (), (0, 1, 2)]
    yield "ChildSumTreeLSTM", (Calling(lambda f, x: f(x, children), nn.ChildSumTreeLSTM(3, 4)), (normal(4, 3),))
    yield "RecursiveNN", (Calling(lambda f, x: f(x, tree), nn.RecursiveNN(4)), (normal(3, 4),))


def _packed(layer: nn.Module, x: tg.Tensor) -> tg.Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(x, [5, 3])
    return nn.utils.rnn.pad_packed_sequence(layer(packed)[0])[0]


def transformers() -> Iterator[tuple[str, Case]]:
    x, memory = normal(5, 2, 8), normal(6, 2, 8)
    attention = nn.MultiheadAttention(8, 2)
    yield "MultiheadAttention", (attention, (x, memory, memory))
    yield "MultiheadAttention no weights", (Calling(lambda f, q, k: f(q, k, k, need_weights=False)[0], attention), (x, memory))
    padding = tg.tensor([[False] * 5 + [True], [False] * 4 + [True] * 2])
    padded = Calling(lambda f, q, k, mask: f(q, k, k, key_padding_mask=mask)[0], attention)
    yield "MultiheadAttention padding", (padded, (x, memory, padding))
    yield (
        "MultiheadAttention sizes",
        (
            nn.MultiheadAttention(8, 2, kdim=3, vdim=4, batch_first=True, add_bias_kv=True),
            (
                normal(2, 5, 8),
                normal(2, 6, 3),
                normal(2, 6, 4),
            ),
        ),
    )
    additive = nn.AdditiveAttention(4, 6, 5, bias=True)
    yield "AdditiveAttention", (additive, (normal(2, 4), normal(2, 7, 6)))
    hidden = tg.tensor([[False] * 7, [False] * 4 + [True] * 3])
    yield (
        "AdditiveAttention padding",
        (
            Calling(lambda f, q, k, mask: f(q, k, key_padding_mask=mask), additive),
            (normal(2, 4), normal(2, 7, 6), hidden),
        ),
    )
    for method in ("dot", "general", "concat"):
        yield f"LuongAttention {method}", (nn.LuongAttention(4, method=method), (normal(2, 4), normal(2, 7, 4)))
    yield "PositionalEncoding", (nn.PositionalEncoding(8, max_len=9), (x,))
    yield "TransformerEncoderLayer", (nn.TransformerEncoderLayer(8, 2, 16), (x,))
    yield (
        "TransformerEncoderLayer first",
        (
            nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=True, batch_first=True),
            (normal(2, 5, 8),),
        ),
    )
    yield "TransformerDecoderLayer", (nn.TransformerDecoderLayer(8, 2, 16), (x, memory))
    yield "TransformerEncoder", (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, nn.LayerNorm(8)), (x,))
    yield "TransformerDecoder", (nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2), (x, memory))
    model = nn.Transformer(8, 2, 1, 1, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    yield "Transformer", (Calling(lambda f, s, t: f(s, t, tgt_mask=mask, tgt_is_causal=True), model), (memory, x))


def losses() -> Iterator[tuple[str, Case]]:
    x, y, p = normal(3, 4), normal(3, 4), chance(3, 4)
    pairs: dict[str, tuple[Any, ...]] = {
        "L1Loss": (x, y),
        "MSELoss": (x, y),
        "SmoothL1Loss": (x, y),
        "HuberLoss": (x, y),
        "BCELoss": (p, chance(3, 4)),
        "BCEWithLogitsLoss": (x, p),
        "KLDivLoss": (x.log_softmax(1), p),
        "PoissonNLLLoss": (x, p),
        "GaussianNLLLoss": (x, y, p),
        "HingeEmbeddingLoss": (x, signs(3, 4)),
        "SoftMarginLoss": (x, signs(3, 4)),
        "MarginRankingLoss": (normal(5), normal(5), signs(5)),
        "CosineEmbeddingLoss": (x, y, signs(3)),
        "TripletMarginLoss": (x, y, normal(3, 4)),
        "TripletMarginWithDistanceLoss": (x, y, normal(3, 4)),
        "CrossEntropyLoss": (x, whole(4, 3)),
        "NLLLoss": (x.log_softmax(1), whole(4, 3)),
        "MultiMarginLoss": (x, whole(4, 3)),
        "MultiLabelMarginLoss": (x, tg.tensor([[1, 0, -1, 2], [3, -1, 0, 0], [-1, 0, 0, 0]])),
        "MultiLabelSoftMarginLoss": (x, p.round()),
    }
    for name, given in pairs.items():
        yield name, (getattr(nn, name)(), given)
        yield f"{name} none", (getattr(nn, name)(reduction="none"), given)
    yield "CrossEntropyLoss smooth", (nn.CrossEntropyLoss(chance(4), label_smoothing=0.1, ignore_index=1), (x, whole(4, 3)))
    yield "CrossEntropyLoss of chances", (nn.CrossEntropyLoss(), (x, p))
    yield "CrossEntropyLoss of pictures", (nn.CrossEntropyLoss(), (normal(2, 4, 3, 3), whole(4, 2, 3, 3)))
    targets = tg.tensor([[1, 2], [2, 1]])
    lengths = tg.tensor([6, 5]), tg.tensor([2, 2])
    yield "CTCLoss", (Calling(lambda f, x: f(x.log_softmax(2), targets, *lengths), nn.CTCLoss()), (normal(6, 2, 4),))


def cases() -> dict[str, Case]:
    """name -> (layer or function, its arguments)."""
    tg.manual_seed(0)
    families = (activations, convolutions, pools, sizes, norms, linears, recurrent, transformers, losses)
    return {name: case for family in families for name, case in family()}
