# SPDX-License-Identifier: GPL-2.0-only
"""The raw evidence of one boot, and how its two channels divide into cases.

It says nothing about what the evidence means: that is outcome.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Ended = Literal["exit", "timeout", "died", "oom"]
End = Literal["poweroff", "panic", "hang", "qemu-died", "boot-timeout", "oom-panic", "swap-failed"]
ArmLabel = Literal["base", "patched"]
TrialKey = tuple[str, str, int, int]
T = TypeVar("T")

BOOT_TRIES = 2

_MARKER = re.compile(
    r"twinboot: (begin|end) (\S+) (\d+)(?!\S)(?: exit=(\d+))?(?: \w+=\d+)*[ \r]*\n?"
)
_STAMP = re.compile(r"(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?$")


@dataclass(frozen=True, slots=True)
class BootRecord:
    """Which boot this was. `part` counts the fresh guests after a crash within one repeat.

    `planned` are the ids of the cases that this boot was started for, in order. `shard` says from
    which part of a merged run it comes (0: none), `borrowed` that it is an earlier run's.
    """

    arm: ArmLabel
    swap: str
    repeat: int
    part: int
    seed: int
    planned: tuple[str, ...]
    command: tuple[str, ...] = ()
    seconds: float = 0.0
    shard: int = 0
    borrowed: bool = False

    @property
    def trial(self) -> TrialKey:
        """What the boots of one trial have in common."""
        return self.arm, self.swap, self.repeat, self.shard


@dataclass(frozen=True, slots=True)
class CaseLog:
    """One run of one case: what its program printed and how it ended.

    `number` is the one in the markers around it. `exit` is None when no exit code came.
    ended: "exit" by itself; "timeout" its deadline passed; "oom" the out-of-memory killer ended
    it; "died" the guest went away under it. `seconds` are the host's. `framed` is False when it
    ended by itself and the guest's shell, which runs it, never said so on the results channel.
    """

    case: str
    swap: str
    number: int
    text: str
    exit: int | None
    ended: Ended
    seconds: float
    framed: bool = True


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything one guest said. `console_ok` is False when its console could not be captured.

    end "swap-failed": the guest's swap is not what was asked for (`note` says how), so no case
    was started, and the fault is ours; "qemu-died": `note` is the last that it said. `autopsy` is
    what QEMU knew of a guest that died or hung.
    """

    boot: BootRecord
    logs: tuple[CaseLog, ...]
    console: str
    end: End
    console_ok: bool = True
    note: str = ""
    autopsy: str = ""


def untried(cases: tuple[T, ...], boots: Iterable[Transcript]) -> tuple[T, ...]:
    """Which of a trial's cases another boot has to try after these.

    A boot in which no case could start, or the shell broke in the first, is tried once more; then
    the rest is given up.
    """
    failures = 0
    for boot in boots:
        failures = 0 if any(log.framed for log in boot.logs) else failures + 1
        cases = cases[len(boot.logs) :]
    return cases if failures < BOOT_TRIES else ()


def whole_trials(transcripts: Iterable[Transcript]) -> dict[TrialKey, tuple[Transcript, ...]]:
    """The boots of each trial that came to its end; what a killed run had begun is no evidence."""
    trials: dict[TrialKey, list[Transcript]] = {}
    for transcript in sorted(transcripts, key=lambda script: script.boot.part):
        trials.setdefault(transcript.boot.trial, []).append(transcript)
    return {key: tuple(boots) for key, boots in sorted(trials.items()) if _is_whole(boots)}


def _is_whole(boots: Sequence[Transcript]) -> bool:
    in_order = [boot.boot.part for boot in boots] == list(range(len(boots)))
    return in_order and not untried(boots[0].boot.planned, boots)


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a channel between the markers of one run of a case.

    `closed` is False when the end marker never came; `exit` is the code that it carried.
    """

    case: str
    number: int
    text: str
    closed: bool
    exit: int | None


@dataclass(frozen=True, slots=True)
class Divided:
    """A channel divided by its markers; `outside` is what was said in no case's time."""

    spans: tuple[Span, ...]
    outside: str

    def span(self, case: str, number: int) -> Span | None:
        for span in self.spans:
            if (span.case, span.number) == (case, number):
                return span
        return None


def divide(channel: str) -> Divided:
    """Divide a console or a results channel at `twinboot: begin|end CASE NUMBER`.

    A span ends at its own end marker, at the next begin or at the end of the channel. An end
    marker of another run is not a marker: a program may print what it likes.
    """
    spans: list[Span] = []
    outside: list[str] = []
    running: tuple[str, int] | None = None
    position = 0
    for marker in _MARKER.finditer(channel):
        subject = (marker.group(2), int(marker.group(3)))
        begins = marker.group(1) == "begin"
        if not begins and subject != running:
            continue
        text = _without_stamp(channel[position : marker.start()])
        if running is None:
            outside.append(text)
        else:
            code = marker.group(4)
            exit_code = int(code) if code and not begins else None
            spans.append(Span(*running, text, not begins, exit_code))
        running = subject if begins else None
        position = marker.end()
    rest = channel[position:]
    if running is None:
        outside.append(rest)
    else:
        spans.append(Span(*running, rest, False, None))
    return Divided(tuple(spans), "".join(outside))


def _without_stamp(text: str) -> str:
    """Drop the timestamp of the marker's own line."""
    head, newline, last = text.rpartition("\n")
    return head + newline if _STAMP.fullmatch(last) else text
