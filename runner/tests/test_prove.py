# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot prove` boots, and what it does not boot a second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner import experiment, matrix, prove
from runner.build import BuildRequest, Kernel
from runner.case import Case
from runner.errors import PatchError
from runner.experiment import Arms, Plan, Wanted
from runner.kconfig import Kconfig
from runner.killtable import Fate, KillTable
from runner.matrix import Desk
from runner.patchset import EMPTY
from runner.prove import ProofPlan
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.source import Fetched, parse_source
from runner.tests.test_matrix import kernel
from runner.transcript import BootRecord, CaseLog, End, Transcript
from runner.trial import Trial

BUG = "ksm-reuse"
BREAKS = "sharer_intact"
Boots = list[tuple[str, str, int, tuple[str, ...]]]


def said(case: Case, broken: bool) -> str:
    """A program's whole output: every proof, measure and invariant of its row."""
    lines = ["KTAP version 1", f"1..{len(case.invariants)}"]
    lines += [f"# proof: {name} ok" for name in case.proof]
    lines += [f"# measure: {spec.name} {50 * broken} {spec.unit}" for spec in case.measures]
    for number, invariant in enumerate(case.invariants, 1):
        bad = broken and invariant.name == BREAKS
        lines.append(f"{'not ok' if bad else 'ok'} {number} {invariant.name}")
    return "\n".join(lines) + "\n"


def transcript(trial: Trial, end: End) -> Transcript:
    broken = trial.arm == "patched" and not SAYS and not STUCK
    console, logs = "booted\n", []
    for number, case in enumerate(trial.cases, 1):
        told = SAYS.get((trial.arm, case.id), "")
        console += f"twinboot: begin {case.id} {number}\n{told}"
        if (trial.arm, trial.repeat) in STUCK:
            logs.append(CaseLog(case.id, trial.swap.kind, number, "", None, "timeout", 20.0))
            continue
        console += f"twinboot: end {case.id} {number} exit=0\n"
        logs.append(
            CaseLog(
                case=case.id,
                swap=trial.swap.kind,
                number=number,
                text=said(case, broken),
                exit=int(broken and any(each.name == BREAKS for each in case.invariants)),
                ended="exit",
                seconds=0.1,
            )
        )
    planned = tuple(case.id for case in trial.cases)
    boot = BootRecord(trial.arm, trial.swap.kind, trial.repeat, 0, trial.seed, planned)
    if end == "swap-failed":
        return Transcript(boot, (), console, end, note="no swap")
    return Transcript(boot, tuple(logs), console, end)


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Boots:
    """Every boot that is made; kernels, root and guests are made up."""
    seen: Boots = []
    fetched = Fetched(parse_source("debian:linux-source-5.10"), "id", "5.10.223", "detail")
    arms = Arms(fetched, EMPTY, Kconfig(()), kernel("b"), kernel("b"))

    def build(request: BuildRequest, _cache: Path, _progress: Callable[[str], None]) -> Kernel:
        return kernel(request.patchset.digest)

    def run_all(todo: tuple[Trial, ...], desk: Desk, _progress: Callable[[str], None]) -> None:
        for trial in todo:
            cases = tuple(case.id for case in trial.cases)
            seen.append((trial.arm, trial.swap.kind, trial.repeat, cases))
            desk.keep(trial, (transcript(trial, ENDS.get(trial.arm, "poweroff")),))

    def programs(_plan: Plan, ours: tuple[Case, ...], _wanted: Wanted, *_: object) -> object:
        return ours, Rootfs(tmp_path, "programs")

    monkeypatch.setattr(experiment, "build_arms", lambda *_: arms)
    monkeypatch.setattr(experiment, "choose_programs", programs)
    monkeypatch.setattr(experiment, "choose_machine", lambda *_: Machine())
    monkeypatch.setattr(prove, "build", build)
    monkeypatch.setattr(prove, "try_patches", lambda *_: None)
    monkeypatch.setattr(matrix, "run_all", run_all)
    for each in (ENDS, SAYS, STUCK):
        each.clear()
    return seen


ENDS: dict[str, End] = {}
# What the kernel says, by arm and case; and the runs, by arm and repeat, that miss their deadline
SAYS: dict[tuple[str, str], str] = {}
STUCK: set[tuple[str, int]] = set()
STALL = "rcu: INFO: rcu_sched self-detected stall on CPU\n"


def proved(tmp_path: Path, full: bool = False, others: tuple[str, ...] = ()) -> KillTable:
    plan = Plan(tmp_path / "proofs", swaps=("none", "zram"), full=full)
    return prove.prove(ProofPlan(plan, (BUG, *others)), lambda _: None)


def test_the_base_runs_twice_and_a_bug_once_and_only_what_it_names(
    boots: Boots, tmp_path: Path
) -> None:
    proved(tmp_path)
    assert boots == [
        ("base", "none", 1, ("ksm/ksm_wr",)),
        ("base", "zram", 1, ("ksm/ksm_wr",)),
        ("base", "none", 2, ("ksm/ksm_wr",)),
        ("base", "zram", 2, ("ksm/ksm_wr",)),
        ("patched", "none", 1, ("ksm/ksm_wr",)),
        ("patched", "zram", 1, ("ksm/ksm_wr",)),
    ]


def test_the_table_says_what_the_guests_showed(boots: Boots, tmp_path: Path) -> None:
    found = proved(tmp_path)
    assert found.bugs[0].fates == {"ksm/ksm_wr": Fate.KILLED}
    assert found.exit_code == 0


def test_nothing_boots_for_a_bug_that_this_source_cannot_have(
    boots: Boots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PatchError("hunk 1 does not apply")

    monkeypatch.setattr(prove, "try_patches", refuse)
    found = proved(tmp_path)
    assert boots == []
    assert found.bugs[0].why_not == "hunk 1 does not apply"
    assert found.exit_code == 3


def test_what_ran_is_not_run_again(boots: Boots, tmp_path: Path) -> None:
    first = proved(tmp_path)
    boots.clear()
    assert proved(tmp_path) == first
    assert boots == []


def test_full_runs_what_is_missing_of_every_case(boots: Boots, tmp_path: Path) -> None:
    proved(tmp_path)
    boots.clear()
    proved(tmp_path, full=True)
    ran = {name for _, _, _, cases in boots for name in cases}
    assert "cow/wr_sync" in ran
    assert "ksm/ksm_wr" not in ran


def test_another_base_kernel_makes_all_evidence_void(
    boots: Boots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved(tmp_path)
    count = len(boots)
    before = experiment.build_arms(Plan(tmp_path), tmp_path, print)
    changed = replace(before, base=kernel("c"), patched=kernel("c"))
    monkeypatch.setattr(experiment, "build_arms", lambda *_: changed)
    proved(tmp_path)
    assert len(boots) == 2 * count


def test_a_run_that_failed_by_our_fault_is_made_again(boots: Boots, tmp_path: Path) -> None:
    ENDS["patched"] = "swap-failed"
    assert proved(tmp_path).exit_code == 3
    ENDS.clear()
    boots.clear()
    assert proved(tmp_path).exit_code == 0
    assert {arm for arm, *_ in boots} == {"patched"}


def test_what_base_says_in_another_case_is_no_kill(boots: Boots, tmp_path: Path) -> None:
    for place in (("base", "fork/both_swapped"), ("patched", "ksm/ksm_wr")):
        SAYS[place] = "WARNING: at mm/x.c:1 foo+0x1/0x2\n"
    found = proved(tmp_path, others=("fork-counts-swap-twice",))
    assert found.bugs[0].fates == {"ksm/ksm_wr": Fate.SURVIVED}
    SAYS.pop(("base", "fork/both_swapped"))
    assert proved(tmp_path / "again").bugs[0].fates == {"ksm/ksm_wr": Fate.KILLED}


@pytest.mark.parametrize(
    ("stuck", "fate"), [({1}, Fate.UNDECIDED), ({1, 2}, Fate.KILLED), (set(), Fate.SURVIVED)]
)
def test_a_missed_deadline_kills_only_if_it_is_missed_again(
    boots: Boots, tmp_path: Path, stuck: set[int], fate: Fate
) -> None:
    STUCK.add(("nobody", 1))
    STUCK.update(("patched", repeat) for repeat in stuck)
    found = proved(tmp_path)
    assert found.bugs[0].fates == {"ksm/ksm_wr": fate}
    ran = [(kind, repeat) for arm, kind, repeat, _ in boots if arm == "patched"]
    again = [("none", 2), ("zram", 2)] if stuck else []
    assert ran == [("none", 1), ("zram", 1), *again]
    boots.clear()
    assert proved(tmp_path) == found
    assert boots == []


def test_a_stall_kills_only_if_it_is_seen_again(boots: Boots, tmp_path: Path) -> None:
    SAYS["patched", "ksm/ksm_wr"] = STALL
    assert proved(tmp_path).bugs[0].fates == {"ksm/ksm_wr": Fate.KILLED}
    assert [repeat for arm, _, repeat, _ in boots if arm == "patched"] == [1, 1, 2, 2]
