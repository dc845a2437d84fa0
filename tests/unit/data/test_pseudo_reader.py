"""Pseudo-labels as a source: their file, their sets, mirrored images, weights."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoalign.data.batch.collate import Collate, Sample
from geoalign.data.batch.dataset import PairDataset
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import PairDataModule
from geoalign.data.readers.pseudo import COLUMNS, PseudoFile, PseudoLabels, read_pseudo, write_pseudo
from geoalign.data.records import DataError
from geoalign.geometry import FLIP, UPRIGHT
from geoalign.types import KINDS

IMAGES = {f"{name}.png": {"path": f"{name}.png", "size": [40, 80], "category": "cat", "box": [0, 0, 80, 40]}
          for name in "abc"}  # fmt: skip


def _table(rows):
    return pd.DataFrame([dict(zip(COLUMNS, row, strict=True)) for row in rows]).astype(COLUMNS)


ROWS = [
    (0, "a.png", False, 0, 10, 10, 1.0), (0, "a.png", False, 1, 20, 10, 0.5),
    (0, "b.png", True, 0, 60, 12, 1.0), (0, "b.png", True, 1, 50, 12, 0.5),
    (1, "a.png", False, 3, 30, 30, 1.0), (1, "c.png", False, 3, 32, 30, 1.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pseudo")
    for name in IMAGES:
        Image.new("RGB", (80, 40), "grey").save(root / name)
    write_pseudo(root / "labels.parquet", PseudoFile(_table(ROWS), IMAGES, {"way_back": 2.0}))
    return root


def _source(folder, **options):
    return PseudoLabels(folder / "labels.parquet", folder, **{"points": 4, **options})


def test_pairs_are_those_of_the_sets(folder):
    source = _source(folder)
    assert [(p.src.image_id, p.trg.image_id) for p in source] == [
        ("a.png", "b.png"), ("b.png", "a.png"), ("a.png", "c.png"), ("c.png", "a.png"),
    ]  # fmt: skip
    assert [list(own) for own in source.cliques()] == [[0, 1], [2, 3]]
    assert source.file.protocol == {"way_back": 2.0}
    assert len(_source(folder, max_sets=1)) == 2


def test_a_mirrored_image_stands_as_its_mirror_image_with_its_points(folder):
    source = _source(folder)
    batch = Collate(source, PixelLoader((80,)), kinds=("plain", "double"), frame_px=80)([Sample(source[0])])
    plain, double = (int(i) for i in range(2))
    assert batch["kind"].tolist() == [KINDS.index("plain"), KINDS.index("double")]
    torch.testing.assert_close(batch["src_xy_px"][plain, :2], torch.tensor([[10.0, 30.0], [20.0, 30.0]]))
    torch.testing.assert_close(batch["trg_xy_px"][plain, :2], torch.tensor([[20.0, 32.0], [30.0, 32.0]]))
    torch.testing.assert_close(batch["trg_xy_px"][double, :2], torch.tensor([[60.0, 32.0], [50.0, 32.0]]))
    assert batch["weight"][plain, :2].tolist() == [1.0, 0.5]
    assert len(batch["views"]["images"][80]) == 4  # two images, two poses: the tried poses add none


def test_an_image_has_the_points_of_its_own_set(folder):
    source = _source(folder)
    batch = Collate(source, PixelLoader((80,)), frame_px=80)([Sample(source[0]), Sample(source[2])])
    assert batch["src"].tolist() == [0, 0]  # one view
    assert batch["visible"].sum(-1).tolist() == [2, 1]


def test_the_store_is_filled_with_the_views_that_rows_show(folder):
    views = PairDataModule(train=_source(folder)).views(["train"], ("plain", "double"), ())
    assert {(ref.image.image_id, ref.pose) for ref in views} == {
        (name, pose) for name in IMAGES for pose in (UPRIGHT, FLIP)
    }


def test_cliques_are_sets(folder):
    source = _source(folder)
    dataset = PairDataset(source)
    for batch in CliqueSampler(source, size=4, batches=5):
        ids = {sample.pair.src.image_id for sample in map(dataset.__getitem__, batch)}
        assert ids in ({"a.png", "b.png"}, {"a.png", "c.png"})


def test_points_are_drawn_alike_in_all_images_of_a_set(tmp_path):
    rows = [(0, f"{name}.png", False, p, p, p, 1.0) for name in "ab" for p in range(9)]
    write_pseudo(tmp_path / "f", PseudoFile(_table(rows), IMAGES, {}))
    pair = PseudoLabels(tmp_path / "f", tmp_path, points=4, require_images=False)[0]
    assert pair.visible.all()
    np.testing.assert_array_equal(pair.src.xy_px, pair.trg.xy_px)


def test_a_fingerprint_counts_weights_and_mirroring(folder, tmp_path):
    for row in range(2):
        changed = [list(one) for one in ROWS]
        if row:
            changed[0][-1] = 0.25
        else:
            changed[4][2] = True
        write_pseudo(tmp_path / "f", PseudoFile(_table(changed), IMAGES, {}))
        assert PseudoLabels(tmp_path / "f", folder).fingerprint() != _source(folder, points=32).fingerprint()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one set"),
        ([(0, "a.png", False, 0, 1, 1, 1)], "sets of two images"),
        ([(0, "a.png", False, 0, 1, 1, 1), (0, "z.png", False, 0, 1, 1, 1)], "images that the file knows"),
        ([(0, "a.png", False, 0, 1, 1, 1), (0, "a.png", False, 0, 1, 1, 1)], "each point once"),
        ([(0, "a.png", False, 0, np.nan, 1, 1), (0, "b.png", False, 0, 1, 1, 1)], "finite"),
        ([(0, "a.png", False, 0, 1, 1, -1), (0, "b.png", False, 0, 1, 1, 1)], "weights of 0 or more"),
        ([(0, "a.png", False, 0, 1, 1, 1), (0, "a.png", True, 1, 1, 1, 1), (0, "b.png", False, 0, 1, 1, 1)],
         "one pose"),
    ],
)  # fmt: skip
def test_rows_that_contradict_each_other_are_refused(tmp_path, rows, message):
    table = _table(rows) if rows else pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    with pytest.raises(DataError, match=message):
        write_pseudo(tmp_path / "f", PseudoFile(table, IMAGES, {}))
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_pseudo(tmp_path / "none")
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(DataError, match="a parquet file"):
        read_pseudo(tmp_path / "text")
    _table(ROWS).to_parquet(tmp_path / "other")
    with pytest.raises(DataError, match="format 1"):
        read_pseudo(tmp_path / "other")


def test_settings_are_checked(folder):
    with pytest.raises(ValueError, match="points"):
        _source(folder, points=1)
