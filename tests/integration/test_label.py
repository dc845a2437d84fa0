"""``geoalign label``: a training split's photographs to a file of pseudo-labels that trains."""

import pytest
from helpers.scripts import call

from geoalign.cli import label
from geoalign.data.readers.pseudo import PseudoLabels, read_pseudo

SMALL = [
    "data=synthetic", "data.images={trn: 6, val: 2, test: 2}", "data.pairs={trn: 8, val: 2, test: 2}",
    "data.categories=[cat]", "backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]",
    "callbacks.progress=null", "labeller.size=2", "labeller.per_image=2",
]  # fmt: skip


@pytest.fixture
def words(tmp_path):
    return [*SMALL, f"paths.root={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}", f"out={tmp_path / 'p.parquet'}"]


def test_a_file_is_written_with_its_protocol_and_not_replaced(words, tmp_path, capsys):
    assert call(label, *words) == 0
    assert "sets of photographs" in capsys.readouterr().out
    file = read_pseudo(tmp_path / "p.parquet")
    assert file.protocol["labeller"]["size"] == 2
    assert file.protocol["boxes"] is True
    root = next((tmp_path / "data").iterdir()) if (tmp_path / "data").is_dir() else tmp_path
    assert len(PseudoLabels(tmp_path / "p.parquet", root, require_images=False)) > 0
    assert call(label, *words) != 0
    assert "existing file" in capsys.readouterr().err


def test_filters_that_keep_nothing_say_so_and_leave_no_file(words, tmp_path, capsys):
    assert call(label, *words, "labeller.filters.agreement.residual=0.000001") != 0
    assert "loosen labeller.filters" in capsys.readouterr().err
    assert not (tmp_path / "p.parquet").exists()
