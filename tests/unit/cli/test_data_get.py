"""Fetch, unpack, convert: what arrives is what was pinned, and a failure leaves the folder as it was."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from graftrec.cli import data_get, main
from graftrec.data.sources import converters, download
from graftrec.data.sources.download import Source, extract, fetch
from graftrec.utils.atomic_files import DRAFT
from graftrec.utils.errors import DataError, UserError

DATA = Path(os.environ.get("GRAFTREC_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
WEB = "files.example.org"
RATINGS = b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n186\t301\t5\t891717742\n"
ITEMS = (
    "1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)"
    "|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "543|Mis\xe9rables, Les (1995)|01-Jan-1995||x|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
).encode("latin-1")
PERSONS = b"1|24|M|technician|85711\n2|53|F|other|T8H1N\n"
SMALL = {"ml-100k/u.data": RATINGS, "ml-100k/u.item": ITEMS, "ml-100k/u.user": PERSONS, "ml-100k/README": b"no more"}
ADULT = b"39, State-gov, 77516, Bachelors, 13, Never-married, ?, Own-child, White, Male, 2174, 0, 40, Cuba, <=50K\n\n"
TEST = b"|1x3 Cross validator\n25, Private, 226802, 11th, 7, Divorced, Sales, Wife, Black, Male, 0, 0, 40, ?, >50K.\n\n"


def zipped(members: Mapping[str, bytes], **more: Any) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content, **more)
    return packed.getvalue()


def tarred(members: Mapping[str, bytes], *infos: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for info in infos:
            archive.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def pinned(url: str, content: bytes) -> Source:
    return Source(url, hashlib.sha256(content).hexdigest(), len(content))


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def nothing(size: int) -> None:
    """No progress."""


Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers on the loopback by path; ``asked`` is what it was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.release = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.asked.append(handler.path)
                answer = self.answers.get(handler.path)
                if answer is None:
                    handler.send_error(404)
                    return
                with suppress(ConnectionError):  # the other side may have heard enough
                    answer(handler)

            def log_message(handler, *words: object) -> None:
                """Silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})

    def serve(self, path: str, content: bytes, says: int | None = None) -> str:
        """Send ``content``, and say that it has a length (of ``says``)."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content) if says is None else says))
            handler.end_headers()
            handler.wfile.write(content)

        self.answers[path] = answer
        return self.url + path

    def redirect(self, path: str, to: str) -> str:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.answers[path] = answer
        return self.url + path

    def hang(self, path: str, content: bytes) -> str:
        """Send half of it and wait."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            self.release.wait(30)

        self.answers[path] = answer
        return self.url + path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    it = Server()
    it.thread.start()
    yield it
    it.release.set()
    it.http.shutdown()
    it.thread.join()
    it.http.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file that is none of ours."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine.txt").write_text("mine")
    return tmp_path / "root"


def fails(source: Source, folder: Path, code: str) -> str:
    """What is said when ``source`` cannot be fetched; the folder is as it was."""
    before = listing(folder)
    with pytest.raises(DataError) as caught:
        fetch(source, folder, nothing)
    assert caught.value.code == code
    assert listing(folder) == before
    return caught.value.message


def test_what_is_pinned_arrives_and_is_not_fetched_again(server: Server, folder: Path) -> None:
    content = os.urandom(3 * download.BLOCK + 7)
    source = pinned(server.serve("/a/b.zip", content), content)
    sizes: list[int] = []
    path = fetch(source, folder, sizes.append)
    assert path == folder / "b.zip"
    assert path.read_bytes() == content
    assert (sum(sizes), len(sizes)) == (len(content), 4)
    assert fetch(source, folder, sizes.append) == path
    assert sum(sizes) == 2 * len(content)
    assert server.asked == ["/a/b.zip"]
    assert set(listing(folder)) == {"b.zip", "mine.txt"}


def test_what_a_killed_run_left_is_overwritten(server: Server, folder: Path) -> None:
    (folder / f".b.zip.1{DRAFT}").write_bytes(b"half")
    fetch(pinned(server.serve("/b.zip", b"content"), b"content"), folder, nothing)
    assert set(listing(folder)) == {"b.zip", "mine.txt"}


def test_another_content_is_refused_with_both_sums(server: Server, folder: Path) -> None:
    source = pinned(server.serve("/b.zip", b"CONTENT"), b"content")
    message = fails(source, folder, "DATA-061")
    assert source.sha256 in message
    assert hashlib.sha256(b"CONTENT").hexdigest() in message


def test_more_than_the_size_is_not_read(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    source = replace(pinned(server.serve("/b.zip", bytes(50 * download.BLOCK)), b""), size=download.BLOCK + 10)
    before = listing(folder)
    with pytest.raises(DataError, match=r"DATA-061.*larger than 65,546 bytes"):
        fetch(source, folder, written.append)
    assert sum(written) <= source.size
    assert listing(folder) == before


def test_a_download_that_is_cut_off(server: Server, folder: Path) -> None:
    url = server.serve("/b.zip", b"conte", says=7)
    with_sum = fails(pinned(url, b"content"), folder, "DATA-061")
    assert "5 bytes" in with_sum
    assert "cut off" in with_sum


def test_404_says_where_and_what_to_do(server: Server, folder: Path) -> None:
    message = fails(pinned(f"{server.url}/b.zip", b""), folder, "DATA-060")
    assert "127.0.0.1: 404 Not Found" in message
    assert f"put it at {folder / 'b.zip'}" in message


def test_an_unreachable_host(server: Server, folder: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_address[1]
    assert "refused" in fails(pinned(f"http://localhost:{port}/b.zip", b""), folder, "DATA-060")


def test_a_host_that_says_nothing(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    assert "timed out" in fails(pinned(server.hang("/b.zip", b"content"), b"content"), folder, "DATA-060")


@pytest.mark.parametrize("url", [f"http://{WEB}/b.zip", "file:///etc/hosts", "ftp://localhost/b.zip", "b.zip"])
def test_only_https(folder: Path, url: str) -> None:
    assert "only https" in fails(pinned(url, b""), folder, "DATA-060")


@pytest.mark.parametrize("to", [f"http://{WEB}/b.zip", f"ftp://{WEB}/b.zip", "file:///etc/hosts"])
def test_a_redirect_elsewhere_is_refused(server: Server, folder: Path, to: str) -> None:
    message = fails(pinned(server.redirect("/b.zip", to), b""), folder, "DATA-060")
    assert to.partition(":")[0] in message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_redirect_to_what_is_no_url(server: Server, folder: Path) -> None:
    assert "Invalid IPv6 URL" in fails(pinned(server.redirect("/b.zip", "http://[/"), b""), folder, "DATA-060")
    gc.collect()  # urllib leaves the socket to it


def test_a_redirect_from_https_stays_https() -> None:
    from urllib.request import Request

    closed = io.BytesIO()
    with pytest.raises(DataError, match="which is not https"):
        download._Redirects().redirect_request(
            Request(f"https://{WEB}/b.zip"), closed, 302, "", {}, "http://127.0.0.1/b.zip"  # type: ignore[arg-type]
        )  # fmt: skip
    assert closed.closed


def test_a_redirect_within_what_is_allowed_is_followed(server: Server, folder: Path) -> None:
    server.serve("/c.zip", b"content")
    path = fetch(pinned(server.redirect("/b.zip", f"{server.url}/c.zip"), b"content"), folder, nothing)
    assert path.name == "b.zip"


def test_a_redirect_in_a_circle_ends(server: Server, folder: Path) -> None:
    fails(pinned(server.redirect("/b.zip", "/b.zip"), b""), folder, "DATA-060")


def test_proxies_of_the_environment_are_used(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.serve("http://localhost:1/b.zip", b"content")
    monkeypatch.setenv("http_proxy", server.url)
    fetch(pinned("http://localhost:1/b.zip", b"content"), folder, nothing)
    assert server.asked == ["http://localhost:1/b.zip"]


def test_another_file_of_that_name_stays(server: Server, folder: Path) -> None:
    (folder / "b.zip").write_bytes(b"mine")
    message = fails(pinned(server.serve("/b.zip", b"content"), b"content"), folder, "DATA-061")
    assert "is there already" in message
    assert hashlib.sha256(b"mine").hexdigest() in message
    assert server.asked == []


def test_an_interrupt_and_a_full_disk_leave_nothing(server: Server, folder: Path) -> None:
    source = pinned(server.serve("/b.zip", b"content"), b"content")
    before = listing(folder)
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):

        def stop(size: int, error: BaseException = error) -> None:
            assert f".b.zip.{os.getpid()}{DRAFT}" in listing(folder)
            raise error

        with pytest.raises(type(error)):
            fetch(source, folder, stop)
        assert listing(folder) == before


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_only_the_named_members_are_unpacked(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]) -> None:
    content = {"a/b.txt": b"b", "../evil": b"evil", "/abs": b"evil", "c.txt": b"", "a/d": os.urandom(100_000)}
    (tmp_path / "a.pack").write_bytes(pack(content))
    extract(tmp_path / "a.pack", tmp_path / "out", ["a/b.txt", "c.txt"])
    assert set(listing(tmp_path)) == {"a.pack", "out", "out/a", "out/a/b.txt", "out/c.txt"}
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"b"


def refuses(tmp_path: Path, content: bytes, member: str, match: str) -> None:
    """The archive is not unpacked, and nothing is left of the try."""
    (tmp_path / "a.pack").write_bytes(content)
    before = listing(tmp_path)
    with pytest.raises(DataError, match=match) as caught:
        extract(tmp_path / "a.pack", tmp_path / "out", ["good.txt", member])
    assert caught.value.code == "DATA-062"
    assert listing(tmp_path) == before


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\..\\evil", "C:/evil", "a//b", "./a"])
def test_no_member_leads_out(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes], name: str) -> None:
    refuses(tmp_path, pack({"good.txt": b"good", name: b"evil"}), name, "out of the folder")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_no_link_or_device_of_a_tar(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("bad")
    info.type, info.linkname = kind, "/etc/passwd"
    refuses(tmp_path, tarred({"good.txt": b"good"}, info), "bad", "bad is no plain file")


def test_a_link_before_a_member_is_not_followed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path)
    (tmp_path / "a.pack").write_bytes(tarred({"a/b": b"b"}, info))
    extract(tmp_path / "a.pack", tmp_path / "out", ["a/b"])
    assert set(listing(tmp_path)) == {"a.pack", "out", "out/a", "out/a/b"}


def test_no_link_of_a_zip(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("bad")
    link.external_attr = 0o120777 << 16
    refuses(tmp_path, zipped({"good.txt": b"good", link: b"/etc/passwd"}), "bad", "bad is no plain file")  # type: ignore[dict-item]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_no_bomb(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]) -> None:
    refuses(tmp_path, pack({"good.txt": b"good", "bomb": bytes(20_000_000)}), "bomb", "200 times as large")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_no_more_than_so_much(
    tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    refuses(tmp_path, pack({"good.txt": b"good", "large": os.urandom(200_000)}), "large", "more than|100,000")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_that_is_not_there_or_there_twice(
    tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    refuses(tmp_path, pack({"good.txt": b"good"}), "gone.txt", "has no member gone.txt")
    content = pack({"good.txt": b"good", "bad1": b"1", "bad2": b"2"})
    if pack is zipped:
        refuses(tmp_path, content.replace(b"bad2", b"bad1"), "bad1", "more than one member bad1")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_tar_with_a_member_twice(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("bad"))
        archive.addfile(tarfile.TarInfo("good.txt"))
    refuses(tmp_path, packed.getvalue(), "bad", "more than one member bad")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_damaged_archives(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]) -> None:
    whole = pack({"good.txt": os.urandom(100_000), "bad": os.urandom(100_000)})
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:middle] + b"?" * 100 + whole[middle + 100 :], b"", b"hello" * 100):
        refuses(tmp_path, content, "bad", "damaged or no zip or tar.gz")


def test_nothing_is_unpacked_over_a_folder(folder: Path) -> None:
    (folder / "a.zip").write_bytes(zipped({"a": b"a"}))
    before = listing(folder)
    (folder / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        extract(folder / "a.zip", folder / "out", ["a"])
    assert listing(folder) == {**before, "out": b""}


def unpack(tmp_path: Path, members: Mapping[str, bytes]) -> Path:
    for name, content in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_movielens_100k(tmp_path: Path) -> None:
    files = converters.movielens_100k(unpack(tmp_path, SMALL), tmp_path)
    assert [path.name for path in files] == ["ratings.parquet", "items.parquet", "users.parquet"]
    ratings, items, users = (pl.read_parquet(path) for path in files)
    assert ratings.rows() == [(186, 301, 5, 891717742), (186, 302, 3, 891717742), (196, 242, 3, 881250949)]
    assert ratings.schema == {
        "user_id": pl.UInt16, "movie_id": pl.UInt16, "rating": pl.UInt8, "timestamp": pl.UInt32
    }  # fmt: skip
    toys = "http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)"
    assert items.rows() == [
        (1, "Toy Story (1995)", "01-Jan-1995", toys, "Animation|Children's|Comedy"),
        (267, "unknown", None, None, "unknown"),
        (543, "Misérables, Les (1995)", "01-Jan-1995", "x", "Drama|Musical"),
    ]
    assert items.columns == ["movie_id", "movie_title", "release_date", "IMDb_URL", "genres"]
    assert users.rows() == [(1, 24, "M", "technician", "85711"), (2, 53, "F", "other", "T8H1N")]


def test_movielens_1m(tmp_path: Path) -> None:
    members = {
        "ml-1m/ratings.dat": b"2::1193::5::978300760\r\n1::661::3::978302109\n",
        "ml-1m/movies.dat": "73::Mis\xe9rables, Les (1995)::Drama|Musical\n2::A: B::Comedy\n".encode("latin-1"),
        "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::98107-2117\n",
    }
    files = converters.movielens_1m(unpack(tmp_path, members), tmp_path)
    ratings, movies, users = (pl.read_parquet(path) for path in files)
    assert ratings.rows() == [(2, 1193, 5, 978300760), (1, 661, 3, 978302109)]
    assert movies.rows() == [(73, "Misérables, Les (1995)", "Drama|Musical"), (2, "A: B", "Comedy")]
    assert users.rows() == [(1, "F", 1, "10", "48067"), (2, "M", 56, "16", "98107-2117")]
    assert movies.columns == ["movie_id", "title", "genres"]
    assert users.columns == ["user_id", "gender", "age", "occupation", "zipcode"]


def test_adult(tmp_path: Path) -> None:
    train, test = map(
        pl.read_parquet, converters.adult(unpack(tmp_path, {"adult.data": ADULT, "adult.test": TEST}), tmp_path)
    )
    assert train.row(0)[:8] == (39, "State-gov", 77516, "Bachelors", 13, "Never-married", "?", "Own-child")
    assert train.row(0)[8:] == ("White", "Male", 2174, 0, 40, "Cuba", "<=50K")
    assert test.row(0)[-2:] == ("?", ">50K")
    assert len(train) == len(test) == 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"1\t2\t3\t4\n1\t2\t3\n", "u.data:2 has 3 fields instead of 4"),
        (b"1\t2\t3\t4\n\n1\t2\tmany\t4\n", "u.data:3 has 'many' as rating"),
        (b"70000\t2\t3\t4\n", "u.data:1 has '70000' as user_id"),
        (b"1\t\t3\t4\n", "u.data:1 has '' as movie_id"),
        (b"\n", "u.data has no rows"),
        (None, "u.data is not there"),
    ],
)
def test_a_line_that_is_not_as_published(tmp_path: Path, content: bytes | None, match: str) -> None:
    members = {**SMALL, "ml-100k/u.data": content or b""}
    unpack(tmp_path, members)
    if content is None:
        (tmp_path / "ml-100k" / "u.data").unlink()
    before = listing(tmp_path)
    with pytest.raises(DataError, match=match) as caught:
        converters.movielens_100k(tmp_path, tmp_path)
    assert caught.value.code == "DATA-063"
    assert listing(tmp_path) == before


def real(name: str) -> pl.DataFrame:
    if not (DATA / f"{name}.parquet").is_file():
        pytest.skip(f"no {name} below {DATA}; GRAFTREC_DATA names it")
    return pl.read_parquet(DATA / f"{name}.parquet")


def lines(frame: pl.DataFrame, separator: str, end: str = "") -> bytes:
    text = frame.select(pl.concat_str(pl.all().cast(pl.String).fill_null(""), separator=separator))
    return "".join(f"{line}{end}\n" for line in text.to_series()).encode("latin-1")


def test_the_real_movielens_100k_comes_back(tmp_path: Path) -> None:
    ratings, items, users = (real(f"ml-100k/{name}") for name in ("ratings", "items", "users"))
    flags = [pl.col("genres").str.split("|").list.contains(genre).cast(pl.Int8) for genre in converters.GENRES]
    wide = items.select(
        "movie_id", "movie_title", "release_date", pl.lit("").alias("video"), "IMDb_URL",
        *(flag.alias(genre) for flag, genre in zip(flags, converters.GENRES, strict=True)),
    )  # fmt: skip
    shuffled = ratings.sample(fraction=1, shuffle=True, seed=0)
    unpack(
        tmp_path,
        {
            "ml-100k/u.data": lines(shuffled, "\t"),
            "ml-100k/u.item": lines(wide, "|"),
            "ml-100k/u.user": lines(users, "|"),
        },
    )
    written = converters.movielens_100k(tmp_path, tmp_path)
    for path, frame in zip(written, (ratings, items, users), strict=True):
        assert pl.read_parquet(path).schema == frame.schema
        assert pl.read_parquet(path).equals(frame)


def test_the_real_movielens_1m_comes_back(tmp_path: Path) -> None:
    timed = pl.lit(978300760, pl.UInt32).alias("timestamp")  # which our copy lacks
    ratings = real("ml-1m/ratings").select("user_id", "movie_id", "rating", timed)
    readable = pl.col("title").str.replace_all("\ufffd", "\xe9")  # as our copy is not
    movies = real("ml-1m/movies").select("movie_id", readable, "genres")
    users = real("ml-1m/users")
    frames = {"ratings": ratings, "movies": movies, "users": users}
    unpack(tmp_path, {f"ml-1m/{name}.dat": lines(frame, "::") for name, frame in frames.items()})
    written = converters.movielens_1m(tmp_path, tmp_path)
    for path, frame in zip(written, frames.values(), strict=True):
        assert pl.read_parquet(path).schema == frame.schema
        assert pl.read_parquet(path).equals(frame)


def test_the_real_adult_comes_back(tmp_path: Path) -> None:
    train, test = real("uci-adult/train"), real("uci-adult/test")
    texts = {"adult.data": lines(train, ", "), "adult.test": b"|1x3 Cross validator\n" + lines(test, ", ", ".")}
    unpack(tmp_path, {name: text + b"\n" for name, text in texts.items()})
    written = converters.adult(tmp_path, tmp_path)
    for path, frame in zip(written, (train, test), strict=True):
        assert pl.read_parquet(path).schema == frame.schema
        assert pl.read_parquet(path).equals(frame)


def test_every_offer_is_pinned() -> None:
    for name, offer in data_get.OFFERS.items():
        assert offer.licence, name
        assert offer.page.startswith("https://"), name
        for source in offer.sources:
            assert source.url.startswith("https://")
            assert len(bytes.fromhex(source.sha256)) == 32
            assert 0 < source.size < download.MAX_BYTES
        assert not offer.members or len(offer.sources) == 1


@pytest.fixture
def offers(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same offers of a server of ours, and small."""
    small = zipped(SMALL)
    contents = {"movielens": {"/ml-100k.zip": small}, "adult": {"/adult.data": ADULT, "/adult.test": TEST}}
    for name, files in contents.items():
        sources = tuple(pinned(server.serve(path, content), content) for path, content in files.items())
        monkeypatch.setitem(data_get.OFFERS, name, replace(data_get.OFFERS[name], sources=sources))
    return server


def test_get_says_what_it_does_and_what_is_next(
    offers: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder / "my data"
    assert main.main(["data", "get", "movielens", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert set(listing(root)) == {"ml-100k.zip", "ratings.parquet", "items.parquet", "users.parquet"}
    assert "licence  GroupLens" in said
    assert f"fetch    {offers.url}/ml-100k.zip" in said
    assert f"check    graftrec data check dataset=movielens 'dataset.root={root}'" in said
    before = listing(root)
    assert main.main(["data", "get", "movielens", f"--root={root}"]) == 0  # nothing to do
    assert "there    ratings.parquet" in capsys.readouterr().out
    for name in ("ratings", "items", "users"):
        (root / f"{name}.parquet").unlink()
    assert main.main(["data", "get", "movielens", f"--root={root}"]) == 0  # from the archive that is there
    assert listing(root) == before
    assert offers.asked == ["/ml-100k.zip"]


def test_get_into_the_default_folder(offers: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["data", "get", "adult"]) == 0
    names = {"adult.data", "adult.test", "train.parquet", "test.parquet"}
    assert set(listing(tmp_path)) == {"data", "data/adult", *(f"data/adult/{name}" for name in names)}


def said_of(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(["data", "get", *words]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_words_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'movielens'?" in said_of(["MovieLens-100k"], 2, capsys)
    assert "there are: movielens, movielens_1m, adult" in said_of(["xyz"], 2, capsys)
    assert "one dataset at a time" in said_of(["adult", "movielens_1m"], 2, capsys)


def test_some_of_the_files_are_there(offers: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "test.parquet").write_bytes(b"mine")
    before = listing(folder)
    assert "test.parquet is there, but not all" in said_of(["adult", "--root", str(folder)], 2, capsys)
    assert listing(folder) == before
    assert offers.asked == []


def test_a_failure_of_the_second_file_leaves_nothing_of_the_first(
    offers: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del offers.answers["/adult.test"]
    before = listing(folder)
    for root in (folder, folder / "new" / "deep"):
        assert "DATA-060" in said_of(["adult", "--root", str(root)], 65, capsys)
        assert listing(folder) == before
    assert offers.asked == ["/adult.data", "/adult.test"] * 2


def test_an_archive_of_another_content_leaves_nothing(
    offers: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = zipped({**SMALL, "ml-100k/u.user": b"1|2\n"})
    source = pinned(offers.serve("/odd.zip", content), content)
    monkeypatch.setitem(data_get.OFFERS, "movielens", replace(data_get.OFFERS["movielens"], sources=(source,)))
    before = listing(folder)
    assert "DATA-063" in said_of(["movielens", "--root", str(folder)], 65, capsys)
    assert listing(folder) == before


def test_a_folder_that_cannot_be_used(
    offers: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(folder)
    for root in (folder / "mine.txt", folder / "mine.txt" / "below", Path("/proc/new"), folder / ("x" * 300)):
        said = said_of(["adult", "--root", str(root)], 2, capsys)
        assert f"{root} cannot be used" in said
        assert "choose another folder with --root" in said
    assert offers.asked == []
    for name in ("mkdir", "open"):

        def refuse(path: Path, *words: Any, **more: Any) -> None:  # the tests may run as root, who may do anything
            raise PermissionError(13, "Permission denied", str(path))

        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refuse)
            said = said_of(["adult", "--root", str(folder / "new")], 2, capsys)
        assert f"{folder / 'new'} cannot be used: Permission denied" in said
        assert listing(folder) == before


def test_a_full_disk_while_it_is_converted(
    offers: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = Path.write_bytes
    written: list[str] = []

    def full(path: Path, content: bytes) -> int:
        written.append(path.name)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return write(path, content)

    before = listing(folder)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert "no space left" in said_of(["adult", "--root", str(folder)], 74, capsys)
    assert len(written) == 2
    assert listing(folder) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_nothing(server: Server, folder: Path, number: int, code: int) -> None:
    url = server.hang("/ml-100k.zip", bytes(1_000_000))
    text = (
        "import sys; from dataclasses import replace; from graftrec.cli import data_get, main\n"
        "from graftrec.data.sources.download import Source\n"
        f"offer = replace(data_get.OFFERS['movielens'], sources=(Source({url!r}, 'no', 1_000_000),))\n"
        "data_get.OFFERS['movielens'] = offer\n"
        "sys.exit(main.main(['data', 'get', 'movielens', '--root', sys.argv[1]]))"
    )
    before = listing(folder)
    process = subprocess.Popen([sys.executable, "-c", text, str(folder / "new")], stderr=subprocess.PIPE)
    part = folder / "new" / f".ml-100k.zip.{process.pid}{DRAFT}"
    end = time.monotonic() + 30
    while not part.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert part.exists()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in said
    assert listing(folder) == before


def test_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["data", "--help"]) == 0
    assert "graftrec data get NAME" in capsys.readouterr().out
