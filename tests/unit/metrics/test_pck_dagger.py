import torch

from geoalign.metrics import PCK, Score, dagger_error_px


def dagger_rows(rows: int = 23, slots: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    truth = torch.rand(rows, slots, 2, generator=generator) * 100
    return {
        "predicted_px": truth + torch.randn(rows, slots, 2, generator=generator) * 20,
        "trg_xy_px": truth,
        "trg_visible": torch.rand(rows, slots, generator=generator) < 0.7,
    }


def dagger_pck(index: list[int]) -> PCK:
    rows = {name: value[index] for name, value in dagger_rows().items()}
    metric = PCK((0.2,), ("cat",))
    if index:
        size, category = torch.full((len(index),), 100.0), torch.zeros(len(index), dtype=torch.long)
        metric.update(dagger_error_px(**rows), size, rows["trg_visible"], {}, category)
    return metric


def test_equals_plain_loops():
    rows = dagger_rows()
    right = total = 0
    for answer, truth, seen in zip(*(rows[name].tolist() for name in rows), strict=True):
        for n, (x, y) in enumerate(answer):
            if seen[n]:
                far = [((x - tx) ** 2 + (y - ty) ** 2) ** 0.5 for tx, ty in truth]
                right += far[n] < 20 and all(far[n] <= far[m] for m in range(len(truth)) if seen[m])
                total += 1
    assert dagger_pck(list(range(23))).compute().scores[Score("all", "all", 0.2, "keypoint")] == right / total
    assert 0 < right < total


def test_never_above_plain_pck_and_equal_when_alone():
    rows = dagger_rows()
    plain = (rows["predicted_px"].double() - rows["trg_xy_px"].double()).norm(dim=-1)
    assert bool((dagger_error_px(**rows) >= plain - 1e-9).all())
    alone = {name: value[:, :1] for name, value in rows.items()}
    torch.testing.assert_close(dagger_error_px(**alone), plain[:, :1])


def test_an_unseen_neighbour_does_not_punish():
    truth = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]])
    answer = torch.tensor([[[8.0, 0.0], [10.0, 0.0]]])
    unseen = torch.tensor([[True, False]])
    assert dagger_error_px(answer, truth, unseen)[0, 0] == 8
    assert dagger_error_px(answer, truth, ~unseen | unseen)[0, 0] > 1e300
