"""Reads the data out of a pickle without Python's ``pickle``: a small machine for the instructions that build dicts, lists, tuples,
numbers and strings. Nothing is imported or called, except what the caller lists by name.

Each instruction makes at most one object from bytes of its own, so neither time nor memory can grow out of proportion to the file
(protocol and opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from .files import Fault

_MOST_INSTRUCTIONS = 5_000_000  # a state_dict has about 30 for each tensor
_KEYS = (str, int, float, bool, type(None))  # hashing a tuple of tuples of ... may take for ever

_SAVE_THE_STATE = (
    "in PyTorch, save model.state_dict() and plain values; a whole model is code, which is not read.",
    "PyTorch で model.state_dict() と通常の値だけを保存してください。モデルそのものはコードなので読みません。",
)


class Function:
    """A name of the pickle that may be called, with plain values; ``make`` must not copy what it is given."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


def unpickle(data: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """The value that a pickle describes. Raises Fault for anything else than plain data.

    names: what ``"module name"`` stands for: a ``Function``, or a value. persistent: what a persistent id stands for.

    >>> import pickle
    >>> unpickle(pickle.dumps({"a": [1, 2.5, None], "b": (True, "c")}, protocol=2), {}, lambda key: key)
    {'a': [1, 2.5, None], 'b': (True, 'c')}
    """
    machine = _Machine(data, names, persistent)
    try:
        return machine.run()
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as failure:
        at = machine.position
        raise Fault(
            f"byte {at} of the pickle makes no sense ({type(failure).__name__}: {failure})",
            f"pickle の {at} バイト目が正しくありません ({type(failure).__name__}: {failure})",
        ) from failure


class _Machine:
    """A stack, a memo, and a mark for each tuple or list that is being collected."""

    def __init__(self, data: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any]) -> None:
        self.data, self.names, self.persistent = data, names, persistent
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the open marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(_MOST_INSTRUCTIONS):
            code = self.bytes(1)
            if code == b".":
                return self.stack.pop()
            if code not in _INSTRUCTIONS:
                raise Fault(
                    f"the pickle's instruction {code!r} builds no plain data",
                    f"pickle の命令 {code!r} は通常のデータを作りません",
                )
            _INSTRUCTIONS[code](self)
        raise Fault(
            f"the pickle has more than {_MOST_INSTRUCTIONS} instructions",
            f"pickle の命令が {_MOST_INSTRUCTIONS} 個を超えています",
        )

    # -- reading its bytes

    def bytes(self, count: int) -> bytes:
        """The next bytes of the pickle."""
        end = self.position + count
        if end > len(self.data):
            raise Fault(
                f"the pickle ends after {len(self.data)} bytes, too early", f"pickle が {len(self.data)} バイトで途切れています"
            )
        found = self.data[self.position : end]
        self.position = end
        return found

    def number(self, form: str) -> Any:
        """The next number, in ``struct``'s notation."""
        return struct.unpack(form, self.bytes(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The text up to the end of the line."""
        end = self.data.index(b"\n", self.position)
        found = self.bytes(end - self.position).decode()
        self.position += 1
        return found

    # -- values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_text(self, form: str) -> None:
        self.push(self.bytes(self.number(form)).decode(errors="surrogatepass"))

    def push_long(self) -> None:
        self.push(int.from_bytes(self.bytes(self.number("B")), "little", signed=True))

    def push_name(self, module: str, name: str) -> None:
        full = f"{module} {name}"
        if full not in self.names:
            shown = f"{module}.{name}"[:200]
            raise Fault(
                f"it holds {shown}, which is no plain data", f"通常のデータではない {shown} が入っています", _SAVE_THE_STATE
            )
        self.push(self.names[full])

    def push_stacked_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_name(module, name)

    # -- containers

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def push_tuple(self) -> None:
        items = tuple(self.since_mark())
        self.push(items)

    def push_short_tuple(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(items[::-1]))

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError("no list to append to")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError("no dict, or a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in _KEYS:
                raise TypeError(f"a key of type {type(key).__name__}")
            target[key] = value

    # -- memo, names

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Function) or type(arguments) is not tuple:
            raise TypeError("something is called that is no function")
        self.push(function.make(*arguments))

    def build(self) -> None:
        """An OrderedDict of PyTorch has attributes, the versions of the layers; nothing needs them."""
        attributes, target = self.stack.pop(), self.stack[-1]
        if type(target) is not dict or type(attributes) is not dict:
            raise Fault(
                "it holds an object with attributes, which is no plain data",
                "通常のデータではない、属性を持つオブジェクトが入っています",
                _SAVE_THE_STATE,
            )


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.bytes(1),  # protocol
    b"\x95": lambda m: m.bytes(8),  # frame
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")),
    b"\x8a": _Machine.push_long,
    b"G": lambda m: m.push(m.number(">d")),
    b"X": lambda m: m.push_text("<I"),
    b"\x8c": lambda m: m.push_text("<B"),
    b"(": _Machine.mark,
    b")": lambda m: m.push(()),
    b"t": _Machine.push_tuple,
    b"\x85": lambda m: m.push_short_tuple(1),
    b"\x86": lambda m: m.push_short_tuple(2),
    b"\x87": lambda m: m.push_short_tuple(3),
    b"]": lambda m: m.push([]),
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"}": lambda m: m.push({}),
    b"s": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"c": lambda m: m.push_name(m.line(), m.line()),
    b"\x93": _Machine.push_stacked_name,
    b"Q": lambda m: m.push(m.persistent(m.stack.pop())),
    b"R": _Machine.call,
    b"b": _Machine.build,
}
