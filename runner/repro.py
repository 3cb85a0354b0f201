# SPDX-License-Identifier: GPL-2.0-only
"""Runs rows of an earlier run again, with its own kernels and machine, and counts what happens.

How a symptom is recognised is symptom.py; where kernels come from is recall.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import evidence, host, matrix, recall
from runner.comparison import Comparison, compare_transcripts
from runner.counted import counted
from runner.errors import EXIT_CLEAN, EXIT_REGRESSION, EXIT_UNDECIDED, UserError
from runner.experiment import begin_folder, burden
from runner.host import Progress
from runner.judging import GUEST
from runner.matrix import ARMS, Matrix
from runner.outcome import BAD, Outcome
from runner.recall import Former
from runner.row import Row
from runner.swap import swap_named
from runner.symptom import FAILS, Symptom, Tally, shown, symptoms, tally
from runner.transcript import ArmLabel, Transcript
from runner.trial import Trial


@dataclass(frozen=True, slots=True)
class Again:
    """What to run again: rows of an earlier run, how often, in which arms, into which folder."""

    former: Former
    rows: tuple[Row, ...]
    arms: tuple[ArmLabel, ...]
    times: int
    folder: Path
    jobs: int = 0
    until_failure: bool = False
    vmcore: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """One symptom of one row, counted in each arm that ran."""

    row: Row
    symptom: Symptom
    tallies: tuple[tuple[ArmLabel, Tally], ...]

    @property
    def happened(self) -> bool:
        return any(each.shown for _, each in self.tallies)

    @property
    def mute(self) -> bool:
        """An arm in which no run said anything."""
        return any(each.runs == 0 for _, each in self.tallies)

    def __str__(self) -> str:
        row = self.row
        where = row.case.id if row.swap == "none" else f"{row.case.id} on {row.swap}"
        told = ", ".join(f"{each} on {label}" for label, each in self.tallies)
        mute = sum(each.mute for _, each in self.tallies)
        more = f"; {counted(mute, 'run')} said nothing" if mute else ""
        return f"{where}: {self.symptom.says}: {told}{more}"


def again(what: Again, progress: Progress) -> tuple[Count, ...]:
    """Boot everything as often as asked; the evidence stays in `what.folder`, as of any run."""
    if what.times < 1:
        raise UserError(f"--times is {what.times}; a case has to run at least once")
    whole = _matrix(what, progress)
    _begin(what, whole)
    jobs = what.jobs or matrix.fitting_jobs(whole.machine)
    for rounds in _rounds(what, whole, jobs):
        desk = matrix.Desk(what.folder / "trials", jobs, _keep(what.folder))
        matrix.run_all(rounds, desk, progress)
        if what.until_failure and any(count.happened for count in counts(what)):
            progress("it happened, so that is all")
            break
    return counts(what)


def _matrix(what: Again, progress: Progress) -> Matrix:
    cache, former = host.cache_dir(), what.former
    kernels, root = recall.programs(former, progress)
    machine = recall.machine(former, kernels["base"], root, cache)
    names = {row.case.id for row in what.rows}
    wanted = tuple(case for case in former.saved.cases if case.id in names or GUEST.id in names)
    return Matrix(
        base=kernels["base"],
        patched=kernels["patched"],
        rootfs=root.image,
        machine=dataclasses.replace(machine, vmcore=what.vmcore),
        swaps=tuple(swap_named(kind) for kind in dict.fromkeys(row.swap for row in what.rows)),
        cases=wanted,
        repeats=what.times,
        seed=former.saved.twins.seed,
        scale=burden(former.plan).slowness,
    )


def _begin(what: Again, whole: Matrix) -> None:
    former = what.former
    plan = dataclasses.replace(
        former.plan,
        folder=what.folder,
        cases=tuple(case.id for case in whole.cases),
        swaps=tuple(swap.kind for swap in whole.swaps),
        repeats=what.times,
        confirm=0,
        shard="",
        baseline=None,
    )
    begin_folder(plan)
    evidence.copy_inputs(former.folder, what.folder)
    note = f"rows of {former.folder.name}, run again"
    twins = dataclasses.replace(
        former.saved.twins, repeats=what.times, notes=(*former.saved.twins.notes, note)
    )
    evidence.begin_run(what.folder, twins, whole.cases)


def _rounds(what: Again, whole: Matrix, jobs: int) -> Iterator[tuple[Trial, ...]]:
    """All trials at once, or where we may stop early as few as keep the machine busy."""
    todo = tuple(trial for trial in _fitting(what, whole) if trial.arm in what.arms)
    step = max(jobs, len(what.arms) * len(whole.swaps)) if what.until_failure else len(todo)
    for start in range(0, len(todo), step):
        yield todo[start : start + step]


def _fitting(what: Again, whole: Matrix) -> Iterator[Trial]:
    """Each trial with the cases whose row on its swap was chosen; a boot needs one at least."""
    wanted = {(row.case.id, row.swap) for row in what.rows}
    for trial in matrix.trials(whole):
        cases = tuple(each for each in trial.cases if (each.id, trial.swap.kind) in wanted)
        boots = (GUEST.id, trial.swap.kind) in wanted
        if cases or boots:
            yield dataclasses.replace(trial, cases=cases or trial.cases[:1])


def _keep(folder: Path) -> matrix.Keep:
    def keep(_trial: Trial, transcripts: tuple[Transcript, ...]) -> None:
        for transcript in transcripts:
            evidence.save_transcript(folder, transcript)

    return keep


def counts(what: Again) -> tuple[Count, ...]:
    """How often each symptom of the chosen rows was shown, and failures that are none of them."""
    saved = evidence.load_run(what.folder)
    now = compare_transcripts(saved.cases, saved.transcripts, saved.twins)
    return tuple(count for row in what.rows for count in _counts(what, row, now))


def _counts(what: Again, row: Row, now: Comparison) -> Iterator[Count]:
    runs = {arm: _runs(now, row, arm) for arm in what.arms}
    known = symptoms(row)
    for symptom in known:
        tallies = tuple((arm, tally(symptom, runs[arm])) for arm in what.arms)
        yield Count(row, symptom, tallies)
    if any(_other(known, run) for each in runs.values() for run in each):
        says = "a run fails, hangs or crashes in another way"
        tallies = tuple((arm, others(known, runs[arm])) for arm in what.arms)
        yield Count(row, dataclasses.replace(FAILS, says=says), tallies)


def _runs(now: Comparison, row: Row, arm: ArmLabel) -> tuple[Outcome, ...]:
    found = [each for each in now.rows if (each.case.id, each.swap) == (row.case.id, row.swap)]
    sides = [each.base if arm == "base" else each.patched for each in found]
    return tuple(run for side in sides for run in side.runs)


def _other(known: tuple[Symptom, ...], run: Outcome) -> bool:
    return run.verdict in BAD and not any(shown(each, run) for each in known)


def others(known: tuple[Symptom, ...], runs: tuple[Outcome, ...]) -> Tally:
    """How many runs failed in no known way, of those that say anything."""
    told = [run for run in runs if _other(known, run) or shown(FAILS, run) is not None]
    return Tally(sum(_other(known, run) for run in told), len(told), len(runs) - len(told))


def exit_code(found: tuple[Count, ...]) -> int:
    """1 it happened, 0 it did not, 3 it did not but an arm said nothing."""
    if any(count.happened for count in found):
        return EXIT_REGRESSION
    return EXIT_UNDECIDED if any(count.mute for count in found) else EXIT_CLEAN


def arms_of(word: str) -> tuple[ArmLabel, ...]:
    """What --arm means."""
    if word == "both":
        return ARMS
    for arm in ARMS:
        if word == arm:
            return (arm,)
    raise UserError(f"--arm is {word!r}; choose base, patched or both")
