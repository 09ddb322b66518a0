"""The page that lists every message: ``docs/errors.md`` and ``docs/ja/errors.md`` are what this writes.

python -m tinygrad_ja errors --lang en > docs/errors.md
python -m tinygrad_ja errors --lang ja > docs/ja/errors.md
"""

from __future__ import annotations

from .errors import CLASSES, Message, language
from .messages import MESSAGES

_TITLES = {
    "S": ("Shapes", "形状"),
    "T": ("Types and dtypes", "型と dtype"),
    "D": ("Devices", "デバイス"),
    "I": ("Axes and indices", "軸と添字"),
    "G": ("The tape", "テープ (勾配の記録)"),
    "A": ("Arguments", "引数"),
    "F": ("Files and state", "ファイルと状態"),
    "C": ("Configuration", "構成"),
    "P": ("Compiled functions", "コンパイルした関数"),
    "R": ("Registration of an operator", "演算の登録"),
    "U": ("Use of a Tensor", "Tensor の使い方"),
    "W": ("Workers of a DataLoader", "DataLoader のワーカー"),
    "V": ("Checks of tinygrad_ja.testing", "tinygrad_ja.testing の検査"),
}

_INTRODUCTION = (
    """# Messages

This page is written by `python -m tinygrad_ja errors --lang en`; a test checks that it is current.

Every message has a code, says what happened with the shapes, dtypes or devices at hand, and gives one fix. `{name}` stands for what is
filled in. The code is the same in English and in Japanese: set `TINYGRAD_JA_LANG=ja` (or `en`), otherwise the locale decides. All classes
are in `tinygrad_ja.errors` and derive from `TinygradError`; each is also one of Python's own, so `except ValueError` and the like work. The
code is in the exception's attribute `code`.
""",
    """# メッセージ一覧

このページは `python -m tinygrad_ja errors --lang ja` で作られます (最新かどうかはテストが確かめます)。

どのメッセージにもコードがあり、何が起きたかを実際の形状・dtype・デバイスとともに示し、直し方を 1 つ挙げます。`{name}` の部分には実際の値が
入ります。コードは英語でも日本語でも同じです。言語は `TINYGRAD_JA_LANG=ja` (または `en`) で選び、なければロケールに従います。例外のクラスは
すべて `tinygrad_ja.errors` にあり、`TinygradError` を継承しています。どれも Python 標準の例外の一種でもあるので、`except ValueError` などでも
捕まえられます。コードは例外の属性 `code` に入っています。
""",
)

_PRINTED = (
    "Printed by `python -m tinygrad_ja doctor` and the other command lines; never raised.",
    "`python -m tinygrad_ja doctor` などのコマンドが表示するもので、例外にはなりません。",
)
_RAISED = ("`{name}`, also {bases}.", "`{name}` ({bases} でもあります)。")


def page() -> str:
    """The page in the current language, as Markdown."""
    japanese = language() == "ja"
    parts = [_INTRODUCTION[japanese]]
    letters = dict.fromkeys(code[3] for code in MESSAGES)
    for letter in letters:
        parts.append(f"## {_TITLES[letter][japanese]}\n\n{_class_line(letter, japanese)}\n")
        parts += [_entry(code, Message(*MESSAGES[code])[japanese]) for code in MESSAGES if code[3] == letter]
    return "\n".join(parts)


def _class_line(letter: str, japanese: bool) -> str:
    kind = CLASSES.get(letter)
    if kind is None:
        return _PRINTED[japanese]
    bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__[1:])
    return _RAISED[japanese].format(name=kind.__name__, bases=bases)


def _entry(code: str, message: str) -> str:
    return f"### {code}\n\n```text\n{message}\n```\n"
