"""All parameters of a model as one vector, and back: what second-order methods and line searches want."""

from __future__ import annotations

from collections.abc import Iterable

from ...backend.arrays import meet
from ...core.tensor import Tensor
from ...errors import error, joined
from ...ops.join import cat
from ...ops.shape import reshape


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The parameters one after another in a vector. Gradients flow back to them.

    >>> import tinygrad_ja as tg
    >>> tg.nn.utils.parameters_to_vector([tg.ones(2), tg.zeros(1, 2)]).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    return cat([reshape(p, (-1,)) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector into the parameters, in place.

    vec: as many elements as the parameters have together; otherwise ShapeError, and nothing has changed. Raises DeviceError where it is on
    another device than one of them.
    """
    given = list(parameters)
    count = sum(p.numel() for p in given)
    if vec.ndim != 1 or vec.numel() != count:
        rule = (f"vec ({count},), one element per element of the parameters", f"vec は ({count},)、パラメータの要素と同じ数")
        raise error(
            "TG-S002",
            op="vector_to_parameters",
            rule=rule,
            shapes=tuple(vec.shape),
            fix=("pass the same parameters.", "同じパラメータを渡してください。"),
        )
    for p in given:
        if not meet(vec.array, p.array):
            devices = joined((str(p.device), str(vec.device)))
            raise error("TG-D001", op="vector_to_parameters", devices=devices, fix=p.device)
    start = 0
    for p in given:
        end = start + p.numel()
        p.array[...] = vec.array[start:end].reshape(p.shape)
        p._note_change()
        start = end
