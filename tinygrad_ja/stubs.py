"""Type stubs, which tell editors and mypy the signature of every operator and method. Operators are made at run time and their methods are
attached, so no reader of the source sees them; these files are what the running program has.

    python -m tinygrad_ja stubs            write them into the package
    python -m tinygrad_ja stubs --check    exit code 1 when one of them is not current
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from .core.operator import OPERATORS
from .core.tensor import Tensor

PACKAGE = Path(__file__).parent

MODULES = ("tinygrad_ja", "tinygrad_ja.nn.functional", "tinygrad_ja.linalg")
"""Modules whose functions get signatures."""

_IMPORTS = """\
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
"""

_KNOWN = {"Any", "Callable", "Iterable", "Iterator", "Literal", "Mapping", "None", "Sequence", "Tensor", "Device", "Generator"}
_BUILTIN = {"bool", "bytes", "complex", "dict", "float", "int", "list", "object", "set", "slice", "str", "tuple", "type"}

_VARIES = {"atleast_1d", "atleast_2d", "atleast_3d", "max", "median", "min", "nanmedian", "nonzero"}
"""Functions that return a Tensor or several, as their arguments say; so do those with an argument ``return_...``."""

_ARRAYS = {"Array", "Constant"}
"""Annotations of arrays: a Tensor, an array or a number goes in, a Tensor comes out."""


def texts() -> dict[Path, str]:
    """Every stub: its file and its text."""
    made = {PACKAGE / "core" / "attached.pyi": _attached()}
    for name in MODULES:
        module = importlib.import_module(name)
        assert module.__file__ is not None
        made[Path(module.__file__).with_suffix(".pyi")] = _module(module)
    return made


def run(check: bool) -> int:
    """Write the stubs, or with ``check`` only compare; returns the exit status."""
    status = 0
    for path, text in texts().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        status = 1
        print(path.relative_to(PACKAGE.parent).as_posix())
        if not check:
            path.write_text(text, encoding="utf-8")
    return status if check else 0


# ---- one file -------------------------------------------------------------------------------------


def _attached() -> str:
    """Methods that operators have attached to Tensor."""
    attached = [value for value in vars(Tensor).values() if inspect.isfunction(value) and value.__module__ != Tensor.__module__]
    tuples = {name: kind for value in attached for name, kind in _tuples_of(value).items()}
    lines = [
        '"""Methods of ``Tensor`` that operators attach. Written by ``python -m tinygrad_ja stubs``."""',
        "",
        _IMPORTS,
        "from ..backend.devices import Device",
        "from ..backend.random import Generator",
        "from .tensor import Tensor",
        "",
        *_classes(tuples),
        "class Attached:",
        "    __slots__ = ()",
    ]
    for name, value in sorted(vars(Tensor).items()):
        if isinstance(value, property) and value.fget is not None and value.fget.__module__ != Tensor.__module__:
            lines += ["    @property", f"    def {name}(self) -> Tensor: ..."]
        elif inspect.isfunction(value) and value.__module__ != Tensor.__module__:
            lines += ["    " + line for line in _function(name, value, method=True)]
    return "\n".join(lines) + "\n"


def _module(module: ModuleType) -> str:
    """Functions of ``ops`` with their signatures; everything else by the import that the module itself has."""
    assert module.__file__ is not None
    dots = "." * (module.__name__.count(".") + module.__file__.endswith("__init__.py"))
    package = module.__name__.partition(".")[0]
    submodules = _imported_modules(Path(module.__file__))
    imports, constants, functions, tuples = [], [], [], {}
    late = {name: getattr(module, name) for name in getattr(module, "_LATER", ())}  # loaded when they are first asked for
    for name, value in sorted({**vars(module), **late}.items()):
        if name.startswith("_") and name != "__version__":
            continue
        home = getattr(value, "__module__", "")
        if inspect.ismodule(value):
            if name in submodules:
                imports.append(f"from . import {name} as {name}")
        elif inspect.isfunction(value) and home.startswith(f"{package}.ops."):
            functions += _function(name, value)
            tuples.update(_tuples_of(value))
        elif inspect.isclass(value) or inspect.isfunction(value):
            if home.startswith(package):
                original = value.__name__
                imports.append(f"from {dots}{home.removeprefix(package + '.')} import {original} as {name}")
        elif type(value).__name__.endswith("DType") or type(value).__name__ == "dtype":
            constants.append(f"{name}: np.dtype[Any]")
        elif isinstance(value, (str, float, int)):
            constants.append(f"{name}: builtins.{type(value).__name__}")
    shared = [
        f"from {dots}backend.devices import Device as Device",
        f"from {dots}backend.random import Generator as Generator",
        f"from {dots}core.tensor import Tensor as Tensor",
    ]
    head = f'"""Signatures of ``{module.__name__}``. Written by ``python -m tinygrad_ja stubs``."""'
    parts = [head, "", _IMPORTS, *sorted({*imports, *shared}), "", *constants, "", *_classes(tuples), *functions]
    return "\n".join(parts) + "\n"


def _tuples_of(function: Any) -> dict[str, Any]:
    """The named tuples that a function returns, by name."""
    annotation = str(inspect.signature(function).return_annotation)
    return {name: kind for name, kind in _named_tuples(function).items() if re.search(rf"\b{name}\b", annotation)}


def _classes(tuples: dict[str, Any]) -> list[str]:
    """Definitions of named tuples: importing them from where they are would be a circle for mypy."""
    lines = []
    for name, kind in sorted(tuples.items()):
        lines += [f"class _{name}(NamedTuple):", *[f"    {field}: Tensor" for field in kind._fields], ""]
    return lines


def _imported_modules(path: Path) -> set[str]:
    """Names that a package imports from itself: ``from . import nn``."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes if node.level == 1 and node.module is None for alias in node.names}


# ---- one function ---------------------------------------------------------------------------------


def _function(name: str, function: Any, method: bool = False) -> list[str]:
    """``def`` of a function, with the first line of its docstring."""
    signature = inspect.signature(function)
    made = f"def {name}({', '.join(_parameters(signature, method))}) -> {_returned(name, function, signature)}:"
    made += "  # type: ignore[override]" if method and name in ("__eq__", "__ne__") else ""
    summary = (inspect.getdoc(function) or "").partition("\n")[0].replace("\\", "\\\\").replace('"""', "'''")
    return [made, f'    """{summary}"""' if summary else "    ...", *(["    ..."] if summary else [])]


def _parameters(signature: inspect.Signature, method: bool) -> list[str]:
    made, keyword_only = [], False
    for index, p in enumerate(signature.parameters.values()):
        if p.kind is p.VAR_POSITIONAL:
            keyword_only = True
            if method and index == 0:
                made.append("self")
            made.append(f"*{p.name}: {_annotation(p.annotation)}")
            continue
        if p.kind is p.VAR_KEYWORD:
            made.append(f"**{p.name}: {_annotation(p.annotation)}")
            continue
        if p.kind is p.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            made.append("*")
        text = p.name if method and index == 0 else f"{p.name}: {_annotation(p.annotation)}"
        if p.default is not p.empty:
            text += f" = {_default(p.default)}"
        made.append(text)
    return made


def _default(value: Any) -> str:
    if isinstance(value, (bool, int, str, type(None))):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if abs(value) < float("inf") else "..."
    return repr(value) if isinstance(value, tuple) and all(isinstance(part, (int, float, str)) for part in value) else "..."


def _annotation(annotation: Any, returned_by: Any = None) -> str:
    """An annotation in the stub's words; Any where it names something that the stub does not know. returned_by: the function whose result it
    describes."""
    if annotation is inspect.Parameter.empty:
        return "Any"
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    tree = ast.parse(text, mode="eval")
    unknown = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _KNOWN - _BUILTIN - _ARRAYS - {"np"}
    if unknown and returned_by is not None:
        tuples = _named_tuples(returned_by)
        unknown -= set(tuples)
        text = re.sub(r"\w+", lambda word: f"_{word[0]}" if word[0] in tuples else word[0], text)
        tree = ast.parse(text, mode="eval")
    return "Any" if unknown else ast.unparse(_Translator(returned_by is not None).visit(tree))


def _named_tuples(function: Any) -> dict[str, Any]:
    """The tuples with fields that the function's module knows."""
    space = vars(importlib.import_module(function.__module__))
    return {name: value for name, value in space.items() if inspect.isclass(value) and hasattr(value, "_fields")}


def _returned(name: str, function: Any, signature: inspect.Signature) -> str:
    """The type of the result for Tensors: operators and their compositions take any kind of array, so their source says Any."""
    operator = getattr(function, "operator", None)
    if operator is not None and operator.name in OPERATORS:
        if operator.outputs is None:
            return "Tensor"
        return f"tuple[{', '.join(['Tensor'] * operator.outputs)}]" if operator.outputs else "tuple[Tensor, ...]"
    if name in _VARIES or any(p.startswith("return_") for p in signature.parameters):
        return "Any"
    return _annotation(signature.return_annotation, function)


class _Translator(ast.NodeTransformer):
    """Names of an annotation: arrays become ``array``, built-in types are named so that a function called ``float`` hides none."""

    def __init__(self, returned: bool) -> None:
        self.returned = returned

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in _ARRAYS or (node.id == "Any" and self.returned):
            return ast.Name("Tensor") if self.returned else ast.parse("Tensor | Any", mode="eval").body
        if node.id in _BUILTIN and hasattr(builtins, node.id):
            return ast.Attribute(ast.Name("builtins"), node.id)
        return node
