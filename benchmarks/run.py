"""Every benchmark in one process: writes ``benchmarks/results.json`` and the table of ``docs/performance.md``.

``python -m benchmarks.run`` (a quarter of an hour on two cores); ``--table`` only writes the document anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import bench_evaluate, bench_loader, bench_losses, bench_pose, bench_step, bench_transfer
from benchmarks.timing import Comparison, describe, machine, table

RESULTS = Path(__file__).with_name("results.json")
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks: written by python -m benchmarks.run -->", "<!-- end of benchmarks -->"
COMPARED = (bench_transfer, bench_pose, bench_losses, bench_step, bench_evaluate)


def measure(repeats: int = 5) -> dict[str, Any]:
    """Everything, as plain data; each line is printed when it is known."""
    found: dict[str, Any] = {"machine": machine(), "repeats": repeats, "comparisons": []}
    print(describe(found["machine"]), flush=True)
    for bench in COMPARED:
        lines: list[Comparison] = bench.run(repeats)
        found["comparisons"] += [line.record() for line in lines]
        for line in lines:
            print(f"{line.name}: {line.ratio:.1f}x (CPU time {line.cpu_ratio:.1f}x)", flush=True)
    found["step_memory_gb"] = bench_step.step_memory_gb()
    found["loader"] = bench_loader.run()
    found["load_after"] = machine()["load_before"]
    return found


def report(results: dict[str, Any]) -> str:
    """The measured part of the document."""
    return "\n\n".join(
        (
            f"Machine: {describe(results['machine'])}, {results['load_after']} at the end. Medians of "
            f"{results['repeats']} or more, both sides in one process and in turns; peak memory is resident memory "
            "above the start, transcription / geoalign.",
            table(results["comparisons"]),
            f"Peak memory of a process that trains on 8 views at the paper's sizes, everything included: "
            f"**{results['step_memory_gb']:.2f} GB** (target: at most 3 GB).",
            f"Loader, one core, frames of {bench_loader.FRAME_PX} px (target: {bench_loader.TARGET:.0f} images/s):",
            bench_loader.table(results["loader"]),
        )
    )


def write_document(results: dict[str, Any], document: Path = DOCUMENT) -> None:
    """Replace what stands between the markers."""
    text = document.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(
            f"{document} must hold the lines {BEGIN!r} and {END!r} once each; put them where the table goes"
        )
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    document.write_text(f"{before}{BEGIN}\n\n{report(results)}\n\n{END}{after}")


def main(arguments: list[str] | None = None) -> None:
    """Measure unless told not to, then write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="only write the document from the last results")
    options = parser.parse_args(arguments)
    if not options.table:
        RESULTS.write_text(json.dumps(measure(options.repeats), indent=1) + "\n")
    write_document(json.loads(RESULTS.read_text()))
    print(report(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
