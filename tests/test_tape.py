"""The tape: order, freeing, accumulation, hooks, modes, values, and what it refuses."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.errors import DtypeError, GradientError, ShapeError


def leaf(values, dtype=np.float64):
    return tg.tensor(np.asarray(values, dtype=dtype), requires_grad=True)


def test_gradient_of_a_small_expression():
    x, w = leaf([1.0, 2.0]), leaf([3.0, -1.0])
    (x * w + x).sum().backward()
    np.testing.assert_allclose(x.grad.array, [4.0, 0.0])
    np.testing.assert_allclose(w.grad.array, [1.0, 2.0])


def test_gradients_add_up_over_backward_calls_until_they_are_cleared():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * 2.0).sum().backward()
    np.testing.assert_allclose(x.grad.array, [6.0, 6.0])
    x.grad = None
    (x * 2.0).sum().backward()
    np.testing.assert_allclose(x.grad.array, [2.0, 2.0])


def test_a_value_used_in_several_places_gets_the_sum():
    x = leaf(3.0)
    y = x * x
    (y * y + y).backward()  # x^4 + x^2
    assert x.grad.item() == pytest.approx(4 * 27 + 6)


def test_a_diamond_is_walked_once_per_node():
    x = leaf(1.0)
    calls = []
    y = x * 2.0
    y.register_hook(lambda g: calls.append(g.item()))
    (y * 3.0 + y * 4.0).backward()
    assert calls == [7.0]


def test_a_chain_of_200_000_operators_builds_runs_and_is_freed():
    x = leaf(np.ones(4))
    y = x
    for _ in range(200_000):
        y = y * 1.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, np.ones(4))
    last = weakref.ref(y.node)
    del y
    assert last() is None


def test_a_fan_in_of_2_000_branches():
    x = leaf(np.ones(3))
    total = tg.stack([x * float(i) for i in range(2000)]).sum()
    total.backward()
    np.testing.assert_allclose(x.grad.array, np.full(3, 1999 * 1000.0))


def test_the_graph_goes_away_without_the_cycle_collector():
    gc.disable()
    try:
        x = leaf(np.ones(3))
        y = tg.tanh(x * x)
        nodes = [weakref.ref(y.node), weakref.ref(y.node.parents[0])]
        z = y.sum()
        z.backward()
        del y, z
        assert [node() for node in nodes] == [None, None]
    finally:
        gc.enable()


def test_saved_arrays_are_dropped_by_backward():
    x = leaf(np.ones(1000))
    y = tg.tanh(x)
    saved = weakref.ref(y.node.saved[0])
    z = y.sum()
    node = y.node
    del y
    assert saved() is not None
    z.backward()
    assert saved() is None and node.saved is None


def test_an_input_is_saved_only_for_a_derivative_that_needs_it():
    x, c = leaf(np.ones(3)), tg.tensor(np.ones(3))
    y = x * c
    saved = dict(zip(OPERATORS["mul"].saves, y.node.saved))
    assert saved["input"] is None and saved["other"] is c.array


def test_second_backward_names_retain_graph_and_detach():
    x = leaf(np.ones(3))
    y = tg.tanh(x).sum()
    y.backward()
    with pytest.raises(GradientError, match="retain_graph=True.*detach"):
        y.backward()


def test_retain_graph_allows_another_backward():
    x = leaf(np.ones(3))
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.array, np.full(3, 4.0))


def test_backward_of_a_non_scalar_needs_a_gradient():
    x = leaf(np.ones((2, 3)))
    with pytest.raises(GradientError, match=r"\(2, 3\)"):
        (x * 2.0).backward()
    (x * 2.0).backward(tg.ones(2, 3))
    np.testing.assert_array_equal(x.grad.array, np.full((2, 3), 2.0))
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2, 3\)"):
        (x * 2.0).backward(tg.ones(3))


def test_backward_of_plain_data_says_what_is_missing():
    with pytest.raises(GradientError, match="requires_grad=True"):
        tg.tensor(1.0).backward()


def test_a_failed_backward_changes_no_gradient():
    x, w = leaf(np.ones(3)), leaf(np.ones(3))
    x.grad = tg.tensor(np.full(3, 5.0))
    h = tg.tanh(x * w)
    h.sum().backward(retain_graph=True)
    before = (x.grad.array.copy(), w.grad.array.copy())
    h.register_hook(lambda g: (_ for _ in ()).throw(RuntimeError("planted")))
    with pytest.raises(RuntimeError, match="planted"):
        (h * w).sum().backward()
    np.testing.assert_array_equal(x.grad.array, before[0])
    np.testing.assert_array_equal(w.grad.array, before[1])


def test_gradients_of_two_leaves_never_share_memory():
    a, b = leaf(np.ones(3)), leaf(np.ones(3))
    (a + b).backward(tg.ones(3, dtype=tg.float64))
    assert not np.shares_memory(a.grad.array, b.grad.array)
    ga, gb = tg.grad(a + b, (a, b), tg.ones(3, dtype=tg.float64))
    assert not np.shares_memory(ga.array, gb.array)


def test_the_gradient_passed_to_backward_is_not_kept_nor_changed():
    x = leaf(np.ones(3))
    g = tg.ones(3, dtype=tg.float64)
    (x + 0.0).backward(g)
    (x + 0.0).backward(g)
    np.testing.assert_array_equal(g.array, np.ones(3))
    np.testing.assert_array_equal(x.grad.array, np.full(3, 2.0))


# ---- leaves, intermediates, retained gradients


def test_only_leaves_keep_gradients_unless_told():
    x = leaf(np.ones(2))
    y, z = x * 2.0, x * 3.0
    z.retain_grad()
    (y + z).sum().backward()
    assert y.grad is None
    np.testing.assert_array_equal(z.grad.array, np.ones(2))
    assert x.is_leaf and not y.is_leaf and x.grad_fn is None and y.grad_fn.name == "mul"


def test_requires_grad_rules():
    x = tg.tensor([1.0, 2.0])
    assert not x.requires_grad and x.is_leaf
    assert x.requires_grad_() is x and x.requires_grad
    assert not x.requires_grad_(False).requires_grad
    with pytest.raises(DtypeError, match="int64"):
        tg.tensor([1, 2], requires_grad=True)
    y = leaf([1.0]) * 2.0
    with pytest.raises(GradientError, match="mul.*detach"):
        y.requires_grad_(False)


def test_detach_cuts_the_tape():
    x = leaf([2.0])
    y = x * x
    (y.detach() * x).sum().backward()
    np.testing.assert_array_equal(x.grad.array, [4.0])
    assert not y.detach().requires_grad


# ---- tg.grad


def test_grad_leaves_grad_attributes_alone_and_reaches_intermediates():
    x = leaf([1.0, 2.0])
    h = x * x
    gh, gx = tg.grad((h * 3.0).sum(), (h, x))
    np.testing.assert_array_equal(gh.array, [3.0, 3.0])
    np.testing.assert_array_equal(gx.array, [6.0, 12.0])
    assert x.grad is None


def test_grad_computes_only_what_is_on_the_path():
    x, w = leaf(np.ones(3)), leaf(np.ones(3))
    side = tg.tanh(w)
    touched = []
    side.register_hook(touched.append)
    tg.grad((x * side).sum(), x)
    assert touched == []


def test_grad_of_an_unused_input():
    x, w = leaf([1.0]), leaf([1.0])
    with pytest.raises(GradientError, match="allow_unused=True"):
        tg.grad((x * 2.0).sum(), (x, w))
    g = tg.grad((x * 2.0).sum(), (x, w), allow_unused=True)
    assert g[1] is None and g[0].item() == 2.0


def test_every_order_of_derivative():
    x = leaf(0.3)
    y = tg.tanh(x)
    t = np.tanh(0.3)
    expected = [1 - t**2, -2 * t * (1 - t**2), (1 - t**2) * (6 * t**2 - 2), (1 - t**2) * (16 * t - 24 * t**3)]
    for value in expected:
        (y,) = tg.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(value, rel=1e-12)


def test_backward_with_create_graph_gives_gradients_with_history():
    x = leaf([2.0])
    (x**3).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    g.sum().backward()
    np.testing.assert_allclose(x.grad.array, [12.0])


def test_the_same_leaf_used_twice_in_a_fused_operator_keeps_its_second_order():
    x = leaf(np.array([[0.3, -0.2], [0.1, 0.4]]))
    y = tg.nn.functional.linear(x, x).sum()
    (g,) = tg.grad(y, x, create_graph=True)
    (h,) = tg.grad((g * g).sum(), x)
    e = 1e-6

    def squared(values):
        z = leaf(values)
        return (tg.grad(tg.nn.functional.linear(z, z).sum(), z)[0].array ** 2).sum()

    for index in np.ndindex(2, 2):
        d = np.zeros((2, 2))
        d[index] = e
        assert h.array[index] == pytest.approx((squared(x.array + d) - squared(x.array - d)) / (2 * e), rel=1e-6)


# ---- hooks


def test_tensor_hook_replaces_the_gradient_and_can_be_removed():
    x = leaf([1.0, 2.0])
    y = x * 2.0
    handle = y.register_hook(lambda g: g * 10.0)
    y.sum().backward(retain_graph=True)
    np.testing.assert_array_equal(x.grad.array, [20.0, 20.0])
    handle.remove()
    handle.remove()
    x.grad = None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [2.0, 2.0])


def test_leaf_hook_sees_the_whole_gradient_of_one_backward():
    x = leaf([1.0])
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2.0 + x * 3.0).sum().backward()
    assert seen == [5.0]


def test_a_hook_must_return_the_shape_of_the_gradient():
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g.sum())
    with pytest.raises(GradientError, match=r"\(2,\)"):
        (x * 1.0).sum().backward()
    assert x.grad is None


def test_operator_hook_sees_and_changes_the_gradients_of_all_inputs():
    x, w = leaf([1.0]), leaf([3.0])
    y = x * w
    seen = []

    def hook(grad_inputs, grad_output):
        seen.append([g.item() for g in grad_inputs] + [grad_output.item()])
        return grad_inputs[0] * 2.0, None

    y.grad_fn.register_hook(hook)
    y.sum().backward()
    assert seen == [[3.0, 1.0, 1.0]]
    assert x.grad.item() == 6.0 and w.grad is None


# ---- modes


def test_no_grad_as_context_and_decorator():
    x = leaf([1.0])

    @tg.no_grad()
    def double(v):
        return v * 2.0

    @tg.no_grad
    def triple(v):
        return v * 3.0

    with tg.no_grad():
        assert not (x * 2.0).requires_grad and not tg.is_grad_enabled()
        with tg.enable_grad():
            assert (x * 2.0).requires_grad
    assert not double(x).requires_grad and not triple(x).requires_grad and (x * 2.0).requires_grad
    with tg.set_grad_enabled(False):
        assert not (x * 2.0).requires_grad


def test_inference_mode_is_stricter_than_no_grad():
    x = leaf([1.0])
    with tg.inference_mode():
        assert tg.is_inference_mode_enabled()
        with tg.enable_grad():
            assert not (x * 2.0).requires_grad
        with pytest.raises(GradientError, match="inference_mode"):
            tg.tensor([1.0], requires_grad=True)
    assert (x * 2.0).requires_grad


def test_modes_come_back_after_an_exception():
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        raise ZeroDivisionError
    assert tg.is_grad_enabled()


def test_modes_belong_to_a_thread():
    seen = []
    with tg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(tg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_threads_may_run_backward_through_shared_leaves():
    w = leaf(np.ones(50))
    results = []

    def work(k):
        for _ in range(50):
            (g,) = tg.grad((tg.tanh(w) * float(k)).sum(), w)
            results.append((k, g.array[0]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slope = 1 - np.tanh(1.0) ** 2
    assert len(results) == 200 and all(g == pytest.approx(k * slope) for k, g in results)


# ---- values, and leaves that change


def test_tensors_are_values_not_views():
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    y = x[0]
    y += 10.0
    z = x.reshape(4)
    z[0] = 99.0
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]] and y.tolist() == [11.0, 12.0]


def test_an_in_place_operator_on_a_result_never_spoils_what_was_saved():
    x = leaf([0.5, 1.0])
    y = tg.tanh(x)
    y += 1.0
    y *= 2.0
    y.sum().backward()
    np.testing.assert_allclose(x.grad.array, 2 * (1 - np.tanh([0.5, 1.0]) ** 2))


def test_setitem_on_a_result_is_recorded():
    x, v = leaf([1.0, 2.0, 3.0]), leaf([10.0])
    y = x * 2.0
    y[1:2] = v
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad.array, [8.0, 0.0, 24.0])
    np.testing.assert_allclose(v.grad.array, [20.0])


def test_data_saved_for_backward_survives_an_in_place_change():
    c, w = tg.tensor(np.ones(3)), leaf(np.ones(3))
    y = c * w
    c += 5.0
    c[0] = -1.0
    y.sum().backward()
    np.testing.assert_array_equal(w.grad.array, np.ones(3))
    assert c.tolist() == [-1.0, 6.0, 6.0]


def test_data_that_nobody_else_holds_is_written_in_place():
    x = tg.zeros(1000)
    address = x.array.ctypes.data
    x[3] = 1.0
    assert x.array.ctypes.data == address


def test_a_leaf_changes_only_under_no_grad():
    w = leaf([1.0, 2.0])
    with pytest.raises(GradientError, match="no_grad"):
        w += 1.0
    with pytest.raises(GradientError, match="no_grad"):
        w[0] = 5.0
    assert w.tolist() == [1.0, 2.0]
    address = w.array.ctypes.data
    with tg.no_grad():
        w += 1.0
        w[0] = 5.0
    assert w.tolist() == [5.0, 3.0] and w.is_leaf and w.requires_grad and w.array.ctypes.data == address


def test_backward_refuses_a_leaf_that_changed_after_it_was_saved():
    x, w = leaf([2.0]), leaf([3.0])
    y = (x * w).sum()
    with tg.no_grad():
        w += 1.0
    with pytest.raises(GradientError, match="'mul'.*'other'.*changed in place"):
        y.backward()
    assert x.grad is None and w.grad is None
    (x * w).sum().backward()
    assert x.grad.item() == 4.0


def test_a_changed_leaf_that_was_not_saved_does_no_harm():
    x, w = leaf([2.0]), leaf([3.0])
    y = (x + w).sum()
    with tg.no_grad():
        w += 1.0
    y.backward()
    assert x.grad.item() == 1.0


def test_data_attribute_reaches_the_leaf():
    w = leaf([1.0, 2.0])
    w.data += 1.0
    w.data.mul_(2.0)
    assert w.tolist() == [4.0, 6.0] and w.requires_grad
    w.data = tg.tensor(np.zeros(2))
    assert w.tolist() == [0.0, 0.0]


# ---- anomaly


def test_detect_anomaly_names_operator_line_and_input():
    x = leaf([0.0, 1.0])
    with tg.detect_anomaly():
        y = tg.sqrt(x)  # the faulty line
        with pytest.raises(GradientError, match="(?s)backward of 'sqrt' gave (Inf|NaN).*'input'.*the faulty line"):
            y.sum().backward()
    assert x.grad is None


def test_detect_anomaly_stops_at_the_first_forward_result_that_is_not_finite():
    x = leaf([0.0, 1.0])
    with tg.detect_anomaly(), pytest.raises(GradientError, match="(?s)forward of 'log' gave Inf.*the other line"):
        tg.log(x) * 2.0  # the other line


def test_without_detect_anomaly_nothing_is_checked():
    x = leaf([0.0])
    with np.errstate(divide="ignore"):
        tg.log(x).sum().backward()
    assert np.isinf(x.grad.item())


# ---- operators with several outputs


def test_an_operator_with_several_outputs_of_which_one_is_used():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x.unbind(0)
    (second * second).sum().backward()
    np.testing.assert_array_equal(x.grad.array, [[0.0, 0.0], [6.0, 8.0]])
    assert first.requires_grad


def test_integer_outputs_have_no_gradient():
    x = leaf([[1.0, 5.0], [3.0, 2.0]])
    values, indices = x.max(dim=1)
    assert values.requires_grad and not indices.requires_grad
    values.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [[0.0, 1.0], [1.0, 0.0]])


# ---- dtypes


@pytest.mark.parametrize("dtype", [tg.float16, tg.float32, tg.float64])
def test_gradients_have_the_dtype_of_their_leaf(dtype):
    x = tg.ones(2, dtype=dtype, requires_grad=True)
    y = (tg.tanh(x) * 2.0 + 1).mean()
    assert y.dtype == dtype
    y.backward()
    assert x.grad.dtype == dtype


def test_mixed_dtypes_promote_and_each_gradient_comes_back_in_its_own():
    x, w = tg.ones(2, requires_grad=True), tg.ones(2, dtype=tg.float64, requires_grad=True)
    y = x * w
    assert y.dtype == tg.float64
    y.sum().backward()
    assert x.grad.dtype == tg.float32 and w.grad.dtype == tg.float64


def test_integers_beside_floats_never_make_float64():
    x, n = tg.ones(2, requires_grad=True), tg.arange(2)
    assert (x * n).dtype == tg.float32 and (n * 1.5).dtype == tg.float32 and (n / 2).dtype == tg.float32
    assert tg.tanh(n).dtype == tg.float32 and (n + n).dtype == tg.int64
    assert (x * np.float64(2.0)).dtype == tg.float32
    assert (x * tg.tensor(2.0, dtype=tg.float64)).dtype == tg.float32  # a 0-d tensor does not promote
