"""What belongs to the repository's shape: light imports, one-way dependencies, small files, names that say something."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tinygrad_ja"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYTHON_FILES = [
    path for folder in ("tinygrad_ja", "models", "benchmarks", "tests") for path in sorted((ROOT / folder).rglob("*.py"))
]

# A module may import its own part and the parts of a lower level.
LEVELS = {
    "messages": 0,
    "errors": 1,
    "table": 0,
    "catalogue": 2,
    "commands": 2,
    "blas": 0,
    "backend": 2,
    "core": 3,
    "config": 4,
    "amp": 4,
    "cuda": 4,
    "backends": 6,
    "func": 7,
    "autograd": 4,
    "ops": 4,
    "linalg": 5,
    "textbook": 5,
    "kernels": 5,
    "nn": 6,
    "optim": 7,
    "io": 7,
    "data": 8,
    "profiling": 8,
    "compiler": 9,
    "__init__": 9,
    "viz": 10,
    "diagnosis": 11,
    "training": 11,
    "testing": 12,
    "stubs": 12,
    "__main__": 13,
}

FORBIDDEN_NAMES = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py", "manager.py"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(module: str) -> str:
    """``tinygrad_ja.core.tape`` belongs to ``core``; the package itself is ``__init__``."""
    return (*module.split("."), "__init__")[1]


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(tree: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """All statements; with ``at_import`` only those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if at_import and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from statements(child, at_import)


def imports(path: Path, at_import: bool = False) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            modules = {f"{base}.{alias.name}" for alias in node.names if is_module(f"{base}.{alias.name}")}
            found |= modules or {base}
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


# ---- imports


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules outside of Python's library that a statement loads in a fresh process."""
    code = (
        f"import sys; before = set(sys.modules); {statement}; import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_numpy_alone() -> None:
    loaded = loaded_by("import tinygrad_ja")
    outside = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert outside == {"numpy", "tinygrad_ja"}


@pytest.mark.parametrize(
    "part",
    ["testing", "training", "viz", "diagnosis", "compiler", "profiling", "data", "catalogue", "commands", "stubs", "__main__"],
)
def test_importing_the_package_leaves_out_what_only_some_need(part: str) -> None:
    assert f"tinygrad_ja.{part}" not in loaded_by("import tinygrad_ja")


def test_what_loads_late_is_offered_from_the_start() -> None:
    code = (
        "import tinygrad_ja as tg; print({'blame', 'bptt_map', 'compile', 'data', 'draw', 'profile', 'summary', 'training', 'viz'} "
        "<= set(dir(tg)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("module", ["unittest", "doctest", "asyncio", "multiprocessing", "sqlite3", "http", "tkinter"])
def test_importing_the_package_loads_no_heavy_part_of_the_library(module: str) -> None:
    assert module not in loaded_by("import numpy; before = set(sys.modules); import tinygrad_ja")


@pytest.mark.parametrize("package", ["models", "benchmarks"])
def test_listing_programs_loads_numpy_alone(package: str) -> None:
    code = f"""
import contextlib, io, json, sys
before = set(sys.modules)
from {package}.__main__ import main
with contextlib.redirect_stdout(io.StringIO()):
    main([])
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    outside = {name.partition(".")[0] for name in json.loads(done.stdout)} - sys.stdlib_module_names
    assert outside == {"numpy", "tinygrad_ja", package}


# ---- dependencies


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_dependencies_point_one_way(path: Path) -> None:
    here = part_of(module_name(path))
    for name in imports(path):
        if name.partition(".")[0] != "tinygrad_ja":
            continue
        there = part_of(name)
        assert there == here or LEVELS[there] < LEVELS[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_the_package_imports_only_what_it_may(path: Path) -> None:
    allowed = {"numpy", "tinygrad_ja", *sys.stdlib_module_names}
    # inside functions, or in the parts that need them
    optional = {
        "cupy",
        "tqdm",
        "matplotlib",
        "hypothesis",
        "PIL",
        "sudachipy",
        "onnx",
        "sacrebleu",
        "tensorboardX",
        "llvmlite",
        "cuda",
        "cudnn",
    }
    outside = {name.partition(".")[0] for name in imports(path)} - allowed
    assert outside <= optional
    if part_of(module_name(path)) != "testing":
        assert {name.partition(".")[0] for name in imports(path, at_import=True)} <= allowed


def test_no_module_imports_itself_through_others() -> None:
    graph = {module_name(path): imports(path, at_import=True) for path in MODULES}
    finished: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name in finished or name not in graph:
            return
        for other in sorted(graph[name] - {"tinygrad_ja"}):
            visit(other, (*above, name))
        finished.add(name)

    for name in graph:
        visit(name, ())


# ---- files


@pytest.mark.parametrize("path", PYTHON_FILES, ids=relative)
def test_files_are_small_and_named_for_what_they_hold(path: Path) -> None:
    limit = 1000 if path == PACKAGE / "messages.py" else 550  # the catalogue is a table
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= limit
    assert path.name not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def line_of(readme: str, name: str) -> str:
    """The command line that stands below its mark in a README."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    found = re.search(rf"<!-- line: {name} -->\n```bash\n(.*)\n```", text)
    assert found, f"{readme} has no line {name}"
    return found[1]


@pytest.mark.parametrize("name", ["program", "tests"])
def test_both_readmes_give_the_same_line_that_starts_from_nothing(name: str) -> None:
    line = line_of("README.md", name)
    assert line == line_of("README.ja.md", name)
    assert line.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install -e ")


def test_continuous_integration_runs_the_line_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert "<!-- line: tests -->" in script.read_text(encoding="utf-8")
    assert script.stat().st_mode & 0o111


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_version_is_stated_once_for_metadata_and_once_for_programs() -> None:
    import tinygrad_ja

    assert f'version = "{tinygrad_ja.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
