"""Prepare and verify a dataset: download what is missing, unpack it, convert it, verify the folder.

verify_only=true only reads, offline. Exit codes: 0 sound, 1 not sound, 2 not prepared.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoalign.data.prepare.benchmark import Benchmark, Source
from geoalign.data.prepare.datasets import CATALOGUE, find
from geoalign.data.prepare.download import DownloadError, by_hand, download
from geoalign.data.prepare.unpack import UnpackError, unpack
from geoalign.data.prepare.verify import verify
from geoalign.data.records import DataError

SOUND, NOT_SOUND, NOT_PREPARED = 0, 1, 2
"""Exit codes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare and verify as the ``key=value`` arguments say; the exit code is 0 where the dataset is sound."""
    words = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(words):
        parser().print_help()
        return SOUND
    try:
        settings, extra = parse(words)
        benchmark = find(settings["dataset"])
        root = Path(settings["root"] or Path("data") / benchmark.name).expanduser()
        if not settings["verify_only"]:
            prepare(benchmark, root, extra, timeout_s=float(settings["timeout"]), progress=settings["progress"])
        readers = {key: value for key, value in extra.items() if key not in benchmark.making}
        report = verify(
            benchmark, root, readers,
            counts=settings["counts"], workers=settings["workers"], progress=settings["progress"],
        )  # fmt: skip
    except (DownloadError, UnpackError, DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_PREPARED
    print(report.text())
    return report.exit_code


def prepare(
    benchmark: Benchmark, root: Path, extra: Mapping[str, str], *, timeout_s: float = 30.0, progress: bool = True
) -> None:
    """Fetch, unpack and convert whatever is not there yet; raises what the steps raise."""
    if benchmark.made and all((root / path).exists() for path in benchmark.made):
        return
    needed, failures = [], []
    for source in _missing(benchmark, root):
        path = root / source.file
        try:
            if source.by_hand and not path.exists():
                raise DownloadError(by_hand(source.url, path, "its host serves no plain download"))
            download(source.url, path, checksum=source.checksum, timeout_s=timeout_s, progress=progress)
            needed.append(source)
        except DownloadError as error:  # name every missing file at once, not one a run
            told = f"{error}; the dataset's page is {benchmark.home}"
            if source.optional:
                print(f"left out: {told}")
            else:
                failures.append(told)
    if failures:
        raise DownloadError("\n       ".join(failures))
    for source in needed:
        if source.unpack:
            count = unpack(root / source.file, root / source.into, strip=source.strip, progress=progress)
            print(f"unpacked {count:,} files of {source.file} into {root / source.into}")
    if benchmark.convert is not None:
        print(benchmark.convert(root, extra, progress))


def parser() -> argparse.ArgumentParser:
    """For ``--help`` and for shells that complete: :func:`parse` reads the words."""
    lines = [
        "datasets:",
        *(f"  {name:<14} {one.home}" for name, one in CATALOGUE.items()),
        "",
        "settings:",
        *(f"  {f'{key}={default}'.lower():<20} {ABOUT[key]}" for key, default in DEFAULTS.items() if key != "dataset"),
        "",
        "examples:",
        "  geoalign prepare dataset=livestock",
        "  geoalign prepare dataset=spair71k root=/data/SPair-71k verify_only=true",
    ]
    made = argparse.ArgumentParser(
        "geoalign prepare",
        usage="geoalign prepare [-h] dataset=<name> [setting=value ...]",
        description=__doc__,
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words: Any = made.add_argument("settings", nargs="*", help=argparse.SUPPRESS)
    known = [f"dataset={name}" for name in CATALOGUE] + [f"{key}=" for key in DEFAULTS if key != "dataset"]
    words.completer = lambda prefix, **_: [word for word in known if word.startswith(prefix)]
    return made


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and the dataset's own options from ``key=value`` arguments; unknown keys are named with the nearest."""
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not value:
            raise ValueError(f"expected key=value, got {argument!r}; {USAGE}")
        if key in given:
            raise ValueError(f"{key} is given twice")
        given[key] = value
    if "dataset" not in given:
        raise ValueError(f"expected dataset=<name>; {USAGE}")
    benchmark = find(given["dataset"])
    known = (*DEFAULTS, *benchmark.options, *benchmark.making)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"{benchmark.name} takes {', '.join(known)}"
            raise ValueError(f"unknown setting {key!r}; {hint}")
    settings = {key: _read(key, given[key]) if key in given else value for key, value in DEFAULTS.items()}
    return settings, {key: value for key, value in given.items() if key not in DEFAULTS}


def _missing(benchmark: Benchmark, root: Path) -> list[Source]:
    """The files still needed: none once everything expected is there."""
    if benchmark.expected and all((root / path).exists() for path in benchmark.expected):
        return []
    return [source for source in benchmark.sources if source.unpack or not (root / source.file).exists()]


def _read(key: str, value: str) -> Any:
    """A setting's value, of the type of its default."""
    if isinstance(DEFAULTS[key], bool):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{key} is true or false, got {value!r}")
        return value.lower() == "true"
    if isinstance(DEFAULTS[key], int):
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"{key} is a whole number from 1, got {value!r}")
        return int(value)
    if key == "counts" and value not in ("published", "any"):
        raise ValueError(f"{key} is published (compare) or any (parts of a dataset will do), got {value!r}")
    return value


DEFAULTS: dict[str, Any] = {
    "dataset": "",
    "root": "",
    "verify_only": False,
    "counts": "published",
    "workers": 2,
    "timeout": 30,
    "progress": True,
}
ABOUT = {
    "root": "folder of the dataset (data/<name>)",
    "verify_only": "true: only read, offline",
    "counts": "published: compare with the published counts; any: parts of a dataset will do",
    "workers": "processes that read pictures",
    "timeout": "seconds without an answer after which a download is given up",
    "progress": "false: no progress bars, which only terminals see anyway",
}
USAGE = f"datasets are {', '.join(CATALOGUE)}; settings are {', '.join(DEFAULTS)}"

if __name__ == "__main__":
    raise SystemExit(main())
