"""Files from the network, checked before they are used: nothing unchecked gets its name, nothing is left of a failure.

A source is pinned by its size and SHA-256, so that what is fetched is what was looked at, whoever serves it. An archive
may still be one that a user put there by hand, so that its members are distrusted as well.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from graftrec.utils.atomic_files import DRAFT, is_draft, remove, whole
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.filenames import wrong_name

BLOCK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte
MAX_BYTES, MAX_RATIO, MAX_MEMBERS = 2_000_000_000, 200, 100_000  # of the members of an archive
LOCAL = ("127.0.0.1", "localhost")  # the only hosts that may be asked without TLS
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNREACHABLE = (OSError, http.client.HTTPException, ValueError)  # ValueError: a redirect to what is no URL
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)


@dataclass(frozen=True)
class Source:
    """A file of the network, and what it must be."""

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """What it is called on the disk."""
        return PurePosixPath(urlsplit(self.url).path).name


def fetch(source: Source, folder: Path, progress: Callable[[int], None]) -> Path:
    """Put ``source`` into ``folder``, or find it there; ``progress`` gets the bytes of each block.

    Proxies of the environment are used. Nothing is left of a failure or an interrupt.

    Raises:
        DataError: DATA-060 where it cannot be fetched, DATA-061 where it, or a file of its name that is there already,
        is not the pinned one. OSError: the disk.
    """
    path = folder / source.name
    if path.exists():
        found = sha256_of(path)
        if found != source.sha256:
            raise DataError(
                "DATA-061",
                f"{path} is there already and is another file: its sha256 is {found} instead of {source.sha256}; "
                "remove it or choose another folder",
            )
        progress(source.size)
        return path
    for left in folder.glob(f".{source.name}.*{DRAFT}"):  # of a run that was killed
        if is_draft(left):
            remove(left)
    with whole(path) as part:
        with part.open("wb") as file:
            found, size = _receive(source, path, file, progress)
        if (found, size) != (source.sha256, source.size):
            raise DataError(
                "DATA-061",
                f"{source.url} is not the file that was expected: {size:,} bytes with the sha256 {found} instead of "
                f"{source.size:,} with {source.sha256}; try again: it was cut off or changed, there or on its way",
            )
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def extract(archive: Path, folder: Path, members: Sequence[str]) -> Path:
    """Unpack ``members`` of a zip or tar.gz into ``folder``, which must not be there yet, under their full names.

    Other members are left alone. All of them are unpacked, or the folder does not appear.

    Raises:
        UserError: the folder is there. DataError: DATA-062 where the archive is damaged, lacks a member, or a member
        is no plain file, leads out of the folder or is too large.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already, nothing is unpacked over it; remove it or choose another folder")
    for name in members:
        _check_name(archive, name)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        draft = Path(made, "members")
        draft.mkdir()
        try:
            (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, draft, members)
        except DAMAGED as error:
            raise _bad(archive, f"is damaged or no zip or tar.gz: {error or type(error).__name__}") from error
        os.replace(draft, folder)
    return folder


def _receive(source: Source, path: Path, file: IO[bytes], progress: Callable[[int], None]) -> tuple[str, int]:
    """Write what ``source`` sends, never more than its size; the sum and the number of bytes."""
    digest, size = hashlib.sha256(), 0
    if not _allowed(source.url):
        raise DataError("DATA-060", f"{source.url} is not fetched: only https is")
    request = Request(source.url, headers={"User-Agent": "graftrec"})  # noqa: S310 checked above
    try:
        response = build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except UNREACHABLE as error:
        raise _unreachable(source, path, error) from error
    with response:
        while True:
            try:
                block = response.read(min(BLOCK, source.size - size + 1))
            except UNREACHABLE as error:
                raise _unreachable(source, path, error) from error
            if not block:
                return digest.hexdigest(), size
            if size + len(block) > source.size:
                raise DataError(
                    "DATA-061",
                    f"{source.url} is not the file that was expected: it is larger than {source.size:,} bytes, and was "
                    "not read to its end; it was changed there, so look at its home page",
                )
            digest.update(block)
            size += len(block)
            file.write(block)
            progress(len(block))


def _unreachable(source: Source, path: Path, error: Exception) -> DataError:
    if isinstance(error, HTTPError):
        reason = f"{error.code} {error.reason}"
        error.close()
    else:
        cause = error.reason if isinstance(error, URLError) else error
        reason = (cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(cause).__name__
    return DataError(
        "DATA-060",
        f"{source.url} cannot be fetched from {urlsplit(source.url).hostname}: {reason}; "
        f"try again, or download it by hand, put it at {path} and run this again",
    )


def _allowed(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL))


class _Redirects(HTTPRedirectHandler):
    """Follows redirects that stay within https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if not _allowed(newurl) or (req.type == "https" and urlsplit(newurl).scheme != "https"):
            fp.close()
            raise DataError("DATA-060", f"{req.full_url} is not fetched: it leads to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _unzip(archive: Path, folder: Path, members: Sequence[str]) -> None:
    with zipfile.ZipFile(archive) as packed:
        if len(packed.infolist()) > MAX_MEMBERS:
            raise _bad(archive, f"has more than {MAX_MEMBERS:,} members")
        infos = [info for info in packed.infolist() if info.filename in members]
        _check_found(archive, [info.filename for info in infos], members)
        if sum(info.file_size for info in infos) > MAX_BYTES:
            raise _bad(archive, f"holds more than {MAX_BYTES:,} bytes of members")
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was packed on a system without kinds
            if info.is_dir() or kind not in (0, stat.S_IFREG):
                raise _bad(archive, f"its member {info.filename} is no plain file")
            if info.flag_bits & 1 or info.compress_type not in PACKINGS:
                raise _bad(archive, f"its member {info.filename} is encrypted or packed in a way that is not read")
            if info.file_size > MAX_RATIO * info.compress_size:
                raise _bad(archive, f"its member {info.filename} is more than {MAX_RATIO} times as large unpacked")
            with packed.open(info) as stream:
                _copy(archive, stream, folder / info.filename, info.file_size)


def _untar(archive: Path, folder: Path, members: Sequence[str]) -> None:
    """Member by member, as it is read: how small one was packed is not known, so the archive as a whole is bounded."""
    limit = min(MAX_BYTES, MAX_RATIO * archive.stat().st_size)
    found: list[str] = []
    with gzip.open(archive) as stream:
        bounded = cast(IO[bytes], _Bounded(archive, stream, limit))  # of a file, a stream of tar only needs to read
        with tarfile.open(fileobj=bounded, mode="r|") as packed:
            for number, info in enumerate(packed):
                if number >= MAX_MEMBERS:
                    raise _bad(archive, f"has more than {MAX_MEMBERS:,} members")
                if info.name in found:
                    raise _bad(archive, f"has more than one member {info.name}")
                if info.name in members:
                    _unpack(archive, packed, info, folder)
                    found.append(info.name)
        while bounded.read(BLOCK):
            """To the end, where the sum of all of it stands."""
    _check_found(archive, found, members)


def _unpack(archive: Path, packed: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> None:
    content = packed.extractfile(info) if info.isreg() and not info.issparse() else None
    if content is None:
        raise _bad(archive, f"its member {info.name} is no plain file")
    _copy(archive, content, folder / info.name, info.size)


class _Bounded:
    """A stream that may be read so far and no further."""

    def __init__(self, archive: Path, stream: gzip.GzipFile, limit: int) -> None:
        self.archive, self.stream, self.left = archive, stream, limit

    def read(self, size: int) -> bytes:
        """The next bytes; DataError beyond the limit."""
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise _bad(self.archive, f"is more than {MAX_RATIO} times as large unpacked, or than {MAX_BYTES:,} bytes")
        return block


def _copy(archive: Path, stream: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while block := stream.read(min(BLOCK, size - written + 1)):
            written += len(block)
            if written > size:
                break
            file.write(block)
    if written != size:
        raise _bad(archive, f"its member {path.name} is not as large as it says")


def _check_name(archive: Path, name: str) -> None:
    if any(map(wrong_name, name.split("/"))):
        raise _bad(archive, f"its member {name!r} would lead out of the folder")


def _check_found(archive: Path, found: Sequence[str], members: Sequence[str]) -> None:
    for name in members:
        if found.count(name) != 1:
            raise _bad(archive, f"has {'no' if name not in found else 'more than one'} member {name}")


def _bad(archive: Path, problem: str) -> DataError:
    return DataError("DATA-062", f"{archive} cannot be unpacked: {problem}; remove it and fetch it again")
