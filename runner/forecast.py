# SPDX-License-Identifier: GPL-2.0-only
"""What `run --dry-run` says: kernels to build, cases on their swaps, guests, and about how long.

The source is fetched and unpacked and the patches are tried on it; nothing is built or booted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from runner import durations, host, matrix, shard
from runner.build import fingerprint, kept, try_patches
from runner.case import Case
from runner.counted import counted
from runner.each import refuse_empty, refuse_unconfirmed
from runner.experiment import (
    Inputs,
    Plan,
    burden,
    chosen_cases,
    foreign_wanted,
    quick_selection,
    read_inputs,
    refuse_impossible,
    swaps_of,
    with_burden,
)
from runner.host import Progress

# Beside what its cases take; shard.py weighs a boot alike
BOOT_S = shard.BOOT_DEADLINES_S * durations.UNKNOWN


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do. `kernels` are titles and whether each is kept, `cases` go by swap.

    `seconds` is None where no case is remembered; `notes` say what is not counted.
    """

    source: str
    patches: str
    kernels: tuple[tuple[str, bool], ...]
    cases: tuple[tuple[str, tuple[str, ...]], ...]
    guests: int
    jobs: int
    seconds: float | None
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The whole for people."""
        yield f"source: {self.source}"
        yield f"patches: {self.patches}"
        for title, there in self.kernels:
            yield f"kernel {title}: {'kept' if there else 'to be built'}"
        for swap, names in self.cases:
            yield f"{swap}, {counted(len(names), 'case')}: {', '.join(names)}"
        about = "" if self.seconds is None else f", about {_span(self.seconds)}"
        yield f"{counted(self.guests, 'guest')} to boot, {self.jobs} side by side{about}"
        yield from self.notes
        yield "nothing was built or booted"


def forecast(plan: Plan, progress: Progress) -> Forecast:
    """What the plan would do; raises whatever would end the run before its first build."""
    refuse_impossible(plan)
    if plan.each:
        refuse_unconfirmed(plan)
    ours, foreign = chosen_cases(plan), foreign_wanted(plan)
    shard.parse(plan.shard)
    cache = host.cache_dir()
    made = read_inputs(plan, cache, progress)
    if plan.each:
        refuse_empty(made.patchset)
    try_patches(made.request(), cache, progress)
    picked = quick_selection(plan, ours, made)
    rows = shard.cut(picked.cases, [swap.kind for swap in swaps_of(plan, picked.cases)], plan.shard)
    cases = shard.narrowed(picked.cases, rows.rows) if picked.cases else ()
    by_swap = dict(_by_swap(cases, plan))
    turns = _turns(plan, made) * plan.repeats
    machine = replace(with_burden(plan), icount=plan.cost)
    jobs = plan.jobs or matrix.fitting_jobs(machine)
    known = durations.recall(cache)
    once = sum(BOOT_S + durations.expected(each, swap, known) for swap, each in by_swap.items())
    remembered = any(swap in known for swap in by_swap)
    return Forecast(
        source=f"{made.fetched.source} ({made.fetched.detail})",
        patches=_applied(made),
        kernels=tuple(
            (title, kept(cache, fingerprint(made.request(count), cache)) is not None)
            for title, count in _kernels(plan, made)
        ),
        cases=tuple((swap, tuple(map(_id, each))) for swap, each in by_swap.items()),
        guests=turns * len(by_swap),
        jobs=jobs,
        seconds=turns * once * burden(plan).slowness / jobs if remembered else None,
        notes=tuple(_notes(plan, picked.why, foreign.kselftests or foreign.commands)),
    )


def _by_swap(cases: tuple[Case, ...], plan: Plan) -> Iterator[tuple[str, tuple[Case, ...]]]:
    """The cases of each guest; a swap that was asked for and that none runs on boots none."""
    for swap in swaps_of(plan, cases):
        if fitting := tuple(each for each in cases if swap.kind in each.swaps):
            yield swap.kind, fitting


def _id(case: Case) -> str:
    return case.id


def _applied(made: Inputs) -> str:
    count = len(made.patchset)
    verb = "applies" if count == 1 else "apply"
    return f"{count} of {made.patchset.name}, which {verb}" if count else "none"


def _kernels(plan: Plan, made: Inputs) -> Iterator[tuple[str, int | None]]:
    """Title and number of patches of each kernel."""
    yield "base", 0
    if not plan.each:
        yield "patched", None
        return
    for number, patch in enumerate(made.patchset.patches, 1):
        yield f"{number} {patch.subject}", number


def _turns(plan: Plan, made: Inputs) -> int:
    """Arms to boot; base once, and not at all where its evidence is an earlier run's."""
    patched = len(made.patchset) if plan.each else 1
    return patched + (plan.baseline is None)


def _notes(plan: Plan, why: str, foreign: object) -> Iterator[str]:
    if why:
        yield why
        if plan.baseline is None:
            yield "base is not booted where an earlier run's evidence fits"
    if foreign:
        named = (*plan.kselftests, *plan.commands, *plan.ltp)
        yield f"foreign tests are built later and not counted: {', '.join(named)}"
    if plan.confirm:
        yield "rows in doubt run again, which is not counted"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
