"""Convolutions that run as machine code without ``compile``: values, layouts, what goes NumPy's way, threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compiler.native import available
from tinygrad_ja.kernels import numpy_conv
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops import conv

if not available()[0]:
    pytest.skip(available()[1], allow_module_level=True)

from tinygrad_ja.compiler.native import at_once


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Small convolutions go the way of large ones; whether there was machine code for them, call by call."""
    found: list[bool] = []
    run = at_once._run

    def watched(*args: Any) -> bool:
        found.append(run(*args))
        return found[-1]

    monkeypatch.setattr(numpy_conv, "MACHINE_CODE", 0)
    monkeypatch.setattr(at_once, "_run", watched)
    return found


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


Geometry = tuple[tuple[int, ...], ...]


def three(x: np.ndarray, w: np.ndarray, g: np.ndarray, b: Any, c: Any, geometry: Geometry, groups: int = 1) -> list[Any]:
    """A convolution, its transpose and the gradient of its weight: operators with their arguments."""
    size, shape, kernel = g.shape[2:], x.shape[2:], w.shape[2:]
    return [
        (conv._convolution, (x, w, b, size, *geometry, groups)),
        (conv._conv_transpose, (g, w, c, shape, *geometry, groups)),
        (conv._conv_weight, (x, g, kernel, *geometry, groups)),
    ]


def check(cases: list[Any]) -> None:
    """Against the reference in double precision."""
    for operator, args in cases:
        wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]
        expected = operator.operator.forward(np, *wide)
        made = operator(*args)
        assert made.dtype == args[0].dtype and made.shape == expected.shape
        np.testing.assert_allclose(made, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("rank", [1, 2])
def test_values_for_random_geometry(rank: int, calls: list[bool]) -> None:
    rng = np.random.default_rng(rank)
    for case in range(25):
        each = lambda low, high: tuple(int(n) for n in rng.integers(low, high, rank, endpoint=True))  # noqa: E731
        shape, kernel, size, geometry = each(1, 9), each(1, 5), each(1, 6), (each(1, 3), each(0, 3), each(1, 3))
        batch, inputs, outputs = int(rng.integers(1, 9)), int(rng.integers(1, 20)), int(rng.integers(16, 40))
        x, w, g = (normal(*s) for s in ((batch, inputs, *shape), (outputs, inputs, *kernel), (batch, outputs, *size)))
        b, c = (normal(outputs), normal(inputs)) if case % 2 else (None, None)
        check(three(x, w, g, b, c, geometry))
    assert sum(calls) > 50 and all(calls)


def test_the_next_arrays_of_the_same_shapes(calls: list[bool]) -> None:
    at_once._ways.clear()
    for seed in range(3):
        arrays = [normal(*s, seed=seed) for s in ((4, 16, 9, 9), (32, 16, 3, 3), (4, 32, 7, 7), (32,), (16,))]
        check(three(*arrays, ((1, 1), (0, 0), (1, 1))))
    assert len(at_once._ways) == 3 and len(calls) == 9


def test_layouts(calls: list[bool]) -> None:
    """Images that are turned, cut out, repeated, spread or not aligned: machine code or NumPy's way, the same values."""
    w, g = normal(16, 8, 3, 3), normal(4, 16, 6, 6)
    whole = normal(8, 16, 10, 12)
    raw = np.frombuffer(bytearray(4 * 8 * 64 * 4 + 1), np.uint8)[1:].view(np.float32).reshape(4, 8, 8, 8)
    raw[...] = whole[:4, :8, :8, :8]
    images = [
        whole[::2, ::2, 1:9, 2:10], whole[:4, :8, :8, :8][:, ::-1], whole[:4, :8, :8, :8].swapaxes(2, 3), whole[:4, :8, :8, ::-1][..., :8],
        np.broadcast_to(whole[:1, :8, :8, :8], (4, 8, 8, 8)), np.moveaxis(whole[:4, :8, :8, :8].copy(), 1, 3).copy().transpose(0, 3, 1, 2), raw,
    ]  # fmt: skip
    for x in images:
        check(three(x, w, g, normal(16), normal(8), ((1, 1), (0, 0), (1, 1)))[:1])
        check(three(x, w, g, None, None, ((1, 1), (0, 0), (1, 1)))[2:])
    check(three(whole[:4, :8, :8, :8], w, g[:, ::-1], None, normal(16)[::2], ((1, 1), (0, 0), (1, 1))))
    assert 0 < sum(calls) < len(calls)


def test_what_goes_the_other_way(calls: list[bool]) -> None:
    x, w, g = normal(2, 32, 6, 6), normal(32, 16, 3, 3), normal(2, 32, 4, 4)
    check(three(x, w, g, None, None, ((1, 1), (0, 0), (1, 1)), groups=2))
    assert not calls  # groups
    x, w, g = normal(2, 16, 4, 4, 4), normal(16, 16, 2, 2, 2), normal(2, 16, 3, 3, 3)
    check(three(x, w, g, None, None, ((1,) * 3, (0,) * 3, (1,) * 3)))
    x, w, g = (a[:, :, 0].astype(np.float64) for a in (x, w, g))
    check(three(x, w, g, None, None, ((1,) * 2, (0,) * 2, (1,) * 2)))
    assert len(calls) == 6 and not any(calls)  # three axes; double precision
    x, w = normal(2, 3, 6, 6), normal(2, 3, 3, 3)
    check(three(x, w, normal(2, 2, 4, 4), None, None, ((1, 1), (0, 0), (1, 1)))[:2])
    assert len(calls) == 6  # channels that would leave a vector empty


def test_small_convolutions_stay_with_numpy(monkeypatch: pytest.MonkeyPatch, calls: list[bool]) -> None:
    x, w = normal(1, 16, 6, 6), normal(16, 16, 3, 3)
    products = 16 * 16 * 9 * 16
    for least, expected in ((products, 1), (products + 1, 1)):
        monkeypatch.setattr(numpy_conv, "MACHINE_CODE", least)
        F.conv2d(x, w)
        assert len(calls) == expected
    monkeypatch.setattr(numpy_conv, "MACHINE_CODE", 0)
    monkeypatch.setattr(numpy_conv, "_at_once", lambda: None)  # without llvmlite
    plain = F.conv2d(x, w)
    assert len(calls) == 1
    monkeypatch.undo()
    np.testing.assert_allclose(plain, F.conv2d(x, w), atol=1e-4)


def test_empty_batches_and_outputs() -> None:
    assert F.conv2d(normal(0, 16, 6, 6), normal(16, 16, 3, 3)).shape == (0, 16, 4, 4)
    assert F.conv1d(normal(2, 16, 6), normal(0, 16, 3)).shape == (2, 0, 4)
    x = tg.tensor(normal(0, 16, 6, 6))
    weight = tg.tensor(normal(16, 16, 3, 3)).requires_grad_()
    F.conv2d(x, weight).sum().backward()
    assert weight.grad is not None and not weight.grad.numpy().any()


def test_threads_that_convolve_side_by_side_and_any_number_of_them() -> None:
    arrays = [[normal(8, 16, 12, 12, seed=k), normal(32, 16, 3, 3, seed=k)] for k in range(6)]
    x = normal(8, 32, 10, 10)

    def both(k: int) -> list[np.ndarray]:
        image, weight = arrays[k]
        return [F.conv2d(image, weight), conv._conv_weight(image, x, (3, 3), (1, 1), (0, 0), (1, 1), 1)]

    alone = [both(k) for k in range(6)]
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    work = [
        threading.Thread(target=lambda k=k: found.update({(k, n): both((k + n) % 6) for n in range(20)}))  # type: ignore[misc]
        for k in range(6)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(found) == 120
    for (k, n), made in found.items():
        for a, b in zip(made, alone[(k + n) % 6]):
            np.testing.assert_array_equal(a, b)
    before = tg.get_num_threads()
    try:
        for count in (1, 3):
            tg.set_num_threads(count)
            for a, b in zip(both(0), alone[0]):
                np.testing.assert_array_equal(a, b)
    finally:
        tg.set_num_threads(before)


def test_the_ways_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "KEPT", 2)
    at_once._ways.clear()
    for n in range(1, 6):
        F.conv1d(normal(n, 16, 6), normal(16, 16, 3))
        assert len(at_once._ways) <= 2


def test_gradients_of_every_order() -> None:
    x, w = (tg.tensor(normal(*s)).requires_grad_() for s in ((2, 16, 6, 6), (16, 16, 3, 3)))
    (g,) = tg.grad(F.conv2d(x, w, padding=1).square().sum(), x, create_graph=True)
    g.square().sum().backward()
    wide = [tg.tensor(a.detach().numpy().astype(np.float64)).requires_grad_() for a in (x, w)]
    (h,) = tg.grad(F.conv2d(*wide, padding=1).square().sum(), wide[0], create_graph=True)
    h.square().sum().backward()
    for a, b in zip((x, w), wide):
        assert a.grad is not None and b.grad is not None
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-3, atol=1e-4 * np.abs(b.grad.numpy()).max())
