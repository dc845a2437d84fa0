"""Cut the compact golden set from the full one: ``python tests/golden/make_compact.py``, from the project's root.

Nothing is computed anew and nothing is rounded: every number stands so in the full set (../shared/golden), and the
answers kept are those that need only the inputs kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.golden import COMPACT, SHARED, to_planes

GRADIENT_CELLS = 64


def cut_arrays(full: Path) -> dict[str, np.ndarray]:
    """All arrays by ``file/entry``."""
    files = {name: load_file(full / f"{name}.safetensors") for name in ("matching", "pose_distance", "refiner")}
    losses = {name: load_file(full / f"{name}.safetensors") for name in ("losses_cat", "losses_bus")}
    flipped = losses["losses_cat"]["source_flipped"]
    # all files hold the same maps; of the mirrored source only the keypoints' cells are kept, those with a gradient
    read = sum(np.abs(data["total_window_0_grad_source_flipped"]) for data in losses.values()).sum(1)
    rows = np.flatnonzero(read)
    kept = {f"maps/{name}": files["matching"][name] for name in ("source", "target")}
    kept |= {"maps/source_flipped": flipped[rows], "maps/source_flipped_rows": rows}
    kept |= {f"matching/{k}": v for k, v in files["matching"].items() if len(v) == 15}
    kept |= {f"refiner/{k}": v[:1] if k in ("input", "output") else v for k, v in files["refiner"].items()}
    for name in ("masked_distance", "mutual_nn_distance"):
        kept[f"pose_distance/{name}"] = files["pose_distance"][name]
    for name in ("mask_source", "mask_target"):
        kept[f"pose_distance/{name}"] = files["pose_distance"][name].astype(bool)
    for name, data in losses.items():
        kept |= {f"{name}/{key}": value for key, value in cut_losses(data).items()}
    return kept


def cut_losses(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Losses of the plain rows, and gradients of all rows by the source and the target, which the maps kept give."""
    names = ("source_keypoints", "target_keypoints", "flip_permutation", "logit_scale")
    names += ("sparse", "sparse_plus_dense_window_0", "sparse_plus_dense_window_7")
    kept = {name: data[name] for name in names}
    gradients = {f"total_window_0_grad_{view}": data[f"total_window_0_grad_{view}"] for view in ("source", "target")}
    size = np.sum([np.linalg.norm(g, axis=1) for g in gradients.values()], axis=0)
    largest = np.argsort(-size)[: GRADIENT_CELLS // 2]
    cells = np.union1d(largest, np.linspace(0, 3599, GRADIENT_CELLS // 2).astype(int))
    return kept | {"gradient_cells": cells} | {name: value[cells] for name, value in gradients.items()}


def cut_scores(full: Path, spair: Path) -> dict[str, Any]:
    """Predictions at the slots that count, and what scoring reads of the images' annotations."""
    golden = json.loads((full / "pck_spair.json").read_text())
    images: dict[str, Any] = {}
    for entry in golden["predictions"]:
        stem, category = entry["pair"].split(":")
        names = [f"{category}/{name}" for name in stem.split("-")[1:]]
        for name in names:
            if name not in images:
                data = json.loads((spair / f"ImageAnnotation/{name}.json").read_text())
                images[name] = {k: data[k] for k in ("image_width", "image_height", "bndbox", "azimuth_id")}
                images[name]["kps"] = {slot: xy for slot, xy in data["kps"].items() if xy}
        shared = images[names[0]]["kps"].keys() & images[names[1]]["kps"].keys()
        entry["prediction"] = {slot: entry["prediction"][int(slot)] for slot in sorted(shared, key=int)}
    return golden | {"images": images}


def main() -> None:
    """Write the set."""
    COMPACT.mkdir(exist_ok=True)
    arrays = cut_arrays(SHARED / "golden")
    planes = {f"{k}:planes" if v.dtype == np.float32 else k: v for k, v in arrays.items()}
    np.savez_compressed(
        COMPACT / "released.npz", **{k: to_planes(v) if k.endswith(":planes") else v for k, v in planes.items()}
    )
    scores = cut_scores(SHARED / "golden", SHARED / "data" / "spair-mini")
    (COMPACT / "pck_spair.json").write_text(json.dumps(scores, separators=(",", ":")) + "\n")
    (COMPACT / "keypoints.json").write_text((SHARED / "golden" / "keypoints.json").read_text())
    print(sum(path.stat().st_size for path in COMPACT.iterdir()), "bytes")


if __name__ == "__main__":
    main()
