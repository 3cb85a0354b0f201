# SPDX-License-Identifier: GPL-2.0-only
"""The pipeline, read first: from a plan to two kernels, to guests, to a comparison.

Each step is a module of its own; here is only their order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from runner import (
    accel,
    case,
    foreign,
    given,
    host,
    matrix,
    needs,
    quick,
    rootfs,
    shard,
    source,
)
from runner.baseline import Need
from runner.boots import Boots, begin, boot_and_compare
from runner.build import BuildRequest, Kernel, build, try_patches
from runner.case import Case
from runner.comparison import Comparison
from runner.counted import counted
from runner.errors import UserError
from runner.evidence import Evidence, Origin, save_fragments, save_patches
from runner.guest import refuse_path
from runner.host import Progress
from runner.kconfig import Kconfig, load_kept
from runner.kconfig import load as load_kconfig
from runner.matrix import Matrix
from runner.patchset import PatchSet
from runner.qemu import BootFiles, Machine, guest_argv
from runner.rootfs import Rootfs
from runner.swap import Swap, swap_named
from runner.twins import Arm, Platform, Twins

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "guest-tests/cases"
COSTS = ROOT / "guest-tests/costs"
FRAGMENTS = ("base", "swap", "thp", "ksm", "memcg")
DEFAULT_SOURCE = "debian:linux-source-5.10"
PATCHES = ROOT / "patches"
DEFAULT_PATCH = "sketch"


@dataclass(frozen=True, slots=True)
class Burden:
    """What a fragment costs a guest: all deadlines times `slowness`, at least so many MiB.

    With `allocates` the kernel itself allocates so much that pages allocated say nothing.
    """

    slowness: float = 1.0
    memory_mib: int = 0
    allocates: bool = False


BURDENS = {
    "debug-vm": Burden(3.0),
    "lockdep": Burden(5.0),
    # an eighth of the memory is shadow, and what is freed stays in quarantine for a while
    "kasan": Burden(10.0, 2048, allocates=True),
}
# One thread emulates a machine whose every instruction is counted
COUNTING = 3.0
# The fewest runs in each arm that give an interval of 95 % confidence or more (cost.py)
COST_REPEATS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for. `jobs` 0 means what fits, `confirm` how often doubt runs again.

    Empty `cases` and `swaps` mean the default selection, or with `full` everything there is.
    With foreign programs (`kselftests`, `ltp`, `commands`) ours run only if they are named.
    `upto` is how many of the patches are taken, 0 for all of them. With `cost` the guests' time
    counts instructions, and the cost cases run in place of all others. `quick` takes those cases
    that the patches can affect first, and the base's evidence of an earlier run if one fits.
    `kept_fragments`, where there are any, are all that an earlier run had, and `fragments` come
    after them.
    """

    folder: Path
    source: str = DEFAULT_SOURCE
    patch: str = DEFAULT_PATCH
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
    confirm: int = 1
    kselftests: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    ltp: tuple[str, ...] = ()
    shard: str = ""
    baseline: Path | None = None
    upto: int = 0
    each: bool = False
    cost: bool = False
    quick: bool = False
    kept_fragments: tuple[Path, ...] = ()

    @property
    def has_foreign(self) -> bool:
        return bool(self.kselftests or self.commands or self.ltp)


_PLAN = TypeAdapter(Plan)
# What a run's folder holds before its first guest, and what says that there may have been one
BEFORE = ("plan.json", ".lock", "patches", "kconfigs", "stdin.mbox")
BEGUN = ("run.json", "walk.json")
# Without these a saved plan is not whole; the rest has its defaults in plans of older versions
ALWAYS_SAID = {"source", "patch", "repeats", "seed"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What both kernels are made of, and what is to be said of it."""

    fetched: source.Fetched
    patchset: PatchSet
    kconfig: Kconfig
    compiler: str
    notes: tuple[str, ...] = ()

    def request(self, count: int | None = None) -> BuildRequest:
        """The kernel with the first `count` patches, all if None."""
        patchset = self.patchset if count is None else self.patchset.prefix(count)
        return BuildRequest(self.fetched, patchset, self.kconfig, self.compiler)


@dataclass(frozen=True, slots=True)
class Arms:
    """Both kernels, from the same source, configuration and compiler."""

    fetched: source.Fetched
    patchset: PatchSet
    kconfig: Kconfig
    base: Kernel
    patched: Kernel
    notes: tuple[str, ...] = ()


def run_experiment(plan: Plan, progress: Progress, resumed: bool = False) -> Comparison:
    """Fetch, build, boot, judge, compare; the evidence stays in `plan.folder`.

    A run that is `resumed` boots only what has no evidence there yet.
    """
    refuse_impossible(plan)
    if not resumed:
        refuse_taken(plan.folder)
    ours, wanted = chosen_cases(plan), foreign_wanted(plan)
    shard.parse(plan.shard)
    cache = host.cache_dir()
    with host.locked(plan.folder / ".lock", progress), begun(plan, resumed):
        arms = build_arms(plan, cache, progress)
        save_patches(plan.folder, arms.patchset)
        save_fragments(plan.folder, arms.kconfig)
        picked = quick_selection(plan, ours, arms)
        cases, root = choose_programs(plan, picked.cases, wanted, cache, progress)
        machine = choose_machine(plan, arms.base, root, cache, progress)
        cut = shard.cut(cases, [swap.kind for swap in swaps_of(plan, cases)], plan.shard)
        whole = matrix_of(plan, arms, root, machine, shard.narrowed(cases, cut.rows))
        origin = Origin(host.now(), host.processor(), cut)
        now = Evidence(_said(picked, twins_of(plan, arms, root, machine)), cases, (), origin)
        if plan.quick and not resumed:
            progress(picked.why)
            plan = _with_base_evidence(plan, whole, now)
        if cut.mine:
            progress(f"{cut.name}: {len(cut.rows)} of {counted(sum(map(len, cut.shards)), 'row')}")
        asked = Boots(plan.folder, whole, plan.confirm, plan.jobs, plan.baseline)
        begin(asked, now, progress)
        return boot_and_compare(asked, progress)


def refuse_impossible(plan: Plan) -> None:
    """UserError or InfraError at once where the plan's guests cannot boot on this host."""
    refuse_path(plan.folder)
    needs.refuse_guest(plan.accelerator, with_burden(plan))


def with_burden(plan: Plan) -> Machine:
    """The plan's machine with as much memory as its fragments ask for."""
    memory = max(plan.machine.memory_mib, burden(plan).memory_mib)
    return dataclasses.replace(plan.machine, memory_mib=memory)


def quick_selection(plan: Plan, ours: tuple[Case, ...], made: Inputs | Arms) -> quick.Selection:
    """With --quick the cases to begin with, otherwise all."""
    if not plan.quick:
        return quick.Selection(ours)
    known = quick.lessons(PATCHES / "known-bad", made.fetched.version)
    return quick.select(ours, plan.swaps, made.patchset, known)


def _said(picked: quick.Selection, twins: Twins) -> Twins:
    notes = (*twins.notes, picked.why) if picked.why else twins.notes
    return dataclasses.replace(twins, notes=notes, selection=picked.brief)


def _with_base_evidence(plan: Plan, whole: Matrix, now: Evidence) -> Plan:
    """The plan with an earlier run as its baseline, if one fits; so it is resumed, too."""
    if plan.baseline:
        return plan
    need = Need(now.twins, whole.cases, matrix.planned(whole), now.origin.host)
    folders = dict.fromkeys((plan.folder.parent, host.cache_dir() / "runs"))
    plan = dataclasses.replace(plan, baseline=quick.newest_baseline(folders, need))
    _save_plan(plan)
    return plan


def plan_of(folder: Path) -> Plan:
    """The plan that the run in `folder` began with."""
    try:
        raw = (folder / "plan.json").read_bytes()
        plan = _PLAN.validate_json(raw)
        if not json.loads(raw).keys() >= ALWAYS_SAID:
            raise ValueError(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} does not say which run it was: no whole plan.json") from error
    return dataclasses.replace(plan, folder=folder)


def command_of(folder: Path) -> str:
    """The command line that makes the run in `folder` again, from the plan that it began with."""
    return shlex.join(_words_of(plan_of(folder)))


def _words_of(plan: Plan) -> Iterator[str]:
    """Source, patch, repeats and seed always, all else where it is not the default."""
    yield from ("twinboot", "run", "--source", plan.source, "--patch", plan.patch)
    several = {
        "--kconfig": plan.fragments,
        "--case": plan.cases,
        "--swap": plan.swaps,
        "--kselftest": plan.kselftests,
        "--command": plan.commands,
        "--ltp": plan.ltp,
    }
    for option, values in several.items():
        for value in values:
            yield from (option, value)
    flags = {
        "--cost": plan.cost,
        "--quick": plan.quick,
        "--full": plan.full,
        "--each": plan.each,
        "--vmcore": plan.machine.vmcore,
    }
    yield from (option for option, wanted in flags.items() if wanted)
    yield from ("--repeats", str(plan.repeats), "--seed", str(plan.seed))
    usual = Plan(Path())
    once: tuple[tuple[str, object, object], ...] = (
        ("--cc", plan.compiler, usual.compiler),
        ("--confirm", plan.confirm, usual.confirm),
        ("--accel", plan.accelerator, usual.accelerator),
        ("--cpus", plan.machine.cpus, usual.machine.cpus),
        ("--memory", plan.machine.memory_mib, usual.machine.memory_mib),
        ("--shard", plan.shard, usual.shard),
        ("--baseline", plan.baseline, usual.baseline),
        ("--upto", plan.upto, usual.upto),
    )
    for option, said, default in once:
        if said != default:
            yield from (option, str(said))


def chosen_cases(plan: Plan) -> tuple[Case, ...]:
    """The cases that were asked for; UserError when none of them fits the swaps."""
    if plan.repeats < 1:
        raise UserError(f"--repeats is {plan.repeats}; each case has to run at least once")
    if plan.confirm < 0:
        raise UserError(f"--confirm is {plan.confirm}; it is a number of runs, 0 for none")
    if plan.cost:
        _refuse_with_cost(plan)
    if plan.quick and (plan.cost or plan.full or plan.shard):
        raise UserError("--quick chooses the cases itself; leave --cost, --full and --shard out")
    if plan.has_foreign and not plan.cases:
        return ()
    chosen = case.select(case.load(COSTS if plan.cost else CASES), plan.cases)
    if not (plan.full or plan.cases or plan.swaps):
        chosen = case.by_default(chosen)
    kinds = {swap.kind for swap in swaps_of(plan, chosen)}
    fitting = tuple(each for each in chosen if kinds & set(each.swaps))
    if not fitting:
        raise UserError(
            "none of these cases runs on these kinds of swap; see `twinboot list cases`"
        )
    if burden(plan).allocates:
        return tuple(map(case.without_allocations, fitting))
    return fitting


def _refuse_with_cost(plan: Plan) -> None:
    if plan.accelerator == "kvm":
        raise UserError("--cost counts instructions, which KVM does not; leave --accel kvm out")
    if plan.has_foreign:
        raise UserError("--cost runs the cost cases alone; leave --kselftest, --ltp, --command out")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The foreign programs that were asked for, read but not yet built."""

    kselftests: tuple[foreign.Kselftest, ...] = ()
    commands: tuple[foreign.Command, ...] = ()


def foreign_wanted(plan: Plan) -> Wanted:
    """Read the options that name foreign programs; UserError says what is wrong with one."""
    return Wanted(
        tuple(foreign.parse_kselftest(text, plan.source) for text in plan.kselftests),
        (
            *(foreign.parse_command(text) for text in plan.commands),
            *(foreign.parse_ltp(text) for text in plan.ltp),
        ),
    )


def choose_programs(
    plan: Plan, ours: tuple[Case, ...], wanted: Wanted, cache: Path, progress: Progress
) -> tuple[tuple[Case, ...], Rootfs]:
    """All cases, and the root that has their programs: a second one if some are foreign."""
    root = rootfs.build_rootfs(ROOT / "guest-tests", cache, progress)
    if wanted == Wanted():
        return ours, root
    guests = foreign.prepare(wanted.kselftests, wanted.commands, cache, progress)
    theirs = guests.cases if plan.swaps or plan.full else case.by_default(guests.cases)
    return (*ours, *theirs), rootfs.with_guests(root, guests.needs, cache, progress)


def swaps_of(plan: Plan, cases: tuple[Case, ...]) -> tuple[Swap, ...]:
    """The kinds of swap to boot with: those asked for, or all that some case fits."""
    wanted = plan.swaps or tuple(dict.fromkeys(kind for each in cases for kind in each.swaps))
    return tuple(swap_named(kind) for kind in dict.fromkeys(wanted))


def build_arms(plan: Plan, cache: Path, progress: Progress) -> Arms:
    """Both kernels. The base is the empty prefix of the patch set, so it is no special case.

    Patches that do not apply are refused before either is built.
    """
    made = read_inputs(plan, cache, progress)
    try_patches(made.request(), cache, progress)
    base, patched = (build(made.request(count), cache, progress) for count in (0, None))
    return Arms(made.fetched, made.patchset, made.kconfig, base, patched, made.notes)


def read_inputs(plan: Plan, cache: Path, progress: Progress) -> Inputs:
    """Source, patches and configuration; which patches may depend on the source's version."""
    given.check(plan.patch, PATCHES)
    kconfig = _kconfig_of(plan)
    fetched = source.fetch(source.parse_source(plan.source), cache, progress)
    _refuse_cpus(plan, kconfig.asked(fetched.version).get("NR_CPUS", ""))
    patchset = given.patches(plan.patch, fetched.version, PATCHES)
    if not 0 <= plan.upto <= len(patchset):
        many = counted(len(patchset), "patch", "patches")
        raise UserError(f"--upto is {plan.upto}; {patchset.name} has {many}")
    notes = (*patchset.notes, *given.stated_base(patchset, fetched))
    for note in notes:
        progress(note)
    patchset = patchset.prefix(plan.upto) if plan.upto else patchset
    return Inputs(fetched, patchset, kconfig, plan.compiler, notes)


def _refuse_cpus(plan: Plan, most: str) -> None:
    if most.isdecimal() and plan.machine.cpus > int(most):
        raise UserError(
            f"--cpus is {plan.machine.cpus}, and the kernels take {most} (CONFIG_NR_CPUS); "
            "--kconfig can ask for more"
        )


def _kconfig_of(plan: Plan) -> Kconfig:
    if plan.kept_fragments:
        return load_kept(plan.kept_fragments, plan.fragments, ROOT / "kconfigs")
    return load_kconfig((*FRAGMENTS, *plan.fragments), ROOT / "kconfigs")


def choose_machine(
    plan: Plan, kernel: Kernel, root: Rootfs, cache: Path, progress: Progress
) -> Machine:
    """The guests' machine, with the accelerator that a probe boot showed to work."""
    machine = with_burden(plan)
    if plan.cost:
        progress("guests run under TCG with one CPU, their time counts instructions")
        return dataclasses.replace(machine, accelerator="tcg", cpus=1, icount=True)
    found = accel.choose(plan.accelerator, kernel.image, root.image, cache)
    progress(f"guests run under {found.name.upper()} ({found.why})")
    return dataclasses.replace(machine, accelerator=found.name)


def burden(plan: Plan) -> Burden:
    """The heaviest of what the plan's fragments ask for, and what counting adds to it."""
    asked = [BURDENS.get(Path(name).stem, Burden()) for name in (*FRAGMENTS, *plan.fragments)]
    slowness = max(each.slowness for each in asked) * (COUNTING if plan.cost else 1.0)
    memory = max(each.memory_mib for each in asked)
    return Burden(slowness, memory, any(each.allocates for each in asked))


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
    """The QEMU digest is over the command line without any path of this host: see the others."""
    nowhere = Path("/")
    argv = guest_argv(machine, BootFiles(nowhere, nowhere, nowhere, nowhere), 0)
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
        rootfs=root.image,
        machine=machine,
        swaps=swaps_of(plan, cases),
        cases=cases,
        repeats=plan.repeats,
        seed=plan.seed,
        scale=burden(plan).slowness,
    )


def begin_folder(plan: Plan) -> None:
    """The plan is written first, so that a run that is killed still tells what it was."""
    refuse_taken(plan.folder)
    _save_plan(plan)


def refuse_taken(folder: Path) -> None:
    """UserError for a folder that is not new: it holds a run, or anything that is not ours."""
    if (folder / "plan.json").exists():
        raise UserError(f"{folder} holds a run already; choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder; choose another --out")
    others = sorted({path.name for path in folder.glob("*")} - set(BEFORE))
    if others:
        raise UserError(f"{folder} is not empty ({others[0]}); choose a new folder for --out")


@contextlib.contextmanager
def begun(plan: Plan, resumed: bool = False) -> Iterator[None]:
    """With the plan in its folder; where wrong input ends it before a guest, it never was.

    So the same command can be given again, put right.
    """
    if not resumed:
        begin_folder(plan)
    try:
        yield
    except UserError:
        if not resumed and not any((plan.folder / name).exists() for name in BEGUN):
            host.withdraw(plan.folder, BEFORE)
        raise


def _save_plan(plan: Plan) -> None:
    told = dataclasses.asdict(plan)
    host.write_atomic(plan.folder / "plan.json", json.dumps(told, indent=1, default=str) + "\n")
