"""What ``tg.blame`` draws of a backward that forgets the next time step.

python docs/pictures/blame.py     writes docs/images/blame.png and, with Japanese words, docs/images/blame_ja.png
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the page's own program and draw what it found."""
    page = (DOCS / "blame.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if not block.startswith(">>>"):
            exec(block, names)
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        names["second"].plot(DOCS / "images" / f"blame{ending}.png")


if __name__ == "__main__":
    main()
