"""Confidence fitted on one run and judged on another: the weights, the table and the files."""

import numpy as np
import pytest
import torch

from geoalign.apps.loading import load
from geoalign.callbacks.evidence import Judged
from geoalign.matching import Confidence
from geoalign.matching.confidence import ALONE, TOGETHER
from geoalign.report.analyse.__main__ import main


def write_evidence(folder, seed, count=3000):
    """Evidence of which similarity says little and the shape of the others much; a fifth of the points is hidden."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(count, len(TOGETHER), generator=generator)
    columns[:, 0] = 0.6 + 0.1 * columns[:, 0]
    chance = torch.sigmoid(2 * columns[:, 5] + 5 * (columns[:, 0] - 0.6))
    shown = torch.rand(count, generator=generator) > 0.2
    right = shown & (torch.rand(count, generator=generator) < chance)
    points = torch.full((count,), 9)
    folder.mkdir(parents=True)
    judged = Judged(columns, columns[:, : len(ALONE)], points, right, shown)
    for rank in range(2):  # as two ranks leave them
        own = {name: column[rank::2].numpy() for name, column in judged._asdict().items()}
        np.savez(folder / f"evidence-{rank}.npz", **own)


def test_weights_of_one_run_hold_on_another(tmp_path, capsys):
    write_evidence(tmp_path / "val" / "results", 0)
    write_evidence(tmp_path / "test" / "results", 1)
    out = tmp_path / "out"
    assert main(["confidence", str(tmp_path / "val"), str(tmp_path / "test"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    lines = {cells[1].strip(): cells[2:] for line in printed.splitlines() if len(cells := line.split("|")) > 8}
    auc = {name: float(lines[name][0]) for name in ("similarity", "confidence")}
    assert auc["confidence"] > auc["similarity"] + 15
    assert float(lines["confidence"][3]) < 5, "calibrated"
    assert (out / "confidence.png").stat().st_size > 5000
    assert len((out / "confidence.csv").read_text().splitlines()) == 3001
    matcher = load("lite", confidence=out / "confidence.yaml")
    assert matcher.confidence != Confidence()
    assert matcher.confidence.together[5] == max(matcher.confidence.together[1:-1])


def test_a_run_without_evidence_is_told(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert main(["confidence", str(tmp_path / "run"), str(tmp_path / "run")]) == 2
    assert "callbacks=evidence" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["[1, 2]", "_target_: os.system", "_target_: geoalign.matching.Confidence\nalone: [1]"]
)
def test_what_is_no_confidence_is_one_error(tmp_path, text):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"confidence|settings|name"):
        load("lite", confidence=tmp_path / "wrong.yaml")
