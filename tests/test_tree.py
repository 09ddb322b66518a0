"""Networks over trees against their formulas, node by node."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.testing.gradcheck import gradcheck

D, H = 3, 4
FOREST = [(), (3, 0), (), (5, 2), (), (), (4,)]  # 1 above 3 and 0; 3 above 5 and 2; 6 above 4: two trees, in no order


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def arrays_of(network):
    return {name: p.detach().numpy() for name, p in network.named_parameters()}


def bottom_up(children, value):
    """``value(node, values of its children)`` of every node, children first."""
    found = {}
    while len(found) < len(children):
        for node, kids in enumerate(children):
            if node not in found and all(kid in found for kid in kids):
                found[node] = value(node, [found[kid] for kid in kids])
    return [found[node] for node in range(len(children))]


def check_parameters(network, loss):
    """The gradient of each parameter against central differences, along a random direction."""
    loss().backward()
    for p in network.parameters():
        start, direction, values = p.detach().clone(), tg.tensor(array(*p.shape)), []
        for step in (1e-6, -1e-6):
            p.data = start + step * direction
            values.append(loss().item())
        p.data = start
        assert (values[0] - values[1]) / 2e-6 == pytest.approx((p.grad * direction).sum().item(), rel=1e-6, abs=1e-8)


# ---- the recursive network

ACTIVATIONS = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": sigmoid}


@pytest.mark.parametrize("nonlinearity", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_recursive_network_is_its_formula(nonlinearity, bias):
    network = nn.RecursiveNN(H, bias, nonlinearity).double()
    w = arrays_of(network)
    x = array(4, H)
    made = network(tg.tensor(x), ((0, 3), (2, 1))).detach().numpy()

    def join(left, right):
        return ACTIVATIONS[nonlinearity](w["weight"] @ np.concatenate([left, right]) + w.get("bias", 0))

    first, second = join(x[0], x[3]), join(x[2], x[1])
    np.testing.assert_allclose(made, [*x, first, second, join(first, second)], rtol=1e-12)


def test_gradients_through_a_tree():
    network = nn.RecursiveNN(H).double()
    x = tg.tensor(array(3, H), requires_grad=True)
    tree = [(), (3, 0), (), (2, 4), ()]
    assert gradcheck(lambda x: network(x, tree), x)
    check_parameters(network, lambda: (network(x, tree) ** 2).sum())


def test_leaves_are_the_rows_of_the_input_whatever_their_numbers():
    network, x = nn.RecursiveNN(H), tg.randn(3, H)
    one, other = network(x, ((0, 1), 2)), network(x, [(2, 4), (), (1, 3), (), ()])
    np.testing.assert_allclose(other.detach().numpy()[[1, 3, 4, 2, 0]], one.detach().numpy(), rtol=1e-6)


def test_one_leaf_alone_is_a_tree():
    x = tg.randn(1, H)
    for tree in (0, [()]):
        assert nn.RecursiveNN(H)(x, tree).tolist() == x.tolist()


# ---- LSTMs over trees


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tree", [FOREST, [(1, 2, 3), (), (), (4,), ()]], ids=["forest", "one tree"])
def test_the_child_sum_lstm_is_its_formula(tree, bias):
    network = nn.ChildSumTreeLSTM(D, H, bias).double()
    w, x = arrays_of(network), array(len(tree), D)
    wi, wf, wg, wo = np.split(w["weight_ih"], 4)
    ui, uf, ug, uo = np.split(w["weight_hh"], 4)
    bi, bf, bg, bo = np.split(w["bias"], 4) if bias else np.zeros((4, H))

    def value(node, kids):
        total = sum((h for h, _ in kids), np.zeros(H))
        i, o = sigmoid(wi @ x[node] + ui @ total + bi), sigmoid(wo @ x[node] + uo @ total + bo)
        c = i * np.tanh(wg @ x[node] + ug @ total + bg)
        for h_k, c_k in kids:
            c = c + sigmoid(wf @ x[node] + uf @ h_k + bf) * c_k
        return o * np.tanh(c), c

    h, c = network(tg.tensor(x), tree)
    expected = bottom_up(tree, value)
    np.testing.assert_allclose(h.detach().numpy(), [e for e, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(c.detach().numpy(), [e for _, e in expected], rtol=1e-12)


def nary_formula(w, x, arity, bias):
    wi, wf, wg, wo = np.split(w["weight_ih"], 4)
    u = w["weight_hh"].reshape(3 + arity, H, arity * H)
    bi, bf, bg, bo = np.split(w["bias"], 4) if bias else np.zeros((4, H))

    def value(node, kids):
        kids = kids + [(np.zeros(H), np.zeros(H))] * (arity - len(kids))
        h = np.concatenate([h for h, _ in kids])
        i, o = sigmoid(wi @ x[node] + u[0] @ h + bi), sigmoid(wo @ x[node] + u[-1] @ h + bo)
        c = i * np.tanh(wg @ x[node] + u[-2] @ h + bg)
        for k in range(arity):
            c = c + sigmoid(wf @ x[node] + u[1 + k] @ h + bf) * kids[k][1]
        return o * np.tanh(c), c

    return value


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("arity", [2, 3])
def test_the_nary_lstm_is_its_formula(arity, bias):
    network = nn.NaryTreeLSTM(D, H, arity, bias).double()
    tree = FOREST if arity == 2 else [(), (), (0, 1, 4), (2, 5), (), ()]
    x = array(len(tree), D)
    h, c = network(tg.tensor(x), tree)
    expected = bottom_up(tree, nary_formula(arrays_of(network), x, arity, bias))
    np.testing.assert_allclose(h.detach().numpy(), [e for e, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(c.detach().numpy(), [e for _, e in expected], rtol=1e-12)


def test_a_binary_lstm_with_words_at_the_leaves_has_zeros_as_input_above_them():
    network, x = nn.BinaryTreeLSTM(D, H).double(), array(3, D)
    h, _ = network(tg.tensor(x), ((0, 1), 2))
    value = nary_formula(arrays_of(network), np.concatenate([x, np.zeros((2, D))]), 2, True)
    expected = bottom_up([(), (), (), (0, 1), (3, 2)], value)
    np.testing.assert_allclose(h.detach().numpy(), [e for e, _ in expected], rtol=1e-12)
    of_all, _ = network(tg.tensor(np.concatenate([x, np.ones((2, D))])), [(), (), (), (0, 1), (3, 2)])
    assert abs((of_all - h).detach().numpy()[3:]).min() > 0


@pytest.mark.parametrize("arity", [1, None], ids=["N-ary with one child", "child sum"])
def test_over_a_chain_a_tree_lstm_is_an_lstm(arity):
    network = (nn.ChildSumTreeLSTM(D, H) if arity is None else nn.NaryTreeLSTM(D, H, arity)).double()
    layer = nn.LSTM(D, H).double()
    w = network.state_dict()
    weights = {
        "weight_ih_l0": w["weight_ih"],
        "weight_hh_l0": w["weight_hh"],
        "bias_ih_l0": w["bias"],
        "bias_hh_l0": w["bias"] * 0,
    }
    layer.load_state_dict(weights)
    x = tg.tensor(array(6, D))
    chain = [(), *[(k,) for k in range(5)]]
    h, c = network(x, chain)
    output, (_, c_n) = layer(x)
    np.testing.assert_allclose(h.detach().numpy(), output.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(c[-1].detach().numpy(), c_n[0].detach().numpy(), rtol=1e-12)
    (h * h).sum().backward()
    (output * output).sum().backward()
    np.testing.assert_allclose(network.weight_hh.grad.numpy(), layer.weight_hh_l0.grad.numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(network.weight_ih.grad.numpy(), layer.weight_ih_l0.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", [nn.ChildSumTreeLSTM, nn.BinaryTreeLSTM])
def test_gradients_of_tree_lstms(make):
    network = make(D, 2).double()
    x = tg.tensor(array(len(FOREST), D), requires_grad=True)
    assert gradcheck(lambda x: network(x, FOREST), x)
    check_parameters(network, lambda: (network(x, FOREST)[0] ** 2).sum())


def test_children_of_a_sum_have_no_order_those_of_the_binary_lstm_have():
    x = tg.randn(3, D)
    for make, equal in ((nn.ChildSumTreeLSTM, True), (nn.BinaryTreeLSTM, False)):
        network = make(D, H)
        one, other = network(x, ((0, 1), 2))[0], network(x, ((1, 0), 2))[0]
        assert np.allclose(one[-1].detach().numpy(), other[-1].detach().numpy(), atol=1e-6) == equal


def test_trees_side_by_side_do_not_touch_each_other():
    network, x = nn.BinaryTreeLSTM(D, H).double(), tg.tensor(array(len(FOREST), D))
    together, _ = network(x, FOREST)
    alone, _ = network(x[:6], FOREST[:4] + [()] + [()])
    np.testing.assert_allclose(together[1].detach().numpy(), alone[1].detach().numpy(), rtol=1e-12)


def test_a_node_may_have_parents_at_several_heights():
    network = nn.BinaryTreeLSTM(D, H).double()
    graph = [(), (), (0, 1), (2, 0), (3, 2), (), (4, 5)]  # 0 is needed at two heights, 2 too, 5 only at the top
    x = array(len(graph), D)
    h, _ = network(tg.tensor(x), graph)
    expected = bottom_up(graph, nary_formula(arrays_of(network), x, 2, True))
    np.testing.assert_allclose(h.detach().numpy(), [e for e, _ in expected], rtol=1e-12)
    check_parameters(network, lambda: (network(tg.tensor(x), graph)[0] ** 2).sum())


# ---- depth, devices, errors


@pytest.mark.parametrize(
    "make", [lambda: nn.RecursiveNN(2), lambda: nn.BinaryTreeLSTM(2, 2), lambda: nn.ChildSumTreeLSTM(2, 2)]
)
def test_a_tree_may_be_deep(make):
    depth, chain = 5000, 0
    for leaf in range(1, depth + 1):
        chain = (chain, leaf)
    x = tg.ones(depth + 1, 2, requires_grad=True)
    made = make()(x, chain)
    top = made[0] if isinstance(made, tuple) else made
    assert top.shape == (2 * depth + 1, 2)
    top[-1].sum().backward()
    assert abs(x.grad.numpy()[-1]).sum() > 0


@pytest.mark.parametrize(
    "make", [lambda: nn.RecursiveNN(D), lambda: nn.BinaryTreeLSTM(D, H), lambda: nn.ChildSumTreeLSTM(D, H)]
)
def test_on_a_device_the_same_values(make):
    network, x, tree = make(), tg.randn(4, D), ((0, 1), (2, 3))
    expected = network(x, tree)
    network.to("strict")
    made = network(x.to("strict"), tree)
    pairs = zip(made, expected) if isinstance(made, tuple) else [(made, expected)]
    for y, z in pairs:
        np.testing.assert_allclose(y.detach().cpu().numpy(), z.detach().numpy(), rtol=1e-5, atol=1e-6)
    (made[0] if isinstance(made, tuple) else made).sum().backward()
    assert {p.grad.device.type for p in network.parameters()} == {"strict"}


def test_what_is_no_tree_is_explained():
    network, x = nn.BinaryTreeLSTM(D, H), tg.zeros(3, D)
    for tree, what in (
        (((0, 1), 3), "0 to 2"),
        (((0, 1), ()), "0 to 2"),
        (((0, 1), 2.0), "0 to 2"),
        ((0, 1, 2), "1 / 2 children"),
        ([(), (), (), (0, 9)], "children from 0 to 3"),
        ([(), (), (), (4, 0), (3, 1)], "no node below itself"),
        ([], "at least one node"),
    ):
        with pytest.raises(ArgumentError, match=what):
            network(x, tree)
    with pytest.raises(ArgumentError, match="2 children"):
        nn.RecursiveNN(D)(x, [(), (), (), (0,), (3, 1)])
    for given in (tg.zeros(3, D + 1), tg.zeros(D)):
        with pytest.raises(ShapeError, match=r"\(rows, 3\)"):
            network(given, ((0, 1), 2))
    with pytest.raises(ShapeError, match="3 leaves or the 5 nodes"):
        network(tg.zeros(4, D), [(), (), (), (0, 1), (3, 2)])
    with pytest.raises(ShapeError, match="3 leaves"):
        nn.RecursiveNN(D)(tg.zeros(5, D), [(), (), (), (0, 1), (3, 2)])
    with pytest.raises(ArgumentError, match="arity"):
        nn.NaryTreeLSTM(D, H, 0)
    with pytest.raises(ArgumentError, match="nonlinearity"):
        nn.RecursiveNN(H, nonlinearity="gelu")


def test_text_names_what_was_chosen():
    assert repr(nn.RecursiveNN(4, bias=False, nonlinearity="relu")) == "RecursiveNN(4, bias=False, nonlinearity=relu)"
    assert repr(nn.BinaryTreeLSTM(3, 4)) == "BinaryTreeLSTM(3, 4)"
    assert repr(nn.NaryTreeLSTM(3, 4, 3, bias=False)) == "NaryTreeLSTM(3, 4, arity=3, bias=False)"
