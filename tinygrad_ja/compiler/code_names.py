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


USER, BACKWARD, UPDATE, OURS = "user", "backward", "update", "ours"
ROLES: dict[int, str] = {}
"""By the id of a piece of code: whose it is, as ``role_of`` says."""
_known: list[types.CodeType] = []  # so that no other code gets the id of one


def role_of(code: types.CodeType) -> str:
    """Code from outside of this package, the part of a step that a function of ours stands for, or another one of ours."""
    role = {"run_backward": BACKWARD, "record_update": UPDATE}.get(code.co_name, OURS) if is_ours(code.co_filename) else USER
    _known.append(code)
    ROLES[id(code)] = role
    return role


class Names(NamedTuple):
    """Names in a piece of code and in the functions that it defines: those that it looks up as globals, all of them, texts that could be
    names, modules that it imports (with a dot in front for each level up), and attributes that it asks for."""

    globals: frozenset[str]
    names: frozenset[str]
    texts: frozenset[str]
    imports: frozenset[str]
    attributes: frozenset[str]


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> Names:
    """The names that a piece of code may look up."""
    looked_up, imports, attributes = set(), set(), set()
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _NOTHING]
    for place, instruction in enumerate(instructions):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            looked_up.add(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            level, parts = instructions[place - 2].argval, instruction.argval.split(".")
            imports |= {"." * level + ".".join(parts[: i + 1]) for i in range(len(parts))}
    texts = {text for text in _texts_in(code) if all([part.isidentifier() for part in text.lstrip(".").split(".")])}
    imports |= texts if not _IMPORTERS.isdisjoint(code.co_names) else set()
    names = frozenset({*code.co_names, *code.co_freevars, *texts})
    made = Names(frozenset(looked_up), names, frozenset(texts), frozenset(imports), frozenset(attributes))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            made = Names(*[a | b for a, b in zip(made, names_of(constant))])
    return made


MAKERS = frozenset(("as_tensor", "from_numpy", "tensor"))
"""Functions that make a Tensor of an array, which a program reads where it lies."""

_IMPORTERS = frozenset(("__import__", "import_module"))
"""Functions that import a module whose name is a text."""

_ANY_NAME = frozenset(("__dict__", "attrgetter", "eval", "exec", "getattr", "globals", "locals", "vars"))
"""Names in code that may read what has any name."""

_NOTHING = frozenset(("CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "KW_NAMES", "NOP", "PRECALL", "PUSH_NULL", "RESUME"))
"""Instructions that neither push a value nor take one, as far as ``only_made_tensors`` is concerned."""

_CALLS = {"CALL": 0, "CALL_FUNCTION": 0, "CALL_METHOD": 0, "CALL_FUNCTION_KW": 1, "CALL_KW": 1}
"""Calls, and what each takes from the stack beside its arguments."""


def only_made_tensors(name: str, code: types.CodeType, makers: frozenset[str] = MAKERS) -> bool:
    """Whether a piece of code, with the functions that it defines, uses what has this name (a variable or an attribute) in one way only: as
    the first argument of one of ``makers``."""
    if _ANY_NAME.intersection(code.co_names):
        return False
    parts = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    if not all([only_made_tensors(name, part, makers) for part in parts]):
        return False
    if name not in {*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars, *_texts_in(code)}:
        return True
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _NOTHING]
    for place, instruction in enumerate(instructions):
        held = instruction.argval
        if instruction.opname == "LOAD_CLOSURE" or not instruction.opname.startswith("LOAD_"):
            continue
        if (held == name or (isinstance(held, tuple) and name in held)) and not _is_made_tensor(instructions, place, makers):
            return False
    return True


def _texts_in(code: types.CodeType) -> list[str]:
    return [text for text in code.co_consts if type(text) is str]


def _is_made_tensor(instructions: list[dis.Instruction], place: int, makers: frozenset[str]) -> bool:
    """Whether what the instruction at ``place`` loads is the first argument of one of ``makers``."""
    first = place
    while instructions[first].opname == "LOAD_ATTR" and first:
        first -= 1
    if instructions[first].opname not in ("LOAD_DEREF", "LOAD_FAST", "LOAD_GLOBAL", "LOAD_NAME") or not first:
        return False
    before = instructions[first - 1]
    if before.argval not in makers or not before.opname.startswith("LOAD_"):
        return False
    pushed = 1  # since the maker was
    for instruction in instructions[place + 1 :]:
        if instruction.opname in _CALLS:
            return instruction.arg == pushed - _CALLS[instruction.opname]
        if instruction.opname == "LOAD_ATTR" and pushed > 1:
            continue
        if instruction.opname not in ("LOAD_CONST", "LOAD_DEREF", "LOAD_FAST", "LOAD_GLOBAL", "LOAD_NAME"):
            return False
        pushed += 1
    return False
