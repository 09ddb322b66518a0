"""Schedules of the learning rate (``torch.optim.lr_scheduler``). Call ``scheduler.step()`` after ``optimizer.step()``, once an epoch or, for
those that say so, once a batch."""

from .annealing import CosineAnnealingLR, CosineAnnealingWarmRestarts
from .base import LRScheduler
from .combination import ChainedScheduler, SequentialLR
from .cycle import CyclicLR, OneCycleLR
from .decay import ExponentialLR, LambdaLR, MultiplicativeLR, MultiStepLR, PolynomialLR, StepLR
from .plateau import ReduceLROnPlateau
from .warmup import ConstantLR, LinearLR, NoamLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "NoamLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
