"""``python -m benchmarks overhead``: what an operator costs beside its arithmetic, next to PyTorch eager on the same CPU.

Small shapes, so that the cost of recording and of walking back dominates. Each row is timed in turn with PyTorch (when it is installed);
the ratio is ours / PyTorch, below 1 is faster. Writes JSON and a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

TITLE = {
    "en": "what an operator costs beside its arithmetic, next to PyTorch eager on the same CPU",
    "ja": "演算 1 回にかかる計算以外のコスト (同じ CPU の PyTorch eager と並べて測る)",
}

CHAIN = 40


class Case(NamedTuple):
    """One row: how many operators one call runs, the ratio that we want to stay below, and the two programs."""

    operators: int
    bar: float | None
    floor: str
    build: Callable[[Any, Any], Callable[[], Any]]
    forward_only: bool = False


def _chain(step: Callable[[Any, Any], Any], shape: tuple[int, ...], other: tuple[int, ...] | None, backward: bool) -> Any:
    def build(lib: Any, make: Any) -> Callable[[], Any]:
        x = make(shape, grad=True)
        w = make(other, grad=True) if other is not None else None
        g = make(shape, grad=False)

        def run() -> Any:
            y = x
            for _ in range(CHAIN):
                y = step(y, w) if w is not None else step(lib, y)
            if backward:
                x.grad = None
                y.backward(g)

        return run

    return build


def _sums(backward: bool) -> Any:
    def build(lib: Any, make: Any) -> Callable[[], Any]:
        x = make((8, 8), grad=True)
        walk = lib.autograd.backward

        def run() -> Any:
            ys = [x.sum() for _ in range(CHAIN)]
            if backward:
                x.grad = None
                walk(ys)

        return run

    return build


def _lstm(lib: Any, make: Any) -> Callable[[], Any]:
    cell = lib.nn.LSTMCell(32, 32)
    x, h0, c0 = make((16, 32)), make((16, 32)), make((16, 32))

    def run() -> Any:
        h, c = h0, c0
        for _ in range(CHAIN):
            h, c = cell(x, (h, c))
        cell.zero_grad()
        (h.sum() + c.sum()).backward()

    return run


def _recurrence(lib: Any, make: Any) -> Callable[[], Any]:
    w, x = make((32, 32), grad=True, scale=0.1), make((8, 32))

    def run() -> Any:
        y = x
        for _ in range(100):
            y = lib.tanh(y @ w)
        w.grad = None
        y.sum().backward()

    return run


def _mlp(lib: Any, make: Any) -> Callable[[], Any]:
    nn = lib.nn
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = lib.optim.SGD(model.parameters(), lr=0.01)
    x, labels = make((32, 16)), lib.tensor([i % 4 for i in range(32)])
    loss = nn.CrossEntropyLoss()

    def run() -> Any:
        optimizer.zero_grad()
        loss(model(x), labels).backward()
        optimizer.step()

    return run


def cases() -> dict[str, Case]:
    """Every row of the table."""
    made: dict[str, Case] = {}
    chains: list[tuple[str, Any, tuple[int, ...], tuple[int, ...] | None, str]] = [
        ("tanh [16]", lambda lib, y: lib.tanh(y), (16,), None, "0.3 KB"),
        ("mul [16]", lambda y, w: y * w, (16,), (16,), "0.4 KB"),
        ("add [8,8]+[8]", lambda y, w: y + w, (8, 8), (8,), "0.8 KB"),
        ("matmul 8x8", lambda y, w: y @ w, (8, 8), (8, 8), "3 kFLOP"),
        ("softmax [32,32]", lambda lib, y: lib.softmax(y, -1), (32, 32), None, "29 KB, 1024 exp"),
    ]
    for name, step, shape, other, floor in chains:
        made[name + " forward"] = Case(CHAIN, None, floor, _chain(step, shape, other, False), True)
        made[name] = Case(CHAIN, 0.8, floor, _chain(step, shape, other, True))
    made["sum [8,8] forward"] = Case(CHAIN, None, "0.3 KB", _sums(False), True)
    made["sum [8,8]"] = Case(CHAIN, 0.8, "0.5 KB", _sums(True))
    made["LSTM cell N 16 H 32"] = Case(CHAIN, 0.7, "0.8 MFLOP", _lstm)
    made["tanh(x @ W), T 100, (8,32)x(32,32)"] = Case(100, 1.0, "49 kFLOP", _recurrence)
    made["MLP 16-32-4, batch 32, train step"] = Case(1, 0.6, "0.12 MFLOP", _mlp)
    return made


def _ours() -> tuple[Any, Any]:
    import numpy as np

    import tinygrad_ja as tg

    rng = np.random.default_rng(0)

    def make(shape: tuple[int, ...], grad: bool = False, scale: float = 0.5) -> Any:
        return tg.tensor((rng.standard_normal(shape) * scale).astype(np.float32), requires_grad=grad)

    return tg, make


def _torch(threads: int) -> tuple[Any, Any] | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    torch.manual_seed(0)

    def make(shape: tuple[int, ...], grad: bool = False, scale: float = 0.5) -> Any:
        return (torch.randn(shape) * scale).requires_grad_(grad)

    return torch, make


# ---- scale, memory, import -----------------------------------------------------------------------

_LONG_CHAIN = """
import time, numpy as np, tinygrad_ja as tg
def per_operator(n):
    x = tg.tensor(np.ones(16, np.float32), requires_grad=True)
    g = tg.ones(16)
    start = time.perf_counter()
    y = x
    for _ in range(n):
        y = tg.tanh(y)
    y.backward(g)
    del y
    return (time.perf_counter() - start) / n
per_operator(2000)
short = sorted(per_operator(2000) for _ in range(9))[4]
print(short * 1e6, per_operator(200_000) * 1e6)
"""

_FAN_IN = """
import time, numpy as np, tinygrad_ja as tg
def per_branch(n):
    x = tg.tensor(np.ones(16, np.float32), requires_grad=True)
    start = time.perf_counter()
    total = tg.cat([(x * 2.0).sum().reshape(1) for _ in range(n)]).sum()
    total.backward()
    return (time.perf_counter() - start) / n
per_branch(200)
print(sorted(per_branch(200) for _ in range(9))[4] * 1e6, sorted(per_branch(2000) for _ in range(5))[2] * 1e6)
"""

_RNN_MEMORY = """
import sys
name, T, N, H = sys.argv[1], 100, 128, 256
if name == "torch":
    import torch as lib
    lib.set_num_threads(1)
    from torch import nn
else:
    import tinygrad_ja as lib
    from tinygrad_ja import nn
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
rnn = nn.RNN(H, H)
def step(T):
    x = lib.zeros(T, N, H)
    out, _ = rnn(x)
    out.sum().backward()
    for p in rnn.parameters():
        p.grad = None
step(2)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
step(T)
print((status("VmHWM") - before) / 1024)
"""


def _child(code: str, *args: str) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(value) for value in done.stdout.split()]


def _import_seconds(module: str) -> float:
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return sorted(_child(code)[0] for _ in range(9))[4]


def scale_rows(with_torch: bool) -> list[dict[str, Any]]:
    """Long chain, wide fan-in, memory of BPTT, import time. Each has its own process."""
    short, long = _child(_LONG_CHAIN)
    narrow, wide = _child(_FAN_IN)
    rows = [
        {"name": "200,000-operator chain, µs an operator", "ours": long, "peer": short, "of": "2,000 operators", "bar": 2.0},
        {"name": "2,000-branch fan-in, µs a branch", "ours": wide, "peer": narrow, "of": "200 branches", "bar": None},
    ]
    if sys.platform == "linux" and with_torch:
        ours, peer = _child(_RNN_MEMORY, "tinygrad_ja")[0], _child(_RNN_MEMORY, "torch")[0]
        rows.append({"name": "peak memory, RNN T 100 N 128 H 256, MB", "ours": ours, "peer": peer, "of": "PyTorch", "bar": 1.1})
    ours, peer = _import_seconds("tinygrad_ja"), _import_seconds("numpy")
    rows.append({"name": "import tinygrad_ja, s", "ours": ours, "peer": peer, "of": "import numpy", "bar": None})
    rows.append(
        {"name": "import: seconds more than numpy's", "ours": ours - peer, "peer": 0.10, "of": "the bar of 0.10 s", "bar": 1.0}
    )
    return rows


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run all rows, print the tables and write them under ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides (default 1)")
    parser.add_argument("--rounds", type=int, default=21, help="rounds in which the peers take turns (default 21)")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder for the JSON and the Markdown table"
    )
    options = parser.parse_args(argv)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # for the processes that this one starts

    import tinygrad_ja as tg

    from . import timing

    tg.set_num_threads(options.threads)

    ours, peer = _ours(), _torch(options.threads)
    results: dict[str, Any] = {"hardware": timing.hardware(), "threads": options.threads, "rows": [], "scale": []}
    for name, case in cases().items():
        if options.only not in name:
            continue
        functions = {"ours": case.build(*ours)}
        if peer is not None:
            functions["torch"] = case.build(*peer)
        seconds = timing.in_turn(functions, options.rounds)
        micro = {side: value / case.operators * 1e6 for side, value in seconds.items()}
        ratio = micro["ours"] / micro["torch"] if "torch" in micro else None
        results["rows"].append({"name": name, "floor": case.floor, "bar": case.bar, "ratio": ratio, **micro})
    if not options.only:
        results["scale"] = scale_rows(peer is not None)
    tables = _tables(results)
    print(tables)
    timing.write_results(options.out, "overhead", results["hardware"], results, tables)
    return results


def _verdict(value: float | None, bar: float | None) -> str:
    if bar is None or value is None:
        return ""
    return "yes" if value <= bar else "NO"


def _tables(results: dict[str, Any]) -> str:
    from . import timing

    rows = []
    for row in results["rows"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        bar = "" if row["bar"] is None else f"{row['bar']:.1f}"
        torch = f"{row['torch']:.1f}" if "torch" in row else ""
        rows.append([row["name"], f"{row['ours']:.1f}", torch, ratio, bar, _verdict(row["ratio"], row["bar"]), row["floor"]])
    head = ["operator (forward + backward unless named)", "ours µs", "PyTorch µs", "ratio", "bar", "met", "floor per operator"]
    parts = [f"Hardware: {results['hardware']}; threads: {results['threads']}", "", timing.markdown_table(head, rows)]
    if results["scale"]:
        rows = []
        for row in results["scale"]:
            ratio = row["ours"] / row["peer"]
            bar = "" if row["bar"] is None else f"{row['bar']:.1f}"
            rows.append(
                [
                    row["name"],
                    f"{row['ours']:.3g}",
                    f"{row['peer']:.3g}",
                    row["of"],
                    f"{ratio:.2f}",
                    bar,
                    _verdict(ratio, row["bar"]),
                ]
            )
        parts += ["", timing.markdown_table(["scale", "value", "beside", "of", "ratio", "bar", "met"], rows)]
    return "\n".join(parts)
