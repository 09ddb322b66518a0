"""``Update``: the usual training step, from a batch to changed weights, out of a function that gives the loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backend.devices import device_of, move
from ..core.tensor import Tensor
from ..errors import error, refusal
from ..nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_
from ..optim.optimizer import Optimizer
from .evaluation import Measure, detached, values_of


class Update:
    """A step for ``Trainer``: ``update(batch)`` runs forward, backward, clipping and the optimizer, and returns the values of the batch.

    measure: ``measure(batch)`` returns the loss, or a dict of values with the loss as ``"loss"``; the same function serves for validation.
    (For mixed precision it runs its forward under ``tg.autocast``, and ``scaler`` is a GradScaler.)
    schedule: one or several schedules of the learning rate that go on with every step of the optimizer.
    clip_norm, clip_value: limits for the gradients, of their common norm and of each element.
    accumulate: the optimizer steps once for so many batches, with the mean of their gradients.
    Raises ArgumentError for a loss that has no gradient or is not one number.

    Every other kind of step (several optimizers, closures, a penalty on gradients) is a function of your own: ``Trainer`` takes any.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([2.0], requires_grad=True)
    >>> update = Update(lambda x: ((w * x) ** 2).mean(), tg.optim.SGD([w], lr=0.25), accumulate=2)
    >>> for batch in (tg.tensor([1.0]), tg.tensor([1.0])):
    ...     values = update(batch)
    >>> w, values
    (tensor([1.], requires_grad=True), {'loss': tensor(4.)})
    """

    def __init__(
        self,
        measure: Measure,
        optimizer: Optimizer,
        *,
        schedule: Any = (),
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        scaler: Any = None,
    ) -> None:
        if not isinstance(accumulate, int) or accumulate < 1:
            rule = ("an int >= 1", "1 以上の整数")
            fix = ("accumulate=1.", "accumulate=1 としてください。")
            raise refusal("Update", "accumulate", accumulate, rule, fix)
        self.measure = measure
        self.optimizer = optimizer
        self.schedules = list(schedule) if isinstance(schedule, Iterable) else [schedule]
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.accumulate = accumulate
        self.scaler = scaler
        self._gathered = 0

    def __call__(self, batch: Any) -> dict[str, Any]:
        """One training step. Returns the values of the batch, without their graph."""
        if self._gathered == 0:
            self.optimizer.zero_grad()
        values = values_of("Update", self.measure(batch))
        loss = values["loss"] if self.accumulate == 1 else values["loss"] / self.accumulate
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self._gathered += 1
        if self._gathered == self.accumulate:
            self._apply()
            self._gathered = 0
        return detached(values)

    def _apply(self) -> None:
        """Clip the gradients and let the optimizer and the schedules step."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        params = self._params()
        if self.clip_norm is not None:
            clip_grad_norm_(params, self.clip_norm)
        if self.clip_value is not None:
            clip_grad_value_(params, self.clip_value)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.optimizer.stepped:  # a scaler may have left out the first ones
            for schedule in self.schedules:
                schedule.step()

    def _params(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint has to hold: optimizer, schedules, scaler, and the gradients gathered so far."""
        parts: dict[str, Any] = {"optimizer": self.optimizer}
        parts.update({f"schedule{index}": schedule for index, schedule in enumerate(self.schedules)})
        if self.scaler is not None:
            parts["scaler"] = self.scaler
        if self.accumulate > 1:
            parts["gathered"] = self
        return parts

    def state_dict(self) -> dict[str, Any]:
        """How many batches have been gathered since the optimizer's last step, and their gradients."""
        gradients = [p.grad for p in self._params()] if self._gathered else []
        return {"gathered": self._gathered, "gradients": gradients}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave. Raises StateError when the gradients do not fit the parameters; then nothing has changed."""
        params, gradients = self._params(), list(state_dict["gradients"])
        fits = not gradients or [g if g is None else tuple(g.shape) for g in gradients] == [
            None if g is None else tuple(p.shape) for p, g in zip(params, gradients)
        ]
        if not fits or len(gradients) not in (0, len(params)):
            raise error(
                "TG-F003",
                what="Update",
                reason=("the gathered gradients have other shapes", "ためている勾配の形状が違います"),
                fix=("use the same model as when it was saved.", "保存したときと同じモデルを使ってください。"),
            )
        for p, gradient in zip(params, gradients):
            p.grad = None if gradient is None else Tensor(move(gradient.array, device_of(p.array)).astype(p.dtype, copy=True))
        self._gathered = int(state_dict["gathered"])
