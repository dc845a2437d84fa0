"""Refiners in the hub's way: what is saved comes back strictly, with a card that says how it scores."""

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from geoalign import publish
from geoalign.refiner import Aggregation
from geoalign.refiner.base import CheckpointError
from geoalign.refiner.checkpoint import read_weights


def refiner(**options):
    torch.manual_seed(0)
    return Aggregation(**{"channels": (6, 10), "grid": 5, "width": 128, "dropout": 0.1} | options)


def summary(**changes):
    """A run's summary in short: one dataset, plain and aligned."""
    protocol = {"image_protocol": "letterbox-centre", "frame_px": 840, "threshold": "box", "comparison": "<"}
    evaluations = [
        {
            "stage": "test", "dataset": "spair71k", "split": "test", "method": method, "alphas": [0.1, 0.01],
            "dataset_fingerprint": "f", "categories": ["cat"], "intervals": {}, "bootstrap": {"samples": 0},
            "counts": {"pairs": 12234, "keypoints": 1, "geometry_aware": 0},
            "protocol": {**protocol, "matcher": {"readout": "window", "radius": 7}, "pose": {"poses": ["upright"]}},
            "metrics": {f"test/spair71k/{key}pck@{a}/{u}": v for u, v in (("image", 0.829), ("keypoint", 0.857))
                        for a in ("0.10", "0.01")},
        }
        for method, key in (("plain", ""), ("aligned", "aligned/"))
    ]  # fmt: skip
    version = {"package": "0.1.0", "commit": "c0ffee" * 6, "dirty": False}
    whole = {"format_version": 2, "name": "run", "published": None, "code_version": version, "config_hash": "abc123"}
    return whole | {"evaluations": evaluations} | changes


@pytest.fixture
def run(tmp_path):
    """A run's folder as far as a card reads it."""
    folder = tmp_path / "run"
    (folder / "results/refined").mkdir(parents=True)
    (folder / "config").mkdir()
    (folder / "checkpoints").mkdir()
    (folder / "results/refined/summary.json").write_text(json.dumps(summary()))
    (folder / "config/config.yaml").write_text("backbone:\n  _target_: geoalign.backbone.Fusion\n  grid: 60\n")
    state = {f"refiner.{k}": v for k, v in refiner().state_dict().items()}
    torch.save({"state_dict": state, "refiner": refiner().recipe()}, folder / "checkpoints/best.ckpt")
    return folder


def test_saved_and_loaded_is_the_same_refiner(tmp_path):
    own = refiner(width=64, hidden=32, dropout_at="native").eval()
    publish.save(own, tmp_path / "saved")
    loaded = publish.load(tmp_path / "saved")
    assert isinstance(loaded, Aggregation)
    assert not loaded.training
    assert (loaded.channels, loaded.grid, loaded.width, loaded.dropout_at) == ((6, 10), 5, 64, "native")
    maps = (torch.randn(2, 6, 7, 7), torch.randn(2, 10, 3, 3))
    assert torch.equal(loaded(maps), own(maps))
    assert json.loads((tmp_path / "saved/config.json").read_text())["hidden"] == 32
    assert loaded.config() == own.config()


def test_sizes_left_open_are_saved_spelt_out(tmp_path):
    own = refiner()
    publish.save(own, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "_target_": "geoalign.refiner.aggregation.Aggregation",
        "channels": [6, 10], "grid": 5, "width": 128, "hidden": 32, "dropout": 0.1, "dropout_at": "grid",
        "centre": False,
    }  # fmt: skip


def test_a_run_or_a_weights_file_is_enough(run, tmp_path):
    assert publish.load(run).grid == 5
    assert publish.load(run / "checkpoints/best.ckpt", grid=9).grid == 9


def test_the_card_states_backbone_protocol_and_scores(run, tmp_path):
    publish.save(refiner(), tmp_path / "out", run=run)
    card = ModelCard.load(tmp_path / "out/README.md")
    assert "_target_: geoalign.backbone.Fusion" in card.text
    assert "| spair71k (test) | aligned | 12,234 | 82.9 | 82.9 | 85.7 | 85.7 |" in card.text
    assert "letterbox-centre frames of 840 px; correct when the error < alpha" in card.text
    assert "readout window, radius 7" in card.text
    assert "2, of 6, 10 channels" in card.text
    assert card.data.library_name == "geoalign"
    values = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert values["pck@0.10/image"] == 82.9
    assert yaml.safe_load(card.content.split("---")[1])["pipeline_tag"] == "keypoint-detection"


def test_a_card_without_a_run_says_what_it_does_not_know(tmp_path):
    publish.save(refiner(), tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "Not measured." in text
    assert "Not recorded" in text
    publish.save(refiner(), tmp_path, backbone="Stable Diffusion 1.5 and DINOv2-B as released")
    assert "as released" in (tmp_path / "README.md").read_text()


def test_a_card_cannot_state_another_refiners_scores(run, tmp_path):
    torch.manual_seed(1)
    other = Aggregation((6, 10), grid=5, width=128)
    with pytest.raises(CheckpointError, match="not the one that"):
        publish.save(other, tmp_path / "out", run=run)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", json.dumps(summary(code_version={}))])
def test_an_unreadable_summary_is_named(run, tmp_path, text):
    path = run / "results/refined/summary.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"summary\.json"):
        publish.save(refiner(), tmp_path / "out", run=run)
    path.unlink()
    with pytest.raises(CheckpointError, match="give the folder of a run that was tested"):
        publish.save(refiner(), tmp_path / "out", run=run)


def test_pushing_uploads_what_saving_writes(run, monkeypatch):
    seen = {}

    class Hub:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            return type("Made", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **options):
            seen.update({p.name: p.read_bytes() for p in Path(folder_path).iterdir()})
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("geoalign.publish.hub.HfApi", Hub)
    assert publish.push(refiner(), "someone/refiner", run=run) == "https://hub/someone/refiner"
    assert set(seen) == {"config.json", "model.safetensors", "README.md"}
    assert b"82.9" in seen["README.md"]
    assert json.loads(seen["config.json"])["hidden"] == 32


def damaged(folder, kind):
    """A saved folder with something wrong, and what must be said of it."""
    config = json.loads((folder / "config.json").read_text())
    match kind:
        case "weights":
            (folder / "model.safetensors").unlink()
            return "without checkpoints"
        case "json":
            (folder / "config.json").write_text("{")
            return "expected valid JSON"
        case "list":
            (folder / "config.json").write_text("[]")
            return "says list of its refiner"
        case "width":
            (folder / "config.json").write_text(json.dumps(config | {"width": 96}))
            return "the refiner wants"
        case "huge":  # refused by its shape, before a byte of it is allocated
            (folder / "config.json").write_text(json.dumps(config | {"width": 2**20, "hidden": 2**20}))
            return "the refiner wants"
        case "shape":
            (folder / "config.json").write_text(json.dumps(config | {"width": 130}))
            return "multiples of 32"
        case "type":
            (folder / "config.json").write_text(json.dumps(config | {"width": "wide"}))
            return "expected a whole number"
        case "option":
            (folder / "config.json").write_text(json.dumps(config | {"depth": 3}))
            return "depth is no option of Aggregation"
    (folder / "config.json").write_text(json.dumps(config | {"_target_": "shutil.rmtree"}))
    return "'shutil.rmtree', which is not called"


@pytest.mark.parametrize("kind", ["weights", "json", "list", "width", "huge", "shape", "type", "option", "foreign"])
def test_a_damaged_folder_is_refused(tmp_path, kind):
    publish.save(refiner(), tmp_path)
    fault = damaged(tmp_path, kind)
    with pytest.raises(ValueError, match=fault):
        publish.load(tmp_path)


def test_the_weights_file_of_a_folder_is_enough(run, tmp_path):
    publish.save(refiner(), tmp_path / "out", run=run)
    moved = (tmp_path / "out/model.safetensors").rename(tmp_path / "alone.safetensors")
    assert publish.load(moved).config() == refiner().config()
    assert read_weights(moved).recipe["backbone"] == {"_target_": "geoalign.backbone.Fusion", "grid": 60}


def test_offline_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"no refiner at someone/absent: .*or a hub id that can be reached"):
        publish.load("someone/absent")


def test_the_hub_is_not_imported_before_it_is_needed():
    code = (
        "import sys, geoalign, geoalign.refiner, geoalign.refiner.checkpoint; print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
