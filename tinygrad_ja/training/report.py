"""``Report``: how a training run ended, as a table in English or Japanese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import language
from ..table import aligned


@dataclass
class Report:
    """What ``Trainer.run`` returns. ``str`` of it is a table.

    outcome: ``"finished"``, ``"stopped early"`` (patience at its end, or ``trainer.stop()``) or ``"interrupted"`` (Ctrl-C).
    steps, epochs: done in all, those of earlier parts of the run too. values: the last row of the history.
    monitor, best, best_step: the watched value, its best and where that was; best is None when there was none.
    seconds, shares: the time of all parts, and its shares: ``"data"`` (waiting for the loader), ``"steps"``, ``"validation"``, ``"other"``.
    items_per_second: of the time for data and steps. memory: peak of the process, and the GPU's pool. folder: where the files are.
    """

    outcome: str
    steps: int
    epochs: int
    values: Mapping[str, float]
    monitor: str
    best: float | None
    best_step: int
    seconds: float
    shares: Mapping[str, float]
    items_per_second: float
    memory: str
    folder: Path | None = None
    checkpoint: Path | None = None

    @property
    def interrupted(self) -> bool:
        """True after Ctrl-C; a program may then end with the exit status 130."""
        return self.outcome == "interrupted"

    def __str__(self) -> str:
        words = _WORDS[language()]
        values = [
            (name, number(value)) for name, value in self.values.items() if name not in ("step", "epoch", "seconds", "lr")
        ]
        rows = [
            (words["outcome"], words[self.outcome]),
            (words["steps done"], f"{self.steps:,}"),
            *([(words["epochs done"], f"{self.epochs:,}")] if self.epochs else []),
            *values,
        ]
        if self.best is not None and self.best_step != self.steps:
            best = words["best"].format(name=self.monitor, step=f"{self.best_step:,}")
            rows.append((best, number(self.best)))
        rows += [
            (words["seconds"], f"{self.seconds:,.1f}"),
            (words["items per second"], f"{self.items_per_second:,.0f}"),
            *[("  " + words[phase], f"{share:.1%}") for phase, share in self.shares.items()],
        ]
        if self.memory:
            rows.append((words["memory"], self.memory))
        lines = aligned(rows)
        if self.interrupted:
            key = "go on" if self.checkpoint is not None else "nothing written"
            lines.append(words[key].format(path=self.checkpoint))
        elif self.folder is not None:
            lines.append(words["files"].format(path=self.folder))
        return "\n".join(lines)


_WORDS = {
    "en": {
        "outcome": "outcome",
        "finished": "finished",
        "stopped early": "stopped early",
        "interrupted": "interrupted",
        "steps done": "steps",
        "epochs done": "epochs",
        "best": "best {name} (step {step})",
        "seconds": "seconds",
        "items per second": "items per second",
        "data": "waiting for data",
        "steps": "in training steps",
        "validation": "in validation",
        "other": "logs, checkpoints, rest",
        "memory": "peak memory",
        "files": "written to: {path}",
        "go on": "To go on from here, run again with resume=True (programs: --resume): {path}",
        "nothing written": "No checkpoint was written: give the Trainer a folder to be able to go on.",
    },
    "ja": {
        "outcome": "結果",
        "finished": "完了",
        "stopped early": "早期終了",
        "interrupted": "中断",
        "steps done": "ステップ数",
        "epochs done": "エポック数",
        "best": "最良の {name} (ステップ {step})",
        "seconds": "時間 (秒)",
        "items per second": "1 秒あたりの件数",
        "data": "データ待ち",
        "steps": "学習ステップ",
        "validation": "検証",
        "other": "ログ・保存・その他",
        "memory": "最大メモリ",
        "files": "書き出し先: {path}",
        "go on": "続きから再開するには、resume=True (プログラムでは --resume) でもう一度実行してください: {path}",
        "nothing written": "チェックポイントはありません。再開できるようにするには Trainer に folder を渡してください。",
    },
}


def number(value: float) -> str:
    """A value in a few characters.

    >>> number(0.123456), number(12345.678), number(3e-7), number(1200)
    ('0.1235', '12345.7', '3e-07', '1,200')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if 0.1 <= abs(value) < 1e6:
        return f"{value:.4f}" if abs(value) < 1e3 else f"{value:.1f}"
    return f"{value:.4g}"
