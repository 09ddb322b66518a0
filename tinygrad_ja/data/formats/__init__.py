"""Readers of file formats, strict enough for files from strangers: no code runs, nothing is taken above a limit, and whatever is wrong is a
StateError that names the file and the fault. ``read_...`` takes a path, ``parse_...`` bytes and a name."""

from .archive import Archive, parse_archive, read_archive
from .content import contents_of, read_content, read_lines, read_text
from .idx import read_idx
from .image import parse_image, read_image
from .sgf import Game, Move, parse_sgf, read_sgf
from .table import read_json_lines, read_pairs, read_series, read_table
from .trees import Tree, parse_trees, read_trees
from .voc import Annotation, parse_voc, read_voc
from .wav import Sound, parse_wav, read_wav

__all__ = [
    "Annotation",
    "Archive",
    "Game",
    "Move",
    "Sound",
    "Tree",
    "contents_of",
    "parse_archive",
    "parse_image",
    "parse_sgf",
    "parse_trees",
    "parse_voc",
    "parse_wav",
    "read_archive",
    "read_content",
    "read_idx",
    "read_image",
    "read_json_lines",
    "read_lines",
    "read_pairs",
    "read_series",
    "read_sgf",
    "read_table",
    "read_text",
    "read_trees",
    "read_voc",
    "read_wav",
]
