"""The tape: nodes that remember how a value was made, and the walk back through them.

A node holds its operator, its parents, the arrays its derivative asked for, and a creation number. It does not hold the Tensors that it
was made from, so an ordinary graph has no reference cycles and memory goes when the last user goes. Backward visits nodes from the highest
creation number down: every user of a value was created after it, so its cotangent is complete when its turn comes. Nothing here is
recursive.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, ClassVar

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, as_array, is_array, is_sole_owner
from ..errors import error
from .below import on_path
from .waiting_products import Products, made_of

if TYPE_CHECKING:
    from .tensor import Tensor

_count = itertools.count(1)
next_number = _count.__next__
"""The next creation number; also the clock by which changes of leaves are stamped."""


class Node:
    """One recorded operator. ``shape`` is its output's shape, or the tuple of shapes when it has several outputs."""

    __slots__ = ("operator", "parents", "saved", "shape", "number", "hooks", "grad", "__weakref__")

    def __init__(self, operator: Any, parents: tuple[Node | None, ...], saved: tuple[Any, ...] | None, y: Any) -> None:
        self.operator = operator
        self.parents = parents
        self.saved = saved
        self.shape = y.shape
        self.number = next_number()
        self.hooks: Any = None
        self.grad: Tensor | None = None

    @property
    def name(self) -> str:
        """Name of the operator."""
        return self.operator.name

    @property
    def trace(self) -> str:
        """The user's line that called the operator; known only under ``detect_anomaly``."""
        return "  (run the forward under detect_anomaly as well to see the line)\n"

    def register_hook(self, hook: Callable[[tuple, Any], Any]) -> RemovableHandle:
        """Operator hook: ``hook(grad_inputs, grad_output)`` runs when backward passes this node; it may return new gradients for
        the inputs, a tuple like ``grad_inputs``."""
        return _add_hook(self, "operator", hook)

    def __repr__(self) -> str:
        return f"<{self.name} #{self.number}>"


class Leaf(Node):
    """Where a gradient ends: a Tensor that requires gradients and was made by the user. ``changed`` is the time of its last
    change in place; ``frozen`` is set while ``requires_grad_(False)`` refuses gradients of graphs that were made before."""

    __slots__ = ("changed", "frozen")

    def __init__(self, array: Any) -> None:
        super().__init__(LEAF, (), (), array)
        self.changed = 0
        self.frozen = False


class Output(Node):
    """One output of an operator that has several; its only parent is the operator's node."""

    __slots__ = ("index",)

    def __init__(self, node: Node, index: int, y: Any) -> None:
        self.operator = OUTPUT  # written out: an RNN makes many of these
        self.parents = (node,)
        self.saved = ()
        self.shape = y.shape
        self.number = next_number()
        self.hooks = self.grad = None
        self.index = index


class AnomalyNode(Node):
    """A node that remembers the user's line, and that refuses a forward result that is not finite."""

    __slots__ = ("_trace",)

    def __init__(self, operator: Any, parents: tuple[Node | None, ...], saved: tuple[Any, ...] | None, y: Any) -> None:
        super().__init__(operator, parents, saved, y)
        self._trace = user_line()
        for value in y.arrays if isinstance(y, Outputs) else (y,):
            what = not_finite(value)
            if what:
                raise error("TG-G008", op=operator.name, what=what, saved=operator.describe_saved(saved), trace=self._trace)

    @property
    def trace(self) -> str:
        return self._trace


class Outputs:
    """Several outputs of one operator, seen by its node as one: their shapes."""

    __slots__ = ("arrays", "shape")

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = arrays
        self.shape = tuple([array.shape for array in arrays])


class _Mark:
    """Stands where an operator stands, for the two kinds of node that are none."""

    def __init__(self, name: str) -> None:
        self.name = name


LEAF = _Mark("leaf")
OUTPUT = _Mark("output")


# ---- hooks ---------------------------------------------------------------------------------------


class RemovableHandle:
    """What ``register_hook`` returns; ``remove()`` takes the hook away."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id = next_number()

    def remove(self) -> None:
        """Take the hook away. Doing so twice is harmless."""
        self._hooks.pop(self.id, None)


def _hooks(node: Node) -> dict[str, Any]:
    if node.hooks is None:
        node.hooks = {"tensor": {}, "operator": {}, "retain": False}
    return node.hooks


def _add_hook(node: Node, kind: str, hook: Callable[..., Any]) -> RemovableHandle:
    handle = RemovableHandle(_hooks(node)[kind])
    node.hooks[kind][handle.id] = hook
    return handle


def add_tensor_hook(node: Node, hook: Callable[[Tensor], Any]) -> RemovableHandle:
    """``hook(grad)`` runs when the whole cotangent of ``node``'s value is known; it may return another gradient."""
    return _add_hook(node, "tensor", hook)


def retain_gradient(node: Node) -> None:
    """Keep the cotangent of ``node``'s value in its ``grad``, as it is after all tensor hooks. (A flag and no hook: a hook would
    hold the node that holds it.)"""
    _hooks(node)["retain"] = True


def _for_hook(g: Any) -> Any:
    """A cotangent as a Tensor of its own, so that an in-place operator on it stays with the hook."""
    from .tensor import Tensor

    if type(g) is Tensor:
        return Tensor(g.array, g.node)
    return None if g is None else Tensor(as_array(g))


def _from_hook(result: Any, g: Any) -> Any:
    """What a hook returned in place of ``g``, in the form of ``g``."""
    from .tensor import Tensor

    array = result.array if type(result) is Tensor else result
    if not is_array(array) or array.shape != g.shape or array.dtype != g.dtype:
        shape, dtype = getattr(array, "shape", "-"), getattr(array, "dtype", type(array).__name__)
        raise error("TG-G010", actual=shape, dtype=dtype, expected=g.shape, wanted=g.dtype)
    if type(g) is Tensor:
        return result if type(result) is Tensor else Tensor(array)
    return array


def _run_tensor_hooks(node: Node, g: Any) -> Any:
    for hook in tuple(node.hooks["tensor"].values()):
        result = hook(_for_hook(g))
        if result is not None:
            g = _from_hook(result, g)
    if node.hooks["retain"]:
        given = _for_hook(g)
        node.grad = given if node.grad is None else node.grad + given
    return g


def _run_operator_hooks(
    node: Node, parents: Sequence[Node | None], gradients: Sequence[Any], g: Any, recording: Any
) -> Sequence[Any]:
    """Gradients of the inputs, in the inputs' shapes, after the operator hooks of ``node``."""
    gradients = [
        gx if gx is None or parent is None or gx.shape == parent.shape else node.operator.fit(gx, parent.shape, index)
        for index, (gx, parent) in enumerate(zip(gradients, parents))
    ]
    if recording is not None:
        recording.node = None
    for hook in tuple(node.hooks["operator"].values()):
        outgoing = tuple(map(_for_hook, g)) if type(g) is tuple else _for_hook(g)
        result = hook(tuple(map(_for_hook, gradients)), outgoing)
        if result is None:
            continue
        if type(result) is not tuple or len(result) != len(gradients):
            given = f"{len(result)} values" if type(result) is tuple else type(result).__name__
            rule = (
                f"a tuple of {len(gradients)}, one gradient per input, or None",
                f"入力ごとに勾配 1 つ、合わせて {len(gradients)} 個のタプル、または None",
            )
            raise error(
                "TG-A001",
                op="register_hook",
                argument="hook",
                value=given,
                rule=rule,
                fix=("return one per input.", "入力ごとに 1 つ返してください。"),
            )
        gradients = [None if new is None or gx is None else _from_hook(new, gx) for new, gx in zip(result, gradients)]
    if recording is not None:
        recording.node = node  # the sums of its gradients belong to it
    return gradients


# ---- anomaly -------------------------------------------------------------------------------------

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@functools.cache
def is_ours(filename: str) -> bool:
    """Whether a source file is of this package, or source that it wrote."""
    return filename.startswith(("<operator ", "<backward of ")) or os.path.abspath(filename).startswith(_PACKAGE)


def user_line() -> str:
    """The innermost frame outside of this package, as a traceback prints it."""
    frames = [frame for frame in traceback.extract_stack() if not is_ours(frame.filename)]
    return "".join(traceback.format_list(frames[-1:])) if frames else ""


def not_finite(array: Any) -> str:
    """``"NaN"``, ``"Inf"``, or ``""`` when every element is finite."""
    array = getattr(array, "array", array)
    if getattr(array, "dtype", None) is None or array.dtype.kind != "f":
        return ""
    xp = ARRAY_MODULES[type(array)]
    if bool(xp.isfinite(array).all()):
        return ""
    return "NaN" if bool(xp.isnan(array).any()) else "Inf"


def _check_anomaly(node: Node, gradients: Sequence[Any], g: Any, saved: Any) -> None:
    for index, (parent, gradient) in enumerate(zip(node.parents, gradients)):
        if parent is None or gradient is None:
            continue
        what = not_finite(gradient)
        if what:
            incoming = [not_finite(part) for part in (g if type(g) is tuple else (g,))]
            raise error(
                "TG-G007",
                op=node.operator.name,
                what=what,
                input=node.operator.input_name(index),
                shape=parent.shape,
                incoming=" ".join(filter(None, incoming)) or ("finite", "有限"),
                saved=node.operator.describe_saved(saved),
                trace=node.trace,
            )


# ---- the walk back -------------------------------------------------------------------------------


class _Changes:
    """When arrays were last changed in place: those of leaves, and plain data through ``data``. Backward looks for stale saved
    values only when something has changed since."""

    latest = 0
    by_memory: ClassVar[dict[int, list[Any]]] = {}
    """id of the array that owns the memory -> [weak reference to it, time]."""


def _owner(array: Any) -> Any:
    """The array whose memory ``array`` is a view of, or itself."""
    while type(array.base) in BY_TYPE:
        array = array.base
    return array


def mark_changed(leaf: Leaf | None, array: Any) -> None:
    """Stamp a leaf and the memory of its array, which was changed in place. Views and detached tensors share that memory."""
    number = _changes_of(array)[1] = _Changes.latest = next_number()
    if leaf is not None:
        leaf.changed = number


def _changes_of(array: Any) -> list[Any]:
    """What is known of the memory of an array: a reference to its owner, and the moment of its last change."""
    owner = array if array.base is None else _owner(array)
    key, entry = id(owner), _Changes.by_memory.get(id(owner))
    if entry is None or entry[0]() is not owner:
        forget = _Changes.by_memory.pop
        entry = _Changes.by_memory[key] = [weakref.ref(owner, lambda _: forget(key, None)), 0]
    return entry


def stamper(leaves: Sequence[tuple[Leaf, Any]]) -> Callable[[], None]:
    """A function that stamps all these leaves and the memory of their arrays as changed, for those that change at every step."""
    entries = [_changes_of(array) for _, array in leaves]

    def stamp() -> None:
        number = _Changes.latest = next_number()
        for leaf, _ in leaves:
            leaf.changed = number
        for entry in entries:
            entry[1] = number

    return stamp


def changed_since(number: int, value: Any) -> bool:
    """Whether the memory of an array was changed in place after the moment ``number``."""
    owner = _owner(value)
    entry = _Changes.by_memory.get(id(owner))
    return entry is not None and entry[1] > number and entry[0]() is owner


def refuse_changed(node: Node) -> None:
    """Raise when something that ``node`` saved was changed in place after it ran."""
    operator = node.operator
    # a checkpoint runs again on the leaves themselves
    indices = range(len(node.parents)) if operator.expands else [index for _, index in operator.saved_inputs]
    for index in indices:
        parent = node.parents[index]
        if isinstance(parent, Leaf) and parent.changed > node.number:
            raise error("TG-G003", op=operator.name, input=operator.input_name(index), shape=parent.shape)
    if operator.expands:
        return
    for name, value in zip(operator.saves, node.saved):  # type: ignore[arg-type]
        for array in value if type(value) is tuple else (value,):
            if is_array(array) and changed_since(node.number, array):
                raise error("TG-G003", op=operator.name, input=name, shape=array.shape)


def run_backward(
    roots: Iterable[tuple[Node, Any]],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    targets: dict[int, Any] | None = None,
    anomaly: bool = False,
) -> list[tuple[Leaf, Any]]:
    """Walk back from ``roots``, pairs of node and cotangent.

    Without ``targets``: return ``(leaf, gradient)`` for every leaf reached; nothing is accumulated yet.
    With ``targets`` (numbers of nodes as keys): put their gradients into it and visit only nodes on a path to them.
    State lives in local dictionaries, so a failure leaves no trace and threads may share leaves.
    """
    roots = list(roots)
    wanted = None if targets is None else on_path([node for node, _ in roots], targets)
    totals: list[tuple[Leaf, Any]] = []
    cotangents: dict[int, Any] = {}
    waiting: dict[int, Node] = {}
    from .modes import modes

    recording = modes.recording
    fresh: set[int] = set()  # numbers whose cotangent is a sum made here, which may be added to in place
    heap: list[int] = []

    def send(node: Node, g: Any) -> None:
        number = node.number
        if number in cotangents:
            cotangents[number] = as_array(made_of(cotangents[number]) + g)
            fresh.add(number)
        else:
            cotangents[number] = g
            waiting[number] = node
            heappush(heap, -number)

    for node, g in roots:
        if wanted is None or node.number in wanted:
            send(node, g)

    while heap:
        number = -heappop(heap)
        node = waiting.pop(number)
        g = made_of(cotangents.pop(number))
        operator = node.operator

        if node.hooks is not None:
            if recording is not None:
                recording.node = None
            if type(g) is list:
                g = _fill(g, node.shape)
            elif node.hooks["tensor"] or node.hooks["retain"]:
                g = _run_tensor_hooks(node, g)
        if targets is not None and number in targets:
            targets[number] = g
        if operator is LEAF:
            if targets is None:
                totals.append((node, g))  # type: ignore[arg-type]
            continue
        if operator is OUTPUT:
            body = node.parents[0]
            number = body.number  # type: ignore[union-attr]
            if wanted is not None and number not in wanted:
                continue
            if number not in cotangents:
                cotangents[number] = [None] * len(body.shape)  # type: ignore[union-attr]
                waiting[number] = body  # type: ignore[assignment]
                heappush(heap, -number)
            cotangents[number][node.index] = g  # type: ignore[attr-defined]
            continue

        parents = node.parents
        if wanted is not None:
            parents = tuple([p if p is not None and p.number in wanted else None for p in parents])
            if not any([p is not None for p in parents]):  # a target itself, with none behind it
                continue
        saved = node.saved
        if saved is None:
            raise error("TG-G002", op=operator.name)
        if number < _Changes.latest:
            refuse_changed(node)
        if type(g) is list:
            g = _fill(g, node.shape)

        if recording is not None:
            recording.node = None if operator.expands else node
        if operator.expands:  # a checkpoint: run its forward again; the walk goes on through what that recorded
            for again, part in operator.expand(saved, g):
                if wanted is not None:
                    wanted |= on_path([again], targets or {})
                send(again, part)
            if not retain_graph:
                node.saved = None
            continue
        add = operator.adders.get(type(g)) if operator.adders else None
        if add is not None and not create_graph and node.hooks is None:
            number = parents[0].number  # type: ignore[union-attr]
            if number in fresh and not anomaly:
                add(saved, g, cotangents[number])
                if not retain_graph and operator.saves_arrays:
                    node.saved = None
                continue
            if number not in cotangents:
                fresh.add(number)
        if create_graph:
            gradients = operator.differentiate(operator.lift(saved, node), parents, g)
        else:
            gradients = operator.backward(saved, parents, g)
            if not retain_graph and operator.saves_arrays:
                node.saved = None
        if anomaly:
            _check_anomaly(node, gradients, g, saved)
        if node.hooks is not None and node.hooks["operator"]:
            gradients = _run_operator_hooks(node, parents, gradients, g, recording)
        saved = None

        for index, parent in enumerate(parents):
            if parent is None:
                continue
            gx = gradients[index]
            if gx is None:
                continue
            shape = parent.shape
            if gx.shape != shape:
                gx = operator.fit(gx, shape, index)
            if not shape and not create_graph:
                gx = as_array(gx)
            number = parent.number
            if number not in cotangents:
                cotangents[number] = gx
                waiting[number] = parent
                heappush(heap, -number)
            elif type(gx) is Products and type(cotangents[number]) is Products:
                cotangents[number].add(gx)
            elif number in fresh and shape and not create_graph:
                total = cotangents[number]
                total += made_of(gx)
            else:
                cotangents[number] = as_array(made_of(cotangents[number]) + made_of(gx))
                fresh.add(number)
        gradients = gx = g = None
    return totals


def _fill(parts: list[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[Any, ...]:
    """Cotangents of all outputs of an operator: zeros for those that were not used."""
    if None not in [part if part is None else 0 for part in parts]:
        return tuple(parts)
    from .tensor import Tensor

    some = next(part for part in parts if part is not None)
    array = some.array if type(some) is Tensor else some
    xp = ARRAY_MODULES[type(array)]

    def zeros(shape: tuple[int, ...]) -> Any:
        made = xp.zeros(shape, dtype=array.dtype)
        return Tensor(made) if type(some) is Tensor else made

    return tuple([zeros(shape) if part is None else part for part, shape in zip(parts, shapes)])


_accumulating = threading.Lock()  # threads may share leaves


def accumulate(totals: list[tuple[Leaf, Any]], create_graph: bool) -> None:
    """Add the gradients of a finished walk to the leaves' ``grad``. Empties ``totals``."""
    from .modes import modes
    from .tensor import Tensor

    with _accumulating:
        while totals:
            leaf, g = totals.pop()
            if leaf.frozen:
                continue
            before = leaf.grad
            if create_graph:
                if before is not None:
                    leaf.grad = before + g
                else:  # another leaf may have been given the same Tensor; without a history its array may be written in place
                    leaf.grad = Tensor(g.array.copy() if g.node is None else g.array, g.node)
            elif before is None:
                leaf.grad = Tensor(g)
                del g
                if not is_sole_owner(leaf.grad):  # somebody else's array: another leaf's gradient, a saved value, a view
                    leaf.grad.array = leaf.grad.array.copy()
            elif before.node is None and is_sole_owner(before):
                if modes.recording is None or type(before.array) is type(g):
                    before.array += g
                else:  # an array that was made while a function is recorded, and a traced one
                    before.array = g + before.array
            else:
                leaf.grad = Tensor(as_array(g + before.array))
