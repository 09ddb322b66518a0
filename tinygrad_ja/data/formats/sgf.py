"""SGF: records of Go games. The main line, which is the first variation everywhere, with the set-up and the root's properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import StateError
from ...io.files import FilePath, damaged
from .content import read_content

Point = tuple[int, int]
"""Column and row from the upper left corner, from 0."""

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z]{1,64}")
_STOP = re.compile(r"[\]\\]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,6}(\.[0-9]{1,6})?")
_MOST = 10_000  # moves of a game, properties of a node, values of a property
_NODES = 100_000  # with all variations
_LARGEST = 52  # the letters a-z and A-Z


class Move(NamedTuple):
    """A stone, or a pass when ``point`` is None."""

    colour: str
    """``"B"`` or ``"W"``."""
    point: Point | None


class Game(NamedTuple):
    """The main line of a game."""

    size: int
    komi: float
    handicap: int
    result: str
    """As the file has it: ``"B+R"``, ``"W+2.5"``, or empty."""
    black: list[Point]
    """Stones on the board before the first move."""
    white: list[Point]
    moves: list[Move]
    properties: dict[str, list[str]]
    """All properties of the root, as text."""


def read_sgf(path: FilePath, limit: int = 1 << 20) -> Game:
    """The game in an SGF file, FF[1] to FF[4]. Variations are read past, so that a damaged one is found, and left out.

    Raises StateError (TG-F005: damaged, another game than Go, stones outside of the board; TG-F008 above ``limit`` bytes).
    Whether moves are legal is not checked. Source: red-bean.com/sgf, FF[4].

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.sgf"); _ = path.write_text("(;GM[1]SZ[9]KM[6.5]RE[B+R];B[ee];W[cc](;B[])(;B[aa]))")
    >>> game = read_sgf(path)
    >>> game.size, game.komi, game.moves
    (9, 6.5, [Move(colour='B', point=(4, 4)), Move(colour='W', point=(2, 2)), Move(colour='B', point=None)])
    """
    return parse_sgf(read_content(path, limit), path)


def parse_sgf(data: bytes, name: FilePath) -> Game:
    """``read_sgf`` of bytes; ``name`` is what an error calls them. They are UTF-8, or else Latin-1, the format's default."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    reader = _Reader(text, name)
    game: _Line | None = None
    for node in reader.main_line():
        game = game or _Line(node, name)
        game.add(node)
    if game is None:
        raise _fault(name, "it has no game", "棋譜がありません")
    return game.finished()


Node = dict[str, list[str]]

# after what each sign may stand: a sequence of nodes first, then its variations
_FOLLOWS = {"(": ("start", ";", ")"), ";": ("(", ";"), ")": (";", ")")}


class _Reader:
    """Brackets and properties. What is open is counted, so that nothing is recursive."""

    def __init__(self, text: str, name: FilePath) -> None:
        self.text = text
        self.name = name
        self.at = 0
        self.nodes = 0

    def main_line(self) -> Iterator[Node]:
        """The nodes of the first variation everywhere."""
        depth = 0
        last = "start"
        on_main = True  # nothing has been closed yet: what closes first ends the main line
        while depth or last == "start":
            sign = self.sign()
            if last not in _FOLLOWS.get(sign, ()):
                raise self.fault("a bracket or a node is out of place", "括弧かノードの位置が正しくありません")
            depth += {"(": 1, ";": 0, ")": -1}[sign]
            on_main = on_main and sign != ")"
            if sign == ";":
                self.nodes += 1
                if self.nodes > _NODES:
                    raise self.fault(f"it has more than {_NODES} nodes", f"ノードが {_NODES} 個を超えています")
                node = self.properties()
                if on_main:
                    yield node
            last = sign
        if self.text[self.at :].strip("\0 \t\r\n"):
            raise self.fault("something follows the game", "棋譜の後に文字があります")

    def sign(self) -> str:
        self.skip_space()
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found
        self.at = found.end()

    def properties(self) -> Node:
        node: Node = {}
        while True:
            self.skip_space()
            found = _NAME.match(self.text, self.at)
            if not found:
                return node
            self.at = found.end()
            key = "".join(letter for letter in found[0] if letter.isupper())  # FF[1] to FF[3] allow lower-case fill: Black is B
            if not key or key in node or len(node) == _MOST:
                raise self.fault(
                    f"the property {found[0]!r} has no name, is there twice or is one too many",
                    f"プロパティ {found[0]!r} に名前がないか、2 つあるか、数が多すぎます",
                )
            node[key] = self.values()

    def values(self) -> list[str]:
        values = []
        self.skip_space()
        while self.text.startswith("[", self.at):
            values.append(self.value())
            self.skip_space()
            if len(values) > _MOST:
                raise self.fault(f"a property has more than {_MOST} values", f"値が {_MOST} を超えるプロパティがあります")
        if not values:
            raise self.fault("a property has no value", "値のないプロパティがあります")
        return values

    def value(self) -> str:
        parts = []
        start = self.at + 1
        while True:
            found = _STOP.search(self.text, start)
            if not found:
                raise self.fault("a value is not closed", "閉じていない値があります")
            parts.append(self.text[start : found.start()])
            if found[0] == "]":
                self.at = found.end()
                return "".join(parts)
            escaped = self.text[found.end() : found.end() + 1]
            parts.append("" if escaped in "\r\n" else escaped)  # an escaped line end is no part of the text
            start = found.end() + 1

    def fault(self, en: str, ja: str) -> StateError:
        return _fault(self.name, f"character {self.at}: {en}", f"{self.at} 文字目: {ja}")


class _Line:
    """The game as its nodes come."""

    def __init__(self, root: Node, name: FilePath) -> None:
        self.name = name
        self.root = root
        if root.get("GM", ["1"])[0].strip() not in ("1", ""):
            raise _fault(name, "it is not a game of Go", "囲碁の棋譜ではありません")
        self.size = self.whole("SZ", 19, 1, _LARGEST)
        self.stones: dict[str, list[Point]] = {"AB": [], "AW": []}
        self.moves: list[Move] = []

    def number(self, key: str, default: float) -> float:
        text = self.root.get(key, [""])[0].strip()
        if not text:
            return float(default)
        if not _NUMBER.fullmatch(text):
            raise _fault(self.name, f"{key}[{text[:20]}] is not a number", f"{key}[{text[:20]}] が数ではありません")
        return float(text)

    def whole(self, key: str, default: int, lowest: int, highest: int) -> int:
        value = self.number(key, default)
        if not (value.is_integer() and lowest <= value <= highest):
            raise _fault(
                self.name,
                f"{key} is {value:g}, not a whole number from {lowest} to {highest}",
                f"{key} が {value:g} で、{lowest} から {highest} の整数ではありません",
            )
        return int(value)

    def add(self, node: Node) -> None:
        for key, stones in self.stones.items():
            if key in node and self.moves:
                raise _fault(self.name, "stones are set up after the first move", "最初の着手の後に石が置かれています")
            for value in node.get(key, ()):
                stones.extend(self.points(value))
                if sum(map(len, self.stones.values())) > self.size**2:
                    raise _fault(self.name, "more stones are set up than there are points", "置き石が盤の点より多くあります")
        for colour in "BW":
            self.moves.extend(Move(colour, self.point(value)) for value in node.get(colour, ()))
        if len(self.moves) > _MOST:
            raise _fault(self.name, f"it has more than {_MOST} moves", f"着手が {_MOST} 手を超えています")

    def point(self, value: str) -> Point | None:
        """``"pd"`` -> (15, 3); empty, or ``"tt"`` on boards up to 19, is a pass."""
        text = value.strip()
        if text == "" or (text == "tt" and self.size <= 19):
            return None
        place = [_LETTERS.find(letter) for letter in text[:3]]
        if len(place) != 2 or not all(0 <= at < self.size for at in place):
            raise _fault(self.name, f"[{text[:20]}] is no point of the board", f"[{text[:20]}] は盤の点ではありません")
        return place[0], place[1]

    def points(self, value: str) -> list[Point]:
        """A point, or the rectangle ``"aa:cc"``."""
        parts = value.split(":")
        corners = [corner for part in parts if (corner := self.point(part)) is not None]
        if len(parts) > 2 or len(corners) < len(parts):
            raise _fault(self.name, f"[{value[:20]}] is no place for a stone", f"[{value[:20]}] には石を置けません")
        (left, top), (right, bottom) = corners[0], corners[-1]
        return [(x, y) for y in range(top, bottom + 1) for x in range(left, right + 1)]

    def finished(self) -> Game:
        return Game(
            self.size,
            self.number("KM", 0.0),
            self.whole("HA", 0, 0, _LARGEST),
            self.root.get("RE", [""])[0].strip(),
            self.stones["AB"],
            self.stones["AW"],
            self.moves,
            self.root,
        )


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _fault(name: FilePath, en: str, ja: str) -> StateError:
    return damaged(name, "SGF", (en, ja))
