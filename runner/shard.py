# SPDX-License-Identifier: GPL-2.0-only
"""Cuts a run into shards: which rows of its table which part of it has.

A row, one case on one swap, goes with both its arms into one shard. Nothing is booted or read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from runner.case import Case
from runner.counted import counted
from runner.errors import UserError
from runner.row import Row

# A boot takes about as long as cases with so much of a deadline, which are done in a tenth of it
BOOT_DEADLINES_S = 100.0
RowKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cut:
    """All rows of a run by shard; `mine` is the shard whose evidence this is, 0: all of them."""

    shards: tuple[tuple[RowKey, ...], ...]
    mine: int = 0

    @property
    def rows(self) -> tuple[RowKey, ...]:
        chosen = self.shards[self.mine - 1 : self.mine] if self.mine else self.shards
        return tuple(row for shard in chosen for row in shard)

    @property
    def name(self) -> str:
        return f"shard {self.mine} of {len(self.shards)}"


def parse(text: str) -> tuple[int, int]:
    """Read `--shard I/N`; nothing is the whole, which is no shard of one."""
    if not text:
        return 0, 1
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    number, count = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--shard is {text!r}; write it as 1/3, 2/3 or 3/3")
    return number, count


def cut(cases: Sequence[Case], swaps: Sequence[str], text: str) -> Cut:
    """Cut the table so that shards take about as long, by the cases' deadlines.

    Rows stay in the order of boots, swap by swap, so that few swaps are booted in two shards. The
    same cases and swaps give the same cut everywhere.
    """
    number, count = parse(text)
    rows = tuple(_weighed(cases, swaps))
    total = sum(weight for _, weight in rows)
    shards: list[list[RowKey]] = [[] for _ in range(count)]
    before = 0.0
    for row, weight in rows:
        middle = before + weight / 2
        shards[min(count - 1, int(middle * count / total))].append(row)
        before += weight
    return Cut(tuple(tuple(shard) for shard in shards), number)


def _weighed(cases: Sequence[Case], swaps: Sequence[str]) -> Iterator[tuple[RowKey, float]]:
    for swap in swaps:
        boot = BOOT_DEADLINES_S
        for case in cases:
            if swap in case.swaps:
                yield (case.id, swap), boot + case.deadline
                boot = 0.0


def narrowed(cases: Iterable[Case], rows: Iterable[RowKey]) -> tuple[Case, ...]:
    """The cases on these rows' swaps alone; a case without any is left out."""
    wanted = frozenset(rows)
    kept = (
        replace(case, swaps=tuple(swap for swap in case.swaps if (case.id, swap) in wanted))
        for case in cases
    )
    return tuple(case for case in kept if case.swaps)


def missing(whole: Cut, rows: Iterable[Row], repeats: int) -> tuple[str, ...]:
    """What has not run as often as planned: shards of which there is nothing, and single rows."""
    done = {
        (row.case.id, row.swap)
        for row in rows
        if min(len(row.base.runs), len(row.patched.runs)) >= repeats
    }
    said, single = [], 0
    for number, shard in enumerate(whole.shards, 1):
        left = [row for row in shard if row not in done]
        if whole.mine not in (0, number) or not left:
            continue
        if len(whole.shards) > 1 and not whole.mine and len(left) == len(shard):
            said.append(f"shard {number} of {len(whole.shards)}")
        else:
            single += len(left)
    if single:
        planned = counted(len(whole.rows), "row")
        said.append(f"{single} of {planned}, which have not run as often as planned")
    return tuple(said)
