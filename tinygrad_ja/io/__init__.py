"""Reading and writing files."""

from .archive import load, save

__all__ = ["load", "save"]
