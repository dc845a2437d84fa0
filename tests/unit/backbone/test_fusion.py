"""Fusion of backbones: order, groups, sizes and refusals."""

import pytest
import torch
from torch import Tensor

from geoalign.backbone.base import Backbone
from geoalign.backbone.fusion import Fusion


class Stub(Backbone):
    """Maps filled with their channel count, from frames of one size."""

    def __init__(self, channels: tuple[int, ...], size: int, grid: int, groups=None) -> None:
        super().__init__()
        self.channels, self.image_sizes, self.grid, self.fixed = channels, (size,), grid, groups
        self.layer = torch.nn.Linear(1, 1)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        return self.fixed or super().groups

    def extract(self, images: dict[int, Tensor]) -> tuple[Tensor, ...]:
        (size,) = self.image_sizes
        return tuple(torch.full((len(images[size]), c, self.grid, self.grid), float(c)) for c in self.channels)

    def identity(self) -> dict:
        return {"channels": list(self.channels), "size": self.image_sizes[0]}


def images(*sizes: int) -> dict[int, Tensor]:
    return {size: torch.zeros(2, 3, size, size, dtype=torch.uint8) for size in sizes}


def test_the_papers_fusion_is_two_groups_in_order() -> None:
    fusion = Fusion({"sd": Stub((640, 1280, 1280), 96, 6), "dino": Stub((768,), 84, 6)})
    assert fusion.channels == (640, 1280, 1280, 768)
    assert fusion.image_sizes == (96, 84)
    assert fusion.groups == ((0, 1, 2), (3,))
    assert fusion.grid == 6
    assert [int(one[0, 0, 0, 0]) for one in fusion(images(96, 84))] == list(fusion.channels)


def test_groups_of_parts_are_kept_and_counted_through() -> None:
    fusion = Fusion([Stub((1, 2), 8, 4), Stub((3, 4, 5), 8, 4, groups=((2,), (0, 1)))])
    assert fusion.groups == ((0, 1), (4,), (2, 3))
    assert fusion.image_sizes == (8,)
    assert Fusion([fusion, fusion]).groups == ((0, 1), (4,), (2, 3), (5, 6), (9,), (7, 8))


def test_names_change_nothing_and_order_does() -> None:
    one, two = Stub((1,), 8, 4), Stub((2,), 8, 4)
    assert Fusion({"a": one, "b": two}).fingerprint == Fusion([one, two]).fingerprint
    assert Fusion([one, two]).fingerprint != Fusion([two, one]).fingerprint


def test_stays_frozen() -> None:
    fusion = Fusion([Stub((1,), 8, 4)]).train()
    assert not any(module.training for module in fusion.modules())
    assert not any(parameter.requires_grad for parameter in fusion.parameters())


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one backbone"):
        Fusion([])
    with pytest.raises(ValueError, match=r"grids of \[4, 6\] cells a side; choose one"):
        Fusion([Stub((1,), 8, 4), Stub((1,), 8, 6)])
    assert Fusion([Stub((1,), 8, 4), Stub((1,), 8, 6)], grid=6).grid == 6
    with pytest.raises(ValueError, match=r"none of these backbones was cut, got backbone.cut=-4"):
        Fusion([Stub((1,), 8, 4)], cut=-4)
