"""Pictures of what happens: the tape, gradients over time, attention weights, word vectors."""

from .drawing import Drawing, draw
from .gradient_map import BPTTMap, bptt_map
from .maps import heat_map
from .words import principal_plane, word_map

__all__ = ["BPTTMap", "Drawing", "bptt_map", "draw", "heat_map", "principal_plane", "word_map"]
