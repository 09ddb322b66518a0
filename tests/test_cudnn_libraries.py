"""How cuDNN and what it needs are found, and what is said where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cudnn_on_cpu import Library

import tinygrad_ja as tg
from tinygrad_ja import backends
from tinygrad_ja.kernels import cudnn as plans
from tinygrad_ja.testing import strict


@pytest.mark.parametrize(("language", "fix"), [("en", "Fix: pip install"), ("ja", "直し方: pip install")])
@pytest.mark.parametrize(("runtime", "package"), [(12090, "nvidia-cudnn-cu12"), (13020, "nvidia-cudnn-cu13")])
def test_without_the_package_turning_it_on_says_what_to_install(
    language: str, fix: str, runtime: int, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=lambda: runtime)))
    backend = strict.STRICT._replace(xp=cupy)
    for module in (backends, plans):
        monkeypatch.setattr(module, "load_cuda", lambda: backend)
    monkeypatch.setitem(sys.modules, "cudnn", None)
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    switch = backends.CuDNN()
    with pytest.raises(tg.errors.ArgumentError, match=r"TG-A002") as caught:
        switch.enabled = True
    assert (
        fix in str(caught.value) and package in str(caught.value) and "nvidia-cudnn-frontend>=1.24,<1.29" in str(caught.value)
    )
    assert not switch.enabled and switch.version() is None


@pytest.mark.parametrize("own", [False, True])
def test_cudnn_is_loaded_from_pythons_path_where_the_package_itself_would_not_look(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    folders = [tmp_path / name for name in ("empty", "user", "environment")]
    for folder in folders[1 : 3 if own else 2]:
        (folder / "nvidia/cudnn/lib").mkdir(parents=True)
        (folder / "nvidia/cudnn/lib/libcudnn.so.9").touch()
    monkeypatch.setattr(plans, "sys", SimpleNamespace(path=["", *map(str, folders)]))
    monkeypatch.setattr(plans, "sysconfig", SimpleNamespace(get_path=lambda name: str(folders[2])))
    monkeypatch.setattr(plans, "ctypes", SimpleNamespace(CDLL=loaded.append))
    plans._load_from_path.__wrapped__()
    assert loaded == ([] if own else [str(tmp_path / "user/nvidia/cudnn/lib/libcudnn.so.9")])


@pytest.mark.parametrize("found", [True, False])
def test_turning_it_on_loads_the_runtime_that_the_package_asks_the_system_for(
    found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> None:
        if not found:
            raise RuntimeError(f"no {name}")
        loaded.append(name)

    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=lambda: 13020)))
    monkeypatch.setattr(plans, "library", Library)
    monkeypatch.setattr(plans, "load_cuda", lambda: strict.STRICT._replace(xp=cupy))
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    pathfinder: Any = ModuleType("cuda.pathfinder")
    pathfinder.load_nvidia_dynamic_lib = load
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    if found:
        assert isinstance(plans.checked_library(), Library)
        assert loaded == ["cudart"]
    else:
        with pytest.raises(tg.errors.ArgumentError, match="TG-A002"):
            plans.checked_library()
