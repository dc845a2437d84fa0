"""Loader processes are as many as shared memory has room for; one warning says so where it has too little."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.spair_tree import write_tree

from geoalign.data.batch import shared_memory
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.shared_memory import free_bytes, usable_workers
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k

VIEW = 3 * 64 * 64
ITERATE = """
import sys
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
data = PairDataModule(test={"mini": SPair71k(sys.argv[1])}, workers=2)
data.connect(Connection(PixelLoader((512,))))
print(sum(len(batch["pair_id"]) for batch in data.test_dataloader()[0]))
"""


@pytest.fixture
def source(tmp_path: Path) -> SPair71k:
    write_tree(tmp_path)
    return SPair71k(tmp_path)


@pytest.mark.parametrize(("free", "fitting"), [(0, 0), (7 * VIEW, 0), (8 * VIEW, 1), (12 * VIEW, 2), (10**9, 4)])
def test_workers_are_as_many_as_fit(source, monkeypatch, caplog, free, fitting):
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: free)
    view, loader = ViewRef(source.images[0]), PixelLoader((64,))
    assert usable_workers(4, loader, view, views=1) == fitting
    assert len(caplog.records) == (fitting < 4)
    assert usable_workers(4, loader, view, views=2, ranks=3) <= fitting
    assert usable_workers(0, loader, view, views=1) == 0


def test_a_machine_without_shared_memory_loads_in_the_main_process(source, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(shared_memory, "SHARED", tmp_path / "none")
    assert free_bytes() == 0
    caplog.set_level(logging.WARNING)
    data = PairDataModule(source, test={"mini": source}, workers=2, sampler=lambda s: CliqueSampler(s, 3))
    data.connect(Connection(PixelLoader((64,))))
    loaders = [data.train_dataloader(), *data.test_dataloader()]
    assert [loader.num_workers for loader in loaders] == [0, 0]
    assert sum(len(batch["pair_id"]) for batch in loaders[1]) == len(source)
    (record,) = caplog.records
    assert "0 MB free, too little for 2 loader processes" in record.getMessage()
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: None)  # where it is not in the file system
    assert PairDataModule(source, workers=2).workers == 2


@pytest.mark.parametrize("options", ["ro", "size=1m"])
def test_nothing_hangs_on_real_shared_memory_of_that_kind(source, options):
    namespace = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    command = [*namespace, sys.executable, "-c", ITERATE, str(source.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ})
    assert done.stdout.strip() == str(len(source)), done.stderr
    assert done.stderr.count("loading with 0") == 1
