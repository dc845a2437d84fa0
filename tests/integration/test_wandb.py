"""An offline run for both dashboards, read back from their files: keys, config, pictures, tables, best values."""

import json
import sys

import pytest
from helpers.event_file import scalars
from helpers.wandb_file import records
from hydra.core.global_hydra import GlobalHydra

from geoalign.cli import train

SMALL = [
    "backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]", "refiner.width=32", "refiner.hidden=32",
    "callbacks.progress=null", "data.images={trn: 4, val: 2, test: 3}", "data.pairs={trn: 12, val: 2, test: 6}",
    "data.categories=[cat,cow]", "data.sampler.size=3", "data.sampler.batches=2", "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1", "baseline=false", "logger=wandb_tensorboard", "callbacks=dashboard", "name=dash",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_CACHE_DIR", str(root / "cache"))
        patch.setenv("WANDB_DATA_DIR", str(root / "staging"))
        patch.setattr(sys, "argv", ["geoalign", f"paths.root={root}", *SMALL, "hydra.run.dir=${paths.runs}/one"])
        GlobalHydra.instance().clear()
        train.main()
    return root / "runs" / "one"


@pytest.fixture(scope="module")
def read(folder):
    """Everything in the run file by kind: history, config, summary (latest values by key), artifact records."""
    found = {"history": [], "config": {}, "summary": {}, "artifacts": [], "run": None}
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    for record in records(path):
        kind = record.WhichOneof("record_type")
        name = lambda item: item.key or "/".join(item.nested_key)  # noqa: E731
        if kind == "history":
            found["history"].append({name(i): json.loads(i.value_json) for i in record.history.item})
        elif kind == "config":
            found["config"].update({name(i): json.loads(i.value_json) for i in record.config.update})
        elif kind == "run":
            found["run"] = record.run
            found["config"].update({name(i): json.loads(i.value_json) for i in record.run.config.update})
        elif kind == "summary":
            found["summary"].update({name(i): json.loads(i.value_json) for i in record.summary.update})
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found["artifacts"].append(record.request.log_artifact.artifact)
    return found


def test_numbers_are_logged_under_their_names(read):
    keys = set().union(*read["history"])
    for key in (
        "train/loss/total", "train/loss/sparse", "train/lr", "train/rows_per_s", "val/synthetic/pck@0.10/image",
        "val/synthetic/geometry_aware/pck@0.05/keypoint", "val/synthetic/aligned/pck@0.10/image",
        "val/synthetic/pose/chosen_flip",
    ):  # fmt: skip
        assert key in keys, sorted(keys)
    assert all(row["train/rows_per_s"] > 0 for row in read["history"] if "train/rows_per_s" in row)


def test_history_and_summary_are_what_people_look_at(read):
    keys = {key for row in read["history"] for key in row if "/media/" not in key and not key.startswith("_")}
    assert not [key for key in keys if "/azimuth_" in key or "count/" in key or "macro" in key]
    assert len(keys) <= 40, sorted(keys)
    shown = {key for key in read["summary"] if not key.startswith("_")}  # _runtime and the like are wandb's own
    assert 10 <= len(shown) <= 40, sorted(shown)
    assert all(key.startswith(("best/", "refined/", "zero-shot/")) for key in shown), sorted(shown)


def test_the_run_is_called_by_its_settings(read):
    run = read["run"]
    assert run.display_name.startswith("dash ")
    assert "width=32" in run.display_name
    assert run.job_type == "train"
    assert run.run_group == run.display_name, "no seed among the settings, no sweep"
    assert read["config"]["set"]["refiner.width"] == "32"


def test_tensorboard_has_numbers_and_pictures(folder):
    found = scalars((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert [step for step, _ in found["train/loss/total"]] == [0, 1, 2, 3]
    assert len(found["val/synthetic/pck_0.10/image"]) == 2
    assert len(found["val/synthetic/media/matches"]) == 2
    assert "refined/test/synthetic/pck_0.10/keypoint" in found
    assert not [key for key in found if "/azimuth_" in key]


def test_pictures_and_tables_are_there(read, folder):
    for kind in ("matches", "features", "by_azimuth"):
        shown = [row for row in read["history"] if f"val/synthetic/media/{kind}/filenames" in row]
        assert len(shown) == 2, f"{kind}: one per validation"
        for row in shown:
            (file,) = row[f"val/synthetic/media/{kind}/filenames"]
            (path,) = (folder / "wandb").glob(f"offline-run-*/files/{file}")
            assert path.read_bytes()[:4] == b"\x89PNG"
    key = "val/synthetic/media/by_category/path"
    paths = [row[key] for row in read["history"] if key in row]
    assert paths, sorted(set().union(*read["history"]))
    (path,) = (folder / "wandb").glob(f"offline-run-*/files/{paths[-1]}")
    table = json.loads(path.read_text())
    assert table["columns"][:2] == ["category", "pairs"]
    assert [row[0] for row in table["data"]] == ["cat", "cow"]


def test_config_code_and_data_are_there(read):
    config = read["config"]
    assert config["refiner"]["width"] == 32
    assert config["code_version"]["package"]
    assert len(config["dataset_fingerprint"]["synthetic"]) > 8


def test_best_values_and_results_are_in_the_summary(read):
    history = [row["val/synthetic/pck@0.10/image"] for row in read["history"] if "val/synthetic/pck@0.10/image" in row]
    assert read["summary"]["best/val/synthetic/pck@0.10/image"] == pytest.approx(max(history), abs=1e-6)
    assert "refined/test/synthetic/pck@0.10/keypoint" in read["summary"]


def test_checkpoint_and_results_are_artifacts(read):
    files = {a.type: [e.path for e in a.manifest.contents] for a in read["artifacts"]}
    assert files["model"] == ["best.ckpt"]
    assert "refined/summary.json" in files["results"]
