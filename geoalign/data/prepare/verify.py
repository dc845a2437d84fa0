"""Verify a dataset's folder, offline: counts, annotations, images, keypoints, boxes, pair files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tqdm import tqdm

from geoalign.data.prepare.benchmark import Benchmark
from geoalign.data.prepare.checks import (
    ANNOTATIONS,
    Finding,
    check_image,
    check_pair_file,
    check_pairs,
    error,
    oddity,
    stray_pair_files,
)
from geoalign.data.prepare.report import Count, Report
from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import DataError, ImageRecord, PairSource

Item = TypeVar("Item")
Run = Callable[..., list[Finding]]
IN_ONE_PROCESS = 300
"""Below this many items, starting processes costs more than it saves."""


def verify(
    benchmark: Benchmark,
    root: Path,
    options: Mapping[str, str] | None = None,
    *,
    counts: str = "published",
    workers: int = 2,
    progress: bool = True,
) -> Report:
    """Check everything below ``root``; nothing is written and nothing is fetched.

    ``counts="any"`` accepts parts of a dataset: absent parts are passed over and no count is compared.
    """
    report = Report(benchmark.title, root)
    run = partial(_parallel, workers=workers, progress=progress)
    with TemporaryDirectory(prefix="geoalign-verify-") as scratch:
        sources = _open_parts(benchmark, root, options or {}, report, Path(scratch), partly=counts == "any")
        report.findings += _annotations(benchmark, root, run)
        for part, source in sources.items():
            report.findings += _source(source, run, part)
        report.findings += _shared_images(sources)
        images = {(str(record.path), record.image_id): record for s in sources.values() for record in s.images}
        report.findings += run(check_image, list(images.values()), label="images")
    compared = counts == "published" and not options
    report.counts = list(_counts(benchmark, sources, list(images.values()), root, compared))
    report.findings = list(dict.fromkeys(report.findings))
    return report


def _annotations(benchmark: Benchmark, root: Path, run: Run) -> list[Finding]:
    """Every annotation file, also those of images that no pair uses."""
    if not benchmark.layout:
        return []
    patterns, check = ANNOTATIONS[benchmark.layout]
    return run(check, sorted(path for pattern in patterns for path in root.glob(pattern)), label="annotations")


def _source(source: PairSource, run: Run, part: str) -> list[Finding]:
    """What the reader repaired, the pairs, and the pair files of the SPair layout."""
    notes: Sequence[str] = getattr(source, "notes", ())
    findings = [oddity("repaired while reading", note) for note in notes] + check_pairs(source)
    if not isinstance(source, SPair71k):
        return findings
    strays = stray_pair_files(source)
    if any(finding.kind.startswith("no pair files") for finding in strays):
        return findings + strays
    return findings + strays + run(partial(check_pair_file, source), range(len(source)), label=f"{part} pair files")


def _open_parts(
    benchmark: Benchmark, root: Path, options: Mapping[str, str], report: Report, scratch: Path, *, partly: bool
) -> dict[str, PairSource]:
    sources: dict[str, PairSource] = {}
    absent: list[DataError] = []
    for part in benchmark.parts:
        try:
            sources[part] = benchmark.open(part, root, options, scratch)
        except DataError as wrong:
            if partly and _is_absent(wrong):
                absent.append(wrong)
            else:
                report.findings.append(error(part, str(wrong)))
    if absent and not sources:
        report.findings += [error("dataset", str(wrong)) for wrong in absent]
    return sources


def _is_absent(error: DataError) -> bool:
    """Whether the reader missed a file or folder, rather than disliked one."""
    file = Path(error.file)
    return not file.exists() or (file.is_dir() and not (file / error.field).exists())


def _shared_images(sources: Mapping[str, PairSource]) -> list[Finding]:
    """Images of more than one split: training on what is tested."""
    splits: dict[str, set[str]] = {}
    for source in sources.values():
        for record in source.images:
            splits.setdefault(str(record.path), set()).add(source.split)
    shared = {path: sorted(found) for path, found in splits.items() if len(found) > 1}
    return [oddity(f"image of {' and '.join(found)}", path) for path, found in shared.items()]


def _counts(
    benchmark: Benchmark, sources: Mapping[str, PairSource], records: Sequence[ImageRecord], root: Path, compared: bool
) -> Iterator[Count]:
    """What is there, with the published number where ``compared``."""
    published = benchmark.published if compared else ()
    of_part = {parts[0]: rest for parts, *rest in published if len(parts) == 1}
    for part, source in sources.items():
        pairs, nearest = of_part.get(part, (None, 1))
        yield Count(f"{part} pairs", len(source), pairs, nearest, f"{len(source.images):,} images")
    complete = compared and len(sources) == len(benchmark.parts)
    yield Count("images", len({str(record.path) for record in records}), benchmark.images if complete else None)
    yield Count("visible keypoints", sum(int(record.visible.sum()) for record in records))
    if compared and benchmark.inventory is not None and sources:
        yield from (Count(what, *pair) for what, pair in benchmark.inventory(root).items())
    for parts, pairs, nearest in published:
        if len(parts) > 1 and set(parts) <= set(sources):
            yield Count(f"{parts[0].split()[0]} pairs, all", sum(len(sources[part]) for part in parts), pairs, nearest)


def _parallel(
    check: Callable[[Item], list[Finding]], items: Sequence[Item], *, label: str, workers: int, progress: bool
) -> list[Finding]:
    """Findings of every item, in order; spawned processes, as forking with threads may lock up."""
    bar = partial(tqdm, total=len(items), desc=label, unit="", disable=None if progress else True)
    if workers < 2 or len(items) < IN_ONE_PROCESS:
        return [finding for found in bar(map(check, items)) for finding in found]
    chunk = max(1, min(500, len(items) // (4 * workers)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [finding for found in bar(pool.map(check, items, chunksize=chunk)) for finding in found]
