import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from geoalign.metrics import KAP
from geoalign.metrics.kap import average_precision, disc, kap_samples

FRAME_PX = 60.0  # six cells of ten pixels


def kap_rows(rows: int = 23, slots: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "similarity": torch.rand(rows, slots, 6, 6, generator=generator),
        "trg_xy_px": torch.rand(rows, slots, 2, generator=generator) * FRAME_PX,
        "size_px": torch.rand(rows, generator=generator) * 30 + 20,
        "src_visible": torch.rand(rows, slots, generator=generator) < 0.8,
        "trg_visible": torch.rand(rows, slots, generator=generator) < 0.6,
        "category": torch.randint(0, 3, (rows,), generator=generator),
    }


def kap_of(index: list[int], **settings) -> KAP:
    metric = KAP((0.1, 0.3), frame_px=FRAME_PX, **settings)
    if index:
        metric.update(**{name: value[index] for name, value in kap_rows().items()})
    return metric


def slow_samples(rows, alpha, released):
    """Plain loops: (category, score, positive) of every sample."""
    samples = []
    for r, category in enumerate(rows["category"].tolist()):
        shown = [n for n in range(5) if rows["src_visible"][r, n]]
        values = [float(v) for n in shown for v in rows["similarity"][r, n].flatten()]
        for n in shown:
            inside, outside, nearest = [], [], (1e9, None)
            for cy in range(6):
                for cx in range(6):
                    tx, ty = rows["trg_xy_px"][r, n].tolist()
                    far = ((cx * 10 + 5 - tx) ** 2 + (cy * 10 + 5 - ty) ** 2) ** 0.5
                    value = float(rows["similarity"][r, n, cy, cx])
                    value = value if released else (value - min(values)) / (max(values) - min(values))
                    (inside if far < alpha * float(rows["size_px"][r]) else outside).append(value)
                    nearest = min(nearest, (far, value))
            if rows["trg_visible"][r, n]:
                if not inside:
                    inside.append(nearest[1])
                    outside.remove(nearest[1])
                samples += [(category, max(inside), True), (category, max(outside), False)]
            else:
                samples.append((category, max(inside + outside), False))
    return samples


def slow_precision(samples):
    """Plain loops over thresholds: precision times gained recall, equal scores shown together."""
    rights, before, total = sum(positive for *_, positive in samples), 0, 0.0
    for threshold in sorted({score for _, score, _ in samples}, reverse=True):
        shown = [positive for _, score, positive in samples if score >= threshold]
        total += (sum(shown) - before) / rights * sum(shown) / len(shown)
        before = sum(shown)
    return total


@pytest.mark.parametrize("released", [False, True])
def test_equals_plain_loops(released):
    found = kap_of(list(range(23)), released=released).compute()
    for alpha, name in ((0.1, "kap@0.10"), (0.3, "kap@0.30")):
        samples = slow_samples(kap_rows(), alpha, released)
        each = [slow_precision([s for s in samples if s[0] == c]) for c in range(3)]
        assert found[name, "keypoint"] == pytest.approx(slow_precision(samples), abs=1e-6)
        assert found[name, "macro_keypoint"] == pytest.approx(sum(each) / 3, abs=1e-6)


def test_batches_and_order_change_nothing():
    pieces = KAP((0.1, 0.3), frame_px=FRAME_PX)
    for index in torch.randperm(23, generator=torch.Generator().manual_seed(1)).split(4):
        pieces.update(**{name: value[index] for name, value in kap_rows().items()})
    assert pieces.compute() == kap_of(list(range(23))).compute()


def test_average_precision_equals_the_library_with_ties():
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 10, (200,), generator=generator) / 10
    positive = torch.rand(200, generator=generator) < 0.4
    want = float(binary_average_precision(score, positive.long()))
    assert average_precision(score, positive) == pytest.approx(want, abs=1e-6)


def test_a_perfect_map_scores_one_and_an_unseen_match_lowers_it():
    similarity = torch.zeros(1, 2, 6, 6)
    similarity[0, :, 2, 3] = 1
    row = {
        "similarity": similarity,
        "trg_xy_px": torch.tensor([[[35.0, 25.0], [0.0, 0.0]]]),
        "size_px": torch.tensor([50.0]),
        "src_visible": torch.tensor([[True, True]]),
        "category": torch.tensor([0]),
    }
    for seen, want in (([True, False], 0.5), ([True, True], None)):
        metric = KAP((0.1,), frame_px=FRAME_PX)
        metric.update(trg_visible=torch.tensor([seen]), **row)
        found = metric.compute()["kap@0.10", "keypoint"]
        assert found == want or (want is None and found < 1)


def test_the_nearest_cell_is_always_in_the_disc():
    inside = disc(torch.tensor([[10.0, 9.0]]), torch.tensor([0.5]), (6, 6), FRAME_PX, strict=True)
    assert int(inside.sum()) == 1


def test_no_sample_is_worse_than_an_empty_outside():
    rows = kap_rows()
    rows.pop("category")
    samples = kap_samples(**rows, alphas=(100.0,), frame_px=FRAME_PX)
    assert samples.score.isneginf().any()
    assert not samples.score[samples.positive].isneginf().any()


def test_nothing_to_rank_is_absent():
    assert KAP().compute() == {}
    metric = KAP((0.1,), frame_px=FRAME_PX)
    metric.update(**{**kap_rows(), "trg_visible": torch.zeros(23, 5, dtype=torch.bool)})
    assert metric.compute() == {}


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="thresholds above 0"):
        KAP((0.0,))
    with pytest.raises(ValueError, match="finite similarities"):
        KAP().update(**{**kap_rows(), "similarity": torch.full((23, 5, 6, 6), torch.nan)})
