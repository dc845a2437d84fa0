"""Fetch a file over HTTP with pooch; what arrived before a connection broke is kept and continued."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from requests import Response

CHUNK_BYTES = 1 << 16
PASSING = (408, 416, 429)
"""Answers below 500 that another attempt may change."""


class DownloadError(RuntimeError):
    """A file could not be fetched or is not the expected one; the message says where to put it by hand."""


def download(
    url: str,
    path: Path,
    *,
    checksum: str | None = None,
    timeout_s: float = 30.0,
    attempts: int = 4,
    progress: bool = True,
) -> Path:
    """Fetch ``url`` to ``path`` unless it is there; ``checksum`` is an algorithm and digest, ``sha256:64444a...``.

    Raises:
        DownloadError: no such file, no network, no room, a wrong checksum; a wrong file already there is left alone.
    """
    import pooch

    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"expected an http or https address, got {url!r}")
    if path.exists():
        if checksum and not pooch.hashes.hash_matches(path, checksum):
            raise DownloadError(
                f"{path}: expected a file of {checksum}, got another; remove it and run again, or fetch it from {url}"
            )
        return path
    known, urls = {path.name: checksum}, {path.name: url}
    client = pooch.create(path.parent, base_url="", registry=known, urls=urls, retry_if_failed=attempts - 1)
    try:
        client.fetch(path.name, downloader=partial(_continue, path, checksum is not None, timeout_s, progress))
    except (OSError, ValueError) as error:
        response: Response | None = getattr(error, "response", None)
        reason = f"cannot be fetched ({error})" if response is None else _answer(response)
        raise DownloadError(by_hand(url, path, reason)) from error
    return path


def by_hand(url: str, path: Path, reason: str) -> str:
    """The message that says which file to put where."""
    return f"{reason}: put {path.name} from {url} into {path.parent.absolute()} and run again"


def _continue(path: Path, blindly: bool, timeout_s: float, progress: bool, url: str, output: str, _: object) -> None:
    """A downloader for pooch, which itself begins anew after every break: bytes gather in ``path.part``.

    They are continued if the server still has the version they began with (ETag or date), or if a checksum will tell.
    """
    import pooch

    part, version = (path.with_name(f"{path.name}.{end}") for end in ("part", "part.version"))
    headers = {"User-Agent": "geoalign", "Accept-Encoding": "identity"}  # compressed ranges cannot be joined
    try:
        with part.open("ab") as file:
            known = version.read_text(encoding="utf-8") if version.exists() else ""
            if file.tell() and (known or blindly):
                headers |= {"Range": f"bytes={file.tell()}-"} | ({"If-Range": known} if known else {})
            pooch.HTTPDownloader(
                progress and sys.stderr.isatty(), CHUNK_BYTES, timeout=timeout_s, headers=headers,
                hooks={"response": partial(_begin, file, path, version)},
            )(url, file, None)  # fmt: skip
        os.replace(part, output)
        version.unlink(missing_ok=True)
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
            version.unlink(missing_ok=True)


def _begin(file: BinaryIO, path: Path, version: Path, response: Response, **_: Any) -> None:
    """Before the first byte: stop where trying again is of no use, start over where the server does, note its version.

    What is raised here as DownloadError ends the attempts; other bad answers are raised, and repeated, by pooch.
    """
    from requests import ConnectionError as BrokenError

    status, headers = response.status_code, response.headers
    if 400 <= status < 500 and status not in PASSING:
        raise DownloadError(by_hand(response.url, path, _answer(response)))
    if status == 416:  # the part is longer than the file has become
        file.truncate(0)
    if not response.ok or response.is_redirect:
        return
    if headers.get("Content-Type", "").startswith("text/html") and path.suffix not in (".html", ".htm"):
        raise DownloadError(by_hand(response.url, path, "the server sends a web page instead of the file"))
    continued = status == 206 and headers.get("Content-Range", "").startswith(f"bytes {file.tell()}-")
    if not continued:
        file.truncate(0)  # the file is open for appending: what comes is written from the start
    if status == 206 and not continued:
        raise BrokenError(f"other bytes than asked for: {headers.get('Content-Range')}")
    missing, free = int(headers.get("Content-Length", 0)), shutil.disk_usage(path.parent).free
    if missing > free:
        raise DownloadError(f"{path.parent}: {missing:,} bytes are still to come, only {free:,} are free; make room")
    etag = headers.get("ETag", "W/")
    version.write_text(headers.get("Last-Modified", "") if etag.startswith("W/") else etag, encoding="utf-8")


def _answer(response: Response) -> str:
    return f"the server answers {response.status_code} {response.reason}"
