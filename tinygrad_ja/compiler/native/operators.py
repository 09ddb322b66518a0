"""Operators that have machine code of their own although a program calls them as they are: convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.operator import Operator
from ..program import Instruction
from .code import F32
from .conv_weight import weight_gradient
from .convolution import correlation
from .launches import Launch, Unsupported
from .pooling import from_taps, window_max
from .products import products

Arrays = Sequence[np.ndarray]
Write = Callable[[dict[str, Any], Arrays], list[Launch]]


def supported(instruction: Instruction) -> bool:
    """Whether ``launches`` may have machine code for a call; for some layouts of its arrays it has none all the same."""
    name = _name(instruction)
    if name not in _WRITE or any([0 in a.shape for a in (*instruction.inputs, *instruction.outputs)]):
        return False
    arguments = instruction.options["run"].arguments
    if instruction.inputs[0].dtype != F32:
        return False
    if "windows" in arguments:
        return len(arguments["windows"]) <= 2
    return arguments["groups"] == 1 and len(arguments["stride"]) <= 2 and all([a.dtype == F32 for a in instruction.inputs])


def launches(instruction: Instruction, inputs: Arrays, outputs: Arrays) -> list[Launch]:
    """The launches of a call. Raises Unsupported."""
    if not supported(instruction):
        raise Unsupported("")
    write = _WRITE[_name(instruction)]
    arguments = instruction.options["run"].arguments
    given = {name: inputs[part.place] if hasattr(part, "place") else part for name, part in arguments.items()}
    return write(given, outputs)


def _name(instruction: Instruction) -> str:
    """The operator that a call runs; "" for a backward."""
    mark = getattr(instruction.options.get("run"), "mark", None)
    return mark.name if isinstance(mark, Operator) else ""


def _convolution(given: dict[str, Any], outputs: Arrays, transposed: bool = False) -> list[Launch]:
    (out,) = outputs
    x, w, bias, geometry = given["input"], given["weight"], given["bias"], _geometry(given)
    small, large = (x, out) if transposed else (out, x)
    if bias is None and _is_product(large, w, small, *geometry):
        flat = _rows(w)
        return products(_rows(x), flat if transposed else flat.T, _rows(out))
    return correlation(transposed, x, w, bias, out, *geometry)


def _conv_transpose(given: dict[str, Any], outputs: Arrays) -> list[Launch]:
    return _convolution(given, outputs, transposed=True)


def _conv_weight(given: dict[str, Any], outputs: Arrays) -> list[Launch]:
    (out,) = outputs
    x, g, geometry = given["input"], given["other"], _geometry(given)
    if _is_product(x, out, g, *geometry):
        return products(_rows(g).T, _rows(x), _rows(out))
    return weight_gradient(x, g, out, *geometry)


def _geometry(given: dict[str, Any]) -> tuple[Any, Any, Any]:
    return given["stride"], given["before"], given["dilation"]


def _is_product(x: np.ndarray, w: np.ndarray, y: np.ndarray, stride: Any, before: Any, dilation: Any) -> bool:
    """Whether each image has one output, which reads all of it."""
    return math.prod(y.shape[2:]) == 1 and x.shape[2:] == w.shape[2:] and not any(before) and set(dilation) == {1}


def _rows(array: np.ndarray) -> np.ndarray:
    """(N, ...) as a matrix with N rows, in the same memory."""
    made = array.reshape(len(array), -1)
    if not np.may_share_memory(made, array):
        raise Unsupported("an array that does not lie in order")
    return made


def _window_max(given: dict[str, Any], outputs: Arrays) -> list[Launch]:
    return window_max(given["input"], given["windows"], outputs[0], outputs[1:])


def _from_taps(given: dict[str, Any], outputs: Arrays) -> list[Launch]:
    (out,) = outputs
    return from_taps(given["input"], given["taps"], given["windows"], out)


_WRITE: dict[str, Write] = {
    "convolution": _convolution,
    "conv_transpose": _conv_transpose,
    "conv_weight": _conv_weight,
    "window_max": _window_max,
    "from_taps": _from_taps,
}
