"""The only place with weights: terms and kinds of row into one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoalign.bank import Bank, Source
from geoalign.losses.base import START, Moment, Term
from geoalign.losses.reads import RowReads, read_rows
from geoalign.losses.schedule import Scheduled
from geoalign.types import KINDS, PairBatch


class Total(NamedTuple):
    """A weighted sum and its weight (kept apart so that ranks can add them), and the unweighted parts."""

    sum: Float[Tensor, ""]
    weight: Float[Tensor, ""]
    parts: dict[str, Tensor]

    @property
    def mean(self) -> Tensor:
        """Σ w·l / Σ w; zero with gradient where no row counts."""
        return self.sum / self.weight.clamp(min=torch.finfo(self.sum.dtype).tiny)


class WeightedSum(nn.Module):
    """Σ w_kind Σ_term w_term·term / Σ w_kind over the rows that any term counts.

    ``terms`` are given by their names: ``sparse=…``, ``dense=…``, ``gaussian=…`` and so on, null where there is none.
    The sparse term enters plain rows only (docs/protocol.md#losses).

    Args:
        kinds: weight of each kind of row: plain, single, double, self, rotated.
        weights: of the terms in the sum, by name; 1 where nothing is said.

    Raises:
        ValueError: No term, no weight above 0, an unknown kind, or the weight of a term that is not there.
    """

    kind_weight: Tensor

    def __init__(
        self, kinds: Mapping[str, float], weights: Mapping[str, float] | None = None, **terms: Term | None
    ) -> None:
        super().__init__()
        given = {name: term for name, term in terms.items() if term is not None}
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or not given or not any(kinds.values()):
            raise ValueError(
                f"loss needs a term (sparse, dense, gaussian, …), and weights > 0 for kinds of {KINDS}; "
                f"got terms {sorted(given)} and {dict(kinds)}"
            )
        if absent := sorted(set(weights or {}) - set(terms)):
            raise ValueError(f"loss.weights names {', '.join(absent)}, the terms are {', '.join(sorted(terms))}")
        self.terms = nn.ModuleDict(given)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in given}
        self.kinds = {k: float(w) for k, w in kinds.items() if w}
        self.register_buffer("kind_weight", torch.tensor([kinds.get(k, 0.0) for k in KINDS]), persistent=False)

    @property
    def mask_side(self) -> int | None:
        """Side in px of the masks that the terms want, or None."""
        return max((term.mask_side for _, term in self._terms() if term.mask_side is not None), default=None)

    @property
    def teacher_decay(self) -> Scheduled | None:
        """Decay of the average that teaches, or None where no term wants a teacher."""
        return next((term.teacher_decay for _, term in self._terms() if term.teacher_decay is not None), None)

    @property
    def learned_scale(self) -> bool:
        """Whether a term needs the scale that a refiner learns."""
        return any(term.learned_scale for _, term in self._terms())

    def check(self, learned_scale: bool, steps: int | None) -> None:
        """Refuse what cannot be trained: a term without the scale that it needs, a schedule longer than ``steps``."""
        for name, term in self._terms():
            if term.learned_scale and not learned_scale:
                raise ValueError(
                    f"loss.{name} needs a refiner that learns a scale, and this one learns none; set loss.{name}=null"
                    + ("" if name == "sparse" else f", or loss.{name}.temperature to a number")
                )
        self.check_steps(steps)

    def check_steps(self, steps: int | None) -> None:
        """Refuse schedules that a training of so many optimiser steps (None: without end) is too short for."""
        for _, term in self._terms():
            term.check(steps)

    def forward(self, bank: Bank, batch: PairBatch, moment: Moment = START) -> Total:
        self.check(moment.scale is not None, None)
        counted = torch.stack([term.counts(batch) for _, term in self._terms()]).any(0)
        weight = self.kind_weight[batch["kind"]] * batch["count"] * counted
        plain = batch["kind"] == KINDS.index("plain")
        reads = self._read(bank, batch, plain)
        row_loss, parts = torch.zeros_like(weight), dict[str, Tensor]()
        for name, term in self._terms():
            value = term(bank, batch, moment, reads.get(term.source))
            value = value * plain if term.plain_only else value
            row_loss = row_loss + self.weights[name] * value
            parts |= _parts(name, value, batch, counted, term.plain_only)
        return Total((row_loss * weight).sum(), weight.sum(), parts)

    def _terms(self) -> list[tuple[str, Term]]:
        return list(self.terms.items())  # type: ignore[arg-type]  # a ModuleDict of terms

    def _read(self, bank: Bank, batch: PairBatch, plain: Bool[Tensor, "b"]) -> dict[Source | None, RowReads]:
        """One pass over the bank for all terms that read it alike."""
        alike: dict[Source, list[Term]] = {}
        for _, term in self._terms():
            if term.source is not None:
                alike.setdefault(term.source, []).append(term)
        return {
            source: read_rows(bank, batch, source, plain & any(t.ends for t in terms), any(t.cells for t in terms))
            for source, terms in alike.items()
        }


def _parts(name: str, value: Tensor, batch: PairBatch, counted: Tensor, plain_only: bool) -> dict[str, Tensor]:
    """A term's mean over the counted rows of each kind."""
    if plain_only:
        return {name: _mean(value, (batch["kind"] == KINDS.index("plain")) & counted, batch["count"])}
    kinds = torch.unique(batch["kind"]).tolist()
    return {f"{name}_{KINDS[k]}": _mean(value, (batch["kind"] == k) & counted, batch["count"]) for k in kinds}


def _mean(value: Tensor, chosen: Tensor, count: Tensor) -> Tensor:
    weight = chosen * count
    return (value.detach() * weight).sum() / weight.sum().clamp(min=1)
