# SPDX-License-Identifier: GPL-2.0-only
"""What an interrupted run still has to boot, and whether it may go on at all.

A trial's evidence is complete or absent: one that had only begun is booted again. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from runner.case import Case
from runner.comparison import Comparison
from runner.doubt import rows_in_doubt, rows_on_trust
from runner.errors import UserError
from runner.evidence import Evidence
from runner.transcript import Transcript, TrialKey
from runner.trial import Trial
from runner.twins import LABELS, differing


def refuse_changed(folder: Path, saved: Evidence, now: Evidence) -> None:
    """UserError unless all that the saved evidence depends on is as it was."""
    changed = list(differing(saved.twins, now.twins))
    changed += ["the cases"] if saved.cases != now.cases else []
    changed += ["the rows"] if saved.origin.cut != now.origin.cut else []
    changed += ["the host's processor"] if saved.origin.host != now.origin.host else []
    if changed:
        raise UserError(
            f"{folder} cannot be resumed: {', '.join(changed)} changed since; begin a new run"
        )


def left(trials: Iterable[Trial], done: Collection[TrialKey]) -> tuple[Trial, ...]:
    """The trials that have no evidence yet, in their order."""
    return tuple(
        trial for trial in trials if (trial.arm, trial.swap.kind, trial.repeat, 0) not in done
    )


def first_look(saved: Evidence) -> Evidence:
    """Without the rows in doubt that ran again already: what is in doubt follows from the rest."""
    kept = (each for each in saved.transcripts if not _again(each, saved))
    return replace(saved, transcripts=tuple(kept))


def _again(transcript: Transcript, saved: Evidence) -> bool:
    return not transcript.boot.borrowed and transcript.boot.repeat > saved.twins.repeats


def in_doubt(saved: Evidence, comparison: Comparison) -> dict[str, tuple[Case, ...]]:
    """The cases that are to run again, by swap; by a stricter rule where base was borrowed."""
    borrowed = any(each.boot.borrowed for each in saved.transcripts)
    return (rows_on_trust if borrowed else rows_in_doubt)(comparison)


def by_shard(saved: Evidence) -> tuple[Evidence, ...]:
    """The evidence of each shard by itself: that is what its own second look went by."""
    shards = sorted({each.boot.shard for each in saved.transcripts})
    return tuple(
        replace(
            saved, transcripts=tuple(each for each in saved.transcripts if each.boot.shard == n)
        )
        for n in shards
    )


def unconfirmed(saved: Evidence, first: Comparison) -> int:
    """How many rows are in doubt after the first look and lack runs of the second.

    Rows of which the first look itself is not whole are missing anyhow, and do not count.
    """
    ran: Counter[tuple[str, str, str]] = Counter(
        (each.boot.arm, name, each.boot.swap)
        for each in saved.transcripts
        if each.boot.part == 0 and _again(each, saved)
        for name in each.boot.planned
    )
    doubtful = {(case.id, swap) for swap, cases in in_doubt(saved, first).items() for case in cases}
    return sum(
        min(ran[arm, *key] for arm in LABELS) < (saved.origin.confirm or 0)
        for row in first.rows
        if (key := (row.case.id, row.swap)) in doubtful
        and min(len(row.base.runs), len(row.patched.runs)) >= saved.twins.repeats
    )
