import pytest
from report_runs import make_rows, write_run

from geoalign.report.pck_tables import category_tables, pck_tables
from geoalign.report.runs import collect
from geoalign.report.table import Signed, Span, markdown
from geoalign.results.predictions import ResultsError


def cells(table, label):
    row = next(row for row in table.rows if row[0] == label)
    return dict(zip(table.header, row, strict=True))


def test_ours_stands_beside_published_with_the_difference(tmp_path):
    write_run(tmp_path / "a", "tlr", {"plain": make_rows(), "aligned": make_rows(30)}, published="TLR")
    table = pck_tables(collect([tmp_path]))[0]
    plain, aligned = cells(table, "tlr"), cells(table, "tlr + pose alignment")
    assert (plain["@0.10 published"], aligned["@0.10 published"]) == (82.9, 83.2)
    assert plain["@0.10 Δ"] == pytest.approx(plain["@0.10"] - 82.9)
    assert isinstance(plain["@0.10 Δ"], Signed)
    assert isinstance(plain["@0.10 95 %"], Span)
    assert plain["@0.10 95 %"].low <= plain["@0.10"] <= plain["@0.10 95 %"].high


def test_all_four_sets_of_scores_have_their_table(tmp_path):
    write_run(tmp_path, "run")
    titles = [table.title for table in pck_tables(collect([tmp_path]))]
    assert titles == [
        "spair71k: PCK per image, %",
        "spair71k: PCK per keypoint, %",
        "spair71k: PCK per image, geometry-aware keypoints, %",
        "spair71k: PCK per keypoint, geometry-aware keypoints, %",
    ]


def test_an_empty_subset_has_no_table(tmp_path):
    write_run(tmp_path, "run", {"plain": make_rows().assign(geometry_aware=False)})
    tables = pck_tables(collect([tmp_path]))
    assert len(tables) == 2
    assert not any("nan" in markdown(table).lower() for table in tables)


def test_missing_runs_and_datasets_are_dashes(tmp_path):
    write_run(tmp_path / "a", "on_spair", published="TLR")
    write_run(tmp_path / "b", "on_ap10k", dataset="ap10k_intra_species", published="TLR")
    (tmp_path / "died").mkdir()
    runs = collect([tmp_path / "a", tmp_path / "b", tmp_path / "died"], expected=["on_spair", "never_ran"])
    table = pck_tables(runs)[0]
    assert [row[0] for row in table.rows] == ["on_spair", "on_ap10k", "died", "never_ran"]
    for label in ("died", "never_ran"):
        assert set(cells(table, label).values()) == {label, None}
    assert cells(table, "on_ap10k")["@0.10"] is None
    assert cells(table, "on_ap10k")["@0.10 published"] == 82.9


def test_other_published_methods_on_request(tmp_path):
    write_run(tmp_path, "run", published="TLR")
    plain, full = (pck_tables(collect([tmp_path]), others=others)[0] for others in (False, True))
    assert len(full.rows) > len(plain.rows) == 1
    other = cells(full, "ImCorr")
    assert (other["@0.10"], other["@0.10 published"]) == (None, 86.2)
    assert "TLR" not in [row[0] for row in full.rows]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"comparison": "<="}, "comparison is '<' and '<='"),
        ({"threshold": "image"}, "threshold is 'box' and 'image'"),
        ({"image_protocol": "squash"}, "image_protocol is 'letterbox-centre' and 'squash'"),
        ({"frame_px": 512}, "frame_px is 840 and 512"),
        ({"fingerprint": "beef"}, "dataset_fingerprint is 'f00d' and 'beef'"),
        ({"split": "val"}, "split is 'test' and 'val'"),
    ],
)
def test_runs_of_different_protocols_are_refused(tmp_path, change, field):
    write_run(tmp_path / "a", "first")
    write_run(tmp_path / "b", "second", **change)
    with pytest.raises(ResultsError, match="first and second cannot share the column spair71k") as refused:
        pck_tables(collect([tmp_path]))
    assert field in str(refused.value)


def test_other_matchers_and_poses_share_a_column(tmp_path):
    write_run(tmp_path / "a", "first")
    write_run(tmp_path / "b", "second", matcher={"readout": "argmax"}, pose={"poses": ["flip"]})
    assert len(pck_tables(collect([tmp_path]))[0].rows) == 2


def test_published_numbers_measured_otherwise_are_left_out(tmp_path):
    write_run(tmp_path, "run", published="TLR", threshold="image")
    table = pck_tables(collect([tmp_path]))[0]
    assert cells(table, "run")["@0.10 published"] is None
    assert any("left out" in note for note in table.notes)


def test_a_part_of_the_test_set_is_said(tmp_path):
    write_run(tmp_path, "run")
    assert any("only 30 of the 12234 test pairs" in note for note in pck_tables(collect([tmp_path]))[0].notes)


def test_categories_with_published_and_difference(tmp_path):
    write_run(tmp_path, "run", published="SD+DINO")
    by_image, by_keypoint = category_tables(collect([tmp_path]), 0.1)
    assert by_keypoint.header == ["run", "bus", "cat", "all"]
    assert [row[0] for row in by_keypoint.rows] == ["run", "SD+DINO (published)", "Δ"]
    ours, theirs, differ = by_keypoint.rows
    assert theirs[1:] == [55.0, 78.6, 64.0]
    assert differ[1] == pytest.approx(ours[1] - theirs[1])
    assert [row[0] for row in by_image.rows] == ["run", "SD+DINO (published)", "Δ"]


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), "run", {"plain": make_rows(seed=seed)})
    labels = [run.label for run in collect([tmp_path, tmp_path / "0"])]
    assert labels == [f"run ({tmp_path / str(seed)})" for seed in (0, 1)]


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="no folder"):
        collect([tmp_path / "nowhere"])
