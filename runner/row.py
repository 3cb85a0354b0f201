# SPDX-License-Identifier: GPL-2.0-only
"""One case on one swap in both arms: the runs, and the changes that can be found between them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from runner.case import Case
from runner.outcome import BAD, Checked, Outcome, Verdict
from runner.splat import Splat


class Change(enum.IntEnum):
    """In order of severity: the worst finding names the row."""

    SAME = 0
    IMPROVED = 1
    FIXED = 2
    KNOWN = 3
    UNDECIDED = 4
    FLAKY = 5
    WORSENED = 6
    NEW_SPLAT = 7
    NEW_SKIP = 8
    LOST = 9
    REGRESSED = 10


REGRESSIONS = (
    Change.WORSENED,
    Change.NEW_SPLAT,
    Change.NEW_SKIP,
    Change.LOST,
    Change.REGRESSED,
)
OPEN = (Change.UNDECIDED, Change.FLAKY)

Subject = Literal["run", "invariant", "measure", "splat", "baseline"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One change of one subject. `name` is the invariant, measure or splat signature.

    Of the subject "baseline" it is what base did differently this time. `known` is why a KNOWN
    finding is accepted.
    """

    change: Change
    subject: Subject
    name: str = ""
    known: str = ""


@dataclass(frozen=True, slots=True)
class ArmRuns:
    """All runs of one case and swap in one arm."""

    runs: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict | None:
        """The worst of the runs; None if there were none."""
        return max((run.verdict for run in self.runs), default=None)

    @property
    def worst(self) -> Outcome | None:
        return max(self.runs, key=lambda run: run.verdict, default=None)

    def values(self, measure: str) -> tuple[float, ...]:
        """Of the runs whose path is proven: what another path counted is another figure."""
        found = (run.measure(measure) for run in self.runs if run.proven)
        return tuple(value for value in found if value is not None)

    def checks(self, invariant: str) -> tuple[Checked, ...]:
        return tuple(check for run in self.runs for check in run.named(invariant))

    def by_invariant(self) -> dict[str, tuple[Checked, ...]]:
        """All checks at once: a foreign program may have very many."""
        found: dict[str, list[Checked]] = {}
        for run in self.runs:
            for check in run.invariants:
                found.setdefault(check.name, []).append(check)
        return {name: tuple(checks) for name, checks in found.items()}

    def splats(self) -> dict[str, Splat]:
        return {splat.signature: splat for run in self.runs for splat in run.splats}


@dataclass(frozen=True, slots=True)
class Row:
    """One case on one swap in both arms. `findings` are the most serious first."""

    case: Case
    swap: str
    findings: tuple[Finding, ...]
    base: ArmRuns
    patched: ArmRuns

    @property
    def change(self) -> Change:
        return self.findings[0].change if self.findings else Change.SAME

    @property
    def broken_on_both(self) -> bool:
        """Whether the patch has not brought it, but it is no pass either."""
        runs = (*self.base.runs, *self.patched.runs)
        ended = bool(self.base.runs and self.patched.runs) and all(r.process in BAD for r in runs)
        return ended or bool(self.failing_on_both)

    @property
    def dead_on_both(self) -> bool:
        """Whether every run of both arms hung, crashed or ended without any result: no change, but
        nothing was learned. A foreign program may tell its result by its exit code alone.
        """
        arms = self.base.runs, self.patched.runs
        return all(runs and all(self._is_dead(run) for run in runs) for runs in arms)

    def _is_dead(self, run: Outcome) -> bool:
        if run.process is not Verdict.FAIL or self.case.foreign:
            return run.process in BAD[1:]
        return all(check.verdict is Verdict.INCONCLUSIVE for check in run.invariants)

    @property
    def failing_on_both(self) -> tuple[str, ...]:
        """Invariants that failed in every run of both arms: no change, but no pass either."""
        base, patched = self.base.by_invariant(), self.patched.by_invariant()
        return tuple(
            name
            for name in (invariant.name for invariant in self.case.invariants)
            if _always_fails(base.get(name, ())) and _always_fails(patched.get(name, ()))
        )


def _always_fails(checks: tuple[Checked, ...]) -> bool:
    return bool(checks) and all(check.verdict is Verdict.FAIL for check in checks)
