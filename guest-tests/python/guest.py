# SPDX-License-Identifier: GPL-2.0-only
"""What the Python guest cases stand on: KTAP output, counters, knobs and a memory cgroup.

It knows no scenario, and imports little, because it runs in a guest with hardly any memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
import time

TYPE_CHECKING = False  # typing is slow to import in an emulated guest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

PAGE = 4096
MADV_PAGEOUT = 21  # linux/mman.h; the mmap module has no name for it
EXIT_FAIL, EXIT_USAGE, EXIT_SKIP = 1, 2, 4
CGROUPS = "/sys/fs/cgroup"


class Skip(Exception):
    """This kernel or swap cannot have the precondition."""


class Broken(Exception):
    """A precondition that should have held did not: no verdict is worth anything."""


class _Run:
    """State of this one run: what was planned, judged, and has to be put back."""

    def __init__(self) -> None:
        self.planned = 0
        self.judged = 0
        self.failed = 0
        self.knobs: list[tuple[str, str]] = []
        self.cgroup = ""
        self.children: list[int] = []


_run = _Run()


# ---- KTAP -----------------------------------------------------------------------------------


def say(line: str) -> None:
    print(line, flush=True)


def plan(invariants: int) -> None:
    _run.planned = invariants
    say(f"1..{invariants}")


def proof(name: str, ok: bool, text: str) -> None:
    say(f"# proof: {name} {'ok' if ok else 'missing'} {text}")


def measure(name: str, value: int, unit: str) -> None:
    say(f"# measure: {name} {value} {unit}")


def verdict(name: str, ok: bool, text: str) -> None:
    _run.judged += 1
    _run.failed += not ok
    say(f"{'ok' if ok else 'not ok'} {_run.judged} {name} {text}")


def _skip_rest(reason: str) -> int:
    if not _run.planned:
        say(f"1..0 # SKIP {reason}")
    while _run.judged < _run.planned:
        _run.judged += 1
        say(f"ok {_run.judged} not_reached # SKIP {reason}")
    return EXIT_SKIP


# ---- one case, one run ----------------------------------------------------------------------


def _in_guest() -> bool:
    if os.environ.get("TWINBOOT_GUEST"):
        return True
    return "twinboot.guest=1" in read_text("/proc/cmdline").split()


def _judge(case: Callable[[], None]) -> int:
    try:
        case()
    except Skip as reason:
        return _skip_rest(str(reason))
    except Broken as reason:
        say(f"# proof: setup missing {reason}")
        return _skip_rest(str(reason))
    if _run.judged != _run.planned:
        say(f"Bail out! {_run.judged} of {_run.planned} invariants judged")
        return EXIT_FAIL
    return EXIT_FAIL if _run.failed else 0


def _same_layout_every_time() -> None:
    """Start once more without address and hash randomization, or the counts would vary."""
    if os.environ.get("PYTHONHASHSEED") == "0":
        return
    os.environ["PYTHONHASHSEED"] = "0"
    no_randomize = 0x0040000  # ADDR_NO_RANDOMIZE, linux/personality.h
    ctypes.CDLL(None).personality(no_randomize)
    os.execv(sys.executable, sys.orig_argv)


def run(case: Callable[[], None]) -> NoReturn:
    """Run case() and exit by kselftest's convention; refuses outside a guest."""
    if not _in_guest():
        print("Refusing to run: this is not a twinboot guest.", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    _same_layout_every_time()
    os.sched_setaffinity(0, {0})
    say("KTAP version 1")
    code = EXIT_FAIL
    try:
        code = _judge(case)
    finally:
        restore()
    sys.exit(code)


# ---- system state, put back at any end ------------------------------------------------------


def read_text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def write_text(path: str, text: str) -> None:
    # Unbuffered: sysfs and cgroup files want one write, and say no in it
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def knob_set(path: str, value: str) -> None:
    if not os.path.exists(path):
        raise Skip(f"this kernel has no {path}")
    _run.knobs.append((path, read_text(path)))
    write_text(path, value)


def make_memcg(limit: int) -> None:
    """Make a memory cgroup with a limit in bytes; it is removed at the end.

    The limit is memory.high, which waits for reclaim. Above memory.max reclaim is tried
    16 times (mm/memcontrol.c, try_charge), and where all of a small group is under
    writeback that ends in an OOM kill: on 6.12 in 2 of 13 runs. memory.max stands a
    quarter above, so that nothing grows without end.
    """
    group = f"{CGROUPS}/twinboot.{os.getpid()}"
    # Harmless if the runner has enabled it; if it cannot be, the check below says so
    with contextlib.suppress(OSError):
        write_text(f"{CGROUPS}/cgroup.subtree_control", "+memory")
    try:
        os.mkdir(group)
    except OSError as error:
        raise Skip(f"no cgroup v2 at {CGROUPS}: {error.strerror}") from error
    _run.cgroup = group
    if not os.path.exists(f"{group}/memory.max"):
        raise Skip("no memory controller in cgroup v2")
    write_text(f"{group}/memory.high", str(limit))
    write_text(f"{group}/memory.max", str(limit + limit // 4))


def join_memcg(process: int = 0) -> None:
    """Move a process, without a number this one, under the limit.

    What it has allocated before stays outside.
    """
    write_text(f"{_run.cgroup}/cgroup.procs", str(process))


def enter_memcg(limit: int) -> None:
    """make_memcg() and join_memcg() in one."""
    make_memcg(limit)
    join_memcg()


def kill_memcg() -> None:
    """End all that is left in the group, its killer excepted, and wait until it is gone."""
    for _ in range(200):
        others = [int(pid) for pid in read_text(f"{_run.cgroup}/cgroup.procs").split()]
        others = [pid for pid in others if pid != os.getpid()]
        if not others:
            return
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    raise Broken("a killed process does not end")


def squeeze_memcg() -> None:
    """Reclaim all that the group has, the swap cache of those who are gone included."""
    high = f"{_run.cgroup}/memory.high"
    limit = read_text(high)
    write_text(high, "0")
    write_text(high, limit)


def restore() -> None:
    for child in _run.children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _run.children.clear()
    if _run.cgroup:
        write_text(f"{CGROUPS}/cgroup.procs", "0")
        kill_memcg()
        os.rmdir(_run.cgroup)
        _run.cgroup = ""
    while _run.knobs:
        path, old = _run.knobs.pop()
        write_text(path, old)


def spawn(task: Callable[[], int]) -> int:
    """Fork a child that exits with task()'s value; it neither judges nor restores."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _run.children.append(child)
        return child
    code = 255
    try:
        code = task()
    finally:
        os._exit(code)


def reap(child: int) -> int:
    """The child's exit value, or -signal."""
    status = os.waitpid(child, 0)[1]
    _run.children.remove(child)
    return os.waitstatus_to_exitcode(status)


# ---- observing ------------------------------------------------------------------------------


def swap_kind() -> str:
    return os.environ.get("TWINBOOT_SWAP", "none")


def seed() -> int:
    return int(os.environ.get("TWINBOOT_SEED", "1"), 0)


def vmstat(name: str) -> int:
    """A counter of /proc/vmstat; a name that ends in '*' is the sum over that prefix."""
    total = 0
    for line in read_text("/proc/vmstat").splitlines():
        counter, value = line.split()
        if counter == name or (name[-1] == "*" and counter.startswith(name[:-1])):
            total += int(value)
    return total


def swap_used() -> int:
    """Swap slots in use. Up to 64 that are free are counted for each CPU (mm/swap_slots.c)."""
    fields = dict(line.split(":") for line in read_text("/proc/meminfo").splitlines())
    return (int(fields["SwapTotal"].split()[0]) - int(fields["SwapFree"].split()[0])) * 1024 // PAGE


def own_swapped() -> int:
    """Pages of this process that are out (VmSwap)."""
    fields = dict(line.split(":", 1) for line in read_text("/proc/self/status").splitlines())
    return int(fields["VmSwap"].split()[0]) * 1024 // PAGE


class SwapTraffic:
    """Counts from here on: pages moved to and from swap, and what else was allocated."""

    # On these a page written to swap is a page allocated by the device
    _IN_MEMORY = ("zram", "ramdisk", "nullblk")

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> tuple[int, int, int]:
        return vmstat("pswpin"), vmstat("pswpout"), vmstat("pgalloc_*")

    def swap_ins(self) -> int:
        return vmstat("pswpin") - self._before[0]

    def measure(self) -> None:
        ins, outs, allocations = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        # One page for each that comes in, and one on the device for each that goes out, is
        # what it must cost: how many there are varies with reclaim, and the rest hardly does
        needed = ins + (outs if swap_kind() in self._IN_MEMORY else 0)
        measure("swap_ins", ins, "pages")
        measure("swap_outs", outs, "pages")
        measure("other_allocations", allocations - needed, "pages")


def require_swap() -> None:
    if swap_kind() == "none":
        raise Skip("needs swap")


def count_swapped(address: int, pages: int) -> int:
    """Pages that are out (pagemap bit 62)."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(address // PAGE * 8)
        entries = file.read(pages * 8)
    return sum(entry >> 62 & 1 for (entry,) in struct.iter_unpack("<Q", entries))
