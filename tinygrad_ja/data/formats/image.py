"""Images, read by Pillow within a limit of pixels."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from ...errors import StateError, error
from ...io.files import FilePath, damaged, too_large
from .content import EXPANSION, read_content

FORMATS = ("PNG", "JPEG")
"""The formats that are read; others have decoders that few have looked at."""

PIXELS = 1 << 25
"""The most pixels of an image, unless told otherwise: 5,792 x 5,792."""

# of a pixel in a PNG file; gray and palettes have 1 to 8
_BITS = {"RGB": 24, "RGBA": 32, "LA": 16, "I;16": 16, "I;16B": 16, "I": 16}
_SCANS = 100  # of a JPEG file; each of them goes over the whole image
# what is given for what is in the file; the rest is as it is
_GIVEN = {"1": "L", "P": "RGB", "LA": "L", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}


def read_image(path: FilePath, mode: str | None = None, pixels: int = PIXELS, limit: int = 1 << 28) -> np.ndarray:
    """The image in a PNG or JPEG file as uint8 (C, H, W), or uint16 (1, H, W) for 16-bit gray; C is 1 for gray, 3 for RGB, 4 for RGBA.

    mode: ``"L"``, ``"RGB"`` or ``"RGBA"`` to convert to; None takes what is in the file (palettes become RGB).
    pixels: the most pixels, checked before the image is decoded; limit: the most bytes of the file. Needs Pillow (extra ``images``).
    Raises StateError (TG-F005, TG-F008) and ArgumentError without Pillow (TG-A002). The orientation in EXIF data is not applied.
    """
    return parse_image(read_content(path, limit), path, mode, pixels)


def parse_image(data: bytes, name: FilePath, mode: str | None = None, pixels: int = PIXELS) -> np.ndarray:
    """``read_image`` of bytes; ``name`` is what an error calls them."""
    Image = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about EXIF data and about pixels, which are counted here
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image, data, name, pixels)
            given = mode or _GIVEN.get(image.mode, image.mode)
            array = np.array(image if given == image.mode else image.convert(given))
        except StateError:
            raise
        except Exception as failure:  # whatever a decoder raises on damaged bytes
            why = "unknown format" if type(failure).__name__ == "UnidentifiedImageError" else failure
            fault = (f"Pillow cannot read it ({why})", f"Pillow で読めません ({why})")
            raise damaged(name, "PNG/JPEG", fault) from failure
    if array.dtype != np.uint8:
        array = array.astype(np.uint16)
    if array.ndim == 2:
        return array[np.newaxis]
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as failure:
        raise error("TG-A002", package="Pillow", install="pillow>=10") from failure
    return Image


def _check_size(image: Any, data: bytes, name: FilePath, pixels: int) -> None:
    width, height = image.size
    if width * height > pixels:
        raise too_large(name, ("its number of pixels", "画素数"), width * height, pixels)
    if image.format == "PNG" and width * height * _BITS.get(image.mode, 1) // 8 > EXPANSION * len(data):
        fault = (
            f"{len(data)} bytes cannot hold {width} x {height} pixels",
            f"{len(data)} バイトに {width} x {height} 画素は収まりません",
        )
        raise damaged(name, "PNG", fault)
    if image.format == "JPEG" and data.count(b"\xff\xda") > _SCANS:
        raise damaged(name, "JPEG", (f"it has more than {_SCANS} scans", f"走査が {_SCANS} 回を超えています"))
