"""Means of weights: exponential and equal, buffers, devices, and batch norm anew."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.optim.swa_utils import AveragedModel, get_ema_avg_fn, update_bn


class Counter(nn.Module):
    """A weight, and a buffer that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(tg.zeros(2))
        self.register_buffer("seen", tg.zeros(1))
        self.register_buffer("count", tg.tensor(0))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x * self.weight

    def become(self, value: float) -> Counter:
        self.weight.array[...] = value
        self.seen.array[...] = 10 * value
        self.count.array[...] = int(value)
        return self


def averaged(values, **options):
    model = Counter()
    mean = AveragedModel(model, **options)
    for value in values:
        mean.update_parameters(model.become(value))
    return mean


def test_by_default_every_model_counts_the_same() -> None:
    mean = averaged([1.0, 2.0, 6.0])
    assert mean.module.weight.tolist() == [3.0, 3.0] and mean.n_averaged.item() == 3


def test_an_exponential_mean_forgets() -> None:
    mean = averaged([1.0, 2.0, 6.0], avg_fn=get_ema_avg_fn(0.5))
    assert mean.module.weight.tolist() == [3.75, 3.75]  # 0.5 · (0.5 · 1 + 0.5 · 2) + 0.5 · 6


def test_buffers_are_copied_or_averaged() -> None:
    assert averaged([1.0, 3.0]).module.seen.tolist() == [30.0]
    both = averaged([1.0, 3.0], use_buffers=True)
    assert both.module.seen.tolist() == [20.0] and both.module.count.item() == 3  # an integer has no mean


def test_the_model_itself_stays() -> None:
    model = Counter().become(2.0)
    mean = AveragedModel(model)
    mean.update_parameters(model)
    mean.module.weight.array[...] = 7.0
    assert model.weight.tolist() == [2.0, 2.0]
    assert mean(tg.ones(2)).tolist() == [7.0, 7.0]


def test_its_state_names_the_model() -> None:
    mean = averaged([1.0, 2.0])
    other = AveragedModel(Counter())
    other.load_state_dict(mean.state_dict())
    assert set(mean.state_dict()) == {"n_averaged", "module.weight", "module.seen", "module.count"}
    other.update_parameters(Counter().become(6.0))
    assert other.module.weight.tolist() == [3.0, 3.0]


def test_it_can_be_pickled() -> None:
    mean = pickle.loads(pickle.dumps(averaged([1.0, 2.0])))
    mean.update_parameters(Counter().become(6.0))
    assert mean.module.weight.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("other", [nn.Linear(2, 2), nn.Sequential()])
def test_a_model_of_other_shapes_is_refused_and_nothing_changes(other) -> None:
    mean = averaged([1.0, 2.0])
    with pytest.raises(ShapeError, match="update_parameters"):
        mean.update_parameters(other)
    assert mean.module.weight.tolist() == [1.5, 1.5] and mean.n_averaged.item() == 2


def test_a_compiled_function_that_makes_a_mean_itself() -> None:
    model = nn.Linear(2, 1)

    def step(x: tg.Tensor) -> tg.Tensor:
        mean = AveragedModel(model)
        mean.update_parameters(model)
        return mean(x).detach()

    compiled, x = tg.compile(step), tg.ones(1, 2)
    assert [compiled(x).tolist() for _ in range(4)] == [step(x).tolist()] * 4


def test_a_decay_is_a_share() -> None:
    with pytest.raises(ArgumentError, match="0 <= decay <= 1"):
        get_ema_avg_fn(1.5)


def test_batch_norm_gets_the_statistics_of_the_averaged_model() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    model.eval()
    batches = [np.random.default_rng(i).normal(i, 2.0, (50, 2)).astype(np.float32) for i in range(3)]
    update_bn([(tg.tensor(batch), None) for batch in batches], model)
    norm = model[0]
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([b.mean(0) for b in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), np.mean([b.var(0, ddof=1) for b in batches], 0), rtol=1e-5)
    assert norm.momentum == 0.1 and not model.training
