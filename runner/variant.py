# SPDX-License-Identifier: GPL-2.0-only
"""Which patches `--patch` means: a path or a short name, and of several versions the right one.

A variant is a folder with a folder per range of kernels, `5.10` or `5.15-5.17`, each a patch set.
It reads no patch; runner/patchset.py does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UserError
from runner.patchset import SUFFIXES

RANGE = re.compile(r"(\d+)\.(\d+)(?:-(\d+)\.(\d+))?")
NAME = re.compile(r"\w[\w.+-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Choice:
    """The patch set to load, None for the base. `name` is set where it was one of several."""

    path: Path | None
    name: str = ""


def find(asked: str, shelf: Path) -> Path | None:
    """What the user named: a path that exists or else what is on `shelf`; None for `none`.

    Raises UserError where there is neither.
    """
    if asked == "none":
        return None
    if not asked.strip():
        raise UserError("the patch has an empty name; write `none` for base against base")
    path = Path(asked).expanduser()
    if path.exists():
        return path
    if (listed := on_shelf(asked, shelf)) is not None:
        return listed
    named = [each for each in variants(shelf) if each.name == asked] if NAME.match(asked) else []
    if len(named) > 1:
        raise UserError(f"{asked} names several patch sets: {', '.join(map(str, named))}")
    if not named:
        raise UserError(
            f"the patch {asked} does not exist; `twinboot list patches` shows those that come along"
        )
    return named[0]


def on_shelf(asked: str, shelf: Path) -> Path | None:
    """What a path is as `twinboot list patches` prints it, whatever folder this is.

    None where it is nothing, or leads out of the shelf.
    """
    top = shelf.resolve()
    path = (top.parent / asked).resolve()
    return path if top in path.parents and path.exists() else None


def choose(path: Path | None, version: str) -> Choice:
    """The patch set in `path` for a kernel of this version; any other path is taken as it is.

    Raises UserError where a variant holds none for the version, or more than one.
    """
    if path is None or not is_variant(path):
        return Choice(path)
    fitting = [each for each in ranges(path) if holds(each.name, version)]
    if len(fitting) != 1:
        there = ", ".join(each.name for each in fitting or ranges(path))
        what = f"several patch sets ({there})" if fitting else f"no patch set ({there} only)"
        raise UserError(f"{path} holds {what} for Linux {version}")
    return Choice(fitting[0], f"{path.resolve().name}/{fitting[0].name}")


def variants(shelf: Path) -> tuple[Path, ...]:
    """The variants two levels below `shelf`, as in patches/reuse-swap-page/sketch."""
    return tuple(path for path in sorted(shelf.glob("*/*/")) if path.is_dir() and ranges(path))


def ranges(variant: Path) -> tuple[Path, ...]:
    """The folders of a variant that are named after kernels and do not lead out of it."""
    found = [path for path in _inside(variant) if path.is_dir() and RANGE.fullmatch(path.name)]
    return tuple(sorted(found, key=lambda path: _numbers(path.name)[0]))


def holds(name: str, version: str) -> bool:
    """Whether a kernel of this version (5.10.223, 7.1-rc2) is in the range `name`, both ends in."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        return False
    first, last = _numbers(name)
    return first <= (int(found.group(1)), int(found.group(2))) <= last


def _numbers(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    found = RANGE.fullmatch(name)
    assert found, name
    major, minor, last_major, last_minor = found.groups()
    first = (int(major), int(minor))
    return first, (int(last_major), int(last_minor)) if last_major else first


def is_variant(folder: Path | None) -> bool:
    """Patches or a series beside the version folders make it an ordinary folder."""
    if folder is None or not folder.is_dir():
        return False
    if (folder / "series").is_file() or (folder / "patches/series").is_file():
        return False
    ordinary = any(path.suffix in SUFFIXES and path.is_file() for path in folder.iterdir())
    return not ordinary and bool(ranges(folder))


def _inside(folder: Path) -> Iterator[Path]:
    here = folder.resolve()
    return (path for path in folder.iterdir() if path.resolve().is_relative_to(here))
