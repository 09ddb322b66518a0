"""Wrong derivatives, made from right ones: each mutant differs from the source of a vjp in one place.

Planted mistakes are those that people make: a sign, a factor, a term or a factor lost, operands or inputs swapped, another saved
value, another axis, a lost call (a missing reduction), a condition turned round, a cotangent changed in place.
"""

from __future__ import annotations

import ast
import builtins
import copy
import linecache
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from ..core.names import names_of
from ..core.operator import Operator

Function = ast.Lambda | ast.FunctionDef


class Mutant(NamedTuple):
    """Derivatives to put in place of an operator's own. ``text`` is the source that was changed, after the change."""

    operator: str
    text: str
    derivatives: tuple[Any, ...]


def mutants_of(operator: Operator) -> Iterator[Mutant]:
    """Every mutant of an operator's derivatives."""
    seen: set[str] = set()
    for mutant in _all_mutants(operator):
        if mutant.text not in seen:
            seen.add(mutant.text)
            yield mutant


def _all_mutants(operator: Operator) -> Iterator[Mutant]:
    derivatives = operator.derivatives
    for position, derivative in enumerate(derivatives):
        if derivative is None:
            continue
        label = "" if operator.joint or len(derivatives) == 1 else f"[{operator.inputs[position]}] "
        for text, function in _mutants_of_function(operator, derivative):
            changed = (*derivatives[:position], function, *derivatives[position + 1 :])
            yield Mutant(operator.name, label + text, changed)
    for a in range(len(derivatives)):
        for b in range(a):
            if not _same(derivatives[a], derivatives[b]):
                swapped = list(derivatives)
                swapped[a], swapped[b] = swapped[b], swapped[a]
                yield Mutant(
                    operator.name, f"derivatives of {operator.inputs[b]} and {operator.inputs[a]} swapped", tuple(swapped)
                )


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    a, b = getattr(a, "__code__", a), getattr(b, "__code__", b)
    return a is b or (type(a) is CodeType and type(b) is CodeType and _fingerprint(a) == _fingerprint(b))


def _mutants_of_function(operator: Operator, derivative: Any) -> Iterator[tuple[str, Any]]:
    node = None if hasattr(derivative, "operator") else find_source(derivative)
    zero = isinstance(node, ast.Lambda) and _is_zero(node.body)
    yield from (pair for pair in _wrapped(derivative) if not zero or "afterwards" in pair[0])
    if node is None:
        return
    values = [*operator.inputs, *([] if operator.several else ["y"])]
    for text, tree in _mutated(node, _arrays(operator, derivative), values):
        yield text, _compile(tree, _namespace(derivative))
    for name, helper in _helpers(node, derivative).items():
        helper_node = find_source(helper)
        if helper_node is not None:
            for text, tree in _mutated(helper_node, [], []):
                changed = _compile(tree, _namespace(helper))
                yield text, _rebuilt(derivative, {name: changed})


def _arrays(operator: Operator, derivative: Any) -> list[str]:
    """Parameters of the derivative that hold arrays."""
    return [name for name in names_of(derivative) if name in ("g", "y") or name in operator.inputs or name in operator.aux]


# ---- mutants by wrapping -------------------------------------------------------------------------


def _wrapped(derivative: Any) -> Iterator[tuple[str, Any]]:
    """The whole result negated or doubled; the cotangent changed in place after its use."""
    names = names_of(derivative)
    given = ", ".join(names)
    for text, body in {
        "-(result)": "_each(lambda part: -part, _original({given}))",
        "2 * result": "_each(lambda part: part * 2, _original({given}))",
        "g *= 0 afterwards": "_scribble(g, _original({given}))",
    }.items():
        if "g" in names or "scribble" not in body:
            space = {"_original": derivative, "_each": _each, "_scribble": _scribble}
            yield text, eval(f"lambda {given}: {body.format(given=given)}", space)


def _each(function: Callable[[Any], Any], result: Any) -> Any:
    if type(result) in (tuple, list):
        return type(result)([None if part is None else function(part) for part in result])
    return None if result is None else function(result)


def _scribble(g: Any, result: Any) -> Any:
    for part in g if type(g) is tuple else (g,):
        array: Any = getattr(part, "array", part)
        array *= 0  # a read-only array refuses, as a shared one should
    return result


# ---- finding and building functions --------------------------------------------------------------

_trees: dict[str, ast.Module] = {}


def find_source(function: Any) -> Function | None:
    """The syntax tree of a Python function, also of a lambda among others on a line."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    if code.co_filename not in _trees:
        _trees[code.co_filename] = ast.parse("".join(linecache.getlines(code.co_filename)))
    found = [
        node
        for node in ast.walk(_trees[code.co_filename])
        if isinstance(node, (ast.Lambda, ast.FunctionDef)) and _first_line(node) == code.co_firstlineno
    ]
    names = list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    found = [node for node in found if [a.arg for a in (*node.args.args, *node.args.kwonlyargs)] == names]
    exact = [node for node in found if _fingerprint(_code_of(node)) == _fingerprint(code)]
    return next(iter(exact or found), None)


def _first_line(node: Function) -> int:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return min([node.lineno, *[d.lineno for d in decorators]])


def _fingerprint(code: CodeType) -> tuple[Any, ...]:
    constants = tuple([_fingerprint(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts])
    return code.co_code, code.co_names, code.co_varnames, constants


def _code_of(node: Function) -> CodeType:
    return _compile(node, {}).__code__


def _compile(node: Function, space: dict[str, Any]) -> Any:
    """The function that a syntax tree means among the names of ``space``."""
    if isinstance(node, ast.Lambda):
        return eval(compile(ast.fix_missing_locations(ast.Expression(node)), "<mutant>", "eval"), space)
    bare = copy.copy(node)
    bare.decorator_list = []
    exec(compile(ast.fix_missing_locations(ast.Module([bare], [])), "<mutant>", "exec"), space)
    return space[node.name]


def _namespace(function: Any) -> dict[str, Any]:
    """Names that a function sees: its module's and those it closes over."""
    free = function.__code__.co_freevars
    cells = {name: cell.cell_contents for name, cell in zip(free, function.__closure__ or ())}
    return {**function.__globals__, **cells, "_other_axis": _other_axis}


def _rebuilt(function: Any, changes: dict[str, Any]) -> Any:
    """The function among other globals."""
    space = {**function.__globals__, **changes}
    made = FunctionType(function.__code__, space, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _helpers(node: Function, function: Any) -> dict[str, Any]:
    """Private functions of the same module that the derivative names, to call them or to have them called."""
    found = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id.startswith("_"):
            helper = function.__globals__.get(part.id)
            own = isinstance(helper, FunctionType) and helper.__module__ == function.__module__
            if own and not hasattr(helper, "operator"):
                found[part.id] = helper
    return found


def _other_axis(dim: Any) -> Any:
    if isinstance(dim, (tuple, list)):
        return type(dim)([d - 1 for d in dim])
    return 0 if dim is None else dim - 1


# ---- changing one place --------------------------------------------------------------------------


def _mutated(function: Function, arrays: Sequence[str], values: Sequence[str]) -> Iterator[tuple[str, Function]]:
    """``(text, tree)`` for every change of one node. ``arrays`` may stand for each other; ``values`` may be asked for besides."""
    for place, node in _nodes(function):
        for new in _replacements(node, arrays, values):
            tree = copy.deepcopy(function, {id(node): new})
            _ask_for(tree, new, values)
            ast.fix_missing_locations(tree)
            changed = copy.deepcopy(place, {id(node): new})
            yield _text(function, place, changed), tree


def _nodes(function: Function) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every node that computes something, with the innermost statement (or the lambda) that it is part of."""
    if isinstance(function, ast.Lambda):
        yield from ((function, node) for node in _parts(function.body))
        return
    for statement in ast.walk(function):
        if not isinstance(statement, ast.stmt) or statement is function:
            continue
        yield statement, statement
        for child in ast.iter_child_nodes(statement):
            if not isinstance(child, ast.stmt):
                yield from ((statement, node) for node in _parts(child))


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is in it, but for what says nothing of its own: ``x`` in ``x.shape``, ``1`` in ``-1``, ``x`` in ``zeros_like(x)``."""
    yield node
    if not _is_opaque(node):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.stmt):
                yield from _parts(child)


def _is_opaque(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):  # ``bias is None`` asks nothing of the value of ``bias``
        return isinstance(node.ops[0], (ast.Is, ast.IsNot))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("isinstance", "type", "len", "ones_like") or _is_zero(node)
    if isinstance(node, ast.UnaryOp):
        return _is_integer(node.operand)
    return isinstance(node, (ast.Attribute, ast.arguments))


def _is_integer(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _text(function: Function, before: ast.AST, after: ast.AST) -> str:
    if isinstance(function, ast.Lambda):
        return ast.unparse(after)
    old, new = (ast.unparse(ast.fix_missing_locations(part)).split("\n")[0] for part in (before, after))
    return f"{function.name}: {old}  =>  {new}"


def _ask_for(tree: Function, new: ast.AST, values: Sequence[str]) -> None:
    """A saved value that the derivative did not ask for becomes one of its parameters."""
    if isinstance(new, ast.Name) and new.id in values and new.id not in [a.arg for a in tree.args.args]:
        tree.args.args.append(ast.arg(new.id))


_INVERSE: dict[type, type] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def _replacements(node: ast.AST, arrays: Sequence[str], values: Sequence[str]) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield from _of_binary(node)
    elif isinstance(node, ast.UnaryOp):
        yield ast.Constant(0) if _is_integer(node.operand) else node.operand
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _of_name(node, arrays, values)
    elif isinstance(node, ast.IfExp):
        arms = [node.body, node.orelse]
        nothing = [arm for arm in arms if isinstance(arm, ast.Constant) and arm.value is None]
        yield from nothing or arms  # where one arm is None, the other one gives a gradient that nobody needs: no mistake
    elif isinstance(node, ast.Compare):
        yield ast.Compare(node.left, [_INVERSE[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        yield from _of_tuple(node)
    elif isinstance(node, ast.If) and not isinstance(node.test, ast.Compare):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()


def _of_binary(node: ast.BinOp) -> Iterator[ast.expr]:
    left, right, op = node.left, node.right, node.op
    if isinstance(op, (ast.Add, ast.Sub)):
        yield left
        yield right if isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), right)
        yield ast.BinOp(left, ast.Sub() if isinstance(op, ast.Add) else ast.Add(), right)
    elif isinstance(op, ast.Mult):
        yield left
        yield right
    elif isinstance(op, ast.Div):
        yield left
        yield ast.BinOp(left, ast.Mult(), right)
        yield ast.BinOp(right, op, left)
    elif isinstance(op, (ast.Pow, ast.MatMult)):
        yield ast.BinOp(right, op, left)
    elif isinstance(op, ast.FloorDiv):
        yield left


_COMMUTATIVE = frozenset(
    """add mul eq ne maximum minimum fmax fmin clamp_min clamp_max logical_and logical_or logical_xor equal hypot
    multiply""".split()
)
_ZERO = ("zeros_like", "_zeros_like")


def _is_zero(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ZERO


def _of_call(node: ast.Call) -> Iterator[ast.expr]:
    args = node.args
    if isinstance(node.func, ast.Name) and node.func.id in dir(builtins):
        return  # tuple(...), len(...), isinstance(...)
    if args and not isinstance(args[0], ast.Starred):
        yield args[0]
    name = getattr(node.func, "id", getattr(node.func, "attr", "")).strip("_")
    ordered = {0: name not in _COMMUTATIVE, 1: name != "transpose"}  # places of arguments whose order matters
    for first in [first for first in range(min(len(args) - 1, 2)) if ordered[first]]:
        if ast.dump(args[first]) != ast.dump(args[first + 1]):
            swapped = list(args)
            swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
            yield ast.Call(node.func, swapped, node.keywords)
    for keyword in node.keywords:
        yield ast.Call(node.func, args, [k for k in node.keywords if k is not keyword])


def _of_constant(node: ast.Constant) -> Iterator[ast.expr]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, (int, float)):
        yield ast.Constant(2 * node.value if isinstance(node.value, float) and node.value else node.value + 1)


def _of_name(node: ast.Name, arrays: Sequence[str], values: Sequence[str]) -> Iterator[ast.expr]:
    if node.id in ("dim", "dims", "axis", "axes"):
        yield ast.Call(ast.Name("_other_axis", ast.Load()), [node], [])
    if node.id in arrays:
        others = [name for name in arrays if name != node.id] + [name for name in values if name not in arrays]
        for name in others[:3]:
            yield ast.Name(name, ast.Load())


def _of_tuple(node: ast.Tuple) -> Iterator[ast.expr]:
    """Neighbours of a tuple swapped: gradients of two inputs, or two sizes of a shape."""
    for first in range(len(node.elts) - 1):
        if ast.dump(node.elts[first]) != ast.dump(node.elts[first + 1]):
            swapped = list(node.elts)
            swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
            yield ast.Tuple(swapped, ast.Load())
