"""What was measured, as tables and as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..timing import markdown_table

NAMES = {"eager": "eager", "compiled": "compiled", "torch": "PyTorch", "torch.compile": "torch.compile", "jax": "JAX"}
"""Side -> the head of its column."""

OURS = ("eager", "compiled")
COLORS = {"eager": "#9ecae1", "compiled": "#2171b5", "torch": "#fdae6b", "torch.compile": "#e6550d", "jax": "#74c476"}

EAGER_BAR = 1.0
RECORDING_BAR = 3.0
BARS = {"mlp": 0.7, "lstm": 0.7, "transformer": 0.7}
"""The ratio compiled / best peer to stay below; 1.0 for the others."""


def seconds(row: dict[str, Any], side: str) -> float | None:
    """Median seconds a step of a side; None where it was not measured."""
    value: float | None = row["sides"].get(side, {}).get("seconds")
    return value


def best_peer(row: dict[str, Any]) -> tuple[str, float] | None:
    """The fastest of the other libraries and its seconds."""
    times = [(seconds(row, side), side) for side in row["sides"] if side not in OURS]
    known = [(value, side) for value, side in times if value is not None]
    return (min(known)[1], min(known)[0]) if known else None


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below where both are known."""
    return None if above is None or below is None else above / below


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.{3 if value < 1e-3 else 2 if value < 1e-2 else 1}f}"


def _verdict(value: float | None, bar: float) -> str:
    return "" if value is None else "yes" if value <= bar else "NO"


def _times(rows: list[dict[str, Any]], sides: list[str]) -> str:
    head = ["ms a step", *(NAMES[side] for side in sides)]
    head += ["best peer", "compiled / best", "bar", "met", "eager / PyTorch", "<= 1.0", "eager / compiled", "floor"]
    lines = []
    for row in rows:
        best = best_peer(row)
        compiled = ratio(seconds(row, "compiled"), best[1] if best else None)
        eager = ratio(seconds(row, "eager"), seconds(row, "torch"))
        bar = BARS.get(row["name"], 1.0)
        cells = [row["title"], *(_milliseconds(seconds(row, side)) for side in sides)]
        cells += [NAMES[best[0]] if best else "-", _number(compiled), f"{bar:.1f}", _verdict(compiled, bar)]
        cells += [
            _number(eager),
            _verdict(eager, EAGER_BAR),
            _number(ratio(seconds(row, "eager"), seconds(row, "compiled")), 1),
        ]
        lines.append([*cells, row["floor"]])
    return markdown_table(head, lines)


def _costs(rows: list[dict[str, Any]], sides: list[str]) -> str:
    head = ["beside the time", *(f"{NAMES[side]} MB" for side in sides), "arena MB", *(f"{NAMES[side]} s" for side in sides)]
    lines = []
    for row in rows:
        found = row["sides"]
        memory = [_number(found[side].get("peak"), 0) if side in found else "-" for side in sides]
        first = [_number(found[side].get("first"), 3) if side in found else "-" for side in sides]
        recording = ratio(found.get("compiled", {}).get("record"), _eager_of_the_same_form(row))
        arena = found.get("compiled", {}).get("arena")
        cells = [
            *memory,
            _number(None if arena is None else arena / 2**20, 1),
            *first,
            _number(recording, 1),
            _verdict(recording, RECORDING_BAR),
        ]
        lines.append([row["title"], *cells])
    return markdown_table([*head, "recording / eager step", "<= 3"], lines)


def _eager_of_the_same_form(row: dict[str, Any]) -> float | None:
    """Seconds of an eager step that is written as the compiled one is."""
    eager, form = row["sides"].get("eager", {}), row["sides"].get("compiled", {}).get("form", "plain")
    return seconds(row, "eager") if eager.get("form", "plain") == form else eager.get("forms", {}).get(form)


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """Forms, missing sides, disagreements."""
    lines = []
    for row in rows:
        forms = [
            f"{NAMES[side]} {found['form']}" for side, found in row["sides"].items() if found.get("form", "plain") != "plain"
        ]
        if forms:
            lines.append(f"- {row['name']}, the fastest form of each side: {', '.join(forms)}.")
        compiled = row["sides"].get("compiled", {})
        if compiled.get("notes"):
            lines.append(f"- {row['name']}, compiled: {'; '.join(compiled['notes'])}.")
        missing = [f"{NAMES[side]} ({found['reason']})" for side, found in row["sides"].items() if "reason" in found]
        if missing:
            lines.append(f"- {row['name']}, not measured: {'; '.join(missing)}.")
        if row["disagreement"]:
            lines.append(f"- {row['name']}: DIFFERENT WORK? {row['disagreement']}.")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """All tables."""
    sides = results["sides"]
    parts = [f"Hardware: {results['hardware']}; threads: {results['threads']}; device: {results['device']}"]
    parts += [f"Versions: {', '.join(results['versions'])}"]
    parts += [
        "",
        "Whole training steps, every side in its own process, in turn; medians. The losses of the first steps agree unless a note says so.",
    ]
    parts += [
        "Memory: the peak of steps after the first ones, beyond the process with the library and the data loaded. Seconds: until the first"
    ]
    parts += [
        "fast step, compilation included. Recording: a call that records, when everything is loaded, beside an eager step of the same form."
    ]
    if results["note"]:
        parts += ["", results["note"]]
    for setting, kernels in results["blas"].items():
        rows = [row for row in results["rows"] if row["blas"] == setting]
        if not rows:
            continue
        parts += ["", f"## BLAS setting: {setting} (kernels of OpenBLAS: {kernels or 'unknown'})", "", _times(rows, sides)]
        parts += ["", _costs(rows, sides), "", *_notes(rows)]
    return "\n".join(parts).rstrip()


WIDEST = 6.0
"""Times of the best peer that the chart shows at most."""


def chart(results: dict[str, Any], files: list[Path]) -> bool:
    """Draw the times relative to the best peer as horizontal bars; False where matplotlib or every peer is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    setting = list(results["blas"])[-1]
    rows = [row for row in results["rows"] if row["blas"] == setting and best_peer(row) is not None]
    sides = results["sides"]
    if not rows:
        return False
    figure = Figure(figsize=(9, 1.2 + len(rows) * (0.35 + 0.17 * len(sides))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.84 / len(sides)
    for k, side in enumerate(sides):
        for i, row in enumerate(rows):
            best, value = best_peer(row), seconds(row, side)
            assert best is not None
            y = i + (k - (len(sides) - 1) / 2) * height
            label = NAMES[side] if i == 0 else None
            width = 0.0 if value is None else value / best[1]
            axes.barh(y, width, height * 0.92, color=COLORS[side], label=label)
            text = "-" if value is None else f"{_milliseconds(value)} ms"
            # a bar that does not fit ends at the edge, with its time inside of it
            cut = width > WIDEST * 0.93
            at, offset, side_of = (WIDEST, -3, "right") if cut else (max(width, 0.02), 3, "left")
            axes.annotate(text, (at, y), xytext=(offset, 0), textcoords="offset points", ha=side_of, va="center", fontsize=7)
    widest = max(((seconds(row, side) or 0.0) / best_peer(row)[1] for row in rows for side in sides), default=1.0)  # type: ignore[index]
    axes.set_xlim(0, min(max(widest, 1.0) * 1.12, WIDEST))
    axes.axvline(1.0, color="#444444", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [row["title"].replace(", ", "\n", 1) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("time of a training step / time of the best peer (below 1 is faster)")
    axes.set_title(f"{results['hardware']}, {results['device']}, {results['threads']} threads", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.06), ncols=len(sides), frameon=False, fontsize=8)
    for file in files:
        figure.savefig(file, dpi=130)
    return True
