"""Imported control flow: graphs inside a node, run by a condition, a count or over a sequence."""

from __future__ import annotations

from typing import Any

from ...ops.creation import tensor, zeros
from ...ops.join import stack
from .import_table import Call, Refusal, imports, number


@imports("If", control=(0,))
def _if(call: Call, condition: Any) -> Any:
    return tuple(call.body("then_branch" if number(condition) else "else_branch", []))


@imports("Loop", control=(0, 1))
def _loop(call: Call, count: Any = None, condition: Any = None, *carried: Any) -> Any:
    """The body gets (iteration, condition, carried values) and returns (condition, carried values, what is collected)."""
    limit = number(count)
    going = True if condition is None else bool(number(condition))
    state = list(carried)
    body = call.get("body")
    collected: list[list[Any]] = [[] for _ in body.outputs[1 + len(state) :]]
    iteration = 0
    while going and (limit is None or iteration < limit):
        inputs = [tensor(iteration, device=call.device), tensor(going, device=call.device), *state]
        again, *results = call.body("body", inputs)
        going = bool(number(again))
        state = results[: len(state)]
        for values, value in zip(collected, results[len(state) :]):
            _collect(call, values, value)
        iteration += 1
    return (*state, *[stacked(call, values) for values in collected])


def _collect(call: Call, values: list[Any], value: Any) -> None:
    call.allow((len(values) + 1, *value.shape))
    values.append(value)


def stacked(call: Call, values: list[Any], axis: int = 0) -> Any:
    """Values of one shape along a new axis; nothing at all is an empty tensor."""
    return stack(values, axis) if values else zeros(0, device=call.device)


@imports("Scan")
def _scan(call: Call, *inputs: Any) -> Any:
    if call.opset >= 9:
        return tuple(_scanned(call, list(inputs), call.get("scan_input_axes") or []))
    lengths, *rest = inputs  # before opset 9: each element of a batch by itself
    batch = rest[-1].shape[0]
    results = []
    for i in range(batch):
        parts = [value[i] for value in rest]
        if lengths is not None:
            length = int(lengths[i].item())
            count = call.get("num_scan_inputs")
            parts = parts[:-count] + [value[:length] for value in parts[-count:]]
        results.append(_scanned(call, parts, []))
    return tuple([stack(list(parts)) for parts in zip(*results)])


def _scanned(call: Call, inputs: list[Any], axes: list[int]) -> list[Any]:
    count = call.get("num_scan_inputs")
    if not 1 <= count <= len(inputs):
        raise Refusal(
            (f"num_scan_inputs {count} of {len(inputs)} inputs", f"入力 {len(inputs)} 個に対して num_scan_inputs {count}")
        )
    state, sequences = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    from_end = call.get("scan_input_directions") or call.get("directions") or [0] * count
    axes = axes or [0] * count
    steps = {x.shape[axis] for x, axis in zip(sequences, axes)}
    if len(steps) != 1:
        raise Refusal((f"sequences of {sorted(steps)} steps", f"列の長さが {sorted(steps)} で違っています"))
    sequences = [x.flip(axis) if turned else x for x, axis, turned in zip(sequences, axes, from_end)]
    slices = list(zip(*[x.unbind(axis) for x, axis in zip(sequences, axes)]))
    collected: list[list[Any]] = [[] for _ in call.get("body").outputs[len(state) :]]
    for step in slices:
        results = call.body("body", [*state, *step])
        state = results[: len(state)]
        for values, value in zip(collected, results[len(state) :]):
            _collect(call, values, value)
    to_front = call.get("scan_output_directions") or [0] * len(collected)
    out_axes = call.get("scan_output_axes") or [0] * len(collected)
    ordered = [values[::-1] if turned else values for values, turned in zip(collected, to_front)]
    return [*state, *[stacked(call, values, axis) for values, axis in zip(ordered, out_axes)]]
