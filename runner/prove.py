# SPDX-License-Identifier: GPL-2.0-only
"""Proves the cases: builds every known-bad kernel, runs the cases that must notice, and looks.

The base runs once for all bugs. Where a stall or a missed deadline alone tells a bug, it runs once
more. What ran before for the same kernels, guest programs and machine is not run again. What the
results mean is killtable.py.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runner import case, evidence, experiment, host, matrix
from runner.build import BuildRequest, build, try_patches
from runner.case import Case
from runner.comparison import compare
from runner.counted import counted
from runner.errors import BuildFailed, PatchError, UserError
from runner.experiment import Arms, Plan
from runner.guest import refuse_path
from runner.host import Progress
from runner.judging import GUEST, judge_guests
from runner.killtable import Bug, KillTable, Trialled, check_claims, doubtful, load_bugs
from runner.matrix import Desk
from runner.outcome import Outcome, Verdict
from runner.patchset import load as load_patches
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.row import Row
from runner.swap import swap_named
from runner.transcript import ArmLabel, Transcript
from runner.trial import Trial
from runner.twins import Twins

KNOWN_BAD = experiment.ROOT / "patches/known-bad"


@dataclass(frozen=True, slots=True)
class ProofPlan:
    """`plan` says how to run; its patch does not count, its `repeats` are the base's.

    No `bugs` means all of patches/known-bad for the source's version. Each runs the cases that it
    names, with the plan's `full` every case.
    """

    plan: Plan
    bugs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all kernels of a proof share."""

    plan: Plan
    arms: Arms
    root: Rootfs
    machine: Machine
    cases: tuple[Case, ...]
    progress: Progress

    def with_bug(self, bug: Bug, cache: Path) -> Arms:
        request = self.request(bug)
        patched = build(request, cache, self.progress)
        return replace(self.arms, patchset=request.patchset, patched=patched)

    def request(self, bug: Bug) -> BuildRequest:
        arms = self.arms
        return BuildRequest(arms.fetched, load_patches(bug.path), arms.kconfig, self.plan.compiler)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One kernel's part: `arm` of `arms` runs each case so often on each of its swaps."""

    name: str
    arms: Arms
    arm: ArmLabel
    cases: tuple[Case, ...]
    repeats: int


def prove(asked: ProofPlan, progress: Progress) -> KillTable:
    """Run whatever has not run yet; the evidence stays in the plan's folder."""
    refuse_path(asked.plan.folder)
    plan, cache = replace(asked.plan, patch="none"), host.cache_dir()
    if not plan.has_foreign or plan.cases:
        check_claims(load_bugs(KNOWN_BAD, asked.bugs), case.load(experiment.CASES))
    bench = _bench(plan, cache, progress)
    bugs = load_bugs(KNOWN_BAD, asked.bugs, bench.arms.fetched.version)
    unfit = {bug.name: why for bug in bugs if (why := _unfit(bug, bench, cache))}
    needed = {bug.name: tuple(_cases_for(bug, bench)) for bug in bugs if bug.name not in unfit}
    if bugs and not unfit and not any(needed.values()):
        raise UserError("none of these bugs names one of these cases; --full runs every case")
    host.make_folder(plan.folder)
    on_base = tuple(
        each for each in bench.cases if any(each in wanted for wanted in needed.values())
    )
    base = _outcomes(bench, _Turn("base", bench.arms, "base", on_base, plan.repeats))
    done = []
    for number, bug in enumerate(bugs, 1):
        if bug.name in unfit:
            progress(f"bug {number}/{len(bugs)}: {unfit[bug.name]}")
            done.append(Trialled(bug, (), unfit[bug.name]))
            continue
        cases = needed[bug.name]
        progress(f"bug {number}/{len(bugs)}: {bug.name}, {counted(len(cases), 'case')}")
        done.append(_try(bug, bench, cases, base))
    return KillTable(bench.arms.base.release, bench.cases, tuple(done))


def _unfit(bug: Bug, bench: _Bench, cache: Path) -> str:
    """Why a bug cannot be had in this source, which is known before anything is booted."""
    try:
        try_patches(bench.request(bug), cache, bench.progress)
    except PatchError as error:
        return str(error)
    return ""


def _bench(plan: Plan, cache: Path, progress: Progress) -> _Bench:
    ours, wanted = (
        experiment.chosen_cases(replace(plan, full=True)),
        experiment.foreign_wanted(plan),
    )
    arms = experiment.build_arms(plan, cache, progress)
    cases, root = experiment.choose_programs(plan, ours, wanted, cache, progress)
    machine = experiment.choose_machine(plan, arms.base, root, cache, progress)
    return _Bench(plan, arms, root, machine, tuple(_on_swaps(plan, cases)), progress)


def _on_swaps(plan: Plan, cases: Iterable[Case]) -> Iterator[Case]:
    """Each case with the swaps that were asked for, if it runs on any of them."""
    for each in cases:
        swaps = tuple(name for name in each.swaps if not plan.swaps or name in plan.swaps)
        if swaps:
            yield replace(each, swaps=swaps)


def _cases_for(bug: Bug, bench: _Bench) -> Iterator[Case]:
    """Foreign programs claim nothing, so they run on every bug."""
    named = {claim.case for claim in bug.claims}
    for each in bench.cases:
        if bench.plan.full or each.foreign or each.id in named:
            yield each


def _try(bug: Bug, bench: _Bench, cases: tuple[Case, ...], base: tuple[Outcome, ...]) -> Trialled:
    try:
        arms = bench.with_bug(bug, host.cache_dir())
    except (PatchError, BuildFailed) as error:
        bench.progress(str(error))
        return Trialled(bug, (), str(error))
    turn = _Turn(bug.name, arms, "patched", cases, 1)
    rows = _rows(bench, turn, base)
    if again := tuple(_in_doubt(cases, rows)):
        bench.progress(f"{bug.name}: a second run where it stalled or missed a deadline once")
        _outcomes(bench, replace(turn, cases=again, repeats=2))
        rows = _rows(bench, turn, base)
    return Trialled(bug, rows)


def _rows(bench: _Bench, turn: _Turn, base: tuple[Outcome, ...]) -> tuple[Row, ...]:
    """A bug against all that base showed: what it says in any case is not new in another."""
    ran = _outcomes(bench, turn)
    places = set(_places(ran))
    rows = compare(turn.cases, base, ran, _twins(bench, turn.arms)).rows
    return tuple(row for row in rows if (row.case.id, row.swap) in places)


def _in_doubt(cases: Iterable[Case], rows: Iterable[Row]) -> Iterator[Case]:
    """The cases to run again, on the swaps where that is so; all of them for the guest's sake."""
    places = {(row.case.id, row.swap) for row in rows if doubtful(row)}
    for each in cases:
        swaps = [kind for kind in each.swaps if {(each.id, kind), (GUEST.id, kind)} & places]
        if swaps:
            yield replace(each, swaps=tuple(swaps))


def _outcomes(bench: _Bench, turn: _Turn) -> tuple[Outcome, ...]:
    """So many runs of each case on each of its swaps: kept ones, and what is missing."""
    folder, twins = bench.plan.folder / turn.name, _twins(bench, turn.arms)
    kept = tuple(_kept(folder, twins, turn.cases))
    todo = tuple(_missing(bench, turn, Counter(_places(kept))))
    if not todo:
        return kept
    host.make_folder(folder)

    def keep(trial: Trial, transcripts: tuple[Transcript, ...]) -> None:
        _keep(folder, twins, trial, transcripts)

    with tempfile.TemporaryDirectory(dir=folder, prefix=".boots-") as boots:
        jobs = bench.plan.jobs or matrix.fitting_jobs(bench.machine)
        matrix.run_all(todo, Desk(Path(boots), jobs, keep), bench.progress)
    return tuple(_kept(folder, twins, turn.cases))


def _places(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, str]]:
    return ((each.case, each.swap) for each in outcomes)


def _missing(bench: _Bench, turn: _Turn, have: Counter[tuple[str, str]]) -> Iterator[Trial]:
    """The boots that are still to be made, one for each swap and repeat."""
    plan = replace(bench.plan, repeats=1)
    for repeat in range(1, turn.repeats + 1):
        for kind in dict.fromkeys(swap for each in turn.cases for swap in each.swaps):
            left = tuple(
                each for each in turn.cases if kind in each.swaps and have[each.id, kind] < repeat
            )
            whole = experiment.matrix_of(plan, turn.arms, bench.root, bench.machine, left)
            for trial in matrix.trials(replace(whole, swaps=(swap_named(kind),))):
                if trial.arm == turn.arm:
                    yield replace(trial, repeat=repeat)


def _keep(folder: Path, twins: Twins, trial: Trial, transcripts: tuple[Transcript, ...]) -> None:
    """The evidence of one trial, as a run's folder, there as a whole or not at all."""
    fresh = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
    evidence.begin_run(fresh, twins, trial.cases)
    for transcript in transcripts:
        evidence.save_transcript(fresh, transcript)
    number = 1 + sum(1 for _ in folder.glob(f"{trial.swap.kind}-*"))
    while (folder / f"{trial.swap.kind}-{number}").exists():
        number += 1
    os.rename(fresh, folder / f"{trial.swap.kind}-{number}")


def _kept(folder: Path, twins: Twins, cases: Iterable[Case]) -> Iterator[Outcome]:
    """What ran before on the same kernel, guest programs and machine, judged anew.

    A run that failed for a reason of ours says nothing, and is made again.
    """
    table = {each.id: each for each in cases}
    for path in sorted(folder.glob("[!.]*/run.json")):
        saved = evidence.load_run(path.parent)
        if saved.twins != twins:
            continue
        known = [table[each.id] for each in saved.cases if _same(each, table.get(each.id))]
        for outcome in judge_guests(saved.transcripts, known):
            if outcome.verdict is not Verdict.INFRA:
                yield outcome


def _same(saved: Case, now: Case | None) -> bool:
    return now is not None and saved.program == now.program


def _twins(bench: _Bench, arms: Arms) -> Twins:
    """The identity of evidence; notes and the number of repeats are no part of it."""
    twins = experiment.twins_of(bench.plan, arms, bench.root, bench.machine)
    return replace(twins, notes=(), repeats=1)
