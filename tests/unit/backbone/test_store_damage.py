"""What can happen to a store: killed, doubled, flipped, cut short, full, read-only. Nothing wrong is ever read."""

import contextlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.backbone.store import FeatureStore, StoreError, view_key

KEYS = [view_key("backbone", f"image{i}", "upright") for i in range(60)]
FORK = multiprocessing.get_context("fork")


def maps_of(key: str) -> list[torch.Tensor]:
    """Features that follow from the key, so that any process makes the same."""
    generator = torch.Generator().manual_seed(int(key[:8], 16))
    return [torch.randn(64, 20, 20, generator=generator), torch.randn(8, 3, 3, generator=generator)]


def open_store(root: Path, **options: object) -> FeatureStore:
    return FeatureStore(root, "fp16", fingerprint="backbone", **options)


def fill(root: Path, keys: list[str], pause: float = 0.0) -> None:
    """What an extraction does: ask what is missing, add it."""
    torch.set_num_threads(1)
    store = open_store(root)
    for key in store.missing(keys):
        store.add(key, maps_of(key), f"{key}.jpg")
        time.sleep(pause)


def views(root: Path) -> list[Path]:
    return sorted((root / "backbone").glob("*.safetensors"))


def partials(root: Path) -> list[Path]:
    return list((root / "backbone").glob(".*.partial"))


def assert_holds(root: Path, keys: list[str]) -> None:
    store = open_store(root)
    assert store.missing(keys) == []
    assert store.verify() == []
    for key in keys:
        for got, live in zip(store.read(key), maps_of(key), strict=True):
            assert torch.equal(got, live.half().float())


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    fill(tmp_path, KEYS[:6])
    return tmp_path


def test_a_killed_extraction_resumes_with_nothing_lost(tmp_path: Path) -> None:
    kept: dict[Path, int] = {}
    for delay in (0.0, 0.03, 0.06, 0.1):
        worker = FORK.Process(target=fill, args=(tmp_path, KEYS, 0.002))
        worker.start()
        while len(views(tmp_path)) <= len(kept) and worker.is_alive():
            time.sleep(0.002)
        time.sleep(delay)
        worker.kill()
        worker.join()
        assert open_store(tmp_path).verify() == []
        now = {path: path.stat().st_mtime_ns for path in views(tmp_path)}
        assert kept.items() <= now.items()
        kept = now
    fill(tmp_path, KEYS)
    assert_holds(tmp_path, KEYS)


def die_at_replace(call: int, root: Path) -> None:
    """Fill, but be killed just before the given file takes its name."""
    done, real = 0, os.replace

    def counted(*arguments: object) -> object:
        nonlocal done
        done += 1
        if done == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    os.replace = counted
    fill(root, KEYS[:4])


@pytest.mark.parametrize("call", [1, 2, 4])
def test_a_kill_before_the_last_step_of_writing_is_harmless(tmp_path: Path, call: int) -> None:
    worker = FORK.Process(target=die_at_replace, args=(call, tmp_path))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    assert len(partials(tmp_path)) == 1
    assert open_store(tmp_path).verify() == []
    fill(tmp_path, KEYS[:4])
    assert_holds(tmp_path, KEYS[:4])


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    workers = [FORK.Process(target=fill, args=(tmp_path, keys, 0.001)) for keys in (KEYS[:45], KEYS[:14:-1])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert_holds(tmp_path, KEYS)
    assert partials(tmp_path) == []


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), precision=st.sampled_from(["fp16", "int8"]))
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_is_found_and_only_its_view_is_redone(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, precision: str
) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("flip"), precision, fingerprint="backbone")
    maps = [torch.randn(3, 2, 2), torch.randn(1, 2, 2)]
    for key in KEYS[:3]:
        store.add(key, maps, "cat/1.jpg (flip)")
    victim = store.path(KEYS[1])
    content = bytearray(victim.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    victim.write_bytes(content)
    if store.verify():  # what the file says may also survive: a space, or a letter of a word that is not read
        with pytest.raises(StoreError, match=f"{victim.name}.* is damaged.*repair"):
            store.read(KEYS[1])
        assert store.repair() == [KEYS[1]]
        assert [store.add(key, maps) for key in KEYS[:3]] == [False, True, False]
    whole = [x.numpy().tobytes() for x in store.read(KEYS[0])]
    assert [x.numpy().tobytes() for x in store.read(KEYS[1])] == whole
    assert store.verify() == []


def flip_data(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


def test_a_damaged_view_is_never_read(filled: Path) -> None:
    victim = views(filled)[1]
    flip_data(victim)
    store = open_store(filled)
    with pytest.raises(StoreError, match=rf"{victim.name}.* is damaged.*repair") as caught:
        store.read_many(KEYS[:6])
    assert "\n" not in str(caught.value)
    assert open_store(filled, check="off").read(victim.stem)  # the price of not looking
    store.read_many([key for key in KEYS[:6] if key != victim.stem])


def test_a_view_under_another_key_is_damaged(filled: Path) -> None:
    store = open_store(filled)
    store.path(KEYS[0]).rename(store.path(KEYS[9]))
    assert store.verify() == [KEYS[9]]
    with pytest.raises(StoreError, match=KEYS[9]):
        store.read(KEYS[9])


@pytest.mark.parametrize("keep", [0, 5, 300, 40_000, -1])
def test_a_truncated_view_is_found_and_made_again(filled: Path, keep: int) -> None:
    victim = views(filled)[2]
    os.truncate(victim, keep % victim.stat().st_size)
    store = open_store(filled)
    with pytest.raises(StoreError, match=rf"{victim.name} is damaged.*repair\(\) and extract again"):
        store.read(victim.stem)
    assert store.verify() == store.repair() == [victim.stem]
    fill(filled, KEYS[:6])
    assert_holds(filled, KEYS[:6])


@pytest.mark.parametrize("name", ["model.safetensors", "notes.txt", f"{KEYS[0][:-1]}é.safetensors"])
def test_repair_leaves_files_that_are_not_ours(filled: Path, name: str) -> None:
    stranger = filled / "backbone" / name
    stranger.write_bytes(b"x")
    assert len(open_store(filled)) == 6
    assert open_store(filled).repair() == []
    assert stranger.exists()


def test_a_pipe_under_a_key_is_damaged_and_not_waited_for(filled: Path) -> None:
    store = open_store(filled)
    os.mkfifo(store.path(KEYS[9]))
    assert store.repair() == [KEYS[9]]


@pytest.mark.parametrize("step", ["prepare", "repair"])
def test_leftovers_of_the_dead_go_and_files_being_written_stay(filled: Path, step: str) -> None:
    old, young = (filled / "backbone" / f".{name}.partial" for name in ("old", "young"))
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    getattr(open_store(filled), step)()
    assert (old.exists(), young.exists()) == (False, True)


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
    with pytest.raises(StoreError, match=r"\.jpg not written to .*run again to go on") as caught, full_disk(30_000):
        fill(tmp_path, KEYS[:12])
    assert "\n" not in str(caught.value)
    assert len(os.listdir(tmp_path / "backbone")) == 5  # store.json and the whole views
    assert_holds(tmp_path, KEYS[:4])
    fill(tmp_path, KEYS[:12])
    assert_holds(tmp_path, KEYS[:12])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_name_their_image_and_cost_no_other(tmp_path: Path, value: float) -> None:
    store = open_store(tmp_path)
    maps = [torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), value)])]
    with pytest.raises(StoreError, match=r"features of cat/bad\.jpg \(flip\) are not finite"):
        store.add_batch(KEYS[:2], maps, ["cat/good.jpg (flip)", "cat/bad.jpg (flip)"])
    assert store.missing(KEYS[:2]) == KEYS[1:2]


def test_features_too_large_for_half_precision_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"do not fit fp16.*precision=bf16"):
        open_store(tmp_path).add(KEYS[0], [torch.full((1, 2, 2), 1e6)])


@pytest.mark.parametrize("step", ["prepare", "repair"])
def test_a_read_only_folder_is_read_and_not_written(filled: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    assert_holds(filled, KEYS[:6])
    with pytest.raises(StoreError, match=r"read-only; set another store.root"):
        getattr(open_store(filled), step)()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = open_store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"cannot write to .*set another store.root"):
        store.add(KEYS[0], maps_of(KEYS[0]))


def test_views_are_plain_safetensors(filled: Path) -> None:
    from safetensors import safe_open

    with safe_open(open_store(filled).path(KEYS[0]), "pt") as file:
        assert file.get_tensor("codes0").shape == (64, 20, 20)
        assert file.metadata()["name"] == f"{KEYS[0]}.jpg"
