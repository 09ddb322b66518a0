"""Parametrized weights: computed whenever they are read, set through an inverse, taken back."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.nn import Linear, Module, Parameter, utils
from tinygrad_ja.nn.utils import parametrizations
from tinygrad_ja.nn.utils.parametrize import (
    cached,
    is_parametrized,
    register_parametrization,
    remove_parametrizations,
    type_before_parametrizations,
)


class Symmetric(Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T

    def right_inverse(self, x):
        return x.triu()


class Doubled(Module):
    def forward(self, x):
        return 2 * x


class RankOne(Module):
    def forward(self, a, b):
        return a.unsqueeze(1) * b

    def right_inverse(self, x):
        return x[:, 0], x[0] / x[0, 0]


class Counted(Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return x * 1


def test_a_parametrized_weight_is_computed_whenever_it_is_read():
    layer = register_parametrization(Linear(3, 3), "weight", Symmetric())
    assert (layer.weight == layer.weight.T).all()
    with tg.no_grad():
        layer.parametrizations.weight.original.fill_(2.0)
    assert layer.weight.tolist() == [[2.0] * 3] * 3
    assert layer(tg.ones(1, 3)).shape == (1, 3)


def test_gradients_reach_the_original():
    layer = register_parametrization(Linear(2, 2), "weight", Symmetric())
    layer.weight.sum().backward()
    assert layer.parametrizations.weight.original.grad.tolist() == [[1.0, 2.0], [0.0, 1.0]]
    assert [name for name, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]


def test_the_parameter_that_an_optimizer_holds_stays_the_same():
    layer = Linear(2, 2)
    weight = layer.weight
    register_parametrization(layer, "weight", Symmetric())
    assert layer.parametrizations.weight.original is weight
    remove_parametrizations(layer, "weight")
    assert layer.weight is weight
    assert isinstance(layer.weight, Parameter)


def test_a_value_is_assigned_through_the_inverses():
    layer = register_parametrization(Linear(2, 2), "weight", Symmetric())
    layer.weight = tg.tensor([[1.0, 2.0], [2.0, 3.0]])
    assert layer.parametrizations.weight.original.tolist() == [[1.0, 2.0], [0.0, 3.0]]
    register_parametrization(layer, "bias", Doubled())
    with pytest.raises(ArgumentError, match="Doubled has no right_inverse"):
        layer.bias = tg.zeros(2)


def test_parametrizations_are_applied_one_after_another():
    layer = Linear(2, 2)
    before = layer.weight.detach().clone()
    register_parametrization(layer, "weight", Symmetric())
    register_parametrization(layer, "weight", Doubled())
    symmetric = before.triu() + before.triu(1).T
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * symmetric.numpy())
    assert len(layer.parametrizations.weight) == 2


def test_several_originals():
    layer = Linear(2, 3)
    with tg.no_grad():
        layer.weight.copy_(tg.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]))
    register_parametrization(layer, "weight", RankOne())
    assert layer.weight.tolist() == [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"]
    with pytest.raises(ArgumentError, match="several originals"):
        remove_parametrizations(layer, "weight", leave_parametrized=False)
    remove_parametrizations(layer, "weight")
    assert isinstance(layer.weight, Parameter)
    assert layer.weight.tolist() == [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]


def test_removal_leaves_the_value_or_the_original_and_the_old_class():
    for leave, expected in [(True, [2.0, 4.0]), (False, [1.0, 2.0])]:
        layer = Linear(1, 2)
        with tg.no_grad():
            layer.bias.copy_(tg.tensor([1.0, 2.0]))
        register_parametrization(layer, "bias", Doubled())
        assert type(layer).__name__ == "ParametrizedLinear"
        assert isinstance(layer, Linear)
        assert type_before_parametrizations(layer) is Linear
        remove_parametrizations(layer, "bias", leave)
        assert layer.bias.tolist() == expected
        assert type(layer) is Linear
        assert not is_parametrized(layer)
        assert "parametrizations" not in dict(layer.named_modules())


def test_a_buffer_stays_a_buffer():
    layer = Module()
    layer.register_buffer("scale", tg.ones(2))
    register_parametrization(layer, "scale", Doubled())
    assert list(layer.state_dict()) == ["parametrizations.scale.original"]
    assert not list(layer.parameters())
    remove_parametrizations(layer, "scale")
    assert [name for name, _ in layer.named_buffers()] == ["scale"]


def test_what_changes_the_shape_is_refused_and_nothing_has_changed():
    class Flat(Module):
        def forward(self, x):
            return x.reshape(-1)

        def right_inverse(self, x):
            return x * 0

    layer = Linear(2, 2)
    before = layer.weight.detach().clone()
    with pytest.raises(ArgumentError, match=r"makes \(4,\) float32 of \(2, 2\) float32"):
        register_parametrization(layer, "weight", Flat())
    assert type(layer) is Linear
    assert (layer.weight == before).all()
    register_parametrization(layer, "weight", Symmetric())
    with pytest.raises(ArgumentError, match="keeps shape and dtype"):
        register_parametrization(layer, "weight", Flat())
    assert len(layer.parametrizations.weight) == 1
    assert register_parametrization(layer, "weight", Flat(), unsafe=True).weight.shape == (4,)


def test_names_that_do_not_exist_are_refused():
    for call in (
        lambda m: register_parametrization(m, "wieght", Doubled()),
        lambda m: remove_parametrizations(m, "weight"),
        lambda m: parametrizations.weight_norm(m, "wieght"),
        lambda m: parametrizations.spectral_norm(m, "wieght"),
        lambda m: utils.weight_norm(m, "wieght"),
        lambda m: utils.remove_weight_norm(m),
        lambda m: utils.remove_spectral_norm(m),
    ):
        with pytest.raises(ArgumentError, match="TG-A003.*Linear"):
            call(Linear(2, 2))
    with pytest.raises(ArgumentError, match="Linear has no parameter or buffer 'bias'"):
        register_parametrization(Linear(2, 2, bias=False), "bias", Doubled())


def test_an_inverse_of_another_dtype_is_refused():
    class Wider(Module):
        def forward(self, x):
            return x.float()

        def right_inverse(self, x):
            return x.double()

    with pytest.raises(DtypeError, match="TG-T006"):
        register_parametrization(Linear(2, 2), "weight", Wider())


def test_within_cached_a_weight_is_computed_once():
    layer = register_parametrization(Linear(2, 2), "weight", Counted())
    counter = layer.parametrizations.weight[0]
    start = counter.count
    with cached():
        first = layer.weight
        with cached():
            assert layer.weight is first
        assert layer.weight is first
    assert counter.count == start + 1
    assert layer.weight is not first


def test_copies_and_pickles_stand_alone():
    layer = parametrizations.weight_norm(Linear(3, 2))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (other.weight == layer.weight).all()
        remove_parametrizations(other, "weight")
        assert is_parametrized(layer, "weight")
        with tg.no_grad():
            other.weight.zero_()
        assert (layer.weight != 0).any()


def test_a_recurrent_layer_takes_a_parametrized_weight():
    layer = tg.nn.LSTM(3, 4)
    x = tg.randn(5, 2, 3)
    before = layer(x)[0]
    parametrizations.weight_norm(layer, "weight_hh_l0")
    after = layer(x)[0]
    np.testing.assert_allclose(before.detach().numpy(), after.detach().numpy(), rtol=1e-5, atol=1e-6)
    after.sum().backward()
    assert layer.parametrizations.weight_hh_l0.original0.grad is not None


# ---- weight norm and spectral norm


@pytest.mark.parametrize("dim, length", [(0, (2, 1)), (1, (1, 3)), (-2, (2, 1)), (None, ())])
@pytest.mark.parametrize("where", [parametrizations, utils])
def test_weight_norm_keeps_the_weight_and_separates_its_length(where, dim, length):
    layer = Linear(3, 2)
    before = layer.weight.detach().clone()
    where.weight_norm(layer, dim=dim)
    np.testing.assert_allclose(layer.weight.detach().numpy(), before.numpy(), rtol=1e-6)
    found = [tuple(p.shape) for name, p in layer.named_parameters() if name.endswith(("original0", "_g"))]
    assert found == [length]


def test_the_length_of_each_row_is_a_parameter():
    layer = parametrizations.weight_norm(Linear(3, 2))
    with tg.no_grad():
        layer.parametrizations.weight.original0.fill_(5.0)
    np.testing.assert_allclose(tg.linalg.vector_norm(layer.weight, dim=1).detach().numpy(), [5, 5], rtol=1e-6)


@pytest.mark.parametrize("where", [parametrizations, utils])
def test_spectral_norm_comes_to_one_in_training_and_rests_in_evaluation(where):
    layer = where.spectral_norm(Linear(6, 4))
    for _ in range(100):
        layer(tg.ones(1, 6))
    assert tg.linalg.matrix_norm(layer.weight.detach(), 2).item() == pytest.approx(1, abs=1e-4)
    layer.eval()
    before = {name: value.tolist() for name, value in layer.named_buffers()}
    assert layer(tg.ones(1, 6)).tolist() == layer(tg.ones(1, 6)).tolist()
    assert {name: value.tolist() for name, value in layer.named_buffers()} == before


@pytest.mark.parametrize("where", [parametrizations, utils])
def test_two_uses_of_a_spectral_weight_can_be_differentiated_together(where):
    layer = where.spectral_norm(Linear(3, 2))
    (layer(tg.ones(1, 3)) - layer(-tg.ones(1, 3))).sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in layer.parameters())


def test_old_hooks_are_removed_with_the_present_value():
    for apply, remove in [(utils.weight_norm, utils.remove_weight_norm), (utils.spectral_norm, utils.remove_spectral_norm)]:
        layer = apply(Linear(3, 2))
        layer.eval()(tg.ones(1, 3))
        value = layer.weight.tolist()
        remove(layer)
        assert layer.weight.tolist() == value
        assert sorted(layer.state_dict()) == ["bias", "weight"]
        assert isinstance(layer.weight, Parameter)


def test_old_hooks_are_applied_once():
    for apply in (utils.weight_norm, utils.spectral_norm):
        with pytest.raises(ArgumentError, match="already"):
            apply(apply(Linear(3, 2)))


def test_power_iterations_are_counted_from_one():
    for where in (parametrizations, utils):
        with pytest.raises(ArgumentError, match="n_power_iterations = 0"):
            where.spectral_norm(Linear(3, 2), n_power_iterations=0)


# ---- orthogonal


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (4, 2)])
@pytest.mark.parametrize("trivialized", [True, False])
def test_an_orthogonal_weight_stays_orthogonal_while_it_learns(orthogonal_map, sizes, trivialized):
    tg.manual_seed(0)
    layer = parametrizations.orthogonal(Linear(*sizes), orthogonal_map=orthogonal_map, use_trivialization=trivialized)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = ((layer(tg.ones(1, sizes[0])) - 1) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    w = layer.weight.detach()
    w = w if w.shape[0] <= w.shape[1] else w.T
    np.testing.assert_allclose((w @ w.T).numpy(), np.eye(min(sizes)), atol=1e-5)


def test_an_orthogonal_weight_can_be_assigned():
    rotation = tg.tensor([[0.6, -0.8], [0.8, 0.6]])
    layer = parametrizations.orthogonal(Linear(2, 2))
    layer.weight = rotation
    np.testing.assert_allclose(layer.weight.detach().numpy(), rotation.numpy(), atol=1e-6)


def test_orthogonal_refuses_vectors_and_unknown_maps():
    with pytest.raises(ShapeError, match="orthogonal"):
        parametrizations.orthogonal(Linear(2, 2), "bias")
    with pytest.raises(ArgumentError, match="matrix_exp | cayley | householder"):
        parametrizations.orthogonal(Linear(2, 2), orthogonal_map="givens")
