"""``docs/extending.md``: an operator from outside of the package gets the CPU, the GPU, every order and the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.errors import VerificationError
from tinygrad_ja.testing import fuzz, gradcheck, gradgradcheck

PAGES = [pages.ROOT / "docs" / "extending.md", pages.ROOT / "docs" / "ja" / "extending.md"]


@pytest.fixture(params=PAGES, ids=["en", "ja"])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A page, in English, with every operator taken away again that it registers."""
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    before = dict(OPERATORS)
    yield request.param
    OPERATORS.clear()
    OPERATORS.update(before)


@pytest.fixture
def names(page: Path) -> dict[str, Any]:
    """What the page defines when all of its blocks have run."""
    return pages.run(page)


def test_the_operator_takes_about_ten_lines(page: Path) -> None:
    lines = [line for line in next(pages.blocks(page)).text.splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_page_defines_an_operator_of_each_kind(names: dict[str, Any]) -> None:
    kinds = {name: names[name].operator.kind for name in ("squareplus", "row_dot", "reverse", "square_error")}
    assert kinds == {"squareplus": "elementwise", "row_dot": "primitive", "reverse": "linear", "square_error": "fused"}


def test_the_operator_agrees_with_its_formula_in_every_dtype(names: dict[str, Any]) -> None:
    for dtype, tolerance in ((np.float16, 2e-3), (np.float32, 1e-6), (np.float64, 1e-14)):
        x = np.linspace(-3, 3, 7).astype(dtype)
        y = names["squareplus"](x, 2.0)
        assert y.dtype == dtype
        wide = x.astype(np.float64)
        np.testing.assert_allclose(y, (wide + np.sqrt(wide**2 + 2)) / 2, rtol=tolerance)


def test_the_operators_pass_the_gradient_checks(names: dict[str, Any]) -> None:
    x = tg.tensor([[0.3, -1.2, 0.9]], dtype=tg.float64, requires_grad=True)
    w = tg.tensor([[1.1, 0.4, -0.7]], dtype=tg.float64, requires_grad=True)
    assert gradcheck(names["squareplus"], (x,))
    assert gradgradcheck(names["squareplus"], (x,))
    assert gradcheck(names["row_dot"], (x, w))
    assert gradgradcheck(names["row_dot"], (x, w))


def test_second_derivatives_of_a_fused_operator_come_from_its_reference(names: dict[str, Any]) -> None:
    x = tg.tensor([1.0, -2.0], requires_grad=True)
    target = tg.tensor([0.5, 0.5])
    (first,) = tg.grad(names["square_error"](x, target), x, create_graph=True)
    (second,) = tg.grad(first.sum(), x)
    assert first.tolist() == [0.5, -2.5]
    assert second.tolist() == [1.0, 1.0]


def test_a_wrong_derivative_is_found_and_named(names: dict[str, Any]) -> None:
    with pytest.raises(VerificationError, match="wrong_exp"):
        fuzz(names["wrong_exp"])


@pytest.mark.gpu
def test_the_operator_runs_on_the_gpu(names: dict[str, Any]) -> None:
    x = tg.tensor([-1.5, 0.0, 1.5], requires_grad=True)
    y = names["squareplus"](x.to("cuda"))
    assert y.is_cuda
    y.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), [0.2, 0.5, 0.8], rtol=1e-6)
