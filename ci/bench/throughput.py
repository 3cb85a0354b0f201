# SPDX-License-Identifier: GPL-2.0-only
"""Cases in a minute with one guest at a time and with more, and the most memory that one takes.

The same plan, both kernels kept; one way after the other in turns. What both said is compared row
by row: how many guests run side by side may change no verdict.

    .venv/bin/python ci/bench/throughput.py [--rounds 2] [--jobs 1 2] [--repeats 1] [--case cow]
        [--swap zram ...]
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from functools import partial
from pathlib import Path

import measuring

from runner import evidence, host
from runner.comparison import Comparison
from runner.experiment import Plan, build_arms, run_experiment


def verdicts(comparison: Comparison) -> dict[tuple[str, str], object]:
    """Of each row what its arms did, and what was found."""
    return {
        (row.case.id, row.swap): (row.base.verdict, row.patched.verdict, row.findings)
        for row in comparison.rows
    }


def unlike(one: Comparison, other: Comparison) -> list[str]:
    """The rows that differ."""
    mine, theirs = verdicts(one), verdicts(other)
    return [" on ".join(key) for key in mine | theirs if mine.get(key) != theirs.get(key)]


def ran(folder: Path) -> int:
    """How many cases ran, in all guests."""
    return sum(len(each.logs) for each in evidence.load_run(folder).transcripts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--case", action="append")
    parser.add_argument("--swap", action="append")
    parser.add_argument("--save", type=Path)
    asked = parser.parse_args()
    cases, swaps = tuple(asked.case or ["cow"]), tuple(asked.swap or ["zram", "nullblk"])
    build_arms(Plan(Path()), host.cache_dir(), measuring.say)
    costs: dict[int, list[tuple[measuring.Cost, int]]] = {jobs: [] for jobs in asked.jobs}
    different: set[str] = set()
    for number in range(asked.rounds):
        said = {}
        for jobs in asked.jobs:
            folder = host.cache_dir() / "runs" / f"bench-{time.time_ns()}"
            plan = Plan(
                folder, cases=cases, swaps=swaps, repeats=asked.repeats, confirm=0, jobs=jobs
            )
            said[jobs], cost = measuring.measured(partial(run_experiment, plan, measuring.say))
            costs[jobs].append((cost, ran(folder)))
        first, *others = said.values()
        different |= {row for other in others for row in unlike(first, other)}
        measuring.say(f"round {number + 1} of {asked.rounds}")
    show(costs, asked.save)
    rows = len(first.rows)
    print(f"rows with another verdict or finding: {len(different)} of {rows} {sorted(different)}")


def show(costs: dict[int, list[tuple[measuring.Cost, int]]], save: Path | None) -> None:
    rows, figures = [], {}
    for jobs, pairs in costs.items():
        rate = measuring.middle(count / cost.wall * 60 for cost, count in pairs)
        each = measuring.middle(cost.cpu / count for cost, count in pairs)
        mine = measuring.middle(cost.cpu / cost.wall for cost, _ in pairs)
        theirs = measuring.middle(cost.others / cost.wall for cost, _ in pairs)
        rows.append((str(jobs), f"{rate:.1f}", f"{each:.2f}", f"{mine:.2f}", f"{theirs:.2f}"))
        figures[str(jobs)] = {"cases per minute": rate, "cpu per case": each, "cpus": mine}
    heads = ("jobs", "cases in a minute", "CPU seconds for a case", "CPUs we had", "CPUs of others")
    print(measuring.table(heads, rows))
    few, many = min(figures, key=int), max(figures, key=int)
    gain = figures[many]["cases per minute"] / figures[few]["cases per minute"]
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{many} against {few}: {gain:.2f} times, on {os.cpu_count()} CPUs")
    print(f"the most memory that a guest's QEMU took: {most:.0f} MiB")
    rates = {jobs: each["cases per minute"] for jobs, each in figures.items()}
    kept = {"cases per minute": rates, "gain": gain, "MiB of a guest": most}
    measuring.keep(save, "throughput", kept)


if __name__ == "__main__":
    main()
