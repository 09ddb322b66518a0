"""A module as a function of its parameters."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, DtypeError
from tinygrad_ja.func import functional_call


def test_other_parameters_are_used_and_the_own_come_back() -> None:
    layer = nn.Linear(2, 1)
    own = layer.weight
    y = tg.func.functional_call(layer, {"weight": tg.tensor([[1.0, 2.0]]), "bias": tg.tensor([3.0])}, tg.tensor([[4.0, 5.0]]))
    assert y.tolist() == [[17.0]]
    assert layer.weight is own and [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_gradients_reach_the_given_tensors_through_what_made_them() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    a = tg.tensor([[2.0]], requires_grad=True)
    y = tg.func.functional_call(model, {"0.weight": a * 3, "1.weight": a}, (tg.ones(1, 1),))
    y.sum().backward()
    assert y.item() == 12.0 and a.grad is not None and a.grad.item() == 12.0  # d(3a²)/da
    assert all(p.grad is None for p in model.parameters())


def test_a_failure_inside_gives_the_parameters_back() -> None:
    layer = nn.Linear(2, 1)
    own = layer.weight
    with pytest.raises(tg.errors.ShapeError):
        tg.func.functional_call(layer, {"weight": tg.ones(1, 3)}, (tg.ones(1, 2),))
    assert layer.weight is own


@pytest.mark.parametrize("tie", [True, False])
def test_tied_weights_are_replaced_together(tie: bool) -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    model[1].weight = model[0].weight
    with tg.no_grad():
        model[0].weight.fill_(1.0)
    y = tg.func.functional_call(model, {"0.weight": tg.tensor([[5.0]])}, (tg.ones(1, 1),), tie_weights=tie)
    assert y.item() == (25.0 if tie else 5.0)


def test_buffers_several_dicts_and_keywords() -> None:
    norm = nn.BatchNorm1d(1).eval()
    y = tg.func.functional_call(
        norm, ({"running_mean": tg.tensor([1.0])}, {"bias": tg.tensor([2.0])}), kwargs={"input": tg.tensor([[1.0]])}
    )
    np.testing.assert_allclose(y.tolist(), [[2.0]])


@pytest.mark.parametrize("given, strict", [({"weights": tg.ones(1)}, False), ({"weight": tg.ones(1, 2)}, True)])
def test_names_must_be_the_modules(given: dict[str, tg.Tensor], strict: bool) -> None:
    with pytest.raises(ArgumentError, match="weights" if not strict else "bias"):
        tg.func.functional_call(nn.Linear(2, 1), given, (tg.ones(1, 2),), strict=strict)


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    return model


def test_one_parameter_gets_one_value() -> None:
    x, double = tg.tensor([[1.0, 2.0]]), tg.eye(2) * 2
    for given in ({"0.weight": double}, {"1.weight": double}, {"0.weight": double, "1.weight": double}):
        assert functional_call(tied(), given, x, strict=True).tolist() == [[4.0, 8.0]]
    with pytest.raises(ArgumentError, match="one tensor for the names"):
        functional_call(tied(), {"0.weight": double, "1.weight": tg.eye(2)}, x)
    apart = functional_call(tied(), {"0.weight": double, "1.weight": tg.eye(2)}, x, tie_weights=False)
    assert apart.tolist() == [[2.0, 4.0]]


@pytest.mark.parametrize(
    "module, given, words",
    [
        (nn.Linear(2, 2), ({"weight": tg.eye(2)}, {"weight": tg.eye(2)}), "each name once"),
        (nn.Linear(2, 2), 3, "int.*a dict"),
        (nn.Linear(2, 2), [3], "a dict"),
        (len, {}, "module.*Module"),
    ],
)
def test_what_cannot_be_called_is_refused(module, given, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        functional_call(module, given, tg.ones(1, 2))


def test_a_value_is_a_tensor() -> None:
    with pytest.raises(DtypeError, match="weight.*ndarray"):
        functional_call(nn.Linear(2, 2), {"weight": np.eye(2)}, tg.ones(1, 2))
