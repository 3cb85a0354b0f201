# SPDX-License-Identifier: GPL-2.0-only
"""Whole runs without a kernel: everything real but the builds and the guests.

What a guest does is decided by a function of arm, swap, case and repeat, so that the same trial
says the same whenever it is booted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from runner import experiment, host, matrix
from runner.case import Case
from runner.comparison import Comparison
from runner.experiment import Arms, Plan, Wanted
from runner.host import Progress
from runner.judging import GUEST
from runner.kconfig import Kconfig
from runner.patchset import EMPTY
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.row import Row
from runner.source import Fetched, parse_source
from runner.tests.test_matrix import kernel
from runner.transcript import BootRecord, CaseLog, End, Transcript, untried
from runner.trial import Trial

ROW = """
- id: {name}
  catches: x
  program: {group} {word}
  swaps: [{swaps}]
  deadline: {deadline}
  invariants: {{holds: it does not hold}}
  measures: {{pages: {{unit: pages, better: lower, says: pages copied, tolerance: 1}}}}
"""
TABLES = {
    "cow": (("a", "zram, disk", 20), ("b", "zram", 60), ("c", "none, zram, disk", 20)),
    "thp": (("d", "none, zram", 30), ("e", "disk", 180)),
}
Does = Callable[[str, str, str, int], str]


def passes(_arm: str, _swap: str, _case: str, _repeat: int) -> str:
    return "pass"


@dataclass
class Guests:
    """What they do ("pass", "fail", "crash", "infra" or a number of pages), which ran, who dies.

    `chatter` is what each prints on its console while it boots.
    """

    does: Does = passes
    booted: list[str] = field(default_factory=list)
    die_at: int = -1
    chatter: str = "booted\n"

    def trial(self, trial: Trial, _folder: Path, _stop: threading.Event) -> tuple[Transcript, ...]:
        if len(self.booted) == self.die_at:
            raise KeyboardInterrupt
        self.booted.append(trial.name)
        boots: list[Transcript] = []
        while left := untried(trial.cases, boots):
            boots.append(self._boot(replace(trial, cases=left), len(boots)))
        return tuple(boots)

    def _boot(self, trial: Trial, part: int) -> Transcript:
        console, logs, end = self.chatter, [], "poweroff"
        for number, each in enumerate(trial.cases, 1):
            what = self.does(trial.arm, trial.swap.kind, each.id, trial.repeat)
            if what == "crash":
                end = "panic"
            elif what == "infra":
                end = "qemu-died"
            console += f"twinboot: begin {each.id} {number}\n"
            logs.append(_log(each, trial.swap.kind, number, what))
            if end != "poweroff":
                break
            console += f"twinboot: end {each.id} {number} exit=0\n"
        planned = tuple(each.id for each in trial.cases)
        record = BootRecord(trial.arm, trial.swap.kind, trial.repeat, part, trial.seed, planned)
        return Transcript(record, tuple(logs), console, _end(end))


def _end(word: str) -> End:
    ends: dict[str, End] = {"poweroff": "poweroff", "panic": "panic", "qemu-died": "qemu-died"}
    return ends[word]


def _log(case: Case, kind: str, number: int, what: str) -> CaseLog:
    if what in ("crash", "infra"):
        return CaseLog(case.id, kind, number, "KTAP version 1\n", None, "died", 1.0)
    pages = what if what.isdigit() else "10"
    word, code = ("not ok", 1) if what == "fail" else ("ok", 0)
    text = f"KTAP version 1\n1..1\n# measure: pages {pages} pages\n{word} 1 holds\n"
    return CaseLog(case.id, kind, number, text, code, "exit", 1.0)


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Guests:
    return staged(monkeypatch, tmp_path)


def staged(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Guests:
    """Made up kernels, root and guests; a case table of five cases on three swaps."""
    tables = folder / "cases"
    tables.mkdir()
    for group, rows in TABLES.items():
        texts = [
            ROW.format(name=f"{group}/{word}", group=group, word=word, swaps=on, deadline=deadline)
            for word, on, deadline in rows
        ]
        (tables / f"{group}.yaml").write_text("".join(texts))
    made = Guests()
    fetched = Fetched(parse_source("debian:linux-source-5.10"), "id", "5.10.223", "detail")
    arms = Arms(fetched, EMPTY, Kconfig(()), kernel("b"), kernel("p"))

    def programs(_plan: Plan, ours: tuple[Case, ...], _wanted: Wanted, *_: object) -> object:
        return ours, Rootfs(folder, "programs")

    monkeypatch.setenv("TWINBOOT_CACHE", str(folder / "cache"))
    monkeypatch.setattr(experiment, "CASES", tables)
    monkeypatch.setattr(experiment, "build_arms", lambda *_: arms)
    monkeypatch.setattr(experiment, "choose_programs", programs)
    monkeypatch.setattr(experiment, "choose_machine", lambda *_: Machine())
    monkeypatch.setattr(host, "SLOT_POLL_S", 0.0)
    # a busy disk takes most of the time, and nothing here survives a power failure
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    monkeypatch.setattr(matrix, "run_trial", made.trial)
    return made


def silent(_line: str) -> None:
    pass


def run(plan: Plan, say: Progress = silent, resumed: bool = False) -> Comparison:
    return experiment.run_experiment(replace(plan, jobs=1), say, resumed)


def rows(comparison: Comparison) -> dict[tuple[str, str], Row]:
    """All rows but those of the guests themselves, of which a cut makes more."""
    return {(row.case.id, row.swap): row for row in comparison.rows if row.case != GUEST}
