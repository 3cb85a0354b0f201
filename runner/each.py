# SPDX-License-Identifier: GPL-2.0-only
"""Walks the pipeline over every prefix of a series: each one against the same base.

Which patch brought what is decided in steps.py.
"""

from __future__ import annotations

import dataclasses
import re

from runner import host
from runner.build import build
from runner.errors import BuildFailed, ConfigLost, UserError
from runner.experiment import Inputs, Plan, begin_folder, read_inputs, run_experiment
from runner.host import Progress
from runner.steps import Step


def run_each(plan: Plan, progress: Progress, resumed: bool = False) -> tuple[Step, ...]:
    """All prefixes from the shortest on; a folder in `plan.folder` has the evidence of each.

    All kernels are built first, the whole series before its prefixes, so that a patch that does
    not apply is refused before anything boots. The base of the first one is the baseline of all.
    """
    if not plan.confirm:
        raise UserError("--each takes the base from step to step and needs --confirm 1 or more")
    cache = host.cache_dir()
    if not resumed:
        begin_folder(plan)
    inputs = read_inputs(plan, cache, progress)
    count = len(inputs.patchset)
    if not count:
        raise UserError("--each needs patches; there is none")
    build(inputs.request(0), cache, progress)
    failures = {number: _failure(inputs, number, progress) for number in range(count, 0, -1)}
    steps: list[Step] = []
    for number, patch in enumerate(inputs.patchset.patches, 1):
        folder = plan.folder / f"{number}-{_slug(patch.subject)}"
        step = Step(number, patch.subject, folder, failure=failures[number])
        progress(f"patch {number} of {count}: {step.failure or patch.subject}")
        if not step.failure:
            first = next((each.folder for each in steps if each.comparison), None)
            base = plan.baseline or first
            part = dataclasses.replace(plan, folder=folder, upto=number, each=False, baseline=base)
            began = (folder / "plan.json").exists()
            step = dataclasses.replace(step, comparison=run_experiment(part, progress, began))
        steps.append(step)
    return tuple(steps)


def _failure(inputs: Inputs, count: int, progress: Progress) -> str:
    """Why there is no kernel with the first `count` patches; nothing when there is one."""
    try:
        build(inputs.request(count), host.cache_dir(), progress)
    except (BuildFailed, ConfigLost) as error:
        return str(error)
    return ""


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title)[:40].strip("-").lower() or "patch"
