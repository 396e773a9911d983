#!/usr/bin/env python3
"""Download a free corpus and unpack it: speechocean762, librispeech, emodb, ravdess, musan (noises) or rirs
(room impulse responses).

Usage: local/download.py [options] CORPUS CORPUS_ROOT
 e.g.: local/download.py --parts "train-clean-100 test-other" librispeech downloads/librispeech

The size, the licence and the destination are printed first. An archive is saved in CORPUS_ROOT/archives; a
partial one is resumed (HTTP range requests), a complete one is checked against the publisher's MD5 where
there is one (speechocean762 and EmoDB publish none, so only the length is checked), then unpacked to a
temporary folder and renamed into place:

    speechocean762: CORPUS_ROOT/{WAVE,train,test}
    librispeech:    CORPUS_ROOT/{train-clean-100,...,SPEAKERS.TXT}
    emodb:          CORPUS_ROOT/wav
    ravdess:        CORPUS_ROOT/{Actor_01,...,Actor_24}
    musan:          CORPUS_ROOT/{music,noise,speech}
    rirs:           CORPUS_ROOT/{simulated_rirs,real_rirs_isotropic_noises,...}

Existing files are not fetched again. --keep-archives false removes each archive once it is unpacked.
"""

import hashlib
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from local.common import main
from local.unpack import unpack
from pydino.base import UserError, log, nearest, read_json, warn, write_json
from pydino.cli import boolean

TRIES = 5
BLOCK = 1 << 20
SILENCE = 60  # seconds without data before reconnecting


@dataclass(frozen=True)
class Archive:
    """One file to fetch. ``holds``: the entry of the corpus root that exists once it is unpacked."""

    url: str
    megabytes: int  # about, for the user
    holds: str
    md5: str | None = None


@dataclass(frozen=True)
class Corpus:
    """A corpus for download. ``inside``: the folder in the archive that becomes the corpus root, or "."."""

    inside: str
    licence: str
    parts: dict[str, Archive]
    default: str


def _librispeech(part: str, megabytes: int, md5: str) -> Archive:
    return Archive(f"https://www.openslr.org/resources/12/{part}.tar.gz", megabytes, part, md5)


CORPORA = {
    "speechocean762": Corpus(
        "speechocean762",
        "free for commercial and non-commercial use, https://www.openslr.org/101/",
        {"all": Archive("https://www.openslr.org/resources/101/speechocean762.tar.gz", 520, "WAVE")},
        "all",
    ),
    "librispeech": Corpus(
        "LibriSpeech",
        "CC BY 4.0, https://www.openslr.org/12/",
        {
            # MD5 from https://www.openslr.org/resources/12/md5sum.txt
            "dev-clean": _librispeech("dev-clean", 337, "42e2234ba48799c1f50f24a7926300a1"),
            "dev-other": _librispeech("dev-other", 314, "c8d0bcc9cca99d4f8b62fcc847357931"),
            "test-clean": _librispeech("test-clean", 346, "32fa31d27d2e1cad72775fee3f4849a9"),
            "test-other": _librispeech("test-other", 328, "fb5a50374b501bb3bac4815ee91d3135"),
            "train-clean-100": _librispeech("train-clean-100", 6387, "2a93770f6d5c6c964bc36631d331a522"),
            "train-clean-360": _librispeech("train-clean-360", 23000, "c0e676e450a7ff2f54aeade5171606fa"),
            "train-other-500": _librispeech("train-other-500", 30600, "d1a0fd59409feb2c614ce4d30c387708"),
        },
        "train-clean-100 test-other",
    ),
    "emodb": Corpus(
        ".",
        "free for research, http://emodb.bilderbar.info/",
        {"all": Archive("http://emodb.bilderbar.info/download/download.zip", 41, "wav")},
        "all",
    ),
    "ravdess": Corpus(
        ".",
        "CC BY-NC-SA 4.0, https://zenodo.org/records/1188976",
        {
            "all": Archive(
                "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
                208,
                "Actor_24",
                "bc696df654c87fed845eb13823edef8a",
            )
        },
        "all",
    ),
    "musan": Corpus(
        "musan",
        "CC BY 4.0 and public domain, https://www.openslr.org/17/",
        {
            "all": Archive(
                "https://www.openslr.org/resources/17/musan.tar.gz",
                11086,
                "speech",
                "0c472d4fc0c5141eca47ad1ffeb2a7df",
            )
        },
        "all",
    ),
    "rirs": Corpus(
        "RIRS_NOISES",
        "Apache 2.0, https://www.openslr.org/28/",
        {
            "all": Archive(
                "https://www.openslr.org/resources/28/rirs_noises.zip",
                1311,
                "simulated_rirs",
                "e6f48e257286e05de56413b4779d8ffb",
            ),
        },
        "all",
    ),
}


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--parts",
        default=None,
        help=f"LibriSpeech's splits to fetch (default: {CORPORA['librispeech'].default})",
    )
    parser.add_argument(
        "--base-url", default=None, help="fetch from this mirror: the folder that holds the archives"
    )
    parser.add_argument(
        "--keep-archives",
        type=boolean,
        default=True,
        metavar="true|false",
        help="keep what was unpacked (default true)",
    )
    parser.add_argument("corpus", metavar="CORPUS", help=", ".join(CORPORA))
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")


def download(args) -> None:
    """Fetch, check and unpack every missing part."""
    if args.corpus not in CORPORA:
        raise UserError(
            f"cannot download '{args.corpus}'{nearest(args.corpus, CORPORA)}; free ones are "
            f"{', '.join(CORPORA)}"
        )
    corpus = CORPORA[args.corpus]
    parts = (args.parts if args.parts is not None else corpus.default).split()
    for part in parts:
        if part not in corpus.parts:
            raise UserError(
                f"--parts: {args.corpus} has no part '{part}'{nearest(part, corpus.parts)}; it has "
                f"{', '.join(corpus.parts)}"
            )
    root = Path(os.path.abspath(args.corpus_root))
    archives = root / "archives"
    wanted = [corpus.parts[part] for part in parts if not (root / corpus.parts[part].holds).exists()]
    if not wanted:
        log(f"{root} exists: nothing to download")
        return
    log(
        f"{args.corpus}: {sum(archive.megabytes for archive in wanted):,} MB to fetch into {archives}; "
        f"licence: {corpus.licence}"
    )
    for archive in wanted:
        name = archive.url.rpartition("/")[2]
        url = f"{args.base_url.rstrip('/')}/{name}" if args.base_url else archive.url
        path = archives / (f"{args.corpus}.zip" if name == "download.zip" else name)
        fetch(url, path, archive.md5)
        log(f"unpacking {path} into {root}")
        unpack(path, root, corpus.inside, archive.holds)
        if not args.keep_archives:
            path.unlink()
    log(f"succeeded: {root} holds {', '.join(archive.holds for archive in wanted)}")


def fetch(url: str, path: Path, md5: str | None) -> None:
    """Fetch ``url`` to ``path``; resume a partial file, retry when the connection drops, and check
    length and MD5.

    Data are appended to ``path.part``; ``path.part.json`` records the version (date and length) of the file,
    so that two versions are never mixed.

    Raises:
        UserError: the server refuses, keeps failing, or the checksum is wrong (the bad file is removed).
    """
    if path.exists():
        log(f"{path} exists: not fetched again")
        return
    partial = path.with_name(path.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, TRIES + 1):
        try:
            _fetch_rest(url, partial)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(
                    f"{url}: the server answers {error.code} {error.reason}; try a mirror with --base-url"
                ) from None
            problem = f"{error.code} {error.reason}"
        except (TimeoutError, urllib.error.URLError, ConnectionError, EOFError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            raise UserError(
                f"cannot write {partial}: {error.strerror or error}; free some space or choose another "
                "CORPUS_ROOT"
            ) from None
        if attempt == TRIES:
            raise UserError(f"{url}: {problem}, {TRIES} times; the same command resumes from {partial}")
        warn(f"{url}: {problem}; retrying in {attempt} s")
        time.sleep(attempt)
    if md5 is not None and (found := _md5(partial)) != md5:
        _forget(partial)
        raise UserError(
            f"{url}: the MD5 is {found}, but {md5} was published; the file was removed, run the same command "
            "again"
        )
    partial.replace(path)
    _forget(partial)


def _fetch_rest(url: str, partial: Path) -> None:
    """Append the missing part of ``url`` to ``partial``; raise EOFError if the connection ends early."""
    about = partial.with_name(partial.name + ".json")
    version = read_json(about) if about.exists() and partial.exists() else {}
    have = partial.stat().st_size if version else 0
    if have and have == version["length"]:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "pydino", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=SILENCE) as answer:
        resumed = answer.status == 206
        length = int(
            answer.headers.get("Content-Range", "/0").rpartition("/")[2]
            if resumed
            else answer.headers.get("Content-Length") or 0
        )
        now = {"date": answer.headers.get("Last-Modified"), "length": length}
        if resumed and now != version:
            _forget(partial)
            raise EOFError("the file has changed on the server")
        if resumed:
            log(f"resuming {url} at {have / 1e6:,.0f} of {length / 1e6:,.0f} MB")
        else:
            log(f"fetching {url}, {length / 1e6:,.0f} MB")
            _forget(partial)
            write_json(about, now)
        _copy(answer, partial, length)


def _copy(answer, partial: Path, length: int) -> None:
    """Append the answer's body to ``partial``, with a line of progress every ten seconds."""
    reported = time.monotonic()
    with open(partial, "ab") as stream:
        while block := answer.read(BLOCK):
            stream.write(block)
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                log(f"  {stream.tell() / 1e6:,.0f} of {length / 1e6:,.0f} MB")
        got = stream.tell()
    if length and got != length:
        raise EOFError(f"the connection ended at {got:,} of {length:,} bytes")


def _forget(partial: Path) -> None:
    for path in (partial, partial.with_name(partial.name + ".json")):
        path.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    log(f"checking the MD5 of {path}")
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


if __name__ == "__main__":
    main(__doc__, add_arguments, download, makes=["corpus_root"])
