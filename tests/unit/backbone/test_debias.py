"""What a network says of the place in the frame is taken out of its features, once and the same for all."""

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from geoalign.backbone import Dino, Fusion, Lite, debias
from geoalign.backbone.debias import noise_frames, positional_basis
from geoalign.files import FileError
from geoalign.maps import centred

SIZE, COUNT = 96, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    torch.manual_seed(0)
    network = DINOv3ViTModel(DINOv3ViTConfig(**sizes, patch_size=16, num_register_tokens=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(place := tmp_path_factory.mktemp("dinov3"))
    return str(place)


def dino(folder, **options):
    return Dino(folder, SIZE, **options)


def frames(count, seed=3):
    made = torch.Generator().manual_seed(seed)
    return {SIZE: torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=made)}


def slow(features, basis_features, count):
    """Column by column, as the paper states it: left vectors of the noise's features, each taken out in turn."""
    left = torch.linalg.svd(basis_features.double(), full_matrices=False).U
    out = features.double().clone()
    for cell in range(out.shape[1]):
        for k in range(count):
            out[:, cell] -= torch.dot(left[:, k], features.double()[:, cell]) * left[:, k]
    return out


def test_equals_a_slow_transcription(folder):
    plain, debiased = dino(folder), dino(folder, debias=COUNT)
    (noise,), (got,), (before,) = plain(noise_frames((SIZE,))), debiased(frames(2)), plain(frames(2))
    want = torch.stack([slow(one, noise[0].flatten(1), COUNT) for one in before.flatten(2)])
    torch.testing.assert_close(got.flatten(2).double(), want, rtol=1e-4, atol=1e-4)


def test_a_basis_is_orthonormal_and_strongest_first():
    features = torch.randn(9, 40) * torch.arange(9, 0, -1)[:, None]
    basis = positional_basis(features, 4)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4), rtol=0, atol=1e-5)
    energy = (basis.T @ features).norm(dim=1)
    assert energy.tolist() == sorted(energy.tolist(), reverse=True)


class Placed(Dino):
    """A tiny network that says where a cell lies, as trained ones do: gradients and their product."""

    def extract(self, images):
        y, x = torch.meshgrid(torch.linspace(-1, 1, self.cells), torch.linspace(-1, 1, self.cells), indexing="ij")
        directions = torch.randn(3, self.channels[0], generator=torch.Generator().manual_seed(5))
        place = torch.einsum("kc,khw->chw", directions, torch.stack([x, y, x * y]))
        return tuple(one + 40 * place for one in super().extract(images))


def test_the_place_in_the_frame_goes_away(folder):
    """What the mean over many pictures of noise says of their cells is the place alone."""

    def positional(backbone):
        (maps,) = backbone(frames(48, seed=11))
        (of_place,) = centred((maps.mean(0, keepdim=True),))
        return float(of_place.square().sum())

    placed = positional(Placed(folder, SIZE))
    assert positional(dino(folder)) < 0.02 * placed
    assert positional(Placed(folder, SIZE, debias=COUNT)) < 0.02 * placed


def test_off_changes_nothing_and_on_is_in_the_fingerprint(folder):
    plain = dino(folder)
    assert dino(folder, debias=None).fingerprint == dino(folder, debias=0).fingerprint == plain.fingerprint
    others = [dino(folder, debias=2), dino(folder, debias=3), dino(folder, centre=True)]
    assert len({one.fingerprint for one in [plain, *others]}) == 4


def test_every_backbone_centres_and_debiases_and_members_of_a_fusion_for_themselves(folder):
    parts = {"dinov3": dino(folder, debias=COUNT), "lite": Lite([4], SIZE, 12, centre=True)}
    both, images = Fusion(parts, grid=6), frames(2)
    left, right = both(images)
    torch.testing.assert_close(left, dino(folder, debias=COUNT)(images)[0])
    torch.testing.assert_close(right, centred(Lite([4], SIZE, 12)(images))[0])
    assert right.mean((-2, -1)).abs().max() < 1e-5
    plain = Fusion({"dinov3": dino(folder), "lite": Lite([4], SIZE, 12)}, grid=6)
    assert plain.fingerprint != both.fingerprint


def test_directions_are_kept_and_found_again(folder, tmp_path):
    both = Fusion([dino(folder, debias=COUNT), Lite([4, 10], SIZE, 6, debias=3)], grid=6)
    assert not debias.restore(both, tmp_path)
    want = both(frames(1))
    debias.keep(both, tmp_path)
    again = Fusion([dino(folder, debias=COUNT), Lite([4, 10], SIZE, 6, debias=3)], grid=6)
    assert debias.restore(again, tmp_path)
    assert all(part.found for part in again.modules() if isinstance(part, debias.Debias))
    assert all(torch.equal(a, b) for a, b in zip(again(frames(1)), want, strict=True))
    assert not any("basis" in name for name in again.state_dict())


def test_a_damaged_file_is_named(folder, tmp_path):
    (tmp_path / debias.FILE).write_bytes(b"no tensors")
    with pytest.raises(FileError, match=debias.FILE):
        debias.restore(dino(folder, debias=2), tmp_path)


@pytest.mark.unchecked
@pytest.mark.parametrize("count", [-1, 24, 100])
def test_a_number_that_leaves_nothing_is_refused(folder, count):
    with pytest.raises(ValueError, match=rf"up to 23 \(24 channels\), got {count}"):
        dino(folder, debias=count)


def test_more_directions_than_cells_are_refused():
    with pytest.raises(ValueError, match="map of 9 cells"):
        Lite([14], SIZE, 3, debias=20)(frames(1))
