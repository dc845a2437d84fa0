"""Stable Diffusion features."""

from geoalign.backbone.diffusion.backbone import StableDiffusion

__all__ = ["StableDiffusion"]
