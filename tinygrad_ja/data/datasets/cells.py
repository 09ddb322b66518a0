"""Images of cells: BCCD with boxes for detection, nuclei with a map of instances for segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...errors import one_of
from ...io.files import damaged
from ..formats import read_image, read_lines, read_voc
from .base import NamedDataset, Transform, part
from .card import Card, File
from .places import Folder
from .recipes import folder, github_zip

_BCCD = github_zip("Shenggan/BCCD_Dataset", "d272fb14cdff6e473fafeeeba32aba5f560e9e43")


class BCCD(NamedDataset):
    """Blood cells with boxes: 205 images to learn from, 87 to validate, 72 to test with. Example: (image, target), as torchvision's
    detection models take them.

    image: uint8 Tensor (3, 480, 640); target: dict of ``"boxes"``, float32 Tensor (n, 4) with xmin, ymin, xmax, ymax in pixels as the files
    have them, and ``"labels"``, int64 Tensor (n,), 1 to 3: ``classes[label]``. The two boxes without an area are left out.
    split: ``"train"``, ``"val"``, ``"trainval"`` or ``"test"``. transform: a function of the image; transforms: of image and target together.
    Licence: MIT. Needs Pillow (extra ``images``); images are read when they are asked for.
    """

    card = Card(
        "bccd",
        "bccd",
        (
            "blood cells with boxes, 364 images of 640x480, 3 classes",
            "血球とバウンディングボックス、640x480 の画像 364 枚、3 クラス",
        ),
        ("MIT, (c) 2017 shenggan", "MIT, (c) 2017 shenggan"),
        "https://github.com/Shenggan/BCCD_Dataset",
        (
            File(
                "Annotations",
                1214393,
                "014ce8749bcc6a54ba6197e5c3259fd5a867c13e8de700898a2e6056d95e0901",
                (folder(_BCCD, "BCCD/Annotations"),),
            ),
            File(
                "ImageSets",
                11152,
                "86131dc6239d6291bd1d1ef6c91333024d37402b4dbf4e48eb9b985336ff7d3d",
                (folder(_BCCD, "BCCD/ImageSets"),),
            ),
            File(
                "JPEGImages",
                7575393,
                "ab73ed237b5367bf5f8e6a81753d23c16469e375c88b66fc25f4d705a79c1a2a",
                (folder(_BCCD, "BCCD/JPEGImages"),),
            ),
        ),
    )
    classes = ("background", "RBC", "WBC", "Platelets")

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "train",
        transform: Transform = None,
        transforms: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        one_of("BCCD", "split", split, ("train", "val", "trainval", "test"))
        self.transforms = transforms
        places = self.places()
        self._images = places.path("JPEGImages")
        annotations = places.path("Annotations")
        listed = places.path("ImageSets") / "Main" / f"{split}.txt"
        self.names = [_plain(name, listed) for name in read_lines(listed)]
        self._targets = [self._target(annotations / f"{name}.xml") for name in self.names]

    def _target(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        found = read_voc(path, degenerate="drop")
        unknown = set(found.names) - set(self.classes[1:])
        if unknown:
            raise damaged(path, "BCCD", (f"unknown classes {sorted(unknown)}", f"未知のクラス {sorted(unknown)} があります"))
        return found.boxes, np.array([self.classes.index(name) for name in found.names], np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        boxes, labels = self._targets[index]
        image: Any = Tensor(read_image(self._images / f"{self.names[index]}.jpg", "RGB"))
        target: Any = {"boxes": Tensor(boxes.copy()), "labels": Tensor(labels.copy())}
        if self.transform is not None:
            image = self.transform(image)
        return (image, target) if self.transforms is None else self.transforms(image, target)


def _plain(name: str, path: Path) -> str:
    """The name of an image in a list, which must not lead anywhere else."""
    name = name.strip()
    if not name.replace("_", "").isalnum():
        raise damaged(path, "BCCD", (f"{name[:40]!r} is no name of an image", f"{name[:40]!r} は画像の名前ではありません"))
    return name


class Nuclei(NamedDataset):
    """Microscope images of nuclei with a map of instances (2018 Data Science Bowl, the images of 256x256). Example: (image, map).

    image: uint8 Tensor (1, 256, 256); map: int64 Tensor (256, 256), 0 background, k the k-th nucleus; ``map > 0`` is the mask for
    semantic segmentation. split: ``"train"``, ``"test"`` (every fifth image in the order of their names) or ``"all"`` (334).
    transform: a function of the image; transforms: of image and map together. Images of one experiment are alike, so a test is optimistic.
    Licence: CC0 1.0. Caicedo et al., Nucleus segmentation across imaging experiments, Nature Methods 2019. Needs Pillow (extra ``images``).
    """

    card = Card(
        "nuclei",
        "nuclei_dsb2018",
        ("nuclei with instance maps, 334 images of 256x256", "細胞核と個体番号、256x256 の画像 334 枚"),
        ("CC0 1.0 (public domain)", "CC0 1.0 (パブリックドメイン)"),
        "https://bbbc.broadinstitute.org/BBBC038",
        (
            File("images", 7318320, "e3a09c863546f2a6933c1bedbaf68abb6a8433a52dba1b020fd6dc165e6ebb87"),
            File("labels", 563062, "067a4dce504ac2c53353a633604b3f56ece96e433b9c9bcd17731e571e9ab593"),
        ),
    )

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "train",
        transform: Transform = None,
        transforms: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        self.transforms = transforms
        places = self.places()
        self._images = places.path("images")
        self._labels = places.path("labels")
        names = sorted(path.name for path in self._images.glob("*.png"))
        self.names = part("Nuclei", names, split, every=5)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        name = self.names[index]
        image: Any = Tensor(read_image(self._images / name, "L"))
        labels = read_image(self._labels / name)
        if labels.shape != image.shape:
            raise damaged(self._labels / name, "nuclei", ("it is not of the size of its image", "画像と大きさが違います"))
        target: Any = Tensor(labels[0].astype(np.int64))
        if self.transform is not None:
            image = self.transform(image)
        return (image, target) if self.transforms is None else self.transforms(image, target)
