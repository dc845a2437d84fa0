"""Unpack a downloaded archive without trusting it: plain files below the folder, or an error."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from tqdm import tqdm

from geoalign.files import open_regular

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 256 << 20
"""Archives that unpack to less than this are never called bombs, however well they were compressed."""
HEADER_BYTES = 64 << 10
"""What a tar may say about one member: names, PAX records and sparse maps, which tarfile reads whole."""
DIRECTORY_BYTES = 64 << 20
"""A zip's list of members, which zipfile reads whole: half a million of them with names of 80 characters."""
GLOBAL_RECORDS = 64
"""PAX records that hold for every later member, and so stay in memory."""
NAME_CHARACTERS, NAME_LEVELS = 1024, 32
LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db"})
"""What desktop systems add to archives; left out."""
COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""By the first bytes of the file."""


# What the standard library raises on damaged bytes; NotImplementedError: an unknown compression or version.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, OverflowError, NotImplementedError,
)  # fmt: skip


class UnpackError(RuntimeError):
    """An archive is damaged, dangerous or larger than expected; nothing of it was put in place."""


class Limits(NamedTuple):
    """What an archive may hold: bytes and files unpacked, and how many times its own size."""

    bytes: int = 20 << 30
    files: int = 500_000
    ratio: float = 100.0


DEFAULT_LIMITS = Limits()


class _Member(NamedTuple):
    name: str
    size: int
    folder: bool
    open: Callable[[], IO[bytes] | None]


def unpack(
    archive: Path, folder: Path, *, strip: str = "", limits: Limits = DEFAULT_LIMITS, progress: bool = True
) -> int:
    """Unpack a zip or tar (any compression) into ``folder``; the number of files.

    ``strip`` is a leading folder of the archive to leave out, or a pattern of its name. Links, devices, absolute
    names, ``..``, encryption and more than ``limits`` are refused with :class:`UnpackError`. Everything goes to a
    hidden folder first and is moved into place at the end, so that an interrupted run leaves no half-filled dataset.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        count = _fill(archive, staging, limits, progress)
        tops = [path for path in staging.glob(strip) if path.is_dir()] if strip else []
        settle(tops[0] if len(tops) == 1 else staging, folder)
    except DAMAGED as error:
        raise UnpackError(f"{archive}: damaged ({error}); remove the file and download it again") from error
    except OSError as error:
        raise UnpackError(f"{archive}: cannot be unpacked into {folder} ({error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return count


def _fill(archive: Path, staging: Path, limits: Limits, progress: bool) -> int:
    """Write every member below ``staging``, counting as it goes: headers may lie."""
    allowed = min(limits.bytes, max(SMALL_BYTES, int(limits.ratio * archive.stat().st_size)))
    entries = count = written = 0
    with (
        open_regular(archive) as file,
        tqdm(desc=f"unpacking {archive.name}", unit=" files", disable=None if progress else True) as bar,
    ):
        for member in _members(archive, file, staging):
            name = _safe_name(archive, member.name)
            is_litter = bool(LITTER & set(name.parts))
            target = staging / name
            entries += 1 + (0 if is_litter else _make_folder(target.parent))
            if entries > limits.files:
                raise UnpackError(f"{archive}: expected at most {limits.files:,} files and folders, it holds more")
            if written + member.size > allowed:
                raise UnpackError(f"{archive}: expected at most {allowed:,} bytes unpacked, {member.name} goes beyond")
            written += member.size  # also of litter: a compressed stream is read through it
            if member.folder and not is_litter:
                target.mkdir(exist_ok=True)
            elif not is_litter:
                _write(archive, member, target)
                count += 1
                bar.update()
    return count


def _make_folder(folder: Path) -> int:
    """Make a folder with its parents; the number of those that were not there yet."""
    missing = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    for path in reversed(missing):
        path.mkdir()
    return len(missing)


def _write(archive: Path, member: _Member, target: Path) -> None:
    stream = member.open()
    if stream is None:
        raise UnpackError(f"{archive}: {member.name} has no content")
    written = 0
    with stream, target.open("xb") as file:  # "x": a second member of the same name is refused
        while written <= member.size and (chunk := stream.read(CHUNK_BYTES)):
            written += file.write(chunk)
    if written != member.size:
        raise UnpackError(f"{archive}: {member.name} should hold {member.size:,} bytes, got {written:,}")


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    """A relative name of sane length that stays below the folder it is joined to."""
    path = PurePosixPath(name[: NAME_CHARACTERS + 1])
    if len(name) > NAME_CHARACTERS or len(path.parts) > NAME_LEVELS:
        most = f"{NAME_CHARACTERS:,} characters and {NAME_LEVELS} levels"
        raise UnpackError(f"{archive}: expected names of at most {most}, got {name[:60]!r}...; do not trust it")
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in (path.parts or ("",))[0]
    if unsafe:
        raise UnpackError(f"{archive}: expected names below the archive's own folder, got {name!r}; do not trust it")
    return path


class _Rationed:
    """A file of which only ``left`` more bytes may be read: the standard library reads headers whole, however long."""

    def __init__(self, file: Any, archive: Path) -> None:
        self.file, self.archive, self.left = file, archive, math.inf

    def read(self, size: int = -1) -> bytes:
        if self.left == math.inf:
            return cast(bytes, self.file.read(size))
        data = cast(bytes, self.file.read(size if 0 <= size <= self.left else int(self.left) + 1))
        self.left -= len(data)
        if self.left < 0:
            raise UnpackError(f"{self.archive}: expected short headers, got longer ones; do not trust it")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _members(archive: Path, file: IO[bytes], staging: Path) -> Iterator[_Member]:
    start = file.read(6)
    file.seek(0)
    if zipfile.is_zipfile(file):
        return _zip_members(archive, file)
    opener = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None)
    file.seek(0)
    return _tar_members(archive, opener(file) if opener else file, staging)


def _tar_members(archive: Path, stream: Any, staging: Path) -> Iterator[_Member]:
    rationed = _Rationed(stream, archive)
    rationed.left = HEADER_BYTES
    try:
        tar: Any = tarfile.open(fileobj=cast(IO[bytes], rationed), mode="r:")  # noqa: SIM115 (closed below)
    except tarfile.ReadError as error:
        raise UnpackError(
            f"{archive}: expected a zip or tar archive ({error}); remove the file and download it again"
        ) from error
    with tar:
        while (info := tar.next()) is not None:
            rationed.left = math.inf
            tar.members.clear()  # it would remember each
            if len(tar.pax_headers) > GLOBAL_RECORDS:
                raise UnpackError(f"{archive}: expected at most {GLOBAL_RECORDS} global records; do not trust it")
            if not (info.isfile() or info.isdir()):
                raise UnpackError(f"{archive}: expected plain files, {info.name} is a link or device; do not trust it")
            _safe_name(archive, info.name)
            tarfile.data_filter(info, str(staging))  # the standard library's own opinion on top
            yield _Member(info.name, info.size, info.isdir(), partial(tar.extractfile, info))
            rationed.left = HEADER_BYTES


def _zip_members(archive: Path, file: IO[bytes]) -> Iterator[_Member]:
    rationed = _Rationed(file, archive)
    rationed.left = DIRECTORY_BYTES
    with zipfile.ZipFile(cast(IO[bytes], rationed)) as packed:
        rationed.left = math.inf
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnpackError(f"{archive}: expected plain files, {info.filename} is a link or device")
            if info.flag_bits & 1:
                raise UnpackError(f"{archive}: {info.filename} is encrypted; datasets are not, download it again")
            name = getattr(info, "orig_filename", info.filename)  # as stored: zipfile repairs names silently
            folder = info.filename.endswith("/")  # is_dir() trips over a name that is empty, or begins with a NUL
            yield _Member(name, info.file_size, folder, partial(packed.open, info))


def settle(source: Path, folder: Path) -> None:
    """Move the tree ``source`` into ``folder``, file by file where folders are already there."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        target = folder / entry.name
        if entry.is_dir() and target.is_dir():
            settle(entry, target)
        else:
            os.replace(entry, target)
