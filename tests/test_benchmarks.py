"""The benchmark commands run and write what they promise. No test looks at a time."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import crossover, loader, ops, overhead, profile, systems, timing
from tinygrad_ja.errors import ArgumentError


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


@pytest.mark.parametrize("name", ops.CASES)
def test_every_row_of_ops_runs(name):
    side = ops.Library("tinygrad_ja", 1, "cpu")
    gradient = ops.CASES[name].build(side, 2)()
    assert gradient is not None and float(abs(gradient).sum()) > 0


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
