"""``python -m tinygrad_ja data``: which sets there are, which are here, and getting one."""

from __future__ import annotations

from ...errors import language, refusal
from ...table import aligned
from . import DATASETS
from .places import Folder, Places, cache_folder, is_here

_HEAD = (("name", "size", "here", "what", "licence"), ("名前", "大きさ", "手元", "内容", "ライセンス"))
_HERE = (("no", "yes"), ("なし", "あり"))
_FOOT = (
    "Looked for in --root, then TINYGRAD_JA_DATA, then {cache}. Get one: python -m tinygrad_ja data NAME",
    "--root、TINYGRAD_JA_DATA、{cache} の順に探します。取得: python -m tinygrad_ja data 名前",
)
_DONE = (
    "{name}: all {count} files are here; licence: {licence}",
    "{name}: {count} 個のファイルがすべてあります。ライセンス: {licence}",
)


def listing(root: Folder | None = None) -> str:
    """A table of all sets: name, size of the contents, whether it is here, what it is, licence."""
    japanese = language() == "ja"
    rows = [_HEAD[japanese]]
    for kind in DATASETS.values():
        card = kind.card
        here = _HERE[japanese][is_here(card, root)]
        rows.append((card.name, _amount(card.size), here, card.about[japanese], card.licence[japanese]))
    return "\n".join([*aligned(rows, left=5), _FOOT[japanese].format(cache=cache_folder())])


def get(name: str, root: Folder | None = None, verify: bool = False) -> str:
    """Have all files of a set here, fetching what is missing; a line that says so. ``verify`` checks those that were here before.

    Raises ArgumentError for an unknown name, StateError when a file cannot be had.
    """
    if name not in DATASETS:
        rule = (f"one of {', '.join(DATASETS)}", f"{'、'.join(DATASETS)} のどれか")
        fix = ("python -m tinygrad_ja data lists them.", "python -m tinygrad_ja data で一覧が出ます。")
        raise refusal("data", "NAME", repr(name), rule, fix)
    card = DATASETS[name].card
    places = Places(card, root, verify=verify)
    for file in card.files:
        places.path(file.path)
    japanese = language() == "ja"
    return _DONE[japanese].format(name=name, count=len(card.files), licence=card.licence[japanese])


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
