# SPDX-License-Identifier: GPL-2.0-only
"""`build` and `shell`: the kernels of a run, and a guest by hand."""

from __future__ import annotations

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
    guarded,
)
from runner.experiment import DEFAULT_PATCH, DEFAULT_SOURCE, Plan, build_arms
from runner.progress import Teller


@guarded
def build(
    experiment: ExperimentOption = None,
    source: SourceOption = DEFAULT_SOURCE,
    patch: PatchOption = DEFAULT_PATCH,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    quiet: QuietOption = False,
) -> None:
    """Build both kernels, or find them again, and print where they are."""
    plan = Plan(Path(), source, patch, tuple(kconfig or ()), cc)
    with Teller(quiet) as tell:
        arms = build_arms(plan, host.cache_dir(), tell)
    for label, kernel in (("base", arms.base), ("patched", arms.patched)):
        print(f"{label:8} {kernel.release}  {kernel.image}")
    if arms.base.signature == arms.patched.signature:
        print("the patch changes no code")


@guarded
def open_shell(
    arm: Annotated[str, typer.Option(help="base or patched.")] = "patched",
    source: SourceOption = DEFAULT_SOURCE,
    patch: PatchOption = DEFAULT_PATCH,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    swap: Annotated[str, typer.Option(help="The guest's swap.")] = "zram",
    accel: AccelOption = "auto",
) -> None:
    """An interactive shell in a guest of either arm, with swap and the cases at hand."""
    plan = Plan(Path(), source, patch, tuple(kconfig or ()), cc, swaps=(swap,), accelerator=accel)
    raise typer.Exit(shell.open_shell(plan, arm, Teller()))
