"""``tg.compile``: record a whole training step once, optimise it, replay it. Start at ``compiled.py``; ``program.py`` says what a recorded step
is made of, ``passes/`` how it gets faster, and ``native/``, ``numpy_executor.py`` and ``cuda/`` how it runs."""

from __future__ import annotations

from .compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
