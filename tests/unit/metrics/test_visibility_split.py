import pytest
import torch

from geoalign.metrics import VisibilitySplit

PARTNER = [1, 0, 2, 4, 3, 5]


def split_rows(rows: int = 23) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    truth = torch.rand(rows, 6, 2, generator=generator) * 60
    return {
        "predicted_px": truth + torch.randn(rows, 6, 2, generator=generator) * 20,
        "trg_xy_px": truth,
        "size_px": torch.full((rows,), 100.0),
        "src_visible": torch.rand(rows, 6, generator=generator) < 0.8,
        "trg_visible": torch.rand(rows, 6, generator=generator) < 0.6,
        "partner": torch.tensor(PARTNER).expand(rows, -1),
    }


def split_of(index: list[int]) -> VisibilitySplit:
    metric = VisibilitySplit((0.2, 0.1))
    if index:
        metric.update(**{name: value[index] for name, value in split_rows().items()})
    return metric


def test_equals_plain_loops():
    rows, total, found = split_rows(), {}, {}
    for r in range(23):
        for n in range(6):
            if not rows["src_visible"][r, n]:
                continue
            seen, other = bool(rows["trg_visible"][r, n]), bool(rows["trg_visible"][r, PARTNER[n]])
            group = f"{int(seen)}{'x' if PARTNER[n] == n else int(other)}"
            far = [
                float((rows["predicted_px"][r, n].double() - rows["trg_xy_px"][r, m].double()).norm())
                for m in (n, PARTNER[n])
            ]
            at, at_other = seen and far[0] <= 20, other and far[1] <= 20
            total[group] = total.get(group, 0) + 1
            for kind, hit in (("match", at), ("swap", at_other and not at), ("both", at and at_other)):
                found[kind, group] = found.get((kind, group), 0) + hit
    scores = split_of(list(range(23))).compute()
    for kind, group in (
        ("match", "10"),
        ("match", "11"),
        ("match", "1x"),
        ("swap", "11"),
        ("both", "11"),
        ("swap", "01"),
    ):
        assert scores[f"geco_{kind}_{group}@0.20", "keypoint"] == pytest.approx(found[kind, group] / total[group])
    assert {group: scores.get((f"geco_{group}", "count"), 0) for group in total if group != "0x"} == {
        group: count for group, count in total.items() if group != "0x"
    }


def test_matches_of_the_three_groups_are_plain_pck():
    rows, scores = split_rows(), split_of(list(range(23))).compute()
    both = rows["src_visible"] & rows["trg_visible"]
    error = (rows["predicted_px"] - rows["trg_xy_px"]).norm(dim=-1)[both]
    counts = {group: scores[f"geco_{group}", "count"] for group in ("10", "11", "1x")}
    pooled = sum(scores[f"geco_match_{g}@0.20", "keypoint"] * n for g, n in counts.items()) / sum(counts.values())
    assert sum(counts.values()) == int(both.sum())
    assert pooled == pytest.approx(float((error <= 20).double().mean()))


def test_a_clean_swap_is_a_swap():
    rows = {name: value[:1] for name, value in split_rows(1).items()}
    everywhere = torch.ones(1, 6, dtype=torch.bool)
    truth = torch.arange(6.0)[None, :, None].expand(1, 6, 2) * 1000
    rows |= {
        "src_visible": everywhere,
        "trg_visible": everywhere,
        "trg_xy_px": truth,
        "predicted_px": truth[:, PARTNER],
    }
    metric = VisibilitySplit((0.1,))
    metric.update(**rows)
    scores = metric.compute()
    assert scores["geco_swap_11@0.10", "keypoint"] == 1
    assert scores["geco_match_11@0.10", "keypoint"] == 0
    assert scores["geco_match_1x@0.10", "keypoint"] == 1
    assert ("geco_match_10@0.10", "keypoint") not in scores


def test_nothing_added_gives_nothing_and_bad_thresholds_are_refused():
    assert VisibilitySplit().compute() == {}
    with pytest.raises(ValueError, match="thresholds above 0"):
        VisibilitySplit(())
