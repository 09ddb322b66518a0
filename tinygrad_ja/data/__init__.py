"""Data: sets of examples, the order in which they are drawn, batches, and what is done to them on the way."""

from . import audio, datasets, formats, text, transforms
from .collate import PadCollate, default_collate, default_convert
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .dialogues import DialogueBatch, DialogueCollate
from .fetch import WorkerInfo, get_worker_info
from .loader import DataLoader
from .sampler import (
    BatchSampler,
    BucketBatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    ShapeBatchSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sequence import BPTTLoader, WindowDataset

__all__ = [
    "BPTTLoader",
    "BatchSampler",
    "BucketBatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DialogueBatch",
    "DialogueCollate",
    "IterableDataset",
    "PadCollate",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "ShapeBatchSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WindowDataset",
    "WorkerInfo",
    "audio",
    "datasets",
    "default_collate",
    "default_convert",
    "formats",
    "get_worker_info",
    "random_split",
    "text",
    "transforms",
]
