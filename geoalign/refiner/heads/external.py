"""Up-samplers of others that look at the picture: AnyUp and what is called like it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from geoalign.bank import Bank, PlainBank
from geoalign.geometry import FRAME_PX, Real
from geoalign.parts import TARGET, name_of
from geoalign.refiner.base import CheckpointError, Refiner
from geoalign.refiner.heads.base import Head
from geoalign.types import Maps

HASH = "upsampler_hash"
"""Name of the tensor in the state that tells a frozen up-sampler's weights."""


class ExternalHead(Head):
    """A refiner's descriptors up-sampled by a module of somebody else, guided by the picture.

    It is called with positions, ``upsampler(picture (1 3 s s), descriptors (1 c g g), (h, w))``, and gives
    ``(1 c h w)``. It stays frozen unless ``train_upsampler``, passes gradients to the refiner, and is not in
    checkpoints: they hold a hash of its weights, and refuse others. Files of a model cannot name it, for they may call
    geoalign's own parts only: make the head in Python, then ``load_weights``.

    Args:
        upsampler: the module, by what makes it: ``_target_`` of a class, or of torch.hub.load with its arguments.
        finer: cells per cell of the features, along a side.
        image_size: side in px of the frames that the up-sampler sees.
        mean: subtracted from pixels of 0 to 1, by channel; default: ImageNet's.
        std: what they are divided by then, by channel.
        train_upsampler: train it with the rest.

    Raises:
        ValueError: no up-sampler, a factor below 2, sizes that are not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        refiner: Refiner,
        upsampler: nn.Module | None = None,
        finer: int = 4,
        image_size: int = 448,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        train_upsampler: bool = False,
    ) -> None:
        super().__init__(refiner, finer)
        if upsampler is None:
            raise ValueError(
                "head=external needs an up-sampler, got none; set head.upsampler={_target_: torch.hub.load, "
                "repo_or_dir: <owner/name>, model: <entry>}"
            )
        if image_size < 1 or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"head.image_size is above 0, mean and std have 3 channels and std is above 0; got {image_size}, "
                f"{list(mean)} and {list(std)}"
            )
        self.upsampler, self.image_size, self.width = upsampler, image_size, refiner.width
        self.train_upsampler = train_upsampler
        self.needs_px = (image_size,)
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(list(value)).view(1, 3, 1, 1), persistent=False)
        if not train_upsampler:
            upsampler.requires_grad_(False).eval()
            self.register_state_dict_post_hook(_leave_out)
            self.register_load_state_dict_pre_hook(_put_back)

    def train(self, mode: bool = True) -> ExternalHead:
        """Frozen means frozen, whatever the rest does."""
        super().train(mode)
        if not self.train_upsampler:
            self.upsampler.eval()
        return self

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; of the up-sampler its name alone."""
        return {
            **super().config(), "upsampler": {TARGET: name_of(type(self.upsampler))}, "image_size": self.image_size,
            "mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist(),
            "train_upsampler": self.train_upsampler,
        }  # fmt: skip

    def forward(
        self, maps: Maps, frames: Mapping[int, UInt8[Tensor, "u 3 s s"]] | None = None
    ) -> Float[Tensor, "u c g g"]:
        """Fine unit descriptors, one view at a time.

        Raises:
            ValueError: no frames of ``image_size``, or descriptors of another shape from the up-sampler.
        """
        pictures = (frames or {}).get(self.image_size)
        if pictures is None:
            got = sorted(frames or {})
            raise ValueError(f"head=external looks at frames of {self.image_size} px, got frames of {got}; give them")
        seen = (pictures.float() / 255 - self.mean) / self.std
        coarse = self.within(maps)
        return torch.cat([self._fine(*one) for one in zip(seen.split(1), coarse.split(1), strict=True)])

    def bank(self, maps: Maps, frame_px: Real = FRAME_PX) -> Bank:
        """Refused: it needs frames (:meth:`bank_seeing`)."""
        return PlainBank(self(maps), frame_px, self.finer)

    def bank_seeing(
        self, maps: Maps, frames: Mapping[int, UInt8[Tensor, "u 3 s s"]], frame_px: Real = FRAME_PX
    ) -> Bank:
        """The fine descriptors as a bank."""
        return PlainBank(self(maps, frames), frame_px, self.finer)

    def _fine(self, picture: Tensor, coarse: Tensor) -> Tensor:
        fine, side = self.upsampler(picture, coarse, (self.grid, self.grid)), self.grid
        want = (1, coarse.shape[1], side, side)
        if tuple(fine.shape) != want:
            raise ValueError(
                f"the up-sampler {type(self.upsampler).__name__} gave {tuple(fine.shape)} for head.finer={self.finer}, "
                f"expected {want}; set a finer that it can reach"
            )
        return F.normalize(fine.contiguous(memory_format=torch.channels_last), dim=1)


def _hash(module: nn.Module) -> Tensor:
    """SHA-256 of a module's weights, as 32 bytes."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return torch.tensor(list(found.digest()), dtype=torch.uint8)


def _leave_out(head: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in head.upsampler.state_dict():
        del state[f"{prefix}upsampler.{name}"]
    state[prefix + HASH] = _hash(head.upsampler)


def _put_back(head: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Compare what a state was trained with; the up-sampler's tensors are its own."""
    found, own = state.pop(prefix + HASH, None), _hash(head.upsampler)
    if found is not None and not torch.equal(found.cpu(), own):
        was, now = (bytes(one.tolist()).hex()[:12] for one in (found, own))
        raise CheckpointError(
            f"these weights were trained with an up-sampler of hash {was}, head.upsampler has {now}; give the one that "
            "it was trained with"
        )
    state |= {f"{prefix}upsampler.{name}": value for name, value in head.upsampler.state_dict().items()}
