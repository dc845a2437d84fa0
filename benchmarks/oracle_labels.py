"""True keypoints on the very sets that pseudo-labels join: what wrong matches lose, apart from which photographs meet.

``python -m benchmarks.oracle_labels data/pseudo/livestock-pseudo.parquet data/livestock OUT``; a training on OUT is an
oracle and no method.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geoalign.data.readers.livestock import Livestock
from geoalign.data.readers.pseudo import PseudoFile, read_pseudo, write_pseudo
from geoalign.data.records import ImageRecord
from geoalign.symmetry import Symmetry


def true_points(file: PseudoFile, records: Mapping[str, ImageRecord], symmetries: Mapping[str, Symmetry]) -> PseudoFile:
    """The file's sets and mirrored photographs with every keypoint that a photograph shows as its points."""
    rows = []
    for number, image, mirrored in file.table[["set", "image", "mirrored"]].drop_duplicates().itertuples(index=False):
        record = records[str(image)]
        slots = np.arange(len(record.visible))
        # a mirror image shows the right paw where the photograph shows the left one
        at = symmetries[record.category].permutation(len(slots)) if mirrored else slots
        shown = slots[record.visible[at]]
        x, y = record.xy_px[at[shown]].T
        facts = {"set": number, "image": image, "mirrored": mirrored, "weight": 1.0}
        rows.append(pd.DataFrame({**facts, "point": shown, "x": x, "y": y}))
    table = pd.concat(rows).astype({"x": "float32", "y": "float32", "weight": "float32"})
    return file._replace(table=table, protocol={**file.protocol, "points": "true keypoints: an oracle"})


def main(words: Sequence[str]) -> int:
    """Write the oracle's file beside the one it is made from."""
    labels, root, out = map(Path, words)
    source = Livestock(root, "trn")
    made = true_points(read_pseudo(labels), {one.image_id: one for one in source.images}, source.symmetries)
    write_pseudo(out, made)
    print(f"{out}: {made.table['set'].nunique()} sets, {len(made.table)} points")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
