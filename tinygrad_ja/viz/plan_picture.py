"""The plan of a compiled step as SVG: a box for each instruction, groups with what they hold, arrays on the edges.

Data flows upward, and from the forward at the left to the backward and the update. Views are no boxes: an edge leads from the array that has
the elements to the instruction that reads them, and says how that sees them. Given arrays are plugged in below their readers.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..compiler.plan_text import short
from ..errors import refusal
from ..io.files import replacing
from .layout import Block, Edge, Layout, place
from .svg import HEADER, MARGIN, STYLE, edge_path, escaped, in_language, shortened, text_at, text_width

if TYPE_CHECKING:
    from ..compiler.plan import Plan, PlanStep
    from ..compiler.program import Array

TITLE, LINE, PLUG, STUB, LABEL = 24.0, 16.0, 40.0, 6.0, 16.0
"""Pixels: heights of a box's title, of each line below it, of a plug, of the line to it, and of an edge's name below a box."""
MOST_LINES = 14
"""Instructions of a group, or of several drawn as one, that are shown."""

PARTS = {"forward": ("forward", "順伝播"), "backward": ("backward", "逆伝播"), "update": ("update", "更新")}

PLAN_STYLE = """
.tape .write { fill: var(--time); font-weight: 600; }
.tape .inner { text-anchor: start; font-family: ui-monospace, Menlo, Consolas, "Noto Sans Mono", monospace; font-size: 11px; }
.tape .name { font-size: 11px; fill: var(--soft); }
.tape .fused .box { fill: var(--column); stroke-width: 1.8; }
"""


@dataclasses.dataclass
class Read:
    """An array that a box reads. source: the box that makes it, None for a given one. label: its name, and how it is seen. kind: of its
    plug."""

    array: Array
    source: int | None
    label: str
    kind: str = ""


@dataclasses.dataclass
class Box:
    """One or several steps that are drawn as one. column: where it stands, from the left. part: of the step as a whole."""

    steps: list[PlanStep]
    part: str
    reads: list[Read] = dataclasses.field(default_factory=list)
    column: int = 0

    @property
    def title(self) -> str:
        """What it does."""
        if len(self.steps) > 1:
            return f"{self.steps[0].operator} × {len(self.steps)}"
        (step,) = self.steps
        return f"{step.operator}: group" if step.kind == "group" else step.function

    @property
    def inner(self) -> list[str]:
        """The instructions in it, where there are several."""
        lines = [part.text for step in self.steps for part in (step.body or [step])] if self.is_several else []
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], f"… {len(lines) - MOST_LINES + 1:,} …"]
        return [shortened(line, 44) for line in lines]

    @property
    def is_several(self) -> bool:
        """Whether it holds more than one instruction."""
        return len(self.steps) > 1 or bool(self.steps[0].body)


class PlanDrawing:
    """What ``draw`` returns for a compiled step; a notebook shows it. boxes: what is drawn."""

    def __init__(self, plan: Plan, limit: int) -> None:
        self.plan = plan
        self.boxes = _boxes(plan, limit)
        parts = [part for part in PARTS if any(box.part == part for box in self.boxes)]
        self.headings = [in_language(PARTS[part]) for part in parts]
        _set_columns(self.boxes, parts)
        self._layout: Layout = place([self._block(box) for box in self.boxes])

    def svg(self) -> str:
        """The picture as text."""
        wide, tall = self._layout.width + 2 * MARGIN, self._layout.height + 2 * MARGIN + HEADER
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tape" width="{wide:.0f}" height="{tall:.0f}" '
            f'viewBox="0 0 {wide:.0f} {tall:.0f}" role="img" aria-label="plan">',
            f"<style>{STYLE}{PLAN_STYLE}</style>",
            f'<rect class="paper" width="{wide:.0f}" height="{tall:.0f}"/>',
            f'<g transform="translate({MARGIN:.0f},{MARGIN + HEADER:.0f})">',
            *self._columns(),
            *[self._edge(edge) for edge in self._layout.edges],
            *[self._node(index) for index in range(len(self.boxes))],
            "</g>",
            "</svg>",
        ]
        return "\n".join(parts)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to ``path``, which ends with ``.svg``. Returns the path. Raises ArgumentError for another ending."""
        path = Path(path)
        if path.suffix.lower() != ".svg":
            rule = ("a file name that ends with .svg", ".svg で終わるファイル名")
            name = f"{path.stem or 'plan'}.svg"
            raise refusal("PlanDrawing.save", "path", path, rule, (f"{name}, for instance.", f"{name} などとしてください。"))
        with replacing(path, "w", newline="\n") as file:
            file.write(self.svg())
        return path

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"<PlanDrawing of {len(self.plan.steps)} instructions in {len(self.boxes)} boxes>"

    # -- sizes

    def _block(self, box: Box) -> Block:
        widths, wide = self._widths(box)
        ends = [0.0, *itertools.accumulate(widths)]
        shift = (wide - ends[-1]) / 2
        middles = [shift + (a + b) / 2 for a, b in itertools.pairwise(ends)]
        ports = [(read.source, x) for read, x in zip(box.reads, middles) if read.source is not None]
        return Block(wide, self._box_height(box) + self._below(box), wide / 2, box.column, ports)

    def _widths(self, box: Box) -> tuple[list[float], float]:
        """Of what is read, and of the whole block."""
        widths = [max(text_width(line, 12) for line in _plug_lines(read)) for read in box.reads]
        lines = [text_width(line, 12) for line in _lines(box)] + [text_width(line, 11.5) for line in box.inner]
        return widths, max(100.0, text_width(shortened(box.title, 40), 14), sum(widths), *lines)

    @staticmethod
    def _box_height(box: Box) -> float:
        return TITLE + LINE * (len(_lines(box)) + len(box.inner)) + 10

    @staticmethod
    def _below(box: Box) -> float:
        if any(read.source is None for read in box.reads):
            return STUB + PLUG
        return LABEL if box.reads else 0.0

    # -- parts

    def _columns(self) -> list[str]:
        parts = []
        for (left, right), heading in zip(self._layout.columns, self.headings):
            area = f'x="{left - 10:.1f}" y="{-HEADER + 4:.1f}" width="{right - left + 20:.1f}"'
            parts.append(f'<rect class="column" {area} height="{self._layout.height + HEADER - 4:.1f}" rx="10"/>')
            parts.append(f'<text class="heading" x="{(left + right) / 2:.1f}" y="{-HEADER + 22:.1f}">{escaped(heading)}</text>')
        return parts

    def _edge(self, edge: Edge) -> str:
        box = self.boxes[edge.target]
        read = [read for read in box.reads if read.source is not None][edge.port]
        across = " time" if self.boxes[edge.source].column != box.column else ""
        end_y = edge.points[-1][1] - self._below(box)
        tip = f"{read.array!r} {read.array.shape} {read.array.dtype}"
        return (
            f'<path class="edge{across}" stroke-width="1.4" d="{edge_path(edge, end_y)}"><title>{escaped(tip)}</title></path>'
        )

    def _node(self, index: int) -> str:
        box, block = self.boxes[index], self._layout.blocks[index]
        height = self._box_height(box)
        widths, wide = self._widths(box)
        tip = "\n".join(
            [step.text for step in box.steps] + [f"{step.place} {step.code}" for step in box.steps[:1] if step.place]
        )
        kind = " fused" if box.is_several else " loss" if _gives_result(self.plan, box) else ""
        parts = [
            f'<g class="node{kind}" transform="translate({block.x:.1f},{block.y:.1f})">',
            f"<title>{escaped(tip)}</title>",
            f'<rect class="box" width="{wide:.1f}" height="{height:.1f}" rx="8"/>',
            text_at(wide / 2, 18, shortened(box.title, 40), "title"),
        ]
        y = TITLE + 12
        for line in box.inner:
            parts.append(text_at(10, y, line, "inner"))
            y += LINE
        for line in _lines(box):
            parts.append(text_at(wide / 2, y, line, "write" if line.startswith("→") else "soft"))
            y += LINE
        x = (wide - sum(widths)) / 2
        for read, width in zip(box.reads, widths):
            parts += self._read(read, x + width / 2, width, height)
            x += width
        return "\n".join([*filter(None, parts), "</g>"])

    @staticmethod
    def _read(read: Read, x: float, wide: float, top: float) -> list[str]:
        name, shape = _plug_lines(read)[:2]
        if read.source is not None:
            return [text_at(x + 5, top + 13, name, "name left")]
        area = f'x="{x - wide / 2 + 2:.1f}" y="{top + STUB:.1f}" width="{wide - 4:.1f}" height="{PLUG:.0f}"'
        return [
            f'<line class="stub" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{top + STUB:.1f}"/>',
            f'<rect class="plug {read.kind}" {area} rx="8"/>',
            text_at(x, top + STUB + 16, name, ""),
            text_at(x, top + STUB + 32, shape, "soft"),
        ]


# ---- boxes ---------------------------------------------------------------------------------------


def _boxes(plan: Plan, limit: int) -> list[Box]:
    """A box for each instruction that is no view; where these are too many, for each run of instructions of one operator."""
    shown = [step for step in plan.steps if step.kind != "view" or step.copies]
    runs = [[step] for step in shown]
    if len(runs) > limit:
        runs = [list(run) for _, run in itertools.groupby(shown, key=lambda step: (step.part, step.operator, step.place))]
    if len(runs) > limit:
        rule = (
            f"a plan of at most limit={limit} boxes; this one has {len(runs)}",
            f"箱が limit={limit} 個までの計画 (この計画は {len(runs)} 個)",
        )
        fix = (
            f"limit={len(runs)}, or print(compiled.plan()).",
            f"limit={len(runs)} とするか、print(compiled.plan()) としてください。",
        )
        raise refusal("draw", "plan", f"{len(plan.steps)} instructions", rule, fix)
    boxes = [Box(run, run[0].part if run[0].part in PARTS else "forward") for run in runs]
    _connect(plan, boxes)
    return boxes


def _connect(plan: Plan, boxes: list[Box]) -> None:
    """Say what each box reads."""
    program = plan.program
    kinds = dict.fromkeys(program.state, "parameter") | dict.fromkeys([*program.arguments, *program.numbers], "input")
    maker: dict[Array, int] = {}
    by_number = {str(number): instruction for number, instruction in enumerate(program.instructions)}
    for index, box in enumerate(boxes):
        instructions = [by_number[step.number] for step in box.steps]
        own = {a for instruction in instructions for a in instruction.outputs}
        found: dict[tuple[Array, str], Read] = {}
        for array in [a for instruction in instructions for a in instruction.inputs]:
            seen, label = array, ""
            while seen not in maker and seen not in own and seen.maker is not None and seen.maker.kind == "view":
                label = _seen(seen) + label
                (seen,) = seen.maker.inputs
            if seen in own:
                continue
            read = Read(seen, maker.get(seen), f"{seen!r}{label}", kinds.get(seen, "more"))
            found.setdefault((seen, label if read.source is not None else ""), read)
        box.reads = list(found.values())
        maker.update(dict.fromkeys(own, index))


def _seen(array: Array) -> str:
    """How a view shows what it is a view of, in a word."""
    assert array.maker is not None
    return {"transpose": "ᵀ", "reshape": "~", "slice": "[…]"}.get(array.maker.function, "")


def _set_columns(boxes: Sequence[Box], parts: Sequence[str]) -> None:
    for box in boxes:
        sources = [boxes[read.source].column for read in box.reads if read.source is not None]
        box.column = max([parts.index(box.part), *sources])


# ---- words ---------------------------------------------------------------------------------------


def _plug_lines(read: Read) -> list[str]:
    """Name and shape of a plug; the name at an edge, which stands right of it, so that as much room is left at its other side."""
    name = shortened(read.label, 20)
    return [name, str(read.array.shape)] if read.source is None else [name, name * 2]


def _lines(box: Box) -> list[str]:
    """What is said of a box: the arrays that it makes, its operations and bytes, and what it writes."""
    last = box.steps[-1]
    made = "  ".join(f"{name} {shape}" for name, shape in zip(last.outputs, last.shapes))
    flops, nbytes = sum(step.flops for step in box.steps), sum(step.nbytes for step in box.steps)
    lines = [shortened(made, 44), f"{short(flops)} FLOP · {short(nbytes)} B"]
    operator = last.operator
    if operator and len(box.steps) == 1 and operator != last.function and last.kind != "group":
        lines.insert(0, shortened(operator))
    writes = [name for step in box.steps for name in step.writes]
    return lines + ([f"→ {shortened(', '.join(writes), 30)}"] if writes else [])


def _gives_result(plan: Plan, box: Box) -> bool:
    results = {repr(array) for array in plan.program.results}
    return any(name in results for step in box.steps for name in step.outputs)
