"""``Experiment``: the command line that every program of ``models/`` has, its data, pictures and results."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.data.datasets import TinyShakespeare
from tinygrad_ja.errors import ArgumentError, StateError
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update

TITLE = {"en": "an example", "ja": "例"}
OPTIONS = [
    Option("hidden", 128, ("units", "ユニット"), quick=32),
    Option("rate", 0.1, ("learning rate, 10 % of the usual", "学習率"), least=0.001),
    Option("decay", 0.5, ("its factor", "その係数")),
    Option("share", 0.5, ("share of dropped values", "落とす割合"), most=1.0),
    Option("cell", "rnn", ("kind of cell", "セルの種類"), choices=("rnn", "lstm")),
    Option("peeky", False, ("show the code to every step", "各時刻に符号を見せる")),
    Option("beams", 5, ("beams of the search", "ビームの数"), later=True),
]


def experiment(out: Path, *argv: str, epochs: int = 5) -> Experiment:
    return Experiment("example", TITLE, OPTIONS, ["--out", str(out), *argv], epochs=epochs)


def test_options_have_defaults_and_others_for_a_quick_run_unless_they_are_given(tmp_path: Path) -> None:
    o = experiment(tmp_path).options
    assert (o.hidden, o.rate, o.cell, o.peeky, o.epochs, o.seed, o.device, o.data) == (
        128,
        0.1,
        "rnn",
        False,
        5,
        0,
        "cpu",
        None,
    )
    assert (o.compile, o.resume, o.quick) == (False, False, False)
    quick = experiment(tmp_path, "--quick", "--peeky", "--cell", "lstm").options
    assert (quick.hidden, quick.epochs, quick.peeky, quick.cell, quick.rate) == (32, 1, True, "lstm", 0.1)
    given = experiment(tmp_path, "--quick", "--hidden", "7", "--epochs", "3", "--data", "somewhere").options
    assert (given.hidden, given.epochs, given.data) == (7, 3, Path("somewhere"))


@pytest.mark.parametrize(
    ("argv", "rule"),
    [
        ("--hidden 0", "a whole number, at least 1"),
        ("--hidden many", "a whole number, at least 1"),
        ("--hidden 2.5", "a whole number, at least 1"),
        ("--epochs -1", "a whole number, at least 0"),
        ("--rate -1", "a number, at least 0.001"),
        ("--rate nan", "a number, at least 0.001"),
        ("--decay -0.5", "a number, at least 0"),
        ("--share 1.5", "a number from 0 to 1"),
        ("--cell gru", "one of rnn, lstm"),
    ],
)
def test_values_that_make_no_sense_are_refused(tmp_path: Path, argv: str, rule: str) -> None:
    option, value = argv.split()
    with pytest.raises(ArgumentError) as refused:
        experiment(tmp_path, option, value)
    message = (
        f"[TG-A001] python -m models example: {option} = {value} is not allowed. Rule: {rule}. Fix: for instance {option} "
    )
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("argv", "rule"),
    [
        ("--hidden 0", "1 以上の整数"),
        ("--share 1.5", "0 以上 1 以下の数"),
        ("--cell gru", "rnn、lstm のどれか"),
    ],
)
def test_the_refusal_is_in_japanese_too(tmp_path: Path, argv: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(ArgumentError, match=f"使えません。規則: {rule}。直し方: たとえば {argv.split()[0]} "):
        experiment(tmp_path, *argv.split())


def test_the_name_of_an_option_is_not_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs whose defaults depend on an option look for its whole name."""
    with pytest.raises(SystemExit):
        experiment(tmp_path, "--hid", "3")
    assert "--hid" in capsys.readouterr().err


@pytest.mark.parametrize("below", [False, True])
def test_a_file_is_no_folder_for_the_results(tmp_path: Path, below: bool) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    out = file / "x" if below else file
    with pytest.raises(
        ArgumentError, match=f"--out = {re.escape(str(out))} is not allowed. Rule: a folder.*--out runs/example"
    ):
        experiment(out)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(("language", "text"), [("en", "units (default 128)"), ("ja", "ユニット (既定値 128)")])
def test_help_is_in_the_current_language(
    tmp_path: Path, language: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        experiment(tmp_path, "--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert text in shown and TITLE[language] in shown


def test_the_terminal_has_japanese_where_pictures_have_no_font_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_ja.viz.figures.japanese_font", lambda: None)
    english = experiment(tmp_path / "en")
    assert english.told("source", "原文") == english.words("source", "原文") == "source"
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    japanese = experiment(tmp_path / "ja")
    assert (japanese.told("source", "原文"), japanese.words("source", "原文")) == ("原文", "source")


def test_the_seed_is_that_of_all_random_numbers(tmp_path: Path) -> None:
    experiment(tmp_path, "--seed", "3")
    first = tg.randn(4).tolist()
    tg.manual_seed(3)
    assert tg.randn(4).tolist() == first


def test_what_is_nowhere_is_replaced_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))
    run = experiment(tmp_path, "--quick")
    assert run.data(lambda **where: TinyShakespeare(**where).text, lambda: "made up", "tinyshakespeare") == "made up"
    assert run.source == "synthetic" and "Not here: tinyshakespeare (" in capsys.readouterr().err
    for language, text in (
        ("en", "TG-F006.*--quick downloads nothing. Fix: set TINYGRAD_JA_DATA"),
        ("ja", "TG-F006.*--quick の実行では"),
    ):
        monkeypatch.setenv("TINYGRAD_JA_LANG", language)
        with pytest.raises(StateError, match=text):
            experiment(tmp_path, "--quick", "--real").data(lambda **where: TinyShakespeare(**where).text, lambda: "made up")
    found = experiment(tmp_path)
    assert found.data(lambda **where: "real", lambda: "made up", "tinyshakespeare") == "real"
    assert found.source == "tinyshakespeare"


def test_other_failures_of_data_are_not_hidden(tmp_path: Path) -> None:
    def damaged(**where: object) -> None:
        raise tg.errors.error("TG-F007", path="y", actual="1", expected="2")

    with pytest.raises(tg.errors.TinygradError):
        experiment(tmp_path).data(damaged, lambda: None)


@pytest.mark.parametrize("compiled", [[], ["--compile"]])
def test_a_run_trains_draws_and_writes_its_results(
    tmp_path: Path, compiled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = experiment(tmp_path, *compiled, "--epochs", "3")
    model = tg.nn.Linear(2, 1)
    loader = [tg.randn(4, 2) for _ in range(5)]
    update = Update(lambda x: (model(x) ** 2).mean(), tg.optim.SGD(model.parameters(), lr=0.1))
    trainer = Trainer(model, run.compiled(update), loader, progress=False, curves=False, **run.keeping)
    report = run.train(trainer)
    assert report.steps == 15
    with run.figure("two.png", 1, 2, title="two") as (left, right):
        left.plot([1, 2])
        right.plot([2, 1])
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")
    made = run.finish(
        [Result("loss", report.values["loss"], ("loss", "損失"), ".3f"), Result("note", "fine", ("note", "メモ"))], curve=[1, 2]
    )
    assert json.loads((tmp_path / "results.json").read_text()) == made
    assert made["machine"]["processor"].endswith(" cores") and made["machine"]["threads"] == tg.get_num_threads()
    assert 0 < made["train_seconds"] < made["seconds"]
    assert made["steps"] == 15 and made["curve"] == [1, 2] and made["options"]["hidden"] == 128 and made["data"] == "none"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["loss", f"{report.values['loss']:.3f}"] and lines[1].split() == ["note", "fine"]


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    def trained(*argv: str) -> list[float]:
        run = experiment(tmp_path, *argv)
        model = tg.nn.Linear(2, 1)
        loader = [tg.ones(4, 2) * k for k in range(5)]
        update = Update(lambda x: (model(x) ** 2).mean(), tg.optim.SGD(model.parameters(), lr=0.01))
        run.train(Trainer(model, update, loader, progress=False, curves=False, **run.keeping))
        return [value for p in model.parameters() for value in p.detach().flatten().tolist()]

    whole = trained("--epochs", "4")
    trained("--epochs", "2")
    assert trained("--epochs", "4", "--resume") == whole
    assert trained("--epochs", "4", "--resume", "--beams", "2") == whole  # it matters only afterwards
    with pytest.raises(StateError, match="hidden"):
        trained("--epochs", "4", "--resume", "--hidden", "3")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems have no such names")
def test_results_are_json_whatever_the_numbers_and_the_name_of_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "caf\udce9"  # a name that is not UTF-8
    results = [Result("loss", float("nan"), ("loss", "損失")), Result("best", -np.inf, ("best", "最良"))]
    made = experiment(out).finish(results, curve=[0.5, np.float32("inf")])
    assert made["loss"] is made["best"] is None and made["curve"] == [0.5, None]

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads((out / "results.json").read_text(encoding="utf-8"), parse_constant=refused) == made
    assert made["options"]["out"] == str(out)


def pair_of_trainings(out: Path, *argv: str, stop_at: int = 0) -> list[int]:
    """Two trainings of 5 steps an epoch, one after the other; the first is interrupted at a step. The steps that were done in each."""
    run = experiment(out, *argv)
    done = []
    for name in ("a", "b"):
        model = tg.nn.Linear(2, 1)
        update = Update(lambda x, model=model: (model(x) ** 2).mean(), tg.optim.SGD(model.parameters(), lr=0.01))
        keeping = {**run.keeping, "folder": out / name}
        trainer = Trainer(model, update, [tg.ones(4, 2)] * 5, progress=False, curves=False, **keeping)
        steps: list[int] = []
        trainer.on("step", lambda trainer, steps=steps: steps.append(trainer.iteration))
        if stop_at:
            trainer.on("step", lambda trainer: trainer.iteration == stop_at and signal.raise_signal(signal.SIGINT))
        run.train(trainer)
        done.append(len(steps))
    run.finish([])
    return done


def test_a_resumed_run_does_not_go_on_from_what_an_earlier_run_left(tmp_path: Path) -> None:
    """The earlier run had other settings, and more epochs: its second training is not that of this run."""
    assert pair_of_trainings(tmp_path, "--epochs", "3") == [15, 15]
    with pytest.raises(SystemExit):
        pair_of_trainings(tmp_path, "--hidden", "64", "--epochs", "2", stop_at=4)
    assert pair_of_trainings(tmp_path, "--hidden", "64", "--epochs", "2", "--resume") == [6, 10]
    assert pair_of_trainings(tmp_path, "--hidden", "64", "--epochs", "3", "--resume") == [5, 5]


def test_a_second_training_goes_on_where_nobody_noted_that_it_had_begun(tmp_path: Path) -> None:
    """As in the folder of a run by an earlier version."""
    pair_of_trainings(tmp_path, "--epochs", "1")
    (tmp_path / "trainings.txt").unlink()
    assert pair_of_trainings(tmp_path, "--epochs", "2", "--resume") == [5, 5]


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    pair_of_trainings(tmp_path, "--epochs", "1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.name != ".lock"}
    program = (
        "import sys; from tinygrad_ja.training import Experiment\n"
        "Experiment('example', {'en': '', 'ja': ''}, [], ['--out', sys.argv[1]]); print('claimed', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"claimed\n"
        with pytest.raises(
            StateError, match=f"TG-F014.*{re.escape(str(tmp_path))} \\(process {other.pid}\\). Nothing was changed"
        ):
            experiment(tmp_path)
        other.kill()
    assert {path: path.read_bytes() for path in before} == before
    experiment(tmp_path).finish([])


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
def test_a_run_that_fails_leaves_no_lock_and_its_children_let_it_be(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from tinygrad_ja.training import Experiment\n"
        "Experiment('example', {'en': '', 'ja': ''}, [], ['--out', sys.argv[1]])\n"
        "child = os.fork()\n"
        "if not child: sys.exit()\n"
        "os.waitpid(child, 0); assert Path(sys.argv[1], '.lock').exists(); raise RuntimeError('on purpose')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "RuntimeError: on purpose", done.stderr
    assert "Warning" not in done.stderr
    assert not (tmp_path / ".lock").exists()
