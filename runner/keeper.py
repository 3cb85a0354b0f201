# SPDX-License-Identifier: GPL-2.0-only
"""Runs one command and ends everything it started as soon as twinboot is gone.

Run by path with `python3 -I -S keeper.py COMMAND ...`: it imports nothing of ours and knows
nothing of kernels. It must outlive `kill -9` of twinboot: standard input is a pipe whose other
end only twinboot holds, so end-of-file there means that twinboot is gone, however it went. As a
child subreaper (prctl(2)) it inherits what the command leaves behind, daemons included.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 2.0


def children_of(pid: int) -> list[int]:
    """The pids of the direct children of all threads of `pid`."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as stream,
            ):
                found += [int(word) for word in stream.read().split()]
    return found


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, parents first."""
    below: list[int] = []
    for child in children_of(pid):
        below += [child, *descendants(child)]
    return below


def reap() -> dict[int, int]:
    """Collect every child that has ended: pid to wait status."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def end_everything() -> None:
    """SIGTERM to all below us, a little patience, then SIGKILL until nothing is left."""
    number, deadline = signal.SIGTERM, time.monotonic() + PATIENCE_S
    while True:
        reap()
        below = descendants(os.getpid())
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        time.sleep(0.02)


def watch(pid: int, wakeup: int) -> int:
    """Wait for the command to end or for twinboot to be gone; the exit code either way."""
    while True:
        ready, _, _ = select.select([0, wakeup], [], [], 1.0)
        status = reap().get(pid)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if 0 in ready and os.read(0, 1) == b"":
            return 125
        if wakeup in ready and any(n in STOPS for n in os.read(wakeup, 64)):
            return 143


STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: list[str]) -> int:
    """Start argv with an empty standard input, stay with it, leave nothing behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGCHLD, *STOPS):
        signal.signal(number, lambda *_: None)
    empty = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    try:
        defaults = (signal.SIGPIPE, *STOPS)
        pid = os.posix_spawnp(
            argv[0], argv, dict(os.environ), file_actions=empty, setsigdef=defaults
        )
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        return 127
    code = watch(pid, reading)
    end_everything()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
