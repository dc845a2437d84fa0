"""A Stable Diffusion UNet cut behind its last tap, run block by block.

A tap ``upI.J`` is the decoder state that enters resnet ``J`` of up block ``I``, before the skip is concatenated:
with FreeU off the output of what comes before it. ``upI.0`` is the whole output of up block ``I - 1`` (DIFT's
features). ``s5``, ``s4``, ``s3`` are the paper's names for ``up0.2``, ``up1.2``, ``up2.2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geoalign.backbone.diffusion.freeu import RELEASE, filter_skip, parse_rule, scale_state

#: The paper's names.
NAMES = {"s5": "up0.2", "s4": "up1.2", "s3": "up2.2"}

# Settings of a UNet that need inputs this recipe does not have (SDXL, image variations, latent consistency).
_FOREIGN = ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


class Tap(NamedTuple):
    """Where a state is read: it enters resnet ``resnet`` of up block ``block``."""

    block: int
    resnet: int

    @classmethod
    def parse(cls, name: str) -> Tap:
        """Read a tap's name.

        >>> Tap.parse("s4"), Tap.parse("up2.0")
        (Tap(block=1, resnet=2), Tap(block=2, resnet=0))
        """
        match = re.fullmatch(r"up(\d+)\.(\d+)", NAMES.get(name, name))
        if not match:
            raise ValueError(f"a tap is one of {', '.join(NAMES)} or upBLOCK.RESNET (as up1.2), got {name!r}")
        return cls(int(match[1]), int(match[2]))


class TapUNet(nn.Module):
    """Runs a diffusers ``UNet2DConditionModel`` up to its last tap; what lies behind is deleted.

    ``channels`` and ``strides`` (latent pixels a cell) of the taps are read from the UNet. ``freeu`` maps channel
    counts of the state to (state scale, skip scale).
    """

    def __init__(self, unet: Any, taps: Sequence[str], freeu: Mapping[int, Sequence[float]] | None = RELEASE) -> None:
        super().__init__()
        _check_supported(unet.config)
        self.taps = [Tap.parse(name) for name in taps]
        _check_taps(self.taps, list(taps), unet)
        decoder = list(reversed(unet.config.block_out_channels))
        self.channels = tuple(decoder[max(0, tap.block - (tap.resnet == 0))] for tap in self.taps)
        self.strides = tuple(2 ** (len(decoder) - 1 - tap.block) for tap in self.taps)
        self.time_channels: int = unet.time_embedding.linear_2.out_features
        self.freeu = parse_rule(freeu, decoder)
        self.last = max(self.taps)
        self.unet = _truncate(unet, self.last)

    def forward(
        self, latent: Tensor, timestep: Tensor, text_states: Tensor, time_term: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """States at the taps, in their order, from latents ``(u 4 h w)``.

        ``timestep`` is a scalar or ``(u)``, ``text_states`` ``(u tokens c)``, ``time_term`` ``(u c)`` is added after
        the time embedding.
        """
        embedding = self.unet.time_embedding(self.unet.get_time_embed(latent, timestep))
        if time_term is not None:
            embedding = embedding + time_term
        state, skips = self._encode(latent, embedding, text_states)
        found: dict[Tap, Tensor] = {}
        for number, block in enumerate(self.unet.up_blocks):
            state = self._decode(number, block, state, skips, embedding, text_states, found)
        return tuple(found[tap] for tap in self.taps)

    def _encode(self, latent: Tensor, embedding: Tensor, text_states: Tensor) -> tuple[Tensor, list[Tensor]]:
        state = self.unet.conv_in(latent)
        skips = [state]
        for block in self.unet.down_blocks:
            states = {"encoder_hidden_states": text_states} if _attends(block) else {}
            state, more = block(state, embedding, **states)
            skips.extend(more)
        states = {"encoder_hidden_states": text_states} if _attends(self.unet.mid_block) else {}
        return self.unet.mid_block(state, embedding, **states), skips

    def _decode(
        self,
        number: int,
        block: Any,
        state: Tensor,
        skips: list[Tensor],
        embedding: Tensor,
        text_states: Tensor,
        found: dict[Tap, Tensor],
    ) -> Tensor:
        """One up block; states at its taps go into ``found``, used skips leave ``skips``."""
        for index in range(len(block.resnets) + (number == self.last.block)):
            state_scale, skip_scale = self.freeu.get(state.shape[1], (1.0, 1.0))
            if state_scale != 1:
                state = scale_state(state, state_scale)
            tap = Tap(number, index)
            if tap in self.taps:
                found[tap] = state
            if tap == self.last:
                return state
            skip = skips.pop()
            skip = skip if skip_scale == 1 else filter_skip(skip, skip_scale)
            state = block.resnets[index](torch.cat([state, skip], dim=1), embedding)
            if _attends(block):
                state = block.attentions[index](state, encoder_hidden_states=text_states, return_dict=False)[0]
        for upsampler in block.upsamplers or ():
            state = upsampler(state)
        return state


def _attends(block: Any) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _truncate(unet: Any, last: Tap) -> Any:
    """Delete everything that runs after ``last``, in place."""
    unet.conv_norm_out = unet.conv_act = unet.conv_out = None
    unet.up_blocks = unet.up_blocks[: last.block + 1]
    block = unet.up_blocks[last.block]
    block.resnets = block.resnets[: last.resnet]
    if _attends(block):
        block.attentions = block.attentions[: last.resnet]
    block.upsamplers = None
    return unet


def _check_supported(config: Any) -> None:
    foreign = [name for name in _FOREIGN if config.get(name) is not None]
    if foreign or config.center_input_sample or not isinstance(config.cross_attention_dim, int):
        raise ValueError(
            f"expected a Stable Diffusion 1.x or 2.x UNet, this one has {', '.join(foreign) or 'another conditioning'} "
            "(as SDXL has); set source to an SD 1.x or 2.x folder or id"
        )


def _check_taps(taps: Sequence[Tap], names: Sequence[str], unet: Any) -> None:
    possible = [f"up{i}.{j}" for i, block in enumerate(unet.up_blocks) for j in range(len(block.resnets))]
    wrong = [name for name, tap in zip(names, taps, strict=True) if f"up{tap.block}.{tap.resnet}" not in possible]
    if wrong or not taps or len(set(taps)) < len(taps):
        raise ValueError(f"taps are one or more different ones of {', '.join(possible)} here, got {list(names)}")
