"""Hypothesis strategies: a whole case of an operator, and a smaller dtype and memory layouts in which to run it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ..core.operator import Operator
from ..errors import error
from .case import Case, draw_case
from .pick import HypothesisChoices, Pick
from .trial import Trial, Variant, draw_variant


def picks() -> st.SearchStrategy[Pick]:
    """Strategy of a ``Pick``, for drawing with an operator's ``cases``."""

    @st.composite
    def pick(draw: Callable[[Any], Any]) -> Pick:
        return Pick(HypothesisChoices(draw))

    return pick()


def cases(operator: Operator) -> st.SearchStrategy[Case]:
    """Strategy of calls of an operator, by its own description."""

    @st.composite
    def case(draw: Callable[[Any], Any]) -> Case:
        return draw_case(operator, Pick(HypothesisChoices(draw)))

    return case()


def variants(case: Case) -> st.SearchStrategy[Variant]:
    """Strategy of a dtype and memory layouts for a case."""

    @st.composite
    def variant(draw: Callable[[Any], Any]) -> Variant:
        return draw_variant(case, Pick(HypothesisChoices(draw)))

    return variant()


def trials(operator: Operator) -> st.SearchStrategy[Trial]:
    """Strategy of cases that are ready for ``check_trial``."""

    @st.composite
    def trial(draw: Callable[[Any], Any]) -> Trial:
        case = draw(cases(operator))
        variant = draw(variants(case))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        try:
            with np.errstate(all="ignore"):
                return Trial(case, rng, variant)
        except Exception as failure:
            detail = f"it raised {type(failure).__name__}: {failure}"
            raise error("TG-V002", op=operator.name, check="value", case=case, detail=detail) from failure

    return trial()
