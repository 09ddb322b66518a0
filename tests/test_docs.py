"""Every example of the documentation runs: in the pages, in the README files, in the docstrings of modules and operators."""

from __future__ import annotations

import doctest
import importlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest

from tinygrad_ja.core.operator import OPERATORS

PAGES = sorted([*pages.ROOT.glob("README*.md"), *pages.ROOT.glob("docs/**/*.md")])
MODULES = sorted(
    ".".join(path.relative_to(pages.ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (pages.ROOT / "tinygrad_ja").rglob("*.py")
    if path.name != "__main__.py"
)


def relative(path: Path) -> str:
    return path.relative_to(pages.ROOT).as_posix()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """English, a folder of its own, another for temporary files, and no operator left behind."""
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))
    before = dict(OPERATORS)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "extending"], ids=relative)
def test_the_examples_of_a_page_run(page: Path) -> None:
    pages.run(page)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    # an operator's public function has a namespace of its own, so the finder takes it for something imported
    for operator in [operator for operator in OPERATORS.values() if operator.forward.__module__ == name]:
        found += doctest.DocTestFinder(exclude_empty=True).find(operator.forward, f"{name}.{operator.name}", module)
    for example in found:
        pages.compare(example, example.globs)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_and_pictures_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_has_its_counterpart_with_the_same_examples(page: Path) -> None:
    """English and Japanese pages differ in text and comments, not in what they run or show."""
    if page.stem.startswith("README"):
        other = page.with_name("README.md" if page.name == "README.ja.md" else "README.ja.md")
    else:
        docs = pages.ROOT / "docs"
        inside = page.relative_to(docs)
        other = docs / inside.relative_to("ja") if inside.parts[0] == "ja" else docs / "ja" / inside

    def code(path: Path) -> list[str]:
        return [re.sub(r'(#.*|""".*?""")', "", block.text) for block in pages.blocks(path)]

    assert code(page) == code(other)
    headings = [len(re.findall(r"^#+ ", path.read_text(encoding="utf-8"), re.MULTILINE)) for path in (page, other)]
    assert headings[0] == headings[1]
