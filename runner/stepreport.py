# SPDX-License-Identifier: GPL-2.0-only
"""Lays out what each patch of a series changed: for the terminal, as Markdown, as JSON.

It decides nothing (steps.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from runner.comparison import Overall
from runner.mbox import plain
from runner.row import OPEN, Change
from runner.steps import Step, Turn, turns, worst
from runner.wording import headlines, overall_sentence, pooled, sentence, span

FORMAT = "twinboot-series"
VERSION = 1
_STYLES = {Overall.CLEAN: "green", Overall.REGRESSION: "bold red"}


def print_steps(steps: Sequence[Step], console: Console) -> None:
    """A block for each patch with what it brings and ends; the verdict is at the bottom."""
    whole = not console.is_terminal
    for step in steps:
        style = _STYLES.get(step.overall, "yellow")
        head = (
            f"[bold]{escape(_name(step, steps))}[/bold] [{style}]{escape(_verdict(step))}[/{style}]"
        )
        console.print(head, highlight=False, soft_wrap=whole)
        for line in _lines(step, steps):
            console.print(f"    {escape(line)}", highlight=False, soft_wrap=whole)
    console.print()
    for line in summary(steps):
        console.print(
            escape(line), style=_STYLES.get(worst(steps)), highlight=False, soft_wrap=whole
        )


def markdown(steps: Sequence[Step]) -> str:
    """The same as a page."""
    lines = ["# twinboot: every patch of a series", "", *(f"- {each}" for each in summary(steps))]
    for step in steps:
        lines += [
            "",
            f"## {_name(step, steps)}",
            "",
            f"{_verdict(step)} (`{step.folder.name}/`)",
            "",
        ]
        lines += [f"- {line}" for line in _lines(step, steps)]
    return "\n".join(each.replace("_", r"\_").replace("<", r"\<") for each in lines) + "\n"


def document(steps: Sequence[Step]) -> str:
    """For programs; each folder has its own comparison.json."""
    told = {
        "format": FORMAT,
        "version": VERSION,
        "overall": worst(steps).value,
        "exit_code": worst(steps).exit_code,
        "steps": [
            {
                "patch": step.number,
                "title": plain(step.title),
                "folder": step.folder.name,
                "overall": step.overall.value,
                "failure": plain(step.failure),
                "brings": [_told(turn) for turn in turns(steps) if turn.since == step.number],
                "ends": [_told(turn) for turn in turns(steps) if turn.until == step.number],
            }
            for step in steps
        ],
    }
    return json.dumps(told, indent=1) + "\n"


def summary(steps: Sequence[Step]) -> Iterator[str]:
    """What was broken only in the middle, and the worst verdict of all prefixes."""
    count = len(steps)
    for turn in turns(steps):
        if turn.bad and turn.until:
            yield (
                f"broken in the middle: {_what(turn)}, by {turn.since}/{count}, "
                f"mended by {turn.until}/{count}"
            )
    for step in steps:
        if step.failure and step is not steps[-1]:
            yield f"not bisectable: {step.number}/{count} does not build"
    by = [f"{step.number}/{count}" for step in steps if step.overall is worst(steps)]
    where = f", at {', '.join(by)}" if worst(steps) is not Overall.CLEAN else ""
    yield f"{worst(steps).value}: worst of {count} prefixes against base{where}"


def _name(step: Step, steps: Sequence[Step]) -> str:
    return f"{step.number}/{len(steps)} {plain(step.title)}"


def _verdict(step: Step) -> str:
    if step.comparison:
        return plain(overall_sentence(step.comparison))
    return plain(step.failure) or "has not run; `twinboot run --resume` goes on"


def _lines(step: Step, steps: Sequence[Step]) -> Iterator[str]:
    """What this patch ends and brings, the most serious last."""
    count = len(steps)
    for turn in turns(steps):
        if turn.until == step.number:
            word = "mends" if turn.bad else "takes back"
            yield f"{word} {_what(turn)}, there since {turn.since}/{count}"
    for turn in turns(steps):
        if turn.since == step.number:
            yield plain(f"{_what(turn)}: {_said(turn, steps)}{_doubt(turn, count)}")


def _what(turn: Turn) -> str:
    name = f" ({turn.finding.name})" if turn.finding.subject in ("invariant", "measure") else ""
    return plain(f"{turn.finding.change.name} {headlines(turn.rows)}{name}")


def _said(turn: Turn, steps: Sequence[Step]) -> str:
    """Its sentence; for a measure that goes on to move, the value with each later patch."""
    said = sentence(pooled(turn.rows), turn.finding)
    if turn.finding.subject != "measure":
        return said
    later = [(step.number, _values(turn, step)) for step in steps[turn.since :]]
    moved = {value for _, value in later if value} - {_values(turn, steps[turn.since - 1])}
    if not moved:
        return said
    told = (f"{value} at {number}/{len(steps)}" for number, value in later if value)
    return f"{said}; {', '.join(told)}"


def _values(turn: Turn, step: Step) -> str:
    """What the measure was at another step; nothing where the row did not run."""
    swaps = {row.swap for row in turn.rows}
    rows = step.comparison.rows if step.comparison else ()
    mine = [row for row in rows if row.case == turn.rows[0].case and row.swap in swaps]
    values = [value for row in mine for value in row.patched.values(turn.finding.name)]
    return span(values) if values else ""


def _doubt(turn: Turn, count: int) -> str:
    if turn.finding.change in OPEN or not turn.unclear:
        return ""
    return (
        f" (or brought by {', '.join(f'{each}/{count}' for each in turn.unclear)}, unclear there)"
    )


def _told(turn: Turn) -> dict[str, object]:
    change: Change = turn.finding.change
    return {
        "change": change.name,
        "case": turn.rows[0].case.id,
        "swaps": [row.swap for row in turn.rows],
        "subject": turn.finding.subject,
        "name": turn.finding.name,
        "sentence": plain(sentence(pooled(turn.rows), turn.finding)),
        "since": turn.since,
        "until": turn.until,
        "unclear": list(turn.unclear),
    }
