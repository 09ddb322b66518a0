"""Where the blocks of a drawing stand and how their edges run: rows by depth, columns by time step. O(n log n), the same every time.

Data flows upward. A column holds one time step; a block's row is its depth among the blocks of its column, so that the steps of a
recurrent network, which repeat one structure, line up. Edges run between rows and between columns only, never through a block: up from
their source into the gap above it, along it, and, if the target is not just above, through the gutter between two columns.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

BLOCK_GAP = 22.0
ROW_GAP = 34.0
GUTTER = 36.0
LANE = 7.0
"""Distances in pixels: between blocks of a row, between rows, between columns, between edges that run side by side."""

Point = tuple[float, float]


@dataclasses.dataclass
class Block:
    """A block to be placed. ``middle``: where edges leave its upper side, from the left. ``ports``: for each edge that arrives, the block
    that it comes from and its x from the left. ``x``, ``y``: its upper left corner, once placed."""

    width: float
    height: float
    middle: float
    column: int
    ports: list[tuple[int, float]]
    row: int = 0
    x: float = 0.0
    y: float = 0.0


@dataclasses.dataclass
class Edge:
    """An edge from one block to a port of another. Three points: a curve through the gap between two rows, and up to the port; six: up,
    along, up or down a gutter, along, and up to the port."""

    source: int
    target: int
    port: int
    points: list[Point]


@dataclasses.dataclass
class Layout:
    """Placed blocks, their edges, the left and right end of each column, and the size of it all."""

    blocks: list[Block]
    edges: list[Edge]
    columns: list[tuple[float, float]]
    width: float
    height: float


class Steps(NamedTuple):
    """The time step of each block, and how many there are. -1: before all steps; ``number``: after all steps."""

    of: list[int]
    number: int


def time_steps(sources: Sequence[Sequence[int]], leaves: Sequence[Sequence[int]]) -> Steps | None:
    """The time step of each block, or None where nothing recurs.

    sources: for each block, in the order in which they ran, the blocks that it takes values from. leaves: for each block the leaves
    that it uses. A leaf that is used again and again, each time deeper in the graph, marks the steps: its k-th use belongs to step k, and
    so does what follows before the next one. What only prepares a step goes with it. What prepares several steps comes before them all;
    what collects from several, and what follows from that, after them all. A step is never below that of a source.

    >>> time_steps([[], [0], [1], [2]], [[7], [], [7], []])
    Steps(of=[0, 0, 1, 1], number=2)
    """
    depth: list[int] = []
    for given in sources:
        depth.append(1 + max([depth[j] for j in given], default=0))
    marks = _recurring(depth, leaves)
    if marks is None:
        return None
    known = _steps_from_sources(sources, marks)
    steps = [0] * len(known)
    users: dict[int, tuple[int, int]] = {}  # lowest and highest step among those that take a block
    for i in range(len(known) - 1, -1, -1):
        step = known[i]
        if step is None:  # it lies before every mark, so those that take it decide
            low, high = users.get(i, (0, 0))
            step = low if low == high else -1
        steps[i] = step
        for j in sources[i]:
            low, high = users.get(j, (step, step))
            users[j] = (min(low, step), max(high, step))
    return Steps(steps, len(marks))


def _steps_from_sources(sources: Sequence[Sequence[int]], marks: dict[int, int]) -> list[int | None]:
    """The step of each block behind a mark: that of its latest source. None before the first mark."""
    leads_to_mark = set(marks)
    for i in range(len(sources) - 1, -1, -1):
        if i in leads_to_mark:
            leads_to_mark.update(sources[i])
    after = len(marks)
    steps: list[int | None] = []
    for i, given in enumerate(sources):
        known = {step for j in given if (step := steps[j]) is not None}
        if i not in leads_to_mark and known and max(known) - min(known) > 1:
            known = {after}
        steps.append(max(known | ({marks[i]} if i in marks else set()), default=None))
    return steps


def _recurring(depth: Sequence[int], leaves: Sequence[Sequence[int]]) -> dict[int, int] | None:
    """Block -> step, for the blocks that use the leaf with the most uses, each deeper than the one before."""
    uses: dict[int, list[int]] = {}
    for i, given in enumerate(leaves):
        for leaf in sorted(set(given)):
            uses.setdefault(leaf, []).append(i)
    best: list[int] = []
    for leaf in sorted(uses):
        blocks = uses[leaf]
        if len(blocks) > max(1, len(best)) and all(depth[a] < depth[b] for a, b in itertools.pairwise(blocks)):
            best = blocks
    return {block: step for step, block in enumerate(best)} or None


def place(blocks: Sequence[Block]) -> Layout:
    """Place blocks and route their edges. A port's source comes before its block, in the same column or one to the left of it."""
    blocks = list(blocks)
    for block in blocks:
        below = [blocks[j].row for j, _ in block.ports if blocks[j].column == block.column]
        block.row = 1 + max(below, default=-1)
    columns = _place_in_columns(blocks)
    edges = [Edge(j, i, p, []) for i, block in enumerate(blocks) for p, (j, _) in enumerate(block.ports)]
    return _Router(blocks, edges, columns).layout()


# ---- inside of a column --------------------------------------------------------------------------


def _place_in_columns(blocks: list[Block]) -> list[float]:
    """Give each block its x from the left end of its column; the widths of the columns."""
    count = 1 + max([block.column for block in blocks], default=-1)
    rows: list[dict[int, list[int]]] = [{} for _ in range(count)]
    for i, block in enumerate(blocks):
        rows[block.column].setdefault(block.row, []).append(i)
    widths = []
    for column in rows:
        members: list[int] = []
        for row in sorted(column):
            _place_row(blocks, column[row])
            members += column[row]
        left = min([blocks[i].x for i in members], default=0.0)
        for i in members:
            blocks[i].x -= left
        widths.append(max([blocks[i].x + blocks[i].width for i in members], default=0.0))
    return widths


def _place_row(blocks: list[Block], row: list[int]) -> None:
    """Side by side, each as near as may be to the place right above what it takes from its own column."""
    wish: dict[int, float] = {}
    for i in row:
        block = blocks[i]
        below = [(blocks[j], at) for j, at in block.ports if blocks[j].column == block.column]
        wanted = [source.x + source.middle - at for source, at in below]
        wish[i] = sum(wanted) / len(wanted) if wanted else 0.0
    lowest = blocks[row[0]].row == 0  # nothing lies below it, so the order in which the blocks ran decides
    order = sorted(row, key=lambda i: (0.0 if lowest else wish[i] + blocks[i].middle, i))
    end = None
    for i in order:
        blocks[i].x = wish[i] if end is None else max(wish[i], end + BLOCK_GAP)
        end = blocks[i].x + blocks[i].width
    shift = sum(wish[i] - blocks[i].x for i in order) / len(order)
    for i in order:
        blocks[i].x += shift


# ---- edges ---------------------------------------------------------------------------------------


def lanes(spans: Iterable[tuple[float, float]]) -> list[int]:
    """The lowest lane for each span in which it meets no other one.

    >>> lanes([(0, 5), (2, 3), (6, 9)])
    [0, 1, 0]
    """
    spans = list(spans)
    made = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for i in sorted(range(len(spans)), key=lambda i: (spans[i], i)):
        low, high = spans[i]
        while busy and busy[0][0] < low:
            heappush(free, heappop(busy)[1])
        if free:
            lane = heappop(free)
        else:
            lane, used = used, used + 1
        made[i] = lane
        heappush(busy, (high, lane))
    return made


class _Router:
    """Chooses a lane for each edge in the gaps and gutters that it takes, then gives everything its coordinates."""

    def __init__(self, blocks: list[Block], edges: list[Edge], widths: list[float]) -> None:
        self.blocks, self.edges, self.widths = blocks, edges, widths
        self.rows = 1 + max([block.row for block in blocks], default=-1)

    def layout(self) -> Layout:
        far = [edge for edge in self.edges if not self._is_near(edge)]
        gutters = {id(edge): self._gutter(edge) for edge in far}
        in_gutter = self._lanes(far, lambda edge: (gutters[id(edge)], self._gaps(edge)))
        left = self._place_columns(gutters, in_gutter)
        turn = {id(edge): left[gutters[id(edge)]] + LANE * (in_gutter[id(edge)] + 1) for edge in far}
        out_lane = self._lanes(far, lambda edge: (self._gaps(edge)[0], (self._source_x(edge), turn[id(edge)])))
        in_lane = self._lanes(far, lambda edge: (self._gaps(edge)[1], (self._port_x(edge), turn[id(edge)])))
        bottom, height = self._place_rows(far, out_lane, in_lane)
        for edge in self.edges:
            edge.points = self._points(edge, turn, out_lane, in_lane, bottom)
        columns = [
            (left[c] + self._gutter_width[c], left[c] + self._gutter_width[c] + width) for c, width in enumerate(self.widths)
        ]
        return Layout(self.blocks, self.edges, columns, left[-1] + self._gutter_width[-1], height)

    def _is_near(self, edge: Edge) -> bool:
        """Whether it only crosses the gap between two rows of one column."""
        above, below = self._gaps(edge)
        return above == below and self.blocks[edge.source].column == self.blocks[edge.target].column

    def _gaps(self, edge: Edge) -> tuple[int, int]:
        """The gap that an edge goes up into, and the one that it arrives from: gap r lies below row r."""
        return self.blocks[edge.source].row + 1, self.blocks[edge.target].row

    def _gutter(self, edge: Edge) -> int:
        """The gutter left of the target's column; right of it for an edge within the column whose ends are in its right half."""
        source, target = self.blocks[edge.source], self.blocks[edge.target]
        if source.column < target.column:
            return target.column
        middle = (source.x + source.middle + target.x + target.ports[edge.port][1]) / 2
        return target.column + (middle > self.widths[target.column] / 2)

    @staticmethod
    def _lanes(edges: list[Edge], span: Callable[[Edge], tuple[int, tuple[float, float]]]) -> dict[int, int]:
        """Edge -> lane, among the edges of the same gap or gutter. span: which one, and between where it runs."""
        groups: dict[int, list[tuple[Edge, tuple[float, float]]]] = {}
        for edge in edges:
            where, ends = span(edge)
            groups.setdefault(where, []).append((edge, (min(ends), max(ends))))
        made: dict[int, int] = {}
        for where in sorted(groups):
            members = groups[where]
            for (edge, _), lane in zip(members, lanes([reach for _, reach in members])):
                made[id(edge)] = lane
        return made

    def _place_columns(self, gutters: dict[int, int], in_gutter: dict[int, int]) -> list[float]:
        """The left end of each gutter; moves the blocks to the right of theirs."""
        most = [0] * (len(self.widths) + 1)
        for key, gutter in gutters.items():
            most[gutter] = max(most[gutter], in_gutter[key] + 1)
        self._gutter_width = [GUTTER + LANE * count for count in most]
        left, start = [], [0.0] * len(self.widths)
        x = 0.0
        for column, width in enumerate([*self.widths, 0.0]):
            left.append(x)
            x += self._gutter_width[column]
            if column < len(start):
                start[column] = x
            x += width
        for block in self.blocks:
            block.x += start[block.column]
        return left

    def _place_rows(self, far: list[Edge], out_lane: dict[int, int], in_lane: dict[int, int]) -> tuple[list[float], float]:
        """The bottom of each row, counted from above; gives blocks their y."""
        out_most, in_most, tall = [0] * (self.rows + 1), [0] * (self.rows + 1), [0.0] * self.rows
        for edge in far:
            above, below = self._gaps(edge)
            out_most[above] = max(out_most[above], out_lane[id(edge)] + 1)
            in_most[below] = max(in_most[below], in_lane[id(edge)] + 1)
        for block in self.blocks:
            tall[block.row] = max(tall[block.row], block.height)
        gaps = [ROW_GAP + LANE * (out + into) for out, into in zip(out_most, in_most)]
        bottom = [0.0] * self.rows
        y = gaps[self.rows]
        for row in range(self.rows - 1, -1, -1):
            y += tall[row]
            bottom[row] = y
            y += gaps[row]
        for block in self.blocks:
            block.y = bottom[block.row] - tall[block.row]
        self._bottom_of_gap = [b + g for b, g in zip(bottom, gaps)] + [gaps[self.rows]]
        return bottom, y

    def _source_x(self, edge: Edge) -> float:
        source = self.blocks[edge.source]
        return source.x + source.middle

    def _port_x(self, edge: Edge) -> float:
        target = self.blocks[edge.target]
        return target.x + target.ports[edge.port][1]

    def _points(
        self, edge: Edge, turn: dict[int, float], out_lane: dict[int, int], in_lane: dict[int, int], bottom: list[float]
    ) -> list[Point]:
        source, target = self.blocks[edge.source], self.blocks[edge.target]
        start, end = (self._source_x(edge), source.y), (self._port_x(edge), target.y + target.height)
        if id(edge) not in turn:
            return [start, (end[0], bottom[target.row]), end]
        above, below = self._gaps(edge)
        out_y = self._bottom_of_gap[above] - ROW_GAP / 2 - LANE * out_lane[id(edge)]
        in_y = bottom[below] + ROW_GAP / 2 + LANE * in_lane[id(edge)]
        x = turn[id(edge)]
        return [start, (start[0], out_y), (x, out_y), (x, in_y), (end[0], in_y), end]
