"""What makes calls of a compiled function alike, said at length (``describe``) and at once (``recognizer``)."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compiler.signature import describe, recognizer
from tinygrad_ja.core.nested import mapped
from tinygrad_ja.core.tape import Node

X, Y, Z = tg.ones(2, 3), tg.ones(4, dtype=tg.float64), tg.ones(2, 3)
W = tg.ones(2, 3, requires_grad=True)


def known(args: tuple[Any, ...], others: tuple[Any, ...], **kwargs: Any) -> Any:
    """What a recognizer made for ``args`` says of others."""
    return recognizer(args, {}, describe(args, {}))(others, kwargs)


class Pair(NamedTuple):
    x: Any
    y: Any


OBJECT = object()


@pytest.mark.parametrize(
    "args",
    [
        (X,),
        (X, Y),
        (X, 2, 0.5, "mean", True, None, 0, False),
        (),
        (OBJECT, X),
        ((X, [Y, 3]), Pair(Z, Pair((), 1))),
    ],
)
def test_a_call_like_the_first_is_described_at_once(args: tuple[Any, ...]) -> None:
    others = mapped(args, lambda a: isinstance(a, tg.Tensor), tg.zeros_like)
    made, expected = known(args, others), describe(others, {})
    assert made == expected and [a is b for a, b in zip(made.arrays, expected.arrays, strict=True)] == [True] * len(made.arrays)


@pytest.mark.parametrize(
    ("args", "others"),
    [
        ((X,), (tg.ones(3, 2),)),
        ((X,), (X.double(),)),
        ((X,), (W,)),
        ((X,), (W * 2,)),
        ((X,), (X.numpy(),)),
        ((X,), (X, X)),
        ((X, Z), (X, X)),
        ((X, [Z]), (X, [X])),
        (([1], [1]), [[1]] * 2),
        ((X, 2), (X, 3)),
        ((X, 2), (X, 2.0)),
        ((X, 1), (X, True)),
        ((X, "a"), (X, "b")),
        ((X, 2), (2, X)),
        ((X, 0), (X, False)),
        ((X, 0), (X, 0.0)),
        ((OBJECT,), (object(),)),
        (((X, Y),), ([X, Y],)),
        (((X, Y),), (Pair(X, Y),)),
        (((X, Y),), ((X, Y, X),)),
        (((X, Y),), ((X, X),)),
        (((X, (Y,)),), ((X, Y),)),
    ],
)
def test_another_call_is_not(args: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    assert known(args, others) is None and describe(others, {}).key != describe(args, {}).key


def test_neither_is_one_in_another_mode_or_with_names() -> None:
    assert known((X,), (X,)) is not None
    assert known((X,), (), x=X) is None
    with tg.no_grad():
        assert known((X,), (X,)) is not None
    recognize = recognizer((X,), {}, describe((X,), {}))
    with tg.no_grad():
        assert recognize((X,), {}) is None
    with tg.autocast("cpu"):
        assert recognize((X,), {}) is None


@pytest.mark.parametrize("value", [W, W * 2, [X, W], {"x": X}, np.ones(2), 0.0, -0.0, math.nan, (1, 0.0), 1j])
def test_what_is_not_plain_is_described_at_length(value: Any) -> None:
    """Leaves, histories, dicts; and numbers of which some are equal to others, or not to themselves."""
    assert known((value,), (value,)) is None


def test_each_program_knows_its_calls() -> None:
    @tg.compile
    def double(x: tg.Tensor, times: int) -> tg.Tensor:
        return x * 2 * times

    for _ in range(3):
        for shape in ((2,), (3,)):
            for times in (1, 2):
                x = tg.ones(*shape)
                for _ in range(3):
                    assert double(x, times).tolist() == [2.0 * times] * shape[0]
    assert double.recordings == 8


def test_arrays_of_a_call_are_let_go() -> None:
    @tg.compile
    def total(pair: Any) -> tg.Tensor:
        return pair[0].sum() + pair[1].sum()

    for _ in range(4):
        pair = (tg.ones(3), tg.ones(3))
        kept = [weakref.ref(x.array) for x in pair]
        total(pair)
    assert total.replays >= 2
    del pair
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_the_graph_of_a_recorded_call_is_let_go() -> None:
    w = tg.ones(3, requires_grad=True)

    @tg.compile
    def slope(x: Any) -> tg.Tensor:
        h = (x * w).asinh()
        return tg.grad((h * h).sum(), h)[0]

    for _ in range(3):
        slope(tg.ones(3))
    gc.collect()
    assert not [x for x in gc.get_objects() if type(x) is Node and x.name == "asinh"]
