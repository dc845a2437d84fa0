"""Foreground from features, and SAM from a box on a tiny random network."""

from pathlib import Path

import pytest
import torch
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from geoalign.backbone.weights import WeightsError
from geoalign.geometry import content_cells
from geoalign.passes.foreground import foreground_masks
from geoalign.passes.sam import SamMasks


def scene(top: int, left: int, height: int, width: int, side: int = 20, noise: float = 0.3) -> tuple:
    """Features of two kinds with noise, the subject a rectangle."""
    generator = torch.Generator().manual_seed(top * 31 + left)
    kinds = torch.randn(2, 16, generator=generator)
    truth = torch.zeros(side, side, dtype=torch.bool)
    truth[top : top + height, left : left + width] = True
    features = torch.where(truth[None], kinds[0][:, None, None], kinds[1][:, None, None])
    return features + noise * torch.randn(16, side, side, generator=generator), truth


def iou(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("box", [(5, 5, 10, 10), (8, 2, 6, 12), (2, 8, 16, 6), (4, 4, 13, 14)])
def test_finds_the_subject(box: tuple[int, int, int, int]) -> None:
    features, truth = scene(*box)
    assert iou(foreground_masks(features[None])[0], truth) > 0.9


def test_views_are_judged_alone() -> None:
    parts = [scene(5, 5, 10, 10), scene(8, 2, 6, 12)]
    together = foreground_masks(torch.stack([features for features, _ in parts]))
    for mask, (features, _) in zip(together, parts, strict=True):
        assert torch.equal(mask, foreground_masks(features[None])[0])


def test_mirrors_with_the_view() -> None:
    features, _ = scene(6, 3, 8, 10)
    assert torch.equal(foreground_masks(features[None].flip(-1)), foreground_masks(features[None]).flip(-1))


def test_letterbox_bars_are_not_the_subject() -> None:
    features, truth = scene(7, 6, 7, 9)
    content = content_cells((10, 20), 20)
    barred = torch.where(content[None], features, 40 * torch.ones(16)[:, None, None])
    truth &= content
    assert iou(foreground_masks(barred[None], content[None])[0], truth) > 0.9
    assert not foreground_masks(barred[None], content[None])[0][~content].any()


def test_flat_features_are_background() -> None:
    assert not foreground_masks(torch.ones(1, 4, 6, 6)).any()


def test_content_cells_follow_the_letterbox() -> None:
    assert content_cells((84, 84), 6).all()
    tall = content_cells((100, 50), 60)
    assert tall.any(0).sum() == 30
    assert tall.any(1).all()


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vision = SamVisionConfig(
        hidden_size=16, output_channels=8, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=8,
        mlp_dim=16, window_size=0, global_attn_indexes=[0], num_pos_feats=4,
    )  # fmt: skip
    prompt = SamPromptEncoderConfig(hidden_size=8, image_size=64, patch_size=8, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=8, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8
    )
    folder = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    ).save_pretrained(folder)
    return folder


def test_sam_masks_at_the_frames_resolution(sam_folder: Path) -> None:
    sam = SamMasks(str(sam_folder))
    assert sam._network is None  # nothing is loaded before it is needed
    frames = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[10.0, 10.0, 60.0, 80.0], [30.0, 5.0, 90.0, 40.0]])
    masks = sam.in_boxes(frames, boxes)
    assert masks.shape == (2, 96, 96)
    assert masks.dtype == torch.bool
    assert torch.equal(masks[1], sam.in_boxes(frames[1:], boxes[1:])[0])
    assert len(sam.identity()["weights"]) == 16


def test_sam_takes_boxes_in_frame_pixels(sam_folder: Path) -> None:
    """The same picture and box at twice the size are the same prompt: the masks agree."""
    sam = SamMasks(str(sam_folder))
    small = torch.full((1, 3, 64, 64), 90, dtype=torch.uint8)
    box = torch.tensor([[8.0, 12.0, 40.0, 50.0]])
    one, two = sam.in_boxes(small, box), sam.in_boxes(small.repeat_interleave(2, 2).repeat_interleave(2, 3), box * 2)
    assert (one != two[:, ::2, ::2]).float().mean() < 0.03


def test_absent_weights_are_named(tmp_path: Path) -> None:
    frames = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(WeightsError, match="not found in"):
        SamMasks(str(tmp_path)).in_boxes(frames, torch.tensor([[1.0, 1.0, 9.0, 20.0]]))
