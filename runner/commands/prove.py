# SPDX-License-Identifier: GPL-2.0-only
"""`prove`: do the cases catch the kernels that are known to be bad?"""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from runner import host, killreport, output, variant
from runner.commands.options import (
    AccelOption,
    CaseOption,
    CommandOption,
    CompilerOption,
    JobsOption,
    KconfigOption,
    KselftestOption,
    LtpOption,
    QuietOption,
    SourceOption,
    SwapOption,
    console,
    guarded,
)
from runner.errors import UserError
from runner.experiment import DEFAULT_SOURCE, PATCHES, Plan, refuse_impossible
from runner.progress import Teller
from runner.prove import ProofPlan
from runner.prove import prove as run_proof


@guarded
def prove(
    bug: Annotated[
        list[str] | None,
        typer.Option(
            "--bug", help="A patch of patches/known-bad or a path; all of them if none. Repeatable."
        ),
    ] = None,
    source: SourceOption = DEFAULT_SOURCE,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    case: CaseOption = None,
    swap: SwapOption = None,
    kselftest: KselftestOption = None,
    command: CommandOption = None,
    ltp: LtpOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every case on every bug, not only those it names.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Runs of each case on base.")] = 2,
    jobs: JobsOption = 0,
    accel: AccelOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the evidence; what it holds is not run again.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the kill table as JSON here.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the kill table as Markdown here.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Build every known-bad kernel, run the cases that must notice, and print the kill table.

    Exit code 1: a bug that nothing noticed, or a claim in its message that is not met.
    """
    for path in filter(None, (json, markdown)):
        output.attempt(path)
    plan = Plan(
        folder=(out or host.cache_dir() / "proofs").absolute(),
        source=source,
        fragments=tuple(kconfig or ()),
        compiler=cc,
        cases=tuple(case or ()),
        swaps=tuple(swap or ()),
        repeats=repeats,
        jobs=jobs,
        accelerator=accel,
        full=full,
        kselftests=tuple(kselftest or ()),
        commands=tuple(command or ()),
        ltp=tuple(ltp or ()),
    )
    refuse_impossible(plan)
    bugs = tuple(_named(each) for each in bug or ())
    with Teller(quiet) as tell:
        table = run_proof(ProofPlan(plan, bugs), tell)
    if json is not None:
        output.write(json, dumps(killreport.document(table), indent=1) + "\n")
    if markdown is not None:
        output.write(markdown, killreport.markdown(table))
    if output.STDOUT not in (json, markdown):
        killreport.print_table(table, console())
        print(f"evidence: {plan.folder}")
    raise typer.Exit(table.exit_code)


def _named(bug: str) -> str:
    """A stem or a path; one that `twinboot list patches` prints is found from any folder."""
    if not bug.strip():
        raise UserError("--bug is empty; leave it out for all known bugs")
    listed = None if Path(bug).expanduser().exists() else variant.on_shelf(bug, PATCHES)
    return str(listed or bug)
