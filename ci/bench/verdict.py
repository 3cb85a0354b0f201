# SPDX-License-Identifier: GPL-2.0-only
"""From an edit to a verdict: a line of a patch to mm/swapfile.c changes, `twinboot run --quick`.

Beside it by hand: the edit and `make`, then two boots with `vng --run`, each with one case on zram.

    .venv/bin/python ci/bench/verdict.py WORK [--rounds 3] [--warm] [--save FILE]

WORK is that of build.py; where it has no kernel, one is built before the clock runs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import build as bench
import measuring

from runner import host, rootfs
from runner.build import build
from runner.experiment import ROOT, Plan, run_experiment

EDITED = "mm/swapfile.c"
CASE = """\
echo 256M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0 &&
TWINBOOT_GUEST=1 TWINBOOT_SWAP=zram TWINBOOT_SWAP_DEV=/dev/zram0 {program} wr_sync
"""
LINE = "\treturn count <= 1;\n"


@dataclass
class Told:
    """The lines of progress, and the CPU seconds until each: all that ended before it."""

    lines: list[tuple[str, float, float]] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append((line, time.monotonic(), measuring.cpu()))
        measuring.say(line)

    def first_guest(self) -> tuple[float, float]:
        """When the guests began, on the clock and in CPU seconds."""
        return next(each[1:] for each in self.lines if "guests to boot" in each[0])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one edit cost; `before` is the part before the first guest."""

    whole: measuring.Cost
    before_wall: float
    before_cpu: float
    said: str


def changed(tree: Path, number: int) -> tuple[str, str]:
    """The file as it was before any patch, and with a comparison that is true of every count."""
    text = bench.before_any_patch(tree, EDITED)
    if text.count(LINE) != 1:
        raise SystemExit(f"{EDITED} has {text.count(LINE)} lines {LINE.strip()!r}, not one")
    return text, text.replace(LINE, f"\treturn count <= 1 && count != -{number};\n")


def edited(folder: Path, tree: Path, number: int) -> Path:
    """The patch with its one line changed."""
    path = folder / "edit.patch"
    told = bench.difference(EDITED, *changed(tree, number))
    path.write_text(f"Subject: an edit\n\n---\n{told}")
    return path


def ours(patch: Path) -> Verdict:
    """All of it, to the comparison."""
    folder = host.cache_dir() / "runs" / f"bench-{time.time_ns()}"
    told = Told()
    plan = Plan(folder, patch=str(patch), quick=True, repeats=1)
    began, spent = time.monotonic(), measuring.cpu()
    comparison, whole = measuring.measured(partial(run_experiment, plan, told))
    wall, cpu = told.first_guest()
    said = f"{comparison.overall}, {len(comparison.rows)} rows"
    return Verdict(whole, wall - began, cpu - spent, said)


def by_hand(place: bench.Place, number: int) -> None:
    """The edit in place, and make."""
    (place.warm / EDITED).write_text(changed(place.warm, number)[1])
    bench.make(place.warm, *bench.words(place))


def one_case(place: bench.Place, programs: Path) -> None:
    """Swap on zram, and a case, in two boots: one for each kernel that one would compare."""
    script = place.work / "case.sh"
    script.write_text(CASE.format(program=programs / "cow"))
    for _ in range(2):
        image = place.warm / "arch/x86/boot/bzImage"
        measuring.run_by_hand(image, f"sh {script}", place.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="an earlier call left base evidence")
    parser.add_argument("--save", type=Path)
    asked = parser.parse_args()
    place = bench.prepared(asked.work)
    os.environ["TWINBOOT_CACHE"] = str(place.ours)
    build(place.request(), place.ours, measuring.say)
    programs = rootfs.guest_programs(ROOT / "guest-tests", host.cache_dir(), measuring.say)
    verdicts, hands, boots = [], [], []
    with tempfile.TemporaryDirectory(prefix="twinboot-bench-") as name:
        seed = int(time.time()) % 10**6 * 100
        if not asked.warm:
            ours(edited(Path(name), place.warm, seed))  # leaves base evidence, and programs
        for number in range(1, asked.rounds + 1):
            verdicts.append(ours(edited(Path(name), place.warm, seed + number)))
            hands.append(measuring.cost_of(partial(by_hand, place, seed + number)))
            boots.append(measuring.cost_of(partial(one_case, place, programs)))
            measuring.say(f"round {number} of {asked.rounds}: {verdicts[-1].said}")
    show(verdicts, hands, boots, asked.save)


def show(
    verdicts: list[Verdict],
    hands: list[measuring.Cost],
    boots: list[measuring.Cost],
    save: Path | None,
) -> None:
    middle = measuring.middle
    parts = {
        "`run --quick`, all": [(each.whole.wall, each.whole.cpu) for each in verdicts],
        "of it before the first guest": [(each.before_wall, each.before_cpu) for each in verdicts],
        "of it guests and judging": [
            (each.whole.wall - each.before_wall, each.whole.cpu - each.before_cpu)
            for each in verdicts
        ],
        "by hand: `make` alone": [(each.wall, each.cpu) for each in hands],
        "by hand: two boots, one case in each": [(each.wall, each.cpu) for each in boots],
    }
    rows, figures = [], {}
    for name, pairs in parts.items():
        wall, cpu = middle(wall for wall, _ in pairs), middle(cpu for _, cpu in pairs)
        least = measuring.least_to_greatest(cpu for _, cpu in pairs)
        rows.append((name, f"{cpu:.1f}", least, f"{wall:.0f}"))
        figures[name] = {"cpu": cpu, "wall": wall}
    print(measuring.table(("", "CPU seconds, median", "least to greatest", "seconds"), rows))
    share = middle(each.whole.share for each in verdicts)
    rest = middle(each.whole.others_share for each in verdicts)
    print(f"said: {verdicts[-1].said}; of the CPUs we had {share:.0%}, others {rest:.0%}")
    measuring.keep(save, "verdict", figures)


if __name__ == "__main__":
    main()
