# SPDX-License-Identifier: GPL-2.0-only
"""`repro`, `bundle`, `splats`: what an earlier run showed, again, elsewhere, and closer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from runner import bundle as packing
from runner import host, recall, symbols
from runner import repro as reproduction
from runner.build import Kernel, kept
from runner.commands.options import (
    JobsOption,
    QuietOption,
    StepOption,
    folder,
    former_run,
    guarded,
    plain,
    step_run,
)
from runner.complaints import complaints
from runner.counted import counted
from runner.each import compare_walk, is_walk
from runner.errors import UserError
from runner.experiment import refuse_taken
from runner.matrix import ARMS
from runner.progress import Teller
from runner.recall import Former

RunArgument = Annotated[Path, typer.Argument(help="The folder of an earlier run.", parser=folder)]
RowSwapOption = Annotated[
    str | None, typer.Option("--swap", help="The row on this kind of swap only.")
]


@guarded
def repro(
    run: RunArgument,
    case: Annotated[
        str | None,
        typer.Argument(help="A case or group; without one all rows with a finding."),
    ] = None,
    swap: RowSwapOption = None,
    step: StepOption = 0,
    arm: Annotated[str, typer.Option(help="base, patched or both.")] = "both",
    times: Annotated[int, typer.Option(help="Boots of each arm and swap.")] = 10,
    until_failure: Annotated[
        bool, typer.Option("--until-failure", help="Stop as soon as it happened.")
    ] = False,
    vmcore: Annotated[
        bool, typer.Option("--vmcore", help="Keep the memory of a guest that dies or hangs.")
    ] = False,
    jobs: JobsOption = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the evidence; must be new.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Run rows of an earlier run again with the same kernels, and say how often it happens.

    Each time is a fresh guest. Exit code 1: it happened, in whichever arm was asked for; 0: it
    did not; 3: it did not, but an arm had no run that says anything.
    """
    if out is not None:
        refuse_taken(out.absolute())
    former = former_run(run, step, case, swap)
    what = reproduction.Again(
        former=former,
        rows=recall.rows(former, case, swap),
        arms=reproduction.arms_of(arm),
        times=times,
        folder=(out or _new_folder(former.folder)).absolute(),
        jobs=jobs,
        until_failure=until_failure,
        vmcore=vmcore,
    )
    recall.refuse_impossible(former)
    with Teller(quiet) as tell:
        found = reproduction.again(what, tell)
    for count in found:
        print(plain(str(count)))
    print(f"evidence: {what.folder}")
    raise typer.Exit(reproduction.exit_code(found))


@guarded
def bundle(
    run: RunArgument,
    case: Annotated[str, typer.Argument(help="The case.")],
    swap: RowSwapOption = None,
    step: StepOption = 0,
    out: Annotated[
        Path | None, typer.Option(help="The archive; twinboot-CASE-SWAP.tar.gz if none.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Pack a row of an earlier run so that it runs without twinboot: unpack, `sh repro.sh`."""
    if out is not None and out.is_dir():
        raise UserError(f"{out} is a folder; --out is the file to write")
    former = former_run(run, step, case, swap)
    row = recall.one_row(former, case, swap)
    with Teller(quiet) as tell:
        path = packing.bundle(former, row, out, tell)
    print(f"{path} ({path.stat().st_size >> 10} KiB): {row.case.id} on {row.swap}")


@guarded
def splats(
    run: RunArgument,
    step: Annotated[
        int,
        typer.Option(
            "--step",
            help="Of a run with --each: the step of this patch; if not given, all.",
            show_default=False,
        ),
    ] = 0,
    build_symbols: Annotated[
        bool,
        typer.Option("--symbols", help="Build the kernels once more with debug info, for lines."),
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Every complaint of the kernels of a run, equal ones counted together, and every death.

    Traces carry files and lines where a build with debug info is kept.
    """
    for former in _all_of(run, step):
        _tell_splats(former, build_symbols, quiet)


def _all_of(run: Path, step: int) -> Iterator[Former]:
    """The run, or of one with --each every step that has one."""
    if step or not is_walk(run):
        yield former_run(run, step)
        return
    ran = [each for each in compare_walk(run) if each.comparison]
    for each in ran:
        yield step_run(each)
    if not ran:
        raise UserError(f"no patch of {run} has run; `twinboot run --resume` goes on with it")


def _tell_splats(former: Former, build_symbols: bool, quiet: bool) -> None:
    if not former.saved.transcripts:
        raise UserError(f"no guest of {former.folder} has run; `twinboot run --resume` goes on")
    cache = host.cache_dir()
    with Teller(quiet) as tell:
        if build_symbols:
            for arm, built in recall.kernels(former, cache, tell).items():
                plan = recall.plan_as_built(former)
                symbols.build_for(plan, arm, built, cache, tell)
    told = {arm: kept(cache, former.arm(arm).fingerprint) for arm in ARMS}
    found = complaints(former.comparison)
    for each in found:
        print(plain(f"{each}\n{symbols.symbolised(each.splat.text, told[each.arm], cache)}\n"))
    for script in former.saved.transcripts:
        if script.autopsy:
            print(plain(recall.titled(script)))
            print(plain(symbols.symbolised(script.autopsy, told[script.boot.arm], cache)))
            _tell_core(recall.vmcore(former, script), told[script.boot.arm], cache)
    complained = counted(len(found), "different complaint")
    deaths = sum(bool(script.autopsy) for script in former.saved.transcripts)
    print(f"{complained}, {counted(deaths, 'guest')} that died or hung")


def _tell_core(core: Path, kernel: Kernel | None, cache: Path) -> None:
    """Where a vmcore is, and how drgn reads it where there are symbols for it."""
    if not core.is_file():
        return
    print(f"vmcore: {core}")
    found = symbols.found(kernel, cache) if kernel else None
    if kernel is not None and found is not None:
        info = core.with_name("vmcoreinfo")
        host.write_atomic(info, symbols.core_info(kernel, found))
        print(f"drgn: {symbols.drgn_command(core, info, found)}")


def _new_folder(run: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    base = host.cache_dir() / "runs" / f"{stamp}-repro-{run.resolve().name[-40:]}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder
