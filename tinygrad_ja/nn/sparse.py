"""Embedding: a table of vectors, looked up by index."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import error
from ..ops import creation, selection
from . import init
from .module import Module
from .parameter import Parameter


class Embedding(Module):
    """Row ``input[...]`` of a table: indices (...) of an integer dtype -> vectors (..., embedding_dim).

    padding_idx: a row that starts at zero and gets no gradient. The table starts as N(0, 1).

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
        *,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                rule = f"-{num_embeddings} <= padding_idx < {num_embeddings}"
                raise error(
                    "TG-A001",
                    op="Embedding",
                    argument="padding_idx",
                    value=padding_idx,
                    rule=rule,
                    fix=("choose a row.", "行の番号を選んでください。"),
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        if _weight is None:
            table = creation.empty(num_embeddings, embedding_dim, device=device, dtype=dtype)
            self.weight = Parameter(table, requires_grad=not _freeze)
            self.reset_parameters()
        elif tuple(_weight.shape) != (num_embeddings, embedding_dim):
            wanted = (f"weight ({num_embeddings}, {embedding_dim})", f"weight は ({num_embeddings}, {embedding_dim})")
            raise error(
                "TG-S002",
                op="Embedding",
                rule=wanted,
                shapes=tuple(_weight.shape),
                fix=("pass a table of that shape.", "その形状の表を渡してください。"),
            )
        else:
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """A table that starts with the rows of ``embeddings`` (rows, dim), fixed unless ``freeze=False``."""
        if embeddings.ndim != 2:
            shape = tuple(embeddings.shape)
            raise error(
                "TG-S002",
                op="Embedding.from_pretrained",
                rule="(rows, dim)",
                shapes=shape,
                fix=("pass a matrix.", "行列を渡してください。"),
            )
        rows, columns = embeddings.shape
        return cls(rows, columns, padding_idx, _weight=embeddings, _freeze=freeze)

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.array[self.padding_idx] = 0

    def forward(self, input: Tensor) -> Tensor:
        """input: indices of any shape."""
        return selection.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
