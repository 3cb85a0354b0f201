# SPDX-License-Identifier: GPL-2.0-only
"""The pipeline, read first: from a plan to two kernels, to guests, to a comparison.

Each step is a module of its own; here is only their order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from runner import accel, case, evidence, host, matrix, rootfs, source, variant
from runner.build import BuildRequest, Kernel, build
from runner.case import Case
from runner.comparison import Comparison, compare_transcripts
from runner.errors import UserError
from runner.host import Progress
from runner.kconfig import Kconfig
from runner.kconfig import load as load_kconfig
from runner.matrix import Matrix
from runner.patchset import PatchSet
from runner.patchset import load as load_patches
from runner.qemu import BootFiles, Machine, guest_argv
from runner.rootfs import Rootfs
from runner.swap import Swap, swap_named
from runner.transcript import Transcript
from runner.trial import Trial
from runner.twins import Arm, Platform, Twins

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "guest-tests/cases"
FRAGMENTS = ("base", "swap", "thp", "ksm", "memcg")
DEFAULT_SOURCE = "debian:linux-source-5.10"
PATCHES = ROOT / "patches"
DEFAULT_PATCH = PATCHES / "reuse-swap-page/sketch"
# Debug kernels are slower, and so are their cases' deadlines.
SLOWNESS = {"debug-vm": 3.0, "lockdep": 5.0, "kasan": 10.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for. `jobs` 0 means what fits.

    Empty `cases` and `swaps` mean the default selection, or with `full` everything there is.
    """

    folder: Path
    source: str = DEFAULT_SOURCE
    patch: str = str(DEFAULT_PATCH)
    fragments: tuple[str, ...] = ()
    compiler: str = "gcc"
    cases: tuple[str, ...] = ()
    swaps: tuple[str, ...] = ()
    repeats: int = 2
    jobs: int = 0
    accelerator: str = "auto"
    machine: Machine = field(default_factory=Machine)
    seed: int = 1
    full: bool = False


@dataclass(frozen=True, slots=True)
class Arms:
    """Both kernels, from the same source, configuration and compiler."""

    fetched: source.Fetched
    patchset: PatchSet
    kconfig: Kconfig
    base: Kernel
    patched: Kernel
    notes: tuple[str, ...] = ()


def run_experiment(plan: Plan, progress: Progress) -> Comparison:
    """Fetch, build, boot, judge, compare; the evidence stays in `plan.folder`."""
    cases = chosen_cases(plan)
    cache = host.cache_dir()
    _begin_folder(plan)
    arms = build_arms(plan, cache, progress)
    root = rootfs.build_rootfs(ROOT / "guest-tests", cache, progress)
    machine = choose_machine(plan, arms.base, root, cache, progress)
    evidence.begin_run(plan.folder, twins_of(plan, arms, root, machine), cases)
    whole = matrix_of(plan, arms, root, machine, cases)
    todo = tuple(matrix.trials(whole))
    jobs = plan.jobs or matrix.fitting_jobs(machine)
    progress(f"{len(todo)} guests to boot, {jobs} side by side")

    def keep(_trial: Trial, transcripts: tuple[Transcript, ...]) -> None:
        for transcript in transcripts:
            evidence.save_transcript(plan.folder, transcript)

    matrix.run_all(todo, matrix.Desk(plan.folder / "trials", jobs, keep), progress)
    return compare_saved(plan.folder)


def compare_saved(folder: Path) -> Comparison:
    """Judge and compare the evidence of a run again, from what is on disk alone."""
    saved = evidence.load_run(folder)
    return compare_transcripts(saved.cases, saved.transcripts, saved.twins)


def chosen_cases(plan: Plan) -> tuple[Case, ...]:
    """The cases that were asked for; UserError when none of them fits the swaps."""
    if plan.repeats < 1:
        raise UserError(f"--repeats is {plan.repeats}; each case has to run at least once")
    chosen = case.select(case.load(CASES), plan.cases)
    if not (plan.full or plan.cases or plan.swaps):
        chosen = case.by_default(chosen)
    kinds = {swap.kind for swap in swaps_of(plan, chosen)}
    fitting = tuple(each for each in chosen if kinds & set(each.swaps))
    if not fitting:
        raise UserError(
            "none of these cases runs on these kinds of swap; see `twinboot list cases`"
        )
    return fitting


def swaps_of(plan: Plan, cases: tuple[Case, ...]) -> tuple[Swap, ...]:
    """The kinds of swap to boot with: those asked for, or all that some case fits."""
    wanted = plan.swaps or tuple(dict.fromkeys(kind for each in cases for kind in each.swaps))
    return tuple(swap_named(kind) for kind in dict.fromkeys(wanted))


def build_arms(plan: Plan, cache: Path, progress: Progress) -> Arms:
    """Both kernels. The base is the empty prefix of the patch set, so it is no special case.

    Which patches those are may depend on the source's version, known once it is fetched.
    """
    asked = variant.find(plan.patch, PATCHES)
    kconfig = load_kconfig((*FRAGMENTS, *plan.fragments), ROOT / "kconfigs")
    fetched = source.fetch(source.parse_source(plan.source), cache, progress)
    chosen = variant.choose(asked, fetched.version)
    patchset = load_patches(chosen.path)
    notes: tuple[str, ...] = ()
    if chosen.name:
        patchset = dataclasses.replace(patchset, name=chosen.name)
        notes = (f"patch set {chosen.name} for Linux {fetched.version}",)
        progress(notes[0])
    base, patched = (
        build(BuildRequest(fetched, each, kconfig, plan.compiler), cache, progress)
        for each in (patchset.prefix(0), patchset)
    )
    return Arms(fetched, patchset, kconfig, base, patched, notes)


def choose_machine(
    plan: Plan, kernel: Kernel, root: Rootfs, cache: Path, progress: Progress
) -> Machine:
    """The guests' machine, with the accelerator that a probe boot showed to work."""
    found = accel.choose(plan.accelerator, kernel.image, root.path, cache)
    progress(f"guests run under {found.name.upper()} ({found.why})")
    return dataclasses.replace(plan.machine, accelerator=found.name)


def twins_of(plan: Plan, arms: Arms, root: Rootfs, machine: Machine) -> Twins:
    """Both arms with digests of all that must be equal in them, and what they run on."""
    touched = {name for patch in arms.patchset.patches for name in patch.files}
    notes = (*arms.fetched.notes, *arms.notes, *arms.base.notes, *arms.patched.notes)
    return Twins(
        base=_arm("base", arms.base, root, machine),
        patched=_arm("patched", arms.patched, root, machine),
        platform=Platform(
            machine.accelerator, machine.cpus, machine.memory_mib, accel.qemu_version()
        ),
        repeats=plan.repeats,
        seed=plan.seed,
        kconfig_patched=any(Path(name).name.startswith("Kconfig") for name in touched),
        notes=tuple(dict.fromkeys(notes)),
    )


def _arm(label: str, kernel: Kernel, root: Rootfs, machine: Machine) -> Arm:
    """The QEMU digest is over the command line with the paths of one boot left out."""
    nowhere = Path("/")
    argv = guest_argv(machine, BootFiles(nowhere, root.path, nowhere, nowhere), 0)
    return Arm(
        label=label,
        release=kernel.release,
        fingerprint=kernel.fingerprint,
        signature=kernel.signature,
        source=kernel.source,
        patches=kernel.patches,
        compiler=kernel.compiler,
        config_digest=kernel.config_sha256,
        programs_digest=root.digest,
        qemu_digest=hashlib.sha256("\0".join(argv).encode()).hexdigest(),
    )


def matrix_of(
    plan: Plan, arms: Arms, root: Rootfs, machine: Machine, cases: tuple[Case, ...]
) -> Matrix:
    """Everything that the boots of a run are made of."""
    return Matrix(
        base=arms.base,
        patched=arms.patched,
        rootfs=root.path,
        machine=machine,
        swaps=swaps_of(plan, cases),
        cases=cases,
        repeats=plan.repeats,
        seed=plan.seed,
        scale=max(SLOWNESS.get(name, 1.0) for name in (*FRAGMENTS, *plan.fragments)),
    )


def _begin_folder(plan: Plan) -> None:
    """The plan is written first, so that a run that is killed still tells what it was."""
    if (plan.folder / "plan.json").exists():
        raise UserError(f"{plan.folder} holds a run already; choose another --out")
    told = dataclasses.asdict(plan)
    host.write_atomic(plan.folder / "plan.json", json.dumps(told, indent=1, default=str) + "\n")
