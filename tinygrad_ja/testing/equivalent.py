"""Mutants that are no mistakes: (operator, text of the mutant) -> the proof that its derivative is the right one all the same.

``python -m tinygrad_ja.testing.mutate`` accepts exactly these survivors, and says so when one of them no longer exists.
"""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str], str] = {}
