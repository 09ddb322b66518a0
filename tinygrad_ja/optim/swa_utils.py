"""Means of weights over training: exponential (EMA) and equal (SWA)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from ..backend.devices import device_of, move
from ..core.modes import modes, no_grad
from ..core.tensor import Tensor
from ..errors import error
from ..nn.module import Module
from ..ops import creation


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, int], Any]:
    """mean ← decay·mean + (1 - decay)·p. Raises ArgumentError for a decay outside of [0, 1]."""
    if not 0 <= decay <= 1:
        raise error(
            "TG-A001",
            op="get_ema_avg_fn",
            argument="decay",
            value=decay,
            rule="0 <= decay <= 1",
            fix=("decay=0.999.", "decay=0.999 などとしてください。"),
        )

    def average(mean: Any, p: Any, count: int) -> Any:
        return decay * mean + (1 - decay) * p

    return average


def get_swa_avg_fn() -> Callable[[Any, Any, int], Any]:
    """mean ← mean + (p - mean) / (count + 1): all models so far count the same (Izmailov et al. 2018)."""
    return _equal_average


def _equal_average(mean: Any, p: Any, count: int) -> Any:
    return mean + (p - mean) / (count + 1)


class AveragedModel(Module):
    """A copy of a model whose parameters are a mean over the updates so far; use it in place of the model to predict.

    avg_fn: ``(mean, p, count) -> new mean`` on arrays; by default all models count the same, ``get_ema_avg_fn(decay)`` makes an exponential
    moving average. use_buffers: buffers are averaged too, else copied. The state_dict has ``n_averaged`` and ``module.``...

    >>> import tinygrad_ja as tg
    >>> from tinygrad_ja.optim.swa_utils import AveragedModel, get_ema_avg_fn
    >>> model = tg.nn.Linear(1, 1, bias=False)
    >>> ema = AveragedModel(model, avg_fn=get_ema_avg_fn(0.5))
    >>> for value in (1.0, 3.0):
    ...     with tg.no_grad():
    ...         _ = model.weight.fill_(value)
    ...     ema.update_parameters(model)
    >>> ema.module.weight.item()
    2.0
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Any, Any, int], Any] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", creation.tensor(0))
        self.avg_fn = avg_fn or get_swa_avg_fn()
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's forward."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of ``model`` into the mean; the first time they are copied.

        Raises ShapeError for a model whose parameters or buffers have other shapes; then nothing has changed."""
        count = self._count()
        means, values = _tensors(self.module), _tensors(model)
        for ours, theirs in zip(means, values):
            shapes = [[tuple(x.shape) for x in tensors] for tensors in (ours, theirs)]
            if shapes[0] != shapes[1]:
                rule = ("the same shapes as in the model that is averaged", "平均を取るモデルと同じ形状")
                fix = ("pass that model, trained further.", "同じモデルを渡してください。")
                op = "AveragedModel.update_parameters"
                raise error("TG-S002", op=op, rule=rule, shapes=f"{shapes[0]}, {shapes[1]}", fix=fix)
        for mean, value in zip(means[0], values[0]):
            _write(mean, value, self.avg_fn if count else None, count)
        for mean, value in zip(means[1], values[1]):
            floating = mean.dtype.kind == "f"
            _write(mean, value, self.avg_fn if count and self.use_buffers and floating else None, count)
        recording, traced = modes.recording, hasattr(self.n_averaged.array, "entry")
        if recording is None or (traced and not recording.away([self.n_averaged.array.entry])):
            self.n_averaged.array += 1
        else:  # of a model on another device than the count, or made by the step itself
            recording.act(self._go_on, (), {})

    def _go_on(self) -> None:
        elements = getattr(self.n_averaged.array, "_elements", self.n_averaged.array)
        elements += 1

    def _count(self) -> Any:
        """``n_averaged`` as a number, which a recording reads anew at each call."""
        recording, array = modes.recording, self.n_averaged.array
        if recording is None or (hasattr(array, "entry") and array.entry.step is not None):
            return int(self.n_averaged.item())
        tensor = self.n_averaged
        return recording.numbers.read(f"{id(self)}_averaged", lambda: int(getattr(tensor.array, "_elements", tensor.array)))


def _tensors(model: Module) -> tuple[list[Tensor], list[Tensor]]:
    return list(model.parameters()), list(model.buffers())


def _write(mean: Tensor, value: Tensor, average: Callable[[Any, Any, int], Any] | None, count: int) -> None:
    """Replace the values of ``mean`` in place."""
    source = move(value.array, device_of(mean.array))
    mean.array[...] = source if average is None else average(mean.array, source, count)
    mean._note_change()


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running means and variances of the batch norms of ``model`` anew, as plain means over the batches of ``loader`` (inputs, or
    tuples that begin with them)."""
    norms = [module for module in model.modules() if hasattr(module, "running_mean") and hasattr(module, "momentum")]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    was_training = model.training
    model.train()
    try:
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, (tuple, list)) else batch
                model(x if device is None else x.to(device))
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        model.train(was_training)
