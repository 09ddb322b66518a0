"""Changes inside of a file whose lengths and checksums are then made right again, so that what lies behind those checks is reached.

A frame is a function ``(data, draw, change) -> data``: it takes a file apart, gives one of the parts to ``change`` and puts the file together.
A file that it cannot take apart is changed as it is.
"""

from __future__ import annotations

import gzip
import io
import json
import pickletools
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from random import Random

Frame = Callable[[bytes, Random, Callable[[bytes], bytes]], bytes]


def in_gzip(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """What is compressed, under a right checksum."""
    if data[:2] != b"\x1f\x8b":
        return change(data)
    return gzip.compress(change(gzip.decompress(data)), mtime=0)


def in_zip(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """The bytes of a member, under right sizes and checksums; sometimes its name."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
        method = file.infolist()[0].compress_type
    chosen = draw.choice(sorted(members))
    if draw.random() < 0.1:
        members[change(chosen.encode()).decode("latin-1")[:30_000]] = members.pop(chosen)
    else:
        members[chosen] = change(members[chosen])
    return _zipped(members, method)


def in_pickle(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """The instructions of ``data.pkl`` in a zip: one is changed, left out, comes twice, or changes places with another."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    starts = [position for _, _, position in pickletools.genops(members[name]) if position is not None]
    pieces = [members[name][start:end] for start, end in zip(starts, [*starts[1:], None])]
    for _ in range(draw.choice([1, 1, 2, 5])):
        at, other, fate = draw.randrange(len(pieces)), draw.randrange(len(pieces)), draw.randrange(5)
        if fate == 0:
            pieces[at] = change(pieces[at])
        elif fate == 1:
            pieces[at] = b""
        elif fate == 2:
            pieces[at] *= 2
        elif fate == 3:
            pieces[at] = pieces[other]
        else:
            pieces[at], pieces[other] = pieces[other], pieces[at]
    return _zipped({**members, name: b"".join(pieces)}, zipfile.ZIP_STORED)


def _zipped(members: dict[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def in_tar(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """A header of a tar.gz archive, under a right checksum, which is the sum of its bytes."""
    content = bytearray(gzip.decompress(data))
    with tarfile.open(fileobj=io.BytesIO(content)) as file:
        starts = [member.offset for member in file]
    start = draw.choice(starts)
    head = bytearray(change(bytes(content[start : start + 500]))[:512].ljust(512, b"\0"))
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    content[start : start + 512] = head
    return gzip.compress(content, mtime=0)


def in_riff(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """The body of a chunk, under right sizes."""
    chunks = list(_chunks(data))
    chosen = draw.randrange(len(chunks))
    made = b""
    for number, (kind, body) in enumerate(chunks):
        content = change(body) if number == chosen else body
        made += kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(made)) + b"WAVE" + made


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def in_safetensors(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """The JSON of the header, under its right length."""
    length = int.from_bytes(data[:8], "little")
    header = change(data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def in_tree(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """The JSON in which ``tg.save`` keeps what is no array, under its right checksum."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = header["__metadata__"]
    about["tree"] = change(about["tree"].encode()).decode(errors="replace")
    about["tree_crc32"] = f"{zlib.crc32(about['tree'].encode()):08x}"
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


# -- protocol buffers: https://protobuf.dev/programming-guides/encoding


def in_protobuf(data: bytes, draw: Random, change: Callable[[bytes], bytes]) -> bytes:
    """A field of a message, often deep in others, under right lengths; or a field is left out or comes twice."""
    fields = list(_fields(data))
    if not fields or draw.random() < 0.1:
        return change(data)
    chosen = draw.randrange(len(fields))
    key, content = fields[chosen]
    fate = draw.random()
    if fate < 0.05:
        del fields[chosen]
    elif fate < 0.1:
        fields.insert(draw.randint(0, len(fields)), fields[chosen])
    elif key & 7 == _LENGTH:
        inside = in_protobuf(content, draw, change) if _is_message(content) else change(content)
        fields[chosen] = key, inside
    else:
        fields[chosen] = (
            key,
            _varint(draw.choice([0, 1, 2, 7, 255, 1 << 31, (1 << 63) - 1, (1 << 64) - 1])) if key & 7 == 0 else content,
        )
    return b"".join([_field(key, content) for key, content in fields])


_LENGTH = 2
_FIXED = {1: 8, 5: 4}


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(key, content) of each field, as far as the data can be read; the content of a number is its own bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == _LENGTH:
            size, at = _read_varint(data, at)
        elif key & 7 == 0:
            size = _read_varint(data, at)[1] - at
        else:
            size = _FIXED.get(key & 7, len(data))
        if at + size > len(data):
            return
        yield key, data[at : at + size]
        at += size


def _is_message(data: bytes) -> bool:
    """Whether the bytes can be read as fields, down to the last one."""
    found = list(_fields(data))
    return bool(found) and b"".join([_field(key, content) for key, content in found]) == data


def _field(key: int, content: bytes) -> bytes:
    return _varint(key) + (_varint(len(content)) if key & 7 == _LENGTH else b"") + content


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at
