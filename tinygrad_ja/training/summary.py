"""``summary``: the layers of a model with output shapes, parameters and multiplications, measured by running it once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend.devices import get_default_dtype
from ..backend.random import get_rng_states, set_rng_states
from ..core.modes import no_grad
from ..core.nested import found
from ..core.tensor import Tensor
from ..errors import Phrase, error, language, refusal
from ..nn.module import Module
from ..nn.uninitialized import is_lazy
from ..ops import creation
from ..profiling.watching import watching_products
from ..table import aligned, width


@dataclass
class Row:
    """One module of the model. Its numbers are its own, without those of the modules in it, so that a column adds up to its total.

    name: the path of attributes (``"encoder.0"``; empty for the model itself). kind: its class. depth: how deep it lies.
    outputs: shapes of the Tensors that its last call returned. calls: how often it was called; 0 when its parameters are used from
    outside, or not at all. parameters, trainable: numbers in its parameters; one that several modules share counts at the first.
    shared: some of its parameters, or the module itself, were counted before. multiplications: of matrix products and convolutions, each
    with an addition. activation_bytes: what its calls returned, if no other module lies in it.
    """

    name: str
    kind: str
    depth: int
    outputs: list[tuple[int, ...]] = field(default_factory=list)
    calls: int = 0
    parameters: int = 0
    trainable: int = 0
    shared: bool = False
    multiplications: int = 0
    activation_bytes: int = 0


class Summary:
    """What ``summary`` returns: ``rows`` in the order of the model's attributes, and totals. ``str`` of it is the table."""

    def __init__(self, rows: list[Row], parameter_bytes: int) -> None:
        self.rows = rows
        self.parameters = sum(row.parameters for row in rows)
        self.trainable = sum(row.trainable for row in rows)
        self.multiplications = sum(row.multiplications for row in rows)
        self.parameter_bytes = parameter_bytes
        self.activation_bytes = sum(row.activation_bytes for row in rows)

    def table(self, depth: int | None = None) -> str:
        """The table in English or Japanese. depth: show so many levels below the model, with the sums of what lies deeper."""
        text = _TEXTS[language()]
        rows = self.rows if depth is None else _folded(self.rows, depth)
        lines = [list(text["columns"])]
        for row in rows:
            label = f"{row.name.rpartition('.')[2]} ({row.kind})" if row.name else row.kind
            shapes = " ".join(str(shape) for shape in row.outputs) or "-"
            shapes += f" ×{row.calls}" if row.calls > 1 else ""
            parameters = _number(row.parameters) if row.parameters or not row.shared else text["shared"]
            lines.append(["  " * row.depth + label, shapes, parameters, _number(row.multiplications)])
        totals = [
            (text["parameters"], f"{self.parameters:,}"),
            (text["trainable"], f"{self.trainable:,}"),
            (text["frozen"], f"{self.parameters - self.trainable:,}"),
            (text["multiplications"], f"{self.multiplications:,}"),
            (text["parameter MB"], f"{self.parameter_bytes / 1e6:,.3f}"),
            (text["activation MB"], f"{self.activation_bytes / 1e6:,.3f}"),
        ]
        body, foot = aligned(lines, left=2), aligned(totals)
        rule = "-" * max(map(width, body + foot))
        return "\n".join([body[0], rule, *body[1:], rule, *foot])

    def __str__(self) -> str:
        return self.table()

    __repr__ = __str__


_TEXTS: dict[str, dict[str, Any]] = {
    "en": {
        "columns": ("layer", "output", "parameters", "multiplications"),
        "shared": "shared",
        "parameters": "parameters",
        "trainable": "  trainable",
        "frozen": "  not trainable",
        "multiplications": "multiplications",
        "parameter MB": "parameters, MB",
        "activation MB": "activations, MB",
    },
    "ja": {
        "columns": ("層", "出力", "パラメータ", "乗算回数"),
        "shared": "共有",
        "parameters": "パラメータ",
        "trainable": "  学習する",
        "frozen": "  学習しない",
        "multiplications": "乗算回数",
        "parameter MB": "パラメータ (MB)",
        "activation MB": "活性値 (MB)",
    },
}


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _folded(rows: Sequence[Row], depth: int) -> list[Row]:
    """The rows down to ``depth``; those of the last level hold the numbers of what lies below them."""
    made: list[Row] = []
    for row in rows:
        if row.depth <= depth:
            made.append(Row(**vars(row)))
            continue
        for name in ("parameters", "trainable", "multiplications", "activation_bytes"):
            setattr(made[-1], name, getattr(made[-1], name) + getattr(row, name))
    return made


def summary(
    model: Module,
    *inputs: Any,
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Summary:
    """Run ``model(*inputs, **kwargs)`` once and tell what its layers make, hold and multiply.

    input_size: instead of inputs, their shape (or a list of shapes): arrays of ones, or zeros for integers, on the device of the model.
    dtype: of those arrays, one for all or a list; else that of the model's first floating parameter.

    It runs in evaluation mode without recording, and leaves the model as it was: modes, buffers, hooks, and the random numbers of the
    CPU's default generator. Raises ArgumentError when neither or both of inputs and ``input_size`` are given, or the model has layers
    without a shape yet (lazy ones).

    Multiplications are counted at the operators that really run (matrix product, convolution, einsum, attention, recurrence) and belong
    to the innermost module that runs them; each stands for one multiplication with its addition (MAC).

    >>> import tinygrad_ja as tg
    >>> model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.ReLU(), tg.nn.Linear(4, 2))
    >>> made = summary(model, input_size=(5, 3))
    >>> made.parameters, made.multiplications
    (26, 100)
    >>> print(made.table().partition("\\n---")[0])
    layer           output  parameters  multiplications
    """
    _check(model, inputs, kwargs, input_size)
    if input_size is not None:
        inputs = _made_up(model, input_size, dtype)
    rows, by_module = _rows(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_left_as_it_was(model))
        running = stack.enter_context(_calls_noted(model, by_module))

        def note(count: int) -> None:
            (running[-1] if running else rows[0]).multiplications += count

        stack.enter_context(watching_products(note))
        stack.enter_context(no_grad())
        model.eval()(*inputs, **kwargs)
    return Summary(rows, sum(p.array.nbytes for p in model.parameters()))


def _refusal(argument: str, value: Any, rule: Phrase, fix: Phrase) -> Exception:
    return refusal("summary", argument, value, rule, fix)


def _check(model: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any], input_size: Any) -> None:
    if not isinstance(model, Module):
        raise error("TG-T007", op="summary", type=type(model).__name__)
    given = [bool(inputs), input_size is not None]
    if all(given) or not any([*given, kwargs]):
        raise _refusal(
            "input_size",
            input_size,
            ("either inputs or input_size", "入力か input_size のどちらか一方"),
            (
                "tg.summary(model, x), or tg.summary(model, input_size=(1, 3, 32, 32)).",
                "tg.summary(model, x) か tg.summary(model, input_size=(1, 3, 32, 32)) としてください。",
            ),
        )
    lazy = [name for name, value in [*model.named_parameters(), *model.named_buffers()] if is_lazy(value)]
    if lazy:
        raise _refusal(
            "model",
            ", ".join(lazy),
            ("layers whose shapes are known", "形状の決まった層"),
            ("call the model once before.", "先にモデルを 1 度呼んでください。"),
        )


def _made_up(model: Module, input_size: Any, dtype: Any) -> tuple[Tensor, ...]:
    """Inputs of the shapes ``input_size``, which is one shape or several."""
    shapes = [input_size] if _is_shape(input_size) else input_size
    if not isinstance(shapes, (tuple, list)) or not all(map(_is_shape, shapes)):
        rule = ("a shape, or a list of shapes", "形状、または形状のリスト")
        raise _refusal("input_size", input_size, rule, ("input_size=(1, 3, 32, 32).",) * 2)
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    usual = get_default_dtype() if first is None else first.dtype
    device = None if first is None else first.device
    dtypes = list(dtype) if isinstance(dtype, (list, tuple)) else [dtype] * len(shapes)
    if len(dtypes) != len(shapes):
        rule = (f"one for all, or {len(shapes)}", f"全部に 1 つ、または {len(shapes)} 個")
        raise _refusal("dtype", dtype, rule, ("give one for each shape.", "形状ごとに 1 つ渡してください。"))
    made = []
    for shape, chosen in zip(shapes, dtypes):
        kind = np.dtype(usual if chosen is None else chosen)
        fill = creation.ones if kind.kind == "f" else creation.zeros
        made.append(fill(*shape, dtype=kind, device=device))
    return tuple(made)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(n, (int, np.integer)) and n >= 0 for n in value)


def _rows(model: Module) -> tuple[list[Row], dict[int, Row]]:
    """A row for every place of a module in the model, and by the id of a module the row of its first place."""
    rows: list[Row] = []
    by_module: dict[int, Row] = {}
    counted: set[int] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        row = Row(name, type(module).__name__, name.count(".") + 1 if name else 0)
        rows.append(row)
        if id(module) in by_module:
            row.shared = True
            row.outputs = by_module[id(module)].outputs
            continue
        by_module[id(module)] = row
        for p in module.parameters(recurse=False):
            row.shared |= id(p) in counted
            if id(p) not in counted:
                counted.add(id(p))
                row.parameters += p.numel()
                row.trainable += p.numel() * p.requires_grad
    return rows, by_module


@contextlib.contextmanager
def _left_as_it_was(model: Module) -> Iterator[None]:
    """Puts back modes, hooks and buffers of all modules, and the random numbers."""
    modules = list(model.modules())
    kept = [dict(module.__dict__) for module in modules]
    buffers = [(buffer, buffer.array, buffer.array.copy()) for buffer in model.buffers()]
    numbers = get_rng_states()
    try:
        yield
    finally:
        for module, attributes in zip(modules, kept):
            for name in ("training", "_hooks", *module._buffers):
                if name in attributes:
                    module.__dict__[name] = attributes[name]
                else:
                    module.__dict__.pop(name, None)
        for buffer, array, values in buffers:
            buffer.array = array
            array[...] = values
        set_rng_states(numbers)


@contextlib.contextmanager
def _calls_noted(model: Module, by_module: dict[int, Row]) -> Iterator[list[Row]]:
    """The rows of the modules that are running, the innermost last; calls and outputs go into the rows."""
    running: list[Row] = []
    handles = []

    def enter(module: Module, args: Any, kwargs: Any) -> None:
        running.append(by_module[id(module)])

    def leave(module: Module, args: Any, kwargs: Any, output: Any) -> None:
        row = running.pop()
        tensors = list(found(output, Tensor))
        row.calls += 1
        row.outputs[:] = [tuple(x.shape) for x in tensors]
        if not module._modules:
            row.activation_bytes += sum(x.array.nbytes for x in tensors)

    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()
