"""Compares a backward written by hand with the tape, and names the term that is wrong."""

from .blame import Diagnosis, Fault, blame
from .words import KINDS

__all__ = ["KINDS", "Diagnosis", "Fault", "blame"]
