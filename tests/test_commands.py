"""``python -m models`` and ``python -m benchmarks``: listing without importing, running by name."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_ja.commands import programs, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``lessons`` of two programs, one of which cannot be imported, and a module that is none."""
    package = tmp_path / "lessons"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "greet.py").write_text(
        "from tinygrad_ja.errors import error\n"
        "TITLE = {'en': 'greets', 'ja': '挨拶する'}\n"
        "def main(argv):\n"
        "    if argv == ['gpu']:\n"
        "        raise error('TG-D005', device='gpu')\n"
        "    if argv == ['bug']:\n"
        "        raise error('TG-S001', op='add', shapes='(2,) and (3,)')\n"
        "    if argv == ['file']:\n"
        "        raise FileNotFoundError(2, 'No such file or directory', 'x')\n"
        "    if argv == ['memory']:\n"
        "        raise MemoryError('Unable to allocate 74.5 GiB')\n"
        "    if argv == ['Ctrl-C']:\n"
        "        raise KeyboardInterrupt\n"
        "    if argv == ['arrow']:\n"
        "        print('left \u2194 右')\n"
        "    return len(argv)\n",
        encoding="utf-8",
    )
    (package / "heavy.py").write_text('"""Needs much.\n\nMore."""\nimport no_such_module\ndef main(argv): ...\n')
    (package / "timing.py").write_text('"""No program."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "lessons"]:
        del sys.modules[name]


@pytest.mark.parametrize(("language", "title"), [("en", "greets"), ("ja", "挨拶する")])
def test_programs_are_listed_in_the_current_language(
    folder: Path, monkeypatch: pytest.MonkeyPatch, language: str, title: str
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    assert programs(folder) == {"greet": title, "heavy": "Needs much."}


def test_listing_imports_no_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lessons", folder, []) == 0
    assert "heavy  Needs much." in capsys.readouterr().out
    assert not any(name.startswith("lessons.") for name in sys.modules)


def test_the_other_arguments_go_to_the_program_and_its_status_comes_back(folder: Path) -> None:
    assert run("lessons", folder, ["greet"]) == 0
    assert run("lessons", folder, ["greet", "a", "b"]) == 2


def test_an_unknown_name_lists_the_known_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lessons", folder, ["gret"]) == 2
    assert "greet, heavy" in capsys.readouterr().err


def test_a_device_that_cannot_be_used_ends_with_the_message_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lessons", folder, ["greet", "gpu"]) == 2
    assert capsys.readouterr().err.startswith("[TG-D005]")


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("file", 2, "[TG-F013] a file or a folder cannot be used: [Errno 2] No such file or directory: 'x'. Fix: "),
        ("memory", 2, "[TG-D008] the memory does not suffice: Unable to allocate 74.5 GiB. Fix: choose smaller sizes"),
        ("Ctrl-C", 130, "Ctrl-C: stopped at once.\n"),
    ],
)
def test_what_the_machine_or_the_user_forbids_ends_with_the_message_alone(
    folder: Path, what: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lessons", folder, ["greet", what]) == status
    shown = capsys.readouterr().err
    assert shown.startswith(message) and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("encoding", "shown"), [("cp932", "left \\u2194 右"), ("cp1252", "left \\u2194 \\u53f3"), ("utf-8", "left ↔ 右")]
)
def test_characters_that_the_terminal_lacks_are_printed_as_escapes(
    folder: Path, encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding=encoding))
    run("lessons", folder, ["greet", "arrow"])
    assert terminal.getvalue().decode(encoding) == shown + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no BrokenPipeError")
def test_a_pipe_that_nobody_reads_any_more_ends_the_program_quietly(folder: Path) -> None:
    made = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib; from tinygrad_ja.commands import run; sys.exit(run(*eval(sys.argv[1])))"]
        + [f"('lessons', pathlib.Path({str(folder)!r}), [])"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert made.stdout is not None and made.stderr is not None
    made.stdout.close()
    assert (made.stderr.read(), made.wait()) == (b"", 1)
    made.stderr.close()


def test_a_fault_of_the_program_keeps_its_traceback(folder: Path) -> None:
    with pytest.raises(ValueError, match="TG-S001"):
        run("lessons", folder, ["greet", "bug"])


def test_chosen_kernels_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("lessons", folder, [], "SkylakeX")
    assert "OPENBLAS_CORETYPE=SkylakeX" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["models", "benchmarks"])
def test_every_program_of_the_project_has_a_title(package: str) -> None:
    folder = Path(__file__).resolve().parent.parent / package
    found = programs(folder)
    assert found
    assert all(found.values())
