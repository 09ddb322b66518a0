"""What an entry of the bank is.

A wrong entry says what was planted and what repairs it: ``repair`` is a piece of its own source and what should stand there. So the bank
proves itself: the source as it stands is wrong, and with that one piece exchanged it gives the gradients of numerical differentiation.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One backward function, or a class with forward and backward.

    layer: the forward over Tensors. make_inputs: draws the inputs, in the order of the backward's arguments. kinds: what the first fault may
    be called; none for a right backward. place: a word of the operator, the line or the text of that fault, where it has one place.
    repair: (what stands in the source, what should).
    """

    backward: Any
    layer: Callable[..., Any]
    make_inputs: Callable[[np.random.Generator], Arrays]
    kinds: tuple[str, ...] = ()
    place: str = ""
    repair: tuple[str, str] = ("", "")

    @property
    def name(self) -> str:
        """family.function, such as ``lstm.forgets_dc``."""
        return f"{self.backward.__module__.rpartition('.')[2]}.{self.backward.__name__}"

    def inputs(self, seed: int = 20) -> Arrays:
        """New arrays, the same each time for one seed."""
        return self.make_inputs(np.random.default_rng(seed))

    def arguments(self) -> Arrays:
        """The inputs and, for a Module, its parameters after them: what the backward gets after g."""
        return self.inputs() | {name: p.detach().numpy() for name, p in self.parameters().items()}

    def parameters(self) -> dict[str, tg.Tensor]:
        """Those of a Module."""
        return dict(self.layer.named_parameters()) if isinstance(self.layer, nn.Module) else {}

    def output(self, arguments: Arrays) -> np.ndarray:
        """What the layer makes of them; of several results the first."""
        tensors = {name: tg.tensor(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}
        if isinstance(self.layer, nn.Module):
            own = {name: tensors.pop(name) for name in self.parameters()}
            made = tg.func.functional_call(self.layer, own, tuple(tensors.values()))
        else:
            made = self.layer(*tensors.values())
        return (made[0] if isinstance(made, tuple) else made).detach().numpy()

    def written(self, inputs: Arrays) -> Any:
        """What ``tg.blame`` is given: the function, or an object made of the parameters that its class asks for."""
        return ready(self.backward, inputs)

    def repaired(self, inputs: Arrays) -> Any:
        """The same with the planted piece exchanged."""
        return ready(exchanged(self.backward, *self.repair), inputs)


WRONG: list[Entry] = []
RIGHT: list[Entry] = []


def wrong(
    layer: Callable[..., Any],
    make_inputs: Callable[[np.random.Generator], Arrays],
    *kinds: str,
    repair: tuple[str, str],
    place: str = "",
) -> Callable[[Any], Any]:
    """Put a backward with one planted fault into the bank."""

    def add(backward: Any) -> Any:
        WRONG.append(Entry(backward, layer, make_inputs, kinds, place, repair))
        return backward

    return add


def right(layer: Callable[..., Any], make_inputs: Callable[[np.random.Generator], Arrays]) -> Callable[[Any], Any]:
    """Put a backward without a fault into the bank."""

    def add(backward: Any) -> Any:
        RIGHT.append(Entry(backward, layer, make_inputs))
        return backward

    return add


def filled(module: nn.Module) -> nn.Module:
    """A layer in float64 whose parameters are drawn anew, the same each time."""
    rng = np.random.default_rng(20)
    module.double()
    for parameter in module.parameters():
        parameter.data = tg.tensor(rng.normal(size=parameter.shape) * 0.6)
    return module


def ready(backward: Any, inputs: Arrays) -> Any:
    """A function as it is; a class called with those of the inputs that its ``__init__`` names."""
    if not inspect.isclass(backward):
        return backward
    return backward(**{name: inputs[name].copy() for name in parameters(backward, inputs)})


def parameters(layer: Any, inputs: Mapping[str, Any]) -> list[str]:
    """The inputs that a class asks for when an object of it is made."""
    return [name for name in inspect.signature(layer).parameters if name in inputs]


def exchanged(backward: Any, planted: str, repair: str) -> Any:
    """The function or class that the source makes when ``planted``, which stands in it once, is replaced."""
    source = textwrap.dedent(inspect.getsource(backward))
    body = "\n".join(source.splitlines()[ast.parse(source).body[0].lineno - 1 :])  # without its decorators
    assert body.count(planted) == 1, f"{planted!r} stands {body.count(planted)} times in {backward.__name__}"
    names = dict(vars(sys.modules[backward.__module__]))
    exec(body.replace(planted, repair), names)
    return names[backward.__name__]


def gradients(backward: Any, g: np.ndarray, inputs: Mapping[str, Any]) -> Arrays:
    """What a backward returns, by the names of the inputs."""
    if not hasattr(backward, "params"):
        return by_name(backward(g, *inputs.values()), list(inputs))
    own = parameters(type(backward), inputs)
    names = [name for name in inputs if name not in own]
    backward.forward(*(inputs[name] for name in names))
    return by_name(backward.backward(g), names) | by_name(backward.grads, own)


def by_name(made: Any, names: list[str]) -> Arrays:
    """Gradients as a dict, however they came."""
    if isinstance(made, Mapping):
        return dict(made)
    return dict(zip(names, made if isinstance(made, (tuple, list)) else [made]))
