# SPDX-License-Identifier: GPL-2.0-only
"""A real guest: what it may see, how its end is told, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner import host
from runner.build import Kernel
from runner.case import Case
from runner.guest import Boot, Guest
from runner.judging import judge_guests
from runner.keeper import descendants
from runner.outcome import Verdict
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.swap import SWAPS, Swap, parse_facts, set_up_command, swap_named, verify
from runner.tests.test_keeper import ours_now
from runner.trial import Trial, run_trial

pytestmark = pytest.mark.vm


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = ours_now()
    yield
    assert ours_now() <= before


@contextmanager
def running(
    kernel: Kernel, root: Rootfs, folder: Path, swap: Swap | None = None
) -> Iterator[Guest]:
    mib = swap.mib if swap is not None and swap.needs_disk else 0
    boot = Boot(kernel.image, root.image, Machine(), folder, swap_disk_mib=mib)
    with Guest(boot) as guest:
        assert guest.boot(), guest.console.read_text(errors="replace")[-2000:]
        yield guest


def shell(guest: Guest, script: str, deadline: float = 30.0) -> str:
    return guest.run(("sh", "-c", script), deadline).output


def case(name: str, script: str, deadline: float = 10.0) -> Case:
    program = ("sh", "-c", script)
    return Case(f"t/{name}", "x", program, ("none",), (), deadline, (), (), ())


def trial(kernel: Kernel, root: Rootfs, *cases: Case) -> Trial:
    return Trial(
        arm="base",
        repeat=1,
        image=kernel.image,
        release=kernel.release,
        rootfs=root.image,
        machine=Machine(),
        swap=swap_named("none"),
        cases=cases,
        seed=1,
    )


def test_a_guest_sees_the_hosts_files_read_only_and_reaches_nothing(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    before = host.sha256_file(root.image)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running(base_kernel, root, tmp_path / "boot") as guest,
    ):
        port = server.getsockname()[1]
        said = shell(
            guest,
            "for f in /x /etc/passwd /twinboot/trial/x /twinboot/bin/x /usr/x; do"
            "  (echo hi >$f) 2>/dev/null && echo WROTE $f; done;"
            "mount -o remount,rw / 2>/dev/null; (echo hi >/etc/passwd) 2>/dev/null && echo WROTE;"
            "(echo hi | dd of=/dev/vda conv=fsync) 2>/dev/null && echo WROTE disk;"
            f"nc -w 2 10.0.2.2 {port} </dev/null 2>/dev/null && echo CONNECTED; echo done",
        )
        assert said == "done\n"
    assert host.sha256_file(root.image) == before


def test_a_command_costs_well_under_a_second(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    with running(base_kernel, root, tmp_path / "boot") as guest:
        costs = sorted(guest.run(("true",), 30.0).seconds for _ in range(9))
    assert costs[4] < 0.5


@pytest.mark.parametrize("swap", SWAPS, ids=lambda swap: str(swap.kind))
def test_every_kind_of_swap_is_what_was_asked_for(
    swap: Swap, base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    with running(base_kernel, root, tmp_path / "boot", swap) as guest:
        said = guest.run(set_up_command(swap, 1, 1.0), 60.0)
        verify(swap, parse_facts(said.output), base_kernel.release)


def test_swapon_that_fails_is_ours_and_says_why(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    with running(base_kernel, root, tmp_path / "boot") as guest:
        said = guest.run(set_up_command(swap_named("disk"), 1, 1.0), 60.0)
    facts = parse_facts(said.output)
    assert facts["error"] == "no virtio disk with the serial number twinboot-swap"


def test_all_that_was_said_before_a_panic_is_kept_and_the_rest_goes_on_in_a_fresh_guest(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    cases = (
        case("one", "echo first words"),
        case("two", "echo last words; echo c >/proc/sysrq-trigger; sleep 9"),
        case("three", "echo after"),
    )
    first, second = run_trial(trial(base_kernel, root, *cases), tmp_path, threading.Event())
    assert [(log.case, log.ended, log.text) for log in first.logs] == [
        ("t/one", "exit", "first words\n"),
        ("t/two", "died", "last words\n"),
    ]
    assert first.end == "panic"
    assert "sysrq triggered crash" in first.console
    assert "? sysrq_handle_crash+" in first.autopsy
    assert second.autopsy == ""
    assert [log.text for log in second.logs] == ["after\n"]


def test_a_hung_test_is_told_from_a_hung_kernel(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    cases = (case("spin", "while :; do :; done", 3.0), case("next", "echo fine"))
    first, second = run_trial(trial(base_kernel, root, *cases), tmp_path, threading.Event())
    assert (first.logs[0].ended, first.end) == ("timeout", "poweroff")
    assert [log.text for log in second.logs] == ["fine\n"]


def test_what_a_case_leaves_behind_is_ended_and_waited_for_before_the_next_one(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    """The results channel takes one opener at a time. The second one's child is out of reach."""
    away = "setsid sh -c 'sleep 3; echo from far away'"
    cases = (
        case("leaves", "sleep 1000 & echo left"),
        case("next", f"{away} & sleep 0.5; echo right"),
        case("last", "echo fine"),
    )
    (only,) = run_trial(trial(base_kernel, root, *cases), tmp_path, threading.Event())
    assert [(log.framed, log.exit) for log in only.logs] == [(True, 0)] * 3
    assert [log.text for log in only.logs] == ["left\n", "right\n", "fine\n"]


def test_an_out_of_memory_kill_is_told_from_an_exit(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    hog = "x=a; while :; do x=$x$x; done"
    (only,) = run_trial(
        trial(base_kernel, root, case("hog", hog, 60.0)), tmp_path, threading.Event()
    )
    assert only.logs[0].ended == "oom"


def test_the_death_of_qemu_is_not_taken_for_a_panic(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    def kill_qemu() -> None:
        deadline = time.monotonic() + 60
        results = tmp_path / "boot-0/results.log"
        while time.monotonic() < deadline:
            if results.exists() and "begin t/sleep" in results.read_text():
                break
            time.sleep(0.05)
        for pid in descendants(os.getpid()):
            if "qemu-system" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill_qemu).start()
    transcripts = run_trial(
        trial(base_kernel, root, case("sleep", "sleep 30", 40.0)), tmp_path, threading.Event()
    )
    assert transcripts[0].end == "qemu-died"
    assert transcripts[0].logs[0].ended == "died"


def test_a_broken_connection_is_ours_and_not_a_hung_kernel(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    parent = "sed -n 's/^PPid:\t//p' /proc/$1/status"
    script = f"up() {{ {parent}; }}; kill -9 $(up $(up $$)); sleep 20"
    cases = (case("cut", script, 60.0), case("next", "echo fine"))
    first, second = run_trial(trial(base_kernel, root, *cases), tmp_path, threading.Event())
    assert (first.logs[0].ended, first.end) == ("died", "poweroff")
    assert first.logs[0].seconds < 50
    (broken,) = [each for each in judge_guests((first,), cases) if each.case == "t/cut"]
    assert broken.verdict is Verdict.INFRA
    assert [log.text for log in second.logs] == ["fine\n"]


def test_a_kernel_that_never_gets_to_user_space_meets_the_boot_deadline(
    base_kernel: Kernel, root: Rootfs, tmp_path: Path
) -> None:
    boot = Boot(
        base_kernel.image, root.image, Machine(), tmp_path / "boot", 8.0, append="rootdelay=600"
    )
    with Guest(boot) as guest:
        began = time.monotonic()
        assert not guest.boot()
        assert 7 < time.monotonic() - began < 12
        assert guest.returncode is None
        assert "Linux version" in guest.console.read_text(errors="replace")
