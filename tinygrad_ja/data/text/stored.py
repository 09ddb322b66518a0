"""Vocabularies and the like in JSON files: written whole, read with every value checked, since the file may come from anyone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ...io.files import Fault, FilePath, opened, replacing, too_large
from ...io.strict_json import parse_json

LIMIT = 16 * 2**20
"""The most bytes that are read unless told otherwise. What Python makes of JSON takes up to twenty times as much memory."""


def write_json(path: FilePath, content: dict[str, Any]) -> None:
    """Write a JSON object in UTF-8 under a temporary name, then rename it."""
    with replacing(path, "w") as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False)


def read_json(path: FilePath, kind: str, version: str, build: Callable[[dict[str, Any]], Any], limit: int = LIMIT) -> Any:
    """``build(content)`` for the JSON object in a file whose entry ``format`` is ``version``. A ``Fault`` that it raises names the file.

    Raises StateError for a damaged or foreign file (TG-F005), or one above ``limit`` bytes (TG-F008); FileNotFoundError when it is missing.
    """
    with opened(path, kind) as (file, size):
        if size > limit:
            raise too_large(path, ("its size in bytes", "バイト数"), size, limit)
        content = parse_json(file.read(size))
        if not isinstance(content, dict) or content.get("format") != version:
            raise Fault(f"its format is not '{version}'", f"形式が '{version}' ではありません")
        return build(content)


def texts(content: dict[str, Any], name: str, unique: bool = True) -> list[str]:
    """A list of str under a name, none twice, each of which can be written in UTF-8; Fault for anything else."""
    found = content.get(name)
    if not isinstance(found, list) or not all([type(text) is str for text in found]):
        raise Fault(f"'{name}' is no list of texts", f"'{name}' が文字列のリストではありません")
    if unique and len(set(found)) != len(found):
        raise Fault(f"a text stands twice in '{name}'", f"'{name}' に同じ文字列が 2 度あります")
    if not writable(found):
        raise Fault(f"'{name}' has half a character", f"'{name}' に片方だけのサロゲートがあります")
    return found


def writable(found: list[str]) -> bool:
    """Whether all of these can be written in UTF-8: not half of a pair of surrogates."""
    try:
        "".join(found).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
