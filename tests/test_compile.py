"""``tg.compile``: what a compiled step does is what the plain one does, whatever it contains; and nothing that it has read goes stale."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_runs import arrays, assert_same_run, batches, train

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.backend import random

F = nn.functional


# ---- whole steps ---------------------------------------------------------------------------------


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: tg.optim.SGD(p, lr=0.1),
    "momentum": lambda p: tg.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "Adam": lambda p: tg.optim.Adam(p, lr=0.01),
    "AMSGrad": lambda p: tg.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda p: tg.optim.AdamW(p, lr=0.01),
    "NAdam": lambda p: tg.optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: tg.optim.RAdam(p, lr=0.01),
    "Adamax": lambda p: tg.optim.Adamax(p, lr=0.01),
    "Adagrad": lambda p: tg.optim.Adagrad(p, lr=0.05),
    "Adadelta": lambda p: tg.optim.Adadelta(p, lr=1.0),
    "RMSprop": lambda p: tg.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adafactor": lambda p: tg.optim.Adafactor(p, lr=0.3),
    "Muon": lambda p: tg.optim.Muon([w for w in p if w.ndim == 2], lr=0.01),
    "LARS": lambda p: tg.optim.LARS(p, lr=0.05),
    "LAMB": lambda p: tg.optim.LAMB(p, lr=0.01),
    "ASGD": lambda p: tg.optim.ASGD(p, lr=0.05),
    "Rprop": lambda p: tg.optim.Rprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_with_each_optimizer(name: str, backend: str) -> None:
    def make() -> Any:
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        step = train(model, OPTIMIZERS[name](model.parameters()), lambda m, x, y: F.mse_loss(m(x), y), clip=1.0)
        return step, list(model.parameters())

    compiled = assert_same_run(make, batches(15, (4, 3), (4, 2)), backend)
    assert compiled.replays >= 9


def test_200_steps_with_dropout_batch_norm_schedule_and_scaler(backend: str) -> None:
    def make() -> Any:
        # no bias before the normalisation: its gradient is rounding alone, which Adam makes as large as any other
        model = nn.Sequential(nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 2))
        optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
        schedule = tg.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=200, cycle_momentum=False)
        scaler = tg.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=30)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            return loss, norm

        return step, [*model.parameters(), *model.buffers()]

    compiled = assert_same_run(make, batches(200, (8, 3), (8, 2)), backend, rtol=2e-3, atol=2e-4)
    assert compiled.replays > 190


def test_a_skipped_step_of_the_scaler(backend: str) -> None:
    def make() -> Any:
        model = nn.Linear(2, 1)
        optimizer = tg.optim.Adam(model.parameters(), lr=0.1)
        scaler = tg.amp.GradScaler("cpu", init_scale=4.0)
        scales: list[float] = []

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = model(x).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss

        def outer(x: Any) -> Any:
            made = inner(x)
            scales.append(scaler.get_scale())
            return made

        inner = step
        make.scaler = scaler  # type: ignore[attr-defined]
        return step, list(model.parameters())

    data = batches(9, (3, 2))
    data[6] = (data[6][0] * float("inf"),)
    compiled = assert_same_run(make, data, backend)
    assert compiled.replays >= 4
    assert make.scaler.get_scale() == 2.0  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize("growth_interval, skipped", [(1, ()), (2, (0, 1, 2, 5)), (9, (0, 1, 2, 3))])
def test_a_scale_that_changes_while_the_step_is_recorded(growth_interval: int, skipped: tuple[int, ...], backend: str) -> None:
    scalers: list[tg.amp.GradScaler] = []

    def make() -> Any:
        model = nn.Linear(2, 1)
        optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
        scaler = tg.amp.GradScaler("cpu", init_scale=64.0, growth_interval=growth_interval)
        scalers.append(scaler)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss

        return step, list(model.parameters())

    data = [(x * float("inf"),) if k in skipped else (x,) for k, (x,) in enumerate(batches(9, (3, 2)))]
    assert assert_same_run(make, data, backend).replays >= 4
    assert scalers[0].state_dict() == scalers[1].state_dict() and scalers[0].get_scale() != 64.0


def test_a_schedule_that_watches_the_loss(backend: str) -> None:
    def make() -> Any:
        model = nn.Linear(3, 1)
        optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
        schedule = tg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            schedule.step(loss)
            return loss

        make.optimizer = optimizer  # type: ignore[attr-defined]
        return step, list(model.parameters())

    assert_same_run(make, batches(20, (4, 3)), backend)
    assert make.optimizer.param_groups[0]["lr"] < 0.1  # type: ignore[attr-defined]


def test_two_optimizers_as_in_a_gan(backend: str) -> None:
    def make() -> Any:
        generator, critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
        of_g, of_c = tg.optim.Adam(generator.parameters(), lr=0.01), tg.optim.Adam(critic.parameters(), lr=0.02)

        def step(real: Any) -> Any:
            fake = generator(tg.randn(4, 2))
            of_c.zero_grad()
            bce = F.binary_cross_entropy_with_logits
            of_critic = bce(critic(real), tg.ones(4, 1)) + bce(critic(fake.detach()), tg.zeros(4, 1))
            of_critic.backward()
            of_c.step()
            of_g.zero_grad()
            of_generator = bce(critic(fake), tg.ones(4, 1))
            of_generator.backward()
            of_g.step()
            return of_critic, of_generator

        return step, [*generator.parameters(), *critic.parameters()]

    assert_same_run(make, batches(10, (4, 3)), backend)


def test_gradients_accumulate_within_a_step_and_over_steps(backend: str) -> None:
    def make() -> Any:
        model = nn.Linear(3, 1)
        optimizer = tg.optim.SGD(model.parameters(), lr=0.05)

        def within(a: Any, b: Any) -> Any:
            for part in (a, b):
                model(part).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            return model.weight.detach().sum()

        return within, list(model.parameters())

    assert_same_run(make, batches(8, (2, 3), (2, 3)), backend)

    def make_over() -> Any:
        model = nn.Linear(3, 1)

        def over(a: Any) -> Any:
            loss = model(a).square().mean()
            loss.backward()
            return loss

        return over, [Gradient(p) for p in model.parameters()]

    assert_same_run(make_over, batches(8, (2, 3)), backend)


class Gradient(list):
    """The gradient of a parameter, read when it is compared."""

    def __init__(self, p: Any) -> None:
        self.p = p

    def __iter__(self) -> Any:
        return iter([self.p.grad])


def test_gradients_are_there_after_a_replay(backend: str) -> None:
    def make() -> Any:
        model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 1))
        optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
        return train(model, optimizer, lambda m, x: m(x).mean()), [Gradient(p) for p in model.parameters()]

    assert_same_run(make, batches(7, (5, 3)), backend)


def test_forward_only_without_gradients(backend: str) -> None:
    def make() -> Any:
        model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 2))

        def forward(x: Any) -> Any:
            with tg.no_grad():
                return F.softmax(model(x), 1), x.sum(0)

        return forward, []

    assert_same_run(make, batches(6, (5, 3)), backend)


def test_random_numbers_are_those_of_the_eager_stream(backend: str) -> None:
    def make() -> Any:
        def draw(x: Any) -> Any:
            return tg.rand(3), F.dropout(x, 0.5), tg.randn(2, 2), tg.randint(0, 9, (4,)), tg.randperm(5)

        return draw, []

    compiled = assert_same_run(make, batches(8, (6,)), backend)
    tg.manual_seed(3)
    first = compiled(tg.ones(6))[0]
    tg.manual_seed(3)
    assert compiled(tg.ones(6))[0].tolist() == first.tolist()
    assert compiled(tg.ones(6))[0].tolist() != first.tolist()


def test_truncated_bptt_with_carried_state(backend: str) -> None:
    def make() -> Any:
        cell, head = nn.LSTMCell(3, 5), nn.Linear(5, 2)
        optimizer = tg.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.02)

        def step(x: Any, y: Any, h: Any, c: Any) -> Any:
            optimizer.zero_grad()
            loss = 0.0
            for t in range(4):
                h, c = cell(x[t], (h, c))
                loss = loss + F.mse_loss(head(h), y[t])
            loss.backward()
            optimizer.step()
            return loss, h.detach(), c.detach()

        make.step = step  # type: ignore[attr-defined]
        return step, list(cell.parameters())

    data = batches(12, (4, 2, 3), (4, 2, 2))
    runs = []
    for wrap in (lambda f: f, functools.partial(tg.compile, backend=backend)):
        tg.manual_seed(0)
        step, parameters = make()
        step = wrap(step)
        h, c = tg.zeros(2, 5), tg.zeros(2, 5)
        losses = []
        for x, y in data:
            loss, h, c = step(x, y, h, c)
            losses.append(loss.item())
        runs.append((losses, h.cpu().numpy(), parameters[0].detach().cpu().numpy().copy()))
    for a, b in zip(*runs):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_state_that_is_kept_in_an_attribute(backend: str) -> None:
    class Carrier:
        h: Any = None

    def make() -> Any:
        cell, carrier = nn.GRUCell(3, 4), Carrier()
        carrier.h = tg.zeros(2, 4)
        optimizer = tg.optim.SGD(cell.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            h = cell(x, carrier.h)
            loss = h.square().mean()
            loss.backward()
            optimizer.step()
            carrier.h = h.detach()
            return loss

        return step, list(cell.parameters())

    assert_same_run(make, batches(10, (2, 3)), backend)


@pytest.mark.parametrize("first", ["zeros", "none"])
def test_a_state_of_two_that_is_kept_in_an_attribute_as_a_tuple(backend: str, first: str) -> None:
    class Carrier:
        state: Any = None

    def make() -> Any:
        lstm, carrier = nn.LSTM(3, 4, num_layers=2), Carrier()
        if first == "zeros":
            carrier.state = (tg.zeros(2, 2, 4), tg.zeros(2, 2, 4))
        optimizer = tg.optim.SGD(lstm.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            y, state = lstm(x, carrier.state)
            loss = y.square().mean()
            loss.backward()
            optimizer.step()
            carrier.state = nn.detach_state(state)
            return loss

        make.carrier = carrier  # type: ignore[attr-defined]
        return step, list(lstm.parameters())

    compiled = assert_same_run(make, batches(10, (5, 2, 3)), backend)
    assert compiled.recordings <= 3
    h, c = make.carrier.state  # type: ignore[attr-defined]
    make.carrier.state = (h * 0, c * 0)  # type: ignore[attr-defined]  # other Tensors in another tuple: nothing is recorded anew
    before, (x,) = compiled.recordings, batches(1, (5, 2, 3))[0]
    after_zeros = compiled(x).item()
    assert compiled.recordings == before
    make.carrier.state = (h * 0 + 5, c * 0)  # type: ignore[attr-defined]
    assert compiled(x).item() != after_zeros


def test_a_step_may_be_the_first_to_draw_on_a_device(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default generator of the device is made while the step is recorded."""
    found = []
    for wrap in (lambda f: f, functools.partial(tg.compile, backend=backend)):
        monkeypatch.delitem(random._streams.by_device, tg.get_default_device(), raising=False)
        tg.manual_seed(3)
        monkeypatch.delitem(random._streams.by_device, tg.get_default_device())
        step = wrap(lambda x: F.dropout(x, 0.5))
        found.append([step(tg.ones(8)).tolist() for _ in range(6)])
    assert found[0] == found[1] and step.replays >= 3


def test_checkpoint_inside(backend: str) -> None:
    def make() -> Any:
        first, second = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Tanh()), nn.Linear(6, 1)
        optimizer = tg.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = second(tg.checkpoint(first, x)).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, [*first.parameters(), *second.parameters()]

    assert_same_run(make, batches(9, (4, 3)), backend)


def test_autocast_inside(backend: str) -> None:
    def make() -> Any:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer = tg.optim.SGD(model.parameters(), lr=0.05)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            with tg.autocast("cpu", dtype=tg.float16):
                loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, list(model.parameters())

    assert_same_run(make, batches(8, (4, 4)), backend, rtol=1e-2, atol=1e-3)


def test_hooks_run_as_part_of_the_step(backend: str) -> None:
    def make() -> Any:
        model = nn.Linear(3, 2)
        for p in model.parameters():
            p.register_hook(lambda g: g * 0.5)
        return train(model, tg.optim.SGD(model.parameters(), lr=0.1), lambda m, x: m(x).square().mean()), [*model.parameters()]

    assert_same_run(make, batches(7, (4, 3)), backend)


def test_gradients_that_the_caller_puts_there_may_be_clipped_in_place(backend: str) -> None:
    """Others at each call, as those that replicas have averaged; one of them for two parameters now and then."""
    runs = []
    for wrap in (lambda f: f, functools.partial(tg.compile, backend=backend)):
        tg.manual_seed(0)
        model = nn.Linear(4, 4)
        optimizer = tg.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

        def clip_and_step(model: Any = model, optimizer: Any = optimizer) -> None:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()

        update = wrap(clip_and_step)
        rng = np.random.default_rng(0)
        found = []
        for _ in range(7):
            for p in model.parameters():
                p.grad = tg.tensor(rng.normal(size=p.shape).astype(np.float32))
            update()
            found += [t.detach().cpu().numpy().copy() for p in model.parameters() for t in (p, p.grad)]
        shared = tg.tensor(np.ones((4, 4), np.float32))
        model.weight.grad, model.bias.grad = shared, shared[0]
        update()
        model.weight.grad, model.bias.grad = model.weight.detach(), tg.ones(4)  # a gradient that the step changes twice
        update()
        runs.append([*found, *[p.detach().cpu().numpy() for p in model.parameters()], shared.cpu().numpy()])
    assert update.replays >= 4
    for plain, compiled in zip(*runs, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)


# ---- results that want gradients ------------------------------------------------------------------


def test_a_compiled_model_in_an_eager_step(backend: str) -> None:
    runs = []
    for wrap in (lambda f: f, functools.partial(tg.compile, backend=backend)):
        tg.manual_seed(0)
        first = nn.Linear(3, 4)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Tanh(), nn.Linear(6, 2))
        last = nn.Linear(2, 1)
        compiled = wrap(model)
        optimizer = tg.optim.SGD([*first.parameters(), *compiled.parameters(), *last.parameters()], lr=0.1)
        losses = []
        for (x,) in batches(10, (5, 3)):
            optimizer.zero_grad()
            loss = last(compiled(first(x))).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss)
        runs.append(arrays([losses, list(first.parameters()), list(model.parameters()), list(model.buffers())]))
    assert compiled.replays > 5
    for a, b in zip(*runs):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    model.eval()
    with tg.no_grad():
        np.testing.assert_allclose(compiled(tg.ones(1, 4)).cpu().numpy(), model(tg.ones(1, 4)).cpu().numpy(), rtol=1e-5)


def test_arguments_that_want_gradients(backend: str) -> None:
    step = tg.compile(lambda x, w: (x * w).tanh(), backend=backend)
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    for n in range(6):
        x = tg.tensor([0.1 * n, 0.2], requires_grad=True)
        y = x * 2
        w.grad = None
        made = step(y, w)
        made.sum().backward()
        expected = (y.detach() * w.detach()).tanh()
        np.testing.assert_allclose(made.detach().cpu().numpy(), expected.cpu().numpy(), rtol=1e-6)
        np.testing.assert_allclose(x.grad.cpu().numpy(), ((1 - expected**2) * w.detach() * 2).cpu().numpy(), rtol=1e-5)
        np.testing.assert_allclose(w.grad.cpu().numpy(), ((1 - expected**2) * y.detach()).cpu().numpy(), rtol=1e-5, atol=1e-7)
    assert step.replays >= 3
