"""Where the steps of a recording come from: the part of the user's step, and his line. A step of a backward belongs to the line of the forward
that made its node."""

from __future__ import annotations

import bisect
import sys
import types
from typing import TYPE_CHECKING, Any

from ..core.tape import next_number
from .code_names import BACKWARD, OURS, ROLES, USER, role_of
from .program import Source

if TYPE_CHECKING:
    from .recording import Recording


class Sources:
    """The sources of one recording's steps.

    codes: code of the user that called operators, and its globals, by the code's id (a code's hash is that of all it holds). begun_by: the
    frame of this code called the function; those outside of it are not recorded. known: the node whose backward ran last, and its source.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.codes: dict[int, tuple[types.CodeType, dict[str, Any]]] = {}
        self.begun_by: types.CodeType | None = None
        self.known: tuple[Any, Source] | None = None
        self._moments: list[int] = []  # by the clock of nodes, when a step of the forward was noted; and its line
        self._lines: list[str] = []
        self._shown: dict[tuple[str, ...], Source] = {}
        self._line_at: dict[tuple[int, int], str] = {}

    def of(self, operator: Any) -> Source:
        """Where a step comes from that is noted now."""
        node = self._recording.node
        if node is not None:
            known_node = self.known
            if known_node is not None and known_node[0] is node:
                return known_node[1]
            if _is_own(node.operator):  # no code of the user runs in there
                made = self._shared(f"{node.operator.name}.backward", "backward", self._line_of(node.number))
                self.known = node, made
                return made
        part, name = "forward", operator.name
        inside = True
        begun_by, frame = self.begun_by, sys._getframe(3)
        known: Any = frame
        while known is not None:
            code = known.f_code
            if code is begun_by:
                inside = False
            role = ROLES.get(id(code)) or role_of(code)
            if role is USER:
                break
            if role is not OURS:
                if role is BACKWARD:
                    name, number = ("hook", 0) if node is None else (f"{node.operator.name}.backward", node.number)
                    return self._shared(name, "backward", self._line_of(number))
                part, name = "update", type(known.f_locals["optimizer"]).__name__
            known = known.f_back
        line = ""
        if known is not None:
            place = id(code), known.f_lasti
            line = self._line_at.get(place, "")
            if not line:
                line = self._line_at[place] = f"{code.co_filename}:{known.f_lineno}"
            if inside:
                self.codes[id(code)] = code, known.f_globals
        if part == "forward":
            self._moments.append(next_number())
            self._lines.append(line)
        return self._shared(name, part, line)

    def _shared(self, *source: str) -> Source:
        """One Source for all steps that come from there."""
        made = self._shown.get(source)
        if made is None:
            made = self._shown[source] = Source(*source)
        return made

    def _line_of(self, number: int) -> str:
        """The line of the step before the node of that number was made."""
        position = bisect.bisect(self._moments, number)
        return self._lines[position - 1] if position else ""


def _is_own(operator: Any) -> bool:
    """Whether an operator is of this package."""
    return getattr(getattr(operator, "forward", None), "__module__", "").startswith("tinygrad_ja.")
