"""Data sets by name, each with its files, checksums, licence and source; ``synthetic`` has those that need no file.

Files are looked for in ``root``, in the folder ``TINYGRAD_JA_DATA``, in the cache, and then fetched. ``python -m tinygrad_ja data`` lists
the sets and says which of them are here.
"""

from . import synthetic
from .base import NamedDataset
from .cells import BCCD, Nuclei
from .digits import FSDD, MNIST
from .language import Analogies, Dialogue, SchemaGuidedDialogues, SentimentTrees, Turn, WordSim353
from .pairs import Addition, Dates, SmallParallelEnJa
from .places import cache_folder
from .sequences import AirPassengers, GoGames, Sunspots
from .text import Novels, TinyShakespeare, WikiText2

DATASETS: dict[str, type[NamedDataset]] = {
    kind.card.name: kind
    for kind in (
        MNIST,
        FSDD,
        BCCD,
        Nuclei,
        SmallParallelEnJa,
        Addition,
        Dates,
        TinyShakespeare,
        Novels,
        WikiText2,
        Analogies,
        WordSim353,
        SentimentTrees,
        SchemaGuidedDialogues,
        AirPassengers,
        Sunspots,
        GoGames,
    )
}
"""Name -> class, in the order of the list that ``python -m tinygrad_ja data`` prints."""

__all__ = [
    "BCCD",
    "DATASETS",
    "FSDD",
    "MNIST",
    "Addition",
    "AirPassengers",
    "Analogies",
    "Dates",
    "Dialogue",
    "GoGames",
    "NamedDataset",
    "Novels",
    "Nuclei",
    "SchemaGuidedDialogues",
    "SentimentTrees",
    "SmallParallelEnJa",
    "Sunspots",
    "TinyShakespeare",
    "Turn",
    "WikiText2",
    "WordSim353",
    "cache_folder",
    "synthetic",
]
