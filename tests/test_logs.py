"""Logs hold whole lines, whatever happens to the process, and each row once."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.training import CSVLog, JSONLog, TensorBoardLog

ROWS = [{"step": 1, "epoch": 1, "loss": 0.1}, {"step": 2, "epoch": 1, "loss": 1 / 3}, {"step": 3, "epoch": 2, "loss": 1e-30}]


def filled(log, rows=ROWS, kept=()):
    log.start(list(kept))
    for row in rows:
        log.write(row)
    log.close()
    return log.path


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_json_lines_give_the_same_numbers_back(tmp_path):
    path = filled(JSONLog(tmp_path / "log.jsonl"))
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS


def test_json_has_null_for_what_is_not_finite(tmp_path):
    path = filled(JSONLog(tmp_path / "log.jsonl"), [{"step": 1, "loss": math.nan, "top": -math.inf}])
    assert path.read_text() == '{"step": 1, "loss": null, "top": null}\n'


def test_csv_is_a_table_with_one_header(tmp_path):
    path = filled(CSVLog(tmp_path / "log.csv"))
    assert path.read_text().splitlines()[0] == "step,epoch,loss"
    assert [{"step": int(r["step"]), "epoch": int(r["epoch"]), "loss": float(r["loss"])} for r in table(path)] == ROWS


def test_a_new_column_of_a_csv_is_empty_in_the_rows_before(tmp_path):
    path = filled(CSVLog(tmp_path / "log.csv"), [*ROWS, {"step": 4, "epoch": 2, "valid, top-1": 0.5}, ROWS[0]])
    rows = table(path)
    assert [row["valid, top-1"] for row in rows] == ["", "", "", "0.5", ""]
    assert [row["loss"] for row in rows] == ["0.1", str(1 / 3), "1e-30", "", "0.1"]


@pytest.mark.parametrize("kind, name", [(CSVLog, "log.csv"), (JSONLog, "log.jsonl")])
def test_a_log_that_starts_anew_keeps_the_rows_it_is_given(kind, name, tmp_path):
    filled(kind(tmp_path / name))
    resumed = filled(kind(tmp_path / name), ROWS[1:], kept=ROWS[:1])
    assert resumed.read_text() == filled(kind(tmp_path / "other")).read_text()


def test_a_log_that_is_used_again_after_closing_says_nothing_twice(tmp_path):
    log = JSONLog(tmp_path / "log.jsonl")
    filled(log)
    filled(log, ROWS[2:], kept=ROWS[:2])
    log.close()
    assert len(log.path.read_text().splitlines()) == 3


WRITER = """
import sys
from tinygrad_ja.training import CSVLog, JSONLog
logs = [CSVLog(sys.argv[1] + "/log.csv"), JSONLog(sys.argv[1] + "/log.jsonl")]
for log in logs:
    log.start([])
for step in range(1, 10**9):
    for log in logs:
        log.write({"step": step, "loss": step / 7})
    if step == 2000:
        print("go", flush=True)
"""


def test_a_killed_process_leaves_whole_lines(tmp_path):
    root = Path(__file__).parent.parent
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
    process.stdout.readline()
    process.kill()
    process.communicate()
    text = (tmp_path / "log.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert text.endswith("\n") and len(rows) >= 2000
    assert rows == [{"step": step, "loss": step / 7} for step in range(1, len(rows) + 1)]
    assert (tmp_path / "log.csv").read_text().endswith("\n")
    assert [float(row["loss"]) for row in table(tmp_path / "log.csv")][:2000] == [step / 7 for step in range(1, 2001)]


def test_without_tensorboardx_the_log_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ArgumentError, match=r"TG-A002.*tensorboardX.*pip install"):
        TensorBoardLog(tmp_path)


def test_tensorboard_gets_an_event_file(tmp_path):
    pytest.importorskip("tensorboardX")
    log = TensorBoardLog(tmp_path / "events")
    log.start([])
    for row in ROWS:
        log.write(row)
    log.close()
    (file,) = (tmp_path / "events").iterdir()
    assert file.name.startswith("events.out.tfevents") and b"loss/train" in file.read_bytes()
