"""Real photographs with deeper training: ``python -m geoalign.report.livestock_deep results/livestock_deep``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from geoalign.report.livestock import about, elsewhere_table, look_table, main_table, pose_table, read, read_away
from geoalign.report.pages import page, parser, write
from geoalign.results.predictions import ResultsError

PREFIX = "livestock_deep-"
TAIL = "the tail at 640 px, whole, its maps beside the refined ones"
ROWS = {
    f"{PREFIX}zero_shot": "zero-shot at 640 px, as the trained rows read it",
    "livestock-refined": "the refiner on frozen features alone, at 384 px",
    f"{PREFIX}aggregation": "the same at 640 px, as much of the processor's time as the tail",
    f"{PREFIX}tail": TAIL,
    f"{PREFIX}px384": "on frames of 384 px",
    f"{PREFIX}cells60": "on a grid of 60 cells a side",
    f"{PREFIX}lora": "tuned by LoRA",
    f"{PREFIX}upsample": "with a head two times finer",
}
SHORT = "short"
"""The folder within of the short rows: small frames, half of the steps."""
PARTS = {
    f"{PREFIX}tail": "the tail",
    f"{PREFIX}lora": "tuned by LoRA",
    f"{PREFIX}deeper": "from the fifth block on",
    f"{PREFIX}no_frozen": "without its maps beside the refined ones",
    f"{PREFIX}mirror": "with mirror parts as wrong answers",
    f"{PREFIX}transport": "with a transport plan beside the losses",
    f"{PREFIX}distil": "with self-distillation beside the losses",
    f"{PREFIX}gaussian": "Gaussian cross-entropy in the place of soft-argmax",
    f"{PREFIX}narrowing": "the same, its Gaussian narrowing from 3 cells to 1",
    f"{PREFIX}upsample": "with a head two times finer",
    f"{PREFIX}field": "with a continuous field, two times finer",
    f"{PREFIX}cosine": "with a head two times finer, Gaussian cross-entropy alone",
    f"{PREFIX}dot": "the same, dot products in the place of cosines",
}
WAYS = {f"{PREFIX}tail_ways": TAIL}
"""Read with flips tried, and by a second look."""


def document(folder: Path) -> str:
    """The page.

    Raises:
        ResultsError: no row is there.
    """
    steps = read(folder, ROWS, prefix="")
    if not steps:
        raise ResultsError(f"no results below {folder}; run them with: make table-livestock-deep")
    text = about(steps, "Every row below the tail changes one thing of it.", "make table-livestock-deep")
    ways = read(folder, WAYS, prefix="")
    parts = main_table(
        read(folder / SHORT, PARTS, prefix=""), PARTS[f"{PREFIX}tail"], "the tail", "Each part alone: 384 px, 120 steps"
    )
    tables = [
        main_table(steps, TAIL, "the tail"),
        elsewhere_table(read_away(folder, PREFIX)),
        pose_table(ways),
        look_table(ways),
        parts,
    ]
    return page("Real photographs: deeper training", text, [table for table in tables if table.rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or write it; 2 where there are no results."""
    options = parser("livestock_deep", __doc__).parse_args(arguments)
    return write(options.out, lambda: document(options.folder))


if __name__ == "__main__":
    sys.exit(main())
