"""Small ONNX files for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

node = helper.make_node


def value(name: str, shape: Sequence[Any] | None = None, dtype: int = onnx.TensorProto.FLOAT) -> Any:
    """A declared input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, data: Any, dtype: Any = None) -> Any:
    """An initializer."""
    return numpy_helper.from_array(np.array(data, dtype=dtype), name)


def made(
    nodes: Sequence[Any],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = ("y",),
    initializers: Sequence[Any] = (),
    opset: int = 17,
    functions: Sequence[Any] = (),
    domains: Sequence[tuple[str, int]] = (),
) -> Any:
    """A model; an input or output that is a str is a float32 value of any shape."""
    sides = [[value(item) if isinstance(item, str) else item for item in side] for side in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "graph", *sides, list(initializers))
    opsets = [helper.make_opsetid(*pair) for pair in (("", opset), *domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8)


def written(path: Path, *args: Any, **options: Any) -> Path:
    """``made`` in a file."""
    path.write_bytes(made(*args, **options).SerializeToString())
    return path
