"""Linear algebra under the names of ``torch.linalg``."""

from .errors import LinAlgError
from .ops.decomposition import eigh, eigvalsh, matrix_rank, pinv, qr, svd, svdvals
from .ops.decomposition import linalg_cholesky as cholesky
from .ops.linalg import matmul
from .ops.norms import linalg_norm as norm
from .ops.norms import matrix_norm, vector_norm
from .ops.products import linalg_cross as cross
from .ops.products import linalg_diagonal as diagonal
from .ops.products import multi_dot, vecdot
from .ops.solve import det, inv, matrix_exp, matrix_power, slogdet, solve, solve_triangular

__all__ = [
    "LinAlgError",
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vecdot",
    "vector_norm",
]
