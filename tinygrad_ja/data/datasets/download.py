"""Downloads: over https only, up to a size, within a time; checked before anything is written, and written whole or not at all."""

from __future__ import annotations

import http.client
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ... import errors
from ...io.files import replacing
from .card import Card, File, Made
from .checksum import check

SCHEMES = ("https",)
LARGEST = 1 << 26
"""The most bytes of one download: 64 MiB."""
PAUSE = 30
"""Seconds without a byte after which a download is given up."""
DEADLINE = 1800
"""Seconds after which a download is given up in any case."""

_PIECE = 1 << 16
_START = (
    "{name}: fetching {file} into {folder}\n  source:  {source}\n  licence: {licence}",
    "{name}: {file} を {folder} に取得します\n  入手元:     {source}\n  ライセンス: {licence}",
)


class Unreachable(Exception):
    """A download did not come, or not whole; the text says which and why."""


class Downloader:
    """Fetches the files of one set. What came last is kept, since the next file may be in the same archive."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self._last = ("", b"")

    def fetch(self, file: File, folder: Path) -> Path:
        """Get ``file`` into the set's ``folder``; where it is then. Raises Unreachable with all reasons, and StateError (TG-F007)
        when what came is not what it should be."""
        target = folder / file.path
        self._announce(file, folder)
        wrong: errors.StateError | None = None
        reasons: list[str] = []
        for recipe in file.recipes:
            try:
                made = recipe(self._get)
                check(target, made, file)
            except Unreachable as failure:
                reasons.append(str(failure))
            except errors.StateError as failure:
                wrong = failure
            except Exception as failure:  # whatever a recipe meets in a file that is another one
                reasons.append(f"{type(failure).__name__}: {failure}")
            else:
                store(made, target)
                return target
        raise wrong or Unreachable("; ".join(reasons))

    def _get(self, url: str) -> bytes:
        if url != self._last[0]:
            self._last = (url, receive(url))
        return self._last[1]

    def _announce(self, file: File, folder: Path) -> None:
        japanese = errors.language() == "ja"
        about = {"source": self.card.source, "licence": self.card.licence[japanese]}
        print(_START[japanese].format(name=self.card.name, file=file.path, folder=folder, **about), file=sys.stderr)


def store(made: Made, target: Path) -> None:
    """Write a file, or a folder of files, under a temporary name, and give it its name when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(made, bytes):
        with replacing(target) as file:
            file.write(made)
        return
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent) as temporary:
        whole = Path(temporary, "whole")
        for name, content in made.items():
            path = whole / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            os.rename(whole, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise


def receive(url: str) -> bytes:
    """The bytes at a URL. Raises Unreachable: no https, no network, an answer that is no success, too long, too slow or cut off."""
    started = time.monotonic()
    try:
        _check_scheme(url)
        request = urllib.request.Request(url, headers={"User-Agent": "tinygrad_ja", "Accept-Encoding": "identity"})
        with urllib.request.build_opener(_Redirects).open(request, timeout=PAUSE) as answer:
            expected = _length(answer.headers, url)
            received = bytearray()
            with _bar(url, expected) as advance:
                while piece := answer.read1(_PIECE):  # what has come, however little, so that the time is looked at
                    received += piece
                    advance(len(piece))
                    if len(received) > LARGEST:
                        raise Unreachable(f"{url}: longer than {LARGEST} bytes")
                    if time.monotonic() - started > DEADLINE:
                        raise Unreachable(f"{url}: not finished after {DEADLINE} s")
    except (OSError, http.client.HTTPException, ValueError) as failure:  # URLError and timeouts are OSErrors
        raise Unreachable(f"{url}: {failure or type(failure).__name__}") from failure
    if expected is not None and len(received) != expected:
        raise Unreachable(f"{url}: ended after {len(received)} of {expected} bytes")
    return bytes(received)


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise Unreachable(f"{url}: only {', '.join(SCHEMES)} is allowed")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not away from https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _length(headers: Mapping[str, str], url: str) -> int | None:
    text = headers.get("Content-Length")
    if text is None or not text.isdigit():
        return None
    if int(text) > LARGEST:
        raise Unreachable(f"{url}: {text} bytes, above the limit of {LARGEST}")
    return int(text)


@contextmanager
def _bar(url: str, total: int | None) -> Iterator[Any]:
    """A progress bar on a terminal, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda count: None
        return
    with tqdm(total=total, desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=None, leave=False) as bar:
        yield bar.update
