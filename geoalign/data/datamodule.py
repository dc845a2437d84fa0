"""One datamodule: train, validation and test datasets are chosen separately."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Subset

from geoalign.data.batch.collate import ANGLES, Collate, Looks, training_poses
from geoalign.data.batch.dataset import PairDataset
from geoalign.data.batch.live import Augment
from geoalign.data.batch.masks import MaskLoader, dataset_mask, subject_mask
from geoalign.data.batch.packing import PackedSampler
from geoalign.data.batch.samplers import EvaluationSampler, PairSampler, TrainSampler
from geoalign.data.batch.shared_memory import usable_workers
from geoalign.data.batch.views import ViewLoader, ViewRef, shown
from geoalign.data.framed import framed
from geoalign.data.records import DataError, PairSource
from geoalign.geometry import FRAME_PX, FRAMINGS, UPRIGHT, Framing, Pose

Sources = Mapping[str, PairSource]


@dataclass(frozen=True)
class Limits:
    """At most so many pairs per stage, seeded.

    Args:
        train: at most so many pairs, seeded
        val: as train
        test: as train
        replacement: true draws with replacement, as the release does
    """

    train: int | None = None
    val: int | None = None
    test: int | None = None
    replacement: bool = False
    seed: int = 42


@dataclass
class Connection:
    """What the datamodule is told by the other parts of a run: how views load and which rows are wanted."""

    loader: ViewLoader
    kinds: Sequence[str] = ("plain",)
    poses: Sequence[Pose] = (UPRIGHT,)
    mask_side: int | None = None
    frame_px: int = FRAME_PX
    masks: MaskLoader = dataset_mask
    looks: Mapping[str, Looks] | None = None
    train_mask_side: int | None = None


class TrainLoader(DataLoader[Any]):
    """A loader that begins at its first ``next``: only then does a restored trainer know epoch and ``position()``."""

    def __init__(self, *arguments: Any, position: Callable[[], tuple[int, int]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.position = position

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator is all that is asked of it
        assert isinstance(self.batch_sampler, TrainSampler)
        epoch, self.batch_sampler.start = self.position()
        self.batch_sampler.set_epoch(epoch)  # Lightning calls it on samplers only, never on batch samplers
        yield from super().__iter__()


class PairDataModule(LightningDataModule):
    """Loaders over any datasets; several validation and test sets at once, keyed by name.

    ``sampler`` makes the training batch sampler from the training source. An evaluation batch is packed so that each
    view is seldom met twice; with ``eval_views=None`` it is the next ``eval_batch`` pairs. Both give the same results.
    ``augment`` changes training pixels and needs live features. Connect it before use.

    Args:
        train: a source
        val: sources by name
        test: sources by name
        sampler: null: one pair a batch (the released recipe); or a group of conf/data/sampler
        eval_batch: at most so many pairs per evaluation batch
        workers: loader processes
        seed: of every draw
        primary: the validation set whose metric is the objective
        angles: degrees that rows of kind `rotated` are drawn from
        eval_views: and so many views, in all poses; null: the next eval_batch pairs, whatever views they need
        frame: letterbox: longer side to the frame's, centred on black | squash: both sides to the frame's |
            pad: as letterbox, in the upper left corner. Numbers of one are not comparable with another's
    """

    def __init__(
        self,
        train: PairSource | None = None,
        val: Sources | None = None,
        test: Sources | None = None,
        sampler: Callable[[PairSource], TrainSampler] | None = None,
        eval_batch: int = 32,
        workers: int = 0,
        limits: Limits | None = None,
        seed: int = 42,
        primary: str | None = None,
        angles: Sequence[float] = ANGLES,
        eval_views: int | None = 128,
        frame: Framing = "letterbox",
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        if frame not in FRAMINGS:
            raise DataError(f"data.frame is one of {', '.join(FRAMINGS)}, got {frame!r}")
        if eval_batch < 1 or (eval_views is not None and eval_views < 2):
            raise DataError(
                "data.eval_batch is at least 1 pair, and data.eval_views at least 2 views or null; "
                f"got {eval_batch} and {eval_views}"
            )
        self.eval_views = eval_views
        if primary is not None and val is not None and primary not in val:
            raise DataError(f"data.primary is one of the validation sets {sorted(val)}, got {primary!r}")
        self.primary, self.angles = primary, tuple(angles)
        self.limits, self.eval_batch, self.workers, self.seed = limits or Limits(), eval_batch, workers, seed
        self.frame, self.augment = frame, augment or Augment()
        self.train_source = None if train is None else framed(train, frame)
        self.val_sources, self.test_sources = (
            {name: framed(source, frame) for name, source in (sources or {}).items()} for sources in (val, test)
        )
        for source in (train, *self.val_sources.values(), *self.test_sources.values()):
            if source is not None and len(source) == 0:
                raise DataError(f"{source.name} ({source.split}) has no pairs; check its root, split and categories")
        make = sampler or (lambda source: PairSampler(source, batch_size=1, seed=seed))
        self.train_set = None if train is None else self._dataset(train, self.limits.train)
        self.sampler = None if train is None else make(train)
        self.connection: Connection | None = None

    def connect(self, connection: Connection) -> None:
        """Say how views are loaded, which rows and poses are wanted."""
        self.connection = connection

    def views(self, stages: Sequence[str], kinds: Sequence[str], poses: Sequence[Pose]) -> list[ViewRef]:
        """Every distinct view that the stages will ask for (to fill a feature store beforehand).

        ``kinds`` are the rows trained on, ``poses`` those tried at evaluation.
        """
        views: dict[Any, ViewRef] = {}
        for stage in stages:
            wanted = training_poses(kinds, self.angles) if stage == "train" else list(dict.fromkeys((UPRIGHT, *poses)))
            for source in self._sources(stage):
                for image in source.images:
                    for pose in wanted:
                        views.setdefault(shown(image, pose).key, shown(image, pose))
        return list(views.values())

    def crops(self, name: str, looks: Looks) -> list[ViewRef]:
        """The views that second looks at the pairs of the test set ``name`` ask for, as often as they do."""
        pairs = {pair_id.partition("#")[0]: look for pair_id, look in looks.items()}
        every = [(pair, pairs[pair.pair_id]) for pair in self.test_sources[name] if pair.pair_id in pairs]
        return [
            ref for pair, look in every for ref in (ViewRef(pair.src, crop=look.src), ViewRef(pair.trg, crop=look.trg))
        ]

    def test_pairs(self, name: str) -> list[str]:
        """Ids of the pairs that a test of ``name`` evaluates, in the dataset's order."""
        dataset = self._dataset(self.test_sources[name], self.limits.test)
        return [dataset[i].pair.pair_id for i in range(len(dataset))]

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches; raises ``DataError`` where the run has no training dataset."""
        if self.train_set is None or self.sampler is None:
            raise DataError("this run has no training dataset; set data.train or use geoalign evaluate")
        self.sampler.shard(*self._rank())
        source, kinds = self.train_set.source, self.connected().kinds
        masks = {"mask_side": self.connected().train_mask_side, "masks": subject_mask}
        collate = self._collate(source, kinds=kinds, angles=self.angles, augment=self.augment, **masks)
        pairs = [self.train_set[draw].pair for draw in self.sampler.example()]
        images = {record.path for pair in pairs for record in (pair.src, pair.trg)}
        options = self._workers(source, len(images) * len(training_poses(kinds, self.angles)))
        return TrainLoader(
            self.train_set, position=self._position, batch_sampler=self.sampler, collate_fn=collate, **options
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """A loader per validation set, in the order of their names in the configuration."""
        return [self._evaluation(name, source, self.limits.val) for name, source in self.val_sources.items()]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """A loader per test set, in the order of their names in the configuration."""
        return [self._evaluation(name, source, self.limits.test) for name, source in self.test_sources.items()]

    def _evaluation(self, name: str, source: PairSource, limit: int | None) -> DataLoader[Any]:
        dataset, connection = self._dataset(source, limit), self.connected()
        looks = None if connection.looks is None else connection.looks[name]
        masks = {"mask_side": connection.mask_side, "masks": connection.masks}
        collate = self._collate(source, poses=connection.poses, looks=looks, **masks)
        # the loader's dataset is this rank's part alone, and its length what this rank evaluates
        own = Subset(dataset, list(EvaluationSampler(dataset.grouped(), *self._rank())))
        ends = [collate.ends(dataset[i]) for i in own.indices]
        poses, images = len(connection.poses), len({end for pair in ends for end in pair})
        if self.eval_views is None:
            options = self._workers(source, min(images, 2 * self.eval_batch) * poses)
            return DataLoader(own, self.eval_batch, collate_fn=collate, **options)
        most = max(2, self.eval_views // poses)
        options = self._workers(source, min(images, most) * poses)
        return DataLoader(own, batch_sampler=PackedSampler(ends, most, self.eval_batch), collate_fn=collate, **options)

    def _collate(self, source: PairSource, **options: Any) -> Collate:
        connection = self.connected()
        return Collate(source, connection.loader, frame_px=connection.frame_px, seed=self.seed, **options)

    def _sources(self, stage: str) -> list[PairSource]:
        if stage == "train":
            return [self.train_source] if self.train_source is not None else []
        return list((self.val_sources if stage == "val" else self.test_sources).values())

    def _dataset(self, source: PairSource, limit: int | None) -> PairDataset:
        return PairDataset(source, limit, self.limits.replacement, self.limits.seed)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _position(self) -> tuple[int, int]:
        """The epoch, and its batches that are behind (some only when an interrupted epoch goes on)."""
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.batch_idx + 1

    def connected(self) -> Connection:
        """What it was told by :meth:`connect`."""
        if self.connection is None:
            raise RuntimeError("the datamodule is not connected; call connect(Connection(loader)) first")
        return self.connection

    def _workers(self, source: PairSource, views: int) -> dict[str, Any]:
        """How many processes load batches of at most so many ``views`` of the source's images, and their seed."""
        view = ViewRef(source.images[0])
        self.workers = usable_workers(self.workers, self.connected().loader, view, views, self._rank()[1])
        # an iterator draws its workers' seed: from its own generator, or dropout would depend on who iterates
        generator = torch.Generator().manual_seed(self.seed)
        options = {"persistent_workers": self.workers > 0, "worker_init_fn": leave_signals, "generator": generator}
        return {"num_workers": self.workers, **options}


def leave_signals(worker: int) -> None:
    """A loader's worker ignores what stops a run: it gets Ctrl-C too, and the run saves after one more batch."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
