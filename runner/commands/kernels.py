# SPDX-License-Identifier: GPL-2.0-only
"""`build` and `shell`: the kernels of a run, and a guest by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from runner import host, shell
from runner.commands.options import (
    AccelOption,
    CompilerOption,
    ExperimentOption,
    KconfigOption,
    PatchOption,
    QuietOption,
    SourceOption,
    UptoOption,
    guarded,
    taken,
)
from runner.errors import UserError
from runner.experiment import DEFAULT_PATCH, Plan, build_arms
from runner.progress import Teller


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
    arm: Annotated[str, typer.Option(help="base or patched.")] = "patched",
    source: SourceOption = "",
    patch: PatchOption = DEFAULT_PATCH,
    upto: UptoOption = 0,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    swap: Annotated[str, typer.Option(help="The guest's swap.")] = "zram",
    accel: AccelOption = "auto",
) -> None:
    """An interactive shell in a guest of either arm, with swap and the cases at hand."""
    if patch == "-":
        raise UserError("a shell needs standard input itself; give --patch as a file")
    source, patch = taken(source, patch, Path())
    plan = Plan(
        Path(),
        source,
        patch,
        tuple(kconfig or ()),
        cc,
        swaps=(swap,),
        accelerator=accel,
        upto=upto,
    )
    raise typer.Exit(shell.open_shell(plan, arm, Teller()))
