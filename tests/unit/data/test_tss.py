"""TSS: the grid's truth follows the flow, mirrored targets are mirrored, and every broken file is named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from helpers.flow import write_flow
from helpers.fuzz import every, verdict
from PIL import Image

from geoalign.data.images import open_rgb
from geoalign.data.readers.flow import read_flow
from geoalign.data.readers.tss import TSS, grid_points
from geoalign.data.records import DataError, pck_size_px

H, W = 40, 60


def write_pair(folder: Path, flip: str | None = "0", shift: tuple[float, float] = (4, -3)) -> Path:
    folder.mkdir(parents=True)
    ramp = np.tile(np.arange(W, dtype=np.uint8) * 4, (H, 1))
    for i in (1, 2):
        Image.fromarray(np.stack([ramp, ramp, ramp], -1)).save(folder / f"image{i}.png")
        mask = np.zeros((H, W), np.uint8)
        mask[10:30, 15:50] = 255
        Image.fromarray(mask).save(folder / f"mask{i}.png")
        flow = np.full((H, W, 2), shift if i == 1 else np.negative(shift), np.float32)
        flow[:15] = np.nan
        write_flow(folder / f"flow{i}.flo", flow)
    if flip is not None:
        (folder / "flip_gt.txt").write_text(flip)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pair(tmp_path / "FG3DCar" / "pair 1")
    write_pair(tmp_path / "PASCAL" / "pär2", flip="1\n")
    return tmp_path


def test_points_follow_the_flow_inside_the_mask(root):
    source = TSS(root, directions=[1], flipped="drop", slots=30)
    (pair,) = source
    seen = pair.visible
    assert 20 <= seen.sum() <= 30
    np.testing.assert_allclose(pair.trg.xy_px[seen] - pair.src.xy_px[seen], [[4, -3]] * seen.sum())
    x, y = pair.src.xy_px[seen].T
    assert ((x > 15) & (x < 50) & (y > 15) & (y < 30)).all()  # the mask below row 15, where the flow is known
    assert len(np.unique(pair.src.xy_px[seen], axis=0)) == seen.sum()
    assert pck_size_px(pair.trg, source.threshold) == W
    assert pair.src.mask_path == root / "FG3DCar" / "pair 1" / "mask1.png"
    assert (source.categories, source.symmetries, pair.azimuth_difference) == (("FG3DCar",), {}, -1)
    assert any("mirrored pair left out" in note for note in source.notes)


@pytest.mark.unchecked
def test_both_directions_and_seed(root):
    source = TSS(root)
    assert len(source) == 4
    assert [p.src.path.name for p in source][:2] == ["image1.png", "image2.png"]
    assert len({p.pair_id for p in source}) == 4
    assert TSS(root).fingerprint() == source.fingerprint()
    few = [TSS(root, slots=12, seed=seed).fingerprint() for seed in (1, 2)]
    assert few[0] != few[1]
    for wrong in ({"split": "val"}, {"flipped": "yes"}, {"directions": [3]}, {"slots": 0}, {"threshold": "area"}):
        with pytest.raises((ValueError, TypeError)):  # TypeError: where types are checked at run time
            TSS(root, **wrong)


def test_mirrored_targets_are_written_mirrored(root, tmp_path):
    pair = TSS(root, mirror_dir=tmp_path / "m", categories=["PASCAL"])[0]
    assert pair.trg.path == tmp_path / "m" / "PASCAL" / "pär2" / "image2.png"
    original = np.asarray(open_rgb(root / "PASCAL" / "pär2" / "image2.png"))
    assert (np.asarray(open_rgb(pair.trg.path)) == original[:, ::-1]).all()
    assert pair.trg.mask_path is not None
    assert pair.trg.mask_path.is_file()
    assert pair.src.path.parent == root / "PASCAL" / "pär2"
    (tmp_path / "blocked").write_text("")
    with pytest.raises(DataError, match="set mirror_dir"):
        TSS(root, mirror_dir=tmp_path / "blocked")


def test_grid_never_exceeds_its_slots():
    rng = np.random.default_rng(0)
    for slots in (1, 7, 100):
        for case in range(20):
            mask = rng.random((H, W)) < rng.random()
            flow = rng.normal(0, 20, (H, W, 2))
            points = grid_points(mask, flow, (H, W), slots, 42, str(case))
            assert len(points) <= slots
            columns, rows = points.astype(int).T
            assert mask[rows, columns].all()
            ends = points + flow[rows, columns]
            assert ((ends >= 0) & (ends < [W, H])).all()
    assert grid_points(np.zeros((H, W), bool), flow, (H, W), 5, 42, "none").shape == (0, 2)


def test_pairs_without_points_and_flags_are_noted(root):
    write_pair(root / "JODS" / "empty", flip=None, shift=(500, 0))
    source = TSS(root)
    assert len(source) == 4
    assert sum("no foreground point" in note for note in source.notes) == 2
    assert any("no flag" in note for note in source.notes)


@pytest.mark.parametrize("name", ["flow1.flo", "image1.png", "image2.png", "mask1.png"])
def test_damaged_files(root, name):
    path = root / "FG3DCar" / "pair 1" / name
    whole, folder = path.read_bytes(), path.parent
    others = [folder / f"flow{i}.flo" for i in (1, 2)] + [folder / f"mask{i}.png" for i in (1, 2)]

    def check(case):
        rng, data = random.Random(case), bytearray(whole)
        if case < 5:
            data = data[: rng.randrange(len(data)) * (case > 0)]
        elif case < 8:
            data[:4] = rng.randbytes(4)
        else:
            data[rng.randrange(4, 24)] ^= 0xFF
        path.write_bytes(data)
        result = verdict(lambda: TSS(root), path, *others)
        assert isinstance(result, DataError) or len(result) >= 3

    every(range(12), check)


@pytest.mark.parametrize("text", ["2", "x", "1 1", "-1", "\xff"])
def test_broken_flags_and_missing_files(root, text):
    flag = root / "FG3DCar" / "pair 1" / "flip_gt.txt"
    flag.write_bytes(text.encode("latin-1"))
    assert isinstance(verdict(lambda: TSS(root), flag), DataError)
    flag.write_text("0")
    flow = flag.parent / "flow2.flo"
    flow.unlink()
    assert isinstance(verdict(lambda: TSS(root), flow), DataError)
    with pytest.raises(DataError, match="FG3DCar, JODS, PASCAL"):
        TSS(flag.parent)


def test_flow_files_round_trip(tmp_path):
    flow = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    flow[2, 3] = np.nan
    write_flow(tmp_path / "a.flo", flow)
    np.testing.assert_array_equal(read_flow(tmp_path / "a.flo"), flow)
    with pytest.raises(DataError, match="as the image"):
        read_flow(tmp_path / "a.flo", (7, 5))
