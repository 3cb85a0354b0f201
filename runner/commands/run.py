# SPDX-License-Identifier: GPL-2.0-only
"""`run` and `compare`: the main job, and judging its evidence again."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from runner import each as series
from runner import evidence, host
from runner.bisect import exitcode
from runner.boots import compare_saved
from runner.commands.deliver import STDOUT, Outputs, deliver, problems, publish, publish_steps
from runner.commands.options import (
    PIPE_WIDTH,
    STDIN,
    AccelOption,
    B4Option,
    CaseOption,
    CommandOption,
    CompilerOption,
    CpusOption,
    ExperimentOption,
    HtmlOption,
    JobsOption,
    JsonOption,
    JunitOption,
    KconfigOption,
    KnownOption,
    KselftestOption,
    KtapOption,
    LtpOption,
    MailOption,
    MarkdownOption,
    MemoryOption,
    PatchOption,
    QuietOption,
    SourceOption,
    SwapOption,
    UptoOption,
    guarded,
    plain,
    taken,
)
from runner.commands.options import folder as named_folder
from runner.commands.watch import changes, watched
from runner.comparison import Comparison
from runner.errors import EXIT_CLEAN, BuildFailed, PatchError, TwinbootError, UserError
from runner.experiment import (
    COST_REPEATS,
    DEFAULT_PATCH,
    Plan,
    plan_of,
    refuse_taken,
    run_experiment,
)
from runner.forecast import forecast
from runner.progress import Teller
from runner.qemu import Machine
from runner.steps import Step, worst
from runner.timings import HEADS, guests, steps


@guarded
def run(
    ctx: typer.Context,
    experiment: ExperimentOption = None,
    source: SourceOption = "",
    patch: PatchOption = DEFAULT_PATCH,
    upto: UptoOption = 0,
    each: Annotated[
        bool, typer.Option("--each", help="Every prefix of the series against base, step by step.")
    ] = False,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    case: CaseOption = None,
    swap: SwapOption = None,
    kselftest: KselftestOption = None,
    command: CommandOption = None,
    ltp: LtpOption = None,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost",
            help="In place of the cases: how many instructions an operation takes, in guests "
            f"whose time counts them. Unless --repeats says otherwise {COST_REPEATS} runs.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="First those cases that noticed known bugs where the patch is, each on one swap, "
            "once; base's evidence from the newest earlier run that fits.",
        ),
    ] = False,
    rest: Annotated[
        bool,
        typer.Option(
            "--rest",
            help="After the verdict of --quick the whole run, in a folder of its own (-rest); its "
            "verdict goes to --json and the like, the worse of both is the exit code.",
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Every case on every swap, not the default selection.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Runs of each case in each arm.")] = 2,
    confirm: Annotated[
        int, typer.Option(help="More runs for rows in doubt before a change is called; 0: none.")
    ] = 1,
    jobs: JobsOption = 0,
    accel: AccelOption = "auto",
    cpus: CpusOption = 2,
    memory: MemoryOption = 1024,
    seed: Annotated[int, typer.Option(help="Handed to every case.")] = 1,
    vmcore: Annotated[
        bool, typer.Option("--vmcore", help="Keep the memory of a guest that dies or hangs.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the evidence; must be new.")] = None,
    shard: Annotated[
        str, typer.Option(help="Only this part, e.g. 2/3; `twinboot merge` joins the parts.")
    ] = "",
    baseline: Annotated[
        Path | None,
        typer.Option(help="Take the base's evidence from this earlier run, where it fits."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the interrupted run in this folder, whose plan is in it."),
    ] = None,
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    ktap: KtapOption = None,
    mail: MailOption = None,
    html: HtmlOption = None,
    b4: B4Option = None,
    known: KnownOption = None,
    bisect_exit: Annotated[
        bool,
        typer.Option(
            "--bisect-exit",
            help="Exit codes for `git bisect run`: 0 good, 1 bad, 125 skip, 128 and more: stop.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Run again when the patch or a dir: source changes, until Ctrl-C."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Try the patches on the source and say what would be built and booted, and about "
            "how long that takes; build and boot nothing.",
        ),
    ] = False,
    timings: Annotated[
        bool, typer.Option("--timings", help="Say at the end where the time went.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Build both kernels, boot both, run the cases, compare and judge."""
    wanted = Outputs(json, markdown, junit, ktap, mail, html, b4, problems(known))
    if (baseline or quick) and confirm < 1:
        option = "--baseline" if baseline else "--quick"
        raise UserError(f"{option} needs --confirm 1 or more, or a change of the host goes unseen")
    if baseline:
        evidence.load_run(baseline)
    if resume:
        _go_on(ctx, resume, wanted, quiet)
    if each:
        _refuse_with_each(wanted, shard)
    if watch and (each or bisect_exit or shard or out):
        raise UserError(
            "--watch runs again and again; leave --each, --shard, --out and --bisect-exit out"
        )
    if rest:
        _refuse_with_rest(wanted, quick=quick, other=watch or each or bisect_exit)
    if dry_run and (watch or bisect_exit or wanted.paths()):
        raise UserError("--dry-run has no verdict; leave --watch, --bisect-exit and outputs out")
    runs = _usual_repeats(repeats, cost, quick) if _left_out(ctx, "repeats") else repeats
    folder = (out or _new_folder(patch)).absolute()
    source, patch = taken(source, patch, folder)
    plan = Plan(
        folder=folder,
        source=source,
        patch=patch,
        fragments=tuple(kconfig or ()),
        compiler=cc,
        cases=tuple(case or ()),
        swaps=tuple(swap or ()),
        repeats=runs,
        jobs=jobs,
        accelerator=accel,
        machine=Machine(cpus=cpus, memory_mib=memory, vmcore=vmcore),
        seed=seed,
        full=full,
        confirm=confirm,
        kselftests=tuple(kselftest or ()),
        commands=tuple(command or ()),
        ltp=tuple(ltp or ()),
        shard=shard,
        baseline=baseline.absolute() if baseline else None,
        upto=upto,
        each=each,
        cost=cost,
        quick=quick,
    )
    if dry_run:
        _foretell(plan, repeats if rest else 0, quiet)
    if watch:
        _keep_running(plan, wanted, quiet)
    if bisect_exit:
        _tell_git_bisect(plan, wanted, quiet)
    if each:
        raise typer.Exit(worst(_walk(plan, wanted, quiet)).exit_code)
    first = _run_once(plan, timings, quiet)
    if not rest:
        publish(first, plan.folder, wanted)
    told = deliver(first, plan.folder, Outputs(known=wanted.known))
    whole = replace(plan, folder=_beside(plan.folder, "-rest"), quick=False, repeats=repeats)
    last = deliver(_run_once(whole, timings, quiet), whole.folder, wanted)
    raise typer.Exit(worst((told, last)).exit_code)


def _foretell(plan: Plan, rest: int, quiet: bool) -> NoReturn:
    """What a run would do, and what --rest would after it; a patch from `-` is not kept."""
    plans = [plan, replace(plan, quick=False, repeats=rest)] if rest else [plan]
    try:
        refuse_taken(plan.folder)
        with Teller(quiet) as tell:
            lines = [line for each in plans for line in forecast(each, tell).lines()]
    finally:
        if plan.patch == str(plan.folder / STDIN):
            host.withdraw(plan.folder, (STDIN,))
    for line in lines:
        print(plain(line))
    raise typer.Exit(EXIT_CLEAN)


def _run_once(plan: Plan, timings: bool, quiet: bool) -> Comparison:
    with Teller(quiet) as tell:
        comparison = run_experiment(plan, tell)
    if timings:
        _print_timings(tell, plan.folder)
    return comparison


def _print_timings(tell: Teller, folder: Path) -> None:
    """On standard error, where a result in another format is not disturbed."""
    table = Table(*HEADS, box=None, pad_edge=False)
    rows = (*steps(tell.told, tell.seconds), *guests(evidence.load_run(folder).transcripts))
    for row in rows:
        table.add_row(*(plain(cell) for cell in row.cells()))
    Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH).print(table)


def _left_out(ctx: typer.Context, name: str) -> bool:
    """Whether neither the command line nor an experiment file says it."""
    came_from = ctx.get_parameter_source(name)
    return came_from is not None and came_from.name == "DEFAULT"


def _usual_repeats(repeats: int, cost: bool, quick: bool) -> int:
    if quick:
        return 1
    return COST_REPEATS if cost else repeats


def _tell_git_bisect(plan: Plan, wanted: Outputs, quiet: bool) -> NoReturn:
    try:
        if plan.each:
            steps = _walk(plan, wanted, quiet)
            raise typer.Exit(exitcode.of_series((step.comparison for step in steps), plan.cases))
        with Teller(quiet) as tell:
            comparison = run_experiment(plan, tell)
    except TwinbootError as error:
        print(f"twinboot: {error}", file=sys.stderr)
        raise typer.Exit(exitcode.of_error(error)) from None
    delivered = deliver(comparison, plan.folder, wanted)
    raise typer.Exit(exitcode.of_result(delivered, plan.cases))


def _keep_running(plan: Plan, wanted: Outputs, quiet: bool) -> NoReturn:
    """A run, and one more after each change, each in a folder of its own; ended by Ctrl-C.

    A patch that does not apply or build is told and waited for.
    """
    for _ in changes(watched(plan.source, plan.patch)):
        plan = replace(plan, folder=_new_folder(plan.patch).absolute())
        try:
            with Teller(quiet) as tell:
                comparison = run_experiment(plan, tell)
            deliver(comparison, plan.folder, wanted)
        except (UserError, PatchError, BuildFailed) as error:
            print(f"twinboot: {error}", file=sys.stderr)
        print("waiting for a change; Ctrl-C ends it", file=sys.stderr, flush=True)
    raise typer.Exit(EXIT_CLEAN)


def _go_on(ctx: typer.Context, folder: Path, wanted: Outputs, quiet: bool) -> NoReturn:
    """The rest of an interrupted run. Only what becomes of its result may be said anew."""
    anew = {"resume", "quiet", "timings", *(each.name for each in fields(Outputs))}
    for name in ctx.params:
        came_from = ctx.get_parameter_source(name)
        given = came_from is not None and came_from.name == "COMMANDLINE"
        if given and name not in anew:
            option = name.replace("_", "-")
            raise UserError(f"--resume takes its plan from {folder}; leave --{option} out")
    plan = plan_of(folder.absolute())
    if plan.each:
        raise typer.Exit(worst(_walk(plan, wanted, quiet, resumed=True)).exit_code)
    with Teller(quiet) as tell:
        comparison = run_experiment(plan, tell, resumed=True)
    publish(comparison, plan.folder, wanted)


def _walk(plan: Plan, wanted: Outputs, quiet: bool, resumed: bool = False) -> tuple[Step, ...]:
    """Every prefix of the series: a folder for each, and which patch brought what."""
    with Teller(quiet) as tell:
        steps = series.run_each(plan, tell, resumed)
    return publish_steps(steps, plan.folder, wanted)


def _refuse_with_each(wanted: Outputs, shard: str = "") -> None:
    if shard:
        raise UserError("--each walks a whole series; leave --shard out")
    if extra := wanted.paths().keys() - {"json", "markdown", "junit"}:
        raise UserError(
            f"--each has no --{min(extra)} of a whole series; for one step: "
            f"twinboot compare OUT/1-... --{min(extra)} FILE"
        )


def _refuse_with_rest(wanted: Outputs, *, quick: bool, other: bool) -> None:
    if not quick:
        raise UserError("--rest is what comes after --quick; without it every run is whole")
    if other:
        raise UserError("--rest runs once; leave --watch, --each and --bisect-exit out")
    if STDOUT in wanted.paths().values():
        raise UserError("--rest prints two verdicts; give the other format a file, not -")


@guarded
def compare(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.", parser=named_folder)],
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    ktap: KtapOption = None,
    mail: MailOption = None,
    html: HtmlOption = None,
    b4: B4Option = None,
    known: KnownOption = None,
) -> None:
    """Judge and compare the saved evidence of a run, or of --each, again; nothing is booted."""
    wanted = Outputs(json, markdown, junit, ktap, mail, html, b4, problems(known))
    if series.is_walk(folder):
        _refuse_with_each(wanted)
        steps = publish_steps(series.compare_walk(folder), folder, wanted)
        raise typer.Exit(worst(steps).exit_code)
    publish(compare_saved(folder), folder, wanted)


def _new_folder(patch: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = "stdin" if patch == "-" else re.sub(r"[^\w.+-]+", "_", Path(patch).name) or "run"
    return _beside(host.cache_dir() / "runs" / f"{stamp}-{name}", "")


def _beside(folder: Path, ending: str) -> Path:
    """A name with this ending that nobody has yet."""
    wanted = base = folder.with_name(folder.name + ending)
    number = 1
    while wanted.exists():
        number += 1
        wanted = base.with_name(f"{base.name}-{number}")
    return wanted
