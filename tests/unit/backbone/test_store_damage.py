"""What can happen to a store: killed, doubled, flipped, cut short, full, read-only. Nothing wrong is ever read."""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.backbone.store import FeatureStore, StoreError, view_key
from geoalign.backbone.store.shards import PARTIAL, remove_partials

KEYS = [view_key("backbone", f"image{i}", "upright") for i in range(60)]
FORK = multiprocessing.get_context("fork")


def maps_of(key: str) -> list[torch.Tensor]:
    """Features that follow from the key, so that any process makes the same."""
    generator = torch.Generator().manual_seed(int(key[:8], 16))
    return [torch.randn(64, 20, 20, generator=generator), torch.randn(8, 3, 3, generator=generator)]


def open_store(root: Path, **options: object) -> FeatureStore:
    return FeatureStore(root, "fp16", fingerprint="backbone", **options)


def fill(root: Path, keys: list[str], pause: float = 0.0, shard_mb: int = 256) -> None:
    """What an extraction does: ask what is missing, add it."""
    torch.set_num_threads(1)
    store = open_store(root, shard_mb=shard_mb)
    with store.writer() as writer:
        for key in store.missing(keys):
            writer.add(key, maps_of(key), f"{key}.jpg")
            time.sleep(pause)


def shards(root: Path) -> list[Path]:
    return sorted((root / "backbone").glob("*.safetensors"))


def assert_holds(root: Path, keys: list[str]) -> None:
    store = open_store(root)
    assert store.missing(keys) == []
    assert store.verify() == []
    for key in keys:
        for got, live in zip(store.read(key), maps_of(key), strict=True):
            assert torch.equal(got, live.half().float())


@pytest.fixture
def three_shards(tmp_path: Path) -> Path:
    for start in (0, 4, 8):
        fill(tmp_path, KEYS[start : start + 4])
    return tmp_path


def assert_nothing_twice(root: Path) -> None:
    stored = [key for header in open_store(root).index.headers.values() for key in header.keys]
    assert len(stored) == len(set(stored))


def test_a_killed_writer_resumes_with_nothing_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    kept = 0
    for delay in (0.0, 0.03, 0.06, 0.1):  # after a shard has appeared: somewhere in the next one
        worker = FORK.Process(target=fill, args=(tmp_path, KEYS, 0.005, 1))  # 20 views to a shard
        worker.start()
        while len(shards(tmp_path)) == kept and worker.is_alive():
            time.sleep(0.002)
        time.sleep(delay)
        worker.kill()
        worker.join()
        assert open_store(tmp_path).verify() == []
        assert len(open_store(tmp_path)) >= 20 * kept
        kept = len(shards(tmp_path))
    fill(tmp_path, KEYS)
    assert_holds(tmp_path, KEYS)
    assert_nothing_twice(tmp_path)


def die_at(step: str, call: int, root: Path) -> None:
    """Fill, but be killed at the given call of ``os.<step>``."""
    done, real = 0, getattr(os, step)

    def counted(*arguments: object) -> object:
        nonlocal done
        done += 1
        if done == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(os, step, counted)
    fill(root, KEYS, shard_mb=1)


@pytest.mark.parametrize(("step", "call"), [("replace", 1), ("replace", 2), ("fsync", 1), ("fsync", 2), ("fsync", 3)])
def test_a_kill_at_any_step_of_writing_a_shard_is_harmless(tmp_path: Path, step: str, call: int) -> None:
    worker = FORK.Process(target=die_at, args=(step, call, tmp_path))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    assert open_store(tmp_path).verify() == []
    fill(tmp_path, KEYS)
    assert_holds(tmp_path, KEYS)
    assert_nothing_twice(tmp_path)


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    workers = [FORK.Process(target=fill, args=(tmp_path, keys, 0.001, 1)) for keys in (KEYS[:45], KEYS[:14:-1])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert_holds(tmp_path, KEYS)


def test_of_two_copies_the_first_wins(tmp_path: Path) -> None:
    one, two = open_store(tmp_path), open_store(tmp_path)
    with two.writer() as late, one.writer() as early:
        early.add("k", [torch.zeros(1, 2, 2)])
        late.add("k", [torch.ones(1, 2, 2)])
        early.flush()
        late.add("other", [torch.ones(1, 2, 2)])
    assert open_store(tmp_path).read("k")[0].max() == 0
    assert len(open_store(tmp_path)) == 2


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore:.*count as missing")
def test_any_flipped_bit_is_found_and_only_its_shard_is_redone(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    root = tmp_path_factory.mktemp("flip")
    maps = [torch.randn(3, 2, 2)]
    for keys in (["a", "b"], ["c", "d"]):
        with open_store(root).writer() as writer:
            for key in keys:
                writer.add(key, maps)
    victim = shards(root)[1]
    content = bytearray(victim.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    victim.write_bytes(content)
    store = open_store(root)
    assert store.verify() == [victim.name]
    assert store.missing("abcd") == ["c", "d"]
    assert store.repair() == [victim.name]
    assert not victim.exists()
    with store.writer() as writer:
        assert [writer.add(key, maps) for key in "abcd"] == [False, False, True, True]
    assert open_store(root).verify() == []


def flip_data(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


def test_a_damaged_view_is_never_read(three_shards: Path) -> None:
    victim = shards(three_shards)[1]
    flip_data(victim)
    store = open_store(three_shards)
    with pytest.raises(StoreError, match=f"{victim.name} is damaged.*repair") as caught:
        store.read_many(KEYS[:12])
    assert "\n" not in str(caught.value)
    assert open_store(three_shards, check="off").read(KEYS[7])  # the price of not looking
    store.read_many(KEYS[:4] + KEYS[8:12])


@pytest.mark.parametrize("keep", [0, 5, 300, 150_000, -1])
def test_a_truncated_shard_is_missing_from_the_start(three_shards: Path, keep: int) -> None:
    victim = shards(three_shards)[2]
    os.truncate(victim, keep % victim.stat().st_size)
    with pytest.warns(UserWarning, match=f"{victim.name}.*count as missing"):
        store = open_store(three_shards)
    assert store.missing(KEYS[:12]) == KEYS[8:12]
    assert store.repair() == [victim.name]
    fill(three_shards, KEYS[:12])
    assert_holds(three_shards, KEYS[:12])


def test_a_shard_cut_after_opening_is_an_error_not_a_crash(three_shards: Path) -> None:
    store, victim = open_store(three_shards), shards(three_shards)[0]
    os.truncate(victim, 1000)
    with pytest.raises(StoreError, match=rf"{victim.name} cannot be read.*repair"):
        store.read(KEYS[0])
    assert store.verify() == [victim.name]


def test_verify_reports_progress(three_shards: Path) -> None:
    seen: list[tuple[int, int]] = []
    open_store(three_shards).verify(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_repair_leaves_files_that_are_not_ours(three_shards: Path) -> None:
    stranger = three_shards / "backbone" / "model.safetensors"
    stranger.write_bytes(b"x")
    assert open_store(three_shards).repair() == []
    assert stranger.exists()


def test_leftovers_of_the_dead_go_and_files_being_written_stay(three_shards: Path) -> None:
    old, young = (three_shards / "backbone" / (name + PARTIAL) for name in ("old", "young"))
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    with open_store(three_shards).writer():
        pass
    assert (old.exists(), young.exists()) == (False, True)
    remove_partials(three_shards / "backbone", 0.0)
    assert not young.exists()


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow past ``limit`` bytes: the write itself fails half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_what_was_whole(tmp_path: Path) -> None:
    fill(tmp_path, KEYS[:4])
    with pytest.raises(StoreError, match=r"8 views not written to .*run again to go on") as caught, full_disk(300_000):
        fill(tmp_path, KEYS[:12])
    assert "\n" not in str(caught.value)
    assert len(os.listdir(tmp_path / "backbone")) == 2  # store.json and the whole shard
    assert_holds(tmp_path, KEYS[:4])
    fill(tmp_path, KEYS[:12])
    assert_holds(tmp_path, KEYS[:12])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_name_their_image_and_cost_no_other(tmp_path: Path, value: float) -> None:
    views = {"good": 0.0, "bad": value}

    def write() -> None:
        with open_store(tmp_path).writer() as writer:
            for key, content in views.items():
                writer.add(key, [torch.full((1, 2, 2), content)], f"cat/{key}.jpg (flip)")

    with pytest.raises(StoreError, match=r"features of cat/bad\.jpg \(flip\) are not finite"):
        write()
    assert open_store(tmp_path).missing(views) == ["bad"]


def test_features_too_large_for_half_precision_name_the_remedy(tmp_path: Path) -> None:
    with open_store(tmp_path).writer() as writer, pytest.raises(StoreError, match=r"do not fit fp16.*precision=bf16"):
        writer.add("k", [torch.full((1, 2, 2), 1e6)])


def test_a_read_only_folder_is_read_and_not_written(three_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    assert_holds(three_shards, KEYS[:12])
    with pytest.raises(StoreError, match=r"read-only; set another store.root"), open_store(three_shards).writer():
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = open_store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"cannot write to .*set another store.root"):
        store.prepare()


def test_shards_are_plain_safetensors(three_shards: Path) -> None:
    from safetensors.torch import load_file

    path = shards(three_shards)[0]
    tensors = load_file(path)
    assert tensors["map0"].shape == (4, 64, 20, 20)
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert json.loads(json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]["keys"]) == KEYS[:4]
