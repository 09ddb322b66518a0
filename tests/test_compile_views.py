"""Arrays that share memory in a compiled step: what is written into one of them is seen in the others, as in a plain call."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from compiled_cases import plain

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import UsageError

CALLS = 5
ONES = np.ones(3, np.float32)


class Own(tg.optim.Optimizer):
    """An optimizer of the user's, which writes into the parameter's array."""

    def __init__(self, p: Any, rule: Callable[[Any, Any], Any]) -> None:
        super().__init__([p], {"lr": 0.1})
        self.rule = rule

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        self.rule(p, g)


def beside(make: Callable[[], tuple[Callable[..., Any], Callable[[], Any]]], backend: str) -> Any:
    """Steps, and what can be seen after each, plain and compiled. Returns the compiled step."""
    found = []
    for compiled in (False, True):
        step, seen = make()
        call = tg.compile(step, backend=backend) if compiled else step
        found.append([list(numbers([call(tg.tensor([1.0, 2.0, 3.0 + k])), *seen()])) for k in range(CALLS)])
    for k, (expected, actual) in enumerate(zip(*found)):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5, err_msg=f"call {k}")
    return call


def numbers(value: Any) -> Iterator[float]:
    """All elements of nested Tensors."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from numbers(part)
    elif value is not None:
        yield from np.ravel(value.tolist())


def trained(first: Any, rule: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[[], Any]]:
    """A step of ``Own`` on a parameter, and what can be seen after it."""
    w = nn.Parameter(first)
    optimizer = Own(w, rule)

    def step(x: Any) -> None:
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    return step, lambda: [w]


def by_rows(p: Any, g: Any) -> None:
    for row, part in zip(p, g):
        row -= 0.25 * part


def flat(p: Any, g: Any) -> None:
    elements = p.reshape(-1)
    elements[1:4] = 1.0
    elements *= 0.5


def turned(p: Any, g: Any) -> None:
    columns = p.T
    columns[0] -= g[:, 0]
    p += 1.0
    columns[...] = columns * 0.5


def nested(p: Any, g: Any) -> None:
    corner = p[:, 1:].T[1]
    before = corner.copy()
    p *= 0.5
    corner += before
    p[0] = corner[0] + p[1]


def converted(p: Any, g: Any) -> None:
    copied = p.astype("float32")
    copied += 100.0
    p -= 0.25 * g + copied / 128.0


def seen(p: Any, g: Any) -> None:
    row, same = p[1], p.view()
    same -= 0.25 * g
    p[0] = row * 2.0


RULES = {rule.__name__: rule for rule in (by_rows, flat, turned, nested, converted, seen)}


@pytest.mark.parametrize("name", RULES)
def test_writes_into_views_of_a_parameter_s_array(name: str, backend: str) -> None:
    def make() -> Any:
        w = nn.Parameter(tg.arange(6.0).reshape(2, 3))
        optimizer = Own(w, RULES[name])

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = ((w * x).sum() - 1.0) ** 2 / 1024.0
            loss.backward()
            optimizer.step()
            return loss

        return step, lambda: [w, w.grad]

    assert beside(make, backend).replays == 3


def test_functions_of_numpy_that_write_into_their_argument(cpu_backend: str) -> None:
    def rule(p: Any, g: Any) -> None:
        np.subtract(p, 0.25 * g, out=p)
        np.clip(p, -0.5, 2.0, out=p)
        rows = p[0]
        np.add(rows, 1.0, out=rows)
        np.subtract(p[1], g[0], out=p)  # in each row
        np.add(ONES, ONES, out=p[1])
        np.clip(ONES[1:], 0.0, 0.5, out=p[0, 1:])

    assert beside(lambda: trained(tg.arange(6.0).reshape(2, 3), rule), cpu_backend).replays == 3


def test_an_optimizer_that_is_written_in_numpy(cpu_backend: str) -> None:
    def make() -> tuple[Callable[..., Any], Callable[[], Any]]:
        w = nn.Parameter(tg.arange(6.0).reshape(2, 3))
        m, v = tg.zeros(2, 3), tg.zeros(2, 3)

        def step(x: Any) -> None:
            w.grad = None
            (tg.sin(w) * x).sum().backward()
            p, g = w.array, np.maximum(np.minimum(w.grad.array, 2.0), -2.0)
            m.array[...] = 0.9 * m.array + 0.1 * g
            v.array[...] = 0.99 * v.array + 0.01 * np.square(g)
            p -= 0.1 * m.array / (np.sqrt(v.array) + 1e-8)
            np.multiply(np.sign(p), np.minimum(np.absolute(p), 3.0), out=p)

        return step, lambda: [w, m, v]

    assert beside(make, cpu_backend).replays == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda p: np.cbrt(p),
        lambda p: np.reciprocal(p.astype(np.int64)),
        lambda p: np.sum(p, out=np.zeros((), np.float32)),
        lambda p: np.add(p, 1.0, out=np.zeros(2, np.float32)),
        lambda p: np.divmod(p, 2.0, out=(p, p)),
    ],
    ids=["no operator", "other dtype", "sum", "add", "divmod"],
)
def test_what_numpy_cannot_do_for_a_program_is_said(function: Callable[[Any], Any]) -> None:
    w = nn.Parameter(tg.ones(2))
    with pytest.raises(UsageError, match="TG-U016"):
        tg.compile(lambda: function(w.array))()


def added_in_place(x: Any) -> None:
    x += 0.5


@pytest.mark.parametrize("write", [added_in_place, lambda x: np.add(x, 0.5, out=x)], ids=["operator", "function"])
def test_what_numpy_does_not_cast_in_place_is_not_cast(write: Callable[[Any], Any]) -> None:
    counts = tg.zeros(3, dtype=tg.int64)
    for step in (lambda: write(counts.array), tg.compile(lambda: write(counts.array))):
        with pytest.raises(TypeError, match="same_kind"):
            step()
    assert counts.tolist() == [0, 0, 0]


def test_what_has_been_filled_can_be_written_by_views(backend: str) -> None:
    def rule(p: Any, g: Any) -> None:
        p[...] = g[:1]  # large enough to be shown by a view that cannot be written
        row = p[3]
        row += 1.0

    assert beside(lambda: trained(tg.zeros(300, 3), rule), backend).replays == 3


@pytest.mark.parametrize(
    "take",
    [
        lambda w: w.detach()[0],
        lambda w: w.detach().T,
        lambda w: w.flatten(),
        lambda w: w.view(3, 2).detach().unsqueeze(0),
        lambda w: w.chunk(2)[1],
        lambda w: list(w)[1],
        lambda w: w.T[1:].expand(2, 2, 2),
        lambda w: w.diagonal(),
    ],
    ids=["part", "transposed", "flat", "reshaped", "chunk", "unbound", "expanded", "diagonal"],
)
def test_a_view_of_a_parameter_follows_the_update(take: Callable[[Any], Any], backend: str) -> None:
    def make() -> Any:
        w = nn.Parameter(tg.arange(6.0).reshape(2, 3))
        sgd = tg.optim.SGD([w], lr=0.0625)

        def step(x: Any) -> Any:
            view, copy = take(w), take(w).detach().clone()
            sgd.zero_grad()
            (w * x).sum().backward()
            sgd.step()
            return view.detach() * 1.0, copy * 1.0

        return step, lambda: [w]

    assert beside(make, backend).replays == 3


def test_a_view_that_only_shows_cannot_be_written() -> None:
    def rule(p: Any, g: Any) -> None:
        several = np.broadcast_to(p, (256, *p.shape))  # large enough not to be a copy
        several += 1.0

    w = nn.Parameter(tg.ones(128))
    optimizer = Own(w, rule)

    def step() -> None:
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    for call in (step, tg.compile(step)):
        with pytest.raises(ValueError, match="read-only"):
            call()
    assert w.tolist() == [1.0] * 128


# ---- at random -----------------------------------------------------------------------------------

VIEWS: list[Callable[[Any, Any], Any]] = [
    lambda a, r: a[r.integers(len(a))] if a.ndim > 1 else a,
    lambda a, r: a[1:] if len(a) > 1 else a[:],
    lambda a, r: a[::2],
    lambda a, r: a[..., -1:],
    lambda a, r: a.T,
    lambda a, r: a.reshape(-1),
    lambda a, r: a.reshape(-1, 1),
    lambda a, r: np.expand_dims(a, 0) if a.ndim < 3 else a,
    lambda a, r: a.swapaxes(0, a.ndim - 1),
]


def walk(p: Any, seed: int) -> Iterator[Any]:
    """A random mixture of views, writes and copies, beginning with an array; what the arrays hold in the end."""
    rng = np.random.default_rng(seed)
    arrays = [p]
    for _ in range(14):
        a = arrays[rng.integers(len(arrays))]
        kind = rng.integers(6)
        if kind < 2:
            arrays.append(VIEWS[rng.integers(len(VIEWS))](a, rng))
        elif kind == 2:
            a *= 0.5
        elif kind == 3:
            a[0] = a[len(a) // 2] + 1.0
        elif kind == 4:
            a += float(rng.integers(-2, 3))
        else:
            arrays.append(a.copy() if rng.integers(2) else a * 0.25)
    yield from [a * 1.0 for a in arrays]


@pytest.mark.parametrize("seed", range(25))
def test_any_mixture_of_views_and_writes(seed: int) -> None:
    def make() -> Any:
        w = tg.arange(12.0).reshape(3, 4)
        w.array = w.array.copy()

        def step(x: Any) -> Any:
            w.array[0, :3] += x.array
            return [tg.Tensor(a) for a in walk(w.array, seed)]

        return step, lambda: [w]

    assert beside(make, "numpy").replays == 3


# ---- arguments -----------------------------------------------------------------------------------


def written(a: Any, b: Any) -> Any:
    a += 1.0
    return tg.Tensor(a) * 2.0 + tg.Tensor(b)


def both_written(a: Any, b: Any) -> Any:
    a *= 2.0
    b[1:] += a[1:]
    return tg.Tensor(a) * 1.0, tg.Tensor(b) * 1.0


def by_views(a: Any, b: Any) -> Any:
    first, rest = a[:1], b.reshape(-1)
    a += 1.0
    rest *= 2.0
    return tg.Tensor(first) * 1.0, tg.Tensor(b) + tg.Tensor(a)


def of_tensors(a: Any, b: Any) -> Any:
    x, y = tg.Tensor(a), tg.Tensor(b)
    x.array += 1.0
    y.array[0] = 5.0
    return x * 2.0 + y


@pytest.mark.parametrize("function", [written, both_written, by_views, of_tensors])
@pytest.mark.parametrize("overlapping", [(0, 1, 2, 3, 4, 5), (0, 1), (3, 4), ()], ids=["always", "at first", "later", "never"])
def test_arguments_that_share_memory(
    function: Callable[[Any, Any], Any], overlapping: tuple[int, ...], cpu_backend: str
) -> None:
    compiled = tg.compile(function, backend=cpu_backend)
    for k in range(6):
        shown = []
        for call in (function, compiled):
            memory = np.arange(6, dtype=np.float32) + k
            pair = (memory[:4], memory[2:]) if k in overlapping else (memory[:4], memory[2:].copy())
            shown.append(plain([call(*pair), *pair]))
        assert shown[1] == shown[0], f"call {k}"
    assert compiled.recordings == 2 and compiled.replays == 4 - len(set(overlapping) - {0, 1})


def test_two_tensors_of_one_array() -> None:
    def step(a: Any, b: Any) -> Any:
        a.array += 1.0
        return a * 2.0 + b

    compiled = tg.compile(step)
    for k in range(5):
        shown = []
        for call in (step, compiled):
            memory = np.arange(3, dtype=np.float32) + k
            shown.append([call(tg.Tensor(memory), tg.Tensor(memory)).tolist(), memory.tolist()])
        assert shown[1] == shown[0], f"call {k}"


def test_an_operator_whose_work_depends_on_values_after_a_write() -> None:
    """The function is called again, and finds what the first attempt found."""

    def step(a: Any, b: Any) -> Any:
        a += 1.0
        a *= 2.0
        return tg.unique(tg.Tensor(b))

    memory = np.arange(6, dtype=np.float32)
    with pytest.warns(UserWarning, match="unique"):
        assert tg.compile(step)(memory[:4], memory[2:]).tolist() == [4.0, 5.0, 6.0, 8.0]
    assert memory.tolist() == [2.0, 4.0, 6.0, 8.0, 4.0, 5.0]


def test_a_program_holds_no_memory_of_arguments() -> None:
    compiled = tg.compile(written)
    memories = []
    for _ in range(4):
        memory = np.zeros(6, np.float32)
        memories.append(weakref.ref(memory))
        compiled(memory[:4], memory[2:])
    del memory
    gc.collect()
    assert compiled.recordings == 2 and [known() for known in memories] == [None] * 4


def test_an_argument_that_python_reads() -> None:
    memory = np.zeros(4, np.float32)

    def step(whole: Any) -> Any:
        whole += 1.0
        return tg.Tensor(whole) * float(memory.sum())

    compiled = tg.compile(step)
    for k in (0, 0, 0, 0, 1, 2):
        memory[...] = k
        expected = step(memory).tolist()
        memory[...] = k
        assert compiled(memory).tolist() == expected and memory.tolist() == [k + 1] * 4


def test_an_argument_that_is_a_part_of_an_array_that_python_reads() -> None:
    memory = np.zeros(4, np.float32)

    def step(part: Any) -> Any:
        part += 1.0
        return tg.Tensor(part) * float(memory.sum())

    compiled = tg.compile(step)
    with pytest.warns(UserWarning, match="memory changes"):
        for k in range(8):
            memory[...] = k
            expected = step(memory[1:3]).tolist()
            memory[...] = k
            assert compiled(memory[1:3]).tolist() == expected
            assert memory.tolist() == [k, k + 1, k + 1, k]
