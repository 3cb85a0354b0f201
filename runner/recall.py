# SPDX-License-Identifier: GPL-2.0-only
"""Finds again what an earlier run was made of: its kernels, its root folder, its machine.

It boots nothing. What was cleaned away is built again, and refused where it comes out another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runner import accel, evidence, host, needs, rootfs
from runner.boots import judged
from runner.build import Kernel, fingerprint, kept
from runner.comparison import Comparison
from runner.errors import TwinbootError, UserError
from runner.evidence import Evidence
from runner.experiment import (
    Arms,
    Plan,
    build_arms,
    choose_programs,
    foreign_wanted,
    plan_of,
    read_inputs,
)
from runner.host import Progress
from runner.judging import GUEST
from runner.matrix import ARMS
from runner.patchset import Patch
from runner.qemu import Machine
from runner.rootfs import Rootfs
from runner.row import Row
from runner.swap import swap_named
from runner.transcript import ArmLabel, Transcript
from runner.twins import Arm


@dataclass(frozen=True, slots=True)
class Former:
    """An earlier run as its folder tells it."""

    folder: Path
    plan: Plan
    saved: Evidence
    comparison: Comparison

    def arm(self, label: ArmLabel) -> Arm:
        return self.saved.twins.base if label == "base" else self.saved.twins.patched

    @property
    def machine(self) -> Machine:
        """What its guests were made of, whatever this host would choose today.

        No path of a saved plan goes into it.
        """
        platform = self.saved.twins.platform
        machine = Machine(platform.accelerator, platform.cpus, platform.memory_mib)
        return replace(machine, icount=self.plan.cost)


def load(folder: Path) -> Former:
    """Read and judge an earlier run; UserError if the folder is not one."""
    saved = evidence.load_run(folder)
    return Former(folder, plan_of(folder), saved, judged(saved))


def rows(former: Former, wanted: str | None, swap: str | None) -> tuple[Row, ...]:
    """The rows of a case or group; of nobody's choice, those in which the arms differ or fail."""
    every = former.comparison.rows
    named = [row for row in every if wanted in (None, row.case.id, row.case.group)]
    if not named:
        ids = _listed(row.case.id for row in every)
        raise UserError(f"{former.folder} has no row {wanted}; its cases are {ids}")
    found = [row for row in named if swap in (None, row.swap)]
    if not found:
        swaps, what = _listed(row.swap for row in named), f" {wanted}" if wanted else ""
        raise UserError(f"{former.folder} has no row{what} on {swap}, only on {swaps}")
    if wanted:
        return tuple(found)
    telling = [row for row in found if row.findings or row.broken_on_both]
    if not telling:
        where = f" on {swap}" if swap else ""
        raise UserError(f"nothing was found in {former.folder}{where}; name a case to run it again")
    return tuple(telling)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def one_row(former: Former, wanted: str, swap: str | None) -> Row:
    """The row of a case: on the swap that was named, else on the one where most was found."""
    fitting = rows(former, wanted, swap)
    if len({row.case.id for row in fitting}) > 1 or fitting[0].case == GUEST:
        cases = ", ".join(dict.fromkeys(row.case.id for row in former.comparison.rows[1:]))
        raise UserError(f"{wanted} is not one case; the cases of {former.folder} are {cases}")
    return max(fitting, key=lambda row: row.change)


def kernels(former: Former, cache: Path, progress: Progress) -> Mapping[ArmLabel, Kernel]:
    """Both kernels: kept ones by fingerprint, else built again and their code the same."""
    found: dict[ArmLabel, Kernel] = {}
    built: Arms | None = None
    for label in ARMS:
        arm = former.arm(label)
        kernel = kept(cache, arm.fingerprint)
        if kernel is None:
            progress(f"the {label} kernel of that run is no longer kept; building it again")
            built = built or build_arms(plan_as_built(former), cache, progress)
            kernel = built.base if label == "base" else built.patched
        if kernel.signature != arm.signature:
            raise UserError(
                f"the {label} kernel of {former.folder} is gone, and built again it is another "
                f"(code {kernel.signature[:12]}, was {arm.signature[:12]}): the source, the "
                "configuration or the compiler has changed; run the experiment anew"
            )
        found[label] = kernel
    return found


def plan_as_built(former: Former) -> Plan:
    """The plan with the patches and fragments that the run kept, its source by commit or version.

    It is for building alone: what a fragment costs a guest goes by the name that it had.
    """
    plan = replace(former.plan, source=_pinned(former.plan.source, former.arm("base").source))
    if fragments := evidence.saved_fragments(former.folder):
        plan = replace(plan, kept_fragments=fragments, fragments=())
    kept_there = evidence.saved_patches(former.folder)
    return replace(plan, patch=str(kept_there), upto=0) if kept_there else plan


def _pinned(source: str, built: str) -> str:
    """`built` is what the kernel's papers say: `git:PATH@topic (commit ...)`, for example."""
    kind, _, spec = source.partition(":")
    if kind == "git" and (commit := re.search(r" \(commit ([0-9a-f]{40,64})\)$", built)):
        return f"git:{spec.rpartition('@')[0]}@{commit.group(1)}"
    if (
        kind == "debian"
        and "=" not in spec
        and (version := re.search(r" \(\S+ (\S+) from ", built))
    ):
        return f"{source}={version.group(1)}"
    return source


def patches(former: Former, cache: Path, progress: Progress) -> tuple[Patch, ...]:
    """The patches of that run; none where they are no longer to be had as they were."""
    try:
        request = read_inputs(plan_as_built(former), cache, progress).request()
        same = fingerprint(request, cache) == former.arm("patched").fingerprint
    except TwinbootError:
        return ()
    return request.patchset.patches if same else ()


def root(former: Former, cache: Path, progress: Progress) -> Rootfs:
    """The run's root folder: the kept one by its digest, else composed again and the same."""
    digest = former.arm("base").programs_digest
    if re.fullmatch(r"[0-9a-f]{64}", digest) and (found := rootfs.kept(cache, digest, progress)):
        return found
    progress("the guest programs of that run are no longer kept; composing them again")
    _, now = choose_programs(former.plan, (), foreign_wanted(former.plan), cache, progress)
    if now.digest != digest:
        raise UserError(
            f"the guest programs of {former.folder} are gone, and those of today are others; "
            "run the experiment anew"
        )
    return now


def refuse_impossible(former: Former) -> None:
    """UserError or InfraError at once where the run's guests cannot boot on this host."""
    needs.refuse_guest(former.machine.accelerator, former.machine)


def machine(former: Former, kernel: Kernel, folder: Rootfs, cache: Path) -> Machine:
    """The run's machine; UserError where it had KVM and this host has not."""
    told = former.machine
    if told.accelerator == "kvm":
        accel.choose("kvm", kernel.image, folder.image, cache)
    return told


def titled(script: Transcript) -> str:
    """Which guest it was, and how it ended."""
    boot = script.boot
    ran = [log.case for log in script.logs if log.ended != "exit"]
    during = f" during {ran[-1]}" if ran else ""
    return (
        f"{boot.arm} on {boot.swap}, run {boot.repeat}, guest {boot.part + 1}: {script.end}{during}"
    )


def vmcore(former: Former, script: Transcript) -> Path:
    """Where a guest's memory is, if it was kept."""
    boot = script.boot
    trial = f"{boot.arm}-{swap_named(boot.swap).kind}-{boot.repeat}"
    return former.folder / "trials" / trial / f"boot-{boot.part}" / "vmcore"


def programs(former: Former, progress: Progress) -> tuple[Mapping[ArmLabel, Kernel], Rootfs]:
    """Both kernels and the root folder, from this user's cache."""
    cache = host.cache_dir()
    return kernels(former, cache, progress), root(former, cache, progress)
