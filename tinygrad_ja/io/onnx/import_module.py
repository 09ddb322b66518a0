"""``load_onnx``: an ONNX file as a Module that runs, trains and moves like any other."""

from __future__ import annotations

import copy
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...backend.arrays import is_array
from ...backend.devices import Device, device_of, get_default_device
from ...core.tensor import Tensor
from ...errors import Phrase, TinygradError, error
from ...nn.module import Module
from ...nn.parameter import Parameter
from ...ops.creation import from_numpy, tensor
from ..files import Fault, check_size, damaged, opened
from . import (  # noqa: F401 - each file enters its operators into the table
    import_control,
    import_conv,
    import_definitions,
    import_elementwise,
    import_image,
    import_index,
    import_loss,
    import_norm,
    import_pool,
    import_product,
    import_quantize,
    import_random,
    import_recurrent,
    import_reduce,
    import_resize,
    import_sequence,
    import_shape,
    import_signal,
)
from .import_graph import OLDEST_OPSET, Graph, Reader, Value
from .import_run import Run

_NESTED = 16


class OnnxModule(Module):
    """A model read from an ONNX file; ``load_onnx`` makes it.

    Called with the graph's inputs in their order, or by name, it returns the output, or a tuple of several. What the file calls ``fc.weight``
    is the attribute ``model.fc.weight`` and the key ``"fc.weight"`` of ``state_dict()``. In ``eval()`` mode, where it starts, the graph
    runs as it is written; in ``train()`` mode Dropout drops and BatchNormalization uses the batch and updates its running statistics.

    graph: the nodes. path: the file. input_names, output_names: of the graph. max_elements: of any value that a node may make.
    max_runs: of nodes in one pass. Both can be changed.
    """

    def __init__(
        self, graph: Graph, path: str, reader: Reader, trained: Callable[[str], bool], max_elements: int, max_runs: int
    ) -> None:
        super().__init__()
        self.path = path
        self.graph = graph
        self.max_elements = max_elements
        self.max_runs = max_runs
        self._opsets = dict(reader.opsets)
        self._limits = reader.max_nodes, reader.max_bytes
        self._used: Counter[tuple[Module, str]] = Counter()
        for inner in graph.all():
            for name in list(inner.stored):
                array = inner.stored.pop(name)  # what the file gave is let go before the next one is copied
                parameter = name in inner.trained and name not in reader.control and array.dtype.kind == "f"
                value = Parameter(array.copy(), trained(name)) if parameter else from_numpy(array.copy())
                inner.places[name] = self._keep(name, value, name in inner.trained)
        self.eval()

    @property
    def input_names(self) -> list[str]:
        """Names of the graph's inputs in their order."""
        return [value.name for value in self.graph.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the graph's outputs in their order."""
        return self.graph.outputs

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the graph. Inputs are Tensors or arrays of the declared dtypes and shapes, lists for sequences, None for an empty optional.

        Raises ArgumentError, DtypeError or ShapeError for inputs other than the declared ones, StateError (TG-F012) where a node fails,
        StateError (TG-F008) above ``max_elements`` or ``max_runs``.
        """
        values = [_checked(value, given) for value, given in zip(self.graph.inputs, self._in_order(inputs, named))]
        results = Run(self, self._device(values)).graph(self.graph, values, {})
        return results[0] if len(results) == 1 else tuple(results)

    def _device(self, values: list[Any]) -> Device:
        """Of the first Tensor among the inputs, else of the model."""
        given = (value for value in values if type(value) is Tensor)
        first = next(itertools.chain(given, self.parameters(), self.buffers()), None)
        return get_default_device() if first is None else device_of(first.array)

    def _in_order(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        names = self.input_names
        given = {**dict(zip(names, inputs)), **named}
        if len(inputs) > len(names) or set(given) != set(names) or len(inputs) + len(named) != len(names):
            raise error(
                "TG-A001",
                op=f"OnnxModule ({self.path})",
                argument=("the inputs", "入力"),
                value=[*[f"#{i}" for i in range(len(inputs))], *named],
                rule=(f"one for each of {', '.join(names) or '(none)'}", f"{', '.join(names) or '(なし)'} に 1 つずつ"),
                fix=("pass them in this order, or by name.", "この順で、または名前をつけて渡してください。"),
            )
        return [given[name] for name in names]

    def reader(self) -> Reader:
        """A reader for the standard's definitions, in the versions of this file."""
        return Reader(self.path, "", self._opsets, (), *self._limits)

    def _keep(self, name: str, value: Tensor, persistent: bool) -> tuple[Module, str]:
        """Register a constant under its name, or a similar one that is free; returns where."""
        owner, wanted = self._owner(name)
        attribute = self._free_name(owner, wanted)
        if isinstance(value, Parameter):
            owner.register_parameter(attribute, value)
        else:
            owner.register_buffer(attribute, value, persistent=persistent)
        return owner, attribute

    def _owner(self, name: str) -> tuple[Module, str]:
        """The module to which the dots of a name lead, and what is left of the name."""
        parts = name.split(".")
        owner: Module = self
        if len(parts) > _NESTED or not all(parts):
            return owner, name
        for i, part in enumerate(parts[:-1]):
            if not _is_taken(owner, part):
                owner.add_module(part, _Group())
            inner = owner.__dict__.get(part)
            if not isinstance(inner, _Group):
                return owner, ".".join(parts[i:])
            owner = inner
        return owner, parts[-1]

    def _free_name(self, owner: Module, name: str) -> str:
        wanted = name.replace(".", "_") or "constant"
        while True:
            self._used[owner, wanted] += 1
            number = self._used[owner, wanted]
            free = wanted if number == 1 else f"{wanted}_{number}"
            if not _is_taken(owner, free):
                return free

    def __repr__(self) -> str:
        lines = [f"OnnxModule({os.path.basename(self.path)!r})"]
        lines += [f"  input   {value}" for value in self.graph.inputs]
        lines += [f"  {line}" for line in _shown(self.graph, set())]
        lines += [f"  output  {name}" for name in self.graph.outputs]
        return "\n".join(lines)


class _Group(Module):
    """What the names of a file have in common up to a dot."""


def load_onnx(
    path: str | os.PathLike[str],
    *,
    requires_grad: bool | Callable[[str], bool] = True,
    max_bytes: int = 2**31,
    max_nodes: int = 200_000,
    max_elements: int = 2**28,
    max_runs: int = 2_000_000,
) -> OnnxModule:
    """Read an ONNX model (opset 6 or newer) as a Module in ``eval()`` mode. Needs the package ``onnx``.

    The file's floating initializers become Parameters, except where they set an operator up (running statistics, limits, scales); the
    others become buffers. Data in files of their own is read from the model's folder only.

    requires_grad: whether Parameters require gradients, or a function of the name that says so.
    max_bytes: largest file that is read, and most bytes of constants in it and beside it. max_nodes: most nodes in it, bodies
        of functions counted where they are used.
    max_elements: most elements of any value that a node makes, so that a small file cannot ask for much memory.
    max_runs: most nodes that run in one pass, so that a loop ends.
    Raises StateError that names the file and the fault for a damaged file (TG-F005), for operators and types that cannot be imported,
    all at once (TG-F011), above a limit (TG-F008); FileNotFoundError for a missing file; ArgumentError where ``onnx`` is not installed.

    >>> import tempfile, os, onnx, numpy as np, tinygrad_ja as tg
    >>> from onnx import helper
    >>> x, y = [helper.make_tensor_value_info(name, 1, ["N", 2]) for name in "xy"]
    >>> scale = onnx.numpy_helper.from_array(np.array([10, 1], dtype=np.float32), "scale")
    >>> nodes = [helper.make_node("Mul", ["x", "scale"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    >>> path = os.path.join(tempfile.mkdtemp(), "a.onnx")
    >>> made = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [scale]), opset_imports=[helper.make_opsetid("", 17)])
    >>> onnx.save(made, path)
    >>> model = load_onnx(path)
    >>> model
    OnnxModule('a.onnx')
      input   x float32 (N, 2)
      Mul     x, scale -> s
      Relu    s -> y
      output  y
    >>> model(tg.tensor([[1.0, -1.0]]))
    tensor([[10.,  0.]], grad_fn=<relu>)
    """
    path = os.fspath(path)
    proto = _parsed(path, max_bytes)
    functions = copy.deepcopy(list(proto.functions))  # the file's own ones would keep all of it in memory
    reader = Reader(path, os.path.dirname(path), _opsets(path, proto), functions, max_nodes, max_bytes)
    try:
        graph = reader.read(proto.graph)
    except TinygradError:
        raise
    except Exception as failure:  # whatever a foreign file can bring about, the user learns which file it was
        raise reader.damage("", f"{type(failure).__name__}: {failure}") from failure
    del proto
    trained = requires_grad if callable(requires_grad) else lambda name: bool(requires_grad)
    return OnnxModule(graph, path, reader, trained, max_elements, max_runs)


def _parsed(path: str, max_bytes: int) -> Any:
    """The ModelProto in a file."""
    check_size(path, max_bytes)
    try:
        import onnx
    except ImportError as failure:
        raise error("TG-A002", package="onnx", install="onnx>=1.17") from failure
    with opened(path, "ONNX") as (file, size):
        try:
            proto = onnx.ModelProto.FromString(file.read(size))
        except Exception as failure:  # protobuf's own classes differ from release to release
            raise Fault(f"it cannot be parsed ({failure})", f"解釈できません ({failure})") from failure
    if not proto.HasField("graph"):
        raise damaged(path, "ONNX", ("it holds no graph", "グラフがありません"))
    return proto


def _opsets(path: str, proto: Any) -> dict[str, int]:
    """Domain -> version of its operators. Raises StateError for versions of ONNX's own that are too old or too new."""
    import onnx

    versions = {("" if entry.domain == "ai.onnx" else entry.domain): entry.version for entry in proto.opset_import}
    version = versions.setdefault("", 1)
    newest = onnx.defs.onnx_opset_version()
    uses_standard = any([node.domain in ("", "ai.onnx") for node in proto.graph.node])
    if uses_standard and not OLDEST_OPSET <= version <= newest:
        english = f"its opset {version} is not among {OLDEST_OPSET} to {newest}, which tinygrad_ja and this onnx package know"
        raise damaged(path, "ONNX", (english, f"opset {version} は対応範囲 {OLDEST_OPSET} から {newest} の外です"))
    return versions


def _is_taken(owner: Module, name: str) -> bool:
    return name in owner.__dict__ or hasattr(type(owner), name)


def _checked(declared: Value, given: Any) -> Any:
    """An input as a Tensor, if it is what the file declares."""
    if given is None or (isinstance(given, (list, tuple)) and declared.dtype is None):
        return given
    value = given if type(given) is Tensor else from_numpy(np.asarray(given)) if isinstance(given, np.generic) else given
    if is_array(value):
        value = Tensor(value)
    if type(value) is not Tensor:
        value = tensor(value, dtype=declared.dtype)
    if declared.dtype is not None and not _same_kind(value.dtype, declared.dtype):
        what = f"OnnxModule, input '{declared.name}'"
        raise error("TG-T004", op=what, dtype=value.dtype, allowed=str(declared.dtype), fix=f"tg.{declared.dtype}")
    if declared.shape is not None and not _fits(value.shape, declared.shape):
        rule: Phrase = (f"as the file declares: {declared}", f"ファイルの宣言どおり: {declared}")
        fix = ("pass an input of this shape.", "この形状の入力を渡してください。")
        raise error("TG-S002", op=f"OnnxModule, input '{declared.name}'", rule=rule, shapes=tuple(value.shape), fix=fix)
    return value


def _same_kind(given: np.dtype, declared: np.dtype) -> bool:
    """The declared dtype, or another float for a float, since a model may have been moved to float16 or float64."""
    return given == declared or given.kind == declared.kind == "f"


def _fits(shape: tuple[int, ...], declared: tuple[int | str | None, ...]) -> bool:
    return len(shape) == len(declared) and all([not isinstance(n, int) or n == size for size, n in zip(shape, declared)])


def _shown(graph: Graph, seen: set[int]) -> Iterator[str]:
    """A line for each node, and below it the graphs in it; a body that several nodes share is shown once."""
    width = max([len(node.op_type) for node in graph.nodes], default=0)
    for node in graph.nodes:
        inputs = [name or "-" for name in node.inputs]
        outputs = [name or "-" for name in node.outputs]
        yield f"{node.op_type:{max(width, 6)}}  {', '.join(inputs)} -> {', '.join(outputs)}"
        for inner in node.graphs():
            if id(inner) not in seen:
                seen.add(id(inner))
                yield from [f"    {line}" for line in _shown(inner, seen)]
