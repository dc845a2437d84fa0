"""The verification's result as text: counts beside the published ones, errors, oddities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from geoalign.data.prepare.checks import Finding

SHOWN = 8
"""Errors of a kind printed in full; of the rest only the number."""


class Count(NamedTuple):
    """One line of the table; ``published`` is None where nothing is compared, and may be rounded to ``nearest``."""

    what: str
    found: int
    published: int | None = None
    nearest: int = 1
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Equal to the published number, as far as that is exact."""
        return self.published is None or abs(self.found - self.published) * 2 <= self.nearest - (self.nearest == 1)

    def line(self) -> str:
        """The row of the table."""
        published = "" if self.published is None else f"{'~' * (self.nearest > 1)}{self.published:,}"
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
        wrong = [c for c in self.counts if not c.agrees]
        counts = [Finding("error", "count", c.what, f"should be {c.published:,}, got {c.found:,}") for c in wrong]
        return counts + [finding for finding in self.findings if finding.severity == "error"]

    @property
    def exit_code(self) -> int:
        """0 where the dataset is sound, else 1."""
        return int(bool(self.errors))

    def text(self) -> str:
        """The whole report, for people."""
        errors, oddities = self.errors, [finding for finding in self.findings if finding.severity == "oddity"]
        lines = [f"{self.dataset} in {self.root}", f"  {'':<28}{'found':>10}{'published':>12}"]
        lines += [count.line() for count in self.counts]
        lines.append("oddities (reported, not failed):" if oddities else "oddities: none")
        lines += [f"  {len(same):,} x {kind}, as {_shown(same[0], ' ')}" for kind, same in _by_kind(oddities)]
        lines.append(f"errors: {len(errors):,}" if errors else "errors: none")
        for kind, same in _by_kind(errors):
            lines += [f"  {kind}: {_shown(finding, ': ')}" for finding in same[:SHOWN]]
            lines += [f"  {kind}: ... and {len(same) - SHOWN:,} more"] * (len(same) > SHOWN)
        return "\n".join([*lines, f"result: {'not sound' if errors else 'sound'}"])


def _shown(finding: Finding, between: str) -> str:
    return between.join(part for part in (finding.where, finding.detail) if part)


def _by_kind(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings of a kind together, the most frequent kind first."""
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.kind].append(finding)
    return sorted(kinds.items(), key=lambda item: -len(item[1]))
