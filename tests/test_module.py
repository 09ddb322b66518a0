"""Module: what it registers, finds, saves, loads and says."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import AxisError, DeviceError, GradientError, ShapeError, StateError, TinygradError, UsageError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1)
        self.scale = nn.Parameter(tg.ones(1))
        self.register_buffer("mean", tg.zeros(2))
        self.register_buffer("scratch", tg.zeros(2), persistent=False)

    def forward(self, x):
        return self.second(tg.tanh(self.first(x - self.mean))) * self.scale


KEYS = ["scale", "mean", "first.weight", "first.bias", "second.weight", "second.bias"]


# ---- registration


def test_attributes_register_by_their_type():
    model = Model()
    assert [name for name, _ in model.named_parameters()] == [key for key in KEYS if key != "mean"]
    assert [name for name, _ in model.named_buffers()] == ["mean", "scratch"]
    assert [name for name, _ in model.named_children()] == ["first", "second"]
    assert list(model.state_dict()) == KEYS
    model.mean = tg.ones(2)  # a buffer stays one
    assert model.state_dict()["mean"].tolist() == [1.0, 1.0]
    model.plain = tg.ones(2)
    assert "plain" not in model.state_dict()


def test_deleting_and_replacing():
    model = Model()
    del model.first
    assert [name for name, _ in model.named_modules()] == ["", "second"]
    model.scale = None
    assert "scale" not in model.state_dict() and model.scale is None
    model.scale = nn.Parameter(tg.zeros(1))
    assert "scale" in model.state_dict()
    model.mean = nn.Parameter(tg.zeros(2))
    assert [name for name, _ in model.named_buffers()] == ["scratch"]


def test_a_tensor_cannot_take_the_place_of_a_parameter():
    model = Model()
    for name, value, fix in (
        ("scale", tg.zeros(1), "nn.Parameter"),
        ("scale", 1.0, "no_grad"),
        ("mean", 1.0, "tg.tensor"),
        ("first", tg.zeros(1), "del"),
    ):
        with pytest.raises(UsageError, match="TG-U012.*" + fix) as caught:
            setattr(model, name, value)
        assert isinstance(caught.value, TypeError)
    assert list(model.state_dict()) == KEYS


def test_a_missing_attribute_is_explained():
    model = Model()
    with pytest.raises(AttributeError, match="TG-U010.*'frist'.*first"):
        model.frist  # noqa: B018
    assert not hasattr(model, "nothing") and getattr(model, "nothing", 3) == 3


def test_forgetting_super_init_is_explained():
    class Broken(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(UsageError, match=r"TG-U011.*super\(\).__init__"):
        Broken()


def test_a_module_without_forward_is_explained():
    with pytest.raises(NotImplementedError, match="TG-U013.*ModuleList"):
        nn.ModuleList([nn.ReLU()])(tg.zeros(1))


@pytest.mark.parametrize("name", ["", "a.b", "forward", 3, "first"])
def test_names_that_cannot_be_registered(name):
    model = Model()
    for register in (model.register_buffer, model.register_parameter):
        with pytest.raises(TinygradError, match="name"):
            register(name, None)
    assert list(model.state_dict()) == KEYS


def test_only_fitting_values_are_registered():
    model = nn.Module()
    for register, value in (
        (model.register_buffer, 1.0),
        (model.register_parameter, tg.zeros(1)),
        (model.add_module, tg.zeros(1)),
    ):
        with pytest.raises(TypeError, match="TG-T00[27]"):
            register("name", value)


def test_shared_parts_come_once_but_are_saved_under_each_name():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    assert len(list(model.parameters())) == 2 and len(list(model.children())) == 1
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_lookup_by_dotted_name():
    model = nn.Sequential(Model())
    assert model.get_submodule("0.first") is model[0].first and model.get_submodule("") is model
    assert model.get_parameter("0.first.weight") is model[0].first.weight
    assert model.get_buffer("0.mean") is model[0].mean
    for call in (
        lambda: model.get_parameter("0.mean"),
        lambda: model.get_submodule("0.scale"),
        lambda: model.get_buffer("0.x"),
    ):
        with pytest.raises(AttributeError, match="TG-U01"):
            call()


# ---- parameters


def test_a_parameter_shares_memory_only_where_a_change_cannot_do_harm():
    x = tg.zeros(2)
    assert nn.Parameter(x).array is x.array
    made_by_operator = tg.zeros(2, requires_grad=True) + 1
    assert nn.Parameter(made_by_operator).array is not made_by_operator.array
    expanded = nn.Parameter(tg.zeros(1).expand(3))
    with tg.no_grad():
        expanded[0] = 1.0
    assert expanded.tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(TypeError, match="TG-T002"):
        nn.Parameter([1.0])


# ---- state


def test_state_dict_shares_memory_and_has_no_history():
    model = Model()
    state = model.state_dict()
    assert not any(value.requires_grad for value in state.values())
    with tg.no_grad():
        model.scale.fill_(7.0)
    assert state["scale"].item() == 7.0
    assert model.state_dict(keep_vars=True)["scale"] is model.scale


def test_load_changes_values_and_keeps_the_objects():
    model, other = Model(), Model()
    before = {name: (p, p.array) for name, p in other.named_parameters()}
    keys = other.load_state_dict(model.state_dict())
    assert keys.missing_keys == [] and keys.unexpected_keys == [] and repr(keys) == "<All keys matched successfully>"
    for name, p in other.named_parameters():
        assert p is before[name][0] and p.array is before[name][1] and p.tolist() == model.get_parameter(name).tolist()


def test_a_misfit_lists_everything_and_changes_nothing():
    model = Model()
    before = copy.deepcopy(model.state_dict())
    state = {name: value + 1 for name, value in before.items()}
    state["first.weight"] = tg.zeros(3, 3)
    state["second.bias"] = "text"
    state["third.weight"] = tg.zeros(1)
    del state["mean"]
    with pytest.raises(StateError) as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    for part in (
        "TG-F001",
        "Model",
        "missing keys: mean",
        "third.weight",
        "first.weight: (3, 3)",
        "(3, 2)",
        "second.bias: a str",
    ):
        assert part in text
    for name, value in model.state_dict().items():
        assert value.tolist() == before[name].tolist()


def test_not_strict_loads_what_fits_but_never_another_shape():
    model = Model()
    keys = model.load_state_dict({"scale": tg.tensor([5.0]), "other": tg.zeros(1)}, strict=False)
    assert model.scale.item() == 5.0 and keys.unexpected_keys == ["other"] and keys.missing_keys == KEYS[1:]
    with pytest.raises(StateError, match="scale"):
        model.load_state_dict({"scale": tg.zeros(2)}, strict=False)


def test_loading_casts_to_the_model():
    model = Model()
    model.load_state_dict({name: value.array.astype(np.float64) for name, value in model.state_dict().items()})
    assert {p.dtype for p in model.parameters()} == {tg.float32}


def test_loading_between_forward_and_backward_is_refused():
    model = Model()
    loss = model(tg.ones(1, 2)).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(GradientError, match="TG-G003"):
        loss.backward()


def test_loading_a_buffer_leaves_saved_values_alone():
    model = nn.Module()
    model.register_buffer("factor", tg.tensor([2.0]))
    x = tg.ones(1, requires_grad=True)
    y = x * model.factor
    model.load_state_dict({"factor": tg.tensor([9.0])})
    y.backward()
    assert x.grad.tolist() == [2.0] and model.factor.tolist() == [9.0]


def test_copies_and_pickles_are_independent():
    model = Model()
    model(tg.ones(1, 2)).sum().backward()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(other.state_dict()) == KEYS
        with tg.no_grad():
            other.scale.fill_(3.0)
        assert model.scale.item() == 1.0 and isinstance(other.scale, nn.Parameter)
        assert other(tg.ones(1, 2)).shape == (1, 1)


# ---- changing all of it


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(Model(), nn.Dropout(0.5))
    assert not any(m.training for m in model.eval().modules())
    assert all(m.training for m in model.train().modules())


def test_zero_grad():
    model = Model()
    model(tg.ones(1, 2)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.array.any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_requires_grad_freezes():
    model = Model().requires_grad_(False)
    assert not model(tg.ones(1, 2)).requires_grad
    assert len(list(model.parameters())) == 5


def test_to_converts_floats_and_keeps_the_parameters():
    model = Model()
    model.register_buffer("count", tg.tensor(3))
    model(tg.ones(1, 2)).sum().backward()
    before = list(model.parameters())
    model.double()
    assert all(p is q for p, q in zip(before, model.parameters()))
    assert all(p.dtype == p.grad.dtype == tg.float64 for p in model.parameters())
    assert model.mean.dtype == tg.float64 and model.count.dtype == tg.int64
    model.zero_grad()
    model(tg.ones(1, 2, dtype=tg.float64)).sum().backward()
    assert model.scale.grad.dtype == tg.float64
    assert model.half().scale.dtype == tg.float16 and model.to("cpu", tg.float32).scale.dtype == tg.float32
    assert model.to(tg.zeros(1, dtype=tg.float64)).scale.dtype == tg.float64 and model.to("float32").scale.dtype == tg.float32
    with pytest.raises(TypeError, match="TG-T004"):
        model.to(tg.int64)


def test_a_forward_before_to_cannot_go_backward():
    model = Model()
    loss = model(tg.ones(1, 2)).sum()
    model.double()
    with pytest.raises(GradientError, match="TG-G003"):
        loss.backward()


def test_a_model_trains_where_it_was_moved():
    tg.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2))
    model.to("strict")
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    x, d = tg.tensor([[1, 2], [3, 4]], device="strict"), tg.tensor([0, 1], device="strict")
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), d)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0] and {p.device.type for p in model.parameters()} == {"strict"}
    before = model.state_dict()["2.weight"].cpu().tolist()
    other = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2))
    other.load_state_dict(model.state_dict())  # across devices
    assert other[2].weight.tolist() == before == model.cpu()[2].weight.tolist()


def test_apply_visits_children_first():
    names = []
    nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU())).apply(lambda m: names.append(type(m).__name__))
    assert names == ["Linear", "ReLU", "Sequential", "Sequential"]


# ---- hooks


def test_forward_hooks_see_and_change():
    layer = nn.Identity()
    before = layer.register_forward_pre_hook(lambda m, args: args[0] + 1)
    after = layer.register_forward_hook(lambda m, args, y: y * args[0])
    assert layer(tg.tensor(2.0)).item() == 9.0
    before.remove()
    assert layer(tg.tensor(2.0)).item() == 4.0
    after.remove()
    after.remove()
    assert layer(tg.tensor(2.0)).item() == 2.0


def test_backward_hook_sees_whole_gradients_and_changes_those_of_inputs():
    class Square(nn.Module):
        def forward(self, a, text, b):
            return a * a + b, text, a * 3

    module, seen = Square(), []

    def hook(module, grad_input, grad_output):
        seen.append([g if g is None else g.item() for g in (*grad_input, *grad_output)])
        return grad_input[0] * 10, None, grad_input[2]

    module.register_full_backward_hook(hook)
    a, b = tg.tensor(2.0, requires_grad=True), tg.tensor(5.0, requires_grad=True)
    y, text, z = module(a, "text", b)
    assert text == "text"
    (y * 7 + z).backward()
    assert seen == [[7 * 2 * 2.0 + 3.0, None, 7.0, 7.0, None, 1.0]]
    assert a.grad.item() == 310.0 and b.grad.item() == 7.0


def test_backward_hook_of_a_module_whose_input_takes_no_gradient():
    layer, seen = nn.Linear(2, 1), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
    layer(tg.ones(1, 2)).sum().backward()
    assert seen == [((None,), [[1.0]])]
    with tg.no_grad():
        layer(tg.ones(1, 2))
    assert len(seen) == 1


def test_backward_hook_of_second_order():
    module, seen = nn.Tanh(), []
    module.register_full_backward_hook(lambda m, gi, go: seen.append(gi[0].item()))
    x = tg.tensor(0.5, dtype=tg.float64, requires_grad=True)
    (g,) = tg.grad(module(x), x, create_graph=True)
    (h,) = tg.grad(g, x)
    t = np.tanh(0.5)
    assert seen[0] == pytest.approx(1 - t * t) and h.item() == pytest.approx(-2 * t * (1 - t * t))


# ---- containers


def test_sequential_is_a_list_of_modules():
    chain = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 3))
    assert len(chain) == 2 and chain[-1] is chain[1] and [type(m) for m in chain] == [nn.Linear] * 2
    chain[0] = nn.Linear(5, 2)
    assert chain(tg.zeros(1, 5)).shape == (1, 3)
    assert len(chain[:1]) == 1 and len(nn.Sequential()) == 0
    with pytest.raises(AxisError, match="TG-I002"):
        chain[2]
    with pytest.raises(TypeError, match="TG-T007.*a Module is needed"):
        chain.append(tg.tanh)
    with pytest.raises(TypeError, match="TG-T007.*type list"):
        nn.Sequential([nn.Linear(1, 1)])


def test_module_dict_is_a_dict_of_modules():
    heads = nn.ModuleDict({"a": nn.ReLU()})
    heads["b"] = nn.Tanh()
    heads.update({"a": nn.Sigmoid()})
    assert list(heads.keys()) == ["a", "b"] and isinstance(heads["a"], nn.Sigmoid) and len(heads) == 2
    assert isinstance(heads.pop("a"), nn.Sigmoid) and "a" not in heads
    heads.clear()
    assert list(heads.items()) == []
    with pytest.raises(KeyError):
        heads["a"]


def test_parameter_list_registers_and_trains():
    values = nn.ParameterList([tg.ones(2), nn.Parameter(tg.zeros(1))])
    assert list(values.state_dict()) == ["0", "1"] and all(isinstance(p, nn.Parameter) for p in values)
    values[0].sum().backward()
    assert values[0].grad.tolist() == [1.0, 1.0]
    assert "float32 of size 2" in repr(values)


# ---- layers


def test_embedding_padding_row_starts_at_zero_and_stays():
    table = nn.Embedding(4, 3, padding_idx=1)
    assert not table.weight.detach().array[1].any()
    optimizer = tg.optim.SGD(table.parameters(), lr=1.0)
    table(tg.tensor([1, 1, 2])).sum().backward()
    optimizer.step()
    assert not table.weight.detach().array[1].any() and table.weight.grad.tolist()[2] == [1.0] * 3
    with pytest.raises(ValueError, match="TG-A001"):
        nn.Embedding(4, 3, padding_idx=4)


def test_embedding_from_pretrained_is_frozen():
    rows = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    table = nn.Embedding.from_pretrained(rows)
    assert not table.weight.requires_grad and table(tg.tensor([1])).tolist() == [[3.0, 4.0]]
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.requires_grad
    for wrong in (lambda: nn.Embedding.from_pretrained(rows[0]), lambda: nn.Embedding(3, 2, _weight=rows)):
        with pytest.raises(ShapeError, match="TG-S002"):
            wrong()


def test_dropout_is_active_in_training_only():
    tg.manual_seed(0)
    layer, x = nn.Dropout(0.25), tg.ones(10_000)
    y = layer(x).array
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75).item()} and abs(y.mean() - 1) < 0.03
    assert layer.eval()(x).array.tolist() == x.tolist()
    with pytest.raises(ValueError, match="TG-A001"):
        nn.Dropout(1.5)


def test_linear_with_the_wrong_size_says_so():
    with pytest.raises(ShapeError, match=r"\(2, 4\)"):
        nn.Linear(3, 2)(tg.zeros(2, 4))


def test_losses_refuse_an_unknown_reduction():
    with pytest.raises(ValueError, match="TG-A001.*average"):
        nn.MSELoss(reduction="average")


def test_parameters_as_a_vector_and_back():
    model = nn.Linear(2, 2)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.shape == (6,) and vector.tolist()[4:] == model.bias.tolist()
    nn.utils.vector_to_parameters(tg.arange(6.0), model.parameters())
    assert model.weight.tolist() == [[0.0, 1.0], [2.0, 3.0]] and model.bias.tolist() == [4.0, 5.0]
    assert model.weight.requires_grad
    with pytest.raises(ShapeError, match="TG-S002"):
        nn.utils.vector_to_parameters(tg.zeros(5), model.parameters())
    with pytest.raises(DeviceError, match="TG-D001.*cpu and strict"):
        nn.utils.vector_to_parameters(tg.zeros(6, device="strict"), model.parameters())
    assert model.bias.tolist() == [4.0, 5.0]


def test_zero_grad_to_zeros_forgets_nan_and_keeps_0_d_arrays():
    model = nn.Module()
    model.scale = nn.Parameter(tg.tensor(1.0))
    model.scale.grad = tg.tensor(float("nan"))
    model.zero_grad(set_to_none=False)
    assert model.scale.grad.item() == 0.0 and type(model.scale.grad.array) is np.ndarray
