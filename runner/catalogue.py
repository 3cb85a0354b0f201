# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot list` shows: cases, costs, swaps, patches, sources, fragments, runs, as tables.

It reads folders and the case table; nothing is fetched, built or judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.table import Table

from runner import case, host, variant
from runner import each as series
from runner.debian import PINNED
from runner.errors import UserError
from runner.experiment import CASES, COSTS, DEFAULT_SOURCE, FRAGMENTS, PATCHES, ROOT, plan_of
from runner.swap import SWAPS

Rows = Iterator[tuple[str, ...]]


def table(what: str) -> Table:
    """The table of one kind of thing; UserError names the kinds there are."""
    if what not in TABLES:
        raise UserError(f"cannot list {what!r}; choose from {', '.join(TABLES)}")
    heads, rows = TABLES[what]
    made = Table(box=None, pad_edge=False)
    for head in heads:
        made.add_column(head, overflow="fold")
    for row in rows():
        made.add_row(*row)
    return made


def _cases() -> Rows:
    yield from _table_of(CASES)


def _costs() -> Rows:
    yield from _table_of(COSTS)


def _table_of(folder: Path) -> Rows:
    for each in case.load(folder):
        yield each.id, ", ".join(each.swaps), each.catches


def _swaps() -> Rows:
    for swap in SWAPS:
        yield swap.kind, f"{swap.mib} MiB", swap.about


def _patches() -> Rows:
    """Variants by their short names, a row for each range of kernels; then single patches."""
    folders = sorted(path.parent for path in PATCHES.rglob("series"))
    short = {path: each.name for each in variant.variants(PATCHES) for path in variant.ranges(each)}
    for folder in folders:
        names = [line.split()[0] for line in _lines(folder / "series")]
        length = f"{len(names)} patch{'es' if len(names) > 1 else ''}"
        if folder in short:
            yield short[folder], f"{length} for {folder.name}", _subject(folder / names[-1])
        else:
            yield str(folder.relative_to(ROOT)), length, _subject(folder / names[-1])
    for path in sorted(PATCHES.rglob("*.patch")):
        if path.parent not in folders:
            yield str(path.relative_to(ROOT)), "1 patch", _subject(path)


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _subject(path: Path) -> str:
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("Subject:"):
            return line.removeprefix("Subject:").split("]", 1)[-1].strip()
    return ""


def _sources() -> Rows:
    pinned = PINNED[DEFAULT_SOURCE.removeprefix("debian:")]
    yield DEFAULT_SOURCE, f"the default: Debian's package in version {pinned}, through apt"
    for line in ("6.12", "7.2"):
        yield f"debian:linux-source-{line}", "the newest version of it that the mirror has"
    yield f"{DEFAULT_SOURCE}={pinned}", "one version of a package"
    yield "dir:PATH", "a source tree; copied, never written to"
    yield "tar:FILE#sha256=HEX", "a tarball, checked where a checksum is given"
    yield "git:PATH@REF", "any ref of a repository; its work tree and index stay as they are"


def _fragments() -> Rows:
    for path in sorted((ROOT / "kconfigs").glob("*.config")):
        comments = (line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#")
        about = next((line for line in comments if line and "SPDX" not in line), "")
        yield path.stem, "always" if path.stem in FRAGMENTS else "--kconfig", about


def _runs() -> Rows:
    """Those in the cache, the newest first, with the word that was said last."""
    plans = (host.cache_dir() / "runs").glob("*/plan.json")
    for folder in (path.parent for path in sorted(plans, key=_age, reverse=True)):
        try:
            plan = plan_of(folder)
        except UserError:
            continue
        yield folder.name, plan.patch, plan.source, _said(folder)


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _said(folder: Path) -> str:
    try:
        return str(json.loads((folder / "comparison.json").read_bytes())["sentence"])
    except FileNotFoundError:
        return "a walk: series.md" if series.is_walk(folder) else "not finished"
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"


TABLES: dict[str, tuple[tuple[str, ...], Callable[[], Rows]]] = {
    "cases": (("case", "swap", "what it would catch"), _cases),
    "costs": (("cost case", "swap", "what it would catch"), _costs),
    "swaps": (("swap", "size", "what it is"), _swaps),
    "patches": (("patch set", "length", "subject of the last"), _patches),
    "sources": (("source", "what it is"), _sources),
    "fragments": (("fragment", "when", "what it is for"), _fragments),
    "runs": (("run", "patch", "source", "verdict"), _runs),
}
