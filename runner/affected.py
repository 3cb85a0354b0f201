# SPDX-License-Identifier: GPL-2.0-only
"""Which cases a patch can affect, by what the known-bad kernels taught: who noticed a bug where.

Nobody declares that a case covers a function. Each patch of patches/known-bad changes some, and
names the cases that were measured to notice (`Caught-by:`). A patch to the same functions is tried
with the same cases first. It is a place to begin, not a proof: what is left out was not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_HUNK = re.compile(r"^@@ -\S+ \+\S+ @@ ?(.*)$")
_FILE = re.compile(r"^\+\+\+ (?:[^/\s]+/)(\S+)")
_OLD = re.compile(r"^--- (?:[^/\s]+/)(\S+)")
_C = ".c"
_HEADER = ".h"

# A definition's line with the name; its type may stand on the line before
_FUNCTION = re.compile(r"\b([A-Za-z_]\w*)\(")
_ATTRIBUTE = re.compile(
    r"\b__attribute__\s*\(\(.*?\)\)|\b__(?:printf|scanf|aligned|section|alloc_size)\s*\([^()]*\)"
)
_SYSCALL = re.compile(r"^(?:COMPAT_)?SYSCALL_DEFINE\d\(\s*(\w+)")
_LABEL = re.compile(r"^\w+:(?!:)")
_MACRO = re.compile(r"^#\s*(?:define|undef)\b")
# What no kernel is changed by: where a function begins and ends, and comments outside of all
_BRACE = re.compile(r"^[{}]$")
_COMMENT = re.compile(r"^(?:/\*(?!.*\*/\s*\S)| \*(?!.*\*/\s*\S)|//)")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A function of a file; no function where a change lies outside of all, or nobody can tell."""

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
    """Every function that a patch changes, of files in C; of others just the file.

    A function that the patch adds counts only if it changes nothing else: its callers are changed.
    """
    found: set[Place] = set()
    added: set[Place] = set()
    file, lines = "", _Lines()
    for line in patch.splitlines():
        named = _FILE.match(line) or _OLD.match(line)
        hunk = _HUNK.match(line)
        if named or line == "-- ":  # a mail ends with that
            added |= lines.added(file)
            file, lines = named.group(1) if named else "", _Lines()
        elif hunk:
            lines.begin(hunk.group(1))
        elif file and line[:1] in ("+", "-", " "):
            changed = lines.read(line[0], line[1:])
            if file.endswith(_C) and changed is not None:
                found.add(Place(file, changed))
            elif line[0] != " " and line[1:].strip() and not file.endswith(_C):
                found.add(Place(file))
    added |= lines.added(file)
    return frozenset(found - added or found)


class _Lines:
    """Walks through the hunks of a file in C: in which function each line is, before and after."""

    def __init__(self) -> None:
        self._inside = {"-": "", "+": ""}
        self._defined: dict[str, set[str]] = {"-": set(), "+": set()}

    def begin(self, header: str) -> None:
        """A hunk begins; git's header is the last line before it that begins with a letter."""
        self._enter("-+", header)

    def read(self, sign: str, text: str) -> str | None:
        """Where a changed line is; None where the line changes nothing."""
        sides = "-+" if sign == " " else sign
        before = self._inside[sides[0]]
        if text[:1].strip():
            self._enter(sides, text)
        if sign == " " or not text.strip() or _BRACE.match(text):
            return None
        inside = self._inside[sign]
        if text.startswith("}"):
            return before
        if text.endswith("\\"):
            return ""
        return None if not inside and _COMMENT.match(text) else inside

    def _enter(self, sides: str, text: str) -> None:
        """A line that begins in the first column: a function begins or ends there, or neither."""
        if text.startswith("{") or _LABEL.match(text):
            return
        if text.startswith("#") and not _MACRO.match(text):
            return
        for side in sides:
            self._inside[side] = _name(text)
            self._defined[side].add(_name(text))

    def added(self, file: str) -> set[Place]:
        """The functions of `file` that were not there before."""
        return {Place(file, name) for name in self._defined["+"] - self._defined["-"] if name}


def _name(text: str) -> str:
    """The function that a line in the first column defines; none if it defines something else."""
    if syscall := _SYSCALL.match(text):
        return syscall.group(1)
    text = _ATTRIBUTE.sub("", text)
    if not re.match(r"\w", text) or re.search(r"[;=]", text) or text.startswith("typedef"):
        return ""
    found = _FUNCTION.search(text)
    # DEFINE_PER_CPU() and its like
    return found.group(1) if found and not found.group(1).isupper() else ""


def affected(patch: Iterable[Place], lessons: tuple[Lesson, ...]) -> Affected:
    """The cases that noticed bugs in the same functions; for a function that no bug was in, and for
    what is outside of all functions, those of the file. A place for which that is no case makes
    them unknown. Only a header beside code has no say.
    """
    wanted = sorted(patch)
    code = [place for place in wanted if not place.file.endswith(_HEADER)] or wanted
    cases: set[str] = set()
    for place in code:
        near = _near(place, lessons)
        if not near:
            known = any(place in lesson.places for lesson in lessons)
            where = _told(place) if known else place.file
            return Affected(frozenset(), f"none of these cases noticed a known bug in {where}")
        cases |= near
    if not cases:
        return Affected(frozenset(), "the patch changes nothing")
    names = dict.fromkeys(map(_told, code))
    return Affected(frozenset(cases), f"they noticed bugs in or beside {', '.join(names)}")


def _told(place: Place) -> str:
    return f"{place.function}()" if place.function else place.file


def _near(place: Place, lessons: tuple[Lesson, ...]) -> set[str]:
    """A lesson that does not say in which function of the file it was is one of each of them."""
    beside = [each for each in lessons if any(it.file == place.file for it in each.places)]
    exact = [each for each in beside if place in each.places] if place.function else []
    if not exact:
        return _cases(beside)
    vague = _cases(each for each in beside if Place(place.file) in each.places)
    found = _cases(exact)
    return found | vague if found else found


def _cases(lessons: Iterable[Lesson]) -> set[str]:
    return {case for lesson in lessons for case in lesson.cases}
