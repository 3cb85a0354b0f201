# SPDX-License-Identifier: GPL-2.0-only
"""The boots of a run: which are still to be made, and the comparison of what they said.

It builds nothing. What has its evidence in the run's folder is not booted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runner import baseline, evidence, matrix, resume, shard
from runner.comparison import Comparison, compare_transcripts
from runner.counted import counted
from runner.evidence import Evidence
from runner.host import Progress
from runner.matrix import Matrix
from runner.swap import swap_named
from runner.transcript import Transcript
from runner.trial import Trial


@dataclass(frozen=True, slots=True)
class Boots:
    """What is to be booted, into which folder. `confirm` is how often doubt runs again, `jobs` 0
    means what fits, `baseline` is the run whose base evidence is taken.
    """

    folder: Path
    matrix: Matrix
    confirm: int
    jobs: int = 0
    baseline: Path | None = None


def begin(asked: Boots, now: Evidence, progress: Progress) -> None:
    """What the run is about, and the base arm's evidence where it is an earlier run's.

    run.json comes last: where there is one, nothing of that is left to be done.
    """
    if (asked.folder / "run.json").exists():
        resume.refuse_changed(asked.folder, evidence.load_run(asked.folder), now)
        return
    twins = now.twins
    if asked.baseline:
        saved = evidence.load_run(asked.baseline)
        need = baseline.Need(
            twins, asked.matrix.cases, matrix.planned(asked.matrix), now.origin.host
        )
        taken = baseline.borrow(asked.baseline, saved, need)
        for transcript in taken:
            evidence.save_transcript(asked.folder, transcript)
        told = baseline.note(asked.baseline, saved, taken)
        progress(told)
        twins = replace(twins, notes=(*twins.notes, told))
    origin = replace(now.origin, confirm=asked.confirm)
    evidence.begin_run(asked.folder, twins, now.cases, origin)


def boot_and_compare(asked: Boots, progress: Progress) -> Comparison:
    """Every trial, then those of the rows in doubt; what has its evidence is not run again."""
    first = matrix.trials(asked.matrix)
    if asked.baseline:
        first = (trial for trial in first if trial.arm != "base")
    _boot_all(asked, first, progress)
    saved = resume.first_look(evidence.load_run(asked.folder))
    again = tuple(_second_look(asked, saved))
    if again:
        progress("a second look at the rows in doubt")
        _boot_all(asked, again, progress)
    return compare_saved(asked.folder)


def _boot_all(asked: Boots, trials: Iterable[Trial], progress: Progress) -> None:
    wanted = tuple(trials)
    todo = resume.left(wanted, evidence.load_run(asked.folder).trials)
    if len(todo) < len(wanted):
        told = counted(len(wanted), "guest")
        progress(f"{len(wanted) - len(todo)} of {told} with their evidence already")
    if not todo:
        return
    jobs = asked.jobs or matrix.fitting_jobs(todo[0].machine)
    progress(f"{counted(len(todo), 'guest')} to boot, {jobs} side by side")
    evidence.forget_trials(asked.folder, {trial.name for trial in todo})

    def keep(_trial: Trial, transcripts: tuple[Transcript, ...]) -> None:
        for transcript in transcripts:
            evidence.save_transcript(asked.folder, transcript)

    matrix.run_all(todo, matrix.Desk(asked.folder / "trials", jobs, keep), progress)


def _second_look(asked: Boots, saved: Evidence) -> Iterator[Trial]:
    """More runs of the rows in doubt, as often as --confirm says."""
    last = max((each.boot.repeat for each in saved.transcripts), default=asked.matrix.repeats)
    for kind, cases in resume.in_doubt(saved, _compared(saved)).items():
        part = replace(
            asked.matrix,
            swaps=(swap_named(kind),),
            cases=cases,
            repeats=asked.confirm,
            first=last + 1,
        )
        yield from matrix.trials(part)


def compare_saved(folder: Path) -> Comparison:
    """Judge and compare the evidence of a run again, from what is on disk alone."""
    return judged(evidence.load_run(folder))


def judged(saved: Evidence) -> Comparison:
    """What the evidence of a run says, with what a shard's or a baseline's cannot say."""
    comparison, cut = _compared(saved), saved.origin.cut
    if cut is None:
        return comparison
    missing = shard.missing(cut, comparison.rows, saved.twins.repeats)
    return replace(comparison, planned=len(cut.rows), missing=(*missing, *_unconfirmed(saved)))


def _compared(saved: Evidence) -> Comparison:
    """The rows that there are, whatever is missing."""
    compared = compare_transcripts(saved.cases, saved.transcripts, saved.twins)
    return baseline.distrusted(compared, saved)


def _unconfirmed(saved: Evidence) -> tuple[str, ...]:
    """What is in doubt and has not run again as often as it was to."""
    if not saved.origin.confirm:
        return ()
    left = sum(
        resume.unconfirmed(part, _compared(resume.first_look(part)))
        for part in resume.by_shard(saved)
    )
    if not left:
        return ()
    return (f"the second look at {counted(left, 'row')} in doubt",)
