# SPDX-License-Identifier: GPL-2.0-only
"""The table of costs: each operation on base and with the patch, the change and its interval.

It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from runner.case import MeasureSpec
from runner.comparison import Comparison
from runner.cost import Ratio, ratio
from runner.row import Change, Row

HEADS = ("operation", "instructions per", "base", "with the patch", "change", "interval", "")
PER = "instructions per "


@dataclass(frozen=True, slots=True)
class CostLine:
    """One operation on one swap; `spread` is how far base's own runs were apart, as a share."""

    case: str
    swap: str
    per: str
    base: float
    patched: float
    spread: float
    ratio: Ratio
    change: Change

    def cells(self) -> tuple[str, ...]:
        """The line below HEADS."""
        return (
            f"{self.case} on {self.swap}",
            self.per,
            f"{figure(self.base)} ±{self.spread / 2:.2%}",
            figure(self.patched),
            percent(self.ratio.middle),
            interval(self.ratio),
            self.change.name if self.change is not Change.SAME else "",
        )


def cost_lines(comparison: Comparison) -> tuple[CostLine, ...]:
    """Every cost that has figures in both arms, in the order of the rows."""
    return tuple(
        line for row in comparison.rows for spec in row.case.measures for line in _line(row, spec)
    )


def _line(row: Row, spec: MeasureSpec) -> Iterator[CostLine]:
    before, after = row.base.values(spec.name), row.patched.values(spec.name)
    found = ratio(before, after)
    if spec.floor and found:
        changes = [each.change for each in row.findings if each.name == spec.name]
        yield CostLine(
            case=row.case.id,
            swap=row.swap,
            per=spec.says.removeprefix(PER),
            base=median(before),
            patched=median(after),
            spread=(max(before) - min(before)) / median(before),
            ratio=found,
            change=changes[0] if changes else Change.SAME,
        )


def figure(instructions: float) -> str:
    """As many digits as mean something."""
    return f"{instructions:,.0f}" if instructions >= 100 else f"{instructions:.3g}"


def percent(factor: float) -> str:
    return f"{factor - 1:+.2%}"


def interval(found: Ratio) -> str:
    """The ends of the interval and its confidence, as `+0.95% to +1.10% (97 %)`."""
    return f"{percent(found.low)} to {percent(found.high)} ({found.confidence:.0%})"
