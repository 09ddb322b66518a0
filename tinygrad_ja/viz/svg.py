"""The tape as SVG: a block for each operator, its parameters and inputs plugged in below it, edges as thick as their gradients."""

from __future__ import annotations

import html
import itertools
import math
import re
import unicodedata
from typing import NamedTuple

from ..errors import language
from .blocks import Item, items_of
from .layout import Block, Edge, Layout, place
from .walkthrough import Input, Value, Walkthrough

MARGIN, HEADER, LEGEND = 12.0, 30.0, 40.0
BOX, PLUG, STUB = 66.0, 58.0, 6.0
"""Pixels: around everything, headings of columns, legend; heights of an operator's box, of a plug below it, and of the line between."""
EMPTY_PORT = 26.0

STYLE = """
.tape { --ink: #1b2430; --soft: #55606e; --paper: #ffffff; --column: #f3f5f8; --box: #ffffff; --line: #8a95a3; --edge: #97a1ae;
  --time: #7b46c4; --grad: #b3301f; --parameter: #dce9fd; --parameter-line: #3a72c6; --input: #def2e1; --input-line: #3c8f53;
  --loss: #ffe2d9; --loss-line: #cc4a2b; background: var(--paper);
  font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", "Hiragino Sans", "Noto Sans JP", "IPAexGothic", sans-serif; }
@media (prefers-color-scheme: dark) { .tape { --ink: #e6ebf1; --soft: #a3afbd; --paper: #12171e; --column: #1a212b; --box: #232c38;
  --line: #66727f; --edge: #6d7986; --time: #b692f0; --grad: #ff9584; --parameter: #1f3557; --parameter-line: #6ea0ea;
  --input: #1d3b28; --input-line: #68bb80; --loss: #4b251c; --loss-line: #f08163; } }
.tape text { fill: var(--ink); font-size: 12px; text-anchor: middle; }
.tape .title { font-size: 14px; font-weight: 600; }
.tape .soft { fill: var(--soft); }
.tape .norm { fill: var(--grad); }
.tape .heading { font-size: 14px; fill: var(--soft); }
.tape .left { text-anchor: start; }
.tape .paper { fill: var(--paper); }
.tape .column { fill: var(--column); }
.tape .box { fill: var(--box); stroke: var(--line); stroke-width: 1.3; }
.tape .loss .box { fill: var(--loss); stroke: var(--loss-line); stroke-width: 2; }
.tape .group .box { stroke-dasharray: 5 4; }
.tape .plug { fill: var(--input); stroke: var(--input-line); }
.tape .plug.parameter { fill: var(--parameter); stroke: var(--parameter-line); }
.tape .plug.more { fill: var(--column); stroke: var(--line); }
.tape .stub { stroke: var(--line); stroke-width: 1.3; }
.tape .edge { fill: none; stroke: var(--edge); stroke-linecap: round; }
.tape .edge.time { stroke: var(--time); }
.tape .edge.nothing { stroke-dasharray: 2 5; }
"""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def escaped(text: str) -> str:
    """Text for XML: marked characters escaped, those that XML does not know replaced.

    >>> escaped('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return html.escape(_UNPRINTABLE.sub("\ufffd", text), quote=True)


def number(value: float | None) -> str:
    """A norm in three digits.

    >>> number(0.03125), number(None)
    ('0.0312', '?')
    """
    return "?" if value is None else f"{value:.3g}"


class _Shape(NamedTuple):
    """The width of a block, the left end and the width of its box, where edges leave it, and where its ports are."""

    width: float
    left: float
    box: float
    exit: float
    ports: list[float]


# ---- the picture ---------------------------------------------------------------------------------


class Picture:
    """The drawing of a walkthrough: ``items``, ``layout``, and ``svg``, its text."""

    def __init__(self, walk: Walkthrough, limit: int) -> None:
        self.walk = walk
        self.items, self.headings = items_of(walk, limit)
        self.layout: Layout = place([self._block(item) for item in self.items])
        norms = [_norm(given) for item in self.items for given in item.inputs]
        self._largest = max([norm for norm in norms if math.isfinite(norm)], default=0.0)

    def svg(self, *, legend: bool = True, style: bool = True) -> str:
        """The SVG. legend: explain the colours below. style: carry its own style sheet."""
        layout = self.layout
        wide = max(layout.width + 2 * MARGIN, 470.0 if legend else 0.0)
        tall = layout.height + 2 * MARGIN + (HEADER if self.headings else 0) + (LEGEND if legend else 0)
        down = MARGIN + (HEADER if self.headings else 0)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tape" width="{wide:.0f}" height="{tall:.0f}" '
            f'viewBox="0 0 {wide:.0f} {tall:.0f}" role="img" aria-label="tape">',
            f"<style>{STYLE}</style>" if style else "",
            f'<rect class="paper" width="{wide:.0f}" height="{tall:.0f}"/>',
            f'<g transform="translate({MARGIN:.0f},{down:.0f})">',
            *self._columns(),
            *[self._edge(edge) for edge in layout.edges],
            *[self._node(index, item) for index, item in enumerate(self.items)],
            "</g>",
            self._legend(tall) if legend else "",
            "</svg>",
        ]
        return "\n".join(filter(None, parts))

    # -- sizes

    def _block(self, item: Item) -> Block:
        shape = self._shape(item)
        ports = [(source, x) for source, x in zip(item.sources, shape.ports) if source is not None]
        return Block(shape.width, BOX + (STUB + PLUG if item.plugged else 0), shape.exit, item.column, ports)

    def _shape(self, item: Item) -> _Shape:
        """The box stands above its ports in such a way that what arrives arrives in its middle, as far as it still covers its plugs. What
        leaves it does so right above what arrives, so that a chain of operators is a straight line."""
        widths = [self._port_width(given, source) for given, source in zip(item.inputs, item.sources)]
        first, *more = self._lines(item)
        box = max(90.0, text_width(first, 14), *[text_width(line, 12) for line in more])
        ends = [0.0, *itertools.accumulate(widths)]
        ports = [(a + b) / 2 for a, b in itertools.pairwise(ends)]
        arriving = [x for x, source in zip(ports, item.sources) if source is not None]
        middle = sum(arriving) / len(arriving) if arriving else ends[-1] / 2
        wish = middle - box / 2
        if ports:
            box = max(box, ports[-1] - ports[0] + 24)
            wish = min(max(wish, ports[-1] + 12 - box), ports[0] - 12)
        left = min(wish, 0.0)
        leaving = middle if arriving else wish + box / 2
        return _Shape(max(wish + box, ends[-1]) - left, wish - left, box, leaving - left, [x - left for x in ports])

    def _port_width(self, given: Input, source: int | None) -> float:
        return EMPTY_PORT if source is not None else max(text_width(line, 12) for line in self._plug_lines(given))

    def _lines(self, item: Item) -> list[Line]:
        entry = item.entry
        if entry is None:
            return [item.title, ("operators", "演算"), ""]
        shapes = " · ".join(str(out.shape) for out in entry.outputs[:3]) + (" …" if len(entry.outputs) > 3 else "")
        norms = [g.norm for g in entry.cotangents if g is not None and g.norm is not None]
        norm = math.hypot(*norms) if norms else None
        return [shortened(item.title), f"{shapes} {entry.outputs[0].dtype}", f"‖g‖ {number(norm)}"]

    @staticmethod
    def _plug_lines(given: Input) -> list[Line]:
        value = given.value
        if given.kind == "more":
            return [given.label, "", ""]
        if value is None:
            return [shortened(given.name), ("not kept", "保存なし"), ""]
        if given.kind == "parameter":
            return [shortened(given.label), str(value.shape), "" if given.gradient is None else _gradient(given.gradient)]
        numbers = value.numbers if value.numbers is not None and len(value.numbers) <= 16 else ""
        if value.dtype in ("int", "float", "bool"):
            return [numbers, ("number", "数"), ""]
        return [shortened(given.label), str(value.shape), numbers]

    # -- parts

    def _columns(self) -> list[str]:
        parts = []
        for (left, right), heading in zip(self.layout.columns, self.headings):
            if not heading:
                continue
            x, wide = left - 10, right - left + 20
            parts.append(
                f'<rect class="column" x="{x:.1f}" y="{-HEADER + 4:.1f}" width="{wide:.1f}" '
                f'height="{self.layout.height + HEADER - 4:.1f}" rx="10"/>'
            )
            parts.append(f'<text class="heading" x="{(left + right) / 2:.1f}" y="{-HEADER + 22:.1f}">{escaped(heading)}</text>')
        return parts

    def _edge(self, edge: Edge) -> str:
        item = self.items[edge.target]
        values = [index for index, source in enumerate(item.sources) if source is not None]
        given = item.inputs[values[edge.port]]
        norm = _norm(given)
        kinds = ["edge"]
        if self._from_step_to_step(edge):
            kinds.append("time")
        if norm == 0:
            kinds.append("nothing")
        tip = f"{self.items[edge.source].title} → {item.title}.{given.name}"
        if given.gradient is not None:
            tip += f"\n{_gradient(given.gradient)} {given.gradient.shape}"
        thick = self._thickness(norm)
        ends = f'data-from="{edge.source}" data-to="{edge.target}"'
        end_y = edge.points[-1][1] - (STUB + PLUG if item.plugged else 0)
        return (
            f'<path class="{" ".join(kinds)}" {ends} stroke-width="{thick:.2f}" d="{edge_path(edge, end_y)}">'
            f"<title>{escaped(tip)}</title></path>"
        )

    def _from_step_to_step(self, edge: Edge) -> bool:
        columns = self.items[edge.source].column, self.items[edge.target].column
        return columns[0] != columns[1] and all(self.headings[column] for column in columns)

    def _thickness(self, norm: float) -> float:
        """1.2 to 4.2 pixels over six powers of ten below the largest gradient."""
        if not (norm > 0 and self._largest > 0):
            return 1.2
        share = 1 + math.log10(min(norm, self._largest) / self._largest) / 6
        return 1.2 + 3 * max(0.0, share)

    def _node(self, index: int, item: Item) -> str:
        block, shape = self.layout.blocks[index], self._shape(item)
        middle = shape.left + shape.box / 2
        lines = self._lines(item)
        tip = item.title if item.entry is None else f"{item.title}\n{item.entry.summary}"
        parts = [
            f'<g class="node {item.kind}" data-item="{index}" transform="translate({block.x:.1f},{block.y:.1f})">',
            f"<title>{escaped(tip)}</title>",
            f'<rect class="box" x="{shape.left:.1f}" width="{shape.box:.1f}" height="{BOX:.0f}" rx="8"/>',
            text_at(middle, 21, lines[0], "title"),
            text_at(middle, 39, lines[1], "soft"),
            text_at(middle, 56, lines[2], "norm"),
        ]
        for given, source, port in zip(item.inputs, item.sources, shape.ports):
            if source is None:
                parts += self._plug(given, port, self._port_width(given, source))
        parts.append("</g>")
        return "\n".join(filter(None, parts))

    def _plug(self, given: Input, x: float, wide: float) -> list[str]:
        lines = self._plug_lines(given)
        top = BOX + STUB
        area = f'x="{x - wide / 2 + 2:.1f}" y="{top:.1f}" width="{wide - 4:.1f}" height="{PLUG:.0f}"'
        return [
            f'<line class="stub" x1="{x:.1f}" y1="{BOX:.1f}" x2="{x:.1f}" y2="{top:.1f}"/>',
            f"<g><title>{escaped(f'{given.label or given.name} → {given.name}')}</title>",
            f'<rect class="plug {given.kind}" {area} rx="8"/>',
            text_at(x, top + 17, lines[0], ""),
            text_at(x, top + 33, lines[1], "soft"),
            text_at(x, top + 49, lines[2], "norm" if given.kind == "parameter" else "soft"),
            "</g>",
        ]

    def _legend(self, tall: float) -> str:
        y = tall - LEGEND / 2
        parts, x = ["<g>"], MARGIN + 6
        for kind, word in LEGEND_WORDS:
            text = in_language(word)
            mark = f'class="plug {kind}"' if kind in ("parameter", "input") else 'class="box"'
            parts.append(f'<g class="{kind}"><rect {mark} x="{x:.0f}" y="{y - 8:.0f}" width="20" height="16" rx="4"/></g>')
            parts.append(f'<text class="left" x="{x + 27:.0f}" y="{y + 4:.0f}">{escaped(text)}</text>')
            x += 27 + text_width(text, 12) + 6
        parts.append("</g>")
        return "\n".join(parts)


Line = str | tuple[str, str]
"""A line of a block; a word of ours in both languages."""

LEGEND_WORDS: list[tuple[str, tuple[str, str]]] = [
    ("parameter", ("parameter", "パラメータ")),
    ("input", ("input", "入力")),
    ("operator", ("operator", "演算")),
    ("loss", ("loss", "誤差")),
]


def _norm(given: Input) -> float:
    """The norm of the gradient that an input was sent; NaN where there is none."""
    gradient = given.gradient
    return math.nan if gradient is None or gradient.norm is None else gradient.norm


def _gradient(value: Value) -> str:
    return f"‖g‖ {number(value.norm)}"


def in_language(word: Line) -> str:
    """A line of a block in the current language."""
    return word if isinstance(word, str) else word[language() == "ja"]


def shortened(text: str, most: int = 26) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def text_width(line: Line, size: float) -> float:
    """About as wide as the line will be in any language, with room at its sides."""
    if isinstance(line, tuple):
        return max(text_width(word, size) for word in line)
    wide = sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in line)
    return wide * size + 18


def text_at(x: float, y: float, line: Line, kind: str) -> str:
    if not line:
        return ""
    mark = f' class="{kind}"' if kind else ""
    both = f' data-en="{line[0]}" data-ja="{line[1]}"' if isinstance(line, tuple) else ""
    return f'<text{mark} x="{x:.1f}" y="{y:.1f}"{both}>{escaped(in_language(line))}</text>'


def edge_path(edge: Edge, end_y: float) -> str:
    """The path of an edge up to ``end_y``: a curve between neighbouring rows, else straight lines with round corners."""
    points = [*edge.points[:-1], (edge.points[-1][0], end_y)]
    if len(points) == 3:
        (x0, y0), (x1, y1), (x2, y2) = points
        middle = (y0 + y1) / 2
        return f"M{x0:.1f} {y0:.1f}C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"
    made = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, corner, after in zip(points, points[1:], points[2:]):
        a, b = _toward(corner, before), _toward(corner, after)
        made.append(f"L{a[0]:.1f} {a[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {b[0]:.1f} {b[1]:.1f}")
    return "".join(made) + f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"


def _toward(corner: tuple[float, float], other: tuple[float, float], radius: float = 7.0) -> tuple[float, float]:
    """The point where the round corner begins."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = math.hypot(dx, dy)
    share = min(radius, length / 2) / length if length else 0.0
    return corner[0] + dx * share, corner[1] + dy * share
