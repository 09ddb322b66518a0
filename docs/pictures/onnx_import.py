"""The tape of a model that was read from an ONNX file, while it is trained further.

python docs/pictures/onnx_import.py     writes docs/images/onnx_import.svg and, with Japanese words, docs/images/onnx_import_ja.svg
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tinygrad_ja as tg
from tinygrad_ja import nn

IMAGES = Path(__file__).resolve().parent.parent / "images"


def main() -> None:
    """The page's own model, written, read and drawn."""
    tg.manual_seed(0)
    original = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    x = tg.randn(8, 4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        tg.io.export_onnx(original, (x,), path)
        model = tg.io.load_onnx(path)
    loss = nn.functional.cross_entropy(model(x), tg.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        tg.draw(loss, model).save(IMAGES / f"onnx_import{ending}.svg")


if __name__ == "__main__":
    main()
