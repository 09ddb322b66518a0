"""Tests for operators that are written once and hold for every operator.

``gradcheck`` and ``gradgradcheck`` compare derivatives of a function with finite differences (PyTorch's names); ``fuzz`` runs
every check on cases that an operator describes itself; ``Pick`` is what such a description draws with.
``tinygrad_ja.testing.strict`` is a stand-in for CuPy that needs no GPU; ``python -m tinygrad_ja.testing.mutate`` plants wrong
derivatives and counts how many are found.
"""

from ..errors import VerificationError
from .fuzz import check_case, fuzz
from .gradcheck import gradcheck, gradgradcheck
from .pick import Pick

__all__ = ["Pick", "VerificationError", "check_case", "fuzz", "gradcheck", "gradgradcheck"]
