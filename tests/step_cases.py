"""Whole training steps for the tests of ``tg.compile``: layers of all kinds, several optimizers, derivatives inside."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn

F = nn.functional
CALLS = 7
CASES: dict[str, Callable[[], Any]] = {}
"""Each gives a step, a function that makes the arguments of call k, and what is compared besides the results."""


def case(make: Callable[[], Any]) -> Callable[[], Any]:
    CASES[make.__name__] = make
    return make


def trainer(module: Any, loss_of: Callable[..., Any], optimizer: Any = None, between: Callable[[], Any] = lambda: None) -> Any:
    optimizer = optimizer or tg.optim.SGD(module.parameters(), lr=0.05)

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        between()
        optimizer.step()
        return loss

    return step


def state_of(*modules: nn.Module) -> list[Any]:
    return [x for module in modules for x in (*module.parameters(), *module.buffers())]


def elements(value: Any) -> list[np.ndarray]:
    if isinstance(value, tg.Tensor):
        return [value.detach().cpu().numpy().copy()]
    if isinstance(value, np.ndarray):
        return [value.copy()]
    if isinstance(value, dict):
        return elements(list(value.values()))
    return [a for part in value for a in elements(part)] if isinstance(value, (list, tuple)) else []


def run(make: Callable[[], Any], backend: str | None) -> tuple[list[list[np.ndarray]], Any]:
    tg.manual_seed(0)
    step, args, *more = make()
    compiled = step if backend is None else tg.compile(step, backend=backend)
    watched, after = more[0] if more else [], more[1] if len(more) > 1 else list
    tg.manual_seed(1)
    results = []
    for k in range(CALLS):
        given = args(k)
        made = elements(compiled(*given))
        results.append([*made, *elements(list(given)), *elements(watched), *elements(after())])
    return results, compiled


def assert_same(make: Callable[[], Any], backend: str) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        (expected, _), (made, compiled) = run(make, None), run(make, backend)
    for a, b in zip(expected, made):
        assert [(x.shape, x.dtype) for x in a] == [(x.shape, x.dtype) for x in b]
        for x, y in zip(a, b):
            rtol = 2e-2 if x.dtype == np.float16 else 2e-4
            finite = x[np.isfinite(x)] if x.dtype.kind == "f" else np.empty(0)
            scale = 1 + (float(np.abs(finite).max()) if finite.size else 0)
            np.testing.assert_allclose(y, x, rtol=rtol, atol=rtol / 5 * scale)
    return compiled


# ---- layers ----------------------------------------------------------------------------------------


@case
def packed_inside() -> Any:
    layer = nn.LSTM(3, 4, 2, bidirectional=True, dropout=0.3)

    def loss(x: Any) -> Any:
        made, (h, c) = layer(nn.utils.rnn.pack_padded_sequence(x, [5, 3, 2]))
        return nn.utils.rnn.pad_packed_sequence(made)[0].square().mean() + h.sum() * 0.1 + c.mean()

    return trainer(layer, loss), lambda k: (tg.randn(5, 3, 3),), state_of(layer)


@case
def packed_arguments() -> Any:
    layer = nn.GRU(3, 4)

    def loss(packed: Any) -> Any:
        made, h = layer(packed)
        return made.data.square().mean() + h.sum() * 0.1

    def args(k: int) -> Any:
        return (nn.utils.rnn.pack_padded_sequence(tg.randn(5, 3, 3), [5, 3, 2] if k % 2 else [5, 4, 1]),)

    return trainer(layer, loss), args, state_of(layer)


@case
def transformer_with_masks() -> Any:
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.2, batch_first=True)
    mask, hidden = nn.Transformer.generate_square_subsequent_mask(5), tg.tensor([[False] * 4 + [True] * 2, [False] * 6])

    def loss(source: Any, target: Any) -> Any:
        more = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
        return model(source, target, tgt_mask=mask, tgt_is_causal=True, **more).square().mean()

    return trainer(model, loss), lambda k: (tg.randn(2, 6, 8), tg.randn(2, 5, 8)), state_of(model)


@case
def batch_norm_with_a_plain_mean() -> Any:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=None), nn.ReLU(), nn.Linear(4, 1))
    return trainer(model, lambda x: model(x).square().mean()), lambda k: (tg.randn(6, 3),), state_of(model)


@case
def bags_with_offsets() -> Any:
    bag = nn.EmbeddingBag(7, 3, mode="mean")
    return (
        trainer(bag, lambda i, o: bag(i, o).square().sum()),
        lambda k: (tg.randint(0, 7, (8,)), tg.tensor([0, 2 + k % 3, 5])),
        state_of(bag),
    )


@case
def embedding_with_padding() -> Any:
    table = nn.Embedding(7, 3, padding_idx=1, scale_grad_by_freq=True)
    return trainer(table, lambda i: table(i).square().sum()), lambda k: (tg.randint(0, 7, (2, 5)),), state_of(table)


@case
def parametrizations() -> Any:
    of = nn.utils.parametrizations
    model = nn.Sequential(of.weight_norm(nn.Linear(3, 4)), nn.Tanh(), of.spectral_norm(nn.Linear(4, 2)))
    return trainer(model, lambda x: model(x).square().mean()), lambda k: (tg.randn(6, 3),), state_of(model)


@case
def hooks_of_layers() -> Any:
    model, seen = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), {"y": tg.zeros(6, 4)}
    model[0].register_forward_hook(lambda module, given, made: made * 2)
    model[1].register_forward_hook(lambda module, given, made: seen.update(y=made.detach()))
    model[1].register_full_backward_hook(lambda module, given, made: (given[0] * 0.5,))
    model[2].register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    model[2].weight.register_hook(lambda g: g.clamp(-0.1, 0.1))
    return trainer(model, lambda x: model(x).square().mean()), lambda k: (tg.randn(6, 3),), state_of(model), lambda: [seen]


@case
def convolutions_in_groups() -> Any:
    model = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.ELU(), nn.ConvTranspose1d(6, 2, 3, stride=2, groups=2))
    return trainer(model, lambda x: model(x).square().mean()), lambda k: (tg.randn(2, 4, 7),), state_of(model)


# ---- steps -----------------------------------------------------------------------------------------


@case
def means_of_weights() -> Any:
    model = nn.Linear(3, 1)
    equal = tg.optim.swa_utils.AveragedModel(model)
    moving = tg.optim.swa_utils.AveragedModel(model, avg_fn=tg.optim.swa_utils.get_ema_avg_fn(0.9))
    optimizer = tg.optim.SGD(model.parameters(), lr=0.05)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        equal.update_parameters(model)
        moving.update_parameters(model)

    return step, lambda k: (tg.randn(6, 3),), state_of(model, equal, moving)


@case
def a_scaler_for_two_optimizers() -> Any:
    first, second = nn.Linear(3, 8), nn.Linear(8, 1)
    optimizers = tg.optim.SGD(first.parameters(), lr=0.05), tg.optim.Adam(second.parameters(), lr=0.01)
    scaler = tg.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)

    def step(x: Any) -> Any:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = second(first(x)).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizers[0])
        nn.utils.clip_grad_value_(first.parameters(), 0.1)
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        return loss

    return step, lambda k: (tg.randn(6, 3) * (float("inf") if k == 4 else 1),), state_of(first, second)


@case
def a_penalty_of_gradients() -> Any:
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = tg.optim.SGD(model.parameters(), lr=0.01)

    def step(x: Any) -> Any:
        x = x.clone().requires_grad_()
        optimizer.zero_grad()
        y = model(x).sum()
        (g,) = tg.autograd.grad(y, [x], create_graph=True)
        loss = y.square() + ((g.square().sum(1).sqrt() - 1) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach(), g.detach(), x.grad

    return step, lambda k: (tg.randn(6, 3),), state_of(model)


@case
def derivatives_of_functions() -> Any:
    w = tg.randn(3, 3)

    def step(x: Any, t: Any) -> Any:
        return tg.func.jvp(lambda v: (w @ v).tanh(), (x,), (t,)), tg.func.hessian(lambda v: (w @ v).tanh().square().sum())(x)

    return step, lambda k: (tg.randn(3), tg.randn(3))


@case
def a_closure_for_the_optimizer() -> Any:
    model = nn.Linear(3, 1)
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        return optimizer.step(closure)

    return step, lambda k: (tg.randn(6, 3),), state_of(model)


@case
def the_step_first_and_zeros_in_place() -> Any:
    model = nn.Linear(3, 1)
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Any) -> Any:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        model(x).square().mean().backward()

    return step, lambda k: (tg.randn(6, 3),), state_of(model), lambda: [model.weight.grad]


@case
def frozen_unused_and_tied_parameters() -> Any:
    a, b, c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)
    b.weight = a.weight
    a.bias.requires_grad_(False)
    model = nn.ModuleList([a, b, c])
    optimizer = tg.optim.AdamW(list(model.parameters()), lr=0.01)
    return trainer(model, lambda x: b(a(x).tanh()).square().mean(), optimizer), lambda k: (tg.randn(6, 3),), state_of(model)
