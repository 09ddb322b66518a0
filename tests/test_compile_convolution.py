"""Machine code of convolutions and pooling against the plain operators: random shapes, strides, borders, special values, threads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from program_builder import Builder

import tinygrad_ja as tg
from tinygrad_ja.compiler.lower import Call, Shape, Slot
from tinygrad_ja.compiler.native import available
from tinygrad_ja.compiler.program import Array, Instruction, Program, interpret
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.ops.window import Window

usable, reason = available()
if not usable:
    pytest.skip(reason, allow_module_level=True)

F = np.float32


def program_of(name: str, arrays: dict[str, np.ndarray], outputs: list[tuple[tuple[int, ...], Any]], **others: Any) -> Program:
    """A program of one call."""
    inputs = [Array(a.shape, a.dtype) for a in arrays.values()]
    arguments: dict[str, Any] = {key: Slot(k, False) for k, key in enumerate(arrays)}
    made = [Array(shape, dtype) for shape, dtype in outputs]
    results: Any = [Shape(shape) for shape, _ in outputs]
    if name == "window_max":
        results = [results[:2], results[2]]
    run = Call(OPERATORS[name], {**arguments, **others}, results[0] if len(results) == 1 else results)
    return Program(inputs, instructions=[Instruction("call", name, inputs, made, {"run": run})], results=made)


def check(
    program: Program, values: list[np.ndarray], rtol: float = 1e-4, atol: float = 1e-5, notes: int = 0
) -> list[np.ndarray]:
    """Two steps, the second of which must not see what the first one left."""
    from tinygrad_ja.compiler.native.executor import NativeExecutor

    executor = NativeExecutor(program)
    assert len(executor.notes) == notes, executor.notes
    executor.run([np.full_like(v, 1) if v.dtype == F else v for v in values])
    made = executor.run(values)
    for one, other in zip(made, interpret(program, values)):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
    return made


Geometry = tuple[int, int, int, int, int]  # size, taps, stride, before, dilation


def outputs_of(size: int, taps: int, stride: int, before: int, dilation: int) -> int:
    return (size + 2 * before - dilation * (taps - 1) - 1) // stride + 1


def three_ways(rng: Any, n: int, c: int, o: int, axes: list[Geometry], biased: bool, more: int = 0) -> None:
    """A convolution, its transpose and the gradient of its weight."""
    shape, kernel = tuple(a[0] for a in axes), tuple(a[1] for a in axes)
    size = tuple(outputs_of(*a) + more for a in axes)
    stride, before, dilation = (tuple(a[k] for a in axes) for k in (2, 3, 4))
    x, w, g = [rng.standard_normal(s).astype(F) for s in ((n, c, *shape), (o, c, *kernel), (n, o, *size))]
    geometry: dict[str, Any] = {"stride": stride, "before": before, "dilation": dilation, "groups": 1}
    for name, arrays, target, channels, extra in [
        ("convolution", {"input": x, "weight": w}, g, o, {"size": size}),
        ("conv_transpose", {"input": g, "weight": w}, x, c, {"size": shape}),
        ("conv_weight", {"input": x, "other": g}, w, 0, {"kernel": kernel}),
    ]:
        if channels and biased:
            arrays = {**arrays, "bias": rng.standard_normal(channels).astype(F)}
        elif channels:
            extra["bias"] = None
        program = program_of(name, arrays, [(target.shape, F)], **extra, **geometry)
        scale = (np.prod(g.shape) / o) ** 0.5 if name == "conv_weight" else (max(c, o) * np.prod(kernel)) ** 0.5
        check(program, list(arrays.values()), atol=2e-6 * float(scale))


CASES: list[tuple[int, int, int, list[Geometry]]] = [
    (2, 1, 16, [(28, 5, 1, 0, 1), (28, 5, 1, 0, 1)]),
    (9, 16, 32, [(12, 5, 1, 0, 1), (12, 5, 1, 0, 1)]),
    (2, 3, 16, [(32, 3, 1, 1, 1), (32, 3, 1, 1, 1)]),
    (2, 16, 32, [(32, 3, 2, 1, 1), (32, 3, 2, 1, 1)]),
    (3, 16, 32, [(32, 1, 2, 0, 1), (32, 1, 2, 0, 1)]),
    (3, 64, 64, [(8, 3, 1, 1, 1), (8, 3, 1, 1, 1)]),
    (4, 32, 64, [(8, 4, 2, 1, 1), (8, 4, 2, 1, 1)]),
    (4, 1, 32, [(16, 4, 2, 1, 1), (16, 4, 2, 1, 1)]),
    (4, 64, 1, [(4, 4, 1, 0, 1), (4, 4, 1, 0, 1)]),
    (5, 64, 64, [(4, 4, 1, 0, 1), (4, 4, 1, 0, 1)]),
    (1, 5, 10, [(9, 7, 1, 3, 1), (40, 7, 1, 3, 1)]),
    (2, 4, 20, [(50, 1, 1, 0, 1), (61, 1, 1, 0, 1)]),
    (3, 8, 16, [(100, 9, 4, 4, 1)]),
    (2, 3, 7, [(11, 3, 3, 2, 2), (70, 2, 5, 0, 3)]),
    (1, 3, 5, [(44, 3, 1, 1, 1), (90, 5, 1, 2, 1)]),
    (2, 4, 3, [(40, 3, 1, 4, 4), (33, 3, 1, 4, 4)]),
    (1, 2, 18, [(36, 4, 4, 0, 1), (100, 4, 4, 0, 1)]),
    (2, 2, 3, [(60, 7, 2, 3, 1), (61, 7, 2, 3, 1)]),
    (2, 3, 5, [(200, 50, 1, 20, 1)]),
    (1, 3, 5, [(700, 40, 3, 7, 2)]),
]


@pytest.mark.parametrize("n, c, o, axes", CASES)
def test_shapes_of_networks(n: int, c: int, o: int, axes: list[Geometry]) -> None:
    three_ways(np.random.default_rng(0), n, c, o, axes, biased=True)


@pytest.mark.parametrize("seed", range(25))
def test_random_shapes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes: list[Geometry] = []
    while len(axes) < 1 + seed % 2:
        axis = tuple(
            int(k)
            for k in (rng.integers(1, 20), rng.integers(1, 5), rng.integers(1, 4), rng.integers(0, 4), rng.integers(1, 3))
        )
        if outputs_of(*axis) > 0:  # type: ignore[arg-type]
            axes.append(axis)  # type: ignore[arg-type]
    n, c, o = (int(k) for k in (rng.integers(1, 12), rng.integers(1, 20), rng.integers(1, 40)))
    three_ways(rng, n, c, o, axes, biased=seed % 3 == 0, more=int(rng.integers(0, 2)))


# ---- pooling -----------------------------------------------------------------------------------------

WINDOWS: list[tuple[tuple[int, ...], tuple[Window, ...]]] = [
    ((3, 5, 24, 24), (Window(12, 2, 2), Window(12, 2, 2))),
    ((2, 70, 8, 8), (Window(4, 2, 2), Window(4, 2, 2))),
    ((2, 3, 9, 41), (Window(3, 3, 3), Window(13, 3, 3))),
    ((2, 3, 11, 40), (Window(6, 3, 2, 1, 1), Window(20, 3, 2, 1, 1))),
    ((2, 3, 11, 40), (Window(11, 3, 1, 1, 1), Window(40, 3, 1, 1, 1))),
    ((2, 3, 12, 50), (Window(4, 3, 3, 2, 1), Window(23, 3, 2, 2, 1))),
    ((4, 100), (Window(34, 4, 3, 1, 2),)),
    ((7, 5), (Window(1, 5, 5),)),
    ((2, 20, 20), (Window(1, 20, 20), Window(2, 17, 1))),
]


@pytest.mark.parametrize("shape, windows", WINDOWS)
@pytest.mark.parametrize("kind", ["normal", "equal", "special"])
def test_max_pooling(shape: tuple[int, ...], windows: tuple[Window, ...], kind: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(F)
    if kind == "equal":
        x = np.round(x)
    if kind == "special":
        x = rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], F), shape)
    counts = (*shape[: len(shape) - len(windows)], *[w.count for w in windows])
    tap = np.uint8 if np.prod([w.taps for w in windows]) <= 256 else np.int32
    program = program_of("window_max", {"input": x}, [(counts, F), (counts, tap), (counts, tap)], windows=windows)
    _, taps, again = check(program, [x], rtol=0, atol=0)
    np.testing.assert_array_equal(taps, again)
    g = rng.standard_normal(counts).astype(F)
    check(program_of("from_taps", {"input": g, "taps": taps}, [(shape, F)], size=shape, windows=windows), [g, taps])


def test_taps_outside_of_the_picture() -> None:
    windows = (Window(3, 2, 2, 1, 1), Window(3, 3, 2, 1, 1))
    taps = np.array(list(itertools.islice(itertools.cycle(range(6)), 18)), np.uint8).reshape(2, 3, 3)
    g = np.arange(1, 19, dtype=F).reshape(2, 3, 3)
    check(program_of("from_taps", {"input": g, "taps": taps}, [((2, 4, 5), F)], size=(2, 4, 5), windows=windows), [g, taps])


def test_sums_do_not_depend_on_the_threads() -> None:
    from tinygrad_ja.compiler.native.executor import NativeExecutor

    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((20, 6, 14, 14)).astype(F), rng.standard_normal((20, 18, 14, 14)).astype(F)
    geometry: dict[str, Any] = {"stride": (1, 1), "before": (1, 1), "dilation": (1, 1), "groups": 1}
    executor = NativeExecutor(
        program_of("conv_weight", {"input": x, "other": g}, [((18, 6, 3, 3), F)], kernel=(3, 3), **geometry)
    )
    before, made = tg.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            tg.set_num_threads(threads)
            made += [executor.run([x, g])[0] for _ in range(5)]
    finally:
        tg.set_num_threads(before)
    assert all([np.array_equal(made[0], other) for other in made])


# ---- what has no machine code, and whole steps -------------------------------------------------------


def test_others_run_as_operators() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 6, 6)), rng.standard_normal((4, 2, 3, 3))
    for a, b, groups in ((x.astype(F), w.astype(F), 2), (x[:, :2], w, 1)):
        geometry: dict[str, Any] = {"stride": (1, 1), "before": (1, 1), "dilation": (1, 1), "size": (6, 6), "bias": None}
        program = program_of("convolution", {"input": a, "weight": b}, [((2, 4, 6, 6), a.dtype)], groups=groups, **geometry)
        check(program, [a, b], notes=1)
    a, b = rng.standard_normal((1, 1, 2, 80)).astype(F), rng.standard_normal((2, 1, 2, 40)).astype(F)
    geometry = {"stride": (1, 1), "before": (0, 0), "dilation": (1, 1), "size": (1, 41), "bias": None, "groups": 1}
    check(program_of("convolution", {"input": a, "weight": b}, [((1, 2, 1, 41), F)], **geometry), [a, b], notes=2)


def test_arrays_in_other_layouts() -> None:
    """An image whose channels come last, parts of joined arrays, and a weight that is turned."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 9, 10, 4)).astype(F), rng.standard_normal((3, 4, 9, 10)).astype(F)
    w = rng.standard_normal((4, 6, 3, 3)).astype(F)
    b = Builder()
    geometry: dict[str, Any] = {"stride": (1, 1), "before": (1, 1), "dilation": (1, 1), "size": (9, 10), "groups": 1}
    slots = {"input": Slot(0, False), "weight": Slot(1, False), "bias": None}
    call = Call(OPERATORS["convolution"], {**slots, **geometry}, Shape((3, 6, 9, 10)))
    weight = b.transpose(b.argument(w), 1, 0, 2, 3)
    last = b.add("call", "convolution", [b.transpose(b.argument(x), 0, 3, 1, 2), weight], (3, 6, 9, 10), run=call)
    first = b.add("call", "convolution", [b.argument(y), weight], (3, 6, 9, 10), run=call)
    joined = b.join(first, b.map("negative", last), axis=1)
    check(b.program(joined), [w, x, y], notes=2)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step(threads: int) -> None:
    before = tg.get_num_threads()
    tg.set_num_threads(threads)
    try:
        losses = [[float(step(*batch)) for batch in batches] for step, batches in (_network(False), _network(True))]
        np.testing.assert_allclose(losses[1], losses[0], rtol=2e-4)
    finally:
        tg.set_num_threads(before)


def _network(compiled: bool) -> tuple[Any, Any]:
    tg.manual_seed(0)
    nn = tg.nn
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 20, 3, stride=2, padding=1),
        nn.Tanh(), nn.ConvTranspose2d(20, 3, 4, stride=2, padding=1), nn.MaxPool2d(3, 2, padding=1), nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip
    optimizer = tg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(1)
    batches = [(tg.tensor(rng.standard_normal((9, 2, 16, 16)).astype(F)), tg.tensor(rng.integers(0, 4, 9))) for _ in range(6)]
    return (tg.compile(step, backend="native") if compiled else step), batches
