"""The loop: it is the loop that one writes by hand, with validation, schedules, stopping, callbacks and a report around it."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn, optim
from tinygrad_ja.errors import ArgumentError, DtypeError, StateError
from tinygrad_ja.testing import strict
from tinygrad_ja.training import CSVLog, EarlyStopping, Trainer, Update, clock, evaluate
from tinygrad_ja.training.evaluation import Means, items_of

F = nn.functional


def batches(count=6, size=4, seed=0):
    generator = tg.Generator().manual_seed(seed)
    x = tg.randn(count * size, 3, generator=generator)
    return [(x[i : i + size], x[i : i + size].sum(1, keepdim=True)) for i in range(0, count * size, size)]


class Setting:
    """A small regression: model, measure and optimizer made from one seed."""

    def __init__(self, lr=0.05, dropout=0.0):
        tg.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr)

    def measure(self, batch):
        x, target = batch
        difference = self.model(x) - target
        return {"loss": (difference**2).mean(), "error": difference.abs().mean()}

    def weights(self):
        return np.concatenate([p.detach().numpy().ravel() for p in self.model.parameters()])

    def trainer(self, loader=None, *, update=None, **options):
        options = {"progress": False, "curves": False, **options}
        return Trainer(self.model, Update(self.measure, self.optimizer, **(update or {})), loader or batches(), **options)


# ---- the steps -----------------------------------------------------------------------------------


def test_it_takes_the_steps_of_the_loop_that_one_writes_by_hand():
    by_hand, by_trainer = Setting(dropout=0.3), Setting(dropout=0.3)
    schedule = optim.lr_scheduler.OneCycleLR(by_hand.optimizer, 0.1, total_steps=18)
    tg.manual_seed(1)
    for _ in range(3):
        for batch in batches():
            loss = by_hand.measure(batch)["loss"]
            by_hand.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(by_hand.model.parameters(), 0.5)
            by_hand.optimizer.step()
            schedule.step()
    schedule = optim.lr_scheduler.OneCycleLR(by_trainer.optimizer, 0.1, total_steps=18)
    tg.manual_seed(1)
    report = by_trainer.trainer(update={"clip_norm": 0.5, "schedule": schedule}).run(epochs=3)
    np.testing.assert_array_equal(by_trainer.weights(), by_hand.weights())
    assert (report.outcome, report.steps, report.epochs) == ("finished", 18, 3)


def test_a_step_of_ones_own_may_have_several_optimizers_and_return_the_loss_alone():
    a, b = tg.tensor([1.0], requires_grad=True), tg.tensor([1.0], requires_grad=True)
    for_a, for_b = optim.SGD([a], lr=0.1), optim.SGD([b], lr=0.2)

    def step(batch):
        for optimizer in (for_a, for_b):
            optimizer.zero_grad()
        loss = ((a + b) * batch).sum()
        loss.backward()
        for_a.step()
        for_b.step()
        return loss

    trainer = Trainer(nn.Identity(), step, [tg.tensor([1.0])], parts={"a": for_a, "b": for_b}, progress=False)
    trainer.run(iterations=2)
    np.testing.assert_allclose([a.item(), b.item()], [0.8, 0.6], rtol=1e-6)
    assert [row["loss"] for row in trainer.history] == pytest.approx([2.0, 1.7])
    assert trainer.values["loss"].requires_grad is False  # no graph is kept from step to step


def test_gathered_gradients_are_those_of_the_large_batch():
    large, small = Setting(), Setting()
    for setting in (large, small):  # Adam would take the same steps with any multiple of the gradients
        setting.optimizer = optim.SGD(setting.model.parameters(), lr=0.05)
    ((x, target), *_) = batches(1, 8)
    large.trainer([(x, target)]).run(epochs=3)
    small.trainer([(x[i : i + 2], target[i : i + 2]) for i in range(0, 8, 2)], update={"accumulate": 4}).run(epochs=3)
    np.testing.assert_allclose(small.weights(), large.weights(), rtol=1e-4, atol=1e-6)


def test_schedules_of_an_update_go_on_with_the_optimizer_and_others_with_epochs():
    setting = Setting(lr=1.0)
    per_step = optim.lr_scheduler.ExponentialLR(setting.optimizer, 0.5)
    setting.trainer(update={"schedule": per_step, "accumulate": 3}).run(epochs=2)  # 12 batches, 4 steps of the optimizer
    assert setting.optimizer.param_groups[0]["lr"] == 0.5**4
    setting = Setting(lr=1.0)
    trainer = setting.trainer(schedules=[optim.lr_scheduler.ExponentialLR(setting.optimizer, 0.5)])
    trainer.run(epochs=3)
    assert [row["lr"] for row in trainer.history] == [1.0, 0.5, 0.25]


def test_a_plateau_schedule_sees_the_validation():
    setting = Setting(lr=1.0)
    values = iter([1.0, 2.0, 3.0, 0.5, 4.0])
    plateau = optim.lr_scheduler.ReduceLROnPlateau(setting.optimizer, patience=0, factor=0.1)
    trainer = setting.trainer(validate=lambda: {"loss": next(values)}, schedules=[plateau])
    trainer.run(epochs=5)
    assert [row["lr"] for row in trainer.history] == pytest.approx([1.0, 1.0, 0.1, 0.01, 0.01])


def test_a_scaler_leaves_out_a_step_with_infinite_gradients():
    w = tg.tensor([1.0], requires_grad=True)
    scaler = tg.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = optim.SGD([w], lr=0.5)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    update = Update(lambda x: (w * x).sum(), optimizer, scaler=scaler, schedule=schedule)
    update(tg.tensor([math.inf]))
    assert (w.item(), scaler.get_scale(), optimizer.param_groups[0]["lr"]) == (1.0, 2.0, 0.5)
    update(tg.tensor([1.0]))
    assert (w.item(), optimizer.param_groups[0]["lr"]) == (0.5, 0.25)


@pytest.mark.parametrize("limit", ["clip_norm", "clip_value"])
def test_limits_hold_for_the_gradients_and_not_for_the_scaled_ones(limit):
    w = tg.tensor([1.0], requires_grad=True)
    scaler = tg.amp.GradScaler("cpu", init_scale=64.0)
    update = Update(lambda x: (w * x).sum(), optim.SGD([w], lr=0.5), scaler=scaler, **{limit: 1.0})
    update(tg.tensor([0.5]))  # below the limit
    assert w.item() == 0.75
    update(tg.tensor([3.0]))  # above
    assert w.item() == pytest.approx(0.25, abs=1e-5)


def test_an_update_runs_where_host_arrays_are_refused():
    host, device = (
        tg.ones(3, 1, requires_grad=True),
        tg.Tensor(strict.array(np.ones((3, 1), dtype=np.float32))).requires_grad_(),
    )
    for w, put in ((host, lambda array: array), (device, strict.array)):
        loader = [(tg.Tensor(put(x.array)), tg.Tensor(put(target.array))) for x, target in batches(3)]
        optimizer = optim.Adam([w], lr=0.1)
        update = Update(
            lambda batch, w=w: ((batch[0] @ w - batch[1]) ** 2).mean(), optimizer, clip_norm=0.1, accumulate=2, clip_value=0.05
        )
        trainer = Trainer(nn.Identity(), update, loader, progress=False)
        trainer.run(epochs=2)
        update.load_state_dict(update.state_dict())
    np.testing.assert_allclose(strict.peek(device.array), host.detach().numpy(), rtol=1e-6)


# ---- values --------------------------------------------------------------------------------------


def test_means_count_items_and_not_batches():
    model = nn.Identity()
    loader = [tg.tensor([1.0, 1.0, 1.0]), tg.tensor([5.0])]
    trainer = Trainer(model, lambda x: {"loss": x.mean(), "top": x.max().item()}, loader, progress=False)
    trainer.run(epochs=1)
    assert trainer.history[0]["loss"] == 2.0 and trainer.history[0]["top"] == 2.0
    by_batch = Trainer(model, lambda x: x.mean(), loader, items=lambda batch: 1, progress=False)
    by_batch.run(epochs=1)
    assert by_batch.history[0]["loss"] == 3.0
    assert evaluate(model, lambda x: x.mean(), loader) == {"loss": 2.0}


def test_items_are_the_length_of_the_first_array():
    x = np.zeros((5, 2))
    assert [items_of(x), items_of([x, 1]), items_of({"a": (tg.zeros(7),)}), items_of("text"), items_of(())] == [5, 5, 7, 1, 1]


def test_rows_come_every_n_steps_and_hold_means_since_the_last():
    loader = [tg.tensor([float(n)]) for n in range(6)]
    trainer = Trainer(nn.Identity(), lambda x: x.sum(), loader, log_every=2, validate_every=3, progress=False)
    trainer.validate = lambda: {"accuracy": 0.5}
    trainer.stopping = EarlyStopping("valid_accuracy", mode="max")
    trainer.run(epochs=1)
    assert [(row["step"], row["loss"], row.get("valid_accuracy")) for row in trainer.history] == [
        (2, 0.5, None),
        (3, 2.0, 0.5),
        (4, 3.0, None),
        (6, 4.5, 0.5),
    ]


def test_a_validation_at_the_step_of_a_row_has_its_training_values_too():
    loader = [tg.tensor([float(n)]) for n in range(4)]
    trainer = Trainer(nn.Identity(), lambda x: x.sum(), loader, validate=lambda: {"loss": 9.0}, log_every=2, progress=False)
    report = trainer.run(epochs=1)
    assert [(row["step"], row["loss"], row.get("valid_loss")) for row in trainer.history] == [
        (2, 0.5, None),
        (4, 2.5, None),
        (4, 2.5, 9.0),
    ]
    assert report.values["loss"] == 2.5
    alone = Trainer(nn.Identity(), lambda x: x.sum(), loader, log_every=2, progress=False)
    alone.run(iterations=4)
    assert [row["step"] for row in alone.history] == [2, 4]


def test_validation_runs_in_evaluation_mode_without_recording_and_leaves_modes_alone():
    setting = Setting()
    model = setting.model
    model[1].eval()  # a part that stays frozen
    seen = []

    def validate():
        seen.append(([part.training for part in model], tg.is_grad_enabled()))
        return {"loss": 1.0}

    setting.trainer(validate=validate).run(epochs=1)
    assert seen == [([False] * 4, False)]
    assert [part.training for part in model] == [True, False, True, True]


class Stream(tg.data.IterableDataset):
    """Six examples; nobody knows how many there will be."""

    def __iter__(self):
        return (tg.full((3,), float(number)) for number in range(6))


@pytest.mark.parametrize("progress", [False, True])
def test_a_stream_without_a_length_is_run_through(progress):
    setting = Setting()
    step = Update(lambda x: setting.model(x).square().mean(), setting.optimizer)
    trainer = Trainer(setting.model, step, tg.data.DataLoader(Stream(), batch_size=4), progress=progress, curves=False)
    assert trainer.run(epochs=2).steps == 4


def test_a_run_that_cannot_begin_leaves_no_file_open(tmp_path):
    class Refuses(CSVLog):
        def start(self, rows):
            raise OSError("no")

    trainer = Setting().trainer(folder=tmp_path, logs=[Refuses(tmp_path / "other.csv")])
    with pytest.raises(OSError, match="no"):
        trainer.run(epochs=1)
    assert all(log._file is None for log in trainer.logs)


def test_how_often_it_is_validated_changes_nothing_in_the_training():
    ends = []
    for every in (None, 1, 4):
        setting = Setting(dropout=0.3)
        data = tg.data.TensorDataset(*batches(1, 24)[0])
        shuffled = tg.data.DataLoader(data, batch_size=8, shuffle=True)  # draws a seed each time
        loader = tg.data.DataLoader(data, batch_size=4, shuffle=True)
        validate = lambda s=setting, v=shuffled: {**evaluate(s.model, s.measure, v), "noise": tg.rand(())}  # noqa: E731
        trainer = setting.trainer(loader, validate=validate, validate_every=every)
        trainer.run(epochs=2)
        ends.append((setting.weights(), trainer.history[-1]["valid_noise"]))
    for weights, noise in ends[1:]:
        np.testing.assert_array_equal(weights, ends[0][0])
        assert noise == ends[0][1]


def test_a_model_left_in_evaluation_mode_is_trained_in_training_mode():
    setting = Setting()
    setting.model.eval()
    setting.trainer().run(iterations=1)
    assert all(part.training for part in setting.model.modules())


class OnGPU:
    """A value that says it is on a GPU, and counts how often it is fetched."""

    fetched = 0
    is_cuda, size, shape = True, 1, ()

    def __init__(self, value):
        self.value = value

    def __float__(self):
        OnGPU.fetched += 1
        return self.value

    __int__ = __float__


def test_values_on_a_gpu_are_fetched_later_and_the_step_of_a_bad_one_is_still_known():
    means = Means("Trainer", check_loss=True)
    for step in range(1, Means.LATER):
        means.add({"loss": OnGPU(math.nan if step == 7 else 1.0)}, OnGPU(1), step)
    assert OnGPU.fetched == 0 and means.items == 0
    with pytest.raises(ArgumentError, match="step 7"):
        means.take()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(value, tmp_path):
    loader = [tg.tensor([v]) for v in (1.0, 2.0, value, 3.0)]
    trainer = Trainer(nn.Identity(), lambda x: x.sum(), loader, folder=tmp_path, checkpoint_every=1, progress=False)
    with pytest.raises(ArgumentError, match=f"TG-A003.*{value} at step 3.*detect_anomaly"):
        trainer.run(epochs=1)
    assert [path.name for path in sorted(tmp_path.glob("checkpoint*"))] == [
        "checkpoint-00000001.safetensors",
        "checkpoint-00000002.safetensors",
    ]
    assert Trainer(nn.Identity(), lambda x: x.sum(), loader, check_loss=False, progress=False).run(epochs=1).steps == 4


# ---- early stopping ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, values, stop, best",
    [
        ({"patience": 2}, [3, 2, 2.5, 2.1, 1], 3, 2),
        ({"patience": 1, "mode": "max"}, [1, 2, 2, 3], 2, 2),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.4, 2.3, 2.2], 4, 2.4),
        ({"patience": 2}, [3, math.nan, math.nan, 1], 2, 3),
        ({"patience": None}, [1, 2, 3, 4], None, 1),
    ],
)
def test_early_stopping_waits_for_its_patience(options, values, stop, best):
    stopping = EarlyStopping(**options)
    stopped = []
    for step, value in enumerate(values):
        stopping.update(value, step)
        stopped.append(stopping.stopped)
        if stopping.stopped:
            break
    assert (stopped.index(True) if True in stopped else None, stopping.best) == (stop, best)


@pytest.mark.parametrize("in_folder", [False, True])
def test_the_run_stops_early_and_the_best_weights_come_back(tmp_path, in_folder):
    setting = Setting()
    values = iter([3.0, 1.0, 2.0, 2.0])
    kept = []
    trainer = setting.trainer(
        validate=lambda: {"loss": next(values)},
        stopping=EarlyStopping(patience=2, restore_best=True),
        folder=tmp_path if in_folder else None,
        keep=1,
    )
    trainer.on("row", lambda t: kept.append(setting.weights()))
    report = trainer.run(epochs=10)
    assert (report.outcome, report.epochs, report.best, report.best_step) == ("stopped early", 4, 1.0, 12)
    assert not np.array_equal(kept[-1], kept[1])
    np.testing.assert_array_equal(setting.weights(), kept[1])


# ---- callbacks and what is shown -----------------------------------------------------------------


def test_callbacks_are_plain_functions_and_may_stop_the_run():
    setting, called = Setting(), []
    trainer = setting.trainer()
    for event in ("begin", "step", "row", "epoch", "end"):
        trainer.on(event, lambda t, event=event: called.append((event, t.iteration)))

    @trainer.on("step")
    def stop(t):
        if t.iteration == 8:
            t.stop()

    report = trainer.run(epochs=5)
    assert report.outcome == "stopped early"
    assert called == [
        ("begin", 0),
        *[("step", n) for n in range(1, 7)],
        ("row", 6),
        ("epoch", 6),
        ("step", 7),
        ("step", 8),
        ("row", 8),
        ("end", 8),
    ]


def test_a_second_run_goes_on_where_the_first_ended():
    whole = Setting(dropout=0.2)
    whole.trainer().run(epochs=3)
    parts = Setting(dropout=0.2)
    trainer = parts.trainer()
    for iterations in (4, 9, 18):
        trainer.run(iterations=iterations)
    assert (trainer.epoch, trainer.iteration) == (2, 18)
    np.testing.assert_array_equal(parts.weights(), whole.weights())


def test_the_report_is_a_table_in_both_languages(capsys, monkeypatch, tmp_path):
    setting = Setting()
    trainer = setting.trainer(validate=lambda: {"loss": 0.25}, progress=None, folder=tmp_path)
    report = trainer.run(epochs=2)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].startswith("step 6  epoch 1  loss ") and lines[1].startswith("step 12  epoch 2  loss ")
    for text in ("outcome", "finished", "best valid_loss (step 6)", "waiting for data", "in validation", "peak memory"):
        assert text in printed
    assert str(report) in printed and f"{tmp_path}" in printed
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    for text in ("結果", "完了", "最良の valid_loss (ステップ 6)", "データ待ち", "検証", "最大メモリ"):
        assert text in str(report)
    assert sum(report.shares.values()) == pytest.approx(1.0)


def test_time_spent_waiting_for_data_is_told_apart_from_steps(monkeypatch):
    now = [0.0]  # the time of a clock that only data and steps move on
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow:
        def __iter__(self):
            for batch in batches(4):
                now[0] += 3.0
                yield batch

    def step(batch):
        now[0] += 1.0
        return {"loss": 1.0}

    report = Trainer(Setting().model, step, Slow(), progress=False).run(epochs=1)
    assert report.shares == {"data": 0.75, "steps": 0.25, "validation": 0.0, "other": 0.0} and report.seconds == 16.0


def test_a_bar_shows_loss_speed_and_memory(capsys):
    pytest.importorskip("tqdm")
    Setting().trainer(progress=True).run(epochs=2)
    shown = capsys.readouterr()
    assert "12/12" in shown.err and "loss " in shown.err and "items/s" in shown.err and "step 6  epoch 1" in shown.out
    if sys.platform == "linux":
        assert " MB" in shown.err


def test_without_tqdm_there_are_plain_lines(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    Setting().trainer(progress=True).run(epochs=2)
    assert "step 12  epoch 2" in capsys.readouterr().out


def test_without_matplotlib_the_run_ends_well_and_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = Setting().trainer(folder=tmp_path, progress=None, curves=True).run(epochs=1)
    assert report.outcome == "finished" and not (tmp_path / "curves.png").exists()
    assert "TG-A002" in capsys.readouterr().out


def test_a_folder_gets_checkpoints_logs_and_curves(tmp_path):
    pytest.importorskip("matplotlib")
    report = Setting().trainer(folder=tmp_path / "a" / "b", curves=True, keep=1).run(epochs=2)
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert names == {"checkpoint-00000012.safetensors", "log.csv", "log.jsonl", "curves.png"}
    assert report.checkpoint == tmp_path / "a" / "b" / "checkpoint-00000012.safetensors"
    assert set(tg.load(report.checkpoint)["model"]) == {"0.weight", "0.bias", "3.weight", "3.bias"}


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step, shown",
    [
        (lambda x: None, "NoneType"),
        (lambda x: x, r"Tensor \(4, 3\)"),
        (lambda x: {"error": 1.0}, "error"),
        (lambda x: {"loss": "low"}, "str"),
        (lambda x: {1: 1.0, "loss": 1.0}, "1: float"),
    ],
)
def test_a_step_that_returns_no_loss_is_told_what_to_return(step, shown):
    trainer = Trainer(nn.Identity(), step, [tg.ones(4, 3)], progress=False)
    with pytest.raises(ArgumentError, match=f"TG-A001.*{shown}.*return"):
        trainer.run(epochs=1)


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"validate_every": 0}, "validate_every"),
        ({"log_every": 1.5}, "log_every"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
    ],
)
def test_bad_intervals_are_refused(options, argument):
    with pytest.raises(ArgumentError, match=argument):
        Setting().trainer(**options)


@pytest.mark.parametrize("options", [{}, {"epochs": 1, "resume": "yes"}, {"epochs": 1, "resume": True}])
def test_bad_arguments_of_run_are_refused(options):
    with pytest.raises(ArgumentError, match="TG-A001"):
        Setting().trainer().run(**options)


def test_unknown_events_monitors_and_empty_loaders_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="'batch'.*step, row, epoch, end"):
        Setting().trainer().on("batch", print)
    with pytest.raises(ArgumentError, match="valid_accuracy.*valid_loss"):
        Setting().trainer(validate=lambda: {"loss": 1.0}, stopping=EarlyStopping("valid_accuracy")).run(epochs=1)
    for loader in ([], iter([tg.ones(1)])):
        with pytest.raises(ArgumentError, match="no batch"):
            Trainer(nn.Identity(), lambda x: x, loader, progress=False).run(epochs=2)
    with pytest.raises(ArgumentError, match="no batch"):
        evaluate(nn.Identity(), lambda x: x, [])
    with pytest.raises(StateError, match="TG-F004"):
        Setting().trainer(folder=tmp_path).run(epochs=1, resume=True)


def test_an_optimizer_for_a_step_and_a_result_for_a_validation_are_refused_before_the_run():
    setting = Setting()
    with pytest.raises(ArgumentError, match="step = .*a function, such as Update"):
        Trainer(nn.Identity(), setting.optimizer, [tg.ones(1)])
    with pytest.raises(ArgumentError, match="validate = dict.*lambda: evaluate"):
        setting.trainer(validate={"loss": 1.0})


def test_parts_have_names_of_their_own_and_a_validation_returns_a_dict():
    setting = Setting()
    with pytest.raises(ArgumentError, match="parts = 'optimizer'.*trainer, model, optimizer"):
        setting.trainer(parts={"optimizer": setting.optimizer})
    with pytest.raises(DtypeError, match="TG-T007.*Trainer"):
        Trainer(setting.measure, setting.model, batches())
    with pytest.raises(ArgumentError, match="validate = float"):
        setting.trainer(validate=lambda: 0.5).run(epochs=1)


@pytest.mark.parametrize("options", [{"mode": "low"}, {"patience": 0}, {"min_delta": -1.0}])
def test_bad_settings_of_early_stopping_are_refused(options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        EarlyStopping(**options)


def test_bad_settings_of_an_update_are_refused():
    w = tg.ones(1, requires_grad=True)
    with pytest.raises(ArgumentError, match="accumulate"):
        Update(lambda x: x, optim.SGD([w], lr=0.1), accumulate=0)
