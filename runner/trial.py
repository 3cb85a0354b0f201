# SPDX-License-Identifier: GPL-2.0-only
"""One trial: the cases of one arm on one swap, one after another, in as many guests as it takes.

It produces Transcripts and judges nothing; a guest that crashes or hangs is a finding here.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from runner import flood
from runner.case import Case
from runner.errors import InfraError
from runner.guest import Boot, Guest, Ran
from runner.qemu import Machine
from runner.swap import Swap, parse_facts, set_up_command, verify
from runner.transcript import ArmLabel, BootRecord, CaseLog, End, Ended, Transcript, untried

BOOT_DEADLINE_S = 90.0
SWAP_DEADLINE_S = 60.0
LAST_WORDS_S = 5.0
PANIC = "Kernel panic - not syncing"
KILLED = 128 + 9
OOM_KILL = re.compile(r"(Out of memory|Memory cgroup out of memory): Killed process")
TAINT = re.compile(r"^twinboot: end .* taint=(\d+)$", re.MULTILINE)
OOM_PANIC = "System is deadlocked on memory"


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that decides one trial, and so also its reproducer.

    `scale` multiplies every deadline, the patience of cases, and the time for which delayed swap
    holds a page: what a case does meanwhile takes longer too (a debug kernel is slower).
    """

    arm: ArmLabel
    repeat: int
    image: Path
    release: str
    rootfs: Path
    machine: Machine
    swap: Swap
    cases: tuple[Case, ...]
    seed: int
    scale: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.swap.kind}-{self.repeat}"


def run_trial(trial: Trial, folder: Path, stop: threading.Event) -> tuple[Transcript, ...]:
    """Boot, run every case, and after a crash go on with the rest in a fresh guest."""
    transcripts: list[Transcript] = []
    while left := untried(trial.cases, transcripts):
        part = len(transcripts)
        now = replace(trial, cases=left)
        transcripts.append(_one_boot(now, part, folder / f"boot-{part}", stop))
    return tuple(transcripts)


@dataclass(frozen=True, slots=True)
class _Sitting:
    """One guest of a trial; `part` counts them."""

    trial: Trial
    part: int
    guest: Guest

    def transcript(self, logs: tuple[CaseLog, ...], end: End, note: str = "") -> Transcript:
        """All that this guest said."""
        trial, guest = self.trial, self.guest
        record = BootRecord(
            arm=trial.arm,
            swap=trial.swap.kind,
            repeat=trial.repeat,
            part=self.part,
            seed=trial.seed,
            planned=tuple(case.id for case in trial.cases),
            command=guest.command,
            seconds=guest.boot_seconds,
        )
        console = guest.said
        note = note or (guest.last_words if end == "qemu-died" else "")
        return Transcript(record, logs, console, end, bool(console), note, guest.autopsy)


def _one_boot(trial: Trial, part: int, folder: Path, stop: threading.Event) -> Transcript:
    with Guest(_boot(trial, folder), stop) as guest:
        sitting = _Sitting(trial, part, guest)
        if not guest.boot():
            return sitting.transcript((), _end_of_boot(guest))
        swap, scale = trial.swap, trial.scale
        said = guest.run(set_up_command(swap, trial.seed, scale), SWAP_DEADLINE_S * scale)
        try:
            verify(swap, parse_facts(said.output), trial.release)
        except InfraError as error:
            return sitting.transcript((), _end(guest, "swap-failed"), error.message)
        return sitting.transcript(*_run_cases(trial, guest))


def _boot(trial: Trial, folder: Path) -> Boot:
    mib = trial.swap.mib if trial.swap.needs_disk else 0
    deadline = BOOT_DEADLINE_S * trial.scale
    return Boot(trial.image, trial.rootfs, trial.machine, folder, deadline, swap_disk_mib=mib)


def _run_cases(trial: Trial, guest: Guest) -> tuple[tuple[CaseLog, ...], End]:
    """Run cases until one takes the guest or its shell down, hangs, or taints the kernel."""
    logs: list[CaseLog] = []
    for number, case in enumerate(trial.cases, 1):
        said, noise = guest.results.stat().st_size, guest.console.stat().st_size
        ran = _run_case(case, number, guest, trial.scale)
        text = _since(guest.results, said, flood.CASE_KEPT)
        ended = _ended(ran, _since(guest.console, noise, flood.CONSOLE_KEPT))
        framed = ran.ended != "exit" or _closed(text, case, number)
        # What the guest's shell said of itself comes over ssh, the program's output never does
        output = _unframed(text, case, number) + ("" if framed else ran.output)
        seen = output, ran.exit, ended, ran.seconds, framed
        logs.append(CaseLog(case.id, trial.swap.kind, number, *seen))
        if ran.ended == "gone":
            return tuple(logs), _end(guest, "qemu-died")
        if ran.ended == "timeout":
            return tuple(logs), _after_timeout(guest, trial.scale)
        if ran.ended == "broken":
            return tuple(logs), "poweroff" if guest.alive(trial.scale) else _end(guest, "hang")
        if _tainted(text) or not framed:
            break
    return tuple(logs), "poweroff"


def _run_case(case: Case, number: int, guest: Guest, scale: float) -> Ran:
    command = ("/twinboot/guest/run-case", case.id, str(number), *case.program)
    return guest.run(command, case.deadline * scale)


def _ended(ran: Ran, console: str) -> Ended:
    if ran.ended != "exit":
        return "timeout" if ran.ended == "timeout" else "died"
    return "oom" if ran.exit == KILLED and OOM_KILL.search(console) else "exit"


def _tainted(text: str) -> bool:
    """Whether the kernel was tainted when the case ended: the next one gets a fresh guest."""
    found = TAINT.search(text)
    return found is not None and found.group(1) != "0"


def _after_timeout(guest: Guest, scale: float) -> End:
    """Ask whether the guest is alive: a hung test is killed, a hung kernel cannot be.

    Before that, what every CPU does and what every task waits for goes to the console.
    """
    if not guest.alive(scale):
        return _end(guest, "hang")
    patience = 10.0 * scale
    guest.run(("sh", "-c", "echo l >/proc/sysrq-trigger; echo w >/proc/sysrq-trigger"), patience)
    killed = guest.run(("/twinboot/guest/kill-case",), patience)
    return "poweroff" if killed.exit == 0 else _end(guest, "hang")


def _end_of_boot(guest: Guest) -> End:
    return _end(guest, "boot-timeout" if guest.returncode is None else "qemu-died")


def _end(guest: Guest, otherwise: End) -> End:
    """What the console says of the guest's end; a panicking guest may need a moment to go.

    One that hangs is looked at, which ends it.
    """
    if guest.returncode is None and PANIC in guest.said:
        guest.wait_end(LAST_WORDS_S)
    console = guest.said
    if PANIC in console:
        return "oom-panic" if OOM_PANIC in console else "panic"
    if guest.returncode is None and otherwise in ("hang", "boot-timeout"):
        guest.examine()
        return otherwise
    # panic=-1: a guest resets only when its kernel dies, be it without a word (a triple fault)
    return "panic" if guest.ended_itself else otherwise


def _since(path: Path, offset: int, most: int) -> str:
    return flood.kept(path.read_bytes()[offset:], most)


def _closed(text: str, case: Case, number: int) -> bool:
    """Whether the guest's shell lived to say how the case ended, be it behind an open line."""
    return f"twinboot: end {case.id} {number} exit=" in text.rstrip("\n").rpartition("\n")[2]


def _unframed(text: str, case: Case, number: int) -> str:
    """The program's own output: what an earlier one says late, and our frame, are dropped."""
    _, begun, rest = text.partition(f"twinboot: begin {case.id} {number}\n")
    lines = (rest if begun else text).splitlines(keepends=True)
    if lines and lines[-1].startswith("twinboot: end "):
        lines.pop()
    return "".join(lines)
