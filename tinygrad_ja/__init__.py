"""tinygrad_ja: automatic differentiation over NumPy and CuPy with PyTorch's names, made to be read.

>>> import tinygrad_ja as tg
>>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> y = (x * x).sum()
>>> y.backward()
>>> x.grad
tensor([2., 4., 6.])
"""

from functools import cache as _cache
from typing import TYPE_CHECKING as _TYPE_CHECKING

import numpy as _np

from . import errors
from .backend.arrays import array_module
from .backend.devices import (
    Device,
    cuda_is_available,
    device,
    get_default_device,
    get_default_dtype,
    set_default_device,
    set_default_dtype,
)
from .backend.memory import keep_freed_memory as _keep_freed_memory
from .backend.random import Generator, default_generator, get_rng_state, manual_seed, set_rng_state
from .backend.threads import get_num_threads, set_num_threads
from .core.checkpoint import checkpoint
from .core.modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .core.tensor import Tensor
from .core.transforms import backward, grad
from .ops.activation import celu, prelu, relu, selu, threshold
from .ops.arithmetic import *
from .ops.comparison import *
from .ops.conv import *
from .ops.conversion import *
from .ops.counting import *
from .ops.creation import *
from .ops.decomposition import *
from .ops.diagonal import *
from .ops.distance import *
from .ops.exponential import *
from .ops.extremum import *
from .ops.indexing import *
from .ops.join import *
from .ops.linalg import bmm, dot, einsum, inner, matmul, mm, mv, outer
from .ops.norms import dist, norm, renorm
from .ops.order import *
from .ops.padding import constant_pad_nd
from .ops.piecewise import *
from .ops.power import *
from .ops.products import *
from .ops.random import dropout
from .ops.rearrange import *
from .ops.reduce import *
from .ops.scan import *
from .ops.scatter import *
from .ops.selection import *
from .ops.shape import *
from .ops.softmax import log_softmax, softmax
from .ops.solve import *
from .ops.special import *
from .ops.statistics import *
from .ops.strided import *

from . import autograd, backends, cuda, func, io, kernels, linalg, nn, optim  # isort: skip
from .config import show_config
from .io import load, save

from . import amp  # isort: skip - its lists name operators, which are all there now
from .amp import autocast, is_autocast_enabled  # isort: skip

float16 = half = _np.dtype(_np.float16)
float32 = float = _np.dtype(_np.float32)
float64 = double = _np.dtype(_np.float64)
int8 = _np.dtype(_np.int8)
int16 = short = _np.dtype(_np.int16)
int32 = int = _np.dtype(_np.int32)
int64 = long = _np.dtype(_np.int64)
uint8 = _np.dtype(_np.uint8)
bool = _np.dtype(_np.bool_)

_keep_freed_memory()


@_cache
def _load_machine_code() -> object:
    from importlib import import_module

    native = import_module(".compiler.native", __name__)
    return import_module(".compiler.native.at_once", __name__) if native.available()[0] else None


kernels.machine_code.load_machine_code = _load_machine_code

# What only some programs need is loaded when it is first asked for: name -> the part that holds it, or that it is.
_LATER = {
    "blame": "diagnosis",
    "bptt_map": "viz",
    "compile": "compiler",
    "data": "data",
    "draw": "viz",
    "profile": "profiling",
    "summary": "training",
    "training": "training",
    "viz": "viz",
}

if _TYPE_CHECKING:
    from . import data, training, viz
    from .compiler import compile
    from .diagnosis import blame
    from .profiling import profile
    from .training import summary
    from .viz import bptt_map, draw


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    part = import_module(f".{_LATER[name]}", __name__)
    return part if _LATER[name] == name else getattr(part, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})  # so that completion offers them before they are loaded


__version__ = "0.1.0"
