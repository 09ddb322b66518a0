"""The node tests of the ``onnx`` package, run through ``tg.io.load_onnx``.

    python -m tinygrad_ja.testing.onnx_nodes             # operators, and how many node tests that use them pass
    python -m tinygrad_ja.testing.onnx_nodes --excluded  # every test that is left out, with the reason

A node test is a small model with inputs and the outputs that the standard's reference implementation gives for them.
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import error
from ..io.onnx.import_module import load_onnx
from ..io.onnx.import_table import IMPORTERS
from ..io.onnx.import_tensor import DTYPES
from ..ops.creation import from_numpy

try:
    import onnx
except ImportError as failure:
    raise error("TG-A002", package="onnx", install="onnx>=1.17") from failure

RANDOM = (
    "test_bernoulli",
    "test_bernoulli_double",
    "test_bernoulli_double_expanded",
    "test_bernoulli_expanded",
    "test_bernoulli_seed",
    "test_bernoulli_seed_expanded",
    "test_training_dropout",
    "test_training_dropout_default",
    "test_training_dropout_default_mask",
    "test_training_dropout_mask",
)
"""Tests whose expected output is one draw of random numbers."""

TOLERANCES = {
    # float16: two of 192 elements are the neighbouring number, 1.04e-3 away, where 1e-3 is allowed
    "test_attention_4d_causal_fp16": (2e-3, 1e-7),
    "test_attention_4d_causal_fp16_expanded": (2e-3, 1e-7),
    # the expected zeros are up to 2e-6 from zero, rounding errors of the reference's own inverse transform
    "test_dft_inverse": (1e-3, 1e-5),
    "test_dft_inverse_opset19": (1e-3, 1e-5),
}
"""(rtol, atol) where those of the test are finer than rounding; the others keep theirs."""


class NodeTest(NamedTuple):
    """A model and what it has to compute: pairs of inputs and outputs."""

    name: str
    model: Any
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def operators(self) -> set[tuple[str, str]]:
        """(domain, name) of every operator in the model."""
        return {(node.domain, node.op_type) for node in _nodes(self.model.graph)}

    @property
    def excluded(self) -> str | None:
        """Why the test is left out, or None."""
        missing = sorted(name for domain, name in self.operators if (domain, name) not in IMPORTERS)
        if missing:
            return f"operator {missing[0]}"
        types = sorted(_types(self.model.graph) - DTYPES.keys())
        if types:
            return f"type {onnx.TensorProto.DataType.Name(types[0]).lower()}"
        if self.name in RANDOM:
            return "random numbers"
        oldest = min([entry.version for entry in self.model.opset_import if entry.domain == ""], default=6)
        return None if oldest >= 6 else f"opset {oldest}"

    def check(self, folder: Path, device: str = "cpu") -> None:
        """Run it on a device. Raises AssertionError where an output is not the expected one."""
        path = folder / "node.onnx"
        path.write_bytes(self.model.SerializeToString())
        model = load_onnx(path).to(device)
        for inputs, expected in self.data:
            got = model(*[_given(value, device) for value in inputs])
            for actual, wanted in zip(got if isinstance(got, tuple) else (got,), expected):
                self._compare(actual, wanted)

    def _compare(self, actual: Any, wanted: Any) -> None:
        if isinstance(wanted, list):
            assert len(actual) == len(wanted)
            for one, other in zip(actual, wanted):
                self._compare(one, other)
        elif wanted is None:
            assert actual is None
        else:
            array, reference = actual.cpu().numpy(), _array(wanted)
            assert array.dtype == reference.dtype, f"dtype {array.dtype}, expected {reference.dtype}"
            rtol, atol = TOLERANCES.get(self.name, (self.rtol, self.atol))
            np.testing.assert_allclose(array, reference, rtol=rtol, atol=atol)


@lru_cache(1)
def node_tests() -> tuple[NodeTest, ...]:
    """Every node test of the installed ``onnx`` package; it makes their data anew, which takes some seconds."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return tuple([NodeTest(case.name, case.model, case.data_sets or [], case.rtol, case.atol) for case in cases])


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the graphs in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _types(graph: Any) -> set[int]:
    """Numbers of the element types that a graph's inputs, outputs, constants and casts have."""
    found = {_element_type(value.type) for value in [*graph.input, *graph.output]}
    found |= {tensor.data_type for tensor in graph.initializer}
    for node in _nodes(graph):
        found |= {item.i for item in node.attribute if item.name in ("to", "dtype", "output_dtype", "softmax_precision")}
        found |= {item.t.data_type for item in node.attribute if item.type == onnx.AttributeProto.TENSOR}
    return found - {0}


def _element_type(described: Any) -> int:
    kind = described.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return _element_type(getattr(described, kind).elem_type)
    return described.tensor_type.elem_type


def _array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _given(value: Any, device: str) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_given(item, device) for item in value]
    return from_numpy(_array(value).copy()).to(device)


def summary() -> str:
    """Every imported operator with the number of passing node tests whose graph uses it, and the totals. Failures go to stderr."""
    passed: Counter[tuple[str, str]] = Counter()
    total = failed = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in node_tests():
            if test.excluded:
                continue
            total += 1
            try:
                test.check(Path(folder))
            except Exception as failure:
                failed += 1
                print(f"{test.name} fails: {failure}", file=sys.stderr)
            else:
                passed.update(test.operators)
    known = sorted(IMPORTERS, key=lambda operator: operator[::-1])
    shown = [f"{domain}.{name} {passed[domain, name]}".removeprefix(".") for domain, name in known]
    totals = f"onnx {onnx.__version__}: {total - failed} of {total} node tests pass; {len(known)} operators are imported."
    return "\n".join([*textwrap.wrap(", ".join(shown), 120, break_long_words=False), "", totals])


def excluded() -> str:
    """A line for each test that is left out, and how many there are for each reason."""
    reasons = {test.name: test.excluded for test in node_tests() if test.excluded}
    lines = [f"{name}: {reason}" for name, reason in sorted(reasons.items())]
    counts = Counter(reasons.values())
    return "\n".join([*lines, "", *[f"{count:4} {reason}" for reason, count in counts.most_common()]])


if __name__ == "__main__":
    print(excluded() if "--excluded" in sys.argv[1:] else summary())
