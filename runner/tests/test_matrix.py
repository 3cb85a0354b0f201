# SPDX-License-Identifier: GPL-2.0-only
"""Which boots a run consists of, in which order."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from runner import durations
from runner import matrix as module
from runner.build import Kernel
from runner.case import Better, Case
from runner.errors import InfraError
from runner.experiment import BURDENS, ROOT, Plan, burden, chosen_cases
from runner.guest import Cancelled
from runner.matrix import Desk, Matrix, fitting_jobs, run_all, trials
from runner.qemu import Machine
from runner.swap import swap_named
from runner.transcript import BootRecord, CaseLog, Transcript
from runner.trial import Trial


@pytest.fixture(autouse=True)
def slots_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's slots may all be taken by real guests."""
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))


def case(name: str, *swaps: str) -> Case:
    return Case(name, "x", ("/x",), swaps, (), 1.0, (), (), ())


def kernel(name: str) -> Kernel:
    return Kernel(
        image=Path(name),
        config=Path(),
        vmlinux=None,
        release="5.10.0",
        fingerprint=name,
        signature=name,
        source="",
        patches=(),
        compiler="",
        config_sha256="",
        image_sha256="",
        cpu_seconds=0.0,
        seconds=0.0,
        reused=False,
    )


def matrix(repeats: int = 2) -> Matrix:
    return Matrix(
        base=kernel("b"),
        patched=kernel("p"),
        rootfs=Path("/r"),
        machine=Machine(),
        swaps=(swap_named("zram"), swap_named("disk")),
        cases=(case("a/a", "zram", "disk"), case("b/b", "zram"), case("c/c", "none")),
        repeats=repeats,
        seed=1,
    )


def test_the_arms_are_interleaved_and_take_turns_to_go_first() -> None:
    order = [trial.name for trial in trials(matrix())]
    assert order == [
        *("base-zram-1", "patched-zram-1", "base-disk-1", "patched-disk-1"),
        *("patched-zram-2", "base-zram-2", "patched-disk-2", "base-disk-2"),
    ]


def booted(
    whole: Matrix, folder: Path, monkeypatch: pytest.MonkeyPatch, took: Mapping[str, float]
) -> list[str]:
    """The names of the trials in the order in which one guest at a time runs them."""
    order: list[str] = []

    def fake(trial: Trial, _folder: Path, _stop: threading.Event) -> tuple[Transcript, ...]:
        order.append(trial.name)
        swap = trial.swap.kind
        boot = BootRecord(trial.arm, swap, trial.repeat, 0, 1, ())
        logs = tuple(
            CaseLog(each.id, swap, 1, "", 0, "exit", took.get(swap, 0.1)) for each in trial.cases
        )
        return (Transcript(boot, logs, "", "poweroff", True),)

    monkeypatch.setattr(module, "run_trial", fake)
    run_all(tuple(trials(whole)), Desk(folder, 1, lambda *_: None), lambda _: None)
    return order


def test_the_guests_that_took_longest_before_come_first_in_both_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = booted(matrix(1), tmp_path, monkeypatch, {"disk": 9.0})
    assert first == ["base-zram-1", "patched-zram-1", "base-disk-1", "patched-disk-1"]
    second = booted(matrix(2), tmp_path, monkeypatch, {"disk": 9.0})
    assert second == [
        *("base-disk-1", "patched-disk-1", "base-zram-1", "patched-zram-1"),
        *("patched-disk-2", "base-disk-2", "patched-zram-2", "base-zram-2"),
    ]


def test_where_no_guest_ran_before_the_deadlines_say_which_takes_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = replace(matrix(1), cases=(*matrix().cases, *(case(f"d/{n}", "disk") for n in "xyz")))
    order = booted(crowded, tmp_path, monkeypatch, {})
    assert order == ["base-disk-1", "patched-disk-1", "base-zram-1", "patched-zram-1"]


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"zram": 7}', '{"zram": {"a/a": "long"}}'])
def test_what_is_remembered_of_guests_may_be_lost_or_wrong(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "durations.json").write_text(kept)
    assert len(booted(matrix(1), tmp_path, monkeypatch, {"disk": 9.0})) == 4
    assert durations.recall(cache)["disk"] == {"a/a": 9.0}


def test_what_a_slow_kernel_took_is_remembered_as_of_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    booted(replace(matrix(1), scale=10.0), tmp_path, monkeypatch, {"disk": 90.0})
    assert durations.recall(tmp_path / "cache")["disk"] == {"a/a": 9.0}


def test_three_guests_keep_two_cpus_busy_and_two_whose_instructions_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert fitting_jobs(Machine(memory_mib=1)) == 3
    assert fitting_jobs(Machine(memory_mib=1, icount=True)) == 2
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert fitting_jobs(Machine(memory_mib=1)) == 1


def test_each_guest_runs_the_cases_that_fit_its_swap() -> None:
    by_name = {trial.name: [each.id for each in trial.cases] for trial in trials(matrix())}
    assert by_name["base-zram-1"] == ["a/a", "b/b"]
    assert by_name["patched-disk-1"] == ["a/a"]


def test_the_arms_get_the_same_cases_seed_and_machine_and_their_own_kernel() -> None:
    base, patched, *_ = trials(matrix(1))
    assert (base.cases, base.seed, base.machine) == (patched.cases, patched.seed, patched.machine)
    assert (str(base.image), str(patched.image)) == ("b", "p")


def test_there_is_always_room_for_one_guest() -> None:
    assert fitting_jobs(Machine(memory_mib=1 << 30)) == 1


def test_the_first_error_stops_the_rest_and_is_the_one_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fake(trial: Trial, _folder: Path, stop: threading.Event) -> tuple[Transcript, ...]:
        seen.append(trial.name)
        if trial.name == "base-zram-1":
            raise InfraError("no space")
        for _ in range(500):
            if stop.is_set():
                raise Cancelled
            time.sleep(0.01)
        return ()

    monkeypatch.setattr(module, "run_trial", fake)
    began = time.monotonic()
    with pytest.raises(InfraError, match="no space"):
        run_all(tuple(trials(matrix())), Desk(tmp_path, 2, lambda *_: None), lambda _: None)
    assert time.monotonic() - began < 4
    assert len(seen) <= 3


def test_a_debug_kernel_gets_the_time_and_the_memory_of_its_heaviest_fragment(
    tmp_path: Path,
) -> None:
    assert burden(Plan(tmp_path)).slowness == 1.0
    both = burden(Plan(tmp_path, fragments=("kasan", "debug-vm")))
    assert both == BURDENS["kasan"]
    by_path = Plan(tmp_path, fragments=(str(ROOT / "kconfigs/lockdep.config"),))
    assert burden(by_path) == BURDENS["lockdep"]


def test_a_kernel_that_allocates_for_itself_has_its_allocations_shown_and_not_judged(
    tmp_path: Path,
) -> None:
    def judged(*fragments: str) -> set[str]:
        cases = chosen_cases(Plan(tmp_path, cases=("thp/roundtrip",), fragments=fragments))
        return {
            spec.name for each in cases for spec in each.measures if spec.better is not Better.NONE
        }

    rest = {"swapped_whole", "reused_after_read"}
    assert judged("lockdep") == {"allocations", *rest}
    assert judged("lockdep", "kasan") == rest


def test_only_fragments_that_exist_are_a_burden() -> None:
    assert {f"{name}.config" for name in BURDENS} <= {
        path.name for path in (ROOT / "kconfigs").glob("*.config")
    }
