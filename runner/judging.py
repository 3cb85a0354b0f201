# SPDX-License-Identifier: GPL-2.0-only
"""Judges whole guests: which console lines belong to which case, what became of the guest itself.

The rules for a single run are outcome.py; nothing is compared here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from runner.case import Case
from runner.flood import left_out
from runner.outcome import Charge, Outcome, Scene, Verdict, judge, with_splat, worst
from runner.splat import Splat, splats
from runner.transcript import CaseLog, Divided, Transcript, divide

# kernel/printk/printk.c, console_unlock(): the log ran over before the console had printed it
DROPPED = re.compile(r"^\*\* (\d+) printk messages dropped \*\*", re.MULTILINE)
# The guest itself, outside the time of any case: its boot, its swap, its end.
GUEST = Case(
    id="guest/boot",
    catches="a kernel that does not boot, or complains while no case runs",
    program=(),
    swaps=(),
    kconfig=(),
    deadline=0.0,
    proof=(),
    invariants=(),
    measures=(),
)


def judge_guests(transcripts: Sequence[Transcript], cases: Iterable[Case]) -> tuple[Outcome, ...]:
    """Judge the guests of one arm, swap and repeat: the first and those after crashes.

    Every planned case gets an outcome, and so does the guest itself (guest/boot).
    """
    table = {case.id: case for case in cases}
    judged = _whole([_guest_outcome(transcript) for transcript in transcripts])
    ran: set[str] = set()
    for transcript in transcripts:
        console = divide(transcript.console)
        for log in transcript.logs:
            if log.case in table:
                judged.append(_judge_log(table[log.case], log, transcript, console))
                ran.add(log.case)
    judged += _absent(transcripts, table, ran)
    return tuple(judged)


def _whole(parts: list[Outcome]) -> list[Outcome]:
    """The guests of one repeat are judged as one: a fresh one does not make up for a dead one."""
    if not parts:
        return []
    gravest = max(parts, key=lambda part: part.verdict)
    return [replace(gravest, splats=tuple(splat for part in parts for splat in part.splats))]


def _judge_log(case: Case, log: CaseLog, transcript: Transcript, console: Divided) -> Outcome:
    span = console.span(log.case, log.number)
    # Its markers are the sign that the console was recorded while the case ran.
    seen = span is not None and (span.closed or log.ended != "exit")
    scene = Scene(
        end=transcript.end,
        splats=splats(span.text) if span else (),
        console_ok=transcript.console_ok and seen,
        repeat=transcript.boot.repeat,
        gap=_gap(span.text) if span else "",
    )
    return judge(case, log, scene)


def _gap(console: str) -> str:
    """What of the kernel's messages is not there, where something is missing; a splat may be."""
    less = left_out(console)
    if less:
        return f"{less} on the kernel's console"
    dropped = DROPPED.search(console)
    return f"the console lost {dropped.group(1)} of the kernel's messages" if dropped else ""


def _shell_lost(log: CaseLog, console: Divided) -> bool:
    """The command that ran the case ended, and said so on neither of its two channels."""
    span = console.span(log.case, log.number)
    return log.ended == "exit" and not log.framed and not (span and span.closed)


def _guest_outcome(transcript: Transcript) -> Outcome:
    """The guest apart from its cases."""
    console = divide(transcript.console)
    found = splats(console.outside)
    charges = *_guest_charges(transcript, console, found), *_shell_charges(transcript, console)
    charge = worst(charges)
    reason = charge.reason if charge.verdict else "it booted, ran its cases and powered off"
    return Outcome(
        case=GUEST.id,
        swap=transcript.boot.swap,
        repeat=transcript.boot.repeat,
        verdict=charge.verdict,
        reason=reason,
        process=charge.verdict,
        splats=found,
        seconds=transcript.boot.seconds,
    )


def _guest_charges(
    transcript: Transcript, console: Divided, found: tuple[Splat, ...]
) -> Iterator[Charge]:
    if not transcript.console_ok or not transcript.console.strip():
        said = "nothing could be read on the kernel's console"
        yield Charge(Verdict.INFRA, _with_note(said, transcript))
    if gap := _gap(console.outside):
        yield Charge(Verdict.INCONCLUSIVE, gap)
    for splat in found:
        if splat.fatal:
            yield Charge(Verdict.CRASH, splat.title)
    in_a_case = bool(transcript.logs) and transcript.logs[-1].ended in ("died", "timeout")
    if transcript.end != "poweroff" and not in_a_case:
        yield _idle_death(transcript, found)


def _shell_charges(transcript: Transcript, console: Divided) -> Iterator[Charge]:
    """The guest's shell is a program like any other: a kernel may lose its memory, too."""
    for log in transcript.logs:
        if _shell_lost(log, console):
            yield Charge(Verdict.FAIL, f"the guest's own shell broke while {log.case} ran")


def _idle_death(transcript: Transcript, found: tuple[Splat, ...]) -> Charge:
    """The guest ended while no case ran."""
    last = transcript.logs[-1].case if transcript.logs else None
    when = f"after {last}" if last else "before the first case"
    if transcript.end in ("panic", "oom-panic"):
        return Charge(Verdict.CRASH, with_splat(f"the kernel panicked {when}", found))
    if transcript.end == "hang":
        return Charge(Verdict.HANG, with_splat(f"the kernel no longer answered {when}", found))
    if transcript.end == "boot-timeout":
        return Charge(Verdict.HANG, with_splat("the kernel did not finish booting", found))
    if transcript.end == "swap-failed":
        return Charge(Verdict.INFRA, transcript.note or "the swap could not be set up")
    return Charge(Verdict.INFRA, _with_note(f"QEMU died {when}", transcript))


def _with_note(reason: str, transcript: Transcript) -> str:
    """With QEMU's own last words, where it died."""
    return f"{reason}: {transcript.note}" if transcript.note else reason


def _absent(
    transcripts: Sequence[Transcript], table: Mapping[str, Case], ran: set[str]
) -> Iterator[Outcome]:
    """An outcome for every case that was planned but that no guest began."""
    last = {name: script for script in transcripts for name in script.boot.planned}
    for name, transcript in last.items():
        if name in ran or name not in table:
            continue
        guest = _guest_outcome(transcript)
        if transcript.end == "poweroff" or (transcript.end == "qemu-died" and transcript.logs):
            verdict, reason = Verdict.INFRA, "it was not run"
        elif transcript.logs:
            verdict, reason = Verdict.INCONCLUSIVE, "it was not run: the kernel died before it"
        else:
            verdict, reason = guest.verdict, guest.reason
        yield Outcome(
            case=name,
            swap=transcript.boot.swap,
            repeat=transcript.boot.repeat,
            verdict=verdict,
            reason=reason,
            process=verdict,
            ran=False,
        )
