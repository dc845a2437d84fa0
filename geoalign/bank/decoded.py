"""A bank that keeps coarse maps and decodes what is asked: fine descriptors of all views never exist together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geoalign.bank.base import Bank, Source, full_precision, runs_of
from geoalign.geometry import FRAME_PX, Real, px_to_cell


@runtime_checkable
class Decoder(Protocol):
    """What decodes one view's coarse map, on a grid ``finer`` times denser along a side."""

    finer: int

    @property
    def whole(self) -> bool:
        """Whether similarities are those to every cell of :meth:`everywhere`."""

    def everywhere(self, coarse: Float[Tensor, "c h w"]) -> Float[Tensor, "d fh fw"]:
        """Descriptors at every fine cell."""

    def at(self, coarse: Float[Tensor, "c h w"], xy_cell: Float[Tensor, "m 2"]) -> Float[Tensor, "m d"]:
        """Descriptors at points, in coarse cells."""

    def similarity(self, coarse: Float[Tensor, "c h w"], descriptors: Float[Tensor, "k d"]) -> Float[Tensor, "k fh fw"]:
        """Similarity of each descriptor to every fine cell; it keeps nothing of the fine map for the backward pass."""

    def cells(self, coarse: Float[Tensor, "c h w"]) -> Float[Tensor, "d h w"]:
        """Unit descriptors at the coarse cells' centres."""


@dataclass(frozen=True, eq=False)
class DecodedBank(Bank):
    """Coarse maps ``(u c h w)`` of ``u`` views and their decoder.

    Its memory is that of the coarse maps and of the similarities asked for, ``k·finer²·h·w``: it grows with keypoint
    rows, not with the fine cells of all views. Each view's part of an answer is decoded for itself, and once more in
    the backward pass. Where no gradient is wanted the last view's fine map stays, for parts of its points that follow.
    """

    coarse: Float[Tensor, "u c h w"]
    decoder: Decoder
    frame_px: Real = FRAME_PX
    unit: bool = True
    visible: Bool[Tensor, "u h w"] | None = None
    _last: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def finer(self) -> int:  # type: ignore[override]
        return self.decoder.finer

    @property
    def grid(self) -> tuple[int, int]:
        h, w = self.coarse.shape[-2:]
        return h * self.finer, w * self.finer

    @property
    def requires_grad(self) -> bool:
        trained = isinstance(self.decoder, nn.Module) and any(p.requires_grad for p in self.decoder.parameters())
        return self.coarse.requires_grad or trained

    @property
    def nbytes(self) -> int:
        return self.coarse.nbytes

    def __len__(self) -> int:
        return len(self.coarse)

    def at(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], source: Source = "bilinear"
    ) -> Float[Tensor, "m c"]:
        """Exactly at the points; with ``floor`` at the centres of the fine cells that they lie in."""
        if source not in ("bilinear", "floor"):
            raise ValueError(f"source is bilinear or floor, got {source!r}")
        xy_px = xy_px.float().clamp(0, self.frame_px)
        if source == "floor":
            last = self.grid[1] - 1
            xy_px = (torch.floor(xy_px / self.stride).clamp(max=last) + 0.5) * self.stride
        xy_cell = px_to_cell(xy_px, self.stride * self.finer)
        order = torch.argsort(view, stable=True)
        # without points one empty answer: the decoder stays in every rank's graph
        runs = [*runs_of(view[order])] or [(0, slice(0, 0))]
        points = torch.cat([self.decoder.at(self.coarse[v], xy_cell[order[run]]) for v, run in runs])
        return points[torch.argsort(order)]

    def similarity(self, descriptors: Float[Tensor, "k c"], view: Int[Tensor, "k"]) -> Float[Tensor, "k h w"]:
        parts = [descriptors.new_zeros(0, *self.grid)]
        for v, run in runs_of(view):
            part = self._similarity(v, descriptors[run])
            parts.append(part if self.visible is None else part * _fine(self.visible[v], self.finer))
        return torch.cat(parts)

    def _similarity(self, view: int, descriptors: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not self.decoder.whole:
            return self.decoder.similarity(self.coarse[view], descriptors)
        if view not in self._last:
            self._last.clear()  # before the next is made: two would take twice the memory
            self._last[view] = self.decoder.everywhere(self.coarse[view]).float()
        fine = self._last[view]
        with full_precision(fine):
            return (descriptors.float() @ fine.flatten(1)).unflatten(1, self.grid)

    def cells(self, view: int) -> Float[Tensor, "c h w"]:
        cells = self.decoder.cells(self.coarse[view])
        return cells if self.visible is None else cells * self.visible[view]

    def hide(self, visible: Bool[Tensor, "u h w"]) -> DecodedBank:
        return replace(self, visible=visible if self.visible is None else self.visible & visible)

    def join(self, others: Sequence[Bank]) -> DecodedBank:
        every = [self, *cast(Sequence[DecodedBank], others)]
        shown = [_all_of(bank) if bank.visible is None else bank.visible for bank in every]
        none = all(bank.visible is None for bank in every)
        coarse = torch.cat([bank.coarse for bank in every])
        return replace(self, coarse=coarse, visible=None if none else torch.cat(shown))


def forgetting(function: Callable[..., Tensor], *given: Any) -> Tensor:
    """The function's answer; where a gradient is wanted, what lies between is computed again in the backward pass."""
    if not torch.is_grad_enabled():
        return function(*given)
    return cast(Tensor, checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False))


def _fine(visible: Tensor, finer: int) -> Tensor:
    return visible.repeat_interleave(finer, 0).repeat_interleave(finer, 1)


def _all_of(bank: DecodedBank) -> Tensor:
    u, _, h, w = bank.coarse.shape
    return torch.ones(u, h, w, dtype=torch.bool, device=bank.coarse.device)
