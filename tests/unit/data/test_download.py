"""Downloads against a server on this machine that breaks in every way the real ones do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from geoalign.data.prepare.download import DownloadError, download

BODY = bytes(range(256)) * 4000
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves BODY; the attributes say how it misbehaves."""

    daemon_threads = True
    body: bytes = BODY
    etag: str = '"one"'
    ranges = True
    cut_after: list[int]  # bytes sent before the connection is dropped, one entry an answer
    codes: list[int]  # statuses to answer instead, one an answer
    content_type = "application/gzip"
    content_range: str | None = None
    requests: list[dict[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/data.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if server.codes:
            return self.send_error(server.codes.pop(0))
        body, start, wanted = server.body, 0, self.headers.get("Range")
        same = self.headers.get("If-Range", server.etag) == server.etag
        if wanted and server.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Type", server.content_type)
        if server.etag:
            self.send_header("ETag", server.etag)
        if start:
            usual = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", server.content_range or usual)
        self.end_headers()
        self.wfile.write(body[start : start + server.cut_after.pop(0)] if server.cut_after else body[start:])
        return None

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.requests, running.cut_after, running.codes = [], [], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, **options: Any) -> Path:
    return download(server.url, folder / "data.tar.gz", **{"progress": False, **options})


def test_a_plain_download_leaves_only_the_file(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path / "new" / "folder", checksum=SHA256)
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["data.tar.gz"]


def test_an_existing_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz").write_bytes(BODY)
    fetch(server, tmp_path, checksum=SHA256)
    assert server.requests == []


def test_an_existing_wrong_file_is_named_and_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz").write_bytes(b"other")
    with pytest.raises(DownloadError, match=r"data\.tar\.gz: expected a file of sha256:.*, got another; remove it"):
        fetch(server, tmp_path, checksum=SHA256)
    assert (tmp_path / "data.tar.gz").read_bytes() == b"other"


def test_dropped_connections_are_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1 << 17, 3 << 17, 2 << 17]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert [r.get("Range") for r in server.requests] == [None, "bytes=131072-", "bytes=524288-", "bytes=786432-"]
    assert server.requests[1]["If-Range"] == '"one"'


def test_an_interrupted_run_is_resumed_by_the_next(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1 << 17]
    with pytest.raises(DownloadError, match=r"cannot be fetched \(.*131072 bytes read, 892928 more expected"):
        fetch(server, tmp_path, attempts=1)
    assert not (tmp_path / "data.tar.gz").exists()
    assert fetch(server, tmp_path, attempts=1).read_bytes() == BODY
    assert server.requests[1]["Range"] == "bytes=131072-"


def test_a_file_that_changed_meanwhile_starts_over(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1 << 17]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, attempts=1)
    server.body, server.etag = BODY[::-1], '"two"'
    assert fetch(server, tmp_path, attempts=1).read_bytes() == BODY[::-1]


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, [100_000, 500_000]
    assert fetch(server, tmp_path, checksum=SHA256).read_bytes() == BODY


@pytest.mark.parametrize("checksum", [None, SHA256])
def test_without_a_version_only_a_checksum_allows_resuming(
    server: Server, tmp_path: Path, checksum: str | None
) -> None:
    server.etag, server.cut_after = "", [1 << 17]
    assert fetch(server, tmp_path, checksum=checksum).read_bytes() == BODY
    assert ("Range" in server.requests[1]) == (checksum is not None)


def test_a_wrong_checksum_removes_the_part(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"MD5 hash of .* expected md5:0000.*: put data"):
        fetch(server, tmp_path, checksum="md5:" + "0" * 32)
    assert not list(tmp_path.glob("data.tar.gz*[!n]"))


def test_a_part_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz.part").write_bytes(BODY + b"more")
    assert fetch(server, tmp_path, checksum=SHA256).read_bytes() == BODY


def test_a_range_other_than_asked_for_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz.part").write_bytes(BODY[:1000])
    server.content_range = f"bytes 5-{len(BODY) - 1}/{len(BODY)}"
    assert fetch(server, tmp_path, checksum=SHA256).read_bytes() == BODY


def test_passing_server_faults_are_retried(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 429]
    assert fetch(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(("codes", "requests"), [([404], 1), ([500, 500], 2)])
def test_lasting_server_faults_say_what_to_do(server: Server, tmp_path: Path, codes: list[int], requests: int) -> None:
    server.codes = list(codes)
    with pytest.raises(DownloadError, match=rf"answers {codes[0]} .*: put data\.tar\.gz from http.* into /.*run"):
        fetch(server, tmp_path, attempts=2)
    assert len(server.requests) == requests


def test_a_web_page_is_not_an_archive(server: Server, tmp_path: Path) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="sends a web page instead of the file: put"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_network_it_says_which_file_to_put_where(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(DownloadError, match=r"cannot be fetched \(.*refused.*\): put data\.tar\.gz from http.* into /"):
        fetch(server, tmp_path, attempts=2)


def test_a_full_disk_is_noticed_before_writing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DownloadError, match=r"1,024,000 bytes are still to come, only 10 are free"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data.tar.gz"])
def test_only_web_addresses_are_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected an http or https address"):
        download(url, tmp_path / "x")
