"""``Experiment``: what stands around every program of ``models/``: its command line, its data, its folder, its pictures, its results.

    def main(argv=None):
        run = Experiment("row_rnn", TITLE, [Option("hidden", 128, ("hidden units", "隠れユニットの数"), quick=32)], argv, epochs=10)
        train, test = run.data(lambda **where: (MNIST(**where), MNIST(train=False, **where)), made_up)
        model = Classifier(run.options.hidden).to(run.options.device)
        ...
        run.train(Trainer(model, run.compiled(Update(measure, optimizer)), loader, **run.keeping))
        with run.figure("digits.png") as axes:
            axes.imshow(...)
        return run.finish([Result("accuracy", score, ("right digits of the test", "テストの正解率"), ".2%")])

Every program takes ``--device --data --out --epochs --compile --resume --seed --quick --real`` beside its own options.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..backend.random import manual_seed
from ..backend.threads import get_num_threads
from ..commands import INTERRUPTED
from ..config import hardware
from ..errors import Phrase, TinygradError, language, refusal
from ..io.files import replacing
from ..table import aligned
from ..viz.figures import Words, save_figure
from ..viz.figures import matplotlib as load_matplotlib
from .curves import lettering, pyplot
from .report import Report
from .run_folder import RunFolder
from .trainer import Trainer

T = TypeVar("T")


class Option(NamedTuple):
    """An option ``--name`` of one program; its type is that of ``default`` (False: a flag).

    help: in English and in Japanese. quick: what it is under ``--quick``, unless it was given. choices: the values that it may have.
    least, most: the numbers between which it is; unless ``least`` says otherwise an int is at least 1, a float at least 0. later: it matters
    only after the training, so ``--resume`` may change it.
    """

    name: str
    default: Any
    help: Phrase
    quick: Any = None
    choices: Sequence[Any] | None = None
    least: float | None = None
    later: bool = False
    most: float | None = None


class Result(NamedTuple):
    """A line of the table at the end. name: in ``results.json``. label: in English and in Japanese. format: as for ``format``."""

    name: str
    value: Any
    label: Phrase
    format: str = ".4g"


_COMMON: dict[str, Phrase] = {
    "device": ("cpu, cuda or cuda:1 (default cpu)", "cpu、cuda、cuda:1 のどれか (既定値 cpu)"),
    "data": ("folder of the data (default: TINYGRAD_JA_DATA, then the cache)", "データのフォルダ (既定値: TINYGRAD_JA_DATA、次にキャッシュ)"),
    "out": ("folder for pictures, results, checkpoints", "図、結果、チェックポイントを書き出すフォルダ"),
    "epochs": ("passes over the training data", "訓練データを学習する回数"),
    "compile": ("record the training step and replay it faster", "学習ステップを記録し、速く再生する"),
    "resume": ("continue from the checkpoint in --out", "--out のチェックポイントから続ける"),
    "seed": ("seed of all random numbers", "乱数シード"),
    "quick": ("small and short, for a first look", "小さく短く。まず試したいとき"),
    "real": ("stop where the data is missing, rather than go on with made-up data", "データがないとき、人工データで続けずに終わる"),
}  # fmt: skip
_SYNTHETIC = (
    "Not here: {name} ({reason}). Going on with made-up data; what comes of it says nothing about {name}.",
    "{name} が見つかりません ({reason})。代わりに人工データで続けます。結果は {name} でのものではありません。",
)
_QUICK = ("a run with --quick downloads nothing", "--quick の実行では何もダウンロードしません")
_DEFAULT = ("default", "既定値")


def _here(phrase: Phrase) -> str:
    return phrase[language() == "ja"]


class Experiment:
    """A run of one program. ``options``: what the command line says.

    name: of the program. title: ``TITLE`` of its file. options: its own. argv: the command line, None for the process's. epochs: default of
    ``--epochs``, and quick_epochs: under ``--quick``. The random numbers are seeded and ``--out`` is made, which belongs to this
    process until ``finish``; when matplotlib is missing, that is said before the training and not after.

    >>> import tempfile
    >>> argv = ["--hidden", "8", "--quick", "--out", tempfile.mkdtemp()]
    >>> run = Experiment("example", {"en": "an example", "ja": "例"}, [Option("hidden", 128, ("units", "ユニット"), quick=32)], argv)
    >>> run.options.hidden, run.options.epochs, run.options.seed
    (8, 1, 0)
    >>> results = run.finish([Result("accuracy", 0.975, ("right digits", "正解率"), ".1%")])
    right digits  97.5%
    >>> results["accuracy"], results["options"]["hidden"]
    (0.975, 8)
    """

    def __init__(
        self,
        name: str,
        title: Mapping[str, str],
        options: Sequence[Option] = (),
        argv: Sequence[str] | None = None,
        *,
        epochs: int = 1,
        quick_epochs: int = 1,
    ) -> None:
        self.name, self.source = name, "none"
        self._settings = [option.name for option in options if not option.later]
        self.options = _parsed(name, title, options, argv, epochs, quick_epochs)
        pyplot()
        try:
            self._folder = RunFolder(self.options.out, self.options.resume)
        except (FileExistsError, NotADirectoryError) as failure:
            rule = ("a folder, or a name that is free", "フォルダか、まだ使われていない名前")
            raise refusal(f"python -m models {name}", "--out", self.options.out, rule, f"--out runs/{name}") from failure
        manual_seed(self.options.seed)
        self.words = Words()
        self._begin = time.perf_counter()
        self._reports: list[Report] = []

    @property
    def quick(self) -> bool:
        """Whether ``--quick`` was given."""
        return bool(self.options.quick)

    # -- data

    def data(self, real: Callable[..., T], synthetic: Callable[[], T], name: str = "") -> T:
        """``real(root=..., download=...)``, a named data set or several; where that is nowhere to be had, ``synthetic()``, which is said.

        A quick run downloads nothing. ``source`` becomes ``name`` or ``"synthetic"`` and goes into the results. Raises StateError (TG-F006)
        under ``--real`` when it is nowhere to be had.
        """
        try:
            from ..data.datasets.places import no_download_because  # slow to import

            with no_download_because(*_QUICK):
                made = real(root=self.options.data, download=not self.quick)
        except TinygradError as failure:
            if self.options.real or failure.code != "TG-F006":
                raise
            self.source = "synthetic"
            reason = str(failure).partition("\n")[0]
            print(_here(_SYNTHETIC).format(name=name or self.name, reason=reason), file=sys.stderr)
            return synthetic()
        self.source = name or "real"
        return made

    # -- training

    def compiled(self, step: T) -> T:
        """The training step, under ``tg.compile`` if ``--compile`` was given."""
        if not self.options.compile:
            return step
        from ..compiler import compile as compiled

        function: Any = step
        made: T = compiled(function)
        return made

    @property
    def keeping(self) -> dict[str, Any]:
        """Arguments of a Trainer: the folder, and the settings that have to be the same when a run goes on."""
        settings = {name: getattr(self.options, name) for name in [*self._settings, "seed"]}
        return {"folder": self.options.out, "settings": {k: v for k, v in settings.items() if not isinstance(v, Path)}}

    def train(self, trainer: Trainer, iterations: int | None = None) -> Report:
        """Run ``trainer`` for ``--epochs``, or for so many iterations. After Ctrl-C the program ends with the status 130.

        Of several trainers, each with a folder of its own, those after the first begin under ``--resume`` where this run has not come to them
        yet, even if an earlier run left checkpoints there.
        """
        epochs = self.options.epochs if iterations is None else None
        resume = self.options.resume
        if resume and self._reports:
            resume = "auto" if self._folder.knows(trainer) else False
        trainer.on("begin", self._folder.note)
        report = trainer.run(epochs=epochs, iterations=iterations, resume=resume)
        if report.interrupted:
            raise SystemExit(INTERRUPTED)
        self._reports.append(report)
        return report

    # -- pictures and results

    def told(self, english: str, japanese: str) -> str:
        """A text for the terminal, in the language of the messages. (``words``, for pictures, is English where no font has Japanese.)"""
        return _here((english, japanese))

    @contextlib.contextmanager
    def figure(
        self, name: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.0, 4.2), title: str = ""
    ) -> Iterator[Any]:
        """Axes of matplotlib to draw into (a grid of them for several), written to ``name`` in the folder when the block ends.

        ``run.words(english, japanese)`` gives texts in the language for which there is a font. size: of the whole, in inches.
        """
        with lettering():
            figure = load_matplotlib().figure.Figure(figsize=size, layout="constrained")
            yield figure.subplots(rows, columns)
            if title:
                figure.suptitle(title)
            save_figure(figure, self.options.out / name)

    def finish(self, results: Sequence[Result], **more: Any) -> dict[str, Any]:
        """Write ``results.json`` and print the table. Returns what was written: the results, ``more`` that the table does not show, and how
        they came about: options, seed, device, data, machine, threads and versions. ``train_seconds``: of the training, with waiting for
        data, validation and checkpoints, all parts of a resumed run; ``seconds``: of this run, with reading of data, test and pictures."""
        reports = self._reports
        seconds = round(sum(report.seconds for report in reports), 3)
        trained = {"steps": sum(report.steps for report in reports), "train_seconds": seconds} if reports else {}
        made = {
            "program": self.name,
            **{result.name: _plain(result.value) for result in results},
            **{key: _plain(value) for key, value in more.items()},
            **trained,
            "seconds": round(time.perf_counter() - self._begin, 3),
            "seed": self.options.seed,
            "device": str(self.options.device),
            "data": self.source,
            "options": {key: _plain(value) for key, value in vars(self.options).items()},
            "machine": {
                "processor": hardware(),
                "architecture": platform.machine(),
                "threads": get_num_threads(),
                "python": platform.python_version(),
                "numpy": np.__version__,
            },
        }
        # what is no character, in the name of a folder, has the same escape in JSON
        with replacing(self.options.out / "results.json", "w", errors="backslashreplace") as file:
            json.dump(made, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        self._folder.release()
        for line in aligned(
            [(_here(r.label), r.value if isinstance(r.value, str) else format(r.value, r.format)) for r in results]
        ):
            print(line)
        return made


def _parsed(
    name: str, title: Mapping[str, str], options: Sequence[Option], argv: Sequence[str] | None, epochs: int, quick_epochs: int
) -> argparse.Namespace:
    program = f"python -m models {name}"
    parser = argparse.ArgumentParser(prog=program, description=title[language()], allow_abbrev=False)
    common = [
        Option("epochs", epochs, _COMMON["epochs"], quick_epochs, least=0),
        Option("device", "cpu", _COMMON["device"]),
        Option("data", "", _COMMON["data"]),
        Option("out", Path("runs") / name, _COMMON["out"]),
        Option("compile", False, _COMMON["compile"]),
        Option("resume", False, _COMMON["resume"]),
        Option("seed", 0, _COMMON["seed"], least=0),
        Option("quick", False, _COMMON["quick"]),
        Option("real", False, _COMMON["real"]),
    ]
    known = [*options, *common]
    for option in known:
        text = _here(option.help)
        if option.default is False:
            parser.add_argument(_flag(option), action="store_true", help=text)
            continue
        if _here(_DEFAULT) not in text:
            text += f" ({_here(_DEFAULT)} {option.default})"
        values = "{" + ",".join(map(str, option.choices)) + "}" if option.choices else None
        parser.add_argument(_flag(option), metavar=values, help=text.replace("%", "%%"))
    made = parser.parse_args(argv)
    for option in known:
        given = getattr(made, option.name)
        if given is None:
            setattr(made, option.name, option.quick if made.quick and option.quick is not None else option.default)
        elif option.default is not False:
            setattr(made, option.name, _value(program, option, given))
    made.data = Path(made.data) if made.data else None
    return made


def _flag(option: Option) -> str:
    return "--" + option.name.replace("_", "-")


def _value(program: str, option: Option, given: str) -> Any:
    """What was given for an option, in its type. Raises ArgumentError when it is none of the values that it may have."""
    kind = type(option.default)
    least = {int: 1, float: 0}.get(kind) if option.least is None else option.least
    try:
        value = kind(given)
        allowed = (least is None or value >= least) and (option.most is None or value <= option.most)
    except ValueError:
        allowed = False
    if allowed and (option.choices is None or value in option.choices):
        return value
    number = ("a whole number", "整数") if kind is int else ("a number", "数")
    if option.choices is not None:
        names = list(map(str, option.choices))
        rule = (f"one of {', '.join(names)}", f"{'、'.join(names)} のどれか")
    elif option.most is not None:
        rule = (f"{number[0]} from {least:g} to {option.most:g}", f"{least:g} 以上 {option.most:g} 以下の{number[1]}")
    else:
        rule = (f"{number[0]}, at least {least:g}", f"{least:g} 以上の{number[1]}")
    example = f"{_flag(option)} {option.default}"
    raise refusal(program, _flag(option), given, rule, (f"for instance {example}", f"たとえば {example}"))


def _plain(value: Any) -> Any:
    """As JSON takes it, which has no NaN and no infinity: they become None."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
