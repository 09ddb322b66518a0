"""``python -m benchmarks ops``: layers and operators at the sizes of real models, next to PyTorch eager, time and peak memory.

Forward + backward, each row in turn with PyTorch (when it is installed); the ratio is ours / PyTorch, below 1 is faster. Peak memory is what
one step needs beyond a process in which the same step has run at a small size, and another operator at a size at which ours are machine code,
so that the compiler is loaded; each side has its own process. Writes JSON and a Markdown table.

On a GPU there is no peak memory, and there are rows more, at larger sizes and in float16; PyTorch takes no products in TF32; and where cuDNN is
installed, our operators that it can run have a third turn with ``tg.backends.cudnn`` on. What it refused is listed below the table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

TITLE = {
    "en": "layers and operators at the sizes of real models, next to PyTorch eager: time and peak memory",
    "ja": "実際のモデルの大きさでの層と演算 (PyTorch eager と並べた時間と最大メモリ)",
}

BAR = 1.0
MEMORY_BAR = 1.1
PEERS = {"ours": "tinygrad_ja", "torch": "torch"}


class Library:
    """One side: the library, and arrays with the same numbers for both."""

    def __init__(self, name: str, threads: int, device: str) -> None:
        import importlib

        import numpy as np

        self.lib: Any = importlib.import_module(name)
        self.lib.set_num_threads(threads)
        self.lib.manual_seed(0)
        self.device = device
        self.rng = np.random.default_rng(0)
        if name == "torch":
            self.lib.backends.cudnn.allow_tf32 = self.lib.backends.cuda.matmul.allow_tf32 = False
        self.functional: Any = importlib.import_module(f"{name}.nn.functional")

    def array(self, *shape: int, grad: bool = True, scale: float = 1.0, dtype: str = "float32") -> Any:
        """Normal numbers."""
        made = self.lib.tensor((self.rng.standard_normal(shape) * scale).astype(dtype), device=self.device)
        return made.requires_grad_() if grad else made

    def integers(self, high: int, *shape: int) -> Any:
        """Int64 numbers below ``high``."""
        return self.lib.tensor(self.rng.integers(0, high, shape), device=self.device)

    def step(self, function: Callable[[], Any], *leaves: Any) -> Callable[[], Any]:
        """Forward, backward with a fixed cotangent (a scalar needs none), gradients dropped before the next step."""
        with self.lib.no_grad():
            y = function()
        g = self.array(*y.shape, grad=False).to(y.dtype) if len(y.shape) else None

        def run() -> Any:
            for leaf in leaves:
                leaf.grad = None
            function().backward(g)
            return leaves[0].grad

        return run

    def synchronize(self) -> None:
        """Wait for a GPU."""
        if self.device != "cpu":
            self.lib.cuda.synchronize()


class Case(NamedTuple):
    """One row: what it has to do at least, and the program for a library and a batch size (the size of the row, or a small one).

    cudnn: whether ``tg.backends.cudnn`` may run it.
    """

    floor: str
    batch: int
    build: Callable[[Library, int], Callable[[], Any]]
    cudnn: bool = False


def _convolution(name: str, image: tuple[int, ...], filters: tuple[int, ...], dtype: str = "float32", **options: Any) -> Any:
    def build(side: Library, batch: int) -> Callable[[], Any]:
        x, w = side.array(batch, *image, dtype=dtype), side.array(*filters, scale=0.1, dtype=dtype)
        function = getattr(side.functional, name)
        return side.step(lambda: function(x, w, **options), x, w)

    return build


def _unary(function: Callable[[Library, Any], Any], *shape: int) -> Any:
    def build(side: Library, batch: int) -> Callable[[], Any]:
        x = side.array(batch, *shape)
        return side.step(lambda: function(side, x), x)

    return build


def _batch_norm(*image: int) -> Any:
    def build(side: Library, batch: int) -> Callable[[], Any]:
        x, layer = side.array(batch, *image), side.lib.nn.BatchNorm2d(image[0]).to(side.device)
        return side.step(lambda: layer(x), x, layer.weight, layer.bias)

    return build


def _layer_norm(side: Library, batch: int) -> Callable[[], Any]:
    x, layer = side.array(batch, 128), side.lib.nn.LayerNorm(128).to(side.device)
    return side.step(lambda: layer(x), x, layer.weight, layer.bias)


def _cross_entropy(side: Library, batch: int) -> Callable[[], Any]:
    x, target = side.array(batch, 4000), side.integers(4000, batch)
    return side.step(lambda: side.functional.cross_entropy(x, target), x)


def _embedding(side: Library, batch: int) -> Callable[[], Any]:
    table, indices = side.array(10_000 if batch > 100 else 100, 100), side.integers(100 if batch <= 100 else 10_000, batch)
    return side.step(lambda: side.functional.embedding(indices, table), table)


def _attention(*heads: int, dtype: str = "float32", **options: Any) -> Any:
    def build(side: Library, batch: int) -> Callable[[], Any]:
        q, k, v = (side.array(batch, *heads, dtype=dtype) for _ in range(3))
        return side.step(lambda: side.functional.scaled_dot_product_attention(q, k, v, **options), q, k, v)

    return build


def _recurrent(name: str) -> Any:
    def build(side: Library, batch: int) -> Callable[[], Any]:
        layer = getattr(side.lib.nn, name)(128, 256).to(side.device)
        x = side.array(35, batch, 128)
        return side.step(lambda: layer(x)[0], x, *layer.parameters())

    return build


CASES: dict[str, Case] = {
    "conv2d 64x16x14x14, 32 of 5x5": Case("0.49 GFLOP", 64, _convolution("conv2d", (16, 14, 14), (32, 16, 5, 5)), cudnn=True),
    "conv2d 32x64x16x16, 64 of 3x3": Case(
        "1.8 GFLOP", 32, _convolution("conv2d", (64, 16, 16), (64, 64, 3, 3), padding=1), cudnn=True
    ),
    "conv_transpose2d 32x64x8x8, 32 of 4x4 stride 2": Case(
        "0.4 GFLOP", 32, _convolution("conv_transpose2d", (64, 8, 8), (64, 32, 4, 4), stride=2, padding=1), cudnn=True
    ),
    "depthwise conv2d 32x64x16x16, 3x3": Case(
        "10 MB, 28 MFLOP", 32, _convolution("conv2d", (64, 16, 16), (64, 1, 3, 3), padding=1, groups=64), cudnn=True
    ),
    "max_pool2d 16x16x32x32, 2": Case("2.6 MB", 16, _unary(lambda side, x: side.functional.max_pool2d(x, 2), 16, 32, 32)),
    "batch_norm2d 32x64x16x16": Case("15 MB", 32, _batch_norm(64, 16, 16), cudnn=True),
    "layer_norm 2048x128": Case("5 MB", 2048, _layer_norm),
    "softmax 2048x512": Case("21 MB, 1 M exp", 2048, _unary(lambda side, x: side.lib.softmax(x, -1), 512)),
    "cross_entropy 700x4000": Case("34 MB, 2.8 M exp", 700, _cross_entropy),
    "embedding 10,000x100, 2,560 indices": Case("7 MB", 2560, _embedding),
    "scaled_dot_product_attention 32x8x64x16": Case("0.23 GFLOP, 1 M exp", 32, _attention(8, 64, 16)),
    "LSTM layer T 35, N 20, 128-256": Case("1.65 GFLOP", 20, _recurrent("LSTM")),
    "GRU layer T 35, N 20, 128-256": Case("1.24 GFLOP", 20, _recurrent("GRU")),
    "gelu 2048x512": Case("21 MB, 1 M erf, 1 M exp", 2048, _unary(lambda side, x: side.functional.gelu(x), 512)),
    "erf 2048x512": Case("21 MB, 1 M erf, 1 M exp", 2048, _unary(lambda side, x: side.lib.erf(x), 512)),
}
"""Every row. Floors: arithmetic of the products, bytes that must be read and written, transcendental functions."""


CUDA_CASES: dict[str, Case] = {
    "conv2d 32x64x56x56, 64 of 3x3": Case(
        "22 GFLOP", 32, _convolution("conv2d", (64, 56, 56), (64, 64, 3, 3), padding=1), cudnn=True
    ),
    "conv2d 32x64x56x56, 64 of 3x3, float16": Case(
        "22 GFLOP", 32, _convolution("conv2d", (64, 56, 56), (64, 64, 3, 3), "float16", padding=1), cudnn=True
    ),
    "conv_transpose2d 32x128x28x28, 64 of 4x4 stride 2, float16": Case(
        "20 GFLOP",
        32,
        _convolution("conv_transpose2d", (128, 28, 28), (128, 64, 4, 4), "float16", stride=2, padding=1),
        cudnn=True,
    ),
    "batch_norm2d 32x64x56x56": Case("180 MB", 32, _batch_norm(64, 56, 56), cudnn=True),
    "scaled_dot_product_attention 8x12x512x64, float16": Case(
        "23 GFLOP, 25 M exp", 8, _attention(12, 512, 64, dtype="float16"), cudnn=True
    ),
    "scaled_dot_product_attention 8x12x512x64, float16, causal": Case(
        "11 GFLOP, 13 M exp", 8, _attention(12, 512, 64, dtype="float16", is_causal=True), cudnn=True
    ),
}
"""Rows more on a GPU, which needs more work at a time, and has float16."""


# ---- peak memory ---------------------------------------------------------------------------------


def _status(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def _print_peak(side: str, row: str, threads: int) -> None:
    """Print the MB that two steps of a row need beyond what the process had before (Linux). Runs in a process of its own."""
    case = CASES[row]
    library = Library(PEERS[side], threads, "cpu")
    small, other = case.build(library, 2), _unary(lambda side, x: side.functional.silu(x), 300)(library, 300)
    for _ in range(4):
        small()
        other()
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak starts anew
    run = case.build(library, case.batch)
    run()
    run()
    print((_status("VmHWM") - before) / 1024)


def _peak(side: str, row: str, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks", "ops", "--threads", str(threads), "--peak", side, row]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


# ---- the program ---------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Run all rows, print the table and write it under ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ops", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both sides (default 2)")
    parser.add_argument("--rounds", type=int, default=21, help="rounds in which the peers take turns (default 21)")
    parser.add_argument(
        "--only", default="", help="only rows whose name contains this, or one of several with commas between them"
    )
    parser.add_argument("--device", default="cpu", help="where both sides run (default cpu)")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--peak", nargs=2, metavar=("SIDE", "ROW"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder for the JSON and the Markdown table"
    )
    options = parser.parse_args(argv)
    if options.peak is not None:
        _print_peak(options.peak[0], options.peak[1], options.threads)
        return None

    from importlib.util import find_spec

    from . import timing

    on_gpu = options.device != "cpu"
    names = [side for side, package in PEERS.items() if find_spec(package) is not None]
    sides = {name: Library(PEERS[name], options.threads, options.device) for name in names}
    with_memory = sys.platform == "linux" and not on_gpu and not options.no_memory
    hardware = ", ".join(filter(None, (timing.accelerator(options.device), timing.hardware())))
    results: dict[str, Any] = {"hardware": hardware, "threads": options.threads, "device": options.device, "rows": []}
    cudnn = sides["ours"].lib.backends.cudnn
    if cudnn.is_available():
        results["cudnn"] = {"version": cudnn.version()}
    for name, case in (CASES | CUDA_CASES if on_gpu else CASES).items():
        if not any(part in name for part in options.only.split(",")):
            continue
        row: dict[str, Any] = {"name": name, "floor": case.floor}
        programs = {key: case.build(side, case.batch) for key, side in sides.items()}
        if on_gpu and case.cudnn and "cudnn" in results:
            programs["cudnn"] = _by_cudnn(cudnn, case.build(sides["ours"], case.batch))
        row["seconds"] = timing.in_turn(
            programs,
            options.rounds,
            settle=0.1 if options.threads > 1 and not on_gpu else 0.0,
            finish=sides["ours"].synchronize,
        )
        row["megabytes"] = {key: _peak(key, name, options.threads) for key in sides} if with_memory else {}
        results["rows"].append(row)
        print(f"{name}: {row['seconds']['ours'] * 1e3:.2f} ms", file=sys.stderr, flush=True)
    if "cudnn" in results:
        results["cudnn"]["refused"] = cudnn.refused()
    table = _table(results)
    print(table)
    timing.write_results(options.out, "ops", timing.accelerator(options.device) or hardware, results, table)
    return results


def _by_cudnn(switch: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """The program with cuDNN on."""

    def whole() -> Any:
        with switch.flags(enabled=True):
            return run()

    return whole


def _table(results: dict[str, Any]) -> str:
    from . import timing

    cudnn, digits = results.get("cudnn"), 2 if results["device"] == "cpu" else 3
    rows = []
    for row in results["rows"]:
        milliseconds = {key: value * 1e3 for key, value in row["seconds"].items()}
        cells = [row["name"], *_compared(milliseconds, BAR, digits)]
        if cudnn is not None:
            cells += _compared({**milliseconds, "ours": milliseconds.get("cudnn")}, BAR, digits)[::2]
        rows.append([*cells, *_compared(row["megabytes"], MEMORY_BAR, 1), row["floor"]])
    head = ["forward + backward", "ours ms", "PyTorch ms", "ratio", "<= 1.0"]
    head += [] if cudnn is None else ["with cuDNN ms", "ratio"]
    head += ["ours MB", "PyTorch MB", "ratio", "<= 1.1", "floor"]
    title = f"Hardware: {results['hardware']}; threads: {results['threads']}; device: {results['device']}"
    lines = [title, "", timing.markdown_table(head, rows)]
    if cudnn is not None:
        refused = [line.splitlines()[0] for line in cudnn["refused"]]
        lines += ["", f"cuDNN {cudnn['version']}; refused: {len(refused)}", *[f"- {line}" for line in refused]]
    return "\n".join(lines)


def _compared(values: dict[str, Any], bar: float, digits: int) -> list[str]:
    ours, peer = values.get("ours"), values.get("torch")
    if ours is None or peer is None:
        return ["" if ours is None else f"{ours:.{digits}f}", "", "", ""]
    ratio = ours / peer
    return [f"{ours:.{digits}f}", f"{peer:.{digits}f}", f"{ratio:.2f}", "yes" if ratio <= bar else "NO"]
