"""Pictures of what happens: the tape, gradients over time."""

from .drawing import Drawing, draw
from .gradient_map import BPTTMap, bptt_map

__all__ = ["BPTTMap", "Drawing", "bptt_map", "draw"]
