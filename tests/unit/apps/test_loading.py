"""What ``geoalign.load`` takes."""

import sys

import pytest
import torch
import yaml
from helpers.tiny import TinyBackbone

import geoalign
from geoalign import publish
from geoalign.apps.loading import load
from geoalign.backbone.lite import Lite
from geoalign.parts import PartError
from geoalign.refiner import Aggregation, Identity
from geoalign.refiner.checkpoint import convert

LITE = (40, 112, 192)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    refiner = Aggregation(LITE, grid=60, width=32, hidden=32)
    torch.save(refiner.state_dict(), tmp_path / "released.pth")
    return tmp_path / "released.pth", refiner


def test_a_name_is_zero_shot_where_no_refiner_is_wanted():
    matcher = geoalign.load("lite", refiner="none")
    assert isinstance(matcher.refiner, Identity)
    assert matcher.backbone.channels == LITE


def test_a_file_finds_its_backbone_by_its_channels(weights):
    path, refiner = weights
    matcher = load(path)
    assert isinstance(matcher.backbone, Lite)
    assert torch.equal(matcher.refiner.mixing_weights, refiner.mixing_weights)


def test_a_published_folder(weights, tmp_path):
    publish.save(weights[1], tmp_path / "shared")
    assert load(tmp_path / "shared").refiner.width == 32


@pytest.fixture
def run(tmp_path):
    """A run of lite on 30 cells, and its refiner."""
    refiner = Aggregation(LITE, grid=30, width=32, hidden=32)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    sizes = {"channels": None, "grid": None, "width": 32, "hidden": 32}
    write_config(
        folder,
        backbone={"_target_": "geoalign.backbone.lite.Lite", "blocks": [4, 10, 14], "image_size": 128, "grid": 30},
        refiner={"_target_": "geoalign.refiner.Aggregation", **sizes},
        matcher={"_target_": "geoalign.matching.Matcher", "readout": "argmax"},
    )
    state = {f"refiner.{k}": v for k, v in refiner.state_dict().items()}
    torch.save({"state_dict": state, "refiner": refiner.recipe()}, folder / "checkpoints" / "best.ckpt")
    return folder, refiner


def write_config(run, **changes):
    path = run / "config" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump((yaml.safe_load(path.read_text()) if path.is_file() else {}) | changes))


def test_a_runs_folder_brings_its_own_settings(run):
    folder, refiner = run
    for source in (folder, folder / "checkpoints" / "best.ckpt"):
        matcher = load(source)
        assert (matcher.grid, matcher.matcher.readout, matcher.backbone.image_sizes) == (30, "argmax", (128,))
        assert torch.equal(matcher.refiner.mixing_weights, refiner.mixing_weights)
    (folder / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(ValueError, match="did not finish"):
        load(folder)


def test_an_early_run_tells_no_grid_and_takes_its_backbones(run):
    folder, refiner = run
    state = {f"refiner.{k}": v for k, v in refiner.state_dict().items()}
    torch.save({"state_dict": state}, folder / "checkpoints" / "best.ckpt")
    assert load(folder).refiner.grid == 30
    with pytest.raises(ValueError, match="give it: grid="):
        publish.load(folder)
    assert publish.load(folder, grid=30).grid == 30


def test_a_run_of_frozen_features_needs_no_weights(run):
    folder, _ = run
    write_config(folder, refiner={"_target_": "geoalign.refiner.Identity", "channels": None, "grid": None})
    assert isinstance(load(folder).refiner, Identity)


def test_a_converted_run_says_everything_needed_to_run_it(run, tmp_path):
    """Grid, backbone and matching settings travel in the file; it gives what the run gives, away from the run."""
    folder, _ = run
    convert(folder, tmp_path / "mine.safetensors")
    mine, original = load(tmp_path / "mine.safetensors"), load(folder)
    image = torch.randint(0, 255, (90, 120, 3), dtype=torch.uint8).numpy()
    assert mine.matcher == original.matcher
    assert torch.equal(torch.as_tensor(mine.features(image)), torch.as_tensor(original.features(image)))


def test_a_file_of_the_release_takes_the_backbones_grid(run, tmp_path):
    convert(run[0], tmp_path / "mine.pth")
    assert load(tmp_path / "mine.pth").refiner.grid == 40


HOSTILE = {
    "torch.load": {"f": "evil.pt", "weights_only": False},
    "pandas.read_pickle": {"filepath_or_buffer": "evil.pkl"},
    "numpy.load": {"file": "evil.npy", "allow_pickle": True},
    "joblib.load": {"filename": "evil.joblib"},
    "shutil.copy": {"src": "secret", "dst": "here"},
    "antigravity.geohash": {},
    "os.system": {"command": "true"},
    "geoalign.files.sha256": {"path": "secret"},
    "geoalign.backbone.captioner.torch.load": {"f": "evil.pt"},
    "geoalign.backbone.captioner.convert": {"source": "a", "target": "b"},
    "geoalign.backbone.base.Backbone": {},
    "geoalign.refiner.checkpoint.convert": {"source": "a", "target": "b"},
    "geoalign.backbone..Lite": {},
    "Lite": {},
    7: {},
}


@pytest.mark.parametrize("place", ["backbone", "refiner", "matcher"])
@pytest.mark.parametrize("target", HOSTILE)
def test_a_run_names_parts_of_geoalign_only(run, monkeypatch, target, place):
    """Refused by its name, beside a checkpoint too; nothing is imported, let alone called."""
    folder, _ = run
    called = []
    monkeypatch.setattr(torch, "load", (lambda load: lambda *a, **k: called.append(k) or load(*a, **k))(torch.load))
    monkeypatch.setattr("shutil.copy", lambda *a, **k: called.append("copy"))
    write_config(folder, **{place: {"_target_": target, **HOSTILE[target]}})
    for source in (folder, folder / "checkpoints" / "best.ckpt"):
        with pytest.raises(PartError, match="geoalign's own parts only"):
            load(source)
    assert all(options.get("weights_only") is True for options in called)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"weights": {"_target_": "shutil.copy", "src": "a", "dst": "b"}}, "expected text"),
        ({"blocks": [{"_target_": "os.getpid"}]}, "expected"),
        ({"_partial_": True}, "_partial_ is no option of Lite"),
        ({"_args_": ["evil"]}, "_args_ is no option of Lite"),
        ({"_recursive_": False}, "_recursive_ is no option of Lite"),
        ({"weights": "${oc.env:HOME}"}, "references are not followed"),
        ({"weights": "${matcher.readout}"}, "references are not followed"),
        ({"weights": "a${oc.decode:x}"}, "references are not followed"),
        ({"weights": "${..blocks}"}, "references are not followed"),  # out of the part
        ({"weights": "${.weight}"}, "references are not followed"),
        ({"weights": "${.own}", "own": {"weights": "${..own}"}}, "references are not followed"),
        ({"grid": "40"}, "grid=40: expected a whole number"),
        ({"image_size": [128]}, "expected a whole number"),
        ({"depth": 3}, "depth is no option of Lite; it takes blocks"),
        ({"blocks": "all"}, "expected a list"),
        ({"grid": __import__("datetime").date(2020, 1, 1)}, "expected plain data, got a date"),
    ],
    ids=str,
)
def test_arguments_are_plain_and_the_constructors_own(run, changes, fault):
    folder, _ = run
    backbone = {"_target_": "geoalign.backbone.lite.Lite", "blocks": [4, 10, 14], "image_size": 128, "grid": 30}
    write_config(folder, backbone=backbone | changes)
    with pytest.raises(PartError, match=fault):
        load(folder)


def test_references_within_a_part_are_followed(run):
    folder, _ = run
    lite = {"_target_": "geoalign.backbone.lite.Lite", "blocks": [4, 10, 14], "image_size": "${...size}"}
    part = {"_target_": "geoalign.backbone.Fusion", "grid": 30, "backbones": {"one": lite | {"grid": "${...grid}"}}}
    write_config(folder, backbone={**part, "size": 128})
    with pytest.raises(PartError, match="size is no option of Fusion"):  # it was followed, and is still looked at
        load(folder)
    lite["image_size"] = 128
    write_config(folder, backbone={**part, "backbones": {"one": lite | {"grid": "${...grid}"}}})
    assert [one.grid for one in load(folder).backbone.parts] == [30]


def test_parts_inside_parts_are_of_geoalign_too(run):
    folder, _ = run
    lite = {"_target_": "geoalign.backbone.lite.Lite", "blocks": [4, 10, 14], "image_size": 128, "grid": 30}
    write_config(folder, backbone={"_target_": "geoalign.backbone.Fusion", "backbones": {"one": lite}})
    assert load(folder).backbone.channels == LITE
    for inner in ({"_target_": "torch.load", "f": "x"}, {"_target_": "geoalign.refiner.Identity", "channels": [3]}):
        for backbones in ([inner], {"one": lite, "two": inner}):
            write_config(folder, backbone={"_target_": "geoalign.backbone.Fusion", "backbones": backbones})
            with pytest.raises(PartError, match="geoalign's own parts only"):
                load(folder)


def test_weights_files_name_parts_of_geoalign_only(run, tmp_path):
    """What a checkpoint or the header of a safetensors says is held to the same."""
    from safetensors.torch import save_file

    _, refiner = run
    loop = {"_target_": "geoalign.refiner.Aggregation"}
    loop["channels"] = loop
    for hostile in ({"_target_": "os.system", "command": "true"}, loop, {"_target_": {"a": 1}}, [1]):
        torch.save({"state_dict": refiner.state_dict(), "refiner": hostile}, tmp_path / "bad.ckpt")
        with pytest.raises(ValueError, match=r"bad\.ckpt.*expected"):
            load(tmp_path / "bad.ckpt")
    for text in ('{"backbone": {"_target_": "os.system"}}', "{", "[" * 100_000, "[1]", '{"refiner": 3}'):
        save_file(refiner.state_dict(), tmp_path / "bad.safetensors", {"geoalign": text})
        with pytest.raises(ValueError, match=r"geoalign's own parts|something unreadable|expected settings"):
            load(tmp_path / "bad.safetensors")


def test_what_cannot_be_loaded(weights):
    path, _ = weights
    for source, backbone, told in (
        ("nothing.pth", None, "backbones have the names cleandift"),
        ("lite", "lite", "is a backbone itself"),
        (path, "unheard", "no backbone is known"),
        (path, TinyBackbone(), "the backbone gives"),
    ):
        with pytest.raises(ValueError, match=told):
            load(source, backbone)
    with pytest.raises(AttributeError):
        _ = geoalign.unheard
