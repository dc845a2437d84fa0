"""From a similarity map to one point: pure functions on ``(… h w)``, answers in cells ``(… 2)`` as (x, y)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Outside = Literal["exclude", "zero"]


def argmax(similarity: Float[Tensor, "*s h w"]) -> Float[Tensor, "*s 2"]:
    """Cell of the highest similarity.

    >>> argmax(torch.tensor([[0.0, 1.0], [0.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    w = similarity.shape[-1]
    best = similarity.flatten(-2).argmax(-1)
    return torch.stack([best % w, best // w], dim=-1).to(similarity.dtype)


def soft_argmax(similarity: Float[Tensor, "*s h w"], temperature: float = 0.02) -> Float[Tensor, "*s 2"]:
    """Mean cell under ``softmax(similarity / temperature)`` over the whole map."""
    h, w = similarity.shape[-2:]
    weight = torch.softmax(similarity.flatten(-2) / temperature, dim=-1).unflatten(-1, (h, w))
    return torch.stack([_mean(weight.sum(-2)), _mean(weight.sum(-1))], dim=-1)


def window_soft_argmax(
    similarity: Float[Tensor, "*s h w"], radius: int = 7, temperature: float = 0.02, outside: Outside = "exclude"
) -> Float[Tensor, "*s 2"]:
    """Soft-argmax over the ``(2 radius + 1)²`` cells around the peak (docs/protocol.md#matcher); radius 0 = whole map.

    ``exclude`` gives cells outside no mass and computes only the window; ``zero`` multiplies them by 0
    before the softmax as the release does, so they keep a mass of ``exp(0)`` each.
    """
    if radius < 0:
        raise ValueError(f"window radius is >= 0 cells, got {radius}")
    if radius == 0:
        return soft_argmax(similarity, temperature)
    if outside == "zero":
        return soft_argmax(similarity * _window_mask(similarity, radius), temperature)
    if outside != "exclude":
        raise ValueError(f"outside is exclude or zero, got {outside!r}")
    return _cropped_soft_argmax(similarity, radius, temperature)


def kernel_soft_argmax(
    similarity: Float[Tensor, "*s h w"], sigma: float = 5.0, temperature: float = 0.02
) -> Float[Tensor, "*s 2"]:
    """Soft-argmax of the map times a Gaussian of ``sigma`` cells around the peak."""
    h, w = similarity.shape[-2:]
    peak = argmax(similarity.detach())
    dx2 = (_axis(w, similarity) - peak[..., 0:1]) ** 2
    dy2 = (_axis(h, similarity) - peak[..., 1:2]) ** 2
    kernel = torch.exp(-(dy2.unsqueeze(-1) + dx2.unsqueeze(-2)) / (2 * sigma**2))
    return soft_argmax(similarity * kernel, temperature)


def _mean(mass: Tensor) -> Tensor:
    """Mean position along the last axis.

    It is counted from the heaviest position, because softmax's backward takes the mean from each position: counted
    from the border, both are numbers up to 60 that agree but for rounding where a peak is sharp. Against the release's
    gradients that is an error of 8e-5 instead of 3e-6.
    """
    peak = mass.detach().argmax(-1, keepdim=True)
    return (mass * (_axis(mass.shape[-1], mass) - peak)).sum(-1) + peak[..., 0]


def _axis(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, dtype=like.dtype, device=like.device)


def _window_mask(similarity: Tensor, radius: int) -> Tensor:
    h, w = similarity.shape[-2:]
    peak = argmax(similarity.detach())
    near_x = (_axis(w, similarity) - peak[..., 0:1]).abs() <= radius
    near_y = (_axis(h, similarity) - peak[..., 1:2]).abs() <= radius
    return near_y.unsqueeze(-1) & near_x.unsqueeze(-2)


def _cropped_soft_argmax(similarity: Tensor, radius: int, temperature: float) -> Tensor:
    """Gather the window's cells only: cost (2r+1)² instead of h·w, same answer as −∞ outside."""
    h, w = similarity.shape[-2:]
    flat = similarity.flatten(-2)
    best = flat.detach().argmax(-1, keepdim=True)
    offset = torch.arange(-radius, radius + 1, device=flat.device)
    x, y = best % w + offset, best // w + offset
    inside = ((y >= 0) & (y < h)).unsqueeze(-1) & ((x >= 0) & (x < w)).unsqueeze(-2)
    x, y = x.clamp(0, w - 1), y.clamp(0, h - 1)
    index = (y.unsqueeze(-1) * w + x.unsqueeze(-2)).flatten(-2)
    logits = flat.gather(-1, index) / temperature
    weight = torch.softmax(logits.masked_fill(~inside.flatten(-2), -torch.inf), dim=-1).unflatten(
        -1, (len(offset),) * 2
    )
    along = offset.to(weight)  # no matrix products: autocast would narrow them
    from_peak = torch.stack([(weight.sum(-2) * along).sum(-1), (weight.sum(-1) * along).sum(-1)], dim=-1)
    return from_peak + torch.cat([best % w, best // w], dim=-1)
