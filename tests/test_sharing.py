"""Who sees a change in place: views, aliases and gradients that share memory, leaves that are frozen, threads."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import GradientError


def leaf(values, dtype=np.float64):
    return tg.tensor(np.asarray(values, dtype=dtype), requires_grad=True)


def change(p):
    with tg.no_grad():
        p += 10.0


# ---- a changed leaf is refused however its memory was saved


def undetached(p):
    with tg.no_grad():
        return p[...]


ALIASES = {
    "view": lambda p: p.view(-1),
    "part": lambda p: p[0:2],
    "transposed": lambda p: p.reshape(1, 2).T.reshape(2),
    "unbound": lambda p: p.reshape(1, 2).unbind(0)[0],
    "detached": lambda p: p.detach(),
    "data": lambda p: p.data,
    "under no_grad": undetached,
}


@pytest.mark.parametrize("alias", ALIASES)
def test_backward_refuses_a_changed_leaf_that_was_saved_through_an_alias(alias):
    p, w = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    v = ALIASES[alias](p)
    y = (v * w).sum()
    change(p)
    with pytest.raises(GradientError, match="TG-G003.*changed in place"):
        y.backward()
    assert w.grad is None


def test_backward_refuses_the_product_with_a_transposed_weight_after_a_step():
    w, x = leaf(np.ones((2, 3))), leaf(np.ones((1, 3)))
    y = (x @ w.T).sum()
    (w * w).sum().backward()
    tg.optim.SGD([w], lr=1.0).step()
    with pytest.raises(GradientError, match="'matmul'.*changed in place"):
        y.backward()


def test_data_that_was_saved_before_it_became_a_leaf_is_watched_too():
    a, w = tg.tensor([1.0, 2.0]), leaf([1.0, 1.0], np.float32)
    y = (a * w).sum()
    change(a.requires_grad_())
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


def test_a_frozen_parameter_that_was_loaded_anew_is_watched_too():
    layer = nn.Linear(2, 2).requires_grad_(False)
    x = tg.ones(1, 2, requires_grad=True)
    y = layer(x).sum()
    layer.load_state_dict({"weight": tg.zeros(2, 2), "bias": tg.zeros(2)})
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


def test_a_step_of_other_parameters_does_no_harm():
    p, q = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = (q.view(-1) * q).sum()
    (p * p).sum().backward()
    tg.optim.SGD([p], lr=1.0).step()
    y.backward()
    assert q.grad.tolist() == [6.0, 8.0]


def test_stamps_of_memory_go_with_the_memory():
    from tinygrad_ja.core.tape import _Changes

    before = len(_Changes.by_memory)
    for _ in range(10):
        change(leaf([1.0]))
    assert len(_Changes.by_memory) <= before + 1


def test_copy_takes_values_and_not_memory():
    p, snapshot = leaf([1.0, 2.0]), tg.zeros(2, dtype=tg.float64)
    with tg.no_grad():
        snapshot.copy_(p)
        p += 10.0
    assert snapshot.tolist() == [1.0, 2.0]


def test_a_leaf_made_from_read_only_memory_gets_its_own():
    fixed = np.ones(3)
    fixed.flags.writeable = False
    p = tg.from_numpy(fixed).requires_grad_()
    change(p)
    assert p.tolist() == [11.0] * 3 and fixed.tolist() == [1.0] * 3
    plain = tg.from_numpy(fixed)
    del fixed
    plain[0] = 5.0
    assert plain.tolist() == [5.0, 1.0, 1.0]


# ---- gradients of two leaves are two gradients


def test_gradients_with_create_graph_are_separate():
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    (a + b).sum().backward(create_graph=True)
    a.grad.zero_()
    nn.utils.clip_grad_value_([a], 0.5)
    assert b.grad.tolist() == [1.0, 1.0]


def test_results_of_grad_are_separate_from_each_other_and_from_what_was_passed():
    a, b, v = leaf([1.0, 2.0]), leaf([1.0, 2.0]), tg.ones(2, dtype=tg.float64)
    of_a, of_b = tg.grad(a + b, (a, b), v, create_graph=True)
    of_a *= 5.0
    assert of_b.tolist() == v.tolist() == [1.0, 1.0]


def test_a_hook_that_changes_its_gradient_in_place_changes_nobody_elses():
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    a.register_hook(lambda g: g.mul_(3.0) and None)
    a.register_hook(lambda g: None)
    for create_graph in (False, True):
        made = tg.grad((a + b).sum(), (b,), create_graph=create_graph)
        assert made[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "clip", [lambda p: nn.utils.clip_grad_norm_([p], 1e-3), lambda p: nn.utils.clip_grad_value_([p], 1e-3)]
)
def test_backward_refuses_a_saved_gradient_that_was_clipped(clip):
    p, w = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    (p * p).sum().backward()
    y = (p.grad * w).sum()
    clip(p)
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


# ---- freezing


def test_a_leaf_that_is_frozen_for_a_while_keeps_its_gradient_and_its_graphs():
    p = leaf([1.0, 2.0])
    (p * 3).sum().backward()
    y = (p * p).sum()
    p.requires_grad_(False)
    assert not p.requires_grad and p.grad.tolist() == [3.0, 3.0]
    p.requires_grad_(True)
    y.backward()
    assert p.grad.tolist() == [5.0, 7.0]


def test_a_frozen_leaf_takes_no_gradient_of_an_earlier_graph():
    p = leaf([1.0, 2.0])
    y = (p * p).sum()
    p.requires_grad_(False)
    y.backward()
    assert p.grad is None


def test_zero_grad_reaches_a_frozen_parameter():
    layer = nn.Linear(1, 1)
    layer(tg.ones(1, 1)).backward(tg.ones(1, 1))
    layer.requires_grad_(False).zero_grad()
    assert layer.requires_grad_(True).weight.grad is None


# ---- threads and memory


def test_gradients_of_many_threads_all_arrive():
    w = tg.zeros(300_000, requires_grad=True)

    def run():
        for _ in range(5):
            (w * 1.0).sum().backward()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert w.grad.numpy().min() == w.grad.numpy().max() == 30.0


def test_a_retained_gradient_does_not_keep_its_node():
    gc.collect()
    gc.disable()
    try:
        y = leaf([1.0]) * 2
        y.retain_grad()
        node = weakref.ref(y.node)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_training_holds_no_more_memory_after_many_steps_than_after_a_few():
    lstm, head = nn.LSTM(4, 8), nn.Linear(8, 3)
    params = [*lstm.parameters(), *head.parameters()]
    optimizer = tg.optim.Adam(params)
    x, target = tg.randn(12, 2, 4), tg.tensor([0, 2])

    def train(steps):
        for _ in range(steps):
            loss = nn.functional.cross_entropy(head(lstm(x)[0][-1]), target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            del loss

    def bytes_of_arrays():
        only = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([only]).traces)

    gc.disable()  # nothing may need it
    tracemalloc.start()
    try:
        train(3)
        before = bytes_of_arrays()
        train(40)
        assert bytes_of_arrays() == before
    finally:
        tracemalloc.stop()
        gc.enable()


def test_50_000_operators_of_several_outputs_run_backward_and_are_freed():
    x = leaf([1.0, 2.0])
    y = x
    for _ in range(50_000):
        a, b = tg.unbind(y)
        y = tg.stack([b, a])
    y.sum().backward()
    node = weakref.ref(y.node)
    del y, a, b
    assert node() is None and x.grad.tolist() == [1.0, 1.0]
