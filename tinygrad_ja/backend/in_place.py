"""Texts that change arrays in one pass where there is machine code for that; where there is none, whoever asks goes NumPy's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[[Sequence[Any]], bool]

find: Callable[[Callable[..., Any], Sequence[Any], Sequence[Any]], Run | None] = lambda text, inputs, outputs: None  # noqa: E731
"""What ``in_place`` asks; ``kernels/machine_code.py`` sets it."""


def in_place(text: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Run | None:
    """A function that lets ``outputs`` be what ``text(xp, *inputs)`` returns, or None. It takes one list, the inputs and then the outputs, of
    arrays that are laid out like these; an output may be one of the inputs. It returns whether it did so."""
    return find(text, inputs, outputs)


def repeated(text: Callable[..., Any], *, rows: int) -> Callable[[Sequence[Any], Sequence[Any]], bool]:
    """``run_in_place(text, inputs, outputs)`` again and again on arrays that are laid out alike, which is seen to once: those that end in
    ``rows``. Others, of which there may be many kinds, are left to the caller."""
    runs: list[Run | None] = []

    def change(inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
        if outputs[-1].shape[-1] != rows:
            return False
        if not runs:
            runs.append(in_place(text, inputs, outputs))
        return runs[0] is not None and runs[0]([*inputs, *outputs])

    return change


def run_in_place(text: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Let ``outputs`` be what ``text(xp, *inputs)`` returns, if there is a function for it."""
    run = find(text, inputs, outputs)
    return run is not None and run([*inputs, *outputs])
