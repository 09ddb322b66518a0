"""The Transformer: encoder, decoder, their layers, and the encoding of positions (Vaswani et al. 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.devices import get_default_dtype
from ..core.tensor import Tensor
from ..errors import Phrase, error
from ..ops import creation
from ..ops.activation import gelu, relu
from ..ops.diagonal import triu
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm

Activation = str | Callable[[Tensor], Tensor]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}


def _activation(layer: Any, given: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(given, str):
        return given
    if given in _ACTIVATIONS:
        return _ACTIVATIONS[given]
    raise error(
        "TG-A001",
        op=type(layer).__name__,
        argument="activation",
        value=repr(given),
        rule=("'relu', 'gelu' or a function", "'relu'、'gelu'、または関数"),
        fix=("activation='relu'.", "activation='relu' などとしてください。"),
    )


def _misfit(layer: Any, rule: Phrase, shapes: Any, fix: Phrase) -> Exception:
    return error("TG-S002", op=type(layer).__name__, rule=rule, shapes=shapes, fix=fix)


class PositionalEncoding(Module):
    """x + PE, then dropout: PE(t, 2i) = sin(t / 10000^(2i/d)), PE(t, 2i + 1) = cos(t / 10000^(2i/d)) (not in PyTorch).

    d_model: d, even or odd. max_len: positions that the table ``pe`` (max_len, d) holds; it is a buffer and stays out of ``state_dict``.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.PositionalEncoding(4, dropout=0.0)
    >>> layer(tg.zeros(1, 1, 4)).tolist()
    [[[0.0, 1.0, 0.0, 1.0]]]
    """

    def __init__(
        self,
        d_model: int,
        dropout: float = 0.1,
        max_len: int = 5000,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.d_model, self.max_len, self.batch_first = d_model, max_len, batch_first
        self.dropout = Dropout(dropout)
        columns = np.arange(d_model)
        angles = np.arange(max_len)[:, None] / 10000.0 ** (columns // 2 * 2 / d_model)
        table = np.where(columns % 2, np.cos(angles), np.sin(angles))
        pe = creation.tensor(table, dtype=get_default_dtype() if dtype is None else dtype, device=device)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """input: (T, N, d), with ``batch_first`` (N, T, d), or (T, d). Raises ShapeError for T > max_len or another d."""
        first = self.batch_first and input.ndim == 3
        axes = input.ndim in (2, 3)
        steps = input.shape[1 if first else 0] if axes else 0
        if not axes or input.shape[-1] != self.d_model or steps > self.max_len:
            order = "N, T" if self.batch_first else "T, N"
            rule = (
                f"({order}, {self.d_model}) or (T, {self.d_model}), T <= {self.max_len}",
                f"({order}, {self.d_model}) または (T, {self.d_model})、T <= {self.max_len}",
            )
            fix = ("set max_len and d_model to fit.", "max_len と d_model を合わせてください。")
            raise _misfit(self, rule, tuple(input.shape), fix)
        pe = self.pe[:steps]
        return self.dropout(input + (pe if first or input.ndim == 2 else pe[:, None]))

    def extra_repr(self) -> str:
        return f"{self.d_model}, max_len={self.max_len}, batch_first={self.batch_first}"


class _Layer(Module):
    """What both layers share: attention with dropout, and the feed-forward part W₂ f(W₁ x)."""

    linear1: Linear
    linear2: Linear
    dropout: Dropout
    activation: Callable[[Tensor], Tensor]

    @staticmethod
    def _attend(
        attention: Any, dropout: Any, x: Tensor, memory: Tensor, mask: Tensor | None, padding: Tensor | None, causal: bool
    ) -> Tensor:
        made, _ = attention(x, memory, memory, attn_mask=mask, key_padding_mask=padding, need_weights=False, is_causal=causal)
        return dropout(made)

    def _feed_forward(self, x: Tensor, dropout: Any) -> Tensor:
        return dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoderLayer(_Layer):
    """Self-attention A and a feed-forward part F, each with a residual connection and a LayerNorm:
    x' = norm(x + A(x)), y = norm(x' + F(x')); with ``norm_first`` x' = x + A(norm(x)), y = x' + F(norm(x')).

    activation: "relu", "gelu" or a function. Arguments and parameters are PyTorch's.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> layer(tg.zeros(3, 5, 8)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **made)
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, **made)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, **made)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation(self, activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src: (S, N, E), with ``batch_first`` (N, S, E), or (S, E). Masks as in ``MultiheadAttention``; is_causal says that
        ``src_mask`` is the causal one."""

        def attend(x: Tensor) -> Tensor:
            return self._attend(self.self_attn, self.dropout1, x, x, src_mask, src_key_padding_mask, is_causal)

        if self.norm_first:
            x = src + attend(self.norm1(src))
            return x + self._feed_forward(self.norm2(x), self.dropout2)
        x = self.norm1(src + attend(src))
        return self.norm2(x + self._feed_forward(x, self.dropout2))


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output ``memory``, and a feed-forward part, each with a residual connection and a
    LayerNorm, as in ``TransformerEncoderLayer``.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(tg.zeros(4, 3, 8), memory=tg.zeros(5, 3, 8)).shape
    (4, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **made)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **made)
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, **made)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, **made)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, **made)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = _activation(self, activation)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt: (T, N, E), with ``batch_first`` (N, T, E), or (T, E); memory: the encoder's output. Masks as in ``MultiheadAttention``;
        the ``is_causal`` hints say that the mask of that name is the causal one."""

        def attend(x: Tensor) -> Tensor:
            return self._attend(self.self_attn, self.dropout1, x, x, tgt_mask, tgt_key_padding_mask, tgt_is_causal)

        def look(x: Tensor) -> Tensor:
            return self._attend(
                self.multihead_attn, self.dropout2, x, memory, memory_mask, memory_key_padding_mask, memory_is_causal
            )

        if self.norm_first:
            x = tgt + attend(self.norm1(tgt))
            x = x + look(self.norm2(x))
            return x + self._feed_forward(self.norm3(x), self.dropout3)
        x = self.norm1(tgt + attend(tgt))
        x = self.norm2(x + look(x))
        return self.norm3(x + self._feed_forward(x, self.dropout3))


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


class TransformerEncoder(Module):
    """``num_layers`` copies of an encoder layer, one after the other, then ``norm`` if there is one.

    ``enable_nested_tensor`` and ``mask_check`` are PyTorch's and do nothing here: padded positions are computed like others.

    >>> import tinygrad_ja as tg
    >>> encoder = tg.nn.TransformerEncoder(tg.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16), num_layers=2)
    >>> encoder(tg.zeros(5, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Arguments as of the layers; is_causal None stands for False (PyTorch looks at the mask to find out, which changes nothing but
        the time)."""
        output = src
        for layer in self.layers:
            output = layer(output, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return output if self.norm is None else self.norm(output)


class TransformerDecoder(Module):
    """``num_layers`` copies of a decoder layer, one after the other, then ``norm`` if there is one.

    >>> import tinygrad_ja as tg
    >>> decoder = tg.nn.TransformerDecoder(tg.nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16), num_layers=2)
    >>> decoder(tg.zeros(4, 3, 8), tg.zeros(5, 3, 8)).shape
    (4, 3, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Arguments as of the layers; tgt_is_causal None stands for False."""
        output = tgt
        for layer in self.layers:
            output = layer(
                output,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return output if self.norm is None else self.norm(output)


class Transformer(Module):
    """An encoder and a decoder that looks at its output. All weights start Xavier uniform; every layer of one kind starts from the same
    copy before that, as in PyTorch.

    custom_encoder, custom_decoder: modules to use instead, called as ``TransformerEncoder`` and ``TransformerDecoder`` are.

    >>> import tinygrad_ja as tg
    >>> model = tg.nn.Transformer(8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=16)
    >>> causal = tg.nn.Transformer.generate_square_subsequent_mask(4)
    >>> model(tg.zeros(5, 3, 8), tg.zeros(4, 3, 8), tgt_mask=causal).shape
    (4, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        made = {"device": device, "dtype": dtype}
        encoder, decoder = custom_encoder, custom_decoder
        if encoder is None:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, **made)
            encoder = TransformerEncoder(TransformerEncoderLayer(*sizes, **made), num_encoder_layers, norm)
        if decoder is None:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, **made)
            decoder = TransformerDecoder(TransformerDecoderLayer(*sizes, **made), num_decoder_layers, norm)
        self.encoder, self.decoder = encoder, decoder
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoder's output, shaped as ``tgt``.

        src: (S, N, E) and tgt: (T, N, E), with ``batch_first`` (N, S, E) and (N, T, E), or without N. Masks as in ``MultiheadAttention``:
        ``src_mask`` (S, S), ``tgt_mask`` (T, T), ``memory_mask`` (T, S); padding masks (N, S), (N, T) and (N, S).
        Raises ShapeError when the batches differ or the features are not ``d_model``.
        """
        batch = 0 if self.batch_first else 1
        other_batch = src.ndim == tgt.ndim == 3 and src.shape[batch] != tgt.shape[batch]
        if other_batch or src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            order = "N, T" if self.batch_first else "T, N"
            rule = (f"({order}, {self.d_model}), one N for both", f"({order}, {self.d_model})、N は共通")
            fix = ("check d_model, batch and batch_first.", "d_model、バッチ、batch_first を確かめてください。")
            raise _misfit(self, rule, f"{tuple(src.shape)}, {tuple(tgt.shape)}", fix)
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """The causal mask (sz, sz): -inf above the diagonal, 0 elsewhere.

        >>> import tinygrad_ja as tg
        >>> tg.nn.Transformer.generate_square_subsequent_mask(2).tolist()
        [[0.0, -inf], [0.0, 0.0]]
        """
        return triu(creation.full((sz, sz), -math.inf, device=device, dtype=dtype), 1)
