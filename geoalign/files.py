"""One policy for files: written whole or not at all, read only when plain, bounded in size and in depth."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 512 << 20
"""Texts and JSON: the largest annotation file of a published dataset has about 100 MB."""
MOST_YAML_BYTES = 1 << 20
MOST_DEPTH = 64
"""Levels of lists and mappings; the deepest file of this project has eight."""
MOST_NODES = 1_000_000
"""Nodes of a YAML file once its aliases are followed."""
MOST_SCALAR = 1 << 16
"""Characters of one YAML value: PyYAML reads ``1:1:1:...`` as a number in quadratic time."""

RESTORE = "restore the file"


class FileError(ValueError):
    """A file that cannot be used: which, what was expected, what was got, and the remedy, also as attributes."""

    def __init__(self, path: str | Path, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"{path}: expected {expected}, got {got}; {remedy}")
        self.path, self.expected, self.got, self.remedy = Path(path), expected, got, remedy


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A partial file beside ``path`` that takes its place on success and is removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process id, which two machines may share; a short head, as names end at 255 bytes.
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_output(path: str | Path, inputs: Iterable[str | Path] = (), force: bool = False) -> Path:
    """``path`` as a place to write to: never an input, and another existing file only with ``force``.

    Raises:
        FileError: it is one of ``inputs`` (also by a link), something other than a plain file, or there already.
    """
    path = Path(path)
    remedy = "choose another output"
    try:
        for given in inputs:
            if path.resolve() == Path(given).resolve() or (
                path.exists() and Path(given).exists() and path.samefile(given)
            ):
                raise FileError(path, "an output that is no input", f"the input {given}", remedy)
        if not os.path.lexists(path):
            return path
        if path.exists() and not path.is_file():
            raise FileError(path, "a file to write", _kind(path.stat().st_mode), remedy)
    except (OSError, RuntimeError) as error:  # RuntimeError: a ring of links
        raise FileError(path, "a file to write", _reason(error), remedy) from error
    if not force:
        raise FileError(path, "an output that is not there yet", "an existing file", f"{remedy}, or allow it: --force")
    return path


def open_regular(path: str | Path, remedy: str = RESTORE) -> io.BufferedReader:
    """A regular file, opened for reading bytes; a pipe, socket, device or folder is refused and never waited for.

    Raises:
        FileError: it is not there, not a regular file, or may not be read.
    """
    try:
        _check_regular(path, os.stat(path).st_mode, remedy)  # opening a device may already do something
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115 (the caller's)
        try:
            _check_regular(path, os.fstat(file.fileno()).st_mode, remedy)  # it may have been exchanged in between
        except FileError:
            file.close()
            raise
    except FileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileError(path, "a readable file", _reason(error), remedy) from error
    return file


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes; raises :class:`FileError`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(data: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of plain data as JSON, whatever the order of its keys.

    >>> short_hash({"a": 1, "b": [2]}) == short_hash({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def read_bytes(path: str | Path, most: int = MOST_BYTES, remedy: str = RESTORE) -> bytes:
    """A regular file's bytes, at most ``most`` (512 MiB by default); raises :class:`FileError`."""
    with open_regular(path, remedy) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise FileError(path, "a readable file", _reason(error), remedy) from error
    if len(data) > most:
        raise FileError(path, f"at most {most:,} bytes", "more", remedy)
    return data


def read_text(path: str | Path, most: int = MOST_BYTES, remedy: str = RESTORE) -> str:
    r"""A UTF-8 file's text without its byte order mark, every line end as ``\n``; raises :class:`FileError`."""
    data = read_bytes(path, most, remedy)
    try:
        return io.TextIOWrapper(io.BytesIO(data), "utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise FileError(path, "UTF-8 text", f"byte {error.start} that is not", remedy) from error


def read_json(path: str | Path, most: int = MOST_BYTES, remedy: str = RESTORE) -> Any:
    """A JSON file's content: no ``NaN`` or ``Infinity``, at most 64 levels and ``most`` bytes (512 MiB by default).

    Raises:
        FileError: unreadable, damaged, cut off, too deep or too large.
    """
    text = read_text(path, most, remedy)

    def constant(name: str) -> NoReturn:
        raise FileError(path, "finite numbers", name, remedy)

    try:
        content = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        got = f"{error.msg} at line {error.lineno} column {error.colno} of {len(text)} characters"
        raise FileError(path, "valid JSON", got, f"the file may be truncated: {remedy}") from error
    except RecursionError as error:  # the scanner of the standard library counts its levels, so this is safe to catch
        raise _too_deep(path, remedy) from error
    except FileError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise FileError(path, "valid JSON", _reason(error), remedy) from error
    if not _is_shallow(content):
        raise _too_deep(path, remedy)
    return content


def read_yaml(path: str | Path, most: int = MOST_YAML_BYTES, remedy: str = RESTORE) -> Any:
    """A YAML file's plain content (no tags of Python), at most 64 levels and ``most`` bytes (1 MiB by default).

    The C loader overflows the stack on deep files and followed aliases may multiply without end, so the events are
    counted one by one before anything is built. An alias to a node that holds it is refused.

    Raises:
        FileError: unreadable, not valid YAML, too deep, too large, or too large once its aliases are followed.
    """
    import yaml

    text = read_text(path, most, remedy)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster where PyYAML has it
    try:
        _check_events(path, yaml.parse(text, loader), remedy)
        return yaml.load(text, loader)
    except FileError:
        raise
    # PyYAML raises the last four on values that contradict their tag, as !!timestamp x
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise FileError(path, "valid YAML", _reason(error), remedy) from error


def _check_events(path: str | Path, events: Iterable[Any], remedy: str) -> None:
    """Refuse what is too deep, too long or grows too large; nodes are counted with their aliases followed."""
    import yaml

    counts, anchors, sizes = [0], [""], dict[str, int]()
    for event in events:
        size = 0
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(1)
            anchors.append(event.anchor or "")
            if len(counts) > MOST_DEPTH + 1:
                raise _too_deep(path, remedy)
        elif isinstance(event, yaml.CollectionEndEvent):
            size = counts.pop()
            sizes[anchors.pop()] = size
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            sizes[event.anchor or ""] = 1
            if len(event.value) > MOST_SCALAR:
                raise FileError(path, f"values of at most {MOST_SCALAR:,} characters", f"{len(event.value):,}", remedy)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                raise FileError(path, "values that end", f"an alias *{event.anchor} inside its own value", remedy)
            size = sizes.get(event.anchor or "", 1)  # an unknown alias is the parser's to refuse
        counts[-1] += size
        if counts[-1] > MOST_NODES:
            raise FileError(path, f"at most {MOST_NODES:,} values, aliases followed", "more", remedy)


def _is_shallow(content: Any) -> bool:
    """Whether nested lists and mappings have at most :data:`MOST_DEPTH` levels, found level by level."""
    level = [content]
    for _ in range(MOST_DEPTH):
        inner = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        if not inner:
            return True
        level = list(chain.from_iterable(inner))
    return not any(isinstance(node, dict | list) for node in level)


def _too_deep(path: str | Path, remedy: str) -> FileError:
    return FileError(path, f"at most {MOST_DEPTH} levels of nesting", "more", remedy)


def _check_regular(path: str | Path, mode: int, remedy: str) -> None:
    if not stat.S_ISREG(mode):
        raise FileError(path, "a regular file", _kind(mode), remedy)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _reason(error: Exception) -> str:
    """An exception in one line, without the path that the message names already."""
    if isinstance(error, OSError) and error.errno:
        return {errno.ENOENT: "no such file"}.get(error.errno, os.strerror(error.errno).lower())
    return " ".join(str(error).split()) or type(error).__name__
