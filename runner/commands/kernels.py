# SPDX-License-Identifier: GPL-2.0-only
"""`build` and `shell`: the kernels of a run, and a guest by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from runner import host, recall, shell
from runner.commands.options import (
    AccelOption,
    CompilerOption,
    ExperimentOption,
    KconfigOption,
    PatchOption,
    QuietOption,
    SourceOption,
    StepOption,
    UptoOption,
    folder,
    former_run,
    guarded,
    taken,
)
from runner.errors import UserError
from runner.experiment import DEFAULT_PATCH, Plan, build_arms
from runner.progress import Teller
from runner.repro import arms_of


@guarded
def build(
    experiment: ExperimentOption = None,
    source: SourceOption = "",
    patch: PatchOption = DEFAULT_PATCH,
    upto: UptoOption = 0,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    quiet: QuietOption = False,
) -> None:
    """Build both kernels, or find them again, and print where they are."""
    with tempfile.TemporaryDirectory(prefix="twinboot-") as folder, Teller(quiet) as tell:
        source, patch = taken(source, patch, Path(folder))
        plan = Plan(Path(), source, patch, tuple(kconfig or ()), cc, upto=upto)
        arms = build_arms(plan, host.cache_dir(), tell)
    for label, kernel in (("base", arms.base), ("patched", arms.patched)):
        print(f"{label:8} {kernel.release}  {kernel.image}")
    if arms.base.signature == arms.patched.signature:
        print("the patch changes no code")


@guarded
def open_shell(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="The folder of an earlier run: its kernels and machine.", parser=folder
        ),
    ] = None,
    row: Annotated[str | None, typer.Argument(help="The case of that run.")] = None,
    step: StepOption = 0,
    arm: Annotated[str, typer.Option(help="base or patched.")] = "patched",
    source: SourceOption = "",
    patch: PatchOption = DEFAULT_PATCH,
    upto: UptoOption = 0,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    case: Annotated[
        str | None, typer.Option("--case", help="A case to have at hand: its command is printed.")
    ] = None,
    swap: Annotated[
        str | None, typer.Option(help="The guest's swap; the case's first, or zram.")
    ] = None,
    gdb: Annotated[
        bool, typer.Option("--gdb", help="Wait for gdb, and print its command line.")
    ] = False,
    drgn: Annotated[
        bool, typer.Option("--drgn", help="Wait for drgn, and print its command line.")
    ] = False,
    accel: AccelOption = "auto",
) -> None:
    """An interactive shell in a guest of either arm, with swap and the cases at hand.

    Either of a plan (--source, --patch, ...) or of a row of an earlier run (RUN CASE). With --gdb
    and --drgn a second kernel is built once, with debug info; it has the same code.
    """
    if arm not in ("base", "patched"):
        raise UserError(f"--arm is {arm!r}; choose base or patched")
    (label,) = arms_of(arm)
    tell = Teller()
    if run is not None:
        if row is None:
            raise UserError("which case of that run? twinboot shell RUN CASE")
        former = former_run(run, step, row, swap)
        stage = shell.of_row(former, recall.one_row(former, row, swap), label, tell)
    else:
        if patch == "-":
            raise UserError("a shell needs standard input itself; give --patch as a file")
        source, patch = taken(source, patch, Path())
        plan = Plan(
            Path(),
            source,
            patch,
            tuple(kconfig or ()),
            cc,
            swaps=(swap,) if swap else (),
            accelerator=accel,
            upto=upto,
        )
        stage = shell.of_plan(plan, label, case, tell)
    raise typer.Exit(shell.open_shell(stage, shell.Debuggers(gdb, drgn), tell))
