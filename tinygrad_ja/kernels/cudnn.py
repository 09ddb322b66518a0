"""NVIDIA's cuDNN: graphs of one node each, and the plans by which they run. Loaded by nobody who has not turned it on (``backends.py``).

cuDNN is told what to compute as a graph, and looks for a plan: a kernel for these shapes, dtypes and this GPU. That takes long, so plans are
kept, and so is the answer that there is none. What operators make of it is in ``cupy_cudnn.py``.

This is the only file that knows the library. It is the package ``nvidia-cudnn-frontend``, whose Python part changes between versions.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import sysconfig
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend.devices import load_cuda
from ..errors import error

PLANS = 256
"""Plans that are kept, and refusals; the one that was not used for longest goes first."""

TYPES = {"e": "HALF", "f": "FLOAT"}
"""cuDNN's names of the dtypes that it is offered, by NumPy's characters. Sums are always taken in single precision."""

ALIGNMENT = 16
"""Bytes: cuDNN takes it that arrays begin at a multiple, and chooses kernels that load as much at once."""

# ---- graphs --------------------------------------------------------------------------------------


class Form(NamedTuple):
    """What a graph knows of an array: sizes, strides in elements, and the character of the dtype."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


def form_of(array: Any) -> Form:
    """The form of an array. Along axes of size 1, where arrays may have any stride, also 0, it has the one that a contiguous array has."""
    strides: list[int] = []
    behind = 1
    for size, step in zip(reversed(array.shape), reversed(array.strides)):
        stride = behind if size == 1 else step // array.itemsize
        strides.insert(0, stride)
        behind = stride * size
    return Form(tuple(array.shape), tuple(strides), array.dtype.char)


class Graph:
    """One node of cuDNN between inputs and outputs of given forms.

    node: one of the functions below, called with the graph and a tensor for each input; it returns a tensor for each output.
    settings: its keywords. ``numbers``: tensors that are read from the host's memory, each with that memory.
    """

    def __init__(
        self,
        library: Any,
        node: Callable[..., Sequence[Any]],
        inputs: Sequence[Form],
        outputs: Sequence[Form],
        settings: dict[str, Any],
        handle: Any = None,
    ) -> None:
        self.library = library
        single = library.data_type.FLOAT
        self.native = library.pygraph(
            io_data_type=single, intermediate_data_type=single, compute_data_type=single, handle=handle
        )
        self.numbers: list[tuple[Any, np.ndarray]] = []
        self.inputs = [
            self.native.tensor(name=f"input{k}", dim=list(x.shape), stride=list(x.strides), data_type=self._type(x))
            for k, x in enumerate(inputs)
        ]
        self.outputs = list(node(self, *self.inputs, **settings))
        for tensor, y in zip(self.outputs, outputs):
            tensor.set_output(True).set_dim(list(y.shape)).set_stride(list(y.strides)).set_data_type(self._type(y))

    def _type(self, form: Form) -> Any:
        return getattr(self.library.data_type, TYPES[form.dtype])

    def number(self, value: float) -> Any:
        """A tensor for a number."""
        ones = [1, 1, 1, 1]
        single = self.library.data_type.FLOAT
        made = self.native.tensor(
            name=f"number{len(self.numbers)}", dim=ones, stride=ones, data_type=single, is_pass_by_value=True
        )
        self.numbers.append((made, np.array([value], np.float32)))
        return made

    def plan(self, exact: bool) -> int:
        """Look for a kernel; returns the bytes of memory that it wants to work in. exact: products of single precision may not be taken
        in TF32. Raises whatever the library raises where there is no kernel."""
        native, heuristics, notes = self.native, self.library.heur_mode, self.library.numerical_note
        native.validate()
        native.build_operation_graph()
        native.create_execution_plans([heuristics.A, heuristics.FALLBACK])
        unwanted = [notes.DOWN_CONVERT_INPUTS, notes.REDUCED_PRECISION_REDUCTION]
        native.deselect_numeric_notes([*unwanted, notes.TENSOR_CORE] if exact else unwanted)
        native.check_support()
        native.build_plans()
        return int(native.get_workspace_size())


def fprop(graph: Graph, x: Any, w: Any, **geometry: Any) -> list[Any]:
    """A convolution."""
    return [graph.native.conv_fprop(image=x, weight=w, **geometry)]


def dgrad(graph: Graph, g: Any, w: Any, **geometry: Any) -> list[Any]:
    """Its gradient by the image."""
    return [graph.native.conv_dgrad(loss=g, filter=w, **geometry)]


def wgrad(graph: Graph, x: Any, g: Any, **geometry: Any) -> list[Any]:
    """Its gradient by the weight."""
    return [graph.native.conv_wgrad(image=x, loss=g, **geometry)]


def batchnorm(graph: Graph, x: Any, w: Any, b: Any, mean: Any, variance: Any, eps: float) -> list[Any]:
    """Output, mean, 1/√(variance + eps), and the two running statistics after this batch, of which only this batch counts."""
    momentum = graph.number(1.0)
    made = graph.native.batchnorm(
        input=x, scale=w, bias=b, in_running_mean=mean, in_running_var=variance, epsilon=graph.number(eps), momentum=momentum
    )
    return list(made)


def batchnorm_backward(graph: Graph, g: Any, x: Any, w: Any, mean: Any, scale: Any) -> list[Any]:
    """Gradients of input, weight and bias."""
    return list(graph.native.batchnorm_backward(grad=g, input=x, scale=w, mean=mean, inv_variance=scale))


def sdpa(graph: Graph, q: Any, k: Any, v: Any, bias: Any = None, *, scale: float) -> list[Any]:
    """Attention, and the logarithm of each row's sum of exponentials."""
    return list(graph.native.sdpa(q=q, k=k, v=v, bias=bias, attn_scale=scale, generate_stats=True))


def sdpa_backward(
    graph: Graph, q: Any, k: Any, v: Any, y: Any, g: Any, logsum: Any, bias: Any = None, *, scale: float
) -> list[Any]:
    """Gradients of query, key and value."""
    return list(graph.native.sdpa_backward(q=q, k=k, v=v, o=y, dO=g, stats=logsum, bias=bias, attn_scale=scale))


# ---- plans ---------------------------------------------------------------------------------------


class Gpu:
    """What is asked of CuPy. Tests put another in its place."""

    def __init__(self) -> None:
        import cupy  # type: ignore[import-not-found, unused-ignore]

        self._cuda, self.empty = cupy.cuda, cupy.empty

    def device_of(self, array: Any) -> int:
        """The number of an array's device."""
        return int(array.device.id)

    def stream(self) -> int:
        """The stream to which calls go now."""
        return int(self._cuda.get_current_stream().ptr)

    def capturing(self) -> bool:
        """Whether that stream records a CUDA graph; looking for a plan then could spoil it."""
        return bool(self._cuda.get_current_stream().is_capturing())

    def allows_tf32(self) -> bool:
        """Whether CuPy was asked for TF32, by ``CUPY_TF32=1`` or a compute type."""
        from cupy._core import _routines_linalg

        found = _routines_linalg.get_compute_type(np.dtype(np.float32))
        return bool(found == _routines_linalg.COMPUTE_TYPE_TF32)


class _Plan(NamedTuple):
    graph: Graph
    nbytes: int


class Engine:
    """Runs nodes by plans of cuDNN, each of which is looked for once."""

    def __init__(self, library: Any, gpu: Any) -> None:
        self.library, self.gpu = library, gpu
        self.plans: OrderedDict[Any, _Plan | str] = OrderedDict()
        self._handles: dict[int, Any] = {}
        self._lock = threading.Lock()  # neither a handle nor a plan serves two threads at a time

    def run(self, node: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], **settings: Any) -> bool:
        """Compute ``outputs`` from ``inputs``, arrays of float16 and float32 with as many axes as the node wants. False when cuDNN cannot;
        then the outputs hold nothing."""
        gpu, device = self.gpu, self.gpu.device_of(outputs[0])  # the current one: outputs have just been made
        if any([gpu.device_of(x) != device for x in inputs]) or gpu.capturing():
            return False
        inputs = [x.copy() if x.data.ptr % ALIGNMENT else x for x in inputs]
        forms = tuple(map(form_of, inputs)), tuple(map(form_of, outputs))
        exact = inputs[0].dtype == np.float32 and not gpu.allows_tf32()
        key = (node, *forms, tuple(settings.items()), device, exact)
        with self._lock:
            try:
                plan = self._plan(key, node, forms, settings, device, exact)
                if isinstance(plan, str):
                    return False
                handle = self._handle(device)
                self.library.set_stream(handle=handle, stream=gpu.stream())
                space = gpu.empty(
                    max(plan.nbytes, 1), np.uint8
                )  # goes back to CuPy's pool, whose blocks a stream uses in order
                pack = {tensor: host.ctypes.data for tensor, host in plan.graph.numbers}
                pack.update(zip(plan.graph.inputs, [x.data.ptr for x in inputs]))
                pack.update(zip(plan.graph.outputs, [y.data.ptr for y in outputs]))
                plan.graph.native.execute(pack, space.data.ptr, handle=handle)
            except MemoryError:  # the usual kernel may want less
                return False
            except Exception as failure:  # whatever it is, the operator can do without cuDNN
                self.plans[key] = f"{type(failure).__name__}: {failure}"
                return False
        return True

    def refusals(self) -> list[tuple[Callable[..., Any], tuple[Form, ...], str]]:
        """Node, inputs and reason of what was offered in vain."""
        with self._lock:
            return [(node, inputs, plan) for (node, inputs, *_), plan in self.plans.items() if isinstance(plan, str)]

    def _plan(self, key: Any, node: Any, forms: Any, settings: dict[str, Any], device: int, exact: bool) -> _Plan | str:
        known = self.plans.get(key)
        if known is None:
            while len(self.plans) >= PLANS:
                self.plans.popitem(last=False)
            inputs, outputs = forms
            graph = Graph(self.library, node, inputs, outputs, settings, self._handle(device))
            known = self.plans[key] = _Plan(graph, graph.plan(exact))
        self.plans.move_to_end(key)
        return known

    def _handle(self, device: int) -> Any:
        if device not in self._handles:
            self._handles[device] = self.library.create_handle()
        return self._handles[device]


# ---- the library ---------------------------------------------------------------------------------


def library() -> Any:
    """The package, imported."""
    _load_from_path()
    import cudnn

    return cudnn


@functools.cache
def _load_from_path() -> None:
    """Load cuDNN where only Python's path leads to it: a package of the user, in ``PYTHONPATH``, or below a virtual environment.

    The frontend looks into the environment's own folder, and else has the system search for the name, which finds what is loaded.
    """
    own, file = Path(sysconfig.get_path("purelib")), Path("nvidia", "cudnn", "lib", "libcudnn.so.9")
    found = [folder / file for folder in (own, *map(Path, sys.path)) if (folder / file).exists()]
    if found and found[0] != own / file:
        ctypes.CDLL(str(found[0]))


def checked_library() -> Any:
    """The library, once what it loads itself is there. Raises ArgumentError that says what to install."""
    try:
        found = library()
        found.backend_version()
        _load_runtime()
    except Exception as failure:
        cuda = 12 if load_cuda().xp.cuda.runtime.runtimeGetVersion() < 13000 else 13
        packages = f"nvidia-cudnn-frontend>=1.24,<1.29' 'nvidia-cudnn-cu{cuda}>=9.10,<10"
        raise error("TG-A002", package="cudnn", install=packages) from failure
    return found


def _load_runtime() -> None:
    """Load CUDA's runtime: CuPy has it inside of itself, but the frontend asks the system for it by its name when it looks for a plan."""
    from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy

    load_nvidia_dynamic_lib("cudart")
