"""``Trainer``: the loop around a step of your own. Epochs, validation, logs, checkpoints, early stopping, and going on after a stop.

    def measure(batch):                                     # forward and loss, for training and validation
        x, target = batch
        y = model(x)
        return {"loss": F.cross_entropy(y, target), "accuracy": accuracy(y, target)}

    trainer = Trainer(
        model,
        Update(measure, optimizer, clip_norm=1.0),          # or any function step(batch) that does the whole step itself
        train_loader,
        validate=lambda: evaluate(model, measure, valid_loader),
        folder="runs/lenet",
    )
    report = trainer.run(epochs=10)                         # resume=True goes on from the newest checkpoint

The loop is ``Trainer._train`` and ``Trainer._step``: draw a batch, run the step, and do what is due.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backend.random import Stream, default_generator, drawing_apart
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, Phrase, error, refusal
from ..io import Checkpoints, load
from ..nn.evaluating import evaluating
from ..nn.module import Module
from ..optim.lr_scheduler import ReduceLROnPlateau
from ..optim.optimizer import Optimizer
from .batches import Batches
from .clock import Clock, memory_text
from .curves import save_curves
from .evaluation import Means, detached, items_of, values_of
from .interruption import Interruption
from .logs import CSVLog, JSONLog, Log
from .progress import Progress
from .report import Report, number
from .stopping import EarlyStopping

EVENTS = ("begin", "step", "row", "epoch", "end")


class Trainer:
    """Runs ``step(batch)`` over the batches of ``loader``.

    model: its modules are put into evaluation mode for the validation, and its weights are in the checkpoints.
    step: one whole training step: it changes the weights, and returns the loss or a dict of numbers with the loss as ``"loss"``. An ``Update``,
    or a function of your own.
    loader: batches; iterated once an epoch. One with ``state_dict`` (a DataLoader) goes on after a stop where it was; of any other, the batches
    that were done are drawn once more and skipped.
    validate: a function without arguments that returns a dict of numbers; they are logged as ``valid_...``. Its random numbers are its own:
    how often it runs changes nothing in the training.
    parts: name -> what else a checkpoint has to hold so that a run goes on exactly (optimizers, generators, anything with ``state_dict``). The
    parts of an ``Update`` are known.
    folder: for ``checkpoint-*.safetensors`` (the newest, and the one of the best validation), ``log.csv``, ``log.jsonl`` and ``curves.png``.
    Without it nothing is written.
    schedules: stepped at the end of each epoch; a ReduceLROnPlateau after each validation, with the value that ``stopping`` watches.
    stopping: an EarlyStopping. Without one, the best ``valid_loss`` (or ``loss``) is noted and nothing stops.
    validate_every, log_every, checkpoint_every: steps between validations (each makes a row of the log), rows of training values alone, and
    checkpoints. None: at the end of each epoch (``log_every``: only with validations).
    logs: further logs, such as ``TensorBoardLog``. settings: plain values that have to be the same when a run goes on.
    items: the number of items of a batch (a Tensor on a GPU is not waited for); else the length of its first array. Means and speed count
    items.
    progress: True for a bar, False for nothing at all, None for a bar on a terminal only. print_rows: print each row of the log.
    check_loss: a loss that is NaN or infinite ends the run with an error that names the step. keep: checkpoints that are kept. curves: draw
    ``curves.png`` at the end.

    Modules keep the modes they have, but a model that is in evaluation mode as a whole is put into training mode.

    ``iteration``, ``epoch``: steps and epochs done. ``history``: a list of rows. ``values``: what the last step returned.

    >>> import tinygrad_ja as tg
    >>> _ = tg.manual_seed(0)
    >>> w = tg.nn.Linear(1, 1)
    >>> batches = [tg.tensor([[1.0], [2.0]]), tg.tensor([[3.0]])]
    >>> update = tg.training.Update(lambda x: ((w(x) - 2 * x) ** 2).mean(), tg.optim.Adam(w.parameters(), lr=0.1))
    >>> trainer = Trainer(w, update, batches, progress=False)
    >>> report = trainer.run(epochs=100)
    >>> report.outcome, report.steps, report.values["loss"] < 0.01
    ('finished', 200, True)
    """

    def __init__(
        self,
        model: Module,
        step: Callable[[Any], Any],
        loader: Iterable[Any],
        *,
        validate: Callable[[], Mapping[str, Any]] | None = None,
        parts: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
        schedules: Sequence[Any] = (),
        stopping: EarlyStopping | None = None,
        validate_every: int | None = None,
        log_every: int | None = None,
        checkpoint_every: int | None = None,
        logs: Sequence[Log] = (),
        settings: Mapping[str, Any] | None = None,
        items: Callable[[Any], int | Tensor] = items_of,
        progress: bool | None = None,
        print_rows: bool = True,
        check_loss: bool = True,
        keep: int = 2,
        curves: bool = True,
    ) -> None:
        if not isinstance(model, Module):
            raise error("TG-T007", op="Trainer", type=type(model).__name__)
        rule = ("a function, such as Update(...) or lambda: evaluate(...)", "関数 (Update(...) や lambda: evaluate(...) など)")
        for argument, function in (("step", step), ("validate", step if validate is None else validate)):
            _require(argument, type(function).__name__, callable(function), rule)
        every = {"validate_every": validate_every, "log_every": log_every, "checkpoint_every": checkpoint_every}
        for argument, value in every.items():
            _require(argument, value, value is None or (isinstance(value, int) and value >= 1), ("None, int >= 1",) * 2)
        self.model, self.step, self.loader, self.validate = model, step, loader, validate
        self.schedules = list(schedules)
        self.stopping = stopping or EarlyStopping("loss" if validate is None else "valid_loss", patience=None)
        self.validate_every, self.log_every, self.checkpoint_every = validate_every, log_every, checkpoint_every
        self.settings = dict(settings or {})
        self.items, self.curves = items, curves
        self.progress, self.print_rows = progress, print_rows

        self.iteration = self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.values: dict[str, Any] = {}
        self._batches = Batches(loader)
        self._means = Means("Trainer", check_loss)
        self._clock = Clock()
        self._checked_at = 0
        self._improved = False
        self._best_weights: dict[str, Any] | None = None
        self._callbacks: dict[str, list[Callable[[Trainer], Any]]] = {event: [] for event in EVENTS}
        self._stop_asked = False
        self._progress = Progress(None, 0, "step", bar=False)

        self.folder = None if folder is None else Path(folder)
        self.logs = list(logs)
        self.parts = {"trainer": self, "model": model, **getattr(step, "parts", {})}
        self.parts.update({f"epoch_schedule{index}": schedule for index, schedule in enumerate(self.schedules)})
        if self._batches.has_state:
            self.parts["loader"] = loader
        for name, part in (parts or {}).items():
            _require("parts", repr(name), name not in self.parts, (f"not one of {', '.join(self.parts)}",) * 2)
            self.parts[name] = part
        self._checkpoints: Checkpoints | None = None
        self._written: tuple[int, ...] | None = None
        self._saved_to: Path | None = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.logs = [CSVLog(self.folder / "log.csv"), JSONLog(self.folder / "log.jsonl"), *self.logs]
            self._checkpoints = Checkpoints(self.folder, self.parts, keep=keep, mode=self.stopping.mode)

    # -- using it

    def on(self, event: str, function: Callable[[Trainer], Any] | None = None) -> Any:
        """Call ``function(trainer)`` at the ``"begin"`` (after what is resumed has been read), at each ``"step"``, ``"row"`` (of the log) or
        ``"epoch"``, or at the ``"end"``. Also a decorator: ``@trainer.on("epoch")``. It may call ``stop()`` and ``write(text)``."""
        _require("event", repr(event), event in EVENTS, (", ".join(EVENTS),) * 2)
        if function is None:
            return lambda given: self.on(event, given)
        self._callbacks[event].append(function)
        return function

    @property
    def batch(self) -> int:
        """Batches done in the current epoch."""
        return self._batches.done

    def stop(self) -> None:
        """End the run after this step."""
        self._stop_asked = True

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.write(line)

    def run(self, *, epochs: int | None = None, iterations: int | None = None, resume: bool | str = False) -> Report:
        """Train until so many epochs or iterations (steps) are done in all, print the report and return it.

        resume: True goes on from the newest checkpoint in the folder, bit for bit as if nothing had happened (also in the middle of an epoch);
        "auto" does so if there is one; False begins: checkpoints and logs of an earlier run in the folder are replaced. A second call on the
        same Trainer goes on where the first ended, from the weights as they are then: after ``restore_best`` from the best ones.

        The first Ctrl-C ends the step, writes the checkpoint and the logs and returns; the second raises KeyboardInterrupt at once.
        Raises ArgumentError for a loss that is not finite or a loader without batches, StateError when there is nothing to resume from or it
        does not fit.
        """
        limits = {"epochs": epochs, "iterations": iterations}
        _require(
            "epochs, iterations",
            limits,
            any(n is not None for n in limits.values()),
            ("at least one of them", "少なくとも一方"),
        )
        _require("resume", repr(resume), resume in (True, False, "auto"), ("True, False, 'auto'",) * 2)
        self._epochs, self._iterations = epochs, iterations
        try:
            self._begin(resume)
            self._progress = Progress(
                self._steps_in_all(), self.iteration, "step", bar=self.progress, quiet=self.progress is False
            )
            with Interruption() as self._interruption:
                self._train()
                outcome = self._outcome()
                self._end(outcome)
        finally:
            self._clock.stop()
            self._progress.close()
            for log in self.logs:
                log.close()
        self._draw()
        report = self._report(outcome)
        if self.progress is not False:
            print(report)
        return report

    # -- the loop

    def _train(self) -> None:
        while not self._over:
            for batch in self._drawn():
                self._step(batch)
                if self._over:
                    break
            else:
                self._end_epoch()

    @property
    def _over(self) -> bool:
        """True when no further step shall begin."""
        return (
            self._interruption.asked
            or self._stop_asked
            or self.stopping.stopped
            or (self._iterations is not None and self.iteration >= self._iterations)
            or (self._epochs is not None and self.epoch >= self._epochs)
        )

    def _drawn(self) -> Iterator[Any]:
        """The batches of this epoch that are not done, the time for them noted."""
        rest = self._batches.rest()
        while True:
            self._clock.enter("data")
            batch = next(rest, _NONE)
            self._clock.enter("other")
            if batch is _NONE:
                return
            yield batch

    def _step(self, batch: Any) -> None:
        self._clock.enter("steps")
        self.values = detached(values_of("Trainer", self.step(batch)))
        self.iteration += 1
        self._means.add(self.values, self.items(batch), self.iteration)
        self._clock.enter("other")
        self._emit("step")
        if self._due(self.validate_every):
            self._check()
        elif self._due(self.log_every):
            self._row({})
        self._checkpoint_if(self._due(self.checkpoint_every))
        self._progress.advance(self._bar_text)

    def _due(self, every: int | None) -> bool:
        return every is not None and self.iteration % every == 0

    def _end_epoch(self) -> None:
        if self.validate_every is None:
            self._check()
        for schedule in self.schedules:
            if not isinstance(schedule, ReduceLROnPlateau):
                schedule.step()
        self.epoch += 1
        self._batches.next_epoch()
        self._emit("epoch")
        self._checkpoint_if(self.checkpoint_every is None)

    def _checkpoint_if(self, due: bool) -> None:
        """A checkpoint when it is due, or when the validation was the best so far."""
        if due or self._improved:
            self._checkpoint()
        self._improved = False

    def _emit(self, event: str) -> None:
        for function in self._callbacks[event]:
            function(self)

    # -- rows and validation

    def _check(self) -> None:
        """Validate, make a row, and see whether it is the best."""
        values: dict[str, float] = {}
        if self.validate is not None:
            self._clock.enter("validation")
            with evaluating(self.model), no_grad(), drawing_apart(self._validation_stream):
                made = self.validate()
                _require("validate", type(made).__name__, isinstance(made, Mapping), ("returns a dict", "dict を返すこと"))
                values = {f"valid_{name}": float(value) for name, value in made.items()}
            self._clock.enter("other")
        row = self._row(values) if values or not self._row_here else self._row_here
        self._checked_at = self.iteration
        monitor = self.stopping.monitor
        _require("stopping.monitor", repr(monitor), monitor in row, (", ".join(row),) * 2)
        if self.stopping.update(row[monitor], self.iteration):
            self._improved = True
            if self.folder is None and self.stopping.restore_best:
                self._best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        for schedule in self.schedules:
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(row[monitor])

    @property
    def _validation_stream(self) -> Stream:
        """Random numbers of a validation: not those of the training, which goes on alike however often it is validated."""
        return Stream(default_generator("cpu").initial_seed() + self.iteration)

    @property
    def _row_here(self) -> dict[str, float]:
        """The row that there is for this step already, or an empty one."""
        return self.history[-1] if self.history and self.history[-1]["step"] == self.iteration else {}

    def _row(self, values: Mapping[str, float]) -> dict[str, float]:
        """A row of the history: means of training since the last row, and ``values``."""
        row = {**self._row_here, "step": self.iteration, "epoch": self.epoch + 1, **self._means.take(), **values}
        optimizer = next((part for part in self.parts.values() if isinstance(part, Optimizer)), None)
        if optimizer is not None:
            row["lr"] = float(optimizer.param_groups[0]["lr"])
        self._clock.enter("other")
        row["seconds"] = round(self._clock.total, 3)
        self.history.append(row)
        for log in self.logs:
            log.write(row)
        if self.print_rows:
            self.write("  ".join(f"{name} {number(value)}" for name, value in row.items()))
        self._emit("row")
        return row

    # -- beginning and ending

    def _begin(self, resume: bool | str) -> None:
        self._stop_asked = False
        found = None
        if self._checkpoints is not None:
            found = self._checkpoints.restore() if resume else None
            if resume is True and found is None:
                raise error("TG-F004", path=self._checkpoints.folder / "checkpoint-*.safetensors")
            for part in self.parts.values() if found else ():
                if isinstance(part, Optimizer):
                    part.stepped = True  # in the process before, so its schedules may step
            if found is None and self.iteration == 0:
                for path in self._checkpoints.folder.glob("checkpoint-*.safetensors"):
                    path.unlink()
        elif resume is True:
            rule = ("a Trainer with a folder", "folder のある Trainer")
            raise refusal("Trainer", "resume", resume, rule, ('Trainer(..., folder="runs/a").',) * 2)
        if not self.model.training:
            self.model.train()
        for log in self.logs:
            log.start(self.history)
        self._clock.start()
        self._emit("begin")

    def _steps_in_all(self) -> int | None:
        """For the bar; None where the loader does not know its length, such as one over a stream."""
        if self._iterations is not None or self._epochs is None:
            return self._iterations
        try:
            return self._epochs * len(self.loader)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            return None

    def _bar_text(self) -> str:
        values = "  ".join(f"{name} {number(value)}" for name, value in self._means.latest.items())
        return f"{values}  {self._speed():,.0f} items/s  {memory_text(self._on_gpu)}"

    def _speed(self) -> float:
        """Items a second, of the time for data and steps."""
        busy = self._clock.seconds["data"] + self._clock.seconds["steps"]
        return self._means.items / busy if busy else 0.0

    @property
    def _on_gpu(self) -> bool:
        return any(p.is_cuda for p in self.model.parameters())

    def _outcome(self) -> str:
        if self._interruption.asked:
            return "interrupted"
        return "stopped early" if self._stop_asked or self.stopping.stopped else "finished"

    def _end(self, outcome: str) -> None:
        """The last row and checkpoint. After Ctrl-C no row is closed, so that going on makes the same rows."""
        self._means.settle()
        if outcome != "interrupted" and self.iteration > self._checked_at:
            self._check()
        self._checkpoint()
        if outcome != "interrupted":
            self._restore_best()
            self._emit("end")

    def _restore_best(self) -> None:
        if not self.stopping.restore_best:
            return
        weights: Any = self._best_weights
        if self._checkpoints is not None:
            best = self._checkpoints.best()
            weights = None if best is None else load(best.path)["model"]
        if weights is not None:
            self.model.load_state_dict(weights)

    def _draw(self) -> None:
        if self.folder is not None and self.curves and self.history:
            try:
                save_curves(self.folder / "curves.png", self.history)
            except ArgumentError as failure:  # matplotlib is not installed: the run is worth its logs all the same
                self.write(f"curves.png: {failure}")

    def _report(self, outcome: str) -> Report:
        watched = self.stopping
        return Report(
            outcome=outcome,
            steps=self.iteration,
            epochs=self.epoch,
            values=self.history[-1] if self.history else {},
            monitor=watched.monitor,
            best=watched.best if watched.best_step else None,
            best_step=watched.best_step,
            seconds=self._clock.total,
            shares=self._clock.shares(),
            items_per_second=self._speed(),
            memory=memory_text(self._on_gpu),
            folder=self.folder,
            checkpoint=self._saved_to,
        )

    # -- state

    def _checkpoint(self) -> None:
        """Write a checkpoint, unless this very state is written. It has the watched value as its metric where that is the best."""
        state = (self.iteration, self.epoch, len(self.history))
        if self._checkpoints is None or self._written == state:
            return
        self._means.settle()
        metric = self.stopping.best if self.stopping.best_step == self.iteration else None
        self._saved_to = self._checkpoints.save(self.iteration, metric=metric)
        self._written = state

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands: counters, history, means since the last row, early stopping, settings."""
        return {
            **{name: getattr(self, name) for name in _COUNTERS},
            "history": json.dumps(self.history),
            "totals": self._means.totals,
            "_item_count": self._means.items,
            "seconds": self._clock.seconds,
            "stopping": self.stopping.state_dict(),
            "batches": self._batches.state_dict(),
            "settings": self.settings,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave. Raises StateError when it was made with other settings; then nothing has changed."""
        theirs = state_dict["settings"]
        if theirs != self.settings:
            names = [name for name in {**theirs, **self.settings} if theirs.get(name) != self.settings.get(name)]
            differing = ", ".join(f"{name} = {theirs.get(name)!r} / {self.settings.get(name)!r}" for name in names)
            raise error(
                "TG-F003",
                what="Trainer",
                reason=(
                    f"settings differ (checkpoint / this run): {differing}",
                    f"設定が違います (チェックポイント / 今回): {differing}",
                ),
                fix=(
                    "use the same settings, or start without resume.",
                    "同じ設定を使うか、resume なしで始めてください。",
                ),
            )
        history = json.loads(state_dict["history"])
        self._written = None
        self.stopping.load_state_dict(state_dict["stopping"])
        self._clock.restore(state_dict["seconds"])
        self._means.restore(state_dict["totals"], state_dict["_item_count"])
        self._batches.load_state_dict(state_dict["batches"])
        self.history = history
        for name in _COUNTERS:
            setattr(self, name, state_dict[name])


_NONE = object()
_COUNTERS = ("iteration", "epoch", "_checked_at")


def _require(argument: str, value: Any, allowed: bool, rule: Phrase) -> None:
    if not allowed:
        raise refusal("Trainer", argument, value, rule)
