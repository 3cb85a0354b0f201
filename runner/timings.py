# SPDX-License-Identifier: GPL-2.0-only
"""Where the time of a run went: the steps before the guests, their boots, and their cases.

Wall-clock seconds of the host, to see what to make faster; no verdict is made of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from runner.transcript import Transcript

SLOWEST = 8


@dataclass(frozen=True, slots=True)
class Told:
    """A line of progress, and how many seconds after the start it came."""

    seconds: float
    line: str


@dataclass(frozen=True, slots=True)
class Timing:
    """One row: how often something was done, the middle of its seconds, and all of them."""

    what: str
    times: int
    middle: float
    total: float

    def cells(self) -> tuple[str, str, str, str]:
        return self.what, str(self.times), f"{self.middle:.1f}", f"{self.total:.1f}"


HEADS = ("step", "times", "seconds, median", "in all")


def steps(told: Sequence[Told], end: float) -> tuple[Timing, ...]:
    """Each line of progress lasted until the next one. Left out: what came with another, and the
    lines of guests, which are said when one ends.
    """
    told = tuple(each for each in told if not each.line.startswith("guest "))
    ends = [*(each.seconds for each in told), end][1:]
    lasted = ((each.line, until - each.seconds) for each, until in zip(told, ends, strict=True))
    return tuple(Timing(line, 1, took, took) for line, took in lasted if took >= 0.1)


def guests(transcripts: Iterable[Transcript]) -> tuple[Timing, ...]:
    """The boots of each swap, and the cases that took longest; side by side they add up to more
    than the run took. What comes from another run is left out.
    """
    booted, cases = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for transcript in transcripts:
        if transcript.boot.borrowed:
            continue
        booted[transcript.boot.swap].append(transcript.boot.seconds)
        for log in transcript.logs:
            cases[f"{log.case} on {log.swap}"].append(log.seconds)
    slowest = sorted(_rows("", cases), key=lambda row: row.total, reverse=True)
    rest = slowest[SLOWEST:]
    others = [each for row in rest for each in cases[row.what]]
    return (
        *_rows("boot, swap ", booted),
        *slowest[:SLOWEST],
        *(_rows("", {f"{len(rest)} other rows": others}) if others else ()),
    )


def _rows(before: str, seconds: dict[str, list[float]]) -> Iterator[Timing]:
    for name, each in seconds.items():
        yield Timing(before + name, len(each), median(each), sum(each))
