"""The catalogue of messages: complete in both languages, used, documented; and how errors are built from it."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path

import pytest

from tinygrad_ja import errors
from tinygrad_ja.catalogue import page
from tinygrad_ja.messages import MESSAGES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path
    for folder in ("tinygrad_ja", "models", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "messages.py"
]
CODE = re.compile(r"TG-[A-Z]\d{3}")
PRINTED = "C"  # the letter of messages that are printed and never raised


def fields(template: str) -> set[str]:
    """Names of a template's placeholders, with their attributes, indices and formats."""
    return {
        f"{name}:{spec}!{conversion}" for _, name, spec, conversion in string.Formatter().parse(template) if name is not None
    }


class Anything:
    """Fills any placeholder: it has every attribute, takes every format and prints as a mark."""

    def __getattr__(self, name: str) -> Anything:
        return self

    def __format__(self, spec: str) -> str:
        return "□"

    def __str__(self) -> str:
        return "□"

    __repr__ = __str__


# ---- the entries


@pytest.mark.parametrize("code", MESSAGES)
def test_both_languages_have_the_same_placeholders(code: str) -> None:
    english, japanese = MESSAGES[code]
    assert fields(english) == fields(japanese)


@pytest.mark.parametrize("code", MESSAGES)
def test_the_japanese_text_is_japanese_and_the_english_is_not(code: str) -> None:
    english, japanese = MESSAGES[code]
    kana = re.compile("[\u3040-\u30ff]")
    assert kana.search(japanese)
    assert not kana.search(english)


@pytest.mark.parametrize("code", MESSAGES)
def test_every_message_gives_a_fix_in_both_languages(code: str) -> None:
    if code == "TG-C006":
        pytest.skip("a notice, nothing to mend")
    english, japanese = MESSAGES[code]
    assert "Fix: " in english
    assert "直し方: " in japanese


def test_codes_have_the_form_that_their_class_is_read_from() -> None:
    assert all(CODE.fullmatch(code) for code in MESSAGES)
    assert {code[3] for code in MESSAGES} == {*errors.CLASSES, PRINTED}


# ---- use


def test_every_code_in_the_source_is_in_the_catalogue() -> None:
    unknown = {
        code: path.name for path in SOURCES for code in CODE.findall(path.read_text(encoding="utf-8")) if code not in MESSAGES
    }
    assert not unknown


def test_every_entry_of_the_catalogue_is_used() -> None:
    used = {code for path in SOURCES for code in CODE.findall(path.read_text(encoding="utf-8"))}
    assert not set(MESSAGES) - used


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("code", [code for code in MESSAGES if code[3] != PRINTED])
def test_the_letter_of_a_code_decides_the_class(code: str, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    names = {name.partition(":")[0] for name in fields(MESSAGES[code][0])}
    failure = errors.error(code, **{name: Anything() for name in names})
    assert isinstance(failure, errors.CLASSES[code[3]])
    assert failure.code == code
    assert str(failure).startswith(f"[{code}] ")
    assert "{" not in str(failure).replace("{}", "")


@pytest.mark.parametrize(
    ("letter", "builtin"),
    [
        ("S", ValueError),
        ("T", TypeError),
        ("D", RuntimeError),
        ("I", IndexError),
        ("G", RuntimeError),
        ("A", ValueError),
        ("F", KeyError),
        ("R", TypeError),
        ("U", TypeError),
        ("V", AssertionError),
    ],
)
def test_each_class_is_one_of_pythons_own(letter: str, builtin: type[Exception]) -> None:
    assert issubclass(errors.CLASSES[letter], builtin)
    assert issubclass(errors.CLASSES[letter], errors.TinygradError)


# ---- the language


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en"),
        ({"TINYGRAD_JA_LANG": "ja"}, "ja"),
        ({"TINYGRAD_JA_LANG": "JA"}, "ja"),
        ({"TINYGRAD_JA_LANG": "fr"}, "en"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "TINYGRAD_JA_LANG": "en"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "TINYGRAD_JA_LANG": ""}, "ja"),
    ],
)
def test_the_language_is_the_variable_or_else_the_locale(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TINYGRAD_JA_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert errors.language() == expected


def test_a_program_can_change_the_language_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    english = str(errors.error("TG-G001", shape=(2,)))
    os.environ["TINYGRAD_JA_LANG"] = "ja"
    japanese = str(errors.error("TG-G001", shape=(2,)))
    assert english == f"[TG-G001] {MESSAGES['TG-G001'][0].format(shape=(2,))}"
    assert japanese == f"[TG-G001] {MESSAGES['TG-G001'][1].format(shape=(2,))}"


# ---- the page


@pytest.mark.parametrize(("language", "path"), [("en", "docs/errors.md"), ("ja", "docs/ja/errors.md")])
def test_the_page_of_messages_is_current(language: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    written = (ROOT / path).read_text(encoding="utf-8")
    assert written == page(), f"write it anew: python -m tinygrad_ja errors --lang {language} > {path}"


@pytest.mark.parametrize("path", ["docs/errors.md", "docs/ja/errors.md"])
def test_the_page_lists_every_code_once(path: str) -> None:
    headings = re.findall(r"^### (\S+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == sorted(headings, key=list(MESSAGES).index)
    assert set(headings) == set(MESSAGES)
