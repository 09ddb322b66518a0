"""More steps of the random programs: linear algebra, losses, attention and the functions that layers are made of."""

from __future__ import annotations

import math

import torch
from parity.beside_torch import OURS
from parity.program_arrays import STEPS, step

__all__ = ["STEPS"]


def spread(pick, shape, wanted):
    """``make(side, x)``: elements of x in the shape ``wanted``, at random places and moved apart, so that none ties with another."""
    size = math.prod(shape)
    if not size:
        return None
    index, offset = pick.indices(wanted, size), pick.distinct(wanted) * 0.7
    return lambda side, x: x.reshape(-1)[side.tensor(index)] + side.tensor(offset)


def weight(pick, *wanted):
    """``make(side, other)``: a random array times a number that depends on another value, for a gradient of the weights."""
    array = pick.array(wanted, -1.0, 1.0)
    return lambda side, other: side.tensor(array) * (other.sum().tanh() + 1.5)


# ---- linear algebra


@step
def square_matrix(pick, shape):
    n = pick.integer(1, 3)
    x_of = spread(pick, shape, (*pick.choice([(), (2,)]), n, n))
    way = pick.choice(["inv", "solve", "vector", "det", "logdet", "slogdet", "power", "exp", "cholesky", "eigh", "eigvalsh"])
    other_of = weight(pick, n, 2) if way == "solve" else weight(pick, n)
    if x_of is None:
        return None

    def call(side, x, other):
        a = x_of(side, x).tanh()
        positive = a @ a.mT + side.m.eye(n, dtype=a.dtype)
        match way:
            case "solve" | "vector":
                return side.linalg.solve(positive, other_of(side, other))
            case "det":
                return side.linalg.det(a)
            case "logdet":
                return side.m.logdet(positive)
            case "slogdet":
                return side.linalg.slogdet(-positive)[1]
            case "power":
                return side.linalg.matrix_power(a, 3)
            case "exp":
                return side.m.matrix_exp(a)
            case "eigh":  # the sign of a vector is free, its square is not
                values, vectors = side.linalg.eigh(positive + side.m.diag(side.m.arange(n, dtype=a.dtype) * 9))
                return vectors * vectors * values.unsqueeze(-2)
            case _:
                return getattr(side.linalg, way)(positive)

    return call


@step
def decomposition(pick, shape):
    rows, columns = pick.choice([(3, 2), (2, 2), (3, 1)])
    x_of = spread(pick, shape, (rows, columns))
    way = pick.choice(["qr", "svd", "svdvals", "pinv", "nuc"])
    if x_of is None:
        return None

    def call(side, x, other):
        a = x_of(side, x).tanh() + side.tensor([[3.0, 0.0], [0.0, 1.0], [0.5, 0.0]])[:rows, :columns]
        match way:
            case "qr":
                q, r = side.linalg.qr(a)
                return side.m.cat([q @ r.tril(), r.abs()])  # R's diagonal has the signs of Q's columns
            case "svd":
                u, s, v = side.linalg.svd(a, full_matrices=False)
                return (u * s.log1p().unsqueeze(-2)) @ v
            case "svdvals":
                return side.linalg.svdvals(a)
            case "pinv":
                return side.linalg.pinv(a)
            case _:
                return side.linalg.matrix_norm(a, "nuc")

    return call


@step
def distance(pick, shape):
    x_of, other_of = spread(pick, shape, (3, 2)), weight(pick, 3, 2)
    way = pick.choice(["cdist", "pairwise", "cosine", "normalize", "renorm", "vector_norm"])
    p = pick.choice([1.0, 2.0, 3.0])
    if x_of is None:
        return None

    def call(side, x, other):
        a, b = x_of(side, x), other_of(side, other) + 4
        match way:
            case "cdist":
                return side.m.cdist(a, b, compute_mode="use_mm_for_euclid_dist")  # PyTorch differentiates only this twice
            case "pairwise":
                return side.F.pairwise_distance(a, b, p)
            case "cosine":
                return side.F.cosine_similarity(a, b, dim=-1)
            case "normalize":
                return side.F.normalize(a, p)
            case "renorm":
                return side.m.renorm(a, p, 0, 0.5)
            case _:
                return side.linalg.vector_norm(a, p, -1, True)

    return call


@step
def products(pick, shape):
    x_of, first, second = spread(pick, shape, (2, 3)), weight(pick, 2, 3), weight(pick, 2, 3, 3)
    way = pick.choice(["kron", "cross", "bilinear", "tensordot", "addmm", "baddbmm", "vecdot", "multi_dot", "cov"])
    if x_of is None:
        return None

    def call(side, x, other):
        a, b, c = x_of(side, x), first(side, other), second(side, other)
        match way:
            case "kron":
                return side.m.kron(a, b)
            case "cross":
                return side.linalg.cross(a, b)
            case "bilinear":
                return side.F.bilinear(a, b, c)
            case "tensordot":
                return side.m.tensordot(c, a, dims=([0, -1], [0, 1]))
            case "addmm":
                return side.m.addmm(b, a, c[0], beta=0.5, alpha=2)
            case "baddbmm":
                return side.m.baddbmm(a.unsqueeze(1), b.unsqueeze(1), c)
            case "vecdot":
                return side.linalg.vecdot(a, c.transpose(0, 1))
            case "multi_dot":
                return side.linalg.multi_dot([a, c[0], b.mT])
            case _:
                return side.m.cov(a)

    return call


# ---- losses


@step
def loss(pick, shape):
    name = pick.choice(["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "poisson_nll_loss"])
    reduction = pick.choice(["mean", "sum", "none"])
    x_of, target_of = spread(pick, shape, (2, 3)), weight(pick, 2, 3)
    if x_of is None:
        return None
    if name == "soft_margin_loss":  # PyTorch takes no target that requires a gradient
        return lambda side, x, other: side.F.soft_margin_loss(
            x_of(side, x), target_of(side, other).detach(), reduction=reduction
        )
    return lambda side, x, other: getattr(side.F, name)(x_of(side, x), target_of(side, other) + 0.3, reduction=reduction)


@step
def class_loss(pick, shape):
    way = pick.choice(["cross_entropy", "smoothed", "weighted", "nll_loss", "soft", "bce", "logits", "kl_div"])
    reduction = pick.choice(["mean", "sum", "none"])
    x_of, target = spread(pick, shape, (3, 4)), pick.indices((3,), 4)
    target[0] = -100 if pick.boolean() else target[0]
    scales, soft_of = pick.array((4,), 0.5, 2.0), weight(pick, 3, 4)
    if x_of is None:
        return None

    def call(side, x, other):
        a, t, w = x_of(side, x), side.tensor(target), side.tensor(scales)
        soft = soft_of(side, other).softmax(-1)
        match way:
            case "cross_entropy":
                return side.F.cross_entropy(a, t, reduction=reduction)
            case "smoothed":
                return side.F.cross_entropy(a, t, w, label_smoothing=0.2, reduction=reduction)
            case "weighted":
                return side.F.cross_entropy(a, t, w, reduction=reduction)
            case "nll_loss":
                return side.F.nll_loss(a.log_softmax(-1), t, w, reduction=reduction)
            case "soft":
                return side.F.cross_entropy(a, soft, w, reduction=reduction)
            case "bce":
                return side.F.binary_cross_entropy(a.sigmoid(), soft, w, reduction=reduction)
            case "logits":
                return side.F.binary_cross_entropy_with_logits(a, soft, pos_weight=w, reduction=reduction)
            case _:
                return side.F.kl_div(a.log_softmax(-1), soft, reduction=reduction)

    return call


@step
def pair_loss(pick, shape):
    way = pick.choice(["cosine", "ranking", "triplet", "gaussian", "hinge"])
    x_of, first, second = spread(pick, shape, (3, 2)), weight(pick, 3, 2), weight(pick, 3, 2)
    signs = pick.choice([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    if x_of is None:
        return None

    def call(side, x, other):
        a, b, c, t = x_of(side, x), first(side, other) + 0.1, second(side, other), side.tensor(signs)
        match way:
            case "cosine":
                return side.F.cosine_embedding_loss(a, b, t, margin=0.2)
            case "ranking":
                return side.F.margin_ranking_loss(a, b, t.unsqueeze(-1), margin=0.2)
            case "triplet":
                return side.F.triplet_margin_loss(a, b, c, swap=True)
            case "gaussian":
                return side.F.gaussian_nll_loss(a, b, c * c + 0.1, full=True)
            case _:
                return side.F.hinge_embedding_loss(a, t.unsqueeze(-1).expand(3, 2))

    return call


# ---- layers


def _attend(*args, **kwargs):
    """PyTorch's attention in the form that it differentiates twice."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.nn.functional.scaled_dot_product_attention(*args, **kwargs)


@step
def attention(pick, shape):
    heads, rows, columns, size = pick.choice([(), (2,)]), pick.integer(1, 3), pick.integer(1, 3), 2
    x_of, key_of, value_of = spread(pick, shape, (*heads, rows, size)), weight(pick, columns, size), weight(pick, columns, 3)
    way = pick.choice(["plain", "causal", "mask", "bias", "scale"])
    mask, bias_of = pick.mask((rows, columns)), weight(pick, rows, columns)
    mask[:, 0] = True
    if x_of is None:
        return None

    def call(side, x, other):
        attend = side.F.scaled_dot_product_attention if side is OURS else _attend
        key, value = [part.expand(*heads, *part.shape) for part in (key_of(side, other), value_of(side, other))]
        match way:
            case "mask":
                return attend(x_of(side, x), key, value, attn_mask=side.tensor(mask))
            case "bias":
                return attend(x_of(side, x), key, value, attn_mask=bias_of(side, other))
            case "scale":
                return attend(x_of(side, x), key, value, scale=0.3)
            case _:
                return attend(x_of(side, x), key, value, is_causal=way == "causal")

    return call


@step
def convolution(pick, shape):
    dims, groups, kernel = pick.integer(1, 2), pick.integer(1, 2), pick.integer(1, 3)
    stride, padding, dilation = pick.integer(1, 2), pick.integer(0, kernel // 2), pick.integer(1, 2)
    transposed = pick.boolean()
    name = f"conv{'_transpose' if transposed else ''}{dims}d"
    inner, outer = 2 * groups, groups
    x_of = spread(pick, shape, (*pick.choice([(1,), (2,), ()]), inner, *[pick.integer(2, 4) for _ in range(dims)]))
    weight_of = weight(pick, *((inner, 1) if transposed else (outer, 2)), *[kernel] * dims)
    bias_of = pick.choice([lambda side, other: None, weight(pick, outer)])
    more = {"output_padding": stride - 1} if transposed and dilation >= stride else {}
    if x_of is None:
        return None
    return lambda side, x, other: getattr(side.F, name)(
        x_of(side, x),
        weight_of(side, other),
        bias_of(side, other),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        **more,
    )


@step
def windows(pick, shape):
    kernel, stride, padding = pick.integer(1, 2), pick.integer(1, 2), pick.integer(0, 1)
    x_of = spread(pick, shape, (1, 2, 3, 2))
    columns_of = spread(pick, shape, (1, 2 * kernel * kernel, 1))
    if x_of is None:
        return None
    if pick.boolean():
        return lambda side, x, other: side.F.unfold(x_of(side, x), kernel, padding=padding, stride=stride)
    return lambda side, x, other: side.F.fold(columns_of(side, x), (kernel, kernel), kernel)


@step
def pooling(pick, shape):
    dims = pick.integer(1, 2)
    name = f"{pick.choice(['max_pool', 'avg_pool', 'lp_pool', 'adaptive_avg_pool', 'adaptive_max_pool'])}{dims}d"
    x_of = spread(pick, shape, (*pick.choice([(), (2,)]), 2, *[pick.integer(2, 4) for _ in range(dims)]))
    kernel, stride, padding, ceil_mode = pick.integer(1, 3), pick.integer(1, 2), pick.integer(0, 1), pick.boolean()
    include = pick.boolean()
    if x_of is None:
        return None
    if "adaptive" in name:
        return lambda side, x, other: getattr(side.F, name)(x_of(side, x), kernel)
    if "lp" in name:
        return lambda side, x, other: getattr(side.F, name)(x_of(side, x).abs() + 0.1, 3.0, kernel, stride, ceil_mode)
    if "max" in name:
        return lambda side, x, other: getattr(side.F, name)(x_of(side, x), kernel, stride, padding, 1, ceil_mode)
    return lambda side, x, other: getattr(side.F, name)(x_of(side, x), kernel, stride, padding, ceil_mode, include)


@step
def interpolate(pick, shape):
    mode = pick.choice(["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "area"])
    dims = {"linear": 1, "bilinear": 2, "bicubic": 2}.get(mode) or pick.integer(1, 2)
    x_of = spread(pick, shape, (1, 2, *[pick.integer(2, 4) for _ in range(dims)]))
    more = {"align_corners": pick.boolean()} if "linear" in mode or mode == "bicubic" else {}
    more |= pick.choice([{"size": pick.integer(1, 5)}, {"scale_factor": pick.choice([0.5, 1.5, 2.0])}])
    return x_of and (lambda side, x, other: side.F.interpolate(x_of(side, x), mode=mode, **more))


@step
def normalization(pick, shape):
    way = pick.choice(["batch_norm", "running", "instance_norm", "group_norm", "layer_norm", "rms_norm", "local_response_norm"])
    x_of = spread(pick, shape, (2, 4, *pick.choice([(3,), (2, 2)])))
    over = weight(pick, 4) if way in ("batch_norm", "running", "instance_norm", "group_norm") else None
    scale_of = over or (lambda side, other: None)
    mean, var = pick.array((4,)), pick.array((4,), 0.5, 2.0)
    if x_of is None:
        return None

    def call(side, x, other):
        a, w = x_of(side, x), scale_of(side, other)
        match way:
            case "batch_norm":
                return side.F.batch_norm(a, None, None, w, w, training=True)
            case "running":
                return side.F.batch_norm(a, side.tensor(mean), side.tensor(var), w, w, training=False)
            case "instance_norm":
                return side.F.instance_norm(a, weight=w, bias=w)
            case "group_norm":
                return side.F.group_norm(a, 2, w, w)
            case "local_response_norm":
                return side.F.local_response_norm(a, 2)
            case "layer_norm":
                return side.F.layer_norm(a, a.shape[1:], a[0].detach(), a[1])
            case _:
                return side.F.rms_norm(a, a.shape[2:], a[0, 0], 1e-5)

    return call


@step
def rearrangement(pick, shape):
    x_of = spread(pick, shape, (1, 4, 2, 2))
    way = pick.choice(["pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "reflect", "replicate", "circular"])
    if x_of is None:
        return None
    if way in ("reflect", "replicate", "circular"):
        return lambda side, x, other: side.F.pad(x_of(side, x), (1, 1, 0, 1), mode=way)
    return lambda side, x, other: getattr(side.F, way)(x_of(side, x), 2)
