"""Twelve small architectures built from our layers, each a miniature of a well-known one, for the export to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.nn import functional as F

Built = tuple[nn.Module, tuple[Any, ...]]


def lenet() -> Built:
    """LeCun et al. 1998."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
    return model, (tg.randn(2, 1, 28, 28),)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet() -> Built:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Bottleneck(8, 4, 16, 1), Bottleneck(16, 4, 16, 1), Bottleneck(16, 8, 32, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    return model, (tg.randn(2, 3, 32, 32),)


def mobilenet() -> Built:
    """Depthwise and pointwise convolutions (Howard et al. 2017), with MobileNet 3's activations."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.Hardswish(),
        )  # fmt: skip

    layers = [nn.Conv2d(3, 8, 3, 2, 1), block(8, 16, 1), block(16, 24, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(24, 10)), (tg.randn(2, 3, 24, 24),)


class DenseNet(nn.Module):
    """Each layer sees all before it (Huang et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.BatchNorm2d(8 + 4 * i), nn.ReLU(), nn.Conv2d(8 + 4 * i, 4, 3, padding=1)) for i in range(3)]
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.head = nn.Linear(10, 5)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(tg.cat(features, 1)))
        return self.head(self.transition(tg.cat(features, 1)).mean((2, 3)))


def densenet() -> Built:
    return DenseNet(), (tg.randn(2, 3, 12, 12),)


class UNet(nn.Module):
    """Down, up, and skips between (Ronneberger et al. 2015); one way up by transposed convolution, one by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self.double(1, 8), self.double(8, 16), self.double(16, 32)])
        self.rise = nn.ConvTranspose2d(32, 16, 2, 2)
        self.up = nn.ModuleList([self.double(32, 16), self.double(24, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    @staticmethod
    def double(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.InstanceNorm2d(outputs, affine=True), nn.LeakyReLU(0.1),
        )  # fmt: skip

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        bottom = self.down[2](F.max_pool2d(second, 2))
        middle = self.up[0](tg.cat([self.rise(bottom), second], 1))
        wide = F.interpolate(middle, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.up[1](tg.cat([wide, first], 1))).softmax(1)


def unet() -> Built:
    return UNet(), (tg.randn(2, 1, 16, 16),)


class LanguageModel(nn.Module):
    """Embedding, LSTM, output layer; the state goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.lstm = nn.LSTM(12, 16, 2, batch_first=True, dropout=0.3)
        self.output = nn.Linear(16, 20)

    def forward(self, tokens: tg.Tensor, state: Any) -> Any:
        made, state = self.lstm(self.embedding(tokens), state)
        return self.output(made).log_softmax(-1), state


def language_model() -> Built:
    state = tg.randn(2, 3, 16), tg.randn(2, 3, 16)
    return LanguageModel(), (tg.randint(0, 20, (3, 7)), state)


class Translator(nn.Module):
    """GRU encoder and decoder with additive attention (Bahdanau et al. 2015), fed with its own best words."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(15, 8), nn.Embedding(17, 8)
        self.encoder = nn.GRU(8, 10, bidirectional=True, batch_first=True)
        self.start = nn.Linear(10, 12)
        self.query, self.key, self.score = nn.Linear(12, 9), nn.Linear(20, 9), nn.Linear(9, 1, bias=False)
        self.cell = nn.GRUCell(28, 12)
        self.output = nn.Linear(32, 17)

    def forward(self, words: tg.Tensor, padding: tg.Tensor) -> tg.Tensor:
        annotations, last = self.encoder(self.source(words))
        h, keys = tg.tanh(self.start(last[1])), self.key(annotations)
        word = tg.zeros_like(words[:, 0])
        made = []
        for _ in range(4):
            scores = self.score(tg.tanh(self.query(h).unsqueeze(1) + keys)).squeeze(-1)
            weights = scores.masked_fill(padding, -1e9).softmax(1)
            context = tg.bmm(weights.unsqueeze(1), annotations).squeeze(1)
            h = self.cell(tg.cat([self.target(word), context], 1), h)
            logits = self.output(tg.cat([h, context], 1))
            word = logits.argmax(1)
            made.append(logits)
        return tg.stack(made, 1)


def translator() -> Built:
    padding = tg.tensor([[False] * 5, [False] * 3 + [True] * 2])
    return Translator(), (tg.randint(0, 15, (2, 5)), padding)


class Seq2Seq(nn.Module):
    """The Transformer with its masks (Vaswani et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.register_buffer("positions", tg.randn(12, 16))
        self.transformer = nn.Transformer(16, 4, 2, 2, 32, batch_first=True)
        self.output = nn.Linear(16, 20)

    def forward(self, source: tg.Tensor, target: tg.Tensor, padding: tg.Tensor) -> tg.Tensor:
        given, wanted = (self.words(x) * 4.0 + self.positions[: x.shape[1]] for x in (source, target))
        causal = tg.ones(target.shape[1], target.shape[1], dtype=tg.bool).triu(1)
        made = self.transformer(given, wanted, tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
        return self.output(made)


def transformer() -> Built:
    padding = tg.tensor([[False] * 6, [False] * 4 + [True] * 2])
    return Seq2Seq(), (tg.randint(0, 20, (2, 6)), tg.randint(0, 20, (2, 5)), padding)


class VAE(nn.Module):
    """Kingma and Welling 2014; the noise is an input, so that the file is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Softplus())
        self.mean, self.log_variance = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ELU(), nn.Linear(32, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: tg.Tensor, noise: tg.Tensor) -> Any:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        return {"picture": self.decoder(mean + noise * (0.5 * log_variance).exp()), "divergence": divergence}


def vae() -> Built:
    return VAE(), (tg.rand(3, 1, 8, 8), tg.randn(3, 4))


def dcgan() -> Built:
    """The generator of Radford et al. 2016."""
    model = nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1), nn.Tanh(),
    )  # fmt: skip
    return model, (tg.randn(2, 8, 1, 1),)


class WaveNet(nn.Module):
    """Gated, causal, dilated convolutions with skips (van den Oord et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 8, 1)
        self.gates = nn.ModuleList([nn.Conv1d(8, 16, 2, dilation=2**i) for i in range(3)])
        self.mixes = nn.ModuleList([nn.Conv1d(8, 8, 1) for _ in range(3)])
        self.head = nn.Conv1d(8, 10, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        h, total = self.stem(x), 0.0
        for i, (gate, mix) in enumerate(zip(self.gates, self.mixes)):
            filtered, opened = gate(F.pad(h, (2**i, 0))).chunk(2, 1)
            made = mix(filtered.tanh() * opened.sigmoid())
            h, total = h + made, total + made
        return self.head(F.relu(total))


def wavenet() -> Built:
    return WaveNet(), (tg.randn(2, 1, 20),)


class Detector(nn.Module):
    """A head at two scales over fixed boxes, as in SSD (Liu et al. 2016): classes and decoded boxes, the best five of each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(8, 2 * (4 + 3), 3, padding=1) for _ in range(2)])
        self.register_buffer("boxes", tg.rand(2 * (64 + 16), 4) + 0.1)

    def forward(self, x: tg.Tensor) -> Any:
        fine = self.fine(x)
        maps = [head(level) for head, level in zip(self.heads, (fine, self.coarse(fine)))]
        rows = tg.cat([y.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 7) for y in maps], 1)
        offsets, scores = rows[..., :4], rows[..., 4:].softmax(-1)
        centres = self.boxes[:, :2] + offsets[..., :2] * self.boxes[:, 2:] * 0.1
        sides = self.boxes[:, 2:] * (offsets[..., 2:] * 0.2).exp()
        found = tg.cat([centres - sides / 2, centres + sides / 2], -1).clamp(0, 1)
        best = scores[..., 1:].amax(-1).topk(5, 1)
        return best.values, tg.gather(found, 1, best.indices.unsqueeze(-1).expand(-1, -1, 4))


def detector() -> Built:
    return Detector(), (tg.randn(2, 3, 16, 16),)


MODELS: dict[str, Callable[[], Built]] = {
    "LeNet": lenet,
    "ResNet": resnet,
    "MobileNet": mobilenet,
    "DenseNet": densenet,
    "U-Net": unet,
    "LSTM language model": language_model,
    "GRU seq2seq with attention": translator,
    "Transformer": transformer,
    "VAE": vae,
    "DCGAN generator": dcgan,
    "WaveNet": wavenet,
    "SSD head": detector,
}
