"""One pass over views on all ranks of a trainer: rank 0 says what is left to do, and one rank does each view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from torch.utils.data import DataLoader, Dataset

from geoalign.data.batch.samplers import EvaluationSampler
from geoalign.data.batch.shared_memory import usable_workers
from geoalign.data.batch.views import ViewLoader, ViewRef
from geoalign.types import Views


class ViewPass(LightningModule):
    """Give it to ``trainer.predict``. Subclasses say in :meth:`plan` what is to do, and do it in :meth:`work`.

    ``loader`` runs in ``workers`` processes and loads ``batch_size`` views at a time.
    """

    def __init__(self, views: Sequence[ViewRef], loader: ViewLoader, batch_size: int = 4, workers: int = 0) -> None:
        super().__init__()
        self.views, self.loader, self.batch_size, self.workers = list(views), loader, batch_size, workers
        self.allow_zero_length_dataloader_with_multiple_devices = True  # there may be fewer views than ranks

    def plan(self) -> list[int]:
        """Indices of the views to work on; asked of rank 0 alone, on its device."""
        raise NotImplementedError

    def work(self, refs: Sequence[ViewRef], views: Views) -> None:
        """Do one batch; autocast is off, whatever the trainer's precision."""
        raise NotImplementedError

    def predict_dataloader(self) -> DataLoader[Any]:
        # Before the strategy has launched, ranks and their number are not known: nothing is divided earlier than here.
        todo = self._agree()
        sampler = EvaluationSampler(todo, self.trainer.global_rank, self.trainer.world_size)
        dataset = cast(Dataset[ViewRef], self.views)  # a list has all that a dataset needs
        workers = usable_workers(self.workers, self.loader, self.views[0], self.batch_size) if todo else 0
        return DataLoader(
            dataset,
            batch_size=self.batch_size,  # by name, or Lightning cannot make its own copy of the loader
            sampler=sampler,
            num_workers=workers,
            collate_fn=_Load(self.loader),
        )

    def predict_step(self, batch: tuple[list[ViewRef], Views], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self.work(*batch)

    def _agree(self) -> list[int]:
        """Rank 0's plan, or its refusal, on every rank."""
        said: tuple[list[int], Exception | None] | None = None
        if self.trainer.is_global_zero:
            try:
                said = self.plan(), None
            except (ValueError, RuntimeError, OSError) as error:
                said = [], error
        todo, refusal = cast(Any, self.trainer.strategy.broadcast(said))
        if refusal is not None:
            raise refusal
        return todo


class _Load:
    """Collates references into themselves and what the loader gives for them."""

    def __init__(self, loader: ViewLoader) -> None:
        self.loader = loader

    def __call__(self, refs: list[ViewRef]) -> tuple[list[ViewRef], Views]:
        return refs, self.loader(refs)
