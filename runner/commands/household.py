# SPDX-License-Identifier: GPL-2.0-only
"""`list`, `doctor`, `clean`, `version`: what there is, what works, what takes space."""

from __future__ import annotations

from typing import Annotated

import typer

from runner import __version__, catalogue, cleaning, doctor, host
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
    trees: Annotated[bool, typer.Option("--trees", help="The warm build trees.")] = False,
    kernels: Annotated[bool, typer.Option("--kernels", help="The kept kernels.")] = False,
    sources: Annotated[bool, typer.Option("--sources", help="The downloaded sources.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="The evidence of earlier runs.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
) -> None:
    """Free disk space: remove what can be made again (without options: say what there is)."""
    wanted = {"trees": trees, "kernels": kernels, "sources": sources, "runs": runs}
    chosen = [name for name, picked in wanted.items() if picked or everything]
    for line in cleaning.clean(host.cache_dir(), chosen, everything):
        print(line)


@guarded
def version() -> None:
    """The version."""
    print(f"twinboot {__version__}")
