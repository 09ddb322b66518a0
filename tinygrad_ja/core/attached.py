"""The part of ``Tensor`` that operators fill: ``ops/methods.py`` attaches their functions as methods.

The stub beside this file, ``attached.pyi``, lists them with their signatures, for editors and mypy. It is written by
``python -m tinygrad_ja stubs``.
"""

from __future__ import annotations


class Attached:
    """Base of ``Tensor``; empty here."""

    __slots__ = ()
