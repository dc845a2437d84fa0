"""The verification's result as text: counts beside the published ones, errors, oddities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geoalign.data.prepare.checks import Finding

SHOWN = 8
"""Errors of a kind printed in full; of the rest only the number."""


@dataclass
class Count:
    """One line of the table; ``published`` is None where nothing is compared."""

    what: str
    found: int
    published: int | None = None
    nearest: int = 1
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Equal to the published number, which may itself be rounded to ``nearest``."""
        return self.published is None or abs(self.found - self.published) * 2 <= self.nearest - (self.nearest == 1)

    def line(self) -> str:
        """The row of the table."""
        published = "" if self.published is None else f"{self.published:,}"
        if self.nearest > 1:
            published = f"~{published}"
        verdict = "" if self.published is None else "ok" if self.agrees else "WRONG"
        return f"  {self.what:<28}{self.found:>10,}{published:>12}  {verdict:<6}{self.note}".rstrip()


@dataclass
class Report:
    """What was counted and found in the folder ``root`` of a dataset."""

    dataset: str
    root: Path
    counts: list[Count] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """What fails the verification, wrong counts among it."""
        wrong = [
            Finding("error", "count", c.what, f"should be {c.published:,}, got {c.found:,}")
            for c in self.counts
            if not c.agrees
        ]
        return wrong + [finding for finding in self.findings if finding.severity == "error"]

    @property
    def exit_code(self) -> int:
        """0 where the dataset is sound, else 1."""
        return int(bool(self.errors))

    def text(self) -> str:
        """The whole report, for people."""
        lines = [f"{self.dataset} in {self.root}", f"  {'':<28}{'found':>10}{'published':>12}"]
        lines += [count.line() for count in self.counts]
        lines += _oddities([f for f in self.findings if f.severity == "oddity"])
        lines += _errors(self.errors)
        return "\n".join([*lines, f"result: {'not sound' if self.errors else 'sound'}"])


def _errors(errors: Sequence[Finding]) -> list[str]:
    lines = [f"errors: {len(errors):,}" if errors else "errors: none"]
    for kind, found in _by_kind(errors):
        told = (": ".join(part for part in (finding.where, finding.detail) if part) for finding in found[:SHOWN])
        lines += [f"  {kind}: {text}" for text in told]
        if len(found) > SHOWN:
            lines.append(f"  {kind}: ... and {len(found) - SHOWN:,} more")
    return lines


def _oddities(findings: Sequence[Finding]) -> list[str]:
    lines = ["oddities (reported, not failed):" if findings else "oddities: none"]
    for kind, found in _by_kind(findings):
        first = " ".join(part for part in (found[0].where, found[0].detail) if part)
        lines.append(f"  {len(found):,} x {kind}, as {first}")
    return lines


def _by_kind(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings of a kind together, the most frequent kind first."""
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.kind].append(finding)
    return sorted(kinds.items(), key=lambda item: -len(item[1]))
