"""Which line of the user's program runs."""

from __future__ import annotations

import linecache
import os
import re
from types import CodeType, FrameType
from typing import NamedTuple

from ..core.tape import is_ours, run_backward


class Line(NamedTuple):
    """A line of a program: file, number, and the function that it stands in."""

    file: str
    number: int
    function: str

    @property
    def place(self) -> str:
        """File and number in short.

        >>> Line("/home/me/model.py", 12, "forward").place
        'model.py:12'
        """
        return f"{os.path.basename(self.file)}:{self.number}"

    @property
    def text(self) -> str:
        """What stands there, where the file can be read."""
        return linecache.getline(self.file, self.number).strip()


_WALK: CodeType = run_backward.__code__
_ours: dict[str, bool] = {}
_lines: dict[tuple[str, int, str], Line] = {}


def innermost_line(frame: FrameType | None) -> tuple[Line | None, bool]:
    """The innermost line outside of this package that led to ``frame``, and whether the walk back through a tape lies between."""
    in_walk = False
    while frame is not None:
        code = frame.f_code
        name = code.co_filename
        ours = _ours.get(name)
        if ours is None:
            ours = _ours[name] = is_ours(name)
        if not ours:
            key = (name, frame.f_lineno, code.co_name)
            line = _lines.get(key)
            if line is None:
                line = _lines[key] = Line(*key)
            return line, in_walk
        in_walk = in_walk or code is _WALK
        frame = frame.f_back
    return None, in_walk


_PLACE = re.compile(r'\s*File "(?P<file>[^"]*)", line (?P<number>\d+)(?:, in (?P<function>\S+))?|(?P<path>.+):(?P<at>\d+)$')


def parsed(line: str) -> Line | None:
    """A line written as ``file:number`` or as a traceback prints it; None for any other text.

    >>> parsed("model.py:3")
    Line(file='model.py', number=3, function='')
    >>> parsed('  File "model.py", line 3, in forward\\n    return x + 1\\n').function
    'forward'
    """
    found = _PLACE.match(line)
    if found is None:
        return None
    return Line(found["file"] or found["path"], int(found["number"] or found["at"]), found["function"] or "")
