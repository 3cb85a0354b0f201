# SPDX-License-Identifier: GPL-2.0-only
"""Lays a comparison out for people: a table for the terminal, the same as Markdown.

It decides and phrases nothing; the JSON document is evidence.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.changes import differs
from runner.comparison import Comparison, Overall
from runner.complaints import complaints
from runner.costreport import HEADS, cost_lines
from runner.judging import GUEST
from runner.outcome import Verdict
from runner.row import Change, Row
from runner.wording import (
    FOREIGN,
    doubt,
    headlines,
    overall_sentence,
    pooled,
    row_doubt,
    same_story,
    sentence,
    span,
    still_broken,
    twins_lines,
)

CASES_NAMED = 3

_STYLES = {
    Change.SAME: "yellow",
    Change.IMPROVED: "green",
    Change.FIXED: "green",
    Change.KNOWN: "yellow",
    Change.UNDECIDED: "yellow",
    Change.FLAKY: "yellow",
    Change.WORSENED: "red",
    Change.NEW_SPLAT: "bold red",
    Change.NEW_SKIP: "bold red",
    Change.LOST: "bold red",
    Change.REGRESSED: "bold red",
}
_OVERALL_STYLES = {
    Change.SAME: "yellow",
    Overall.CLEAN: "bold green",
    Overall.REGRESSION: "bold red",
    Overall.UNDECIDED: "bold yellow",
    Overall.SKIPPED: "bold yellow",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """A change as it is told: its row or rows, its sentence, what else changed there."""

    change: Change
    where: str
    sentence: str
    also: tuple[tuple[Change, str], ...] = ()
    rows: tuple[Row, ...] = ()

    def __str__(self) -> str:
        return f"{self.change.name} {self.where}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class QuietLine:
    """The swaps on which an unchanged case did the same."""

    case: str
    swaps: tuple[str, ...]
    verdict: str
    remark: str


def change_lines(comparison: Comparison) -> tuple[ChangeLine, ...]:
    """Every change, the most serious last; rows with one and the same story are told once."""
    stories: dict[tuple[Change, str, tuple[tuple[Change, str], ...]], list[Row]] = {}
    for rows in _alike(comparison.rows):
        whole = pooled(rows)
        first, *rest = whole.findings
        also = tuple((finding.change, clean(sentence(whole, finding))) for finding in rest)
        also += tuple((Change.SAME, clean(said)) for said in still_broken(whole))
        story = (first.change, clean(sentence(whole, first)), also)
        stories.setdefault(story, []).extend(rows)
    lines = [
        ChangeLine(change, _where(rows), said, also, tuple(rows))
        for (change, said, also), rows in stories.items()
    ]
    return tuple(sorted(lines, key=lambda line: line.change))


def _alike(rows: Iterable[Row]) -> list[list[Row]]:
    """The changed rows, those of one case together where swap made no difference."""
    groups: list[list[Row]] = []
    for row in rows:
        if not row.findings:
            continue
        for group in groups:
            if same_story(group[0], row):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def quiet_lines(comparison: Comparison) -> tuple[QuietLine, ...]:
    """The unchanged rows, one line for the swaps on which a case did the same."""
    swaps: dict[tuple[str, str, str], list[str]] = {}
    for row in comparison.rows:
        if not row.findings and not _uneventful(row):
            key = (row.case.id, _verdict_words(row), clean(_remark(row)))
            swaps.setdefault(key, []).append(row.swap)
    return tuple(QuietLine(case, tuple(on), word, said) for (case, word, said), on in swaps.items())


def print_report(comparison: Comparison, console: Console) -> None:
    """The whole report; what matters most is at the bottom, where the eye is."""
    for text in twins_lines(comparison.twins):
        _print_line(text, "dim", console)
    console.print()
    _print_quiet(comparison, console)
    _print_costs(comparison, console)
    for complaint in complaints(comparison):
        _print_line(f"splat: {complaint}", "dim", console)
    lines = change_lines(comparison)
    for line in lines:
        _print_change(line, console)
    if lines:
        console.print()
    _print_line(overall_sentence(comparison), _OVERALL_STYLES[comparison.overall], console)
    if said := doubt(comparison):
        _print_line(said, "dim", console)


def _print_line(text: str, style: str, console: Console) -> None:
    """One line; only a terminal folds it."""
    unfolded = not console.is_terminal
    console.print(escape(clean(text)), style=style, highlight=False, soft_wrap=unfolded)


def markdown(comparison: Comparison) -> str:
    """The report as a Markdown page: the verdict first, then changes, then every row."""
    lines = ["# twinboot: " + _md(overall_sentence(comparison)), ""]
    lines += [f"- {_md(line)}" for line in twins_lines(comparison.twins)]
    if said := doubt(comparison):
        lines.append(f"- {_md(said)}")
    changes = change_lines(comparison)
    if changes:
        lines += ["", "## Changes", ""]
        for change in reversed(changes):
            lines.append(f"- **{change.change.name}** {_md(change.where)}: {_md(change.sentence)}")
            lines += [f"  - also **{word.name}**: {_md(text)}" for word, text in change.also]
    if costs := cost_lines(comparison):
        lines += ["", "## Costs", "", *_md_rows(HEADS, (line.cells() for line in costs))]
    if found := complaints(comparison):
        lines += ["", "## The kernel's complaints", ""]
        lines += [f"- {_md(str(complaint))}" for complaint in found]
    lines += ["", "## Every case", "", *_md_table(comparison)]
    return "\n".join(lines) + "\n"


def _where(rows: list[Row]) -> str:
    """The cases, each with its swaps; many are only counted."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(row.case.id, []).append(row)
    names = [headlines(same) for same in cases.values()]
    if len(names) <= CASES_NAMED:
        return "; ".join(names)
    return f"{len(rows)} rows of {len(names)} cases ({'; '.join(names[:CASES_NAMED])}; ...)"


def _uneventful(row: Row) -> bool:
    """A guest that only did its duty needs no line."""
    return row.case == GUEST and not row.base.splats() and row.base.verdict is Verdict.PASS


def _verdict_words(row: Row) -> str:
    before, after = (_verdict(arm.verdict) for arm in (row.base, row.patched))
    if before == after:
        return f"{before} on both" if row.base.verdict not in (None, Verdict.PASS) else before
    return f"{before}, {after} with the patch"


def _verdict(verdict: Verdict | None) -> str:
    return verdict.name if verdict is not None else "none"


def _remark(row: Row) -> str:
    """What an unchanged row still has to say: why it fails or is skipped, old splats, measures."""
    said = [FOREIGN] if row.case.foreign else []
    if row.base.verdict not in (None, Verdict.PASS) and row.base.worst:
        said.append("; ".join(still_broken(row)) or row.base.worst.reason)
    known = row.base.splats() | row.patched.splats()
    said += [f"known splat {splat.title}" for splat in known.values()]
    for spec in row.case.measures:
        before, after = row.base.values(spec.name), row.patched.values(spec.name)
        if differs(spec, before, after):
            told = f"{spec.name} {span(before)} on base, {span(after)} with the patch"
            said.append(f"{told}: neither better nor worse")
    return "; ".join(said)


def _print_quiet(comparison: Comparison, console: Console) -> None:
    lines = quiet_lines(comparison)
    if not lines:
        return
    table = Table(box=None, pad_edge=False, show_header=False, highlight=False)
    for wraps in (False, True, False, True):
        table.add_column(overflow="fold", no_wrap=not wraps)
    for group, members in _by_group(lines):
        rows = sum(len(line.swaps) for line in members)
        table.add_row(f"[bold]{group}[/bold]", f"{rows} unchanged", "", "")
        for line in members:
            style = "green" if line.verdict == Verdict.PASS.name else "yellow"
            table.add_row(
                f"  {line.case}",
                ", ".join(line.swaps),
                f"[{style}]{escape(line.verdict)}[/{style}]",
                escape(line.remark),
            )
    console.print(table)
    console.print()


def _print_costs(comparison: Comparison, console: Console) -> None:
    lines = cost_lines(comparison)
    if not lines:
        return
    table = Table(*HEADS, box=None, pad_edge=False, highlight=False)
    for line in lines:
        table.add_row(*(escape(cell) for cell in line.cells()), style=_STYLES.get(line.change, ""))
    console.print(table)
    console.print()


def _by_group(lines: Iterable[QuietLine]) -> Iterator[tuple[str, list[QuietLine]]]:
    groups: dict[str, list[QuietLine]] = {}
    for line in lines:
        groups.setdefault(line.case.partition("/")[0], []).append(line)
    yield from groups.items()


def _print_change(line: ChangeLine, console: Console) -> None:
    style = _STYLES[line.change]
    console.print(
        f"[{style}]{line.change.name}[/{style}] [bold]{escape(line.where)}[/bold]: "
        f"{escape(line.sentence)}",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    for change, said in line.also:
        style = _STYLES[change]
        also = f"    also [{style}]{change.name}[/{style}]: {escape(said)}"
        console.print(also, highlight=False, soft_wrap=not console.is_terminal)


def _md_table(comparison: Comparison) -> Iterator[str]:
    yield "| case | swap | change | base | patched | measures (base, patched) | could have missed |"
    yield "|---|---|---|---|---|---|---|"
    for row in comparison.rows:
        measures = "; ".join(
            f"{spec.name} {span(row.base.values(spec.name))}, "
            f"{span(row.patched.values(spec.name))} {spec.unit}"
            for spec in row.case.measures
        )
        cells = (
            row.case.id,
            row.swap,
            row.change.name,
            _verdict(row.base.verdict),
            _verdict(row.patched.verdict),
            measures,
            "; ".join(row_doubt(row)),
        )
        yield "| " + " | ".join(_md(cell) for cell in cells) + " |"


def _md_rows(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(_md(cell) for cell in row) + " |"


def clean(text: str) -> str:
    """Guests are not trusted: no control character of theirs reaches a terminal."""
    return _CONTROL.sub(" ", text).strip()


def _md(text: str) -> str:
    """Text as Markdown shows it literally."""
    return re.sub(r"([\\|*<>\[\]])", r"\\\1", clean(text)).replace("_", r"\_")
