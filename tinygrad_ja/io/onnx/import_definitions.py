"""Operators that run as the standard defines them: ONNX states each as a function of simpler operators, and that function is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...ops.creation import from_numpy
from .import_table import Call, Refusal, imports
from .import_tensor import DTYPES

if TYPE_CHECKING:
    from .import_graph import Graph

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


@imports("FlexAttention", domain="ai.onnx.preview", from_source=True)
@imports(
    "AffineGrid",
    "Attention",
    "CausalConvWithState",
    "LinearAttention",
    "RotaryEmbedding",
    "SwiGLU",
    from_source=True,
)
def _run_definition(call: Call, *inputs: Any) -> Any:
    key = tuple([value if value is None else (value.dtype, value.ndim) for value in inputs]), call.device
    known = call.node.definitions
    if key not in known:
        graph, general = _definition(call, inputs)
        if not general:
            return tuple(call.run.graph(graph, inputs, {}))
        known[key] = graph
    return tuple(call.run.graph(known[key], inputs, {}))


def _definition(call: Call, inputs: tuple[Any, ...]) -> tuple[Graph, bool]:
    """The definition for inputs of these types and ranks, as a graph, and whether it holds for every size."""
    import onnx

    node = call.node
    proto = onnx.NodeProto.FromString(node.source)
    schema = onnx.defs.get_schema(node.op_type, node.opset, node.domain)
    for name, described in schema.attributes.items():
        if name not in node.attributes and described.default_value.type:
            proto.attribute.append(described.default_value)
    body = _function(schema, proto, inputs, open_shapes=True)
    general = bool(body.node)
    if not general:
        body = _function(schema, proto, inputs, open_shapes=False)
    if not body.node:
        raise Refusal(("the standard has no definition for these inputs", "これらの入力に対する定義が標準にありません"))
    graph = call.run.model.reader().definition(proto, body)
    for inner in graph.all():
        inner.fixed = {name: from_numpy(array).to(call.device) for name, array in inner.stored.items()}
    return graph, general


def _function(schema: Any, proto: Any, inputs: tuple[Any, ...], open_shapes: bool) -> Any:
    import onnx

    if schema.has_function:
        return schema.function_body
    types = [_type_of(value, open_shapes).SerializeToString() for value in inputs]
    return onnx.FunctionProto.FromString(schema.get_context_dependent_function(proto.SerializeToString(), types))


def _type_of(value: Any, open_shape: bool) -> Any:
    """The TypeProto of an input. Most definitions ask for ranks only, some for sizes."""
    import onnx

    if value is None:
        return onnx.TypeProto()
    return onnx.helper.make_tensor_type_proto(_NUMBERS[value.dtype], [None if open_shape else n for n in value.shape])
