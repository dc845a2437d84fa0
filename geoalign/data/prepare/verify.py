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
            report.counts.append(Count(f"{part} pairs", len(source), note=f"{len(source.images):,} images"))
            report.findings += _source(source, run, part)
        report.findings += _shared_images(sources)
        images = {(str(record.path), record.image_id): record for s in sources.values() for record in s.images}
        report.findings += run(check_image, list(images.values()), label="images")
    _count(benchmark, sources, list(images.values()), report, compare=counts == "published" and not options)
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
    found = [Finding("oddity", "repaired while reading", note, "") for note in notes] + check_pairs(source)
    return found + list(_pair_files(source, run, part)) if isinstance(source, SPair71k) else found


def _open_parts(
    benchmark: Benchmark, root: Path, options: Mapping[str, str], report: Report, scratch: Path, *, partly: bool
) -> dict[str, PairSource]:
    sources: dict[str, PairSource] = {}
    absent: list[DataError] = []
    for part in benchmark.parts:
        try:
            sources[part] = benchmark.open(part, root, options, scratch)
        except DataError as error:
            if partly and _is_absent(error):
                absent.append(error)
            else:
                report.findings.append(Finding("error", part, str(error), ""))
    if absent and not sources:
        report.findings += [Finding("error", "dataset", str(error), "") for error in absent]
    return sources


def _is_absent(error: DataError) -> bool:
    """Whether the reader missed a file or folder, rather than disliked one."""
    file = Path(error.file)
    return not file.exists() or (file.is_dir() and not (file / error.field).exists())


def _pair_files(source: SPair71k, run: Run, part: str) -> Iterator[Finding]:
    yield from (strays := stray_pair_files(source))
    if not any(finding.kind.startswith("no pair files") for finding in strays):
        yield from run(partial(check_pair_file, source), range(len(source)), label=f"{part} pair files")


def _shared_images(sources: Mapping[str, PairSource]) -> list[Finding]:
    """Images of more than one split: training on what is tested."""
    splits: dict[str, set[str]] = {}
    for source in sources.values():
        for record in source.images:
            splits.setdefault(str(record.path), set()).add(source.split)
    shared = {path: sorted(found) for path, found in splits.items() if len(found) > 1}
    return [Finding("oddity", f"image of {' and '.join(found)}", path, "") for path, found in shared.items()]


def _count(
    benchmark: Benchmark,
    sources: Mapping[str, PairSource],
    records: Sequence[ImageRecord],
    report: Report,
    *,
    compare: bool,
) -> None:
    """Put the published numbers beside the found ones."""
    complete = compare and len(sources) == len(benchmark.parts)
    pictures = len({str(record.path) for record in records})
    report.counts.append(Count("images", pictures, benchmark.images if complete else None))
    keypoints = sum(int(record.visible.sum()) for record in records)
    report.counts.append(Count("visible keypoints", keypoints))
    if not compare:
        return
    if benchmark.inventory is not None and sources:
        report.counts += [Count(what, *pair) for what, pair in benchmark.inventory(report.root).items()]
    lines = {count.what: count for count in report.counts}
    for parts, pairs, nearest in benchmark.published:
        if len(parts) == 1 and f"{parts[0]} pairs" in lines:
            lines[f"{parts[0]} pairs"].published, lines[f"{parts[0]} pairs"].nearest = pairs, nearest
        elif set(parts) <= set(sources):
            found = sum(len(sources[part]) for part in parts)
            report.counts.append(Count(f"{parts[0].split()[0]} pairs, all", found, pairs, nearest))


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
