# SPDX-License-Identifier: GPL-2.0-only
"""Every prefix of a series against base: which patch brought a change, and which one ended it.

It boots nothing and lays nothing out (stepreport.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.comparison import Comparison, Overall
from runner.outcome import UNJUDGED, Verdict
from runner.row import OPEN, REGRESSIONS, ArmRuns, Change, Finding, Row
from runner.wording import same_story

# Changes that say nothing of what the case would have shown
SILENT = (Change.NEW_SKIP, Change.LOST)
SEVERITY = (Overall.CLEAN, Overall.SKIPPED, Overall.UNDECIDED, Overall.REGRESSION)
Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """The series up to patch `number`.

    Without a comparison `failure` says why there can be none, or else it has not run yet.
    """

    number: int
    title: str
    folder: Path
    comparison: Comparison | None = None
    failure: str = ""

    @property
    def overall(self) -> Overall:
        """A patch with which the kernel does not build is a regression of that patch."""
        if self.comparison:
            return self.comparison.overall
        return Overall.REGRESSION if self.failure else Overall.UNDECIDED


@dataclass(frozen=True, slots=True)
class Turn:
    """A change against base that is there from step `since` on, until step `until` if that is set.

    `rows` are those of step `since`, one for each swap. Of the steps in `unclear`, right before
    it, nothing is known: the change may be older than `since`.
    """

    rows: tuple[Row, ...]
    finding: Finding
    since: int
    until: int | None = None
    unclear: tuple[int, ...] = ()

    @property
    def bad(self) -> bool:
        return self.finding.change in REGRESSIONS


def worst(results: Iterable[Step | Comparison]) -> Overall:
    return max((result.overall for result in results), key=SEVERITY.index)


def excused(steps: Iterable[Step], excuse: Callable[[Comparison], Comparison]) -> tuple[Step, ...]:
    """With what is known already called so."""
    return tuple(
        replace(step, comparison=excuse(step.comparison)) if step.comparison else step
        for step in steps
    )


def telling(steps: Sequence[Step], case: str | None = None, swap: str | None = None) -> Step | None:
    """The first step on which the most serious was found, of a case or group and a swap or of all.

    The last one where there is nothing, None where no step has run.
    """
    ran = [step for step in steps if step.comparison]
    worst_of = {step.number: _worst(step, case, swap) for step in ran}
    if not any(worst_of.values()):
        return ran[-1] if ran else None
    return max(ran, key=lambda step: worst_of[step.number])


def _worst(step: Step, case: str | None, swap: str | None) -> Change:
    rows = step.comparison.rows if step.comparison else ()
    fitting = (row for row in rows if case in (None, row.case.id, row.case.group))
    return max((row.change for row in fitting if swap in (None, row.swap)), default=Change.SAME)


def turns(steps: Sequence[Step]) -> tuple[Turn, ...]:
    """All changes, each told once for the swaps on which it is the same."""
    keys: dict[Key, None] = {}
    for step in steps:
        for row in step.comparison.rows if step.comparison else ():
            for found in row.findings:
                keys[(row.case.id, row.swap, found.subject, found.name)] = None
    merged: list[Turn] = []
    for turn in (turn for key in keys for turn in _turns(key, steps)):
        for place, other in enumerate(merged):
            if _alike(turn, other):
                merged[place] = replace(other, rows=other.rows + turn.rows)
                break
        else:
            merged.append(turn)
    return tuple(sorted(merged, key=lambda turn: (turn.since, turn.finding.change)))


def _alike(one: Turn, other: Turn) -> bool:
    same = (one.finding, one.since, one.until) == (other.finding, other.since, other.until)
    return same and one.unclear == other.unclear and same_story(one.rows[0], other.rows[0])


def _turns(key: Key, steps: Sequence[Step]) -> Iterator[Turn]:
    """The life of one change. What is open (FLAKY, UNDECIDED) is told, and decides nothing.

    What is skipped or lost is a change of its own, and says nothing of the one before it.
    """
    there: dict[Change, Turn] = {}
    was_open = False
    unclear: list[int] = []
    for step in steps:
        row, finding = _found(key, step)
        if finding and finding.change in OPEN:
            if not was_open and row:
                yield Turn((replace(row, findings=(finding,)),), finding, step.number)
        elif row and (finding or not _hides(row, key, there.values())):
            change = finding.change if finding else Change.SAME
            for ended in [each for each in there if _ends(each, change)]:
                yield replace(there.pop(ended), until=step.number)
            if finding and change not in there:
                kept = (replace(row, findings=(finding,)),)
                there[change] = Turn(kept, finding, step.number, None, tuple(unclear))
            was_open = False
            if change not in SILENT:
                unclear = []
                continue
        unclear.append(step.number)
        was_open = finding is not None and finding.change in OPEN
    yield from there.values()


def _ends(change: Change, now: Change) -> bool:
    """Whether what a later step shows takes a change back. Only what is well again mends."""
    if now is change or now in SILENT:
        return False
    return change not in REGRESSIONS or now not in REGRESSIONS


def _found(key: Key, step: Step) -> tuple[Row | None, Finding | None]:
    case, swap, subject, name = key
    for row in step.comparison.rows if step.comparison else ():
        if (row.case.id, row.swap) == (case, swap):
            matching = (
                each for each in row.findings if (each.subject, each.name) == (subject, name)
            )
            return row, next(matching, None)
    return None, None


def _hides(row: Row, key: Key, there: Iterable[Turn]) -> bool:
    """Whether the row does not say that the change is gone, though it has no such finding.

    A run that crashed, was lost or is not trusted says nothing of what it would have shown, nor
    one that skipped what base or the step that brought the change tried, or has no result or value
    to show. `there` are the changes that are not over.
    """
    *_, subject, name = key
    grave = (each for each in row.findings if each.change in (*OPEN, *REGRESSIONS))
    if any(finding.subject in ("run", "baseline") for finding in grave):
        return True
    if subject == "invariant":
        told = [each for each in row.patched.checks(name) if each.verdict not in UNJUDGED]
        return len(told) < len(row.patched.runs)
    if subject == "measure":
        return len(row.patched.values(name)) < len(row.patched.runs)
    tried = [row.base, *(turn.rows[0].patched for turn in there)]
    return _skips(row.patched) and not all(map(_skips, tried))


def _skips(arm: ArmRuns) -> bool:
    return any(run.verdict is Verdict.SKIP for run in arm.runs)
