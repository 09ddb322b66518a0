"""Optimizers: their formulas, groups, state, what they refuse, and how little they touch."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, GradientError, StateError
from tinygrad_ja.testing import strict

KINDS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 1.0, "lr_decay": 1e-3}),
    ("Adadelta", {"lr": 30.0, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "centered": True, "momentum": 0.5}),
    ("RMSprop", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {"lr": 0.2, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.2}),
    ("NAdam", {"lr": 0.2, "decoupled_weight_decay": True, "weight_decay": 0.1, "maximize": True}),
    ("RAdam", {"lr": 0.3, "betas": (0.5, 0.9)}),
    ("ASGD", {"lr": 0.1, "t0": 2}),
    ("Rprop", {"lr": 0.1}),
    ("Adafactor", {"lr": 0.5, "weight_decay": 0.01}),
    ("LARS", {"lr": 1.0, "trust_coefficient": 0.05, "weight_decay": 0.01}),
    ("LAMB", {"lr": 0.05, "weight_decay": 0.01}),
]


def make(name, params, options):
    return getattr(tg.optim, name)(params, **options)


def take_steps(optimizer, p, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        p.grad = tg.tensor(rng.normal(size=p.shape).astype(p.dtype), device=p.device)
        optimizer.step()


# ---- the rules, written out


def test_sgd_is_its_formula():
    lr, mu, damp, decay = 0.1, 0.9, 0.5, 0.01
    p, x, v = tg.tensor([1.0, -2.0], dtype=tg.float64, requires_grad=True), np.array([1.0, -2.0]), None
    optimizer = tg.optim.SGD([p], lr, mu, damp, decay)
    for t in range(4):
        g = np.array([t + 1.0, -0.5])
        p.grad = tg.tensor(g)
        optimizer.step()
        d = g + decay * x
        v = d if v is None else mu * v + (1 - damp) * d
        x = x - lr * v
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-14)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_is_its_formula(decoupled):
    lr, (b1, b2), eps, decay = 0.1, (0.9, 0.99), 1e-3, 0.05
    p, x, m, v = tg.tensor([1.0, -2.0], dtype=tg.float64, requires_grad=True), np.array([1.0, -2.0]), 0.0, 0.0
    optimizer = (tg.optim.AdamW if decoupled else tg.optim.Adam)([p], lr, (b1, b2), eps, decay)
    for t in range(1, 5):
        g = np.array([t - 2.0, -0.5])
        p.grad = tg.tensor(g)
        optimizer.step()
        if decoupled:
            x = x - lr * decay * x
        else:
            g = g + decay * x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-13)


@pytest.mark.parametrize("name, options", KINDS)
def test_a_bowl_is_descended_or_climbed(name, options):
    p = tg.tensor([3.0, -2.0], requires_grad=True)
    optimizer = make(name, [p], options)
    heights = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = -(p * p).sum() if options.get("maximize") else (p * p).sum()
        loss.backward()
        heights.append(abs(loss.item()))
        optimizer.step()
    assert heights[-1] < 0.02 * heights[0]


# ---- what is touched


@pytest.mark.parametrize("name, options", KINDS)
@pytest.mark.parametrize("dtype", [tg.float16, tg.float32, tg.float64])
@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_parameters_change_in_place_and_gradients_stay(name, options, dtype, shape):
    p = tg.ones(shape, dtype=dtype).requires_grad_()
    array = p.array
    optimizer = make(name, [p], options)
    p.grad = tg.full(shape, 0.5, dtype=dtype)
    for _ in range(3):
        optimizer.step()
    assert p.array is array and p.requires_grad and p.dtype == dtype and (p.detach().array != 1).all()
    assert (p.grad.array == 0.5).all()
    for entries in optimizer.state_dict()["state"].values():
        for key, value in entries.items():
            assert key in optimizer.numbers or (value.dtype == dtype and value.shape == optimizer.state_shape(key, shape))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adadelta", "LAMB"])
def test_the_mean_of_large_squares_fits_into_float16(name):
    p = tg.ones(2, dtype=tg.float16).requires_grad_()
    optimizer = make(name, [p], {"lr": 0.1, **({"eps": 1e-4} if name != "Adadelta" else {"rho": 0.999})})
    p.grad = tg.tensor([1000.0, 1000.0], dtype=tg.float16)  # its square is not a float16, a thousandth of that is
    optimizer.step()
    (squares,) = (value for key, value in optimizer.state[p].items() if key in ("exp_avg_sq", "square_avg"))
    share = 0.01 if name == "RMSprop" else 0.001
    np.testing.assert_allclose(squares, share * 1000.0**2, rtol=1e-2)
    assert np.isfinite(p.detach().numpy()).all()


@pytest.mark.parametrize("name, options", KINDS)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.filterwarnings("error")
def test_a_parameter_without_elements_is_no_trouble(name, options, shape):
    p = tg.ones(shape).requires_grad_()
    take_steps(make(name, [p], options), p, 2)
    assert p.shape == shape


@pytest.mark.parametrize("change", [{"momentum": 0.9}, {"centered": True}])
def test_rmsprop_takes_a_setting_that_comes_later(change):
    p, q = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
    late, early = tg.optim.RMSprop([p], lr=0.1), tg.optim.RMSprop([q], lr=0.1, **change)
    p.grad = q.grad = tg.zeros(2)  # nothing has happened by then
    late.step()
    early.step()
    late.param_groups[0].update(change)
    for optimizer, x in ((late, p), (early, q)):
        x.grad = tg.tensor([1.0, -2.0])
        optimizer.step()
    assert p.tolist() == q.tolist() != [1.0, 1.0]


def test_a_parameter_without_gradient_is_left_alone():
    a, b = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
    optimizer = tg.optim.Adam([a, b], lr=0.1, weight_decay=0.5)
    a.sum().backward()
    optimizer.step()
    assert b.tolist() == [1.0, 1.0] and list(optimizer.state_dict()["state"]) == [0]


@pytest.mark.parametrize("name, options", KINDS)
def test_a_backward_after_the_step_is_refused(name, options):
    w = tg.ones(2, requires_grad=True)
    optimizer = make(name, [w], options)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(GradientError, match="TG-G003"):
        loss.backward()


def test_zero_grad():
    p = tg.ones(2, requires_grad=True)
    optimizer = tg.optim.SGD([p], lr=0.1)
    p.sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is None


def test_closure_runs_with_the_tape_and_its_loss_comes_back():
    p = tg.tensor([2.0], requires_grad=True)
    optimizer = tg.optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.tolist() == [1.0]


# ---- groups


def test_groups_have_settings_of_their_own():
    a, b = tg.ones(1, requires_grad=True), tg.ones(1, requires_grad=True)
    optimizer = tg.optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    a.grad = b.grad = tg.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (pytest.approx(0.9), 0.5)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert (a.item(), b.item()) == (pytest.approx(0.9), 0.0)
    c = tg.ones(1, requires_grad=True)
    optimizer.add_param_group({"params": c, "momentum": 0.9})
    assert optimizer.param_groups[2]["lr"] == 0.1 and "momentum: 0.9" in repr(optimizer)


def test_named_parameters_are_taken():
    layer = nn.Linear(2, 2)
    assert [id(p) for p in tg.optim.SGD(layer.named_parameters()).param_groups[0]["params"]] == [
        id(p) for p in layer.parameters()
    ]


def test_names_stay_with_their_group():
    layer = nn.Linear(2, 2)
    optimizer = tg.optim.SGD([{"params": layer.named_parameters(), "lr": 0.5}, {"params": [tg.ones(1, requires_grad=True)]}])
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"] and "param_names" not in optimizer.param_groups[1]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_parameters_that_cannot_be_taken():
    p = tg.ones(1, requires_grad=True)
    for params, words in (
        (p, "model.parameters"),
        ([], "at least one"),
        ([p, p], "twice"),
        ([{"params": [p]}, {"params": [p]}], "twice"),
        ([p * 2], "'mul'"),
        (["w"], "str"),
        ({p}, "set"),
        (None, "NoneType"),
        (nn.Linear(1, 1), "Linear.*model.parameters"),
        ([{"params": [p]}, p], "Tensor.*'params'"),
        ([{"lr": 0.1}], "dict.*'params'"),
        ([{"params": {p}}], "set"),
        ([("w", p), tg.ones(1, requires_grad=True)], "1 names, 2 parameters"),
    ):
        with pytest.raises(ArgumentError, match=f"TG-A001.*SGD.*{words}"):
            tg.optim.SGD(params, lr=0.1)


@pytest.mark.parametrize(
    "name, options",
    [
        ("SGD", {"lr": -1.0}),
        ("SGD", {"lr": math.nan}),
        ("SGD", {"lr": "0.1"}),
        ("SGD", {"lr": None}),
        ("Adam", {"lr": tg.tensor(0.1)}),
        ("Adam", {"betas": 0.9}),
        ("SGD", {"momentum": -0.1}),
        ("SGD", {"weight_decay": -0.1}),
        ("SGD", {"nesterov": True}),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
        ("Adam", {"lr": -1.0}),
        ("Adam", {"eps": -1.0}),
        ("Adam", {"betas": (1.0, 0.9)}),
        ("Adam", {"betas": (0.9, -0.1)}),
        ("AdamW", {"weight_decay": -1.0}),
        ("Adagrad", {"lr_decay": -1.0}),
        ("Adadelta", {"rho": 1.5}),
        ("RMSprop", {"alpha": -0.1}),
        ("RMSprop", {"alpha": 1.1}),
        ("Adamax", {"betas": (0.9,)}),
        ("NAdam", {"momentum_decay": -1.0}),
        ("Rprop", {"etas": (1.5, 1.2)}),
        ("Rprop", {"etas": 0.5}),
        ("Adafactor", {"eps": 1e-30}),
        ("Adafactor", {"d": 0.5}),
        ("Adafactor", {"beta2_decay": 0.1}),
        ("LARS", {"trust_coefficient": -1.0}),
        ("LAMB", {"eps": -1.0}),
        ("LBFGS", {"line_search_fn": "armijo"}),
        ("Muon", {"momentum": 0.9}),  # the parameter is no matrix
        ("SGD", {"differentiable": True}),
        ("SGD", {"speed": 3}),
    ],
)
def test_settings_out_of_range(name, options):
    with pytest.raises(ArgumentError, match=f"TG-A001.*{name}"):
        make(name, [tg.ones(1, requires_grad=True)], options)


# ---- state


@pytest.mark.parametrize("name, options", KINDS)
def test_saved_and_loaded_training_goes_on_bit_for_bit(name, options, tmp_path):
    p, q = tg.ones(3, requires_grad=True), tg.ones(3, requires_grad=True)
    first, second = make(name, [p], options), make(name, [q], options)
    take_steps(first, p, 8)
    take_steps(second, q, 3)
    tg.save({"optimizer": second.state_dict(), "q": q.detach()}, tmp_path / "half.safetensors")
    state = tg.load(tmp_path / "half.safetensors")
    r = tg.tensor(state["q"], requires_grad=True)
    third = make(name, [r], {**options, "lr": 9.0})
    third.load_state_dict(state["optimizer"])
    rng = np.random.default_rng(0)
    for step in range(8):
        gradient = tg.tensor(rng.normal(size=3).astype(np.float32))
        if step >= 3:
            r.grad = gradient
            third.step()
    assert r.tolist() == p.tolist()


def test_loaded_state_is_a_copy():
    p, q = tg.ones(3, requires_grad=True), tg.ones(3, requires_grad=True)
    first, second = tg.optim.Adam([p]), tg.optim.Adam([q])
    take_steps(first, p, 1)
    second.load_state_dict(first.state_dict())
    before = first.state_dict()["state"][0]["exp_avg"].tolist()
    take_steps(second, q, 1)
    assert first.state_dict()["state"][0]["exp_avg"].tolist() == before


def test_loaded_settings_are_a_copy():
    saved = tg.optim.Adam([tg.ones(3, requires_grad=True)], betas=[0.5, 0.9]).state_dict()
    optimizer = tg.optim.Adam([tg.ones(3, requires_grad=True)])
    optimizer.load_state_dict(saved)
    saved["param_groups"][0]["betas"][0] = 0.0
    assert optimizer.param_groups[0]["betas"] == [0.5, 0.9]


def test_tensors_of_another_library_are_refused_when_they_are_loaded():
    class Foreign:
        def __dlpack__(self): ...

    optimizer = tg.optim.Adam([tg.ones(3, requires_grad=True)])
    state = {"state": {0: {"step": 1, "exp_avg": Foreign()}}, "param_groups": [{"params": [0]}]}
    with pytest.raises(StateError, match=r"'exp_avg' of parameter 0 is a .*Foreign.*tg.tensor"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_by_itself(copied):
    p = tg.ones(3, requires_grad=True)
    optimizer = tg.optim.Adam([p], lr=0.1)
    take_steps(optimizer, p, 2)
    other = copied(optimizer)
    (q,) = other.param_groups[0]["params"]
    before = p.tolist()
    take_steps(other, q, 1, seed=1)
    assert p.tolist() == before != q.tolist()
    take_steps(optimizer, p, 1, seed=1)
    assert p.tolist() == q.tolist()


def test_the_layout_is_pytorchs():
    a, b = tg.ones(2, requires_grad=True), tg.ones(3, requires_grad=True)
    optimizer = tg.optim.Adam([{"params": [a]}, {"params": [b], "lr": 0.5}])
    take_steps(optimizer, b, 2)
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]] and state["param_groups"][1]["lr"] == 0.5
    assert set(state["state"]) == {1} and set(state["state"][1]) == {"step", "exp_avg", "exp_avg_sq"}


def test_state_that_does_not_fit_is_refused_and_nothing_changes():
    p = tg.ones(3, requires_grad=True)
    optimizer = tg.optim.Adam([p], lr=0.1)
    take_steps(optimizer, p, 2)
    before = copy.deepcopy(optimizer.state_dict())
    other = tg.optim.Adam([tg.ones(4, requires_grad=True)], lr=0.7)
    take_steps(other, other.param_groups[0]["params"][0], 1)
    two = tg.optim.Adam([tg.ones(3, requires_grad=True), tg.ones(3, requires_grad=True)])
    stray = {**before, "state": {5: {"step": 1}}}
    nameless = {"state": {}, "param_groups": [{"lr": 0.1}]}
    for wrong, words in (
        (other.state_dict(), r"'exp_avg'.*\(4,\).*\(3,\)"),
        (two.state_dict(), r"\[2\].*\[1\]"),
        ({"state": {}}, "param_groups"),
        (stray, "index 5"),
        (nameless, "'params'"),
        ({**before, "state": 3}, "'state'"),
    ):
        with pytest.raises(StateError, match=f"TG-F003.*{words}"):
            optimizer.load_state_dict(wrong)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, value in before["state"][0].items():
        made = after["state"][0][key]
        assert made == value if key == "step" else made.tolist() == value.tolist()


def test_state_follows_the_parameters():
    layer = nn.Linear(2, 2)
    optimizer = tg.optim.Adam(layer.parameters(), amsgrad=True)
    for dtype in (tg.float32, tg.float64):
        layer.to(dtype)
        layer(tg.ones(1, 2, dtype=dtype)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.state_dict()["state"][0]["exp_avg"].dtype == tg.float64 and layer.weight.dtype == tg.float64


# ---- another kind of device


@pytest.mark.parametrize("name, options", KINDS)
def test_on_a_device_the_same_values_and_no_waiting(name, options):
    p, q = tg.ones(2, 3, requires_grad=True), tg.ones(2, 3, device="strict").requires_grad_()
    first, second = make(name, [p], options), make(name, [q], options)
    take_steps(first, p, 3)
    q.grad = tg.tensor(p.grad.array, device="strict")
    second.step()
    take_steps(second, q, 3)
    r = tg.ones(2, 3, requires_grad=True)
    third = make(name, [r], options)
    r.grad = tg.tensor(p.grad.array)
    third.step()
    take_steps(third, r, 3)
    np.testing.assert_allclose(q.detach().cpu().numpy(), r.detach().numpy(), rtol=1e-6)
    with strict.watch() as events:
        second.step()
    assert not events
