"""What docs/compile.md shows: its tables and listings, and its pictures.

python docs/pictures/compile.py     prints the tables and listings and writes them into both pages, between the marks that name them; draws
docs/images/compile_passes.png, compile_products.png, compile_memory.png and compile_plan.svg, and the same with Japanese words as ..._ja
"""

from __future__ import annotations

import importlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tinygrad_ja as tg
from tinygrad_ja.viz.figures import Words, matplotlib, save_figure

HOME = "tinygrad_ja.compiler"
PASSES: dict[str, Callable[[Any], Any]] = importlib.import_module(f"{HOME}.passes").PASSES
PROGRAM, PLANNING = importlib.import_module(f"{HOME}.program"), importlib.import_module(f"{HOME}.planning")

DOCS = Path(__file__).resolve().parent.parent
IMAGES = DOCS / "images"
SHORT, LONG = 3, 8
LIGHT, DARK = "#9ecae1", "#2171b5"
KINDS = {
    "x W_in": "#74c476",
    "z W": "#2171b5",
    "z W_out": "#9e9ac8",
    "g W_outᵀ": "#bcbddc",
    "δ Wᵀ": "#6baed6",
    "∂E/∂W_out": "#fdd0a2",
    "∂E/∂W": "#e6550d",
    "∂E/∂W_in": "#fdae6b",
}


class Adder:
    """The network of the page over ``steps`` bits, compiled, and its program before and after each run of a pass."""

    def __init__(self, steps: int, disable: tuple[str, ...] = (), backend: str | None = None) -> None:
        step, self.parameters, self.batch = definition()(steps)
        self.plain, self.compiled = step, tg.compile(step, disable=disable, backend=backend)
        self.stages: list[tuple[str, Any]] = []
        before = dict(PASSES)
        try:
            for name, function in before.items():
                PASSES[name] = self._watched(name, function)
            for _ in range(3):
                self.compiled(*self.batch)
        finally:
            PASSES.update(before)
        for _, program in self.stages:
            self._name(program)
        self.plan = self.compiled.plan()

    def _watched(self, name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(program: Any) -> Any:
            made = function(program)
            self.stages += [(name, made)] if self.stages else [("", program), (name, made)]
            return made

        return run

    def _name(self, program: Any) -> None:
        """Give arrays the names that they have in the formulas, and those without one a number."""
        for array, real in program.state.items():
            for name, tensor in self.parameters.items():
                if real is tensor.array:
                    array.name = name
                elif real is tensor.grad.array:
                    array.name = f"{name}.grad"
        for array, name in zip(program.arguments, ("x", "d")):
            array.name = name
        for array in program.numbers:
            array.name = "lr"
        for array, value in program.constants.items():
            if value.size == 1:
                array.name = f"{value.item():g}"
        if program is self.stages[0][1]:
            states = [i.output for i in program.instructions if i.function == "tanh"]
            deltas = [
                i.output for i in program.instructions if (i.function, i.source.operator) == ("subtract", "tanh.backward")
            ]
            outputs = [i.output for i in program.instructions if (i.function, i.source.operator) == ("divide", "sigmoid")]
            slopes = [
                i.output for i in program.instructions if (i.function, i.source.operator) == ("multiply", "sigmoid.backward")
            ]
            for letter, arrays in (("z", states), ("δ", deltas[::-1]), ("y", outputs), ("g", slopes[::-2][: len(states)])):
                for t, array in enumerate(arrays, 1):
                    array.name = f"{letter}{t}"
        PROGRAM.name_arrays(program)


def definition() -> Callable[[int], Any]:
    """The function ``adder`` of the page, as if it stood in a file of its own."""
    page = (DOCS / "compile.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "def adder" in b)
    file = Path(tempfile.mkdtemp()) / "adder.py"
    file.write_text(block, encoding="utf-8")
    names: dict[str, Any] = {"__name__": "adder", "tg": tg}
    exec(compile(block, str(file), "exec"), names)
    return names["adder"]


# ---- counting ------------------------------------------------------------------------------------


def works(program: Any) -> list[Any]:
    """The instructions that do something: no views, groups opened."""
    return [i for i in PROGRAM.flat(program.instructions) if i.kind != "view"]


def counts(program: Any) -> tuple[int, int, int]:
    """Instructions, matrix products among them, and steps: a group is one."""
    found = works(program)
    return len(found), sum(i.kind == "matmul" for i in found), sum(i.kind != "view" for i in program.instructions)


def rows(stages: list[tuple[str, Any]]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """The recording, and each run of a pass that made a difference in number."""
    known = counts(stages[0][1])
    yield "", known
    for name, program in stages[1:]:
        now = counts(program)
        if now != known:
            yield name, now
        known = now


def table(head: list[str], lines: list[list[str]]) -> str:
    """Markdown, with numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])


# ---- listings ------------------------------------------------------------------------------------


def seen(array: Any, makers: dict[Any, Any]) -> str:
    """An array in a listing; a view is written as what it is a view of."""
    maker = makers.get(array)
    if maker is None or maker.kind != "view":
        return repr(array)
    inner = seen(maker.inputs[0], makers)
    if maker.function == "transpose":
        return f"{inner}ᵀ"
    if maker.function == "slice" and not inner.endswith("]"):
        key = [part for part in maker.options["key"] if part is not None]
        return f"{inner}[{key[0].start}:{key[0].stop}]" if isinstance(key[0], slice) else f"{inner}[{key[0]}]"
    return inner


def listing(program: Any) -> list[str]:
    """A line for each instruction that is no view, for each array that is written, and for the result."""
    makers = {output: i for i in PROGRAM.flat(program.instructions) for output in i.outputs}
    lines = []
    for i in program.instructions:
        if i.kind != "view":
            made, read = (", ".join(seen(a, makers) for a in arrays) for arrays in (i.outputs, i.inputs))
            inside = f" [{', '.join(part.function for part in i.options['body'])}]" if i.kind == "group" else ""
            shapes = " ".join("×".join(map(str, a.shape)) or "1" for a in i.outputs)
            lines.append(f"{made} = {i.kind if inside else i.function}({read}){inside}  {shapes}")
    lines += [f"{old!r} <- {seen(new, makers)}" for old, new in program.writes]
    return [*lines, f"return {', '.join(seen(a, makers) for a in program.results)}"]


def changes(before: Any, after: Any) -> list[str]:
    """The lines that a pass took away, and those that it put there."""
    old, new = listing(before), listing(after)
    return [*[f"- {line}" for line in old if line not in new], *[f"+ {line}" for line in new if line not in old]]


# ---- pictures ------------------------------------------------------------------------------------


def bars(axes: Any, stages: list[tuple[str, Any]], words: Words) -> None:
    """Instructions after each pass, the products among them darker, and the steps as a line."""
    found = list(rows(stages))
    names = [name or words("as recorded", "記録のまま") for name, _ in found]
    places = list(range(len(found)))[::-1]
    axes.barh(places, [n for _, (n, _, _) in found], color=LIGHT, label=words("instructions", "命令"))
    axes.barh(places, [n for _, (_, n, _) in found], color=DARK, label=words("matrix products among them", "うち行列積"))
    axes.plot([n for _, (_, _, n) in found], places, "o", color="#e6550d", label=words("steps that run", "実行するステップ"))
    for place, (_, (all_of_them, products, steps)) in zip(places, found):
        axes.annotate(
            f"{all_of_them} / {products} / {steps}", (all_of_them, place), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(places, names)
    axes.set_xlim(0, found[0][1][0] * 1.22)
    axes.legend(loc="lower right")
    axes.set_title(words(f"The addition step, T = {LONG}", f"足し算のステップ (T = {LONG})"))


def kind_of(product: Any, program: Any, makers: dict[Any, Any]) -> str:
    """Which product of the formulas it is."""
    a, b = (seen(array, makers).split("[")[0].removesuffix("ᵀ") for array in product.inputs)
    weight = next((name for name in (a, b) if name in ("W_in", "W", "W_out")), "")
    if weight:
        back = product.source.part == "backward"
        return {"W_in": "x W_in", "W": "δ Wᵀ" if back else "z W", "W_out": "g W_outᵀ" if back else "z W_out"}[weight]
    shapes = {array.shape: array.name.removesuffix(".grad") for array, _ in program.state.items() if array.ndim == 2}
    shape = product.output.shape[-2:]
    return f"∂E/∂{shapes.get(shape) or shapes.get(shape[::-1], 'W_out')}"


def products(axes: Any, program: Any, title: str, words: Words) -> None:
    """The matrix products in the order in which they run, each as long as it has rows, or terms of a sum."""
    makers = {output: i for i in PROGRAM.flat(program.instructions) for output in i.outputs}
    found = [i for i in PROGRAM.flat(program.instructions) if i.kind == "matmul"]
    order = list(KINDS)[::-1]
    for place, product in enumerate(found):
        kind = kind_of(product, program, makers)
        inner = product.inputs[0].shape[-1] if kind.startswith("∂") else product.inputs[0].size // product.inputs[0].shape[-1]
        high = 0.2 + 0.6 * min(inner, LONG) / LONG
        axes.bar(place, high, 0.8, order.index(kind) - high / 2, color=KINDS[kind])
    axes.set_yticks(range(len(order)), order)
    axes.set_xlim(-1, max(len(found), 20))
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_title(title)
    axes.set_xlabel(words("product number", "何番目の行列積か"))


def lives(program: Any, layout: Any) -> Iterator[tuple[int, int, int, int]]:
    """Of each buffer of the arena: offset, bytes, the instruction that makes it and the last that reads it."""
    first: dict[Any, int] = {}
    last: dict[Any, int] = {}
    for position, i in enumerate(program.instructions):
        for array in (*i.inputs, *i.outputs):
            place = layout.places.get(array)
            if place is not None and place.root in layout.arena:
                first.setdefault(place.root, position)
                last[place.root] = position
    for array in program.wanted:
        root = layout.places[array].root
        if root in last:
            last[root] = len(program.instructions)
    for root, start in first.items():
        yield layout.arena[root], root.nbytes, start, last[root]


def memory(axes: Any, program: Any, reuse: bool, words: Words) -> int:
    """The arena: a rectangle for each buffer, as wide as it lives. Returns its bytes."""
    from matplotlib.patches import Rectangle

    layout = PLANNING.plan_buffers(program, reuse=reuse)
    for number, (offset, size, start, end) in enumerate(lives(program, layout)):
        colour = matplotlib().colormaps["tab20"](number % 20)
        axes.add_patch(Rectangle((start, offset), end - start + 1, size, facecolor=colour, edgecolor="white", linewidth=0.5))
    axes.set_xlim(0, len(program.instructions) + 1)
    with_or_without = words("with reuse", "再利用あり") if reuse else words("without reuse", "再利用なし")
    axes.set_title(f"{with_or_without}: {layout.nbytes:,} {words('bytes', 'バイト')}")
    axes.set_xlabel(words("instruction", "命令"))
    return int(layout.nbytes)


def draw(long: Adder) -> None:
    """All pictures, in both languages."""
    before, after = long.stages[0][1], long.stages[-1][1]
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        words, package = Words(), matplotlib()
        with package.rc_context(words.settings):
            figure = package.figure.Figure(figsize=(8, 4.2), layout="constrained")
            bars(figure.subplots(), long.stages, words)
            save_figure(figure, IMAGES / f"compile_passes{ending}.png")

            figure = package.figure.Figure(figsize=(11, 5.4), layout="constrained")
            top, bottom = figure.subplots(2, 1, sharex=True)
            many, few = counts(before)[1], counts(after)[1]
            products(top, before, words(f"as recorded: {many} products", f"記録のまま: 行列積 {many} 個"), words)
            products(bottom, after, words(f"after the passes: {few} products", f"最適化後: 行列積 {few} 個"), words)
            top.set_xlabel("")
            top.set_xlim(-1, many)
            save_figure(figure, IMAGES / f"compile_products{ending}.png")

            figure = package.figure.Figure(figsize=(11, 4.6), layout="constrained")
            left, right = figure.subplots(1, 2, sharey=True)
            most = memory(left, after, False, words)
            memory(right, after, True, words)
            left.set_ylim(0, most * 1.02)
            left.set_ylabel(words("place in the arena, bytes", "作業領域の中の位置 (バイト)"))
            save_figure(figure, IMAGES / f"compile_memory{ending}.png")
        tg.draw(Adder(SHORT).compiled).save(IMAGES / f"compile_plan{ending}.svg")
    os.environ["TINYGRAD_JA_LANG"] = "en"


# ---- the parts of the page -----------------------------------------------------------------------


def microseconds(sides: dict[str, tuple[Callable[..., Any], Any]], rounds: int = 9, calls: int = 100) -> dict[str, float]:
    """Of each step with its batch: the least of the means of many calls, all taking turns; other work disturbs that least."""
    found = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, (step, batch) in sides.items():
            start = time.perf_counter()
            for _ in range(calls):
                step(*batch)
            found[name] = min(found[name], (time.perf_counter() - start) / calls * 1e6)
    return found


def quoted(lines: list[str]) -> str:
    """Lines as a block of text."""
    return "\n".join(["```text", *lines, "```"])


def second_step(program: Any) -> list[str]:
    """What was recorded of the second time step: the forward, and the backward."""
    lines = listing(program)
    made = [line.split(" = ")[0] for line in lines]
    forward = lines[next(i for i, line in enumerate(lines) if "matmul(x[1], W_in)" in line) : made.index("z3") - 4]
    backward = lines[made.index("δ3") + 1 : made.index("δ2") + 1]
    return [*forward, "...", *backward, "..."]


def change_of(stages: list[tuple[str, Any]], name: str, start: int = 0) -> list[str]:
    """What the runs of a pass changed, from the stage of that number up to its last run."""
    runs = [position for position in range(start + 1, len(stages)) if stages[position][0] == name]
    return changes(stages[runs[0] - 1][1], stages[runs[-1]][1])


def parts() -> dict[str, tuple[str, str]]:
    """Name -> the text of that part of the page in English and in Japanese."""
    found: dict[str, tuple[str, str]] = {}
    sides: dict[str, tuple[Callable[..., Any], Any]] = {}
    first: dict[str, str] = {"eager": "-"}
    for backend in ("eager", "plain", "numpy", "native"):
        step, _, batch = definition()(LONG)
        if backend != "eager":
            step = tg.compile(step, backend=backend)
            start = time.perf_counter()
            for _ in range(3):
                step(*batch)
            first[backend] = f"{(time.perf_counter() - start) * 1e3:.0f}"
        sides[backend] = step, batch
    times = [[name, f"{value:.0f}", first[name]] for name, value in microseconds(sides).items()]
    found["times"] = (
        table(["", "µs a step", "first three calls, ms"], times),
        table(["", "1 ステップ (µs)", "最初の 3 回の呼び出し (ms)"], times),
    )

    short, long = Adder(SHORT), Adder(LONG)

    lines = [[name, *map(str, numbers)] for name, numbers in rows(long.stages)]
    found["passes"] = (
        table(["after", "instructions", "matrix products among them", "steps"], [["(as recorded)", *lines[0][1:]], *lines[1:]]),
        table(["パス", "命令", "うち行列積", "ステップ"], [["(記録のまま)", *lines[0][1:]], *lines[1:]]),
    )

    lines = []
    for name in ("", *PASSES, "memory"):
        plan = (Adder(LONG, disable=(name,)) if name else long).plan
        lines.append([name, *map(str, counts(plan.program)), f"{plan.arena:,}"])
    found["without"] = (
        table(
            ["left out", "instructions", "matrix products", "steps", "arena, bytes"], [["(none)", *lines[0][1:]], *lines[1:]]
        ),
        table(["外したパス", "命令", "行列積", "ステップ", "作業領域 (バイト)"], [["(なし)", *lines[0][1:]], *lines[1:]]),
    )

    lines = []
    for steps, made in ((SHORT, short), (LONG, long), (4 * LONG, Adder(4 * LONG))):
        apart = PLANNING.plan_buffers(made.plan.program, reuse=False).nbytes
        lines.append([str(steps), *[f"{n:,}" for n in (made.plan.recorded_peak, made.plan.unshared, apart, made.plan.arena)]])
    found["memory"] = (
        table(["T", "recording", "every array by itself", "arena without reuse", "arena"], lines),
        table(["T", "記録時の配列", "すべて別々に置くと", "再利用しない作業領域", "作業領域"], lines),
    )

    blocks = {
        "recorded": second_step(short.stages[0][1]),
        "folding": change_of(short.stages[:3], "constant_folding"),
        "batching": [line for line in change_of(short.stages, "batching") if "matmul" in line or "concatenate" in line],
        "algebra": change_of(short.stages, "algebra", [name for name, _ in short.stages].index("batching")),
        "after": listing(short.stages[-1][1]),
    }
    return {**found, **{name: (quoted(lines), quoted(lines)) for name, lines in blocks.items()}}


def write(page: Path, made: dict[str, str]) -> None:
    """Put the parts between their marks in a page."""
    text = page.read_text(encoding="utf-8")
    for name, part in made.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, _, behind = rest.partition(end)
        text = f"{before}{begin}\n{part}\n{end}{behind}"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Print the parts, write them into the pages, draw the pictures."""
    made = parts()
    for name, (english, _) in made.items():
        print(f"{name}\n\n{english}\n")
    write(DOCS / "compile.md", {name: english for name, (english, _) in made.items()})
    if (DOCS / "ja" / "compile.md").exists():
        write(DOCS / "ja" / "compile.md", {name: japanese for name, (_, japanese) in made.items()})
    draw(Adder(LONG))


if __name__ == "__main__":
    main()
