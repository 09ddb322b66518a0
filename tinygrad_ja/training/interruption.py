"""Ctrl-C during training: the first asks to stop after the step, the second stops at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from ..errors import language

_NOTE = {
    "en": "\nCtrl-C: finishing this step, then stopping. Ctrl-C again stops at once.\n",
    "ja": "\nCtrl-C: このステップを終えてから止まります。もう一度 Ctrl-C を押すと、すぐに止まります。\n",
}


class Interruption:
    """While it is entered, the first Ctrl-C (SIGINT) sets ``asked`` and the second raises KeyboardInterrupt.

    In a thread other than the main one, and where the signal is ignored, it changes nothing.

    >>> import signal
    >>> with Interruption() as interruption:
    ...     signal.raise_signal(signal.SIGINT)
    >>> interruption.asked
    True
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before not in (signal.SIG_IGN, None):
                self._before = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, _NOTE[language()].encode())  # not print: the signal may have come inside of one
