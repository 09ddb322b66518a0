"""``python -m tinygrad_ja doctor``: what is installed, what is wrong, and the command that mends it.
``python -m tinygrad_ja errors``: the page that lists every message (``docs/errors.md``).
``python -m tinygrad_ja stubs``: write the signatures of all operators and methods for editors and mypy.
``python -m tinygrad_ja data``: the data sets, their licences, and which are here; with names, fetch those."""

from __future__ import annotations

import argparse
import os
import sys

from .catalogue import page
from .config import doctor
from .errors import TinygradError, language

_HELP = {
    "doctor": ("what is installed, what is wrong, and how to mend it", "何が入っているか、どこが悪いか、どう直すか"),
    "errors": ("every message of the catalogue, as Markdown", "メッセージの一覧 (Markdown)"),
    "stubs": ("write the type stubs of operators and methods", "演算とメソッドの型スタブを書き出す"),
    "data": ("list the data sets, or fetch some", "データセットの一覧を出す、または取得する"),
    "names": ("the sets to fetch; none lists all", "取得するデータセット (なければ一覧)"),
    "--root": ("a folder to look in first and to fetch into", "最初に探し、取得先にするフォルダ"),
    "--verify": ("compare the checksums of files that are here", "すでにあるファイルのチェックサムも確かめる"),
    "--check": ("write nothing; fail when a stub is not current", "書き出さず、古いスタブがあれば失敗する"),
    "--lang": ("language of the output", "出力の言語"),
}


def main(argv: list[str]) -> int:
    """Run one command; returns the exit status (the doctor's is 1 when something is wrong)."""
    japanese = language() == "ja"
    parser = argparse.ArgumentParser(prog="python -m tinygrad_ja")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("doctor", "errors", "stubs", "data"):
        command = commands.add_parser(name, help=_HELP[name][japanese])
        command.add_argument("--lang", choices=("en", "ja"), help=_HELP["--lang"][japanese])
        if name == "stubs":
            command.add_argument("--check", action="store_true", help=_HELP["--check"][japanese])
        if name == "data":
            command.add_argument("names", nargs="*", metavar="NAME", help=_HELP["names"][japanese])
            command.add_argument("--root", help=_HELP["--root"][japanese])
            command.add_argument("--verify", action="store_true", help=_HELP["--verify"][japanese])
    options = parser.parse_args(argv)
    if options.lang:
        os.environ["TINYGRAD_JA_LANG"] = options.lang
    if options.command == "doctor":
        return doctor()
    if options.command == "stubs":
        from . import stubs

        return stubs.run(options.check)
    if options.command == "data":
        return _data(options)
    print(page(), end="")
    return 0


def _data(options: argparse.Namespace) -> int:
    from .data.datasets.listing import get, listing

    if not options.names:
        print(listing(options.root))
    for name in options.names:
        try:
            print(get(name, options.root, options.verify))
        except TinygradError as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
