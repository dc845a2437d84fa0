"""Figures of a run, drawn from its result files and its log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from geoalign.data.images import open_rgb
from geoalign.data.records import ImageRecord, PairRecord, PairSource, related_slots
from geoalign.draw.curves import Curve, save_curves
from geoalign.draw.matches import Panel, save_panels
from geoalign.geometry import FRAME_PX, letterbox, letterbox_points
from geoalign.metrics.anatomy import VERDICTS, verdict
from geoalign.results.predictions import predictions_path, read_predictions

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 6
SIDE = 360
FEW = 5
"""Pairs with fewer keypoints are drawn only where there are no others."""


def match_panels(folder: Path, dataset: str, source: PairSource, pairs: int = SHOWN) -> Path | None:
    """Fixed test pairs under every result of the run: before training left, after right."""
    tables = {}
    for name, method in (("zero-shot", "plain"), ("refined", "plain"), ("refined", "aligned")):
        path = predictions_path(folder / "results" / name, dataset, method)
        if path.is_file():
            tables[name + (" + pose alignment" if method == "aligned" else "")] = read_predictions(path).table
    if not tables:
        return None
    chosen = choose(source, next(iter(tables.values())), pairs)
    columns = {name: [panel(pair, source, table) for pair in chosen] for name, table in tables.items()}
    out = folder / "figures" / f"matches-{dataset}.png"
    save_panels(columns, out)
    return out


def choose(source: PairSource, table: pd.DataFrame, pairs: int) -> list[PairRecord]:
    """Pairs spread over categories, drawn by their ids: the same for every run, and not the easy ones."""
    points = table.groupby("pair_id").size()
    records = [pair for pair in source if pair.pair_id in points.index]
    by_category: dict[str, list[PairRecord]] = {}
    for pair in sorted(records, key=lambda p: (points[p.pair_id] < FEW, _drawn(p.pair_id))):
        by_category.setdefault(pair.category, []).append(pair)
    ranked = [(place, category, pair) for category, found in by_category.items() for place, pair in enumerate(found)]
    return [pair for _, _, pair in sorted(ranked, key=lambda r: r[:2])[:pairs]]


def _drawn(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def panel(pair: PairRecord, source: PairSource, table: pd.DataFrame) -> Panel:
    """One pair with its predictions; points scaled from the frame to the drawing."""
    rows = table[table["pair_id"] == pair.pair_id]
    slots = rows["slot"].to_numpy()
    scale = SIDE / FRAME_PX
    src_xy = letterbox_points(pair.src.xy_px, pair.src.size)[slots] * scale
    predicted, true = rows[["x_px", "y_px"]].to_numpy(), rows[["true_x_px", "true_y_px"]].to_numpy()
    verdicts = classify(predicted, slots, float(rows["size_px"].iloc[0]), pair, source)
    right = sum(v == "correct" for v in verdicts)
    title = (
        f"{pair.category} {pair.src.image_id.split('/')[-1]} → {pair.trg.image_id.split('/')[-1]}: {right}/{len(slots)}"
    )
    return Panel(_frame(pair.src), _frame(pair.trg), src_xy, predicted * scale, true * scale, verdicts, title)


def classify(
    predicted_px: np.ndarray, slots: np.ndarray, size_px: float, pair: PairRecord, source: PairSource
) -> Sequence[str]:
    """Verdict per prediction of one pair at alpha 0.10."""
    true = letterbox_points(pair.trg.xy_px, pair.trg.size)
    predicted = np.array(true)
    predicted[slots] = predicted_px
    found = verdict(
        torch.from_numpy(predicted)[None].float(),
        torch.from_numpy(true)[None].float(),
        torch.from_numpy(pair.trg.visible)[None],
        torch.from_numpy(related_slots(source, pair.trg.category))[None],
        torch.tensor([size_px]),
    )
    return [VERDICTS[i] for i in found[0, torch.tensor(slots.tolist())].tolist()]


def curves(folder: Path) -> Path | None:
    """Loss and PCK over training, from the csv log; None where there is none."""
    table = read_log(folder / "csv")
    if table is None:
        return None
    losses = {name.removeprefix("train/loss/"): _curve(table, name) for name in table if name.startswith("train/loss/")}
    keys = [k for k in table if k.startswith("val/") and k.endswith("/keypoint") and "pck@" in k and k.count("/") == 3]
    scores = {key.removeprefix("val/"): _curve(table, key, 100) for key in keys}
    out = folder / "figures" / "curves.png"
    save_curves({"training loss": losses, "validation PCK (%)": scores}, out)
    return out


def read_log(folder: Path) -> pd.DataFrame | None:
    """A run's csv log; None where there is none."""
    import pandas as pd

    log = folder / "metrics.csv"
    return pd.read_csv(log) if log.is_file() and log.stat().st_size else None


def _curve(table: pd.DataFrame, name: str, factor: float = 1.0) -> Curve:
    rows = table[["step", name]].dropna()
    return rows["step"].tolist(), (rows[name] * factor).tolist()


def _frame(record: ImageRecord) -> np.ndarray:
    return np.asarray(letterbox(open_rgb(record.path, record.size), SIDE))
