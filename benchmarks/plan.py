"""What evaluating SPair-71k's test split costs: counted on generated pairs, priced with processor time of its units.

``python -m benchmarks.plan`` measures the units at the paper's sizes with generated features, plans the split, and
checks the plan on one small category that is really run.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import inputs
from benchmarks.timing import Side, clock, describe, machine
from geoalign.bank import PlainBank
from geoalign.data.batch.packing import pack_pairs
from geoalign.matching import Matcher, transfer
from geoalign.matching.pose import pose_distances
from geoalign.refiner import Aggregation

CATEGORIES, IMAGES, PAIRS = 18, 50, 12_234
"""SPair-71k's test split: about 900 images in 18 categories; evaluation meets each image upright and flipped."""
POSES = 2
BATCH_IMAGES, BATCH_PAIRS = 64, 1024
RESULTS = Path(__file__).with_name("plan.json")
MAP_VALUES = sum(c * side**2 for c, side in zip(inputs.PAPER.channels, inputs.PAPER.map_cells, strict=True))
"""Values of one view's maps: 6.5 million at the paper's sizes, 13 MB in bfloat16."""


@dataclass(frozen=True)
class Units:
    """Core seconds per view refined, per distance, per pair transferred (upright and aligned)."""

    refine_s: float
    distance_s: float
    transfer_s: float


@dataclass(frozen=True)
class Plan:
    """What a split needs of each unit."""

    views: int
    distances: int
    pairs: int

    def seconds(self, units: Units) -> float:
        """Core seconds in all."""
        return self.views * units.refine_s + self.distances * units.distance_s + self.pairs * units.transfer_s


def generated_pairs(categories: int, images: int, pairs: int, seed: int = 0) -> list[tuple[int, int]]:
    """Ordered pairs within categories, drawn evenly; image ``i`` belongs to category ``i // images``."""
    rng = np.random.default_rng(seed)
    counts = [len(part) for part in np.array_split(np.arange(pairs), categories)]
    found: list[tuple[int, int]] = []
    for category, count in enumerate(counts):
        for code in rng.choice(images * (images - 1), count, replace=False).tolist():
            src, trg = divmod(code, images - 1)
            found.append((category * images + src, category * images + trg + (trg >= src)))
    return found


def plan(pairs: list[tuple[int, int]], max_images: int = BATCH_IMAGES) -> Plan:
    """Views refined (sources in both poses, targets upright), distances and pairs."""
    views = 0
    for batch in pack_pairs(pairs, max_images, BATCH_PAIRS):
        sources = {pairs[i][0] for i in batch}
        views += len(sources | {pairs[i][1] for i in batch}) + len(sources)
    return Plan(views, POSES * len(pairs), len(pairs))


@torch.no_grad()
def measured_units(repeats: int = 5) -> Units:
    """Each unit on generated features of the true size."""
    refiner, maps = inputs.refiner().eval(), inputs.maps(4)
    bank, masks, pairs = PlainBank(inputs.bank(4)), inputs.blob_masks(4), 32
    src, trg = torch.randint(4, (2, pairs), generator=torch.Generator().manual_seed(0))
    xy_px = torch.rand(pairs, 10, 2) * 840
    poses, targets = torch.tensor([[0, 1], [1, 2], [2, 3]]), torch.tensor([3, 0, 1])
    return Units(
        _core_s(lambda: refiner(maps), repeats) / 4,
        _core_s(lambda: pose_distances(bank, poses, targets, masks), repeats) / 6,
        2 * _core_s(lambda: transfer(bank, src, trg, xy_px, Matcher()), repeats) / pairs,
    )


def _core_s(side: Side, repeats: int) -> float:
    """Median processor seconds after one unmeasured run: other work on the machine is not counted."""
    side()
    return median(clock(side)[1] for _ in range(repeats))


@torch.no_grad()
def run_category(images: int = 8, pairs: int = 16) -> tuple[Plan, float]:
    """One category for real: refine, align, transfer; its plan and its core seconds."""
    ends = torch.tensor(generated_pairs(1, images, pairs))
    refiner: Aggregation = inputs.refiner().eval()
    maps, masks = inputs.maps(POSES * images), inputs.blob_masks(POSES * images)
    xy_px, matcher = torch.rand(pairs, 10, 2) * 840, Matcher()
    start = time.process_time()
    bank = refiner.bank(maps)
    poses = torch.stack([POSES * ends[:, 0], POSES * ends[:, 0] + 1], dim=-1)
    choice = pose_distances(bank, poses, POSES * ends[:, 1], masks).argmin(1)
    for src in (poses[:, 0], poses.gather(1, choice[:, None])[:, 0]):
        transfer(bank, src, POSES * ends[:, 1], xy_px, matcher)
    return Plan(POSES * images, POSES * pairs, pairs), time.process_time() - start


def main() -> None:
    """Measure, plan, check, write."""
    units, whole = measured_units(), plan(generated_pairs(CATEGORIES, IMAGES, PAIRS))
    small, took = run_category()
    record: dict[str, Any] = {
        "machine": machine(),
        "units": asdict(units),
        "plan": asdict(whole),
        "core_hours": whole.seconds(units) / 3600,
        "check": {"plan": asdict(small), "planned_s": small.seconds(units), "took_s": took},
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(describe(record["machine"]))
    print(json.dumps({key: value for key, value in record.items() if key != "machine"}, indent=1))


if __name__ == "__main__":
    main()
