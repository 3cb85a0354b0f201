# SPDX-License-Identifier: GPL-2.0-only
"""Which rows are run again before a change is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.doubt import rows_in_doubt
from runner.judging import GUEST
from runner.outcome import Outcome, Verdict
from runner.row import Change
from runner.tests.arms import CRASH, FAIL, HANG, INFRA, PASS, REUSE, compared, reused, run

AGAIN = {"nullblk": (REUSE,)}


def test_a_regression_of_few_runs_is_looked_at_again() -> None:
    assert rows_in_doubt(compared([run(), run()], [run(FAIL), run(FAIL)])) == AGAIN


def test_a_flaky_row_is_looked_at_again() -> None:
    assert rows_in_doubt(compared([run(), run(FAIL)], [run(), run()])) == AGAIN


def test_a_fix_and_an_unchanged_row_are_not() -> None:
    assert rows_in_doubt(compared([run(FAIL), run(FAIL)], [run(), run()])) == {}
    assert rows_in_doubt(compared([run(), run()], [run(), run()])) == {}


def test_a_deadline_that_only_base_missed_is_looked_at_again() -> None:
    assert rows_in_doubt(compared([run(process=HANG)], [run()])) == AGAIN
    assert rows_in_doubt(compared([run(process=HANG)], [run(process=HANG)])) == {}


@pytest.mark.parametrize(
    ("after", "again"),
    [(103.0, AGAIN), (97.0, AGAIN), (109.0, AGAIN), (150.0, {}), (20.0, AGAIN)],
)
def test_a_measure_that_barely_moved_or_got_worse_is_looked_at_again(
    after: float, again: object
) -> None:
    base: list[Outcome] = [reused(100.0), reused(100.0)]
    assert rows_in_doubt(compared(base, [reused(after), reused(after)])) == again


def test_a_kernel_that_never_ran_the_case_is_beyond_doubt() -> None:
    dead = [run(process=CRASH, ran=False), run(process=CRASH, ran=False)]
    assert rows_in_doubt(compared([run(PASS), run(PASS)], dead)) == {}


@pytest.mark.parametrize("end", [HANG, CRASH])
def test_a_kernel_that_did_not_boot_once_may_have_had_bad_luck(end: Verdict) -> None:
    dead = [run(process=end, ran=False)]
    assert rows_in_doubt(compared([run()], dead)) == AGAIN
    assert rows_in_doubt(compared([run(), run()], [run(), *dead])) == AGAIN


@pytest.mark.parametrize("arms", [(PASS, HANG), (HANG, PASS)])
def test_where_only_the_guest_changed_one_case_boots_it_again(
    arms: tuple[Verdict, Verdict],
) -> None:
    base, patched = ([run(), replace(run(process=end), case=GUEST.id)] for end in arms)
    assert rows_in_doubt(compared(base, patched)) == AGAIN
    again = [replace(run(), case=GUEST.id)]
    assert compared([*base, *again], [*patched, *again]).exit_code == 3


def test_more_runs_take_a_claim_back_that_chance_had_made() -> None:
    base, patched = [run(), run()], [run(FAIL), run(FAIL)]
    assert compared(base, patched).exit_code == 1
    assert compared([*base, run(FAIL), run()], [*patched, run(), run(FAIL)]).exit_code == 3


def test_what_was_not_heard_when_the_guest_came_to_grief_is_run_again() -> None:
    def both(verdict: Verdict, guest: Verdict) -> list[Outcome]:
        return [run(process=verdict), replace(run(process=guest), case=GUEST.id)]

    broken = both(INFRA, FAIL)
    assert rows_in_doubt(compared(both(PASS, PASS), broken)) == AGAIN
    assert rows_in_doubt(compared(both(PASS, PASS), both(INFRA, PASS))) == {}
    found = compared(both(PASS, PASS), [*broken, *both(PASS, PASS)])
    assert (found.rows[0].change, found.exit_code) == (Change.FLAKY, 3)
    assert compared(both(PASS, PASS), [*broken, *broken]).exit_code == 1
    assert compared(broken, broken).exit_code == 3
