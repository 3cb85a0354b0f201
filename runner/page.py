# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one HTML page that needs nothing but itself: no script, no other file, no net.

It judges and phrases nothing. All that patches and guests said is escaped, and what a browser
could take for a command (control characters, marks that turn the reading direction) is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from runner.comparison import Comparison
from runner.judging import GUEST
from runner.outcome import BAD, Outcome, Verdict
from runner.plot import HEIGHT, WIDTH, Plot, plot
from runner.report import ChangeLine, change_lines
from runner.row import OPEN, REGRESSIONS, ArmRuns, Change, Row
from runner.transcript import CaseLog, Transcript, divide
from runner.wording import (
    doubt,
    headlines,
    overall_sentence,
    row_doubt,
    span,
    still_broken,
    twins_lines,
)

TEMPLATES = Path(__file__).resolve().parent / "templates"
LINES_AT_MOST, COLUMNS_AT_MOST = 40, 200
_UNSHOWABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
    r"\ud800-\udfff\ufeff\ufffe\uffff]"
)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of what a guest said, whole or its end."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class RowPart:
    """One row of the page's table, with what is shown of it below."""

    number: int
    row: Row
    tone: str
    also: tuple[str, ...]
    figures: tuple[str, ...]
    plots: tuple[Plot, ...]
    missed: tuple[str, ...]
    runs: tuple[str, ...]
    excerpts: tuple[Excerpt, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """One change as it is told, the rows that it is about, and the measures that moved there."""

    line: ChangeLine
    tone: str
    parts: tuple[RowPart, ...]
    said: str
    plots: tuple[tuple[str, Plot], ...]


def page(comparison: Comparison, transcripts: Iterable[Transcript], command: str) -> str:
    """The whole page; `command` makes the run again."""
    parts = _parts(comparison, tuple(transcripts))
    shelf = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=showable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return shelf.get_template("page.html").render(
        verdict=comparison.overall,
        tone=_overall_tone(comparison),
        sentence=overall_sentence(comparison),
        doubt=doubt(comparison),
        run=twins_lines(comparison.twins),
        stories=tuple(_stories(comparison, parts)),
        parts=parts,
        evidence=tuple(part for part in parts if part.runs),
        command=command,
        width=WIDTH,
        height=HEIGHT,
    )


def showable(value: object) -> object:
    """Text without what would not be shown as a character; everything else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNSHOWABLE.sub("\ufffd", str(value))


def _parts(comparison: Comparison, transcripts: tuple[Transcript, ...]) -> tuple[RowPart, ...]:
    """Every row, the most serious change first; a guest that only did its duty is left out."""
    rows = [row for row in comparison.rows if row.case != GUEST or _eventful(row)]
    rows.sort(key=lambda row: (-row.change, not row.broken_on_both))
    return tuple(_part(number, row, transcripts) for number, row in enumerate(rows, 1))


def _part(number: int, row: Row, transcripts: tuple[Transcript, ...]) -> RowPart:
    told = _eventful(row)
    moved = {finding.name for finding in row.findings if finding.subject == "measure"}
    specs = sorted(row.case.measures, key=lambda spec: spec.name not in moved)
    plots = (plot(row, spec) for spec in specs)
    return RowPart(
        number=number,
        row=row,
        tone=_tone(row.change),
        also=still_broken(row),
        figures=tuple(
            f"{spec.name} {span(row.base.values(spec.name))} / "
            f"{span(row.patched.values(spec.name))} {spec.unit}"
            for spec in specs
        ),
        plots=tuple(each for each in plots if each is not None),
        missed=row_doubt(row),
        runs=tuple(_runs(row)) if told else (),
        excerpts=tuple(_excerpts(row, transcripts)) if told else (),
    )


def _eventful(row: Row) -> bool:
    """Whether anything but a pass on both kernels is to be told of a row."""
    clean = row.base.verdict is Verdict.PASS and row.patched.verdict is Verdict.PASS
    return bool(row.findings) or not clean or bool(row.base.splats() | row.patched.splats())


def _stories(comparison: Comparison, parts: tuple[RowPart, ...]) -> Iterator[Story]:
    found = {(part.row.case.id, part.row.swap): part for part in parts}
    for line in reversed(change_lines(comparison)):
        members = tuple(found[row.case.id, row.swap] for row in line.rows)
        yield Story(line, _tone(line.change), members, _said(line.rows), tuple(_moved(members)))


def _said(rows: Iterable[Row]) -> str:
    """Why the first row that is bad with the patch is, in the words of its worst run."""
    for row in rows:
        worst = row.patched.worst
        if worst is not None and worst.verdict in BAD:
            return f"{headlines([row])}, run {worst.repeat} with the patch: {worst.reason}"
    return ""


def _moved(parts: Iterable[RowPart]) -> Iterator[tuple[str, Plot]]:
    """The plots of the measures that changed, each with the case and swap it is from."""
    for part in parts:
        for finding in part.row.findings:
            if finding.subject == "measure":
                drawn = plot(part.row, part.row.case.measure(finding.name))
                if drawn is not None:
                    yield f"{part.row.case.id}, {part.row.swap}", drawn


def _runs(row: Row) -> Iterator[str]:
    for label, arm in (("base", row.base), ("patched", row.patched)):
        for run in arm.runs:
            yield f"{label}, run {run.repeat}: {run.verdict.name}: {run.reason}"


def _excerpts(row: Row, transcripts: tuple[Transcript, ...]) -> Iterator[Excerpt]:
    """Of each arm every kind of splat once, and what its worst run said if that was no pass."""
    for label, arm in (("base", row.base), ("patched", row.patched)):
        for splat in arm.splats().values():
            yield Excerpt(f"{label}: {splat.title}", _head(splat.text))
        worst = arm.worst
        if worst is not None and worst.verdict not in (Verdict.PASS, Verdict.SKIP):
            yield from _last_words(row, worst, label, arm, transcripts)


def _last_words(
    row: Row, run: Outcome, label: str, arm: ArmRuns, transcripts: tuple[Transcript, ...]
) -> Iterator[Excerpt]:
    """The end of the program's output, and of the console where no splat has told it already."""
    for transcript, log in _logs(row, run, label, transcripts):
        yield Excerpt(f"{label}, run {run.repeat}: the program's output", _tail(log.text))
        span = divide(transcript.console).span(log.case, log.number)
        if span is not None and span.text.strip() and not arm.splats():
            yield Excerpt(f"{label}, run {run.repeat}: the console", _tail(span.text))
        return
    for transcript in _boots(row, run, label, transcripts):
        yield Excerpt(f"{label}, run {run.repeat}: the end of the console", _console(transcript))
        return


def _console(transcript: Transcript) -> str:
    return _tail(transcript.console) or "nothing could be read"


def _logs(
    row: Row, run: Outcome, label: str, transcripts: tuple[Transcript, ...]
) -> Iterator[tuple[Transcript, CaseLog]]:
    for transcript in _boots(row, run, label, transcripts):
        for log in transcript.logs:
            if log.case == row.case.id:
                yield transcript, log


def _boots(
    row: Row, run: Outcome, label: str, transcripts: tuple[Transcript, ...]
) -> Iterator[Transcript]:
    for transcript in transcripts:
        boot = transcript.boot
        same = (boot.arm, boot.swap, boot.repeat) == (label, row.swap, run.repeat)
        # the shards of a merged run have boots of the same name
        if same and (row.case == GUEST or row.case.id in boot.planned):
            yield transcript


def _head(text: str) -> str:
    lines = text.splitlines()
    more = len(lines) - LINES_AT_MOST
    rest = [f"[{more} more lines]"] if more > 0 else []
    return "\n".join([line[:COLUMNS_AT_MOST] for line in lines[:LINES_AT_MOST]] + rest)


def _tail(text: str) -> str:
    lines = text.rstrip().splitlines()
    more = len(lines) - LINES_AT_MOST
    before = [f"[{more} lines before this]"] if more > 0 else []
    return "\n".join(before + [line[:COLUMNS_AT_MOST] for line in lines[-LINES_AT_MOST:]])


def _tone(change: Change) -> str:
    if change in REGRESSIONS:
        return "bad"
    if change in OPEN or change is Change.KNOWN:
        return "open"
    return "same" if change is Change.SAME else "good"


def _overall_tone(comparison: Comparison) -> str:
    return {0: "good", 1: "bad"}.get(comparison.exit_code, "open")
