"""The catalogue of messages: complete in both languages, used, documented; and how errors are built from it."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
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


# ---- pairs and lists in a message


@pytest.mark.parametrize(
    ("language", "expected"), [("en", "it has no input. Fix: add one"), ("ja", "入力がありません。直し方: 足す")]
)
def test_a_pair_of_texts_is_replaced_by_the_one_of_the_language(
    language: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    made = errors.text("TG-R002", op="f", reason=("it has no input", "入力がありません"), fix=("add one", "足す"))
    assert made.endswith(expected)


def test_a_tuple_that_is_no_pair_of_texts_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    assert "(2, 3)" in errors.text("TG-G001", shape=(2, 3))


def test_joined_uses_the_word_of_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    assert errors.joined([(2, 3), (4,)]) == "(2, 3) and (4,)"
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    assert errors.joined([(2, 3), (4,)]) == "(2, 3) と (4,)"


def prose(message: str) -> str:
    """What is left of a message without its code-like parts: codes, quoted text, calls, names with dots or underscores, shapes."""
    for code in (
        r"\[TG-[A-Z]\d{3}\]",
        r"'[^']*'|`[^`]*`",
        r"[\w.]+\([^()]*\)",
        r"\([^()]*\)",
        r"\w+[._=]\S*",
        r"\w+ (?:[<>=]=?|!=) \S+",
    ):
        message = re.sub(code, " | ", message, flags=re.ASCII)
    return message


RUN_OF_ENGLISH = re.compile(r"\b[A-Za-z]{2,}[,;]? +[A-Za-z]{2,}\b", re.ASCII)

MISTAKES: dict[str, Callable[[Any], Any]] = {
    "broadcast": lambda x: x + tg.ones(5),
    "matmul": lambda x: x @ x,
    "bmm": lambda x: tg.bmm(x, x),
    "cat of other sizes": lambda x: tg.cat([x, tg.ones(5, 2)]),
    "cat without a list": lambda x: tg.cat(x, x),
    "stack of nothing": lambda x: tg.stack([]),
    "reshape": lambda x: x.reshape(5, 5),
    "expand": lambda x: x.expand(5, 5),
    "permute": lambda x: x.permute(0, 0),
    "flatten": lambda x: x.flatten(1, 0),
    "index": lambda x: x[7],
    "too many indices": lambda x: x[0, 0, 0],
    "mask": lambda x: x[tg.ones(4, 4) > 0],
    "gather": lambda x: x.gather(0, tg.tensor([0])),
    "float index": lambda x: tg.index_select(x, 0, x),
    "split": lambda x: tg.split(x, [5, 5]),
    "topk": lambda x: x.topk(9),
    "einsum": lambda x: tg.einsum("ij,jk", x),
    "softmax of another dim": lambda x: x.softmax(3),
    "class out of range": lambda x: tg.nn.functional.cross_entropy(x, tg.tensor([0, 9])),
    "target shape": lambda x: tg.nn.functional.cross_entropy(x, tg.tensor([0])),
    "reduction": lambda x: tg.nn.functional.mse_loss(x, x, reduction="all"),
    "dropout": lambda x: tg.nn.Dropout(2.0),
    "optimizer without parameters": lambda x: tg.optim.SGD([], lr=0.1),
    "optimizer over a result": lambda x: tg.optim.SGD([tg.ones(2, requires_grad=True) * 2], lr=0.1),
    "learning rate": lambda x: tg.optim.Adam([tg.ones(2, requires_grad=True)], lr=-1.0),
    "parameter replaced": lambda x: setattr(tg.nn.Linear(2, 3), "weight", 3),
    "state of an LSTM": lambda x: tg.nn.LSTM(3, 4)(tg.ones(2, 1, 3), x),
    "padding": lambda x: tg.nn.functional.pad(x, (1,)),
    "save": lambda x: tg.save({"model": tg.nn.Linear(2, 3)}, os.devnull),
    "backward of a matrix": lambda x: (x * tg.ones(2, 3, requires_grad=True)).backward(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_japanese_message_has_no_english_prose(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(errors.TinygradError) as caught:
        MISTAKES[mistake](tg.tensor(np.ones((2, 3), dtype=np.float32)))
    message = str(caught.value)
    assert "直し方: " in message
    assert not RUN_OF_ENGLISH.findall(prose(message)), message


def test_the_check_for_english_prose_finds_some() -> None:
    assert RUN_OF_ENGLISH.search(prose("規則: each dim appears once。直し方: x.sum() してください。"))


@pytest.mark.parametrize(
    ("mistake", "range_"),
    [
        (lambda x: x[7], "-2 to 1"),
        (lambda x: tg.nn.functional.cross_entropy(x, tg.tensor([0, 9])), "0 to 2"),
        (lambda x: tg.nn.functional.one_hot(tg.tensor([5]), 3), "0 to 2"),
        (lambda x: tg.nn.functional.embedding(tg.tensor([-1]), x), "0 to 1"),
    ],
)
def test_an_index_error_names_the_indices_that_are_allowed(
    mistake: Callable[[Any], Any], range_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    with pytest.raises(errors.AxisError, match=f"use an index from {range_}"):
        mistake(tg.ones(2, 3))


@pytest.mark.parametrize("join", [tg.cat, tg.stack])
def test_joining_without_a_list_is_refused_with_the_list_as_fix(
    join: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    with pytest.raises(errors.ArgumentError, match=rf"tg\.{join.__name__}\(\[a, b\]\)"):
        join(tg.ones(2), tg.ones(2))


def test_saving_a_module_names_the_state_dict_as_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    with pytest.raises(errors.ArgumentError, match=r"Fix: save model\.state_dict\(\)"):
        tg.save(tg.nn.Linear(2, 3), tmp_path / "model")


@pytest.mark.parametrize("name", ["float64", "int32", "bool"])
def test_to_takes_the_name_of_a_dtype(name: str) -> None:
    assert tg.ones(2).to(name).dtype == np.dtype(name)


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
