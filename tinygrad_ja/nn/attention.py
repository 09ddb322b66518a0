"""Attention layers: several heads of scaled dot products, and the additive and multiplicative scores of recurrent decoders."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import Phrase, error
from ..ops import attention, creation
from ..ops.linalg import linear
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter


def _refusal(layer: Any, argument: str, value: Any, rule: Phrase) -> Exception:
    fix = ("check the settings.", "設定を確かめてください。")
    return error("TG-A001", op=type(layer).__name__, argument=argument, value=value, rule=rule, fix=fix)


class MultiheadAttention(Module):
    """``num_heads`` attentions side by side, each softmax(q kᵀ / √d) v for its own part d = E / num_heads of the projections
    q = W_q query, k = W_k key, v = W_v value; then one more affine map, ``out_proj`` (Vaswani et al. 2017).

    kdim, vdim: features of key and value where they are not E. add_bias_kv: a learned key and value behind the others.
    add_zero_attn: a key and value of zeros behind the others, so that a query may look at nothing. dropout acts on the weights.
    ``in_proj_weight`` (3E, E), or with other features ``q_proj_weight`` (E, E), ``k_proj_weight`` (E, kdim) and ``v_proj_weight``
    (E, vdim), start Xavier uniform; ``in_proj_bias`` (3E,) and the bias of ``out_proj`` 0; ``bias_k`` and ``bias_v`` Xavier normal.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = tg.zeros(3, 5, 8)
    >>> output, weights = layer(x, x, x)
    >>> output.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            rule = (f"a multiple of num_heads, {num_heads}; both >= 1", f"num_heads ({num_heads}) の倍数で、どちらも 1 以上")
            raise _refusal(self, "embed_dim", embed_dim, rule)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        packed = self.kdim == self.vdim == embed_dim
        shapes: dict[str, tuple[int, ...] | None] = {
            "in_proj_weight": (3 * embed_dim, embed_dim) if packed else None,
            "q_proj_weight": None if packed else (embed_dim, embed_dim),
            "k_proj_weight": None if packed else (embed_dim, self.kdim),
            "v_proj_weight": None if packed else (embed_dim, self.vdim),
            "in_proj_bias": (3 * embed_dim,) if bias else None,
            "bias_k": (1, 1, embed_dim) if add_bias_kv else None,
            "bias_v": (1, 1, embed_dim) if add_bias_kv else None,
        }
        for name, shape in shapes.items():
            made = None if shape is None else Parameter(creation.empty(*shape, device=device, dtype=dtype))
            self.register_parameter(name, made)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; the weight of ``out_proj`` stays, as in PyTorch."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns ``(output, weights)``: output like the query; weights (N, L, S), the mean of the heads, or all of them (N, num_heads,
        L, S) without ``average_attn_weights``, or None without ``need_weights``, which is faster.

        query: (L, N, E), with ``batch_first`` (N, L, E), or (L, E); key (S, N, kdim) and value (S, N, vdim) likewise.
        key_padding_mask: (N, S) or (S,). attn_mask: (L, S), or (N·num_heads, L, S) for each head. In both True is ignored, a float is
        added to the scores. Where all is masked, the output of that query is ``out_proj`` of 0; NaN with ``need_weights``, as in PyTorch.
        is_causal: says that ``attn_mask`` is the causal mask, which then need not be looked at.
        Raises ShapeError, DtypeError and ArgumentError when these do not fit.
        """
        return attention.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=self.in_proj_weight is None,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            batch_first=self.batch_first,
        )


class AdditiveAttention(Module):
    """Attention by the scores vᵀ tanh(W q + U k), for a decoder that looks at the states of an encoder (Bahdanau et al. 2015; not in
    PyTorch).

    query_dim, key_dim: features of the decoder's and the encoder's states. hidden_dim: rows of W, ``query_proj``, and U, ``key_proj``.
    bias: U k + b. All start uniform as in ``Linear``, v in ±1/√hidden_dim.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.AdditiveAttention(4, 6, hidden_dim=5)
    >>> state, encoded = tg.zeros(2, 4), tg.zeros(2, 7, 6)
    >>> context, weights = layer(state, encoded)
    >>> context.shape, weights.shape
    ((2, 6), (2, 7))
    """

    def __init__(
        self, query_dim: int, key_dim: int, hidden_dim: int, bias: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.query_dim, self.key_dim, self.hidden_dim = query_dim, key_dim, hidden_dim
        self.query_proj = Linear(query_dim, hidden_dim, False, device, dtype)
        self.key_proj = Linear(key_dim, hidden_dim, bias, device, dtype)
        self.weight = Parameter(creation.empty(hidden_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.query_proj.reset_parameters()
        self.key_proj.reset_parameters()
        bound = self.hidden_dim**-0.5
        init.uniform_(self.weight, -bound, bound)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        projected_key: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns ``(context, weights)``, (N, V) and (N, S); (N, L, V) and (N, L, S) for L queries.

        query: (N, query_dim) for one step of a decoder, or (N, L, query_dim). key: (N, S, key_dim). value: (N, S, V), the key if None.
        key_padding_mask: (N, S), True is ignored. projected_key: ``layer.key_proj(key)``; it is the same in every step of a decoder, so a
        loop should make it once.
        """
        met = self.key_proj(key) if projected_key is None else projected_key
        value = key if value is None else value
        return attention.additive_attention(self.query_proj(query), met, value, self.weight, key_padding_mask)

    def extra_repr(self) -> str:
        return f"{self.query_dim}, {self.key_dim}, hidden_dim={self.hidden_dim}"


class LuongAttention(Module):
    """Attention by one of the scores of Luong et al. 2015 (not in PyTorch), for a query q and a key k:

    ``"dot"``: qᵀ k; ``"general"``: qᵀ W k; ``"concat"``: vᵀ tanh(W (q, k)).

    key_dim: features of the keys, query_dim if None; "dot" needs the same. hidden_dim: rows of W for "concat", query_dim if None.
    ``weight`` is W, (query_dim, key_dim) or (hidden_dim, query_dim + key_dim), and ``v`` is (hidden_dim,): uniform in ±1/√(columns of W),
    v in ±1/√hidden_dim.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.LuongAttention(4, method="dot")
    >>> context, weights = layer(tg.zeros(2, 4), tg.ones(2, 7, 4))
    >>> context.shape, weights.shape
    ((2, 4), (2, 7))
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int | None = None,
        method: str = "dot",
        hidden_dim: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.query_dim, self.key_dim = query_dim, query_dim if key_dim is None else key_dim
        self.method, self.hidden_dim = method, query_dim if hidden_dim is None else hidden_dim
        if method not in ("dot", "general", "concat"):
            raise _refusal(self, "method", repr(method), ("dot, general or concat", "dot、general、concat のどれか"))
        if method == "dot" and self.key_dim != query_dim:
            rule = (f"query_dim, {query_dim}, for the method dot", f"dot では query_dim ({query_dim}) と同じ")
            raise _refusal(self, "key_dim", self.key_dim, rule)
        weight = {
            "dot": None,
            "general": (query_dim, self.key_dim),
            "concat": (self.hidden_dim, query_dim + self.key_dim),
        }[method]
        for name, shape in (("weight", weight), ("v", (self.hidden_dim,) if method == "concat" else None)):
            made = None if shape is None else Parameter(creation.empty(*shape, device=device, dtype=dtype))
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for p in self.parameters():
            bound = p.shape[-1] ** -0.5
            init.uniform_(p, -bound, bound)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns ``(context, weights)``; shapes and mask as in ``AdditiveAttention``."""
        value = key if value is None else value
        if self.method == "concat":
            # W (q, k) = W_q q + W_k k
            by_query, by_key = self.weight[:, : self.query_dim], self.weight[:, self.query_dim :]
            return attention.additive_attention(linear(query, by_query), linear(key, by_key), value, self.v, key_padding_mask)
        if self.method == "general":
            query = query @ self.weight
        return attention.dot_attention(query, key, value, key_padding_mask)

    def extra_repr(self) -> str:
        hidden = f", hidden_dim={self.hidden_dim}" if self.method == "concat" else ""
        return f"{self.query_dim}, {self.key_dim}, method={self.method!r}{hidden}"
