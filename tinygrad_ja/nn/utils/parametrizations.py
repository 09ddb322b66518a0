"""Parametrizations of weights: by length and direction, with spectral norm 1, orthogonal (``torch.nn.utils.parametrizations``)."""

from __future__ import annotations

from typing import Any

from ...backend.arrays import ARRAY_MODULES
from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import error
from ...ops.creation import empty
from ...ops.decomposition import qr
from ...ops.diagonal import diag_embed, diagonal, tril
from ...ops.join import cat
from ...ops.linalg import matmul, mv
from ...ops.norms import norm, normalize
from ...ops.padding import constant_pad_nd
from ...ops.piecewise import sign
from ...ops.products import vdot
from ...ops.reduce import sum
from ...ops.shape import dimension, flatten, movedim, unsqueeze
from ...ops.solve import identity_like, matrix_exp, mT, solve
from .. import init
from ..module import Module
from .parametrize import register_parametrization

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def tensor_of(op: str, module: Module, name: str) -> Tensor:
    """The parameter or buffer of that name. Raises ArgumentError when there is none."""
    found = getattr(module, name, None)
    if type(found) is not Tensor:
        reason = (
            f"{type(module).__name__} has no parameter or buffer '{name}'",
            f"{type(module).__name__} にパラメータ・バッファ '{name}' はありません",
        )
        raise error("TG-A003", op=op, reason=reason, fix=("name one that it has.", "あるものの名前を渡してください。"))
    return found


# ---- length and direction ------------------------------------------------------------------------


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """2-norms of the slices along ``dim``, the other axes of size 1; of all elements, 0-d, for -1."""
    if dim == -1:
        return norm(v, 2)
    axis = dimension("weight_norm", dim, v.shape)
    others = tuple([i for i in range(v.ndim) if i != axis])
    return norm(v, 2, others, True) if others else abs(v)


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """w = g v / |v| (Salimans and Kingma 2016): length g, one number for each slice along ``dim`` (for all with None), and direction v are
    the parameters ``original0`` and ``original1``. Returns the module.

    >>> import tinygrad_ja as tg
    >>> layer = weight_norm(tg.nn.Linear(3, 2))
    >>> [(key, tuple(value.shape)) for key, value in layer.state_dict().items()][1:]
    [('parametrizations.weight.original0', (2, 1)), ('parametrizations.weight.original1', (2, 3))]
    """
    tensor_of("weight_norm", module, name)
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


# ---- spectral norm -------------------------------------------------------------------------------


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """The axis ``dim`` as rows, all others as columns."""
    return flatten(movedim(weight, dim, 0) if dim else weight, 1)


def random_unit(like: Tensor, size: int, eps: float) -> Tensor:
    """A random vector of length 1 on the device and in the dtype of ``like``."""
    return normalize(init.normal_(empty(size, dtype=like.dtype, device=like.device)), dim=0, eps=eps)


def check_iterations(op: str, count: int) -> None:
    """Raise ArgumentError for a number of power iterations that is not positive."""
    if count <= 0:
        fix = ("n_power_iterations=1.", "n_power_iterations=1 としてください。")
        raise error("TG-A001", op=op, argument="n_power_iterations", value=count, rule=("1 or more", "1 以上"), fix=fix)


def default_dim(module: Module) -> int:
    """The axis of outputs: 1 for transposed convolutions, else 0."""
    return int(any(kind.__name__.startswith("ConvTranspose") for kind in type(module).__mro__))


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        self.dim = dimension("spectral_norm", dim, weight.shape)
        check_iterations("spectral_norm", n_power_iterations)
        self.n_power_iterations, self.eps = n_power_iterations, eps
        if weight.ndim > 1:
            with no_grad():
                matrix = as_matrix(weight, self.dim)
                self.register_buffer("_u", random_unit(weight, matrix.shape[0], eps))
                self.register_buffer("_v", random_unit(weight, matrix.shape[1], eps))
            self._iterate(matrix, 15)

    def _iterate(self, matrix: Tensor, count: int) -> None:
        """The power method; u and v become new tensors, so a tape keeps those it has seen."""
        with no_grad():
            for _ in range(count):
                self._u = normalize(mv(matrix, self._v), dim=0, eps=self.eps)
                self._v = normalize(mv(mT(matrix), self._u), dim=0, eps=self.eps)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        return weight / vdot(self._u, mv(matrix, self._v))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """w / σ, σ the largest singular value of the weight as a matrix with the rows of ``dim`` (Miyato et al. 2018). Returns the module.

    σ = uᵀ W v; the vectors u and v are buffers that every use in training mode improves by ``n_power_iterations`` steps of the power
    method, and that stay as they are in evaluation.

    dim: the axis of outputs, 0 unless given (1 for transposed convolutions).
    """
    weight = tensor_of("spectral_norm", module, name)
    dim = default_dim(module) if dim is None else dim
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))


# ---- orthogonal matrices -------------------------------------------------------------------------

_MAPS = ("matrix_exp", "cayley", "householder")


def _orthogonalized(A: Tensor) -> Tensor:
    """Q of A = Q R with a positive diagonal in R."""
    q, r = qr(A)
    return q * unsqueeze(sign(diagonal(r, 0, -2, -1)), -2)


def _is_orthogonal(Q: Tensor) -> bool:
    xp = ARRAY_MODULES[type(Q.array)]
    error_of = matmul(mT(Q), Q).array - xp.eye(Q.shape[-1], dtype=Q.dtype)
    return bool((abs(error_of) <= 10 * Q.shape[-2] * float(xp.finfo(Q.dtype).eps) + 1e-5 * abs(error_of)).all())


def _product_of_reflections(A: Tensor) -> Tensor:
    """The first columns of Π (1 - 2 v vᵀ / |v|²), v the columns of the strictly lower triangle A with ones on the diagonal."""
    scale = 2 / (1 + sum(A * A, -2, True))
    xp = ARRAY_MODULES[type(A.array)]
    eye = Tensor(xp.eye(A.shape[-2], A.shape[-1], dtype=A.dtype))
    vectors, made = A + eye, eye
    for i in reversed(range(A.shape[-1])):
        v = vectors[..., i : i + 1]
        made = made - v * scale[..., i : i + 1] * matmul(mT(v), made)
    return made


class _Orthogonal(Module):
    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool = True) -> None:
        super().__init__()
        self.shape, self.orthogonal_map = tuple(weight.shape), orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.shape[-2] < X.shape[-1]
        X = mT(X) if wide else X
        n, k = X.shape[-2:]
        if self.orthogonal_map == "householder":
            signs = diagonal(X.detach(), 0, -2, -1)
            Q = _product_of_reflections(tril(X, -1)) * unsqueeze(signs, -2)
        else:
            square = constant_pad_nd(tril(X), (0, n - k))
            skew = square - mT(square)
            if self.orthogonal_map == "matrix_exp":
                Q = matrix_exp(skew)
            else:
                eye = identity_like(skew)
                Q = solve(eye - skew / 2, eye + skew / 2)
            Q = Q[..., :k]
        if "base" in self._roles:
            Q = matmul(self.base, Q)
        return mT(Q) if wide else Q

    def right_inverse(self, Q: Tensor) -> Tensor:
        if tuple(Q.shape) != self.shape:
            fix = ("give it the shape it had.", "元と同じ形状にしてください。")
            raise error("TG-S002", op="orthogonal", rule=str(self.shape), shapes=str(tuple(Q.shape)), fix=fix)
        wide = Q.shape[-2] < Q.shape[-1]
        tall = mT(Q) if wide else Q
        if "base" not in self._roles:
            return self._reflections(tall, wide)
        n, k = tall.shape[-2:]
        if n != k:
            rest = init.normal_(empty(*tall.shape[:-2], n, n - k, dtype=Q.dtype, device=Q.device))
            tall = cat([tall, rest], -1)
        self.base = _orthogonalized(tall) if n != k or not _is_orthogonal(tall) else tall.clone()
        # the maps make the identity of this, so that the product with the base is Q
        xp = ARRAY_MODULES[type(Q.array)]
        return Tensor(xp.zeros_like(Q.array) - xp.eye(*Q.shape[-2:], dtype=Q.dtype))

    def _reflections(self, Q: Tensor, wide: bool) -> Tensor:
        if self.orthogonal_map != "householder":
            raise NotImplementedError("only the Householder map can be inverted without trivialization")
        xp = ARRAY_MODULES[type(Q.array)]
        h, tau = xp.linalg.qr(Q.array, "raw")
        A = Tensor(h.swapaxes(-1, -2))
        on = xp.sign(xp.diagonal(A.array, 0, -2, -1))
        on = xp.where(tau == 0, -on, on)
        made = tril(A, -1) + constant_pad_nd(diag_embed(Tensor(on)), (0, 0, 0, A.shape[-2] - A.shape[-1]))
        return mT(made) if wide else made


def orthogonal(module: Any, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True) -> Any:
    """Orthonormal columns (rows where those are fewer) for a matrix or a stack of matrices (Lezcano-Casado 2019). Returns the module.

    orthogonal_map: how a matrix X becomes orthogonal. "matrix_exp", exp(A), or "cayley", (1 - A/2)⁻¹ (1 + A/2), of the skew A = X - Xᵀ of
        its lower triangle; "householder", a product of reflections. Without it, the first for square matrices, else the last.
    use_trivialization: multiply by a fixed matrix, so that the weight starts at the orthogonal matrix nearest to what it was.

    >>> import tinygrad_ja as tg
    >>> w = orthogonal(tg.nn.Linear(4, 3)).weight
    >>> bool((abs(w @ w.T - tg.eye(3)) < 1e-5).all())
    True
    """
    weight = tensor_of("orthogonal", module, name)
    if weight.ndim < 2:
        fix = ("choose a matrix.", "行列を選んでください。")
        raise error("TG-S002", op="orthogonal", rule="(...,m,n)", shapes=str(tuple(weight.shape)), fix=fix)
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in _MAPS:
        fix = ("choose one of them.", "この中から選んでください。")
        raise error(
            "TG-A001", op="orthogonal", argument="orthogonal_map", value=repr(orthogonal_map), rule=" | ".join(_MAPS), fix=fix
        )
    made = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)
