"""Whole training steps that are compiled: models, losses and optimizers together, for the GPU executor and its stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn

F = nn.functional


class Training(NamedTuple):
    """A model, a step of it (without its optimizer's choice), and a function that makes the arrays of a batch."""

    model: Any
    loss: Callable[..., Any]
    optimizer: Any
    batch: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    clip: float | None = None


def _normal(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.standard_normal(shape).astype(np.float32)


def mlp() -> Training:
    model = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 5))
    batch = lambda rng: (_normal(16, 20)(rng), rng.integers(0, 5, 16))  # noqa: E731
    return Training(model, lambda x, t: F.cross_entropy(model(x), t), tg.optim.Adam(model.parameters(), lr=1e-2), batch, 1.0)


def lstm() -> Training:
    model = nn.ModuleList([nn.Embedding(50, 16), nn.LSTM(16, 24), nn.Linear(24, 50)])
    embedding, rnn, head = model

    def loss(x: Any, t: Any) -> Any:
        return F.cross_entropy(head(rnn(embedding(x))[0]).reshape(-1, 50), t.reshape(-1))

    batch = lambda rng: (rng.integers(0, 50, (7, 4)), rng.integers(0, 50, (7, 4)))  # noqa: E731
    return Training(model, loss, tg.optim.SGD(model.parameters(), lr=0.5), batch, 0.25)


def rnn() -> Training:
    model = nn.ModuleList([nn.RNN(8, 16), nn.Linear(16, 1)])
    layer, head = model
    batch = lambda rng: (_normal(9, 4, 8)(rng),)  # noqa: E731
    return Training(model, lambda x: (head(layer(x)[0]) ** 2).mean(), tg.optim.RMSprop(model.parameters(), lr=1e-3), batch)


def gru() -> Training:
    model = nn.ModuleList([nn.GRU(6, 12), nn.Linear(12, 3)])
    layer, head = model
    batch = lambda rng: (_normal(5, 4, 6)(rng), _normal(5, 4, 3)(rng))  # noqa: E731
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return Training(model, lambda x, t: F.mse_loss(head(layer(x)[0]), t), optimizer, batch)


def attention() -> Training:
    model = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    batch = lambda rng: (_normal(3, 10, 16)(rng),)  # noqa: E731
    return Training(model, lambda x: (model(x) ** 2).mean(), tg.optim.AdamW(model.parameters(), lr=1e-3), batch)


def pictures() -> Training:
    layers = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
    ]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 3))
    batch = lambda rng: (_normal(6, 1, 8, 8)(rng), rng.integers(0, 3, 6))  # noqa: E731
    return Training(model, lambda x, t: F.cross_entropy(model(x), t), tg.optim.SGD(model.parameters(), lr=1e-2), batch)


def generator() -> Training:
    layers = [
        nn.ConvTranspose2d(5, 8, 4, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, 2, 1),
        nn.Tanh(),
    ]
    model = nn.Sequential(*layers)
    batch = lambda rng: (_normal(4, 5, 1, 1)(rng), _normal(4, 1, 8, 8)(rng))  # noqa: E731
    return Training(model, lambda z, t: F.mse_loss(model(z), t), tg.optim.SGD(model.parameters(), lr=0.1, momentum=0.5), batch)


def dropped() -> Training:
    model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 1))
    batch = lambda rng: (_normal(12, 10)(rng),)  # noqa: E731
    return Training(model, lambda x: model(x).square().mean(), tg.optim.SGD(model.parameters(), lr=0.1), batch)


STEPS = {f.__name__: f for f in (mlp, lstm, rnn, gru, attention, pictures, generator, dropped)}


def run(name: str, wrap: Callable[[Any], Any], device: str = "cpu", count: int = 6) -> tuple[list[float], list[np.ndarray]]:
    """Losses of some steps, and the parameters and buffers after them."""
    tg.manual_seed(0)
    training = STEPS[name]()
    training.model.to(device)
    optimizer = training.optimizer

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = training.loss(*batch)
        loss.backward()
        if training.clip is not None:
            nn.utils.clip_grad_norm_(training.model.parameters(), training.clip)
        optimizer.step()
        return loss

    step = wrap(step)
    tg.manual_seed(1)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(count):
        losses.append(step(*[tg.tensor(x).to(device) for x in training.batch(rng)]))
    kept = [*training.model.parameters(), *training.model.buffers()]
    return [float(loss.item()) for loss in losses], [x.detach().cpu().numpy().copy() for x in kept]
