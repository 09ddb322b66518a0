"""Backward functions as learners write them, 60 of them wrong: what ``tg.blame`` is judged by. Importing the package fills the bank."""

from . import attention, dense, gru, lstm, normalization, recurrent, right_recurrent, right_static, softmax
from .entry import RIGHT, WRONG

__all__ = [
    "RIGHT",
    "WRONG",
    "attention",
    "dense",
    "gru",
    "lstm",
    "normalization",
    "recurrent",
    "right_recurrent",
    "right_static",
    "softmax",
]
