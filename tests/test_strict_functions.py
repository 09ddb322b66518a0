"""Every public function that is no operator (operators are fuzzed) runs on the stand-in for CuPy, stays there and gives the CPU's values.

A new public function belongs in ``CALLS``; where it must wait for the host, the reason belongs in ``WAITS``.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import linalg
from tinygrad_ja.nn import functional as F
from tinygrad_ja.testing import strict

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.permutation(np.linspace(-1.5, 1.7, int(np.prod(shape)))).reshape(shape).astype(np.float32)


INPUTS: dict[str, np.ndarray] = {
    "x": normal(2, 3),
    "y": normal(2, 3),
    "v": normal(3),
    "p": np.abs(normal(2, 3)) / 2 + np.float32(0.05),  # in (0, 1)
    "s": normal(3, 3) + 4 * np.eye(3, dtype=np.float32),  # square, well conditioned
    "b": normal(2, 3, 3),
    "w": normal(4, 3, 3),
    "sequence": normal(2, 2, 6),
    "image": normal(2, 2, 4, 4),
    "volume": normal(1, 2, 4, 4, 4),
    "taps1": normal(2, 2, 3),
    "taps2": normal(2, 2, 3, 3),
    "taps3": normal(2, 2, 3, 3, 3),
    "scale": np.array([0.5, 2.0], np.float32),
    "variance": np.array([0.5, 2.0], np.float32),
    "boxes": np.array([[0, 0, 2, 2], [0, 0, 2.1, 2], [1, 1, 3, 3]], np.float32),
    "rois": np.array([[0, 0, 0, 3, 3], [1, 1, 0, 3, 2]], np.float32),
    "mask": np.array([[True, False, True], [False, False, True]]),
    "i": np.array([[0, 1, 1], [1, 0, 1]]),
    "k": np.array([1, 0]),
    "classes": np.array([2, 0]),
    "signs": np.array([1.0, -1.0], np.float32),
}
"""The arguments of the calls: ``t.x`` is a Tensor of ``INPUTS["x"]`` on one device or the other."""

CALLS: dict[str, Callable[[Any], Any]] = {
    # arithmetic and comparison
    "add": lambda t: tg.add(t.x, t.y, alpha=2),
    "sub": lambda t: tg.sub(t.x, t.v, alpha=2),
    "rsub": lambda t: tg.rsub(t.x, t.y, alpha=2),
    "div": lambda t: tg.div(t.x, t.y, rounding_mode="floor"),
    "true_divide": lambda t: tg.true_divide(t.i, t.y),
    "positive": lambda t: tg.positive(t.x),
    "pow": lambda t: tg.pow(t.p, t.x),
    "float_power": lambda t: tg.float_power(t.p, t.x),
    "ldexp": lambda t: tg.ldexp(t.x, t.i),
    "clamp": lambda t: tg.clamp(t.x, -1, t.p),
    "clamp_min": lambda t: tg.clamp_min(t.x, t.y),
    "clamp_max": lambda t: tg.clamp_max(t.x, 0.5),
    "sgn": lambda t: tg.sgn(t.x),
    "polygamma": lambda t: tg.polygamma(1, t.p),
    "allclose": lambda t: tg.allclose(t.x, t.x),
    "equal": lambda t: tg.equal(t.x, t.y),
    "isin": lambda t: tg.isin(t.i, t.k, invert=True),
    "where": lambda t: tg.where(t.mask, t.x, t.y),
    # activations
    "celu": lambda t: F.celu(t.x),
    "elu": lambda t: F.elu(t.x, 0.5),
    "glu": lambda t: F.glu(t.b[:, :2], 1),
    "hardsigmoid": lambda t: F.hardsigmoid(t.x),
    "hardswish": lambda t: F.hardswish(t.x),
    "hardtanh": lambda t: F.hardtanh(t.x, -0.5, 0.5),
    "leaky_relu": lambda t: F.leaky_relu(t.x),
    "mish": lambda t: F.mish(t.x),
    "prelu": lambda t: F.prelu(t.x, t.v),
    "relu": lambda t: F.relu(t.x),
    "relu6": lambda t: F.relu6(t.x),
    "selu": lambda t: F.selu(t.x),
    "silu": lambda t: F.silu(t.x),
    "threshold": lambda t: F.threshold(t.x, 0.1, 2.0),
    "softmax": lambda t: F.softmax(t.x, 1),
    "softmin": lambda t: F.softmin(t.x, 1),
    "log_softmax": lambda t: F.log_softmax(t.x, 0),
    # reductions, statistics, scans, order
    "all": lambda t: tg.all(t.mask, (0, 1)),
    "any": lambda t: tg.any(t.mask, 1, True),
    "amax": lambda t: tg.amax(t.x, (0, 1)),
    "amin": lambda t: tg.amin(t.x, 0),
    "aminmax": lambda t: tg.aminmax(t.x, dim=0),
    "max": lambda t: tg.max(t.x, 1),
    "min": lambda t: tg.min(t.x),
    "count_nonzero": lambda t: tg.count_nonzero(t.i, 0),
    "logsumexp": lambda t: tg.logsumexp(t.x, (0, 1)),
    "mean": lambda t: tg.mean(t.x, (0, 1)),
    "prod": lambda t: tg.prod(t.x, 1),
    "sum": lambda t: tg.sum(t.x, dtype=tg.float64),
    "std": lambda t: tg.std(t.x, 1),
    "std_mean": lambda t: tg.std_mean(t.x, 1),
    "var": lambda t: tg.var(t.x, correction=0),
    "var_mean": lambda t: tg.var_mean(t.x, 1),
    "nanmean": lambda t: tg.nanmean(t.x / t.mask.float(), 0),
    "nansum": lambda t: tg.nansum(t.x, (0, 1)),
    "cov": lambda t: tg.cov(t.x, fweights=t.classes.new_ones(3), aweights=t.p[0]),
    "corrcoef": lambda t: tg.corrcoef(t.x),
    "cummax": lambda t: tg.cummax(t.x, 1),
    "cummin": lambda t: tg.cummin(t.x, 1),
    "cumprod": lambda t: tg.cumprod(t.x, 1),
    "cumsum": lambda t: tg.cumsum(t.x, 0),
    "logcumsumexp": lambda t: tg.logcumsumexp(t.x, 1),
    "diff": lambda t: tg.diff(t.x, prepend=t.y),
    "trapezoid": lambda t: tg.trapezoid(t.x, t.y),
    "cumulative_trapezoid": lambda t: tg.cumulative_trapezoid(t.x, t.y),
    "argsort": lambda t: tg.argsort(t.x, 1, True),
    "sort": lambda t: tg.sort(t.x, 0),
    "msort": lambda t: tg.msort(t.x),
    "topk": lambda t: tg.topk(t.x, 2),
    "kthvalue": lambda t: tg.kthvalue(t.x, 2),
    "median": lambda t: tg.median(t.x, 1),
    "nanmedian": lambda t: tg.nanmedian(t.x),
    "mode": lambda t: tg.mode(t.i, 1),
    "quantile": lambda t: tg.quantile(t.x, t.p[0], 1),
    "nanquantile": lambda t: tg.nanquantile(t.x, 0.3, 1),
    "bincount": lambda t: tg.bincount(t.k, t.scale, minlength=4),
    "bucketize": lambda t: tg.bucketize(t.x, t.variance),
    "searchsorted": lambda t: tg.searchsorted(t.variance, t.x, side="right"),
    "histc": lambda t: tg.histc(t.x, 4),
    "unique": lambda t: tg.unique(t.i, return_inverse=True, return_counts=True),
    "unique_consecutive": lambda t: tg.unique_consecutive(t.i, dim=1),
    # creation
    "arange": lambda t: tg.arange(3, device=t.device),
    "as_tensor": lambda t: tg.as_tensor([1.0, 2.0], device=t.device),
    "bernoulli": lambda t: tg.bernoulli(t.p) * 0,
    "empty": lambda t: tg.empty(2, device=t.device) * 0,
    "empty_like": lambda t: tg.empty_like(t.i) * 0,
    "eye": lambda t: tg.eye(2, 3, device=t.device),
    "fill": lambda t: tg.fill(t.x, t.v[0]),
    "full": lambda t: tg.full((2,), 3, device=t.device),
    "full_like": lambda t: tg.full_like(t.x, 3),
    "linspace": lambda t: tg.linspace(0, 1, 3, device=t.device),
    "logspace": lambda t: tg.logspace(0, 1, 3, device=t.device),
    "multinomial": lambda t: tg.multinomial(t.p, 2) * 0,
    "normal": lambda t: tg.normal(t.x, t.p) * 0,
    "ones": lambda t: tg.ones(2, device=t.device),
    "ones_like": lambda t: tg.ones_like(t.x),
    "rand": lambda t: tg.rand(2, device=t.device) * 0,
    "rand_like": lambda t: tg.rand_like(t.x) * 0,
    "randint": lambda t: tg.randint(3, (2,), device=t.device) * 0,
    "randint_like": lambda t: tg.randint_like(t.x, 3) * 0,
    "randn": lambda t: tg.randn(2, device=t.device) * 0,
    "randn_like": lambda t: tg.randn_like(t.x) * 0,
    "randperm": lambda t: tg.randperm(4, device=t.device) * 0,
    "tensor": lambda t: tg.tensor([1, 2], device=t.device),
    "tril_indices": lambda t: tg.tril_indices(3, 3, device=t.device),
    "triu_indices": lambda t: tg.triu_indices(3, 2, device=t.device),
    "zeros": lambda t: tg.zeros(2, device=t.device),
    "zeros_like": lambda t: tg.zeros_like(t.x),
    # shapes, joining, splitting
    "as_strided": lambda t: tg.as_strided(t.x, (2, 2), (1, 2)),
    "atleast_1d": lambda t: tg.atleast_1d(t.x[0, 0]),
    "atleast_2d": lambda t: tg.atleast_2d(t.v),
    "atleast_3d": lambda t: tg.atleast_3d(t.v, t.x),
    "broadcast_tensors": lambda t: tg.broadcast_tensors(t.x, t.v),
    "broadcast_to": lambda t: tg.broadcast_to(t.v, (2, 3)),
    "expand": lambda t: tg.expand(t.v, 2, -1),
    "expand_as": lambda t: tg.expand_as(t.v, t.x),
    "flatten": lambda t: tg.flatten(t.b, 1),
    "flip": lambda t: tg.flip(t.x, (0, 1)),
    "fliplr": lambda t: tg.fliplr(t.x),
    "flipud": lambda t: tg.flipud(t.x),
    "moveaxis": lambda t: tg.moveaxis(t.b, (0, 1), (2, 0)),
    "permute": lambda t: tg.permute(t.b, (2, 0, 1)),
    "ravel": lambda t: tg.ravel(t.x),
    "reshape": lambda t: tg.reshape(t.x, (3, 2)),
    "reshape_as": lambda t: tg.reshape_as(t.x, t.y),
    "view": lambda t: tg.view(t.x, 3, -1),
    "view_as": lambda t: tg.view_as(t.x, t.y),
    "unflatten": lambda t: tg.unflatten(t.sequence, 2, (2, -1)),
    "unsqueeze": lambda t: tg.unsqueeze(t.x, 1),
    "squeeze": lambda t: tg.squeeze(t.volume),
    "sum_to_size": lambda t: tg.sum_to_size(t.x, 1, 3),
    "swapaxes": lambda t: tg.swapaxes(t.b, 0, 2),
    "swapdims": lambda t: tg.swapdims(t.b, 0, 2),
    "t": lambda t: tg.t(t.x),
    "transpose": lambda t: tg.transpose(t.x, 0, 1),
    "repeat_interleave": lambda t: tg.repeat_interleave(t.x, 2, 1),
    "roll": lambda t: tg.roll(t.x, (1, 2), (0, 1)),
    "rot90": lambda t: tg.rot90(t.x),
    "tile": lambda t: tg.tile(t.x, (2, 1)),
    "diag": lambda t: tg.diag(t.v, 1),
    "diag_embed": lambda t: tg.diag_embed(t.x),
    "diagflat": lambda t: tg.diagflat(t.x),
    "diagonal": lambda t: tg.diagonal(t.s),
    "cat": lambda t: tg.cat([t.x, t.y], 1),
    "stack": lambda t: tg.stack([t.x, t.y], 1),
    "hstack": lambda t: tg.hstack([t.x, t.y]),
    "vstack": lambda t: tg.vstack([t.x, t.v]),
    "dstack": lambda t: tg.dstack([t.x, t.y]),
    "column_stack": lambda t: tg.column_stack([t.v, t.v]),
    "block_diag": lambda t: tg.block_diag(t.x, t.v),
    "cartesian_prod": lambda t: tg.cartesian_prod(t.v, t.scale),
    "combinations": lambda t: tg.combinations(t.v),
    "meshgrid": lambda t: tg.meshgrid(t.v, t.scale, indexing="xy"),
    "split": lambda t: tg.split(t.x, 2, 1),
    "split_with_sizes": lambda t: tg.split_with_sizes(t.x, [1, 2], 1),
    "chunk": lambda t: tg.chunk(t.x, 2, 1),
    "tensor_split": lambda t: tg.tensor_split(t.x, 2, 1),
    "hsplit": lambda t: tg.hsplit(t.x, 3),
    "vsplit": lambda t: tg.vsplit(t.x, 2),
    "dsplit": lambda t: tg.dsplit(t.b, [1]),
    "unbind": lambda t: tg.unbind(t.x, 1),
    "constant_pad_nd": lambda t: tg.constant_pad_nd(t.x, (1, -1), 2.0),
    "pad": lambda t: [F.pad(t.image, (1, 2), mode) for mode in ("constant", "reflect", "replicate", "circular")],
    "pixel_shuffle": lambda t: F.pixel_shuffle(t.image.reshape(2, 4, 4, 2), 2),
    "pixel_unshuffle": lambda t: F.pixel_unshuffle(t.image, 2),
    "channel_shuffle": lambda t: F.channel_shuffle(t.image, 2),
    # indices
    "gather": lambda t: tg.gather(t.x, 0, t.i),
    "index_add": lambda t: tg.index_add(t.x, 0, t.k, t.y, alpha=2),
    "index_copy": lambda t: tg.index_copy(t.x, 0, t.k, t.y),
    "index_fill": lambda t: tg.index_fill(t.x, 1, t.k, 2.0),
    "index_put": lambda t: tg.index_put(t.x, (t.k, t.classes), t.scale, accumulate=True),
    "index_reduce": lambda t: tg.index_reduce(t.x, 0, t.k, t.y, "mean"),
    "index_select": lambda t: tg.index_select(t.x, 1, t.k),
    "masked_fill": lambda t: tg.masked_fill(t.x, t.mask, t.v[0]),
    "masked_scatter": lambda t: tg.masked_scatter(t.x, t.mask, t.y),
    "masked_select": lambda t: tg.masked_select(t.x, t.mask),
    "narrow": lambda t: tg.narrow(t.x, 1, 1, 2),
    "nonzero": lambda t: tg.nonzero(t.i),
    "one_hot": lambda t: F.one_hot(t.i, 3),
    "put": lambda t: tg.put(t.x, t.k, t.scale, accumulate=True),
    "scatter": lambda t: tg.scatter(t.x, 0, t.i[:1], t.y),
    "scatter_add": lambda t: tg.scatter_add(t.x, 0, t.i, t.y),
    "scatter_reduce": lambda t: [tg.scatter_reduce(t.x, 0, t.i, t.y, how) for how in ("sum", "mean", "prod", "amax")],
    "select": lambda t: tg.select(t.x, 1, -1),
    "select_scatter": lambda t: tg.select_scatter(t.x, t.v, 0, 1),
    "slice_scatter": lambda t: tg.slice_scatter(t.x, t.y[:, :2], 1, 0, 2),
    "diagonal_scatter": lambda t: tg.diagonal_scatter(t.s, t.v),
    "take": lambda t: tg.take(t.x, t.i),
    "take_along_dim": lambda t: tg.take_along_dim(t.x, t.i, 1),
    "embedding": lambda t: F.embedding(t.i, t.s, 0, max_norm=2.0),
    "embedding_bag": lambda t: F.embedding_bag(t.i, t.s, mode="mean"),
    # linear algebra
    "addbmm": lambda t: tg.addbmm(t.s, t.b, t.b),
    "addmm": lambda t: tg.addmm(t.x, t.x, t.s, beta=0.5),
    "addmv": lambda t: tg.addmv(t.v, t.s, t.v),
    "addr": lambda t: tg.addr(t.s, t.v, t.v),
    "baddbmm": lambda t: tg.baddbmm(t.b, t.b, t.b),
    "bmm": lambda t: tg.bmm(t.b, t.b),
    "dot": lambda t: tg.dot(t.v, t.v),
    "einsum": lambda t: tg.einsum("ij,kj->ik", t.x, t.y),
    "inner": lambda t: tg.inner(t.x, t.y),
    "kron": lambda t: tg.kron(t.x, t.s),
    "mm": lambda t: tg.mm(t.x, t.s),
    "mv": lambda t: tg.mv(t.x, t.v),
    "outer": lambda t: tg.outer(t.v, t.v),
    "tensordot": lambda t: tg.tensordot(t.x, t.y, dims=([1], [1])),
    "trace": lambda t: tg.trace(t.s),
    "vdot": lambda t: tg.vdot(t.v, t.v),
    "cross": lambda t: tg.cross(t.x, t.y, 1),
    "linalg.cross": lambda t: linalg.cross(t.x, t.v[None]),
    "linalg.diagonal": lambda t: linalg.diagonal(t.b, offset=1),
    "linalg.multi_dot": lambda t: linalg.multi_dot([t.v, t.s, t.s, t.v]),
    "linalg.vecdot": lambda t: linalg.vecdot(t.x, t.v),
    "bilinear": lambda t: F.bilinear(t.x, t.y, t.w),
    "cdist": lambda t: tg.cdist(t.x, t.y, 1.5),
    "cosine_similarity": lambda t: tg.cosine_similarity(t.x, t.y),
    "pairwise_distance": lambda t: tg.pairwise_distance(t.x, t.y),
    "pdist": lambda t: tg.pdist(t.s),
    "dist": lambda t: tg.dist(t.x, t.y, 3),
    "norm": lambda t: tg.norm(t.x, 1, 1),
    "normalize": lambda t: F.normalize(t.x),
    "renorm": lambda t: tg.renorm(t.x, 2, 0, 0.5),
    "linalg.norm": lambda t: linalg.norm(t.x, 1),
    "linalg.vector_norm": lambda t: linalg.vector_norm(t.x, 3, 1),
    "linalg.matrix_norm": lambda t: [linalg.matrix_norm(t.b, kind) for kind in ("fro", 1, "nuc", 2)],
    "cholesky": lambda t: tg.cholesky(t.s @ t.s.mT),
    "linalg.cholesky": lambda t: linalg.cholesky(t.s @ t.s.mT, upper=True),
    "det": lambda t: tg.det(t.s),
    "logdet": lambda t: tg.logdet(t.s @ t.s.mT),
    "slogdet": lambda t: tg.slogdet(t.s),
    "inverse": lambda t: tg.inverse(t.s),
    "matrix_exp": lambda t: tg.matrix_exp(t.b),
    "matrix_power": lambda t: tg.matrix_power(t.s, -2),
    "linalg.solve": lambda t: linalg.solve(t.s, t.v),
    "linalg.solve_triangular": lambda t: linalg.solve_triangular(t.s, t.x.mT, upper=True),
    "linalg.eigh": lambda t: linalg.eigh(t.s)[0],
    "linalg.eigvalsh": lambda t: linalg.eigvalsh(t.s),
    "linalg.qr": lambda t: linalg.qr(t.s)[1].abs(),
    "linalg.svd": lambda t: linalg.svd(t.x, full_matrices=False)[1],
    "linalg.svdvals": lambda t: linalg.svdvals(t.s),
    "linalg.matrix_rank": lambda t: linalg.matrix_rank(t.s),
    "linalg.pinv": lambda t: linalg.pinv(t.x),
    "pinverse": lambda t: tg.pinverse(t.x),
    # losses
    "binary_cross_entropy": lambda t: F.binary_cross_entropy(t.p, t.mask.float(), t.v.abs()),
    "binary_cross_entropy_with_logits": lambda t: F.binary_cross_entropy_with_logits(t.x, t.p, pos_weight=t.p[0]),
    "cosine_embedding_loss": lambda t: F.cosine_embedding_loss(t.x, t.y, t.signs, 0.1),
    "cross_entropy": lambda t: F.cross_entropy(t.x, t.classes, t.p[0], label_smoothing=0.1),
    "ctc_loss": lambda t: F.ctc_loss(t.b.transpose(0, 1).log_softmax(-1), t.k[:, None] + 1, (3, 2), (1, 1)),
    "dice_loss": lambda t: F.dice_loss(t.sequence.softmax(1), t.sequence[:, 0].sign().long().clamp(0)),
    "focal_loss": lambda t: F.focal_loss(t.x, t.classes),
    "gaussian_nll_loss": lambda t: F.gaussian_nll_loss(t.x, t.y, t.p, full=True),
    "gradient_penalty": lambda t: F.gradient_penalty(lambda z: (z * 3).sum(1), t.x, t.x),
    "hierarchical_softmax_loss": lambda t: F.hierarchical_softmax_loss(
        t.x, t.classes, t.i[:, :1].expand(2, 3).mT, t.x.mT.sign(), t.s
    ),
    "hinge_embedding_loss": lambda t: F.hinge_embedding_loss(t.x, t.signs[:, None]),
    "huber_loss": lambda t: F.huber_loss(t.x, t.y, delta=0.5),
    "kl_div": lambda t: F.kl_div(t.x.log_softmax(1), t.p, reduction="batchmean"),
    "l1_loss": lambda t: F.l1_loss(t.x, t.y),
    "margin_ranking_loss": lambda t: F.margin_ranking_loss(t.x, t.y, t.signs[:, None]),
    "mse_loss": lambda t: F.mse_loss(t.x, t.y),
    "multi_margin_loss": lambda t: F.multi_margin_loss(t.x, t.classes, weight=t.p[0]),
    "multilabel_margin_loss": lambda t: F.multilabel_margin_loss(t.x, t.i),
    "multilabel_soft_margin_loss": lambda t: F.multilabel_soft_margin_loss(t.x, t.p),
    "negative_sampling_loss": lambda t: F.negative_sampling_loss(t.x, t.classes, t.i, t.s),
    "nll_loss": lambda t: F.nll_loss(t.x.log_softmax(1), t.classes, t.p[0]),
    "poisson_nll_loss": lambda t: F.poisson_nll_loss(t.x, t.i, full=True),
    "sigmoid_focal_loss": lambda t: F.sigmoid_focal_loss(t.x, t.p),
    "smooth_l1_loss": lambda t: F.smooth_l1_loss(t.x, t.y),
    "soft_margin_loss": lambda t: F.soft_margin_loss(t.x, t.signs[:, None].expand(2, 3)),
    "triplet_margin_loss": lambda t: F.triplet_margin_loss(t.x, t.y, t.p, swap=True),
    "triplet_margin_with_distance_loss": lambda t: F.triplet_margin_with_distance_loss(t.x, t.y, t.p),
    # attention and dropout
    "additive_attention": lambda t: F.additive_attention(t.x, t.b, t.b, t.v),
    "dot_attention": lambda t: F.dot_attention(t.x, t.b, t.b),
    "multi_head_attention_forward": lambda t: F.multi_head_attention_forward(
        *[t.b] * 3, 3, 1, t.s.repeat(3, 1), None, None, None, False, 0.0, t.s, t.v
    ),
    "scaled_dot_product_attention": lambda t: F.scaled_dot_product_attention(t.b, t.b, t.b, is_causal=True),
    "alpha_dropout": lambda t: F.alpha_dropout(t.x, 0.5, True) * 0,
    "feature_alpha_dropout": lambda t: F.feature_alpha_dropout(t.sequence, 0.5, True) * 0,
    "dropout": lambda t: F.dropout(t.x) * 0,
    "dropout1d": lambda t: F.dropout1d(t.sequence) * 0,
    "dropout2d": lambda t: F.dropout2d(t.image) * 0,
    "dropout3d": lambda t: F.dropout3d(t.volume) * 0,
    "rrelu": lambda t: F.rrelu(t.x, 0.2, 0.2, True),
    # convolution, pooling, resampling
    "conv1d": lambda t: F.conv1d(t.sequence, t.taps1, t.scale, 2, 1),
    "conv2d": lambda t: F.conv2d(t.image, t.taps2, t.scale, 2, 1),
    "conv3d": lambda t: F.conv3d(t.volume, t.taps3, t.scale, 1, 1, 2),
    "causal_conv1d": lambda t: F.causal_conv1d(t.sequence, t.taps1, t.scale),
    "conv_transpose1d": lambda t: F.conv_transpose1d(t.sequence, t.taps1, t.scale, 2, 1, 1),
    "conv_transpose2d": lambda t: F.conv_transpose2d(t.image, t.taps2, t.scale, 2, 1, 1),
    "conv_transpose3d": lambda t: F.conv_transpose3d(t.volume, t.taps3, t.scale),
    "unfold": lambda t: F.unfold(t.image, 2),
    "fold": lambda t: F.fold(t.sequence.reshape(1, 4, 6), (3, 4), 2),
    **{
        f"{kind}{dims}d{more}": lambda t, name=f"{kind}{dims}d{more}", at=dims: getattr(F, name)(
            (t.sequence, t.image, t.volume)[at - 1], *((3.0, 2) if "lp" in name else (2,))
        )
        for kind, dims, more in [
            *itertools.product(("avg_pool", "lp_pool", "adaptive_avg_pool", "max_pool", "adaptive_max_pool"), (1, 2, 3), ("",)),
            *itertools.product(("max_pool", "adaptive_max_pool"), (1, 2, 3), ("_with_indices",)),
        ]
    },
    "max_unpool1d": lambda t: F.max_unpool1d(*F.max_pool1d(t.sequence, 2, return_indices=True), 2),
    "max_unpool2d": lambda t: F.max_unpool2d(*F.max_pool2d(t.image, 2, return_indices=True), 2),
    "max_unpool3d": lambda t: F.max_unpool3d(*F.max_pool3d(t.volume, 2, return_indices=True), 2),
    "interpolate": lambda t: [F.interpolate(t.image, (3, 5), mode=m) for m in ("nearest", "bilinear", "bicubic", "area")],
    "upsample": lambda t: F.upsample(t.image, scale_factor=2),
    "upsample_bilinear": lambda t: F.upsample_bilinear(t.image, scale_factor=2),
    "upsample_nearest": lambda t: F.upsample_nearest(t.image, scale_factor=2),
    "affine_grid": lambda t: F.affine_grid(t.x[None], (1, 2, 4, 4), align_corners=False),
    "grid_sample": lambda t: F.grid_sample(t.image, t.image[:, :, :, :2].tanh(), align_corners=False),
    "box_iou": lambda t: F.box_iou(t.boxes, t.boxes),
    "nms": lambda t: F.nms(t.boxes, t.v, 0.5),
    "batched_nms": lambda t: F.batched_nms(t.boxes, t.v, t.i[0], 0.5),
    "roi_align": lambda t: F.roi_align(t.image, t.rois, 2, sampling_ratio=2),
    "roi_pool": lambda t: F.roi_pool(t.image, t.rois, 2),
    # normalization
    "batch_norm": lambda t: F.batch_norm(t.image, t.scale.clone(), t.variance.clone(), t.scale, t.scale, True),
    "group_norm": lambda t: F.group_norm(t.image, 2, t.scale, t.scale),
    "instance_norm": lambda t: F.instance_norm(t.image, t.scale.clone(), t.variance.clone(), t.scale, t.scale),
    "layer_norm": lambda t: F.layer_norm(t.x, (3,), t.v, t.v),
    "local_response_norm": lambda t: F.local_response_norm(t.image, 2),
    "rms_norm": lambda t: F.rms_norm(t.x, (3,), t.v),
}

WAITS: dict[str, str] = {
    "allclose": "its result is a bool",
    "equal": "its result is a bool",
    "bincount": "the largest element is the size of the result",
    "histc": "the counts are those of bincount",
    "unique": "the number of values is the size of the result",
    "unique_consecutive": "the number of runs is the size of the result",
    "masked_select": "the number of True is the size of the result",
    "nonzero": "the number of elements that are not zero is the size of the result",
    "multinomial": "weights that allow no draw are refused",
    "embedding": "max_norm rescales each row once",
    "matrix_exp": "the number of squarings depends on the norm",
    "nms": "each box depends on those that stay",
    "batched_nms": "each box depends on those that stay",
    "roi_align": "the places are computed on the host",
    "roi_pool": "the places are computed on the host",
}
"""Functions that let the host wait for the device, and why they must."""

NO_CALL = {
    "broadcast_shapes": "takes shapes",
    "from_dlpack": "tests/test_sharing.py, on real devices",
    "from_numpy": "takes a host array",
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Names and functions that are no operators, each function once."""
    seen = set()
    for prefix, module in (("", tg), ("", F), ("linalg.", linalg)):
        for name, function in vars(module).items():
            mine = inspect.isfunction(function) and ".ops." in function.__module__ and not name.startswith("_")
            if mine and function not in seen and not hasattr(function, "operator"):
                seen.add(function)
                yield prefix + name, function


def tensors(value: Any) -> list[Any]:
    """The Tensors in a result."""
    if isinstance(value, (tuple, list)):
        return [t for part in value for t in tensors(part)]
    return [value] if isinstance(value, tg.Tensor) else []


def outcome(name: str, device: str) -> tuple[list[Any], list[str]]:
    """Results, then gradients of the float inputs, of a call on a device; and what it waited for."""
    given = {key: tg.tensor(a, device=device, dtype=a.dtype) for key, a in INPUTS.items()}
    leaves = [x.requires_grad_() for key, x in given.items() if x.is_floating_point() and key != "boxes" and key != "rois"]
    with strict.watch() as events, np.errstate(all="ignore"):
        made = tensors(CALLS[name](SimpleNamespace(device=device, **given)))
        live = [y for y in made if y.requires_grad]
        total = sum([(y * y).sum() for y in live if y.is_floating_point()]) if live else None
        if total is not None:
            total.backward()
    return [*made, *[x.grad for x in leaves if x.grad is not None]], [event.what for event in events if event.kind == "d2h"]


@pytest.mark.parametrize("name", CALLS)
def test_a_function_stays_on_the_device(name: str) -> None:
    (on_host, _), (on_device, waits) = outcome(name, "cpu"), outcome(name, "strict")
    assert bool(waits) == (name in WAITS), waits
    assert len(on_host) == len(on_device)
    for y, z in zip(on_host, on_device):
        assert z.device.type == "strict" and z.dtype == y.dtype
        np.testing.assert_allclose(strict.peek(z.array), y.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_no_function_is_forgotten() -> None:
    assert {name for name, _ in public()} - NO_CALL.keys() == CALLS.keys()
    assert WAITS.keys() <= CALLS.keys()
