"""Out to ONNX and back in: the imported model computes what the exported one does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from parity.onnx_layers import cases
from parity.onnx_models import MODELS

from tinygrad_ja.io.onnx.export import tensors_in

LAYERS = cases()


def check(model: Callable[..., Any], args: Any, path: Path) -> None:
    if isinstance(model, nn.Module):
        model.eval()
    tg.io.export_onnx(model, args, path)
    again = tg.io.load_onnx(path)
    with tg.no_grad():
        made = list(tensors_in(again(*tensors_in(args))))
        wanted = list(tensors_in(model(*args)))
    assert len(made) == len(wanted)
    for y, e in zip(made, wanted):
        assert y.dtype == e.dtype and y.shape == e.shape
        np.testing.assert_allclose(y.numpy(), e.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back(name: str, tmp_path: Path) -> None:
    check(*LAYERS[name], tmp_path / "layer.onnx")


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_comes_back(name: str, tmp_path: Path) -> None:
    tg.manual_seed(0)
    check(*MODELS[name](), tmp_path / "model.onnx")
