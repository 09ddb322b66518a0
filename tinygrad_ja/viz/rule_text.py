"""The text of a derivative, as it stands in the source: what a learner should read beside the numbers that it gives."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any

from ..core.operator import Operator


def rules_of(operator: Any) -> list[tuple[str, str]]:
    """Pairs of an input's name and the text of its derivative; one pair named "" where one text serves all inputs.

    >>> import tinygrad_ja as tg
    >>> rules_of(tg.tanh.operator)
    [('input', 'lambda g, y: g - g * (y * y)')]
    """
    if not isinstance(operator, Operator):  # a checkpoint, which has none
        return []
    derivatives = operator.own_derivatives
    if operator.kind == "fused" and derivatives[0] is None:
        return [("", text_of(operator.reference))]
    if operator.joint:
        return [("", text_of(derivatives[0]))]
    return [(name, text_of(derivative)) for name, derivative in zip(operator.inputs, derivatives) if derivative is not None]


@functools.lru_cache(maxsize=1024)
def text_of(function: Callable[..., Any] | None) -> str:
    """The source of a function: of a lambda the lambda alone, and where there is no source, its signature.

    >>> double = eval("lambda g: g * 2")
    >>> text_of(double)
    'lambda g: ...'
    """
    if function is None:
        return ""
    operator = getattr(function, "operator", None)
    if operator is not None:
        return operator.name
    try:
        if getattr(function, "__name__", "") != "<lambda>":
            return textwrap.dedent(inspect.getsource(function)).rstrip()
        found = _lambda_text(function.__code__)
    except (OSError, TypeError, SyntaxError):
        found = None
    if found is not None:
        return found
    return f"lambda {', '.join(inspect.signature(function).parameters)}: ..."


def _lambda_text(code: CodeType) -> str | None:
    source, lambdas = _lambdas_of(code.co_filename)
    names = list(code.co_varnames[: code.co_argcount])
    at_line = [node for node in lambdas if node.lineno == code.co_firstlineno and [a.arg for a in node.args.args] == names]
    if not at_line:
        return None
    same = [node for node in at_line if _same_code(node, code)]
    text = ast.get_source_segment(source, (same or at_line)[0])
    return None if text is None else " ".join(text.split())


@functools.lru_cache(maxsize=128)
def _lambdas_of(filename: str) -> tuple[str, list[ast.Lambda]]:
    source = "".join(linecache.getlines(filename))
    return source, [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Lambda)]


def _same_code(node: ast.Lambda, code: CodeType) -> bool:
    """Whether a lambda of the source compiles to this code; tells several on one line apart."""
    made = compile(ast.Expression(node), "<lambda>", "eval").co_consts
    return any(
        [isinstance(part, CodeType) and part.co_code == code.co_code and part.co_names == code.co_names for part in made]
    )
