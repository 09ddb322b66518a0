"""The comparisons with PyTorch are collected only where it is installed: ``pip install -e ".[parity]"``."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


def pytest_report_header() -> str:
    """One line at the top of the run, so that nobody takes silence for agreement."""
    return "PyTorch: installed, compared with" if find_spec("torch") else "PyTorch: not installed, tests/parity left out"
