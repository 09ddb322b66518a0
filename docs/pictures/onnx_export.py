"""A small model three times: its layers, the operators that a call of it was traced to, and the nodes of its ONNX file.

python docs/pictures/onnx_export.py     writes docs/images/onnx_export.png and, with Japanese words, docs/images/onnx_export_ja.png
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.core.trace import Step, Trace
from tinygrad_ja.viz.figures import Words

IMAGES = Path(__file__).resolve().parent.parent / "images"
LEFT = (2.0, 35.0, 68.0)
WIDTH = 30.0


def build() -> nn.Sequential:
    """Two layers of a picture's classifier."""
    tg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.MaxPool2d(5, 1, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def of_layer(model: nn.Sequential) -> list[list[Step]]:
    """The steps of each layer."""
    made: list[list[Step]] = []
    model.eval()
    with tg.no_grad(), Trace(dict(model.named_parameters())) as trace:
        x = trace.input(tg.zeros(1, 1, 28, 28), "image")
        for layer in model:
            before = len(trace.steps)
            x = layer(x)
            made.append(trace.steps[before:])
    return made


def nodes_of_layer(model: nn.Sequential) -> list[list[str]]:
    """The nodes of each layer in the file."""
    with tempfile.TemporaryDirectory() as folder:
        made = tg.io.export_onnx(model, tg.zeros(1, 1, 28, 28), Path(folder, "model.onnx"))
    return [[node.op_type for node in made.graph.node if node.name.startswith(f"/{i}/")] for i in range(len(model))]


def column(axes: Any, left: float, top: float, entries: list[str], colour: str) -> list[float]:
    """One column of a row; returns the heights of its entries."""
    heights = [top - 4.6 * place for place in range(len(entries))]
    for height, entry in zip(heights, entries):
        shape = "round,pad=0,rounding_size=0.6"
        axes.add_patch(FancyBboxPatch((left, height - 1.8), WIDTH, 3.6, boxstyle=shape, fc=colour, ec="#455a64", lw=0.8))
        axes.text(left + 1, height, entry, va="center", fontsize=8.5)
    return heights


def draw(axes: Any, words: Words) -> None:
    """The three columns; lines lead from each entry to what it became."""
    model = build()
    titles = (
        words("layers of the model", "モデルの層"),
        words("operators in the trace", "記録された演算"),
        words("nodes in the file", "ファイルのノード"),
    )
    rows = list(zip([f"{i}: {type(layer).__name__}" for i, layer in enumerate(model)], of_layer(model), nodes_of_layer(model)))
    top = 4.6 * sum(max(len(steps), len(nodes)) for _, steps, nodes in rows)
    axes.set(xlim=(0, 100), ylim=(0, top + 5))
    axes.set_axis_off()
    for left, title in zip(LEFT, titles):
        axes.text(left + WIDTH / 2, top + 2, title, ha="center", fontsize=10)
    for layer, steps, nodes in rows:
        shown = [f"{step.operator.name}   {'×'.join(map(str, step.outputs[0].shape))}" for step in steps]
        before: list[float] = []
        for left, entries, colour in zip(LEFT, ([layer], shown, nodes), ("#e3f2fd", "#fff8e1", "#e8f5e9")):
            here = column(axes, left, top - 2.3, entries, colour)
            for start, end in itertools.product(before, here):
                axes.plot([left - LEFT[1] + LEFT[0] + WIDTH, left], [start, end], color="#90a4ae", lw=0.9)
            before = here
        top -= 4.6 * max(len(steps), len(nodes))


def main() -> None:
    """Draw both languages."""
    for language, name in (("en", "onnx_export.png"), ("ja", "onnx_export_ja.png")):
        os.environ["TINYGRAD_JA_LANG"] = language
        words = Words()
        with matplotlib.rc_context({"font.family": words.font.get("family", "DejaVu Sans")}):
            figure = Figure(figsize=(9.5, 4.6), layout="constrained")
            draw(figure.subplots(), words)
            figure.savefig(IMAGES / name, dpi=110)


if __name__ == "__main__":
    main()
