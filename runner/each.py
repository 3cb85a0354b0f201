# SPDX-License-Identifier: GPL-2.0-only
"""Walks the pipeline over every prefix of a series: each one against the same base.

Which patch brought what is decided in steps.py.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from runner import host
from runner.boots import compare_saved
from runner.build import build, try_patches
from runner.counted import counted
from runner.errors import BaselineUnfit, BuildFailed, ConfigLost, UserError
from runner.experiment import (
    BEFORE,
    Inputs,
    Plan,
    begun,
    plan_of,
    read_inputs,
    refuse_impossible,
    refuse_taken,
    run_experiment,
)
from runner.host import Progress
from runner.patchset import PatchSet
from runner.steps import Step, telling

WALK = "walk.json"


@dataclass(frozen=True, slots=True)
class Prefix:
    """The series up to one of its patches, by that one's title; why there is no kernel of it."""

    title: str
    failure: str


_WALK = TypeAdapter(tuple[Prefix, ...])


def run_each(plan: Plan, progress: Progress, resumed: bool = False) -> tuple[Step, ...]:
    """All prefixes from the shortest on; a folder in `plan.folder` has the evidence of each.

    A series that does not apply is refused before anything is built, and all kernels are built
    before anything boots. The base of the first step is the baseline of all others; a step that it
    does not fit boots its own, which is the baseline from there on.
    """
    refuse_impossible(plan)
    refuse_unconfirmed(plan)
    if not resumed:
        refuse_taken(plan.folder)
    with begun(plan, resumed):
        count = _build_all(plan, progress)
    steps: list[Step] = []
    for step in _steps(plan.folder):
        progress(f"patch {step.number} of {count}: {step.failure or step.title}")
        steps.append(step if step.failure else _run(plan, step, _base(plan, steps), progress))
    return tuple(steps)


def refuse_unconfirmed(plan: Plan) -> None:
    if not plan.confirm:
        raise UserError("--each takes the base from step to step and needs --confirm 1 or more")


def refuse_empty(series: PatchSet) -> None:
    if not len(series):
        raise UserError("--each needs patches; there is none")


def _base(plan: Plan, steps: list[Step]) -> Path | None:
    """The run whose base evidence the next step takes; None where it boots its own."""
    if plan.baseline:
        return plan.baseline
    taken = {step.folder: plan_of(step.folder).baseline for step in steps if step.comparison}
    own = [folder for folder, baseline in taken.items() if baseline is None]
    return own[-1] if own else next(iter(taken.values()), None)


def _build_all(plan: Plan, progress: Progress) -> int:
    """Note which patches there are and which of them do not build; returns their number."""
    cache = host.cache_dir()
    inputs = read_inputs(plan, cache, progress)
    count = len(inputs.patchset)
    refuse_empty(inputs.patchset)
    try_patches(inputs.request(), cache, progress)
    build(inputs.request(0), cache, progress)
    failures = [_failure(inputs, number, progress) for number in range(count, 0, -1)][::-1]
    titles = [patch.subject for patch in inputs.patchset.patches]
    _note(plan.folder, tuple(map(Prefix, titles, failures)))
    return count


def _run(plan: Plan, step: Step, base: Path | None, progress: Progress) -> Step:
    """Run one step, with a base of its own where `base` does not fit and nobody asked for it."""
    part = dataclasses.replace(plan, folder=step.folder, upto=step.number, each=False)
    if (step.folder / "run.json").exists():
        base = plan_of(step.folder).baseline
    began = (step.folder / "plan.json").exists()
    try:
        made = run_experiment(dataclasses.replace(part, baseline=base), progress, began)
    except BaselineUnfit as error:
        if plan.baseline:
            raise
        why = str(error).partition("; make a new one")[0]
        progress(f"patch {step.number}: both arms are booted, since {why}")
        host.withdraw(step.folder, BEFORE)
        made = run_experiment(part, progress)
    return dataclasses.replace(step, comparison=made)


def is_walk(folder: Path) -> bool:
    """Whether a folder is that of --each, which holds a run for each prefix."""
    if (folder / WALK).is_file():
        return True
    return (folder / "plan.json").is_file() and plan_of(folder).each


def compare_walk(folder: Path) -> tuple[Step, ...]:
    """The steps of the walk in `folder`, by what is on disk alone; some may not have run yet."""
    return tuple(
        dataclasses.replace(step, comparison=compare_saved(step.folder))
        if not step.failure and (step.folder / "run.json").exists()
        else step
        for step in _steps(folder)
    )


def step_of(folder: Path, number: int) -> Step:
    """One step of the walk in `folder`; UserError where there is no run of it."""
    steps = compare_walk(folder)
    if not 1 <= number <= len(steps):
        many = counted(len(steps), "patch", "patches")
        raise UserError(f"--step is {number}; the series in {folder} has {many}")
    step = steps[number - 1]
    if step.comparison is None:
        why = step.failure or "it has not run; `twinboot run --resume` goes on"
        raise UserError(f"there is no run of patch {number} of {folder}: {why}")
    return step


def telling_step(folder: Path, case: str | None = None, swap: str | None = None) -> Step:
    """The step of the walk in `folder` on which most was found of a case; see steps.telling."""
    found = telling(compare_walk(folder), case, swap)
    if found is None:
        raise UserError(f"no patch of {folder} has run; `twinboot run --resume` goes on with it")
    return found


def _note(folder: Path, walk: tuple[Prefix, ...]) -> None:
    """Keep what is walked before the first boot; UserError where it was another series before."""
    path = folder / WALK
    if path.exists() and [each.title for each in _read(path)] != [each.title for each in walk]:
        raise UserError(f"{folder} cannot be resumed: the patches changed since; begin a new run")
    host.write_atomic(path, _WALK.dump_json(walk, indent=1) + b"\n")


def _steps(folder: Path) -> tuple[Step, ...]:
    """All steps as they are before they run. No folder's name is taken from a file."""
    return tuple(
        Step(number, each.title, folder / f"{number}-{_slug(each.title)}", failure=each.failure)
        for number, each in enumerate(_read(folder / WALK), 1)
    )


def _read(path: Path) -> tuple[Prefix, ...]:
    try:
        return _WALK.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path.parent} does not say which patches it is about: no whole {WALK}; "
            "`twinboot run --resume` writes it"
        ) from error


def _failure(inputs: Inputs, count: int, progress: Progress) -> str:
    """Why there is no kernel with the first `count` patches; nothing when there is one."""
    try:
        build(inputs.request(count), host.cache_dir(), progress)
    except (BuildFailed, ConfigLost) as error:
        return str(error)
    return ""


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title)[:40].strip("-").lower() or "patch"
