# SPDX-License-Identifier: GPL-2.0-only
"""What is looked for when a row runs again, and what is said of how often it happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.outcome import Outcome
from runner.repro import others
from runner.symptom import FAILS, Symptom, Tally, shown, symptoms, tally
from runner.tests.arms import (
    CRASH,
    FAIL,
    HANG,
    INCONCLUSIVE,
    INFRA,
    PASS,
    SKIP,
    compared,
    reused,
    run,
    splat,
)

LEAK = Symptom("invariant", "no_leak", "the parent's secret reaches the child")


def row_of(base: list[Outcome], patched: list[Outcome]) -> tuple[Symptom, ...]:
    (row,) = [row for row in compared(base, patched).rows if row.case.id == "cow/wr_hit"]
    return symptoms(row)


@pytest.mark.parametrize(
    ("tally", "words"),
    [
        (Tally(3, 10), "3 of 10 (6.7 % to 65 %)"),
        (Tally(0, 10), "none of 10 (at most 26 %)"),
        (Tally(10, 10), "10 of 10 (at least 74 %)"),
        (Tally(1, 2), "1 of 2 (1.3 % to 99 %)"),
        (Tally(0, 1), "none of 1 (at most 95 %)"),
        (Tally(0, 0, 3), "no run that says anything"),
    ],
)
def test_a_count_is_told_with_its_exact_interval(tally: Tally, words: str) -> None:
    """The figures are those of Clopper and Pearson's interval, as in any table of it."""
    assert str(tally) == words


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_an_interval_holds_the_rate_that_was_seen(runs: int, data: st.DataObject) -> None:
    seen = data.draw(st.integers(0, runs))
    low, high = Tally(seen, runs).interval
    assert 0 <= low <= seen / runs <= high <= 1


def test_what_to_look_for_is_what_the_findings_are_about() -> None:
    assert row_of([run()], [run(no_leak=FAIL)]) == (LEAK,)
    assert row_of([run(no_leak=FAIL)], [run()]) == (LEAK,)
    assert row_of([run(no_leak=FAIL)], [run(no_leak=FAIL)]) == (LEAK,)
    assert row_of([run()], [run(process=CRASH)]) == (FAILS,)
    assert row_of([run()], [run()]) == (FAILS,)


def test_a_splat_is_looked_for_by_its_signature() -> None:
    (found,) = row_of([run()], [run(splats=(splat("swap"),))])
    assert shown(found, run(splats=(splat("swap"),)))
    assert shown(found, run(splats=(splat("rmap"),))) is False


def test_a_measure_shows_what_the_patch_did_on_its_side_of_the_middle() -> None:
    (found,) = row_of([reused(960), reused(960)], [reused(100), reused(120)])
    assert found.says == "pages reused without a copy: fewer than 535"
    assert shown(found, reused(530)) is True
    assert shown(found, reused(540)) is False
    assert shown(found, run()) is None


@pytest.mark.parametrize("verdict", [INFRA, INCONCLUSIVE])
def test_a_run_that_says_nothing_is_not_counted_as_clean(verdict: object) -> None:
    mute = run(process=verdict)  # type: ignore[arg-type]
    assert shown(FAILS, mute) is None
    assert shown(FAILS, replace(run(), ran=False)) is None
    assert shown(LEAK, run(no_leak=INCONCLUSIVE)) is None
    assert shown(LEAK, run(no_leak=SKIP)) is None
    assert tally(FAILS, [mute, run(), run(no_leak=FAIL)]) == Tally(1, 2, 1)
    assert shown(LEAK, run(no_leak=PASS)) is False


SPLAT = Symptom("splat", "warning: swap", "the kernel says something of swap")
FEWER = Symptom("measure", "pages_reused", "fewer pages reused", 500, above=False)
UNPROVED = run(data_intact=FAIL, process=INCONCLUSIVE, measures={"pages_reused": 5})


@pytest.mark.parametrize(
    "mute",
    [run(SKIP, SKIP), run(process=SKIP), run(process=HANG), run(process=CRASH), run(process=FAIL)],
)
def test_a_run_that_did_not_come_to_its_end_is_no_clean_run_of_any_complaint(mute: Outcome) -> None:
    assert shown(SPLAT, mute) is None
    assert shown(SPLAT, replace(mute, splats=(splat("swap"),))) is True
    assert tally(SPLAT, [mute] * 10) == Tally(0, 0, 10)


def test_a_run_that_is_skipped_is_no_clean_run_of_a_failure() -> None:
    assert tally(FAILS, [run(SKIP, SKIP)] * 10) == Tally(0, 0, 10)
    assert shown(FAILS, run(process=HANG)) is True


def test_a_failure_beside_it_does_not_stand_in_for_the_proof_of_path() -> None:
    assert UNPROVED.verdict is FAIL
    assert [shown(each, UNPROVED) for each in (LEAK, SPLAT, FEWER)] == [None, None, None]
    assert shown(FAILS, UNPROVED) is True
    assert shown(LEAK, run(no_leak=FAIL, process=INCONCLUSIVE)) is True
    assert shown(LEAK, run(data_intact=FAIL)) is False


def test_each_result_of_a_foreign_program_stands_for_itself() -> None:
    """It has no proof, and exit code 1 is its usual way to tell of a failure."""
    leak, complaint = replace(LEAK, foreign=True), replace(SPLAT, foreign=True)
    assert shown(leak, run(process=INCONCLUSIVE)) is False
    assert shown(complaint, run(process=FAIL)) is False
    assert shown(complaint, run(process=HANG)) is None
    assert shown(complaint, run(no_leak=FAIL, process=INCONCLUSIVE)) is None


def test_what_happened_in_another_way_is_counted_among_the_runs_that_say_something() -> None:
    died = replace(run(process=CRASH), ran=False)
    runs = (run(), run(no_leak=FAIL), run(process=HANG), run(process=INFRA), run(SKIP, SKIP), died)
    assert others((LEAK,), runs) == Tally(2, 4, 2)
