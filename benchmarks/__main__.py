"""``python -m benchmarks`` lists the programs here; ``python -m benchmarks NAME ...`` runs one."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path


def main(argv: list[str]) -> int:
    """Choose the kernels of OpenBLAS, then load NumPy with the package, then list or run."""
    # Importing the package would load NumPy, after which OpenBLAS no longer listens: so this one file is run by its path.
    package = find_spec("tinygrad_ja")
    assert package is not None
    assert package.origin is not None
    core_type = runpy.run_path(str(Path(package.origin).with_name("blas.py")))["prepare"]()
    from tinygrad_ja.commands import run

    return run("benchmarks", Path(__file__).parent, argv, core_type)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
