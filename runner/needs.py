# SPDX-License-Identifier: GPL-2.0-only
"""What building and booting need of this host, looked at before anything is begun.

It says what is missing and with which package it comes; it tries nothing (doctor.py does).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from runner import accel
from runner.errors import InfraError, UserError
from runner.qemu import Machine

SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
# Tools by the Debian package that has them: to boot a guest, and to make a kernel
TO_BOOT = {
    "qemu-system-x86_64": "qemu-system-x86",
    "git": "git",
    "busybox": "busybox-static",
    "dropbear": "dropbear-bin",
    "dmsetup": "dmsetup",
    "mke2fs": "e2fsprogs",
}
TO_BUILD = {
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "xz": "xz-utils",
}
LEAST_MIB = 128


def refuse_guest(accelerator: str, machine: Machine) -> None:
    """UserError or InfraError where no guest of this kind can boot on this host."""
    accel.refuse(accelerator)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if not LEAST_MIB <= machine.memory_mib <= there:
        raise UserError(
            f"--memory is {machine.memory_mib}; a guest takes at least {LEAST_MIB} MiB, "
            f"and this host has {there} MiB"
        )
    refuse_without(TO_BOOT)


def refuse_without(tools: Mapping[str, str]) -> None:
    """InfraError that names the first of the tools that is not installed, with its package."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    for tool, package in tools.items():
        if shutil.which(tool, path=path) is None:
            raise InfraError(f"`{tool}` is not installed; on Debian: apt-get install {package}")
