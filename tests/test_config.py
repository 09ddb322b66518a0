"""``show_config``, ``doctor``, and the choice of BLAS kernels. The processors and drivers are described, since this machine has its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import tinygrad_ja as tg
from tinygrad_ja import blas, config
from tinygrad_ja.__main__ import main
from tinygrad_ja.backend import devices

ROOT = Path(__file__).resolve().parent.parent
AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"


def cpuinfo(vendor: str = "AuthenticAMD", family: int = 26, flags: str = AVX512, name: str = "AMD EPYC 9755") -> str:
    """Text like /proc/cpuinfo of a machine with two processors."""
    one = f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 2\nmodel name\t: {name}\nflags\t\t: fpu sse2 avx2 fma {flags}\n"
    return f"processor\t: 0\n{one}\nprocessor\t: 1\n{one}"


@pytest.fixture(params=["en", "ja"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TINYGRAD_JA_LANG", request.param)
    return str(request.param)


# ---- processors and kernels


def test_hardware_tells_processors_of_one_name_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.os, "cpu_count", lambda: 2)
    for flags, told in (("avx512f", " with AVX-512"), ("", " with AVX2")):
        monkeypatch.setattr(config, "read_cpuinfo", lambda flags=flags: cpuinfo(flags=flags))
        assert config.hardware() == f"AMD EPYC 9755{told}, 2 cores"
    monkeypatch.setattr(config, "read_cpuinfo", lambda: "")
    assert config.hardware().endswith(", 2 cores")


def test_a_processor_is_read_from_cpuinfo() -> None:
    cpu = blas.processor(cpuinfo())
    assert (cpu.name, cpu.vendor, cpu.family, cpu.has_avx512) == ("AMD EPYC 9755", "AuthenticAMD", 26, True)


@pytest.mark.parametrize("text", ["", "garbage\n:\n", "Processor : ARMv8\nFeatures : fp asimd\n", "cpu family : unknown\n"])
def test_an_unfamiliar_cpuinfo_gives_a_processor_without_avx512(text: str) -> None:
    assert not blas.processor(text).has_avx512


def test_a_missing_cpuinfo_is_empty(tmp_path: Path) -> None:
    assert blas.read_cpuinfo(str(tmp_path / "none")) == ""


@pytest.mark.parametrize("missing", sorted(blas.AVX512_FLAGS))
def test_avx512_kernels_need_every_one_of_their_flags(missing: str) -> None:
    assert not blas.processor(cpuinfo(flags=AVX512.replace(missing, ""))).has_avx512


@pytest.mark.parametrize("core_type", ["Haswell", "Zen", "Prescott", "Sandybridge"])
def test_older_kernels_on_an_avx512_processor_are_found(core_type: str) -> None:
    assert blas.slower_kernels(blas.processor(cpuinfo()), core_type)


@pytest.mark.parametrize("core_type", ["SkylakeX", "Cooperlake", "SapphireRapids", "SKYLAKEX", ""])
def test_avx512_kernels_or_another_blas_are_not_reported(core_type: str) -> None:
    assert not blas.slower_kernels(blas.processor(cpuinfo()), core_type)


def test_avx2_kernels_are_right_for_an_avx2_processor() -> None:
    assert not blas.slower_kernels(blas.processor(cpuinfo(flags="")), "Haswell")


# ---- prepare


def test_prepare_chooses_avx512_kernels_on_an_amd_processor_that_has_them() -> None:
    environment: dict[str, str] = {}
    assert blas.prepare(environment, cpuinfo()) == "SkylakeX"
    assert environment == {"OPENBLAS_CORETYPE": "SkylakeX"}


def test_prepare_respects_what_the_user_set() -> None:
    environment = {"OPENBLAS_CORETYPE": "Zen"}
    assert blas.prepare(environment, cpuinfo()) is None
    assert environment == {"OPENBLAS_CORETYPE": "Zen"}


@pytest.mark.parametrize(
    "text",
    [
        cpuinfo(flags=""),  # Zen 3 and older
        cpuinfo(family=23),  # no such AMD processor exists; a flag alone does not decide
        cpuinfo(vendor="GenuineIntel", family=6),  # OpenBLAS knows these
        "",  # macOS, Windows
    ],
)
def test_prepare_changes_nothing_elsewhere(text: str) -> None:
    environment: dict[str, str] = {}
    assert blas.prepare(environment, text) is None
    assert environment == {}


@pytest.mark.parametrize("package", ["models", "benchmarks"])
def test_command_lines_prepare_before_numpy_loads(package: str) -> None:
    """``prepare`` is replaced in the file that is run by its path, by a reader that always describes the AMD processor."""
    code = f"""
import pathlib, runpy, sys
real = runpy.run_path
def run_path(path):
    assert "numpy" not in sys.modules
    space = real(path)
    return {{**space, "prepare": lambda: space["prepare"](cpuinfo={cpuinfo()!r})}}
runpy.run_path = run_path
sys.argv = ["{package}"]
try:
    runpy.run_module("{package}", run_name="__main__")
except SystemExit as end:
    assert not end.code
import os
print(os.environ["OPENBLAS_CORETYPE"], "numpy" in sys.modules)
"""
    environment = {**os.environ, "TINYGRAD_JA_LANG": "en", "PYTHONPATH": str(ROOT)}
    environment.pop("OPENBLAS_CORETYPE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "SkylakeX True"
    assert done.stderr.startswith("OPENBLAS_CORETYPE=SkylakeX is set for this process")


def test_the_blas_module_alone_loads_no_numpy() -> None:
    code = f"import runpy, sys; runpy.run_path({blas.__file__!r}); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_openblas_of_the_process_is_found_by_both_ways(tmp_path: Path) -> None:
    found = blas.loaded_openblas()
    if found is None:
        pytest.skip("this NumPy uses another BLAS")
    assert found.core_type
    assert found.threads >= 1
    bundled = blas.loaded_openblas(maps=str(tmp_path / "none"))
    assert bundled is None or bundled.core_type == found.core_type


# ---- findings


def test_the_described_amd_case_names_what_to_set(language: str) -> None:
    finding = config.check_kernels(blas.processor(cpuinfo()), "Haswell", {})
    assert finding is not None
    assert finding.code == "TG-C001"
    assert finding.wrong
    for part in ("AMD EPYC 9755", "Haswell", "export OPENBLAS_CORETYPE=SkylakeX"):
        assert part in finding.message


def test_a_slow_choice_of_the_user_is_reported_with_the_fast_one() -> None:
    finding = config.check_kernels(blas.processor(cpuinfo()), "Haswell", {"OPENBLAS_CORETYPE": "Haswell"})
    assert finding is not None
    assert finding.code == "TG-C001"


def test_a_build_that_does_not_listen_is_reported_as_such(language: str) -> None:
    finding = config.check_kernels(blas.processor(cpuinfo()), "Haswell", {"OPENBLAS_CORETYPE": "skylakex"})
    assert finding is not None
    assert finding.code == "TG-C002"
    assert "pip install" in finding.message


def test_fitting_kernels_threads_blas_and_packages_give_no_finding() -> None:
    assert config.check_kernels(blas.processor(cpuinfo()), "SkylakeX", {}) is None
    assert config.check_threads(2, 2) is None
    assert config.check_blas(True) is None
    assert config.check_cupy_packages(["cupy-cuda13x"]) is None
    assert config.check_gpu(None, wanted=True) is None


def test_too_many_threads_are_reported_with_the_right_number(language: str) -> None:
    finding = config.check_threads(64, 2)
    assert finding is not None
    assert "OPENBLAS_NUM_THREADS=2" in finding.message


def test_two_cupy_packages_are_reported_with_both_names(language: str) -> None:
    finding = config.check_cupy_packages(["cupy-cuda12x", "cupy-cuda13x"])
    assert finding is not None
    assert "pip uninstall -y cupy-cuda12x cupy-cuda13x" in finding.message
    assert "pip install 'cupy-cuda13x[ctk]" in finding.message


def test_numpy_without_blas_is_reported(language: str) -> None:
    finding = config.check_blas(False)
    assert finding is not None
    assert "pip install" in finding.message


def test_a_missing_gpu_is_a_fault_only_where_one_is_wanted() -> None:
    remark = config.check_gpu(("TG-D002", "CuPy is not installed"), wanted=False)
    fault = config.check_gpu(("TG-D002", "CuPy is not installed"), wanted=True)
    half_installed = config.check_gpu(("TG-D003", "cudaErrorInsufficientDriver"), wanted=False)
    assert remark is not None
    assert not remark.wrong
    assert fault is not None
    assert fault.wrong
    assert half_installed is not None
    assert half_installed.wrong


# ---- show_config and doctor


def test_show_config_returns_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tg.show_config(mode="dicts")
    assert facts is not None
    assert facts["numpy"]
    assert facts["device"] == "cpu"
    assert facts["dtype"] == "float32"
    assert set(facts["blas"]) == {"name", "version", "found", "core_type", "threads"}


def test_show_config_prints_every_fact(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tg.show_config() is None
    lines = capsys.readouterr().out.splitlines()
    labels = [line.partition(":")[0] for line in lines]
    assert labels[:4] == ["tinygrad_ja", "Python", "NumPy", "CuPy"]
    assert labels[-1] == {"en": "default dtype", "ja": "既定の dtype"}[language]
    assert lines[0] == f"tinygrad_ja: {tg.__version__}"


def fake_cupy(failure: str = "", names: tuple[str, ...] = (), product: float = 44.0) -> Any:
    """A module that answers as CuPy does on a machine without driver, without device, or with devices."""

    def get_device_count() -> int:
        if failure:
            raise RuntimeError(failure)
        return len(names)

    class Product:
        def reshape(self, *shape: int) -> Product:
            return self

        def __mul__(self, other: float) -> Product:
            return self

        def __matmul__(self, other: Product) -> Product:
            return self

        def sum(self) -> float:
            return product

    module: Any = ModuleType("cupy")
    module.arange = lambda n, dtype: Product()
    module.cuda = SimpleNamespace(
        is_available=lambda: bool(names),
        runtime=SimpleNamespace(
            getDeviceCount=get_device_count,
            getDeviceProperties=lambda index: {"name": names[index].encode()},
            driverGetVersion=lambda: 13000,
        ),
    )
    return module


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``install(module)``: what ``import cupy`` gives; None makes it fail."""

    def install(module: Any) -> None:
        monkeypatch.setitem(sys.modules, "cupy", module)
        devices.gpu_problem.cache_clear()

    yield install
    devices.gpu_problem.cache_clear()


NO_DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"


@pytest.mark.skipif("cuda" in devices.BACKENDS, reason="a GPU is in use")
@pytest.mark.parametrize(
    ("module", "code", "fix"),
    [
        (None, "TG-D002", "pip install 'cupy-cuda13x[ctk]"),
        (fake_cupy(NO_DRIVER), "TG-D003", "python -m tinygrad_ja doctor"),
        (fake_cupy(NO_DEVICE), "TG-D004", "nvidia-smi"),
        (fake_cupy(), "TG-D004", "nvidia-smi"),
        (fake_cupy(names=("H200",), product=0.0), "TG-D003", "python -m tinygrad_ja doctor"),
    ],
    ids=["no CuPy", "no driver", "no device", "zero devices", "wrong product"],
)
def test_a_gpu_that_cannot_be_used_says_which_part_is_missing(
    install: Any, module: Any, code: str, fix: str, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(module)
    assert not tg.cuda_is_available()
    with pytest.raises(tg.errors.DeviceError) as caught:
        tg.set_default_device(tg.device("cuda"))
    assert caught.value.code == code
    assert fix in str(caught.value)
    with pytest.raises(tg.errors.DeviceError), tg.device("cuda"):
        pass
    assert tg.get_default_device() == "cpu"
    tg.show_config()
    shown = capsys.readouterr().out
    assert f"[{code}]" in shown
    assert fix in shown


def test_a_failing_driver_shows_its_own_reason(install: Any) -> None:
    install(fake_cupy(NO_DRIVER))
    assert devices.gpu_problem() == ("TG-D003", NO_DRIVER)


def test_a_usable_gpu_is_shown_by_name(install: Any, language: str) -> None:
    install(fake_cupy(names=("NVIDIA H200", "NVIDIA L4")))
    assert config.gpu_facts() == {"usable": True, "names": ["NVIDIA H200", "NVIDIA L4"], "driver": "13.0"}
    assert "NVIDIA H200, NVIDIA L4" in config.report(config.gather())


@pytest.mark.skipif("cuda" in devices.BACKENDS, reason="a GPU is in use")
def test_the_doctor_reports_a_device_that_cannot_be_used(
    install: Any, language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(None)
    monkeypatch.setenv("TINYGRAD_JA_DEVICE", "cuda")
    monkeypatch.setattr(devices._default, "device", None)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("pip install 'cupy-cuda13x[ctk]") == 1


def test_the_doctor_reports_a_device_of_no_known_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_DEVICE", "tpu")
    monkeypatch.setattr(devices._default, "device", None)
    assert main(["doctor"]) == 1
    assert "[TG-D005]" in capsys.readouterr().out


def test_the_doctor_puts_the_slow_kernels_first_and_returns_one(
    language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "read_cpuinfo", cpuinfo)
    monkeypatch.setattr(config, "loaded_openblas", lambda: blas.OpenBLAS("libopenblas.so", "Haswell", 1))
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "Haswell" in shown
    assert "[TG-C001]" in shown.split("\n\n")[1].splitlines()[0]


def test_a_healthy_cpu_machine_has_nothing_to_mend(
    install: Any, language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(None)
    monkeypatch.setattr(config, "read_cpuinfo", cpuinfo)
    monkeypatch.setattr(config, "loaded_openblas", lambda: blas.OpenBLAS("libopenblas.so", "SkylakeX", 1))
    monkeypatch.setattr(config, "cupy_packages", list)
    assert main(["doctor"]) == 0
    assert {"en": "Nothing is wrong.", "ja": "問題はありません。"}[language] in capsys.readouterr().out


def test_the_language_can_be_chosen_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    main(["errors", "--lang", "ja"])
    assert capsys.readouterr().out.startswith("# メッセージ一覧")
