"""Mutants that are no mistakes: (operator, text of the mutant) -> the proof that its derivative is the right one all the same.

``python -m tinygrad_ja.testing.mutate`` accepts exactly these survivors, and says so when one of them no longer exists. Each file here has
the proofs of one family of operators in a table ``EQUIVALENT``.
"""

from __future__ import annotations

import importlib
import pkgutil

EQUIVALENT: dict[tuple[str, str], str] = {}
for _family in pkgutil.iter_modules(__path__):
    EQUIVALENT.update(importlib.import_module(f"{__name__}.{_family.name}").EQUIVALENT)
