"""Changes of bytes that readers trip over: cut files, wrong lengths, huge numbers, deep nesting, names that come twice.

A change is a function ``(data, draw, words) -> data``: ``draw`` makes every decision, so that a seed gives the same file everywhere, and
``words`` are texts that mean something in the format. After the dictionaries and deterministic stages of AFL
(https://lcamtuf.coredump.cx/afl/technical_details.txt).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

Change = Callable[[bytes, Random, Sequence[bytes]], bytes]
Order = Literal["little", "big"]

LARGEST = 1 << 21
"""The most bytes of a changed file."""

_WIDTHS = (1, 2, 4, 8)
_ORDERS: tuple[Order, Order] = ("little", "big")
_POWERS = (0, 1, 7, 8, 15, 16, 24, 31, 32, 40, 48, 62, 63, 64)
_EDGES = sorted({(1 << power) + step for power in _POWERS for step in (-1, 0, 1)})


def cut(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """The end is missing."""
    return data[: draw.randint(0, len(data))]


def extend(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """Something follows."""
    return data + draw.choice([b"\0", b"\n", draw.randbytes(draw.randint(1, 40)), data])


def flip(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """One bit in a few places."""
    made = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
    return bytes(made)


def set_byte(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """Another byte."""
    at = draw.randrange(len(data))
    return data[:at] + bytes([draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])]) + data[at + 1 :]


def set_number(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """Another binary number of 1, 2, 4 or 8 bytes: one at the edge of what fits, or a neighbour of the old one."""
    return _with_number(data, draw, draw.randrange(len(data)), draw.choice(_WIDTHS), draw.choice(_ORDERS))


def set_length(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """Another number where the old one could be a length: not 0, and no larger than the file."""
    width, order = draw.choice(_WIDTHS[1:]), draw.choice(_ORDERS)
    likely = [
        at for at in range(min(len(data), 4096) - width + 1) if 0 < int.from_bytes(data[at : at + width], order) <= len(data)
    ]
    return _with_number(data, draw, draw.choice(likely), width, order) if likely else set_number(data, draw, words)


def delete(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A piece is missing."""
    start, end = _span(data, draw)
    return data[:start] + data[end:]


def repeat(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A piece comes twice, or very often."""
    start, end = _span(data, draw)
    return data[:start] + data[start:end] * draw.choice([2, 2, 3, 100, 10_000]) + data[end:]


def swap(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """Two neighbouring pieces change places."""
    start, middle, end = sorted([draw.randint(0, len(data)) for _ in range(3)])
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def fill(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A piece is blank, as after a fault of the disk."""
    start, end = _span(data, draw)
    return data[:start] + draw.choice([b"\0", b"\xff", b" "]) * (end - start) + data[end:]


def insert(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A word of the format, or a few bytes, where they do not belong."""
    at = draw.randint(0, len(data))
    return data[:at] + _some(draw, words) + data[at:]


def overwrite(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A word of the format, or a few bytes, over others."""
    at, word = draw.randint(0, len(data)), _some(draw, words)
    return data[:at] + word + data[at + len(word) :]


# -- text


_NUMBERS = [
    *[
        b"0",
        b"-1",
        b"00",
        b"1.5",
        b"-0.0",
        b"1e999",
        b"1e-999",
        b"NaN",
        b"Infinity",
        b"0x10",
        b"1_0",
        b"+1",
        b"",
        b"true",
        b"null",
    ],
    *[str(value).encode() for value in _EDGES if value >= 1 << 31],
    *[b"9" * 50, b"9" * 5_000, b"1" + b"0" * 100_000, b"0." + b"3" * 20_000],
]
_NOT_UTF8 = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe3\x81",
    b"\xef\xbb\xbf",
    b"\0",
    b"\xe2\x80\xa8",
    b"\x85",
]
_BRACKETS = [
    *[(b"[", b"]"), (b"(", b")"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"(;", b")")],
    *[(b'{"$tuple":[', b"]}"), (b'{"$dict":[[', b",1]]}")],
]
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_TOKEN = re.compile(rb'"[^"]{0,99}"|<[^>]{1,99}>|\w+|[^\w\s]')


def set_digits(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A number written in digits becomes a huge one, a negative one or none."""
    start, end = _found(_NUMBER, data, draw)
    return data[:start] + draw.choice(_NUMBERS) + data[end:]


def nest(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A token lies deep in brackets; often they are never closed."""
    start, end = _found(_TOKEN, data, draw)
    opening, closing = draw.choice(_BRACKETS)
    depth = draw.choice([1, 2, 20, 90, 101, 300, draw.randint(900, 1000), 2_000, 100_000])
    return data[:start] + opening * depth + data[start:end] + closing * draw.choice([depth, depth, 0, depth - 1]) + data[end:]


def lengthen(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """A token becomes very long, or a run of blanks."""
    start, end = _found(_TOKEN, data, draw)
    letter = draw.choice([b"a", b"9", b" ", b"\n", b"\\", data[start:end], "あ".encode(), "\U0001f600".encode()])
    return data[:start] + letter * draw.choice([2, 300, 5_000, 70_000]) + data[end:]


def exchange(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """One token becomes another of the file, so that names come twice and types change."""
    start, end = _found(_TOKEN, data, draw)
    other, other_end = _found(_TOKEN, data, draw)
    return data[:start] + data[other:other_end] + data[end:]


def duplicate(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """What lies between two tokens comes twice."""
    (start, _), (_, end) = sorted([_found(_TOKEN, data, draw), _found(_TOKEN, data, draw)])
    return data[:end] + draw.choice([b"", b",", b"\n"]) + data[start:end] + data[end:]


def spoil_text(data: bytes, draw: Random, words: Sequence[bytes]) -> bytes:
    """Bytes that are not UTF-8, or that few expect."""
    at = draw.randint(0, len(data))
    return data[:at] + draw.choice(_NOT_UTF8) + data[at:]


BINARY: Sequence[Change] = (
    cut,
    extend,
    flip,
    set_byte,
    set_number,
    set_length,
    set_length,
    delete,
    repeat,
    swap,
    fill,
    insert,
    overwrite,
)
"""For every format."""

TEXT: Sequence[Change] = (set_digits, nest, lengthen, exchange, duplicate, spoil_text, insert)
"""For formats that people can read."""


def changed(data: bytes, draw: Random, words: Sequence[bytes], changes: Sequence[Change]) -> bytes:
    """One to three changes of ``data``; an empty file can only be extended.

    >>> changed(b"RIFF1234", Random(1), [b"data"], [insert])
    b'RIFFdata1234'
    """
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        change = draw.choice(changes) if data else extend
        data = change(data, draw, words)[:LARGEST]
    return data


def spliced(data: bytes, other: bytes, draw: Random) -> bytes:
    """The start of one file and the end of another."""
    return data[: draw.randint(0, len(data))] + other[draw.randint(0, len(other)) :]


# -- drawing


def _with_number(data: bytes, draw: Random, at: int, width: int, order: Order) -> bytes:
    old = int.from_bytes(data[at : at + width], order)
    new = draw.choice([draw.choice(_EDGES), old + draw.choice([-8, -2, -1, 1, 2, 8]), old * 2, -1, len(data)])
    return data[:at] + (new % (1 << 8 * width)).to_bytes(width, order) + data[at + width :]


def _span(data: bytes, draw: Random) -> tuple[int, int]:
    """Start and end of a piece; short ones are more likely."""
    start = draw.randrange(len(data))
    return start, min(len(data), start + draw.choice([1, 2, 4, 8, 30, draw.randint(1, len(data))]))


def _some(draw: Random, words: Sequence[bytes]) -> bytes:
    return draw.choice(words) if words and draw.random() < 0.7 else draw.randbytes(draw.randint(1, 8))


def _found(pattern: re.Pattern[bytes], data: bytes, draw: Random) -> tuple[int, int]:
    """Start and end of one of the places that match, near a place that is drawn; nothing at that place where none does."""
    start = draw.randrange(len(data))
    match = pattern.search(data, start) or pattern.search(data)
    return match.span() if match else (start, start)
