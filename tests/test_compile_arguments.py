"""``tg.compile``: what a function does to its arguments and to Tensors that share arrays happens as in plain calls, call by call."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
from compiled_cases import CALLS, Case, ones, run

import tinygrad_ja as tg
from tinygrad_ja import nn

# ---- in-place operators on Tensors that share arrays -----------------------------------------------


def a_part_of_the_callers_data() -> Any:
    d = tg.arange(4).float()
    return lambda x: x.mul_(10).sum(), lambda f, k: (f(d[:2]), d)


def a_part_that_is_assigned_to() -> Any:
    d = tg.arange(6).float()

    def step(x: Any) -> Any:
        x[0] = 7.0
        return x * 2

    return step, lambda f, k: (f(d.reshape(3, 2)), d)


def an_array_of_numpy() -> Any:
    a = np.arange(4, dtype="f4")
    return lambda x: x.add_(1).sum(), lambda f, k: (f(tg.from_numpy(a)), a)


def an_array_that_is_read_only() -> Any:
    a = np.arange(4, dtype="f4")
    a.flags.writeable = False
    return lambda x: x.mul_(10).sum(), lambda f, k: f(tg.from_numpy(a))


def one_argument_and_its_detached_self() -> Any:
    x = ones(1, 2)
    return lambda a, b: a.add_(1) * b, lambda f, k: (f(x, x.detach()), x)


def transposed_and_expanded() -> Any:
    W = tg.arange(6).float().reshape(2, 3)
    return lambda x, y: x.mul_(2).sum() + y.add_(1).sum(), lambda f, k: (f(W.T, W[:1].expand(4, 3)), W)


def the_argument_goes_on() -> Any:
    x = ones()
    return lambda x: x.add_(1) * x, lambda f, k: (f(x), x)


def an_argument_takes_other_data() -> Any:
    def step(x: Any, y: Any) -> Any:
        x.data = y * 2
        return x + 1

    def call(f: Any, k: int) -> Any:
        x = ones(k, 2)
        return f(x, ones(k, 2)), x

    return step, call


def an_argument_takes_a_constant() -> Any:
    def step(x: Any) -> Any:
        y = x * 2
        x.data = tg.full((3,), 2.0)
        return y

    def call(f: Any, k: int) -> Any:
        x = ones(k, 2)
        return f(x), x

    return step, call


def an_argument_gets_a_history() -> Any:
    w = tg.ones(1, requires_grad=True)

    def step(x: Any) -> Any:
        x.mul_(w)
        return x + 0

    def call(f: Any, k: int) -> Any:
        x = ones(k)
        w.grad = None
        f(x)
        (x * 3).sum().backward()
        return w.grad, x.detach()

    return step, call


def an_argument_that_has_a_history() -> Any:
    w = tg.ones(2, requires_grad=True)

    def step(x: Any) -> Any:
        x.mul_(3)
        return (x * x).sum()

    def call(f: Any, k: int) -> Any:
        w.grad, h = None, w * k
        y = f(h)
        (y + h.sum()).backward()
        return y.detach(), w.grad, h.detach()

    return step, call


def a_part_that_has_a_history() -> Any:
    w = tg.ones(2, requires_grad=True)

    def step(x: Any) -> Any:
        with tg.no_grad():
            x.mul_(3)
        return (x * x).sum()

    def call(f: Any, k: int) -> Any:
        w.grad, h = None, w * k
        part = h[:1]
        y = f(part)
        y.backward()
        return y.detach(), w.grad, h.detach(), part.detach()

    return step, call


def an_argument_that_is_to_want_gradients() -> Any:
    def step(x: Any) -> Any:
        x.requires_grad_()
        (x * x).sum().backward()
        return x.grad

    def call(f: Any, k: int) -> Any:
        x = ones(k)
        y = f(x)
        return y, x.grad, x.requires_grad

    return step, call


def views_that_are_captured() -> Any:
    W = tg.ones(4)
    V, U = W[1:3], W.reshape(2, 2)

    def step(x: Any) -> Any:
        V.add_(x)
        return W.sum() + U.sum() + V.sum()

    return step, lambda f, k: (f(ones(1, 2)), W, V, U)


def a_captured_tensor_that_others_look_into() -> Any:
    W = tg.ones(4)
    V = W[1:3]

    def step(x: Any) -> Any:
        W.add_(x)
        return W.sum() + V.sum()

    return step, lambda f, k: (f(ones()), W, V)


def two_captured_tensors_with_one_array() -> Any:
    x = ones(1, 2)
    y = x.detach()

    def step(z: Any) -> Any:
        x.add_(z)
        return x * y

    return step, lambda f, k: (f(ones(k, 2)), x, y)


def a_captured_array_of_numpy() -> Any:
    a = np.zeros(2, "f4")
    a.flags.writeable = False
    h = tg.from_numpy(a)

    def step(x: Any) -> Any:
        h.add_(x)
        return h * 2

    return step, lambda f, k: (f(ones(k, 2)), h, a)


def a_captured_view_that_is_another_one_each_time() -> Any:
    space, d = types.SimpleNamespace(), tg.arange(4).float()

    def step(x: Any) -> Any:
        space.batch.mul_(x)
        return space.batch.sum()

    def call(f: Any, k: int) -> Any:
        space.batch = d[k % 2 : 2 + k % 2]
        return f(ones(2, 2)), space.batch, d

    return step, call


def what_state_was_before() -> Any:
    W = tg.arange(4).float()

    def step(x: Any) -> Any:
        part, whole = W[:2], W.detach()
        W.add_(x)
        return part + 0, part, whole

    return step, lambda f, k: (f(ones()), W)


def a_state_and_the_one_before() -> Any:
    model = types.SimpleNamespace(h=tg.zeros(1), before=tg.zeros(1))

    def step(x: Any) -> Any:
        model.before = model.h.detach()
        model.h.add_(x)
        return model.before + 0

    return step, lambda f, k: (f(ones()), model.before, model.h)


def two_states_change_places() -> Any:
    a, b = tg.ones(2), tg.zeros(2)

    def step(x: Any) -> Any:
        a.data, b.data = b + x, a
        return a + 0

    return step, lambda f, k: (f(ones(1, 2)), a, b)


@pytest.mark.parametrize(
    "case",
    [
        a_part_of_the_callers_data,
        a_part_that_is_assigned_to,
        one_argument_and_its_detached_self,
        transposed_and_expanded,
        the_argument_goes_on,
        an_argument_takes_other_data,
        an_argument_takes_a_constant,
        an_argument_gets_a_history,
        an_argument_that_has_a_history,
        a_part_that_has_a_history,
        an_argument_that_is_to_want_gradients,
        views_that_are_captured,
        a_captured_tensor_that_others_look_into,
        two_captured_tensors_with_one_array,
        a_captured_view_that_is_another_one_each_time,
        what_state_was_before,
        a_state_and_the_one_before,
        two_states_change_places,
    ],
)
def test_in_place_operators_leave_others_alone(case: Case, backend: str) -> None:
    assert run(case, backend).replays >= 3


@pytest.mark.parametrize("case", [an_array_of_numpy, an_array_that_is_read_only, a_captured_array_of_numpy])
def test_in_place_operators_and_arrays_of_numpy(case: Case, cpu_backend: str) -> None:
    assert run(case, cpu_backend).replays >= 3


def test_parameters_and_raw_arrays_change_where_they_lie(cpu_backend: str) -> None:
    """As in plain calls: an optimizer writes into the array of a parameter, NumPy into the array that it is given."""

    def case() -> Any:
        w = tg.ones(2, requires_grad=True)
        seen, a = w.detach(), np.zeros(2, "f4")
        optimizer = tg.optim.SGD([w], lr=0.25)

        def step(x: Any, a: Any) -> Any:
            optimizer.zero_grad()
            loss = (w * x).sum()
            loss.backward()
            optimizer.step()
            a += 1
            return loss

        return step, lambda f, k: (f(ones(k, 2), a), w, seen, a)

    assert run(case, cpu_backend).replays >= 3


def test_programs_of_several_shapes_share_state(backend: str) -> None:
    """Each of them writes running means, which stay those of the others: none is recorded again and again."""

    def case() -> Any:
        tg.manual_seed(0)
        norm = nn.BatchNorm1d(2)
        data = [tg.randn(n, 2) for n in (3, 5)]
        return lambda x: norm(x).sum().detach() * 0, lambda f, k: (f(data[k % 2]), norm.num_batches_tracked)

    step = run(case, backend)
    _, call = case()
    for k in range(12):
        call(step, k)
    assert step.recordings <= 6


def test_a_backward_that_goes_on_behind_an_argument(backend: str) -> None:
    def case() -> Any:
        w = tg.ones(2, requires_grad=True)

        def step(x: Any) -> Any:
            y = (x * x).sum()
            y.backward()
            return y.detach()

        def call(f: Any, k: int) -> Any:
            w.grad = None
            return f(w * k), w.grad

        return step, call

    with pytest.warns(UserWarning, match="goes on behind an argument"):
        assert run(case, backend).replays == 0


# ---- one object as two arguments --------------------------------------------------------------------


def one_tensor_twice() -> Any:
    a = ones()
    return lambda x, y: x.add_(1) * y, lambda f, k: (f(a, a), a)


def one_array_twice() -> Any:
    a = np.ones(2, "f4")

    def step(x: Any, y: Any, z: Any) -> Any:
        x += 1
        return z * x + y

    return step, lambda f, k: (f(a, a, ones(k, 2)), a)


def one_list_twice() -> Any:
    def step(x: Any, y: Any) -> Any:
        x[0] = x[0] + 1
        return y[0] * 2

    def call(f: Any, k: int) -> Any:
        held = [ones(k)]
        return f(held, held), held

    return step, call


def now_one_and_now_two() -> Any:
    def call(f: Any, k: int) -> Any:
        a = ones(k)
        return f(a, a if k % 2 else a.clone()), f(x=a, y=a)

    return lambda x, y: x.add_(1) * y, call


def in_a_list_as_well() -> Any:
    def call(f: Any, k: int) -> Any:
        a = ones(k)
        return f(a, [a, {"a": a}]), a

    return lambda x, held: x.add_(1) * held[0] + held[1]["a"], call


@pytest.mark.parametrize("case", [one_tensor_twice, one_list_twice, in_a_list_as_well])
def test_what_comes_twice_is_one(case: Case, backend: str) -> None:
    assert run(case, backend).replays >= 3


def test_an_array_of_numpy_that_comes_twice_is_one(cpu_backend: str) -> None:
    assert run(one_array_twice, cpu_backend).replays >= 3


def test_one_argument_for_two_is_another_signature(backend: str) -> None:
    assert run(now_one_and_now_two, backend).replays >= 3


def test_an_argument_that_the_function_reaches_as_well(backend: str) -> None:
    a, b = ones(), ones()
    step = tg.compile(lambda x: x.add_(1) * a, backend=backend)
    with pytest.warns(UserWarning, match="shares memory"):
        assert [step(a).item() for _ in range(4)] == [(lambda x: x.add_(1) * b)(b).item() for _ in range(4)]


def test_one_result_twice_is_one(backend: str) -> None:
    w = tg.ones(1, requires_grad=True)

    def step(x: Any, held: Any) -> Any:
        y, z = x * 2, x * w
        held["y"] = y
        return y, [y, z], z

    compiled = tg.compile(step, backend=backend)
    for k in range(CALLS):
        held = {"y": None}
        y, (again, z), last = compiled(ones(k), held)
        assert y is again and y is held["y"] and z is last and y.item() == 2 * k
    assert compiled.replays >= 3


# ---- how arguments lie in memory --------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [lambda x: x * 2 if x.is_contiguous() else x * 3, lambda x: x.contiguous().add_(1).sum()],
    ids=["is_contiguous", "contiguous"],
)
def test_a_function_may_ask_how_its_argument_lies_in_memory(step: Any, backend: str) -> None:
    def case() -> Any:
        def call(f: Any, k: int) -> Any:
            x = tg.full((2, 2), float(k))
            return f(x.T if k in (3, 5) else x), x

        return step, call

    assert run(case, backend).replays == CALLS - 4
