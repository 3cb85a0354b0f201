# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of a result: the formats that the user wants, the report, the exit code.

It runs nothing and judges nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import typer

from runner import evidence, exchange, host, output, report, stepreport
from runner.commands.options import console
from runner.comparison import Comparison
from runner.document import document_text
from runner.errors import InfraError, UserError
from runner.experiment import command_of
from runner.known import Problem, excuse
from runner.known import load as load_known
from runner.mailreply import mail_reply
from runner.page import page
from runner.steps import Step, excused

STDOUT = output.STDOUT


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the user wants the result and in which formats (STDOUT: in place of the report).

    `known` are the problems that it excuses. Made before anything runs, so that UserError says
    then which path cannot be written, or is given to two formats.
    """

    json: Path | None = None
    markdown: Path | None = None
    junit: Path | None = None
    ktap: Path | None = None
    mail: Path | None = None
    html: Path | None = None
    b4: Path | None = None
    known: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        taken: dict[Path, str] = {}
        for name, path in self.paths().items():
            if path in taken and (path == STDOUT or not output.is_special(path)):
                what = "`-`" if path == STDOUT else str(path)
                raise UserError(
                    f"--{taken[path]} and --{name} are both {what}; only one can be there"
                )
            taken[path] = name
            output.attempt(path)

    def paths(self) -> Mapping[str, Path]:
        """The formats that are wanted, and where."""
        named = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: path for name, path in named if isinstance(path, Path)}


def problems(path: Path | None) -> tuple[Problem, ...]:
    """The known problems in a file, read before anything is run."""
    return load_known(path) if path else ()


def publish(comparison: Comparison, folder: Path, wanted: Outputs) -> NoReturn:
    """Write and print the result, and end with its exit code."""
    raise typer.Exit(deliver(comparison, folder, wanted).overall.exit_code)


def deliver(comparison: Comparison, folder: Path, wanted: Outputs) -> Comparison:
    """Write and print the result; what it is with the known problems excused."""
    comparison = excuse(comparison, wanted.known, datetime.now(UTC).date())
    command = command_of(folder)
    _keep(folder, _summary(comparison))
    printed = False
    for path, text in _texts(comparison, folder, command, wanted):
        output.write(path, text)
        printed = printed or path == STDOUT
    if not printed:
        report.print_report(comparison, console())
        print(f"evidence: {folder}")
        print(f"again: {command}")
    return comparison


def _summary(comparison: Comparison) -> Mapping[str, str]:
    return {
        "comparison.json": document_text(comparison),
        "report.md": report.markdown(comparison),
    }


def _keep(folder: Path, texts: Mapping[str, str]) -> None:
    """Beside the evidence; whoever may only read that is told, and has the result all the same."""
    try:
        for name, text in texts.items():
            host.write_atomic(folder / name, text)
    except InfraError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in host.WRONG_PATH:
            raise
        print(f"twinboot: judged, but nothing of it is kept: {error}", file=sys.stderr)


def _texts(
    comparison: Comparison, folder: Path, command: str, wanted: Outputs
) -> Iterator[tuple[Path, str]]:
    """Each result that is wanted, made only then."""
    if wanted.json:
        yield wanted.json, document_text(comparison)
    if wanted.markdown:
        yield wanted.markdown, report.markdown(comparison)
    if wanted.junit:
        yield wanted.junit, exchange.junit(comparison)
    if wanted.ktap:
        yield wanted.ktap, exchange.ktap(comparison)
    if wanted.mail:
        yield wanted.mail, mail_reply(comparison, command, evidence.saved_thread(folder))
    if wanted.html:
        yield wanted.html, page(comparison, evidence.load_run(folder).transcripts, command)
    if wanted.b4:
        url = "" if wanted.html in (None, STDOUT) else wanted.html.absolute().as_uri()
        yield wanted.b4, exchange.b4_checks(comparison, mail_reply(comparison, command), url)


def publish_steps(steps: tuple[Step, ...], folder: Path, wanted: Outputs) -> tuple[Step, ...]:
    """Write and print what each patch brought; the steps with the known problems excused."""
    today = datetime.now(UTC).date()
    steps = excused(steps, lambda comparison: excuse(comparison, wanted.known, today))
    for step in steps:
        if step.comparison:
            _keep(step.folder, _summary(step.comparison))
    told = {"series.json": stepreport.document(steps), "series.md": stepreport.markdown(steps)}
    _keep(folder, told)
    if wanted.json:
        output.write(wanted.json, told["series.json"])
    if wanted.markdown:
        output.write(wanted.markdown, told["series.md"])
    if wanted.junit:
        output.write(wanted.junit, exchange.junit_series(steps))
    if STDOUT not in wanted.paths().values():
        stepreport.print_steps(steps, console())
        print(f"evidence: {folder}")
        print(f"again: {command_of(folder)}")
    return steps
