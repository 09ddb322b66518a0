"""Every layer and loss in a compiled training step does what it does in the plain one: values, gradients, parameters and buffers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from parity.onnx_layers import cases

import tinygrad_ja as tg
from tinygrad_ja import nn

LAYERS = cases()
CALLS = 4
NATIVE = find_spec("llvmlite") is not None


def tensors_in(value: Any) -> Iterator[Any]:
    """Every Tensor in nested tuples, lists and dicts."""
    if isinstance(value, tg.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def with_tensors(value: Any, tensors: Iterator[Any]) -> Any:
    """A nested value with other Tensors in it, in order."""
    if isinstance(value, tg.Tensor):
        return next(tensors)
    return type(value)([with_tensors(part, tensors) for part in value]) if isinstance(value, (tuple, list)) else value


def floating(x: Any) -> bool:
    return x.dtype.name.startswith("float")


def run(name: str, train: bool, backend: str | None) -> tuple[list[list[np.ndarray]], Any]:
    """Some training steps on slightly different inputs: all that they gave and changed."""
    tg.manual_seed(0)
    layer, args = LAYERS[name]
    layer = copy.deepcopy(layer)
    if isinstance(layer, nn.Module):
        layer.train(train)
        layer(*args)  # lazy layers learn their shapes
    parameters = list(layer.parameters()) if isinstance(layer, nn.Module) else []
    optimizer = tg.optim.SGD(parameters, lr=0.02) if parameters else None

    def step(*given: Any) -> Any:
        leaves = [x.clone().requires_grad_() if floating(x) else x for x in tensors_in(given)]
        if optimizer is not None:
            optimizer.zero_grad()
        made = list(tensors_in(layer(*with_tensors(given, iter(leaves)))))
        weights = [tg.from_numpy(np.cos(np.arange(y.numel(), dtype=np.float32)).reshape(tuple(y.shape))) for y in made]
        loss = tg.zeros(()) + sum([(y.square() * 0.5 + y * w).mean() for y, w in zip(made, weights) if floating(y)])
        if loss.requires_grad:
            loss.backward()
        if optimizer is not None:
            optimizer.step()
        return loss.detach(), [y.detach() for y in made], [x.grad for x in leaves if x.requires_grad and x.grad is not None]

    compiled = step if backend is None else tg.compile(step, backend=backend)
    given = list(tensors_in(args))
    tg.manual_seed(5)
    results = []
    for k in range(CALLS):
        scaled = [x.detach() * (1 - 0.03 * k) if floating(x) else x.clone() for x in given]
        results.append([x.numpy().copy() for x in tensors_in(compiled(*with_tensors(args, iter(scaled))))])
    state = [*parameters, *(layer.buffers() if isinstance(layer, nn.Module) else [])]
    return [*results, [x.detach().numpy().copy() for x in state]], compiled


def check(name: str, train: bool, backend: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (expected, _), (made, compiled) = run(name, train, None), run(name, train, backend)
    assert compiled.replays >= CALLS - 3, compiled.notes
    for a, b in zip(expected, made):
        assert [x.dtype for x in a] == [x.dtype for x in b]
        for x, y in zip(a, b):
            np.testing.assert_allclose(y, x, rtol=1e-4, atol=2e-5 * (1 + (np.abs(x).max() if x.size else 0)))


@pytest.mark.parametrize("number", range(len(LAYERS)), ids=list(LAYERS))
def test_a_training_step(number: int) -> None:
    check(list(LAYERS)[number], True, "native" if number % 2 and NATIVE else "numpy")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in LAYERS
        if any(word in name for word in ("Dropout", "RReLU", "BatchNorm", "tracked", "dropout", "Transformer"))
    ],
)
def test_in_evaluation(name: str) -> None:
    check(name, False, "numpy")
