"""Shape, joining and indexing operators beside PyTorch: the same call gives the same value and the same gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.ops import bag, padding, selection

torch = pytest.importorskip("torch")


class _Ours:
    """``tg`` with the three functions of ``nn.functional`` that are tested here."""

    pad = staticmethod(padding.pad)
    embedding = staticmethod(bag.embedding)
    one_hot = staticmethod(selection.one_hot)

    def __getattr__(self, name):
        return getattr(tg, name)


class _Theirs:
    pad = staticmethod(torch.nn.functional.pad)
    embedding = staticmethod(torch.nn.functional.embedding)
    one_hot = staticmethod(torch.nn.functional.one_hot)

    def __getattr__(self, name):
        return getattr(torch, name)


OURS, THEIRS = _Ours(), _Theirs()


def _outputs(made):
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _ints(m, *values):
    return m.tensor(list(values))


def assert_parity(call, *shapes, dtype=np.float64):
    """``call(module, *tensors)`` with the same random tensors on both sides: values, dtypes, gradients of a random weighting."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in shapes]
    ours = [tg.tensor(a, dtype=dtype).requires_grad_() for a in arrays]
    theirs = [torch.tensor(a).requires_grad_() for a in arrays]
    ys, zs = _outputs(call(OURS, *ours)), _outputs(call(THEIRS, *theirs))
    assert len(ys) == len(zs)
    for y, z in zip(ys, zs):
        assert tuple(y.shape) == tuple(z.shape)
        assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-13, atol=1e-13)
    moving = [(y, z) for y, z in zip(ys, zs) if z.requires_grad]
    assert [y.requires_grad for y in ys] == [z.requires_grad for z in zs]
    if not moving:
        return
    us = [rng.normal(size=tuple(z.shape)).astype(str(y.dtype)) for y, z in moving]
    tg.backward([y for y, _ in moving], [tg.tensor(u, dtype=u.dtype) for u in us])
    torch.autograd.backward([z for _, z in moving], [torch.tensor(u) for u in us])
    for x, z in zip(ours, theirs):
        if z.grad is None or x.grad is None:  # no gradient and a gradient of zeros mean the same
            assert not any(g is not None and g.numpy().any() for g in (x.grad, z.grad))
        else:
            np.testing.assert_allclose(x.grad.numpy(), z.grad.numpy(), rtol=1e-12, atol=1e-12)


SHAPES = {
    "reshape": (lambda m, x: x.reshape(3, -1), (2, 6)),
    "reshape tuple": (lambda m, x: m.reshape(x, (3, 4)), (2, 6)),
    "view": (lambda m, x: x.view(-1), (2, 3)),
    "view_as": (lambda m, x, y: x.view_as(y), (2, 6), (3, 4)),
    "reshape_as": (lambda m, x, y: x.reshape_as(y), (2, 6), (3, 4)),
    "flatten": (lambda m, x: x.flatten(1), (2, 3, 4)),
    "flatten range": (lambda m, x: m.flatten(x, 0, -2), (2, 3, 4)),
    "flatten scalar": (lambda m, x: x.flatten(), ()),
    "unflatten": (lambda m, x: x.unflatten(-1, (2, -1)), (3, 4)),
    "ravel": (lambda m, x: x.ravel(), (3, 4)),
    "squeeze": (lambda m, x: x.squeeze(), (1, 2, 1)),
    "squeeze dim": (lambda m, x: x.squeeze(-1), (1, 2, 1)),
    "squeeze other dim": (lambda m, x: x.squeeze(1), (1, 2, 1)),
    "squeeze dims": (lambda m, x: x.squeeze((0, 1)), (1, 2, 1)),
    "unsqueeze": (lambda m, x: x.unsqueeze(-1), (2, 3)),
    "unsqueeze front": (lambda m, x: x.unsqueeze(0), ()),
    "transpose": (lambda m, x: x.transpose(0, -1), (2, 3, 4)),
    "swapaxes": (lambda m, x: x.swapaxes(0, 1), (2, 3)),
    "swapdims": (lambda m, x: m.swapdims(x, 0, 1), (2, 3)),
    "t": (lambda m, x: x.t(), (2, 3)),
    "t of a vector": (lambda m, x: x.t(), (3,)),
    "T": (lambda m, x: x.T, (2, 3)),
    "mT": (lambda m, x: x.mT, (2, 3, 4)),
    "permute": (lambda m, x: x.permute(2, 0, -2), (2, 3, 4)),
    "permute tuple": (lambda m, x: m.permute(x, (1, 0)), (2, 3)),
    "movedim": (lambda m, x: x.movedim(0, -1), (2, 3, 4)),
    "movedim several": (lambda m, x: m.movedim(x, (0, 1), (2, 0)), (2, 3, 4)),
    "moveaxis": (lambda m, x: m.moveaxis(x, 1, 0), (2, 3, 4)),
    "broadcast_to": (lambda m, x: m.broadcast_to(x, (4, 2, 3)), (2, 1)),
    "expand": (lambda m, x: x.expand(4, -1, 3), (2, 1)),
    "expand large": (lambda m, x: x.expand(300, 100), (1, 100)),
    "expand_as": (lambda m, x, y: x.expand_as(y), (1, 3), (2, 3)),
    "broadcast_tensors": (lambda m, x, y: m.broadcast_tensors(x, y), (2, 1), (3,)),
    "flip": (lambda m, x: x.flip(0, -1), (2, 3, 2)),
    "flip tuple": (lambda m, x: m.flip(x, (1,)), (2, 3)),
    "fliplr": (lambda m, x: m.fliplr(x), (2, 3)),
    "flipud": (lambda m, x: m.flipud(x), (2, 3)),
    "roll": (lambda m, x: x.roll(1), (2, 3)),
    "roll dim": (lambda m, x: x.roll(-4, 1), (2, 3)),
    "roll dims": (lambda m, x: m.roll(x, (1, 2), (0, -1)), (2, 3)),
    "rot90": (lambda m, x: m.rot90(x), (2, 3)),
    "rot90 backwards": (lambda m, x: x.rot90(-1, (1, 2)), (2, 3, 4)),
    "rot90 twice": (lambda m, x: x.rot90(2, (0, 1)), (2, 3)),
    "repeat": (lambda m, x: x.repeat(2, 1, 3), (2, 3)),
    "tile": (lambda m, x: x.tile((2,)), (2, 3)),
    "tile more": (lambda m, x: m.tile(x, (2, 1, 2)), (2, 3)),
    "repeat_interleave": (lambda m, x: x.repeat_interleave(2), (2, 3)),
    "repeat_interleave dim": (lambda m, x: x.repeat_interleave(3, dim=-1), (2, 3)),
    "repeat_interleave counts": (lambda m, x: m.repeat_interleave(x, _ints(m, 2, 0, 1), dim=1), (2, 3)),
    "diagonal": (lambda m, x: x.diagonal(1), (3, 4)),
    "diagonal dims": (lambda m, x: m.diagonal(x, -1, 2, 0), (3, 4, 2)),
    "diag of a matrix": (lambda m, x: m.diag(x, -1), (3, 4)),
    "diag of a vector": (lambda m, x: x.diag(1), (3,)),
    "diag_embed": (lambda m, x: m.diag_embed(x, 1, 0, -1), (2, 3)),
    "diagflat": (lambda m, x: m.diagflat(x, -1), (2, 2)),
    "tril": (lambda m, x: x.tril(1), (2, 3, 4)),
    "triu": (lambda m, x: m.triu(x, -1), (3, 4)),
    "atleast_1d": (lambda m, x, y: m.atleast_1d(x, y), (), (2,)),
    "atleast_2d": (lambda m, x: m.atleast_2d(x), (3,)),
    "atleast_3d": (lambda m, x, y, z: m.atleast_3d(x, y, z), (), (2,), (2, 3)),
    "sum_to_size": (lambda m, x: x.sum_to_size(3, 1), (2, 3, 4)),
}

JOINS = {
    "cat": (lambda m, x, y: m.cat([x, y], -1), (2, 3), (2, 1)),
    "cat of an empty one": (lambda m, x, y: m.cat([x, y], 1), (0,), (2, 1)),
    "concat": (lambda m, x, y: m.concat((x, y)), (2, 3), (1, 3)),
    "cat promotes": (lambda m, x: m.cat([x, m.tensor([1, 2])]), (3,)),
    "stack": (lambda m, x, y: m.stack([x, y]), (2, 3), (2, 3)),
    "stack last": (lambda m, x, y: m.stack([x, y], -1), (2, 3), (2, 3)),
    "stack of scalars": (lambda m, x, y: m.stack([x, y]), (), ()),
    "hstack": (lambda m, x, y: m.hstack([x, y]), (2,), (3,)),
    "hstack of matrices": (lambda m, x, y: m.hstack([x, y]), (2, 1), (2, 3)),
    "vstack": (lambda m, x, y: m.vstack([x, y]), (3,), (2, 3)),
    "dstack": (lambda m, x, y: m.dstack([x, y]), (2, 3), (2, 3)),
    "column_stack": (lambda m, x, y: m.column_stack([x, y]), (3,), (3, 2)),
    "split": (lambda m, x: x.split(2), (5, 2)),
    "split sizes": (lambda m, x: m.split(x, [1, 0, 3], dim=1), (2, 4)),
    "split of nothing": (lambda m, x: m.split(x, 2), (0, 2)),
    "split_with_sizes": (lambda m, x: x.split_with_sizes([2, 3], -1), (2, 5)),
    "chunk": (lambda m, x: x.chunk(4), (6,)),
    "chunk dim": (lambda m, x: m.chunk(x, 3, -1), (2, 3)),
    "tensor_split": (lambda m, x: x.tensor_split(3), (7,)),
    "tensor_split at": (lambda m, x: m.tensor_split(x, (1, 5, 9), dim=1), (2, 6)),
    "tensor_split back": (lambda m, x: m.tensor_split(x, (4, 2)), (6,)),
    "hsplit": (lambda m, x: x.hsplit(2), (2, 4)),
    "vsplit": (lambda m, x: m.vsplit(x, (1,)), (3, 2)),
    "dsplit": (lambda m, x: m.dsplit(x, 2), (1, 2, 4)),
    "unbind": (lambda m, x: x.unbind(), (3, 2)),
    "unbind dim": (lambda m, x: m.unbind(x, -1), (3, 2)),
    "unbind one used": (lambda m, x: x.unbind(1)[2], (2, 3)),
    "iteration": (lambda m, x: list(x), (3, 2)),
    "narrow": (lambda m, x: x.narrow(1, 1, 2), (2, 4)),
    "narrow from the end": (lambda m, x: m.narrow(x, 0, -2, 1), (4,)),
    "select": (lambda m, x: x.select(1, -1), (2, 4)),
    "meshgrid": (lambda m, x, y: m.meshgrid(x, y, indexing="ij"), (2,), (3,)),
    "meshgrid xy": (lambda m, x, y, z: m.meshgrid(x, y, z, indexing="xy"), (2,), (3,), (4,)),
    "cartesian_prod": (lambda m, x, y: m.cartesian_prod(x, y), (2,), (3,)),
    "combinations": (lambda m, x: m.combinations(x, 2), (4,)),
    "combinations with replacement": (lambda m, x: m.combinations(x, 3, True), (3,)),
    "block_diag": (lambda m, x, y, z: m.block_diag(x, y, z), (2, 3), (2,), ()),
    "pad": (lambda m, x: m.pad(x, (1, 2)), (2, 3)),
    "pad with a value": (lambda m, x: m.pad(x, (1, 0, 0, 2), value=3.0), (2, 3)),
    "pad that cuts": (lambda m, x: m.pad(x, (-1, 2, 0, -1)), (2, 3)),
    "constant_pad_nd": (lambda m, x: m.constant_pad_nd(x, (1, 1), -1.0), (2, 3)),
    "pad reflect": (lambda m, x: m.pad(x, (2, 1), mode="reflect"), (2, 3)),
    "pad reflect 2d": (lambda m, x: m.pad(x, (2, 1, 1, 0), mode="reflect"), (1, 2, 3)),
    "pad replicate": (lambda m, x: m.pad(x, (4, 1, 0, 2), mode="replicate"), (1, 2, 3)),
    "pad circular": (lambda m, x: m.pad(x, (3, 1), mode="circular"), (1, 2, 3)),
}

INDEXING = {
    "int": (lambda m, x: x[1], (3, 4)),
    "negative int": (lambda m, x: x[-1], (3,)),
    "ints": (lambda m, x: x[1, -2], (3, 4)),
    "slice": (lambda m, x: x[1:], (3, 4)),
    "step": (lambda m, x: x[:, ::2], (3, 5)),
    "empty slice": (lambda m, x: x[2:1], (3, 5)),
    "ellipsis": (lambda m, x: x[..., 0], (2, 3, 4)),
    "none": (lambda m, x: x[None, :, None, 1], (3, 4)),
    "indices": (lambda m, x: x[_ints(m, 0, 2, 0)], (3, 4)),
    "list": (lambda m, x: x[[0, -1]], (3, 4)),
    "indices of axis 1": (lambda m, x: x[:, _ints(m, 3, 3)], (3, 4)),
    "indices after ...": (lambda m, x: x[..., _ints(m, 3, 3)], (2, 3, 4)),
    "matrix of indices": (lambda m, x: x[m.tensor([[0, 1], [2, 2]])], (3, 4)),
    "two": (lambda m, x: x[_ints(m, 0, 2, 0), _ints(m, 1, 1, 1)], (3, 4)),
    "two apart": (lambda m, x: x[_ints(m, 0, 1), :, _ints(m, 1, 1)], (2, 3, 4)),
    "broadcast": (lambda m, x: x[m.tensor([[0], [2]]), _ints(m, 1, 3)], (3, 4)),
    "int and indices": (lambda m, x: x[0, :, _ints(m, 1, 3, 1)], (2, 3, 4)),
    "indices and int": (lambda m, x: x[_ints(m, 1, 1), ..., -1], (2, 3, 4)),
    "slice and indices": (lambda m, x: x[1:, _ints(m, 1, 3)], (3, 4)),
    "none and indices": (lambda m, x: x[None, _ints(m, 1, 0)], (3, 4)),
    "none between indices": (lambda m, x: x[_ints(m, 1, 0), None, _ints(m, 1, 0)], (3, 4)),
    "mask": (lambda m, x: x[m.tensor([True, False, True])], (3, 4)),
    "whole mask": (lambda m, x: x[x > 0], (3, 4)),
    "mask of axis 1": (lambda m, x: x[:, m.tensor([True, False, True, True])], (3, 4)),
    "mask and indices": (lambda m, x: x[m.tensor([True, False, True]), _ints(m, 1, 3)], (3, 4)),
    "mask and int": (lambda m, x: x[m.tensor([[True, False], [False, True]]), 1], (2, 2, 3)),
    "0-d index": (lambda m, x: x[m.tensor(1)], (3, 4)),
    "0-d index and indices": (lambda m, x: x[m.tensor(1), :, _ints(m, 0, 0)], (3, 4, 2)),
    "True": (lambda m, x: x[True], (3,)),
    "False and int": (lambda m, x: x[0, False], (3, 4)),
    "empty list": (lambda m, x: x[[]], (3, 4)),
    "large": (lambda m, x: x[_ints(m, *[i * i % 40 for i in range(60)])], (40, 20)),
    "large, two": (
        lambda m, x: x[_ints(m, *[i * i % 40 for i in range(60)]), _ints(m, *[-1 - i % 7 for i in range(60)])],
        (40, 7, 9),
    ),
    "gather": (lambda m, x: m.gather(x, 1, m.tensor([[0, 0, 3], [1, 2, 2]])), (3, 4)),
    "gather dim 0": (lambda m, x: x.gather(0, m.tensor([[0, 2], [1, 1], [0, 0], [2, 1]])), (3, 4)),
    "gather 3d": (lambda m, x: x.gather(-2, m.tensor([[[0, 2]], [[1, 1]]])), (2, 3, 2)),
    "gather of a transpose": (lambda m, x: x.t().gather(1, m.tensor([[0, 2], [1, 1]])), (3, 4)),
    "scatter_add": (lambda m, x, s: x.scatter_add(1, m.tensor([[0, 0, 3], [1, 2, 2]]), s), (3, 4), (2, 3)),
    "scatter_add of a part": (lambda m, x, s: m.scatter_add(x, 0, m.tensor([[0, 0]]), s), (3, 4), (1, 2)),
    "scatter": (lambda m, x, s: x.scatter(1, m.tensor([[0, 3], [1, 2]]), s), (3, 4), (2, 2)),
    "scatter a value": (lambda m, x: x.scatter(1, m.tensor([[0, 3], [1, 2]]), 5.0), (3, 4)),
    "index_select": (lambda m, x: m.index_select(x, 1, _ints(m, 3, 0, 3)), (3, 4)),
    "index_add": (lambda m, x, s: x.index_add(1, _ints(m, 3, 0, 3), s), (2, 4), (2, 3)),
    "index_add alpha": (lambda m, x, s: m.index_add(x, 0, _ints(m, 1, 1), s, alpha=2.0), (2, 4), (2, 4)),
    "index_copy": (lambda m, x, s: x.index_copy(1, _ints(m, 3, 0), s), (2, 4), (2, 2)),
    "index_fill": (lambda m, x: x.index_fill(1, _ints(m, 3, 0), 2.0), (2, 4)),
    "index_put": (lambda m, x, s: x.index_put((_ints(m, 0, 2), _ints(m, 1, 0)), s), (3, 4), (2,)),
    "index_put adds": (lambda m, x, s: x.index_put((_ints(m, 0, 0),), s, accumulate=True), (3, 4), (4,)),
    "masked_fill": (lambda m, x: x.masked_fill(x > 0, -1.0), (3, 4)),
    "masked_fill tensor": (lambda m, x, v: m.masked_fill(x, m.tensor([True, False, True, True]), v), (3, 4), ()),
    "masked_fill infinity": (lambda m, x: x.masked_fill(m.tensor([[True], [False]]), float("-inf")), (2, 3)),
    "masked_select": (lambda m, x: m.masked_select(x, m.tensor([True, False, True])), (2, 3)),
    "take": (lambda m, x: m.take(x, m.tensor([[0, 5], [-1, 0]])), (2, 3)),
    "take_along_dim": (lambda m, x: m.take_along_dim(x, m.tensor([[0, 0]]), dim=1), (3, 4)),
    "take_along_dim flat": (lambda m, x: x.take_along_dim(_ints(m, 3, 3)), (3, 4)),
    "nonzero": (lambda m, x: m.nonzero(x > 0), (3, 4)),
    "nonzero tuple": (lambda m, x: (x > 0).nonzero(as_tuple=True), (3, 4)),
    "argwhere": (lambda m, x: m.argwhere(x > 0), (3, 4)),
    "select_scatter": (lambda m, x, s: m.select_scatter(x, s, 1, 2), (3, 4), (3,)),
    "slice_scatter": (lambda m, x, s: x.slice_scatter(s, 1, 1, 4, 2), (3, 4), (3, 2)),
    "one_hot": (lambda m: m.one_hot(m.tensor([[0, 2], [1, 1]])),),
    "one_hot of 5": (lambda m: m.one_hot(m.tensor([0, 2]), 5),),
    "embedding": (lambda m, w: m.embedding(m.tensor([[0, 2], [2, 2]]), w), (4, 3)),
    "embedding padding": (lambda m, w: m.embedding(m.tensor([[0, 2], [1, 2]]), w, padding_idx=-2), (4, 3)),
    "embedding large": (lambda m, w: m.embedding(_ints(m, *[i * i % 50 for i in range(90)]), w, padding_idx=4), (50, 16)),
}

DTYPES = {
    "to": lambda m, x: x.to(m.float32),
    "half": lambda m, x: x.half(),
    "long": lambda m, x: x.long(),
    "bool": lambda m, x: (x * 0).bool(),
    "type_as": lambda m, x: x.type_as(m.tensor([1.0], dtype=m.float32)),
    "clone": lambda m, x: x.clone(),
    "contiguous": lambda m, x: x.t().contiguous(),
    "int": lambda m, x: x.int(),
    "short": lambda m, x: x.short(),
    "char": lambda m, x: x.char(),
    "byte": lambda m, x: (x * x).byte(),
    "there and back": lambda m, x: x.float().double(),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name):
    assert_parity(*SHAPES[name])


@pytest.mark.parametrize("name", JOINS)
def test_joining_and_splitting(name):
    assert_parity(*JOINS[name])


@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name):
    assert_parity(*INDEXING[name])


@pytest.mark.parametrize("name", DTYPES)
def test_conversion(name):
    assert_parity(DTYPES[name], (2, 3))


def _assignments():
    def ints(m, x, v):
        x[1, 2] = v.sum()
        return x

    def rows(m, x, v):
        x[1:] = v
        return x

    def indices(m, x, v):
        x[_ints(m, 0, 2)] = v
        return x

    def int_and_indices(m, x, v):
        x[0, _ints(m, 0, 2)] = v[0, :2]
        return x

    def mask(m, x, v):
        x[m.tensor([True, False, True])] = v
        return x

    def number(m, x, v):
        x[..., 1] = 7.0
        return x * v.sum()

    def twice(m, x, v):
        x[0] = v[0]
        x[0, 1:] = x[1, 1:] * 2
        return x

    def added(m, x, v):
        x[1] += v[1]
        return x

    def axes_of_size_one_in_front(m, x, v):
        x[1, 2] = v[:1, :1]
        x[1:] = v[None, None]
        x[m.tensor([True, False, False])] = v[None, :1] * 2
        return x

    return [ints, rows, indices, int_and_indices, mask, number, twice, added, axes_of_size_one_in_front]


@pytest.mark.parametrize("assign", _assignments(), ids=lambda f: f.__name__)
def test_assignment_to_a_result(assign):
    assert_parity(lambda m, x, v: assign(m, x * 1.0, v * 1.0), (3, 4), (2, 4))


@pytest.mark.parametrize("assign", _assignments(), ids=lambda f: f.__name__)
def test_assignment_to_plain_data(assign):
    def into_zeros(m, v):
        x = m.zeros(3, 4, dtype=m.float64)
        return assign(m, x, v * 1.0)

    assert_parity(into_zeros, (2, 4))


@pytest.mark.parametrize("shapes", [((2, 1), (3,)), ((), (2,)), ((4, 1, 1), (2, 1), (3,))])
def test_broadcast_shapes(shapes):
    assert tg.broadcast_shapes(*shapes) == tuple(torch.broadcast_shapes(*shapes))


@pytest.mark.parametrize("arguments", [(3, 4), (3, 3, 1), (2, 4, -1)])
def test_triangle_indices(arguments):
    assert tg.tril_indices(*arguments).tolist() == torch.tril_indices(*arguments).tolist()
    assert tg.triu_indices(*arguments).tolist() == torch.triu_indices(*arguments).tolist()


def test_repeat_interleave_of_counts():
    counts = [2, 0, 3]
    assert tg.repeat_interleave(tg.tensor(counts)).tolist() == torch.repeat_interleave(torch.tensor(counts)).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("other", ["float32", "float64", "int64", "bool"])
def test_cat_and_stack_promote_as_pytorch_does(dtype, other):
    x, y = tg.ones(2, dtype=dtype), tg.ones(2, dtype=other)
    u, v = torch.ones(2, dtype=getattr(torch, dtype)), torch.ones(2, dtype=getattr(torch, other))
    for ours, theirs in [(tg.cat([x, y]), torch.cat([u, v])), (tg.stack([x, y]), torch.stack([u, v]))]:
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
