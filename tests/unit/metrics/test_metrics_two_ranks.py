"""One process group for all metrics: two ranks with unequal shares must equal one process exactly."""

import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_pck import ALPHAS, CATEGORIES, add, make_rows

from geoalign.metrics import PCK


def pck_of(index: list[int]) -> PCK:
    metric = PCK(ALPHAS, CATEGORIES)
    if index:
        add(metric, make_rows(), index)
    return metric


METRICS = {"pck": pck_of}
ROWS = list(range(23))


def on_rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    share = ROWS[:5] if rank == 0 else ROWS[5:]
    computed = {name: build(share).compute() for name, build in METRICS.items()}
    torch.save(computed, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(on_rank, (port, str(tmp_path)), nprocs=2)
    one = {name: build(ROWS).compute() for name, build in METRICS.items()}
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == one
