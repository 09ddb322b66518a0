"""The GPU executor without a GPU: its kernels run on the CPU (``cuda_on_cpu``) and are compiled for an H100, its graphs are planned."""

from __future__ import annotations

import ctypes
import functools
import math
import struct
from typing import Any

import numpy as np
import pytest
from cuda_maker import Case, Maker
from cuda_on_cpu import Emulated, Library, compiler
from cuda_programs import CASES, random_case
from cuda_sources import compiler as gpu_compiler

import tinygrad_ja as tg
from tinygrad_ja.backend.devices import Device
from tinygrad_ja.backend.philox import STORED, PhiloxStream, drawing_lines, philox_words, source, uniform_numbers
from tinygrad_ja.compiler.cuda.executor import CudaExecutor
from tinygrad_ja.compiler.cuda.kernel import Address, Launch, Reach
from tinygrad_ja.compiler.cuda.lowering import _entry
from tinygrad_ja.compiler.cuda.machine import SLOTS, Machine
from tinygrad_ja.compiler.cuda.safety import capture_safety, operator_safety
from tinygrad_ja.compiler.cuda.schedule import module_source, staged
from tinygrad_ja.compiler.lower import Call, Shape, Slot
from tinygrad_ja.compiler.program import Array, Instruction, interpret
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.core.transforms import grad
from tinygrad_ja.testing.case import draw_case
from tinygrad_ja.testing.fuzz import operators_of_the_package
from tinygrad_ja.testing.pick import NumpyChoices, Pick
from tinygrad_ja.testing.trial import Trial

RANDOM = 8
NAMES = [*CASES, *[f"random_{seed}" for seed in range(RANDOM)]]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs g++ or clang++")


def build(name: str) -> Case:
    with np.errstate(all="ignore"):
        return CASES[name]() if name in CASES else random_case(int(name.partition("_")[2]))


class Reader(Emulated):
    """A machine that compiles nothing."""

    def compile(self, texts: Any) -> Any:
        return [None for _ in texts]


def texts_of(case: Case) -> list[str]:
    return CudaExecutor(case.program, machine=Reader()).kernels


@functools.cache
def library() -> Library:
    return Library([text for name in NAMES for text in texts_of(build(name))])


def close(actual: Any, expected: Any, rtol: float, what: Any) -> None:
    if expected.dtype == np.float16:
        rtol = max(rtol, 2e-3)
    scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0) if expected.dtype.kind in "fc" else 0.0
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * max(float(scale), 1e-3) * 0.5, err_msg=repr(what))
    assert actual.dtype == expected.dtype


def check(case: Case, plain: Case, executor: Any, to_host: Any = np.asarray, runs: int = 3) -> None:
    """Several runs of an executor against the interpreter: results, and the state after each."""
    for _ in range(runs):
        with np.errstate(all="ignore"):
            made = executor.run(case.arguments, case.numbers)
            expected = interpret(plain.program, plain.arguments, plain.numbers)
        for array, actual, wanted in zip(case.program.results, made, expected):
            close(to_host(actual), wanted, case.rtol, array.maker)
        for actual, wanted in zip(case.program.state.values(), plain.program.state.values()):
            close(to_host(actual), wanted, case.rtol, "state")


@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_kernels_on_the_cpu(name):
    case = build(name)
    executor = CudaExecutor(case.program, machine=Emulated(library=library()))
    check(case, build(name), executor, runs=2)
    assert executor.launches == (3 if name == "calls" else 1)
    assert bool(executor.notes) == (name in ("calls", "unusual_dtypes", "group_with_odd_reduction"))


DRAWS = [
    ("random", (), ["f2", "f4", "f8"]),
    ("standard_normal", (), ["f4", "f8"]),
    ("integers", (0, 9), ["i8"]),
    ("beta", (0.5, 2.0), ["f8"]),
]


@needs_compiler
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("products")])
def test_products_of_the_library(name):
    case = build(name)
    executor = CudaExecutor(case.program, machine=Emulated(), own_products=False)
    check(case, build(name), executor)
    assert executor.launches == 1 and executor.notes == []


QUICK = "functions_of_f2 functions_of_i1 places takes scans softmax_3x128 softmax_2x1000 layer_norm_70_64_f2 group_without_rows joins".split()


@pytest.mark.skipif(gpu_compiler()[0] is None, reason=gpu_compiler()[1])
@pytest.mark.parametrize(
    "names", [QUICK, pytest.param([n for n in NAMES if n not in QUICK], marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_kernels_compile_for_a_gpu(names):
    texts = dict.fromkeys([text for name in names for text in texts_of(build(name))])
    problem = gpu_compiler()[0](module_source({text: f"kernel_{k}" for k, text in enumerate(texts)}))
    assert not problem, problem[:3000]


@pytest.mark.skipif(gpu_compiler()[0] is None, reason=gpu_compiler()[1])
@pytest.mark.parametrize("method, arguments, dtypes", DRAWS)
def test_eager_draws_compile_for_a_gpu(method, arguments, dtypes):
    for dtype in map(np.dtype, dtypes):
        lines, threads = drawing_lines(method, 101, dtype, arguments)
        assert threads in (101, 51, 26)
        assert gpu_compiler()[0](source(lines, STORED[dtype.char])) == ""


def test_a_kernel_that_does_not_compile_is_seen():
    if gpu_compiler()[0] is None:
        pytest.skip(gpu_compiler()[1])
    assert "undefined_name" in gpu_compiler()[0]('extern "C" __global__ void f(float* x) { x[0] = undefined_name; }')


# ---- the executor ------------------------------------------------------------------------------------


def small() -> Case:
    m = Maker()
    x, w, n = m.argument((4, 6)), m.parameter((6, 5)), m.number()
    y = m.map("multiply", m.map("tanh", m.matmul(x, w)), n)
    m.writes.append((w, m.map("add", w, m.map("exp", m.map("negative", w)))))
    return m.case("small", y, m.reduce("sum", y, (0, 1)), numbers=[2.0])


@needs_compiler
def test_the_second_run_captures_one_graph():
    case, plain = small(), small()
    machine = Emulated()
    executor = CudaExecutor(case.program, machine=machine)
    for run in range(5):
        check(case, plain, executor, runs=1)
        assert machine.graphs == (run >= 1)
    assert executor.launches == 1 and len(executor.steps) > 2
    assert len(machine.sent) == 5 and machine.sent[0] == 8 * executor.table.size


@needs_compiler
@pytest.mark.parametrize("number", [1e39, -1e39, math.nan, 3, True, np.float64(0.5), np.float32(0.5)])
def test_numbers_become_entries_as_numpy_converts_them(number):
    case = small()
    machine = Emulated()
    executor = CudaExecutor(case.program, machine=machine)
    with np.errstate(all="ignore"):
        executor.run(case.arguments, [number])
        expected = np.asarray(number).astype(case.program.numbers[0].dtype)
    entry = ctypes.string_at(executor._owner["numbers"][1], 8)
    assert np.frombuffer(entry, expected.dtype, 1).tobytes() == expected.tobytes() and len(machine.sent) == 1


@pytest.mark.parametrize("code", "?bBhHiIlLqQefd")
def test_every_dtype_has_an_entry_of_64_bits(code):
    value = np.dtype(code).type(1)
    made = struct.pack(f"={_entry(value.dtype)}", value.item())
    assert len(made) == 8 and made[: value.itemsize] == value.tobytes()


class LateCopies:
    """As much of CuPy as ``Machine.sender`` needs: copies are made as late as possible, when somebody waits for an event after them."""

    memcpyHostToDevice = 1

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, int]] = []
        self.cuda = self.runtime = self
        self.arrived: list[bytes] = []

    def alloc_pinned_memory(self, nbytes: int) -> bytearray:
        return bytearray(nbytes)

    def memcpyAsync(self, to: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        assert (to, kind, stream) == (4096, 1, 7)
        self.waiting.append((to, source, nbytes))

    def copy_until(self, count: int) -> None:
        self.arrived += [ctypes.string_at(source, nbytes) for _, source, nbytes in self.waiting[:count]]
        del self.waiting[:count]

    def Event(self, disable_timing: bool) -> Any:
        copies = self

        class Event:
            after = 0

            def record(self) -> None:
                self.after = len(copies.arrived) + len(copies.waiting)

            def synchronize(self) -> None:
                copies.copy_until(self.after - len(copies.arrived))

        return Event()


@pytest.mark.parametrize("calls", [1, SLOTS // 2, SLOTS, 5 * SLOTS + 3])
def test_a_row_stays_until_it_is_copied(calls):
    copies, machine = LateCopies(), Machine.__new__(Machine)
    machine.xp = machine.runtime = copies
    machine.current_stream = lambda: 7
    row = struct.Struct("=f4xQ")
    send = machine.sender(4096, row)
    for k in range(calls):
        send(0.5 * k, k)
        assert len(copies.waiting) <= SLOTS
    copies.copy_until(len(copies.waiting))
    assert copies.arrived == [row.pack(0.5 * k, k) for k in range(calls)]


@needs_compiler
def test_without_a_graph_all_steps_run():
    case = small()
    machine = Emulated()
    executor = CudaExecutor(case.program, machine=machine, graph=False)
    check(case, small(), executor)
    assert machine.graphs == 0 and executor.launches == len(executor.steps)


@needs_compiler
def test_numbers_and_arguments_are_read_at_each_call():
    case, plain = small(), small()
    executor = CudaExecutor(case.program, machine=Emulated())
    for k in range(4):
        x = np.asfortranarray(case.arguments[0] * k)
        made, expected = executor.run([x], [k / 3]), interpret(plain.program, [x], [k / 3])
        close(made[0], expected[0], 1e-5, "y")
    assert made[0] is not executor.run([x], [1.0])[0]


@needs_compiler
def test_a_replaced_array_of_the_state_is_captured_anew():
    case, plain = small(), small()
    machine = Emulated()
    executor = CudaExecutor(case.program, machine=machine)
    check(case, plain, executor)
    (w,) = case.program.state
    for program in (case.program, plain.program):
        program.state[next(iter(program.state))] = np.full(w.shape, 0.25, np.float32)
    check(case, plain, executor)
    assert machine.graphs == 2


def test_new_values_are_computed_in_the_state():
    """One launch for all updates, without copies."""
    m = Maker()
    rate = m.number()
    for shape in ((4, 6), (6,), (3, 5)):
        w, g = m.parameter(shape), m.argument(shape)
        m.writes.append((w, m.map("subtract", w, m.map("multiply", g, rate))))
    program = m.program()
    executor = CudaExecutor(program, machine=Reader())
    assert len(executor.layout.done_writes) == 3
    assert [len(instructions) for instructions, _, _ in executor.steps] == [0, 3, 3]  # arguments, products, differences


class Broken(Emulated):
    """A machine whose captures fail."""

    def capture(self, run: Any) -> Any:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")


@needs_compiler
def test_a_failed_capture_falls_back_and_says_why():
    case = small()
    executor = CudaExecutor(case.program, machine=Broken())
    check(case, small(), executor)
    assert executor.notes == ["no graph: RuntimeError: cudaErrorStreamCaptureUnsupported"]
    assert executor.launches == len(executor.steps)


@needs_compiler
def test_what_no_graph_holds_runs_between_graphs():
    case = build("calls")
    machine = Emulated()
    executor = CudaExecutor(case.program, machine=machine)
    check(case, build("calls"), executor)
    assert machine.graphs == 2 and executor.launches == 3
    assert [note.partition(":")[0] for note in executor.notes] == ["tanh", "inv"]
    assert "outside of the graph" in executor.notes[1] and "outside" not in executor.notes[0]


@needs_compiler
def test_on_the_strict_stand_in():
    from tinygrad_ja.testing import strict

    machine = Emulated(strict.xp, strict.ndarray, strict.peek)
    case, plain = small(), small()
    case.program.state = {a: strict.ndarray(x.copy()) for a, x in case.program.state.items()}
    strict.EVENTS.clear()
    executor = CudaExecutor(case.program, machine=machine)
    check(case._replace(arguments=[strict.ndarray(x) for x in case.arguments]), plain, executor, strict.peek)
    assert strict.EVENTS == []


# ---- launches that kernels share -----------------------------------------------------------------------


def _launch(reads: list[int], writes: list[int], shared: int = 0, threads: int = 256, text: str = "") -> Launch:
    """A kernel that reads and writes those bytes of the arena."""
    reaches = [Reach("arena", byte, byte + 1, False) for byte in reads] + [
        Reach("arena", byte, byte + 1, True) for byte in writes
    ]
    return Launch(("float*",), (text or f"{reads} {writes}",), 1, threads, (Address("arena", 0),), tuple(reaches), shared)


def _stages(*launches: Launch, share: bool = True) -> list[list[int]]:
    made = staged(launches, lambda launch: launch.reaches, share)
    return [[launches.index(launch) for launch in stage] for stage in made]


def test_independent_kernels_share_a_launch():
    first, second, third = _launch([0], [1]), _launch([0], [2]), _launch([1, 2], [3])
    assert _stages(first, second, third) == [[0, 1], [2]]
    assert _stages(first, third, second) == [[0], [1], [2]]  # the second overwrites what the third reads
    assert _stages(first, third, _launch([0], [4])) == [[0, 2], [1]]
    assert _stages(first, _launch([5], [1])) == [[0], [1]]
    assert _stages(first, second, third, share=False) == [[0], [1], [2]]


def test_a_launch_has_limits():
    apart = [_launch([], [k]) for k in range(40)]
    assert [len(stage) for stage in _stages(*apart)] == [32, 8]
    assert _stages(_launch([], [0], 30000), _launch([], [1], 30000)) == [[0], [1]]
    same = [_launch([], [k], 30000, text="one text") for k in range(3)]
    assert _stages(*same) == [[0, 1, 2]]
    assert _stages(_launch([], [0]), _launch([], [1], threads=512)) == [[0], [1]]


def test_other_steps_keep_their_order():
    class Other:
        reaches = (Reach("arena", 1, 2, True),)

    steps = [_launch([], [0]), Other(), _launch([1], [2]), _launch([], [3])]
    assert [len(stage) for stage in staged(steps, lambda step: step.reaches)] == [2, 1, 1]


# ---- which operators a graph can hold ------------------------------------------------------------------


def test_libraries_and_waits_are_known_from_the_text():
    for name in ("matmul", "linear", "convolution", "lstm_layer", "einsum", "det"):
        assert "it uses" in operator_safety(name), name
        assert operator_safety(name, "backward"), name
    for name in ("inv", "cholesky", "svd", "getitem", "argwhere"):
        assert "it waits" in operator_safety(name), name
    for name in ("tanh", "sort", "topk", "cumsum", "window_max", "from_taps", "softmax", "layer_norm"):
        assert operator_safety(name) == "" == operator_safety(name, "backward"), name


def test_a_number_among_the_arguments_waits():
    m = Maker()
    x, n = m.argument((3,)), m.number()
    call = Call(OPERATORS["mul"], {"input": Slot(0, False), "other": Slot(1, True)}, Shape((3,)))
    assert "read a number" in capture_safety(Instruction("call", "mul", [x, n], [Array((3,), "f4")], {"run": call}))


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which library functions run on the stand-in for CuPy."""
    from tinygrad_ja.testing import strict

    used: list[str] = []

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            used.append(name)
            return function(*args, **kwargs)

        return call

    class Linalg:
        def __getattr__(self, name: str) -> Any:
            used.append(f"linalg.{name}")
            return getattr(linalg, name)

    linalg = strict.xp.linalg
    for name in ("matmul", "dot", "tensordot", "einsum"):
        monkeypatch.setattr(strict.xp, name, watched(name, getattr(strict.xp, name)))
    monkeypatch.setattr(strict.xp, "linalg", Linalg())
    for name in ("__matmul__", "__rmatmul__"):
        monkeypatch.setattr(strict.ndarray, name, watched(name, getattr(strict.ndarray, name)))
    kernels = [operator.kernels for operator in OPERATORS.values()]
    for known in kernels:
        known.pop(strict.ndarray, None)
    yield used
    for known in kernels:
        known.pop(strict.ndarray, None)


def test_what_the_text_says_is_what_runs(used):
    """Whatever a graph can hold by its text calls no library, forward or backward; and most of what it cannot hold does."""
    from tinygrad_ja.testing import strict

    wrong, seen = [], set()
    for operator in operators_of_the_package():
        for seed in range(3):
            case = draw_case(operator, Pick(NumpyChoices(np.random.default_rng(seed))))
            trial = Trial(case, np.random.default_rng(seed))
            if any([isinstance(c, Device) for c in trial.constants.values()]):
                continue
            inputs, constants = case.convert(strict.array)
            used.clear()
            trial.outputs(inputs, constants)
            both = {"forward": bool(used)}
            used.clear()
            if trial.moving:
                tensors = trial.tensors(inputs, trial.moving)
                ys = trial.outputs(tensors, constants)
                used.clear()
                cotangents = [tg.Tensor(strict.array(u)) for u in trial.cotangents]
                grad([ys[i] for i in trial.live], [tensors[i] for i in trial.moving], cotangents, allow_unused=True)
                both["backward"] = bool(used)
            wrong += [
                f"{operator.name}.{part}" for part, found in both.items() if found and not operator_safety(operator.name, part)
            ]
            seen |= {(operator.name, part) for part, found in both.items() if found}
    assert not wrong
    assert len(seen) > 40


# ---- random numbers -----------------------------------------------------------------------------------


def test_philox_has_the_known_answers():
    def words(index, seed, draw):
        return [f"{int(w[0]):08x}" for w in philox_words(np.full(1, index, np.uint64), seed, draw)]

    assert words(0, 0, 0) == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    everything = 2**64 - 1
    assert words(everything, everything, everything) == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


class Stream:
    """Stands for a generator of a GPU."""

    def __init__(self, seed: int) -> None:
        self._stream = PhiloxStream(seed)


def draws(generator: Stream, *wanted: tuple[str, tuple[int, ...], str, tuple]) -> Case:
    m = Maker()
    made = []
    for method, shape, dtype, args in wanted:
        options = {"generator": generator, "args": args}
        output = Array(shape, dtype)
        m.instructions.append(Instruction("random", method, [], [output], options))
        made.append(output)
    return m.case("draws", *made, m.map("add", made[0], made[0]))


@needs_compiler
def test_draws_are_those_of_the_stream_at_each_replay():
    generator = Stream(1234567890123456789)
    wanted = [("uniform", (3, 5), d, ((3, 5), np.dtype(d))) for d in ("f4", "f8", "f2")]
    case = draws(generator, *wanted)
    executor = CudaExecutor(case.program, machine=Emulated())
    for replay in range(4):
        made = executor.run([], [])
        for k, dtype in enumerate(("f4", "f8", "f2")):
            drawn = uniform_numbers(15, "f8" if dtype == "f8" else "f4", 1234567890123456789, 3 * replay + k)
            assert np.array_equal(made[k], drawn.astype(dtype).reshape(3, 5))
    assert generator._stream.draws == 12
    generator._stream = PhiloxStream(7)  # manual_seed
    assert np.array_equal(executor.run([], [])[0], uniform_numbers(15, "f4", 7, 0).reshape(3, 5))


@needs_compiler
def test_draws_without_a_kernel_keep_their_place():
    class Ordered(Stream):
        def permutation(self, n: int) -> Any:
            self._stream.draws += 1
            return np.argsort(uniform_numbers(n, "f8", self._stream.seed, self._stream.draws - 1))

    uniform = ("uniform", (4,), "f4", ((4,), np.dtype("f4")))
    case = draws(generator := Ordered(5), uniform, ("permutation", (9,), "i8", (9,)), uniform)
    executor = CudaExecutor(case.program, machine=Emulated())
    for replay in range(3):
        first, order, second, _ = executor.run([], [])
        assert np.array_equal(first, uniform_numbers(4, "f4", 5, 3 * replay))
        assert np.array_equal(order, np.argsort(uniform_numbers(9, "f8", 5, 3 * replay + 1)))
        assert np.array_equal(second, uniform_numbers(4, "f4", 5, 3 * replay + 2))
        assert generator._stream.draws == 3 * replay + 3
    assert executor.launches == 3


@needs_compiler
def test_distributions_of_draws():
    n = 4000
    wanted = [
        ("normal", (n,), "f4", ((n,), np.dtype("f4"))),
        ("normal", (n,), "f8", ((n,), np.dtype("f8"))),
        ("integers", (n,), "i8", (-3, 5, (n,))),
        ("beta", (n,), "f4", (0.4, 0.4, (n,), np.dtype("f4"))),
        ("beta", (n,), "f8", (2.0, 5.0, (n,), np.dtype("f8"))),
    ]
    case = draws(Stream(3), *wanted)
    normal, double, integers, beta, other, _ = CudaExecutor(case.program, machine=Emulated()).run([], [])
    for x in (normal, double):
        assert abs(x.mean()) < 0.06 and abs(x.std() - 1) < 0.05 and abs((x**3).mean()) < 0.3 and 2.5 < (x**4).mean() < 3.5
    counts = np.bincount(integers + 3, minlength=8)
    assert len(counts) == 8 and np.all(np.abs(counts - n / 8) < 100)
    assert abs(beta.mean() - 0.5) < 0.03 and abs(beta.var() - 0.25 / 1.8) < 0.01 and 0 <= beta.min() and beta.max() <= 1
    assert abs(other.mean() - 2 / 7) < 0.02 and abs(other.var() - 10 / (49 * 8)) < 0.005


def test_a_saved_stream_goes_on():
    stream = PhiloxStream(5)
    stream.draws = 17
    other = PhiloxStream(0)
    other.bit_generator.state = stream.bit_generator.state
    assert (other.seed, other.draws) == (5, 17)
