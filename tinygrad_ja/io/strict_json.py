"""JSON from strangers: one text in UTF-8, no name twice in an object, only numbers that JSON has and Python holds, read in a time that is in
proportion to its length."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from .files import Fault

_DIGITS = 40  # of an integer: Python takes a time that grows with the square


def parse_json(text: bytes) -> Any:
    """What a JSON text says. Raises Fault for anything else: also for a name that comes twice, NaN, infinity, a float that is too large, an
    integer of more than 40 digits and deep nesting.

    >>> parse_json(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    try:
        return json.loads(
            text.decode(), object_pairs_hook=_object, parse_int=_integer, parse_float=_finite, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as failure:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Fault(f"the JSON text is not valid: {failure}", f"JSON が正しくありません: {failure}") from failure


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:_DIGITS])


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
