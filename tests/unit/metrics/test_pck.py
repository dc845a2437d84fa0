import pytest
import torch

from geoalign.metrics import PCK, Score
from geoalign.metrics.functional import mirror_subset, point_error_px, subset_masks

ALPHAS = (0.1, 0.05)
CATEGORIES = ("cat", "bus", "never")


def make_rows(rows: int = 23, slots: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(rows, slots, generator=generator) < 0.6
    visible[0] = False  # a pair without a single common keypoint counts nowhere
    error_px = torch.rand(rows, slots, generator=generator) * 20
    error_px[~visible] = torch.nan
    return {
        "error_px": error_px,
        "size_px": torch.rand(rows, generator=generator) * 100 + 50,
        "visible": visible,
        "geometry_aware": torch.rand(rows, slots, generator=generator) < 0.4,
        "category": torch.randint(0, 2, (rows,), generator=generator),
        "azimuth_difference": torch.randint(-1, 4, (rows,), generator=generator),
        "partner": torch.tensor([1, 0, 2, 4, 3, 5, 6, 7, 8]).expand(rows, -1),
    }


def add(metric: PCK, rows: dict[str, torch.Tensor], index: slice | list[int] = slice(None)) -> None:
    part = {name: value[index] for name, value in rows.items()}
    masks = subset_masks(part["visible"], part["geometry_aware"], part["azimuth_difference"], part["partner"])
    metric.update(part["error_px"], part["size_px"], part["visible"], masks, part["category"])


def slow_pck(rows, chosen, category, alpha, strict):
    """Plain loops: (per image, per keypoint, pairs, keypoints), None where empty."""
    per_pair, hit, total = [], 0, 0
    for r in range(len(rows["size_px"])):
        if category is not None and rows["category"][r] != category:
            continue
        flags = []
        for n in range(rows["visible"].shape[1]):
            if rows["visible"][r, n] and chosen(r, n):
                error, limit = float(rows["error_px"][r, n]), float(rows["size_px"][r]) * alpha
                flags.append(error < limit if strict else error <= limit)
        if flags:
            per_pair.append(sum(flags) / len(flags))
            hit, total = hit + sum(flags), total + len(flags)
    return (sum(per_pair) / len(per_pair), hit / total, len(per_pair), total) if per_pair else None


@pytest.mark.parametrize("strict", [True, False])
def test_equals_plain_loops(strict):
    rows = make_rows()
    metric = PCK(ALPHAS, CATEGORIES, strict)
    add(metric, rows)
    result = metric.compute()
    difference = rows["azimuth_difference"]
    subsets = {
        "all": lambda r, n: True,
        "geometry_aware": lambda r, n: rows["geometry_aware"][r, n],
        "azimuth_2": lambda r, n: difference[r] == 2,
        "geometry_aware_azimuth_0": lambda r, n: rows["geometry_aware"][r, n] and difference[r] == 0,
        "azimuth_4": lambda r, n: False,
        "mirror": lambda r, n: n in (0, 1, 3, 4),
    }
    for subset, chosen in subsets.items():
        for category, name in ((None, "all"), (0, "cat"), (1, "bus"), (2, "never")):
            for alpha in ALPHAS:
                want = slow_pck(rows, chosen, category, alpha, strict)
                keys = [Score(subset, name, alpha, average) for average in ("image", "keypoint")]
                if want is None:
                    assert not set(keys) & set(result.scores)
                    assert (subset, name) not in result.counts
                else:
                    assert [result.scores[key] for key in keys] == pytest.approx(want[:2], abs=1e-12)
                    assert tuple(result.counts[subset, name]) == want[2:]


def test_batches_order_and_merging_change_nothing():
    rows = make_rows(40)
    whole, pieces = PCK(ALPHAS, CATEGORIES), PCK(ALPHAS, CATEGORIES)
    add(whole, rows)
    for index in torch.randperm(40, generator=torch.Generator().manual_seed(1)).split(7):
        add(pieces, rows, index.tolist())
    assert whole.compute() == pieces.compute()


def test_macro_is_the_mean_over_the_categories_that_occur():
    metric = PCK(ALPHAS, CATEGORIES)
    add(metric, make_rows())
    scores = metric.compute().scores
    for average in ("image", "keypoint"):
        both = [scores[Score("all", name, 0.1, average)] for name in ("cat", "bus")]
        assert scores[Score("all", "all", 0.1, f"macro_{average}")] == pytest.approx(sum(both) / 2, abs=1e-15)


def test_a_keypoint_on_the_limit_is_in_only_with_less_or_equal():
    row = {"size_px": torch.tensor([100.0]), "visible": torch.tensor([[True]]), "subsets": {}}
    for strict, want in ((True, 0.0), (False, 1.0)):
        metric = PCK((0.1,), ("cat",), strict)
        metric.update(error_px=torch.tensor([[10.0]]), category=torch.tensor([0]), **row)
        assert metric.compute().scores[Score("all", "all", 0.1, "image")] == want


def test_nothing_added_gives_nothing():
    assert PCK(ALPHAS, CATEGORIES).compute() == ({}, {})


def test_names_are_the_logged_keys():
    metric = PCK(ALPHAS, CATEGORIES)
    add(metric, make_rows())
    named = metric.compute().named("val", "spair71k", method="aligned")
    assert {"val/spair71k/aligned/pck@0.10/image", "val/spair71k/aligned/count/keypoints"} <= set(named)
    assert not any("category_" in key for key in named)
    assert "val/spair71k/geometry_aware/category_cat/pck@0.05/keypoint" in metric.compute().named(
        "val", "spair71k", by_category=True
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error_px": torch.full((1, 2), torch.nan)}, "finite error"),
        ({"size_px": torch.tensor([0.0])}, "positive size_px"),
        ({"category": torch.tensor([7])}, "category ids in 0..2"),
        ({"subsets": {"paws": torch.ones(1, 2, dtype=torch.bool)}}, "paws"),
        ({"visible": torch.ones(1, 99, dtype=torch.bool), "error_px": torch.ones(1, 99)}, "max_points"),
    ],
)
def test_bad_rows_are_refused(change, message):
    row = {
        "error_px": torch.ones(1, 2),
        "size_px": torch.ones(1),
        "visible": torch.ones(1, 2, dtype=torch.bool),
        "subsets": {},
        "category": torch.zeros(1, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=message):
        PCK(ALPHAS, CATEGORIES).update(**{**row, **change})


@pytest.mark.parametrize(
    "settings", [{"alphas": ()}, {"alphas": (0.1, 0.1)}, {"alphas": (0.0,)}, {"categories": ()}, {"subsets": ("all",)}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        PCK(**settings)


def test_a_point_without_counterpart_is_not_in_the_mirror_subset():
    visible = torch.tensor([[True, False, True]])
    assert mirror_subset(visible, torch.tensor([[1, 0, 2]])).tolist() == [[True, False, False]]


def test_point_error_is_symmetric_and_zero_at_the_truth():
    a, b = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(point_error_px(a, b), point_error_px(b, a))
    assert point_error_px(a, a).abs().max() == 0
