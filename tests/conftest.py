"""Settings of the whole suite: messages in English, reproducible Hypothesis, how many examples each operator gets."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ["TINYGRAD_JA_LANG"] = "en"

settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples",
        type=int,
        default=int(os.environ.get("TINYGRAD_JA_EXAMPLES", "15")),
        help="cases drawn for each operator (15 in the ordinary suite, 100 for the wide run; also TINYGRAD_JA_EXAMPLES)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from tinygrad_ja.backend.devices import gpu_problem

    problem = gpu_problem()
    if problem is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {problem[1] or 'no CUDA device'}"))


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> int:
    """Number of cases for each operator."""
    return int(request.config.getoption("--examples"))


@pytest.fixture
def without_data(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No data set is here, so programs go on with made-up data. Messages are English."""
    nothing = str(tmp_path_factory.mktemp("nothing"))
    monkeypatch.setenv("TINYGRAD_JA_DATA", nothing)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", nothing)
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")


CPU_BACKENDS = ("numpy", "native", "plain")


@pytest.fixture(params=CPU_BACKENDS)
def cpu_backend(request: pytest.FixtureRequest) -> str:
    """The ``backend`` of ``tg.compile``, for functions of which some arrays are NumPy's whatever the default device is."""
    if request.param == "native":
        pytest.importorskip("llvmlite")
    return request.param


@pytest.fixture(params=[*CPU_BACKENDS, "gpu stand-in"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The ``backend`` of ``tg.compile``; in the last case Tensors are made on the stand-in for CuPy, on which programs run plainly."""
    if request.param == "native":
        pytest.importorskip("llvmlite")
    if request.param in CPU_BACKENDS:
        yield request.param
        return
    import tinygrad_ja as tg
    import tinygrad_ja.testing.strict  # registers the device

    with tg.device("strict"):
        yield "plain"
