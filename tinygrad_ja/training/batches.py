"""The batches of a loader, epoch after epoch, from any place in an epoch on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..backend.random import get_rng_states, set_rng_states
from .evaluation import no_batch


class Batches:
    """Knows how many batches of the epoch are done.

    A loader with a state of its own (``state_dict``, ``load_state_dict``) goes on by itself. Of any other the batches that are done are drawn
    once more, with the random numbers that the default generators had at the start of the epoch, and skipped.

    >>> batches = Batches([10, 20, 30])
    >>> for batch in batches.rest():
    ...     break
    >>> batches.done, list(batches.rest())
    (1, [20, 30])
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader: Any = loader
        self.has_state = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        self.done = 0
        self._random_before: Any = None

    def rest(self) -> Iterator[Any]:
        """The batches of this epoch that are not done. Raises ArgumentError when there is none in the whole epoch."""
        yield from self._counted()
        if self.done == 0:
            yield from self._counted()  # a loader restored at the end of an epoch gave the empty rest of it first
        if self.done == 0:
            raise no_batch("Trainer")

    def next_epoch(self) -> None:
        """Begin a new epoch."""
        self.done = 0

    def _counted(self) -> Iterator[Any]:
        for batch in self._iterator():
            self.done += 1
            yield batch

    def _iterator(self) -> Iterator[Any]:
        """An iterator over the loader, in the place where this epoch stands."""
        if self.has_state:
            if self.done:
                self.loader.load_state_dict(self.loader.state_dict())
            return iter(self.loader)
        if self.done == 0:
            self._random_before = get_rng_states()
            return iter(self.loader)
        now = get_rng_states()
        set_rng_states(self._random_before)
        iterator = iter(self.loader)
        for _ in range(self.done):
            next(iterator, None)
        set_rng_states(now)
        return iterator

    def state_dict(self) -> dict[str, Any]:
        """The number of batches done, and the random numbers before them."""
        return {"done": self.done, "random_before": self._random_before}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self.done, before = state_dict["done"], state_dict["random_before"]
        of_earlier_version = bool(before) and "stream" in before  # the state of the CPU's alone
        self._random_before = {"cpu": before} if of_earlier_version else before
