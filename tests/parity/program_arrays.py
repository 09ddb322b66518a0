"""More steps of the random programs: scans, order statistics, reductions, scattering and strides."""

from __future__ import annotations

import math

from parity.program_steps import STEPS, step

__all__ = ["STEPS", "step"]


@step
def scan(pick, shape):
    if not shape:
        return None
    name, dim = pick.choice(["cumprod", "cummax", "cummin", "logcumsumexp", "diff", "trapezoid"]), pick.axis(len(shape))
    apart = pick.distinct(shape)
    if name == "diff":
        return lambda side, x, other: x.diff(dim=dim, append=x.narrow(dim, 0, min(shape[dim], 1)))
    if name == "trapezoid":
        return lambda side, x, other: side.m.trapezoid(x, x * 2 + side.tensor(apart), dim=dim)
    if name.startswith("cumm"):
        return lambda side, x, other: getattr(x + side.tensor(apart), name)(dim)[0]
    return lambda side, x, other: getattr(x, name)(dim)


@step
def order(pick, shape):
    name = pick.choice(["median", "nanmedian", "kthvalue", "mode", "topk", "quantile", "nanquantile", "msort"])
    if not shape or 0 in shape:
        return None
    dim, keepdim, apart = pick.axis(len(shape)), pick.boolean(), pick.distinct(shape) * 0.31
    k, q, way = pick.integer(1, shape[dim]), pick.choice([0.3, 1.0]), pick.choice(["linear", "lower", "midpoint"])

    def call(side, x, other):
        x = x + side.tensor(apart)
        if name == "msort":
            return side.m.msort(x)
        if "quantile" in name:
            return getattr(x, name)(q, dim, keepdim, interpolation=way)
        return getattr(x, name)(k, dim)[0] if name in ("kthvalue", "topk") else getattr(x, name)(dim, keepdim)[0]

    return call


@step
def reduce_more(pick, shape):
    name = pick.choice(["nansum", "nanmean", "aminmax", "std_mean", "var_mean", "vector_norm", "prod", "median", "max"])
    dim, apart = (pick.axis(len(shape)) if shape else None), pick.distinct(shape) * 0.31

    def call(side, x, other):
        if name in ("nansum", "nanmean"):
            return getattr(side.m.where(x > 0.7, math.nan, x) if 0 not in shape else x + 1, name)(dim, keepdim=True)
        if name == "aminmax":
            low, high = side.m.aminmax(x + side.tensor(apart), dim=dim)
            return low * high
        if name.endswith("_mean") and x.ndim and shape[dim] > 1:
            spread, mean = getattr(side.m, name)(x + side.tensor(apart), dim, correction=0)
            return spread * mean
        if name == "vector_norm":
            return side.linalg.vector_norm(x + 3, 3, dim)
        return getattr(x + side.tensor(apart), "sum" if name.endswith("_mean") else name)()

    return call


@step
def scatter(pick, shape):
    if not shape or 0 in shape:
        return None
    dim, mask, apart = pick.axis(len(shape)), pick.mask(shape), pick.distinct(shape) * 0.31
    index, places = pick.indices(shape, shape[dim]), pick.rng.permutation(math.prod(shape))[:2]
    reduce, include = pick.choice(["sum", "mean", "amax", "amin", "prod"]), pick.boolean()
    way = pick.choice(["scatter_reduce", "masked_scatter", "put", "take", "index_copy", "index_fill", "masked_select"])

    def call(side, x, other):
        source = x * 0.5 + side.tensor(apart)
        match way:
            case "scatter_reduce":
                return x.scatter_reduce(dim, side.tensor(index), source, reduce, include_self=include)
            case "masked_scatter":
                return x.masked_scatter(side.tensor(mask), source)
            case "put":
                return x.put(side.tensor(places), source.reshape(-1)[: len(places)], accumulate=include)
            case "take":
                return side.m.take(x, side.tensor(places))
            case "masked_select":
                return x.masked_select(side.tensor(mask))
            case "index_fill":
                return x.index_fill(dim, side.tensor(index.ravel()[:2]), 0.5)
            case _:
                return x.index_copy(dim, side.tensor(index.ravel()[:1]), source.narrow(dim, 0, 1))

    return call


@step
def strided(pick, shape):
    if len(shape) < 2 or 0 in shape:
        return None
    dim, size, stride = pick.axis(len(shape)), pick.integer(1, 2), pick.integer(1, 2)
    way = pick.choice(["unfold", "diagonal_scatter", "select_scatter", "as_strided", "diag_embed"])

    def call(side, x, other):
        match way:
            case "unfold":
                return x.unfold(dim, size, stride)
            case "diagonal_scatter":
                return x.diagonal_scatter(x.diagonal() * 2 + 1)
            case "select_scatter":
                return x.select_scatter(x.select(dim, 0) * 3, dim, shape[dim] - 1)
            case "as_strided":
                return x.contiguous().as_strided((2, size), (1, 0) if stride == 2 else (0, 1))
            case _:
                return side.m.diag_embed(x, 1, 0, -1)

    return call
