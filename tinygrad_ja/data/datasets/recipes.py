"""How the files of a set are made from public ones. A recipe fetches what it needs and returns the file as it is stored; whoever calls it
compares the checksum, so a recipe need not check anything."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable

from ..formats import Archive, parse_archive
from .card import Get, Recipe


def github(repository: str, commit: str, path: str) -> str:
    """Where a file of a GitHub repository is, at one commit."""
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def github_zip(repository: str, commit: str) -> str:
    """Where the whole of a GitHub repository is, at one commit, as a zip archive."""
    return f"https://codeload.github.com/{repository}/zip/{commit}"


def same(url: str) -> Recipe:
    """The file as it is there."""
    return lambda get: get(url)


def packed(url: str, change: Callable[[bytes], bytes] = bytes) -> Recipe:
    """The file, changed, as gzip."""
    return lambda get: gzip.compress(change(get(url)), mtime=0)


def first_lines(count: int, url: str) -> Recipe:
    """The first lines of the file."""
    return lambda get: b"".join(get(url).splitlines(keepends=True)[:count])


def between(first: str, last: str) -> Callable[[bytes], bytes]:
    """The part of a text from its first words to its last ones, with the line ends of Unix."""

    def cut(content: bytes) -> bytes:
        text = content.replace(b"\r\n", b"\n")
        start = text.find(first.encode("ascii"))
        end = text.rfind(last.encode("ascii"))
        return text[start : end + len(last)] + b"\n"

    return cut


def folder(url: str, inside: str) -> Recipe:
    """The files below ``inside`` in the only folder of a zip archive."""

    def unpack(get: Get) -> dict[str, bytes]:
        return dict(_below(parse_archive(get(url), url), inside))

    return unpack


def tar(url: str, inside: str) -> Recipe:
    """The files below ``inside``, as a tar.gz archive of the folder ``inside``."""

    def repack(get: Get) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as file:
            for name, content in _below(parse_archive(get(url), url), inside):
                member = tarfile.TarInfo(f"{inside}/{name}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    return repack


def _below(archive: Archive, inside: str) -> Iterable[tuple[str, bytes]]:
    for name in sorted(archive):
        below = name.partition("/")[2]
        if below.startswith(inside + "/"):
            yield below[len(inside) + 1 :], archive[name]


def utterances(urls: Iterable[str], each: int, total: int) -> Recipe:
    """Of files of Schema-Guided Dialogue, the first ``each`` dialogues until there are ``total``: id, services and utterances, as JSON
    lines."""

    def collect(get: Get) -> bytes:
        lines: list[str] = []
        for url in urls:
            for dialogue in json.loads(get(url))[: min(each, total - len(lines))]:
                turns = [[turn["speaker"][0], turn["utterance"]] for turn in dialogue["turns"]]
                row = {"id": dialogue["dialogue_id"], "services": dialogue["services"], "turns": turns}
                lines.append(json.dumps(row) + "\n")
        return gzip.compress("".join(lines).encode("utf-8"), mtime=0)

    return collect
