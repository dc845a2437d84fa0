"""Fair clocks: both sides in one process, alternating, medians; and the machine they ran on."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from geoalign.markdown import markdown_table

Side = Callable[[], object]


@dataclass(frozen=True)
class Timed:
    """Medians of one side, per unit of work: wall and CPU seconds; peak memory above the start in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Comparison:
    """One line of the table. ``unit`` is what both sides are divided by (a pair, a row, an image)."""

    name: str
    unit: str
    setting: str
    plain: Timed
    fast: Timed
    target: float | None
    repeats: int

    @property
    def ratio(self) -> float:
        """How many times faster, by the wall."""
        return self.plain.wall_s / self.fast.wall_s

    @property
    def cpu_ratio(self) -> float:
        """How many times less processor time: steadier on a shared machine."""
        return self.plain.cpu_s / self.fast.cpu_s

    def record(self) -> dict[str, Any]:
        """Plain data for the results file."""
        return {**asdict(self), "ratio": self.ratio, "cpu_ratio": self.cpu_ratio}


@dataclass(frozen=True)
class Contender:
    """One fast side beside a plain one; ``per_turn`` runs of it are taken for each run of the slow side."""

    name: str
    side: Side
    units: float = 1
    target: float | None = None
    per_turn: int = 1


def compare(
    plain: Side,
    contenders: Sequence[Contender],
    *,
    unit: str,
    setting: str,
    plain_units: float = 1,
    repeats: int = 5,
) -> list[Comparison]:
    """Every side once unmeasured, for its memory; then all in turns, ``repeats`` times."""
    peaks = [peak_mb(side) for side in (plain, *(c.side for c in contenders))]
    runs: list[list[tuple[float, float]]] = [[] for _ in peaks]
    for _ in range(repeats):
        runs[0].append(clock(plain))
        for found, contender in zip(runs[1:], contenders, strict=True):
            found.extend(clock(contender.side) for _ in range(contender.per_turn))
    slow = _timed(runs[0], plain_units, peaks[0])
    return [
        Comparison(c.name, unit, setting, slow, _timed(found, c.units, peak), c.target, repeats)
        for c, found, peak in zip(contenders, runs[1:], peaks[1:], strict=True)
    ]


def assert_same(what: str, plain: Tensor, fast: Tensor, tolerance: float = 1e-4) -> None:
    """Refuse to time two things that differ: relative error of the whole."""
    error = float((plain - fast).norm() / plain.norm().clamp(min=1e-12))
    if not error <= tolerance:
        raise AssertionError(f"{what}: the fast path differs by {error:.1e}, more than {tolerance:.0e}")


def show(comparisons: Sequence[Comparison]) -> None:
    """Print machine and lines."""
    print(describe(machine()))
    print(table([c.record() for c in comparisons]))


def table(records: Sequence[dict[str, Any]]) -> str:
    """A markdown table of recorded comparisons."""
    header = ["hot path", "per", "transcription", "geoalign", "ratio", "target", "CPU-time ratio", "peak MB"]
    rows = [
        [
            *(r["name"], r["unit"], _time(r["plain"]["wall_s"]), _time(r["fast"]["wall_s"])),
            *(f"**{_ratio(r['ratio'])}**", "" if r["target"] is None else f"{r['target']:g}×", _ratio(r["cpu_ratio"])),
            f"{r['plain']['peak_mb']:.0f} / {r['fast']['peak_mb']:.0f}",
        ]
        for r in records
    ]
    return markdown_table(header, rows, aligned=True)


def clock(side: Side) -> tuple[float, float]:
    """Wall and CPU seconds of one run; garbage is collected beforehand."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    side()
    return time.perf_counter() - wall, time.process_time() - cpu


def typical(side: Side, repeats: int = 5) -> float:
    """Median wall seconds after one unmeasured run."""
    side()
    return median(clock(side)[0] for _ in range(repeats))


def peak_mb(side: Side) -> float:
    """Resident memory that one run needs above what was there, in MB.

    Linux lets a process reset its own high-water mark; elsewhere a thread samples the resident size.
    """
    _give_back()
    start = resident_mb()
    if _reset_peak():
        side()
        return max(0.0, resident_mb(peak=True) - start)
    return _sampled_peak(side) - start


def machine() -> dict[str, Any]:
    """What the numbers were taken on, as far as it can matter; no names of hosts or people."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_before": round(os.getloadavg()[0], 1),
    }


def describe(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    return (
        f"{machine['processor']}, {machine['cores']} cores ({machine['vector']}), {machine['threads']} threads, "
        f"{machine['memory_gb']} GB, torch {machine['torch']}, load {machine['load_before']} before the start"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _ratio(value: float) -> str:
    return f"{value:.0f}×" if value >= 20 else f"{value:.1f}×"


def _timed(runs: list[tuple[float, float]], units: float, peak: float) -> Timed:
    wall, cpu = (median(values) / units for values in zip(*runs, strict=True))
    return Timed(wall, cpu, peak)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def resident_mb(peak: bool = False) -> float:
    """Resident memory of this process, or its high-water mark, in MB.

    Not ``ru_maxrss`` where it can be avoided: a started process inherits its parent's.
    """
    field = "VmHWM" if peak else "VmRSS"
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _give_back() -> None:
    """Return freed memory to the system, so that what is met next is seen to grow."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset_peak() -> bool:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return resident_mb(peak=True) <= resident_mb() * 1.02
    return False


def _sampled_peak(side: Side) -> float:
    peak, done = resident_mb(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        side()
    finally:
        done.set()
        watcher.join()
    return peak
