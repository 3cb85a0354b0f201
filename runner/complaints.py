# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's complaints of a whole run, equal ones counted together. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.comparison import Comparison
from runner.outcome import Outcome
from runner.row import ArmRuns
from runner.splat import Splat
from runner.transcript import ArmLabel

CASES_NAMED = 3
_Where = tuple[ArmLabel, str, int]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One signature: its first splat, and in how many runs of each arm it was seen."""

    splat: Splat
    arm: ArmLabel
    base: int
    patched: int
    cases: tuple[str, ...]

    def __str__(self) -> str:
        trace = f" in {' < '.join(self.splat.frames[:5])}" if self.splat.frames else ""
        more = "; ..." if len(self.cases) > CASES_NAMED else ""
        where = "; ".join(self.cases[:CASES_NAMED]) + more
        told = f"{_runs(self.base)} on base, {_runs(self.patched)} with the patch"
        return f"{self.splat.title}{trace}: {told} ({where})"


def complaints(comparison: Comparison) -> tuple[Complaint, ...]:
    """Every signature once, those that base never had last."""
    seen: dict[str, dict[_Where, Splat]] = {}
    for row in comparison.rows:
        case = row.case.id if row.swap == "none" else f"{row.case.id} on {row.swap}"
        for arm, run in (*_each("base", row.base), *_each("patched", row.patched)):
            for splat in run.splats:
                # a run that says the same twice is one run, and so are two tries to boot
                seen.setdefault(splat.signature, {}).setdefault((arm, case, run.repeat), splat)
    found = [_complaint(each) for each in seen.values()]
    return tuple(sorted(found, key=lambda each: each.base == 0))


def _each(arm: ArmLabel, side: ArmRuns) -> Iterator[tuple[ArmLabel, Outcome]]:
    yield from ((arm, run) for run in side.runs)


def _complaint(seen: dict[_Where, Splat]) -> Complaint:
    (arm, _, _), splat = next(iter(seen.items()))
    arms = [arm for arm, _, _ in seen]
    cases = tuple(dict.fromkeys(case for _, case, _ in seen))
    return Complaint(splat, arm, arms.count("base"), arms.count("patched"), cases)


def _runs(count: int) -> str:
    return {0: "never", 1: "1 run"}.get(count, f"{count} runs")
