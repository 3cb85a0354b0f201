# SPDX-License-Identifier: GPL-2.0-only
"""`run` and `compare`: the main job, and judging its evidence again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from runner import exchange, host, report
from runner.commands.options import (
    AccelOption,
    CaseOption,
    CommandOption,
    CompilerOption,
    JsonOption,
    JunitOption,
    KconfigOption,
    KselftestOption,
    KtapOption,
    MailOption,
    MarkdownOption,
    PatchOption,
    QuietOption,
    SourceOption,
    SwapOption,
    console,
    guarded,
)
from runner.comparison import Comparison
from runner.document import save_document
from runner.experiment import (
    DEFAULT_PATCH,
    DEFAULT_SOURCE,
    Plan,
    command_of,
    compare_saved,
    run_experiment,
)
from runner.mailreply import mail_reply
from runner.progress import Teller
from runner.qemu import Machine


@guarded
def run(
    source: SourceOption = DEFAULT_SOURCE,
    patch: PatchOption = DEFAULT_PATCH,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    case: CaseOption = None,
    swap: SwapOption = None,
    kselftest: KselftestOption = None,
    command: CommandOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every case on every swap, not the default selection.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Runs of each case in each arm.")] = 2,
    confirm: Annotated[
        int, typer.Option(help="More runs for rows in doubt before a change is called; 0: none.")
    ] = 1,
    jobs: Annotated[int, typer.Option(help="Guests side by side; 0: as many as fit.")] = 0,
    accel: AccelOption = "auto",
    cpus: Annotated[int, typer.Option(help="CPUs of a guest.")] = 2,
    memory: Annotated[int, typer.Option(help="Memory of a guest in MiB.")] = 1024,
    seed: Annotated[int, typer.Option(help="Handed to every case.")] = 1,
    vmcore: Annotated[
        bool, typer.Option("--vmcore", help="Keep the memory of a guest that dies or hangs.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the evidence; must be new.")] = None,
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    ktap: KtapOption = None,
    mail: MailOption = None,
    quiet: QuietOption = False,
) -> None:
    """Build both kernels, boot both, run the cases, compare and judge."""
    plan = Plan(
        folder=(out or _new_folder(patch)).absolute(),
        source=source,
        patch=patch,
        fragments=tuple(kconfig or ()),
        compiler=cc,
        cases=tuple(case or ()),
        swaps=tuple(swap or ()),
        repeats=repeats,
        jobs=jobs,
        accelerator=accel,
        machine=Machine(cpus=cpus, memory_mib=memory, vmcore=vmcore),
        seed=seed,
        full=full,
        confirm=confirm,
        kselftests=tuple(kselftest or ()),
        commands=tuple(command or ()),
    )
    with Teller(quiet) as tell:
        comparison = run_experiment(plan, tell)
    _publish(comparison, plan.folder, Outputs(json, markdown, junit, ktap, mail))


@guarded
def compare(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    ktap: KtapOption = None,
    mail: MailOption = None,
) -> None:
    """Judge and compare the saved evidence of a run again; nothing is booted."""
    _publish(compare_saved(folder), folder, Outputs(json, markdown, junit, ktap, mail))


def _new_folder(patch: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    base = host.cache_dir() / "runs" / f"{stamp}-{Path(patch).name or 'run'}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the user wants the result, and in which formats."""

    json: Path | None
    markdown: Path | None
    junit: Path | None
    ktap: Path | None
    mail: Path | None


def _publish(comparison: Comparison, folder: Path, wanted: Outputs) -> NoReturn:
    command = command_of(folder)
    texts = (
        (report.markdown(comparison), (folder / "report.md", wanted.markdown)),
        (exchange.junit(comparison), (wanted.junit,)),
        (exchange.ktap(comparison), (wanted.ktap,)),
        (mail_reply(comparison, command), (wanted.mail,)),
    )
    for text, paths in texts:
        for path in paths:
            if path is not None:
                host.write_atomic(path, text)
    for path in (folder / "comparison.json", wanted.json):
        if path is not None:
            save_document(comparison, path)
    report.print_report(comparison, console())
    print(f"evidence: {folder}")
    print(f"again: {command}")
    raise typer.Exit(comparison.overall.exit_code)
