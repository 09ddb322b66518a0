"""The maps of docs/bptt_map.md side by side: a sigmoid network, the constant error carousel, truncated BPTT.

python docs/pictures/bptt_map.py     writes docs/images/bptt_map.png and, with Japanese words, docs/images/bptt_map_ja.png
"""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.viz.figures import Words

IMAGES = Path(__file__).resolve().parent.parent / "images"
STEPS, HIDDEN, PIECE = 16, 8, 4


def run(cell: nn.Module, state: object, x: tg.Tensor) -> tuple[list[tg.Tensor], object]:
    """The cell over all steps: E_s, the sum of what it holds after step s, and its last state."""
    losses = []
    for x_t in x:
        state = cell(x_t, state)
        losses.append((state[1] if isinstance(state, tuple) else state).sum())
    return losses, state


def carousel() -> nn.LSTMCell:
    """An LSTM cell that forgets nothing, f = 1, and whose gates do not see the state."""
    cell = nn.LSTMCell(2, HIDDEN)
    with tg.no_grad():
        cell.weight_hh.zero_()
        cell.weight_ih[HIDDEN : 2 * HIDDEN] = 0.0
        cell.bias_ih[HIDDEN : 2 * HIDDEN] = 60.0
    return cell


def maps() -> list[tuple[tuple[str, str], tg.viz.BPTTMap]]:
    """Title in both languages, and map."""
    tg.manual_seed(0)
    x = tg.randn(STEPS, 1, 2)
    sigmoid, memory = nn.RNNCell(2, HIDDEN, nonlinearity="sigmoid"), carousel()
    start = tg.full((1, HIDDEN), 0.5)
    pieces = nn.truncated_bptt(lambda piece, z: run(sigmoid, z, piece), x, PIECE, start)
    losses = [loss for part, _ in pieces for loss in part]
    return [
        (("sigmoid RNN: decays", "sigmoid の RNN: 減衰する"), tg.bptt_map(run(sigmoid, start, x)[0], sigmoid.weight_hh)),
        (("CEC, f = 1: constant", "CEC (f = 1): 減衰しない"), tg.bptt_map(run(memory, None, x)[0], memory.weight_ih)),
        (("truncated, k = 4", "打ち切り BPTT (k = 4)"), tg.bptt_map(losses, sigmoid.weight_hh)),
    ]


def draw(path: Path) -> None:
    """The three maps, all with one scale of colours."""
    words = Words()
    figure = Figure(figsize=(13.2, 4.2), layout="constrained")
    places = figure.subplots(1, 3)
    for axes, (title, made) in zip(places, maps()):
        made.plot(axes, title=words(*title), limits=(1e-9, 10.0), colorbar=axes is places[-1])
    figure.savefig(path, dpi=100)
    print(path.relative_to(IMAGES.parent.parent))


if __name__ == "__main__":
    for language, name in (("en", "bptt_map.png"), ("ja", "bptt_map_ja.png")):
        os.environ["TINYGRAD_JA_LANG"] = language
        draw(IMAGES / name)
