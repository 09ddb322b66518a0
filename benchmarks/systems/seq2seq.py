"""The program ``seq2seq`` in PyTorch: see ``attention.py``, which has both."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from . import attention


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train in PyTorch, write the test part."""
    given = sys.argv[1:] if argv is None else argv
    return attention.main(["--task", "addition", "--attention", "none", *given])


if __name__ == "__main__":
    print(json.dumps(main()))
