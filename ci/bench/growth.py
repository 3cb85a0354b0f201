# SPDX-License-Identifier: GPL-2.0-only
"""Time and evidence of a run against the number of its trials, with guests that cost nothing.

All but kernels and guests is what `twinboot run --html` does: evidence is written, read back, judged,
compared and reported. Nothing waits for the disk (fsync), so that it is twinboot that is measured.

    .venv/bin/python ci/bench/growth.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner import evidence, host, report
from runner.comparison import Comparison
from runner.document import save_document
from runner.experiment import Plan, command_of, plan_of
from runner.page import page
from runner.tests.fakeguests import run, staged

TRIALS = (250, 500, 1000, 2000)
PER_REPEAT = 6  # both arms on three swaps
CHATTER = "".join(f"[    0.{at:06}] a line of a booting kernel, of usual length\n" for at in range(250))


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


def whole(folder: Path, repeats: int) -> Comparison:
    """A run from its start to its end."""
    return run(Plan(folder, repeats=repeats))


def measured(trials: int) -> Point:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="twinboot-bench-") as name:
        folder = Path(name)
        with pytest.MonkeyPatch.context() as patch:
            guests = staged(patch, folder)
            guests.does, guests.chatter = flaky, CHATTER
            before = time.process_time()
            comparison = whole(folder / "run", round(trials / PER_REPEAT))
            between = time.process_time()
            told(comparison, folder / "run")
            after = time.process_time()
        files = (path for path in (folder / "run").rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
        return Point(len(guests.booted), after - before, after - between, size / 1e6)


def main(rounds: int) -> None:
    measured(TRIALS[0])  # imports, templates
    rows: list[list[Point]] = [[] for _ in TRIALS]
    for number in range(rounds):
        for row, trials in zip(rows, TRIALS, strict=True):
            row.append(measured(trials))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    points = [sorted(row, key=lambda point: point.seconds)[len(row) // 2] for row in rows]
    print("| trials | CPU seconds, median | of it report | ms per trial | evidence, MB |")
    print("|---|---|---|---|---|")
    for point in points:
        each = point.seconds / point.trials * 1000
        print(
            f"| {point.trials} | {point.seconds:.2f} | {point.report:.2f} | {each:.2f} "
            f"| {point.megabytes:.1f} |"
        )
    kinds: dict[str, Callable[[Point], float]] = {
        "time": lambda point: point.seconds,
        "evidence": lambda point: point.megabytes,
    }
    for name, value in kinds.items():
        line = fitted([(point.trials, value(point)) for point in points])
        print(f"{name}: at most {line.worst:.1%} from a straight line")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
