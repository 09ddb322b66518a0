"""Attention: weighted means of values, the weights being softmaxes of scores between queries and keys."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import array_module
from ..core.operator import Array, fused
from ..core.promotion import autocasts
from ..core.tensor import Tensor
from ..errors import Phrase, error, joined
from .comparison import _where, eq, keep, logical_not
from .conversion import _cast
from .exponential import tanh
from .extremum import amax
from .join import _split, cat
from .linalg import linear, matmul
from .padding import constant_pad_nd
from .random import dropout
from .rearrange import repeat_interleave
from .reduce import mean
from .shape import _expand, _permute, _reshape, _transpose, squeeze, unsqueeze
from .softmax import softmax

__all__ = ["additive_attention", "dot_attention", "multi_head_attention_forward", "scaled_dot_product_attention"]


# ---- on raw arrays: the same text for whole arrays and for blocks of them --------------------------


def _scores(xp: Any, query: Any, key: Any, bias: Any, scale: float) -> Any:
    """scale q kᵀ + bias, a new array."""
    made = xp.matmul(query * scale, xp.swapaxes(key, -1, -2))
    if bias is not None:
        made += bias
    return made


def attend(xp: Any, query: Any, key: Any, value: Any, bias: Any, scale: float) -> tuple[Any, Any]:
    """``softmax(scale q kᵀ + bias) v``, and the logarithm of each row's sum of exponentials: all that the backward needs to make the
    weights again. A row of -inf gives 0, and 0 for that logarithm."""
    scores = _scores(xp, query, key, bias, scale)
    if not scores.shape[-1]:
        return xp.matmul(scores, value), xp.zeros((*scores.shape[:-1], 1), scores.dtype)
    top = xp.max(scores, -1, None, True)
    top = xp.where(top == -math.inf, 0.0, top)
    scores -= top
    weights = xp.exp(scores, out=scores)
    sums = xp.sum(weights, -1, None, None, True)
    sums += sums == 0
    return xp.matmul(weights, value) / sums, top + xp.log(sums)


def attend_backward(
    xp: Any, g: Any, y: Any, logsum: Any, query: Any, key: Any, value: Any, bias: Any, scale: float, needs_bias: bool
) -> tuple[Any, ...]:
    """Gradients of query, key, value and bias. With weights P: dV = Pᵀ g, dS = P (g Vᵀ - sum(g y)), dQ = scale dS K,
    dK = scale dSᵀ Q."""
    weights = _scores(xp, query, key, bias, scale)
    weights -= logsum
    weights = xp.exp(weights, out=weights)
    d_value = xp.matmul(xp.swapaxes(weights, -1, -2), g)
    d_scores = xp.matmul(g, xp.swapaxes(value, -1, -2))
    d_scores -= xp.sum(g * y, -1, None, None, True)
    d_scores *= weights
    d_query = xp.matmul(d_scores, key)
    d_query *= scale
    d_key = xp.matmul(xp.swapaxes(d_scores, -1, -2), query * scale)
    return d_query, d_key, d_value, d_scores if needs_bias else None


def widened(xp: Any, *arrays: Any) -> Any:
    """Half precision as single: sums and exponentials want it."""
    return [a.astype(xp.float32) if a is not None and a.dtype == xp.float16 else a for a in arrays]


# ---- the operator --------------------------------------------------------------------------------


def _sizes(pick: Any) -> tuple[int, int, int, int]:
    return pick.integer(1, 3), pick.choice([1, 2, 3, 4, 0]), pick.integer(1, 3), pick.integer(1, 3)


def _case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rows, columns, features, width = _sizes(pick)
    batches = pick.broadcastable(3)
    both = np.broadcast_shapes(*batches[:2])
    bias = None
    if pick.boolean():
        bias = pick.array(pick.choice([(rows, columns), (1, columns), (*both, rows, columns), (*both, 1, columns)]))
        bias[pick.rng.random(bias.shape) < pick.choice([0.0, 0.3, 0.8])] = -math.inf
    arrays = [pick.array((*b, *core)) for b, core in zip(batches, [(rows, features), (columns, features), (columns, width)])]
    return (*arrays, bias, pick.choice([1.0, 0.5, -0.7])), {}


def _attention_backward(
    xp: Any,
    g: Any,
    y: Any,
    needs: tuple[bool, ...],
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    scale: float,
    logsum: Any,
    differentiate: Any,
) -> tuple[Any, ...]:
    made = differentiate(*widened(xp, g, y, logsum, query, key, value, bias), scale, needs[3])
    return tuple([None if d is None else d.astype(query.dtype, copy=False) for d in made])


def _safe_softmax(scores: Any) -> Any:
    """Softmax of the last axis; a row of -inf gives 0, and passes no gradient on."""
    if not scores.shape[-1]:
        return scores
    empty = eq(amax(scores, -1, True), -math.inf)
    return keep(softmax(_where(empty, 0.0, scores), -1), logical_not(empty))


def attention_weights(query: Any, key: Any, bias: Any, scale: float) -> Any:
    """``softmax(scale q kᵀ + bias)`` in plain operators."""
    scores = matmul(query * scale, _transpose(key, -1, -2))
    return _safe_softmax(scores if bias is None else scores + bias)


def _attention_reference(query: Any, key: Any, value: Any, bias: Any, scale: float) -> Any:
    return matmul(attention_weights(query, key, bias, scale), value)


@fused(
    _attention_backward,
    _attention_reference,
    aux=("logsum", "differentiate"),
    broadcasts=True,
    signature="(...,l,e),(...,s,e),(...,s,v),(...,l,s)->(...,l,v)",
    cases=_case,
    autocast="lower",
)
def _attention(xp: Any, query: Array, key: Array, value: Array, bias: Array | None = None, scale: float = 1.0) -> Any:
    """softmax(scale q kᵀ + bias) v. Only the logarithms of the rows' sums are kept; the backward makes the weights again, so that no
    array of L × S elements lives between the two (Dao et al. 2022, "FlashAttention"). Whoever makes the forward also says how its
    backward is to be made: ``differentiate``."""
    q, k, v, b = widened(xp, query, key, value, bias)
    y, logsum = attend(xp, q, k, v, b, scale)
    return y.astype(query.dtype, copy=False), logsum, functools.partial(attend_backward, xp)


# ---- masks ---------------------------------------------------------------------------------------


def raw(value: Any) -> Any:
    """The array of a Tensor."""
    return value.array if type(value) is Tensor else value


def bias_of(op: str, argument: str, mask: Any, dtypes: tuple[Any, ...], takes_part: bool) -> Any:
    """What is added to scores for a mask: a floating mask itself; for a bool one 0 where it equals ``takes_part`` and -inf elsewhere,
    in the first of ``dtypes``, which a floating mask may have."""
    if mask.dtype.kind == "b":
        array = raw(mask)
        xp = array_module(array)
        zeros = (0.0, -math.inf) if takes_part else (-math.inf, 0.0)
        return xp.where(array, *zeros).astype(dtypes[0], copy=False)
    if mask.dtype not in dtypes:
        names = " / ".join(["bool", *dict.fromkeys(map(str, dtypes))])
        fix = "bool" if mask.dtype.kind in "iu" else dtypes[0]  # 0 and 1 are meant as bools; as floats they would be added
        raise error("TG-T004", op=f"{op} ({argument})", dtype=mask.dtype, allowed=names, fix=f"tg.{fix}")
    return mask


def causal_bias(like: Any, rows: int, columns: int) -> Any:
    """-inf above the diagonal of (rows, columns), 0 elsewhere, in the dtype and on the device of ``like``."""
    array = raw(like)
    xp = array_module(array)
    return xp.triu(xp.full((rows, columns), -math.inf, dtype=array.dtype), 1)


# ---- scaled dot products -------------------------------------------------------------------------

_SDPA = "scaled_dot_product_attention"


def _refuse_shapes(op: str, rule: Phrase, fix: Phrase, *tensors: Any) -> Exception:
    return error("TG-S002", op=op, rule=rule, shapes=joined([tuple(x.shape) for x in tensors]), fix=fix)


def _grouped(query: Any, shared: Any) -> Any:
    """Keys or values of fewer heads, each repeated for its group of query heads."""
    heads, given = (x.shape[-3] if x.ndim > 2 else 0 for x in (query, shared))
    if not given or heads % given:
        rule = ("(..., Hq, L, E), (..., H, S, E) with Hq a multiple of H", "(..., Hq, L, E) と (..., H, S, E)、Hq は H の倍数")
        fix = ("check the axis of the heads, -3.", "ヘッドの次元 (-3) を確かめてください。")
        raise _refuse_shapes(_SDPA, rule, fix, query, shared)
    return shared if heads == given else repeat_interleave(shared, heads // given, -3)


@autocasts("lower")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``softmax(scale q kᵀ + mask) v``, scale 1/√E if None.

    query (..., L, E), key (..., S, E), value (..., S, Ev) -> (..., L, Ev); leading axes broadcast. Floats of one dtype.
    attn_mask: broadcasts to (..., L, S); bool (True takes part) or a float that is added. A query that may look at no key gives 0.
    dropout_p: probability with which a weight becomes 0, in evaluation too. is_causal: query i sees keys 0 to i.
    enable_gqa: H heads of key and value (axis -3) serve Hq heads of query, Hq a multiple of H.
    Raises ShapeError, DtypeError for integers or mixed dtypes, ArgumentError for a mask together with ``is_causal``.
    Source: Vaswani et al. 2017, "Attention is all you need".

    >>> import tinygrad_ja as tg
    >>> value = tg.tensor([[1.0], [3.0]])
    >>> tg.nn.functional.scaled_dot_product_attention(tg.zeros(2, 4), tg.zeros(2, 4), value, is_causal=True).tolist()
    [[1.0], [2.0]]
    """
    if query.dtype.kind != "f":
        allowed = ("a floating dtype", "浮動小数点の dtype")
        raise error("TG-T004", op=_SDPA, dtype=query.dtype, allowed=allowed, fix="tg.float32")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        rule = "(..., L, E), (..., S, E), (..., S, Ev)"
        raise _refuse_shapes(_SDPA, rule, ("add axes with unsqueeze.", "unsqueeze で次元を足してください。"), query, key, value)
    if is_causal and attn_mask is not None:
        raise error(
            "TG-A001",
            op=_SDPA,
            argument="is_causal",
            value=True,
            rule=("False when a mask is given", "マスクを渡すときは False"),
            fix=("put the causal rule into the mask.", "因果マスクも attn_mask に含めてください。"),
        )
    if enable_gqa:
        key, value = _grouped(query, key), _grouped(query, value)
    bias = None
    if is_causal:
        bias = causal_bias(query, query.shape[-2], key.shape[-2])
    elif attn_mask is not None:
        bias = bias_of(_SDPA, "attn_mask", attn_mask, (query.dtype, np.dtype(np.float32)), True)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1] or 1)
    dtype = query.dtype
    if dtype == np.float16 and (dropout_p or (bias is not None and bias.dtype != dtype)):
        query, key, value = (_cast(x, np.dtype(np.float32)) for x in (query, key, value))
    if bias is not None and bias.dtype != query.dtype:
        bias = _cast(bias, query.dtype)
    if dropout_p:
        made = matmul(dropout(attention_weights(query, key, bias, scale), dropout_p), value)
    else:
        made = _attention(query, key, value, bias, scale)
    return made if made.dtype == dtype else _cast(made, dtype)


# ---- additive and multiplicative scores ----------------------------------------------------------


def _read(scores: Any, value: Any, key_padding_mask: Any) -> tuple[Any, Any]:
    """``(context, weights)`` for scores (..., L, S); keys whose mask is True get the weight 0."""
    if key_padding_mask is not None:
        padding = bias_of("attention", "key_padding_mask", key_padding_mask, (scores.dtype,), False)
        scores = scores + unsqueeze(padding, -2)
    weights = _safe_softmax(scores)
    return matmul(weights, value), weights


def _one_step(read: Any, query: Any, key: Any) -> tuple[Any, Any]:
    """``read`` for a query without an axis L, as a decoder has it at one step: that axis is added, and taken from the results."""
    if query.ndim >= key.ndim:
        return read(query)
    context, weights = read(unsqueeze(query, -2))
    return squeeze(context, -2), squeeze(weights, -2)


def additive_attention(query: Any, key: Any, value: Any, weight: Any, key_padding_mask: Any = None) -> tuple[Any, Any]:
    """``(context, weights)`` for the scores weight · tanh(q_i + k_j), q and k being projections of one width H.

    query (..., L, H), or (..., H) for one step of a decoder; key (..., S, H); value (..., S, V); weight (H,).
    key_padding_mask (..., S): bool, True is ignored, or a float that is added. Where all is ignored the context is 0.
    Returns context (..., L, V) and weights (..., L, S), without L for one step.
    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate".

    >>> import tinygrad_ja as tg
    >>> value = tg.tensor([[2.0], [4.0]])
    >>> context, weights = tg.nn.functional.additive_attention(tg.zeros(3), tg.zeros(2, 3), value, tg.ones(3))
    >>> context.tolist(), weights.tolist()
    ([3.0], [0.5, 0.5])
    """

    def read(query: Any) -> tuple[Any, Any]:
        met = tanh(unsqueeze(query, -2) + unsqueeze(key, -3))
        return _read(matmul(met, weight), value, key_padding_mask)

    return _one_step(read, query, key)


def dot_attention(query: Any, key: Any, value: Any, key_padding_mask: Any = None, scale: float = 1.0) -> tuple[Any, Any]:
    """``(context, weights)`` for the scores scale q_i · k_j; shapes and mask as in ``additive_attention``.

    Source: Luong et al. 2015, "Effective approaches to attention-based neural machine translation".

    >>> import tinygrad_ja as tg
    >>> key = tg.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> padding = tg.tensor([False, True])
    >>> tg.nn.functional.dot_attention(tg.ones(2), key, key, padding)[0].tolist()
    [1.0, 0.0]
    """

    def read(query: Any) -> tuple[Any, Any]:
        return _read(matmul(query if scale == 1.0 else query * scale, _transpose(key, -1, -2)), value, key_padding_mask)

    return _one_step(read, query, key)


# ---- several heads -------------------------------------------------------------------------------

_MHA = "multi_head_attention_forward"


def _refuse_argument(argument: str, value: Any, rule: Phrase, fix: Phrase) -> Exception:
    return error("TG-A001", op=_MHA, argument=argument, value=value, rule=rule, fix=fix)


def _check_sizes(query: Any, key: Any, value: Any, embed_dim: int, num_heads: int, separate: bool, batch: int) -> None:
    """The rules for query, key and value, all with a batch axis, that no product would notice."""
    if query.shape[-1] != embed_dim or embed_dim % num_heads:
        rule = (
            f"query (..., {embed_dim}), and embed_dim {embed_dim} a multiple of num_heads {num_heads}",
            f"query は (..., {embed_dim})、embed_dim {embed_dim} は num_heads {num_heads} の倍数",
        )
        raise _refuse_shapes(
            _MHA, rule, ("check embed_dim and num_heads.", "embed_dim と num_heads を確かめてください。"), query
        )
    same = key.shape[:2] == value.shape[:2] if separate else key.shape == value.shape
    if not same or key.shape[batch] != query.shape[batch]:
        fix = (
            "make the lengths of key and value, and all batches, equal.",
            "key と value の長さ、すべてのバッチをそろえてください。",
        )
        raise _refuse_shapes(_MHA, "query (L, N, E), key (S, N, Ek), value (S, N, Ev)", fix, query, key, value)


def _project(query: Any, key: Any, value: Any, weight: Any, bias: Any) -> list[Any]:
    """The three projections by one packed weight (3E, E), with one product for those of them whose input is the same object."""
    width = weight.shape[-1]
    inputs = {id(x): x for x in (query, key, value)}
    runs = [(inputs[found], len(list(run))) for found, run in itertools.groupby(map(id, (query, key, value)))]
    sizes = tuple([count * width for _, count in runs])
    weights = [weight] if len(runs) == 1 else _split(weight, sizes, 0)
    biases = [bias] * len(runs) if bias is None or len(runs) == 1 else _split(bias, sizes, 0)
    made: list[Any] = []
    for (x, count), w, b in zip(runs, weights, biases):
        y = linear(x, w, b)
        made += _split(y, (width,) * count, y.ndim - 1) if count > 1 else [y]
    return made


def _project_each(inputs: Sequence[Any], weights: Sequence[Any], bias: Any) -> list[Any]:
    """The three projections by weights of their own, (E, Eq), (E, Ek) and (E, Ev)."""
    for name, weight in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), weights):
        if weight is None:
            rule = ("a Tensor where use_separate_proj_weight is True", "use_separate_proj_weight が True なら Tensor")
            raise _refuse_argument(name, None, rule, ("pass the three weights.", "3 つの重みを渡してください。"))
    biases = [None] * 3 if bias is None else _split(bias, (bias.shape[0] // 3,) * 3, 0)
    return [linear(x, weight, b) for x, weight, b in zip(inputs, weights, biases)]


def _heads(x: Any, num_heads: int, batch_first: bool) -> Any:
    """(T, N, E) or (N, T, E) as (N, heads, T, E / heads), a view."""
    x = _reshape(x, (*x.shape[:2], num_heads, x.shape[2] // num_heads))
    return _permute(x, (0, 2, 1, 3) if batch_first else (1, 2, 0, 3))


def _static(name: str, given: Any, n: int, num_heads: int, width: int) -> Any:
    if given.ndim != 3 or given.shape[0] != n * num_heads or given.shape[2] != width:
        rule = f"{name} ({n * num_heads}, S, {width}): N·num_heads, S, E / num_heads"
        raise _refuse_shapes(_MHA, rule, ("check batch and heads.", "バッチとヘッドの数を確かめてください。"), given)
    return _reshape(given, (n, num_heads, *given.shape[1:]))


def _with_learned_key(k: Any, v: Any, bias_k: Any, bias_v: Any, time: int, static: bool) -> tuple[Any, Any]:
    """Keys and values with a further one each, (1, 1, E), the same for the whole batch, behind the others along ``time``."""
    if (bias_k is None) != (bias_v is None) or (bias_k is not None and static):
        rule = (
            "bias_k and bias_v together, without static_k and static_v",
            "bias_k と bias_v は両方、static_k と static_v なしで",
        )
        raise _refuse_argument("bias_k", "-", rule, ("pass both or none.", "両方渡すか、どちらも渡さないでください。"))
    if bias_k is None:
        return k, v
    size = (1, k.shape[1], k.shape[2]) if time == 0 else (k.shape[0], 1, k.shape[2])
    return cat([k, _expand(bias_k, size)], time), cat([v, _expand(bias_v, size)], time)


def _merged_mask(
    attn_mask: Any, key_padding_mask: Any, dtypes: Any, n: int, heads: int, rows: int, columns: int, more: int
) -> Any:
    """Both masks as one bias that broadcasts to (N, heads, L, S), with zeros for ``more`` further keys; None for none."""
    merged = None
    if attn_mask is not None:
        bias = bias_of(_MHA, "attn_mask", attn_mask, dtypes, False)
        shape = tuple(bias.shape)
        if shape not in ((rows, columns), (n * heads, rows, columns)):
            sizes = (f"({rows}, {columns})", f"({n * heads}, {rows}, {columns})")
            rule: Phrase = (
                f"attn_mask {' or '.join(sizes)}: (L, S) or (N·num_heads, L, S)",
                f"attn_mask は {' または '.join(sizes)}: (L, S) または (N·num_heads, L, S)",
            )
            raise _refuse_shapes(_MHA, rule, ("check the mask.", "マスクの形状を確かめてください。"), bias)
        merged = bias if bias.ndim == 2 else _reshape(bias, (n, heads, rows, columns))
    if key_padding_mask is not None:
        bias = bias_of(_MHA, "key_padding_mask", key_padding_mask, dtypes, False)
        if tuple(bias.shape) != (n, columns):
            rule = f"key_padding_mask ({n}, {columns}): (N, S)"
            raise _refuse_shapes(_MHA, rule, ("check the mask.", "マスクの形状を確かめてください。"), bias)
        bias = _reshape(bias, (n, 1, 1, columns))
        merged = bias if merged is None else merged + bias
    return merged if merged is None or not more else constant_pad_nd(merged, (0, more))


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
) -> tuple[Any, Any]:
    """``(output, weights)`` of attention by ``num_heads`` heads, each with its own part of the projections; the heads' outputs, side by
    side, go through ``out_proj``. ``nn.MultiheadAttention`` explains it all; here is what only the function has.

    query (L, N, E), key (S, N, Ek), value (S, N, Ev), or without N; with ``batch_first`` (not in PyTorch) (N, L, E) and so on.
    in_proj_weight (3E, E) for all three, or with ``use_separate_proj_weight`` three weights (E, E), (E, Ek), (E, Ev).
    bias_k, bias_v (1, 1, E): a learned further key and value. add_zero_attn: a further key and value of zeros.
    static_k, static_v (N·num_heads, S, E/num_heads): used in place of the projected key and value.
    Masks: bool (True is ignored) or floats that are added; ``attn_mask`` (L, S) or (N·num_heads, L, S), ``key_padding_mask`` (N, S).
    Where everything is masked the output of that query is 0 before ``out_proj``; with ``need_weights`` it is NaN, as in PyTorch.
    is_causal: says that ``attn_mask``, which must be given, is the causal mask.
    """
    batched = query.ndim == 3
    if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
        forms = ("(L, N, E), (S, N, Ek), (S, N, Ev)", "(L, E), (S, Ek), (S, Ev)")
        rule = (" or ".join(forms), " または ".join(forms))
        raise _refuse_shapes(_MHA, rule, ("add the missing axis.", "足りない次元を足してください。"), query, key, value)
    if is_causal and attn_mask is None:
        wanted = "attn_mask=nn.Transformer.generate_square_subsequent_mask(L)"
        hint = ("False without an attn_mask, about which it is a hint", "attn_mask がないときは False")
        raise _refuse_argument("is_causal", True, hint, (f"pass {wanted}.", f"{wanted} を渡してください。"))
    if not batched:
        batch_first = False
        one = {id(x): unsqueeze(x, 1) for x in (query, key, value)}
        query, key, value = one[id(query)], one[id(key)], one[id(value)]
        if key_padding_mask is not None:
            key_padding_mask = unsqueeze(key_padding_mask, 0)
    time = 1 if batch_first else 0
    rows, n, width = query.shape[time], query.shape[1 - time], embed_dim_to_check // num_heads
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight, 1 - time)

    if use_separate_proj_weight:
        q, k, v = _project_each((query, key, value), (q_proj_weight, k_proj_weight, v_proj_weight), in_proj_bias)
    else:
        q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias)
    k, v = _with_learned_key(k, v, bias_k, bias_v, time, static_k is not None or static_v is not None)
    q, k, v = (_heads(x, num_heads, batch_first) for x in (q, k, v))
    if static_k is not None:
        k = _static("static_k", static_k, n, num_heads, width)
    if static_v is not None:
        v = _static("static_v", static_v, n, num_heads, width)
    if add_zero_attn:
        k, v = constant_pad_nd(k, (0, 0, 0, 1)), constant_pad_nd(v, (0, 0, 0, 1))
    more = (bias_k is not None) + bool(add_zero_attn)
    dropout_p = dropout_p if training else 0.0
    only_causal = is_causal and key_padding_mask is None and not need_weights
    mask: Any = None
    weights: Any = None
    if not only_causal:
        dtypes = (q.dtype, query.dtype)  # they differ under autocast
        mask = _merged_mask(attn_mask, key_padding_mask, dtypes, n, num_heads, rows, k.shape[2] - more, more)
    if need_weights:
        scores = matmul(q * math.sqrt(1 / width), _transpose(k, -1, -2))
        weights = softmax(scores if mask is None else scores + mask, -1)
        if dropout_p:
            weights = dropout(weights, dropout_p)
        made = matmul(weights, v)
    else:
        made = scaled_dot_product_attention(q, k, v, mask, dropout_p, only_causal)
    made = _permute(made, (0, 2, 1, 3) if batch_first else (2, 0, 1, 3))
    made = linear(_reshape(made, (*made.shape[:2], embed_dim_to_check)), out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = mean(weights, 1)
    if not batched:
        return squeeze(made, 1), None if weights is None else squeeze(weights, 0)
    return made, weights
