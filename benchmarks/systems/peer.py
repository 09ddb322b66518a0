"""What all peers need: the options of their program, its data, and a clock that waits for the GPU."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

import tinygrad_ja as tg
from tinygrad_ja.errors import TinygradError
from tinygrad_ja.training import Option

T = TypeVar("T")

torch.backends.cudnn.allow_tf32 = (
    False  # on a GPU too both sides compute in float32; for products of matrices that is the default
)


def parsed(options: Sequence[Option], argv: Sequence[str] | None, epochs: int, quick_epochs: int) -> argparse.Namespace:
    """The options of a program of ``models/``, with the same defaults, and those that all have. Seeds both sides' generators."""
    parser = argparse.ArgumentParser()
    common = [Option("epochs", epochs, ("", ""), quick_epochs), Option("seed", 0, ("", "")), Option("device", "cpu", ("", ""))]
    known = [*options, *common]
    for option in known:
        flag = "--" + option.name.replace("_", "-")
        if option.default is False:
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(option.default), choices=option.choices)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    made = parser.parse_args(argv)
    for option in known:
        if getattr(made, option.name) is None:
            setattr(made, option.name, option.quick if made.quick and option.quick is not None else option.default)
    tg.manual_seed(made.seed)
    torch.manual_seed(made.seed)
    return made


def data(o: argparse.Namespace, real: Callable[..., T], made_up: Callable[[], T]) -> T:
    """As ``Experiment.data``, but made-up data is for ``--quick`` alone. Raises StateError (TG-F006) where the real one is not here."""
    try:
        return real(root=o.data, download=not o.quick)
    except TinygradError as failure:
        if not o.quick or failure.code != "TG-F006":
            raise
        return made_up()


def clock(o: argparse.Namespace) -> float:
    """Seconds, read when all that was asked of the device is done."""
    if torch.device(o.device).type == "cuda":
        torch.cuda.synchronize(o.device)
    return time.perf_counter()
