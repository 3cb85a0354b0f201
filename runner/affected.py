# SPDX-License-Identifier: GPL-2.0-only
"""Which cases a patch can affect, by what the known-bad kernels taught: who noticed a bug where.

Nobody declares that a case covers a function. Each patch of patches/known-bad changes some, and
names the cases that were measured to notice (`Caught-by:`). A patch to the same functions is tried
with the same cases first. It is a place to begin, not a proof: what is left out was not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# What git's hunk header ends with, and a definition's first line within a hunk
_HUNK = re.compile(r"^@@ -\S+ \+\S+ @@ ?(.*)$")
_FILE = re.compile(r"^\+\+\+ (?:[^/\s]+/)(\S+)")
_OLD = re.compile(r"^--- (?:[^/\s]+/)(\S+)")
_FUNCTION = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_DEFINITION = re.compile(
    r"^[ +-]((?:static|unsigned|void|int|bool|long|struct|enum|vm_fault_t|size_t)\b.*)"
)
_CODE = (".c", ".S")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A function of a file; no function where a hunk lies outside of all."""

    file: str
    function: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Where a known bug was, and the ids of the cases that noticed it."""

    places: frozenset[Place]
    cases: frozenset[str]


@dataclass(frozen=True, slots=True)
class Affected:
    """The ids of the cases to begin with, none if nothing is known, and why these."""

    cases: frozenset[str]
    why: str


def places(patch: str) -> frozenset[Place]:
    """Every function that a patch changes, of files with code; of others just the file.

    A function that the patch adds counts only if it changes no other: its callers are changed.
    """
    found = frozenset(_places(patch.splitlines()))
    old = frozenset(place for place, new in found if not new)
    return old or frozenset(place for place, _ in found)


def _places(lines: Iterable[str]) -> Iterator[tuple[Place, bool]]:
    """Each with whether its function is a new one."""
    file, function, new = "", "", False
    for line in lines:
        named = _FILE.match(line) or _OLD.match(line)
        hunk = _HUNK.match(line)
        if named:
            file, function, new = named.group(1), "", False
        elif hunk:
            function, new = _name(hunk.group(1)), False
        elif found := _DEFINITION.match(line):
            function, new = _name(found.group(1)), line[0] == "+"
        elif line[:1] in ("+", "-") and line[1:].strip() and file:
            code = file.endswith(_CODE)
            yield Place(file, function if code else ""), new and code


def _name(text: str) -> str:
    found = _FUNCTION.search(text)
    return found.group(1) if found else ""


def affected(patch: Iterable[Place], lessons: tuple[Lesson, ...]) -> Affected:
    """The cases that noticed bugs in the same functions; for a function that no bug was in, those
    of its file. A file that no bug was in makes them unknown, but for a header beside code.
    """
    wanted = sorted(patch)
    code = [place for place in wanted if place.file.endswith(_CODE)] or wanted
    cases: set[str] = set()
    for place in code:
        near = _cases(lesson for lesson in lessons if place in lesson.places)
        near = near or _cases(
            lesson for lesson in lessons if any(each.file == place.file for each in lesson.places)
        )
        if not near:
            return Affected(frozenset(), f"no known bug was in {place.file}")
        cases |= near
    if not cases:
        return Affected(frozenset(), "the patch changes nothing")
    names = dict.fromkeys(f"{place.function}()" if place.function else place.file for place in code)
    return Affected(frozenset(cases), f"they noticed bugs in or beside {', '.join(names)}")


def _cases(lessons: Iterable[Lesson]) -> set[str]:
    return {case for lesson in lessons for case in lesson.cases}
