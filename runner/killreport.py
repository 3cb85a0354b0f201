# SPDX-License-Identifier: GPL-2.0-only
"""Lays a kill table out: for the terminal, as Markdown, as JSON (`twinboot-killtable` version 1).

It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from runner.counted import counted
from runner.judging import GUEST
from runner.killtable import Fate, KillTable, Trialled

FORMAT = "twinboot-killtable"
VERSION = 1


def print_table(table: KillTable, console: Console) -> None:
    """One line for each bug; what is wrong comes last."""
    made = Table(box=None, pad_edge=False, highlight=False)
    for head in ("known bug", "killed by", "told apart by", "survived"):
        made.add_column(head, overflow="fold")
    for each in table.bugs:
        made.add_row(each.bug.name, *_cells(each))
    console.print(made)
    console.print()
    for line in remarks(table):
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def remarks(table: KillTable) -> Iterator[str]:
    """What a reader has to know: holes, claims that are not met, dead weight; then the sum."""
    for each in table.bugs:
        if each.why_not:
            yield f"NOT RUN {each.bug.name}: {each.why_not}"
        for claim in each.moot:
            yield f"note: {each.bug.name}: {claim} fails on base too"
    for name in table.dead_weight:
        yield f"DEAD WEIGHT {name}: it notices none of these bugs"
    for name, claim in table.unmet:
        yield f"NOT CAUGHT {name}: its message says that {claim} catches it"
    for name in table.survivors:
        yield f"SURVIVOR {name}: nothing that ran noticed"
    killed = sum(bool(each.by(Fate.KILLED)) for each in table.bugs)
    told = sum(bool(each.by(Fate.TOLD_APART)) for each in table.bugs if not each.by(Fate.KILLED))
    parts = [f"{killed} killed", f"{told} told apart", f"{len(table.survivors)} survived"]
    parts += [f"{len(table.undecided)} undecided"] if table.undecided else []
    yield f"{counted(len(table.bugs), 'known bug')} in Linux {table.base}: {', '.join(parts)}"


def markdown(table: KillTable) -> str:
    """The same as a page, with the table turned round below it: which bugs each case noticed."""
    lines = ["# twinboot: known bugs and what notices them", "", f"- {_md(_extent(table))}"]
    lines += [f"- {_md(line)}" for line in remarks(table)]
    lines += ["", "| known bug | killed by | told apart by | survived |", "|---|---|---|---|"]
    for each in table.bugs:
        cells = " | ".join(_md(cell) for cell in _cells(each))
        lines.append(f"| {each.bug.name} | {cells} |")
    lines += ["", "| case | kills | tells apart |", "|---|---|---|", *_by_case(table)]
    return "\n".join(lines) + "\n"


def _extent(table: KillTable) -> str:
    """How much was run for it."""
    rows = [row for each in table.bugs for row in each.rows if row.case != GUEST]
    swaps = ", ".join(sorted({row.swap for row in rows}))
    runs = sum(len(row.patched.runs) for row in rows)
    base = {(row.case.id, row.swap): len(row.base.runs) for row in rows}
    return (
        f"swap: {swaps}; {counted(runs, 'run')} of cases with a bug, {sum(base.values())} on base"
    )


def _by_case(table: KillTable) -> Iterator[str]:
    fates = [(each.bug.name, each.fates) for each in table.bugs]
    for name in dict.fromkeys(name for _, found in fates for name in found):
        cells = (
            ", ".join(bug for bug, found in fates if found.get(name) is one)
            for one in (Fate.KILLED, Fate.TOLD_APART)
        )
        yield f"| {_md(name)} | {' | '.join(cells)} |"


def document(table: KillTable) -> dict[str, Any]:
    """For other programs."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "base": table.base,
        "exit_code": table.exit_code,
        "survivors": list(table.survivors),
        "not_caught": [
            {"bug": name, "case": claim.case, "subject": claim.subject}
            for name, claim in table.unmet
        ],
        "dead_weight": list(table.dead_weight),
        "undecided": list(table.undecided),
        "bugs": [_bug(each) for each in table.bugs],
    }


def _bug(each: Trialled) -> dict[str, Any]:
    return {
        "name": each.bug.name,
        "survived": each.survived,
        "not_run": each.why_not,
        "caught_by": [str(claim) for claim in each.bug.claims],
        "fails_on_base_too": [str(claim) for claim in each.moot],
        "cases": {name: one.word for name, one in each.fates.items()},
        "rows": [
            {
                "case": row.case.id,
                "swap": row.swap,
                "findings": [
                    {"change": found.change.name, "subject": found.subject, "name": found.name}
                    for found in row.findings
                ],
                "base": [run.verdict.name for run in row.base.runs],
                "bug": [run.verdict.name for run in row.patched.runs],
                "reason": row.patched.worst.reason if row.patched.worst else "",
            }
            for row in each.rows
        ],
    }


def _cells(each: Trialled) -> tuple[str, str, str]:
    killed, told = each.by(Fate.KILLED), each.by(Fate.TOLD_APART)
    left = each.by(Fate.SURVIVED)
    unclear = each.by(Fate.UNDECIDED)
    rest = _names(left) if not (killed or told) else _count(left)
    if unclear:
        rest = "; ".join(part for part in (rest, f"undecided: {_names(unclear)}") if part)
    return _names(killed), _names(told), rest


def _count(cases: tuple[str, ...]) -> str:
    return counted(len(cases), "case") if cases else ""


def _names(cases: Iterable[str]) -> str:
    """`cow/a, b; fork/c`: the group said once."""
    groups: dict[str, list[str]] = {}
    for name in cases:
        group, _, rest = name.rpartition("/")
        groups.setdefault(group, []).append(rest)
    return "; ".join(f"{group}/{', '.join(rest)}" for group, rest in groups.items())


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
