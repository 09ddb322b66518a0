"""``python -m benchmarks loader``: an epoch over MNIST through a DataLoader next to PyTorch's, and what share of a training run waits for it.

The same sets are written for both sides: examples one by one (with NumPy, or with each library's tensors), and rows of whole tensors.
The sides take turns, each with new workers in every epoch; medians, and the ratio ours / PyTorch, below 1 is faster. Then a LeNet is
trained from the loader, and the time between asking for a batch and having it is summed. Digits come from ``TINYGRAD_JA_DATA``; without
it from a random generator, in the same shape. Writes JSON and a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TITLE = {
    "en": "an epoch over MNIST through a DataLoader next to PyTorch's, and the share of a LeNet's training that waits for it",
    "ja": "DataLoader による MNIST の 1 エポック (PyTorch と並べて) と、LeNet の学習が DataLoader を待つ時間の割合",
}

BAR = 1.0
SHARE_BAR = 0.05
BATCH = 128
MEAN, STD = 0.1307, 0.3081
WAYS = {"threads": "thread", "processes": "process"}


class Digits:
    """Examples one by one, with NumPy: a normalised float32 image and its label."""

    def __init__(self, images: Any, labels: Any) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return (self.images[index].astype("float32") / 255 - MEAN) / STD, int(self.labels[index])


class TensorDigits(Digits):
    """The same with the tensors of a library."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return (self.images[index].float() / 255 - MEAN) / STD, self.labels[index]


def digits(count: int) -> tuple[Any, Any, str]:
    """uint8 images (N, 28, 28), int64 labels, and where they come from."""
    import numpy as np

    if os.environ.get("TINYGRAD_JA_DATA"):
        from tinygrad_ja.data.datasets import MNIST

        whole = MNIST(train=True)
        return whole.data.numpy()[:count], whole.targets.numpy()[:count], "MNIST"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, rng.integers(0, 10, count), "random arrays in the shape of MNIST (TINYGRAD_JA_DATA is not set)"


def datasets(lib: Any, tools: Any, images: Any, labels: Any) -> dict[str, Any]:
    """The sets of one side, by the name of the row. tools: ``tinygrad_ja.data`` or ``torch.utils.data``."""
    x, y = lib.from_numpy(images), lib.from_numpy(labels)
    return {
        "examples, NumPy": Digits(images, labels),
        "examples, tensors": TensorDigits(x, y),
        "rows of tensors": tools.TensorDataset((x.float() / 255 - MEAN) / STD, y),
    }


def _epoch(loader: Any) -> Callable[[], None]:
    def run() -> None:
        for _ in loader:
            pass

    return run


def epochs(images: Any, labels: Any, workers: int, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of an epoch, for each kind of set and each side."""
    import tinygrad_ja as tg
    from tinygrad_ja import data as tools

    from . import timing

    ours = datasets(tg, tools, images, labels)
    theirs = {}
    if find_spec("torch") is not None:
        import torch
        import torch.utils.data as peer

        torch.set_num_threads(1)
        theirs = datasets(torch, peer, images, labels)
    rows = []
    for name, data in ours.items():
        options: dict[str, Any] = {"shuffle": True, "num_workers": workers}
        sides = {"none": _epoch(tools.DataLoader(data, BATCH, shuffle=True))}
        for way in ("threads", "processes"):
            sides[way] = _epoch(tools.DataLoader(data, BATCH, **options, workers=WAYS[way]))
        if theirs:
            sides["torch"] = _epoch(peer.DataLoader(theirs[name], BATCH, **options))
        rows.append({"name": name, "seconds": timing.in_turn(sides, rounds)})
        print(f"{name}: {rows[-1]['seconds']}", file=sys.stderr, flush=True)
    return rows


def waiting(images: Any, labels: Any, workers: int, steps: int, way: str) -> dict[str, float]:
    """Train a LeNet for ``steps`` steps of 64 images; seconds in all, and seconds in which it waits for a batch (the first one left out)."""
    import tinygrad_ja as tg
    from tinygrad_ja import nn, optim
    from tinygrad_ja.data import DataLoader

    tg.manual_seed(0)
    convolutions = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(32 * 4 * 4, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = Digits(images[:, None], labels)
    loader = DataLoader(data, 64, shuffle=True, drop_last=True, num_workers=workers, workers=WAYS[way])
    batches = iter(loader)
    next(batches)
    waited = 0.0
    start = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        x, y = next(batches)
        waited += time.perf_counter() - asked
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"seconds": time.perf_counter() - start, "waited": waited, "loss": loss.item()}


# ---- the program ---------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run both parts, print the tables and write them under ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks loader", description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="workers of every side (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the sides take turns (default 5)")
    parser.add_argument("--examples", type=int, default=60_000, help="examples of an epoch (default 60,000)")
    parser.add_argument("--steps", type=int, default=300, help="steps of the LeNet (default 300)")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of the LeNet's kernels (default: as set for the program)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder for the JSON and the Markdown tables"
    )
    options = parser.parse_args(argv)

    from tinygrad_ja import get_num_threads, set_num_threads

    from . import timing

    images, labels, source = digits(options.examples)
    rows = epochs(images, labels, options.workers, options.rounds)
    if options.threads is not None:
        set_num_threads(options.threads)
    shares = []
    for way in ("none", "threads", "processes"):
        workers = 0 if way == "none" else options.workers
        times = waiting(images, labels, workers, options.steps, "threads" if way == "none" else way)
        shares.append({"workers": way, "steps": options.steps, **times})
    results = {
        "hardware": timing.hardware(),
        "source": source,
        "workers": options.workers,
        "examples": len(images),
        "threads": get_num_threads(),
        "rows": rows,
        "shares": shares,
    }
    table = _table(results)
    print(table)
    timing.write_results(options.out, "loader", results["hardware"], results, table)
    return results


def _table(results: dict[str, Any]) -> str:
    from . import timing

    rows = []
    for row in results["rows"]:
        seconds = row["seconds"]
        cells = [f"{seconds[side]:.2f}" if side in seconds else "" for side in ("none", "threads", "processes", "torch")]
        for way in ("threads", "processes"):
            ratio = seconds[way] / seconds["torch"] if "torch" in seconds else None
            cells += ["", ""] if ratio is None else [f"{ratio:.2f}", "yes" if ratio <= BAR else "NO"]
        rows.append([row["name"], *cells])
    head = [f"seconds for {results['examples']:,} examples", "no workers", "threads", "processes", "PyTorch"]
    head += ["threads / PyTorch", "<= 1.0", "processes / PyTorch", "<= 1.0"]
    shares = [
        [
            share["workers"],
            f"{share['seconds'] / share['steps'] * 1e3:.2f}",
            f"{share['waited'] / share['steps'] * 1e3:.2f}",
            f"{share['waited'] / share['seconds']:.1%}",
            "yes" if share["waited"] <= SHARE_BAR * share["seconds"] else "NO",
        ]
        for share in results["shares"]
    ]
    title = (
        f"Hardware: {results['hardware']}; {results['source']}; batches of {BATCH}, {results['workers']} workers on each side"
    )
    second = f"LeNet, batches of 64, {results['threads']} threads, from examples made with NumPy"
    return "\n".join(
        [
            title,
            "",
            timing.markdown_table(head, rows),
            "",
            second,
            "",
            timing.markdown_table(["workers", "ms a step", "ms of waiting", "share", "<= 5%"], shares),
        ]
    )
