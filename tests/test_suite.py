"""``python -m benchmarks suite``: every workload trains, sides are compared by their losses, the report says what was measured."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec

import numpy as np
import pytest

import tinygrad_ja as tg
from benchmarks import suite
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.suite import report, rounds, workloads
from benchmarks.suite.programs import FORMS, Side, build, leaf_count
from tinygrad_ja.errors import ArgumentError

WAYS = [(name, form) for name in workloads.WORKLOADS for form in FORMS.get(name, ("plain",))]


def losses(name, form, steps):
    side = Side(tg, workloads.problem(name, quick=True))
    step = build(side, name, form)
    batch = [side.tensor(array) for array in side.problem.batches[0]]
    return [step(*batch).item() for _ in range(steps)]


@pytest.mark.parametrize("name, form", WAYS)
def test_every_workload_learns_a_batch(name, form):
    found = losses(name, form, 12)
    assert np.isfinite(found).all() and min(found[6:]) < found[0]


@pytest.mark.parametrize("name", FORMS)
def test_the_forms_of_a_recurrence_are_the_same_work(name):
    first, second = (losses(name, form, 4) for form in FORMS[name])
    np.testing.assert_allclose(first, second, rtol=1e-4)


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_a_problem_is_always_the_same(name):
    first, second = workloads.problem(name, quick=True), workloads.problem(name, quick=True)
    assert first.sizes == second.sizes and first.trees == second.trees
    assert all(np.array_equal(first.weights[key], second.weights[key]) for key in first.weights)
    for a, b in zip(first.batches, second.batches):
        assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_sums_are_sums():
    for x, target in workloads.problem("addition").batches:
        powers = 2 ** np.arange(len(x))
        a, b = powers @ x[:, 0, 0], powers @ x[:, 0, 1]
        assert a + b == powers @ target[:, 0, 0]


def test_trees_of_sst_are_read(tmp_path, monkeypatch):
    (tmp_path / "sst_trees").mkdir()
    (tmp_path / "sst_trees" / "train.txt").write_text("(3 (2 It) (4 (2 's) (4 good)))\n(1 (2 a) (0 b))\n", encoding="utf-8")
    monkeypatch.setenv("TINYGRAD_JA_DATA", str(tmp_path))
    problem = workloads.problem("tree")
    assert problem.trees == [(0, (1, 2)), (0, 1)] and problem.source == "SST"
    ((words, labels),) = problem.batches
    assert len(words) == 5 and labels.tolist() == [2, 2, 4, 4, 3, 2, 0, 1]


def test_random_trees_stand_in_for_sst(monkeypatch):
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    problem = workloads.problem("tree")
    counts = [leaf_count(tree) for tree in problem.trees]
    ((words, labels),) = problem.batches
    assert len(counts) == 64 and min(counts) >= 2 and 15 < np.mean(counts) < 24
    assert len(words) == sum(counts) and len(labels) == 2 * sum(counts) - 64 and "random" in problem.source


def test_steps_until_the_first_fast_one_are_the_first_call():
    assert rounds.first_call([5.0, 0.1, 3.0, 0.1, 0.1]) == pytest.approx(8.1)
    assert rounds.first_call([0.2, 0.1, 0.1]) == 0.2


def test_sides_that_do_other_work_are_named():
    assert rounds.disagreement({"eager": [2.0, 1.0], "torch": [2.0001, 1.0001], "jax": [2.0, 0.9999]}) == ""
    assert "jax" in rounds.disagreement({"eager": [2.0, 1.0], "torch": [2.0, 1.0], "jax": [2.0, 1.1]})
    assert "finite" in rounds.disagreement({"eager": [2.0, 1.0], "torch": [2.0, float("nan")]})


AMD = "vendor_id : AuthenticAMD\ncpu family : 26\nflags : avx512f avx512dq avx512bw avx512vl\n"


def test_blas_settings():
    there = {"PATH": "/bin"}
    both, note = suite.settings("both", there, AMD)
    assert both == {"default": there, "fast": {**there, "OPENBLAS_CORETYPE": "SkylakeX"}} and note == ""
    assert list(suite.settings("fast", there, AMD)[0]) == ["fast"]
    # the command line has already set it for this process
    assert suite.settings("both", both["fast"], AMD)[0] == both
    one, note = suite.settings("both", there, "vendor_id : GenuineIntel\n")
    assert one == {"default": there} and "one BLAS setting" in note


@pytest.mark.parametrize("argument, value, known", [("--workloads", "mlp,lsmt", "lstm"), ("--peers", "tensorflow", "jax")])
def test_unknown_names_are_refused(argument, value, known, capsys):
    with pytest.raises(ArgumentError) as failure:
        suite.main([argument, value])
    assert value.rpartition(",")[2] in str(failure.value) and known in str(failure.value)
    assert benchmarks_main(["suite", argument, value]) == 2
    assert known in capsys.readouterr().err


def test_names_are_taken_in_the_order_of_the_table():
    assert suite.chosen("--peers", "jax,torch", suite.PEERS) == ["torch", "jax"]
    assert suite.chosen("--peers", "", suite.PEERS) == list(suite.PEERS)


def fake_results():
    """Two workloads: one with all sides, one in which a peer is missing."""
    sides = {
        name: {"form": "plain", "first": 0.5, "peak": 12.0} for name in ("eager", "compiled", "torch", "torch.compile", "jax")
    }
    times = {"eager": 2e-3, "compiled": 6e-4, "torch": 2.5e-3, "torch.compile": 2e-3, "jax": 1e-3}
    full = {name: {**side, "seconds": times[name]} for name, side in sides.items()}
    full["compiled"].update(arena=2**20, record=5e-3, notes=["scan has no kernel"])
    rest = {**full, "jax": {"reason": "jax is not installed"}, "eager": {**full["eager"], "form": "loop"}}
    rows = []
    for name, found in (("mlp", full), ("rnn", rest)):
        work = workloads.WORKLOADS[name]
        rows.append(
            {"name": name, "title": work.title, "floor": work.floor, "blas": "default", "sides": found, "disagreement": ""}
        )
    results = {"hardware": "A processor, 2 cores", "device": "cpu", "threads": 2, "versions": ["jax 1"], "note": ""}
    return {**results, "sides": list(sides), "blas": {"default": "SkylakeX"}, "rows": rows}


def test_the_best_peer_is_the_fastest_library_that_is_not_ours():
    full, rest = fake_results()["rows"]
    assert report.best_peer(full) == ("jax", 1e-3) and report.best_peer(rest) == ("torch.compile", 2e-3)
    assert report.best_peer({"sides": {"eager": {"seconds": 1.0}}}) is None


def test_tables_tell_ratios_bars_and_reasons():
    text = report.markdown(fake_results())
    times, costs = (block.splitlines() for block in text.split("\n\n") if block.startswith("|"))
    assert all(len({len(line) for line in table}) == 1 for table in (times, costs))
    mlp = [cell.strip() for cell in times[2].split("|")[2:-1]]
    assert mlp[:12] == ["2.00", "0.600", "2.50", "2.00", "1.00", "JAX", "0.60", "0.7", "yes", "0.80", "yes", "3.3"]
    rnn = [cell.strip() for cell in times[3].split("|")[2:-1]]
    assert rnn[4:9] == ["-", "torch.compile", "0.30", "1.0", "yes"]
    cells = [cell.strip() for cell in costs[2].split("|")[2:-1]]
    assert cells[5] == "1.0" and cells[-2:] == ["2.5", "yes"]
    assert "mlp, compiled: scan has no kernel." in text
    assert "rnn, not measured: JAX (jax is not installed)." in text and "eager loop" in text


def test_a_missed_bar_and_other_work_are_said():
    results = fake_results()
    results["rows"][0]["sides"]["compiled"]["seconds"] = 9e-4
    results["rows"][1]["disagreement"] = "the losses of jax differ"
    text = report.markdown(results)
    assert " NO |" in text and "DIFFERENT WORK? the losses of jax differ" in text


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")
def test_the_chart_shows_every_side(tmp_path):
    files = [tmp_path / "chart.svg", tmp_path / "chart.png"]
    assert report.chart(fake_results(), files)
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert ET.parse(files[0]).getroot().tag.endswith("svg")


def test_the_command_writes_json_tables_and_chart(tmp_path, capsys):
    suite.main(["--quick", "--peers", "-", "--workloads", "mlp,tree", "--blas", "default", "--out", str(tmp_path)])
    (data,), (table,) = tmp_path.glob("suite-*.json"), tmp_path.glob("suite-*.md")
    results = json.loads(data.read_text())
    assert [row["name"] for row in results["rows"]] == ["mlp", "tree"]
    for row in results["rows"]:
        eager = row["sides"]["eager"]
        assert eager["seconds"] > 0 and len(eager["losses"]) == 6
        assert row["disagreement"] == ""
        if sys.platform == "linux":
            assert eager["peak"] >= 0
    assert table.read_text() in capsys.readouterr().out
    assert not list(tmp_path.glob("*so-far*"))


def test_a_run_that_is_stopped_keeps_the_rows_that_it_has(tmp_path, monkeypatch):
    whole = rounds.finish

    def finish(begun, sides, how):
        if begun.name == "tree":
            rounds.end(begun)
            raise KeyboardInterrupt
        return whole(begun, sides, how)

    monkeypatch.setattr(rounds, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        suite.main(["--quick", "--peers", "-", "--workloads", "mlp,tree", "--blas", "default", "--out", str(tmp_path)])
    (data,), (table,) = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    assert data.stem.startswith("suite-so-far-") and [row["name"] for row in json.loads(data.read_text())["rows"]] == ["mlp"]
    assert "mlp, smaller" in table.read_text() and "tree, smaller" not in table.read_text()


def test_a_side_that_cannot_be_built_has_a_reason():
    found = rounds.measure("mlp", ["eager", "jax"], rounds.Options(device="nowhere", quick=True, rounds=1))
    assert "nowhere" in found["sides"]["eager"]["reason"] and "seconds" not in found["sides"]["eager"]
