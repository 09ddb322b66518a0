"""Compiled steps of many kinds beside the same steps run plainly; what they share with the caller; what they leave behind."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import tracemalloc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.core import trace
from tinygrad_ja.core.modes import modes
from tinygrad_ja.core.traced import Traced
from tinygrad_ja.errors import GradientError, UsageError

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
        return [value.detach().numpy().copy()]
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


# ---- arguments and results -------------------------------------------------------------------------


@case
def arguments_that_are_changed_in_place() -> Any:
    def step(x: Any, y: Any) -> Any:
        x.add_(1)
        x[0] = 7
        y[1:].mul_(3)
        return x * 2, y.sum()

    return step, lambda k: (tg.randn(3), tg.randn(3))


@case
def one_tensor_twice() -> Any:
    def step(x: Any, y: Any) -> Any:
        x.add_(1)
        return y * 2

    def args(k: int) -> Any:
        x = tg.randn(3)
        return x, x if k > 3 else tg.randn(3)

    return step, args


@case
def arguments_that_are_state() -> Any:
    held = tg.zeros(4)

    def step(x: Any) -> Any:
        held.add_(1)
        return x * 2, held * 1

    return step, lambda k: (tg.randn(2) if k < 4 else held[1:3],), [held]


@case
def arguments_that_are_parameters() -> Any:
    w = tg.randn(3).requires_grad_()
    optimizer = tg.optim.SGD([w], lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss, x * 1

    return step, lambda k: (w.detach(),), [w]


@case
def views_and_captured_tensors_in_place() -> Any:
    held = tg.zeros(4, 3)

    def step(x: Any) -> Any:
        held[1].add_(x)
        held[:, 0].mul_(0.5)
        y = x * 2
        y[1:].add_(held[1, 1:])
        return held.sum(0), y, held[1], held.T, x.view(-1)

    return step, lambda k: (tg.randn(3),), [held]


@case
def arguments_that_lie_anyhow() -> Any:
    def args(k: int) -> Any:
        ways = [tg.randn(4, 4)[::2], tg.randn(4, 2).T, tg.randn(2, 8)[:, ::2], tg.randn(2, 4).flip(1), tg.randn(4).expand(2, 4)]
        return (ways[k % 5],)

    return lambda x: (x.sum(0), x.reshape(-1) * 2, x.T @ x, x.exp()), args


@case
def transposes_of_fewer_axes() -> Any:
    def step(x: Any, y: Any) -> Any:
        z = (x + 1).transpose(0, 1)
        return tg.hypot(y, z), y * z, (z * 2 + y).sum(0)

    return step, lambda k: (tg.randn(2, 3), tg.randn(1, 1, 1))


@case
def reductions_of_repeated_elements() -> Any:
    def step(x: Any) -> Any:
        wide, tall = x.expand(3, 2), x.reshape(2, 1).expand(2, 3)
        made = [f(y, d) for y in (wide, tall) for d in (0, 1) for f in (tg.sum, tg.amax, tg.mean, tg.prod, tg.var)]
        return [*made, F.softmax(wide, 1), F.softmax(tall, 1), wide.sum(1, keepdim=True) * 2, x.expand(2, 3, 2).sum((0, 2))]

    return step, lambda k: (tg.randn(2),)


@case
def functions_of_sums_over_rows_in_double_precision() -> Any:
    def step(x: Any) -> Any:
        total, largest = x.abs().sum(1, keepdim=True), x.amax(1, keepdim=True)
        names = ("log", "exp", "tanh", "log1p", "sin", "exp2", "log2")
        return [total, largest, x / total, *[getattr(y, name)() for y in (total, largest.abs()) for name in names]]

    return step, lambda k: (tg.randn(5, 3).double(),)


@case
def no_elements() -> Any:
    def step(x: Any) -> Any:
        padded = F.pad(x, (1, 1), value=0.7)
        return (
            x * 2,
            x.sum(0),
            x.sum(1),
            tg.cat([x, x]),
            x @ x.T,
            x.T @ x,
            F.softmax(x, 1),
            padded.sum(),
            padded.sum(0),
            padded.prod(0),
        )

    return step, lambda k: (tg.randn(0, 3),)


@case
def one_element_and_other_dtypes() -> Any:
    def step(x: Any, i: Any, b: Any) -> Any:
        return (
            (x * 2).tanh(),
            x.half() + 1,
            x.double() / 3,
            i // 3,
            i % 3,
            i.sum(),
            b & (i > 2),
            ~b,
            i.float() / 2,
            i.argmax(),
            -i,
        )

    return step, lambda k: (tg.randn(()), tg.randint(-9, 9, (6,)), tg.rand(6) > 0.5)


@case
def what_is_not_finite() -> Any:
    def step(x: Any) -> Any:
        made = [
            x.max(),
            x.min(),
            tg.maximum(x, x.flip(0)),
            F.relu(x),
            x.clamp(-1, 1),
            x.sum(),
            F.softmax(x, 0),
            x.sign(),
            x.isnan(),
        ]
        return [*made, tg.where(x > 0, x, -x), F.gelu(x), x.tanh(), x.sigmoid(), F.softplus(x), x.exp(), x.log()]

    odd = tg.tensor([1.0, float("nan"), -2.0, float("inf"), -float("inf"), 0.0])
    return step, lambda k: (odd if k % 2 else tg.tensor([1.0, 3.0, -2.0, 88.0, -float("inf"), -0.0]),)


@case
def a_recurrence_over_no_sequences() -> Any:
    cell, head = nn.RNNCell(3, 4), nn.Linear(4, 2)
    model = nn.ModuleList([cell, head])

    def loss(x: Any) -> Any:
        h, total = tg.zeros(0, 4), tg.zeros(())
        for row in x:
            h = cell(row, h)
            total = total + head(h).square().sum()
        return total

    return trainer(model, loss), lambda k: (tg.randn(5, 0, 3),), state_of(model)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_beside_the_plain_one(name: str, backend: str) -> None:
    if backend == "native":
        pytest.importorskip("llvmlite")
    compiled = assert_same(CASES[name], backend)
    assert compiled.replays > 0 or name == "arguments_that_are_parameters"


def test_arguments_by_name_in_any_order() -> None:
    step = tg.compile(lambda **given: given["a"] - given["b"] * 2)
    for k in range(16):
        a, b = tg.randn(2), tg.randn(2)
        made = step(b=b, a=a) if k % 3 else step(a=a, b=b)
        np.testing.assert_allclose(made.numpy(), (a - b * 2).numpy(), rtol=1e-6)
    assert step.replays > 8


@pytest.mark.parametrize("keep", ["tensor", "array", "changed"])
def test_gradients_that_somebody_keeps_stay_as_they_are(keep: str) -> None:
    def make() -> Any:
        model, kept = nn.Linear(3, 3), []
        step = trainer(model, lambda x: model(x).square().mean())

        def after() -> list[Any]:
            gradient = model.weight.grad
            if keep == "changed":
                gradient.mul_(2.0)
            kept.append(gradient.numpy() if keep == "array" else gradient)
            return list(kept)

        return step, lambda k: (tg.randn(6, 3),), state_of(model), after

    assert assert_same(make, "numpy").replays > 0


# ---- what is left behind ---------------------------------------------------------------------------


def network(backend: str | None = "numpy") -> tuple[nn.Module, Any, Any]:
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
    return model, optimizer, tg.compile(trainer(model, lambda x: model(x).square().mean(), optimizer), backend=backend)


def test_replays_keep_nothing() -> None:
    _, _, step = network(None)
    x = tg.randn(6, 4)
    for _ in range(100):
        step(x)
    gc.collect()
    tracemalloc.start()
    try:
        step(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5_000):
            step(x)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


def test_what_nobody_holds_is_freed() -> None:
    model, optimizer, step = network()
    for _ in range(5):
        step(tg.ones(6, 4))
    references = [weakref.ref(model), weakref.ref(step), weakref.ref(step._last), weakref.ref(step._last.executor)]
    del model, optimizer, step
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_calls_that_never_become_a_program_are_not_kept() -> None:
    step = tg.compile(lambda x, n: x * n, cache_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(300):
            step(tg.ones(1), n)
    assert len(step._candidates) <= 4 and len(step._once) < 300 and len(step._eager) <= 64


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
def test_an_interruption_at_any_operator_leaves_no_trace(failure: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    x, plain = tg.randn(6, 4), trace.Trace.note_step
    for at in range(1, 200, 4):
        model, optimizer, step = network("plain")
        if at % 8 == 1:
            step.__wrapped__(x)
        left = [at]

        def note_step(self: Any, *args: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if not left[0]:
                raise failure
            return plain(self, *args)

        monkeypatch.setattr(trace.Trace, "note_step", note_step)
        try:
            step(x)
        except failure:
            pass
        monkeypatch.setattr(trace.Trace, "note_step", plain)
        assert modes.recording is None
        held = [*state_of(model), *[p.grad for p in model.parameters() if p.grad is not None]]
        assert not [t for t in held if type(t.array) is Traced]
        numbers = [v for state in optimizer.state.values() for v in state.values()]
        assert not [v for v in numbers if type(v) is Traced or (isinstance(v, float) and type(v) is not float)]
        for _ in range(4):
            assert np.isfinite(step(x).item())
        if left[0] > 0:
            break
    assert at > 60


class Holding(nn.Module):
    """A module with a compiled part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.compiled = tg.compile(self.layer)

    def forward(self, x: Any) -> Any:
        return self.compiled(x)


@tg.compile
def doubled(x: Any) -> Any:
    return x * 2


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_and_pickles(again: Callable[[Any], Any]) -> None:
    x, model = tg.randn(3, 4), Holding()
    for _ in range(4):
        model(x)
    other = again(model)
    with tg.no_grad():
        other.layer.weight.zero_()
        for _ in range(4):
            np.testing.assert_allclose(other(x).numpy(), np.broadcast_to(other.layer.bias.detach().numpy(), (3, 2)))
            np.testing.assert_allclose(model(x).numpy(), model.layer(x).numpy(), rtol=1e-5)
    assert again(doubled) is doubled


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process() -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256))
    step = tg.compile(tg.no_grad(lambda x: model(x).sum()))
    x = tg.randn(256, 256)
    for _ in range(4):
        expected = step(x).item()
    child = os.fork()
    if not child:
        signal.alarm(20)
        made = [step(x).item() for _ in range(5)]
        os._exit(0 if np.allclose(made, expected, rtol=1e-3, atol=1e-2) else 1)
    assert os.waitpid(child, 0)[1] == 0


# ---- what is refused -------------------------------------------------------------------------------


def test_parameters_that_change_before_the_backward() -> None:
    layer = nn.Linear(3, 3)
    forward = tg.compile(lambda x: (layer(x) * layer.weight.sum()).tanh())
    for _ in range(4):
        made = forward(tg.ones(2, 3))
    assert forward.replays
    with tg.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(GradientError, match="TG-G003"):
        made.sum().backward()


def test_a_seed_inside_of_a_step() -> None:
    step = tg.compile(lambda x: (tg.manual_seed(3), x + tg.rand(3))[1])
    with pytest.warns(UserWarning, match="random numbers anew"):
        assert len({tuple(step(tg.zeros(3)).tolist()) for _ in range(6)}) == 1


def test_lazy_layers_are_called_once_before() -> None:
    step = tg.compile(nn.LazyLinear(2))
    with pytest.raises(UsageError, match="call the model once"):
        step(tg.ones(1, 3))
