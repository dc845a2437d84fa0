"""The feature store: what goes in comes out, for whom it was made, in any process."""

import pickle
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore, StoreError, estimate_bytes, image_hash, view_key
from geoalign.backbone.store.codec import decode, encode

PRECISIONS = ["fp32", "fp16", "bf16", "int8"]
SHAPES = [(8, 6, 6), (3, 2, 5)]
KEYS = [view_key("backbone", f"image{i}", "upright") for i in range(6)]
NEW = view_key("backbone", "new", "upright")
MAPS = [torch.randn(6, *shape, generator=torch.Generator().manual_seed(1)) for shape in SHAPES]


class Toy(Backbone):
    """A backbone that is only its identity."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.settings = settings

    def identity(self) -> dict[str, object]:
        return dict(self.settings)


def open_store(root: Path, precision: str = "fp16", **options: object) -> FeatureStore:
    return FeatureStore(root, precision, fingerprint="backbone", identity={"size": (1, 2)}, **options)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    assert open_store(tmp_path).add_batch(KEYS, MAPS, [f"cat/{i}.jpg (upright)" for i in range(6)]) == 6
    return tmp_path


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_gives_what_extraction_gave_to_the_storage_precision(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    precision = data.draw(st.sampled_from(PRECISIONS))
    shapes = data.draw(st.lists(st.tuples(*[st.integers(1, 7)] * 3), min_size=1, max_size=3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    views = {key: [torch.randn(s, generator=generator) for s in shapes] for key in KEYS}
    root = tmp_path_factory.mktemp("store")
    store = open_store(root, precision)
    assert all(store.add(key, maps) for key, maps in views.items())
    for key, maps in views.items():
        for got, live in zip(store.read(key), maps, strict=True):
            assert torch.equal(got, decode(encode(live, precision)))
    for i, stacked in enumerate(store.read_many(list(views))):
        assert torch.equal(stacked, torch.stack([store.read(key)[i] for key in views]))


def test_the_stored_type_is_read_without_a_copy_and_cannot_reach_the_file(filled: Path) -> None:
    store = open_store(filled)
    first, again = store.read(KEYS[0], None)[0], store.read(KEYS[0], None)[0]
    assert first.dtype == torch.float16
    assert first.data_ptr() == again.data_ptr()
    first.zero_()
    assert torch.equal(open_store(filled).read(KEYS[0])[0], MAPS[0][0].half().float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_many_views_in_the_type_that_is_asked_for(filled: Path, dtype: torch.dtype | None) -> None:
    maps = open_store(filled).read_many(KEYS[::-1], dtype)
    assert [tuple(m.shape) for m in maps] == [(6, *shape) for shape in SHAPES]
    assert maps[0].dtype == (dtype or torch.float16)
    torch.testing.assert_close(maps[1].float(), MAPS[1].flip(0), rtol=1e-2, atol=1e-2)
    assert open_store(filled).read_many([]) == []


def test_missing_lists_each_absent_key_once_in_order(filled: Path) -> None:
    store = open_store(filled)
    assert store.missing(["z", KEYS[0], "a", "z"]) == ["z", "a"]
    assert len(store) == 6
    assert KEYS[3] in store
    assert NEW not in store
    with pytest.raises(StoreError, match=r"view z is not in .*6 views.*extract"):
        store.read("z")


def test_a_stored_view_is_not_stored_again(filled: Path) -> None:
    store, before = open_store(filled), {path: path.stat().st_mtime_ns for path in (filled / "backbone").iterdir()}
    assert not store.add(KEYS[0], [m[0] + 1 for m in MAPS])
    assert store.add(NEW, [m[0] for m in MAPS])
    assert not store.add(NEW, [m[1] for m in MAPS])
    after = {path: path.stat().st_mtime_ns for path in (filled / "backbone").iterdir()}
    assert after.items() - before.items() == {(store.path(NEW), after[store.path(NEW)])}
    assert torch.equal(open_store(filled).read(NEW)[0], MAPS[0][0].half().float())


def test_what_others_write_and_delete_shows_at_once(filled: Path) -> None:
    one, two = open_store(filled), open_store(filled)
    two.add(NEW, [m[0] for m in MAPS])
    assert one.missing([NEW]) == []
    one.path(KEYS[0]).unlink()
    assert two.missing(KEYS) == KEYS[:1]


def test_a_key_that_would_never_be_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"32 hexadecimal digits, got '\.\./cat'; make it with view_key"):
        open_store(tmp_path).add("../cat", [m[0] for m in MAPS])


def test_no_process_maps_more_files_than_it_may(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoalign.backbone.store.store._MOST_MAPPED", 2)
    store = open_store(filled)
    for got, live in zip(store.read_many(KEYS), MAPS, strict=True):
        assert torch.equal(got, live.half().float())
    assert list(store._mapped) == KEYS[-2:]


def test_a_store_travels_to_workers(filled: Path) -> None:
    store = open_store(filled, preload="cpu")
    store.preload_views(KEYS)
    want = store.read_many(KEYS)
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 10_000  # neither mapped files nor held maps go along
    for got, live in zip(copy.read_many(KEYS), want, strict=True):
        assert torch.equal(got, live)
    batches = list(DataLoader(KEYS, 2, num_workers=2, collate_fn=open_store(filled).read_many))
    for i, live in enumerate(want):
        assert torch.equal(torch.cat([batch[i] for batch in batches]), live)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_held_views_need_no_file(tmp_path: Path, precision: str) -> None:
    open_store(tmp_path, precision).add_batch(KEYS, MAPS)
    store, free = open_store(tmp_path, precision, preload="cpu"), open_store(tmp_path, precision)
    store.preload_views(KEYS[:3])
    free.preload_views(KEYS[:3])
    want = free.read(KEYS[1])[0].clone()
    shutil.rmtree(tmp_path / "backbone")
    assert torch.equal(store.read(KEYS[1])[0], want)
    with pytest.raises(StoreError, match="is not in"):
        open_and_forget(store).read(KEYS[1])


def open_and_forget(store: FeatureStore) -> FeatureStore:
    """The store as another process has it."""
    return pickle.loads(pickle.dumps(store))


def test_each_backbone_has_its_own_views(tmp_path: Path) -> None:
    one, two = Toy(timestep=50, size=[1, 2]), Toy(timestep=261, size=[1, 2])
    FeatureStore(tmp_path).bind(one).add(NEW, [torch.zeros(1, 2, 2)])
    assert NEW in FeatureStore(tmp_path).bind(one)
    assert NEW not in FeatureStore(tmp_path).bind(two)
    with pytest.raises(StoreError, match="holds another backbone: timestep 50, not 261"):
        FeatureStore(tmp_path, fingerprint=one.fingerprint, identity=two.identity())
    with pytest.raises(StoreError, match="not bound to a backbone; call bind"):
        FeatureStore(tmp_path).missing([NEW])


def test_a_store_of_another_precision_is_refused_in_one_line(filled: Path) -> None:
    with pytest.raises(StoreError, match=r"holds fp16 features, asked for int8; set store.precision=fp16") as caught:
        open_store(filled, "int8")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", '{"format": 1}', "[]"])
def test_a_store_file_that_is_not_ours_is_named_with_the_remedy(filled: Path, content: str) -> None:
    (filled / "backbone" / "store.json").write_text(content)
    with pytest.raises(ValueError, match=r"store\.json.*extract again"):
        open_store(filled)


@pytest.mark.parametrize("setting", ["precision", "preload", "check"])
def test_settings_are_checked_where_they_are_given(tmp_path: Path, setting: str) -> None:
    # TypeError where annotations are checked at run time
    with pytest.raises((ValueError, TypeError), match=f"(store.{setting} is one of .* got|{setting}.*) 'fp12'"):
        FeatureStore(tmp_path, **{setting: "fp12"})


def test_a_key_tells_backbone_image_and_pose_apart(tmp_path: Path) -> None:
    parts = [(f, i, p) for f in ("a", "ab") for i in ("b", "") for p in ("upright", "flip")]
    assert len({view_key(*part) for part in parts}) == len(parts)
    file = tmp_path / "image.jpg"
    file.write_bytes(b"one")
    first = image_hash(file)
    shutil.copy(file, tmp_path / "elsewhere.png")
    assert image_hash(tmp_path / "elsewhere.png") == first
    file.write_bytes(b"other")
    assert image_hash(file) != first


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_estimate_is_what_the_disk_holds(tmp_path: Path, precision: str) -> None:
    shapes, store = [(64, 20, 20), (32, 10, 10)], open_store(tmp_path, precision)
    store.add_batch([view_key("b", str(i), "flip") for i in range(20)], [torch.randn(20, *s) for s in shapes])
    held = sum(path.stat().st_size for path in store.folder.iterdir())
    assert 0.9 * estimate_bytes(shapes, 20, precision) < held <= estimate_bytes(shapes, 20, precision)


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 13.1e6), ("int8", 6.6e6)])
def test_full_size_views_are_affordable(precision: str, limit: float) -> None:
    assert estimate_bytes([(640, 60, 60), (1280, 30, 30), (1280, 15, 15), (768, 60, 60)], 1, precision) <= limit


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 3 * 10**9))
    store = open_store(tmp_path / "not" / "there", "fp16")
    assert "1.29 GB, 3.00 GB are free" in store.ensure_space([(640, 100, 101)], 100)
    with pytest.raises(StoreError, match=r"64\.64 GB, 3\.00 GB are free .*too little.*store\.precision=int8"):
        store.ensure_space([(640, 100, 101)], 5000)
    with pytest.raises(StoreError, match="too little"):
        store.ensure_space([(640, 100, 101)], 220)  # 2.84 GB would fit, but barely
