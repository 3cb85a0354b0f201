# SPDX-License-Identifier: GPL-2.0-only
"""An interactive shell in a guest: this terminal's keys to the guest, its output back.

The guest is the same as in a run: same root, same swap, same programs.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import sys
import tempfile
import termios
import tty
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko

from runner import case, host, recall, rootfs, symbols
from runner.build import Kernel
from runner.case import Case
from runner.errors import InfraError, UserError
from runner.experiment import (
    CASES,
    ROOT,
    Plan,
    build_arms,
    burden,
    choose_machine,
    refuse_impossible,
)
from runner.guest import Boot, Guest
from runner.host import Progress
from runner.qemu import DRGN, GDB, Machine
from runner.recall import Former
from runner.rootfs import Rootfs
from runner.row import Row
from runner.swap import Swap, parse_facts, set_up_command, swap_named, verify
from runner.transcript import ArmLabel
from runner.trial import BOOT_DEADLINE_S, SWAP_DEADLINE_S

WELCOME = """\
{arm} kernel {release} on {swap} swap. A case by hand: GROUP CASE, for example `cow wr_hit`, or
python3 /twinboot/python/FILE.py. The guest ends with this shell (exit or Ctrl-D)."""
GUEST_GONE = 1
LAST_WORDS = 3000
INFO = "vmcoreinfo"


@dataclass(frozen=True, slots=True)
class Stage:
    """The guest to open a shell in. `scale` is how many times slower its kernel is."""

    plan: Plan
    arm: ArmLabel
    kernel: Kernel
    root: Rootfs
    machine: Machine
    swap: Swap
    seed: int
    scale: float
    case: Case | None = None

    @property
    def boot(self) -> Boot:
        """Without the folder, which is made when the guest is."""
        mib = self.swap.mib if self.swap.needs_disk else 0
        image, root, deadline = self.kernel.image, self.root.image, BOOT_DEADLINE_S * self.scale
        return Boot(image, root, self.machine, Path(), deadline, swap_disk_mib=mib)


@dataclass(frozen=True, slots=True)
class Debuggers:
    """What is to be attachable from another terminal."""

    gdb: bool = False
    drgn: bool = False


def of_plan(plan: Plan, arm: ArmLabel, wanted: str | None, progress: Progress) -> Stage:
    """One arm of a plan, on its first swap or else on the first one of the case."""
    refuse_impossible(plan)
    chosen = _one_case(wanted) if wanted else None
    kind = plan.swaps[0] if plan.swaps else _first_swap(chosen)
    cache, scale = host.cache_dir(), burden(plan).slowness
    swap = swap_named(kind)
    arms = build_arms(plan, cache, progress)
    kernel = arms.base if arm == "base" else arms.patched
    root = rootfs.build_rootfs(ROOT / "guest-tests", cache, progress)
    machine = choose_machine(plan, kernel, root, cache, progress)
    return Stage(plan, arm, kernel, root, machine, swap, plan.seed, scale, chosen)


def of_row(former: Former, row: Row, arm: ArmLabel, progress: Progress) -> Stage:
    """The guest of a row of an earlier run."""
    recall.refuse_impossible(former)
    kernels, root = recall.programs(former, progress)
    scale = burden(former.plan).slowness
    machine = recall.machine(former, kernels[arm], root, host.cache_dir())
    swap, seed = swap_named(row.swap), former.saved.twins.seed
    plan = recall.plan_as_built(former)
    return Stage(plan, arm, kernels[arm], root, machine, swap, seed, scale, row.case)


def _one_case(wanted: str) -> Case:
    found = case.select(case.load(CASES), (wanted,))
    if len(found) != 1:
        ids = ", ".join(each.id for each in found)
        raise UserError(f"--case {wanted} is a group; choose one of {ids}")
    return found[0]


def _first_swap(chosen: Case | None) -> str:
    return (chosen.default or chosen.swaps)[0] if chosen else "zram"


def open_shell(stage: Stage, wanted: Debuggers, progress: Progress) -> int:
    """Boot the stage, set its swap up and attach; returns the shell's exit code.

    When the guest dies under the shell its console is shown and kept, and the code is 1.
    """
    cache = host.cache_dir()
    found = (
        symbols.build_for(stage.plan, stage.arm, stage.kernel, cache, progress)
        if (wanted.gdb or wanted.drgn)
        else None
    )
    machine = replace(
        stage.machine, gdb=GDB if wanted.gdb else None, drgn=DRGN if wanted.drgn else None
    )
    folder = Path(tempfile.mkdtemp(dir=cache, prefix="shell-"))
    keep = False
    try:
        with Guest(replace(stage.boot, machine=machine, folder=folder)) as guest:
            _prepare(stage, guest)
            print(welcome(stage))
            if found is not None:
                host.write_atomic(folder / INFO, symbols.core_info(stage.kernel, found))
                print(debugger_lines(found, wanted, folder))
            code = attach(guest.shell(os.environ.get("TERM", "linux"), _size_here()))
            keep = code < 0
            if keep:
                print(_last_words(guest))
            return GUEST_GONE if keep else code
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _prepare(stage: Stage, guest: Guest) -> None:
    """Boot it and set its swap up, or say why not."""
    if not guest.boot():
        end = guest.console.read_text(errors="replace")[-1500:] or guest.last_words
        raise InfraError(f"the {stage.arm} kernel did not boot; its console ends with:\n{end}")
    command = set_up_command(stage.swap, stage.seed, stage.scale)
    said = guest.run(command, SWAP_DEADLINE_S * stage.scale)
    verify(stage.swap, parse_facts(said.output), stage.kernel.release)


def welcome(stage: Stage) -> str:
    """What there is in the guest, and the case's own command line."""
    said = WELCOME.format(arm=stage.arm, release=stage.kernel.release, swap=stage.swap.kind)
    if stage.case is None or not stage.case.program:
        return said
    return f"{said}\n{stage.case.id}: {shlex.join(stage.case.program)}"


def debugger_lines(found: symbols.Symbols, wanted: Debuggers, folder: Path) -> str:
    """The command lines for another terminal."""
    lines = []
    if wanted.gdb:
        # beside vmlinux are the kernel's own scripts, which gdb loads only where it is told to
        trust = ("-iex", f"add-auto-load-safe-path {found.vmlinux.parent}")
        words = ("gdb", "-q", *trust, found.vmlinux, "-ex", f"target remote {folder / GDB}")
        lines.append(f"gdb:  {shlex.join(str(word) for word in words)}")
    if wanted.drgn:
        lines.append(f"drgn: {symbols.drgn_command(folder / DRGN, folder / INFO, found)}")
    return "\n".join(lines)


def _last_words(guest: Guest) -> str:
    """Why the shell ended: the end of the kernel's console, and where the whole of it is."""
    guest.wait_end(2.0)
    end = guest.console.read_text(errors="replace")[-LAST_WORDS:]
    return f"{end}\nthe guest is gone; its console: {guest.console}"


def _size() -> tuple[int, int]:
    columns, lines = shutil.get_terminal_size()
    return columns, lines


def _size_here() -> tuple[int, int] | None:
    """None where nobody types: commands come from a pipe or a file."""
    return _size() if os.isatty(sys.stdin.fileno()) else None


def attach(channel: paramiko.Channel) -> int:
    """Connect standard input and output with the guest's until its shell ends.

    The end of standard input is the end of the shell's. Returns the shell's exit code, -1 when
    the connection broke instead.
    """
    keys = sys.stdin.fileno()
    if os.isatty(keys):
        _type(channel, keys)
    else:
        _pump(channel, keys)
    return channel.recv_exit_status()


def _type(channel: paramiko.Channel, keys: int) -> None:
    """Every key goes to the guest, Ctrl-C too, and the window's size."""
    signal.signal(signal.SIGWINCH, lambda *_: channel.resize_pty(*_size()))
    before = termios.tcgetattr(keys)
    try:
        tty.setraw(keys)
        _pump(channel, keys)
    finally:
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _pump(channel: paramiko.Channel, keys: int) -> None:
    watched: list[paramiko.Channel | int] = [channel, keys]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if channel in ready:
            said = channel.recv(65536)
            if not said:
                return
            os.write(sys.stdout.fileno(), said)
        if keys in ready:
            typed = os.read(keys, 4096)
            with contextlib.suppress(OSError):  # the shell ended before its input did
                if typed:
                    channel.sendall(typed)
                    continue
                channel.shutdown_write()
            watched.remove(keys)
