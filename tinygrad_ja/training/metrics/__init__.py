"""Metrics: how good a model is, in numbers.

Functions take what a model and a data set give (Tensors on any device, arrays, lists); where a number over a whole set is more than the
mean of those over its batches, a class gathers: ``update(...)`` per batch, then its values.
"""

from .classification import ConfusionMatrix, Scores, accuracy, binary_iou, confusion_matrix
from .coco import coco_map
from .detection import average_precision, mean_average_precision, precision_recall_curve
from .text import Perplexity, bleu, distinct, edit_distance, error_rate, perplexity
from .words import nearest, spearman, word_analogies, word_similarity

__all__ = [
    "ConfusionMatrix",
    "Perplexity",
    "Scores",
    "accuracy",
    "average_precision",
    "binary_iou",
    "bleu",
    "coco_map",
    "confusion_matrix",
    "distinct",
    "edit_distance",
    "error_rate",
    "mean_average_precision",
    "nearest",
    "perplexity",
    "precision_recall_curve",
    "spearman",
    "word_analogies",
    "word_similarity",
]
