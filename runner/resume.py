# SPDX-License-Identifier: GPL-2.0-only
"""What an interrupted run still has to boot, and whether it may go on at all.

A trial's evidence is complete or absent: one that had only begun is booted again. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from runner.errors import UserError
from runner.evidence import Evidence
from runner.transcript import TrialKey
from runner.trial import Trial
from runner.twins import differing


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
    repeats = saved.twins.repeats
    kept = (each for each in saved.transcripts if each.boot.borrowed or each.boot.repeat <= repeats)
    return replace(saved, transcripts=tuple(kept))
