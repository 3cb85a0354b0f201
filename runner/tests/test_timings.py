# SPDX-License-Identifier: GPL-2.0-only
"""Where the time went, from the lines of progress and from what guests left."""

from __future__ import annotations

from runner.timings import SLOWEST, Told, guests, steps
from runner.transcript import BootRecord, CaseLog, Transcript


def test_a_step_lasts_until_the_next_one_and_guests_are_no_step() -> None:
    told = [
        Told(0.0, "patch set x"),
        Told(0.0, "building"),
        Told(12.5, "2 guests to boot"),
        Told(20.0, "guest 1/2: base on zram"),
    ]
    rows = [(row.what, row.total) for row in steps(told, 30.0)]
    assert rows == [("building", 12.5), ("2 guests to boot", 17.5)]
    assert steps([], 3.0) == ()


def guest(seconds: float, *cases: float, borrowed: bool = False) -> Transcript:
    names = [f"x/{number}" for number in range(len(cases))]
    boot = BootRecord(
        "base", "zram", 1, 0, 1, tuple(names), seconds=seconds, shard=0, borrowed=borrowed
    )
    logs = [
        CaseLog(name, "zram", 1, "", 0, "exit", took)
        for name, took in zip(names, cases, strict=True)
    ]
    return Transcript(boot, tuple(logs), "", "poweroff")


def test_the_slowest_cases_stand_first_and_nothing_is_lost() -> None:
    seconds = [float(each) for each in range(1, SLOWEST + 3)]
    rows = guests([guest(4.0, *seconds), guest(6.0, *seconds)])
    assert (rows[0].what, rows[0].times, rows[0].middle) == ("boot, swap zram", 2, 5.0)
    assert rows[1].cells() == (f"x/{SLOWEST + 1} on zram", "2", "10.0", "20.0")
    assert rows[-1].what == "2 other rows"
    assert sum(row.total for row in rows[1:]) == 2 * sum(seconds)


def test_what_another_run_took_is_no_time_of_this_one() -> None:
    assert guests([guest(4.0, 1.0, borrowed=True)]) == ()
