"""Unpack a downloaded archive without trusting it: plain files below the folder, or an error."""

from __future__ import annotations

import lzma
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
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 256 << 20
"""Archives that unpack to less than this are never called bombs, however well they were compressed."""
LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db"})
"""What desktop systems add to archives; left out."""


# What the standard library raises on damaged bytes; NotImplementedError: an unknown compression or version.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
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

    ``strip`` is a leading folder of the archive to leave out. Links, devices, absolute names, ``..``, encryption and
    more than ``limits`` are refused with :class:`UnpackError`. Everything goes to a hidden folder first and is moved
    into place at the end, so that an interrupted run leaves no half-filled dataset.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        count = _fill(archive, staging, limits, progress)
        _settle(staging / strip if (staging / strip).is_dir() else staging, folder)
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
    count = written = 0
    with tqdm(desc=f"unpacking {archive.name}", unit=" files", disable=None if progress else True) as bar:
        for member in _members(archive, staging):
            target = staging / _safe_name(archive, member.name)
            if member.folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            count += 1
            if count > limits.files:
                raise UnpackError(f"{archive}: expected at most {limits.files:,} files, it holds more")
            target.parent.mkdir(parents=True, exist_ok=True)
            written = _write(archive, member, target, written, allowed)
            bar.update()
    return count


def _write(archive: Path, member: _Member, target: Path, written: int, allowed: int) -> int:
    """Copy one member; the bytes written so far."""
    start = written
    if written + member.size > allowed:
        raise UnpackError(f"{archive}: expected at most {allowed:,} bytes unpacked, {member.name} goes beyond")
    stream = member.open()
    if stream is None:
        raise UnpackError(f"{archive}: {member.name} has no content")
    with stream, target.open("xb") as file:  # "x": a second member of the same name is refused
        while chunk := stream.read(CHUNK_BYTES):
            written += len(chunk)
            if written > allowed:
                raise UnpackError(f"{archive}: expected at most {allowed:,} bytes unpacked, {member.name} goes beyond")
            file.write(chunk)
    if written - start != member.size:
        raise UnpackError(f"{archive}: {member.name} should hold {member.size:,} bytes, got {written - start:,}")
    return written


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    """A relative name that stays below the folder it is joined to."""
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in (path.parts or ("",))[0]
    if unsafe:
        raise UnpackError(f"{archive}: expected names below the archive's own folder, got {name!r}; do not trust it")
    return path


def _members(archive: Path, staging: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        members = _zip_members(archive)
    elif tarfile.is_tarfile(archive):
        members = _tar_members(archive, staging)
    else:
        raise UnpackError(f"{archive}: expected a zip or tar archive; remove the file and download it again")
    return (m for m in members if not LITTER & set(PurePosixPath(m.name).parts))


def _tar_members(archive: Path, staging: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for info in tar:
            if not (info.isfile() or info.isdir()):
                raise UnpackError(f"{archive}: expected plain files, {info.name} is a link or device; do not trust it")
            _safe_name(archive, info.name)
            tarfile.data_filter(info, str(staging))  # the standard library's own opinion on top
            yield _Member(info.name, info.size, info.isdir(), partial(tar.extractfile, info))


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnpackError(f"{archive}: expected plain files, {info.filename} is a link or device")
            if info.flag_bits & 1:
                raise UnpackError(f"{archive}: {info.filename} is encrypted; datasets are not, download it again")
            name = getattr(info, "orig_filename", info.filename)  # as stored: zipfile repairs names silently
            yield _Member(name, info.file_size, info.is_dir(), partial(packed.open, info))


def _settle(source: Path, folder: Path) -> None:
    """Move the tree ``source`` into ``folder``, file by file where folders are already there."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        target = folder / entry.name
        if entry.is_dir() and target.is_dir():
            _settle(entry, target)
        else:
            os.replace(entry, target)
