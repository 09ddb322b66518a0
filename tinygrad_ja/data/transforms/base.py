"""What a transform is: it draws its numbers once, then changes a picture and what is said about it alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...errors import error, refusal
from ...ops.join import stack
from ..arrays import array_of, cpu_stream
from ..fetch import get_worker_info
from .boxes import checked_boxes, nonempty, only


class Transform:
    """A change of pictures: ``transform(image)``, or ``transform(image, target)``, which returns both.

    image: array or Tensor (..., C, H, W) or (..., H, W) on any device; what is in front of C is a batch, to all pictures of which the same
    happens (see ``PerImage``). target: anything. In a dict these entries follow the picture: ``boxes``, float (K, 4) as (x1, y1, x2, y2) in
    pixels, ``masks`` (K, H, W), ``mask`` (H, W), the classes of the pixels. Boxes of which nothing is left go, and with them their rows of
    ``labels``, ``masks``, ``area``, ``iscrowd`` and ``difficult``. An array or Tensor (..., H, W) follows like a ``mask``; what has fewer axes,
    such as the number of a class, stays. Neither image nor target is changed in place.

    A subclass draws numbers in ``make_params``, with ``uniform``, ``integer``, ``order`` and ``happens``, and uses them in ``transform``, as in
    torchvision; None stands for "leave it as it is". Numbers come from ``generator``, by default the CPU's: a seed gives the same everywhere.
    In workers of a DataLoader only the default one is allowed (ArgumentError).
    """

    def __init__(self, generator: Generator | None = None) -> None:
        cpu_stream(generator)
        self.generator = generator

    def __call__(self, image: Any, target: Any = None) -> Any:
        array = array_of(type(self).__name__, image, "image")
        if array.ndim < 2 or 0 in array.shape[-2:]:
            rule = ("(..., H, W), H and W above 0", "(..., H, W)。H と W は 1 以上")
            fix = ("pass a picture.", "画像を渡してください。")
            raise error("TG-S002", op=type(self).__name__, rule=rule, shapes=tuple(array.shape), fix=fix)
        if array.dtype.kind not in "buif":
            allowed = ("bool, an integer or a float", "bool、整数、浮動小数点数")
            raise error("TG-T004", op=type(self).__name__, dtype=array.dtype, allowed=allowed, fix="tg.float32")
        params = self.make_params(image, target)
        made = image if params is None else self.transform(image, params)
        if target is None:
            return made
        return made, self._follow(target, params, tuple(array.shape[-2:]))

    def make_params(self, image: Any, target: Any) -> Any:
        """The numbers of one call. () where there are none to draw, None to leave the picture as it is."""
        return ()

    def transform(self, image: Any, params: Any) -> Any:
        """The picture, changed."""
        raise NotImplementedError

    def transform_target(self, target: dict[str, Any], params: Any) -> dict[str, Any]:
        """The target, changed; as it is unless places in the picture change."""
        return target

    def _follow(self, target: Any, params: Any, size: tuple[int, ...]) -> Any:
        if isinstance(target, Mapping):
            return dict(target) if params is None else self.transform_target(dict(target), params)
        if getattr(target, "ndim", 0) < 2:
            return target
        if tuple(target.shape[-2:]) != size:
            rule = (
                f"a mask as large as the picture, (..., {size[0]}, {size[1]})",
                f"画像と同じ大きさのマスク (..., {size[0]}, {size[1]})",
            )
            fix = ('pass a dict such as {"boxes": ...}.', '{"boxes": ...} のような dict を渡してください。')
            raise error("TG-S002", op=type(self).__name__, rule=rule, shapes=f"target {tuple(target.shape)}", fix=fix)
        return target if params is None else self.transform_target({"mask": target}, params)["mask"]

    # -- numbers

    @property
    def _stream(self) -> Generator:
        """Where numbers come from. A generator of one's own would be copied into every worker process, each epoch anew, and threads would
        take its numbers from each other; so that is an error."""
        if self.generator is not None and get_worker_info() is not None:
            raise error(
                "TG-A003",
                op=type(self).__name__,
                reason=(
                    "it has a generator of its own, whose numbers would repeat from worker to worker and from epoch to epoch",
                    "独自の生成器を持っているので、どのワーカーでも、どのエポックでも同じ乱数になってしまいます",
                ),
                fix=(
                    "leave generator out: the loader gives every batch random numbers of its own, by tg.manual_seed or "
                    "DataLoader(generator=...).",
                    "generator を渡さないでください。ローダがバッチごとに別の乱数を用意します (tg.manual_seed か "
                    "DataLoader(generator=...) で決まります)。",
                ),
            )
        return cpu_stream(self.generator)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self._stream.uniform((1,), np.float64)[0])

    def integer(self, low: int, high: int) -> int:
        """low <= n <= high. By way of a float, which takes a tenth of the time that an array of integers takes."""
        return low + int(self.uniform(0.0, 1.0) * (high - low + 1))

    def order(self, count: int) -> list[int]:
        """The numbers below ``count`` in a random order."""
        return [int(i) for i in self._stream.permutation(count)]

    def happens(self, p: float) -> bool:
        """True with probability ``p``."""
        return self.uniform(0.0, 1.0) < p

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name != "generator" and not name.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Geometric(Transform):
    """A transform that moves places. A subclass says what becomes of boxes; masks become what the picture becomes, unless it says more."""

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """Boxes, float (K, 4), in the new picture."""
        raise NotImplementedError

    def transform_mask(self, mask: Any, params: Any) -> Any:
        """Masks (..., H, W) of the new picture."""
        return self.transform(mask, params)

    def transform_target(self, target: dict[str, Any], params: Any) -> dict[str, Any]:
        """Boxes and masks in the new picture, without the boxes of which nothing is left."""
        for name in ("mask", "masks"):
            if name in target:
                target[name] = self.transform_mask(target[name], params)
        if "boxes" in target:
            target["boxes"] = self.transform_boxes(checked_boxes(type(self).__name__, target), params)
            target = only(target, nonempty(target["boxes"]))
        return target


def probability(op: str, p: float) -> float:
    """A probability, checked."""
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        rule, fix = ("0 <= p <= 1", "0 以上 1 以下"), ("p=0.5.", "p=0.5 などとしてください。")
        raise refusal(op, "p", p, rule, fix)
    return float(p)


# ---- several transforms --------------------------------------------------------------------------


def _applied(transforms: Sequence[Callable[..., Any]], image: Any, target: Any) -> Any:
    for transform in transforms:
        if target is None:
            image = transform(image)
        else:
            image, target = transform(image, target)
    return image if target is None else (image, target)


def _several(op: str, transforms: Sequence[Callable[..., Any]]) -> list[Callable[..., Any]]:
    made = list(transforms) if isinstance(transforms, Sequence) else []
    if not made or not all([callable(transform) for transform in made]):
        rule, fix = (
            ("a list of transforms, not empty", "空でない変換のリスト"),
            (f"{op}([...]).", f"{op}([...]) としてください。"),
        )
        raise refusal(op, "transforms", transforms, rule, fix)
    return made


class Compose(Transform):
    """Transforms one after the other.

    >>> import tinygrad_ja as tg
    >>> from tinygrad_ja.data import transforms as T
    >>> prepare = T.Compose([T.Resize(32), T.CenterCrop(28), T.ToDtype(tg.float32, scale=True)])
    >>> prepare(tg.zeros(3, 40, 60, dtype=tg.uint8)).shape
    (3, 28, 28)
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        super().__init__()
        self.transforms = _several("Compose", transforms)

    def __call__(self, image: Any, target: Any = None) -> Any:
        return _applied(self.transforms, image, target)


class RandomApply(Transform):
    """All of the transforms with probability ``p``, else none."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: float = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.transforms, self.p = _several("RandomApply", transforms), probability("RandomApply", p)

    def __call__(self, image: Any, target: Any = None) -> Any:
        return _applied(self.transforms if self.happens(self.p) else [], image, target)


class RandomChoice(Transform):
    """One of the transforms. p: how probable each is, in parts of their sum; by default all alike."""

    def __init__(
        self, transforms: Sequence[Callable[..., Any]], p: Sequence[float] | None = None, *, generator: Generator | None = None
    ) -> None:
        super().__init__(generator)
        self.transforms = _several("RandomChoice", transforms)
        self.p = [1.0] * len(self.transforms) if p is None else [float(part) for part in p]
        if len(self.p) != len(self.transforms) or min(self.p) < 0 or sum(self.p) <= 0:
            rule = ("a number >= 0 for each transform, not all 0", "変換ごとに 0 以上の数。すべて 0 は不可")
            fix = ("leave it out.", "指定しないでください。")
            raise refusal("RandomChoice", "p", p, rule, fix)

    def __call__(self, image: Any, target: Any = None) -> Any:
        place = self.uniform(0.0, sum(self.p))
        chosen = int(np.searchsorted(np.cumsum(self.p), place, "right"))
        return _applied([self.transforms[min(chosen, len(self.p) - 1)]], image, target)


class RandomOrder(Transform):
    """All of the transforms, in a random order."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], *, generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.transforms = _several("RandomOrder", transforms)

    def __call__(self, image: Any, target: Any = None) -> Any:
        return _applied([self.transforms[i] for i in self.order(len(self.transforms))], image, target)


class PerImage(Transform):
    """Each picture of a batch for itself: the transform draws its numbers anew for each.

    image: (N, C, H, W); the results must have one size. A target is not taken; it belongs to one picture.

    >>> import tinygrad_ja as tg
    >>> from tinygrad_ja.data import transforms as T
    >>> crops = T.PerImage(T.RandomCrop(28, padding=2))(tg.zeros(8, 1, 28, 28))
    >>> crops.shape
    (8, 1, 28, 28)
    """

    def __init__(self, transform: Callable[..., Any]) -> None:
        super().__init__()
        (self.inner,) = _several("PerImage", [transform])

    def transform(self, image: Any, params: Any) -> Any:
        """The pictures, each changed in its own way."""
        return stack([self.inner(one) for one in image], 0)

    def __call__(self, image: Any, target: Any = None) -> Any:
        if target is not None:
            reason = (
                "a target belongs to one picture, not to a batch",
                "target は 1 枚の画像に対するもので、バッチには使えません",
            )
            fix = ("transform the pictures in the data set.", "データセットの側で 1 枚ずつ変換してください。")
            raise error("TG-A003", op="PerImage", reason=reason, fix=fix)
        return super().__call__(image)


class Lambda(Transform):
    """A function of the picture as a transform. For worker processes it must be one that pickles, defined at the top of a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        (self.function,) = _several("Lambda", [function])

    def transform(self, image: Any, params: Any) -> Any:
        """What the function makes of the picture."""
        return self.function(image)
