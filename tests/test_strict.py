"""The stand-in for CuPy refuses what CuPy refuses, notes what makes a GPU wait, and gives NumPy's values for all the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import demo_operators as demo
import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.backend.random import Generator
from tinygrad_ja.testing import strict
from tinygrad_ja.testing.strict import LeakError, xp

HOST = np.ones((2, 3))


@pytest.fixture
def x() -> Any:
    return strict.array(HOST)


LEAKS: dict[str, Callable[[Any], Any]] = {
    "np.exp(x)": lambda x: np.exp(x),
    "np.sum(x)": lambda x: np.sum(x),
    "np.asarray(x)": lambda x: np.asarray(x),
    "np.array([x])": lambda x: np.array([x, x]),
    "np.stack": lambda x: np.stack([x, x]),
    "np.float32(x)": lambda x: np.float32(x),
    "x + host": lambda x: x + HOST,
    "host + x": lambda x: HOST + x,
    "host @ x": lambda x: HOST.T @ x,
    "x += host": lambda x: x.__iadd__(HOST),
    "where with a host array": lambda x: xp.where(x > 0, HOST, x),
    "exp of a host array": lambda x: xp.exp(HOST),
    "concatenate with a host array": lambda x: xp.concatenate([x, HOST]),
    "x[...] = host": lambda x: x.__setitem__(..., HOST),
    "out=host": lambda x: xp.exp(x, out=HOST.copy()),
    "ufunc where=": lambda x: xp.add(x, x, where=x > 0),
    "sum initial=": lambda x: xp.sum(x, initial=1.0),
    "x.sum(where=)": lambda x: x.sum(where=x > 0),
    "var correction=": lambda x: xp.var(x, correction=1),
    "clip min=": lambda x: xp.clip(x, min=0.0),
    "argsort stable=": lambda x: xp.argsort(x, stable=True),
    "take mode=": lambda x: xp.take(x, xp.zeros(1, int), mode="clip"),
    "maximum.reduce": lambda x: xp.maximum.reduce(x),
    "add.reduce initial": lambda x: xp.add.reduce(x, 0, None, None, True, 0.0),
    "add.reduce where": lambda x: xp.add.reduce(x, 0, where=x > 0),
    "logical_or.accumulate": lambda x: xp.logical_or.accumulate(x),
    "multiply.at": lambda x: xp.multiply.at(x, xp.zeros(1, int), 2.0),
    "subtract.at of float64": lambda x: xp.subtract.at(x, xp.zeros(1, int), 2.0),
    "xp.errstate": lambda x: xp.errstate,
    "xp.unstack": lambda x: xp.unstack,
    "linalg.vector_norm": lambda x: xp.linalg.vector_norm,
    "linalg.multi_dot": lambda x: xp.linalg.multi_dot,
    "x.ctypes": lambda x: x.ctypes,
    "range(x)": lambda x: range(x[0, 0]),
    "hash(x)": lambda x: hash(x),
    "x + list": lambda x: x + [1.0, 2.0, 3.0],
    "ufunc of a list": lambda x: xp.add(x, [1.0, 2.0, 3.0]),
    "an index twice": lambda x: x.__setitem__(xp.array([0, 0]), x[:2]),
    "an index twice along an axis": lambda x: xp.put_along_axis(x, xp.zeros((2, 2), int), x[:, :2], 1),
    "two masks": lambda x: x[xp.ones(2, bool), xp.ones(3, bool)],
    "Generator.permutation": lambda x: strict.STRICT.random(0, 0).permutation(3),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_refused(leak: str, x: Any) -> None:
    with pytest.raises((LeakError, TypeError)):
        LEAKS[leak](x)


def test_a_refusal_names_the_rule(x: Any) -> None:
    with pytest.raises(LeakError, match=r"TG-V003.*xp.sum\(..., initial=\).*no such keyword"):
        xp.sum(x, initial=0.0)


def test_products_of_stacks_of_bfloat16_are_refused() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    stack = strict.array(np.ones((2, 2, 2), bfloat16))
    with pytest.raises(LeakError, match="bfloat16"):
        xp.matmul(stack, stack)
    with pytest.raises(LeakError, match="bfloat16"):
        stack @ stack


WAITS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "float": ("d2h", lambda x: float(x.sum())),
    "int": ("d2h", lambda x: int(x.sum())),
    "if": ("d2h", lambda x: bool(x.all())),
    "item": ("d2h", lambda x: x.sum().item()),
    "tolist": ("d2h", lambda x: x.tolist()),
    "get": ("d2h", lambda x: x.get()),
    "math.exp": ("d2h", lambda x: math.exp(x[0, 0])),
    "mask": ("d2h", lambda x: x[x > 0]),
    "nonzero": ("d2h", lambda x: xp.nonzero(x)),
    "where of one argument": ("d2h", lambda x: xp.where(x > 0)),
    "unique": ("d2h", lambda x: xp.unique(x)),
    "bincount": ("d2h", lambda x: xp.bincount(x.ravel().astype(int))),
    "list as index": ("h2d", lambda x: x[[0, 1]]),
    "host index": ("h2d", lambda x: x[np.array([0, 1])]),
    "asarray": ("h2d", lambda x: xp.asarray(HOST)),
    "array of a list": ("h2d", lambda x: xp.array([1.0])),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_hidden_wait_or_copy_is_noted(wait: str, x: Any) -> None:
    kind, action = WAITS[wait]
    with strict.watch() as events:
        action(x)
    assert kind in [event.kind for event in events]


SILENT: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda a: (a + 1.0) * a / 2 - a**2 @ a.T if a.ndim == 0 else (a + 1.0) * a / 2 - a**2,
    "number first": lambda a: np.float64(2.0) * a,
    "reduction": lambda a: a.sum(0, keepdims=True) + a.max(),
    "comparison": lambda a: a >= 1.0,
    "slices": lambda a: a[:, 1:] + a[0, 0],
    "transpose": lambda a: a.T.reshape(-1),
    "product": lambda a: a @ a.T,
    "dtype": lambda a: a.astype(np.float32),
}


@pytest.mark.parametrize("action", SILENT)
def test_what_cupy_does_gives_the_values_of_numpy_without_events(action: str, x: Any) -> None:
    with strict.watch() as events:
        made = SILENT[action](x)
    assert events == []
    expected = SILENT[action](HOST)
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(strict.peek(made), expected)


def test_results_without_dimensions_are_arrays(x: Any) -> None:
    assert type(x.sum()) is type(x[0, 0]) is type(xp.max(x)) is strict.ndarray
    assert x[0, 0].shape == ()


def test_a_function_that_returns_its_argument_returns_the_same_object(x: Any) -> None:
    assert x.astype(np.float64, copy=False) is x
    assert xp.ascontiguousarray(x) is x
    assert x[:1].base is not None
    assert x.base is None


def test_functions_on_indices_given_once_are_allowed(x: Any) -> None:
    index = strict.array(np.array([1, 0]))
    x[index] = x + 1.0
    xp.add.at(x, index, 1.0)
    np.testing.assert_array_equal(strict.peek(x), np.full((2, 3), 3.0))
    x[x > 0] = 0.0
    np.testing.assert_array_equal(strict.peek(x), np.zeros((2, 3)))


def test_a_device_by_name() -> None:
    assert str(tg.Device("strict")) == "strict"
    t = tg.tensor([1.0, 2.0], device="strict", requires_grad=True)
    assert t.device == "strict"
    (t * t).sum().backward()
    assert t.grad.device == "strict"
    assert t.grad.cpu().tolist() == [2.0, 4.0]


def test_mixing_it_with_the_cpu_names_both() -> None:
    with pytest.raises(tg.errors.DeviceError, match="strict.*cpu|cpu.*strict"):
        tg.tensor([1.0], device="strict") + tg.tensor([1.0])


def test_random_numbers_are_drawn_on_it() -> None:
    drawn = Generator("strict").manual_seed(3).normal((2, 2), np.float32)
    assert type(drawn) is strict.ndarray
    assert drawn.dtype == np.float32


def test_three_training_steps_give_the_losses_of_numpy_and_never_wait() -> None:
    expected, _ = demo.demo_mlp("cpu")
    losses, events = demo.demo_mlp("strict")
    assert events == []
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert losses[2] < losses[0]
