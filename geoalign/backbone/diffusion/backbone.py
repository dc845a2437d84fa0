"""Stable Diffusion features: one UNet pass per crop, read at taps (no ODISE, detectron2 or Mask2Former)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from geoalign.backbone.base import Backbone, take_frames
from geoalign.backbone.captioner import Captioner
from geoalign.backbone.diffusion import parts
from geoalign.backbone.diffusion.freeu import RELEASE
from geoalign.backbone.diffusion.recipe import CropMean, check_sizes, crop_offsets, crop_places, fixed_noise
from geoalign.backbone.diffusion.taps import TapUNet
from geoalign.backbone.tokens import parse_dtype
from geoalign.types import Maps


class StableDiffusion(Backbone):
    """Decoder states of a Stable Diffusion 1.x or 2.x UNet; the defaults are the paper's recipe without captioner.

    Args:
        source: hub id, or a folder in diffusers' format
        revision: branch, tag or commit of a hub id
        variant: fp16 fetches half the bytes where the repository has such files
        mirrors: ids of the same weights, named in the error when source cannot be had
        unet_weights: safetensors file that replaces the UNet's weights: a path, or owner/name/file on the hub
        image_size: px, any multiple of 64
        crop_px: side of the square crops that go through alone; null is one pass over the whole frame
        overlap_px: of neighbouring crops; maps are averaged there
        crop_batch: crops in one forward pass: more is faster and takes more memory, the maps are the same
        timesteps: several are averaged, each costs a UNet pass
        add_noise: false shows the UNet clean latents (CleanDIFT)
        noises: several are averaged, each costs a UNet pass
        seed: of the fixed noise, the same for every crop of every image
        freeu: a map {channels of the decoder state: [scale of its first half, scale of the skip's lowest frequencies]}
        prompt: replaces the captioner's text states; its term of the time embedding stays
        captioner: file made by `python -m geoalign.backbone.captioner convert`; fits SD 1.x only
        clip: read only with a captioner
        taps: maps in this order; s3 s4 s5, or upBLOCK.RESNET for the state that enters that resnet
        dtype: float32, bfloat16 or float16 (accelerators only)
        compile: torch.compile of the UNet and the VAE encoder
        centre: subtract each picture's mean feature, map by map
        debias: directions of a noise picture's features to take out (INSID3: 20 for DINOv3); null: none
    """

    noise: Tensor
    text_states: Tensor
    vae: Any
    unet: TapUNet

    def __init__(
        self,
        source: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
        *,
        revision: str | None = None,
        variant: str | None = None,
        mirrors: Sequence[str] = (),
        unet_weights: str | None = None,
        image_size: int = 960,
        crop_px: int | None = 512,
        overlap_px: int = 64,
        crop_batch: int = 4,
        timesteps: Sequence[int] = (50,),
        add_noise: bool = True,
        noises: int = 1,
        seed: int = 42,
        freeu: Mapping[int, Sequence[float]] | None = RELEASE,
        prompt: str = "",
        captioner: str | None = None,
        clip: str = "openai/clip-vit-large-patch14-336",
        taps: Sequence[str] = ("s3", "s4", "s5"),
        dtype: str = "float32",
        compile: bool = False,
        centre: bool = False,
        debias: int | None = None,
    ) -> None:
        super().__init__()
        self.dtype_name, self.compute_dtype = dtype, parse_dtype(dtype)
        if not torch.accelerator.is_available():
            _check_device(self.compute_dtype, "cpu")
        self.image_sizes, self.crop_px = (image_size,), crop_px or image_size
        self.overlap_px = overlap_px if crop_px else 0
        self.offsets = crop_offsets(image_size, self.crop_px, self.overlap_px)
        _check_counts(crop_batch, noises, add_noise)
        self.crop_batch, self.add_noise, self.seed = crop_batch, add_noise, seed
        self.timesteps, self.prompt = tuple(timesteps), prompt
        loaded = parts.load_parts(
            source,
            self.compute_dtype,
            revision=revision,
            variant=variant,
            mirrors=mirrors,
            unet_weights=unet_weights,
            prompt=prompt,
        )
        self._set_models(loaded, taps, freeu, noises)
        self.captioner: Captioner | None = None
        if captioner is not None:
            self.captioner = Captioner.load(captioner, clip, self.compute_dtype)
            self.captioner.check_fit(loaded.text_states, self.unet.time_channels)
        if compile:
            self.unet.compile()
            self.vae.encoder.compile()
        self.adjust(centre, debias)
        self.freeze()

    def _set_models(
        self, loaded: parts.Parts, taps: Sequence[str], freeu: Mapping[int, Sequence[float]] | None, noises: int
    ) -> None:
        config, self.vae, self.scheduler = loaded.unet.config, loaded.vae, loaded.scheduler
        _check_timesteps(self.timesteps, self.scheduler.config.num_train_timesteps)
        stride = 2 ** (len(self.vae.config.block_out_channels) - 1)
        coarsest = stride * 2 ** (len(config.block_out_channels) - 1)
        check_sizes(self.image_sizes[0], self.crop_px, self.overlap_px, coarsest)
        noise = fixed_noise(noises, config.in_channels, self.crop_px // stride, self.seed)
        self.register_buffer("noise", noise, persistent=False)
        self.register_buffer("text_states", loaded.text_states, persistent=False)
        self.unet = TapUNet(loaded.unet, taps, freeu)
        self.weights = loaded.weights
        self.channels = self.unet.channels
        self.strides_px = tuple(stride * each for each in self.unet.strides)
        self.grid = self.image_sizes[0] // min(self.strides_px)

    def identity(self) -> dict[str, Any]:
        """Settings and content hashes; how many crops share a pass, and compilation, do not change the output."""
        return {
            "backbone": "stable_diffusion",
            "weights": self.weights,
            "captioner": None if self.captioner is None else self.captioner.identity,
            "image_size": self.image_sizes[0],
            "crop_px": self.crop_px,
            "overlap_px": self.overlap_px,
            "timesteps": list(self.timesteps),
            "noise": {"seed": self.seed, "count": len(self.noise)} if self.add_noise else None,
            "freeu": {str(count): list(scales) for count, scales in self.unet.freeu.items()},
            "prompt": self.prompt,
            "taps": [f"up{tap.block}.{tap.resnet}" for tap in self.unet.taps],
            "dtype": self.dtype_name,
            **self.adjustments,
        }

    def extract(self, images: dict[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        """Maps ``(u c h w)`` of the taps in their order, float32, at native resolution."""
        size = self.image_sizes[0]
        frames = take_frames(images, size)
        _check_device(self.compute_dtype, frames.device.type)
        joined = [
            CropMean(channels, len(frames), size // stride, self.crop_px // stride, frames.device)
            for channels, stride in zip(self.channels, self.strides_px, strict=True)
        ]
        places = crop_places(len(frames), self.offsets)
        for start in range(0, len(places), self.crop_batch):
            chunk = places[start : start + self.crop_batch]
            pixels = torch.stack([frames[u, :, y : y + self.crop_px, x : x + self.crop_px] for u, y, x in chunk])
            for mean, stride, maps in zip(joined, self.strides_px, self.crop_states(pixels / 255), strict=True):
                for (u, y, x), crop_map in zip(chunk, maps, strict=True):
                    mean.add(u, y // stride, x // stride, crop_map)
        return tuple(mean.mean() for mean in joined)

    def crop_states(self, pixels: Tensor) -> list[Tensor]:
        """States at the taps, float32, of crops ``(u 3 h w)`` in [0, 1], averaged over timesteps and noises."""
        latents = self.latents(pixels)
        text_states, time_term = self.condition(pixels)
        total: list[Tensor] = [torch.zeros((), device=pixels.device) for _ in self.channels]
        passes = 0
        for step in torch.tensor(self.timesteps, device=pixels.device):
            for noise in self.noise:
                noisy = self.scheduler.add_noise(latents, noise, step[None]) if self.add_noise else latents
                states = self.unet(noisy.to(self.compute_dtype), step, text_states, time_term)
                total = [old + new.float() for old, new in zip(total, states, strict=True)]
                passes += 1
        return [each / passes for each in total]

    def latents(self, pixels: Tensor) -> Tensor:
        """Scaled posterior means ``(u 4 h/8 w/8)``, float32, of pixels in [0, 1]."""
        posterior = self.vae.encode((pixels * 2 - 1).to(self.compute_dtype)).latent_dist
        return posterior.mean.float() * self.vae.config.scaling_factor

    def condition(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Text states ``(u tokens c)`` and the term of the time embedding ``(u c)``, if there is a captioner."""
        states = self.text_states.expand(len(pixels), -1, -1)
        if self.captioner is None:
            return states, None
        implicit, time_term = self.captioner(pixels, self.text_states)
        return (states if self.prompt else implicit), time_term


def _check_device(dtype: torch.dtype, device: str) -> None:
    if dtype == torch.float16 and device == "cpu":
        raise ValueError("float16 needs an accelerator, this runs on the CPU; set dtype=float32 or dtype=bfloat16")


def _check_counts(crop_batch: int, noises: int, add_noise: bool) -> None:
    if crop_batch < 1 or noises < 1:
        raise ValueError(f"crop_batch and noises are at least 1, got {crop_batch} and {noises}")
    if noises > 1 and not add_noise:
        raise ValueError(f"noises={noises} without noise repeats one pass; set noises=1 or add_noise=true")


def _check_timesteps(timesteps: Sequence[int], steps: int) -> None:
    if not timesteps or not all(0 <= step < steps for step in timesteps):
        raise ValueError(f"timesteps are one or more of 0..{steps - 1}, got {list(timesteps)}")
