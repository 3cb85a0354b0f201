# SPDX-License-Identifier: GPL-2.0-only
"""Keeps a run's evidence in its folder and reads it back.

It judges nothing: `twinboot compare` reads here and judges anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runner import host
from runner.case import Case
from runner.errors import UserError
from runner.transcript import Transcript
from runner.twins import Twins

RUN_FORMAT = "twinboot-run"
RUN_VERSION = 1

_TRANSCRIPT = TypeAdapter(Transcript)
_CASES = TypeAdapter(tuple[Case, ...])
_TWINS = TypeAdapter(Twins)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run left behind: enough to judge it again."""

    twins: Twins
    cases: tuple[Case, ...]
    transcripts: tuple[Transcript, ...]


def begin_run(folder: Path, twins: Twins, cases: Sequence[Case]) -> None:
    """Write what the run is about, before its first boot."""
    head = {
        "format": RUN_FORMAT,
        "version": RUN_VERSION,
        "twins": _TWINS.dump_python(twins, mode="json"),
        "cases": _CASES.dump_python(tuple(cases), mode="json"),
    }
    host.write_atomic(folder / "run.json", json.dumps(head, indent=1) + "\n")


def save_transcript(folder: Path, transcript: Transcript) -> Path:
    """Keep one boot: NAME.json, and its console beside it as plain text."""
    boot = transcript.boot
    path = folder / "transcripts" / f"{boot.arm}-{boot.swap}-{boot.repeat}-{boot.part}.json"
    host.write_atomic(path.with_suffix(".console"), transcript.console.encode(errors="replace"))
    told = _TRANSCRIPT.dump_python(replace(transcript, console=""), mode="json")
    host.write_atomic(path, json.dumps(told, indent=1) + "\n")
    return path


def load_transcript(path: Path) -> Transcript:
    """Read what save_transcript wrote; UserError if it is not that."""
    try:
        told = _TRANSCRIPT.validate_json(path.read_bytes())
        console = path.with_suffix(".console").read_bytes().decode(errors="replace")
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} is not a transcript of twinboot: {_first_line(error)}") from error
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is not the folder of a run: {_first_line(error)}") from error
    found = sorted((folder / "transcripts").glob("*.json"))
    return Evidence(twins, cases, tuple(load_transcript(path) for path in found))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
