# SPDX-License-Identifier: GPL-2.0-only
"""Nothing that we start survives us, however we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runner import host
from runner.keeper import descendants

TREE = "sleep 300 & setsid sleep 301 & trap '' TERM; sleep 302 & wait"


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def wait_for(children: int, pid: int, known: frozenset[int] = frozenset()) -> list[int]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [each for each in descendants(pid) if each not in known]
        if len(found) >= children:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{pid} never had {children} descendants")


def ours_now() -> frozenset[int]:
    """What runs below pytest already: other tests' multiprocessing has a tracker that stays."""
    return frozenset(descendants(os.getpid()))


def wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(pids) == []


def test_ending_a_command_ends_what_it_started_even_what_left_its_session(tmp_path: Path) -> None:
    before = ours_now()
    kept = host.Kept(("sh", "-c", TREE), tmp_path / "out", tmp_path / "err")
    started = wait_for(5, os.getpid(), before)
    kept.end()
    wait_gone(started)


def test_a_command_that_ends_by_itself_leaves_nothing_and_gives_its_exit_code(
    tmp_path: Path,
) -> None:
    before = ours_now()
    kept = host.Kept(("sh", "-c", "sleep 303 & exit 7"), tmp_path / "out", tmp_path / "err")
    assert kept.wait(10) == 7
    assert ours_now() <= before


def test_a_signal_that_kills_the_command_shows_in_its_exit_code(tmp_path: Path) -> None:
    kept = host.Kept(("sh", "-c", "kill -9 $$"), tmp_path / "out", tmp_path / "err")
    assert kept.wait(10) == 128 + 9


def test_kill_9_of_twinboot_ends_everything(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from runner import host; "
        f"host.Kept(('sh', '-c', {TREE!r}), Path(sys.argv[1]), Path(sys.argv[1])); time.sleep(300)"
    )
    ours = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "out")])
    started = wait_for(5, ours.pid)
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    wait_gone(started)


def test_a_command_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    kept = host.Kept(("no-such-program-here",), tmp_path / "out", tmp_path / "err")
    assert kept.wait(10) == 127
    assert "no-such-program-here" in (tmp_path / "err").read_text()
