"""Downloads against a server on this machine: cut lines, resumption, wrong checksums, archives that would
write elsewhere.
"""

import argparse
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from local import download as program
from local.unpack import unpack
from pydino.base import UserError


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; sends at most ``patience`` bytes an answer, then hangs up; keeps the Range headers
    it was sent.
    """

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.patience, self.ranges, self.knows_ranges, self.date = (
            content,
            10**9,
            [],
            True,
            "yesterday",
        )
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server: Server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if "missing" in self.path:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.knows_ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        self.send_header("Content-Length", str(len(server.content) - start))
        self.send_header("Last-Modified", server.date)
        self.end_headers()
        self.wfile.write(server.content[start : start + server.patience])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    content = b"".join(hashlib.md5(str(n).encode()).digest() for n in range(20_000))
    server = Server(content)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(program.time, "sleep", lambda seconds: None)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_a_line_that_drops_is_taken_up_where_it_broke(server, tmp_path):
    server.patience = 100_000
    program.fetch(f"{server.url}/a.tar.gz", tmp_path / "a.tar.gz", md5(server.content))
    assert (tmp_path / "a.tar.gz").read_bytes() == server.content
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_killed_download_goes_on_in_the_next_run(server, tmp_path, monkeypatch):
    server.patience = 50_000
    monkeypatch.setattr(program, "TRIES", 2)
    with pytest.raises(
        UserError, match="connection ended at 100,000 of 320,000 bytes, 2 times; the same command resumes"
    ):
        program.fetch(f"{server.url}/a", tmp_path / "a", None)
    assert not (tmp_path / "a").exists()
    server.patience, server.ranges = 10**9, []
    program.fetch(f"{server.url}/a", tmp_path / "a", None)
    assert (tmp_path / "a").read_bytes() == server.content and server.ranges == ["bytes=100000-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 100)
    program.write_json(tmp_path / "a.part.json", {"date": "last year", "length": len(server.content)})
    program.fetch(f"{server.url}/a", tmp_path / "a", None)
    assert (tmp_path / "a").read_bytes() == server.content


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    (tmp_path / "a.part").write_bytes(server.content[:100])
    program.write_json(tmp_path / "a.part.json", {"date": "yesterday", "length": len(server.content)})
    server.knows_ranges = False
    program.fetch(f"{server.url}/a", tmp_path / "a", md5(server.content))
    assert (tmp_path / "a").read_bytes() == server.content


def test_a_wrong_checksum_removes_the_file_and_says_both_sums(server, tmp_path):
    with pytest.raises(UserError, match=f"MD5 is {md5(server.content)}, but {'0' * 32} was published"):
        program.fetch(f"{server.url}/a", tmp_path / "a", "0" * 32)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_not_tried_again(server, tmp_path):
    with pytest.raises(UserError, match="the server answers 404 .*--base-url"):
        program.fetch(f"{server.url}/missing", tmp_path / "a", None)
    assert len(server.ranges) == 1


def tar(entries: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo("corpus/link")
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
    return buffer.getvalue()


def test_the_whole_way_from_the_server_to_the_corpus_root(server, tmp_path, capsys, monkeypatch):
    server.content = tar(
        {"LibriSpeech/SPEAKERS.TXT": b"19 | F", "LibriSpeech/test-other/1/2/1-2-0000.flac": b"audio"}
    )
    archive = program.Archive(f"{server.url}/t.tar.gz", 1, "test-other", md5(server.content))
    monkeypatch.setitem(program.CORPORA["librispeech"].parts, "test-other", archive)
    parser = argparse.ArgumentParser()
    program.add_arguments(parser)
    root = tmp_path / "corpora" / "libri à b"
    arguments = parser.parse_args(
        ["--parts", "test-other", "--keep-archives", "false", "librispeech", str(root)]
    )
    program.download(arguments)
    assert (root / "test-other/1/2/1-2-0000.flac").read_bytes() == b"audio" and (
        root / "SPEAKERS.TXT"
    ).exists()
    assert not list((root / "archives").iterdir())
    said = capsys.readouterr().err
    assert said.index("1 MB to fetch") < said.index("fetching") and "CC BY 4.0" in said
    program.download(arguments)
    assert "nothing to download" in capsys.readouterr().err and len(server.ranges) == 1


def test_unknown_corpora_and_parts_die_with_the_nearest_name(tmp_path):
    parser = argparse.ArgumentParser()
    program.add_arguments(parser)
    with pytest.raises(UserError, match="did you mean 'librispeech'"):
        program.download(parser.parse_args(["libri-speech", str(tmp_path)]))
    with pytest.raises(UserError, match="did you mean 'test-other'"):
        program.download(parser.parse_args(["--parts", "test-othr", "librispeech", str(tmp_path)]))


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil-of-a-test", "corpus/../../evil"])
def test_no_entry_lands_outside(tmp_path, name):
    (tmp_path / "a.tar.gz").write_bytes(tar({"corpus/x/y": b"", name: b"evil"}))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    for file in ("a.tar.gz", "a.zip"):
        with pytest.raises(UserError, match="would land outside"):
            unpack(tmp_path / file, tmp_path / "in" / "root", "corpus", "x")
    assert (
        not [path for path in tmp_path.rglob("*") if "evil" in path.name]
        and not Path("/tmp/evil-of-a-test").exists()
    )


def test_links_and_damaged_archives_are_refused(tmp_path):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar({"corpus/x/y": b""}, link="/etc/passwd"))
    with pytest.raises(UserError, match="no plain file or folder"):
        unpack(archive, tmp_path / "root", "corpus", "x")
    archive.write_bytes(tar({"corpus/x/y": bytes(range(256)) * 4000})[:-2000])
    with pytest.raises(UserError, match="damaged|cannot unpack"):
        unpack(archive, tmp_path / "root", "corpus", "x")
    archive.write_bytes(tar({"other/x/y": b""}))
    with pytest.raises(UserError, match="has no corpus/x"):
        unpack(archive, tmp_path / "root", "corpus", "x")
    assert not list((tmp_path / "root").iterdir())
