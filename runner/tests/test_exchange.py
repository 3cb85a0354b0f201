# SPDX-License-Identifier: GPL-2.0-only
"""What other machines and mailing lists get: JUnit XML, KTAP, a plain text reply."""

from __future__ import annotations

from dataclasses import replace

import junitparser
import pytest

from runner.comparison import Comparison
from runner.exchange import junit, ktap
from runner.ktap import parse_ktap
from runner.mailreply import COLUMNS, mail_reply
from runner.outcome import Outcome
from runner.tests.arms import CRASH, FAIL, PASS, SKIP, compared, run, splat

COMMAND = "twinboot run --patch 'my patch.patch'"


def results(comparison: Comparison) -> list[junitparser.TestCase]:
    read = junitparser.JUnitXml.fromstring(junit(comparison).encode())
    return [test for suite in read for test in suite]


@pytest.mark.parametrize(
    ("base", "patched", "kind"),
    [
        (run(), run(), None),
        (run(), run(FAIL), junitparser.Failure),
        (run(), run(process=CRASH), junitparser.Failure),
        (run(FAIL), run(), None),
        (run(FAIL), run(FAIL), None),
        (run(SKIP, SKIP), run(SKIP, SKIP), junitparser.Skipped),
        (run(), run(SKIP), junitparser.Failure),
    ],
)
def test_junit_fails_a_test_only_where_the_patch_made_it_worse(
    base: Outcome, patched: Outcome, kind: type | None
) -> None:
    (test,) = results(compared([base, base], [patched, patched]))
    assert [type(found) for found in test.result] == ([kind] if kind else [])
    assert (test.classname, test.name) == ("twinboot.cow", "cow/wr_hit on nullblk")


def test_a_flaky_row_is_an_error_and_no_failure() -> None:
    (test,) = results(compared([run(), run(FAIL)], [run(), run()]))
    assert [type(found) for found in test.result] == [junitparser.Error]


def test_a_failure_carries_the_evidence_of_both_arms() -> None:
    oops = run(process=CRASH, splats=(splat("do_swap_page"),))
    (test,) = results(compared([run(), run()], [oops, oops]))
    text = test.result[0].text
    assert "base, run 0: PASS" in text
    assert "patched, run 0: warning: at mm/do_swap_page.c:1, from do_swap_page" in text


def test_what_a_guest_says_cannot_break_the_xml_or_the_ktap() -> None:
    evil = replace(run(process=CRASH), reason="]]>\x00\x1b[2J</testcase>\nnot ok 9 # SKIP no")
    comparison = compared([run(), run()], [evil, evil])
    assert len(results(comparison)) == 1
    lines = ktap(comparison).splitlines()
    assert [line for line in lines if not line.startswith("#")][2:] == [
        "not ok 1 cow/wr_hit on nullblk"
    ]


def test_ktap_calls_a_skip_a_skip_and_what_fails_on_both_expected() -> None:
    for before, after, line in (
        (run(SKIP, SKIP), run(SKIP, SKIP), "ok 1 cow/wr_hit on nullblk # SKIP made up"),
        (run(FAIL), run(FAIL), "ok 1 cow/wr_hit on nullblk # XFAIL the pages hold wrong bytes"),
        (run(), run(FAIL), "not ok 1 cow/wr_hit on nullblk"),
        (run(PASS), run(PASS), "ok 1 cow/wr_hit on nullblk"),
    ):
        text = ktap(compared([before, before], [after, after]))
        assert parse_ktap(text).problems == ()
        assert any(said.startswith(line) for said in text.splitlines())


def test_a_mail_reply_fits_its_columns_and_says_the_worst_first() -> None:
    text = mail_reply(compared([run(), run()], [run(FAIL, FAIL)] * 2), COMMAND)
    lines = text.splitlines()
    assert lines[0].startswith("regression: ")
    assert all(len(line) <= COLUMNS for line in lines)
    assert all(line.isascii() for line in lines)
    assert "  REGRESSED cow/wr_hit on nullblk" in lines
    assert lines[-1] == f"  {COMMAND}"


def test_a_mail_reply_about_nothing_says_so() -> None:
    text = mail_reply(compared([run()], [run()]), COMMAND)
    assert text.startswith("no regression: 1 of 1 rows unchanged")
    assert "with the patch:" not in text
