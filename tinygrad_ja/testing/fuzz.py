"""Checks that every operator must pass, whatever its author wrote: ``fuzz(tg.tanh)``.

An operator brings its own cases (``domain=``, ``signature=`` or ``cases=``); the checks know nothing of any operator. Values
are compared relative to their scale; derivatives with central differences in float64 along random directions, so that one pair
of evaluations tests a whole Jacobian.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import in_place
from ..backend.devices import Device
from ..core.operator import OPERATORS, Operator
from ..core.tensor import Tensor
from ..core.transforms import backward, grad, jvp
from ..errors import VerificationError, error
from . import strict
from .case import LAYOUTS, Case, arrays_in
from .trial import (
    Trial,
    central_difference,
    central_difference_of_gradient,
    close,
    dot,
    largest,
    read_only,
    size_of,
)

TOLERANCES = {"float64": 1e-11, "float32": 2e-5, "float16": 2e-2}
"""Largest error of a value in each dtype, relative to the largest value of the array: room for the rounding of sums and of terms that
nearly cancel, not for a mistake."""


class Fault(Exception):
    """What a check found."""


def fuzz(op: Any, examples: int = 100) -> None:
    """Draw ``examples`` cases of an operator (its public function, or its name) and run every check on each.

    Raises VerificationError that names the operator, the check, shapes and arguments of the smallest failing case. Needs
    Hypothesis.

    >>> import tinygrad_ja as tg
    >>> fuzz(tg.mul, examples=5)
    """
    from hypothesis import HealthCheck, Phase, given, settings

    from .strategies import trials

    operator = find_operator(op)
    check_points(operator)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(trials(operator))
    def run(trial: Trial) -> None:
        check_trial(trial)

    try:
        run()
    except VerificationError as failure:
        vars(failure).pop("__notes__", None)  # Hypothesis repeats the case, which our message shows
        raise


def check_case(
    op: Any, args: Sequence[Any], kwargs: Mapping[str, Any], rng: np.random.Generator, only: Sequence[str] | None = None
) -> None:
    """Run the checks (all, or ``only`` those named) on one call ``op(*args, **kwargs)``. Raises VerificationError."""
    operator = find_operator(op)
    case = Case(operator, args, kwargs)
    try:
        with np.errstate(all="ignore"):
            trial = Trial(case, rng)
    except Exception as failure:
        raise error("TG-V002", op=operator.name, check="value", case=case, detail=_describe(failure)) from failure
    check_trial(trial, only)


def check_trial(trial: Trial, only: Sequence[str] | None = None) -> None:
    """The checks on a case that is ready."""
    for name, check in CHECKS.items():
        if only is not None and name not in only:
            continue
        try:
            with np.errstate(all="ignore"):
                check(trial)
        except VerificationError:
            raise
        except Exception as failure:
            detail = str(failure) if type(failure) is Fault else _describe(failure)
            raise error("TG-V002", op=trial.case.operator.name, check=name, case=trial, detail=detail) from failure


def check_points(operator: Operator) -> None:
    """The gradients that an operator's ``points`` state, on arrays and, for a multiple of the cotangent, as part of a recorded
    derivative."""
    for point in operator.points:
        for create_graph, factor in ((False, 1.0), (True, -2.0)):
            inputs = [as_leaf(value) if _is_input(operator, i) else value for i, value in enumerate(point.args)]
            leaves = [x for x in inputs if type(x) is Tensor]
            try:
                with np.errstate(all="ignore"):
                    made = operator.public(*inputs, **point.kwargs)
                    ys = [y for y in (made if operator.several else [made]) if y.node is not None]
                    us = [Tensor(np.full_like(y.array, factor)) for y in ys]
                    found = grad(ys, leaves, us, create_graph=create_graph, allow_unused=True)
                for index, (g, expected) in enumerate(zip(found, point.gradients)):
                    if expected is not None:
                        array = np.zeros_like(leaves[index].array) if g is None else g.array
                        require(array.dtype == np.float64, f"gradient {index} at the point {point.args} is {array.dtype}")
                        wanted = np.broadcast_to(factor * np.asarray(expected, np.float64), leaves[index].array.shape)
                        require_close(f"gradient {index} at the point {point.args}", array, wanted, 1e-12)
            except Exception as failure:
                detail = str(failure) if type(failure) is Fault else _describe(failure)
                raise error("TG-V002", op=operator.name, check="points", case=point, detail=detail) from failure


def as_leaf(value: Any) -> Any:
    """A leaf of float64; None stays None."""
    return None if value is None else Tensor(np.array(value, np.float64)).requires_grad_()


def _is_input(operator: Operator, index: int) -> bool:
    return operator.variadic is not None or operator.parameters[index].name in operator.inputs


def operators_of_the_package() -> list[Operator]:
    """Every operator that the package itself registers, whichever of its modules it is in, by name."""
    import importlib
    import pkgutil

    import tinygrad_ja

    for module in pkgutil.walk_packages(tinygrad_ja.__path__, "tinygrad_ja."):
        if module.name.startswith(("tinygrad_ja.ops.", "tinygrad_ja.nn.")):
            importlib.import_module(module.name)
    own = [operator for operator in OPERATORS.values() if operator.forward.__module__.startswith("tinygrad_ja.")]
    return sorted(own, key=lambda operator: operator.name)


def find_operator(op: Any) -> Operator:
    """The operator of a name, or of a public function."""
    if isinstance(op, Operator):
        return op
    return OPERATORS[op] if isinstance(op, str) else op.operator


def _describe(failure: Exception) -> str:
    return f"it raised {type(failure).__name__}: {failure}"


# ---- comparing -----------------------------------------------------------------------------------


def require(condition: bool, fault: str) -> None:
    """Raise Fault unless ``condition``."""
    if not condition:
        raise Fault(fault)


def require_close(what: str, actual: np.ndarray, expected: np.ndarray, relative: float) -> None:
    """Equal shapes, and values that differ by at most ``relative`` times the largest expected value."""
    require(actual.shape == expected.shape, f"{what} has shape {actual.shape}, expected {expected.shape}")
    if expected.dtype.kind != "f":
        require(np.array_equal(actual, expected), f"{what} is\n{actual}\nexpected\n{expected}")
        return
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    same = np.isclose(a, b, rtol=0.0, atol=relative * largest(b), equal_nan=True)
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        raise Fault(f"{what} at {at} is {a[at]!r}, expected {b[at]!r} (shape {expected.shape})")


def _named(trial: Trial, gradients: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(f"the gradient of '{operator_input(trial, i)}'", g) for i, g in zip(trial.moving, gradients)]


# ---- the checks ----------------------------------------------------------------------------------


def check_value(trial: Trial) -> None:
    """Tensors give what arrays give, and the reference of the operator agrees."""
    tensors = trial.tensors(trial.inputs, trial.moving)
    ys = trial.outputs(tensors)
    require(len(ys) == len(trial.values), f"Tensors gave {len(ys)} outputs, arrays {len(trial.values)}")
    for index, (y, value) in enumerate(zip(ys, trial.values)):
        require(type(y) is Tensor, f"output {index} for Tensors is a {type(y).__name__}")
        require(y.array.dtype == value.dtype, f"output {index} is {y.array.dtype} for Tensors, {value.dtype} for arrays")
        require_close(f"output {index} for Tensors", y.array, value, 0.0)
        require(not trial.moving or index not in trial.live or y.node is not None, f"output {index} has no history")
    operator = trial.case.operator
    if operator.reference is not None:
        made = trial.case.call(operator.reference, tensors, trial.constants)
        for index, (r, value) in enumerate(zip(made if operator.several else [made], trial.values)):
            require_close(f"the reference's output {index}", np.asarray(r.array), value, TOLERANCES["float64"])


def check_gradient(trial: Trial) -> None:
    """Gradients have shape and dtype of their inputs, and agree with central differences along a random direction."""
    if not trial.moving:
        return
    for (what, g), x in zip(_named(trial, trial.first), trial.moved):
        require(type(g) is np.ndarray, f"{what} is a {type(g).__name__}")
        require(g.shape == x.shape, f"{what} has shape {g.shape}, the input {x.shape}")
        require(g.dtype == x.dtype, f"{what} has dtype {g.dtype}, the input {x.dtype}")
    analytic, scale = dot(trial.directions, trial.first), size_of(trial.directions, trial.first)
    numeric, noise = trial.numeric
    if not close(analytic, numeric, scale, noise):
        raise Fault(_locate(trial) or f"the directional derivative is {analytic!r}, central differences give {numeric!r}")


def _locate(trial: Trial) -> str:
    """The element of a gradient that is most wrong."""
    worst, found = 0.0, ""
    zeros = [np.zeros(x.shape) for x in trial.moved]
    for position, (what, g) in enumerate(_named(trial, trial.first)):
        for at in itertools.islice(np.ndindex(g.shape), 40):
            directions = list(zeros)
            directions[position] = np.zeros(g.shape)
            directions[position][at] = 1.0
            numeric, _ = central_difference(trial, directions)
            error_here = abs(float(g[at]) - numeric)
            if not error_here <= worst:
                worst, found = error_here, f"{what} at {at} is {float(g[at])!r}, central differences give {numeric!r}"
    return found


def check_higher_order(trial: Trial) -> None:
    """``create_graph=True`` gives the same gradients, and their derivative agrees with central differences of them."""
    if not trial.moving:
        return
    tensors = trial.tensors(trial.inputs, trial.moving)
    wanted = [tensors[i] for i in trial.moving]
    us = [Tensor(u).requires_grad_() for u in trial.cotangents]
    ys = trial.outputs(tensors)
    recorded = grad([ys[i] for i in trial.live], wanted, us, create_graph=True, allow_unused=True)
    for (what, g), h in zip(_named(trial, trial.first), recorded):
        if h is not None:
            require_close(f"{what} with create_graph=True", np.asarray(h.array), g, TOLERANCES["float64"])
            require(h.array.dtype == g.dtype, f"{what} with create_graph=True has dtype {h.array.dtype}, without {g.dtype}")
    directions = [trial.rng.uniform(-1, 1, x.shape) for x in trial.moved]
    turned = [trial.rng.uniform(-1, 1, u.shape) * (u != 0) for u in trial.cotangents]
    pairs = [(h, v) for h, v in zip(recorded, trial.directions) if h is not None and h.node is not None]
    sources, ways = [*wanted, *us], [*directions, *turned]
    made: Sequence[Any] = [None] * len(sources)
    if pairs:
        made = grad([h for h, _ in pairs], sources, [Tensor(np.array(v)) for _, v in pairs], allow_unused=True)
    second = [np.zeros(way.shape) if m is None else m.array for m, way in zip(made, ways)]
    numeric, noise = central_difference_of_gradient(trial, trial.directions, directions, turned)
    analytic, scale = dot(ways, second), size_of(ways, second)
    require(
        close(analytic, numeric, scale, noise),
        f"the second derivative along a random direction is {analytic!r}, central differences of the gradient give {numeric!r}",
    )


def check_forward_mode(trial: Trial) -> None:
    """<u, J v> = <Jᵀ u, v> for ``op.jvp`` and for ``func.jvp``."""
    if not trial.moving:
        return
    expected, scale = dot(trial.directions, trial.first), size_of(trial.directions, trial.first)
    operator = trial.case.operator
    tangents: list[Any] = [None] * len(trial.inputs)
    for index, v in zip(trial.moving, trial.directions):
        tangents[index] = v
    direct = operator.jvp(trial.inputs, tangents, **trial.constants)

    def function(*moving: Any) -> Any:
        inputs = list(trial.inputs)
        for index, value in zip(trial.moving, moving):
            inputs[index] = value
        made = trial.outputs(inputs)
        return tuple(made) if operator.several else made[0]

    _, recorded = jvp(function, [Tensor(x) for x in trial.moved], [Tensor(v) for v in trial.directions])
    for name, made in (("op.jvp", direct), ("func.jvp", recorded)):
        parts = list(made) if operator.several else [made]
        arrays = [np.asarray(getattr(parts[i], "array", parts[i])) for i in trial.live]
        for a, i in zip(arrays, trial.live):
            require(a.shape == trial.values[i].shape, f"{name} has shape {a.shape}, the output {trial.values[i].shape}")
        actual = dot(trial.cotangents, arrays)
        require(
            abs(actual - expected) <= 1e-9 * (scale + size_of(trial.cotangents, arrays) + 1),
            f"<u, J v> by {name} is {actual!r}, but <Jᵀ u, v> is {expected!r}",
        )


def check_each_input(trial: Trial) -> None:
    """The gradient of an input is the same when no other input wants one."""
    if len(trial.moving) < 2:
        return
    for index, (what, g) in zip(trial.moving, _named(trial, trial.first)):
        (alone,) = trial.gradients(moving=[index])
        require_close(f"{what}, the only one wanted,", np.asarray(alone), g, TOLERANCES["float64"])


def check_unchanged(trial: Trial) -> None:
    """Nothing that was given is changed: inputs, constants, cotangents. (A write fails already: they are read-only.)"""
    if trial.moving:
        trial.gradients()
    given, constants = trial.case.convert(np.array)
    for name, kept in [("an input", given), ("a constant", list(constants.values()))]:
        now = trial.inputs if name == "an input" else list(trial.constants.values())
        for before, after in zip(arrays_in(kept), arrays_in(now)):
            require(before.tobytes() == after.tobytes(), f"{name} was changed")


def check_aliasing(trial: Trial) -> None:
    """Gradients share memory with nothing, and each of their elements has a place of its own, by ``grad`` and in ``.grad``."""
    if not trial.moving:
        return
    tensors = trial.tensors(trial.inputs, trial.moving)
    wanted = [tensors[i] for i in trial.moving]
    ys = [y for i, y in enumerate(trial.outputs(tensors)) if i in trial.live]
    us = [Tensor(u) for u in trial.cotangents]
    made = grad(ys, wanted, us, retain_graph=True, allow_unused=True)
    _require_own_memory(trial, "tg.grad", made, ys)
    backward(ys, us)
    _require_own_memory(trial, ".grad", [x.grad for x in wanted], ys)
    before = [np.array(x.grad.array) if x.grad is not None else None for x in wanted]
    backward([y for i, y in enumerate(trial.outputs(tensors)) if i in trial.live], us)
    for (what, _), b, x in zip(_named(trial, trial.first), before, wanted):
        if b is not None:
            require_close(f"{what} summed over two backward calls", x.grad.array, 2 * b, TOLERANCES["float64"])


def _require_own_memory(trial: Trial, way: str, gradients: Sequence[Any], ys: Sequence[Any]) -> None:
    named = [(f"{what} by {way}", g.array) for (what, _), g in zip(_named(trial, trial.first), gradients) if g is not None]
    others = [("an input", x) for x in arrays_in(trial.inputs)] + [("a cotangent", u) for u in trial.cotangents]
    others += [("a constant", c) for c in arrays_in(list(trial.constants.values()))]
    others += [("an output", y.array) for y in ys]
    for position, (what, g) in enumerate(named):
        if not g.size:
            continue
        require(g.flags.writeable, f"{what} is read-only")
        overlaps = any(stride == 0 and side > 1 for stride, side in zip(g.strides, g.shape))
        require(not overlaps, f"{what} has several elements at one place (strides {g.strides})")
        for name, other in [*named[position + 1 :], *others]:
            require(not np.shares_memory(g, other), f"{what} shares memory with {name}")


def check_in_place(trial: Trial) -> None:
    """Texts that change arrays in one pass say what the operator does without them. NumPy runs them here, where machine code would."""
    if not trial.moving or trial.case.operator.kind != "fused":
        return
    usual, in_place.find = in_place.find, _by_numpy
    try:
        tensors = trial.tensors(trial.inputs, trial.moving)
        for index, (y, value) in enumerate(zip(trial.outputs(tensors), trial.values)):
            require_close(f"output {index} in one pass", y.array, value, TOLERANCES["float64"])
        for (what, g), h in zip(_named(trial, trial.first), trial.gradients()):
            require_close(f"{what} in one pass", np.asarray(h), g, TOLERANCES["float64"])
    finally:
        in_place.find = usual


def _by_numpy(text: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    layouts = [(a.shape, a.strides) for a in (*inputs, *outputs)]

    def run(arrays: Sequence[Any]) -> bool:
        require([(a.shape, a.strides) for a in arrays] == layouts, f"{text.__name__} meets arrays that are laid out otherwise")
        made = [np.array(array) for array in text(np, *arrays[: len(inputs)])]
        for array, value in zip(arrays[len(inputs) :], made, strict=True):
            require(array.shape == value.shape, f"{text.__name__} gives an array {array.shape} the shape {value.shape}")
            array[...] = value
        return True

    return run


def check_layouts(trial: Trial) -> None:
    """Values and gradients do not depend on where in memory the elements lie. Every layout is tried for values, a drawn mixture of
    them for inputs and cotangents of the gradients."""
    for name, layout in LAYOUTS.items():
        if name != "zero strides" or trial.case.operator.broadcasts:
            _check_values_in(trial, name, [layout] * len(trial.inputs))
    layouts = [
        LAYOUTS[name] for name in itertools.islice(itertools.cycle(trial.variant.layouts), len(trial.inputs) + len(trial.live))
    ]
    if not trial.case.operator.broadcasts:  # the values that zero strides change could leave the operator's domain
        layouts = [LAYOUTS["strided"] if layout is LAYOUTS["zero strides"] else layout for layout in layouts]
    inputs, same = _check_values_in(trial, str(trial.variant.layouts), layouts)
    if trial.moving:
        us = [_frozen(layout(u)) for layout, u in zip(layouts[len(trial.inputs) :], trial.cotangents)]
        first = trial.gradients(same, [read_only(u) for u in us])
        for (what, g), h in zip(_named(trial, first), trial.gradients(inputs, us)):
            require_close(f"{what} for layouts {trial.variant.layouts}", np.asarray(h), g, TOLERANCES["float64"])


def _check_values_in(
    trial: Trial, name: str, layouts: Sequence[Callable[[np.ndarray], np.ndarray]]
) -> tuple[list[Any], list[Any]]:
    """``(inputs in these layouts, the same values in C order)``, of which the outputs are the same."""
    inputs = [_frozen(layout(x)) if isinstance(x, np.ndarray) else x for x, layout in zip(trial.inputs, layouts)]
    same = [read_only(x) if isinstance(x, np.ndarray) else x for x in inputs]
    for index, (y, value) in enumerate(zip(trial.outputs(inputs), trial.outputs(same))):
        require_close(f"output {index} for layout {name}", y, value, TOLERANCES["float64"])
    return inputs, same


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view


def check_dtype(trial: Trial) -> None:
    """In float32 or float16 the output keeps the dtype, and values and gradients are near the float64 ones."""
    operator, dtype = trial.case.operator, trial.variant.dtype
    if dtype in operator.unsupported or any(isinstance(c, (np.dtype, type)) for c in trial.constants.values()):
        return

    def lower(a: np.ndarray) -> np.ndarray:
        return read_only(a.astype(dtype) if a.dtype == np.float64 else a)

    narrow, narrow_constants = trial.case.convert(lower)
    wide, wide_constants = trial.case.convert(lambda a: read_only(lower(a).astype(a.dtype)))  # the same values, rounded
    if not any(x.dtype == dtype for x in arrays_in(narrow)):
        return
    expected = trial.outputs(wide, wide_constants)
    tensors = trial.outputs(trial.tensors(narrow, []), narrow_constants)
    for index, (y, value) in enumerate(zip(tensors, expected)):
        wanted = np.dtype(dtype) if value.dtype == np.float64 else value.dtype
        require(y.array.dtype == wanted, f"output {index} is {y.array.dtype} for {dtype} inputs, expected {wanted}")
        require_close(f"output {index} in {dtype}", y.array, value, TOLERANCES[dtype])
    if not trial.moving:
        return
    us = [lower(u) for u in trial.cotangents]
    wide_us = [read_only(u.astype(v.dtype)) for u, v in zip(us, trial.cotangents)]
    first = trial.gradients(wide, wide_us, constants=wide_constants)
    for (what, g), h in zip(_named(trial, first), trial.gradients(narrow, us, constants=narrow_constants)):
        require(h.dtype == dtype, f"{what} is {h.dtype} for {dtype} inputs")
        require_close(f"{what} in {dtype}", np.asarray(h), g, TOLERANCES[dtype])


def check_numbers(trial: Trial) -> None:
    """A Python number as an operand does not change the dtype of the other one, nor value and gradient that an array would give."""
    operator = trial.case.operator
    simple = operator.kind == "elementwise" and len(trial.inputs) == 2 and not operator.optional and not operator.integer
    hidden = operator.forward.__name__.startswith("_") and operator.public not in vars(Tensor).values()
    if not simple or hidden or any(not isinstance(x, np.ndarray) or x.dtype != np.float64 or not x.size for x in trial.inputs):
        return
    for position, special in itertools.product((0, 1), (None, SPECIAL[int(trial.rng.integers(len(SPECIAL)))])):
        number = float(trial.inputs[position].flat[0]) if special is None else special
        _check_number(trial, position, number)


SPECIAL = (0, 1, 2, -1, 0.5, 3.0)
"""Numbers for which operators may have a short way."""


def _check_number(trial: Trial, position: int, number: float) -> None:
    other = trial.inputs[1 - position]
    with_number: list[Any] = [None, None]
    with_array: list[Any] = [None, None]
    with_number[position], with_array[position] = number, read_only(np.full((), number, np.float64))
    with_number[1 - position] = with_array[1 - position] = other
    (value,) = trial.outputs(with_array)
    for dtype in ("float64", "float32"):
        tensors = list(with_number)
        tensors[1 - position] = Tensor(other.astype(dtype))
        (y,) = trial.outputs(tensors)
        wanted = np.dtype(dtype) if value.dtype == np.float64 else value.dtype
        require(y.array.dtype == wanted, f"beside the number {number} a {dtype} Tensor gives {y.array.dtype}")
        if dtype == "float64":
            require_close(f"the output for the number {number}", y.array, value, TOLERANCES[dtype])
    if 1 - position in trial.moving:
        us = [read_only(trial.rng.uniform(-1, 1, value.shape))]
        (expected,) = trial.gradients(with_array, us, [1 - position])
        (g,) = trial.gradients(with_number, us, [1 - position])
        what = f"the gradient of '{operator_input(trial, 1 - position)}' beside the number {number}"
        require_close(what, np.asarray(g), np.asarray(expected), TOLERANCES["float64"])


def operator_input(trial: Trial, index: int) -> str:
    """Name of an input, for messages."""
    return trial.case.operator.input_name(index)


def check_strict(trial: Trial) -> None:
    """On the stand-in for CuPy the same text runs, gives the same, and does not wait for the device."""
    if any(isinstance(c, Device) for c in trial.constants.values()):
        _check_move(trial)
        return
    place = strict.array
    inputs, constants = trial.case.convert(place)
    with strict.watch() as events:
        ys = trial.outputs(inputs, constants)
        recorded = trial.outputs(trial.tensors(inputs, trial.moving), constants)
        gradients = trial.gradients(inputs, [place(u) for u in trial.cotangents], constants=constants) if trial.moving else []
    for index, (y, z, value) in enumerate(zip(ys, recorded, trial.values)):
        require(type(y) is strict.ndarray, f"output {index} on the stand-in for CuPy is a {type(y).__name__}")
        require_close(f"output {index} on the stand-in for CuPy", strict.peek(y), value, TOLERANCES["float64"])
        require_close(f"output {index} for its Tensors", strict.peek(z.array), value, TOLERANCES["float64"])
        require(y.dtype == value.dtype, f"output {index} on the stand-in for CuPy is {y.dtype}, NumPy gives {value.dtype}")
    for (what, g), h in zip(_named(trial, trial.first), gradients):
        require(type(h) is strict.ndarray, f"{what} on the stand-in for CuPy is a {type(h).__name__}")
        require_close(f"{what} on the stand-in for CuPy", strict.peek(h), g, TOLERANCES["float64"])
    if not trial.case.operator.syncs:
        require(not events, f"on a GPU it would wait or copy behind the user's back: {events}; say why in syncs=, or avoid it")


def _check_move(trial: Trial) -> None:
    """An operator that says itself where its result lives, sent to the stand-in: the same value there, the gradient back here."""
    away = {name: Device("strict") if isinstance(c, Device) else c for name, c in trial.constants.items()}
    for index, (y, value) in enumerate(zip(trial.outputs(trial.inputs, away), trial.values)):
        require(type(y) is strict.ndarray, f"output {index}, moved, is a {type(y).__name__}")
        require_close(f"output {index}, moved,", strict.peek(y), value, 0.0)
    us = [strict.array(u) for u in trial.cotangents]
    for (what, g), h in zip(_named(trial, trial.first), trial.gradients(cotangents=us, constants=away)):
        require(type(h) is np.ndarray, f"{what}, moved, is a {type(h).__name__}")
        require_close(f"{what}, moved,", h, g, TOLERANCES["float64"])


CHECKS: dict[str, Callable[[Trial], None]] = {
    "value": check_value,
    "gradient": check_gradient,
    "higher order": check_higher_order,
    "forward mode": check_forward_mode,
    "each input": check_each_input,
    "unchanged": check_unchanged,
    "aliasing": check_aliasing,
    "in place": check_in_place,
    "layouts": check_layouts,
    "dtype": check_dtype,
    "numbers": check_numbers,
    "strict": check_strict,
}
"""Every check by name, fast ones first."""
