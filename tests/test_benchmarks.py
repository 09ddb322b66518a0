"""The benchmark commands run and write what they promise. No test looks at a time."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import tinygrad_ja as tg
from benchmarks import crossover, loader, ops, overhead, profile, systems, timing
from tinygrad_ja.backend.devices import gpu_problem
from tinygrad_ja.errors import ArgumentError, DeviceError, StateError, error

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "cpu, other, expected",
    [
        ([1.0, 2.0, 4.0], [2.0, 2.0, 2.0], 2.0),
        ([1.0, 2.0, 4.0], [9.0, 9.0, 9.0], None),
        ([5.0, 6.0, 7.0], [1.0, 1.0, 1.0], 1.0),
        ([1.0, 4.0, 1.0], [2.0, 2.0, 2.0], None),
    ],
)
def test_break_even_is_the_size_from_which_the_device_stays_faster(cpu, other, expected):
    assert crossover.break_even([1, 2, 4], cpu, other) == expected


def test_in_turn_times_every_side():
    calls = {"a": 0, "b": 0}

    def side(name):
        def run():
            calls[name] += 1

        return run

    medians = timing.in_turn({name: side(name) for name in calls}, rounds=3, target=1e-5)
    assert set(medians) == {"a", "b"} and all(value > 0 for value in medians.values()) and min(calls.values()) >= 6


def test_tables_line_up():
    table = timing.markdown_table(["operator", "µs"], [["tanh", "1.0"], ["a long name", "12.5"]]).splitlines()
    assert len({len(line) for line in table}) == 1 and table[1].startswith("|---")


def written(folder, benchmark):
    """The one JSON and the one table of that benchmark; their names end with the hardware's."""
    (data,), (table,) = folder.glob(f"{benchmark}-*.json"), folder.glob(f"{benchmark}-*.md")
    assert data.stem == table.stem
    return json.loads(data.read_text()), table.read_text()


def test_overhead_writes_json_and_markdown(tmp_path, capsys):
    overhead.main(["--only", "8,8", "--rounds", "1", "--out", str(tmp_path)])
    results, table = written(tmp_path, "overhead")
    assert {row["name"] for row in results["rows"]} >= {"sum [8,8]", "add [8,8]+[8]"}
    assert all(row["ours"] > 0 for row in results["rows"])
    assert table in capsys.readouterr().out


def test_ops_writes_time_and_memory_of_every_side(tmp_path, capsys):
    ops.main(["--only", "erf", "--rounds", "1", "--out", str(tmp_path), "--threads", "1"])
    results, table = written(tmp_path, "ops")
    (row,) = results["rows"]
    assert row["seconds"]["ours"] > 0
    if sys.platform == "linux":
        assert 4 < row["megabytes"]["ours"] < 400  # x, y and two gradients of 4 MB
    assert table in capsys.readouterr().out


def test_on_a_gpu_ops_has_a_third_turn_with_cudnn_and_names_the_gpu(tmp_path, monkeypatch, capsys):
    """With the CPU in place of the GPU, and a switch in place of cuDNN's."""
    turns, timed = [], []

    class Switch:
        def is_available(self):
            return True

        def version(self):
            return 91900

        def refused(self):
            return ["wgrad of (1,): no engine\nproposed a plan"]

        @contextlib.contextmanager
        def flags(self, enabled):
            turns.append(enabled)
            yield

    class Side(ops.Library):
        def __init__(self, name, threads, device):
            assert device == "cuda"
            super().__init__(name, threads, "cpu")

    def in_turn(functions, rounds, settle, finish):
        for function in functions.values():
            function()
        finish()
        timed.append(list(functions))
        assert settle == 0.0
        return {"ours": 2e-3, "torch": 4e-3, "cudnn": 1e-3} if "cudnn" in functions else {"ours": 2e-3, "torch": 4e-3}

    monkeypatch.setattr(ops, "Library", Side)
    monkeypatch.setattr(ops, "PEERS", {"ours": "tinygrad_ja"})
    monkeypatch.setattr(ops, "CUDA_CASES", {"conv2d small": ops.CUDA_CASES["conv2d 32x64x56x56, 64 of 3x3"]._replace(batch=1)})
    monkeypatch.setattr(ops, "CASES", {name: ops.CASES[name] for name in ("erf 2048x512",)})
    monkeypatch.setattr(timing, "in_turn", in_turn)
    monkeypatch.setattr(timing, "accelerator", lambda device: "NVIDIA X1")
    monkeypatch.setattr(tg.backends, "cudnn", Switch())
    results = ops.main(["--device", "cuda", "--no-memory", "--threads", "2", "--out", str(tmp_path)])
    assert timed == [["ours"], ["ours", "cudnn"]] and turns == [True]
    assert results["cudnn"]["version"] == 91900 and results["hardware"].startswith("NVIDIA X1, ")
    table = (tmp_path / "ops-nvidia-x1.md").read_text()
    head, _, erf, conv = [line.strip("| ").split("|") for line in table.splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in head].index("with cuDNN ms")
    assert [erf[place].strip(), erf[place + 1].strip()] == ["", ""]
    assert [conv[place].strip(), conv[place + 1].strip()] == ["1.000", "0.25"]
    assert "cuDNN 91900; refused: 1" in table and table in capsys.readouterr().out


@pytest.mark.parametrize("name", ops.CASES | ops.CUDA_CASES)
def test_every_row_of_ops_runs(name):
    side = ops.Library("tinygrad_ja", 1, "cpu")
    gradient = (ops.CASES | ops.CUDA_CASES)[name].build(side, 2)()
    assert gradient is not None and float(abs(gradient).max()) > 0


def test_crossover_runs_with_the_cpu_on_both_sides(tmp_path):
    crossover.main(["--device", "cpu", "--largest", "16", "--budget", "0.002", "--out", str(tmp_path)])
    results, table = written(tmp_path, "crossover")
    assert {row["name"] for row in results["rows"]} == set(crossover.CASES)
    assert table.count("|") > 20


def test_loader_writes_epochs_and_shares(tmp_path, capsys):
    loader.main(["--examples", "400", "--rounds", "1", "--steps", "2", "--out", str(tmp_path)])
    results, table = written(tmp_path, "loader")
    assert {"threads", "processes"} <= set(results["rows"][0]["seconds"]) and len(results["rows"]) == 3
    assert all(0 < share["waited"] < share["seconds"] for share in results["shares"])
    assert table in capsys.readouterr().out


def test_profile_prints_the_floor_and_a_table(capsys):
    seconds = profile.main(["mlp", "--quick", "--steps", "2", "--threads", "1"])
    printed = capsys.readouterr().out
    assert seconds > 0
    assert "GFLOP/s" in printed and "linear" in printed and "ms a step" in printed


def test_profile_of_a_recording_says_what_an_operator_costs(capsys):
    seconds = profile.main(["addition", "--recording", "--quick", "--steps", "2", "--threads", "1", "--rows", "5"])
    printed = capsys.readouterr().out
    assert seconds > 0 and "eager steps" in printed and "operators recorded" in printed
    lines = printed[printed.index("file") :].splitlines()
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[1:]]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100


def test_systems_keep_what_was_measured_and_say_who_is_worse(tmp_path, monkeypatch, capsys):
    """Three stand-ins for the programs: one result a seed, the eager side as good as PyTorch's and slower, the compiled one faster."""
    speeds = {"eager": 30.0, "compiled": 12.0, "torch": 24.0}

    def run(system, side, seed, options, folder):
        started.append((side, seed))
        return {"accuracy": 0.98 + int(seed) / 100, "loss": 0.2 if side == "torch" else 0.3, "train_seconds": speeds[side]}

    started = []
    metrics = (systems.Metric("accuracy", bar=0.985), systems.Metric("loss", less=True))
    monkeypatch.setattr(systems, "_run", run)
    monkeypatch.setattr(systems, "systems", lambda: {"digits": systems.System("row_rnn", ("--cell", "lstm"), metrics)})
    systems.main(["digits", "--seeds", "0", "--out", str(tmp_path)])
    systems.main(["digits", "--seeds", "0,1", "--missing", "--out", str(tmp_path)])
    assert started == [(side, "0") for side in speeds] + [(side, "1") for side in speeds]
    table = (tmp_path / "systems.md").read_text()
    assert "| compiled | 0, 1 | 0.985 ± 0.005 | 0.3 ± 0 | 12 ± 0 |" in table
    assert "accuracy: no worse than PyTorch's" in table and "loss: worse than PyTorch's" in table
    assert "time / PyTorch eager 0.50." in table and "python -m models row_rnn --cell lstm" in table
    with pytest.raises(ArgumentError, match="digits"):
        systems.main(["letters"])


def test_a_smaller_budget_has_a_table_of_its_own(tmp_path, monkeypatch):
    def run(system, side, seed, options, folder):
        begun.append((system.arguments, folder.name))
        return {"accuracy": 0.9, "train_seconds": 1.0}

    begun = []
    known = {"digits": systems.System("row_rnn", ("--cell", "lstm"), (systems.Metric("accuracy", bar=0.985),))}
    monkeypatch.setattr(systems, "_run", run)
    monkeypatch.setattr(systems, "systems", lambda: known)
    given = ["digits", "--seeds", "0", "--sides", "torch", "--out", str(tmp_path)]
    systems.main(given)
    for _ in range(2):
        results = systems.main([*given, "--epochs", "2", "--missing"])
    assert begun == [(("--cell", "lstm"), "digits-torch-0"), (("--cell", "lstm", "--epochs", "2"), "digits-2-torch-0")]
    assert set(results) == {"digits", "digits --epochs 2"}
    whole, smaller = (tmp_path / "systems.md").read_text().split("## ")[1:]
    assert "`python -m models row_rnn --cell lstm`" in whole and "accuracy (bar >= 0.985)" in whole
    with pytest.raises(SystemExit):
        systems.main([*given, "--epochs", "0"])
    assert smaller.startswith("digits --epochs 2\n\n`python -m models row_rnn --cell lstm --epochs 2`") and "bar" not in smaller


def test_what_another_process_measured_meanwhile_stays(tmp_path, monkeypatch):
    def run(system, side, seed, options, folder):
        if seed == "0":
            systems.main(["digits", "--seeds", "1", "--sides", "torch", "--out", str(tmp_path)])
        return {"accuracy": 0.9, "train_seconds": 1.0}

    monkeypatch.setattr(systems, "_run", run)
    monkeypatch.setattr(systems, "systems", lambda: {"digits": systems.System("row_rnn", (), (systems.Metric("accuracy"),))})
    results = systems.main(["digits", "--seeds", "0", "--sides", "torch", "--out", str(tmp_path)])
    assert set(results["digits"]["torch"]) == {"0", "1"}


def test_times_of_different_machines_are_not_compared():
    run = lambda seconds, hardware: {"train_seconds": seconds, "hardware": hardware, "accuracy": 0.9}  # noqa: E731
    system = systems.System("row_rnn", (), (systems.Metric("accuracy"),))
    sides = {
        "compiled": {"0": run(1.0, "slow"), "1": run(6.0, "fast")},
        "torch": {"0": run(9.0, "fast"), "1": run(4.0, "fast")},
    }
    assert "time / PyTorch eager 1.50." in systems._verdict(system, sides)
    del sides["torch"]["1"]
    assert "no times are compared" in systems._verdict(system, sides)


def test_the_side_with_more_seeds_is_judged():
    run = lambda accuracy: {"train_seconds": 1.0, "hardware": "a", "accuracy": accuracy}  # noqa: E731
    system = systems.System("row_rnn", (), (systems.Metric("accuracy"),))
    sides = {"eager": {"0": run(0.8), "1": run(0.9)}, "compiled": {"0": run(0.5)}, "torch": {"0": run(0.8), "1": run(0.9)}}
    assert "no worse than PyTorch's (+0, spread 0.1)" in systems._verdict(system, sides)
    sides["compiled"]["1"] = run(0.5)
    assert "accuracy: worse than PyTorch's" in systems._verdict(system, sides)


def test_times_of_runs_beside_others_are_marked_and_compared_with_their_like_alone():
    run = lambda seconds, at_once: {"train_seconds": seconds, "hardware": "a", "accuracy": 0.9, "at_once": at_once}  # noqa: E731
    known = {"digits": systems.System("row_rnn", (), (systems.Metric("accuracy"),))}
    sides = {"compiled": {"0": run(1.0, 1), "1": run(6.0, 4)}, "torch": {"0": run(9.0, 4), "1": run(4.0, 4)}}
    table = systems.markdown({"digits": sides}, known)
    assert "time / PyTorch eager 1.50." in table and "; a; seconds are of runs beside others, up to 4 at once" in table


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Two comparisons whose runs are stand-ins; ``fails``: places that fail. A folder for the results, and the runs that began."""

    def run(system, side, seed, options, folder):
        begun.append((system.program, side, options.device))
        if (system.program, side) in fails:
            raise systems.Failed("ended with 1\n  no such thing")
        return {"accuracy": 0.9, "train_seconds": 2.0}

    begun, fails = [], set()
    known = {name: systems.System(name, (), (systems.Metric("accuracy"),)) for name in ("letters", "digits")}
    monkeypatch.setattr(systems, "_run", run)
    monkeypatch.setattr(systems, "systems", lambda: known)
    return SimpleNamespace(folder=tmp_path, begun=begun, fails=fails, options=["--seeds", "0", "--out", str(tmp_path)])


def test_results_of_a_gpu_have_a_file_of_their_own(stand_ins, monkeypatch):
    monkeypatch.setattr(timing, "accelerator", lambda device: "NVIDIA H200" if device == "cuda" else "")
    systems.main(["letters", "--device", "cuda", *stand_ins.options])
    systems.main(["letters", "--device", "cuda", "--quick", *stand_ins.options])
    names = {path.name for path in stand_ins.folder.iterdir()}
    assert names == {f"systems{quick}-nvidia-h200.{ending}" for quick in ("", "-quick") for ending in ("json", "md")}
    found = json.loads((stand_ins.folder / "systems-nvidia-h200.json").read_text())["letters"]["torch"]["0"]
    assert found["hardware"] == f"NVIDIA H200, {timing.hardware()}" and found["at_once"] == 1
    assert {device for _, _, device in stand_ins.begun} == {"cuda"}


@pytest.mark.skipif(gpu_problem() is None, reason="there is a GPU")
def test_without_a_gpu_none_is_measured(stand_ins):
    with pytest.raises(DeviceError):
        systems.main(["letters", "--device", "cuda", *stand_ins.options])
    assert not stand_ins.begun


@pytest.mark.parametrize("at_once", ["1", "3"])
def test_a_run_that_fails_is_told_and_the_others_go_on(stand_ins, at_once, capsys):
    stand_ins.fails |= {("letters", "eager"), ("digits", "torch")}
    with pytest.raises(SystemExit) as stopped:
        systems.main(["--at-once", at_once, *stand_ins.options])
    assert stopped.value.code == 1 and len(stand_ins.begun) == 6
    told = capsys.readouterr().err
    assert "letters eager seed 0 failed: ended with 1\n  no such thing" in told and "digits torch seed 0 failed" in told
    results = json.loads((stand_ins.folder / "systems.json").read_text())
    assert {name: set(sides) for name, sides in results.items()} == {
        "letters": {"compiled", "torch"},
        "digits": {"eager", "compiled"},
    }


def test_runs_go_side_by_side(stand_ins, monkeypatch):
    meeting = threading.Barrier(3)  # nobody goes on before three are here

    def run(system, side, seed, options, folder):
        meeting.wait(timeout=60)
        return {"accuracy": 0.9, "train_seconds": 2.0}

    monkeypatch.setattr(systems, "_run", run)
    results = systems.main(["--at-once", "3", *stand_ins.options])
    assert [results[name][side]["0"]["at_once"] for name in results for side in results[name]] == [3] * 6
    with pytest.raises(SystemExit):
        systems.main(["--at-once", "0", *stand_ins.options])


@pytest.mark.parametrize("quick", [False, True])
def test_all_sides_run_on_the_device_and_on_real_data(quick, tmp_path, monkeypatch):
    def run(command, **how):
        commands.append(command[1:])
        how["stdout"].write('{"accuracy": 0.9}\n')
        (tmp_path / "results.json").write_text('{"accuracy": 0.9}')
        return SimpleNamespace(returncode=0)

    commands: list[list[str]] = []
    monkeypatch.setattr(systems.subprocess, "run", run)
    system = systems.System("row_rnn", ("--cell", "gru"), ())
    options = argparse.Namespace(device="cuda:1", quick=quick, threads=1)
    for side in systems.SIDES:
        assert systems._run(system, side, "3", options, tmp_path) == {"accuracy": 0.9}
    given = ["--cell", "gru", "--seed", "3", "--device", "cuda:1", *(["--quick"] if quick else [])]
    real = [] if quick else ["--real"]
    ours = ["-m", "models", "row_rnn", *given, "--out", str(tmp_path), *real]
    assert commands == [ours, [*ours, "--compile"], ["-m", "benchmarks.systems.row_rnn", *given]]


@pytest.mark.slow
@pytest.mark.usefixtures("without_data")
@pytest.mark.parametrize("side", ["eager", "torch"])
def test_made_up_data_is_not_measured(side, tmp_path, monkeypatch, capsys):
    if side == "torch":
        pytest.importorskip("torch")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing can be fetched
    with pytest.raises(SystemExit) as stopped:
        systems.main(["dense", "--seeds", "0", "--sides", side, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)])
    assert stopped.value.code == 1 and not list(tmp_path.glob("*.json"))
    told = capsys.readouterr().err
    assert "[TG-F006]" in told and "Fix: set TINYGRAD_JA_DATA" in told


def test_a_peer_takes_made_up_data_for_a_quick_run_alone():
    pytest.importorskip("torch")
    from benchmarks.systems import peer

    def missing(root, download):
        raise error("TG-F006", name="sums", file="a", folder=root, reason=f"download={download}", fix="look")

    def damaged(root, download):
        raise error("TG-F007", path=root, actual=1, expected=2)

    quick, whole = (peer.parsed([], options, 3, 1) for options in (["--quick"], ["--data", "here"]))
    assert (quick.device, quick.epochs, whole.epochs) == ("cpu", 1, 3)
    assert peer.data(quick, missing, lambda: "made up") == "made up"
    for o, real, code in ((whole, missing, "TG-F006.*here.*download=True"), (quick, damaged, "TG-F007")):
        with pytest.raises(StateError, match=code):
            peer.data(o, real, lambda: "made up")
    assert peer.clock(quick) <= peer.clock(quick)
