"""A profile as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import language
from ..table import aligned, width
from .totals import Total

if TYPE_CHECKING:
    from .profile import Profile

PARTS = ("forward", "backward", "update", "compiled")
"""Parts of a step."""
_LONGEST = 48
"""Columns of a line of the program that are shown."""


def table(profile: Profile, by: str, rows: int | None) -> str:
    """The table of ``Profile.table``."""
    words = _WORDS[language()]
    found = profile.totals(by)
    shown = found if rows is None else found[:rows]
    memory = profile.peak is not None
    make = _operator_rows if by == "operator" else _line_rows
    body = aligned(make(shown, profile, memory, words), left=1 if by == "operator" else 2)
    foot = aligned(_summary(profile, found, words))
    rule = "-" * max(map(width, [*body, *foot]))
    lines = [body[0], rule, *body[1:]]
    if len(shown) < len(found):
        lines.append(words["more"].format(count=len(found) - len(shown)))
    return "\n".join([*lines, rule, *foot])


def _operator_rows(found: Sequence[Total], profile: Profile, memory: bool, words: dict[str, str]) -> list[list[str]]:
    names = [
        "operator",
        "calls",
        "total ms",
        "own ms",
        "share",
        "GFLOP/s",
        "GB/s",
        *(["allocated"] if memory else []),
        "shapes",
    ]
    made = [[words[name] for name in names]]
    for total in found:
        cells = [total.name, f"{total.calls:,}", _ms(total.seconds), _ms(total.own), _share(total.own, profile), *_rates(total)]
        cells += [_mb(total.allocated)] if memory else []
        made.append([*cells, _shapes(total)])
    return made


def _line_rows(found: Sequence[Total], profile: Profile, memory: bool, words: dict[str, str]) -> list[list[str]]:
    parts = [part for part in PARTS if any(getattr(total, part) for total in found)]
    names = ["line", "code", "calls", *[f"{part} ms" for part in parts], "share", "GFLOP/s", "GB/s"]
    made = [[words[name] for name in [*names, *(["allocated"] if memory else [])]]]
    for total in found:
        text = total.line.text if total.line is not None else words["unknown"]
        times = [_ms(getattr(total, part)) for part in parts]
        cells = [total.name, _short(text), f"{total.calls:,}", *times, _share(total.own, profile), *_rates(total)]
        made.append([*cells, *([_mb(total.allocated)] if memory else [])])
    return made


def _summary(profile: Profile, found: Sequence[Total], words: dict[str, str]) -> list[list[str]]:
    """Where the time went, and what was done."""
    outer = [call for call in profile.calls if call.parent is None]
    rows = [[words["time"], _ms(profile.seconds), ""]]
    for part in PARTS:
        seconds = sum(call.nanoseconds for call in outer if call.part == part) / 1e9
        if seconds:
            rows.append(["  " + words[part], _ms(seconds), _share(seconds, profile)])
    rows.append(["  " + words["outside"], _ms(profile.outside), _share(profile.outside, profile)])
    rows.append([words["flops"], f"{sum(call.flops for call in outer) / 1e9:,.3f}", ""])
    rows.append([words["bytes"], f"{sum(call.nbytes for call in outer) / 1e9:,.3f}", ""])
    if profile.peak is not None:
        rows.append([words["peak"], _mb(profile.peak), ""])
    return rows


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f}" if seconds else "-"


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.3f}"


def _share(seconds: float, profile: Profile) -> str:
    return f"{seconds / profile.seconds:.1%}" if profile.seconds else "-"


def _rates(total: Total) -> list[str]:
    return [f"{rate:,.2f}" if rate else "-" for rate in (total.gflops_per_second, total.gigabytes_per_second)]


def _shapes(total: Total) -> str:
    """The shapes of most calls, and how many others there are."""
    (shapes, _), *_ = total.shapes.most_common(1)
    others = f" +{len(total.shapes) - 1}" if len(total.shapes) > 1 else ""
    return _short(" ".join(map(str, shapes))) + others


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_WORDS = {
    "en": {
        "operator": "operator",
        "line": "line",
        "code": "code",
        "calls": "calls",
        "total ms": "total ms",
        "own ms": "own ms",
        "forward ms": "forward ms",
        "backward ms": "backward ms",
        "update ms": "update ms",
        "compiled ms": "compiled ms",
        "share": "share",
        "GFLOP/s": "GFLOP/s",
        "GB/s": "GB/s",
        "allocated": "allocated MB",
        "shapes": "shapes",
        "unknown": "(made before the profile)",
        "more": "… and {count} more",
        "time": "time, ms",
        "forward": "forward",
        "backward": "backward",
        "update": "update",
        "compiled": "compiled",
        "outside": "outside of operators",
        "flops": "GFLOP",
        "bytes": "GB read and written",
        "peak": "peak of allocated memory, MB",
    },
    "ja": {
        "operator": "演算",
        "line": "行",
        "code": "コード",
        "calls": "回数",
        "total ms": "合計 ms",
        "own ms": "自身 ms",
        "forward ms": "順伝播 ms",
        "backward ms": "逆伝播 ms",
        "update ms": "更新 ms",
        "compiled ms": "コンパイル済み ms",
        "share": "割合",
        "GFLOP/s": "GFLOP/s",
        "GB/s": "GB/s",
        "allocated": "確保 MB",
        "shapes": "形状",
        "unknown": "(プロファイルの前に作られた演算)",
        "more": "… ほか {count} 行",
        "time": "時間 (ms)",
        "forward": "順伝播",
        "backward": "逆伝播",
        "update": "更新",
        "compiled": "コンパイル済み",
        "outside": "演算以外",
        "flops": "GFLOP",
        "bytes": "読み書き (GB)",
        "peak": "メモリ確保の最大 (MB)",
    },
}
