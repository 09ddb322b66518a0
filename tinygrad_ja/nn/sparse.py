"""Embeddings: tables of vectors, looked up by index, one by one or in bags."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import error
from ..ops import bag, creation
from . import init
from .module import Module
from .parameter import Parameter


class _Table(Module):
    """The table, ``weight`` (num_embeddings, embedding_dim), and what both kinds of embedding know of it."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Tensor | None,
        requires_grad: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                rule = f"-{num_embeddings} <= padding_idx < {num_embeddings}"
                fix = ("choose a row.", "行の番号を選んでください。")
                raise error("TG-A001", op=name, argument="padding_idx", value=padding_idx, rule=rule, fix=fix)
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        if weight is None:
            table = creation.empty(num_embeddings, embedding_dim, device=device, dtype=dtype)
            self.weight = Parameter(table, requires_grad=requires_grad)
            self.reset_parameters()
        elif tuple(weight.shape) != (num_embeddings, embedding_dim):
            wanted = (f"weight ({num_embeddings}, {embedding_dim})", f"weight は ({num_embeddings}, {embedding_dim})")
            fix = ("pass a table of that shape.", "その形状の表を渡してください。")
            raise error("TG-S002", op=name, rule=wanted, shapes=tuple(weight.shape), fix=fix)
        else:
            self.weight = Parameter(weight, requires_grad=requires_grad)

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.array[self.padding_idx] = 0

    def _shown(self, *settings: str) -> str:
        """What ``extra_repr`` returns."""
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *settings])

    def _norms(self) -> list[str]:
        shown = [f"max_norm={self.max_norm}"] if self.max_norm is not None else []
        shown += [f"norm_type={self.norm_type}"] if self.norm_type != 2 else []
        return shown + (["scale_grad_by_freq=True"] if self.scale_grad_by_freq else [])

    def _padding(self) -> list[str]:
        return [] if self.padding_idx is None else [f"padding_idx={self.padding_idx}"]


def _sizes(name: str, embeddings: Tensor) -> tuple[int, int]:
    """The shape of a table that was made before."""
    if embeddings.ndim != 2:
        fix = ("pass a matrix.", "行列を渡してください。")
        raise error("TG-S002", op=f"{name}.from_pretrained", rule="(rows, dim)", shapes=tuple(embeddings.shape), fix=fix)
    return embeddings.shape[0], embeddings.shape[1]


class Embedding(_Table):
    """Row ``input[...]`` of a table: indices (...) of an integer dtype -> vectors (..., embedding_dim).

    padding_idx: a row that starts at zero and gets no gradient. max_norm: rows that are used and longer (by the norm of order
    ``norm_type``) are first scaled down to it, in place. scale_grad_by_freq: the gradient of a row is divided by how often it is used.
    ``sparse`` is accepted; gradients are dense. The table starts as N(0, 1).

    >>> import tinygrad_ja as tg
    >>> table = tg.nn.Embedding(10, 4, padding_idx=0)
    >>> table(tg.tensor([[1, 2, 0]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            not _freeze,
            device,
            dtype,
        )

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A table that starts with the rows of ``embeddings`` (rows, dim), fixed unless ``freeze=False``."""
        rows, columns = _sizes("Embedding", embeddings)
        return cls(rows, columns, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def forward(self, input: Tensor) -> Tensor:
        """input: indices of any shape."""
        return bag.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self) -> str:
        return self._shown(*self._padding(), *self._norms(), *(["sparse=True"] if self.sparse else []))


class EmbeddingBag(_Table):
    """The sum, mean or largest of the rows of a table in each bag of indices: (B, N), or (N,) with ``offsets`` (B,) where the bags begin
    -> (B, embedding_dim).

    mode: "sum", "mean" or "max". include_last_offset: the last offset is where the last bag ends. padding_idx: a row that starts at
    zero, is left out of the bags and gets no gradient. The other arguments are those of ``Embedding``.

    >>> import tinygrad_ja as tg
    >>> table = tg.nn.EmbeddingBag(10, 4, mode="sum")
    >>> table(tg.tensor([1, 2, 4, 5]), tg.tensor([0, 3])).shape
    (2, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            True,
            device,
            dtype,
        )
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """A table that starts with the rows of ``embeddings`` (rows, dim), fixed unless ``freeze=False``."""
        rows, columns = _sizes("EmbeddingBag", embeddings)
        made = cls(
            rows, columns, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings, include_last_offset, padding_idx
        )
        made.weight.requires_grad = not freeze
        return made

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """input: indices (B, N), or (N,) with offsets (B,); per_sample_weights: factors of the rows, for mode "sum"."""
        return bag.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        return self._shown(*self._norms(), f"mode={self.mode!r}", *self._padding())
