# SPDX-License-Identifier: GPL-2.0-only
"""Which rows of a comparison deserve more runs before anybody is told of a change.

It runs nothing. More runs can only take a claim back: ranges widen, verdicts begin to disagree.
"""

from __future__ import annotations

from statistics import median

from runner.case import Case
from runner.comparison import Comparison
from runner.cost import allowed
from runner.judging import GUEST
from runner.outcome import Verdict
from runner.row import ArmRuns, Change, Finding, Row

# What fails a gate, and what chance may have made of a few runs
GRAVE = (Change.FLAKY, Change.NEW_SPLAT, Change.NEW_SKIP, Change.LOST, Change.REGRESSED)
BARELY = 0.1


def rows_in_doubt(comparison: Comparison) -> dict[str, tuple[Case, ...]]:
    """The cases to run again, by swap; a kernel that never lived to run them is beyond doubt.

    If only the guest itself changed, any of its cases has to boot it again.
    """
    again: dict[str, tuple[Case, ...]] = {}
    guests = [row for row in comparison.rows if row.case == GUEST]
    shaken = {row.swap for row in guests if row.change in GRAVE}
    for row in comparison.rows:
        if row.case != GUEST and (_doubtful(row) or (row.swap in shaken and _unheard(row))):
            again[row.swap] = (*again.get(row.swap, ()), row.case)
    return _with_boots(comparison, again, {row.swap for row in guests if _doubtful(row)})


def rows_on_trust(comparison: Comparison) -> dict[str, tuple[Case, ...]]:
    """The same where base was not booted beside the patch: a change of the host may look like one.

    Every finding is looked at then, good ones too, and whatever did not pass on base.
    """
    again: dict[str, tuple[Case, ...]] = {}
    for row in comparison.rows:
        if row.case != GUEST and _on_trust(row):
            again[row.swap] = (*again.get(row.swap, ()), row.case)
    odd = {row.swap for row in comparison.rows if row.case == GUEST and _on_trust(row)}
    return _with_boots(comparison, again, odd)


def _with_boots(
    comparison: Comparison, again: dict[str, tuple[Case, ...]], swaps: set[str]
) -> dict[str, tuple[Case, ...]]:
    """With one case, the first that runs there, on each of these swaps that has none yet."""
    for row in comparison.rows:
        lived = not (_never_lived(row.base) or _never_lived(row.patched))
        if row.case != GUEST and row.swap in swaps and lived:
            again.setdefault(row.swap, (row.case,))
    return again


def _never_lived(arm: ArmRuns) -> bool:
    """In more than one run: one may be chance, be it a deadline or a panic."""
    return len(arm.runs) > 1 and not any(run.ran for run in arm.runs)


def _on_trust(row: Row) -> bool:
    return bool(row.findings) or row.base.verdict not in (Verdict.PASS, Verdict.SKIP)


def _doubtful(row: Row) -> bool:
    if _never_lived(row.base) or _never_lived(row.patched):
        return False
    runs = (*row.base.runs, *row.patched.runs)
    # A deadline that was missed on one kernel alone, be it base, may have been the host's doing
    if row.findings and any(run.verdict is Verdict.HANG for run in runs):
        return True
    return any(
        finding.change in GRAVE
        or _worse(row, finding)
        or _barely(row, finding)
        or _mended_once(row, finding)
        for finding in row.findings
    )


def _worse(row: Row, finding: Finding) -> bool:
    """It fails a gate. A cost has had runs enough to know its own spread."""
    return finding.change is Change.WORSENED and not row.case.measure(finding.name).floor


def _mended_once(row: Row, finding: Finding) -> bool:
    """What failed on base failed in its only run there: that may have been chance."""
    return finding.change is Change.FIXED and len(row.base.runs) == 1


def _unheard(row: Row) -> bool:
    """It may be in this case that the guest itself came to grief."""
    return any(run.verdict is Verdict.INFRA and run.ran for run in row.patched.runs)


def _barely(row: Row, finding: Finding) -> bool:
    """A measure that moved by less than twice what is allowed; one that is no cost by a tenth."""
    if finding.subject != "measure":
        return False
    spec = row.case.measure(finding.name)
    runs = row.base.values(spec.name)
    before, after = median(runs), median(row.patched.values(spec.name))
    enough = BARELY * max(abs(before), abs(after)) if not spec.floor else 0
    return abs(after - before) <= max(2 * allowed(spec, runs), enough)
