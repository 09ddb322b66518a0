"""Networks over trees: a value for every node, from the leaves to the roots.

A tree is given in one of two ways. Nested tuples of leaves, ``((0, 1), 2)``: leaf k has row k of the input, and the inner nodes are numbered
after all leaves, children before parents, so the root is the last one. Or a list that has for every node the tuple of its children's
numbers, ``[(), (), (), (0, 1), (3, 2)]``, empty for a leaf, in any order; several roots are a batch of trees.

All nodes of one height are computed together. Nothing is recursive, so a tree may be as deep as it likes.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.tensor import Tensor
from ..errors import Phrase, error, refusal
from ..ops import creation
from ..ops.exponential import sigmoid, tanh
from ..ops.join import cat, split
from ..ops.linalg import linear
from ..ops.rnn import NONLINEARITIES
from ..ops.selection import index_add, index_select
from ..ops.shape import reshape
from . import init
from .module import Module
from .parameter import Parameter
from .rnn_cell import check_nonlinearity

Children = tuple[int, ...]
State = tuple[Tensor, Tensor]


class Plan(NamedTuple):
    """The children of each node, and the nodes of each height, leaves first; they are in the order in which parents need them."""

    children: list[Children]
    levels: list[list[int]]

    @property
    def order(self) -> list[int]:
        """All nodes, by height."""
        return [node for level in self.levels for node in level]


def _unfit(op: str, tree: Any, rule: Phrase) -> Exception:
    text = repr(tree) if isinstance(tree, (int, list)) and len(str(tree)) < 80 else type(tree).__name__
    fix = ("correct the tree.", "木を直してください。")
    return refusal(op, "tree", text, rule, fix)


def children_of(op: str, tree: Any, rows: int) -> list[Children]:
    """For every node the tuple of its children, from either way to give a tree. ``rows``: those of the input, leaves of nested tuples."""
    if isinstance(tree, list):
        return [tuple(kids) for kids in tree]
    children: list[Children] = [()] * rows
    # (a subtree, the children found for it so far); a finished one is handed to the one below it
    open_nodes: list[tuple[Any, list[int]]] = [((tree,), [])]
    while True:
        subtree, found = open_nodes[-1]
        if len(found) < len(subtree):
            following = subtree[len(found)]
            if isinstance(following, tuple) and following:
                open_nodes.append((following, []))
            elif isinstance(following, int) and 0 <= following < rows:
                found.append(following)
            else:
                rule = (f"nested tuples of leaves 0 to {rows - 1}", f"葉の番号 0 から {rows - 1} を入れ子にしたタプル")
                raise _unfit(op, tree, rule)
        elif len(open_nodes) == 1:
            return children
        else:
            open_nodes.pop()
            children.append(tuple(found))
            open_nodes[-1][1].append(len(children) - 1)


def plan(op: str, tree: Any, rows: int, counts: Sequence[int] | None) -> Plan:
    """A tree as the computation needs it, checked. ``counts``: the numbers of children that an inner node may have."""
    children = children_of(op, tree, rows)
    if not children:
        raise _unfit(op, tree, ("at least one node", "1 つ以上のノード"))
    parents: list[list[int]] = [[] for _ in children]
    for node, kids in enumerate(children):
        if kids and counts is not None and len(kids) not in counts:
            few = " / ".join(map(str, counts))
            raise _unfit(op, tree, (f"{few} children at each inner node", f"内部ノードの子はそれぞれ {few} 個"))
        for kid in kids:
            if not isinstance(kid, int) or not 0 <= kid < len(children):
                rule = (f"children from 0 to {len(children) - 1}", f"子の番号は 0 から {len(children) - 1}")
                raise _unfit(op, tree, rule)
            parents[kid].append(node)
    waiting = [len(kids) for kids in children]
    level = [node for node, kids in enumerate(children) if not kids]
    levels = []
    while level:
        levels.append(level)
        ready = []
        for kid in level:
            for node in parents[kid]:
                waiting[node] -= 1
                if not waiting[node]:
                    ready.append(node)
        level = ready
    if sum(map(len, levels)) < len(children):
        raise _unfit(op, tree, ("no node below itself", "自分自身の子孫であるノードがないこと"))
    first, _ = first_and_last_use(children, levels)
    levels[0].sort(key=first.__getitem__)
    return Plan(children, levels)


class Step(NamedTuple):
    """How the nodes of one height find their children. Rows are, in this order, nodes that have been waiting for a parent, the nodes of the
    height below, and the leaves whose first parent is of this height."""

    leaves: int
    """How many leaves join."""
    kids: list[int]
    """The rows of the children of all nodes, node by node."""
    counts: list[int]
    """The number of children of each node."""
    waiting: list[int]
    """The rows that nodes further up need."""


def steps(plan: Plan) -> list[Step]:
    """One step for each height above the leaves. What no node needs any more is left behind, so that the rows stay few."""
    first, last = first_and_last_use(plan.children, plan.levels)
    joining: dict[int, list[int]] = {}
    for leaf in plan.levels[0]:
        joining.setdefault(first[leaf], []).append(leaf)
    made = []
    waiting: list[int] = []
    below: list[int] = []
    for height, level in enumerate(plan.levels[1:], 1):
        leaves = joining.get(height, [])
        rows = [*waiting, *below, *leaves]
        row_of = {node: row for row, node in enumerate(rows)}
        kids = [row_of[kid] for node in level for kid in plan.children[node]]
        kept = [row for row, node in enumerate(rows) if last[node] > height]
        made.append(Step(len(leaves), kids, [len(plan.children[node]) for node in level], kept))
        waiting, below = [rows[row] for row in kept], level
    return made


def first_and_last_use(children: list[Children], levels: list[list[int]]) -> tuple[list[int], list[int]]:
    """For each node the height of its lowest and of its highest parent; one above all heights and 0 where it has none."""
    first, last = [len(levels)] * len(children), [0] * len(children)
    for height, level in enumerate(levels):
        for node in level:
            for kid in children[node]:
                first[kid], last[kid] = min(first[kid], height), height
    return first, last


class _TreeNetwork(Module):
    """What the networks share: which row of the input belongs to which node, and the order of the results.

    inner_input: whether inner nodes may have an input, too.
    """

    inner_input = False

    def _plan(self, input: Tensor, size: int, tree: Any, counts: Sequence[int] | None) -> Plan:
        """The tree, with input and tree checked against each other."""
        if input.ndim == 2 and input.shape[1] == size:
            made = plan(type(self).__name__, tree, len(input), counts)
            leaves, nodes = len(made.levels[0]), len(made.children)
            if len(input) == leaves or (len(input) == nodes and self.inner_input):
                return made
            rule = (f"a row for each of the {leaves} leaves", f"行は {leaves} 個の葉ごとに 1 つ")
            if self.inner_input:
                rule = (f"{rule[0]} or the {nodes} nodes", f"{rule[1]}、または {nodes} 個のノードごとに 1 つ")
        else:
            rule = (f"input (rows, {size})", f"input は (行, {size})")
        fix = ("check input and tree.", "input と tree を確かめてください。")
        raise error("TG-S002", op=type(self).__name__, rule=rule, shapes=tuple(input.shape), fix=fix)

    @staticmethod
    def _by_height(input: Tensor, plan: Plan) -> Tensor:
        """The rows of the input, of leaves or of all nodes, by height."""
        order = plan.order if len(input) == len(plan.children) else np.argsort(np.argsort(plan.levels[0]))
        return index_select(input, 0, indices_beside(input, order))

    @staticmethod
    def _by_number(values: Sequence[Tensor], plan: Plan) -> Tensor:
        """The rows of all nodes by number, from those of each height."""
        return index_select(cat(values), 0, indices_beside(values[0], np.argsort(plan.order)))


class Rows:
    """Values of the nodes that still have a parent to come, as the steps number them."""

    def __init__(self, leaves: Tensor, made: Sequence[Step]) -> None:
        joining = [step.leaves for step in made]
        self.leaves = iter(split(leaves, [*joining, len(leaves) - sum(joining)]))
        self.kept: list[Tensor] = []

    def of_kids(self, step: Step) -> Tensor:
        """The values of the children of a height."""
        rows = cat([*self.kept, next(self.leaves)])
        self.kept = [index_select(rows, 0, indices_beside(rows, step.waiting))] if step.waiting else []
        return index_select(rows, 0, indices_beside(rows, step.kids))

    def add(self, values: Tensor) -> None:
        """Take those of this height."""
        self.kept.append(values)


def indices_beside(x: Tensor, indices: Any) -> Tensor:
    """Indices as a Tensor on the device of ``x``."""
    return Tensor(ARRAY_MODULES[type(x.array)].asarray(np.array(indices, np.int64)))


class RecursiveNN(_TreeNetwork):
    """The recursive network, v = f(W [v_left; v_right] + b) for each inner node of a binary tree (Socher et al. 2011).

    size: of every v, also of the leaves. nonlinearity: f, "tanh", "relu" or "sigmoid". ``weight`` is (size, 2·size), ``bias`` (size,); both
    start uniform in ±1/√(2·size).

    >>> import tinygrad_ja as tg
    >>> network = RecursiveNN(4)
    >>> network(tg.zeros(3, 4), ((0, 1), 2)).shape
    (5, 4)
    """

    def __init__(self, size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        check_nonlinearity("RecursiveNN", nonlinearity)
        self.size, self.nonlinearity = size, nonlinearity
        self.weight = Parameter(creation.empty(size, 2 * size, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(creation.empty(size, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for p in self.parameters():
            init.uniform_(p, -1 / math.sqrt(2 * self.size), 1 / math.sqrt(2 * self.size))

    def forward(self, input: Tensor, tree: Any) -> Tensor:
        """input: the leaves' vectors (leaves, size). Returns the vectors of all nodes in the order of their numbers (nodes, size)."""
        made = self._plan(input, self.size, tree, counts=(2,))
        todo = steps(made)
        values = [self._by_height(input, made)]
        rows = Rows(values[0], todo)
        for step in todo:
            both = reshape(rows.of_kids(step), (len(step.counts), 2 * self.size))  # [v_left; v_right]
            values.append(NONLINEARITIES[self.nonlinearity](linear(both, self.weight, self.bias)))
            rows.add(values[-1])
        return self._by_number(values, made)

    def extra_repr(self) -> str:
        more = "" if self.bias is not None else ", bias=False"
        return f"{self.size}{more}" + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class _TreeLSTM(_TreeNetwork):
    """What the tree LSTMs share: i, f, o, g from x and the children's states; c = i∘g + Σ_k f_k∘c_k; h = o∘tanh(c).

    ``weight_ih`` (4·H, D) and ``bias`` (4·H) have the gates i, f, g, o as ``LSTM`` has them. All start uniform in ±1/√H.
    """

    inner_input = True
    counts: Sequence[int] | None = None

    def __init__(self, input_size: int, hidden_size: int, shape: tuple[int, int], bias: bool, device: Any, dtype: Any) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = Parameter(creation.empty(4 * hidden_size, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(creation.empty(*shape, device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(creation.empty(4 * hidden_size, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for p in self.parameters():
            init.uniform_(p, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def _gates_by_height(self, input: Tensor, plan: Plan) -> list[Tensor]:
        """W x + b of the nodes of each height. Without an input, inner nodes have b alone, one row for all."""
        gates = linear(self._by_height(input, plan), self.weight_ih, self.bias)
        if len(input) == len(plan.children):
            return list(split(gates, [len(level) for level in plan.levels]))
        zeros = creation.zeros(4 * self.hidden_size, dtype=input.dtype, device=input.device)
        inner = reshape(zeros if self.bias is None else self.bias, (1, 4 * self.hidden_size))
        return [gates, *[inner] * (len(plan.levels) - 1)]

    def _from_children(
        self, z: Sequence[Tensor], h: Tensor, c: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For inner nodes the sums of i, g and o, and Σ_k f_k∘c_k. ``z``: the input's part of the sums of i, f, g and o. h, c: states of
        the children, node by node; counts: how many each node has."""
        raise NotImplementedError

    def forward(self, input: Tensor, tree: Any) -> State:
        """input: (leaves, D) or (nodes, D). Returns h and c of all nodes in the order of their numbers, each (nodes, H)."""
        made = self._plan(input, self.input_size, tree, self.counts)
        of_leaves, *of_inner = self._gates_by_height(input, made)
        i, _, g, o = split(of_leaves, self.hidden_size, dim=1)
        c = sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        hs, cs = [h], [c]
        todo = steps(made)
        h_rows, c_rows = Rows(h, todo), Rows(c, todo)
        for step, gates in zip(todo, of_inner):
            z = split(gates, self.hidden_size, dim=1)
            i, g, o, carried = self._from_children(z, h_rows.of_kids(step), c_rows.of_kids(step), step.counts)
            cs.append(sigmoid(i) * tanh(g) + carried)
            hs.append(sigmoid(o) * tanh(cs[-1]))
            h_rows.add(hs[-1])
            c_rows.add(cs[-1])
        return self._by_number(hs, made), self._by_number(cs, made)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias is not None else ", bias=False")


class ChildSumTreeLSTM(_TreeLSTM):
    """The LSTM over trees with any number of children in no order (Tai et al. 2015, equations 2 to 8):

    h̃ = Σ_k h_k; i, g, o from W x + U h̃ + b; f_k = σ(W_f x + U_f h_k + b_f) for each child k. Over a chain it is an ``LSTM``.
    ``weight_hh`` is U (4·H, H), gates i, f, g, o.

    >>> import tinygrad_ja as tg
    >>> h, c = ChildSumTreeLSTM(3, 4)(tg.zeros(4, 3), [(), (), (), (0, 1, 2)])
    >>> h.shape, c.shape
    ((4, 4), (4, 4))
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, (4 * hidden_size, hidden_size), bias, device, dtype)

    def _from_children(
        self, z: Sequence[Tensor], h: Tensor, c: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width = self.hidden_size
        parent = indices_beside(h, np.repeat(np.arange(len(counts)), counts))
        zeros = creation.zeros(len(counts), width, dtype=h.dtype, device=h.device)
        i, _, g, o = split(linear(index_add(zeros, 0, parent, h), self.weight_hh), width, dim=1)
        of_input = z[1] if len(z[1]) == 1 else index_select(z[1], 0, parent)
        f = sigmoid(of_input + linear(h, self.weight_hh[width : 2 * width]))
        return z[0] + i, z[2] + g, z[3] + o, index_add(zeros, 0, parent, f * c)


class NaryTreeLSTM(_TreeLSTM):
    """The LSTM over trees with at most ``arity`` children in a fixed order (Tai et al. 2015, equations 9 to 14):

    i, g, o from W x + Σ_l U_l h_l + b; f_k = σ(W_f x + Σ_l U_kl h_l + b_f). A child that is missing at the end counts as zero.
    ``weight_hh`` is ((3 + arity)·H, arity·H): rows for i, f_1 to f_arity, g, o, columns for h_1 to h_arity.

    >>> import tinygrad_ja as tg
    >>> h, c = NaryTreeLSTM(3, 4, arity=3)(tg.zeros(4, 3), ((0, 1, 2), 3))
    >>> h.shape
    (6, 4)
    """

    def __init__(
        self, input_size: int, hidden_size: int, arity: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        if not isinstance(arity, int) or arity < 1:
            raise refusal(type(self).__name__, "arity", arity, ("an int, arity >= 1", "整数、arity >= 1"))
        shape = ((3 + arity) * hidden_size, arity * hidden_size)
        super().__init__(input_size, hidden_size, shape, bias, device, dtype)
        self.arity, self.counts = arity, range(1, arity + 1)

    def _from_children(
        self, z: Sequence[Tensor], h: Tensor, c: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c = (self._side_by_side(states, counts) for states in (h, c))
        i, *fs, g, o = split(linear(h, self.weight_hh), self.hidden_size, dim=1)
        carried = [sigmoid(z[1] + f) * c_k for f, c_k in zip(fs, split(c, self.hidden_size, dim=1))]
        return z[0] + i, z[2] + g, z[3] + o, functools.reduce(operator.add, carried)

    def _side_by_side(self, states: Tensor, counts: list[int]) -> Tensor:
        """States of children (children, H) as (nodes, arity·H), with zeros for those that are missing."""
        if min(counts) < self.arity:
            nothing = creation.zeros(1, self.hidden_size, dtype=states.dtype, device=states.device)
            row = iter(range(len(states)))
            rows = [next(row) if k < count else len(states) for count in counts for k in range(self.arity)]
            states = index_select(cat([states, nothing]), 0, indices_beside(states, rows))
        return reshape(states, (len(counts), self.arity * self.hidden_size))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, arity={self.arity}" + ("" if self.bias is not None else ", bias=False")


class BinaryTreeLSTM(NaryTreeLSTM):
    """``NaryTreeLSTM`` with two children at most: for binary parse trees, words at the leaves.

    >>> import tinygrad_ja as tg
    >>> h, c = BinaryTreeLSTM(3, 4)(tg.zeros(3, 3), ((0, 1), 2))
    >>> h.shape
    (5, 4)
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, 2, bias, device, dtype)

    def extra_repr(self) -> str:
        return _TreeLSTM.extra_repr(self)
