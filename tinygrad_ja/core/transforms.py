"""Functions over the tape: ``grad`` and, in ``tg.func``, ``vjp jvp jacrev jacfwd hessian hvp``. None of them is new machinery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..backend.arrays import ARRAY_MODULES, is_array, is_sole_owner, meet
from ..errors import error, joined
from .below import nodes_below
from .modes import enable_grad, modes
from .tape import LEAF, accumulate, run_backward
from .tensor import Tensor


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _roots(outputs: Sequence[Tensor], grad_outputs: Sequence[Any], create_graph: bool) -> list[tuple[Any, Any]]:
    roots = []
    for y, g in zip(outputs, grad_outputs):
        if y.node is None:
            raise error("TG-G005")
        if g is None:
            if y.array.size != 1:
                raise error("TG-G001", shape=tuple(y.array.shape))
            g = ARRAY_MODULES[type(y.array)].ones_like(y.array)
        if type(g) is not Tensor:
            if not is_array(g):
                raise error("TG-T002", op="backward", argument="gradient", type=type(g).__name__)
            g = Tensor(g)
        if not meet(g.array, y.array):
            devices = (str(y.device), str(g.device))
            raise error("TG-D001", op="backward", devices=joined(devices), fix=devices[0])
        if g.array.shape != y.array.shape:
            raise error("TG-S004", actual=tuple(g.array.shape), expected=tuple(y.array.shape))
        if g.array.dtype is not y.array.dtype:
            g = Tensor(g.array.astype(y.array.dtype))
        roots.append((y.node, g if create_graph else g.array))
    return roots


def _pad(grad_outputs: Any, count: int) -> tuple[Any, ...]:
    if grad_outputs is None:
        return (None,) * count
    given = _tuple(grad_outputs)
    if len(given) != count:
        rule = (
            f"one cotangent, or None, for each of the {count} outputs",
            f"{count} 個の出力のそれぞれに、勾配 1 つまたは None",
        )
        value = f"{len(given)} values"
        raise error(
            "TG-A001",
            op="backward",
            argument="gradient",
            value=value,
            rule=rule,
            fix=("pass a list of that length.", "その長さのリストを渡してください。"),
        )
    return given


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
    """Sum the gradients of ``tensors`` with respect to the leaves into their ``grad`` (``torch.autograd.backward``).

    Raises GradientError for a non-scalar without ``grad_tensors``, for a freed graph and for a leaf changed in between; then no ``grad``
    has changed.
    """
    tensors = _tuple(tensors)
    retain = create_graph if retain_graph is None else retain_graph
    roots = _roots(tensors, _pad(grad_tensors, len(tensors)), create_graph)
    totals = _walk(roots, retain, create_graph, None)
    if modes.recording is not None:
        modes.recording.leaves_reached([leaf for leaf, _ in totals])
    accumulate(totals, create_graph)


def _walk(roots: list[Any], retain: bool, create_graph: bool, targets: dict[int, Any] | None) -> list[Any]:
    trace, above, before = modes.recording, getattr(modes.recording, "node", None), modes.products
    modes.products = not create_graph and trace is None and modes.profiler is None and not modes.anomaly
    try:
        if not create_graph:
            return run_backward(roots, retain_graph=retain, targets=targets, anomaly=modes.anomaly)
        with enable_grad():
            return run_backward(roots, retain_graph=True, create_graph=True, targets=targets, anomaly=modes.anomaly)
    finally:
        modes.products = before
        if trace is not None:
            trace.node = above  # of the walk around this one, if any


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``outputs`` with respect to ``inputs``, as a tuple (``torch.autograd.grad``). No ``grad`` attribute changes.

    With ``create_graph=True`` the gradients have a history themselves. Raises GradientError for an input that was not used, unless
    ``allow_unused=True`` (then None).

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (g,) = tg.grad(x * x * x, x, create_graph=True)
    >>> (h,) = tg.grad(g, x)
    >>> g.item(), h.item()
    (27.0, 18.0)
    """
    outputs, inputs = _tuple(outputs), _tuple(inputs)
    retain = create_graph if retain_graph is None else retain_graph
    roots = _roots(outputs, _pad(grad_outputs, len(outputs)), create_graph)
    if any(x.node is None for x in inputs):
        raise error("TG-G005")
    targets: dict[int, Any] = {x.node.number: None for x in inputs}
    _walk(roots, retain, create_graph, targets)
    made = []
    for index, x in enumerate(inputs):
        g = targets[x.node.number]
        if g is None and not allow_unused:
            raise error("TG-G006", index=index)
        # a Tensor of its own for each input: the walk hands one and the same to several
        made.append(None if g is None else Tensor(g.array, g.node) if type(g) is Tensor else Tensor(g))
        del g
    targets.clear()
    roots.clear()
    for t in made:
        if t is not None and t.node is None and not is_sole_owner(t):
            t.array = t.array.copy()
    return tuple(made)


def _fresh(primals: Sequence[Tensor]) -> list[Tensor]:
    """The same values as inputs of a new function: connected to where they came from, so that transforms nest."""
    from .operator import OPERATORS

    alias = OPERATORS["alias"].public
    return [alias(x) if x.node is not None else Tensor(x.array).requires_grad_() for x in primals]


def _settled(values: Any, inputs: Sequence[Tensor]) -> Any:
    """Results without history, unless they depend on a leaf that is not one of our own ``inputs``."""
    if isinstance(values, (tuple, list)):
        return tuple(_settled(value, inputs) for value in values)
    own = {x.node.number for x in inputs if x.is_leaf and x.node is not None}
    leaves = {number for number, node in nodes_below([values.node]).items() if node.operator is LEAF}
    return values.detach() if leaves <= own else values


def vjp(func: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """``(func(*primals), vjp_fn)``; ``vjp_fn(cotangents)`` returns one gradient per primal (``torch.func.vjp``)."""
    with enable_grad():
        inputs = _fresh(primals)
        outputs = func(*inputs)

    def vjp_fn(*cotangents: Any, create_graph: bool = True) -> tuple[Any, ...]:
        given = cotangents[0] if len(cotangents) == 1 and isinstance(cotangents[0], (tuple, list)) else cotangents
        made = grad(_tuple(outputs), inputs, _tuple(given), create_graph=create_graph, retain_graph=True, allow_unused=True)
        return tuple(Tensor(_zeros(x)) if g is None else _settled(g, inputs) for g, x in zip(made, inputs))

    return _settled(outputs, inputs), vjp_fn


def _zeros(x: Tensor) -> Any:
    return ARRAY_MODULES[type(x.array)].zeros_like(x.array)


def jvp(func: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Any, Any]:
    """``(func(*primals), directional derivative along tangents)`` (``torch.func.jvp``).

    The vjp is linear in its cotangent u, so its own vjp is the jvp: J v = d/du (u J) v.
    """
    with enable_grad():
        inputs = _fresh(_tuple(primals))
        outputs = func(*inputs)
        several = isinstance(outputs, (tuple, list))
        ys = _tuple(outputs)
        live = [y for y in ys if y.node is not None]
        us = [Tensor(_zeros(y)).requires_grad_() for y in live]
        gs = grad(live, inputs, us, create_graph=True, allow_unused=True) if live else [None] * len(inputs)
        pairs = [(g, v) for g, v in zip(gs, _tuple(tangents)) if g is not None and g.node is not None]
        made: Sequence[Any] = [None] * len(us)
        if pairs:
            made = grad([g for g, _ in pairs], us, [v for _, v in pairs], create_graph=True, allow_unused=True)
    found = iter(made)
    result = []
    for y in ys:
        t = next(found) if y.node is not None else None
        result.append(Tensor(_zeros(y)) if t is None else t)
    own = [*inputs, *us]
    return _settled(outputs, own), _settled(tuple(result) if several else result[0], own)


def _basis(x: Tensor) -> list[Tensor]:
    xp = ARRAY_MODULES[type(x.array)]
    eye = xp.eye(x.array.size, dtype=x.array.dtype)
    return [Tensor(eye[i].reshape(x.array.shape)) for i in range(x.array.size)]


def _stack(rows: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    from .operator import OPERATORS

    if not rows:
        raise error(
            "TG-A001",
            op="jacobian",
            argument="output",
            value=("empty", "(空)"),
            rule=("at least one element", "要素が 1 つ以上あること"),
            fix=("check the shapes.", "形状を確かめてください。"),
        )
    stacked = OPERATORS["stack"].public(*rows, dim=0)
    return OPERATORS["reshape"].public(stacked, shape)


def jacrev(func: Callable[..., Tensor], argnums: int = 0) -> Callable[..., Tensor]:
    """Jacobian by reverse mode, shape ``output.shape + input.shape`` (``torch.func.jacrev``): one walk back per output element."""

    def jacobian(*args: Tensor) -> Tensor:
        def partial(x: Tensor) -> Any:
            return func(*args[:argnums], x, *args[argnums + 1 :])

        x = args[argnums]
        y, vjp_fn = vjp(partial, x)
        rows = [vjp_fn(u)[0] for u in _basis(y)]
        return _stack(rows, tuple(y.array.shape) + tuple(x.array.shape))

    return jacobian


def jacfwd(func: Callable[..., Tensor], argnums: int = 0) -> Callable[..., Tensor]:
    """Jacobian by forward mode, shape ``output.shape + input.shape`` (``torch.func.jacfwd``): one jvp per input element."""

    def jacobian(*args: Tensor) -> Tensor:
        from .operator import OPERATORS

        def partial(x: Tensor) -> Any:
            return func(*args[:argnums], x, *args[argnums + 1 :])

        x = args[argnums]
        pairs = [jvp(partial, (x,), (v,)) for v in _basis(x)]
        shape = tuple(pairs[0][0].array.shape)
        columns = [OPERATORS["reshape"].public(t, (-1,)) for _, t in pairs]
        stacked = OPERATORS["stack"].public(*columns, dim=1)
        return OPERATORS["reshape"].public(stacked, shape + tuple(x.array.shape))

    return jacobian


def hessian(func: Callable[..., Tensor], argnums: int = 0) -> Callable[..., Tensor]:
    """Matrix of second derivatives of a scalar function, shape ``input.shape * 2`` (``torch.func.hessian``).

    >>> import tinygrad_ja as tg
    >>> tg.func.hessian(lambda x: (x * x * x).sum())(tg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacrev(jacrev(func, argnums), argnums)


def hvp(func: Callable[..., Tensor], primals: Any, tangents: Any) -> tuple[Tensor, Any]:
    """``(func(*primals), Hessian-vector product)`` of a scalar function; costs two walks, never builds the Hessian."""
    several = isinstance(primals, (tuple, list))
    with enable_grad():
        inputs = _fresh(_tuple(primals))
        y = func(*inputs)
        gs = grad(y, inputs, create_graph=True, allow_unused=True)
        pairs = [(g, v) for g, v in zip(gs, _tuple(tangents)) if g is not None and g.node is not None]
        made: Sequence[Any] = [None] * len(inputs)
        if pairs:
            made = grad([g for g, _ in pairs], inputs, [v for _, v in pairs], create_graph=True, allow_unused=True)
    result = tuple(Tensor(_zeros(x)) if t is None else t for t, x in zip(made, inputs))
    return _settled(y, inputs), _settled(result if several else result[0], inputs)
