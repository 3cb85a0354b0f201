# SPDX-License-Identifier: GPL-2.0-only
"""Keeps a run's evidence in its folder and reads it back.

It judges nothing: `twinboot compare` reads here and judges anew.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runner import host
from runner.case import SWAP_NAMES, Case
from runner.errors import UserError
from runner.kconfig import Kconfig
from runner.mbox import NO_THREAD, Thread
from runner.patchset import PatchSet, file_name
from runner.shard import Cut
from runner.transcript import Transcript, TrialKey, whole_trials
from runner.twins import Twins

RUN_FORMAT = "twinboot-run"
RUN_VERSION = 1
PATCHES = "patches"
THREAD = "thread.json"
FRAGMENTS = "kconfigs"


@dataclass(frozen=True, slots=True)
class Origin:
    """When a run began and on which host, which rows it is to have, and how often those in doubt
    run again; None: it does not say.
    """

    when: str = ""
    host: str = ""
    cut: Cut | None = None
    confirm: int | None = None


_TRANSCRIPT = TypeAdapter(Transcript)
_CASES = TypeAdapter(tuple[Case, ...])
_TWINS = TypeAdapter(Twins)
_ORIGIN = TypeAdapter(Origin)
_THREAD = TypeAdapter(Thread)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run left behind, trials that did not come to their end apart."""

    twins: Twins
    cases: tuple[Case, ...]
    transcripts: tuple[Transcript, ...]
    origin: Origin = Origin()

    @property
    def trials(self) -> dict[TrialKey, tuple[Transcript, ...]]:
        return whole_trials(self.transcripts)


def begin_run(
    folder: Path, twins: Twins, cases: Sequence[Case], origin: Origin | None = None
) -> None:
    """Write what the run is about, before its first boot."""
    head = {
        "format": RUN_FORMAT,
        "version": RUN_VERSION,
        "twins": _TWINS.dump_python(twins, mode="json"),
        "cases": _CASES.dump_python(tuple(cases), mode="json"),
        "origin": _ORIGIN.dump_python(origin or Origin(), mode="json"),
    }
    host.write_atomic(folder / "run.json", json.dumps(head, indent=1) + "\n")


def save_patches(folder: Path, patchset: PatchSet) -> None:
    """Keep the patches as a quilt series: the user's may be others tomorrow."""
    series = ""
    for number, patch in enumerate(patchset.patches, 1):
        name = file_name(number, patch)
        host.write_atomic(folder / PATCHES / name, patch.mail)
        series += f"{name} -p{patch.strip}\n"
    if series:
        host.write_atomic(folder / PATCHES / "series", series)
    if patchset.thread.id:
        told = json.dumps(asdict(patchset.thread), indent=1) + "\n"
        host.write_atomic(folder / PATCHES / THREAD, told)


def saved_thread(folder: Path) -> Thread:
    """What a reply to the patches of a run answers; empty where that is not known."""
    try:
        return _THREAD.validate_json((folder / PATCHES / THREAD).read_bytes())
    except (OSError, ValidationError):
        return NO_THREAD


def saved_patches(folder: Path) -> Path | None:
    """Where the patches of a run are, if it kept some."""
    return folder / PATCHES if (folder / PATCHES / "series").is_file() else None


def save_fragments(folder: Path, kconfig: Kconfig) -> None:
    """Keep the kconfig fragments in their order: the user's, and ours, may be others tomorrow."""
    for number, fragment in enumerate(kconfig.fragments):
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", fragment.name)[:80]
        host.write_atomic(folder / FRAGMENTS / f"{number:03d}-{name}.config", fragment.text)


def saved_fragments(folder: Path) -> tuple[Path, ...]:
    """The kconfig fragments of a run in their order; none where it kept none."""
    found = sorted((folder / FRAGMENTS).glob("*.config"))
    return tuple(path for path in found if path.is_file() and not path.is_symlink())


def copy_inputs(folder: Path, other: Path) -> None:
    """The patches and fragments that a run kept, for another one that is made of the same."""
    kept = [*(folder / PATCHES).glob("*"), *saved_fragments(folder)]
    for path in (path for path in kept if path.is_file() and not path.is_symlink()):
        host.write_atomic(other / path.relative_to(folder), path.read_bytes())


def save_transcript(folder: Path, transcript: Transcript) -> Path:
    """Keep one boot: NAME.json, and its console beside it as plain text."""
    path = folder / "transcripts" / f"{_trial_name(transcript)}-{transcript.boot.part}.json"
    host.write_atomic(path.with_suffix(".console"), transcript.console.encode(errors="replace"))
    told = _TRANSCRIPT.dump_python(replace(transcript, console=""), mode="json")
    host.write_atomic(path, json.dumps(told, indent=1) + "\n")
    return path


def _trial_name(transcript: Transcript) -> str:
    boot = transcript.boot
    shard = f"-shard{boot.shard}" if boot.shard else ""
    return f"{boot.arm}-{boot.swap}{shard}-{boot.repeat}"


def forget_trials(folder: Path, names: Collection[str]) -> None:
    """Remove what a killed run left of trials that did not come to their end."""
    for path in (folder / "transcripts").glob("*"):
        if path.name.rpartition("-")[0] in names:
            path.unlink()
    for name in names:
        shutil.rmtree(folder / "trials" / name, ignore_errors=True)


def load_transcript(path: Path) -> Transcript:
    """Read what save_transcript wrote; UserError if it is not that."""
    try:
        told = _TRANSCRIPT.validate_json(path.read_bytes())
        console = path.with_suffix(".console").read_bytes().decode(errors="replace")
    except OSError as error:
        raise UserError(
            f"the transcript {error.filename} cannot be read: {error.strerror}"
        ) from error
    except ValidationError as error:
        raise UserError(f"{path} is not a transcript of twinboot: {_fault(error)}") from error
    if told.boot.swap not in SWAP_NAMES:
        raise UserError(f"{path} is not a transcript of twinboot: there is no such swap")
    return replace(told, console=console)


def load_run(folder: Path) -> Evidence:
    """Everything in a run's folder; UserError if it is not one."""
    path = folder / "run.json"
    try:
        head = json.loads(path.read_bytes())
        if (head["format"], head["version"]) != (RUN_FORMAT, RUN_VERSION):
            raise UserError(f"{path} is {head['format']} version {head['version']}, not ours")
        twins = _TWINS.validate_python(head["twins"])
        cases = _CASES.validate_python(head["cases"])
        origin = _ORIGIN.validate_python(head.get("origin", {}))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder} is not the folder of a run: {_why(folder, error)}") from error
    found = {path: load_transcript(path) for path in _transcripts(folder)}
    _refuse_impossible(found, Evidence(twins, cases, (), origin))
    whole = whole_trials(found.values()).values()
    return Evidence(twins, cases, tuple(boot for boots in whole for boot in boots), origin)


def _refuse_impossible(found: Mapping[Path, Transcript], run: Evidence) -> None:
    """UserError where a transcript cannot be of this run, or is there twice."""
    known: dict[tuple[TrialKey, int], Path] = {}
    for path, transcript in found.items():
        boot = transcript.boot
        if other := known.get((boot.trial, boot.part)):
            raise UserError(f"{path} and {other.name} are of the same boot; remove one")
        known[boot.trial, boot.part] = path
        if why := _impossible(transcript, run):
            raise UserError(f"{path} is not of this run: {why}")


def _impossible(transcript: Transcript, run: Evidence) -> str:
    """Why a transcript cannot be of a run; nothing if it can."""
    boot, cut = transcript.boot, run.origin.cut
    if strange := {*boot.planned} - {case.id for case in run.cases}:
        return f"it is about {min(strange)!r:.60}, which is no case of it"
    if tuple(log.case for log in transcript.logs) != boot.planned[: len(transcript.logs)]:
        return "what ran is not what was planned"
    # 0 is what a run has that does not say
    if run.twins.seed and boot.seed != run.twins.seed:
        return f"its seed is {boot.seed}, not {run.twins.seed}"
    # Only what `merge` joined says from which shard it comes
    shards = range(1, len(cut.shards) + 1) if cut and not cut.mine else ()
    if boot.shard and boot.shard not in shards:
        return f"it is of a shard {boot.shard}, which the run has not"
    return ""


def _transcripts(folder: Path) -> list[Path]:
    """A folder that may not be read is not an empty one, as `glob` has it."""
    try:
        paths = list((folder / "transcripts").iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{folder}/transcripts cannot be read: {error.strerror}") from error
    return sorted(path for path in paths if path.suffix == ".json")


def _why(folder: Path, error: Exception) -> str:
    """What is there instead, and what takes it."""
    instead = {
        "run.json": "its run.json is damaged",
        "walk.json": "it is that of --each, whose steps are runs; name one of them (FOLDER/1-...)",
        "bisect.json": "it is that of a bisection, which `twinboot bisect --resume` takes",
        "plan.json": "no guest has run yet; `twinboot run --resume` goes on with it",
    }
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as refused:
        return f"it cannot be read ({refused.strerror})"
    if "run.json" in names and isinstance(error, OSError):
        return f"its run.json cannot be read ({error.strerror})"
    return next(
        (why for name, why in instead.items() if name in names), "there is no run.json in it"
    )


def _fault(error: ValidationError) -> str:
    """What is wrong with a file of ours, in one clause."""
    fault = error.errors(include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "json_invalid":
        return "it ends early" if "EOF" in fault["msg"] else f"it is {fault['msg'].lower()}"
    if fault["type"] == "missing":
        return f"its {place} is missing"
    what = f"its {place}" if place else "it"
    return f"{what} is damaged: {fault['msg'][0].lower()}{fault['msg'][1:]}"
