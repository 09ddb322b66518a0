"""Reading and writing files."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .archive import load, save
from .checkpoint import Checkpoints, Restored, Saved
from .safetensors import load_safetensors, safetensors_header, save_safetensors

# What only some programs need is loaded when it is first asked for: name -> its module.
_LATER = {
    "export_onnx": "onnx.export",
    "load_onnx": "onnx.import_module",
    "load_torch": "torch_reader",
    "recurrent_weights": "layouts",
    "save_torch": "torch_writer",
}

if _TYPE_CHECKING:
    from .layouts import recurrent_weights
    from .onnx.export import export_onnx
    from .onnx.import_module import load_onnx
    from .torch_reader import load_torch
    from .torch_writer import save_torch

__all__ = [
    "Checkpoints",
    "Restored",
    "Saved",
    "export_onnx",
    "load",
    "load_onnx",
    "load_safetensors",
    "load_torch",
    "recurrent_weights",
    "safetensors_header",
    "save",
    "save_safetensors",
    "save_torch",
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
