"""Verify a dataset's folder, offline: counts, annotations, images, keypoints, boxes, pair files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from geoalign.data.prepare.checks import (
    Finding,
    check_annotation,
    check_image,
    check_pair_file,
    check_pairs,
    stray_pair_files,
)
from geoalign.data.prepare.datasets import Benchmark
from geoalign.data.prepare.report import Count, Report
from geoalign.data.records import DataError, ImageRecord, PairSource
from geoalign.data.spair import SPair71k

Item = TypeVar("Item")
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
    sources = _open_parts(benchmark, root, options or {}, report, partly=counts == "any")
    if benchmark.spair_layout:
        report.findings += run(check_annotation, _annotation_files(root), label="annotations")
    for part, source in sources.items():
        report.counts.append(Count(f"{part} pairs", len(source), note=f"{len(source.images):,} images"))
        report.findings += [
            Finding("oddity", "repaired while reading", note, "") for note in getattr(source, "notes", ())
        ]
        report.findings += check_pairs(source)
        if isinstance(source, SPair71k):
            report.findings += _pair_files(source, run, part)
    images = {str(record.path): record for source in sources.values() for record in source.images}
    report.findings += _shared_images(sources)
    report.findings += run(check_image, list(images.values()), label="images")
    _count(benchmark, sources, images, report, compare=counts == "published" and not options)
    report.findings = list(dict.fromkeys(report.findings))
    return report


def _open_parts(
    benchmark: Benchmark, root: Path, options: Mapping[str, str], report: Report, *, partly: bool
) -> dict[str, PairSource]:
    sources: dict[str, PairSource] = {}
    absent: list[DataError] = []
    for part in benchmark.parts:
        try:
            sources[part] = benchmark.open(part, root, options)
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


def _annotation_files(root: Path) -> list[Path]:
    folders = (root / "ImageAnnotation", root / "ExtraImageAnnotation")
    return [path for folder in folders for path in sorted(folder.glob("*/*.json"))]


def _pair_files(source: SPair71k, run: Callable[..., list[Finding]], part: str) -> Iterator[Finding]:
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
    images: Mapping[str, ImageRecord],
    report: Report,
    *,
    compare: bool,
) -> None:
    """Put the published numbers beside the found ones."""
    complete = compare and len(sources) == len(benchmark.parts)
    report.counts.append(Count("images", len(images), benchmark.images if complete else None))
    keypoints = sum(int(record.visible.sum()) for record in images.values())
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
    bar = partial(tqdm, total=len(items), desc=label, unit="", disable=not progress)
    if workers < 2 or len(items) < IN_ONE_PROCESS:
        return [finding for found in bar(map(check, items)) for finding in found]
    chunk = max(1, min(500, len(items) // (4 * workers)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [finding for found in bar(pool.map(check, items, chunksize=chunk)) for finding in found]
