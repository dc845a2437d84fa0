"""One process group for all metrics: two ranks with unequal shares must equal one process exactly."""

import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_kap import kap_of
from test_pck import ALPHAS, CATEGORIES, add, make_rows
from test_pck_dagger import dagger_pck
from test_pose_choice import choices_of
from test_robustness import pose_rows
from test_visibility_split import split_of
from torchmetrics import Metric

from geoalign.metrics import PCK, PosePrediction


def pck_of(index: list[int]) -> PCK:
    metric = PCK(ALPHAS, CATEGORIES)
    if index:
        add(metric, make_rows(), index)
    return metric


def poses_of(index: list[int]) -> PosePrediction:
    metric = PosePrediction()
    if index:
        metric.update(**{name: value[index] for name, value in pose_rows().items()})
    return metric


METRICS = {
    "pck": pck_of,
    "dagger": dagger_pck,
    "kap": kap_of,
    "split": split_of,
    "poses": poses_of,
    "choices": choices_of,
}
ROWS = list(range(23))
SHARES = {"unequal": (ROWS[:5], ROWS[5:]), "one_idle": ([], ROWS)}


def computed(index: list[int]) -> dict[str, object]:
    metrics: dict[str, Metric] = {name: build(index) for name, build in METRICS.items()}
    return {name: metric.compute() for name, metric in metrics.items()}


def on_rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for name, share in SHARES.items():
        torch.save(computed(share[rank]), f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(on_rank, (port, str(tmp_path)), nprocs=2)
    one = computed(ROWS)
    for name in SHARES:
        for rank in (0, 1):
            assert torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=False) == one
