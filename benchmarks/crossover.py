"""``python -m benchmarks crossover --device cuda``: from which size on is the GPU faster than the CPU?

Each operator, and a whole RNN training step, runs forward + backward on both devices over growing sizes. GPU times are taken with device
events around many calls; the break-even size is interpolated between the two sizes where the order changes. Writes JSON and a
Markdown table.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TITLE = {
    "en": "from which size on is the GPU faster than the CPU?",
    "ja": "どの大きさから GPU が CPU より速くなるか",
}

SIZES = [2**k for k in range(4, 13)]
RNN_SIZES = [2**k for k in range(3, 11)]


def _elementwise(function: Callable[[Any, Any], Any]) -> Any:
    def build(tg: Any, n: int, device: str) -> Callable[[], Any]:
        x = tg.randn(n, n, device=device, requires_grad=True)
        g = tg.ones(n, n, device=device)

        def run() -> Any:
            x.grad = None
            y = function(tg, x)
            y.backward(g if y.shape == g.shape else None)

        return run

    return build


def _matmul(tg: Any, n: int, device: str) -> Callable[[], Any]:
    a = tg.randn(n, n, device=device, requires_grad=True)
    b = tg.randn(n, n, device=device, requires_grad=True)
    g = tg.ones(n, n, device=device)

    def run() -> Any:
        a.grad = b.grad = None
        (a @ b).backward(g)

    return run


def _rnn_step(tg: Any, n: int, device: str) -> Callable[[], Any]:
    """One training step: T 32, batch 32, hidden size n."""
    rnn = tg.nn.RNN(n, n).to(device)
    optimizer = tg.optim.SGD(rnn.parameters(), lr=0.01)
    x = tg.randn(32, 32, n, device=device)

    def run() -> Any:
        optimizer.zero_grad()
        out, _ = rnn(x)
        out.sum().backward()
        optimizer.step()

    return run


CASES: dict[str, tuple[Any, list[int]]] = {
    "tanh (n,n)": (_elementwise(lambda tg, x: tg.tanh(x)), SIZES),
    "mul (n,n)": (_elementwise(lambda tg, x: x * x), SIZES),
    "sum (n,n)": (_elementwise(lambda tg, x: x.sum()), SIZES),
    "softmax (n,n)": (_elementwise(lambda tg, x: tg.softmax(x, -1)), SIZES),
    "matmul (n,n)x(n,n)": (_matmul, SIZES),
    "RNN train step, T 32, N 32, H n": (_rnn_step, RNN_SIZES),
}


def _cpu_seconds(run: Callable[[], Any], budget: float) -> float:
    run()
    start = time.perf_counter()
    run()
    count = max(1, int(budget / max(time.perf_counter() - start, 1e-7)))
    samples = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(max(1, count // 5)):
            run()
        samples.append((time.perf_counter() - start) / max(1, count // 5))
    return sorted(samples)[2]


def _gpu_seconds(run: Callable[[], Any], budget: float) -> float:
    """Device events around a row of calls, so that launching and computing overlap as they do in training."""
    import cupy

    for _ in range(3):
        run()
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    samples = []
    for _ in range(5):
        cupy.cuda.get_current_stream().synchronize()
        begin.record()
        calls, start = 0, time.perf_counter()
        while calls < 3 or time.perf_counter() - start < budget / 5:
            run()
            calls += 1
        end.record()
        end.synchronize()
        samples.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / calls)
    return sorted(samples)[2]


def break_even(sizes: list[int], cpu: list[float], other: list[float]) -> float | None:
    """Size from which the other device stays faster, interpolated in log space; None when it never is.

    >>> break_even([1, 2, 4], [1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    2.0
    """
    ratios = [math.log(c / o) for c, o in zip(cpu, other)]
    first = len(ratios)
    while first and ratios[first - 1] >= 0:
        first -= 1
    if first == len(ratios):
        return None
    if first == 0:
        return float(sizes[0])
    low, high = ratios[first - 1], ratios[first]
    share = -low / (high - low)
    return float(round(sizes[first - 1] * (sizes[first] / sizes[first - 1]) ** share, 1))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run all operators over all sizes on both devices, print the table and write it under ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks crossover", description=__doc__)
    parser.add_argument("--device", default="cuda", help="the device to compare with the CPU (default cuda)")
    parser.add_argument("--largest", type=int, default=4096, help="largest size n (default 4096)")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds per measurement (default 0.3)")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder for the JSON and the Markdown table"
    )
    options = parser.parse_args(argv)

    import tinygrad_ja as tg

    from . import timing

    place = tg.device(options.device)
    tg.zeros(1, device=place)  # says at once, and clearly, when there is no such device
    measure = _gpu_seconds if place.type == "cuda" else _cpu_seconds
    results: dict[str, Any] = {"hardware": timing.hardware(), "device": _device_name(place), "rows": []}
    for name, (build, sizes) in CASES.items():
        sizes = [n for n in sizes if n <= options.largest]
        cpu, other = [], []
        for n in sizes:
            cpu.append(_cpu_seconds(build(tg, n, "cpu"), options.budget))
            other.append(measure(build(tg, n, str(place)), options.budget))
            print(f"{name:<34} n {n:>5}  cpu {cpu[-1] * 1e6:>12.1f} µs  {place} {other[-1] * 1e6:>12.1f} µs", flush=True)
        row = {"name": name, "sizes": sizes, "cpu": cpu, "device": other, "break_even": break_even(sizes, cpu, other)}
        results["rows"].append(row)
    table = _table(results)
    print(table)
    timing.write_results(options.out, "crossover", f"{results['device']} {results['hardware']}", results, table)
    return results


def _device_name(place: Any) -> str:
    if place.type != "cuda":
        return str(place)
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(place.index)["name"].decode()


def _table(results: dict[str, Any]) -> str:
    from . import timing

    rows = []
    for row in results["rows"]:
        even = "never" if row["break_even"] is None else f"{row['break_even']:.0f}"
        last = row["cpu"][-1] / row["device"][-1]
        rows.append([row["name"], even, str(row["sizes"][-1]), f"{last:.1f}"])
    head = ["forward + backward", "break-even n", "largest n", "CPU time / device time there"]
    return "\n".join([f"CPU: {results['hardware']}; device: {results['device']}", "", timing.markdown_table(head, rows)])
