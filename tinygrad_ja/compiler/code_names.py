"""Whose a piece of code is, and the names that it uses."""

from __future__ import annotations

import dis
import functools
import sysconfig
import types
from typing import NamedTuple

from ..core.tape import is_ours

READS_RATES = frozenset(("lr", "momentum", "betas", "param_groups", "get_last_lr", "get_lr", "get_scale"))
"""Names in code that reads the learning rate, or the factor of a GradScaler, as a number of Python."""

_EXCLUDED = (*{sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}, "<frozen ")


@functools.cache
def is_users(filename: str | None) -> bool:
    """True for code of the user: neither the framework's, nor Python's library, nor an installed package's."""
    if filename is None:
        return False
    return not is_ours(filename) and not filename.startswith(_EXCLUDED)


class Names(NamedTuple):
    """Names in a piece of code and in the functions that it defines: those that it looks up as globals, all of them, texts that could be
    names, and modules that it imports."""

    globals: frozenset[str]
    names: frozenset[str]
    texts: frozenset[str]
    imports: frozenset[str]


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> Names:
    """The names that a piece of code may look up."""
    looked_up, imports = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            looked_up.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            parts = instruction.argval.split(".")
            imports |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    texts = {text for text in code.co_consts if type(text) is str and text.isidentifier()}
    made = Names(frozenset(looked_up), frozenset({*code.co_names, *texts}), frozenset(texts), frozenset(imports))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            made = Names(*[a | b for a, b in zip(made, names_of(constant))])
    return made
