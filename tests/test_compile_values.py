"""``tg.compile``: operators whose work depends on values cannot be replayed, so a function that calls them runs as it is; and so does one
that computes in other threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import UsageError
from tinygrad_ja.nn import functional as F

BOXES = tg.tensor([[0.0, 0, 2, 2], [0.5, 0.5, 2, 2], [3, 3, 5, 5]])
SCORES = tg.tensor([0.9, 0.8, 0.7])
TABLE = tg.rand(6, 4)

CALLS: dict[str, Any] = {
    "multinomial": lambda x, i: tg.multinomial(x.abs(), 2),
    "unique": lambda x, i: tg.unique(i),
    "unique_consecutive": lambda x, i: tg.unique_consecutive(i),
    "bincount": lambda x, i: tg.bincount(i),
    "histc": lambda x, i: tg.histc(x, 4),
    "scatter_reduce": lambda x, i: tg.zeros(6, 4).scatter_reduce(0, i[:, None].expand(6, 4), x, "prod"),
    "embedding": lambda x, i: F.embedding(i, TABLE * 1.0, max_norm=1.0),
    "matrix_exp": lambda x, i: tg.linalg.matrix_exp(x[:4]),
    "nms": lambda x, i: F.nms(BOXES, SCORES + x.sum() * 0, 0.5),
    "roi_align": lambda x, i: F.roi_align(x[None, None], [BOXES], 3),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore:compile")
def test_the_function_runs_as_it_is(name: str) -> None:
    call = CALLS[name]
    step = tg.compile(lambda x, i: (tg.rand(3), call(x * 1.0, i)))
    found = []
    for function in (step.__wrapped__, step):
        tg.manual_seed(5)
        batches = [(tg.rand(6, 4), tg.randint(0, 4, (6,))) for _ in range(4)]
        found.append([function(*batch) for batch in batches])
    for expected, made in zip(*found):  # the stream of random numbers goes on as well
        for a, b in zip(expected, made):
            np.testing.assert_array_equal(b.numpy(), a.numpy())
    assert step.recordings == 1 and step.replays == 0
    assert name in step.notes[0]


@pytest.mark.filterwarnings("ignore:compile")
def test_gradients_that_were_set_to_none_before_are_no_effect() -> None:
    def make() -> Any:
        tg.manual_seed(0)
        layer = nn.Linear(4, 6)
        optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            rows = tg.multinomial(tg.softmax(layer(x).detach(), -1), 2)
            loss = layer(x).gather(1, rows).sum()
            loss.backward()
            optimizer.step()
            return loss

        return step

    runs = []
    for wrap in (lambda f: f, tg.compile):
        step = wrap(make())
        runs.append([step(tg.ones(3, 4)).item() for _ in range(4)])
    assert runs[0] == runs[1]


def test_an_effect_before_is_not_done_twice() -> None:
    weight = tg.ones(2, requires_grad=True)
    weight.grad = tg.ones(2)
    optimizer = tg.optim.SGD([weight], lr=0.5)

    @tg.compile
    def step(x: Any) -> Any:
        optimizer.step()
        return tg.unique(x)

    with pytest.raises(UsageError, match=r"tg\.unique asks(.|\n)*outside of what is recorded"):
        step(tg.ones(3))
    assert weight.tolist() == [0.5, 0.5]


def test_code_of_the_user_that_reads_is_shown() -> None:
    with pytest.raises(UsageError, match=r"x\.array\.item"):
        tg.compile(lambda x: x * x.sum().item())(tg.ones(2))


def test_what_another_thread_computes_is_not_frozen(backend: str) -> None:
    weight = tg.ones(3)

    def step(x: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: x * weight).result() + float(pool.submit(lambda: weight[0].item()).result())

    compiled = tg.compile(step, backend=backend)
    found = []
    for function in (step, compiled):
        weight.fill_(1.0)
        with pytest.warns(UserWarning, match="another thread") if function is compiled else nullcontext():
            found.append([(function(tg.full((3,), 2.0 + k // 6)).tolist(), weight.mul_(1 + k // 3))[0] for k in range(9)])
    assert found[0] == found[1] and compiled.replays == 0
