"""Hooks of a Module: what runs before and after its forward, and when backward has passed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.front import record_outputs
from ..core.operator import Array, primitive
from ..core.tape import RemovableHandle
from ..core.tensor import Tensor

if TYPE_CHECKING:
    from .module import Module


@primitive(
    lambda g: g,
    joint=True,
    outputs=0,
    cases=lambda pick: (tuple([pick.array(pick.shape()) for _ in range(pick.integer(1, 3))]), {}),
)
def boundary(xp: Any, *tensors: Array) -> Any:
    """The same values, as one node of the tape: where a module begins or ends."""
    return tensors


class Hooks:
    """The hooks of one module by the moment they run: ``before`` and ``after`` the forward, and ``backward``."""

    def __init__(self) -> None:
        self.before: dict[int, tuple[Callable[..., Any], bool]] = {}
        self.after: dict[int, tuple[Callable[..., Any], bool]] = {}
        self.backward: dict[int, tuple[Callable[..., Any], bool]] = {}

    def add(self, moment: str, hook: Callable[..., Any], prepend: bool, with_kwargs: bool) -> RemovableHandle:
        """Add a hook and return the handle that removes it."""
        hooks = getattr(self, moment)
        handle = RemovableHandle(hooks)
        others = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        hooks[handle.id] = (hook, with_kwargs)
        hooks.update(others)
        return handle

    def call(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``module.forward`` with the hooks around it."""
        for hook, with_kwargs in tuple(self.before.values()):
            if with_kwargs:
                changed = hook(module, args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            else:
                changed = hook(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)

        watch = Watch(module, self.backward) if self.backward else None
        if watch is not None:
            args = watch.enter(args)
        output = module.forward(*args, **kwargs)
        for hook, with_kwargs in tuple(self.after.values()):
            changed = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
            if changed is not None:
                output = changed
        return output if watch is None else watch.leave(output)


class Watch:
    """Backward hooks of one call of a module. Its inputs and its outputs each pass one node of the tape: the gradient of the
    outputs is noted at the second, and when backward reaches the first, that of the inputs is complete too."""

    def __init__(self, module: Module, hooks: dict[int, tuple[Callable[..., Any], bool]]) -> None:
        self.module = module
        self.hooks = hooks
        self.count = 0
        self.places: list[int] = []
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with the Tensors among them led through a node."""
        self.count = len(args)
        args, self.places, node = _through_node(args)
        if node is not None:
            node.register_hook(self._at_inputs)
        return args

    def leave(self, output: Any) -> Any:
        """The output led through a node."""
        several = isinstance(output, (tuple, list))
        parts, places, node = _through_node(tuple(output) if several else (output,))
        if node is None:
            return output

        def note(_: Any, g: Any) -> None:
            self.grad_output = _at_places(g, places, len(parts))
            if not self.places:  # no input wants a gradient, so backward ends inside of the module
                self._run((None,) * self.count)

        node.register_hook(note)
        if not several:
            return parts[0]
        return type(output)(parts) if type(output) in (tuple, list) else parts

    def _at_inputs(self, gradients: Sequence[Any], _: Any) -> tuple[Any, ...]:
        made = self._run(_at_places(gradients, self.places, self.count))
        return tuple([made[place] for place in self.places])

    def _run(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook, _ in tuple(self.hooks.values()):
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is not None:
                grad_input = changed if isinstance(changed, tuple) else (changed,)
        return grad_input


def _through_node(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int], Any]:
    """``values`` with every Tensor that has a history led through one node; their places; the node, or None."""
    places = [place for place, value in enumerate(values) if type(value) is Tensor and value.node is not None]
    if not places:
        return values, [], None
    tensors = [values[place] for place in places]
    arrays, nodes = [x.array for x in tensors], tuple([x.node for x in tensors])
    led = record_outputs(boundary.operator, arrays, nodes, ())  # type: ignore[attr-defined]
    if led[0].node is None:
        return values, [], None
    made = list(values)
    for place, tensor in zip(places, led):
        made[place] = tensor
    return tuple(made), places, led[0].node.parents[0]


def _at_places(gradients: Sequence[Any], places: Sequence[int], count: int) -> tuple[Any, ...]:
    made: list[Any] = [None] * count
    for place, gradient in zip(places, gradients):
        made[place] = gradient
    return tuple(made)
