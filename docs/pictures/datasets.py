"""A sheet with an example of the image, sound and number sets of docs/datasets.md, the real ones above, the synthetic ones below.

TINYGRAD_JA_DATA=... python docs/pictures/datasets.py     writes docs/images/datasets.png and, with Japanese words, datasets_ja.png
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import tinygrad_ja as tg
from tinygrad_ja.data import datasets
from tinygrad_ja.data.datasets import synthetic
from tinygrad_ja.viz.figures import Words

IMAGES = Path(__file__).resolve().parent.parent / "images"
COLOURS = ("#d94801", "#08519c", "#238b45")
BOX_COLOURS = ("#ffe119", "#42d4f4", "#f032e6")


def seeded() -> tg.Generator:
    return tg.Generator().manual_seed(39)


def picture(axes: Any, image: tg.Tensor) -> None:
    """An image (C, H, W) without ticks."""
    array = image.numpy().transpose(1, 2, 0)
    axes.imshow(array[:, :, 0] if array.shape[2] == 1 else array, cmap="gray")
    axes.set_axis_off()


def draw_boxes(axes: Any, boxes: tg.Tensor, labels: tg.Tensor) -> None:
    for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist()):
        edge = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=BOX_COLOURS[label - 1], linewidth=1.4
        )
        axes.add_patch(edge)


def mnist(axes: Any) -> None:
    data = datasets.MNIST(train=False)
    digits = data.data[:24].numpy().reshape(4, 6, 28, 28).transpose(0, 2, 1, 3).reshape(4 * 28, 6 * 28)
    axes.imshow(255 - digits, cmap="gray")
    axes.set_axis_off()


def bccd(axes: Any) -> None:
    image, target = datasets.BCCD(split="test")[3]
    picture(axes, image)
    draw_boxes(axes, target["boxes"], target["labels"])


def nuclei(axes: Any) -> None:
    image, labels = datasets.Nuclei(split="all")[3]
    picture(axes, image)
    own = np.random.default_rng(1).random((int(labels.max().item()) + 1, 3))
    axes.imshow(np.ma.masked_equal(labels.numpy(), 0), cmap=ListedColormap(own), alpha=0.55, interpolation="nearest")


def fsdd(axes: Any) -> None:
    data = datasets.FSDD(split="test")
    waveform, _ = data[data.targets.index(7)]
    seconds = np.arange(waveform.shape[1]) / data.rate
    axes.plot(seconds, waveform.numpy()[0], color=COLOURS[1], linewidth=0.5)


def air_passengers(axes: Any) -> None:
    data = datasets.AirPassengers()
    axes.plot(data.time.numpy(), data.values.numpy(), color=COLOURS[1], linewidth=1)
    axes.set_xticks(range(1950, 1961, 5))


def sunspots(axes: Any) -> None:
    data = datasets.Sunspots()
    axes.plot(data.time.numpy(), data.values.numpy(), color=COLOURS[0], linewidth=0.5)


def go(axes: Any) -> None:
    game = datasets.GoGames()[0]
    for line in range(19):
        axes.plot([0, 18], [line, line], color="#806040", linewidth=0.5, zorder=1)
        axes.plot([line, line], [0, 18], color="#806040", linewidth=0.5, zorder=1)
    for move in game.moves[:60]:
        if move.point is not None:
            face = {"B": "black", "W": "white"}[move.colour]
            axes.scatter(*move.point, s=26, color=face, edgecolors="black", linewidths=0.5, zorder=2)
    axes.set(aspect="equal", facecolor="#f0d9a8", xlim=(-0.8, 18.8), ylim=(18.8, -0.8), xticks=[], yticks=[])


def shapes(axes: Any) -> None:
    image, target = synthetic.Shapes(1, side=96, objects=4, generator=seeded())[0]
    picture(axes, image)
    draw_boxes(axes, target["boxes"], target["labels"])


def masks(axes: Any) -> None:
    _, target = synthetic.Shapes(1, side=96, objects=4, generator=seeded())[0]
    pixels = (target["masks"].numpy() * target["labels"].numpy()[:, None, None]).sum(0)
    axes.imshow(pixels, cmap=ListedColormap(["#222222", *COLOURS]), vmin=0, vmax=3, interpolation="nearest")
    axes.set_axis_off()


def spiral(axes: Any) -> None:
    points, labels = (tensor.numpy() for tensor in synthetic.Spiral(generator=seeded()).tensors)
    for label, colour in enumerate(COLOURS):
        axes.scatter(*points[labels == label].T, s=5, color=colour)
    axes.set(aspect="equal", xticks=[], yticks=[])


def bars(axes: Any) -> None:
    pictures = synthetic.BarsAndStripes(4).tensors[0].numpy()[1:29, 0]
    sheet = np.full((4 * 5 + 1, 7 * 5 + 1), 0.5)
    for number, one in enumerate(pictures):
        row, column = divmod(number, 7)
        sheet[5 * row + 1 : 5 * row + 5, 5 * column + 1 : 5 * column + 5] = one
    axes.imshow(sheet, cmap="gray", interpolation="nearest")
    axes.set_axis_off()


def sine(axes: Any) -> None:
    axes.plot(synthetic.Sine(100, generator=seeded()).values.numpy(), color=COLOURS[1], linewidth=1)


def addition(axes: Any) -> None:
    x, d = synthetic.BinaryAddition(1, generator=seeded())[0]
    bits(axes, np.concatenate([x.numpy(), d.numpy()], axis=1).T, ["a", "b", "a+b"])


def copy(axes: Any) -> None:
    x, d = synthetic.Copy(1, length=5, delay=6, generator=seeded())[0]
    bits(axes, np.stack([x.numpy(), d.numpy()]), ["x", "d"])


def bits(axes: Any, rows: np.ndarray, names: list[str]) -> None:
    """Numbers in squares, a row each."""
    axes.imshow(np.minimum(rows, 1), cmap=ListedColormap(["#f4f4f4", "#9ecae1"]), vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(rows):
        axes.text(column, row, int(value), ha="center", va="center", fontsize=8)
    axes.set(yticks=range(len(names)), yticklabels=names, xticks=[])


PANELS: tuple[tuple[Callable[[Any], None], str, str], ...] = (
    (mnist, "MNIST", "MNIST"),
    (bccd, "BCCD: cells with boxes", "BCCD: 血球とボックス"),
    (nuclei, "Nuclei: maps of instances", "Nuclei: 個体ごとの領域"),
    (fsdd, 'FSDD: "seven", seconds', "FSDD: 「seven」(秒)"),
    (air_passengers, "AirPassengers", "AirPassengers: 航空旅客数"),
    (sunspots, "Sunspots", "Sunspots: 太陽黒点数"),
    (go, "GoGames: 60 moves", "GoGames: 60 手まで"),
    (shapes, "Shapes: boxes", "Shapes: ボックス"),
    (masks, "Shapes: classes of pixels", "Shapes: 画素のクラス"),
    (spiral, "Spiral", "Spiral: 渦巻き"),
    (bars, "BarsAndStripes", "BarsAndStripes: 縦縞と横縞"),
    (sine, "Sine", "Sine: 雑音のある正弦波"),
    (addition, "BinaryAddition, low bit first", "BinaryAddition (下位から)"),
    (copy, "Copy", "Copy: 覚えて繰り返す"),
)


def sheet(path: Path) -> None:
    """Draw all panels in the current language."""
    words = Words()
    figure = Figure(figsize=(13.5, 7.6), layout="constrained")
    panels = figure.subplots(3, 5).flatten()
    for axes, (draw, en, ja) in zip(panels, PANELS):
        draw(axes)
        axes.set_title(words(en, ja), fontsize=11, **words.font)
        axes.tick_params(labelsize=8)
    for axes in panels[len(PANELS) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    for language, name in (("en", "datasets.png"), ("ja", "datasets_ja.png")):
        os.environ["TINYGRAD_JA_LANG"] = language
        sheet(IMAGES / name)
