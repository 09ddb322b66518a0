"""Initialisation of parameters (``torch.nn.init``): every function fills a tensor in place and returns it.

``fan_in`` and ``fan_out`` are the numbers of inputs and outputs that one unit sees: for a weight (out, in, *kernel) they are
in·|kernel| and out·|kernel|. ``generator=`` draws from a stream of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.random import Generator, generator_for
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import error

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _set(tensor: Tensor, array: Any) -> Tensor:
    """The end of every function here: give ``tensor`` its values."""
    with no_grad():
        return tensor._assign(Tensor(array.astype(tensor.dtype, copy=False)))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Factor by which weights before ``nonlinearity`` should be larger: 1 for linear, conv*, sigmoid; 5/3 for tanh; √2 for relu;
    √(2/(1 + slope²)) for leaky_relu with slope ``param`` (0.01); 3/4 for selu.

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    rule = (
        "one of linear, conv*, sigmoid, tanh, relu, leaky_relu, selu",
        "linear、conv*、sigmoid、tanh、relu、leaky_relu、selu のどれか",
    )
    raise error(
        "TG-A001",
        op="calculate_gain",
        argument="nonlinearity",
        value=nonlinearity,
        rule=rule,
        fix=("choose one of them.", "この中から選んでください。"),
    )


def _fans(op: str, tensor: Tensor) -> tuple[int, int]:
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise error(
            "TG-S002",
            op=op,
            rule="(out, in, ...)",
            shapes=shape,
            fix=("initialise a bias with zeros_ or uniform_.", "バイアスは zeros_ か uniform_ で初期化してください。"),
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return _set(tensor, generator_for(tensor.device, generator).uniform(tuple(tensor.shape), tensor.dtype) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with that mean and standard deviation."""
    return _set(tensor, generator_for(tensor.device, generator).normal(tuple(tensor.shape), tensor.dtype) * std + mean)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere."""
    return _set(tensor, ARRAY_MODULES[type(tensor.array)].full_like(tensor.array, val))


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix: a Linear layer starts as the identity."""
    if tensor.ndim != 2:
        raise error(
            "TG-S002", op="eye_", rule="(n, m)", shapes=tuple(tensor.shape), fix=("pass a matrix.", "行列を渡してください。")
        )
    return _set(tensor, ARRAY_MODULES[type(tensor.array)].eye(*tensor.shape, dtype=tensor.dtype))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A kernel (out, in/groups, *kernel) of 3 to 5 axes that passes its input channels through: 1 at the centre of kernel i, i."""
    shape = tuple(tensor.shape)
    if not 3 <= len(shape) <= 5:
        raise error(
            "TG-S002",
            op="dirac_",
            rule=("(out, in, *kernel), 3 to 5 axes", "(out, in, *kernel)、3 から 5 次元"),
            shapes=shape,
            fix=("pass a kernel.", "畳み込みのカーネルを渡してください。"),
        )
    if shape[0] % groups:
        raise error(
            "TG-A001",
            op="dirac_",
            argument="groups",
            value=groups,
            rule=(f"it divides {shape[0]}", f"{shape[0]} の約数であること"),
            fix=("choose a divisor.", "約数を選んでください。"),
        )
    host = np.zeros(shape, tensor.dtype)
    centre = tuple([n // 2 for n in shape[2:]])
    per_group = shape[0] // groups
    for group in range(groups):
        for channel in range(min(per_group, shape[1])):
            place = (group * per_group + channel, channel, *centre)
            host[place] = 1
    return _set(tensor, ARRAY_MODULES[type(tensor.array)].asarray(host))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·√(6/(fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain·√(2/(fan_in + fan_out)) (Glorot and Bengio 2010)."""
    std = gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(op: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(op, tensor)))
    if mode not in fans:
        raise error(
            "TG-A001",
            op=op,
            argument="mode",
            value=mode,
            rule=("fan_in or fan_out", "fan_in か fan_out"),
            fix=("choose one of them.", "この中から選んでください。"),
        )
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans[mode], 1))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Tensor:
    """Uniform in ±gain·√(3/fan) (He et al. 2015). a: slope of the leaky ReLU that follows."""
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Tensor:
    """Normal with standard deviation gain/√fan (He et al. 2015). a: slope of the leaky ReLU that follows."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """``gain`` times a random matrix with orthonormal rows or columns, whichever are fewer; further axes count as columns (Saxe et al.
    2014). The sign of R's diagonal makes the distribution uniform (Mezzadri 2007)."""
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise error(
            "TG-S002",
            op="orthogonal_",
            rule="(rows, ...)",
            shapes=shape,
            fix=("pass two axes or more.", "2 次元以上のテンソルを渡してください。"),
        )
    if 0 in shape:
        return tensor
    xp = ARRAY_MODULES[type(tensor.array)]
    rows, columns = shape[0], math.prod(shape[1:])
    dtype = np.float64 if tensor.dtype == np.float64 else np.float32
    drawn = generator_for(tensor.device, generator).normal((max(rows, columns), min(rows, columns)), dtype)
    q, r = xp.linalg.qr(drawn)
    q = q * xp.sign(xp.diagonal(r))
    q = q if rows >= columns else q.T
    return _set(tensor, (q * gain).reshape(shape))


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator | None = None
) -> Tensor:
    """Normal, but only values in [a, b]: the inverse of its distribution function, at uniform places between those of a and b."""
    from ..ops.special import erfinv

    low, high = (math.erf((limit - mean) / (std * math.sqrt(2.0))) for limit in (a, b))
    dtype = np.float64 if tensor.dtype == np.float64 else np.float32
    uniform = generator_for(tensor.device, generator).uniform(tuple(tensor.shape), dtype) * (high - low) + low
    xp = ARRAY_MODULES[type(tensor.array)]
    return _set(tensor, xp.clip(erfinv(xp.asarray(uniform)) * (std * math.sqrt(2.0)) + mean, a, b))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation ``std``, but the fraction ``sparsity`` of every column of a matrix is 0 (Martens 2010)."""
    if tensor.ndim != 2:
        raise error(
            "TG-S002",
            op="sparse_",
            rule="(rows, columns)",
            shapes=tuple(tensor.shape),
            fix=("pass a matrix.", "行列を渡してください。"),
        )
    xp = ARRAY_MODULES[type(tensor.array)]
    stream = generator_for(tensor.device, generator)
    values = stream.normal(tuple(tensor.shape), tensor.dtype) * std
    order = xp.argsort(xp.argsort(stream.uniform(tuple(tensor.shape), np.float32), axis=0), axis=0)
    return _set(tensor, xp.where(order < math.ceil(sparsity * tensor.shape[0]), xp.zeros_like(values), values))
