"""Making tensors: from Python and NumPy data, filled, ranges and random numbers. Names, arguments and defaults are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import BACKENDS, BY_TYPE, as_array, is_array, usual_dtype
from ..backend.devices import Device, device_of, get_default_device, get_default_dtype, move, usable
from ..backend.random import Generator, generator_for
from ..core.modes import modes
from ..core.tensor import Tensor
from ..errors import error
from .methods import attach

__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "bernoulli",
    "empty",
    "empty_like",
    "eye",
    "fill",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "logspace",
    "multinomial",
    "normal",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "tensor",
    "zeros",
    "zeros_like",
]


def _first_element(data: Any) -> Any:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _plain(data: Any) -> Any:
    """Nested lists with the Tensors in them turned into lists."""
    if type(data) is Tensor:
        return data.tolist()
    return [_plain(item) for item in data] if isinstance(data, (list, tuple)) else data


def _host_array(data: Any, dtype: Any) -> np.ndarray:
    first = _first_element(data)
    if type(first) is Tensor:
        dtype = first.dtype if dtype is None else dtype
        data = _plain(data)
    try:
        array = np.array(data, dtype=dtype)
    except (ValueError, TypeError) as failure:
        raise error("TG-T005", op="tensor", inputs=type(data).__name__, reason=failure) from failure
    if array.dtype.kind not in "buif":
        raise error(
            "TG-T004",
            op="tensor",
            dtype=array.dtype,
            allowed=("bool, an integer or a floating dtype", "bool、整数、浮動小数点のどれかの dtype"),
            fix="tg.float32",
        )
    usual = usual_dtype(array.dtype)
    if array.dtype is not usual:
        array = array.astype(usual)
    if dtype is None and array.dtype == np.float64 and not isinstance(first, (np.ndarray, np.generic)):
        return array.astype(get_default_dtype())
    return array


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new Tensor that copies ``data``: a number, nested lists, an array or a Tensor.

    Python floats become the default dtype (float32), ints int64, bools bool; arrays keep their dtype.
    Raises DtypeError for data that is not numeric or for lists of unequal length.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if type(data) is Tensor:
        data = data.array
    if is_array(data) and type(data) is not np.ndarray:
        array = data.copy() if dtype is None else data.astype(dtype)
        place = device_of(data) if device is None else Device(device)
    else:
        array = _host_array(data, dtype)
        place = _place(device)
        if modes.recording is not None and type(data) is np.ndarray and place.type == "cpu":
            # its elements may be others when the program runs
            array = modes.recording.capture(data).astype(array.dtype).copy()
    made = Tensor(move(array, place))
    return made.requires_grad_() if requires_grad else made


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Like ``tensor``, but shares memory with an array, and returns a Tensor itself, when nothing has to change."""
    if type(data) is Tensor:
        return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    if is_array(data) and data.dtype.kind in "buif" and data.dtype.isnative and (dtype is None or data.dtype == dtype):
        usual = usual_dtype(data.dtype)
        data = data if data.dtype is usual else data.view(usual)
        return Tensor(data if device is None else move(data, usable(Device(device))))
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A CPU Tensor that shares the memory of a NumPy array.

    Raises DtypeError for anything but an array, and for a dtype that is not numeric or not of this machine's byte order.
    """
    if not isinstance(ndarray, np.ndarray):
        raise error("TG-T002", op="from_numpy", argument="ndarray", type=type(ndarray).__name__)
    if ndarray.dtype.kind not in "buif" or not ndarray.dtype.isnative:
        raise error(
            "TG-T004",
            op="from_numpy",
            dtype=ndarray.dtype.str,
            allowed=("a native bool, integer or float", "このマシンのバイト順の bool、整数、浮動小数点"),
            fix="tg.float32",
        )
    usual = usual_dtype(ndarray.dtype)
    return Tensor(np.asarray(ndarray if ndarray.dtype is usual else ndarray.view(usual)))


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A Tensor that shares the memory of any object that speaks DLPack: a PyTorch tensor, a NumPy or CuPy array."""
    kind = ext_tensor.__dlpack_device__()[0]
    xp = np if int(kind) == 1 else BACKENDS[usable(Device("cuda")).type].xp
    return Tensor(xp.from_dlpack(ext_tensor))


def _place(device: Any) -> Device:
    return get_default_device() if device is None else usable(Device(device))


def _size(size: tuple[Any, ...]) -> tuple[int, ...]:
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    return tuple(int(n) for n in size)


def _made(array: Any, place: Device, requires_grad: bool) -> Tensor:
    made = Tensor(array)
    return made.requires_grad_() if requires_grad else made


def _filled(size: tuple[int, ...], value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    place = _place(device)
    if any(n < 0 for n in size):
        raise error(
            "TG-A001",
            op="full",
            argument="size",
            value=size,
            rule=("no size is negative", "大きさはどれも負でないこと"),
            fix=("use sizes of 0 or more.", "0 以上の大きさにしてください。"),
        )
    host = np.full(size, value, dtype=dtype)
    return _made(move(host, place), place, requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of shape ``size``, given as ints or as one tuple.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3).shape
    (2, 3)
    """
    return _filled(_size(size), 0, dtype or get_default_dtype(), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of shape ``size``."""
    return _filled(_size(size), 1, dtype or get_default_dtype(), device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of shape ``size`` whose values are arbitrary (zeros here)."""
    return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)


def full(size: Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere; its Python type decides the dtype: bool, int64 or the default float."""
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    if dtype is None:
        dtype = bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else get_default_dtype()
    return _filled(_size(tuple(size)), value, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix, zeros elsewhere."""
    place = _place(device)
    return _made(move(np.eye(n, m, dtype=dtype or get_default_dtype()), place), place, requires_grad)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``start, start + step, ...`` below ``end``; int64 when all arguments are ints, else the default float.

    >>> import tinygrad_ja as tg
    >>> tg.arange(3)
    tensor([0, 1, 2])
    """
    if end is None:
        start, end = 0, start
    whole = all(isinstance(value, (int, np.integer)) for value in (start, end, step))
    dtype = dtype or (np.int64 if whole else get_default_dtype())
    place = _place(device)
    return _made(move(np.arange(start, end, step).astype(dtype), place), place, requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included."""
    place = _place(device)
    host = np.linspace(start, end, steps).astype(dtype or get_default_dtype())
    return _made(move(host, place), place, requires_grad)


def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``base ** x`` for ``steps`` evenly spaced x from ``start`` to ``end``."""
    place = _place(device)
    host = np.logspace(start, end, steps, base=base).astype(dtype or get_default_dtype())
    return _made(move(host, place), place, requires_grad)


# ---- random --------------------------------------------------------------------------------------


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    place = _place(device)
    return _made(generator_for(place, generator).uniform(_size(size), dtype or get_default_dtype()), place, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal numbers."""
    place = _place(device)
    return _made(generator_for(place, generator).normal(_size(size), dtype or get_default_dtype()), place, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Integers, ``low <= n < high``; ``randint(high, size)`` starts at 0. int64 unless ``dtype`` says otherwise."""
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise error(
            "TG-A001",
            op="randint",
            argument="high",
            value=high,
            rule=(f"low < high (low is {low})", f"low < high (low は {low})"),
            fix=("raise high.", "high を大きくしてください。"),
        )
    place = _place(device)
    return _made(generator_for(place, generator).integers(low, high, _size((size,)), dtype or np.int64), place, requires_grad)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """A random order of 0 .. n-1, int64."""
    place = _place(device)
    return Tensor(generator_for(place, generator).permutation(n).astype(dtype or np.int64))


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, **options: Any) -> Tensor:
    """Normal numbers of that mean and standard deviation; either may be a Tensor, whose shape is then the result's."""
    given = next((x for x in (mean, std) if type(x) is Tensor), None)
    shape = _size((size,)) if size is not None else np.broadcast_shapes(*[tuple(getattr(x, "shape", ())) for x in (mean, std)])
    if given is not None:
        options = {"dtype": given.dtype, "device": given.device, **options}
    return mean + std * randn(shape, generator=generator, **options)


def _raw(value: Any) -> Any:
    return value.array if type(value) is Tensor else value


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with probability ``input`` (or ``p``) for each element, else 0; the dtype of ``input``.

    Raises ArgumentError for no probabilities; those of a GPU are not looked at, for that would wait."""
    chance = input.array if p is None else p
    xp = BY_TYPE[type(input.array)].xp
    if (p is not None or xp is np) and not np.all((chance >= 0) & (chance <= 1)):
        raise error(
            "TG-A001",
            op="bernoulli",
            argument="input" if p is None else "p",
            value="..." if p is None else p,
            rule="0 <= p <= 1",
            fix=("pass probabilities.", "確率を渡してください。"),
        )
    drawn = generator_for(input.device, generator).uniform(tuple(input.shape), np.float64)
    return Tensor(xp.asarray(drawn < chance).astype(input.dtype))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
    """``num_samples`` indices per row of ``input``, (K,) or (N, K), drawn with probability proportional to the entries. int64.

    Without replacement: the largest of E/p for exponential E are a sample without replacement (Efraimidis and Spirakis 2006).
    Raises ArgumentError for negative weights, for a row of zeros, and for more samples than non-zero weights without replacement.
    """
    weights = input.array.astype(np.float64)
    xp = BY_TYPE[type(input.array)].xp
    enough = xp.count_nonzero(weights, axis=-1).min() >= (1 if replacement else num_samples) if weights.size else False
    if not bool(enough) or bool((weights < 0).any()) or not bool(xp.isfinite(weights).all()):
        rule = (
            "weights are finite, not negative, and enough of them are not zero",
            "重みは有限かつ 0 以上で、0 でないものが十分にあること",
        )
        raise error(
            "TG-A001",
            op="multinomial",
            argument="num_samples",
            value=num_samples,
            rule=rule,
            fix=("check the weights.", "重みを確かめてください。"),
        )
    stream = generator_for(input.device, generator)
    if replacement:
        total = xp.cumsum(weights, axis=-1)
        drawn = stream.uniform((*weights.shape[:-1], num_samples), np.float64) * total[..., -1:]
        picked = (drawn[..., :, None] >= total[..., None, :]).sum(axis=-1)
        return Tensor(as_array(xp.minimum(picked, weights.shape[-1] - 1).astype(np.int64)))
    uniform = stream.uniform(weights.shape, np.float64)
    keys = -xp.log1p(-uniform) / xp.where(weights > 0, weights, 1.0)
    keys = xp.where(weights > 0, keys, math.inf)
    return Tensor(xp.argsort(keys, axis=-1)[..., :num_samples].astype(np.int64))


# ---- like another tensor -------------------------------------------------------------------------


def _like(input: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    chosen = {"dtype": input.dtype, "device": input.device}
    chosen.update({key: value for key, value in options.items() if value is not None})
    return chosen


def zeros_like(input: Tensor, **options: Any) -> Tensor:
    """Zeros of the shape, dtype and device of ``input``."""
    if not is_array(input) and not options:
        return Tensor(BY_TYPE[type(input.array)].xp.zeros_like(input.array))
    if is_array(input):  # in the text of a derivative, read on raw arrays
        return BY_TYPE[type(input)].xp.zeros_like(input)
    return zeros(input.shape, **_like(input, options))


def ones_like(input: Tensor, **options: Any) -> Tensor:
    """Ones of the shape, dtype and device of ``input``."""
    if is_array(input):
        return BY_TYPE[type(input)].xp.ones_like(input)
    return ones(input.shape, **_like(input, options))


def empty_like(input: Tensor, **options: Any) -> Tensor:
    """A tensor like ``input`` whose values are arbitrary."""
    return zeros_like(input, **options)


def full_like(input: Tensor, fill_value: Any, **options: Any) -> Tensor:
    """``fill_value`` everywhere, with the shape, dtype and device of ``input``."""
    return full(input.shape, fill_value, **_like(input, options))


def rand_like(input: Tensor, **options: Any) -> Tensor:
    """Uniform numbers in [0, 1), like ``input``."""
    return rand(input.shape, **_like(input, options))


def randn_like(input: Tensor, **options: Any) -> Tensor:
    """Standard normal numbers, like ``input``."""
    return randn(input.shape, **_like(input, options))


def randint_like(input: Tensor, low: int, high: int | None = None, **options: Any) -> Tensor:
    """Integers, ``low <= n < high``, like ``input``."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.shape, **_like(input, options))


def _new(make: Any) -> Any:
    def method(self: Tensor, *args: Any, **options: Any) -> Tensor:
        return make(*args, **_like(self, options))

    return method


def _random_in_place(draw: Any) -> Any:
    def method(self: Tensor, *args: Any, generator: Generator | None = None, **kwargs: Any) -> Tensor:
        stream = generator_for(self.device, generator)
        return self._assign(Tensor(draw(self, stream, *args, **kwargs).astype(self.dtype, copy=False)))

    return method


def _uniform(x: Tensor, stream: Generator, a: float = 0.0, b: float = 1.0) -> Any:
    return as_array(stream.uniform(tuple(x.shape), x.dtype) * (b - a) + a)


def _normal(x: Tensor, stream: Generator, mean: float = 0.0, std: float = 1.0) -> Any:
    return as_array(stream.normal(tuple(x.shape), x.dtype) * std + mean)


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the shape, dtype and device of ``input`` with ``value``, a number or a 0-d Tensor, everywhere."""
    if type(value) is Tensor and value.node is not None:
        return zeros_like(input) + value.to(dtype=input.dtype)
    return Tensor(BY_TYPE[type(input.array)].xp.full_like(input.array, _raw(value)))


def _set_to(self: Tensor, value: Any) -> Tensor:
    """``value`` everywhere, in place."""
    return self._assign(fill(self, value))


def _zero(self: Tensor) -> Tensor:
    """Every element 0, in place."""
    return _set_to(self, 0)


def _copy(self: Tensor, src: Tensor) -> Tensor:
    """The values of ``src``, broadcast, cast and moved to this tensor, in place."""
    value = src.to(device=self.device, dtype=self.dtype)
    value = value.clone() if value is src else value  # a leaf may change in place later
    return self._assign(value if value.shape == self.shape else value.expand(*self.shape))


attach(
    bernoulli,
    fill,
    multinomial,
    new_zeros=_new(zeros),
    new_ones=_new(ones),
    new_empty=_new(empty),
    new_full=_new(full),
    new_tensor=_new(tensor),
    uniform_=_random_in_place(_uniform),
    normal_=_random_in_place(_normal),
    fill_=_set_to,
    zero_=_zero,
    copy_=_copy,
)
