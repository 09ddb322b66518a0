"""Convolutions that run as machine code without ``compile``: values, layouts, what goes NumPy's way, threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compiler.native import available
from tinygrad_ja.kernels import machine_code, numpy_conv, numpy_depthwise
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops import conv

if not available()[0]:
    pytest.skip(available()[1], allow_module_level=True)

from tinygrad_ja.compiler.native import at_once


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Small convolutions go the way of large ones; whether there was machine code for them, call by call."""
    found: list[bool] = []
    run = at_once._fill

    def watched(*args: Any) -> bool:
        found.append(run(*args))
        return found[-1]

    monkeypatch.setattr(numpy_conv, "MACHINE_CODE", 0)
    monkeypatch.setattr(at_once, "_fill", watched)
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
        np.testing.assert_allclose(made, expected, atol=1e-5 * max(1.0, np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("seed", range(2))
def test_values_for_random_geometry(seed: int, calls: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    for case in range(25):
        each = lambda low, high: tuple(int(n) for n in rng.integers(low, high, 2, endpoint=True))  # noqa: E731
        shape, kernel, size, geometry = each(1, 9), each(1, 5), each(1, 6), (each(1, 3), each(0, 3), each(1, 3))
        batch, inputs, outputs = int(rng.integers(1, 9)), int(rng.integers(1, 20)), int(rng.integers(16, 40))
        x, w, g = (normal(*s) for s in ((batch, inputs, *shape), (outputs, inputs, *kernel), (batch, outputs, *size)))
        b, c = (normal(outputs), normal(inputs)) if case % 2 else (None, None)
        check(three(x, w, g, b, c, geometry))
    assert sum(calls) > 50 and all(calls)


@pytest.mark.parametrize("size, kernel, padding", [(32, 3, 8), (40, 3, 25), (30, 2, 60), (24, 5, 4)])
def test_padding_wider_than_the_kernel_reaches(size: int, kernel: int, padding: int, calls: list[bool]) -> None:
    """Whole bands of rows are zeros then."""
    outputs = size + 2 * padding - kernel + 1
    x, w, g = normal(2, 3, size, size), normal(16, 3, kernel, kernel), normal(2, 16, outputs, outputs)
    check(three(x, w, g, None, None, ((1, 1), (padding, padding), (1, 1)))[::2])
    assert calls == [True, True]


def test_an_array_that_convolves_itself_does_not_stand_in_the_way_of_others(calls: list[bool]) -> None:
    x, w = normal(16, 16, 3, 3), normal(16, 16, 3, 3, seed=1)
    same = F.conv2d(x, x, padding=1)
    assert calls == [False]
    np.testing.assert_allclose(same, F.conv2d(x, x.copy(), padding=1), atol=1e-3)
    F.conv2d(x, w, padding=1)
    assert calls == [False, True, True]


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
    x, w, g = normal(2, 16, 4, 4, 4), normal(16, 16, 2, 2, 2), normal(2, 16, 3, 3, 3)
    check(three(x, w, g, None, None, ((1,) * 3, (0,) * 3, (1,) * 3)))  # three axes, and one
    check(three(x[:, :, 0, 0], w[:, :, 0, 0], g[:, :, 0, 0], None, None, ((1,), (0,), (1,))))
    x, w, g = (a[:, :, 0].astype(np.float64) for a in (x, w, g))
    check(three(x, w, g, None, None, ((1,) * 2, (0,) * 2, (1,) * 2)))
    x, w = normal(2, 3, 6, 6), normal(2, 3, 3, 3)  # channels that would leave a vector empty
    check(three(x, w, normal(2, 2, 4, 4), None, None, ((1, 1), (0, 0), (1, 1)))[:2])
    x, w = normal(1, 1, 14, 1100), normal(16, 1, 2, 2)  # a long side; a large kernel
    check(three(x, w, normal(1, 16, 13, 1099), None, None, ((1, 1), (0, 0), (1, 1))))
    check(three(x[..., :14], normal(16, 1, 12, 12), normal(1, 16, 3, 3), None, None, ((1, 1), (0, 0), (1, 1))))
    assert not calls


def test_small_convolutions_stay_with_numpy(monkeypatch: pytest.MonkeyPatch, calls: list[bool]) -> None:
    x, w = normal(1, 16, 6, 6), normal(16, 16, 3, 3)
    products = 16 * 16 * 9 * 16
    for least, expected in ((products, 1), (products + 1, 1)):
        monkeypatch.setattr(numpy_conv, "MACHINE_CODE", least)
        F.conv2d(x, w)
        assert len(calls) == expected
    x, w = normal(1, 16, 6, 6), normal(17, 16, 3, 3)
    monkeypatch.setattr(numpy_conv, "MACHINE_CODE", 2 * products)
    monkeypatch.setattr(numpy_conv, "MACHINE_CODE_LATER", products)
    for _ in range(at_once.SEEN + 2):  # calls that come again
        made = F.conv2d(x, w)
    assert calls == [True, *[False] * at_once.SEEN, True, True]
    calls.clear()
    monkeypatch.setattr(machine_code, "load_machine_code", lambda: None)  # without llvmlite
    np.testing.assert_allclose(F.conv2d(x, w), made, atol=1e-4)
    assert not calls


def test_empty_batches_and_outputs() -> None:
    assert F.conv2d(normal(0, 16, 6, 6), normal(16, 16, 3, 3)).shape == (0, 16, 4, 4)
    assert F.conv2d(normal(2, 16, 6, 6), normal(0, 16, 3, 3)).shape == (2, 0, 4, 4)
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


def test_the_shapes_that_are_compiled_are_bounded(monkeypatch: pytest.MonkeyPatch, calls: list[bool]) -> None:
    monkeypatch.setattr(at_once, "KEPT", 2)
    monkeypatch.setattr(at_once, "_ways", {})
    w = normal(16, 16, 3, 3)
    for n in (1, 2, 3, 4, 2, 1):
        check([(conv._convolution, (normal(n, 16, 6, 6), w, None, (4, 4), (1, 1), (0, 0), (1, 1), 1))])
    assert calls == [True, True, False, False, True, True]


RACE = """
import threading, time
import numpy as np
from tinygrad_ja.compiler.native import target
from tinygrad_ja.nn import functional as F
begin = target._Compiler.__init__
def slow(self):
    begin(self)
    time.sleep(0.2)
target._Compiler.__init__ = slow
x = [np.ones((8, 16, 32, 32 + k), np.float32) for k in range(4)]
w = np.ones((16, 16, 3, 3), np.float32)
threads = [threading.Thread(target=lambda a=a: [F.conv2d(a, w, padding=1) for _ in range(3)]) for a in x]
for t in threads: t.start()
for t in threads: t.join()
assert len(target._made) == 1
for a in x: assert F.conv2d(a, w, padding=1).max() == 144
"""

FORK = """
import os, threading
import numpy as np
from tinygrad_ja.nn import functional as F
w = np.ones((16, 16, 3, 3), np.float32)
F.conv2d(np.ones((8, 16, 32, 32), np.float32), w)  # a fork while another thread imports is Python's own trouble
stop = []
def compile_on():
    k = 0
    while not stop and k < 60:
        k += 1
        F.conv2d(np.ones((8, 16, 32, 20 + k), np.float32), w)
thread = threading.Thread(target=compile_on)
thread.start()
for k in range(6):
    child = os.fork()
    if not child:
        ok = F.conv2d(np.ones((8, 16, 24, 90 + k), np.float32), w).max() == 144
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1)
thread.join()
"""


@pytest.mark.parametrize(
    "program", [RACE, pytest.param(FORK, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"))]
)
def test_threads_that_begin_together_and_children_of_a_process_that_compiles(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


# ---- depthwise -----------------------------------------------------------------------------------


@pytest.fixture
def depthwise(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Small ones go the way of large ones, a few images at a time, from the first call; whether there was machine code, part by part."""
    found: list[bool] = []
    ask = numpy_depthwise.in_place

    def watched(*args: Any) -> Any:
        run = ask(*args)
        found.append(run is not None)
        return run

    monkeypatch.setattr(numpy_depthwise, "WORTH", 0)
    monkeypatch.setattr(numpy_depthwise, "ROOM", 500)
    monkeypatch.setattr(numpy_depthwise, "in_place", watched)
    monkeypatch.setattr(machine_code, "FEW", 0)
    monkeypatch.setattr(at_once, "SEEN", 0)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_depthwise_values_for_random_geometry(seed: int, depthwise: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    rank, channels = 1 + seed % 3, int(rng.integers(2, 9))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(low, high, rank, endpoint=True))

    geometry, kernel, size = (each(1, 3), each(0, 3), each(1, 2)), each(1, 4 if rank < 3 else 2), each(1, 6)
    shape = tuple(
        max(1, (n - 1) * s + (k - 1) * d + 1 - 2 * p + int(rng.integers(0, s)))
        for n, s, k, d, p in zip(size, geometry[0], kernel, geometry[2], geometry[1])
    )
    batch = int(rng.integers(1, 9))
    x, g = normal(batch, channels, *shape), normal(batch, channels, *size, seed=1)
    w, b, c = normal(channels, 1, *kernel, seed=2), normal(channels, seed=3), normal(channels, seed=4)
    check(three(x, w, g, b if seed % 2 else None, c if seed % 4 else None, geometry, channels))
    assert depthwise and all(depthwise)


def test_depthwise_images_of_any_layout_twice_and_the_weight_changed(depthwise: list[bool]) -> None:
    x, w, g = normal(4, 9, 8, 6).transpose(0, 3, 1, 2), normal(6, 1, 3, 3, seed=1), normal(4, 6, 9, 8, seed=2)[..., ::-1]
    geometry = ((1, 1), (1, 1), (1, 1))
    for factor in (1, -2):
        w = w * np.float32(factor)
        check(three(x, w, g, None, None, geometry, 6))
    assert len(depthwise) == 6 and all(depthwise)


def test_what_is_not_depthwise_goes_the_usual_way(depthwise: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two channels a group, two outputs a channel, double precision, a large kernel, no machine code."""
    geometry = ((1, 1), (1, 1), (1, 1))
    for channels, outputs in ((2, 1), (1, 2)):
        x, w = normal(2, 3 * channels, 5, 5), normal(3 * outputs, channels, 3, 3, seed=1)
        check(three(x, w, normal(2, 3 * outputs, 5, 5, seed=2), None, None, geometry, 3))
    x, w, g = normal(2, 3, 5, 5), normal(3, 1, 3, 3, seed=1), normal(2, 3, 5, 5, seed=2)
    check(
        [
            (f, tuple([a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]))
            for f, args in three(x, w, g, None, None, geometry, 3)
        ]
    )
    monkeypatch.setattr(numpy_depthwise, "TAPS", 8)
    check(three(x, w, g, None, None, geometry, 3))
    assert not depthwise
    monkeypatch.setattr(numpy_depthwise, "TAPS", 9)
    monkeypatch.setattr(machine_code, "FEW", 10**9)
    check(three(x, w, g, None, None, geometry, 3))
    assert depthwise == [False] * 3


def test_parts_of_a_strided_transpose_are_made_ready_together(depthwise: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "SEEN", 2)
    monkeypatch.setattr(at_once, "_ways", {})
    monkeypatch.setattr(at_once, "_seen", {})
    w, g = normal(3, 1, 3, 3), normal(2, 3, 4, 5, seed=1)
    for _ in range(3):
        del depthwise[:]
        check([(conv._conv_transpose, (g, w, None, (8, 10), (2, 2), (1, 1), (1, 1), 3))])
    assert depthwise == [True] * 4


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_empty_batches_in_groups(groups: int, dtype: Any, depthwise: list[bool]) -> None:
    x, w, g = np.zeros((0, 4, 5, 5), dtype), np.ones((4, 4 // groups, 3, 3), dtype), np.zeros((0, 4, 5, 5), dtype)
    check(three(x, w, g, None, None, ((1, 1), (1, 1), (1, 1)), groups))
    assert not depthwise


def test_without_room_for_stand_ins_it_is_numpys(depthwise: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(array: np.ndarray) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(at_once, "_like", fails)
    monkeypatch.setattr(at_once, "_ways", {})
    x, w, g = normal(2, 3, 5, 5), normal(3, 1, 3, 3, seed=1), normal(2, 3, 5, 5, seed=2)
    for _ in range(2):
        check(three(x, w, g, None, None, ((1, 1), (1, 1), (1, 1)), 3))
    assert depthwise == [False] * 6 and set(at_once._ways.values()) == {None}
