"""Pascal VOC: the boxes of the objects in an image, as XML.

The file comes from a stranger, so no document type and no entity is accepted, nothing is fetched, and only the elements that are needed are
kept.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from ...errors import StateError
from ...io.files import FilePath, damaged
from .content import read_content

_DEPTH = 16
_NAME = 100
_TEXT = 1000
_OBJECTS = 10_000
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_OBJECT = "annotation/object"


class Annotation(NamedTuple):
    """What a VOC file says about an image."""

    filename: str
    size: tuple[int, int]
    """Width and height of the image."""
    names: list[str]
    """The class of each object."""
    boxes: np.ndarray
    """float32 (objects, 4): xmin, ymin, xmax, ymax in pixels, as the file has them."""
    difficult: np.ndarray
    """bool (objects,)."""


def read_voc(path: FilePath, degenerate: str = "refuse", limit: int = 1 << 20) -> Annotation:
    """The annotation in a Pascal VOC file.

    degenerate: what happens to a box without an area, ``"refuse"`` or ``"drop"``. A box that leaves the image is always refused.
    Raises StateError (TG-F005; TG-F008 above ``limit`` bytes).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.xml")
    >>> _ = path.write_text("<annotation><filename>a.jpg</filename><size><width>8</width><height>6</height></size><object><name>cat</name>"
    ...     "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>")
    >>> found = read_voc(path)
    >>> found.names, found.boxes.tolist(), found.size
    (['cat'], [[1.0, 2.0, 5.0, 6.0]], (8, 6))
    """
    return parse_voc(read_content(path, limit), path, degenerate)


def parse_voc(data: bytes, name: FilePath, degenerate: str = "refuse") -> Annotation:
    """``read_voc`` of bytes; ``name`` is what an error calls them."""
    fields, objects = _Reader(name).read(data)
    width = _number(fields, "annotation/size/width", name)
    height = _number(fields, "annotation/size/height", name)
    if not (width >= 1 and height >= 1 and width.is_integer() and height.is_integer()):
        raise _fault(name, f"an image of {width} x {height} pixels cannot be", f"{width} x {height} 画素の画像はありえません")
    kept = [(found, _box(found, width, height, name)) for found in objects]
    flat = [not _has_area(box) for _, box in kept]
    if any(flat) and degenerate != "drop":
        raise _fault(
            name,
            f"the box of object {flat.index(True)} has no area",
            f"物体 {flat.index(True)} のバウンディングボックスに面積がありません",
        )
    kept = [pair for pair in kept if _has_area(pair[1])]
    return Annotation(
        fields.get("annotation/filename", ""),
        (int(width), int(height)),
        [found["/name"] for found, _ in kept],
        np.array([box for _, box in kept], np.float32).reshape(-1, 4),
        np.array([found.get("/difficult", "0") == "1" for found, _ in kept], bool),
    )


class _Reader:
    """Collects the text of the leaves by their path: those of the image, and those of each object."""

    def __init__(self, name: FilePath) -> None:
        self.name = name
        self.fields: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []
        self.open: list[str] = []
        self.text = ""

    def read(self, data: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
        parser = expat.ParserCreate("UTF-8")  # whatever the file claims: expat's own decoders, never Python's
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = self.refuse
        parser.EntityDeclHandler = self.refuse
        try:
            parser.Parse(data, True)
        except expat.ExpatError as failure:
            raise _fault(self.name, f"it is not XML ({failure})", f"XML ではありません ({failure})") from failure
        return self.fields, self.objects

    def start(self, name: str, attributes: object) -> None:
        self.open.append(name)
        if len(self.open) > _DEPTH or len(name) > _NAME or len(self.objects) > _OBJECTS:
            raise _fault(
                self.name,
                "it is nested too deeply, or has too many objects or too long a name",
                "入れ子が深すぎるか、物体が多すぎるか、要素の名前が長すぎます",
            )
        if self.path() == _OBJECT:
            self.objects.append({})
        self.text = ""

    def end(self, name: str) -> None:
        path = self.path()
        text = self.text.strip()
        self.open.pop()
        self.text = ""
        inside = path.startswith(_OBJECT + "/")
        fields = self.objects[-1] if inside else self.fields
        key = path.removeprefix(_OBJECT) if inside else path
        if key in _WANTED:
            if key in fields:
                raise _fault(self.name, f"'{key}' is there twice", f"'{key}' が 2 つあります")
            fields[key] = text

    def characters(self, text: str) -> None:
        self.text += text
        if len(self.text) > _TEXT:
            raise _fault(self.name, f"a text is longer than {_TEXT} characters", f"{_TEXT} 文字より長い文字列があります")

    def refuse(self, *_: object) -> None:
        raise _fault(self.name, "it declares a document type or an entity", "文書型か実体を宣言しています")

    def path(self) -> str:
        return "/".join(self.open)


_WANTED = {"annotation/filename", "annotation/size/width", "annotation/size/height", "/name", "/difficult"} | {
    f"/bndbox/{side}" for side in _SIDES
}


def _number(fields: dict[str, str], key: str, name: FilePath) -> float:
    text = fields.get(key, "")
    if not _NUMBER.fullmatch(text):
        raise _fault(name, f"'{key}' is {text!r}, not a number", f"'{key}' が {text!r} で、数ではありません")
    return float(text)


def _box(found: dict[str, str], width: float, height: float, name: FilePath) -> list[float]:
    if not found.get("/name"):
        raise _fault(name, "an object has no name", "名前のない物体があります")
    box = [_number(found, f"/bndbox/{side}", name) for side in _SIDES]
    if max(box[::2]) > width or max(box[1::2]) > height:
        raise _fault(name, f"the box {box} leaves the image", f"ボックス {box} が画像からはみ出しています")
    return box


def _has_area(box: list[float]) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _fault(name: FilePath, en: str, ja: str) -> StateError:
    return damaged(name, "Pascal VOC", (en, ja))
