# SPDX-License-Identifier: GPL-2.0-only
"""Compares the outcomes of two kernels, case by case: the rows, and the word for all of them.

It does not judge single runs (outcome.py), does not say what a change is (changes.py) and does not
phrase anything (wording.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from runner.case import Case, Invariant
from runner.changes import Signatures, findings
from runner.errors import EXIT_ALL_SKIPPED, EXIT_CLEAN, EXIT_REGRESSION, EXIT_UNDECIDED
from runner.judging import GUEST, judge_guests
from runner.outcome import Checked, Outcome, Verdict
from runner.row import OPEN, REGRESSIONS, ArmRuns, Row
from runner.transcript import Transcript, TrialKey
from runner.twins import Twins

CONFIDENCE = 0.95


class Overall(enum.StrEnum):
    """The word of the whole comparison."""

    CLEAN = "no regression"
    REGRESSION = "regression"
    UNDECIDED = "undecided"
    SKIPPED = "everything skipped"

    @property
    def exit_code(self) -> int:
        return {
            Overall.CLEAN: EXIT_CLEAN,
            Overall.REGRESSION: EXIT_REGRESSION,
            Overall.UNDECIDED: EXIT_UNDECIDED,
            Overall.SKIPPED: EXIT_ALL_SKIPPED,
        }[self]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer: every row in the order of the case table, and the word for all of them.

    `planned` is how many rows the run was to have, None if it does not say; `missing` are clauses
    on what has not run yet.
    """

    twins: Twins
    rows: tuple[Row, ...]
    planned: int | None = None
    missing: tuple[str, ...] = ()

    @property
    def overall(self) -> Overall:
        changes = {row.change for row in self.rows}
        if self.twins.unequal():
            return Overall.UNDECIDED
        if changes & set(REGRESSIONS):
            return Overall.REGRESSION
        if self.planned == 0:
            return Overall.CLEAN
        if changes & set(OPEN) or self.missing or self.dead:
            return Overall.UNDECIDED
        if all(row.patched.verdict is Verdict.SKIP for row in self.rows if row.case != GUEST):
            return Overall.SKIPPED
        return Overall.CLEAN

    @property
    def dead(self) -> bool:
        """Whether no case came to its end on either kernel, or there is none."""
        return all(row.dead_on_both for row in self.rows if row.case != GUEST)

    @property
    def exit_code(self) -> int:
        return self.overall.exit_code


def compare_transcripts(
    cases: Iterable[Case], transcripts: Iterable[Transcript], twins: Twins
) -> Comparison:
    """Judge the evidence of both arms and compare it."""
    table = tuple(cases)
    guests: dict[TrialKey, list[Transcript]] = {}
    for transcript in sorted(transcripts, key=lambda script: script.boot.part):
        guests.setdefault(transcript.boot.trial, []).append(transcript)
    judged: dict[str, list[Outcome]] = {"base": [], "patched": []}
    for (arm, *_), parts in sorted(guests.items()):
        judged[arm] += judge_guests(parts, table)
    return compare(table, judged["base"], judged["patched"], twins)


def compare(
    cases: Iterable[Case], base: Sequence[Outcome], patched: Sequence[Outcome], twins: Twins
) -> Comparison:
    """Compare the outcomes of both arms: one row for each case and swap seen in either."""
    known = frozenset(splat.signature for run in base for splat in run.splats)
    kept = frozenset(splat.signature for run in patched for splat in run.splats)
    rows = []
    for case in (GUEST, *cases):
        swaps = dict.fromkeys(run.swap for run in (*base, *patched) if run.case == case.id)
        for swap in swaps:
            arms = _arm(base, case, swap), _arm(patched, case, swap)
            subjects = _subjects(case, *arms)
            if case.foreign:
                arms = _complete(arms[0], subjects), _complete(arms[1], subjects)
            found = sorted(
                findings(subjects, *arms, Signatures(known, kept)),
                key=lambda finding: -finding.change,
            )
            rows.append(Row(subjects, swap, tuple(found), *arms))
    return Comparison(twins, tuple(rows))


def detectable_rate(clean_runs: int) -> float:
    """The rate of failure that so many clean runs would have shown with 95 % confidence."""
    return float(1 - (1 - CONFIDENCE) ** (1 / clean_runs)) if clean_runs > 0 else 1.0


def _arm(outcomes: Sequence[Outcome], case: Case, swap: str) -> ArmRuns:
    return ArmRuns(tuple(run for run in outcomes if (run.case, run.swap) == (case.id, swap)))


def _subjects(case: Case, base: ArmRuns, patched: ArmRuns) -> Case:
    """A foreign program's invariants are the result lines that any run of either arm printed."""
    if not case.foreign:
        return case
    checks = (check for run in (*base.runs, *patched.runs) for check in run.invariants)
    says = {check.name: f"its result {check.name} ({check.text}) is `not ok`" for check in checks}
    return replace(case, invariants=tuple(Invariant(*each) for each in says.items()))


def _complete(arm: ArmRuns, case: Case) -> ArmRuns:
    """A result that only other runs printed was not reported in this one."""
    return ArmRuns(
        tuple(
            replace(run, invariants=(*run.invariants, *_unreported(run, case))) for run in arm.runs
        )
    )


def _unreported(run: Outcome, case: Case) -> Iterator[Checked]:
    printed = {check.name for check in run.invariants}
    for invariant in case.invariants:
        if invariant.name not in printed:
            yield Checked(invariant.name, Verdict.INCONCLUSIVE, "no result was printed")
