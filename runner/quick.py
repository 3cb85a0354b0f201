# SPDX-License-Identifier: GPL-2.0-only
"""`run --quick`: the cases that a patch can affect first, and base evidence that is there already.

What it leaves out is said in the verdict; nothing here decides what a result means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runner import baseline, evidence
from runner.affected import Lesson, affected, places
from runner.baseline import Need
from runner.case import Case
from runner.counted import counted
from runner.errors import UserError
from runner.killtable import load_bugs
from runner.patchset import PatchSet

# How many earlier runs are looked at for base evidence, the newest first
LOOK_BACK = 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Cases to begin with, each on one swap, and what to say of them."""

    cases: tuple[Case, ...]
    why: str = ""
    brief: str = ""


def lessons(known_bad: Path, version: str) -> tuple[Lesson, ...]:
    """What the known-bad kernels of a version taught; none for a version that has none."""
    try:
        bugs = load_bugs(known_bad, version=version)
    except UserError:
        return ()
    return tuple(
        Lesson(
            places(bug.path.read_text(errors="replace")),
            frozenset(claim.case for claim in bug.claims),
        )
        for bug in bugs
    )


def select(
    cases: tuple[Case, ...],
    swaps: tuple[str, ...],
    patchset: PatchSet,
    known: tuple[Lesson, ...],
) -> Selection:
    """Of `cases` those that noticed bugs where the patches are, each on one swap.

    All of them, still on one swap each, if that is not known. `swaps` are those that were asked
    for, none if any will do.
    """
    changed = {place for patch in patchset.patches for place in places(patch.text)}
    found = affected(changed, _of(cases, known))
    near = tuple(case for case in cases if case.id in found.cases)
    chosen = tuple(_on_first_swap(near or cases, swaps))
    brief = f"quick: {len(chosen)} of {counted(len(cases), 'case')}, each on one swap"
    reason = found.why if near else f"{found.why or 'no case is near'}, so all of them"
    return Selection(chosen, f"{brief}: {reason}", brief)


def _of(cases: tuple[Case, ...], known: tuple[Lesson, ...]) -> tuple[Lesson, ...]:
    """What is known by these cases alone."""
    ours = {case.id for case in cases}
    return tuple(Lesson(each.places, each.cases & ours) for each in known)


def _on_first_swap(cases: Iterable[Case], swaps: tuple[str, ...]) -> Iterator[Case]:
    """On the first of its default swaps that may be had, else on the first of all."""
    for case in cases:
        may = [swap for swap in (*case.default, *case.swaps) if swap in (swaps or case.swaps)]
        if may:
            yield replace(case, swaps=(may[0],))


def newest_baseline(folders: Iterable[Path], need: Need) -> Path | None:
    """The newest of the earlier runs below `folders` whose base evidence can stand in."""
    found = {run.parent for folder in folders for run in folder.glob("*/run.json")}
    newest = sorted(found, key=lambda path: (path / "run.json").stat().st_mtime, reverse=True)
    for path in newest[:LOOK_BACK]:
        try:
            baseline.borrow(path, evidence.load_run(path), need)
        except UserError:
            continue
        return path
    return None
