# SPDX-License-Identifier: GPL-2.0-only
"""Reads what a guest program printed: KTAP results and our `# measure:` and kindred lines.

It does not judge: contradictions are listed as problems for the judge, never resolved.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TypeVar

_VERSION = re.compile(r"(?:KTAP version|TAP version) \d+\s*$")
_PLAN = re.compile(r"1\.\.(\d{1,9})(?:\s+#\s*SKIP\b\s*(.*))?\s*$")
_POINT = re.compile(r"(not )?ok (\d{1,9})(?:\s+(.*))?$")
_BAIL = re.compile(r"Bail out!\s*(.*)$")
_DIRECTIVE = re.compile(r"(?:^|\s)#\s*(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)$", re.IGNORECASE)
_NESTING = re.compile(r"(?:  |# )")
_NOTE = re.compile(r"# (proof|measure|tries):\s*(.*)$")

NO_VERSION = "there is no version line"

_SKIPPED = frozenset({"SKIP", "TODO", "XFAIL"})
_FAILED = frozenset({"TIMEOUT", "ERROR"})


@dataclass(frozen=True, slots=True)
class Point:
    """One `ok` or `not ok` line; `children` are the lines of its subtest."""

    number: int
    ok: bool
    name: str
    text: str
    directive: str
    reason: str
    children: tuple[Point, ...] = ()

    @property
    def skipped(self) -> bool:
        return self.directive in _SKIPPED

    @property
    def failed(self) -> bool:
        return self.directive in _FAILED or (not self.ok and not self.skipped)

    @property
    def passed(self) -> bool:
        return self.ok and not self.directive


@dataclass(frozen=True, slots=True)
class Proof:
    """`# proof: NAME ok|missing TEXT`: whether the path under test was seen to run."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Measure:
    """`# measure: NAME VALUE UNIT`."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Tries:
    """`# tries: INVARIANT TRIED failed FAILED`."""

    name: str
    tried: int
    failed: int


_Noted = TypeVar("_Noted", Proof, Measure, Tries)


@dataclass(frozen=True, slots=True)
class KtapResult:
    """What was said. `problems` are the reasons not to believe all of it."""

    points: tuple[Point, ...]
    planned: int | None
    proofs: tuple[Proof, ...]
    measures: tuple[Measure, ...]
    tries: tuple[Tries, ...]
    problems: tuple[str, ...]
    skip_all: str | None = None


@dataclass(slots=True)
class _Group:
    """The lines of one nesting level while they are read."""

    planned: int | None = None
    points: list[Point] = field(default_factory=list)


@dataclass(slots=True)
class _Reading:
    levels: list[_Group] = field(default_factory=lambda: [_Group()])
    proofs: list[Proof] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    tries: list[Tries] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    versioned: bool = False
    skip_all: str | None = None


def parse_ktap(text: str) -> KtapResult:
    """Read a program's whole output. Never raises; unknown lines are legal and skipped."""
    reading = _Reading()
    lines, cut_off = _lines(text)
    for line in lines:
        _read(reading, line)
    if cut_off and _is_result(cut_off):
        reading.problems.append(f"the output stops within a line: `{cut_off[:80]}`")
    return _result(reading)


def _lines(text: str) -> tuple[list[str], str]:
    """Whole lines, and the last one apart when its newline never came: `ok 1` may be `ok 12`."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return lines[:-1], lines[-1]


def _is_result(line: str) -> bool:
    bare = line.lstrip(" #")
    return bare.startswith(("ok ", "not ok ", "1..")) or bool(_NOTE.match(line))


def _read(reading: _Reading, line: str) -> None:
    note = _NOTE.match(line)
    if note:
        _read_note(reading, note.group(1), note.group(2))
        return
    depth, bare = _depth(line)
    if depth >= len(reading.levels) and not _opens_level(reading, depth, bare):
        return
    if _VERSION.match(bare):
        reading.versioned = reading.versioned or depth == 0
    elif plan := _PLAN.match(bare):
        _read_plan(reading, depth, plan)
    elif point := _POINT.match(bare):
        _read_point(reading, depth, point)
    elif depth == 0 and (bail := _BAIL.match(bare)):
        reading.problems.append(f"the program gave up: {bail.group(1) or 'no reason given'}")


def _depth(line: str) -> tuple[int, str]:
    depth = 0
    while match := _NESTING.match(line):
        line, depth = line[match.end() :], depth + 1
    return depth, line


def _opens_level(reading: _Reading, depth: int, bare: str) -> bool:
    """A subtest is announced by a version line or a plan; without one, `# ok 1` is a remark."""
    if depth != len(reading.levels) or not (_VERSION.match(bare) or _PLAN.match(bare)):
        return False
    reading.levels.append(_Group())
    return True


def _read_plan(reading: _Reading, depth: int, plan: re.Match[str]) -> None:
    group = reading.levels[depth]
    if group.planned is not None:
        reading.problems.append("the plan is given twice")
        return
    group.planned = int(plan.group(1))
    if depth == 0 and plan.group(2) is not None:
        reading.skip_all = plan.group(2) or "no reason given"


def _read_point(reading: _Reading, depth: int, match: re.Match[str]) -> None:
    children = _close_above(reading, depth)
    description = match.group(3) or ""
    directive, reason = "", ""
    if marked := _DIRECTIVE.search(description):
        directive, reason = marked.group(1).upper(), marked.group(2).strip()
        description = description[: marked.start()]
    name, _, rest = description.strip().removeprefix("- ").partition(" ")
    point = Point(
        number=int(match.group(2)),
        ok=not match.group(1),
        name=name,
        text=rest.strip(),
        directive=directive,
        reason=reason,
        children=children,
    )
    if point.passed and any(child.failed for child in children):
        reading.problems.append(f"`ok {point.number} {name}` although its subtest failed")
    reading.levels[depth].points.append(point)


def _close_above(reading: _Reading, depth: int) -> tuple[Point, ...]:
    """End every level deeper than `depth`; the points of the next one are the new children."""
    children: tuple[Point, ...] = ()
    while len(reading.levels) > depth + 1:
        group = reading.levels.pop()
        _check_group(reading, group)
        children = tuple(group.points)
    return children


def _check_group(reading: _Reading, group: _Group) -> None:
    numbers = [point.number for point in group.points]
    if numbers and group.planned is None:
        reading.problems.append("there are results but no plan")
    if group.planned is not None and len(numbers) != group.planned and reading.skip_all is None:
        reading.problems.append(f"planned {group.planned} results, found {len(numbers)}")
    if len(set(numbers)) != len(numbers):
        reading.problems.append("a result number is given twice")
    elif numbers != list(range(1, len(numbers) + 1)):
        reading.problems.append(f"result numbers are {numbers[:8]}, not 1 to {len(numbers)}")


def _read_note(reading: _Reading, kind: str, rest: str) -> None:
    words = rest.split(maxsplit=2)
    if kind == "proof":
        understood = _keep(_proof(words), reading.proofs)
    elif kind == "measure":
        understood = _keep(_measure(words), reading.measures)
    else:
        understood = _keep(_tries(words), reading.tries)
    if not understood:
        reading.problems.append(f"cannot use `# {kind}: {rest[:80]}` (malformed, or given twice)")


def _keep(note: _Noted | None, kept: list[_Noted]) -> bool:
    """Add a note unless it is malformed or the second of its name."""
    if note is None or any(other.name == note.name for other in kept):
        return False
    kept.append(note)
    return True


def _proof(words: list[str]) -> Proof | None:
    if len(words) < 2 or words[1] not in ("ok", "missing"):
        return None
    return Proof(words[0], words[1] == "ok", words[2] if len(words) > 2 else "")


def _measure(words: list[str]) -> Measure | None:
    try:
        value = float(words[1])
    except (IndexError, ValueError):
        return None
    if not math.isfinite(value):
        return None
    return Measure(words[0], value, words[2].strip() if len(words) > 2 else "")


def _tries(words: list[str]) -> Tries | None:
    match = re.match(r"(\S+) (\d{1,12}) failed (\d{1,12})\s*$", " ".join(words))
    if not match or int(match.group(3)) > int(match.group(2)):
        return None
    return Tries(match.group(1), int(match.group(2)), int(match.group(3)))


def _result(reading: _Reading) -> KtapResult:
    orphans = _close_above(reading, 0)
    if orphans:
        reading.problems.append("a subtest has no result line of its parent")
    top = reading.levels[0]
    _check_group(reading, top)
    if top.points and not reading.versioned:
        reading.problems.append(NO_VERSION)
    reached = tuple(point for point in top.points if not _not_reached(point))
    unreached = [point.reason for point in top.points if _not_reached(point)]
    return KtapResult(
        points=reached,
        planned=top.planned,
        proofs=tuple(reading.proofs),
        measures=tuple(reading.measures),
        tries=tuple(reading.tries),
        problems=tuple(dict.fromkeys(reading.problems)),
        skip_all=unreached[0] if unreached else reading.skip_all,
    )


def _not_reached(point: Point) -> bool:
    """What guest-tests' skip_all() prints for each invariant that the plan still owes."""
    return point.skipped and point.name == "not_reached"
