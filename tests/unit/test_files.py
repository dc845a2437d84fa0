"""Files: whole or not at all; only plain ones, of a bounded size and depth, are read, and errors say all."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geoalign import files
from geoalign.files import (
    MOST_DEPTH,
    FileError,
    check_output,
    open_regular,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
    replacing,
    sha256,
    short_hash,
)

READERS = [read_bytes, read_text, read_json, read_yaml, sha256, open_regular]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text("abc é\n", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def _in_time():
    """A reader that waits for a pipe, or counts for ever, is a failure and not a hang."""

    def stop(*_):
        raise TimeoutError("still reading after 30 seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _written(folder: Path, text: str | bytes, name: str = "a.json") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_is_replaced_whole_or_kept(tmp_path):
    path = _written(tmp_path, "old")
    with pytest.raises(TypeError), replacing(path) as partial:
        json.dump({"half": object()}, partial.open("w"))
    assert path.read_text() == "old"
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_names_at_the_limit_can_be_written(tmp_path):
    path = tmp_path / "new folder" / ("n" * 255)
    with replacing(path) as partial:
        partial.write_text("x")
    assert path.read_text() == "x"


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(reader, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    bound = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # a socket's path is at most 108 bytes
    bound.bind("socket")
    for name, kind in {"pipe": "named pipe", "link": "named pipe", "socket": "socket", ".": "folder"}.items():
        with pytest.raises(FileError, match=f"expected a regular file, got a {kind}"):
            reader(name)
    with pytest.raises(FileError, match="got a device"):
        reader("/dev/zero")
    with pytest.raises(FileError, match="no such file"):
        reader("absent")
    with pytest.raises(FileError, match="null"):
        reader("a\0b")
    bound.close()


@given(PLAIN)
def test_what_is_written_comes_back(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("plain")
    assert read_json(_written(folder, json.dumps(data))) == data
    assert read_yaml(_written(folder, yaml.safe_dump(data))) == data


def test_a_text_loses_its_mark_and_its_carriage_returns(tmp_path):
    assert read_text(_written(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\n")) == "a\nb\nc\n"


@pytest.mark.parametrize("text", ["[" * 10**5, "[" * 10**5 + "]" * 10**5, '{"a":' * 500 + "1" + "}" * 500])
@pytest.mark.parametrize("reader", [read_json, read_yaml])
def test_deep_files_are_named_errors(reader, text, tmp_path):
    with pytest.raises(FileError, match=r"a\.json: expected (at most 64 levels|valid JSON)"):
        reader(_written(tmp_path, text))


def test_a_deep_block_of_yaml_is_a_named_error(tmp_path):
    for text in ("- " * 10**5, "? " * 10**5, "\n".join(" " * i + "a:" for i in range(1000))):
        with pytest.raises(FileError, match="64 levels"):
            read_yaml(_written(tmp_path, text))


@pytest.mark.parametrize("reader", [read_json, read_yaml])
def test_the_last_level_allowed_is_read(reader, tmp_path):
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert reader(_written(tmp_path, deep)) is not None
    with pytest.raises(FileError, match="64 levels"):
        reader(_written(tmp_path, f"[{deep}]"))


def test_aliases_may_not_multiply_without_end(tmp_path):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(FileError, match="aliases followed"):
        read_yaml(_written(tmp_path, bomb))
    with pytest.raises(FileError, match="inside its own value"):
        read_yaml(_written(tmp_path, "a: &a [1, *a]"))
    assert read_yaml(_written(tmp_path, "a: &a {b: 1}\nc: {<<: *a, d: 2}")) == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']", "!!timestamp x", "!!bool x", "!!int ''", "*a", "a: [", "\t- a", "=",
        "{[1]: 2}", "2000-99-99", "1" + ":1" * 10**5, b"\xff", "a\x00",
    ],
)  # fmt: skip
def test_bad_yaml_is_a_named_error(text, tmp_path):
    with pytest.raises(FileError, match=r"a\.json: expected .*, got .*; ask"):
        read_yaml(_written(tmp_path, text), remedy="ask")


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": NaN}', "[1e999999, -Infinity]", "[1" + "1" * 5000 + "]", b"\xff", "[1]]"]
)
def test_bad_json_is_a_named_error(text, tmp_path):
    with pytest.raises(FileError, match=r"a\.json: expected .*, got .*; .*ask"):
        read_json(_written(tmp_path, text), remedy="ask")


@pytest.mark.parametrize("reader", [read_bytes, read_text, read_json, read_yaml])
def test_more_than_is_asked_for_is_refused(reader, tmp_path):
    path = _written(tmp_path, "1" * 100)
    reader(path, most=100)
    with pytest.raises(FileError, match="at most 99 bytes"):
        reader(path, most=99)
    with pytest.raises(FileError, match="at most 1,048,576 bytes"):
        read_yaml(_written(tmp_path, " " * (files.MOST_YAML_BYTES + 1)))


def test_hashes_are_of_content(tmp_path):
    assert sha256(_written(tmp_path, "abc")).startswith("ba7816bf8f01cfea")
    assert short_hash({"a": 1, "b": (2,)}) == short_hash({"b": [2], "a": 1}) != short_hash({"a": 2})


def test_an_output_is_never_an_input(tmp_path, monkeypatch):
    photo = _written(tmp_path, "photo", "a.jpg")
    (tmp_path / "link").symlink_to(photo)
    os.link(photo, tmp_path / "hard")
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "link", "hard", "./a.jpg"):
        with pytest.raises(FileError, match="the input"):
            check_output(name, [photo], force=True)


def test_another_file_is_replaced_only_with_force(tmp_path):
    path = _written(tmp_path, "x")
    with pytest.raises(FileError, match="--force"):
        check_output(path)
    assert check_output(path, [tmp_path / "absent"], force=True) == path
    assert check_output(tmp_path / "new", [path]) == tmp_path / "new"
    for other in (tmp_path, Path("/dev/null")):
        with pytest.raises(FileError, match=r"got a (folder|device)"):
            check_output(other, force=True)
