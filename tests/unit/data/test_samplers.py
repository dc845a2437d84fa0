"""Ranks share one stream of batches; evaluation sees each pair once."""

import itertools

import numpy as np
import pytest
from helpers.spair_tree import write_tree

from geoalign.data.batch.dataset import PairDataset
from geoalign.data.batch.samplers import CliqueSampler, Draw, EvaluationSampler, PairSampler
from geoalign.data.readers.spair import SPair71k

IMAGES = {"cat": [f"2008_{i:06d}" for i in range(5)], "bus": [f"2009_{i:06d}" for i in range(4)]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root, IMAGES, pictures=False)
    return SPair71k(root, require_images=False)


def _epoch(sampler, epoch=0, rank=0, world=1):
    sampler.shard(rank, world)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_pair_once_per_epoch(source):
    batches = _epoch(PairSampler(source, batch_size=4))
    drawn = [d.pair for batch in batches for d in batch]
    assert sorted(drawn) == list(range(len(source)))  # 20 + 12 pairs
    assert batches != _epoch(PairSampler(source, batch_size=4), epoch=1)
    assert batches == _epoch(PairSampler(source, batch_size=4))


@pytest.mark.parametrize("make", [
    lambda s, n: PairSampler(s, batch_size=n),
    lambda s, n: CliqueSampler(s, size=3, cliques=n, batches=5),
], ids=["pairs", "cliques"])  # fmt: skip
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_what_one_rank_with_their_summed_batch_sees(source, make, world):
    whole = _epoch(make(source, 2 * world), epoch=3)
    parts = [_epoch(make(source, 2), epoch=3, rank=r, world=world) for r in range(world)]
    for step, batch in enumerate(whole):
        assert sorted(d for part in parts for d in part[step]) == sorted(batch)


def test_a_clique_holds_all_its_ordered_pairs_of_one_category(source):
    for batch in _epoch(CliqueSampler(source, size=4, batches=6)):
        pairs = [d.pair for d in batch]
        images = {i for pair in pairs for i in pair}
        assert len(pairs) == len(set(pairs)) == len(images) * (len(images) - 1) == 12
        assert len({source.images[i].category for i in images}) == 1


def test_clique_sampler_draws_the_number_of_pairs_by_default(source):
    assert len(CliqueSampler(source, size=4)) == len(source) // 12
    with pytest.raises(ValueError, match="at least 2 images"):
        CliqueSampler(source, size=1)


def test_resuming_skips_what_was_seen(source):
    sampler = PairSampler(source, batch_size=4)
    whole = _epoch(sampler, epoch=2)
    sampler.start = 3
    assert _epoch(sampler, epoch=2) == whole[3:]
    assert _epoch(sampler, epoch=2) == whole  # only once


@pytest.mark.parametrize(("total", "world"), [(5, 2), (7, 3), (2, 3), (9, 1)])
def test_evaluation_pads_nothing(total, world):
    order = np.random.default_rng(0).permutation(total).tolist()
    parts = [list(EvaluationSampler(order, r, world)) for r in range(world)]
    assert [i for part in parts for i in part] == order


def test_any_two_images_make_a_pair(source):
    sample = PairDataset(source)[Draw((0, 1), epoch=4)]
    assert sample.epoch == 4
    assert sample.pair.src is source.images[0]
    assert sample.pair.trg is source.images[1]
    assert ">" in sample.pair.pair_id


def test_subsets_are_seeded_and_repeat_only_on_request(source):
    once = PairDataset(source, max_pairs=10)
    ids = [once[i].pair.pair_id for i in range(10)]
    assert len(set(ids)) == 10
    assert ids == [PairDataset(source, max_pairs=10)[i].pair.pair_id for i in range(10)]
    again = PairDataset(source, max_pairs=200, replacement=True)
    drawn = [again[i].pair.pair_id for i in range(200)]
    assert len(set(drawn)) == 200  # repeats carry a number
    assert {d.split("#")[0] for d in drawn} <= {p.pair_id for p in source}
    with pytest.raises(ValueError, match="at least 1"):
        PairDataset(source, max_pairs=0)


def test_grouped_order_keeps_sources_together(source):
    order = PairDataset(source).grouped()
    assert sorted(order) == list(range(len(source)))
    sources = [source[i].src.image_id for i in order]
    changes = sum(a != b for a, b in itertools.pairwise(sources))
    assert changes == len(set(sources)) - 1


def test_cliques_across_categories_need_shared_keypoints(source):
    with pytest.raises(ValueError, match="do not share their keypoints"):
        CliqueSampler(source, across=0.5)
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        CliqueSampler(source, across=2.0)


def test_a_share_of_cliques_is_drawn_across_categories(source, monkeypatch):
    one = next(iter(source.symmetries.values()))
    monkeypatch.setattr(source, "symmetries", dict.fromkeys(source.symmetries, one))

    def mixed(across):
        batches = _epoch(CliqueSampler(source, size=4, batches=200, across=across))
        return np.mean([len({source.images[i].category for d in batch for i in d.pair}) > 1 for batch in batches])

    assert mixed(0.0) == 0
    assert 0.35 < mixed(0.5) < 0.6  # four of nine pictures are seldom of one category
    assert mixed(1.0) > 0.9
