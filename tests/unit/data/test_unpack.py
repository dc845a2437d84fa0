"""Archives, honest and hostile; every refusal leaves the folder as it was."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoalign.data.prepare import unpack as unpacking
from geoalign.data.prepare.unpack import DEFAULT_LIMITS, Limits, UnpackError, unpack

Files = dict[str, bytes]
GOOD: Files = {"Set/a.json": b"{}", "Set/JPEGImages/b c.jpg": b"x" * 5000, "Set/名.txt": b"name"}


def write_tar(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


Writer = Callable[[Path, Files], Path]
both = pytest.mark.parametrize("write", [write_tar, write_zip])


def run(archive: Path, folder: Path, strip: str = "", limits: Limits = DEFAULT_LIMITS) -> int:
    return unpack(archive, folder, strip=strip, limits=limits, progress=False)


def tree(folder: Path) -> Files:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@both
def test_files_come_out_as_they_went_in(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path / "a.bin", GOOD)
    assert run(archive, tmp_path / "out") == 3
    assert tree(tmp_path / "out") == GOOD
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "out"]


@both
def test_a_leading_folder_is_left_out_and_litter_too(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path / "a.bin", GOOD | {"__MACOSX/Set/a.json": b"?", "Set/.DS_Store": b"?"})
    (tmp_path / "out" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "out" / "JPEGImages" / "mine.jpg").write_bytes(b"kept")
    run(archive, tmp_path / "out", strip="Set")
    assert sorted(tree(tmp_path / "out")) == ["JPEGImages/b c.jpg", "JPEGImages/mine.jpg", "a.json", "名.txt"]


@both
def test_unpacking_again_gives_the_same(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path / "a.bin", GOOD)
    run(archive, tmp_path / "out")
    (tmp_path / "out" / "Set" / "a.json").write_bytes(b"spoilt")
    run(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == GOOD


@both
@pytest.mark.parametrize("name", ["../out2/x", "/etc/x", "Set/../../x", "..\\x", "C:/x", "Set/../x"])
def test_names_that_escape_are_refused(write: Writer, name: str, tmp_path: Path) -> None:
    archive = write(tmp_path / "a.bin", {**GOOD, name: b"evil"})
    with pytest.raises(UnpackError, match=r"below the archive's own folder, got .*do not trust it"):
        run(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@both
@pytest.mark.parametrize(
    ("limits", "message"),
    [(Limits(files=2), "at most 2 files"), (Limits(bytes=100), "at most 100 bytes unpacked, Set/JPEG")],
)
def test_limits_hold(write: Writer, limits: Limits, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnpackError, match=message):
        run(write(tmp_path / "a.bin", GOOD), tmp_path / "out", limits=limits)
    assert not (tmp_path / "out").exists()


@both
def test_bombs_are_stopped(write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "SMALL_BYTES", 1 << 16)
    archive = write(tmp_path / "a.bin", {"zeros": bytes(1 << 22)})
    with pytest.raises(UnpackError, match="zeros goes beyond"):
        run(archive, tmp_path / "out")


@both
def test_a_name_given_twice_is_refused(write: Writer, tmp_path: Path) -> None:
    archive = write(tmp_path / "a.bin", {"Set/a": b"1", "Set//a": b"2"})
    with pytest.raises(UnpackError, match="exists"):
        run(archive, tmp_path / "out")


@both
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_archives_are_refused(write: Writer, keep: float, tmp_path: Path) -> None:
    data = write(tmp_path / "whole", {"Set/a": bytes(i * i % 251 for i in range(50_000))}).read_bytes()
    (tmp_path / "a.bin").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UnpackError, match="download it again"):
        run(tmp_path / "a.bin", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("Set/link")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UnpackError, match="Set/link is a link or device"):
        run(tmp_path / "a.tar", tmp_path / "out")


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("Set/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(UnpackError, match="Set/link is a link or device"):
        run(tmp_path / "a.zip", tmp_path / "out")


def test_a_name_that_begins_with_nothing_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("ab", "x")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"ab", b"\0b"))
    with pytest.raises(UnpackError, match="expected names below"):
        unpack(tmp_path / "a.zip", tmp_path / "out" / "a", progress=False)


def test_encrypted_zips_are_refused(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "a.zip", {"a": b"secret"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnpackError, match="a is encrypted"):
        run(tmp_path / "a.zip", tmp_path / "out")


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "a.zip", {"a": b"text"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = data[data.index(b"PK\x03\x04") + 8] = 77
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnpackError, match="compression method is not supported"):
        run(tmp_path / "a.zip", tmp_path / "out")


def test_modes_and_owners_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("run.sh")
        info.mode = 0o6777
        tar.addfile(info)
    run(tmp_path / "a.tar", tmp_path / "out")
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("content", [b"", b"not an archive", b"<html>404</html>"])
def test_other_files_are_not_archives(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UnpackError, match="expected a zip or tar archive"):
        run(tmp_path / "a.zip", tmp_path / "out")


def _header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _long_name(size: int) -> Iterator[bytes]:
    yield _header(tarfile.GNUTYPE_LONGNAME, size)
    yield from (bytes([97]) * CHUNK for _ in range(size // CHUNK))
    yield _header(tarfile.REGTYPE, 0)


def _pax_record(size: int) -> Iterator[bytes]:
    head = f"{size} comment=".encode()
    yield _header(tarfile.XHDTYPE, size) + head + b"c" * (CHUNK - len(head))
    yield from (b"c" * CHUNK for _ in range(size // CHUNK - 1))
    yield _header(tarfile.REGTYPE, 0)


def _chained_names(size: int) -> Iterator[bytes]:
    yield (_header(tarfile.GNUTYPE_LONGNAME, 1) + b"a".ljust(512, b"\0")) * (size // 1024)


def _sparse_map(size: int) -> Iterator[bytes]:
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "1"}
    yield tarfile.TarInfo.create_pax_global_header(records)
    yield _header(tarfile.REGTYPE, size) + b"10000000000\n" + b"0\n" * 250
    yield from (b"0\n" * (CHUNK // 2) for _ in range(size // CHUNK))


def _global_records(size: int) -> Iterator[bytes]:
    for at in range(size // 20_000):
        yield tarfile.TarInfo.create_pax_global_header({f"k{at}": "v" * 18_000})
        yield _header(tarfile.REGTYPE, 0, f"f{at}")


def _same_folder(size: int) -> Iterator[bytes]:
    yield _header(tarfile.DIRTYPE, 0, "folder/") * (size // 512)


CHUNK = 1 << 20
HEADERS = [_long_name, _pax_record, _chained_names, _sparse_map, _global_records, _same_folder]


@pytest.mark.parametrize("headers", HEADERS)
def test_headers_cannot_exhaust_memory(headers: Callable[[int], Iterator[bytes]], tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.writelines(headers(8 * CHUNK))
    tracemalloc.start()
    with pytest.raises(UnpackError, match=r"expected (short headers|at most .* (global records|files and folders))"):
        run(tmp_path / "a.tar.gz", tmp_path / "out", limits=Limits(files=2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * CHUNK


def test_a_zips_list_cannot_exhaust_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "DIRECTORY_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for at in range(1000):
            packed.writestr(f"{at:0100}", b"")
    with pytest.raises(UnpackError, match="expected short headers"):
        run(tmp_path / "a.zip", tmp_path / "out")


@both
def test_long_and_deep_names_are_refused(write: Writer, tmp_path: Path) -> None:
    for name in ("n" * 2000, "d/" * 40 + "x"):
        with pytest.raises(UnpackError, match="names of at most 1,024 characters and 32 levels"):
            run(write(tmp_path / "a.bin", {name: b""}), tmp_path / "out")


@both
def test_folders_and_litter_are_counted(write: Writer, tmp_path: Path) -> None:
    for files in ({f"{i}/{i}/x": b"" for i in range(4)}, {f"__MACOSX/{i}": b"" for i in range(11)}):
        with pytest.raises(UnpackError, match="at most 10 files and folders"):
            run(write(tmp_path / "a.bin", files), tmp_path / "out", limits=Limits(files=10))


def test_litter_is_not_read_through_without_end(tmp_path: Path) -> None:
    with pytest.raises(UnpackError, match=r"at most 1,000 bytes"):
        run(write_tar(tmp_path / "a.bin", {"__MACOSX/x": bytes(5000)}), tmp_path / "out", limits=Limits(bytes=1000))


@pytest.mark.parametrize("write", [write_tar, write_zip])
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_archives_never_write_outside(write: Writer, tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(write(tmp_path / "a.bin", GOOD).read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[position] = data.draw(st.integers(0, 255))
    (tmp_path / "a.bin").write_bytes(whole)
    with suppress(UnpackError):
        run(tmp_path / "a.bin", tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} <= {"a.bin", "out"}
