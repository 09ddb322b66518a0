"""Stubs: they are current, they name what exists, and mypy learns real signatures and results from them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_ja as tg
from tinygrad_ja import stubs

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
from typing import Any
from typing_extensions import assert_type
import tinygrad_ja as tg
from tinygrad_ja import Tensor
from tinygrad_ja.nn import functional as F

x = tg.randn(2, 3)
assert_type(x, Tensor)
assert_type(x.tanh().sum(1, keepdim=True) * 2 + 1, Tensor)
assert_type(2 - x @ x.T, Tensor)
assert_type(x[0, :2], Tensor)
assert_type(x > 0, Tensor)
assert_type(tg.where(x > 0, x, 0.0), Tensor)
assert_type(tg.cat([x, x], dim=1), Tensor)
assert_type(x.split(2), tuple[Tensor, ...])
assert_type(x.sort(descending=True).values, Tensor)
assert_type(tg.topk(x, 2).indices, Tensor)
assert_type(tg.var_mean(x, 1)[0], Tensor)
assert_type(F.cross_entropy(x, tg.tensor([0, 1])), Tensor)
assert_type(F.conv2d(x, x, stride=2, padding="same"), Tensor)
assert_type(tg.linalg.solve(x, x), Tensor)
assert_type(x.add_(1).relu_(), Tensor)
assert_type(tg.atleast_2d(x, x), Any)  # a tuple for several tensors
assert_type(x.shape, tuple[int, ...])
assert_type(x.allclose(x), bool)
"""

WRONG = {
    "x.tanhh()": "tanhh",
    "tg.tanhh(x)": "tanhh",
    "F.conv2d(x, x, strides=2)": "strides",
    "tg.softmax(x)": "dim",
    "x.sum(keepdims=True)": "keepdims",
    "tg.topk(x)": '"k"',
    "x.permute(1, 0).sort().value": "value",
}


def mypy(text: str, folder: Path) -> str:
    program = folder / "program.py"
    program.write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "stubs"),
        "--follow-imports=silent",
        str(program),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout


def test_the_stubs_are_current() -> None:
    old = [path for path, text in stubs.texts().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    assert not old, "run: python -m tinygrad_ja stubs"


@pytest.mark.parametrize("path", stubs.texts(), ids=lambda path: path.name)
def test_a_stub_is_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"))


def test_every_method_of_tensor_is_in_the_stub() -> None:
    tree = ast.parse((ROOT / "tinygrad_ja" / "core" / "attached.pyi").read_text(encoding="utf-8"))
    (body,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Attached"]
    listed = {node.name for node in body.body if isinstance(node, ast.FunctionDef)}
    attached = {
        name
        for name, value in vars(tg.Tensor).items()
        if inspect.isfunction(value) and value.__module__ != "tinygrad_ja.core.tensor"
    }
    assert attached <= listed
    assert {"tanh", "sum", "add_", "__matmul__", "T"} <= listed


def test_mypy_knows_results(tmp_path: Path) -> None:
    assert "Success" in mypy(PROGRAM, tmp_path)


def test_mypy_finds_mistakes(tmp_path: Path) -> None:
    head = "import tinygrad_ja as tg\nfrom tinygrad_ja.nn import functional as F\nx = tg.randn(2, 3)\n"
    lines = mypy(head + "\n".join(WRONG) + "\n", tmp_path).splitlines()
    for number, (call, word) in enumerate(WRONG.items(), start=4):
        assert any(f":{number}: error" in line and word in line for line in lines), call
