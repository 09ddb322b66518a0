"""Numbers and moves over time: airline passengers, sunspots, games of Go."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...io.files import damaged
from ..formats import Game, parse_sgf, read_archive, read_series
from .base import NamedDataset, Transform, not_empty, part
from .card import Card, File
from .places import Folder
from .recipes import github, same

_LICENCE = (
    "unclear: figures from R's datasets package (GPL), believed free to redistribute",
    "不明 (R の datasets パッケージ (GPL) の数値。再配布は自由と考えられている)",
)
_SOURCE = "https://vincentarelbundock.github.io/Rdatasets/"


def _series(path: str, size: int, sha256: str) -> tuple[File, ...]:
    url = github("vincentarelbundock/Rdatasets", "1dcc2bf5f955cc1224a3e1307256e1fe86b68dae", f"csv/datasets/{path}")
    return (File(path, size, sha256, (same(url),)),)


class SeriesDataset(NamedDataset):
    """A value for each month. Example: (time, value), two floats, the time in years. ``time`` and ``values`` are the whole, float64 and
    float32 Tensors (N,)."""

    def __init__(
        self, root: Folder | None = None, transform: Transform = None, download: bool = True, verify: bool = False
    ) -> None:
        super().__init__(root, download, verify, transform)
        path = self.places().path(self.card.files[0].path)
        columns = read_series(path, "time", "value")
        self.time = Tensor(not_empty(columns["time"], path, "CSV"))
        self.values = Tensor(columns["value"].astype(np.float32))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        item = (self.time[index].item(), self.values[index].item())
        return item if self.transform is None else self.transform(item)


class AirPassengers(SeriesDataset):
    """Airline passengers per month in thousands, 1949 to 1960. Example: (time in years, passengers); 144 of them.

    ``time``: float64 Tensor (144,), ``values``: float32 Tensor (144,). Licence: unclear, believed free.
    Box, Jenkins, Time series analysis, 1976.
    """

    card = Card(
        "airpassengers",
        "timeseries",
        ("airline passengers per month, 144 values", "月ごとの航空旅客数、144 か月"),
        _LICENCE,
        _SOURCE,
        _series("AirPassengers.csv", 3032, "bdb98adbd418a6de6842a742e0602f363c3b841c26677e7e61a1e055e9509bd8"),
    )


class Sunspots(SeriesDataset):
    """The mean number of sunspots for each month since 1749. Example: (time in years, number).

    ``time``: float64 Tensor (N,), ``values``: float32 Tensor (N,). Licence: unclear, believed free.
    """

    card = Card(
        "sunspots",
        "timeseries",
        ("sunspots per month since 1749", "1749 年からの月ごとの太陽黒点数"),
        _LICENCE,
        _SOURCE,
        _series("sunspot.month.csv", 77059, "aeed4106d5c5112307a47814efd3f096db75c49e37e4162bb3a0757d85e1d177"),
    )


class GoGames(NamedDataset):
    """Even games of Go between strong players, 19x19. Example: a ``formats.Game``, whose ``moves`` are (colour, point), point (column, row)
    from the upper left corner, from 0.

    split: ``"train"``, ``"test"`` (every tenth game in the order of their names) or ``"all"`` (3,639 games, 725,809 moves). Colours
    alternate and all moves are legal. Do not trust the komi. Licence: unclear; moves are facts. A game is read when it is asked for.
    """

    card = Card(
        "go",
        "go_sgf",
        ("games of Go, 3,639 of 19x19", "囲碁の棋譜、19 路 3,639 局"),
        (
            "unclear: the source states GPL v3, the terms of the server are unknown",
            "不明 (入手元は GPL v3 とするが、対局サーバーの条件は不明)",
        ),
        "https://github.com/featurecat/go-dataset",
        (File("fox_pro_even_19x19.zip", 4634433, "d926685613287f785387691784b762e0130540ba5f841eee33637da6324af25f"),),
    )

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "train",
        transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        path = self.places().path("fox_pro_even_19x19.zip")
        self._archive = read_archive(path)
        self.names = part("GoGames", sorted(self._archive), split)
        if not all(name.endswith(".sgf") for name in self.names):
            raise damaged(path, "Go", ("not all of its members are .sgf", ".sgf でないメンバーがあります"))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Game | Any:
        name = self.names[index]
        game = parse_sgf(self._archive[name], self._archive.path(name))
        return game if self.transform is None else self.transform(game)
