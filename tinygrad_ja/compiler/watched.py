"""A replay under ``tg.profile``: each instruction with its time where the executor runs them one by one, else the step as one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..profiling.lines import Line, parsed
from ..profiling.operator_cost import Cost
from ..profiling.recorder import Call, Recorder
from .cost import instruction_cost, program_cost
from .plan import title_of
from .program import Instruction

_LONGEST = 40
"""Characters of the operators of a group that are shown."""


def run_watched(recorder: Recorder, executor: Any, arguments: Sequence[Any], numbers: Sequence[float]) -> Any:
    """``executor.run(arguments, numbers)``, whose time the recorder gets to know."""
    copies = set(getattr(getattr(executor, "layout", None), "copies", ()))
    if not hasattr(executor, "steps"):
        call = Call("compiled", "compiled", recorder.here()[0], None, "cuda" if hasattr(executor, "launches") else "cpu")
        call.flops, call.nbytes = recorder.known(executor, lambda: program_cost(executor.program, copies))
        call.shapes = tuple([x.shape for x in arguments])
        return recorder.run(call, executor.run, arguments, numbers)

    def watch(instruction: Instruction, calls: Sequence[Any]) -> None:
        if calls:
            title, line, shapes, cost = recorder.known(instruction, lambda: _described(instruction, copies))
            call = Call(title, instruction.source.part, line, None, "cpu")
            call.shapes, (call.flops, call.nbytes) = shapes, cost
            recorder.run(call, _all, calls)

    return executor.run(arguments, numbers, watch)


def _described(instruction: Instruction, copies: Collection[Instruction]) -> tuple[str, Line | None, Any, Cost]:
    shapes = tuple([a.shape for a in instruction.inputs])
    title = title_of(instruction) or instruction.function
    if instruction.kind == "group" and len(title) > _LONGEST:
        title = f"{title[:_LONGEST]}…"
    return title, parsed(instruction.source.line), shapes, instruction_cost(instruction, copies)


def _all(calls: Sequence[Any]) -> None:
    for call in calls:
        call()
