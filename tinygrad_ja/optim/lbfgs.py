"""L-BFGS: a quasi-Newton method for whole batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..backend.arrays import ARRAY_MODULES, is_array
from ..backend.devices import device_of, move
from ..core.modes import enable_grad, no_grad
from ..core.tensor import Tensor
from .optimizer import Optimizer, Params
from .strong_wolfe import strong_wolfe


class LBFGS(Optimizer):
    """Steps along -H g, where H, the inverse of the Hessian, is built from the last ``history_size`` changes of parameters and gradients
    (Nocedal 1980; Liu and Nocedal 1989).

    One ``step(closure)`` runs up to ``max_iter`` iterations and ``max_eval`` (1.25·max_iter) evaluations, until no gradient exceeds
    ``tolerance_grad`` or loss or parameters change by less than ``tolerance_change``. line_search_fn: None takes steps of size ``lr``,
    "strong_wolfe" searches along the direction. All parameters are one group on one device.
    Raises ArgumentError for a setting outside of its range and for more than one group.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([3.0, -1.0], requires_grad=True)
    >>> optimizer = tg.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((w - 1) ** 2 * tg.tensor([1.0, 10.0])).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> [round(value, 3) for value in w.tolist()]
    [1.0, 1.0]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        self._require_in_range(lr=lr)
        known = (None, "strong_wolfe")
        self._require("line_search_fn", repr(line_search_fn), line_search_fn in known, "None, 'strong_wolfe'")
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        self._require("params", len(self.param_groups), len(self.param_groups) == 1, ("one group", "グループは 1 つ"))

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    # -- parameters and gradients as one vector

    def _flat_gradient(self) -> Any:
        xp = ARRAY_MODULES[type(self._params[0].array)]
        return xp.concatenate([(xp.zeros_like(p.array) if p.grad is None else p.grad.array).reshape(-1) for p in self._params])

    def _move(self, size: float, direction: Any) -> None:
        """p ← p + size·direction."""
        offset = 0
        for p in self._params:
            end = offset + p.array.size
            p.array += (direction[offset:end] * size).reshape(p.array.shape).astype(p.dtype, copy=False)
            p._note_change()
            offset = end

    # -- the method

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Run up to ``max_iter`` iterations. closure: zeroes the gradients, computes the loss and its gradients, returns the loss.

        Returns the loss before."""
        self._require("closure", closure, closure is not None, ("a function that returns the loss", "損失を返す関数"))
        self.stepped = True
        with no_grad():
            return self._minimize(enable_grad()(closure))

    def _minimize(self, closure: Callable[[], Any]) -> Any:
        group, state = self.param_groups[0], self.state.setdefault(self._params[0], {})
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = closure()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        gradient = self._flat_gradient()
        xp = ARRAY_MODULES[type(gradient)]
        if not gradient.size or float(xp.max(xp.abs(gradient))) <= group["tolerance_grad"]:
            return first
        if "d" in state and type(state["d"]) is not type(gradient):  # the model has moved to another device
            state.update(self._converted(0, self._params[0], state))

        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
                direction = -gradient
                size = min(1.0, 1.0 / float(xp.sum(xp.abs(gradient)))) * group["lr"]
            else:
                self._remember(state, gradient, group["history_size"])
                direction = _two_loops(state, gradient)
                size = group["lr"]
            state.update(d=direction, prev_flat_grad=gradient.copy(), prev_loss=loss)
            before, slope = loss, float(gradient.dot(direction))
            if slope > -group["tolerance_change"]:
                state["t"] = size
                break

            spent = 0
            if group["line_search_fn"] is not None:
                loss, gradient, size, spent = self._search(closure, size, direction, loss, gradient, slope, evaluations)
                self._move(size, direction)
            else:
                self._move(size, direction)
                if iteration != group["max_iter"]:  # nobody would use it after the last one
                    loss, spent = float(closure()), 1
                    gradient = self._flat_gradient()
            state["t"] = size
            evaluations += spent
            state["func_evals"] += spent
            if (
                evaluations >= group["max_eval"]
                or float(xp.max(xp.abs(gradient))) <= group["tolerance_grad"]
                or float(xp.max(xp.abs(direction))) * abs(size) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _remember(self, state: dict[str, Any], gradient: Any, history_size: int) -> None:
        """Take the last change of parameters and gradient into the history, where the curvature along it is positive."""
        y, s = gradient - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = float(y.dot(s))
        if curvature <= 1e-10:
            return
        if len(state["old_dirs"]) == history_size:
            for name in ("old_dirs", "old_stps", "ro"):
                state[name].pop(0)
        state["old_dirs"].append(y)
        state["old_stps"].append(s)
        state["ro"].append(1.0 / curvature)
        state["H_diag"] = curvature / float(y.dot(y))

    def _search(
        self,
        closure: Callable[[], Any],
        size: float,
        direction: Any,
        loss: float,
        gradient: Any,
        slope: float,
        evaluations: int,
    ) -> tuple[float, Any, float, int]:
        group, start = self.param_groups[0], [p.array.copy() for p in self._params]

        def evaluate(t: float) -> tuple[float, Any]:
            self._move(t, direction)
            value = float(closure())
            found = self._flat_gradient()
            for p, array in zip(self._params, start):
                p.array[...] = array
                p._note_change()
            return value, found

        left = group["max_eval"] - evaluations
        return strong_wolfe(evaluate, size, direction, loss, gradient, slope, group["tolerance_change"], left)

    # -- saving

    def state_dict(self) -> dict[str, Any]:
        """As other optimizers have it; the history is in the state of the first parameter, as lists."""
        saved = super().state_dict()
        for entries in saved["state"].values():
            for name in ("old_dirs", "old_stps"):
                if name in entries:
                    entries[name] = [Tensor(value) for value in entries[name]]
        return saved

    def _converted(self, index: Any, p: Tensor, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Vectors are as long as all parameters together, and numbers may be 0-d."""

        def convert(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [convert(part) for part in value]
            array = value.array if type(value) is Tensor else value
            if not is_array(array):
                return array
            return array.item() if array.ndim == 0 else move(array, device_of(p.array)).astype(p.dtype, copy=True)

        return {name: convert(value) for name, value in entries.items() if name != "al"}


def _two_loops(state: dict[str, Any], gradient: Any) -> Any:
    """-H g by Nocedal's two loops over the history."""
    q = -gradient
    factors = []
    for y, s, rho in zip(reversed(state["old_dirs"]), reversed(state["old_stps"]), reversed(state["ro"])):
        factor = float(s.dot(q)) * rho
        factors.append(factor)
        q -= factor * y
    q *= state["H_diag"]
    for y, s, rho, factor in zip(state["old_dirs"], state["old_stps"], state["ro"], reversed(factors)):
        q += (factor - float(y.dot(q)) * rho) * s
    return q
