"""``save`` and ``load`` of nested state: a zip of plain arrays (NumPy's ``.npz``) and one JSON text. Loading never runs code.

A file is written beside its place under a temporary name, flushed to the disk and then renamed: whoever looks sees the old file or
the whole new one.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from ..backend.arrays import BY_TYPE, is_array
from ..core.tensor import Tensor
from ..errors import Phrase, error

_FORMAT = "tinygrad_ja-1"


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write ``obj``, nested dicts, lists and tuples of Tensors, arrays, numbers, strings, bools and None, to ``path``.

    Raises ArgumentError for anything else (a dict key must be a str or an int); then the file at ``path`` is as it was.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _pack(obj, arrays, "state")
    header = np.frombuffer(json.dumps({"format": _FORMAT, "tree": tree}).encode(), dtype=np.uint8)
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **{"header": header, **arrays})  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def load(path: str | os.PathLike[str]) -> Any:
    """Read what ``save`` wrote: arrays come back as CPU Tensors, tuples and lists as they were.

    Raises StateError for a damaged or foreign file, FileNotFoundError for a missing one.
    """
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]).decode())
            if header.get("format") != _FORMAT:
                raise ValueError(f"format {header.get('format')!r}, expected {_FORMAT!r}")
            arrays = {name: archive[name] for name in archive.files if name != "header"}
            return _unpack(header["tree"], arrays)
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        BadZipFile,
        NotImplementedError,
    ) as failure:
        raise error("TG-F002", path=path, reason=f"{type(failure).__name__}: {failure}") from failure


def _pack(value: Any, arrays: dict[str, np.ndarray], where: str) -> Any:
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, np.generic)):
        return {"value": value}
    if type(value) is Tensor or is_array(value) or isinstance(value, np.generic):
        name = f"a{len(arrays)}"
        raw = value.array if type(value) is Tensor else np.asarray(value) if isinstance(value, np.generic) else value
        arrays[name] = BY_TYPE[type(raw)].to_host(raw)
        return {"tensor": name}
    if isinstance(value, dict):
        items = []
        for key, item in value.items():
            if not isinstance(key, (str, int)):
                raise _refusal((f"{where} with the key {key!r}", f"{where} (キー {key!r})"))
            items.append([key, _pack(item, arrays, f"{where}[{key!r}]")])
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        items = [_pack(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    kind = type(value).__name__
    raise _refusal((f"{where} of type {kind}", f"{where} (型 {kind})"))


def _refusal(what: Phrase) -> Exception:
    rule = (
        "dict (keys str or int), list, tuple, Tensor, number, str, bool, None",
        "dict (キーは str か int)、list、tuple、Tensor、数、str、bool、None のどれか",
    )
    fix = ("save model.state_dict() and plain values instead.", "model.state_dict() と通常の値を保存してください。")
    return error("TG-A001", op="save", argument="obj", value=what, rule=rule, fix=fix)


def _unpack(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    ((kind, value),) = tree.items()
    if kind == "value":
        return value
    if kind == "tensor":
        return Tensor(arrays[value])
    if kind == "dict":
        return {key: _unpack(item, arrays) for key, item in value}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(_unpack(item, arrays) for item in value)
    raise ValueError(f"unknown entry {kind!r}")
