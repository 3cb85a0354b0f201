# SPDX-License-Identifier: GPL-2.0-only
"""Joins the shards of one run into one run's folder, which is read like any other.

It boots and judges nothing. A shard that is missing is named by the comparison, which then is
undecided (shard.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

from runner import evidence
from runner.errors import UserError
from runner.evidence import Evidence, Origin
from runner.experiment import Plan, begin_folder, plan_of
from runner.shard import Cut
from runner.twins import Twins, differing

# What may differ between the plans of two shards: places, and what the twins say better
_ANYWHERE = ("folder", "jobs", "shard", "baseline", "source", "patch", "accelerator", "machine")


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's folder and what is in it."""

    folder: Path
    plan: Plan
    saved: Evidence
    cut: Cut


def merge(folders: Sequence[Path], out: Path) -> None:
    """Write the run that these shards are of into `out`, a new folder.

    Raises UserError where two parts are not of one run, or one shard is there twice.
    """
    parts = tuple(sorted((_read(folder) for folder in folders), key=lambda part: part.cut.mine))
    if not parts:
        raise UserError("there is nothing to merge; name the folders of the shards")
    for part in parts[1:]:
        _refuse_other(parts[0], part)
    for one, other in pairwise(parts):
        if one.cut.mine == other.cut.mine:
            raise UserError(f"{one.folder} and {other.folder} are both {one.cut.name}")
    begin_folder(replace(parts[0].plan, folder=out, shard=""))
    evidence.copy_inputs(parts[0].folder, out)
    for part in parts:
        for each in part.saved.transcripts:
            boot = replace(each.boot, shard=part.cut.mine)
            evidence.save_transcript(out, replace(each, boot=boot))
    evidence.begin_run(out, _twins(parts), parts[0].saved.cases, _origin(parts))


def _read(folder: Path) -> Part:
    saved, plan = evidence.load_run(folder), plan_of(folder)
    cut = saved.origin.cut
    if cut is None or not cut.mine:
        raise UserError(f"{folder} is no shard of a run; only what --shard made can be merged")
    ran = {(name, each.boot.swap) for each in saved.transcripts for name in each.boot.planned}
    if stray := ran - {*cut.rows}:
        raise UserError(f"{folder} is {cut.name}, but also ran {' on '.join(min(stray))}")
    return Part(folder, plan, saved, cut)


def _refuse_other(one: Part, other: Part) -> None:
    """UserError unless both are shards of the same run."""
    unlike = list(differing(one.saved.twins, other.saved.twins))
    if one.saved.twins.repeats != other.saved.twins.repeats:
        unlike.append("the repeats")
    if one.saved.cases != other.saved.cases:
        unlike.append("the cases")
    elif one.cut.shards != other.cut.shards:
        unlike.append("how the run is cut")
    for key in sorted({each.name for each in fields(Plan)} - {*_ANYWHERE}):
        if not unlike and getattr(one.plan, key) != getattr(other.plan, key):
            unlike.append(f"the plan ({key})")
    if unlike:
        raise UserError(
            f"{one.folder} and {other.folder} are not shards of one run: "
            f"they differ in {', '.join(unlike)}"
        )


def _twins(parts: Sequence[Part]) -> Twins:
    notes = [note for part in parts for note in part.saved.twins.notes]
    return replace(parts[0].saved.twins, notes=tuple(dict.fromkeys(notes)))


def _origin(parts: Sequence[Part]) -> Origin:
    """The time of the oldest part, and every kind of host; `confirm` where each part says it."""
    origins = [part.saved.origin for part in parts]
    hosts = "; ".join(sorted({each.host for each in origins}))
    said = {each.confirm for each in origins}
    return Origin(
        when=min(each.when for each in origins),
        host=hosts,
        cut=replace(parts[0].cut, mine=0),
        confirm=None if None in said else origins[0].confirm,
    )
