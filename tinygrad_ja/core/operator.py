"""Operators: four kinds, checked when they are registered, and the code that runs them.

An operator is a function of arrays that is written once. Decorating it gives a public function: arrays in, array out; Tensors in,
Tensor out. The derivative is text that reads the same for both, so the gradient of a gradient needs nothing more.

    @elementwise(lambda g, y: g - g * (y * y), domain=(-3, 3))
    def tanh(xp, input: Array) -> Array:
        return xp.tanh(input)

Parameters annotated ``Array`` are inputs (they get derivatives, in this order); ``Constant`` marks arrays without a derivative; the
rest are plain arguments. The names of a derivative's parameters say what is saved for it:

    g        the cotangent (a tuple of them when there are several outputs)
    y        the output
    shape    the shape of the input that is differentiated
    needs    a tuple of bools, which inputs need a gradient (only in a derivative that returns all of them)
    xp       the array module (only in the raw backward of a fused operator)
    any name of an input, of an argument, or of an extra result listed in ``aux``
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, as_array, is_array
from ..errors import Phrase, error
from .front import build_backward, build_front
from .names import names_of

Array = Annotated[Any, "Array"]
"""Annotation of an input of an operator: it is differentiated."""
Constant = Annotated[Any, "Constant"]
"""Annotation of an array argument that is not differentiated, such as indices. A Tensor given for it is unwrapped."""

OPERATORS: dict[str, Operator] = {}
"""Every registered operator by name."""


class Kernels(dict):
    """type of the first array -> the function that computes the operator for it. Filled at first use."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator

    def __missing__(self, kind: type) -> Callable[..., Any]:
        if kind in (float, int, bool):
            self[kind] = self._by_other_operand
            return self._by_other_operand
        try:
            xp = ARRAY_MODULES[kind]
        except KeyError:
            return self._by_other_operand
        backend = BY_TYPE.get(kind)
        own = backend.kernel_of if backend is not None else None
        self[kind] = self.operator.kernel_for(xp) if own is None else own(self.operator)
        return self[kind]

    def _by_other_operand(self, *args: Any, **kwargs: Any) -> Any:
        """``2.0 * x``: the first operand is no array, so another one decides."""
        for value in args:
            if is_array(value) or type(value) in ARRAY_MODULES:  # the latter: a 0-d result that NumPy made a scalar
                return self[type(value)](*args, **kwargs)
            if type(value) in (tuple, list) and value and is_array(value[0]):
                return self[type(value[0])](*args, **kwargs)
        raise error(
            "TG-T002",
            op=self.operator.name,
            argument=self.operator.inputs[0],
            type=type(args[0]).__name__ if args else "nothing",
        )


class Point(NamedTuple):
    """A call and the gradients of its summed output that are right there, where no finite difference can tell: at a tie, a kink or
    an edge. ``args`` are the arguments in order, inputs as numbers or nested lists; ``gradients`` has one entry for each input that
    is not None, ``None`` where nothing is claimed."""

    args: tuple[Any, ...]
    gradients: tuple[Any, ...]
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Operator:
    """All that is known of one operator.

    Attributes that tools read: ``name``, ``kind``, ``inputs``, ``optional``, ``constants`` (argument -> default), ``signature`` (shapes, as
    ``"(n,k),(k,m)->(n,m)"``), ``domain``, ``cases``, ``reference``, ``derivatives``, ``points`` (gradients by convention), ``public`` (the
    function that users call), ``unsupported`` (name of a dtype -> why the operator cannot take it), ``syncs`` (why a GPU must wait for its
    result; usually ""), ``autocast`` (under ``tg.autocast``: "lower" precision, "float32", the "widest" of its inputs, or "").
    """

    expands = False

    def __init__(
        self,
        forward: Callable[..., Any],
        derivatives: Sequence[Callable[..., Any] | None],
        *,
        kind: str,
        joint: bool = False,
        aux: Sequence[str] = (),
        outputs: int | None = None,
        broadcasts: bool = False,
        promotes: bool = False,
        reference: Callable[..., Any] | None = None,
        signature: str | None = None,
        domain: Any = (-2.0, 2.0),
        cases: Callable[..., Any] | None = None,
        integer: bool = False,
        unsupported: dict[str, str] | None = None,
        syncs: str = "",
        saves_no_array: bool = False,
        points: Sequence[Point] = (),
        autocast: str = "",
    ) -> None:
        self.name = forward.__name__.strip("_")
        self.forward = forward
        self.kind = kind
        self.joint = joint
        self.aux = tuple(aux)
        self.several = outputs is not None
        self.outputs = outputs
        self.broadcasts = broadcasts
        self.promotes = promotes
        self.reference = reference
        self.signature = signature
        self.domain = domain
        self.cases = cases
        self.integer = integer
        self.saves_no_array = saves_no_array
        self.autocast = autocast
        self.points = tuple(points)
        self.unsupported = unsupported or {}
        self.syncs = syncs
        self.kernels = Kernels(self)
        self.backward_kernels: dict[type, Callable[[Callable[..., Any]], Callable[..., Any]]] = {}
        self.adders: dict[type, Callable[..., None]] = {}
        self.own_adders = self.adders
        self.derivatives = self.own_derivatives = tuple(derivatives)
        self._read_signature()
        self._check()
        self._plan_saving()
        self.public = build_front(self)
        OPERATORS[self.name] = self

    # -- what the definition says

    def _read_signature(self) -> None:
        parameters = list(inspect.signature(self.forward).parameters.values())
        if not parameters or parameters[0].name != "xp":
            raise self._invalid(
                "the first parameter of the forward must be xp, the array module", "def name(xp, input: Array, ...)"
            )
        self.parameters = parameters[1:]
        kinds = {p.name: str(p.annotation) for p in self.parameters}
        self.inputs = [name for name, kind in kinds.items() if "Array" in kind]
        self.optional = {name for name in self.inputs if "None" in kinds[name] or "Optional" in kinds[name]}
        self.array_constants = [name for name, kind in kinds.items() if "Constant" in kind]
        self.variadic = next((p.name for p in self.parameters if p.kind is p.VAR_POSITIONAL), None)
        self.constants = {p.name: p.default for p in self.parameters if p.name not in self.inputs}
        self.positional = [p.name for p in self.parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.keywords = [p.name for p in self.parameters if p.kind is p.KEYWORD_ONLY]

    def _invalid(self, reason: Phrase, fix: Phrase) -> Exception:
        return error("TG-R002", op=self.name, reason=reason, fix=fix)

    def _check(self) -> None:
        if self.name in OPERATORS:
            raise self._invalid(
                ("an operator of this name exists already", "同じ名前の演算がすでにあります"),
                ("choose another name", "別の名前を選んでください。"),
            )
        if not self.inputs:
            raise self._invalid(
                ("it has no input", "入力がありません"),
                ("annotate the inputs of the forward with Array", "順伝播の入力に Array と注釈してください。"),
            )
        if self.variadic and self.inputs != [self.variadic]:
            raise self._invalid(
                ("a variadic input must be the only one", "可変個の入力があるとき、ほかの入力は持てません"),
                ("mark the other arrays as Constant", "ほかの配列は Constant と注釈してください。"),
            )
        if self.kind == "fused" and self.reference is None:
            raise self._invalid(
                ("a fused operator needs a reference", "fused の演算には reference が必要です"),
                (
                    "pass reference=, the same value in plain operators",
                    "同じ値を普通の演算で求める関数を reference= に渡してください。",
                ),
            )
        if self.kind == "linear" and self.derivatives[:1] == (None,):
            raise self._invalid(
                ("a linear operator needs its transpose", "linear の演算には転置が必要です"),
                ("@linear(lambda g: ...)", "@linear(lambda g: ...) のように書いてください。"),
            )
        if not self.joint and self.derivatives and len(self.derivatives) != len(self.inputs):
            raise self._invalid(
                (
                    f"it has {len(self.inputs)} inputs {self.inputs} but {len(self.derivatives)} derivatives",
                    f"入力は {len(self.inputs)} 個 {self.inputs} ですが、微分の式は {len(self.derivatives)} 個です",
                ),
                (
                    "give one derivative per parameter annotated Array, in their order (None where there is none)",
                    "Array と注釈した引数ごとに、その順に微分の式を 1 つずつ渡してください (なければ None)。",
                ),
            )
        if self.variadic and self.derivatives and not self.joint:
            raise self._invalid(
                (
                    "a variadic operator needs one derivative that returns all gradients",
                    "可変個の入力の演算には、すべての勾配を返す微分の式が 1 つ必要です",
                ),
                ("pass joint=True", "joint=True を渡してください。"),
            )
        allowed = {"g", *self.inputs, *self.constants, *self.aux}
        allowed |= {"needs"} if self.joint else {"shape"}
        allowed |= {"xp"} if self.kind == "fused" else set()
        allowed |= set() if self.several else {"y"}
        for derivative in self.derivatives:
            for name in names_of(derivative):
                if name not in allowed:
                    raise error("TG-R001", op=self.name, name=name, allowed=", ".join(sorted(allowed)))
        for name in self.aux:
            if name in self.inputs or name in self.constants or name in ("g", "y", "shape", "needs", "xp"):
                raise self._invalid(
                    (
                        f"the extra result '{name}' has the name of something else",
                        f"追加の結果 '{name}' の名前がほかのものと同じです",
                    ),
                    ("rename it in aux=", "aux= の名前を変えてください。"),
                )

    def _plan_saving(self) -> None:
        """Decide what a node saves: every name that a derivative asks for, and all inputs where a reference may be run."""
        used = {name for derivative in self.derivatives for name in names_of(derivative)}
        if self.kind == "fused":
            used |= {*self.inputs, *self.constants}
        self.saves = [name for name in (*self.inputs, "y", *self.aux, *self.constants) if name in used]
        self.saved_inputs = [(self.saves.index(name), index) for index, name in enumerate(self.inputs) if name in self.saves]
        # a node that saves no array has nothing to free, so it may be passed any number of times
        self.saves_arrays = not self.saves_no_array and any(name in (*self.inputs, "y", *self.aux) for name in self.saves)

    def input_name(self, index: int) -> str:
        """Name of the input of that index, for messages."""
        return f"{self.variadic}[{index}]" if self.variadic else self.inputs[index]

    def describe_saved(self, saved: Sequence[Any] | None) -> str:
        """Names, shapes and faults of saved values, for messages."""
        from .tape import not_finite

        parts = []
        for name, value in zip(self.saves, saved or ()):
            if is_array(value):
                fault = not_finite(value)
                parts.append(f"{name} {value.shape}{f' ({fault})' if fault else ''}")
        return ", ".join(parts) or "-"

    # -- running it

    @functools.cached_property
    def backward(self) -> Callable[..., Any]:
        """``backward(saved, parents, g)``: gradients of the inputs from raw arrays."""
        usual: Any = self.backward_by_reference
        if self.kind != "fused" or self.derivatives[0] is not None:
            usual = build_backward(self, self.derivatives, self.joint)
        if self.derivatives != self.own_derivatives or (self.kind != "fused" and not self.backward_kernels):
            return usual
        kinds = _BackwardByType(self, usual)  # which is slower to call than a function
        return kinds if self.several else lambda saved, parents, g: kinds[type(g)](saved, parents, g)

    @property
    def differentiate(self) -> Callable[..., Any]:
        """The same from Tensors, recorded."""
        return self._differentiate_reference if self.kind == "fused" else self.backward

    def kernel_for(self, xp: Any) -> Callable[..., Any]:
        """The forward with its array module bound; the module's own function where the forward only names it."""
        direct = _named_function(self, xp)
        if direct is not None:
            return direct
        forward = self.forward

        def kernel(*args: Any, **kwargs: Any) -> Any:
            return forward(xp, *args, **kwargs)

        return kernel

    def fit(self, gradient: Any, shape: tuple[int, ...], index: int) -> Any:
        """Bring a gradient to the input's shape: sum over broadcast axes, or refuse."""
        if not self.broadcasts:
            raise error("TG-S003", op=self.name, input=self.input_name(index), actual=gradient.shape, expected=shape)
        return OPERATORS["sum_to_size"].public(gradient, shape)

    def lift(self, saved: tuple[Any, ...], node: Any) -> tuple[Any, ...]:
        """Saved arrays as Tensors that know where they came from, for a derivative that is itself recorded."""
        from .tensor import Tensor

        def wrap(value: Any, origin: Any) -> Any:
            return Tensor(value, origin) if type(value) in BY_TYPE else value

        lifted = list(saved)
        for position, index in self.saved_inputs:
            if self.variadic:
                lifted[position] = tuple([wrap(value, parent) for value, parent in zip(saved[position], node.parents)])
            else:
                lifted[position] = wrap(saved[position], node.parents[index])
        if "y" in self.saves:
            position = self.saves.index("y")
            lifted[position] = wrap(saved[position], node)
        return tuple(lifted)

    def _differentiate_reference(
        self, lifted: tuple[Any, ...], parents: Sequence[Any], g: Any, create_graph: bool = True
    ) -> list[Any]:
        """Gradients of a fused operator as Tensors: walk back through its reference."""
        from .tensor import Tensor
        from .transforms import grad

        values = dict(zip(self.saves, lifted))
        alias = OPERATORS["alias"].public
        inputs = [values[name] for name in self.inputs]
        if self.variadic:
            inputs = list(inputs[0])
        # a fresh alias of each input tells two uses of one tensor apart
        inputs = [alias(x) if type(x) is Tensor and parent is not None else x for x, parent in zip(inputs, parents)]
        outputs = self._run_reference(inputs, values)
        targets = [x for x, parent in zip(inputs, parents) if parent is not None]
        pairs = [(o, h) for o, h in zip(outputs, g if type(g) is tuple else (g,)) if o.node is not None]
        found = iter(grad([o for o, _ in pairs], targets, [h for _, h in pairs], create_graph=create_graph, allow_unused=True))
        return [next(found) if parent is not None else None for parent in parents]

    def _run_reference(self, inputs: Sequence[Any], values: dict[str, Any]) -> Sequence[Any]:
        from .modes import enable_grad

        assert self.reference is not None
        with enable_grad():
            made = self.call(self.reference, inputs, values)
        return made if self.several else (made,)

    def backward_by_reference(self, saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> list[Any]:
        """First order of a fused operator that has no fast backward."""
        from .tensor import Tensor

        def leaf(value: Any, parent: Any) -> Any:
            if not is_array(value):
                return value
            return Tensor(value).requires_grad_() if parent is not None else Tensor(value)

        lifted = list(saved)
        for position, index in self.saved_inputs:
            lifted[position] = leaf(saved[position], parents[index])
        cotangent = tuple(map(Tensor, g)) if type(g) is tuple else Tensor(g)
        gradients = self._differentiate_reference(tuple(lifted), parents, cotangent, False)
        return [None if gradient is None else gradient.array for gradient in gradients]

    def call(self, function: Callable[..., Any], inputs: Sequence[Any], constants: Mapping[str, Any]) -> Any:
        """Call a function that has the forward's parameters, but perhaps other names for them: the arguments are given in its order,
        inputs and others mixed as the forward mixes them, and those that are keywords there by name."""
        return self.apply(
            function, {**constants, **({self.variadic: inputs} if self.variadic else dict(zip(self.inputs, inputs)))}
        )

    def apply(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call a function that has the forward's parameters with all arguments, given by the forward's names."""
        given = arguments[self.variadic] if self.variadic else [arguments[name] for name in self.positional]
        return function(*given, **{name: arguments[name] for name in self.keywords}) if self.keywords else function(*given)

    def run(self, inputs: Sequence[Any], constants: dict[str, Any]) -> Any:
        """Call the public function with its inputs in order and the other arguments by name, wherever they stand between them."""
        if self.variadic:
            return self.public(*inputs, **constants)
        return self.public(**dict(zip(self.inputs, inputs)), **constants)

    def jvp(self, primals: Sequence[Any], tangents: Sequence[Any], **constants: Any) -> Any:
        """Directional derivative on raw arrays: a diagonal Jacobian uses the vjp's text, a linear operator itself, the rest the
        vjp of the vjp. None as tangent means zero."""
        if self.kind == "linear" and len(self.inputs) == 1 and not self.variadic:
            return self.run(tangents, constants)
        if self.kind == "elementwise" and self.derivatives:
            return self._jvp_diagonal(primals, tangents, constants)
        from .tensor import Tensor
        from .transforms import jvp

        live = [index for index, tangent in enumerate(tangents) if tangent is not None]

        def function(*moving: Any) -> Any:
            inputs = list(primals)
            for index, value in zip(live, moving):
                inputs[index] = value
            return self.run(inputs, constants)

        _, made = jvp(function, tuple(Tensor(primals[i]) for i in live), tuple(Tensor(tangents[i]) for i in live))
        return tuple(t.array for t in made) if type(made) is tuple else made.array

    def _jvp_diagonal(self, primals: Sequence[Any], tangents: Sequence[Any], constants: dict[str, Any]) -> Any:
        y = self.run(primals, constants)
        values = {**self.constants, **constants, **dict(zip(self.inputs, primals)), "y": y}
        xp = ARRAY_MODULES[type(y)]
        total = xp.zeros_like(as_array(y))
        for derivative, tangent in zip(self.derivatives, tangents):
            if derivative is not None and tangent is not None:
                g = xp.broadcast_to(tangent, total.shape)
                given = {**values, "g": g, "shape": total.shape}
                total = total + derivative(*[given[name] for name in names_of(derivative)])
        return total

    def replace_derivatives(self, derivatives: Sequence[Callable[..., Any] | None]) -> None:
        """Put other derivatives in place of the operator's own (the mutation tool plants wrong ones)."""
        self.derivatives = tuple(derivatives)
        self.adders = self.own_adders if self.derivatives == self.own_derivatives else {}
        self._plan_saving()
        self.__dict__.pop("backward", None)
        self.public.build()

    def __repr__(self) -> str:
        return f"<{self.kind} operator {self.name}({', '.join(p.name for p in self.parameters)})>"


class _BackwardByType(dict):
    """The backward of an operator by the type of its cotangent: its own faster kernels, that of a backend, or the usual one."""

    def __init__(self, operator: Operator, usual: Callable[..., Any]) -> None:
        super().__init__()
        self._operator = operator
        self._usual = usual

    def __missing__(self, kind: type) -> Callable[..., Any]:
        own, backend = self._operator.backward_kernels.get(kind), BY_TYPE.get(kind)
        if own is not None:
            self[kind] = own(self._usual)
        elif backend is not None and backend.backward_of is not None and self._operator.kind == "fused":
            self[kind] = backend.backward_of(self._operator, self._usual)
        else:
            self[kind] = self._usual
        return self[kind]

    def __call__(self, saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
        return self[type(g[0] if type(g) is tuple else g)](saved, parents, g)


class _Call:
    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args


class _Probe:
    """An array module that only notes which of its functions is called, and with what."""

    def __getattr__(self, name: str) -> Callable[..., _Call]:
        def note(*args: Any) -> _Call:
            return _Call(name, args)

        return note


def _named_function(operator: Operator, xp: Any) -> Callable[..., Any] | None:
    """``xp.tanh`` itself when the forward is just ``return xp.tanh(input)``; saves one Python call per operator."""
    if operator.constants or operator.variadic or operator.optional:
        return None
    inputs = tuple([object() for _ in operator.inputs])
    try:
        call = operator.forward(_Probe(), *inputs)
    except Exception:
        return None
    if type(call) is _Call and call.args == inputs:
        return getattr(xp, call.name)
    return None


# ---- the four kinds ------------------------------------------------------------------------------

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def elementwise(*vjps: Callable[..., Any] | None, **meta: Any) -> Decorator:
    """An operator that treats each element alone: its Jacobian is diagonal, so the vjp is the jvp too. Inputs broadcast.

    >>> from tinygrad_ja.core.operator import elementwise, Array
    >>> @elementwise(lambda g, input: g * 3 * input * input)
    ... def cube(xp, input: Array):
    ...     return input * input * input
    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([2.0], requires_grad=True)
    >>> cube(x).backward(); x.grad
    tensor([12.])
    """
    return lambda forward: _register(forward, vjps, kind="elementwise", broadcasts=True, promotes=True, **meta)


def linear(transpose: Callable[..., Any], **meta: Any) -> Decorator:
    """A linear operator: its transpose is all that its derivatives of every order need. ``transpose(g, ...)`` maps a cotangent of the
    output to one of the input; with ``joint=True`` (several inputs) it returns one per input."""
    return lambda forward: _register(forward, (transpose,), kind="linear", **meta)


def primitive(*vjps: Callable[..., Any] | None, **meta: Any) -> Decorator:
    """Any other operator: one vjp per input, written with Python operators and operators of the framework; none at all for a result
    that has no derivative. With ``joint=True`` a single vjp returns the gradients of all inputs."""
    return lambda forward: _register(forward, vjps, kind="primitive", **meta)


def fused(backward: Callable[..., Any] | None, reference: Callable[..., Any], **meta: Any) -> Decorator:
    """An operator with a fast raw forward and a fast raw ``backward(xp, g, ...)`` that returns the gradients of all inputs, and a
    ``reference``: the same value in plain operators, which is the oracle of its tests and gives the higher orders. ``backward=None``:
    the first order comes from the reference too."""
    return lambda forward: _register(forward, (backward,), kind="fused", joint=True, reference=reference, **meta)


def kernel(function: Callable[..., Any], array_type: type) -> Decorator:
    """Register a faster kernel of an operator for one array type. Its arguments are the forward's without ``xp``."""

    def register(fast: Callable[..., Any]) -> Callable[..., Any]:
        function.operator.kernels[array_type] = fast  # type: ignore[attr-defined]
        return fast

    return register


def backward_kernel(function: Callable[..., Any], array_type: type) -> Callable[..., Any]:
    """Register a faster first-order backward of an operator for one array type: it returns the gradients of all inputs, and the names of
    its parameters say what it needs of what the operator's own derivative saves. Other derivatives put in place take it away."""

    def register(fast: Callable[..., Any]) -> Callable[..., Any]:
        operator = function.operator  # type: ignore[attr-defined]
        operator.backward_kernels[array_type] = lambda usual: build_backward(operator, (fast,), True)
        return fast

    return register


def adder(function: Callable[..., Any], array_type: type) -> Callable[..., Any]:
    """Register how the gradient of an operator's only input is added to one that is there, where making it first costs much more:
    ``add(saved, g, total)`` changes ``total`` in place. The operator's backward must return arrays that nobody else holds. Derivatives that
    replace the operator's own, hooks, ``create_graph`` and the detection of anomalies go without it."""

    def register(add: Callable[..., None]) -> Callable[..., None]:
        function.operator.own_adders[array_type] = add  # type: ignore[attr-defined]
        return add

    return register


def _register(forward: Callable[..., Any], derivatives: Sequence[Any], **meta: Any) -> Callable[..., Any]:
    return Operator(forward, derivatives, **meta).public
