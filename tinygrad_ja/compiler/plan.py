"""``Plan``, which ``compiled.plan()`` returns: what a compiled step does, instruction by instruction, with shapes, buffers, operations and
bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..profiling.lines import parsed
from ..profiling.operator_cost import Cost
from .cost import costs_by, instruction_cost, parts, program_cost
from .planning import Layout
from .program import Array, Instruction, Program, Source, flat, name_arrays

_PARTS = ("forward", "backward", "update")


class PassCount(NamedTuple):
    """One run of a pass, and the number of instructions before and after it, a group counted as one."""

    name: str
    before: int
    after: int


@dataclass
class PlanStep:
    """One instruction of a plan.

    number: its place ("3"; "3.1" in a group). kind, function: as of the instruction. text: it in one line. inputs, outputs: names of arrays.
    shapes, dtypes: of the outputs. buffers: where they lie: "arena+1024", or the given array in whose memory it is with the bytes from its
    begin; "" in a group. writes: arrays of the state that take an output at the end of the step. copies: a view that has to copy. flops,
    nbytes: operations, and bytes read and written. operator, part, place, code: where it comes from; part: of a group the first in it. body:
    of a group.
    """

    number: str
    kind: str
    function: str
    text: str
    inputs: list[str]
    outputs: list[str]
    shapes: list[tuple[int, ...]]
    dtypes: list[str]
    buffers: list[str]
    writes: list[str]
    copies: bool
    flops: int
    nbytes: int
    operator: str
    part: str
    place: str
    code: str
    body: list[PlanStep] = field(default_factory=list)


class Plan:
    """What a compiled step does. ``print`` shows it as a table; ``tg.draw`` draws it.

    program: after the passes. recorded: before them. operators: number of recorded operators. passes: what each run of a pass did. layout:
    where the arrays lie. executor: what runs it; asked for ``calls`` or ``launches`` (how many there are for a step), ``nbytes``, ``reason``
    and ``notes``. device: where it runs.

    ``steps`` are the instructions, ``flops`` and ``nbytes`` their sums, ``arena`` the bytes of the arena, ``scratch`` those that single
    instructions need meanwhile, ``unshared`` what the arena would be if no memory was used twice, ``recorded_peak`` the most bytes that the
    arrays of the recording keep alive at one time, when each lives until its last use: at least what an eager run takes.
    """

    def __init__(
        self,
        program: Program,
        *,
        recorded: Program | None = None,
        operators: int = 0,
        passes: Sequence[PassCount] = (),
        layout: Layout | None = None,
        executor: Any = None,
        device: str = "cpu",
    ) -> None:
        recorded = program if recorded is None else recorded
        program = _with_used_state(program)
        name_arrays(program)
        self.program = program
        self.operators = operators
        self.passes = list(passes)
        self.device = device
        self.executor: str = "" if executor is None else getattr(executor, "name", type(executor).__name__)
        self.reason: str = getattr(executor, "reason", "") or ""
        self.notes: list[str] = list(dict.fromkeys(getattr(executor, "notes", ())))
        self.calls = _number_of_calls(executor)
        copies = set() if layout is None else set(layout.copies)
        self.steps = list(_steps(program, layout, copies))
        self.flops, self.nbytes = program_cost(program, copies)
        self.recorded_cost = program_cost(recorded)
        self.recorded_instructions = count_instructions(recorded)
        self.instructions = count_instructions(program)
        held = getattr(executor, "nbytes", None)
        self.arena: int | None = held if layout is None else layout.nbytes
        self.scratch = 0 if held is None or layout is None else max(0, held - layout.nbytes)
        self.unshared = sum(a.nbytes for a in _allocated(program))
        self.recorded_peak = live_peak(recorded)
        self.state_nbytes = sum(a.nbytes for a in program.state)
        self.constant_nbytes = sum(a.nbytes for a in program.constants)
        self._copies = copies

    def costs(self, by: str = "operator") -> dict[str, Cost]:
        """Operations and bytes by "operator" (and part of the step), or by "line" of the program. They add up to ``flops`` and ``nbytes``."""
        keys = {"operator": _title, "line": lambda source: _place_and_code(source)[0]}
        return costs_by(self.program, keys[by], self._copies)

    def to_dict(self) -> dict[str, Any]:
        """All of it as numbers, strings, lists and dicts, ready for JSON."""
        return {
            "device": self.device,
            "executor": self.executor,
            "reason": self.reason,
            "notes": self.notes,
            "operators": self.operators,
            "recorded_instructions": self.recorded_instructions,
            "instructions": self.instructions,
            "calls": self.calls,
            "passes": [count._asdict() for count in self.passes],
            "arena": self.arena,
            "scratch": self.scratch,
            "unshared": self.unshared,
            "recorded_peak": self.recorded_peak,
            "state": {"arrays": len(self.program.state), "nbytes": self.state_nbytes},
            "constants": {"arrays": len(self.program.constants), "nbytes": self.constant_nbytes},
            "flops": self.flops,
            "nbytes": self.nbytes,
            "recorded_flops": self.recorded_cost.flops,
            "recorded_nbytes": self.recorded_cost.nbytes,
            "results": [repr(a) for a in self.program.results],
            "steps": [asdict(step) for step in self.steps],
        }

    def table(self, *, rows: int | None = 200, bodies: bool | None = None) -> str:
        """The plan as text, in English or Japanese. rows: leave out the middle of a longer one; None for all. bodies: show what groups hold;
        unless told, where that leaves nothing out."""
        from .plan_text import table

        return table(self, rows, bodies)

    def __str__(self) -> str:
        return self.table()

    __repr__ = __str__


def count_instructions(program: Program) -> int:
    """Number of instructions, those in groups counted one by one."""
    return sum(1 for _ in flat(program.instructions))


def live_peak(program: Program) -> int:
    """The most bytes that arrays of a program hold at one time when each is allocated where it is made and freed after its last reader.

    >>> x, y, z, w = [Array((4,), "f4") for _ in range(4)]
    >>> steps = [Instruction("map", "exp", [a], [b]) for a, b in ((x, y), (y, z), (z, w))]
    >>> live_peak(Program([x], instructions=steps, results=[w]))
    32
    """
    last: dict[Array, int] = {}
    for position, instruction in enumerate(program.instructions):
        for array in (*instruction.inputs, *instruction.outputs):
            last[_owner(array)] = position
    for array in program.wanted:
        last[_owner(array)] = len(program.instructions)
    ends: dict[int, int] = {}
    live = peak = 0
    for position, instruction in enumerate(program.instructions):
        if instruction.kind != "view":
            for array in instruction.outputs:
                live += array.nbytes
                ends[last[array]] = ends.get(last[array], 0) + array.nbytes
        peak = max(peak, live)
        live -= ends.pop(position, 0)
    return peak


def _with_used_state(program: Program) -> Program:
    """The program without the state that it neither reads nor writes."""
    used = {a for i in program.instructions for a in i.inputs} | set(program.wanted) | {old for old, _ in program.writes}
    state = {a: real for a, real in program.state.items() if a in used}
    return Program(
        program.arguments, program.numbers, state, program.constants, program.instructions, program.results, program.writes
    )


# ---- from programs to steps ----------------------------------------------------------------------


def _owner(array: Array) -> Array:
    while array.maker is not None and array.maker.kind == "view":
        (array,) = array.maker.inputs
    return array


def _allocated(program: Program) -> Iterator[Array]:
    """The arrays that need memory of their own."""
    for instruction in program.instructions:
        if instruction.kind != "view":
            yield from instruction.outputs


def _number_of_calls(executor: Any) -> int | None:
    for name in ("launches", "calls"):
        found = getattr(executor, name, None)
        if isinstance(found, int):
            return found
        if isinstance(found, (list, tuple)):
            return len(found)
    return None


def _steps(program: Program, layout: Layout | None, copies: Collection[Instruction]) -> Iterator[PlanStep]:
    writes: dict[Array, list[str]] = {}
    for old, new in program.writes:
        writes.setdefault(_owner(new), []).append(repr(old))
    for number, instruction in enumerate(program.instructions):
        step = _step(str(number), instruction, layout, writes, copies)
        step.flops, step.nbytes = instruction_cost(instruction, copies)
        if instruction.kind == "group":
            for inner, (part, cost) in enumerate(parts(instruction, copies)):
                made = _step(f"{number}.{inner}", part, None, {}, ())
                made.flops, made.nbytes = cost
                step.body.append(made)
            step.part = min([made.part for made in step.body], key=_PARTS.index)
        yield step


def _step(
    number: str,
    instruction: Instruction,
    layout: Layout | None,
    writes: dict[Array, list[str]],
    copies: Collection[Instruction],
) -> PlanStep:
    place, code = _place_and_code(instruction.source)
    outputs = instruction.outputs
    return PlanStep(
        number=number,
        kind=instruction.kind,
        function=instruction.function,
        text=_text(instruction),
        inputs=[repr(a) for a in instruction.inputs],
        outputs=[repr(a) for a in outputs],
        shapes=[a.shape for a in outputs],
        dtypes=[str(a.dtype) for a in outputs],
        buffers=[] if layout is None else [_buffer(a, layout) for a in outputs],
        writes=[name for a in outputs for name in writes.get(a, ())],
        copies=instruction in copies,
        flops=0,
        nbytes=0,
        operator=title_of(instruction),
        part=instruction.source.part,
        place=place,
        code=code,
    )


def _text(instruction: Instruction) -> str:
    if instruction.function == "slice":
        key = ", ".join([_index(part) for part in instruction.options["key"]])
        return f"{instruction.output!r} = {instruction.inputs[0]!r}[{key}]"
    if instruction.kind != "group":
        return repr(instruction)
    made = ", ".join(map(repr, instruction.outputs))
    return f"{made} = group({', '.join(map(repr, instruction.inputs))})"


def _index(part: Any) -> str:
    if not isinstance(part, slice):
        return str(part)
    step = f":{part.step}" if part.step not in (None, 1) else ""
    return f"{'' if part.start is None else part.start}:{'' if part.stop is None else part.stop}{step}"


def _buffer(array: Array, layout: Layout) -> str:
    place = layout.places.get(array)
    if place is None:
        return ""
    start = layout.arena.get(place.root)
    if start is not None:
        return f"arena+{start + place.offset}"
    return f"{place.root!r}+{place.offset}" if place.offset else repr(place.root)


def title_of(instruction: Instruction) -> str:
    """The operators that an instruction comes from: ``tanh``, ``matmul.backward``, ``SGD.update``."""
    parts = flat([instruction]) if instruction.kind == "group" else [instruction]
    return ", ".join(dict.fromkeys(filter(None, [_title(part.source) for part in parts])))


def _title(source: Source) -> str:
    """The operator, and the part of the step unless it is the forward."""
    name, part = source.operator, source.part
    if part == "forward" or part in name:
        return name
    return f"{name}.{part}" if name else part


def _place_and_code(source: Source) -> tuple[str, str]:
    line = parsed(source.line)
    return ("", source.line.strip()) if line is None else (line.place, line.text)
