"""A plan as text: a header of numbers, what the passes did, and a row for each instruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import language
from ..table import aligned, width

if TYPE_CHECKING:
    from .plan import Plan, PlanStep

_LONGEST = 60
"""Columns of an instruction or a line of the program that are shown."""


def table(plan: Plan, rows: int | None, bodies: bool | None) -> str:
    """The text of ``Plan.table``."""
    words = _WORDS[language()]
    inner = sum(len(step.body) for step in plan.steps)
    if bodies is None:
        bodies = rows is None or len(plan.steps) + inner <= rows
    body = [row for step in plan.steps for row in _rows(step, words, bodies)]
    columns = [words[name] for name in ("#", "instruction", "shape", "buffer", "FLOP", "bytes", "operator", "line")]
    hidden = 0 if rows is None else max(0, len(body) - rows)
    if rows is not None and hidden:
        body = [*body[: rows // 2], *body[len(body) - (rows - rows // 2) :]]
    lines = _columns([columns, *body])
    if rows is not None and hidden:
        lines.insert(1 + rows // 2, words["hidden"].format(count=hidden))
    rule = "-" * max(map(width, lines))
    header = aligned(list(_header(plan, words)), left=2)
    passes = aligned(list(_passes(plan, words)), left=1) if plan.passes else []
    return "\n".join([*header, *passes, rule, lines[0], rule, *lines[1:]])


def _columns(rows: list[list[str]]) -> list[str]:
    """Texts to the left, numbers to the right."""
    widths = [max(map(width, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, most) in enumerate(zip(row, widths)):
            blanks = " " * (most - width(cell))
            cells.append(blanks + cell if index in (4, 5) else cell + blanks)
        lines.append("  ".join(cells).rstrip())
    return lines


def _header(plan: Plan, words: dict[str, str]) -> Iterator[list[str]]:
    executor = plan.executor + (f" ({plan.reason})" if plan.reason else "")
    yield [words["runs"], ", ".join(filter(None, [plan.device, executor]))]
    counts = words["counts"].format(
        operators=f"{plan.operators:,}" if plan.operators else "?",
        recorded=f"{plan.recorded_instructions:,}",
        now=f"{plan.instructions:,}",
        top=f"{len(plan.steps):,}",
        calls="?" if plan.calls is None else f"{plan.calls:,}",
    )
    yield [words["work"], counts]
    before = plan.recorded_cost
    yield ["FLOP", words["from"].format(now=short(plan.flops), before=short(before.flops))]
    yield [words["traffic"], words["from"].format(now=short(plan.nbytes), before=short(before.nbytes))]
    arena = "?" if plan.arena is None else short(plan.arena)
    yield [
        words["memory"],
        words["arena"].format(
            arena=arena, scratch=short(plan.scratch), unshared=short(plan.unshared), peak=short(plan.recorded_peak)
        ),
    ]
    state, constants = plan.program.state, plan.program.constants
    yield [
        words["state"],
        words["arrays"].format(count=len(state), size=short(plan.state_nbytes), writes=len(plan.program.writes)),
    ]
    yield [words["constants"], words["plain arrays"].format(count=len(constants), size=short(plan.constant_nbytes))]
    for note in plan.notes:
        yield [words["note"], note]


def _passes(plan: Plan, words: dict[str, str]) -> Iterator[list[str]]:
    """The runs of passes that made a difference in number."""
    yield [words["pass"], words["before"], words["after"]]
    for name, before, after in plan.passes:
        if before != after:
            yield [name, f"{before:,}", f"{after:,}"]


def _rows(step: PlanStep, words: dict[str, str], bodies: bool) -> Iterator[list[str]]:
    yield _row(step, words, "", bodies)
    if bodies:
        for part in step.body:
            yield _row(part, words, "  ", bodies)


def _row(step: PlanStep, words: dict[str, str], indent: str, bodies: bool) -> list[str]:
    text = step.text
    if step.body and not bodies:
        text += f": {', '.join(part.function for part in step.body)}"
    shapes = " ".join(str(shape) for shape in step.shapes)
    if step.dtypes and any(dtype != "float32" for dtype in step.dtypes):
        shapes += f" {' '.join(dict.fromkeys(step.dtypes))}"
    buffer = " ".join(step.buffers)
    buffer += f" {words['copy']}" if step.copies else ""
    buffer += "".join(f" → {name}" for name in step.writes if name not in step.buffers)
    line = " ".join(filter(None, [step.place, step.code]))
    numbers = [short(step.flops) if step.flops else "-", short(step.nbytes) if step.nbytes else "-"]
    return [
        indent + step.number,
        indent + _short(text),
        _short(shapes),
        buffer,
        *numbers,
        _short(step.operator, 40),
        _short(line),
    ]


def _short(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def short(count: int) -> str:
    """A count in three digits, with k, M, G or T for the powers of 1000.

    >>> short(12_345_678), short(999_960), short(4_200), short(96), short(0)
    ('12.3M', '1.00M', '4.20k', '96', '0')
    """
    if count < 1000:
        return str(count)
    value, letters = float(count), iter("kMGTPE")
    letter = ""
    while value >= 999.5:
        value, letter = value / 1000, next(letters)
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}{letter}"


_WORDS = {
    "en": {
        "#": "#",
        "instruction": "instruction",
        "shape": "shape",
        "buffer": "buffer",
        "FLOP": "FLOP",
        "bytes": "bytes",
        "operator": "operator",
        "line": "line",
        "runs": "runs on",
        "work": "work",
        "counts": "{operators} operators recorded → {recorded} instructions → {now} after the passes, in {top} steps → {calls} calls",
        "from": "{now} (as recorded: {before})",
        "traffic": "bytes read and written",
        "memory": "memory, bytes",
        "arena": "arena {arena}, scratch {scratch}; without reuse {unshared}; arrays of the recording, each until its last use: {peak}",
        "state": "state",
        "arrays": "{count} arrays, {size} bytes; {writes} written",
        "constants": "constants",
        "plain arrays": "{count} arrays, {size} bytes",
        "note": "note",
        "pass": "pass",
        "before": "instructions before",
        "after": "after",
        "copy": "(copies)",
        "hidden": "… {count} more …",
    },
    "ja": {
        "#": "#",
        "instruction": "命令",
        "shape": "形状",
        "buffer": "バッファ",
        "FLOP": "FLOP",
        "bytes": "バイト",
        "operator": "演算",
        "line": "行",
        "runs": "実行",
        "work": "命令数",
        "counts": "記録した演算 {operators} → 命令 {recorded} → 最適化後 {now} ({top} ステップ) → 呼び出し {calls}",
        "from": "{now} (記録時 {before})",
        "traffic": "読み書き (バイト)",
        "memory": "メモリ (バイト)",
        "arena": "作業領域 {arena}、一時領域 {scratch}、再利用なしなら {unshared}、記録時の配列 (最後に使うまで保持) {peak}",
        "state": "状態",
        "arrays": "配列 {count} 個、{size} バイト、うち書き込み {writes} 個",
        "constants": "定数",
        "plain arrays": "配列 {count} 個、{size} バイト",
        "note": "注",
        "pass": "パス",
        "before": "適用前の命令数",
        "after": "適用後",
        "copy": "(コピー)",
        "hidden": "… ほか {count} 行 …",
    },
}
