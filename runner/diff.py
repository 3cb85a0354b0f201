# SPDX-License-Identifier: GPL-2.0-only
"""Reads which files a diff touches, and refuses what no kernel patch has a reason to do.

It does not apply anything, and it trusts nothing that the diff says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
GIT_HEADER = re.compile(r"^diff --git (.+)$")
MODE = re.compile(r"^(?:old mode|new mode|new file mode|deleted file mode) (\d+)$")
INDEX_MODE = re.compile(r"^index [0-9a-f]+\.\.[0-9a-f]+ (\d+)$")
MOVE = re.compile(r"^(?:rename|copy) (?:from|to) (.+)$")
SPECIAL = {"120000": "a symbolic link", "160000": "a submodule"}
RESERVED = (".git", ".twinboot")


class Refused(ValueError):
    """Why a diff is not acceptable, as a clause that follows the patch's name."""


@dataclass(frozen=True, slots=True)
class Diff:
    """The files that a diff names, old and new, in order, and where its first header starts.

    `torn` is the line of the first hunk that is shorter or longer than it says, 0 if none is.
    """

    files: tuple[str, ...]
    start: int
    torn: int = 0


def read(text: str, strip: int = 1) -> Diff:
    """Scan a patch with `strip` leading folders removed from each path (as in `patch -pN`).

    Lines inside hunks are counted off, so that content never passes for a header.
    """
    files: dict[str, None] = {}
    start, torn = -1, 0
    for header in _headers(text.split("\n")):
        names = tuple(_names(header, strip))
        if names and start < 0:
            start = header.offset
        torn = torn or header.torn
        _refuse_kinds(header)
        files.update(dict.fromkeys(names))
    for name in files:
        reason = unsafe(name)
        if reason:
            raise Refused(f"names the path {name!r}, which {reason}")
    return Diff(tuple(files), max(start, 0), torn)


def unsafe(path: str) -> str | None:
    """Why a path must not be written to in a source tree, or None."""
    parts = path.split("/")
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "climbs out of the tree"
    if any(part.lower() in RESERVED for part in parts):
        return "is not part of a kernel source"
    if not path or "." in parts or "" in parts or "\\" in path or not path.isprintable():
        return "is not a plain path"
    return None


@dataclass(frozen=True, slots=True)
class _Header:
    """The lines between two runs of hunks that describe one file."""

    offset: int
    lines: tuple[str, ...]
    binary: bool = False
    torn: int = 0


def _headers(lines: list[str]) -> Iterator[_Header]:
    """One per `diff --git` line, and one per bare ---/+++ pair."""
    number, offset = 0, 0
    while number < len(lines):
        length = _header_length(lines, number)
        header = tuple(lines[number : number + length])
        end, torn = _skip_hunks(lines, number + length) if header else (number + 1, 0)
        if header:
            yield _Header(offset, header, any(_is_binary(line) for line in header), torn)
        offset += sum(len(line) + 1 for line in lines[number:end])
        number = end


def _header_length(lines: list[str], first: int) -> int:
    """How many lines from `first` on are one file's header; 0 when none starts there."""
    git = bool(GIT_HEADER.match(lines[first]))
    if not git and not _is_pair(lines, first) and not _is_binary(lines[first]):
        return 0
    length = 1
    while first + length < len(lines):
        here = first + length
        if HUNK.match(lines[here]) or GIT_HEADER.match(lines[here]):
            break
        if not git and length >= 2:
            break
        if git and not _belongs(lines[here]):
            break
        length += 1
    return length


def _belongs(line: str) -> bool:
    words = ("index ", "old mode", "new mode", "new file", "deleted file", "rename ", "copy ")
    more = ("similarity", "dissimilarity", "--- ", "+++ ", "GIT binary", "Binary files")
    return line.startswith((*words, *more))


def _is_pair(lines: list[str], first: int) -> bool:
    """A traditional header: --- and +++ and a hunk, as GNU patch and git want them."""
    three = [*lines[first : first + 3], "", ""][:3]
    return bool(
        three[0].startswith("--- ") and three[1].startswith("+++ ") and HUNK.match(three[2])
    )


def _is_binary(line: str) -> bool:
    return line == "GIT binary patch" or bool(re.match(r"Binary files .* differ$", line))


def _skip_hunks(lines: list[str], number: int) -> tuple[int, int]:
    """The line after the hunks, and the number of the first hunk that is torn."""
    torn = 0
    while number < len(lines) and (hunk := HUNK.match(lines[number])):
        old, new = (int(count) if count is not None else 1 for count in hunk.groups())
        number += 1
        first = number
        while number < len(lines) and (old > 0 or new > 0):
            mark = lines[number][:1]
            if mark not in ("", " ", "-", "+", "\\"):
                break
            old -= mark in ("", " ", "-")
            new -= mark in ("", " ", "+")
            number += 1
        if (old, new) != (0, 0):
            torn = torn or first
        while number < len(lines) and lines[number].startswith("\\"):
            number += 1
    return number, torn


def _refuse_kinds(header: _Header) -> None:
    if header.binary:
        raise Refused("holds a binary change; only text changes can be compared and reviewed")
    for line in header.lines:
        found = MODE.match(line) or INDEX_MODE.match(line)
        if not found:
            continue
        mode = found.group(1)
        if mode in SPECIAL:
            raise Refused(f"makes or changes {SPECIAL[mode]}, which is not accepted")
        if mode not in ("100644", "100755"):
            raise Refused(f"gives a file the mode {mode}; only 100644 and 100755 are accepted")


def _names(header: _Header, strip: int) -> Iterator[str]:
    """Every path in a header; the `diff --git` line counts where nothing else names the file."""
    found = False
    for line in header.lines:
        moved = MOVE.match(line)
        if line.startswith(("--- ", "+++ ")):
            name = line[4:].split("\t")[0].rstrip("\r")
            found = True
            if name != "/dev/null":
                yield _stripped(name, strip)
        elif moved:
            found = True
            yield _stripped(moved.group(1), max(strip - 1, 0))
    git = GIT_HEADER.match(header.lines[0])
    if git and not found:
        yield _same_twice(git.group(1), strip)


def _same_twice(names: str, strip: int) -> str:
    """`a/x b/x` has no separator of its own: both halves must be the same path."""
    half = len(names) // 2
    old, new = names[:half], names[half + 1 :]
    if _stripped(old, strip) != _stripped(new, strip):
        raise Refused(f"has the header 'diff --git {names}', which names no single file")
    return _stripped(new, strip)


def _stripped(name: str, strip: int) -> str:
    if name.startswith('"'):
        raise Refused(f"names the quoted path {name}; only plain paths are accepted")
    if name.startswith("/"):
        raise Refused(f"names the path {name!r}, which is absolute")
    parts = name.split("/")
    if len(parts) <= strip:
        raise Refused(f"names {name!r}, which has too few folders for -p{strip}")
    return "/".join(parts[strip:])
