# SPDX-License-Identifier: GPL-2.0-only
"""Takes the base arm's evidence from an earlier run, and says where it cannot stand in.

It boots nothing. Whether a guest does the same today as it did then cannot be proven from
digests: every row with a finding therefore runs again in both arms (doubt.py), and `distrusted`
takes the word back where the base did something else this time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runner.case import Case
from runner.comparison import Comparison, compare_transcripts
from runner.counted import counted
from runner.errors import BaselineUnfit
from runner.evidence import Evidence
from runner.judging import judge_guests
from runner.outcome import Verdict
from runner.row import Change, Finding, Row
from runner.transcript import Transcript
from runner.twins import Twins, differing


@dataclass(frozen=True, slots=True)
class Need:
    """The base arm of a run: `planned` are the ids of the cases in one boot of each swap."""

    twins: Twins
    cases: tuple[Case, ...]
    planned: Mapping[str, tuple[str, ...]]
    host: str


def borrow(folder: Path, saved: Evidence, need: Need) -> tuple[Transcript, ...]:
    """The base trials of the run in `folder`, marked as borrowed; BaselineUnfit says what is wrong.

    More repeats than were asked for are taken, too: they can only take a claim back. Its second
    looks are not, since what ran before a case in its guest was not the same there.
    """
    unlike = [*differing(saved.twins, need.twins, ("base",)), *_other_host(saved, need)]
    unlike += _other_cases(saved, need)
    if unlike:
        raise BaselineUnfit(
            f"the baseline {folder} differs in {', '.join(unlike)}; "
            "make a new one, or leave --baseline out to boot both arms"
        )
    taken: list[Transcript] = []
    for swap, planned in need.planned.items():
        guests = tuple(_guests(saved, swap, planned))
        if len(guests) < need.twins.repeats:
            these = f"these {len(planned)} cases" if len(planned) > 1 else "this case"
            raise BaselineUnfit(
                f"the baseline {folder} has {counted(len(guests), 'run')} of {these} in "
                f"one guest on swap {swap}, {need.twins.repeats} are needed (those that failed for "
                "a reason of ours do not count, nor those that it took from another run)"
            )
        taken += [_borrowed(each) for boots in guests for each in boots]
    return tuple(taken)


def note(folder: Path, saved: Evidence, taken: tuple[Transcript, ...]) -> str:
    """For the report: where the base's evidence comes from."""
    boots = counted(len(taken), "boot")
    return (
        f"base: booted for rows in doubt only; else its evidence, {boots}, is that of "
        f"the earlier run {folder.name}, begun {saved.origin.when} on {saved.origin.host}"
    )


def _other_host(saved: Evidence, need: Need) -> list[str]:
    """Another processor is another speed, and deadlines and races depend on that."""
    if saved.origin.host == need.host:
        return []
    return [f"the host's processor ({saved.origin.host or 'unknown'} then, {need.host} now)"]


def _other_cases(saved: Evidence, need: Need) -> list[str]:
    """Cases whose program, deadline or rules are not the same; on which swaps is no matter here."""
    known = {case.id: _rules(case) for case in saved.cases}
    changed = [case.id for case in need.cases if known.get(case.id, _rules(case)) != _rules(case)]
    return [f"the cases {', '.join(changed)}"] if changed else []


def _rules(case: Case) -> Case:
    return replace(case, swaps=(), default=())


def _guests(
    saved: Evidence, swap: str, planned: tuple[str, ...]
) -> Iterator[tuple[Transcript, ...]]:
    """Base trials on this swap that ran these cases in this order, and did not fail for us."""
    for (arm, kind, *_), boots in saved.trials.items():
        if (arm, kind) != ("base", swap) or any(each.boot.borrowed for each in boots):
            continue
        outcomes = judge_guests(boots, saved.cases)
        ours = any(outcome.verdict is Verdict.INFRA for outcome in outcomes)
        if boots[0].boot.planned == planned and not ours:
            yield boots


def _borrowed(transcript: Transcript) -> Transcript:
    return replace(transcript, boot=replace(transcript.boot, shard=0, borrowed=True))


def distrusted(comparison: Comparison, saved: Evidence) -> Comparison:
    """Rows whose base did something else this time than in the baseline are undecided."""
    drift = {(row.case.id, row.swap): row for row in _then_and_now(saved) if _drifted(row)}
    if not drift:
        return comparison
    rows = (_undecided(row, drift.get((row.case.id, row.swap))) for row in comparison.rows)
    return replace(comparison, rows=tuple(rows))


def _then_and_now(saved: Evidence) -> tuple[Row, ...]:
    """Base against base: the baseline's runs as the base arm, today's as the other."""
    base = [each for each in saved.transcripts if each.boot.arm == "base"]
    then = [each for each in base if each.boot.borrowed]
    now = [
        replace(each, boot=replace(each.boot, arm="patched"))
        for each in base
        if not each.boot.borrowed
    ]
    return compare_transcripts(saved.cases, [*then, *now], saved.twins).rows if then else ()


def _drifted(row: Row) -> bool:
    return bool(row.base.runs and row.patched.runs and _drift(row))


def _drift(row: Row) -> list[Finding]:
    """What is another thing this time; where both times say equally little, that is none."""
    alike = {run.verdict for run in row.base.runs} == {run.verdict for run in row.patched.runs}
    open_both = Finding(Change.UNDECIDED, "run")
    return [each for each in row.findings if not (alike and each == open_both)]


def _undecided(row: Row, drift: Row | None) -> Row:
    if drift is None:
        return row
    subject = _drift(drift)[0]
    what = subject.name if subject.subject != "run" else "how it ran"
    return replace(row, findings=(Finding(Change.UNDECIDED, "baseline", what),))
