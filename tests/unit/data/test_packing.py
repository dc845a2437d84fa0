"""Evaluation batches by image: every pair once, budgets kept, images seldom met twice."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.data.batch.packing import PackedSampler, pack_pairs

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(2, 9), st.integers(1, 20))
def test_every_pair_is_in_one_batch_within_the_budgets(pairs, max_images, max_pairs):
    batches = pack_pairs(pairs, max_images, max_pairs)
    assert sorted(i for batch in batches for i in batch) == list(range(len(pairs)))
    for batch in batches:
        assert 1 <= len(batch) <= max_pairs
        assert len({image for i in batch for image in pairs[i]}) <= max_images


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_the_sampler_gives_the_same_batches_each_time(pairs):
    sampler = PackedSampler(pairs, 4, 8)
    assert list(sampler) == list(sampler) == pack_pairs(pairs, 4, 8)
    assert len(sampler) == len(list(sampler))


def test_a_category_that_fits_is_met_once():
    groups = [[(c, i) for i in range(5)] for c in "abc"]
    pairs = [pair for group in groups for pair in permutations(group, 2)]
    mixed = pairs[::2] + pairs[1::2]
    batches = pack_pairs(mixed, max_images=7, max_pairs=99)
    assert [len(batch) for batch in batches] == [20, 20, 20]
    assert all(len({mixed[i][0][0] for i in batch}) == 1 for batch in batches)


def test_small_groups_share_a_batch():
    pairs = [(f"a{i}", f"b{i}") for i in range(6)]
    assert [len(batch) for batch in pack_pairs(pairs, max_images=4, max_pairs=99)] == [2, 2, 2]


def test_dense_pairs_meet_their_images_seldom():
    pairs = list(permutations(range(40), 2))
    batches = pack_pairs(pairs, max_images=20, max_pairs=999)
    loads = sum(len({image for i in batch for image in pairs[i]}) for batch in batches)
    by_source = 40 * 40  # one source after another meets all images each time
    assert loads < by_source / 8


def test_an_image_with_itself_is_a_pair():
    assert pack_pairs([("a", "a"), ("a", "b")], 2, 9) == [[0, 1]]


@pytest.mark.parametrize("budget", [(1, 5), (4, 0)])
def test_budgets_that_hold_no_pair_are_refused(budget):
    with pytest.raises(ValueError, match="at least 2 images and 1 pair"):
        pack_pairs([("a", "b")], *budget)
