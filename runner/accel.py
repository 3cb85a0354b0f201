# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator works here, found by booting: /dev/kvm that opens may still run nothing.

It chooses between KVM and TCG only; a result under one is never compared with the other.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.errors import InfraError, UserError
from runner.guest import Boot, Guest
from runner.qemu import Machine

KVM = Path("/dev/kvm")
CHOICES = ("auto", "kvm", "tcg")
PROBE_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Accelerator:
    """`name` is kvm or tcg; `why` is one clause for the report."""

    name: str
    why: str


def choose(wanted: str, image: Path, rootfs: Path, cache: Path) -> Accelerator:
    """The accelerator for `wanted`: auto, kvm (an error where it does not work) or tcg."""
    refuse(wanted)
    if wanted == "tcg":
        return Accelerator("tcg", "asked for")
    found = probe(image, rootfs, cache)
    if wanted == "kvm" and found.name != "kvm":
        raise _no_kvm(found.why)
    return found


def refuse(wanted: str) -> None:
    """UserError for what is no accelerator, InfraError for KVM where /dev/kvm does not open."""
    if wanted not in CHOICES:
        raise UserError(f"there is no accelerator {wanted!r}; choose auto, kvm or tcg")
    if wanted == "kvm" and (why := _unopened()):
        raise _no_kvm(why)


def _no_kvm(why: str) -> InfraError:
    return InfraError(f"KVM was asked for, but {why}; leave --accel out to use TCG")


def _unopened() -> str:
    """Why /dev/kvm does not open; empty where it does."""
    if os.access(KVM, os.R_OK | os.W_OK):
        return ""
    return f"{KVM} {'cannot be opened' if KVM.exists() else 'does not exist'}"


def probe(image: Path, rootfs: Path, cache: Path) -> Accelerator:
    """Boot `image` under KVM once for each start of the host and version of QEMU."""
    if why := _unopened():
        return Accelerator("tcg", why)
    key = f"{_boot_id()} {qemu_version()}"
    kept = cache / "kvm-probe.json"
    with host.locked(cache / "kvm-probe.lock"):
        known = _load(kept)
        if known.get("key") == key:
            return Accelerator(known["name"], known["why"])
        found = _probe_boot(image, rootfs, cache)
        host.write_atomic(kept, json.dumps({"key": key, "name": found.name, "why": found.why}))
        return found


def qemu_version() -> str:
    """QEMU's own version line; InfraError with the package when QEMU is not installed."""
    if shutil.which("qemu-system-x86_64") is None:
        raise InfraError(
            "qemu-system-x86_64 is not installed; on Debian: apt-get install qemu-system-x86"
        )
    said = host.run(("qemu-system-x86_64", "--version")).stdout.splitlines()
    return said[0].replace("emulator version ", "") if said else "QEMU of unknown version"


def _probe_boot(image: Path, rootfs: Path, cache: Path) -> Accelerator:
    folder = Path(tempfile.mkdtemp(dir=cache, prefix="kvm-probe-"))
    try:
        boot = Boot(image, rootfs, Machine("kvm", cpus=1), folder, deadline=PROBE_DEADLINE_S)
        with Guest(boot) as guest:
            if guest.boot():
                return Accelerator("kvm", "a probe boot worked")
            said = f"ended: {guest.last_words}" if guest.returncode is not None else "hung"
        return Accelerator("tcg", f"{KVM} opens, but a probe boot under KVM {said}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(path: Path) -> dict[str, str]:
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
