# SPDX-License-Identifier: GPL-2.0-only
"""Time and evidence of a run against the number of its trials, with guests that cost nothing.

All but kernels and guests is what `twinboot run --html` does: evidence is written, read back,
judged, compared and reported. The files are in memory where there is /dev/shm, and nothing waits
for a disk (fsync): it is twinboot that is measured. A second series interrupts each run half way
and resumes it.

    .venv/bin/python ci/bench/growth.py [ROUNDS [FILE]]    # FILE keeps the figures for plot.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import measuring
import pytest

from runner import evidence, host, report
from runner.comparison import Comparison
from runner.document import save_document
from runner.experiment import Plan, command_of, plan_of
from runner.page import page
from runner.tests.fakeguests import Guests, run, staged

TRIALS = (250, 500, 1000, 2000)
PER_REPEAT = 6  # both arms on three swaps
LINE = "[    0.{:06}] a line of a booting kernel, of usual length\n"
CHATTER = "".join(LINE.format(at) for at in range(250))
Way = Callable[[Plan, Guests], Comparison]


@dataclass(frozen=True, slots=True)
class Point:
    """What a run of so many trials took: CPU seconds, of which the report, and MB of evidence."""

    trials: int
    seconds: float
    report: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class Line:
    """The straight line nearest to some points, and how far one of them is from it at most."""

    start: float
    slope: float
    worst: float


def fitted(points: list[tuple[float, float]]) -> Line:
    """Least squares; `worst` is relative to what the line says there."""
    slope, start = statistics.linear_regression(*zip(*points, strict=True))
    off = (abs(y - (start + slope * x)) / (start + slope * x) for x, y in points)
    return Line(start, slope, max(off))


def flaky(arm: str, swap: str, case: str, repeat: int) -> str:
    """Something of everything, with rows in doubt."""
    if arm == "patched" and (swap, case) == ("zram", "cow/b"):
        return "crash" if repeat % 50 == 0 else "pass"
    if arm == "patched" and case == "cow/a":
        return "fail" if repeat % 3 else "pass"
    return str(10 + repeat % 5)


def told(comparison: Comparison, folder: Path) -> None:
    """Every file that a run leaves, and its page."""
    save_document(comparison, folder / "comparison.json")
    host.write_atomic(folder / "report.md", report.markdown(comparison))
    transcripts = evidence.load_run(folder).transcripts
    host.write_atomic(folder / "page.html", page(comparison, transcripts, command_of(folder)))


def whole(plan: Plan, _guests: Guests) -> Comparison:
    """A run from its start to its end."""
    return run(plan)


def in_two(plan: Plan, guests: Guests) -> Comparison:
    """A run that is interrupted half way, and goes on."""
    guests.die_at = plan.repeats * PER_REPEAT // 2
    with contextlib.suppress(KeyboardInterrupt):
        run(plan)
    guests.die_at = -1
    return run(plan_of(plan.folder), resumed=True)


WAYS = {"in one go": whole, "interrupted and resumed": in_two}


def measured(way: Way, trials: int) -> Point:
    """One run in a folder of its own."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="twinboot-bench-", dir=memory) as name:
        folder = Path(name)
        with pytest.MonkeyPatch.context() as patch:
            guests = staged(patch, folder)
            guests.does, guests.chatter = flaky, CHATTER
            plan = Plan(folder / "run", repeats=round(trials / PER_REPEAT))
            before = time.process_time()
            comparison = way(plan, guests)
            between = time.process_time()
            told(comparison, folder / "run")
            after = time.process_time()
        files = (path for path in (folder / "run").rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
        return Point(len(guests.booted), after - before, after - between, size / 1e6)


def main(rounds: int, save: Path | None = None) -> None:
    measured(whole, TRIALS[0])  # imports, templates
    found: dict[tuple[str, int], list[Point]] = {(way, at): [] for way in WAYS for at in TRIALS}
    for number in range(rounds):
        for (way, trials), points in found.items():
            points.append(measured(WAYS[way], trials))
        measuring.say(f"round {number + 1} of {rounds}")
    middle = {key: middle_of(points) for key, points in found.items()}
    rows = [
        (
            way,
            str(point.trials),
            f"{point.seconds:.2f}",
            f"{point.report:.2f}",
            f"{point.seconds / point.trials * 1000:.2f}",
            f"{point.megabytes:.1f}",
        )
        for (way, _), point in middle.items()
    ]
    heads = ("", "trials", "CPU seconds, median", "of it reports", "ms per trial", "evidence, MB")
    print(measuring.table(heads, rows))
    for way in WAYS:
        points = [middle[way, trials] for trials in TRIALS]
        time_line = fitted([(point.trials, point.seconds) for point in points])
        size_line = fitted([(point.trials, point.megabytes) for point in points])
        print(
            f"{way}: at most {time_line.worst:.1%} from a straight line in time, "
            f"{size_line.worst:.1%} in size"
        )
    whole_runs = [middle["in one go", trials] for trials in TRIALS]
    measuring.keep(save, "growth", [(point.trials, point.seconds) for point in whole_runs])


def middle_of(points: list[Point]) -> Point:
    return sorted(points, key=lambda point: point.seconds)[len(points) // 2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("save", type=Path, nargs="?")
    asked = parser.parse_args()
    main(asked.rounds, asked.save)
