"""Every message of the framework, in English and Japanese, from one catalogue.

A message says what happened, shows the shapes, dtypes or devices, and gives one concrete fix. The code (``TG-S001``) is the same
in both languages and is listed in ``docs/errors.md``. Japanese is used when ``TINYGRAD_JA_LANG=ja``, or when that variable is not set
and the locale is Japanese.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from .messages import MESSAGES

Phrase = str | tuple[str, str]
"""A part of a message: one text for both languages, or a pair ``(English, Japanese)``."""


class TinygradError(Exception):
    """Base of every error that the framework raises on purpose. ``code`` is the entry of the catalogue."""

    code: str = ""


class ShapeError(TinygradError, ValueError, RuntimeError):
    """Shapes do not fit the rule of the operator."""


class DtypeError(TinygradError, TypeError, RuntimeError):
    """A dtype, or the type of an argument, does not fit."""


class DeviceError(TinygradError, RuntimeError):
    """Devices are mixed, or a device cannot be used."""


class AxisError(TinygradError, IndexError, ValueError):
    """An axis or an index is outside of its range."""


class GradientError(TinygradError, RuntimeError):
    """The tape cannot do what was asked: a second backward, a changed leaf, a non-scalar root."""


class ArgumentError(TinygradError, ValueError):
    """The value of an argument is not allowed."""


class LinAlgError(ArgumentError, RuntimeError):
    """A matrix is singular, or not positive definite, or its decomposition does not converge."""


class StateError(TinygradError, KeyError, RuntimeError):
    """A state_dict or a checkpoint does not fit the model, or a file is damaged."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0]) if self.args else ""


class RegistrationError(TinygradError, TypeError):
    """The definition of an operator is not valid."""


class UsageError(TinygradError, TypeError):
    """A Tensor is used where it cannot be."""


class CompileError(UsageError):
    """A function cannot be compiled as it is."""


class WorkerError(TinygradError, RuntimeError):
    """A worker of a DataLoader ended, or did not answer in time."""


class VerificationError(TinygradError, AssertionError, RuntimeError):
    """A check of ``tinygrad_ja.testing`` found a fault."""


class MissingAttributeError(UsageError, AttributeError):
    """A Module has no such attribute, parameter, buffer or submodule."""


class MissingForwardError(UsageError, NotImplementedError):
    """A Module was called that has no ``forward``."""


class MissingMethodError(UsageError, NotImplementedError):
    """A class does not define a method that its base class needs."""


_SPECIAL: dict[str, type[TinygradError]] = {
    "TG-A004": LinAlgError,
    "TG-U010": MissingAttributeError,
    "TG-U011": MissingAttributeError,
    "TG-U013": MissingForwardError,
    "TG-U014": MissingAttributeError,
    "TG-U018": MissingMethodError,
}

CLASSES: dict[str, type[TinygradError]] = {
    "S": ShapeError,
    "T": DtypeError,
    "D": DeviceError,
    "I": AxisError,
    "G": GradientError,
    "A": ArgumentError,
    "F": StateError,
    "R": RegistrationError,
    "P": CompileError,
    "U": UsageError,
    "V": VerificationError,
    "W": WorkerError,
}


class Message(NamedTuple):
    """One entry of the catalogue."""

    en: str
    ja: str


def language() -> str:
    """``"ja"`` or ``"en"``: the language of messages, read anew each time so that a program can change it.

    >>> import os; os.environ["TINYGRAD_JA_LANG"] = "en"
    >>> language()
    'en'
    """
    chosen = os.environ.get("TINYGRAD_JA_LANG")
    if chosen:
        return "ja" if chosen.lower().startswith("ja") else "en"
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return "ja" if value.lower().startswith("ja") else "en"
    return "en"


def text(code: str, **fields: Any) -> str:
    """The message of ``code`` in the current language, with its fields filled in.

    A field that is a tuple of two str, ``(English, Japanese)``, is filled in with the one of the current language.

    >>> import os; os.environ["TINYGRAD_JA_LANG"] = "en"
    >>> text("TG-R002", op="f", reason=("it has no input", "入力がありません"), fix=("add one.", "加えてください。"))
    "operator 'f': it has no input. Fix: add one."
    """
    japanese = language() == "ja"
    chosen = {name: value[japanese] if _is_pair(value) else value for name, value in fields.items()}
    return MESSAGES[code][japanese].format(**chosen)


def _is_pair(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is str and type(value[1]) is str


def joined(values: Iterable[Any]) -> str:
    """Shapes, dtypes or devices in one phrase of the current language.

    >>> import os; os.environ["TINYGRAD_JA_LANG"] = "en"
    >>> joined([(2, 3), (4,)])
    '(2, 3) and (4,)'
    """
    return (" と " if language() == "ja" else " and ").join(str(value) for value in values)


def error(code: str, **fields: Any) -> TinygradError:
    """Build the exception of ``code``; the letter after ``TG-`` decides its class.

    >>> type(error("TG-G001", shape=(2,))).__name__
    'GradientError'
    """
    failure = _SPECIAL.get(code, CLASSES[code[3]])(f"[{code}] {text(code, **fields)}")
    failure.code = code
    return failure


def refusal(
    op: str, argument: Phrase, value: Any, rule: Phrase, fix: Phrase = ("check the setting.", "設定を確かめてください。")
) -> TinygradError:
    """The ArgumentError for a value that is not allowed (TG-A001). rule: which values are. fix: what to pass instead."""
    return error("TG-A001", op=op, argument=argument, value=value, rule=rule, fix=fix)


def one_of(op: str, argument: str, value: Any, allowed: Iterable[str]) -> Any:
    """``value`` when it is one of ``allowed``; raises ArgumentError for any other.

    >>> one_of("Pad", "padding_mode", "edge", ("constant", "edge"))
    'edge'
    """
    names = list(allowed)
    if value not in names:
        rule = (f"one of {', '.join(names)}", f"{'、'.join(names)} のどれか")
        fix = (f"for instance {argument}='{names[0]}'.", f"たとえば {argument}='{names[0]}' としてください。")
        raise refusal(op, argument, repr(value), rule, fix)
    return value
