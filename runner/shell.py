# SPDX-License-Identifier: GPL-2.0-only
"""An interactive shell in a guest: this terminal's keys to the guest, its output back.

The guest is the same as in a run: same root, same swap, same programs.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import tempfile
import termios
import tty
from pathlib import Path

import paramiko

from runner import host, rootfs
from runner.errors import InfraError, UserError
from runner.experiment import ROOT, Plan, build_arms, burden, choose_machine
from runner.guest import Boot, Guest
from runner.host import Progress
from runner.swap import parse_facts, set_up_command, swap_named, verify
from runner.trial import BOOT_DEADLINE_S, SWAP_DEADLINE_S

WELCOME = """\
{arm} kernel {release} on {swap} swap. A case by hand: GROUP CASE, for example `cow wr_hit`, or
python3 /twinboot/python/FILE.py. The guest ends with this shell (exit or Ctrl-D)."""
GUEST_GONE = 1
LAST_WORDS = 3000


def open_shell(plan: Plan, arm: str, progress: Progress) -> int:
    """Boot one arm of `plan`, set its first swap up and attach; returns the shell's exit code.

    When the guest dies under the shell its console is shown and kept, and the code is 1.
    """
    if arm not in ("base", "patched"):
        raise UserError(f"--arm is {arm!r}; choose base or patched")
    scale = burden(plan).slowness
    swap = swap_named(plan.swaps[0]).slowed(scale)
    cache = host.cache_dir()
    arms = build_arms(plan, cache, progress)
    kernel = arms.base if arm == "base" else arms.patched
    root = rootfs.build_rootfs(ROOT / "guest-tests", cache, progress)
    machine = choose_machine(plan, kernel, root, cache, progress)
    folder = Path(tempfile.mkdtemp(dir=cache, prefix="shell-"))
    keep = False
    mib = swap.mib if swap.needs_disk else 0
    boot = Boot(
        kernel.image, root.path, machine, folder, BOOT_DEADLINE_S * scale, swap_disk_mib=mib
    )
    try:
        with Guest(boot) as guest:
            if not guest.boot():
                end = guest.console.read_text(errors="replace")[-1500:]
                raise InfraError(f"the {arm} kernel did not boot; its console ends with:\n{end}")
            said = guest.run(set_up_command(swap, plan.seed), SWAP_DEADLINE_S * scale)
            verify(swap, parse_facts(said.output), kernel.release)
            print(WELCOME.format(arm=arm, release=kernel.release, swap=swap.kind))
            code = attach(guest.shell(os.environ.get("TERM", "linux"), _size()))
            keep = code < 0
            if keep:
                print(_last_words(guest))
            return GUEST_GONE if keep else code
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _last_words(guest: Guest) -> str:
    """Why the shell ended: the end of the kernel's console, and where the whole of it is."""
    guest.wait_end(2.0)
    end = guest.console.read_text(errors="replace")[-LAST_WORDS:]
    return f"{end}\nthe guest is gone; its console: {guest.console}"


def _size() -> tuple[int, int]:
    columns, lines = shutil.get_terminal_size()
    return columns, lines


def attach(channel: paramiko.Channel) -> int:
    """Connect standard input and output with the guest's until its shell ends.

    Returns the shell's exit code, -1 when the connection broke instead.
    """
    keys = sys.stdin.fileno()
    signal.signal(signal.SIGWINCH, lambda *_: channel.resize_pty(*_size()))
    before = termios.tcgetattr(keys) if os.isatty(keys) else None
    try:
        if before is not None:
            tty.setraw(keys)
        _pump(channel, keys)
    finally:
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        if before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
    return channel.recv_exit_status()


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
            if typed:
                channel.sendall(typed)
            else:
                channel.shutdown_write()
                watched.remove(keys)
