# SPDX-License-Identifier: GPL-2.0-only
"""`bisect`: which commit, release, patch or option changed an outcome."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from runner import given, host, output
from runner.bisect import session
from runner.bisect.fields import OPTIONS
from runner.bisect.plan import BisectPlan, Notebook
from runner.bisect.symptom import Wanted
from runner.bisect.walk import Asked
from runner.commands.options import (
    AccelOption,
    CompilerOption,
    CpusOption,
    JobsOption,
    JsonOption,
    KconfigOption,
    MemoryOption,
    QuietOption,
    SourceOption,
    guarded,
    taken,
    typed,
)
from runner.errors import EXIT_UNDECIDED, UserError
from runner.experiment import DEFAULT_SOURCE, PATCHES
from runner.kconfig import is_path
from runner.progress import Teller
from runner.qemu import Machine

# What boots when only the boot decides
BOOT_CASE = ("gup/leak_base", "none")

app = typer.Typer(
    help="Find the commit, release, patch or config option that changed an outcome.",
    epilog="Example: twinboot bisect --good git:~/linux@v5.10 --bad git:~/linux@master "
    "--case gup/leak_swap_fork --swap zram",
    invoke_without_command=True,
)


@app.callback()
@guarded
def bisect(
    context: typer.Context,
    good: Annotated[
        str,
        typer.Option(
            help="Where it is good: git:PATH@REF, a source in --release, kconfig:FRAGMENT,..., or "
            "base, all or a number of patches of --patch. May be the newer end."
        ),
    ] = "",
    bad: Annotated[str, typer.Option(help="Where it is bad, of the same kind.")] = "",
    case: Annotated[str, typer.Option(help="The case that decides.")] = "",
    swap: Annotated[str, typer.Option(help="On which swap; needed where it runs on many.")] = "",
    invariant: Annotated[str, typer.Option(help="Bad: this invariant of the case fails.")] = "",
    measure: Annotated[str, typer.Option(help="Bad: this measure is beyond --above/--below.")] = "",
    above: Annotated[float | None, typer.Option(help="The measure is bad above this.")] = None,
    below: Annotated[float | None, typer.Option(help="The measure is bad below this.")] = None,
    splat: Annotated[
        str, typer.Option(help="Bad: a splat whose title or signature has this text.")
    ] = "",
    boot: Annotated[bool, typer.Option("--boot", help="Bad: the kernel does not boot.")] = False,
    source: SourceOption = "",
    patch: Annotated[
        str, typer.Option(help="The series to bisect, on --source; all that `run --patch` takes.")
    ] = "none",
    release: Annotated[
        list[str] | None,
        typer.Option(help="A source of the ordered list to bisect, oldest first. Repeatable."),
    ] = None,
    carry: Annotated[
        list[str] | None,
        typer.Option(help="Patches put on every kernel: all that `run --patch` takes. Repeatable."),
    ] = None,
    carry_revert: Annotated[
        list[str] | None,
        typer.Option(help="Patches taken out of every kernel, the last first. Repeatable."),
    ] = None,
    kconfig: KconfigOption = None,
    cc: CompilerOption = "gcc",
    confidence: Annotated[float, typer.Option(help="Of the whole answer.")] = 0.99,
    patience: Annotated[
        int, typer.Option(help="Clean runs of the bad end after which it is called good.")
    ] = 20,
    most: Annotated[int, typer.Option(help="No kernel runs more often than this.")] = 200,
    jobs: JobsOption = 0,
    accel: AccelOption = "auto",
    cpus: CpusOption = 2,
    memory: MemoryOption = 1024,
    seed: Annotated[int, typer.Option(help="Handed to the case.")] = 1,
    ahead: Annotated[bool, typer.Option(help="Build what may be next while guests run.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for state and evidence.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the bisection in this folder.")
    ] = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find what changed an outcome between two ends. Exit code 3: only a list of candidates."""
    if context.invoked_subcommand is not None:
        return
    if resume is not None:
        _ask_again(context, resume.absolute(), _asked(confidence, patience, most))
        _finish(resume.absolute(), None, json, quiet)
    chosen, on = _case_and_swap(case, swap, boot)
    wanted = Wanted(invariant, measure, above, below, splat, boot)
    folder = (out or _new_folder()).absolute()
    if [patch, *(carry or ()), *(carry_revert or ())].count("-") > 1:
        raise UserError("only one of --patch, --carry and --carry-revert can be standard input")
    series = patch != "none"
    source, patch = taken(source, patch, folder) if series else (source or DEFAULT_SOURCE, patch)
    plan = BisectPlan(
        good=_end(good) or _end_of_series(patch, "base", "--good"),
        bad=_end(bad) or _end_of_series(patch, "all", "--bad"),
        case=chosen,
        swap=on,
        source=source,
        patch=given.pinned(patch, PATCHES),
        releases=tuple(release or ()),
        carry=_carried(carry, folder),
        carry_revert=_carried(carry_revert, folder),
        fragments=_fragments(kconfig or ()),
        compiler=cc,
        wanted=_checked(wanted),
        asked=_asked(confidence, patience, most),
        jobs=jobs,
        accelerator=accel,
        machine=Machine(cpus=cpus, memory_mib=memory),
        seed=seed,
        ahead=ahead,
    )
    _finish(folder, plan, json, quiet)


@app.command(epilog="Example: twinboot bisect log DIR >log && git bisect replay log")
@guarded
def log(folder: Annotated[Path, typer.Argument(help="The folder of a bisection.")]) -> None:
    """Print the answers so far in the form that `git bisect replay` reads."""
    print(session.log(folder.absolute()), end="")


def _finish(folder: Path, plan: BisectPlan | None, json: Path | None, quiet: bool) -> None:
    if json is not None:
        output.attempt(json)
    if plan is None:
        Notebook(folder).plan()
    with Teller(quiet) as tell:
        tell(f"state and evidence: {folder}")
        ended = session.begin(plan, folder, tell) if plan else session.resume(folder, tell)
    if json is not None:
        output.write(json, (folder / "result.json").read_bytes())
    if json != output.STDOUT:
        print(ended.text, end="")
        print(f"evidence: {folder}")
    raise typer.Exit(0 if ended.result.decided else EXIT_UNDECIDED)


def _ask_again(context: typer.Context, folder: Path, asked: Asked) -> None:
    """With --resume only the words on confidence may be new ones; others are the plan's."""
    names = [name for name in context.params if _given(context, name)]
    sure = {"confidence", "patience", "most"}
    others = [name for name in names if name not in {"resume", "json", "quiet", *sure}]
    if others:
        option = others[0].replace("_", "-")
        raise UserError(f"--resume takes its plan from {folder}; leave --{option} out")
    if sure & set(names):
        notebook = Notebook(folder)
        before = notebook.plan().asked
        given = {name: getattr(asked, name) for name in sure & set(names)}
        notebook.ask_again(replace(before, **given))


def _given(context: typer.Context, name: str) -> bool:
    came_from = context.get_parameter_source(name)
    return came_from is not None and came_from.name == "COMMANDLINE"


def _case_and_swap(case: str, swap: str, boot: bool) -> tuple[str, str]:
    if boot and not case:
        return BOOT_CASE
    if not case:
        raise UserError("--case says which case decides; see `twinboot list cases`")
    return case, swap or session.only_swap(case)


def _end_of_series(patch: str, end: str, option: str) -> str:
    if patch == "none":
        raise UserError(f"{option} is missing; only with --patch it has a default")
    return end


def _checked(wanted: Wanted) -> Wanted:
    limits = (wanted.above is not None) + (wanted.below is not None)
    if bool(wanted.measure) != (limits == 1):
        raise UserError("--measure needs one of --above and --below, and they need --measure")
    limit = wanted.above if wanted.above is not None else wanted.below
    if limit is not None and not math.isfinite(limit):
        raise UserError(f"--above and --below take a number, not {limit}")
    kinds = (wanted.invariant, wanted.measure, wanted.splat, wanted.boot)
    if sum(1 for each in kinds if each) > 1:
        raise UserError("only one of --invariant, --measure, --splat and --boot can decide")
    return wanted


def _asked(confidence: float, patience: int, most: int) -> Asked:
    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence {confidence:g} is not between 0.5 and 1")
    if patience < 1 or most < 1:
        raise UserError("--patience and --most are numbers of runs, at least 1")
    return Asked(confidence, patience, most)


def _carried(asked: list[str] | None, folder: Path) -> tuple[str, ...]:
    return tuple(given.pinned(typed(each, folder), PATCHES) for each in asked or ())


def _end(text: str) -> str:
    """An end of config options with the files that it names, wherever it is resumed."""
    if not text.startswith(OPTIONS):
        return text
    return OPTIONS + ",".join(_fragments(text.removeprefix(OPTIONS).split(",")))


def _fragments(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        str(Path(each).expanduser().absolute()) if is_path(each) else each for each in names
    )


def _new_folder() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    base = host.cache_dir() / "bisections" / stamp
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder
