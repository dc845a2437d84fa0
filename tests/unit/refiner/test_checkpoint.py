"""Weights in and out: every format gives the same refiner back, everything else one clear line."""

import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoalign.refiner import Aggregation, load_released
from geoalign.refiner.base import CheckpointError
from geoalign.refiner.checkpoint import convert, load_weights, main, read_weights
from geoalign.refiner.released import architecture

CHANNELS = (6, 64, 10)  # the second equals the width: no shortcut


def refiner(seed=0, **options):
    torch.manual_seed(seed)
    return Aggregation(CHANNELS, **{"grid": 5, "width": 64, "hidden": 32} | options)


@pytest.fixture
def released(tmp_path):
    """What a user of the release holds: a plain dict of tensors."""
    path = tmp_path / "best_856.PTH"
    torch.save(refiner().state_dict(), path)
    return path


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)


def test_the_papers_size():
    """DINO's 768 channels equal the width, so its bottleneck has no projected shortcut."""
    paper = Aggregation([640, 1280, 1280, 768])
    assert sum(p.numel() for p in paper.parameters()) == 5_150_214
    assert not any("3.0.shortcut" in name for name in paper.state_dict())


def test_released_golden_weights_load_by_their_shapes(shared, tmp_path):
    stored = load_file(shared / "golden/refiner.safetensors")
    state = {k.removeprefix("weights."): v for k, v in stored.items() if k.startswith("weights.")}
    torch.save(state, tmp_path / "released.pth")
    convert(tmp_path / "released.pth", tmp_path / "out.safetensors")
    loaded = load_released(tmp_path / "out.safetensors", grid=12)
    output = loaded.aggregate(stored["input"].split([64, 96, 96, 48], dim=1))
    torch.testing.assert_close(output, stored["output"], rtol=1e-4, atol=1e-4 * stored["output"].abs().max().item())
    assert load_file(tmp_path / "out.safetensors").keys() == state.keys()


def test_sizes_are_read_from_the_tensors(released):
    loaded = load_released(released, grid=7, dropout=0.0)
    assert (loaded.channels, loaded.width, loaded.grid, loaded.dropout) == (CHANNELS, 64, 7, 0.0)
    assert not loaded.training
    assert same(loaded.state_dict(), refiner().state_dict())


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_conversion_there_and_back_changes_nothing(released, tmp_path, ending):
    one, two = tmp_path / f"one{ending}", tmp_path / "two.pth"
    convert(released, one)
    convert(one, two)
    assert same(torch.load(two, weights_only=True), torch.load(released, weights_only=True))
    assert same(read_weights(one).state, refiner().state_dict())


def test_a_file_of_weights_repeats_to_the_bit(released, tmp_path):
    for at in range(8):  # what the library orders at random it orders anew each time
        convert(released, tmp_path / f"{at}.safetensors")
    assert len({path.read_bytes() for path in tmp_path.glob("[0-9].safetensors")}) == 1


def test_a_runs_checkpoint_converts_and_tells_its_grid(tmp_path):
    state = {f"refiner.{k}": v for k, v in refiner(1).state_dict().items()}
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    torch.save({"state_dict": state, "refiner": {"grid": 5}, "epoch": 1}, tmp_path / "run/checkpoints/best.ckpt")
    convert(tmp_path / "run", tmp_path / "out.safetensors")
    assert same(load_file(tmp_path / "out.safetensors"), refiner(1).state_dict())
    assert load_released(tmp_path / "run").grid == 5


def test_the_command(released, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "geoalign.refiner.checkpoint", "convert", released, tmp_path / "out.safetensors"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "channels [6, 64, 10], grid 60, width 64, hidden 32" in done.stdout
    assert done.stderr == ""
    assert same(load_file(tmp_path / "out.safetensors"), refiner().state_dict())


def broken(tmp_path, kind):
    """A file that is not a refiner's, and what must be said of it."""
    state = refiner().state_dict()
    path = tmp_path / f"{kind}.pth"
    match kind:
        case "other":
            torch.save({"conv.weight": torch.zeros(2)}, path)
            return path, "mixing_weights"
        case "layer":
            torch.save({k: v for k, v in state.items() if "1.0.conv3" not in k}, path)
            return path, r"expected bottleneck_layers.1.0.conv3.weight .*got nothing"
        case "norm":
            torch.save({k: v for k, v in state.items() if k != "bottleneck_layers.0.0.conv2.norm.bias"}, path)
            return path, "lacks bottleneck_layers.0.0.conv2.norm.bias"
        case "extra":
            torch.save({**state, "bottleneck_layers.1.0.shortcut.weight": torch.zeros(64, 64, 1, 1)}, path)
            return path, "also holds bottleneck_layers.1.0.shortcut.weight"
        case "mixed":
            torch.save({**state, "bottleneck_layers.1.0.conv3.weight": torch.zeros(32, 32, 1, 1)}, path)
            return path, r"widths \[32, 64\]"
        case "shape":
            torch.save({**state, "bottleneck_layers.0.0.conv2.weight": torch.zeros(32, 32, 1, 1)}, path)
            return path, r"conv2.weight is \(32, 32, 1, 1\) of .*, the refiner wants \(32, 32, 3, 3\)"
        case "scalar":
            torch.save(torch.zeros(3), path)
            return path, "expected named tensors"
        case "nothing":
            torch.save({"epoch": 3}, path)
            return path, "no refiner weights"
        case "unsafe":
            torch.save({"model": torch.nn.Linear(2, 2)}, path)
            return path, "expected a readable weights file"
        case "cut":
            torch.save(state, path)
            path.write_bytes(path.read_bytes()[:-900])
            return path, "expected a readable weights file"
        case "text":
            path.write_text("<html>not found</html>")
            return path, "expected a readable weights file"
    return tmp_path / "absent.pth", "no weights at"


KINDS = ["other", "layer", "norm", "extra", "mixed", "shape", "scalar", "nothing", "unsafe", "cut", "text", "absent"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_refiner_is_refused_in_one_line(tmp_path, kind, capsys):
    path, said = broken(tmp_path, kind)
    with pytest.raises(ValueError, match=said):
        load_released(path)
    with pytest.raises(SystemExit) as stop:
        main(["convert", str(path), str(tmp_path / "out.safetensors")])
    assert stop.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("*out*")), "nothing half-written stays"


def test_a_cut_safetensors_is_refused(tmp_path):
    save_file(refiner().state_dict(), tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-8])
    with pytest.raises(ValueError, match="expected a readable weights file"):
        load_released(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(("target", "said"), [("out.ckpt", "safetensors or .pth"), ("no/out.pth", "no folder")])
def test_where_it_cannot_be_written(released, tmp_path, target, said):
    with pytest.raises(CheckpointError, match=said):
        convert(released, tmp_path / target)


def test_a_full_disk_leaves_the_old_file(released, tmp_path, monkeypatch):
    target = tmp_path / "out.pth"
    target.write_bytes(b"old")

    def full(tensors, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/2: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*file write failed"):
        convert(released, target, force=True)
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best_856.PTH", "out.pth"]


def test_nothing_is_written_over_by_accident(released, tmp_path):
    before = released.read_bytes()
    (tmp_path / "link.pth").symlink_to(released)
    for target in (tmp_path / "link.pth", tmp_path / "no" / ".." / released.name):
        (tmp_path / "no").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="an output that is no input"):
            convert(released, target, force=True)
    (tmp_path / "out.pth").write_bytes(b"old")
    with pytest.raises(ValueError, match="--force"):
        convert(released, tmp_path / "out.pth")
    assert (released.read_bytes(), (tmp_path / "out.pth").read_bytes()) == (before, b"old")


def odd(kind, name, value):
    """One entry of a state that no refiner has."""
    match kind:
        case "integer key":
            return 7, value
        case "bytes key":
            return name.encode(), value
        case "sparse":
            return name, value.to_sparse()
        case "csr":
            return name, value.flatten(1).to_sparse_csr()
        case "meta":
            return name, value.to("meta")
        case "quantized":
            return name, torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)
        case "complex":
            return name, value.to(torch.complex64)
        case "integer":
            return name, value.to(torch.int64)
        case "expanded":
            return name, value.new_zeros(1).expand(1 << 40)
        case "nested":
            return name, {"deeper": value}
        case "text":
            return name, "text"
    return name, torch.where(torch.arange(value.numel()).view_as(value) == 5, float(kind), value)


ODD = ["integer key", "bytes key", "sparse", "csr", "meta", "quantized", "complex", "integer", "expanded", "nested",
       "text", "nan", "inf", "-inf"]  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True], ids=["released", "run"])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_finite_plain_tensor_is_refused(tmp_path, kind, wrapped):
    state = refiner().state_dict()
    name = "bottleneck_layers.0.0.conv2.weight"
    key, value = odd(kind, name, state.pop(name))
    if wrapped and isinstance(key, str):
        state, key = {f"refiner.{k}": v for k, v in state.items()}, f"refiner.{key}"
    content = {**state, key: value}
    torch.save({"state_dict": content, "refiner": refiner().recipe()} if wrapped else content, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match=r"odd\.ckpt"):
        load_weights(refiner(), tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match=r"odd\.ckpt"):
        load_released(tmp_path / "odd.ckpt", grid=5)


def test_loading_is_strict_and_names_both_shapes(released):
    with pytest.raises(CheckpointError, match="the refiner wants"):
        load_weights(refiner(hidden=64), released)
    with pytest.raises(CheckpointError, match="without checkpoints"):
        load_weights(refiner(), released.parent)


def test_architecture_of_the_golden_names():
    assert architecture(refiner().state_dict(), "x") == (CHANNELS, 64, 32)
    assert math.isclose(refiner().logit_scale.item(), math.log(1 / 0.07), rel_tol=1e-6)
