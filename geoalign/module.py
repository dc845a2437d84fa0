"""The Lightning module: wiring only. Mathematics lives in the parts it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from geoalign.backbone.base import Backbone
from geoalign.bank import Bank
from geoalign.geometry import Real
from geoalign.keys import loss_key
from geoalign.losses import Moment, WeightedSum
from geoalign.losses.schedule import value_at
from geoalign.matching import Matcher, Method, Plain
from geoalign.metrics import PCK
from geoalign.metrics.functional import point_error_px, subset_masks
from geoalign.refiner.base import CONFIG, Refiner
from geoalign.refiner.teacher import Teacher
from geoalign.types import DatasetInfo, Evaluated, Maps, Matches, PairBatch, Prediction, Rows, Views

FROZEN = "backbone."
STATES = {"state_dict", "current_model_state"}  # the second where weights are averaged


class NonFiniteLoss(ValueError):
    """The loss is NaN or infinite; nothing after it can be trusted."""


class CorrespondenceModule(LightningModule):
    """Frozen backbone → refiner → matching, losses and metrics over a bank of views.

    Args:
        refiner: maps to a bank.
        matcher: how similarity maps are read.
        backbone: None where the loader gives cached maps.
        loss: None where nothing is trained.
        optimizer: takes parameters, or groups of them.
        scheduler: takes the optimizer, and the total number of steps as ``total_steps`` if it has such a parameter.
        alphas: PCK thresholds, shares of the target's size.
        strict: an error counts as correct when < alpha·size; else <=.
        methods: of prediction; all are evaluated alike, side by side.
    """

    def __init__(
        self,
        refiner: Refiner,
        matcher: Matcher,
        backbone: Backbone | None = None,
        loss: WeightedSum | None = None,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        scheduler: Callable[..., Any] | None = None,
        alphas: Sequence[float] = (0.1, 0.05, 0.01),
        strict: bool = True,
        methods: Sequence[Method] = (Plain(),),
    ) -> None:
        super().__init__()
        self.backbone, self.refiner, self.matcher, self.loss = backbone, refiner, matcher, loss
        self.teacher = Teacher(refiner) if loss is not None and loss.teacher_decay is not None else None
        """The average of the refiner's weights over steps, where a loss learns from it."""
        if loss is not None and not loss.learned_scale and refiner.scale is not None:
            refiner.scale.requires_grad_(False)  # no term reads it: several ranks would wait for its gradient
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.alphas, self.strict = tuple(alphas), strict
        self.methods = tuple(methods)
        self.poses = tuple(dict.fromkeys(pose for method in self.methods for pose in method.poses))
        """Of the source, that any method asks for: the columns of a batch's ``src_poses``."""
        self.active = self.methods
        """Methods of the pass that is on; a callback may leave some out of a validation."""
        self.datasets: Mapping[str, Sequence[DatasetInfo]] = {}
        self.metrics: list[dict[str, PCK]] = []
        """PCK of each dataset of the stage, by method."""
        self.steps: int | None = None
        """Optimiser steps of the whole training, once it is known; None where it has no end."""

    def describe(self, datasets: Mapping[str, Sequence[DatasetInfo]]) -> None:
        """Name the datasets of each stage (``val``, ``test``) in the order of their loaders."""
        self.datasets = datasets

    def bank(self, views: Views) -> Bank:
        """The bank of the views, each refined exactly once."""
        return self.refiner.bank_seeing(*self._seen(views))

    def maps(self, views: Views) -> Maps:
        """Frozen maps: those of the loader, or the backbone's."""
        if "maps" in views:
            return tuple(views["maps"])
        if self.backbone is None:
            raise RuntimeError("the batch holds pixels but this module has no backbone; give it one or cached maps")
        return self.backbone(views["images"])

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        if self.loss is None:
            raise RuntimeError("this module has no loss and cannot be trained; set loss=...")
        seen = self._seen(batch["views"])  # maps are made once, for the refiner and its teacher
        teacher = None if self.teacher is None else self.teacher.bank(*seen)
        moment = Moment(self.refiner.scale, self.trainer.global_step, self.steps, teacher)
        total = self.loss(self.refiner.bank_seeing(*seen), batch, moment)
        # Σ w·l / Σ w over all ranks: DDP averages gradients, so the local sum is scaled by the world
        weight, whole = self._summed(torch.stack([total.weight, total.sum.detach()])).clamp(min=1e-12)
        loss = total.sum * self.trainer.world_size / weight
        if not (loss.isfinite() and whole.isfinite()):  # where one rank's is not, every rank stops
            raise NonFiniteLoss(
                f"the loss is {loss.item()} at step {self.trainer.global_step}, pairs {', '.join(batch['pair_id'])}; "
                "the last checkpoint is from before; lower optimizer.lr, or set trainer.gradient_clip_val"
            )
        self.log(loss_key("train", "total"), whole / weight, prog_bar=True, batch_size=len(batch["src"]))
        parts = {loss_key("train", name): value for name, value in total.parts.items()}
        self.log_dict(parts, batch_size=len(batch["src"]))
        return loss

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.begin(self.refiner)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The step, and the teacher's after it: before any callback could save one without the other."""
        super().optimizer_step(*args, **kwargs)
        if self.teacher is not None and self.loss is not None and self.loss.teacher_decay is not None:
            decay = value_at(self.loss.teacher_decay, self.trainer.global_step, self.steps)
            self.teacher.follow(self.refiner, decay)

    def validation_step(self, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> Evaluated:
        return self._evaluate("val", batch, dataloader_idx)

    def test_step(self, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> Evaluated:
        return self._evaluate("test", batch, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        self._start("val")

    def on_test_epoch_start(self) -> None:
        self._start("test")

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def new_metric(self, info: DatasetInfo) -> PCK:
        """A PCK with this module's thresholds for one dataset."""
        return PCK(self.alphas, info.categories, self.strict).to(self.device)

    def configure_optimizers(self) -> Any:
        if self.make_optimizer is None:
            raise RuntimeError("this module has no optimizer and cannot be trained; set optimizer=...")
        groups = self._groups()
        if not groups:
            raise ValueError("the refiner has nothing to train; choose refiner=aggregation, or use geoalign evaluate")
        steps = self.trainer.estimated_stepping_batches
        self.steps = int(steps) if math.isfinite(steps) else None
        if self.loss is not None:
            tried = self.trainer.fast_dev_run  # type: ignore[attr-defined]  # one batch ends before any schedule
            self.loss.check(self.refiner.scale is not None, None if tried else self.steps)
        rates, parameters = list(groups), [*groups.values()]
        optimizer = self.make_optimizer(parameters[0] if len(rates) == 1 else [{"params": one} for one in parameters])
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] *= rate
        if self.make_scheduler is None:
            return optimizer
        # a schedule that names its top sets every group to it: each gets its share
        top = getattr(self.make_scheduler, "keywords", {}).get("max_lr")
        tops = {} if top is None or rates == [1.0] else {"max_lr": [top * rate for rate in rates]}
        length = {"total_steps": int(steps)} if "total_steps" in signature(self.make_scheduler).parameters else {}
        scheduler = self.make_scheduler(optimizer, **length, **tops)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _seen(self, views: Views) -> tuple[Maps, dict[int, Tensor], Real]:
        """What a refiner makes a bank of: maps, the frames beside them, and the side of the frame points are in."""
        return self.maps(views), views.get("images", {}), self.matcher.frame_px

    def _groups(self) -> dict[float, list[nn.Parameter]]:
        """What is trained, by its share of the learning rate."""
        rates, groups = self.refiner.rates(), dict[float, list[nn.Parameter]]()
        for name, parameter in self.refiner.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(rates.get(name, 1.0), []).append(parameter)
        return groups

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in STATES & checkpoint.keys():
            checkpoint[name] = {k: v for k, v in checkpoint[name].items() if not k.startswith(FROZEN)}
        checkpoint[CONFIG] = self.refiner.recipe()  # so that the weights can be published without the run

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        frozen = {k: v for k, v in self.state_dict().items() if k.startswith(FROZEN)}
        for name in STATES & checkpoint.keys():
            checkpoint[name] = {**checkpoint[name], **frozen}

    @torch.no_grad()
    def predict(self, batch: PairBatch) -> tuple[Bank, dict[str, Prediction]]:
        """The bank of a batch's views, and every active method's predictions from it."""
        bank = self.bank(batch["views"])
        return bank, {m.name: m(bank, self.rows(batch, m), self.matcher) for m in self.active}

    def _evaluate(self, stage: str, batch: PairBatch, dataloader_idx: int) -> Evaluated:
        bank, predictions = self.predict(batch)
        for name, prediction in predictions.items():
            update_pck(self.metrics[dataloader_idx][name], prediction.matches, batch)
        return {"bank": bank, "dataset": self.datasets[stage][dataloader_idx], "predictions": predictions}

    def rows(self, batch: PairBatch, method: Method) -> Rows:
        """What a method may see of a batch: its own poses, and nothing of the truth."""
        return Rows(
            src=batch["src"],
            trg=batch["trg"],
            src_poses=batch["src_poses"][:, [self.poses.index(pose) for pose in method.poses]],
            src_xy_px=batch["src_xy_px"],
            src_visible=batch["src_visible"],
            wanted=batch["visible"],
            partner=batch["partner"],
            masks=batch["views"].get("masks"),
            extent_px=batch["views"]["extent_px"],
            look=batch.get("look"),
        )

    def _start(self, stage: str) -> None:
        self.metrics = [{m.name: self.new_metric(info) for m in self.active} for info in self.datasets[stage]]

    def _finish(self, stage: str) -> None:
        for info, metrics in zip(self.datasets[stage], self.metrics, strict=True):
            for name, metric in metrics.items():  # already summed over ranks by the metric itself
                named = metric.compute().named(stage, info.name, method=name)
                self.log_dict(named, sync_dist=False, rank_zero_only=False)

    def _summed(self, value: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value.detach().clone(), reduce_op="sum")


def update_pck(metric: PCK, matches: Matches, batch: PairBatch) -> None:
    """Add a batch's matches to a PCK."""
    error = point_error_px(matches.xy_px, batch["trg_xy_px"])
    subsets = subset_masks(batch["visible"], batch["geometry_aware"], batch["azimuth_difference"], batch["partner"])
    metric.update(error, batch["size_px"], batch["visible"], subsets, batch["category"])
