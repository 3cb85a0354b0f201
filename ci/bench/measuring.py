# SPDX-License-Identifier: GPL-2.0-only
"""What a piece of work costs on a machine that others use too, and where the figures are kept."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runner import host
from runner.host import How

T = TypeVar("T")
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 240.0
BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of /proc/stat


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the clock, CPU seconds of ours with our children, and of all others."""

    wall: float
    cpu: float
    others: float

    @property
    def share(self) -> float:
        """How much of the machine's CPU time was ours, of 1."""
        return self.cpu / (self.wall * (os.cpu_count() or 1))

    @property
    def others_share(self) -> float:
        """How much of it was somebody else's."""
        return self.others / (self.wall * (os.cpu_count() or 1))


def say(line: str) -> None:
    """Progress, beside the table that goes to standard output."""
    print(f"  {line}", file=sys.stderr, flush=True)


def cpu() -> float:
    """CPU seconds of this process, and of those it started that have ended."""
    return time.process_time() + host.children_cpu()


def _busy() -> float:
    """CPU seconds of the whole machine since it was started."""
    figures = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(figures[at]) for at in BUSY) / TICK


def measured(work: Callable[[], T]) -> tuple[T, Cost]:
    """Do the work: what came of it, and what it took."""
    wall, ours, busy = time.monotonic(), cpu(), _busy()
    result = work()
    spent = cpu() - ours
    return result, Cost(time.monotonic() - wall, spent, max(0.0, _busy() - busy - spent))


def cost_of(work: Callable[[], object]) -> Cost:
    """What the work took."""
    return measured(work)[1]


def run_by_hand(image: Path, command: str, folder: Path) -> None:
    """What one types without twinboot: `vng --run`, on the host's root folder, under TCG.

    Without udevd on the host virtme-ng runs the command, but does not learn its exit code.
    """
    size = ("--cpus", "2", "--memory", "1G")
    how = ("--disable-kvm", "--force-9p", "--exec", command)
    said = host.run(
        ("vng", "--verbose", "--run", image, *size, *how),
        How(cwd=folder, timeout=PATIENCE_S, check=False),
    )
    if "script exited with code 0" not in said.stdout + said.stderr:
        raise SystemExit(f"vng ran no command: {(said.stdout + said.stderr)[-2000:]}")


def middle(figures: Iterable[float]) -> float:
    return statistics.median(figures)


def least_to_greatest(figures: Iterable[float]) -> str:
    known = list(figures)
    return f"{min(known):.1f} to {max(known):.1f}"


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """As Markdown."""
    lines = (heads, ("---",) * len(heads), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def keep(path: Path | None, name: str, figures: object) -> None:
    """Put the figures of one bench into a file with those of the others, for plot.py."""
    if path is None:
        return
    known = json.loads(path.read_text()) if path.exists() else {}
    host.write_atomic(path, json.dumps({**known, name: figures}, indent=1) + "\n")
