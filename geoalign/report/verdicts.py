"""What kind of error every prediction of a table is, judged with all true points of its target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Shaped

from geoalign.data.records import PairRecord, PairSource, related_slots
from geoalign.geometry import letterbox_points
from geoalign.metrics.anatomy import VERDICTS, verdict

if TYPE_CHECKING:
    import pandas as pd


def verdicts(table: pd.DataFrame, source: PairSource, alpha: float = 0.1) -> Shaped[np.ndarray, "k"]:
    """Name of the verdict on every row of a predictions table at the threshold ``alpha``."""
    pairs = {pair.pair_id: pair for pair in source}
    names = np.empty(len(table), dtype=object)
    for category, own in table.groupby(table["pair_id"].map(lambda name: _pair(pairs, name).trg.category)):
        related = torch.from_numpy(related_slots(source, str(category)))
        ids, first = own["pair_id"].factorize()
        targets = [_pair(pairs, name).trg for name in first]
        framed = [letterbox_points(t.xy_px, t.size, framing=t.framing) for t in targets]
        true = torch.from_numpy(np.stack(framed)).float()
        seen = torch.from_numpy(np.stack([t.visible for t in targets]))
        row, slot = torch.from_numpy(ids), torch.from_numpy(own["slot"].to_numpy(copy=True))
        predicted = true.clone()
        predicted[row, slot] = torch.from_numpy(own[["x_px", "y_px"]].to_numpy(copy=True)).float()
        size = torch.from_numpy(own.drop_duplicates("pair_id")["size_px"].to_numpy(copy=True)).float()
        code = verdict(predicted, true, seen, related.expand(len(true), -1, -1), size, alpha)[row, slot]
        names[table.index.get_indexer(own.index)] = np.array(VERDICTS)[code.numpy()]
    return names


def _pair(pairs: dict[str, PairRecord], name: str) -> PairRecord:
    """A pair by its id; one drawn again carries a number."""
    return pairs[name] if name in pairs else pairs[name.rpartition("#")[0]]
