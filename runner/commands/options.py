# SPDX-License-Identifier: GPL-2.0-only
"""What the commands share: their common options, how they fail, and where they print."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console

from runner import each, experimentfile, given, host, recall
from runner.errors import InfraError, TwinbootError, UserError
from runner.experiment import DEFAULT_SOURCE, PATCHES
from runner.patchset import LARGEST
from runner.recall import Former
from runner.steps import Step

EXIT_INTERRUPTED = 130
PIPE_WIDTH = 240
STDIN = "stdin.mbox"
P = ParamSpec("P")

SourceOption = Annotated[
    str,
    typer.Option(
        "--source",
        help="debian:PACKAGE[=VERSION], dir:PATH, tar:FILE#sha256=HEX or git:PATH@REF. If not "
        "given: what --patch is based on (git:, base-commit), or debian:linux-source-5.10.",
        show_default=False,
    ),
]
PatchOption = Annotated[
    str,
    typer.Option(
        "--patch",
        help="A .patch, mbox (.gz; FILE#v2, FILE#WORDS), folder, quilt series, "
        "git:PATH@BASE..TOPIC, `-` for standard input, or name (`twinboot list patches`); "
        "`none` for base against base.",
    ),
]
UptoOption = Annotated[
    int, typer.Option("--upto", help="Only the first so many of the patches; 0: all.")
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
LtpOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ltp",
        help="A foreign test: 'TEST [ARG...]' of the Linux Test Project, as installed in /opt/ltp "
        "or LTPROOT. Repeatable.",
    ),
]
StepOption = Annotated[
    int,
    typer.Option(
        "--step",
        help="Of a run with --each: the step of this patch. If not given, the first one on which "
        "the most serious was found.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs", min=0, help="Guests side by side; 0: as many as fit, three for two CPUs."
    ),
]
CpusOption = Annotated[int, typer.Option("--cpus", min=1, max=255, help="CPUs of a guest.")]
MemoryOption = Annotated[int, typer.Option("--memory", min=128, help="Memory of a guest in MiB.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the comparison as JSON here. For this and all other results: `-` is standard "
        "output, missing folders are made.",
    ),
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
KnownOption = Annotated[
    Path | None,
    typer.Option(
        "--known", help="A YAML file of known problems, which fail nothing until they expire."
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write one self-contained HTML page here.")
]
B4Option = Annotated[
    Path | None,
    typer.Option("--b4", help="Write the result as a check of `b4 review` here."),
]


def folder(text: str) -> Path:
    """A folder by its name. An empty one, as of a variable that is not set, is not this folder."""
    if not text.strip():
        raise _ended(UserError("the name of the folder is empty"))
    return Path(text)


def _from_file(context: typer.Context, path: Path | None) -> Path | None:
    """An experiment file gives the defaults: what is said on the command line comes before it."""
    if path is not None:
        try:
            context.default_map = experimentfile.read(path).options()
        except TwinbootError as error:
            raise _ended(error) from None
    return path


ExperimentOption = Annotated[
    Path | None,
    typer.Option(
        "--experiment",
        callback=_from_file,
        is_eager=True,
        help="Take the options from this YAML file; those given here override it.",
    ),
]
AccelOption = Annotated[
    str, typer.Option("--accel", help="auto (KVM only where a probe boot worked), kvm or tcg.")
]


def guarded(work: Callable[P, None]) -> Callable[P, None]:
    """Every foreseen failure of a command is one sentence on standard error and an exit code."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except TwinbootError as error:
            raise _ended(error) from None
        except BrokenPipeError:
            nobody_reads()
            raise _ended(InfraError("nobody read standard output to its end")) from None
        except OSError as error:
            raise _ended(_host_fault(error)) from None
        except KeyboardInterrupt:
            print("twinboot: interrupted; what was finished is kept", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return run


def _host_fault(error: OSError) -> TwinbootError:
    """What nobody foresaw: wrong input where we may not go there, else the machine's fault."""
    where = f" ({error.filename})" if error.filename else ""
    kind = UserError if isinstance(error, PermissionError) else InfraError
    return kind(f"the host said: {error.strerror or error}{where}")


def _ended(error: TwinbootError) -> typer.Exit:
    print(f"twinboot: {error}", file=sys.stderr)
    return typer.Exit(error.exit_code)


def taken(source: str, patch: str, folder: Path) -> tuple[str, str]:
    """The source and the patch as a plan has them.

    What comes on standard input is kept in `folder`, so that the run can be made again.
    """
    return given.settle(source, typed(patch, folder), DEFAULT_SOURCE, PATCHES)


def typed(patch: str, folder: Path) -> str:
    """Where a patch is that may come on standard input."""
    if patch != "-":
        return patch
    if any((folder / name).exists() for name in ("plan.json", "bisect.json")):
        raise UserError(f"{folder} holds a run already; choose another --out")
    raw = sys.stdin.buffer.read(LARGEST + 1)
    if not raw.strip():
        raise UserError("`-` found no patch on standard input")
    host.write_atomic(folder / STDIN, raw)
    return str(folder / STDIN)


def former_run(folder: Path, step: int, case: str | None = None, swap: str | None = None) -> Former:
    """The earlier run that is meant; of a run with --each one of its steps, and it says which."""
    if not each.is_walk(folder):
        if step:
            raise UserError(f"{folder} is no run with --each; leave --step out")
        return recall.load(folder)
    return step_run(each.step_of(folder, step) if step else each.telling_step(folder, case, swap))


def step_run(step: Step) -> Former:
    """The run of one step, whose patch is named first."""
    print(plain(f"step {step.number}: {step.title}"), flush=True)
    return recall.load(step.folder)


def console() -> Console:
    """A file or pipe has no width: rich would fold its tables at 80 columns."""
    return _Console() if sys.stdout.isatty() else _Console(width=PIPE_WIDTH)


class _Console(Console):
    """rich ends a program with 1 where nobody reads on, as with `| head`; 1 is a regression."""

    def on_broken_pipe(self) -> None:
        nobody_reads()


def nobody_reads() -> None:
    """What is still printed goes nowhere; the exit code is that of the result."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain(text: str) -> str:
    """Guests and saved runs are not trusted: no control character of theirs reaches a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
