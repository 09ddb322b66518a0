"""The pages of the reference, one for each part of the package, from what the package has: nothing is listed by hand."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import tinygrad_ja as tg
from tinygrad_ja.core.tensor import Tensor

PARTS: dict[str, tuple[str, list[str]]] = {
    "tinygrad_ja": ("Functions", ["tinygrad_ja"]),
    "functional": ("nn.functional", ["tinygrad_ja.nn.functional"]),
    "linalg": ("linalg", ["tinygrad_ja.linalg"]),
    "nn": ("Layers", ["tinygrad_ja.nn"]),
    "nn_utils": ("nn.init and nn.utils", ["tinygrad_ja.nn.init", "tinygrad_ja.nn.utils", "tinygrad_ja.nn.utils.*"]),
    "optim": ("Optimizers", ["tinygrad_ja.optim", "tinygrad_ja.optim.swa_utils"]),
    "lr_scheduler": ("Schedules of the learning rate", ["tinygrad_ja.optim.lr_scheduler"]),
    "autograd": ("Derivatives", ["tinygrad_ja.autograd", "tinygrad_ja.func"]),
    "amp": ("Mixed precision and GPUs", ["tinygrad_ja.amp", "tinygrad_ja.cuda", "tinygrad_ja.backends"]),
    "textbook": ("The textbook's layers", ["tinygrad_ja.textbook", "tinygrad_ja.textbook.composite"]),
    "data": ("Data sets and loaders", ["tinygrad_ja.data", "tinygrad_ja.data.datasets", "tinygrad_ja.data.formats"]),
    "preprocessing": (
        "Text, images, sound",
        [
            "tinygrad_ja.data.text",
            "tinygrad_ja.data.transforms",
            "tinygrad_ja.data.transforms.functional",
            "tinygrad_ja.data.audio",
        ],
    ),
    "io": ("Files", ["tinygrad_ja.io"]),
    "training": ("Training and metrics", ["tinygrad_ja.training", "tinygrad_ja.training.metrics"]),
    "learning": ("Tools for learners", ["tinygrad_ja.viz", "tinygrad_ja.profiling", "tinygrad_ja.diagnosis"]),
    "tools": ("Tests", ["tinygrad_ja.testing"]),
    "operators": ("Making operators", ["tinygrad_ja.core.operator"]),
    "errors": ("Errors", ["tinygrad_ja.errors"]),
}
"""Page -> its title and the modules whose public names it shows."""

_GATHERED = ("tinygrad_ja", "functional", "linalg")
"""Pages of names that have another home too; the first one shows them."""


def write(folder: Path) -> None:
    """Write all pages; a page that has not changed is left alone, so that a second build has little to do."""
    folder.mkdir(exist_ok=True)
    shown = {id(Tensor)}  # each thing has one place: the page of its own part, before the page of all functions
    ordered = [*(name for name in PARTS if name not in _GATHERED), *_GATHERED]
    pages = {name: _page(*PARTS[name], shown) for name in ordered}
    pages["tensor"] = _tensor()
    listed = "\n".join(f"   {name}" for name in ("tensor", *PARTS))
    pages["index"] = f"{_heading('Reference', '=')}\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * (2 * len(text))}\n"


def _modules(names: list[str]) -> Iterator[ModuleType]:
    for name in names:
        if not name.endswith(".*"):
            yield importlib.import_module(name)
            continue
        package = importlib.import_module(name.removesuffix(".*"))
        for path in sorted(Path(package.__path__[0]).glob("[!_]*.py")):
            yield importlib.import_module(f"{package.__name__}.{path.stem}")


def _page(title: str, modules: list[str], shown: set[int]) -> str:
    """Names of the modules, in sections by the file that defines them."""
    parts = [_heading(title, "=")]
    for module in _modules(modules):
        families: dict[str, list[str]] = {}
        for name, value in sorted(vars(module).items(), key=lambda item: item[0].lower()):
            home = getattr(value, "__module__", None) or ""
            documented = inspect.isclass(value) or inspect.isfunction(value)
            ours = home.startswith("tinygrad_ja") and not name.startswith("_") and id(value) not in shown
            public = name in getattr(module, "__all__", [name]) and (home == module.__name__ or _is_front(module))
            if documented and ours and public and inspect.getdoc(value):
                families.setdefault(home, []).append(name)
                shown.add(id(value))
        for home, names in sorted(families.items(), key=lambda item: _family(item[0])):
            summary = (inspect.getdoc(importlib.import_module(home)) or home).partition("\n\n")[0].replace("\n", " ")
            parts.append(_heading(_family(home), "-") + "\n" + _text(summary) + "\n")
            parts += [_entry(module.__name__, name, getattr(module, name)) for name in names]
    return "\n".join(parts)


def _is_front(module: ModuleType) -> bool:
    """A module that gathers names of others, such as a package."""
    return str(module.__file__).endswith("__init__.py") or "__all__" in vars(module)


def _family(home: str) -> str:
    name = home.rpartition(".")[2].replace("_", " ")
    return name[0].upper() + name[1:]


def _entry(module: str, name: str, value: Any) -> str:
    if inspect.isclass(value):
        return f".. autoclass:: {module}.{name}\n   :members:\n   :exclude-members: extra_repr\n"
    return f".. autofunction:: {module}.{name}\n"


def _tensor() -> str:
    """The class, its own methods, and those that operators attach."""
    parts = [
        _heading("Tensor", "="),
        ".. autoclass:: tinygrad_ja.Tensor\n   :members:\n",
        _heading("Methods that are operators", "-"),
    ]
    names = sorted(name for name, value in vars(Tensor).items() if inspect.isfunction(value) and not name.startswith("_"))
    attached = [name for name in names if vars(Tensor)[name].__module__ != Tensor.__module__]
    linked = [f":py:func:`{name}() <{_where(name)}>`" if _where(name) else f"``{name}()``" for name in attached]
    return "\n".join([*parts, "Each is described where the function of its name is: " + ", ".join(linked) + "."]) + "\n"


def _where(name: str) -> str:
    function = getattr(tg, name, None)
    return f"tinygrad_ja.{name}" if inspect.isfunction(function) and function is vars(Tensor)[name] else ""


# ---- docstrings -----------------------------------------------------------------------------------

_LITERAL = re.compile(r"(``.+?``)")


def _text(text: str) -> str:
    """Text in which ``*``, ``|`` and the like mean themselves."""
    parts = _LITERAL.split(text)
    return "".join(part if part.startswith("``") else re.sub(r"([*|`_\\])", r"\\\1", part) for part in parts)


def as_markup(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Escape what reStructuredText would take for markup, and turn lines ``name: text`` into a list."""
    made: list[str] = []
    inside = False  # an example or an indented block
    for line in lines:
        if line.startswith(">>> "):
            if not inside and made and made[-1]:
                made.append("")
            inside = True
        elif not line.strip():
            inside = False
        if inside:
            made.append(line)
            continue
        if line.startswith("    "):
            if made and made[-1] and not made[-1].startswith("    "):
                made += ["", "::", ""]
            elif made and not made[-1] and not any(m.startswith("    ") for m in made[-2:]):
                made += ["::", ""]
            made.append(line)
            continue
        entry = re.match(r"((?:[A-Za-z_]\w*(?:, )?)+): ", line)
        begins = entry is not None or line.startswith(("Raises ", "Returns "))
        if begins and made and made[-1]:
            made.append("")
        made.append(_text(line) if entry is None else f"**{_text(entry[1])}**: {_text(line[entry.end() :])}")
    lines[:] = made


def plain_signature(app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, result: str | None) -> Any:
    """Signatures in the words of the source, without the names that only the framework uses."""
    if signature is not None:
        signature = re.sub(r"Annotated\[Any, 'Array'\]", "Tensor", signature).replace("typing.", "")
        signature = re.sub(r": Array\b", ": Tensor", signature)
        signature = re.sub(r": Constant\b", ": Tensor", signature)
    if result is not None:
        result = None if "Any" in result or "Array" in result else result
    return signature, result
