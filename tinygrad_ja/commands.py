"""``python -m models`` and ``python -m benchmarks``: a folder of programs, listed without importing them, run by name.

A program is a module, or a package in its ``__init__.py``, with a function ``main(argv)``. Its line in the list is
``TITLE = {"en": ..., "ja": ...}``, or else the first line of its docstring.
"""

from __future__ import annotations

import ast
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import ArgumentError, DeviceError, StateError, error, language, text

_LIST = (
    "Programs (options of one: python -m {package} NAME --help)",
    "プログラム (オプションは python -m {package} NAME --help)",
)
_STOPPED = ("Ctrl-C: stopped at once.", "Ctrl-C: すぐに止まりました。")

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


def programs(folder: Path) -> dict[str, str]:
    """Names of the programs in ``folder`` and their titles in the current language, read from their source."""
    titles = {}
    modules = {path.stem: path for path in folder.glob("[a-z]*.py")}
    packages = {path.parent.name: path for path in folder.glob("[a-z]*/__init__.py")}
    for name, path in sorted({**modules, **packages}.items()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in tree.body):
            titles[name] = _title(tree)
    return titles


def _title(tree: ast.Module) -> str:
    for part in tree.body:
        if isinstance(part, ast.Assign) and [getattr(target, "id", None) for target in part.targets] == ["TITLE"]:
            return str(ast.literal_eval(part.value)[language()])
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def run(package: str, folder: Path, argv: Sequence[str], core_type: str | None = None) -> int:
    """Run ``argv[0]`` of ``package`` with the other arguments; list the programs when there is no name. Returns the exit status.

    core_type: what ``blas.prepare`` has set, to be told. A device, file or option that cannot be used, memory that does not suffice and
    Ctrl-C end the program with the message alone; any other failure keeps its traceback. Characters that the encoding of the terminal lacks are
    printed as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(package, folder, argv, core_type)
        sys.stdout.flush()
        return status
    except (ArgumentError, DeviceError, StateError) as failure:
        return _ended(failure)
    except MemoryError as failure:
        return _ended(error("TG-D008", reason=failure))
    except OSError as failure:
        if isinstance(failure, BrokenPipeError) and _nobody_reads():
            return 1
        return _ended(error("TG-F013", reason=failure))
    except KeyboardInterrupt:
        return _ended(_STOPPED[language() == "ja"], INTERRUPTED)


def _run(package: str, folder: Path, argv: Sequence[str], core_type: str | None) -> int:
    if core_type is not None:
        print(text("TG-C006", value=core_type), file=sys.stderr)
    titles = programs(folder)
    if not argv or argv[0] in ("-h", "--help"):
        print(_LIST[language() == "ja"].format(package=package))
        width = max(map(len, titles), default=0)
        for name, title in titles.items():
            print(f"  {name:{width}}  {title}")
        return 0
    name, *rest = argv
    if name not in titles:
        raise error(
            "TG-A001",
            op=f"python -m {package}",
            argument="NAME",
            value=name,
            rule=", ".join(titles),
            fix=f"python -m {package}",
        )
    status = importlib.import_module(f"{package}.{name}").main(rest)
    return status if isinstance(status, int) else 0


def _ended(message: object, status: int = 2) -> int:
    print(message, file=sys.stderr)
    return status


def _nobody_reads() -> bool:
    """Whether the reader of a pipe (``| head``) has gone. Then what is still to be printed goes nowhere, which also keeps Python from
    complaining at its end."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
