# SPDX-License-Identifier: GPL-2.0-only
"""How long cases took here before, so that of the guests that wait the longest is booted first.

It decides an order and nothing else: what is lost, wrong or of another machine costs time alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runner import host
from runner.case import Case
from runner.errors import InfraError
from runner.transcript import Transcript

# A case that never ran here is done in a tenth of its deadline, as most are
UNKNOWN = 0.1

Seconds = Mapping[str, Mapping[str, float]]
_FILE = TypeAdapter(dict[str, dict[str, float]])


def recall(cache: Path) -> Seconds:
    """Seconds by swap and case; empty where none are remembered, or the file is not whole."""
    try:
        return _FILE.validate_json(_path(cache).read_bytes())
    except (OSError, ValidationError):
        return {}


def expected(cases: Iterable[Case], swap: str, known: Seconds) -> float:
    """Seconds that a guest of these cases takes beside its boot, beside other guests."""
    seconds = known.get(swap, {})
    return sum(seconds.get(case.id, UNKNOWN * case.deadline) for case in cases)


def remember(cache: Path, transcripts: Iterable[Transcript], scale: float) -> None:
    """Keep what each case took last, as on a kernel that is not `scale` times slower."""
    took: dict[str, dict[str, float]] = {}
    for transcript in transcripts:
        for log in transcript.logs:
            took.setdefault(log.swap, {})[log.case] = round(log.seconds / scale, 2)
    with contextlib.suppress(InfraError), host.locked(cache / "locks/durations", _silent):
        known = {swap: dict(seconds) for swap, seconds in recall(cache).items()}
        for swap, seconds in took.items():
            known.setdefault(swap, {}).update(seconds)
        host.write_atomic(_path(cache), json.dumps(known, indent=1, sort_keys=True) + "\n")


def _path(cache: Path) -> Path:
    return cache / "durations.json"


def _silent(_line: str) -> None:
    """Nobody has to know who waits a moment for whom."""
