"""``export_onnx``: a model and example inputs to an ONNX file, by tracing one call."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from ...backend.arrays import BY_TYPE
from ...backend.random import get_rng_state
from ...core.modes import no_grad
from ...core.nested import found, mapped
from ...core.operator import Operator
from ...core.tensor import Tensor
from ...core.trace import Step, Trace, Value
from ...core.traced import Traced
from ...errors import Phrase, error, refusal
from ...nn.evaluating import evaluating
from ...nn.module import Module
from ...nn.uninitialized import is_lazy
from ..files import replacing
from . import (  # noqa: F401 - fill the table
    export_activation,
    export_elementwise,
    export_index,
    export_linear,
    export_normalization,
    export_pool,
    export_recurrent,
    export_reduce,
    export_shape,
)
from .export_dynamic import DynamicAxis
from .export_graph import Graph, Node, number_of
from .export_table import EXPORTERS, Refusal

_OLDEST = 17
_LARGEST = 2**31 - 1


def export_onnx(
    model: Callable[..., Any],
    args: Any,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int = 17,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> Any:
    """Write what ``model(*args)`` computes as an ONNX file, and return it as an ``onnx.ModelProto``.

    model: a Module, exported as it is under ``eval()`` (its training flags come back afterwards), or any function of Tensors.
    args: a Tensor, or a tuple of arguments; Tensors in them, also within tuples, lists and dicts, become the graph's inputs, everything
    else is part of the program. Parameters and buffers keep their names as initializers.
    input_names, output_names: one for each Tensor in args and in the result; ``input``, ``input_1``, ... and ``output``, ... if None.
    opset_version: from 17 to the newest that the installed ``onnx`` knows.
    dynamic_axes: name of an input -> axis -> name of its size, such as ``{"input": {0: "batch"}}``: one size may vary, wherever it occurs
    in the inputs; which axes of the outputs follow is found out. The model is then traced at three sizes, and refused where it does
    more than grow with them.

    The call is traced (``core/trace.py``): loops are unrolled, and what depends on values in Python is an error. The file is written
    whole or not at all, after ``onnx.checker`` has passed it. Raises ArgumentError for what cannot be exported, with operator, layer and
    line; UsageError where the program reads a value.

    >>> import tempfile; from pathlib import Path; import tinygrad_ja as tg
    >>> path = Path(tempfile.mkdtemp(), "model.onnx")
    >>> made = tg.io.export_onnx(tg.nn.Linear(2, 3), tg.ones(1, 2), path)
    >>> [(node.op_type, list(node.input)) for node in made.graph.node], path.stat().st_size > 0
    ([('Gemm', ['input', 'weight', 'bias'])], True)
    """
    try:
        import onnx
    except ImportError:
        raise error("TG-A002", package="onnx", install="onnx>=1.17") from None
    _check_opset(opset_version, onnx.defs.onnx_opset_version())
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    inputs = _named_inputs(args, input_names)

    def written(given: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Value]]:
        return write_graph(record(model, args, given), opset_version, output_names)

    shapes = None
    if dynamic_axes:
        axis = DynamicAxis.read(dynamic_axes, inputs)
        inputs = axis.spread(inputs)
        graph, outputs = written(inputs)
        shapes = axis.free(graph, outputs, inputs, written)
    else:
        graph, outputs = written(inputs)
    made = proto_of(graph, inputs, outputs, shapes)
    _check(made)
    with replacing(path) as file:
        file.write(made.SerializeToString())
    return made


def refuse(reason: Phrase, fix: Phrase) -> Exception:
    """The error of something that cannot be exported."""
    return error("TG-A003", op="export_onnx", reason=reason, fix=fix)


# ---- arguments -----------------------------------------------------------------------------------


def _check_opset(version: Any, newest: int) -> None:
    if not isinstance(version, int) or not _OLDEST <= version <= newest:
        rule = (f"an int from {_OLDEST} to {newest}", f"{_OLDEST} から {newest} までの整数")
        fix = (f"opset_version={_OLDEST}.", f"opset_version={_OLDEST} としてください。")
        raise refusal("export_onnx", "opset_version", version, rule, fix)


def _check(model: Any) -> None:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as failure:
        first = str(failure).strip().splitlines()[0]
        raise refuse(
            (f"onnx.checker does not accept the file: {first}", f"onnx.checker がファイルを受け付けません: {first}"),
            (
                "try a newer opset_version; if that does not help, please report the model.",
                "新しい opset_version を試してください。だめならモデルを報告してください。",
            ),
        ) from failure


def _names(argument: str, given: Sequence[str] | None, usual: str, count: int) -> list[str]:
    if given is None:
        return [f"{usual}_{number}" if number else usual for number in range(count)]
    names = list(given)
    if len(names) != count or len(set(names)) != count or not all(isinstance(name, str) and name for name in names):
        rule = (f"{count} different names, one for each Tensor", f"Tensor ごとに 1 つ、互いに異なる名前 {count} 個")
        fix = (f"{argument}=None, or give {count}.", f"{argument}=None とするか、{count} 個渡してください。")
        raise refusal("export_onnx", argument, names, rule, fix)
    return names


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The Tensors in nested tuples, lists and dicts, in order."""
    for part in found(value, Tensor, *BY_TYPE):
        if type(part) is not Tensor:
            raise refuse(
                (
                    f"an array of shape {part.shape} among args would become a constant",
                    f"args の配列 {part.shape} は定数になってしまいます",
                ),
                ("give tg.from_numpy(array).", "tg.from_numpy(array) を渡してください。"),
            )
        yield part


def with_tensors(value: Any, given: Iterator[Tensor]) -> Any:
    """``value`` with its Tensors replaced, in order, by those of ``given``."""
    return mapped(value, lambda part: type(part) is Tensor, lambda part: next(given))


def _named_inputs(args: tuple[Any, ...], input_names: Sequence[str] | None) -> dict[str, Tensor]:
    tensors = list(tensors_in(args))
    if not tensors:
        raise refuse(
            ("args holds no Tensor, so the graph would have no input", "args に Tensor がないので、グラフの入力がありません"),
            (
                "give an example input: export_onnx(model, tg.zeros(1, 3), path).",
                "入力の例を渡してください: export_onnx(model, tg.zeros(1, 3), path)。",
            ),
        )
    return dict(zip(_names("input_names", input_names, "input", len(tensors)), tensors))


# ---- the traced call -----------------------------------------------------------------------------


def record(model: Callable[..., Any], args: tuple[Any, ...], inputs: Mapping[str, Tensor]) -> Trace:
    """Trace one call in evaluation mode. The model is as before afterwards, whatever happens."""
    names = {}
    if isinstance(model, Module):
        if any(is_lazy(x) for x in [*model.parameters(), *model.buffers()]):
            with no_grad(), evaluating(model):
                model(*args)
        names = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    drawn = get_rng_state()
    mode = evaluating(model) if isinstance(model, Module) else contextlib.nullcontext()
    with no_grad(), mode, Trace(names, _place_of(model), _has_no_nodes) as trace, _keeping_state(model):
        traced = iter([trace.input(x, name) for name, x in inputs.items()])
        made = list(tensors_in(model(*with_tensors(args, traced))))
        for y in made:
            trace.output(y)
    if get_rng_state() != drawn:
        raise refuse(
            (
                "random numbers were drawn in the call; the file would hold this one draw for ever",
                "呼び出しの中で乱数が使われました。その値が定数として残ってしまいます",
            ),
            (
                "give the noise as an input, or return what needs none (a VAE's mean).",
                "乱数を入力として渡すか、乱数の要らない値 (VAE の平均など) を返してください。",
            ),
        )
    if not made:
        raise refuse(
            ("the result holds no Tensor", "結果に Tensor がありません"),
            ("return a Tensor, or a tuple, list or dict of them.", "Tensor か、その tuple、list、dict を返してください。"),
        )
    return trace


@contextlib.contextmanager
def _keeping_state(model: Any) -> Iterator[None]:
    """A buffer that the block changes, or an attribute that it leaves a traced Tensor in, is an error. Attributes and buffers come back."""
    if not isinstance(model, Module):
        yield
        return
    attributes = {module: dict(vars(module)) for module in model.modules()}
    buffers = {name: (buffer, buffer.array) for name, buffer in model.named_buffers()}
    try:
        yield
        for name, buffer in model.named_buffers():
            if name in buffers and buffer.array is not buffers[name][1]:
                raise _keeps_state(name)
        for path, module in model.named_modules():
            for name, value in vars(module).items():
                if any(type(x.array) is Traced for x in found(value, Tensor)):
                    raise _keeps_state(f"{path}.{name}" if path else name)
    finally:
        for module, before in attributes.items():
            vars(module).clear()
            vars(module).update(before)
        for buffer, array in buffers.values():
            buffer.array = array


def _keeps_state(name: str) -> Exception:
    return refuse(
        (
            f"the call changes '{name}', and the file could not keep it from one call to the next",
            f"呼び出しが '{name}' を変更しますが、ファイルは次の呼び出しまでそれを保てません",
        ),
        (
            "take the state as an argument and return the new one.",
            "状態を引数で受け取り、新しい状態を返してください。",
        ),
    )


def _has_no_nodes(operator: Operator, arguments: dict[str, Any]) -> bool:
    """Whether an operator is exported as its reference."""
    exporter = EXPORTERS.get(operator.name)
    if exporter is not None and (exporter.when is None or exporter.when(arguments)):
        return False
    return operator.reference is not None


class Place(NamedTuple):
    """Where a step was recorded: the path of the innermost layer, and the user's line."""

    layer: str
    line: str


_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _place_of(model: Any) -> Callable[[Any], Place]:
    paths = {id(module): name for name, module in model.named_modules()} if isinstance(model, Module) else {}

    def place(operator: Any) -> Place:
        frame: FrameType | None = sys._getframe(1)
        layer, line = None, ""
        while frame is not None:
            if not line and not frame.f_code.co_filename.startswith((_HERE, "<")):
                line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            if layer is None and frame.f_code.co_name == "forward":
                layer = paths.get(id(frame.f_locals.get("self")))
            frame = frame.f_back if layer is None or not line else None
        return Place(layer or "", line)

    return place


# ---- from the trace to the file ------------------------------------------------------------------


def write_graph(trace: Trace, opset: int, output_names: Sequence[str] | None) -> tuple[Graph, dict[str, Value]]:
    """The graph of a trace, and its outputs by name."""
    graph = Graph(opset)
    for value in trace.inputs:
        graph.names[value] = graph.reserve(value.name)
    for name in output_names or ():
        graph.reserve(name)
    for step in _needed_steps(trace):
        _write_step(graph, step)
    graph.place = ""
    return graph, _name_outputs(graph, trace, output_names)


def _needed_steps(trace: Trace) -> list[Step]:
    """The steps that the outputs need, in order."""
    needed, kept = {*trace.outputs}, []
    for step in reversed(trace.steps):
        if needed.intersection(found(step.result, Value)):
            kept.append(step)
            needed.update(step.inputs)
    return kept[::-1]


def _write_step(graph: Graph, step: Step) -> None:
    place = step.note
    graph.place = "".join(f"/{part}" for part in place.layer.split(".") if part)
    exporter = EXPORTERS.get(step.operator.name)
    try:
        if exporter is None or (exporter.when is not None and not exporter.when(step.arguments)):
            raise Refusal(*_UNKNOWN)
        made = exporter.write(graph, step)
    except Refusal as refusal:
        layer = (f" in layer '{place.layer}'", f" (層 '{place.layer}')") if place.layer else ("", "")
        line = f", {place.line}" if place.line else ""
        given = ", ".join(f"{value.shape} {value.dtype}" for value in step.inputs)
        reason = refusal.reason if isinstance(refusal.reason, tuple) else (refusal.reason,) * 2
        raise refuse(
            (
                f"operator '{step.operator.name}'{layer[0]} on {given}{line}: {reason[0]}",
                f"演算 '{step.operator.name}'{layer[1]}、入力 {given}{line}: {reason[1]}",
            ),
            refusal.fix,
        ) from None
    outputs = step.outputs
    for value, name in zip(outputs, [made] if len(outputs) == 1 and not isinstance(made, (tuple, list)) else made):
        graph.names[value] = name


_UNKNOWN = (
    ("ONNX has no node for it", "対応する ONNX のノードがありません"),
    (
        "compute this part outside of the exported model, or with other operators (docs/onnx.md lists those that can be exported).",
        "この部分を書き出すモデルの外で計算するか、ほかの演算で書いてください (書き出せる演算は docs/ja/onnx.md にあります)。",
    ),
)


def _name_outputs(graph: Graph, trace: Trace, output_names: Sequence[str] | None) -> dict[str, Value]:
    names = _names("output_names", output_names, "output", len(trace.outputs))
    given = [graph.name(value) for value in trace.outputs]
    own = {name for node in graph.nodes for name in node.outputs}
    renamed: dict[str, str] = {}
    for old, name in zip(given, names):
        if old in own and old not in renamed:
            graph.rename(old, name)
            renamed[old] = name
        else:
            graph.nodes.append(Node("Identity", [renamed.get(old, old)], [name], {}, graph.reserve(f"{name}/Identity")))
    graph.sweep(names)
    return dict(zip(names, trace.outputs))


def proto_of(
    graph: Graph, inputs: Mapping[str, Tensor], outputs: Mapping[str, Value], shapes: Mapping[str, Sequence[Any]] | None = None
) -> Any:
    """The ``ModelProto``. ``shapes``: name of an input or output -> its shape, where some of it is symbolic."""
    from onnx import helper, numpy_helper

    def described(name: str, value: Any) -> Any:
        return helper.make_tensor_value_info(name, number_of(value.dtype), (shapes or {}).get(name, value.shape))

    weight = sum(array.nbytes for array in graph.initializers.values())
    if weight > _LARGEST:
        raise refuse(
            (
                f"the constants have {weight} bytes; an ONNX file holds at most {_LARGEST}",
                f"定数が {weight} バイトあります。ONNX のファイルは {_LARGEST} バイトまでです",
            ),
            ("export the model in parts.", "モデルを分けて書き出してください。"),
        )
    made = helper.make_graph(
        [helper.make_node(n.op, n.inputs, n.outputs, name=n.name, **n.attributes) for n in graph.nodes],
        "tinygrad_ja",
        [described(name, x) for name, x in inputs.items()],
        [described(name, value) for name, value in outputs.items()],
        [
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            for name, array in graph.initializers.items()
        ],
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    return helper.make_model(
        made,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="tinygrad_ja",
    )
