"""What docs/profile.md shows: its tables, and the picture of its plan.

python docs/pictures/profile.py     prints the tables of the page and writes docs/images/plan.svg and docs/images/plan_ja.svg
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import tinygrad_ja as tg

DOCS = Path(__file__).resolve().parent.parent
IMAGES = DOCS / "images"


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page that are no dialogue."""
    found = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith(">>>")]


def main() -> None:
    """Run the page as a program ``model.py``, in both languages."""
    here = Path.cwd()
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        program = here / "model.py"
        program.write_text("\n".join(blocks(DOCS / "profile.md")), encoding="utf-8")
        names: dict[str, object] = {"__name__": "model"}
        exec(compile(program.read_text(encoding="utf-8"), str(program), "exec"), names)
        tg.draw(names["compiled"]).save(IMAGES / f"plan{ending}.svg")
        print(IMAGES / f"plan{ending}.svg")


if __name__ == "__main__":
    main()
