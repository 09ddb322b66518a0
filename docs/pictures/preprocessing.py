"""The pictures of docs/preprocessing.md, of a painted scene and a made sound, so that no file is needed.

python docs/pictures/preprocessing.py     writes to docs/images/: preprocessing_images.png, and in two languages (_ja) preprocessing_boxes.png
and preprocessing_sound.png
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import tinygrad_ja as tg
from tinygrad_ja.data import audio
from tinygrad_ja.data import transforms as T
from tinygrad_ja.viz.figures import Words

IMAGES = Path(__file__).resolve().parent.parent / "images"
COLORS = ("#d62728", "#1f77b4", "#9467bd")
RATE = 8000


def scene() -> tuple[np.ndarray, dict[str, Any]]:
    """A sun, a house and a tree, float32 (3, 96, 128), with their boxes, names and the classes of all pixels."""
    y, x = np.mgrid[0:96, 0:128] + 0.5
    image = np.stack([0.55 + 0.2 * y / 96, 0.75 + 0.1 * y / 96, 0.95 - 0.1 * y / 96])
    image[:, y > 66] = np.stack([0.35 + 0.1 * np.sin(x / 3), 0.62 + 0.05 * np.sin(y), 0.28 + 0 * x])[:, y > 66]
    roof = (y > 34) & (y < 52) & (abs(x - 44) < (y - 34) * 1.35)
    trunk, crown = (abs(x - 98) < 3) & (y > 54) & (y < 80), (x - 98) ** 2 + (y - 46) ** 2 < 17**2
    shapes = [
        ((x - 108) ** 2 + (y - 16) ** 2 < 11**2, (1.0, 0.85, 0.2), 1),
        ((abs(x - 44) < 20) & (y > 50) & (y < 82), (0.85, 0.72, 0.55), 2),
        (roof, (0.7, 0.25, 0.2), 2),
        ((abs(x - 36) < 5) & (y > 58) & (y < 68), (0.45, 0.6, 0.8), 2),
        ((abs(x - 53) < 5) & (y > 64) & (y < 82), (0.4, 0.25, 0.15), 2),
        (trunk, (0.4, 0.27, 0.15), 3),
        (crown, (0.2, 0.5, 0.25), 3),
    ]
    mask = np.zeros((96, 128), np.uint8)
    for place, color, number in shapes:
        image[:, place] = np.reshape(color, (3, 1))
        mask[place] = number
    places = [np.nonzero(mask == number) for number in (1, 2, 3)]
    boxes = np.array([[c.min(), r.min(), c.max() + 1, r.max() + 1] for r, c in places], np.float32)
    return image.astype(np.float32), {"boxes": boxes, "labels": ["sun", "house", "tree"], "mask": mask}


def sheet() -> None:
    """Each transform of one picture."""
    image, _ = scene()
    tg.manual_seed(3)
    shown: list[tuple[str, Any]] = [
        ("original", image),
        ("RandomHorizontalFlip", T.RandomHorizontalFlip(1.0)(image)),
        ("CenterCrop(72)", T.CenterCrop(72)(image)),
        ("RandomCrop(96, padding=24)", T.RandomCrop(96, padding=24)(image)),
        ("RandomResizedCrop((96, 128))", T.RandomResizedCrop((96, 128), scale=(0.2, 0.5))(image)),
        ('Pad(24, padding_mode="reflect")', T.Pad(24, padding_mode="reflect")(image)),
        ("Resize((24, 32))", T.Resize((24, 32))(image)),
        ("Resize, antialias=False", T.Resize((24, 32), antialias=False)(image)),
        ("RandomRotation(30)", T.RandomRotation((20, 30), "bilinear", fill=1.0)(image)),
        ("RandomAffine", T.RandomAffine(10, (0.1, 0.1), (0.7, 0.9), 20, "bilinear", fill=1.0)(image)),
        ("ColorJitter: brightness", T.ColorJitter(brightness=(1.4, 1.4))(image)),
        ("ColorJitter: contrast", T.ColorJitter(contrast=(0.4, 0.4))(image)),
        ("ColorJitter: saturation", T.ColorJitter(saturation=(2.2, 2.2))(image)),
        ("ColorJitter: hue", T.ColorJitter(hue=(0.3, 0.3))(image)),
        ("Grayscale(3)", T.Grayscale(3)(image)),
        ("RandomPhotometricDistort", T.RandomPhotometricDistort(p=1.0)(image)),
        ("RandomErasing", T.RandomErasing(1.0, scale=(0.1, 0.15), value="random")(image)),
        ("RandomZoomOut", T.RandomZoomOut(1.0, (1.5, 2.0), p=1.0)(image)),
        ("MixUp", mixed(T.MixUp(num_classes=2, generator=tg.Generator().manual_seed(4)), image)),
        ("CutMix", mixed(T.CutMix(num_classes=2, generator=tg.Generator().manual_seed(4)), image)),
    ]
    figure = Figure(figsize=(12.5, 8.6), layout="constrained")
    for axes, (title, made) in zip(figure.subplots(4, 5).ravel(), shown):
        axes.imshow(np.clip(made, 0, 1).transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    save(figure, "preprocessing_images.png")


def mixed(mix: Any, image: np.ndarray) -> np.ndarray:
    """The picture mixed with itself upside down in other colours."""
    other = T.functional.adjust_hue(image[:, ::-1], 0.5)
    images, _ = mix(np.stack([image, other]), np.arange(2))
    return images[0]


def boxes(name: str) -> None:
    """Boxes and classes of pixels that follow the picture."""
    words, (image, target) = Words(), scene()
    stream = tg.Generator().manual_seed(11)
    shown = [
        (words("original", "元の画像"), image, target),
        ("RandomHorizontalFlip", *T.RandomHorizontalFlip(1.0)(image, target)),
        ("RandomIoUCrop", *T.RandomIoUCrop(sampler_options=[0.3], generator=stream)(image, target)),
        ("RandomZoomOut", *T.RandomZoomOut(0.8, (1.6, 2.0), p=1.0, generator=stream)(image, target)),
        ("RandomAffine", *T.RandomAffine(20, scale=(0.8, 0.9), generator=stream, fill=0.8)(image, target)),
    ]
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    for column, (title, made, said) in zip(figure.subplots(2, 5).T, shown):
        for axes, picture, options in (
            (column[0], made.transpose(1, 2, 0), {}),
            (column[1], said["mask"], {"vmin": 0, "vmax": 3, "cmap": "viridis"}),
        ):
            axes.imshow(picture, interpolation="nearest", **options)
            axes.set_axis_off()
        column[0].set_title(title, fontsize=10, **words.font)
        for (x1, y1, x2, y2), label in zip(said["boxes"] - 0.5, said["labels"]):
            color = COLORS[target["labels"].index(label)]
            column[0].add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, linewidth=2))
            column[0].annotate(label, (x1 + 2, y2 - 2), color="white", fontsize=7, backgroundcolor=color)
    save(figure, name)


def sound() -> np.ndarray:
    """Two seconds: a tone that rises, three short clear notes, and a little noise. float32, 8,000 samples a second."""
    time = np.arange(2 * RATE) / RATE
    made = 0.4 * np.sin(2 * np.pi * (300 * time + 500 * time**2))
    for start, pitch in ((0.3, 1000), (0.8, 1500), (1.3, 500)):
        made += 0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-8 * np.maximum(time - start, 0)) * (time >= start)
    return (made + np.random.default_rng(0).normal(scale=0.01, size=len(time))).astype(np.float32)


def spectra(name: str) -> None:
    """The samples, their spectrogram, mel bands and cepstra, one below the other."""
    words, wave = Words(), sound()
    figure = Figure(figsize=(10, 8.4), layout="constrained")
    top, middle, low, bottom = figure.subplots(4, 1, sharex=True)
    end = len(wave) / RATE
    top.plot(np.arange(len(wave)) / RATE, wave, linewidth=0.4)
    energy = audio.amplitude_to_DB(audio.spectrogram(wave, 400, hop_length=80), top_db=80.0)
    mels = audio.amplitude_to_DB(audio.mel_spectrogram(wave, RATE, 40, hop_length=80), top_db=80.0)
    cepstra = audio.mfcc(wave, RATE, 13, n_mels=40, hop_length=80)[1:]
    middle.imshow(energy, origin="lower", aspect="auto", extent=(0, end, 0, RATE / 2), cmap="magma")
    low.imshow(mels, origin="lower", aspect="auto", extent=(0, end, 0, 40), cmap="magma")
    bottom.imshow(cepstra, origin="lower", aspect="auto", extent=(0, end, 1, 13), cmap="coolwarm", vmin=-60, vmax=60)
    titles = (
        (top, words("samples", "波形")),
        (middle, words("spectrogram [Hz]", "スペクトログラム [Hz]")),
        (low, words("mel bands", "メル帯域")),
        (bottom, words("MFCC", "MFCC")),
    )
    for axes, title in titles:
        axes.set_ylabel(title, **words.font)
    bottom.set_xlabel(words("time [s]", "時間 [秒]"), **words.font)
    save(figure, name)


def save(figure: Figure, name: str) -> None:
    """Write a picture and say where."""
    figure.savefig(IMAGES / name, dpi=80)
    print(f"docs/images/{name}")


if __name__ == "__main__":
    sheet()
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        boxes(f"preprocessing_boxes{ending}.png")
        spectra(f"preprocessing_sound{ending}.png")
