"""The site of the documentation: the pages of this folder, and a reference that is written from the docstrings.

pip install -e ".[docs]" && python -m sphinx -W --keep-going docs build/docs     then open build/docs/index.html
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference  # noqa: E402 - found by the line above

import tinygrad_ja  # noqa: E402

project = "tinygrad_ja"
author = copyright = "tinygrad_ja contributors"
version = release = tinygrad_ja.__version__

extensions = ["sphinx.ext.autodoc", "myst_parser"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "tinygrad_ja"
html_show_sphinx = False
pygments_style = "friendly"

myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True


def setup(app) -> None:  # type: ignore[no-untyped-def]
    """Write the reference before anything is read, and let docstrings be what they are: text, not markup."""
    app.connect("builder-inited", lambda app: reference.write(HERE / "api"))
    app.connect("autodoc-process-docstring", reference.as_markup)
    app.connect("autodoc-process-signature", reference.plain_signature)
