"""Where the files of data sets come from: folders in their order, downloads that are checked, and nothing half."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import socket
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tinygrad_ja.__main__ import main
from tinygrad_ja.data import datasets
from tinygrad_ja.data.datasets import checksum, download, recipes
from tinygrad_ja.data.datasets.card import Card, File
from tinygrad_ja.data.datasets.places import Places, cache_folder, folders
from tinygrad_ja.errors import StateError

TEXT = b"some text\n" * 100
HERE = os.environ.get("TINYGRAD_JA_DATA")
needs_data = pytest.mark.skipif(not HERE, reason="needs the data sets: set TINYGRAD_JA_DATA to the folder that has them")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def card(*files: File) -> Card:
    return Card("toy", "toys", ("toys", "おもちゃ"), ("free for all", "自由"), "https://example.org/toys", files)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no offline folder."""
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Handler(http.server.BaseHTTPRequestHandler):
    """What a server may answer, by path."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path[1:]
        if name == "missing":
            self.send_error(404)
            return
        if name.startswith("to/"):
            self.send_response(302)
            self.send_header("Location", name[3:])
            self.end_headers()
            return
        self.send_response(200)
        if name != "endless":
            self.send_header("Content-Length", {"cut": "5000", "long": str(10**12)}.get(name, str(len(TEXT))))
        self.end_headers()
        if name == "drips":
            with contextlib.suppress(OSError):  # until nobody listens any more
                for byte in TEXT:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            return
        self.wfile.write({"wrong": TEXT.upper(), "endless": TEXT * 50}.get(name, TEXT))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """A server on this machine, and downloads that may use http."""
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- downloads


def test_a_missing_file_is_fetched_checked_and_kept(server, cache, capsys):
    toys = card(File("a/b.txt", len(TEXT), sha(TEXT), (recipes.same(server + "good"),)))
    path = Places(toys).path("a/b.txt")
    assert path == cache / "toys" / "a" / "b.txt" and path.read_bytes() == TEXT
    told = capsys.readouterr().err
    assert "free for all" in told and "https://example.org/toys" in told
    assert Places(toys, verify=True).path("a/b.txt") == path
    assert Handler.asked == ["/good"] and left(cache) == ["toys/a/b.txt"]


def test_a_download_goes_to_root_when_there_is_one(server, cache, tmp_path):
    toys = card(File("b.txt", len(TEXT), sha(TEXT), (recipes.same(server + "good"),)))
    assert Places(toys, tmp_path / "mine").path("b.txt") == tmp_path / "mine" / "toys" / "b.txt"
    assert not cache.exists()


def test_mirrors_are_tried_in_turn(server, cache):
    ways = tuple(recipes.same(server + name) for name in ("missing", "wrong", "cut", "to/" + server + "good"))
    toys = card(File("b.txt", len(TEXT), sha(TEXT), ways))
    assert Places(toys).path("b.txt").read_bytes() == TEXT
    assert Handler.asked == ["/missing", "/wrong", "/cut", "/to/" + server + "good", "/good"]


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, cache):
    toys = card(File("b.txt", len(TEXT), sha(TEXT), (recipes.same(server + "wrong"),)))
    with pytest.raises(StateError, match=f"TG-F007.*b.txt.*{sha(TEXT.upper())}.*{sha(TEXT)}"):
        Places(toys).path("b.txt")
    assert left(cache.parent) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing", "404"),
        ("cut", "ended after 1000 of 5000 bytes"),
        ("long", "above the limit"),
        ("endless", "longer than 20000 bytes"),
        ("to/file:///etc/passwd", "not allowed"),
        ("to/ftp://127.0.0.1/a", "only http is allowed"),
    ],
)
def test_a_download_that_fails_says_why_and_leaves_nothing(server, cache, monkeypatch, name, why):
    monkeypatch.setattr(download, "LARGEST", 20_000)
    toys = card(File("b.txt", len(TEXT), sha(TEXT), (recipes.same(server + name),)))
    with pytest.raises(StateError, match=f"TG-F006.*'toy'.*b.txt.*{why}.*Fix: set TINYGRAD_JA_DATA"):
        Places(toys).path("b.txt")
    assert left(cache.parent) == []


def test_a_server_that_stalls_or_drips_is_given_up(server, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(download, "PAUSE", 0.2)
        with pytest.raises(download.Unreachable, match="timed out"):
            download.receive(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    monkeypatch.setattr(download, "PAUSE", 10)
    monkeypatch.setattr(download, "DEADLINE", 0.3)
    with pytest.raises(download.Unreachable, match="not finished"):
        download.receive(server + "drips")


@pytest.mark.parametrize("url", ["http://example.org/a", "file:///etc/passwd", "ftp://example.org/a", "data:,x", "a"])
def test_nothing_but_https_is_asked(url):
    with pytest.raises(download.Unreachable, match="only https is allowed"):
        download.receive(url)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    toys = card(File("b.txt", 1, "", (recipes.same("http://127.0.0.1:9/b.txt"),)))
    with pytest.raises(StateError, match="TG-F006.*cannot be fetched.*TINYGRAD_JA_DATA to a folder that has toys/b.txt"):
        Places(toys).path("b.txt")
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(StateError, match="取得できません.*環境変数 TINYGRAD_JA_DATA"):
        Places(toys).path("b.txt")


def test_an_interrupted_download_leaves_nothing(cache, monkeypatch):
    def interrupted(get) -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Places(card(File("b.txt", 1, "", (interrupted,)))).path("b.txt")

    class Stops(dict):
        def items(self):
            yield "a", b"first"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.store(Stops(), cache / "toys" / "folder")
    assert left(cache.parent) == []


# ---- folders


def test_root_comes_before_the_offline_folder_and_that_before_the_cache(tmp_path, monkeypatch, cache):
    toys = card(File("b.txt", len(TEXT), sha(TEXT)))
    monkeypatch.setenv("TINYGRAD_JA_DATA", str(tmp_path / "offline"))
    places = [tmp_path / "mine", tmp_path / "offline", cache]
    assert folders(toys, tmp_path / "mine") == [place / "toys" for place in places]
    for place in reversed(places):
        (place / "toys").mkdir(parents=True)
        (place / "toys" / "b.txt").write_bytes(TEXT)
        assert Places(toys, tmp_path / "mine").path("b.txt") == place / "toys" / "b.txt"


def test_the_cache_is_where_its_variables_say(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TINYGRAD_JA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tinygrad_ja"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "tinygrad_ja"


def test_what_is_not_public_or_must_not_be_fetched_is_said_to_be_missing():
    public = File("b.txt", 1, "", (recipes.same("https://example.org"),))
    with pytest.raises(StateError, match="TG-F006.*download=False"):
        Places(card(public), download=False).path("b.txt")
    with pytest.raises(StateError, match="TG-F006.*not to be had ready-made"):
        Places(card(File("b.txt", 1, ""))).path("b.txt")


def test_verify_finds_a_file_that_was_changed(tmp_path):
    toys = card(File("b.txt.gz", len(TEXT), sha(TEXT)), File("folder", 3, checksum.digest({"x/a": b"1", "b": b"23"})))
    folder = tmp_path / "toys"
    (folder / "folder" / "x").mkdir(parents=True)
    (folder / "folder" / "x" / "a").write_bytes(b"1")
    (folder / "folder" / "b").write_bytes(b"23")
    (folder / "b.txt.gz").write_bytes(gzip.compress(TEXT))
    places = Places(toys, tmp_path, verify=True)
    assert places.path("b.txt.gz").exists() and places.path("folder").exists()
    (folder / "b.txt.gz").write_bytes(gzip.compress(TEXT + b"x"))
    (folder / "folder" / "b").write_bytes(b"24")
    for name in ("b.txt.gz", "folder"):
        assert Places(toys, tmp_path).path(name).exists()
        with pytest.raises(StateError, match=f"TG-F007.*{name}"):
            places.path(name)


def test_the_checksum_of_a_folder_is_that_of_what_sha256sum_writes():
    lines = f"{sha(b'1')}  a\n{sha(b'2')}  b/c\n"
    assert checksum.digest({"b/c": b"2", "a": b"1"}) == sha(lines.encode())


def test_a_folder_is_stored_whole_and_by_whoever_is_first(tmp_path):
    download.store({"a": b"1", "x/b": b"2"}, tmp_path / "folder")
    download.store({"a": b"1"}, tmp_path / "folder")
    assert left(tmp_path) == ["folder/a", "folder/x/b"]


# ---- recipes: from what is public to what is stored


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def test_recipes_make_the_stored_file_from_the_public_one():
    public = {"t": b"1\n2\n3\n", "z": zipped({"repo-1/in/b": b"2", "repo-1/in/x/a": b"1", "repo-1/other": b""})}
    assert recipes.first_lines(2, "t")(public.__getitem__) == b"1\n2\n"
    assert gzip.decompress(recipes.packed("t")(public.__getitem__)) == public["t"]
    assert recipes.folder("z", "in")(public.__getitem__) == {"b": b"2", "x/a": b"1"}
    with tarfile.open(fileobj=io.BytesIO(recipes.tar("z", "in")(public.__getitem__))) as file:
        assert file.getnames() == ["in/b", "in/x/a"]
    assert recipes.between("From", "end.")(b"licence\r\nFrom a\r\nto the end.\r\nend\r\n") == b"From a\nto the end.\n"


def public_files(folder: Path) -> dict[str, bytes]:
    """The public files, as far as the set's folder tells what must be in them: by the end of their URL."""
    made = {}
    made["trees/train.txt"] = (folder / "sst_trees/train.txt").read_bytes() + (folder / "sst_trees/dev.txt").read_bytes()
    novel = gzip.decompress((folder / "text_corpora/gutenberg/sherlock_holmes.txt.gz").read_bytes())
    made["1661.txt"] = (b"*** START ***\n\n" + novel + b"\n\nEnd of the book\n").replace(b"\n", b"\r\n")
    made["wikitext-2/valid.txt"] = gzip.decompress((folder / "text_corpora/wikitext-2/valid.txt.gz").read_bytes())
    with tarfile.open(folder / "fsdd/recordings.tar.gz") as file:
        sounds = {f"repo-1/{member.name}": file.extractfile(member).read() for member in file if member.isfile()}
    made["zip/26eb9aaf76e81b692f806f9140c2d2777410d7a1"] = zipped({**sounds, "repo-1/README.md": b"about"})
    cells = {f"repo-1/BCCD/{path.relative_to(folder / 'bccd')}": path.read_bytes() for path in (folder / "bccd").rglob("*.*")}
    made["zip/d272fb14cdff6e473fafeeeba32aba5f560e9e43"] = zipped(cells)
    for line in gzip.decompress((folder / "dialogue/sgd/dev.jsonl.gz").read_bytes()).splitlines():
        row = json.loads(line)
        turns = [{"speaker": {"U": "USER", "S": "SYSTEM"}[who], "utterance": text, "frames": []} for who, text in row["turns"]]
        name = f"dev/dialogues_{int(row['id'].partition('_')[0]):03}.json"
        made.setdefault(name, []).append({"dialogue_id": row["id"], "services": row["services"], "turns": turns})
    return {name: json.dumps(value).encode() if isinstance(value, list) else value for name, value in made.items()}


@needs_data
def test_the_sets_that_are_derived_are_made_from_public_files_again(monkeypatch, cache):
    public = public_files(Path(HERE))

    def receive(url: str) -> bytes:
        return next(content for name, content in public.items() if url.endswith(name))

    monkeypatch.setattr(download, "receive", receive)
    assert len(datasets.SentimentTrees()) == 8544
    assert datasets.Novels("sherlock_holmes").text.startswith("THE ADVENTURES OF SHERLOCK HOLMES")
    assert len(datasets.WikiText2()) == 3760
    assert len(datasets.FSDD(split="test")) == 300
    assert len(datasets.BCCD(split="test")) == 72
    assert len(datasets.SchemaGuidedDialogues(split="dev")) == 500
    names = [name for name in left(cache) if not name.startswith("bccd")]
    assert names == [
        "dialogue/sgd/dev.jsonl.gz",
        "fsdd/recordings.tar.gz",
        "sst_trees/train.txt",
        "text_corpora/gutenberg/sherlock_holmes.txt.gz",
        "text_corpora/wikitext-2/valid.txt.gz",
    ]


# ---- the command


def test_the_command_lists_the_sets_in_both_languages(capsys, monkeypatch):
    assert main(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(datasets.DATASETS) + 2 and all(" no " in line for line in lines[1:-1])
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    assert main(["data"]) == 0
    assert "手書き数字" in capsys.readouterr().out


def test_the_command_says_what_it_cannot_get(capsys):
    assert main(["data", "go"]) == 1
    assert "TG-F006" in capsys.readouterr().err
    assert main(["data", "goo"]) == 1
    assert "TG-A001" in capsys.readouterr().err


@needs_data
def test_the_command_has_a_set_ready_and_verifies_it(capsys):
    assert main(["data", "airpassengers", "--root", HERE, "--verify"]) == 0
    assert "airpassengers: all 1 files are here" in capsys.readouterr().out
