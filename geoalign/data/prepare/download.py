"""Fetch a file over HTTP: resumed where it stopped, checked before it appears under its name."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

CHUNK_BYTES = 1 << 20


class DownloadError(RuntimeError):
    """A file could not be fetched or is not the expected one; the message says where to put it by hand."""


class Checksum(NamedTuple):
    """An algorithm of ``hashlib`` and the digest in hexadecimal."""

    algorithm: str
    digest: str

    def check(self, path: Path, url: str) -> None:
        """Raise :class:`DownloadError` where the file's digest differs."""
        with path.open("rb") as file:
            got = hashlib.file_digest(file, self.algorithm).hexdigest()
        if got != self.digest.lower():
            raise DownloadError(
                f"{path}: {self.algorithm} should be {self.digest}, got {got}; "
                f"remove the file and run again, or fetch it yourself from {url}"
            )


class _Answer(NamedTuple):
    """What matters of a response: where its bytes begin, where the whole file ends, what names its version."""

    start: int
    total: int | None
    version: str


class _Truncated(OSError):
    """The connection ended early; the next attempt resumes."""


def download(
    url: str,
    path: Path,
    *,
    checksum: Checksum | None = None,
    timeout_s: float = 30.0,
    attempts: int = 4,
    wait_s: float = 1.0,
    progress: bool = True,
) -> Path:
    """Fetch ``url`` to ``path`` unless it is there; bytes gather in ``path.part`` and survive interruptions.

    A part is only continued if the server still serves the version it began with (ETag or modification date),
    or if the checksum will tell. Raises :class:`DownloadError`.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"expected an http or https address, got {url!r}")
    if not path.exists():
        part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, resume_blindly=checksum is not None, options=(timeout_s, attempts, wait_s, progress))
        if checksum is not None:
            _check_part(checksum, part, path, url)
        os.replace(part, path)
        _version_file(part).unlink(missing_ok=True)
    elif checksum is not None:
        checksum.check(path, url)
    return path


def _check_part(checksum: Checksum, part: Path, path: Path, url: str) -> None:
    try:
        checksum.check(part, url)
    except DownloadError as error:  # resuming wrong bytes can never succeed
        part.unlink()
        raise DownloadError(f"{error} (the wrong file was removed; {path.name} was not created)") from error


def _fetch(url: str, part: Path, *, resume_blindly: bool, options: tuple[float, int, float, bool]) -> None:
    timeout_s, attempts, wait_s, progress = options
    for attempt in range(1, attempts + 1):
        try:
            return _attempt(url, part, resume_blindly, timeout_s, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if attempt == attempts or (error.code < 500 and error.code not in (408, 416, 429)):
                raise DownloadError(by_hand(url, part, f"the server answers {error.code} {error.reason}")) from error
            if error.code == 416:  # the part is longer than the file has become
                part.unlink(missing_ok=True)
        except (OSError, HTTPException) as error:  # URLError, timeouts and resets are OSErrors
            if attempt == attempts:
                reason = getattr(error, "reason", None) or error
                raise DownloadError(by_hand(url, part, f"no network ({reason})")) from error
        time.sleep(wait_s * 2 ** (attempt - 1))
    raise DownloadError(f"attempts must be at least 1, got {attempts}")


def by_hand(url: str, part: Path, reason: str) -> str:
    """The message that says which file to put where."""
    return f"{reason}: put {part.name.removesuffix('.part')} from {url} into {part.parent.absolute()} and run again"


def _attempt(url: str, part: Path, resume_blindly: bool, timeout_s: float, progress: bool) -> None:
    """One request for what is missing; raises where the answer ends early."""
    have, version = part.stat().st_size if part.exists() else 0, _read_version(part)
    headers = {"User-Agent": "geoalign", "Accept-Encoding": "identity"}  # compressed ranges cannot be joined
    if have and (version or resume_blindly):
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        answer = _understand(response, url, part, have)
        _version_file(part).write_text(answer.version, encoding="utf-8")
        _append(response, part, answer, progress)


def _understand(response: HTTPResponse, url: str, part: Path, have: int) -> _Answer:
    """Whether the server continues at ``have`` or starts over (a server may ignore ranges)."""
    if response.headers.get_content_type() == "text/html" and not part.name.endswith((".html.part", ".htm.part")):
        raise DownloadError(by_hand(url, part, "the server sends a web page instead of the file"))
    etag = response.headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length")
    if response.status != 206:
        return _Answer(0, int(length) if length else None, version)
    spans, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if spans.partition("-")[0] != str(have) or not total.isdigit():
        part.unlink(missing_ok=True)
        raise _Truncated(f"asked for bytes from {have}, got {response.headers.get('Content-Range')!r}")
    return _Answer(have, int(total), version)


def _append(response: HTTPResponse, part: Path, answer: _Answer, progress: bool) -> None:
    missing = (answer.total or 0) - answer.start
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise DownloadError(f"{part.parent}: {missing:,} bytes are still to come, only {free:,} are free; make room")
    bar = tqdm(
        total=answer.total, initial=answer.start, unit="B", unit_scale=True,
        desc=part.name.removesuffix(".part"), disable=None if progress else True,
    )  # fmt: skip
    with bar, part.open("r+b" if answer.start else "wb") as file:
        file.seek(answer.start)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
        received = file.tell()
    if answer.total is not None and received != answer.total:
        raise _Truncated(f"the connection ended at {received:,} of {answer.total:,} bytes")


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _read_version(part: Path) -> str:
    file = _version_file(part)
    return file.read_text(encoding="utf-8") if file.exists() else ""
