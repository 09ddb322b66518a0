"""``tg.compile``: record a whole training step once, optimise it, replay it. Start at ``compiled.py``; ``program.py`` says what is in between."""

from __future__ import annotations

import sys
import types
from typing import Any

from .compiled import Compiled, compile

__all__ = ["Compiled", "compile"]


class _Callable(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return compile(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
