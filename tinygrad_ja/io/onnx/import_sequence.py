"""Imported sequences and optional values. A sequence is a list of Tensors, an optional value that is empty is None."""

from __future__ import annotations

from typing import Any

from ...ops.creation import tensor
from ...ops.join import split, stack
from .import_shape import joined
from .import_table import Call, Refusal, imports, integers, number


@imports("SequenceConstruct")
def _sequence_construct(call: Call, *inputs: Any) -> Any:
    return list(inputs)


@imports("SequenceEmpty")
def _sequence_empty(call: Call) -> Any:
    return []


@imports("SequenceAt")
def _sequence_at(call: Call, sequence: Any, position: Any) -> Any:
    return sequence[int(number(position))]


@imports("SequenceErase")
def _sequence_erase(call: Call, sequence: Any, position: Any = None) -> Any:
    place = range(len(sequence))[int(number(position, -1))]
    return sequence[:place] + sequence[place + 1 :]


@imports("SequenceInsert")
def _sequence_insert(call: Call, sequence: Any, value: Any, position: Any = None) -> Any:
    place = int(number(position, len(sequence)))
    if not -len(sequence) <= place <= len(sequence):
        raise Refusal((f"position {place} of {len(sequence)}", f"長さ {len(sequence)} の列に位置 {place} はありません"))
    call.allow((len(sequence) + 1,))
    made = list(sequence)
    made.insert(place, value)
    return made


@imports("SequenceLength")
def _sequence_length(call: Call, sequence: Any) -> Any:
    return tensor(len(sequence), device=call.device)


@imports("SequenceMap")
def _sequence_map(call: Call, first: Any, *others: Any) -> Any:
    """The body once for each element; what is not a sequence is the same each time."""
    results = []
    for i, element in enumerate(first):
        rest = [value[i] if isinstance(value, list) else value for value in others]
        results.append(call.body("body", [element, *rest]))
    return tuple([list(values) for values in zip(*results)]) if results else tuple([[] for _ in range(call.outputs)])


@imports("SplitToSequence")
def _split_to_sequence(call: Call, x: Any, sizes: Any = None) -> Any:
    axis = call.get("axis", 0)
    if sizes is None:
        parts = split(x, 1, axis)
        return list(parts) if call.get("keepdims", 1) else [part.squeeze(axis) for part in parts]
    return list(split(x, integers(sizes) if sizes.ndim else int(number(sizes)), axis))


@imports("ConcatFromSequence")
def _concat_from_sequence(call: Call, sequence: Any) -> Any:
    axis = call.get("axis")
    if not call.get("new_axis", 0):
        return joined(call, sequence, axis)
    call.allow((len(sequence), *sequence[0].shape))
    return stack(sequence, axis)


@imports("Optional")
def _optional(call: Call, value: Any = None) -> Any:
    return value


@imports("OptionalHasElement")
def _optional_has_element(call: Call, value: Any = None) -> Any:
    return tensor(value is not None, device=call.device)


@imports("OptionalGetElement")
def _optional_get_element(call: Call, value: Any) -> Any:
    if value is None:
        raise Refusal(("the optional value is empty", "optional の値が空です"))
    return value
