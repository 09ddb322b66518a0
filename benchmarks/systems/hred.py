"""The program ``hred`` in PyTorch: see ``vhred.py``, which has both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .vhred import compare


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and test."""
    return compare(argv, latent=False)


if __name__ == "__main__":
    print(json.dumps(main()))
