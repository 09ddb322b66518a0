"""Digits: MNIST as images, the Free Spoken Digit Dataset as sound."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...errors import one_of
from ...io.files import damaged
from ..formats import parse_wav, read_archive, read_idx
from .base import NamedDataset, Transform
from .card import Card, File
from .places import Folder
from .recipes import github_zip, same, tar

_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_FSDD = ("Jakobovski/free-spoken-digit-dataset", "26eb9aaf76e81b692f806f9140c2d2777410d7a1")


def _mnist(name: str, size: int, sha256: str) -> File:
    return File(name, size, sha256, tuple(same(mirror + name) for mirror in _MIRRORS))


class MNIST(NamedDataset):
    """Handwritten digits, 60,000 to learn from and 10,000 to test with. Example: (image, label).

    image: uint8 Tensor (1, 28, 28), 0 is paper, 255 ink; label: int 0 to 9. ``data`` is the uint8 Tensor (N, 28, 28) of all images and
    ``targets`` the int64 Tensor (N,) of all labels. transform, target_transform: functions of image and label.
    Licence: CC BY-SA 3.0, as commonly stated. LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998.
    """

    card = Card(
        "mnist",
        "mnist",
        ("handwritten digits, 60,000 + 10,000 images of 28x28", "手書き数字、28x28 の画像 60,000 + 10,000 枚"),
        (
            "(c) Yann LeCun and Corinna Cortes, derived from NIST; commonly stated as CC BY-SA 3.0",
            "(c) Yann LeCun, Corinna Cortes (NIST から作成)。一般に CC BY-SA 3.0 とされる",
        ),
        "https://yann.lecun.com/exdb/mnist/",
        (
            _mnist("train-images-idx3-ubyte.gz", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            _mnist("train-labels-idx1-ubyte.gz", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            _mnist("t10k-images-idx3-ubyte.gz", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            _mnist("t10k-labels-idx1-ubyte.gz", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
    )
    classes = tuple("0123456789")

    def __init__(
        self,
        root: Folder | None = None,
        train: bool = True,
        transform: Transform = None,
        target_transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        self.target_transform = target_transform
        part = "train" if train else "t10k"
        places = self.places()
        images = places.path(f"{part}-images-idx3-ubyte.gz")
        labels = places.path(f"{part}-labels-idx1-ubyte.gz")
        data, targets = read_idx(images), read_idx(labels)
        if targets.dtype != np.uint8 or targets.ndim != 1 or targets.max(initial=0) > 9:
            raise damaged(labels, "MNIST", ("not all are labels from 0 to 9", "0 から 9 でないラベルがあります"))
        if data.dtype != np.uint8 or data.shape != (len(targets), 28, 28):
            raise damaged(images, "MNIST", ("images and labels do not fit together", "画像とラベルが合いません"))
        self.data = Tensor(data)
        self.targets = Tensor(targets.astype(np.int64))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = self.data[index].unsqueeze(0)
        label: Any = int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label

    def gather(self, indices: Sequence[int]) -> list[Any]:
        """A batch, uint8 (B, 1, 28, 28) and int64 (B,), taken from the arrays at once where nothing is transformed one by one."""
        if self.transform is not None or self.target_transform is not None:
            return super().gather(indices)
        chosen = np.asarray(indices, np.intp)
        return [Tensor(self.data.array.take(chosen, axis=0)[:, np.newaxis]), Tensor(self.targets.array.take(chosen))]


class FSDD(NamedDataset):
    """Free Spoken Digit Dataset: ten digits by six speakers, 50 times each. Example: (waveform, label).

    waveform: float32 Tensor (1, T) in [-1, 1) at 8,000 Hz, T differs; label: int 0 to 9. ``speakers[i]`` is the speaker of example i.
    split: ``"train"`` (2,700: takes 5 to 49) or ``"test"`` (300: takes 0 to 4), the set's own split. transform: a function of the waveform;
    ``lambda waveform: waveform[0]`` gives (T,), which ``PadCollate`` pads. Licence: CC BY-SA 4.0. The sound is decoded when it is asked for.
    """

    card = Card(
        "fsdd",
        "fsdd",
        ("spoken digits, 3,000 recordings at 8 kHz", "数字を話す音声、8 kHz の録音 3,000 件"),
        ("CC BY-SA 4.0", "CC BY-SA 4.0"),
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        (
            File(
                "recordings.tar.gz",
                21128848,
                "04e1baae96c6a26e39c623f2b01d0182ddae627ba0ac02a3cdc17ba2af99fd9b",
                (tar(github_zip(*_FSDD), "recordings"),),
            ),
        ),
    )
    rate = 8000

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "train",
        transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        one_of("FSDD", "split", split, ("train", "test"))
        path = self.places().path("recordings.tar.gz")
        self._archive = read_archive(path)
        takes = [_TAKE.fullmatch(name) for name in sorted(self._archive)]
        chosen = [take for take in takes if take and (int(take["number"]) < 5) == (split == "test")]
        if None in takes or not chosen:
            raise damaged(
                path, "FSDD", ("its members are not recordings/<digit>_<speaker>_<number>.wav", "メンバーの名前が合いません")
            )
        self._names = [take[0] for take in chosen]
        self.targets = [int(take["digit"]) for take in chosen]
        self.speakers = [take["speaker"] for take in chosen]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        name = self._names[index]
        sound = parse_wav(self._archive[name], self._archive.path(name))
        if sound.rate != self.rate:
            raise damaged(self._archive.path(name), "FSDD", (f"its rate is {sound.rate} Hz", f"{sound.rate} Hz です"))
        waveform = Tensor(sound.samples)
        return (waveform if self.transform is None else self.transform(waveform)), self.targets[index]


_TAKE = re.compile(r"recordings/(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<number>[0-9]+)\.wav")
