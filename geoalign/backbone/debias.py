"""Where a cell lies, taken out of what it says: INSID3's debiasing of frozen features (arXiv 2603.28480).

A picture of noise shows nothing, so that what its features agree on is the place in the frame. The strongest directions
among them are found once for a network and frame size, and all maps are projected onto their orthogonal complement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save
from torch import Tensor, nn

from geoalign.files import replacing
from geoalign.maps import without
from geoalign.tensors import read_tensors
from geoalign.types import Maps

FILE = "debias.safetensors"
"""In a store's folder: the directions that its features were made with."""
_SEED = 0


class Debias(nn.Module):
    """Takes ``count`` directions out of every map; :meth:`find` them before it is called."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.found = count, 0

    @property
    def bases(self) -> list[Float[Tensor, "_ _"]]:
        """Orthonormal directions ``(c_i k)`` of each map; none before they were found."""
        return [self.get_buffer(f"basis{i}") for i in range(self.found)]

    def find(self, maps: Maps) -> None:
        """Take the directions from the maps of noise.

        Raises:
            ValueError: maps of too few cells to have so many directions.
        """
        self.set([positional_basis(m[0].flatten(1), self.count) for m in maps])

    def set(self, bases: Sequence[Float[Tensor, "_ _"]]) -> None:
        """Take directions that were found before."""
        for i, basis in enumerate(bases):
            self.register_buffer(f"basis{i}", basis, persistent=False)
        self.found = len(bases)

    def forward(self, maps: Maps) -> Maps:
        """The maps without them."""
        return without(maps, self.bases)


def positional_basis(features: Float[Tensor, "c n"], count: int) -> Float[Tensor, "c k"]:
    """The first ``count`` left singular vectors of features (columns: cells), strongest first.

    As eigenvectors of ``F Fᵀ`` in double precision on the CPU, so that they do not depend on the device.

    Raises:
        ValueError: fewer cells than directions.
    """
    if count > features.shape[1]:
        raise ValueError(
            f"debias={count} directions cannot be found in a map of {features.shape[1]} cells; set a smaller debias"
        )
    exact = features.detach().double().cpu()
    vectors: Tensor = torch.linalg.eigh(exact @ exact.T).eigenvectors
    return vectors.flip(1)[:, :count].float().contiguous().to(features.device)


def noise_frames(sizes: Sequence[int]) -> dict[int, UInt8[Tensor, "1 3 s s"]]:
    """One picture of independent uniform noise per size, the same everywhere."""
    made = torch.Generator().manual_seed(_SEED)
    return {size: torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=made) for size in sizes}


def keep(network: nn.Module, folder: Path) -> None:
    """Write the directions of every debiased part of a backbone."""
    named = {f"{name}.{i}": basis for name, part in _parts(network).items() for i, basis in enumerate(part.bases)}
    with replacing(folder / FILE) as partial:
        partial.write_bytes(save({name: basis.cpu().contiguous() for name, basis in named.items()}))


def restore(network: nn.Module, folder: Path) -> bool:
    """Give every debiased part the directions that lie in ``folder``; whether none is left without.

    Raises:
        FileError: the file is damaged.
    """
    parts = _parts(network)
    if not parts or not (folder / FILE).exists():
        return not parts
    tensors, _ = read_tensors(folder / FILE)
    device = next(network.parameters()).device
    for name, part in parts.items():
        count = sum(key.rpartition(".")[0] == name for key in tensors)
        part.set([tensors[f"{name}.{i}"].to(device) for i in range(count)])
    return True


def _parts(network: nn.Module) -> dict[str, Debias]:
    return {name: part for name, part in network.named_modules() if isinstance(part, Debias)}
