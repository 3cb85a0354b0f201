# SPDX-License-Identifier: GPL-2.0-only
"""`list`, `doctor`, `clean`, `version`: what there is, what works, what takes space."""

from __future__ import annotations

from typing import Annotated

import typer

from runner import __version__, catalogue, cleaning, doctor, host
from runner.cleaning import KIND_HELP
from runner.commands.options import console, guarded
from runner.errors import EXIT_UNDECIDED
from runner.progress import Teller


@guarded
def list_things(
    what: Annotated[str, typer.Argument(help=f"One of {', '.join(catalogue.TABLES)}.")] = "cases",
) -> None:
    """What there is: cases, costs, swaps, patches, sources, fragments, earlier runs."""
    console().print(catalogue.table(what))


@guarded
def show_doctor() -> None:
    """What this host can do: QEMU, KVM that boots, compilers, disk, memory."""
    with Teller() as tell:
        findings = doctor.examine(host.cache_dir(), tell)
    console().print(doctor.table(findings))
    raise typer.Exit(0 if all(each.good for each in findings if each.needed) else EXIT_UNDECIDED)


@guarded
def clean(
    trees: Annotated[bool, typer.Option("--trees", help=KIND_HELP["trees"])] = False,
    ccache: Annotated[bool, typer.Option("--ccache", help=KIND_HELP["ccache"])] = False,
    kernels: Annotated[bool, typer.Option("--kernels", help=KIND_HELP["kernels"])] = False,
    sources: Annotated[bool, typer.Option("--sources", help=KIND_HELP["sources"])] = False,
    guests: Annotated[bool, typer.Option("--guests", help=KIND_HELP["guests"])] = False,
    logs: Annotated[bool, typer.Option("--logs", help=KIND_HELP["logs"])] = False,
    runs: Annotated[bool, typer.Option("--runs", help=KIND_HELP["runs"])] = False,
    all_but_runs: Annotated[
        bool, typer.Option("--all-but-runs", help="All that can be made again.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All of it, evidence too.")] = False,
) -> None:
    """Free disk space in TWINBOOT_CACHE or ~/.cache/twinboot; without options: say what is there.

    Only what twinboot made goes, known by its name. A subfolder that is a link is emptied. Do not
    clean kernels or guests while a run is going.
    """
    wanted = {
        "trees": trees,
        "ccache": ccache,
        "kernels": kernels,
        "sources": sources,
        "guests": guests,
        "logs": logs,
    }
    chosen = [name for name, picked in wanted.items() if picked or all_but_runs or everything]
    chosen += ["runs"] if runs or everything else []
    for line in cleaning.clean(host.cache_path(), chosen):
        print(line)


@guarded
def version() -> None:
    """The version."""
    print(f"twinboot {__version__}")
