"""Small runs on disk for the report's tests."""

from pathlib import Path

import numpy as np
import pandas as pd

from geoalign.results.predictions import predictions_path, write_predictions
from geoalign.results.summary import evaluate_table, make_summary, write_summary

PROTOCOL = {
    "image_protocol": "letterbox-centre",
    "frame_px": 840,
    "threshold": "box",
    "comparison": "<",
    "matcher": {},
    "pose": {},
}


def make_rows(noise_px: float = 40.0, pairs: int = 30, slots: int = 6, seed: int = 0) -> pd.DataFrame:
    """Predictions off by ``noise_px``; the truths depend on nothing but the sizes."""
    generator = np.random.default_rng(0)
    rows = pairs * slots
    truth = generator.random((rows, 2)) * 840
    guess = truth + np.random.default_rng(seed).normal(size=(rows, 2)) * noise_px
    return pd.DataFrame(
        {
            "pair_id": np.repeat([f"pair{i:03d}" for i in range(pairs)], slots),
            "category": np.repeat([("cat", "bus")[i % 2] for i in range(pairs)], slots),
            "slot": np.tile(np.arange(slots), pairs),
            "x_px": guess[:, 0],
            "y_px": guess[:, 1],
            "true_x_px": truth[:, 0],
            "true_y_px": truth[:, 1],
            "size_px": 500.0,
            "geometry_aware": np.arange(rows) % 2 == 0,
            "mirror": False,
            "azimuth_difference": -1,
            "score": 0.5,
            "pose": "upright",
        }
    )


def write_run(
    folder: Path,
    name: str,
    methods: dict[str, pd.DataFrame] | None = None,
    dataset: str = "spair71k",
    published=None,
    fingerprint: str = "f00d",
    split: str = "test",
    **protocol,
) -> Path:
    evaluations = []
    for method, table in (methods or {"plain": make_rows()}).items():
        write_predictions(predictions_path(folder, dataset, method), table, list(table["pair_id"].unique()))
        evaluations.append(
            evaluate_table(
                table,
                stage="test",
                dataset=dataset,
                split=split,
                dataset_fingerprint=fingerprint,
                method=method,
                protocol={**PROTOCOL, **protocol},
                alphas=(0.1, 0.05),
                samples=40,
            )
        )
    write_summary(folder, make_summary(name, {}, evaluations, published))
    return folder
