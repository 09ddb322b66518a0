"""Which traced arrays lie in the memory of others.

``row = p[0]`` shares memory with ``p``: in an ordinary run each sees what is written into the other. Traced arrays are values, and a write
gives one of them another value. So that the others follow, a recording keeps of each view how it was made: when the whole has changed, its
views are made again; when a view has changed, it is put back into the whole.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..backend.arrays import ARRAY_MODULES
from ..core.nested import found
from ..core.operator import OPERATORS, Operator
from ..core.traced import Traced
from .owned import overlap, owner_of

if TYPE_CHECKING:
    from .recording import Recording


class View:
    """One run of an operator whose results lie in the memory of its input ``whole``. parts: the results, with their places among all."""

    __slots__ = ("whole", "operator", "arguments", "parts", "__weakref__")

    def __init__(self, whole: Traced, operator: Operator, arguments: dict[str, Any]) -> None:
        self.whole, self.operator, self.arguments = whole, operator, arguments
        self.parts: list[tuple[int, weakref.ref[Traced]]] = []

    def alive(self) -> list[tuple[int, Traced]]:
        """Parts that somebody still has."""
        known = [(place, part()) for place, part in self.parts]
        return [(place, part) for place, part in known if part is not None and part.part_of is self]

    def positions(self, part: Traced) -> Any:
        """Where in ``whole``, counted row by row, each element of a part lies."""
        xp = ARRAY_MODULES[type(self.whole._elements)]
        numbers = xp.arange(self.whole.size).reshape(self.whole.shape)
        plain = {name: numbers if value is self.whole else value for name, value in self.arguments.items()}
        made = self.operator.apply(self.operator.kernels[type(numbers)], plain)
        place = next(place for place, other in self.alive() if other is part)
        return list(found(made, type(numbers)))[place].reshape(-1)


class SharedMemory:
    """The views of one recording, and arrays of arguments into which it writes at once, since others read them where they lie."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._views: dict[int, list[weakref.ref[View]]] = {}
        self._real: dict[int, Any] = {}
        self._before: dict[int, tuple[Any, Any]] = {}  # of ``written``: the array, and what was in it

    def note_arguments(self, given: Iterable[tuple[Traced, Any]], others: Iterable[Any]) -> None:
        """Arrays that a call brings, and what stands for them. Where one shares memory with another, or with one of ``others``, which Python
        reads, what is written into it goes there at once."""
        given = list(given)
        of_owner: dict[int, list[tuple[int, Any]]] = collections.defaultdict(list)
        for place, array in enumerate([*(array for _, array in given), *others]):
            of_owner[id(owner_of(array))].append((place, array))
        for place, (traced, array) in enumerate(given):
            if any([other != place and overlap(there, array) for other, there in of_owner[id(owner_of(array))]]):
                self._real[id(traced)] = array

    def note(self, operator: Operator, arguments: dict[str, Any], made: Any) -> None:
        """An operator has made this of its arguments: note which results are views of one of them."""
        parts = [made] if type(made) is Traced else list(found(made, Traced))
        inputs = [value for value in arguments.values() if type(value) is Traced]
        view: View | None = None
        for place, part in enumerate(parts):
            elements = part._elements
            for whole in inputs:
                if whole._elements is elements or (
                    elements.base is not None and owner_of(elements) is owner_of(whole._elements)
                ):
                    break
            else:
                continue
            if view is None:
                view = View(whole, operator, arguments)
                self._views.setdefault(id(whole), []).append(weakref.ref(view))
            view.parts.append((place, weakref.ref(part)))
            part.part_of = view

    def write(self, traced: Traced, new: Traced) -> None:
        """A traced array gets the elements of another one in its place, and so do those that share its memory."""
        view = traced.part_of
        if view is None:
            real = self._real.get(id(traced))
            if real is None:
                traced._elements = new._elements
            else:
                if id(real) not in self._before:
                    self._before[id(real)] = real, real.copy()
                real[...] = new._elements
            traced.entry = new.entry
            self._renew_views_of(traced)
            return
        if not getattr(traced.flags, "writeable", True):  # arrays of CuPy always are
            raise ValueError("assignment destination is read-only")
        whole = view.whole
        flat = OPERATORS["reshape"].public(whole, (-1,))
        values = OPERATORS["reshape"].public(new, (-1,))
        changed = OPERATORS["index_put"].public(flat, values, (view.positions(traced),))
        self.write(whole, OPERATORS["reshape"].public(changed, whole.shape))

    @property
    def written(self) -> list[Any]:
        """Arrays of arguments into which something was written at once."""
        return [real for real, _ in self._before.values()]

    def take_back(self) -> None:
        """Let them be as they were before."""
        for real, before in reversed(self._before.values()):
            real[...] = before

    def let_go(self) -> None:
        """Hold no arrays any more."""
        self._views.clear()
        self._real.clear()
        self._before.clear()

    def _renew_views_of(self, whole: Traced) -> None:
        known = [view for reference in self._views.pop(id(whole), ()) if (view := reference()) is not None]
        for view in known:
            alive = view.alive()
            self._views.setdefault(id(whole), []).append(weakref.ref(view))
            made = list(found(self._recording.record_again(view.operator, view.arguments), Traced))
            for place, part in alive:
                part._elements, part.entry = made[place]._elements, made[place].entry
                self._renew_views_of(part)
