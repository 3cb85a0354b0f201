# SPDX-License-Identifier: GPL-2.0-only
"""What this host can do, found by trying: QEMU, KVM that boots, tools, disk, memory.

It changes nothing; a missing tool comes with the package that has it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from runner import accel, rootfs
from runner.errors import TwinbootError
from runner.experiment import ROOT
from runner.host import Progress
from runner.needs import TO_BOOT, TO_BUILD

TOOLS = {"gcc": "gcc", "patch": "patch", **TO_BUILD, **TO_BOOT}
WITHOUT = {"ccache": "rebuilds are slower without it"}
FREE_DISK_GIB = 6
FREE_MEMORY_MIB = 2048


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; a run is impossible when a `needed` one is not `good`."""

    subject: str
    good: bool
    says: str
    needed: bool = True


def examine(cache: Path, progress: Progress) -> tuple[Finding, ...]:
    """Try everything that a run needs."""
    return (*_tools(), _qemu(), _disk(cache), _memory(), *_optional(), _kvm(cache, progress))


def table(findings: tuple[Finding, ...]) -> Table:
    """The findings, one a line."""
    made = Table(box=None, pad_edge=False, show_header=False)
    for each in findings:
        word = "ok" if each.good else ("MISSING" if each.needed else "no")
        made.add_row(each.subject, word, each.says)
    return made


def _tools() -> Iterator[Finding]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for tool, package in TOOLS.items():
        where = shutil.which(tool, path=path)
        yield Finding(tool, where is not None, where or f"on Debian: apt-get install {package}")


def _qemu() -> Finding:
    try:
        return Finding("qemu", True, accel.qemu_version())
    except TwinbootError as error:
        return Finding("qemu", False, error.message)


def _disk(cache: Path) -> Finding:
    free = shutil.disk_usage(cache).free / 2**30
    says = f"{free:.0f} GiB free in {cache}; two builds of one source take about {FREE_DISK_GIB}"
    return Finding("disk", free >= FREE_DISK_GIB, says)


def _memory() -> Finding:
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = pages >> 20
    says = f"{free} MiB free, {os.cpu_count()} CPUs; a guest takes 1024 MiB and its QEMU"
    return Finding("memory", free >= FREE_MEMORY_MIB, says)


def _optional() -> Iterator[Finding]:
    for tool, without in WITHOUT.items():
        where = shutil.which(tool)
        yield Finding(tool, where is not None, where or without, False)


def _kvm(cache: Path, progress: Progress) -> Finding:
    """KVM counts only where a kernel boots under it, so a kernel is needed to say."""
    images = sorted(cache.glob("kernels/*/bzImage"))
    if not os.access(accel.KVM, os.R_OK | os.W_OK):
        return Finding("kvm", False, f"{accel.KVM} cannot be opened; guests run under TCG", False)
    if not images:
        return Finding("kvm", False, "not tried: no kernel is built yet (twinboot build)", False)
    try:
        root = rootfs.build_rootfs(ROOT / "guest-tests", cache, progress)
        found = accel.probe(images[0], root.image, cache)
    except TwinbootError as error:
        return Finding("kvm", False, f"not tried: {error.message}", False)
    says = f"{found.why}; guests run under {found.name.upper()}"
    return Finding("kvm", found.name == "kvm", says, False)
