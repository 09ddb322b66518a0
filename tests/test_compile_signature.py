"""What makes calls of a compiled function alike, said at length (``describe``) and at once (``recognizer``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compiler.signature import describe, recognizer

X, Y = tg.ones(2, 3), tg.ones(4, dtype=tg.float64)
W = tg.ones(2, 3, requires_grad=True)


def known(args: tuple[Any, ...], others: tuple[Any, ...], **kwargs: Any) -> Any:
    """What a recognizer made for ``args`` says of others."""
    return recognizer(args, {}, describe(args, {}))(others, kwargs)


@pytest.mark.parametrize("args", [(X,), (X, Y), (X, 2, 0.5, "mean", True, None), ()])
def test_a_call_like_the_first_is_described_at_once(args: tuple[Any, ...]) -> None:
    others = tuple([tg.zeros_like(a) if isinstance(a, tg.Tensor) else a for a in args])
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
        ((X, 2), (X, 3)),
        ((X, 2), (X, 2.0)),
        ((X, 1), (X, True)),
        ((X, "a"), (X, "b")),
        ((X, 2), (2, X)),
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


@pytest.mark.parametrize("value", [W, W * 2, [X], {"x": X}, np.ones(2), 0.0, math.nan, 0, False])
def test_what_is_not_plain_is_described_at_length(value: Any) -> None:
    """Leaves, histories, containers; and numbers of which some are equal to others, or not to themselves."""
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
