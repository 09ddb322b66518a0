"""What a training run shows while it goes: a bar by tqdm on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


class Progress:
    """A bar over steps or batches, with a text that changes; and lines above it that stay.

    bar: True, False, or None for a bar where the output is a terminal and tqdm is installed. quiet: neither bar nor lines.
    total, initial: units of all, and of those that are done (an earlier part of the run).
    """

    EVERY = 0.2
    """Seconds between two changes of the text."""

    def __init__(self, total: int | None, initial: int, unit: str, *, bar: bool | None = None, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar = None if quiet or bar is False else _tqdm(total, initial, unit, force=bar is True)
        self._next_text = 0.0

    def advance(self, text: Callable[[], str]) -> None:
        """One more unit is done; ``text`` is asked now and then."""
        if self._bar is None:
            return
        now = time.monotonic()
        if now >= self._next_text:
            self._next_text = now + self.EVERY
            self._bar.set_postfix_str(text(), refresh=False)
        self._bar.update()

    def write(self, line: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _tqdm(total: int | None, initial: int, unit: str, force: bool) -> Any:
    if not force and not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, unit=unit, dynamic_ncols=True)
