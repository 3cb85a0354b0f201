# SPDX-License-Identifier: GPL-2.0-only
"""Known problems: changes for the worse that somebody accepts, with a reason, until a date.

An entry excuses one subject of a case and nothing else. It changes no evidence: what it excuses
is found as ever, and then called KNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.case import SWAP_NAMES, Better, UniqueKeys, first_fault
from runner.comparison import Comparison
from runner.counted import counted
from runner.errors import UserError
from runner.outcome import UNJUDGED, Verdict
from runner.row import Change, Finding, Row, Subject
from runner.variant import RANGE, holds

NAMED = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry. `case` and `swap` may be patterns, `name` is exactly the invariant, measure or
    splat signature; a measure is excused up to `limit`.
    """

    case: str
    swap: str
    subject: Subject
    name: str
    limit: float | None
    kernel: str
    reason: str
    link: str
    expires: date

    def __str__(self) -> str:
        where = "" if self.swap == "*" else f" on {self.swap}"
        return f"{self.case}{where}, {self.subject} `{self.name}`"

    @property
    def why(self) -> str:
        return f"{self.reason}, {self.link}, until {self.expires}"

    def covers(self, row: Row) -> bool:
        """Whether the entry is about this row."""
        return fnmatchcase(row.case.id, self.case) and fnmatchcase(row.swap, self.swap)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    case: Annotated[str, Field(min_length=1)]
    swap: str = "*"
    invariant: Annotated[str, Field(min_length=1)] | None = None
    measure: Annotated[str, Field(min_length=1)] | None = None
    splat: Annotated[str, Field(min_length=1)] | None = None
    limit: float | None = Field(None, allow_inf_nan=False)
    kernel: Annotated[str, Field(pattern=rf"^{RANGE.pattern}$")] | None = None
    reason: Annotated[str, Field(min_length=1)]
    link: Annotated[str, Field(pattern=r"^https?://\S+$")]
    expires: date


def load(path: Path) -> tuple[Problem, ...]:
    """Read a file of known problems; UserError names the entry and what is wrong with it."""
    try:
        rows = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the known problems {path}: {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path} must be a list of known problems, each beginning with `- case:`")
    return tuple(_problem(row, f"{path}: entry {number}") for number, row in enumerate(rows, 1))


def _problem(row: object, where: str) -> Problem:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} is {row!r:.60}; write `case:`, `reason:` and so on, one a line")
    try:
        entry = _Entry.model_validate(row)
    except ValidationError as error:
        raise UserError(f"{where}: {_fault(error)}") from error
    named: list[tuple[Subject, str | None]] = [
        ("invariant", entry.invariant),
        ("measure", entry.measure),
        ("splat", entry.splat),
    ]
    subjects = [(subject, name) for subject, name in named if name is not None]
    if len(subjects) != 1:
        raise UserError(f"{where}: give one of `invariant`, `measure` and `splat`")
    ((subject, name),) = subjects
    if (subject == "measure") != (entry.limit is not None):
        raise UserError(
            f"{where}: a measure, and nothing else, needs a `limit`: the worst accepted"
        )
    if not any(fnmatchcase(swap, entry.swap) for swap in SWAP_NAMES):
        raise UserError(f"{where}: there is no swap `{entry.swap}`")
    return Problem(
        case=entry.case,
        swap=entry.swap,
        subject=subject,
        name=name,
        limit=entry.limit,
        kernel=entry.kernel or "",
        reason=" ".join(entry.reason.split()),
        link=entry.link,
        expires=entry.expires,
    )


def _fault(error: ValidationError) -> str:
    """What is wrong with an entry, and how it is written right where a pattern would say it."""
    right = {
        "kernel": 'write a version or a range, as "5.10" or "5.10-5.18"',
        "link": "write the whole address, as https://example.org/1",
    }
    said, fault = first_fault(error, _Entry), error.errors()[0]
    if fault["type"] == "string_pattern_mismatch" and fault["loc"][0] in right:
        return f"`{fault['loc'][0]}` is {fault['input']!r:.60}; {right[fault['loc'][0]]}"
    return said


def excuse(comparison: Comparison, problems: Iterable[Problem], today: date) -> Comparison:
    """Call KNOWN what an entry excuses, and note every entry that needs somebody's hand."""
    release = comparison.twins.base.release
    ours = [each for each in problems if not each.kernel or holds(each.kernel, release)]
    live = [each for each in ours if each.expires >= today]
    rows = tuple(
        _excused(row, [each for each in live if each.covers(row)]) for row in comparison.rows
    )
    notes = tuple(_notes(comparison.rows, ours, today))
    twins = replace(comparison.twins, notes=(*comparison.twins.notes, *notes))
    return replace(comparison, rows=rows, twins=twins)


def _excused(row: Row, problems: Sequence[Problem]) -> Row:
    findings = [_called(row, finding, problems) for finding in row.findings]
    return replace(row, findings=tuple(sorted(findings, key=lambda each: -each.change)))


def _called(row: Row, finding: Finding, problems: Sequence[Problem]) -> Finding:
    if finding.subject == "run":
        why = _known_crash(row, finding, problems)
    else:
        fitting = (each for each in problems if _excuses(each, row, finding))
        why = next((each.why for each in fitting), "")
    return replace(finding, change=Change.KNOWN, known=why) if why else finding


def _excuses(problem: Problem, row: Row, finding: Finding) -> bool:
    if (problem.subject, problem.name) != (finding.subject, finding.name):
        return False
    if finding.subject == "invariant":
        return finding.change in (Change.REGRESSED, Change.FLAKY) and _fails_at_worst(row, problem)
    if finding.subject == "measure":
        return finding.change is Change.WORSENED and _within_limit(row, problem)
    return finding.change is Change.NEW_SPLAT


def _fails_at_worst(row: Row, problem: Problem) -> bool:
    """It held or failed; a run that skipped it, or did not say, is another matter."""
    checks = (*row.base.checks(problem.name), *row.patched.checks(problem.name))
    return {check.verdict for check in checks} <= {Verdict.PASS, Verdict.FAIL}


def _within_limit(row: Row, problem: Problem) -> bool:
    values, limit = row.patched.values(problem.name), problem.limit
    if limit is None:
        return False
    if row.case.measure(problem.name).better is Better.HIGHER:
        return min(values) >= limit
    return max(values) <= limit


def _known_crash(row: Row, finding: Finding, problems: Sequence[Problem]) -> str:
    """Why a crash is known: nothing but known splats ended the runs. A hang has no such name."""
    splats = {each.name: each.why for each in problems if each.subject == "splat"}
    why = ""
    for run in (*row.base.runs, *row.patched.runs):
        if run.process is Verdict.PASS:
            continue
        fatal = {splat.signature for splat in run.splats if splat.fatal}
        if run.process is not Verdict.CRASH or not fatal or not fatal <= set(splats):
            return ""
        why = splats[min(fatal)]
    return why if finding.change in (Change.REGRESSED, Change.FLAKY) else ""


def _notes(rows: Sequence[Row], problems: Sequence[Problem], today: date) -> Iterator[str]:
    idle = []
    for problem in problems:
        covered = [row for row in rows if problem.covers(row) and _has_subject(problem, row)]
        if not covered:
            idle.append(str(problem))
        else:
            yield from _state(problem, covered, today)
    if idle:
        more = ", ..." if len(idle) > NAMED else ""
        yield f"known problems that match no row of this run: {'; '.join(idle[:NAMED])}{more}"


def _has_subject(problem: Problem, row: Row) -> bool:
    if problem.subject == "invariant":
        return any(each.name == problem.name for each in row.case.invariants)
    if problem.subject == "measure":
        return any(each.name == problem.name for each in row.case.measures)
    return True


def _state(problem: Problem, rows: Sequence[Row], today: date) -> Iterator[str]:
    """What there is to say of an entry beside its KNOWN findings."""
    there = [row for row in rows if _happened(problem, row)]
    if problem.expires < today:
        now = "is still there, and counts" if there else "did not happen"
        yield f"the known problem {problem} expired on {problem.expires}; it {now} ({problem.link})"
    elif not there and (runs := sum(_told(problem, row) for row in rows)):
        yield (
            f"the known problem {problem} did not happen in {counted(runs, 'run')}; "
            f"remove it if it is solved ({problem.link})"
        )
    both = [row for row in there if problem.name in row.failing_on_both]
    if both:
        on = ", ".join(f"{row.case.id} on {row.swap}" for row in both)
        yield f"the known problem {problem} is there on both kernels: {on} ({problem.why})"


def _happened(problem: Problem, row: Row) -> bool:
    """Whether any run with the patch shows it."""
    if problem.subject == "invariant":
        return any(check.verdict is Verdict.FAIL for check in row.patched.checks(problem.name))
    if problem.subject == "measure":
        return Finding(Change.WORSENED, "measure", problem.name) in row.findings
    return problem.name in row.patched.splats()


def _told(problem: Problem, row: Row) -> int:
    """How many runs with the patch came far enough to show it."""
    if problem.subject == "invariant":
        checks = row.patched.checks(problem.name)
        return sum(check.verdict in (Verdict.PASS, Verdict.FAIL) for check in checks)
    if problem.subject == "measure":
        return len(row.patched.values(problem.name))
    return sum(run.ran and run.verdict not in UNJUDGED for run in row.patched.runs)
