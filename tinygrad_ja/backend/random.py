"""Random numbers: a ``Generator`` per device, ``manual_seed`` for all of them, and states that can be saved."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import error
from .arrays import BACKENDS
from .devices import Device, get_default_device, usable

_METHODS: dict[str, Callable[..., Any]] = {}


def _recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that draws: while a recorder is at work in this thread, it notes the draw."""
    name = method.__name__
    _METHODS[name] = method
    signature = inspect.signature(method)

    @functools.wraps(method)
    def draw(self: Generator, *args: Any, **kwargs: Any) -> Any:
        if _here.recorder is None:
            return method(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        return _here.recorder.draw(self, name, bound.args[1:])

    return draw


def _tell() -> None:
    """Let the recorder know that somebody asks for the state of a generator, or sets it."""
    if _here.recorder is not None:
        _here.recorder.seeded = True


def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "little") >> 1


class Generator:
    """A stream of random numbers on one device (CPU: PCG64, GPU: Philox).

    >>> a, b = Generator().manual_seed(1), Generator().manual_seed(1)
    >>> bool((a.uniform((3,), np.float32) == b.uniform((3,), np.float32)).all())
    True
    """

    def __init__(self, device: str | Device = "cpu") -> None:
        self.device = usable(Device(device))
        self._start(_entropy())

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream anew from ``seed`` (any int). Returns itself."""
        _tell()
        return self._start(seed)

    def _start(self, seed: int) -> Generator:
        self._seed = int(seed)
        self._draws = 0
        self._stream = BACKENDS[self.device.type].random(self._seed % 2**64, self.device.index)
        return self

    def seed(self) -> int:
        """Start the stream anew from entropy and return the seed."""
        self.manual_seed(_entropy())
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the stream was started from."""
        _tell()
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """The state as plain JSON values; ``set_state`` continues the same stream."""
        _tell()
        return self.plain_state()

    def plain_state(self) -> dict[str, Any]:
        """The same, out of sight of a recorder."""
        return {"seed": self._seed, "stream": self._stream.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that ``get_state`` returned."""
        self.manual_seed(state["seed"])
        self._stream.bit_generator.state = state["stream"]

    def plainly(self, method: str, args: tuple[Any, ...]) -> Any:
        """What a method draws, out of sight of a recorder."""
        return _METHODS[method](self, *args)

    @property
    def _xp(self) -> Any:
        return BACKENDS[self.device.type].xp

    @_recorded
    def uniform(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Array of uniform numbers in [0, 1)."""
        drawn = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        return self._array(self._stream.random(shape, dtype=drawn), dtype)

    @_recorded
    def normal(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Array of standard normal numbers."""
        drawn = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        return self._array(self._stream.standard_normal(shape, dtype=drawn), dtype)

    @_recorded
    def integers(self, low: int, high: int, shape: tuple[int, ...], dtype: Any = np.int64) -> Any:
        """Array of integers, low <= n < high."""
        return self._array(self._stream.integers(low, high, shape), dtype)

    @_recorded
    def beta(self, a: float, b: float, shape: tuple[int, ...], dtype: Any) -> Any:
        """Array of numbers in [0, 1] with the density of Beta(a, b), ∝ x^(a-1) (1 - x)^(b-1)."""
        return self._array(self._stream.beta(a, b, shape), dtype)

    @_recorded
    def permutation(self, n: int) -> Any:
        """A random order of 0 .. n-1 (the order of uniform keys: the same text for NumPy and CuPy)."""
        return self._xp.argsort(self._stream.random(n))

    def _array(self, drawn: Any, dtype: Any) -> Any:
        return self._xp.asarray(drawn).astype(dtype, copy=False)


class Stream:
    """A generator of the CPU that is made from ``seed`` when it is first asked for: a stream that nobody uses costs nothing."""

    __slots__ = ("everywhere", "seed", "_generator")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.everywhere = False
        """Whether ``manual_seed`` starts those of other devices, too."""
        self._generator: Generator | None = None

    @property
    def generator(self) -> Generator:
        """The generator itself."""
        if self._generator is None:
            self._generator = Generator().manual_seed(self.seed)
        return self._generator


class _Here(threading.local):
    stream: Stream | None = None
    recorder: Any = None


_here = _Here()


class drawing_from:
    """In the block, and in this thread, ``stream`` is the default generator of the CPU; all others stay as they are.

    >>> with drawing_from(Stream(1)):
    ...     a = default_generator("cpu").integers(0, 100, ()).item()
    >>> a == Generator().manual_seed(1).integers(0, 100, ()).item()
    True
    """

    __slots__ = ("_stream", "_before")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        self._before, _here.stream = _here.stream, self._stream

    def __exit__(self, *failure: object) -> None:
        _here.stream = self._before


class drawing_apart(drawing_from):
    """``drawing_from``, and the default generators of all other devices start from the same seed in the block; after it they go on as if
    nothing had been drawn.

    >>> before = default_generator("cpu").get_state()
    >>> with drawing_apart(Stream(1)):
    ...     _ = manual_seed(2).uniform((3,), np.float32)
    >>> default_generator("cpu").get_state() == before
    True
    """

    __slots__ = ("_seed", "_states")

    def __enter__(self) -> None:
        super().__enter__()
        self._states = {place: generator.get_state() for place, generator in _streams.elsewhere().items()}
        self._seed, self._stream.everywhere = _streams.seed, True
        _streams.start_elsewhere(self._stream.seed)

    def __exit__(self, *failure: object) -> None:
        super().__exit__()
        _streams.seed = self._seed
        for place, generator in _streams.elsewhere().items():
            if place in self._states:
                generator.set_state(self._states[place])
            else:  # made in the block
                generator.manual_seed(_entropy() if self._seed is None else self._seed)


def record_draws(recorder: Any) -> Any:
    """Let ``recorder`` see every draw of this thread from now on, or nobody (None). Returns who saw them before."""
    before, _here.recorder = _here.recorder, recorder
    return before


class _Streams:
    """The default generators, and the seed for those that are made later."""

    def __init__(self) -> None:
        self.by_device: dict[Device, Generator] = {}
        self.seed: int | None = None

    def elsewhere(self) -> dict[Device, Generator]:
        """Those that are not the CPU's."""
        return {place: generator for place, generator in self.by_device.items() if place.type != "cpu"}

    def start_elsewhere(self, seed: int) -> None:
        """Start those that are not the CPU's, and that are made later, from ``seed``."""
        self.seed = seed
        for generator in self.elsewhere().values():
            generator.manual_seed(seed)


_streams = _Streams()


def default_generator(device: str | Device | None = None) -> Generator:
    """The generator of the process for ``device`` (default: the default device); while a DataLoader makes a batch, that of the batch."""
    place = get_default_device() if device is None else Device(device)
    if _here.stream is not None and place.type == "cpu":
        return _here.stream.generator
    if place not in _streams.by_device:
        generator = Generator(place)
        if _streams.seed is not None:
            generator._start(_streams.seed)  # nobody has drawn from it: a recorder need not know
        _streams.by_device[place] = generator
    return _streams.by_device[place]


def generator_for(device: Device, generator: Generator | None) -> Generator:
    """The generator from which numbers for ``device`` come: the given one, or the default one. Raises DeviceError for another device's."""
    if generator is None:
        return default_generator(device)
    if generator.device != device:
        raise error("TG-D007", actual=generator.device, expected=device)
    return generator


def default_generators() -> dict[Device, Generator]:
    """The default generators that exist so far, that of the CPU among them."""
    default_generator("cpu")
    return dict(_streams.by_device)


def manual_seed(seed: int) -> Generator:
    """Start the default generators of every device from ``seed``. Returns that of the default device.

    >>> _ = manual_seed(0)
    """
    if _here.stream is not None:
        if _here.stream.everywhere:
            _streams.start_elsewhere(int(seed))
        return _here.stream.generator.manual_seed(seed)
    _streams.seed = int(seed)
    for generator in _streams.by_device.values():
        generator.manual_seed(seed)
    return default_generator()


def get_rng_state() -> dict[str, Any]:
    """State of the default CPU generator."""
    return default_generator("cpu").get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue the default CPU generator from a saved state."""
    default_generator("cpu").set_state(state)


def get_rng_states() -> Any:
    """By device, the states of the default generators that exist so far, as plain JSON values."""
    if _here.recorder is not None:
        return _here.recorder.random_state()
    return {str(place): default_generator(place).get_state() for place in default_generators()}


def set_rng_states(states: Any) -> None:
    """Continue the default generators of all devices from saved states; one that did not exist then starts from its own seed."""
    if _here.recorder is not None:
        _here.recorder.set_random_state(states)
        return
    for place in default_generators():
        generator, state = default_generator(place), states.get(str(place))
        if state is None:
            generator.manual_seed(generator.initial_seed())
        else:
            generator.set_state(state)
