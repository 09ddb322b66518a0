"""Pictures made ready and varied, with the boxes and masks that belong to them: the transforms of ``torchvision.transforms.v2`` on arrays and
Tensors (..., C, H, W), on any device.
"""

from . import functional
from .base import Compose, Geometric, Lambda, PerImage, RandomApply, RandomChoice, RandomOrder, Transform
from .color import ColorJitter, Grayscale, RandomGrayscale, RandomPhotometricDistort
from .detection import RandomIoUCrop, RandomZoomOut, SanitizeBoundingBoxes
from .erasing import RandomErasing
from .framing import CenterCrop, Pad, RandomCrop, RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip, Resize
from .mixing import CutMix, MixUp
from .values import Normalize, ToDtype, ToImage
from .warp import RandomAffine, RandomRotation

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Geometric",
    "Grayscale",
    "Lambda",
    "MixUp",
    "Normalize",
    "Pad",
    "PerImage",
    "RandomAffine",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomIoUCrop",
    "RandomOrder",
    "RandomPhotometricDistort",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "RandomZoomOut",
    "Resize",
    "SanitizeBoundingBoxes",
    "ToDtype",
    "ToImage",
    "Transform",
    "functional",
]
