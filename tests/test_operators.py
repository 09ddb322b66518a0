"""Every registered operator passes every check of ``tinygrad_ja.testing.fuzz``.

A new operator is tested by being registered; one whose metadata does not say how to draw a case fails. The wide run is
``pytest tests/test_operators.py --examples 100``.
"""

from __future__ import annotations

import pytest

from tinygrad_ja.testing.fuzz import fuzz, operators_of_the_package

NAMES = [operator.name for operator in operators_of_the_package()]


@pytest.mark.parametrize("name", NAMES)
def test_operator_passes_every_check(name: str, examples: int) -> None:
    fuzz(name, examples=examples)
