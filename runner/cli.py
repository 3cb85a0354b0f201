# SPDX-License-Identifier: GPL-2.0-only
"""The command line: options in, one plan out, and exit codes that a script can trust.

No work is done here; the argument parser never leaves this module.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import Annotated, NoReturn, ParamSpec

import typer
from rich.console import Console

from runner import (
    __version__,
    catalogue,
    cleaning,
    doctor,
    exchange,
    host,
    killreport,
    report,
    shell,
)
from runner.comparison import Comparison
from runner.document import save_document
from runner.errors import EXIT_UNDECIDED, TwinbootError
from runner.experiment import (
    DEFAULT_PATCH,
    DEFAULT_SOURCE,
    Plan,
    build_arms,
    command_of,
    compare_saved,
    run_experiment,
)
from runner.mailreply import mail_reply
from runner.progress import Teller
from runner.prove import ProofPlan
from runner.prove import prove as run_proof
from runner.qemu import Machine

EXIT_INTERRUPTED = 130
PIPE_WIDTH = 240
P = ParamSpec("P")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Boot the same kernel with and without a patch, run the same workloads, say what changed.",
    epilog="Exit codes: 0 no regression, 1 regression, 2 wrong usage or input, "
    "3 infrastructure or undecided, 4 everything skipped, 130 interrupted.",
)

SourceOption = Annotated[
    str,
    typer.Option(
        "--source",
        help="debian:PACKAGE[=VERSION], dir:PATH, tar:FILE#sha256=HEX or git:PATH@REF.",
    ),
]
PatchOption = Annotated[
    str,
    typer.Option(
        "--patch",
        help="A .patch, mbox, folder, quilt series or name (`twinboot list patches`); "
        "`none` for base against base.",
    ),
]
KconfigOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kconfig", help="Another fragment: a name from kconfigs/ or a file. Repeatable."
    ),
]
CompilerOption = Annotated[str, typer.Option("--cc", help="The compiler for both arms.")]
CaseOption = Annotated[
    list[str] | None,
    typer.Option("--case", help="Only this case or group, e.g. gup or gup/leak_base. Repeatable."),
]
SwapOption = Annotated[
    list[str] | None, typer.Option("--swap", help="Only this kind of swap. Repeatable.")
]
KselftestOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kselftest",
        help="A foreign test: DIR[:TEST [ARG...]][@SOURCE], below tools/testing/selftests of the "
        "kernel's own or another source, e.g. mm:cow@debian:linux-source-6.12. Repeatable.",
    ),
]
CommandOption = Annotated[
    list[str] | None,
    typer.Option(
        "--command",
        help="A foreign test: NAME='PROGRAM ARG...', a program of this host judged by its exit "
        "code. With foreign tests only those of our cases run that --case names. Repeatable.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the comparison as JSON here.")
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", help="Write the report as Markdown here.")
]
JunitOption = Annotated[
    Path | None, typer.Option("--junit", help="Write JUnit XML here: a failure is a regression.")
]
KtapOption = Annotated[
    Path | None, typer.Option("--ktap", help="Write KTAP here: `not ok` is a regression.")
]
MailOption = Annotated[
    Path | None, typer.Option("--mail", help="Write a plain text reply for a mailing list here.")
]
AccelOption = Annotated[
    str, typer.Option("--accel", help="auto (KVM only where a probe boot worked), kvm or tcg.")
]


def _guarded(work: Callable[P, None]) -> Callable[P, None]:
    """Every foreseen failure of a command is one sentence on standard error and an exit code."""

    @functools.wraps(work)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except TwinbootError as error:
            print(f"twinboot: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("twinboot: interrupted; what was finished is kept", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return guarded


@app.command(epilog="Example: twinboot run --patch my.patch --case gup --swap zram")
@_guarded
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
        machine=Machine(cpus=cpus, memory_mib=memory),
        seed=seed,
        full=full,
        confirm=confirm,
        kselftests=tuple(kselftest or ()),
        commands=tuple(command or ()),
    )
    with Teller(quiet) as tell:
        comparison = run_experiment(plan, tell)
    _publish(comparison, plan.folder, Wanted(json, markdown, junit, ktap, mail))


@app.command(epilog="Example: twinboot prove --bug ksm-reuse --bug never-reuse")
@_guarded
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
    full: Annotated[
        bool, typer.Option("--full", help="Every case on every bug, not only those it names.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Runs of each case on base.")] = 2,
    jobs: Annotated[int, typer.Option(help="Guests side by side; 0: as many as fit.")] = 0,
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
    )
    with Teller(quiet) as tell:
        table = run_proof(ProofPlan(plan, tuple(bug or ())), tell)
    if json is not None:
        host.write_atomic(json, dumps(killreport.document(table), indent=1) + "\n")
    if markdown is not None:
        host.write_atomic(markdown, killreport.markdown(table))
    killreport.print_table(table, _console())
    print(f"evidence: {plan.folder}")
    raise typer.Exit(table.exit_code)


@app.command(epilog="Example: twinboot compare ~/.cache/twinboot/runs/20220113-173000-sketch")
@_guarded
def compare(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    ktap: KtapOption = None,
    mail: MailOption = None,
) -> None:
    """Judge and compare the saved evidence of a run again; nothing is booted."""
    _publish(compare_saved(folder), folder, Wanted(json, markdown, junit, ktap, mail))


@app.command(epilog="Example: twinboot build --patch my.patch")
@_guarded
def build(
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


@app.command("shell", epilog="Example: twinboot shell --arm patched --swap zram")
@_guarded
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


@app.command("list", epilog="Example: twinboot list cases")
@_guarded
def list_things(
    what: Annotated[
        str, typer.Argument(help="cases, swaps, patches, sources or fragments.")
    ] = "cases",
) -> None:
    """What there is: cases, swaps, patches, sources, fragments."""
    _console().print(catalogue.table(what))


@app.command("doctor", epilog="Example: twinboot doctor")
@_guarded
def show_doctor() -> None:
    """What this host can do: QEMU, KVM that boots, compilers, disk, memory."""
    with Teller() as tell:
        findings = doctor.examine(host.cache_dir(), tell)
    _console().print(doctor.table(findings))
    raise typer.Exit(0 if all(each.good for each in findings if each.needed) else EXIT_UNDECIDED)


@app.command(epilog="Example: twinboot clean --kernels")
@_guarded
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


@app.command(epilog="Example: twinboot version")
@_guarded
def version() -> None:
    """The version."""
    print(f"twinboot {__version__}")


def _console() -> Console:
    """A file or pipe has no width: rich would fold its tables at 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _new_folder(patch: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    base = host.cache_dir() / "runs" / f"{stamp}-{Path(patch).name or 'run'}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the user wants the result, and in which formats."""

    json: Path | None
    markdown: Path | None
    junit: Path | None
    ktap: Path | None
    mail: Path | None


def _publish(comparison: Comparison, folder: Path, wanted: Wanted) -> NoReturn:
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
    report.print_report(comparison, _console())
    print(f"evidence: {folder}")
    print(f"again: {command}")
    raise typer.Exit(comparison.overall.exit_code)


def main() -> None:
    """Run a command. SIGTERM and SIGHUP end it as Ctrl-C does: through every `finally`.

    SIGINT too is taken even where it was ignored, as in the background of a script.
    """

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    app()


if __name__ == "__main__":
    main()
