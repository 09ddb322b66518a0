"""Where ``tg.io.recurrent_weights`` puts the gates: an LSTM's matrix as "Deep Learning from Scratch 2" has it, and as ``nn.LSTM`` has it.

python docs/pictures/pytorch_weights.py     writes docs/images/pytorch_weights.png and, with Japanese words, docs/images/pytorch_weights_ja.png
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.viz.figures import Words, matplotlib, save_figure

IMAGES = Path(__file__).resolve().parent.parent / "images"
D, H = 4, 3
FROM, TO = "fgio", "ifgo"
COLOURS = ["#bbdefb", "#ffe0b2", "#c8e6c9", "#f8bbd0"]  # i, f, g, o


def numbered() -> np.ndarray:
    """(D, 4 H): the element of row d, gate k and unit h is the number 100 k + 10 d + h, with k as in ``nn``."""
    gates = np.repeat([TO.index(gate) for gate in FROM], H)
    return 100.0 * gates + 10.0 * np.arange(D)[:, None] + np.tile(np.arange(H), 4)


def panel(axes: Any, matrix: np.ndarray, title: str) -> None:
    """Each element in the colour of its gate, with its gate, unit and input written in."""
    from matplotlib.colors import ListedColormap

    axes.imshow(matrix // 100, cmap=ListedColormap(COLOURS), vmin=0, vmax=3)
    for (row, column), value in np.ndenumerate(matrix):
        gate, rest = TO[int(value) // 100], int(value) % 100
        axes.text(column, row, f"{gate}{rest % 10},{rest // 10}", ha="center", va="center", fontsize=8)
    axes.set(title=title, xticks=[], yticks=[])


def main() -> None:
    """Both languages; the right matrix is what the function returns for the left one."""
    wx = numbered()
    state = tg.io.recurrent_weights("LSTM", wx, np.zeros((H, 4 * H)), np.zeros(4 * H), gates=FROM)
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        words = Words()
        package = matplotlib()
        with package.rc_context(words.settings):
            figure = package.figure.Figure(figsize=(8.6, 4.6), layout="constrained")
            left, right = figure.subplots(1, 2, width_ratios=[2.6, 1])
            panel(left, wx, words("Wx (D, 4H), x Wx: columns f, g, i, o", "Wx (D, 4H)、x Wx: 列は f, g, i, o"))
            panel(
                right,
                state["weight_ih_l0"].numpy(),
                words("weight_ih_l0 (4H, D)\nrows i, f, g, o", "weight_ih_l0 (4H, D)\n行は i, f, g, o"),
            )
            left.set_xlabel(words("i2,1: input gate, unit 2, from input 1", "i2,1: 入力ゲート、ユニット 2、入力 1 から"))
            save_figure(figure, IMAGES / f"pytorch_weights{ending}.png")


if __name__ == "__main__":
    main()
