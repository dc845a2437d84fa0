"""What a test's result says of a choice of poses: how many were right, and what a perfect choice would have scored."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from geoalign.bank import Bank
from geoalign.matching import Method
from geoalign.metrics import PoseChoice
from geoalign.metrics.functional import SUBSETS
from geoalign.metrics.pose_choice import oracle
from geoalign.module import CorrespondenceModule, update_pck
from geoalign.types import DatasetInfo, Evaluated, Matches, PairBatch, Prediction, Rows

ORACLE = "_oracle"
"""After a method's name: scores of the pose that the truth would choose."""


class PoseResult:
    """Sums over one test set, for one method that tries several poses; ranks add theirs when it is read."""

    def __init__(self, module: CorrespondenceModule, info: DatasetInfo, method: Method) -> None:
        self.module, self.dataset, self.method = module, info.name, method
        self.choice = PoseChoice(method.poses).to(module.device)
        self.best = module.new_metric(info)

    @torch.no_grad()
    def update(self, evaluated: Evaluated, batch: PairBatch) -> None:
        """Add a batch: the choices, and the points under the pose that has most of them right."""
        module, prediction = self.module, evaluated["predictions"][self.method.name]
        self.choice.update(prediction.pose, batch["azimuth"])
        rows = module.rows(batch, self.method)
        matches = by_pose(evaluated["bank"], rows, prediction, self.method, module)
        update_pck(self.best, oracle(matches, batch, max(module.alphas), module.strict), batch)

    def named(self, stage: str) -> Mapping[str, float]:
        """Shares of right choices, and the oracle's PCK of all and of the geometry-aware keypoints."""
        found = self.best.compute()._replace(counts={})
        kept = {at: value for at, value in found.scores.items() if at.subset in ("all", SUBSETS[0])}
        scores = found._replace(scores=kept).named(stage, self.dataset, method=self.method.name + ORACLE)
        return {**self.choice.compute().named(stage, self.dataset), **scores}


def by_pose(bank: Bank, rows: Rows, prediction: Prediction, method: Method, module: CorrespondenceModule) -> Matches:
    """The matches of every row in every pose, ``(p b n ...)``; those of the chosen pose are there already."""
    if prediction.by_pose is not None:
        return prediction.by_pose
    count, chosen = len(method.poses), prediction.pose
    others = [method.match(bank, rows, (chosen + k) % count, module.matcher).matches for k in range(1, count)]
    steps = (torch.arange(count, device=chosen.device).unsqueeze(1) - chosen) % count
    row = torch.arange(len(chosen), device=chosen.device)
    return Matches(*(torch.stack(each)[steps, row] for each in zip(prediction.matches, *others, strict=True)))
