"""The analyses on small runs and folders: what the csv says, what is left out, what bad input gets."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import TinyBackbone
from PIL import Image
from report_runs import make_rows, write_run

from geoalign.data.readers.spair import SPair71k
from geoalign.geometry import letterbox_points
from geoalign.metrics.anatomy import VERDICTS
from geoalign.report.analyse.__main__ import main
from geoalign.report.analyse.azimuth import Bins


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def known_azimuths(**options):
    """Errors that grow with the azimuth difference, for cats only."""
    table = make_rows(**options)
    pair = table["pair_id"].factorize()[0]
    table["azimuth_difference"] = np.where(table["category"] == "cat", pair // 2 % 5, -1)
    shift = np.where(table["category"] == "cat", 15.0 * table["azimuth_difference"], 0)
    return table.assign(x_px=table["true_x_px"] + shift, y_px=table["true_y_px"])


def test_the_gap_is_standard_less_geometry_aware(tmp_path, capsys):
    table = make_rows()
    hard = table["geometry_aware"] & (table["category"] == "cat")
    table = table.assign(x_px=table["true_x_px"] + np.where(hard, 900, 0), y_px=table["true_y_px"])
    table.loc[table["category"] == "bus", "geometry_aware"] = False
    run = write_run(tmp_path / "run", "mine", {"plain": table})
    assert main(["geometry-gap", str(run), "--out", str(tmp_path)]) == 0
    rows = {row["category"]: row for row in read(tmp_path / "geometry-gap.csv")}
    assert [float(rows["cat"][k]) for k in ("standard", "geometry_aware", "gap")] == [50, 0, 50]
    assert (rows["bus"]["standard"], rows["bus"]["geometry_aware"], rows["bus"]["gap"]) == ("100.0", "", "")
    assert rows["cat"]["geometry_aware_keypoints"] == "45"
    assert "—" in capsys.readouterr().out
    assert (tmp_path / "geometry-gap.png").stat().st_size > 5000


def test_sensitivity_is_spread_over_the_bins_that_occur(tmp_path, capsys):
    run = write_run(tmp_path / "run", "mine", {"plain": known_azimuths()})
    assert main(["azimuth", str(run), "--alpha", "0.05", "--out", str(tmp_path)]) == 0
    rows = {(row["category"], row["set"]): row for row in read(tmp_path / "azimuth.csv")}
    assert [float(rows["cat", "standard"][f"pck_{d}"]) for d in (0, 45, 90, 135, 180)] == [100, 100, 0, 0, 0]
    assert float(rows["cat", "geometry_aware"]["sensitivity"]) == 1
    assert {rows["bus", "standard"][f"pck_{d}"] for d in (0, 45, 90, 135, 180)} == {""}, "never zero, never NaN"
    assert rows["bus", "standard"]["sensitivity"] == ""
    assert sum(int(rows["cat", "standard"][f"keypoints_{d}"]) for d in (0, 45, 90, 135, 180)) == 90
    assert "nan" not in capsys.readouterr().out.lower()
    assert (tmp_path / "azimuth.png").stat().st_size > 5000
    assert Bins("cat", "standard", [None, 80.0, 60.0, None, None], [0] * 5).sensitivity == pytest.approx(0.25)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    return SPair71k(root)


def predictions(source, guess):
    """A table whose predictions are ``guess(true, other)``: the truth and a related keypoint of the target."""
    rows = []
    for pair in source:
        true = letterbox_points(pair.trg.xy_px, pair.trg.size)
        partner = source.symmetries[pair.category].permutation(source.slots)
        size = 300.0
        for slot in np.flatnonzero(pair.visible):
            x, y = guess(true[slot], true[partner[slot]], size)
            rows.append([pair.pair_id, pair.category, slot, x, y, *true[slot], size])
    names = ["pair_id", "category", "slot", "x_px", "y_px", "true_x_px", "true_y_px", "size_px"]
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[3:], "float64"))
    return table.assign(
        geometry_aware=table["slot"] % 2 == 0, mirror=False, azimuth_difference=-1, score=0.5, pose="upright"
    )


def write_with_config(tmp_path, source, table):
    folder = write_run(
        tmp_path / "run" / "results" / "refined", "mine", {"plain": table}, fingerprint=source.fingerprint()
    )
    data = {"spair71k": {"_target_": "geoalign.data.SPair71k", "root": str(source.root)}}
    config = {
        "seed": 0,
        "data": {"_target_": "geoalign.data.datamodule.PairDataModule", "test": data, "seed": "${seed}"},
    }
    (tmp_path / "run" / "config").mkdir()
    (tmp_path / "run" / "config" / "config.yaml").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("expected", "guess"),
    [
        ("correct", lambda true, other, size: true + 0.05 * size),
        ("near", lambda true, other, size: true + np.array([0.0, 0.15 * size])),
        ("elsewhere", lambda true, other, size: true + 3 * size),
    ],
)
def test_errors_tell_what_kind_they_are(tmp_path, tree, expected, guess, monkeypatch):
    monkeypatch.setattr("geoalign.report.verdicts.related_slots", lambda *_: np.zeros((30, 30), bool))
    write_with_config(tmp_path, tree, predictions(tree, guess))
    assert main(["errors", str(tmp_path / "run"), "--out", str(tmp_path)]) == 0
    for row in read(tmp_path / "errors.csv"):
        assert [float(row[v]) for v in VERDICTS] == [100.0 * (v == expected) for v in VERDICTS]
    assert (tmp_path / "errors.png").stat().st_size > 5000


def test_a_mirror_partner_counts_as_swapped(tmp_path, tree):
    table = predictions(tree, lambda true, other, size: other)
    write_with_config(tmp_path, tree, table.assign(size_px=20.0))
    assert main(["errors", str(tmp_path / "run"), "--out", str(tmp_path)]) == 0
    rows = [row for row in read(tmp_path / "errors.csv") if row["category"] == "all" and row["set"] == "all"]
    offset = table[["x_px", "y_px"]].to_numpy() - table[["true_x_px", "true_y_px"]].to_numpy()
    moved = (np.hypot(*offset.T) > 2).mean()
    assert float(rows[0]["swapped"]) == pytest.approx(100 * moved, abs=1e-6)
    assert moved > 0.3


POSES = {"left": 0, "front": 1, "right": 2, "back": 3}


def write_labelled(folder, names=("ann", "bob"), poses=POSES):
    """Pictures that are bright on another side for every pose, with a little noise of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name in names:
        for pose, turns in poses.items():
            picture = np.tile(np.linspace(0, 255, 64)[None, :, None], (64, 1, 3))
            noisy = np.rot90(picture, turns) + generator.normal(0, 6, (64, 64, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{name}_{pose}.png")
    return folder


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("geoalign.report.analyse.__main__.make_backbone", lambda name, overrides: TinyBackbone())


def test_poses_are_predicted_by_the_other_groups(tmp_path, tiny, capsys):
    folder = write_labelled(tmp_path / "templates")
    assert main(["pose-prediction", str(folder), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "8 images, each predicted by the templates of the other groups" in printed
    assert "SD+DINO (published) |       98.6" in printed
    rows = read(tmp_path / "pose-prediction.csv")
    assert len(rows) == 16
    masked = [row for row in rows if row["distance"] == "mutual"]
    for row in masked:
        least = min(POSES, key=lambda pose: float(row[f"imd_{pose}"]))
        assert row["predicted"] == least
    assert (tmp_path / "pose-prediction.png").stat().st_size > 5000


def test_labelled_images_in_folders_by_pose_are_predicted_by_all_templates(tmp_path, tiny, capsys):
    templates = write_labelled(tmp_path / "templates")
    for pose in ("left", "back"):
        (tmp_path / "images" / pose).mkdir(parents=True)
        source = Image.open(templates / f"ann_{pose}.png")
        source.save(tmp_path / "images" / pose / "cid.png")
    arguments = ["pose-prediction", str(templates), "--images", str(tmp_path / "images"), "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "2 images, predicted by all templates" in capsys.readouterr().out
    rows = [row for row in read(tmp_path / "pose-prediction.csv") if row["distance"] == "mutual"]
    assert [row["predicted"] for row in rows] == [row["pose"] for row in rows], "the image itself is a template"


def test_bad_input_is_one_line(tmp_path, tree, tiny, capsys):
    no_azimuth = write_run(tmp_path / "unknown", "unknown")
    nothing_aware = write_run(tmp_path / "none", "none", {"plain": make_rows().assign(geometry_aware=False)})
    up = write_labelled(tmp_path / "up", poses={**POSES, "up": 0})
    one = write_labelled(tmp_path / "one", names=("ann",))
    lacking = write_labelled(tmp_path / "lacking", poses={"left": 0, "right": 2, "front": 1})
    (tmp_path / "empty").mkdir()
    cases = [
        (["azimuth", no_azimuth], "no pair has a known azimuth"),
        (["geometry-gap", nothing_aware], "no keypoint is geometry-aware"),
        (["geometry-gap", tmp_path / "nowhere"], "no folder"),
        (["geometry-gap", no_azimuth, "--alpha", "0.2"], "not at 0.2; set --alpha"),
        (["geometry-gap", no_azimuth, "--dataset", "tss"], "no evaluation of tss"),
        (["geometry-gap", tmp_path / "empty"], "no evaluation of any dataset"),
        (["errors", no_azimuth], "no config/config.yaml above"),
        (["pose-prediction", tmp_path / "nowhere"], "a folder of images"),
        (["pose-prediction", tmp_path / "empty"], "files that end in .png"),
        (["pose-prediction", up], "one of left, right, front, back, got up"),
        (["pose-prediction", lacking], "none of back"),
        (["pose-prediction", one], "give two groups, or --images"),
    ]
    for arguments, said in cases:
        assert main([str(a) for a in [*arguments, "--out", tmp_path / "out"]]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert said in lines[0], lines
    assert not (tmp_path / "out").exists()


def test_data_that_changed_since_are_refused(tmp_path, tree, capsys):
    table = predictions(tree, lambda true, other, size: true)
    folder = write_with_config(tmp_path, tree, table)
    write_run(folder, "mine", {"plain": table}, fingerprint="other")
    assert main(["errors", str(folder), "--out", str(tmp_path)]) == 2
    assert "changed since" in capsys.readouterr().err


def test_the_nearest_template_of_each_pose_counts():
    from geoalign.report.analyse.poses import least_by_pose

    distance = torch.tensor([[1.0, 2.0, 3.0, 0.5, 0.25]])
    assert least_by_pose(distance, torch.tensor([0, 1, 2, 3, 0])).tolist() == [[0.25, 2.0, 3.0, 0.5]]
