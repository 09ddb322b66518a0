"""What an operator costs, from the shapes of its arrays: multiplications, floating-point operations, bytes.

Products count two floating-point operations for each multiplication, since an addition goes with it. Every other operator counts one for
each element and function: ``tanh`` of n elements counts n, a sum over n elements n, softmax (maximum, subtraction, exponential, sum,
division) 5 n. What only moves elements counts none. Bytes are those of the arrays that are read and made; a view moves none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..backend.arrays import BY_TYPE
from ..core.operator import Operator
from ..core.tensor import Tensor


class Cost(NamedTuple):
    """Floating-point operations, and bytes read and written."""

    flops: int = 0
    nbytes: int = 0


def _einsum(y: Any, *operands: Any, equation: str) -> int:
    """Two operands at a time from the left, as the operator does: each pair multiplies once for every setting of its indices. An index
    that only one of the two has, and nobody later, is summed away before."""
    inputs, _, out = equation.partition("->")
    terms = inputs.split(",")
    size = {i: n for term, operand in zip(terms, operands) for i, n in zip(term, operand.shape)}
    total, left = 0, set(terms[0])
    for position, term in enumerate(terms[1:], start=1):
        right, later = set(term), set(out).union(*terms[position + 1 :])
        met = (left & right) | ((left | right) & later)
        total += math.prod(size[i] for i in met)
        left = (left | right) & later
    return total


def _products(*weights: Any) -> int:
    """Multiplications of one row by each of the matrices."""
    return sum(weight.size for weight in weights)


MULTIPLICATIONS: dict[str, Callable[..., int]] = {
    "matmul": lambda y, input, other: y.size * input.shape[-1],
    "matmul_nt": lambda y, input, other: y.size * input.shape[-1],
    "matmul_tn": lambda y, input, other: y.size * input.shape[-2],
    "linear": lambda y, input, weight, bias=None: y.size * weight.shape[-1],
    "einsum": _einsum,
    "convolution": lambda y, input, weight, *rest: y.size * math.prod(weight.shape[1:]),
    "conv_transpose": lambda y, input, weight, *rest: input.size * math.prod(weight.shape[1:]),
    "attention": lambda y, query, key, value, *rest: (
        math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    ),
    "rnn_step": lambda y, gates, hx, w_hh, *rest, **options: gates.shape[0] * _products(w_hh),
    "lstm_step": lambda y, gates, hx, cx, w_hh, *rest: gates.shape[0] * _products(w_hh),
    "gru_step": lambda y, gates, hx, w_hh, *rest, **options: gates.shape[0] * _products(w_hh),
    "rnn_cell": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "lstm_cell": lambda y, x, hx, cx, w_ih, w_hh, *rest: x.shape[0] * _products(w_ih, w_hh),
    "gru_cell": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "rnn_layer": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "lstm_layer": lambda y, x, hx, cx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "gru_layer": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
}
"""Operator -> its multiplications (each with an addition: MACs), from its output and the arguments of its kernel. Those by zeros that
pad an image count; products of one element with one other, as in normalisation or between gates, do not."""

FACTORS = {
    "einsum": None,
    "attention": 3,
    "rnn_cell": 4,
    "lstm_cell": 5,
    "gru_cell": 4,
    "rnn_layer": 4,
    "lstm_layer": 5,
    "gru_layer": 4,
}
"""Operator -> how many of its first inputs are factors of its products; None: all. Others have two."""

MOVES = frozenset(
    "keep to_device clone alias expand reshape transpose permute unfold diagonal embed_diagonal tril triu cat split stack unbind getitem "
    "zero_at index_select gather scatter_zeros from_triangle place flip roll as_strided pull pad_constant boundary shift middle cast "
    "reduce_precision index_put".split()
)
"""Operators that move elements and compute nothing."""

PER_ELEMENT = {
    "softmax": 5,
    "log_softmax": 6,
    "softmax_backward": 4,
    "log_softmax_backward": 4,
    "cross_entropy": 6,
    "logsumexp": 5,
    "layer_norm": 8,
    "group_norm": 8,
    "batch_norm": 8,
    "rms_norm": 5,
    "scale_shift": 2,
    "sigmoid": 3,
    "silu": 4,
    "gelu": 5,
    "mish": 5,
    "softplus": 4,
    "logsigmoid": 4,
    "var": 4,
    "std": 4,
    "mse_loss": 3,
    "l1_loss": 3,
    "smooth_l1": 5,
    "huber": 5,
    "bce": 6,
    "bce_logits": 7,
    "lerp": 3,
    "addcmul": 3,
    "addcdiv": 3,
    "norm": 2,
}
"""Operator -> functions that it computes for each element; every other computes one."""

PASSES = {"SGD": 2, "Adam": 5, "AdamW": 5, "RMSprop": 5, "Adagrad": 5}
"""Optimizer -> functions for each element of an array of its state."""

_ROWS = frozenset({"getitem", "index_select", "gather"})


def multiplications(name: str, y: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    """Multiplications of an operator's products; 0 for an operator without products."""
    formula = MULTIPLICATIONS.get(name)
    return 0 if formula is None else formula(y, *args, **kwargs)


def forward_cost(name: str, y: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Cost:
    """The cost of a forward, from what its kernel took and gave.

    >>> import numpy as np
    >>> a, b = np.ones((2, 3), np.float32), np.ones((3, 5), np.float32)
    >>> forward_cost("matmul", a @ b, (a, b), {})
    Cost(flops=60, nbytes=124)
    >>> forward_cost("reshape", a.reshape(6), (a, (6,)), {})
    Cost(flops=0, nbytes=0)
    """
    inputs, made = arrays(args), arrays(y)
    if kwargs:
        inputs += arrays(tuple(kwargs.values()))
    if name in MOVES:
        if all([_is_view(x, inputs) for x in made]):
            return Cost(0, 0)
        read = inputs[1:] + made if name in _ROWS else inputs  # the rows that are copied, and their indices
        return Cost(0, _nbytes(read) + _nbytes(made))
    formula = MULTIPLICATIONS.get(name)
    if formula is not None:
        flops = 2 * formula(y, *args, **kwargs)
    else:
        flops = PER_ELEMENT.get(name, 1) * _largest(inputs, made)
    return Cost(flops, _nbytes(inputs) + _nbytes(made))


def backward_cost(operator: Operator, saved: Any, parents: Sequence[Any], g: Any, gradients: Any) -> Cost:
    """The cost of a backward. Each gradient of a factor costs as many multiplications as the product of two factors did; other operators
    count what they count in their forward, once for each gradient. Passing a gradient on costs nothing."""
    name, incoming, made = operator.name, arrays(g), arrays(gradients)
    if all(_is_view(x, incoming) for x in made):
        return Cost()
    if name in MULTIPLICATIONS:
        count = FACTORS.get(name, 2) or len(gradients)
        wanted = sum(gradient is not None for gradient in gradients[:count])
        flops = 2 * _multiplied(operator, saved, parents, g) * wanted * 2 // count
    else:
        flops = 0 if name in MOVES else PER_ELEMENT.get(name, 1) * _largest(incoming, made) * len(made)
    read = incoming if name in MOVES else [*incoming, *arrays(saved)]
    return Cost(flops, _nbytes(read) + _nbytes(made))


def _multiplied(operator: Operator, saved: Any, parents: Sequence[Any], g: Any) -> int:
    """Multiplications of the forward, from what its node knows: shapes of inputs with gradients, saved values of others."""
    kept = dict(zip(operator.saves, saved))
    if operator.variadic:
        inputs = list(kept.get(operator.variadic) or parents)
    else:
        inputs = [kept.get(name) if parent is None else parent for name, parent in zip(operator.inputs, parents)]
    shapes = [None if x is None else _Shape(x.shape) for x in inputs]
    try:
        return multiplications(operator.name, g, shapes, {"equation": kept["equation"]} if operator.name == "einsum" else {})
    except (AttributeError, IndexError, KeyError):
        return 0


class _Shape:
    """An array of which only the shape is known."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.size = math.prod(shape)


def update_cost(name: str, p: Any, g: Any, state: dict[str, Any]) -> Cost:
    """The cost of an optimizer's update of one parameter: scaling and subtracting, and for each array of its state about as many passes as
    its rule has. It reads the gradient, and reads and writes parameter and state."""
    moments = [x for x in state.values() if getattr(x, "shape", ()) == p.shape]
    flops = p.size * (2 + PASSES.get(name, 5) * len(moments))
    return Cost(flops, g.nbytes + 2 * (p.nbytes + _nbytes(moments)))


def arrays(value: Any) -> list[Any]:
    """The arrays in a value: itself, or those in tuples and lists, Tensors unwrapped."""
    kind = type(value)
    if kind in BY_TYPE:
        return [value]
    if kind is not tuple and kind is not list:
        return [value.array] if kind is Tensor else [value] if hasattr(value, "nbytes") else []
    made = []
    for part in value:
        kind = type(part)
        if kind in BY_TYPE:
            made.append(part)
        elif kind is tuple or kind is list or kind is Tensor:
            made += arrays(part)
    return made


def _largest(inputs: Sequence[Any], made: Sequence[Any]) -> int:
    """Elements of the largest array."""
    return max([x.size for x in inputs] + [x.size for x in made], default=0)


def _is_view(array: Any, inputs: Sequence[Any]) -> bool:
    """Whether an array shows elements of one of the inputs."""
    owner = _owner(array)
    return any(owner is _owner(x) for x in inputs)


def _owner(array: Any) -> Any:
    """What holds the elements of an array."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def _nbytes(values: Sequence[Any]) -> int:
    """Bytes of several arrays, each counted once."""
    total = 0
    for index, x in enumerate(values):
        if index == 0 or not any([x is other for other in values[:index]]):
            total += _stored(x)
    return total


def _stored(array: Any) -> int:
    """Bytes of the elements of an array, those that it repeats counted once."""
    strides = getattr(array, "strides", None)
    if not strides or 0 not in strides:
        return array.nbytes
    return array.dtype.itemsize * math.prod(n for n, stride in zip(array.shape, strides) if stride)
