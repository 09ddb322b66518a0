"""Wrong derivatives of single operators, as they are written by mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .graph import Edit, Step
from .words import Words, words

Rule = Callable[[Any, Any], Any]
"""φ'(x, y): the derivative from the input x and the output y."""


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _softmax_rest(axis: int, g: Any, y: Any) -> Any:
    return (g * y).sum(axis=axis, keepdims=True)


ACTIVATIONS: dict[str, tuple[Rule | None, str]] = {
    "tanh": (lambda x, y: 1 - y * y, "1 - y²"),
    "sigmoid": (lambda x, y: y * (1 - y), "y (1 - y)"),
    "relu": (lambda x, y: (y > 0) * 1.0, "x > 0"),
    "exp": (lambda x, y: y, "y"),
    "log": (lambda x, y: 1 / x, "1 / x"),
    "sqrt": (lambda x, y: 0.5 / y, "1 / (2 y)"),
    "rsqrt": (lambda x, y: -0.5 * y**3, "-y³ / 2"),
    "square": (lambda x, y: 2 * x, "2 x"),
    "reciprocal": (lambda x, y: -y * y, "-y²"),
    "softplus": (lambda x, y: _sigmoid(x), "σ(x)"),
    "logsigmoid": (lambda x, y: _sigmoid(-x), "σ(-x)"),
    "sin": (lambda x, y: np.cos(x), "cos x"),
    "cos": (lambda x, y: -np.sin(x), "-sin x"),
    "abs": (lambda x, y: np.sign(x), "sign x"),
    "leaky_relu": (None, ""),
    "elu": (None, ""),
    "gelu": (None, ""),
    "silu": (None, ""),
    "mish": (None, ""),
}
"""Operators whose derivative is a factor: its formula in x and y and how it is written; None where the rule has further arguments."""

_SQUASHING: dict[str, Rule] = {
    "1 - y²": lambda x, y: 1 - y * y,
    "y (1 - y)": lambda x, y: y * (1 - y),
    "1 - y": lambda x, y: 1 - y,
    "y": lambda x, y: y,
    "y²": lambda x, y: y * y,
    "1 - x²": lambda x, y: 1 - x * x,
    "x (1 - x)": lambda x, y: x * (1 - x),
    "1 + y²": lambda x, y: 1 + y * y,
    "y (1 + y)": lambda x, y: y * (1 + y),
    "1 - tanh²(y)": lambda x, y: 1 - np.tanh(y) ** 2,
    "σ(y) (1 - σ(y))": lambda x, y: _sigmoid(y) * (1 - _sigmoid(y)),
    "x > 0": lambda x, y: (x > 0) * 1.0,
}

_SLOPES: dict[str, Rule] = {
    **_SQUASHING,
    "x < 0": lambda x, y: (x < 0) * 1.0,
    "σ(x)": lambda x, y: _sigmoid(x),
    "y + σ(x)": lambda x, y: y + _sigmoid(x),
    "y + 1": lambda x, y: y + 1,
}

MISTAKES: dict[str, dict[str, Rule]] = {
    "tanh": _SQUASHING,
    "sigmoid": _SQUASHING,
    "relu": {**_SQUASHING, "x < 0": lambda x, y: (x < 0) * 1.0, "x": lambda x, y: x},
    "softplus": _SQUASHING,
    "leaky_relu": _SLOPES,
    "elu": _SLOPES,
    "gelu": _SLOPES,
    "silu": _SLOPES,
    "mish": _SLOPES,
    "exp": {"x": lambda x, y: x, "e^y": lambda x, y: np.exp(y)},
    "log": {"1 / y": lambda x, y: 1 / y, "x": lambda x, y: x},
    "sqrt": {"1 / y": lambda x, y: 1 / y, "1 / (2 x)": lambda x, y: 0.5 / x, "2 y": lambda x, y: 2 * y},
    "rsqrt": {"y³ / 2": lambda x, y: 0.5 * y**3, "-y³": lambda x, y: -(y**3)},
    "square": {"x": lambda x, y: x, "2 y": lambda x, y: 2 * y},
    "reciprocal": {"y²": lambda x, y: y * y, "-y": lambda x, y: -y},
}
"""What is written in place of the right factor."""


def wrong_activations(step: Step) -> Iterator[tuple[Words, float, Edit]]:
    """Derivatives of an activation that are forgotten or another's: text, rank, edit."""
    right, formula = ACTIVATIONS[step.operator]
    yield words("activation_missing", op=step.title, formula=formula, line=step.line), 0.0, lambda step, g, gx: g
    x, y = step.input_value(0), step.value
    if x is None:
        return
    with np.errstate(all="ignore"):
        true = None if right is None else right(x, y)
        for written, rule in MISTAKES.get(step.operator, {}).items():
            made = rule(x, y)
            if true is not None and np.allclose(made, true, equal_nan=True):
                continue
            text = words("activation_wrong", op=step.title, formula=formula, written=written, line=step.line)
            yield text, 0.5, _by_rule(rule)


def _by_rule(rule: Rule) -> Edit:
    def edit(step: Step, g: Any, gx: Any) -> Any:
        with np.errstate(all="ignore"):
            return g * rule(step.input_value(0), step.value)

    return edit


def wrong_rules(step: Step, k: int) -> Iterator[tuple[str, Words, float, Edit]]:
    """Wrong rules of the other operators for input ``k``: kind, text, rank, edit."""
    rules = _RULES.get(step.operator)
    if rules is not None:
        yield from rules(step, k)


Found = Iterator[tuple[str, Words, float, Edit]]


def _mul(step: Step, k: int) -> Found:
    if step.parents[0] is step.parents[1]:  # a square
        if k == 0:
            yield "scale", words("square_half", line=step.line), -0.5, lambda s, g, gx: 0 * gx
        return
    yield "factor", words("factor_missing", line=step.line, op=step.title), 0.0, lambda s, g, gx: g
    yield "factor", words("factor_own", line=step.line), 0.5, lambda s, g, gx: g * s.input_value(k)


def _div(step: Step, k: int) -> Found:
    if k == 0:
        constant = step.parents[1] is None
        key = "scale_missing" if constant else "factor_missing"
        kind = "scale" if constant else "factor"
        yield kind, words(key, line=step.line, op=step.title), 0.0, lambda s, g, gx: g
        yield kind, words("inverse", line=step.line), 0.5, lambda s, g, gx: _times(g, s.input_value(1))
        return
    yield "factor", words("power_missing", line=step.line), 0.0, lambda s, g, gx: gx * s.input_value(1)
    yield "factor", words("factor_missing", line=step.line, op=step.title), 0.1, lambda s, g, gx: -g / s.input_value(1) ** 2


def _times(g: Any, value: Any) -> Any:
    return g if value is None else g * value


def _product(step: Step, k: int) -> Found:
    """Matrix products A B: dA = g Bᵀ, dB = Aᵀ g."""
    a, b = step.input_value(0), step.input_value(1)
    g_shape = step.value.shape
    if a is None or b is None or np.ndim(a) < 2 or np.ndim(b) < 2:
        return
    t = _transposed
    forms: list[tuple[str, str, Callable[[Any, Any, Any], Any]]]
    if k == 0:
        forms = [
            ("transpose", "transpose_other", lambda g, a, b: g @ b),
            ("transpose", "transpose_gradient", lambda g, a, b: t(g) @ t(b)),
            ("factor", "factor_own", lambda g, a, b: g @ a),
            ("factor", "factor_own", lambda g, a, b: g @ t(a)),
        ]
    else:
        forms = [
            ("transpose", "transpose_other", lambda g, a, b: a @ g),
            ("transpose", "transpose_gradient", lambda g, a, b: t(a) @ t(g)),
            ("factor", "factor_own", lambda g, a, b: b @ g),
            ("factor", "factor_own", lambda g, a, b: t(b) @ g),
        ]
    wanted = np.shape(a if k == 0 else b)
    probe = np.zeros(g_shape)
    for kind, key, form in forms:
        try:
            fits = form(probe, np.zeros_like(a), np.zeros_like(b)).shape[-2:] == wanted[-2:]
        except ValueError:
            continue
        if fits:
            edit = _by_form(form)
            yield kind, words(key, line=step.line, op=step.title), 0.0 if kind == "transpose" else 0.5, edit


def _by_form(form: Callable[[Any, Any, Any], Any]) -> Edit:
    return lambda s, g, gx: form(g, s.input_value(0), s.input_value(1))


def _transposed(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _linear(step: Step, k: int) -> Found:
    """x Wᵀ + b: dx = g W, dW = gᵀ x, db = Σ g."""
    w = step.input_value(1)
    if k == 0 and w is not None and w.shape[0] == w.shape[1]:
        yield "transpose", words("transpose_other", line=step.line, op=step.title), 0.0, lambda s, g, gx: g @ s.input_value(1).T


def _softmax(step: Step, k: int) -> Found:
    axis = step.argument("dim")
    axis = -1 if axis is None else axis
    yield "term", words("softmax_sum", line=step.line), -0.3, lambda s, g, gx: g * s.value
    yield "term", words("softmax_diagonal", line=step.line), -0.2, lambda s, g, gx: g * s.value * (1 - s.value)
    yield "activation", words("softmax_missing", line=step.line), 0.0, lambda s, g, gx: g
    yield "factor", words("softmax_factor", line=step.line), 0.0, lambda s, g, gx: g - _softmax_rest(axis, g, s.value)
    for other in range(np.ndim(step.value)):
        if other != axis % np.ndim(step.value):
            edit = _on_axis(other)
            yield "term", words("softmax_axis", line=step.line, axis=other), 0.3, edit


def _on_axis(axis: int) -> Edit:
    return lambda s, g, gx: s.value * (g - _softmax_rest(axis, g, s.value))


def _log_softmax(step: Step, k: int) -> Found:
    axis = step.argument("dim")
    rest = _of_the_rest(-1 if axis is None else axis)
    yield "activation", words("softmax_missing", line=step.line), 0.0, lambda s, g, gx: g
    total = _plain_rest(-1 if axis is None else axis)
    yield "factor", words("log_softmax_factor", line=step.line), 0.0, lambda s, g, gx: g - total(g)
    yield "sign", words("log_softmax_sign", line=step.line), 0.0, lambda s, g, gx: -g + rest(s, g)
    yield "term", words("log_softmax_left", line=step.line), 0.0, lambda s, g, gx: rest(s, g)


def _plain_rest(axis: int) -> Callable[[Any], Any]:
    return lambda g: g.sum(axis=axis, keepdims=True)


def _of_the_rest(axis: int) -> Callable[[Step, Any], Any]:
    """-y Σ g, the second term in the derivative g - y Σ g of the logarithm of softmax."""
    return lambda s, g: -np.exp(s.value) * g.sum(axis=axis, keepdims=True)


def _pow(step: Step, k: int) -> Found:
    if k == 0:
        yield "scale", words("exponent_missing", line=step.line), 0.0, _without_exponent


def _without_exponent(step: Step, g: Any, gx: Any) -> Any:
    n = step.input_value(1)
    n = step.argument("exponent") if n is None else n
    return gx if n is None else gx / n


def _convolution(step: Step, k: int) -> Found:
    """dx[p + k] = Σ g[p] w[k], dw[k] = Σ g[p] x[p + k]: a wrong sign of k turns the kernel."""
    if k < 2:
        edit = _turned_weight if k else _by_turned_weight
        yield "transpose", words("kernel_turned", op=step.title, line=step.line), 0.0, edit


def _turned_weight(step: Step, g: Any, gx: Any) -> Any:
    return np.flip(gx, tuple(range(2, gx.ndim)))


def _by_turned_weight(step: Step, g: Any, gx: Any) -> Any:
    operator, saved = step.node.operator, list(step.node.saved or ())
    place = operator.saves.index("weight")
    saved[place] = np.ascontiguousarray(_turned_weight(step, g, saved[place]))
    return operator.backward(tuple(saved), step.node.parents, g)[0]


def _selection(step: Step, k: int) -> Found:
    numbers = [part for part in _as_tuple(step.argument("index")) if isinstance(part, np.ndarray)]
    if any(part.dtype.kind in "iu" and np.unique(part).size < part.size for part in numbers):
        yield "term", words("repeated_index", op=step.title, line=step.line), 0.0, _last_of_each_index


def _last_of_each_index(step: Step, g: Any, gx: Any) -> Any:
    made = np.zeros_like(gx)
    made[(slice(None),) * (step.argument("dim") or 0) + _as_tuple(step.argument("index"))] = g
    return made


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


_RULES: dict[str, Callable[[Step, int], Found]] = {
    "mul": _mul,
    "div": _div,
    "matmul": _product,
    "linear": _linear,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "pow": _pow,
    "convolution": _convolution,
    "index_select": _selection,
    "getitem": _selection,
}
