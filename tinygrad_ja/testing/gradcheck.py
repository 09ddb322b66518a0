"""``gradcheck`` and ``gradgradcheck``: every element of a Jacobian against central differences (``torch.autograd``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import BY_TYPE
from ..core.tensor import Tensor
from ..core.transforms import grad
from ..errors import VerificationError, error


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the Jacobian of ``fn`` by the tape with central differences of step ``eps``.

    fn: function of ``inputs`` that returns a Tensor or a tuple of Tensors; it must return the same for the same inputs.
    inputs: a Tensor or a tuple; those that require gradients (float64, or the differences are too coarse) are checked, others
    are passed on.
    Returns True when ``|analytic - numeric| <= atol + rtol * |numeric|`` everywhere. Otherwise raises VerificationError that
    names the worst element of the first input that is wrong, or returns False with ``raise_exception=False``.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([0.5, -1.0], dtype=tg.float64, requires_grad=True)
    >>> gradcheck(lambda x: x * x, (x,))
    True
    """
    try:
        _compare("gradcheck", fn, inputs, eps, atol, rtol)
    except VerificationError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """The same for the gradient of ``fn``: its derivatives by the inputs and by ``grad_outputs`` (random by default).

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([0.5, -1.0], dtype=tg.float64, requires_grad=True)
    >>> gradgradcheck(lambda x: x * x * x, (x,))
    True
    """
    given = _tuple(inputs)
    checked = _checked("gradgradcheck", given)
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        ys = [y for y in _tuple(fn(*given)) if y.node is not None]
        grad_outputs = [_like(y, rng.uniform(-1, 1, y.shape)) for y in ys]
    cotangents = [u if u.requires_grad else Tensor(u.array).requires_grad_() for u in _tuple(grad_outputs)]

    def gradient(*args: Any) -> tuple[Tensor, ...]:
        xs, us = args[: len(given)], args[len(given) :]
        ys = [y for y in _tuple(fn(*xs)) if y.node is not None]
        wanted = [xs[i] for i in checked]
        made = grad(ys, wanted, us, create_graph=True, allow_unused=True)
        return tuple(g for g in made if g is not None)

    try:
        _compare("gradgradcheck", gradient, (*given, *cotangents), eps, atol, rtol)
    except VerificationError:
        if raise_exception:
            raise
        return False
    return True


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _like(y: Tensor, values: Any) -> Tensor:
    backend = BY_TYPE[type(y.array)]
    return Tensor(backend.from_host(np.asarray(values, y.dtype), backend.index_of(y.array)))


def _host(x: Tensor) -> np.ndarray:
    return np.array(BY_TYPE[type(x.array)].to_host(x.array), np.float64)


def _checked(function: str, inputs: Sequence[Any]) -> list[int]:
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.node is not None]
    if not checked:
        raise error("TG-V004", function=function)
    return checked


def _compare(function: str, fn: Callable[..., Any], inputs: Any, eps: float, atol: float, rtol: float) -> None:
    given = list(_tuple(inputs))
    for index in _checked(function, given):
        numeric = _numeric_jacobians(fn, given, index, eps)
        analytic = _analytic_jacobians(fn, given, index)
        for output, (a, n) in enumerate(zip(analytic, numeric)):
            excess = np.abs(a - n) - (atol + rtol * np.abs(n))
            excess = np.where(np.isnan(excess), np.inf, excess)
            if excess.size and excess.max() > 0:
                worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), a.shape))
                split = a.ndim - given[index].ndim
                raise error(
                    "TG-V001",
                    function=function,
                    output=output,
                    at=worst[:split],
                    input=index,
                    position=worst[split:],
                    analytic=float(a[worst]),
                    numeric=float(n[worst]),
                    step=eps,
                )


def _numeric_jacobians(fn: Callable[..., Any], inputs: list[Any], index: int, eps: float) -> list[np.ndarray]:
    """For each output an array of shape ``output.shape + input.shape``."""
    x = inputs[index]
    host = _host(x)

    def at(place: tuple[int, ...], step: float) -> list[np.ndarray]:
        moved = host.copy()
        moved[place] += step
        shifted = list(inputs)
        shifted[index] = _like(x, moved).requires_grad_()
        return [_host(y) for y in _outputs(fn, shifted)]

    ys = _outputs(fn, inputs)
    made = [np.zeros(tuple(y.shape) + tuple(x.shape)) for y in ys]
    for place in np.ndindex(*x.shape):
        for jacobian, above, below in zip(made, at(place, eps), at(place, -eps)):
            where: tuple[Any, ...] = (..., *place)
            jacobian[where] = (above - below) / (2 * eps)
    return made


def _outputs(fn: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    return [y for y in _tuple(fn(*inputs)) if y.dtype.kind == "f"]


def _analytic_jacobians(fn: Callable[..., Any], inputs: list[Any], index: int) -> list[np.ndarray]:
    x = inputs[index]
    ys = _outputs(fn, inputs)
    made = [np.zeros(tuple(y.shape) + tuple(x.shape)) for y in ys]
    for jacobian, y in zip(made, ys):
        if y.node is None:
            continue
        for place in np.ndindex(*y.shape):
            unit = np.zeros(y.shape)
            unit[place] = 1.0
            (g,) = grad(y, x, _like(y, unit), retain_graph=True, allow_unused=True)
            if g is not None:
                jacobian[place] = _host(g)
    return made
