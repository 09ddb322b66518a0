"""The transforms as functions of pictures with explicit numbers, under the names of ``torchvision.transforms.v2.functional``."""

from .color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, rgb_to_grayscale
from .erasing import erase
from .geometry import center_crop, crop, hflip, pad, resize, vflip
from .values import normalize, to_dtype, to_image
from .warp import affine, rotate

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "affine",
    "center_crop",
    "crop",
    "erase",
    "hflip",
    "normalize",
    "pad",
    "resize",
    "rgb_to_grayscale",
    "rotate",
    "to_dtype",
    "to_image",
    "vflip",
]
