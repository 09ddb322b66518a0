"""``GradScaler``: loss scaling, so that small float16 gradients do not become zero."""

from __future__ import annotations

import functools
from typing import Any

from ..backend.arrays import ARRAY_MODULES
from ..backend.devices import Device, device_of, move
from ..core.modes import modes, no_grad
from ..core.tensor import Tensor
from ..errors import Phrase, error


class GradScaler:
    """Multiplies the loss by a factor that adapts itself, and divides the gradients by it before the optimizer's step (Micikevicius et
    al. 2018, section 3.2).

    When a gradient is infinite or NaN, the step is left out and the factor shrinks; after ``growth_interval`` good steps in a row it grows.

    init_scale: the first factor. growth_factor > 1, backoff_factor < 1. enabled: False makes all methods pass things through.
    Raises ArgumentError for a setting outside of its range, StateError for methods called in a wrong order.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([2.0], requires_grad=True)
    >>> optimizer, scaler = tg.optim.SGD([w], lr=0.25), tg.amp.GradScaler("cpu", init_scale=1024.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> w.grad
    tensor([4096.])
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w, scaler.get_scale()
    (tensor([1.], requires_grad=True), 1024.0)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        _require("growth_factor", growth_factor, growth_factor > 1, "growth_factor > 1")
        _require("backoff_factor", backoff_factor, 0 < backoff_factor < 1, "0 < backoff_factor < 1")
        _require("init_scale", init_scale, init_scale > 0, "init_scale > 0")
        self._device, self._enabled = device, enabled
        self._scale, self._good_steps = float(init_scale), 0
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._found: dict[int, Any] = {}  # a bool, or in a compiled function a Tensor
        self._stepped: set[int] = set()

    def scale(self, outputs: Any) -> Any:
        """``outputs``, a Tensor or a nested tuple or list of them, times the factor."""
        if not self._enabled:
            return outputs
        if type(outputs) is Tensor:
            return outputs * self._factor()
        if isinstance(outputs, (tuple, list)):
            return type(outputs)([self.scale(part) for part in outputs])
        raise error("TG-T002", op="GradScaler.scale", argument="outputs", type=type(outputs).__name__)

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients by the factor now, for instance to clip them before ``step``. Once for each optimizer and update.

        Raises DtypeError for float16 gradients, which would vanish: parameters stay float32 under ``autocast``."""
        if not self._enabled:
            return
        key = id(optimizer)
        if key in self._found:
            raise _order(
                ("unscale_() has been called since the last update()", "update() の後に unscale_() が 2 回呼ばれました")
            )
        finite: dict[Device, Any] = {}  # one flag a device, so that the host waits once for each
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for p in params:
            if p.dtype.name == "float16":
                raise error("TG-T004", op="GradScaler.unscale_", dtype="float16", allowed="float32", fix="tg.float32")
        with no_grad():
            for p in params:
                g = p.grad.mul_(1.0 / self._factor()).array
                place = device_of(g)
                finite[place] = ARRAY_MODULES[type(g)].isfinite(g).all() & finite.get(place, True)
        if modes.recording is None:
            self._found[key] = not all([bool(flag) for flag in finite.values()])
        else:
            flag = functools.reduce(lambda a, b: a & move(b, device_of(a)), finite.values())
            self._found[key] = Tensor(flag == False)  # noqa: E712 - of an array

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Unscale the gradients unless that is done, and run ``optimizer.step`` when all of them are finite.

        An optimizer's closure would make scaled gradients anew, so it is refused."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        closure = args[0] if args else kwargs.get("closure")
        _require("closure", closure, closure is None, ("None while enabled", "有効なあいだは None"))
        key = id(optimizer)
        if key in self._stepped:
            raise _order(("step() has been called since the last update()", "update() の後に step() が 2 回呼ばれました"))
        if key not in self._found:
            self.unscale_(optimizer)
        self._stepped.add(key)
        if modes.recording is not None:
            return modes.recording.unless(self._found[key], lambda: optimizer.step(*args, **kwargs))
        return None if self._found[key] else optimizer.step(*args, **kwargs)

    def update(self, new_scale: float | None = None) -> None:
        """Adapt the factor, or set it. Call once after the step of all optimizers."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not self._found:
            raise _order(("update() needs a step() before it", "update() の前に step() を呼ぶ必要があります"))
        elif modes.recording is not None:
            modes.recording.later(self._adapt, functools.reduce(lambda a, b: a | b, self._found.values()))
        else:
            self._adapt(any(self._found.values()))
        self._found, self._stepped = {}, set()

    def _factor(self) -> float:
        """The factor; a compiled function reads it anew at each call."""
        recording = modes.recording
        if recording is None:
            return self._scale
        recording.identities.append((vars(self), "_enabled", self._enabled))
        return recording.numbers.read(f"{id(self)}_scale", lambda: self._scale)

    def _adapt(self, found: Any) -> None:
        if bool(found):
            self._scale, self._good_steps = self._scale * self._backoff_factor, 0
        else:
            self._good_steps += 1
            if self._good_steps == self._growth_interval:
                self._scale, self._good_steps = self._scale * self._growth_factor, 0

    def get_scale(self) -> float:
        """The factor; 1.0 when disabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the factor is multiplied by after good steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Change ``growth_factor``."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the factor is multiplied by after a step that was left out."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Change ``backoff_factor``."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many good steps in a row make the factor grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Change ``growth_interval``."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """False when it passes everything through."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The factor and its settings; empty when disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._good_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave. Raises StateError when entries are missing."""
        if not self._enabled:
            return
        missing = sorted(set(self.state_dict()) - set(state_dict))
        if missing:
            names = ", ".join(missing)
            raise error(
                "TG-F003",
                what="GradScaler",
                reason=(f"{names} is missing (saved with enabled=False?)", f"{names} がありません (enabled=False で保存した?)"),
                fix=(
                    "load what state_dict() of an enabled GradScaler gave",
                    "有効な GradScaler の state_dict() を読み込んでください。",
                ),
            )
        self._scale, self._good_steps = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = int(state_dict["growth_interval"])


def _require(argument: str, value: Any, allowed: bool, rule: Phrase) -> None:
    if not allowed:
        raise error(
            "TG-A001",
            op="GradScaler",
            argument=argument,
            value=value,
            rule=rule,
            fix=("check the setting.", "設定を確かめてください。"),
        )


def _order(reason: Phrase) -> Exception:
    return error(
        "TG-A003",
        op="GradScaler",
        reason=reason,
        fix=(
            "in each iteration: scale(loss).backward(), unscale_ at most once, step once, update once.",
            "1 回の反復では scale(loss).backward()、unscale_ (多くて 1 回)、step (1 回)、update (1 回) の順に呼んでください。",
        ),
    )
