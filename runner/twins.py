# SPDX-License-Identifier: GPL-2.0-only
"""The two kernels that a run compares, and the proof that they differ in the patch alone.

It does not say what the kernels did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LABELS = ("base", "patched")


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two kernels, and the digests of all that must be equal in both arms."""

    label: str
    release: str
    fingerprint: str
    signature: str
    source: str
    patches: tuple[str, ...]
    compiler: str
    config_digest: str
    programs_digest: str
    qemu_digest: str


@dataclass(frozen=True, slots=True)
class Platform:
    """What both arms ran on. accelerator: "kvm" or "tcg"."""

    accelerator: str
    cpus: int
    memory_mib: int
    qemu: str


@dataclass(frozen=True, slots=True)
class Twins:
    """The two kernels that were booted, and how. `kconfig_patched`: the patches touch Kconfig.

    `selection` says which part of the cases ran, where twinboot chose it.
    """

    base: Arm
    patched: Arm
    platform: Platform
    repeats: int
    seed: int = 0
    kconfig_patched: bool = False
    notes: tuple[str, ...] = ()
    selection: str = ""

    @property
    def identical(self) -> bool:
        """Whether the patch changes no code."""
        return bool(self.base.signature) and self.base.signature == self.patched.signature

    def unequal(self) -> tuple[str, ...]:
        """What differs between the arms besides the patch; nothing should."""
        pairs = [
            ("the compiler", self.base.compiler, self.patched.compiler),
            ("the source", self.base.source, self.patched.source),
            ("the guest programs", self.base.programs_digest, self.patched.programs_digest),
            ("QEMU's arguments", self.base.qemu_digest, self.patched.qemu_digest),
        ]
        if not self.kconfig_patched:
            pairs.append((".config", self.base.config_digest, self.patched.config_digest))
        return tuple(name for name, base, patched in pairs if base != patched)


def differing(one: Twins, other: Twins, labels: Sequence[str] = LABELS) -> tuple[str, ...]:
    """In what two runs differ that their evidence depends on, looking at these arms.

    How often each case ran and the notes do not count.
    """
    here, there = one.platform, other.platform
    pairs = [
        ("the accelerator", here.accelerator, there.accelerator),
        ("the guest's CPUs", here.cpus, there.cpus),
        ("the guest's memory", here.memory_mib, there.memory_mib),
        ("the version of QEMU", here.qemu, there.qemu),
        ("the seed", one.seed, other.seed),
    ]
    for label in labels:
        pairs += _arm_pairs(getattr(one, label), getattr(other, label))
    return tuple(dict.fromkeys(name for name, mine, theirs in pairs if mine != theirs))


def _arm_pairs(one: Arm, other: Arm) -> list[tuple[str, object, object]]:
    return [
        (f"the {one.label} kernel's source", one.source, other.source),
        (f"the {one.label} kernel's compiler", one.compiler, other.compiler),
        (f"the {one.label} kernel's .config", one.config_digest, other.config_digest),
        (f"the {one.label} kernel's patches", one.patches, other.patches),
        (f"the {one.label} kernel (fingerprint)", one.fingerprint, other.fingerprint),
        (f"the {one.label} kernel's code", one.signature, other.signature),
        ("the guest programs", one.programs_digest, other.programs_digest),
        ("QEMU's arguments", one.qemu_digest, other.qemu_digest),
    ]
