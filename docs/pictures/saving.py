"""What a checkpoint holds and which checkpoints stay, read from files that a small training run has written.

python docs/pictures/saving.py     writes docs/images/saving.png and, with Japanese words, docs/images/saving_ja.png
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import tinygrad_ja as tg
from tinygrad_ja import nn, optim
from tinygrad_ja.io import Checkpoints, Saved, safetensors_header
from tinygrad_ja.viz.figures import Words

IMAGES = Path(__file__).resolve().parent.parent / "images"
COLOURS = {"header": "#eceff1", "model": "#bbdefb", "optimizer": "#ffe0b2", "streams": "#c8e6c9"}
METRICS = [0.62, 0.41, 0.35, 0.47, 0.44]


def train(folder: str) -> tuple[Path, list[Saved]]:
    """Train, save after every tenth step; the last file and what stayed in the folder."""
    tg.manual_seed(0)
    data = tg.data.TensorDataset(tg.randn(40, 3), tg.randn(40, 1))
    loader = tg.data.DataLoader(data, batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(3, 99), nn.BatchNorm1d(99), nn.ReLU(), nn.Linear(99, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    checkpoints = Checkpoints(folder, {"model": model, "optimizer": optimizer, "loader": loader}, keep=2, best=1)
    path = Path()
    for epoch, metric in enumerate(METRICS):
        for x, d in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), d).backward()
            optimizer.step()
        path = checkpoints.save(10 * (epoch + 1), metric=metric, extra={"losses": METRICS[: epoch + 1]})
    return path, checkpoints.saved()


def sizes(path: Path) -> dict[str, int]:
    """Bytes of the header and of each part's arrays."""
    found = {"header": 0, "model": 0, "optimizer": 0, "streams": 0}
    for name, entry in safetensors_header(path).tensors.items():
        found[name.partition(".")[0]] += entry.end - entry.begin
    found["header"] = path.stat().st_size - sum(found.values())
    return found


def texts(path: Path, words: Words) -> dict[str, list[str]]:
    """What stands in the box of each part."""
    state = tg.load(path)
    tensors = safetensors_header(path).tensors
    about, loader = state["checkpoint"], state["loader"]

    def listed(part: str, most: int) -> list[str]:
        names = [name for name in tensors if name.startswith(f"{part}.")]
        shown = [f"{name}  {tensors[name].shape}" for name in names[:most]]
        return [*shown, f"… ({len(names)})"] if len(names) > most else shown

    header = [
        words(f"step {about['step']}, metric {about['metric']}", f"ステップ {about['step']}、指標 {about['metric']}"),
        words(
            f"learning rate {state['optimizer']['param_groups'][0]['lr']}, …",
            f"学習率 {state['optimizer']['param_groups'][0]['lr']} など",
        ),
        words(
            f"loader: {loader['batches']} of {loader['length']} batches",
            f"ローダ: {loader['batches']} / {loader['length']} バッチ",
        ),
        words("random stream of tinygrad_ja", "tinygrad_ja の乱数列"),
        words("extra: what you add", "extra: 自分で加えたもの"),
    ]
    return {"header": header, "model": listed("model", 5), "optimizer": listed("optimizer", 4), "streams": listed("streams", 4)}


def draw_file(axes: Any, path: Path, words: Words) -> None:
    """The file as a bar, to scale, and a box below each of its parts."""
    titles = {
        "header": words("header: JSON", "ヘッダ: JSON"),
        "model": words("arrays of the model", "モデルの配列"),
        "optimizer": words("arrays of the optimizer", "オプティマイザの配列"),
        "streams": words("other random streams", "ほかの乱数列"),
    }
    found, box_texts = sizes(path), texts(path, words)
    whole = sum(found.values())
    axes.set(xlim=(-0.3, 100.3), ylim=(0, 60), title=f"{path.name}  ({whole:,} {words('bytes', 'バイト')})")
    left = 0.0
    for index, (part, size) in enumerate(found.items()):
        width, box = 100 * size / whole, 25.2 * index
        axes.add_patch(FancyBboxPatch((left, 50), width, 8, boxstyle="square,pad=0", fc=COLOURS[part], ec="#455a64"))
        axes.add_patch(
            FancyBboxPatch((box, 7), 24, 33, boxstyle="round,pad=0,rounding_size=0.8", fc=COLOURS[part], ec="#455a64")
        )
        axes.plot([left + width / 2, box + 12], [50, 40], color="#455a64", linewidth=0.8)
        if width > 6:
            axes.text(left + width / 2, 54, f"{size:,}", ha="center", va="center", fontsize=8)
        axes.text(box + 1, 36.5, titles[part], fontsize=9.5, fontweight="bold", va="center")
        axes.text(box + 1, 32, "\n".join(box_texts[part]), fontsize=8.2, va="top", linespacing=1.5)
        left += width


def draw_folder(axes: Any, stayed: list[Saved], words: Words) -> None:
    """Every checkpoint that was written, and why it stayed or went."""
    best = min(stayed, key=lambda saved: saved.metric or 0.0).step
    steps = [10 * (epoch + 1) for epoch in range(len(METRICS))]
    axes.set(xlim=(-0.3, 100.3), ylim=(0, 20), title=words("the folder with keep=2, best=1", "keep=2, best=1 のときのフォルダ"))
    for index, (step, metric) in enumerate(zip(steps, METRICS)):
        here = step in [saved.step for saved in stayed]
        why = (
            words("best", "最良")
            if step == best
            else words("newest two", "新しい 2 つ")
            if here
            else words("removed", "削除済み")
        )
        colour, line = ("#bbdefb", "solid") if here else ("#fafafa", "dashed")
        box = FancyBboxPatch(
            (20.2 * index, 3), 18, 13, boxstyle="round,pad=0,rounding_size=0.8", fc=colour, ec="#455a64", ls=line
        )
        axes.add_patch(box)
        axes.text(
            20.2 * index + 9,
            12,
            f"{words('step', 'ステップ')} {step}",
            ha="center",
            va="center",
            fontsize=9.5,
            fontweight="bold",
        )
        axes.text(20.2 * index + 9, 7, f"{words('metric', '指標')} {metric}  ({why})", ha="center", va="center", fontsize=8)


def main() -> None:
    """Draw both languages."""
    for language, name in (("en", "saving.png"), ("ja", "saving_ja.png")):
        os.environ["TINYGRAD_JA_LANG"] = language
        words = Words()
        with tempfile.TemporaryDirectory() as folder:
            path, stayed = train(folder)
            with matplotlib.rc_context({"font.family": words.font.get("family", "DejaVu Sans")}):
                figure = Figure(figsize=(10.5, 4.9), layout="constrained")
                upper, lower = figure.subplots(2, 1, height_ratios=[3, 1.1])
                draw_file(upper, path, words)
                draw_folder(lower, stayed, words)
                for axes in (upper, lower):
                    axes.set_axis_off()
                figure.savefig(IMAGES / name, dpi=110)


if __name__ == "__main__":
    main()
