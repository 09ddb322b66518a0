"""``save`` and ``load`` of nested state in one safetensors file. Loading never runs code.

The arrays are tensors of the file, named by their path (``model.0.weight``), so that any program that reads safetensors sees the
weights. Everything else is one JSON text in its metadata, ``tree``, in which an object with a ``$`` stands for what JSON does not have:

    {"$tensor": [name, dtype, shape, CRC-32]}      {"$tuple": [...]}                      {"$dict": [[key, value], ...]}
    {"$float": "nan"}                              {"$int": "0x20000000000000"}           from 2^53 on

The checksums tell a file that was changed by a fault of the disk from one that was not.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import reprlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.arrays import is_array, usual_dtype
from ..backend.devices import Device, move, usable
from ..core.tensor import Tensor
from ..errors import refusal
from .files import Fault, opened
from .raw import CODES, host_array, plain_bytes
from .safetensors import read_arrays, read_header, write
from .strict_json import parse_json

KIND = "tinygrad_ja"
_DEEPEST = 100
_HEXADECIMAL = re.compile("-?0x[0-9a-f]+")
_REPR = reprlib.Repr()
_REPR.maxstring = 200
_EXACT_IN_JSON = 2**53  # other programs read integers beyond it as rounded floats


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write ``obj``, nested dicts, lists and tuples of Tensors, arrays, numbers, strings, bools and None, to ``path``.

    What shares memory is written once for each place. Raises ArgumentError for anything else (a dict key must be a str or an int); then the
    file at ``path`` is as it was.

    >>> import os, tempfile, tinygrad_ja as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> tg.save({"model": tg.nn.Linear(2, 1).state_dict(), "losses": [0.5, float("inf")]}, path)
    >>> tg.load(path)["losses"]
    [0.5, inf]
    >>> list(tg.io.load_safetensors(path))
    ['model.weight', 'model.bias']
    """
    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_pack(obj, arrays, ()), allow_nan=False, separators=(",", ":"))
    metadata = {"format": KIND, "version": "1", "tree": tree, "tree_crc32": f"{zlib.crc32(tree.encode()):08x}"}
    write(path, arrays, metadata)


def load(path: str | os.PathLike[str], device: str | Device | None = None) -> Any:
    """Read what ``save`` wrote: arrays come back as Tensors, everything else as it was.

    device: where the Tensors are to be, the CPU when None.
    Raises StateError that names the fault of a damaged or foreign file, FileNotFoundError for a missing one.
    """
    place = usable(Device(device or "cpu"))
    with opened(path, KIND) as (file, size):
        header = read_header(file, size)
        tree = _tree(header.metadata)
        arrays = dict(read_arrays(file, header))
        made = _unpack(tree, lambda described: Tensor(move(_taken(arrays, described), place)))
        if arrays:
            name = _short(next(iter(arrays)))
            raise Fault(f"the tree does not name tensor {name}", f"テンソル {name} が tree にありません")
        return made


def load_tree(path: str | os.PathLike[str]) -> Any:
    """What ``save`` wrote with None for each array: the header is read and nothing else. Raises as ``load`` does."""
    with opened(path, KIND) as (file, size):
        return _unpack(_tree(read_header(file, size).metadata), lambda described: None)


# -- writing


def _pack(value: Any, arrays: dict[str, np.ndarray], where: tuple[Any, ...]) -> Any:
    """The JSON of ``value``; its arrays go to ``arrays``."""
    if len(where) > _DEEPEST:
        raise unsaveable("save", where[:3], f"..., nested {len(where)} deep", f"... ({len(where)} 段の入れ子)")
    if type(value) is Tensor or is_array(value) or isinstance(value, np.generic):
        return {"$tensor": _put(value, arrays, where)}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < _EXACT_IN_JSON else {"$int": hex(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, (list, tuple)):
        items = [_pack(item, arrays, (*where, index)) for index, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if not isinstance(value, dict):
        raise unsaveable("save", where, f" of type {type(value).__name__}", f" (型 {type(value).__name__})")
    for key in value:
        if not isinstance(key, (str, int)):
            raise unsaveable("save", where, f" with the key {key!r}", f" (キー {key!r})")
    pairs = [(key, _pack(item, arrays, (*where, key))) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return dict(pairs)
    return {"$dict": [[_pack(key, arrays, where), item] for key, item in pairs]}


def _put(value: Any, arrays: dict[str, np.ndarray], where: tuple[Any, ...]) -> list[Any]:
    """Store one array under a name of its own; what the tree says about it."""
    path = ".".join(map(str, where)).encode(errors="backslashreplace").decode() or "value"
    names = itertools.chain([path], (f"{path}~{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in arrays and name != "__metadata__")
    array = arrays[name] = host_array("save", name, value)
    return _description(name, array)


def _description(name: str, array: np.ndarray) -> list[Any]:
    return [name, CODES[usual_dtype(array.dtype)], list(array.shape), zlib.crc32(plain_bytes(array))]


def place_of(where: tuple[Any, ...]) -> str:
    """How a user writes the place of a value in the state.

    >>> place_of(("model", 0))
    "state['model'][0]"
    """
    return "state" + "".join(f"[{key!r}]" for key in where)


def unsaveable(op: str, where: tuple[Any, ...], english: str, japanese: str) -> Exception:
    """The error for a value that cannot be saved; what it is follows its place."""
    place = place_of(where)
    rule = (
        "dict (keys str or int), list, tuple, Tensor, number, str, bool, None",
        "dict (キーは str か int)、list、tuple、Tensor、数、str、bool、None のどれか",
    )
    fix = ("save model.state_dict() and plain values instead.", "model.state_dict() と通常の値を保存してください。")
    return refusal(op, "obj", (place + english, place + japanese), rule, fix)


# -- reading


def _tree(metadata: dict[str, str]) -> Any:
    if metadata.get("format") != KIND or "tree" not in metadata:
        raise Fault(
            "it is a safetensors file of another program",
            "ほかのプログラムが書いた safetensors ファイルです",
            ("read its tensors with tg.io.load_safetensors.", "tg.io.load_safetensors でテンソルを読んでください。"),
        )
    if metadata.get("version") != "1":
        version = metadata.get("version", "-")[:50]
        raise Fault(f"its version is {version!r}, not '1'", f"版が '1' ではなく {version!r} です")
    text = metadata["tree"].encode(errors="surrogatepass")
    if metadata.get("tree_crc32") != f"{zlib.crc32(text):08x}":
        raise Fault("the tree does not have its checksum", "tree のチェックサムが合いません")
    return parse_json(text)


def _unpack(tree: Any, take: Callable[[Any], Any], depth: int = 0) -> Any:
    """The value of a tree; ``take`` turns the description of an array into the array."""
    if depth > _DEEPEST:
        raise Fault(f"the tree is nested more than {_DEEPEST} deep", f"tree の入れ子が {_DEEPEST} 段を超えています")
    if isinstance(tree, list):
        return [_unpack(item, take, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    mark = next((key for key in tree if key.startswith("$")), None)
    if mark is None:
        return {key: _unpack(item, take, depth + 1) for key, item in tree.items()}
    return _marked(mark, tree[mark], take, depth) if len(tree) == 1 else _no_tree(mark)


def _marked(mark: str, content: Any, take: Callable[[Any], Any], depth: int) -> Any:
    """What an object with a ``$`` stands for."""
    if mark == "$tensor":
        return take(content)
    if mark == "$tuple" and isinstance(content, list):
        return tuple([_unpack(item, take, depth + 1) for item in content])
    if mark == "$dict" and isinstance(content, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        return {_key(key, depth): _unpack(item, take, depth + 1) for key, item in content}
    if mark == "$float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if mark == "$int" and isinstance(content, str) and _HEXADECIMAL.fullmatch(content):
        return int(content, 16)
    return _no_tree(mark)


def _key(tree: Any, depth: int) -> Any:
    key = _unpack(tree, _no_tree, depth + 1)
    return key if isinstance(key, (str, int)) else _no_tree("$dict")


def _no_tree(mark: Any) -> Any:
    raise Fault(f"{_short(mark)} in the tree has no meaning", f"tree の {_short(mark)} に意味がありません")


def _short(value: Any) -> str:
    """A value of the file in a message, however large and deep it is."""
    return _REPR.repr(value)


def _taken(arrays: dict[str, np.ndarray], described: Any) -> np.ndarray:
    """Take out the array that the tree describes, if it is just that array."""
    name = described[0] if isinstance(described, list) and described else None
    if not isinstance(name, str) or name not in arrays:
        raise Fault(f"tensor {_short(name)} of the tree is not there", f"tree にあるテンソル {_short(name)} がありません")
    array = arrays.pop(name)
    if _description(name, array) != described:
        raise Fault(
            f"dtype, shape or checksum of tensor {_short(name)} is another than when it was written",
            f"テンソル {_short(name)} の dtype、形状、チェックサムのどれかが、書いたときと違います",
        )
    return array
