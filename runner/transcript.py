# SPDX-License-Identifier: GPL-2.0-only
"""The raw evidence of one boot, and how its two channels divide into cases.

It says nothing about what the evidence means: that is outcome.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Ended = Literal["exit", "timeout", "died", "oom"]
End = Literal["poweroff", "panic", "hang", "qemu-died", "boot-timeout", "oom-panic", "swap-failed"]
ArmLabel = Literal["base", "patched"]

_MARKER = re.compile(
    r"twinboot: (begin|end) (\S+) (\d+)(?!\S)(?: exit=(\d+))?(?: \w+=\d+)*[ \r]*\n?"
)
_STAMP = re.compile(r"(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?$")


@dataclass(frozen=True, slots=True)
class BootRecord:
    """Which boot this was. `part` counts the fresh guests after a crash within one repeat.

    `planned` are the ids of the cases that this boot was started for, in order.
    """

    arm: ArmLabel
    swap: str
    repeat: int
    part: int
    seed: int
    planned: tuple[str, ...]
    command: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CaseLog:
    """One run of one case: what its program printed and how it ended.

    `number` is the one in the markers around it. `exit` is None when no exit code came.
    ended: "exit" by itself; "timeout" its deadline passed; "oom" the out-of-memory killer ended
    it; "died" the guest went away under it. `seconds` are the host's.
    """

    case: str
    swap: str
    number: int
    text: str
    exit: int | None
    ended: Ended
    seconds: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything one guest said. `console_ok` is False when its console could not be captured.

    end "swap-failed": the guest's swap is not what was asked for (`note` says how), so no case
    was started, and the fault is ours. `autopsy` is what QEMU knew of a guest that died or hung.
    """

    boot: BootRecord
    logs: tuple[CaseLog, ...]
    console: str
    end: End
    console_ok: bool = True
    note: str = ""
    autopsy: str = ""


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
