"""``tg.blame``: a backward written by hand beside the tape."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.tensor import Tensor
from ..errors import Phrase, refusal
from ..nn.functional_call import functional_call
from ..nn.module import Module
from ..table import aligned
from .graph import Graph
from .picture import draw
from .search import Explanation, Search
from .whole import Closeness, as_arrays
from .words import KINDS, say, words


class Fault(NamedTuple):
    """One fault. kind: a key of ``tinygrad_ja.diagnosis.KINDS``. text: what is wrong, in the current language. operator, line: where in the
    forward, as far as it is one place. explains: the gradients that it makes exactly as wrong as they are (alone, or with ``together``)."""

    kind: str
    text: str
    operator: str = ""
    line: str = ""
    explains: tuple[str, ...] = ()
    together: int = 1


class Diagnosis:
    """What ``blame`` found. ``print`` it.

    right: True when every gradient agrees. faults: the most probable first; the faults of one explanation stand together. errors: relative
    error of each gradient. certain: the first explanation gives exactly the gradients that were given.
    """

    def __init__(self, search: Search | None, note: str = "") -> None:
        self.errors = {} if search is None else search.errors
        self.wrong = () if search is None else search.wrong
        self._shapes = {} if search is None else {name: search.right[name].shape for name in search.given}
        self._note, self._search = note, search
        self._explanations = search.run() if search is not None and self.wrong else []
        self.faults = [fault for e in self._explanations for fault in _faults(e)]
        self.right = not self.wrong and not note

    @property
    def certain(self) -> bool:
        """True when the first explanation is exact."""
        return bool(self._explanations) and self._explanations[0].exact

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw each wrong gradient as a PNG: the given one, the tape's, and their difference. Returns the path.

        Raises ArgumentError when matplotlib is missing, or when nothing is wrong.
        """
        if self._search is None or not self.wrong:
            raise _refused("plot", "0", ("a diagnosis with a wrong gradient", "誤った勾配のある診断"))
        return draw(path, {name: (self._search.given[name], self._search.right[name]) for name in self.wrong})

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        guess = self.faults[0].kind if self.faults else "forward" if self._note else "unknown"
        return f"<Diagnosis: {'right' if self.right else guess}>"

    def __str__(self) -> str:
        if self._note:
            return self._note
        lines = [self._table()]
        if self.right:
            return "\n".join([say(words("right", n=len(self.errors))), *lines])
        lines.insert(0, say(words("wrong", wrong=len(self.wrong), n=len(self.errors))))
        if not self._explanations:
            return "\n".join([*lines, say(words("unknown"))])
        first, *others = self._explanations
        if not first.exact:
            lines.append(say(words("closest", similarity=first.similarity)))
        lines += [f"  {i}. [{say(KINDS[fault.kind])}] {fault.text}" for i, fault in enumerate(_faults(first), 1)]
        if first.exact:
            lines.append("     " + say(words("explains", names=", ".join(first.names))))
        if others:
            lines.append(say(words("also" if first.exact else "next")))
            lines += [f"  - [{say(KINDS[fault.kind])}] {fault.text}" for e in others[:3] for fault in _faults(e)]
        return "\n".join(lines)

    def _table(self) -> str:
        rows = [say(words("columns")).split("|")]
        for name, value in self.errors.items():
            verdict = say(words("not_ok" if name in self.wrong else "ok"))
            rows.append([name, str(self._shapes[name]), f"{value:.1e}", verdict])
        return "\n".join(f"  {line}" for line in aligned(rows, left=4))


def _faults(explanation: Explanation) -> list[Fault]:
    made = []
    for part in explanation.faults:
        step = getattr(part, "step", None)
        operator, line = (step.title, step.line) if step is not None else ("", "")
        made.append(Fault(part.kind, say(part.text), operator, line, explanation.names, len(explanation.faults)))
    return made


def blame(
    my_backward: Any,
    layer: Callable[..., Any],
    inputs: Mapping[str, Any] | Sequence[Any] | Tensor | np.ndarray,
    *,
    output: int = 0,
    tolerance: float = 1e-5,
) -> Diagnosis:
    """Compare a backward written by hand with the tape, and name the term that is missing or wrong.

    my_backward: a function ``my_backward(g, **inputs)`` or ``my_backward(g, *inputs)`` that gets the cotangent g = ∂E/∂y and the inputs as
    float64 arrays and returns their gradients, as a dict by name or a tuple in the order of ``inputs`` (None, or left out of the dict: not
    compared; integers have none). Or an object with ``forward(*inputs)``, ``backward(g)`` and ``params`` and ``grads`` (dicts by name, or
    lists in order) like those of ``tinygrad_ja.textbook``; then its forward is compared first.
    layer: the same forward over Tensors: a function in plain operators, or a Module (its parameters join ``inputs`` by their names).
    inputs: arrays, Tensors or plain arguments of ``layer``, by name or in order; an array or a Tensor is the only one. Small sizes that all
    differ (N, T, D, H) tell faults apart best. output: which result counts when ``layer`` returns several.
    tolerance: relative error up to which a gradient is right, for float64; 1e-4 for gradients that come in float32.

    g is drawn from a normal distribution, or 1 when ``layer`` returns a scalar. The search changes the tape's rules in one place after another
    (a term dropped, φ' forgotten, a factor of another time step, ...) and keeps the changes that give exactly the gradients that were given.

    Returns a Diagnosis; its ``faults`` stand with the most probable first.
    Raises ArgumentError when names or numbers of gradients do not fit the inputs.

    >>> import os; os.environ["TINYGRAD_JA_LANG"] = "en"
    >>> import numpy as np, tinygrad_ja as tg
    >>> def layer(x, w):
    ...     return tg.tanh(x @ w)
    >>> def my_backward(g, x, w):
    ...     return g @ w.T, x.T @ g
    >>> rng = np.random.default_rng(0)
    >>> print(tg.blame(my_backward, layer, {"x": rng.normal(size=(2, 3)), "w": rng.normal(size=(3, 4))}))
    2 of 2 gradients differ from the tape's
      input  shape   relative error  verdict
      x      (2, 3)  8.8e-01         WRONG
      w      (3, 4)  6.5e-01         WRONG
      1. [derivative of the activation] φ' of tanh is missing (times 1 - y²): `return tg.tanh(x @ w)` (layer, line 2)
         explains x, w exactly
    """
    function, named = _as_function(layer, (inputs,) if isinstance(inputs, (Tensor, np.ndarray)) else inputs)
    graph = Graph(function, named, output)
    arrays = {name: step.value for name, step in zip(graph.names, graph.steps)}
    cotangent = np.ones(()) if graph.output.ndim == 0 else np.random.default_rng(0).standard_normal(graph.output.shape)
    values = {name: arrays.get(name, _plain(value)) for name, value in named.items()}
    returned, difference = _call(my_backward, cotangent, values, graph, output)
    if difference > tolerance:
        return Diagnosis(None, say(words("forward", value=difference)))
    single = any(getattr(value, "dtype", None) == np.float32 for value in returned.values())
    given = {name: value for name, value in as_arrays(returned).items() if name in graph.names}
    if not given:
        rule = ("a backward that returns its gradients", "勾配を return する逆伝播")
        raise _refused("my_backward", ("no gradient", "勾配なし"), rule)
    right = graph.gradients(cotangent)
    search = Search(graph, cotangent, given, right, max(tolerance, 1e-4) if single else tolerance)
    return Diagnosis(search)


def _as_function(
    layer: Callable[..., Any], inputs: Mapping[str, Any] | Sequence[Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """``layer`` as a function of keywords, and all inputs by name."""
    forward = layer.forward if isinstance(layer, Module) else layer
    named = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(_names(forward, len(inputs)), inputs))
    _need_names(forward, named)
    if not isinstance(layer, Module):
        return layer, named
    module, own = layer, tuple(named)
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    known = {name.replace(".", "_"): name for name in parameters}

    def function(**given: Any) -> Any:
        changed = {known[name]: value for name, value in given.items() if name not in own}
        return functional_call(module, changed, (), {name: given[name] for name in own})

    return function, {**named, **{short: parameters[name] for short, name in known.items()}}


def _need_names(function: Callable[..., Any], named: Mapping[str, Any]) -> None:
    """Raise ArgumentError unless ``function`` takes these names."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**named)
    except TypeError as failure:
        rule = (f"the names of the layer's arguments, {signature}", f"layer の引数の名前 {signature}")
        raise _refused("inputs", ", ".join(named), rule) from failure


def _names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        names = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    if len(names) < count:
        raise _refused("inputs", count, (f"one value for each of {names}", f"{names} のそれぞれに値 1 つ"))
    return names[:count]


def _plain(value: Any) -> Any:
    return value.array if type(value) is Tensor else value


def _call(mine: Any, g: np.ndarray, values: Mapping[str, Any], graph: Graph, output: int) -> tuple[dict[str, Any], float]:
    """The gradients by name, and how far the forward of an object is off."""
    copies = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    if hasattr(mine, "backward") and hasattr(mine, "forward"):
        return _call_object(mine, g, copies, graph, output)
    return _by_name(mine(g.copy(), *copies.values()), copies, graph), 0.0


def _call_object(mine: Any, g: np.ndarray, values: dict[str, Any], graph: Graph, output: int) -> tuple[dict[str, Any], float]:
    params = getattr(mine, "params", {})
    names = (
        [name for name in params if name in values]
        if isinstance(params, Mapping)
        else list(values)[len(values) - len(params) :]
    )
    for place, name in zip(params if isinstance(params, Mapping) else range(len(params)), names):
        params[place] = values[name]
    rest = [name for name in values if name not in names]
    made = mine.forward(*[values[name] for name in rest])
    made = np.asarray(made[output] if isinstance(made, tuple) else made, dtype=np.float64)
    returned = _by_name(mine.backward(g.copy()), {name: values[name] for name in rest}, graph)
    grads = mine.grads
    found = grads if isinstance(grads, Mapping) else dict(zip(names, grads))
    return {**returned, **{name: found[name] for name in names if name in found}}, Closeness(0.0, 1e-12).error(
        made, graph.output
    )


def _by_name(returned: Any, values: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    if isinstance(returned, Mapping):
        unknown = [name for name in returned if name not in values]
        if unknown:
            raise _refused("my_backward", unknown, (f"gradients of {', '.join(values)}", f"{', '.join(values)} の勾配"))
        return dict(returned)
    parts = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
    floating = [name for name in values if name in graph.names]
    names = list(values) if len(parts) == len(values) else floating
    if len(parts) != len(names):
        raise _refused(
            "my_backward",
            f"{len(parts)} values",
            (f"one gradient each for {', '.join(floating)}", f"{', '.join(floating)} の勾配を 1 つずつ"),
        )
    return dict(zip(names, parts))


def _refused(argument: str, value: Any, rule: Phrase) -> Exception:
    fix = (
        "give what the rule says, in that order or as a dict by name.",
        "規則のとおりのものを、この順か名前の dict で渡してください。",
    )
    return refusal("blame", argument, value, rule, fix)
