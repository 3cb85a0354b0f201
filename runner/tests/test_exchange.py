# SPDX-License-Identifier: GPL-2.0-only
"""What other machines and mailing lists get: JUnit XML, KTAP, a check of b4, a plain reply."""

from __future__ import annotations

import email
import json
import shlex
from dataclasses import replace

import junitparser
import pytest

from runner.comparison import Comparison, Overall
from runner.exchange import b4_checks, junit, ktap
from runner.ktap import parse_ktap
from runner.mailreply import COLUMNS, mail_reply
from runner.mbox import Thread
from runner.outcome import Outcome, Verdict
from runner.tests.arms import CRASH, FAIL, HANG, INFRA, PASS, SKIP, TWINS, arm, compared, run, splat

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


def test_a_skip_says_why() -> None:
    (test,) = results(compared([run(SKIP, SKIP)], [run(SKIP, SKIP)]))
    assert test.result[0].message == "made up"


def test_nothing_passes_where_the_arms_differ_in_more_than_the_patch() -> None:
    twins = replace(TWINS, patched=arm("patched", compiler="clang"))
    comparison = compared([run()], [run()], twins)
    (test,) = results(comparison)
    assert [type(found) for found in test.result] == [junitparser.Error]
    assert "not ok 1 cow/wr_hit on nullblk # ERROR the arms differ" in ktap(comparison)


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        (replace(compared([run()], [run()]), missing=("shard 2 of 3",)), "missing: shard 2 of 3"),
        (compared([], []), "no case was run"),
        (
            compared([], [], replace(TWINS, patched=arm("patched", compiler="clang"))),
            "the arms differ in more than the patch (the compiler)",
        ),
    ],
)
def test_what_has_not_run_is_an_error_and_never_green(comparison: Comparison, said: str) -> None:
    assert comparison.overall is Overall.UNDECIDED
    test = results(comparison)[-1]
    assert [type(found) for found in test.result] == [junitparser.Error]
    assert test.result[0].message == said
    text = ktap(comparison)
    assert parse_ktap(text).problems == ()
    assert f"not ok {len(comparison.rows) + 1} twinboot # ERROR {said}" in text
    (suite,) = junitparser.JUnitXml.fromstring(junit(comparison).encode())
    assert (suite.tests, suite.errors) == (len(comparison.rows) + 1, 1)


def test_a_shard_with_nothing_to_do_is_no_error() -> None:
    comparison = replace(compared([], []), planned=0)
    assert results(comparison) == []
    assert "1..0\n" in ktap(comparison)


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


@pytest.mark.parametrize("end", [HANG, CRASH])
def test_what_comes_to_no_end_on_either_kernel_is_no_pass_in_any_format(end: Verdict) -> None:
    dead = [run(process=end)] * 2
    found = compared(dead, dead)
    assert results(found)[-1].result[0].message == "no case came to its end on either kernel"
    assert ktap(found).count("# ERROR") == 1
    alive = [*dead, run(swap="zram"), run(swap="zram")]
    assert ktap(compared(alive, alive)).count("# XFAIL") == 1
    assert ktap(compared(alive, alive)).count("# ERROR") == 0


def verdict_of(reply: str) -> str:
    """The paragraph after the one that says what was done."""
    return " ".join(reply.split("\n\n")[1].split())


def test_a_mail_reply_fits_its_columns_and_says_the_worst_first() -> None:
    text = mail_reply(compared([run(), run()], [run(FAIL, FAIL)] * 2), COMMAND)
    lines = text.splitlines()
    assert verdict_of(text).startswith("regression: ")
    assert all(len(line) <= COLUMNS for line in lines)
    assert all(line.isascii() for line in lines)
    assert "  REGRESSED cow/wr_hit on nullblk" in lines
    assert lines[-1] == f"  {COMMAND}"


def test_a_mail_reply_about_nothing_says_so_and_what_it_does_not_know() -> None:
    text = mail_reply(compared([run()], [run()]), COMMAND)
    assert verdict_of(text) == "no regression: 1 of 1 row unchanged"
    assert "Worse with the patch:" not in text
    assert "only 1 test (cow) ran" in text
    assert "fewer than 95% of runs could have been" in text


def test_a_mail_reply_shows_what_the_kernel_said_and_no_more_than_fits() -> None:
    trace = "\n".join(f"frame_{number}+0x1/0x2\x1b[2J" + "x" * 99 for number in range(40))
    oops = replace(splat("do_swap_page"), text=trace)
    text = mail_reply(compared([run()] * 2, [run(process=CRASH, splats=(oops,))] * 2), COMMAND)
    assert "cow/wr_hit on nullblk, run 0 with the patch: made up" in text
    assert "    frame_0+0x1/0x2?[2J" in text
    assert "[28 more lines]" in text
    assert all(len(line) <= COLUMNS and line.isprintable() for line in text.splitlines())


def test_a_mail_reply_names_what_fails_or_is_skipped_on_both() -> None:
    text = mail_reply(compared([run(SKIP, SKIP)], [run(SKIP, SKIP)]), COMMAND)
    assert "  - SKIP cow/wr_hit on nullblk: made up" in text.splitlines()
    text = mail_reply(compared([run(FAIL, swap="none")] * 2, [run(FAIL, swap="none")] * 2), COMMAND)
    assert "  - FAIL cow/wr_hit on no swap: the pages hold wrong bytes" in text.splitlines()


def test_a_mail_reply_to_a_mail_can_be_sent_as_it_is() -> None:
    thread = Thread("[PATCH v2 0/3] mm: reuse\nBcc: all@x", "<1@x>")
    text = mail_reply(compared([run()], [run()]), COMMAND, thread)
    told = email.message_from_string(text)
    assert told["In-Reply-To"] == told["References"] == "<1@x>"
    assert told["Subject"] == "Re: [PATCH v2 0/3] mm: reuse?Bcc: all@x"
    assert told.keys() == ["Subject", "In-Reply-To", "References"]
    for unknown in ("", "<1@x>\nBcc: all@x", "1@x"):
        plain = mail_reply(compared([run()], [run()]), COMMAND, Thread("a", unknown))
        assert plain.startswith("Linux ")


def test_the_command_in_a_mail_is_for_who_has_another_host() -> None:
    source = "debian:linux-source-5.10 (linux-source-5.10 5.10.223-1 from bullseye)"
    twins = replace(TWINS, base=replace(TWINS.base, source=source))
    words = "twinboot run --source debian:linux-source-5.10 --patch /home/me/a.patch"
    text = mail_reply(compared([run()], [run()], twins), words)
    told = shlex.split(text.partition("To see it again:\n\n")[2].replace("\\\n", " "))
    assert told[3:] == ["debian:linux-source-5.10=5.10.223-1", "--patch", "a.patch"]
    for before, after in (
        ("git:/home/me/linux@topic/a", "git:linux@topic/a"),
        ("git:~/linux@v6.12", "git:linux@v6.12"),
        ("series/", "series/"),
    ):
        text = mail_reply(compared([run()], [run()]), f"twinboot run --source {before}")
        assert text.endswith(f"--source {after}\n")


def test_a_long_command_in_a_mail_is_continued_as_a_shell_reads_it() -> None:
    words = ["twinboot", "run", "--patch", "my patch", *["--case", "gup/leak_swap_fork"] * 9]
    text = mail_reply(compared([run()], [run()]), shlex.join(words))
    command = text.partition("To see it again:\n\n")[2]
    assert len(command.splitlines()) > 2
    assert shlex.split(command.replace("\\\n", " ")) == words


@pytest.mark.parametrize(
    ("base", "patched", "status"),
    [
        (run(), run(), "pass"),
        (run(), run(FAIL), "fail"),
        (run(), run(process=INFRA), "warn"),
        (run(SKIP, SKIP), run(SKIP, SKIP), "warn"),
    ],
)
def test_a_check_of_b4_has_the_words_that_b4_knows(
    base: Outcome, patched: Outcome, status: str
) -> None:
    """b4 0.16: pass, warn or fail, every field a string, and one entry for each tool."""
    comparison = compared([base, base], [patched, patched])
    (entry,) = json.loads(b4_checks(comparison, "the reply", "file:///r.html"))
    assert entry["status"] == status
    assert set(entry) == {"tool", "status", "summary", "url", "details"}
    assert all(isinstance(value, str) for value in entry.values())
    assert entry["summary"].startswith(comparison.overall.value)
    assert (entry["details"], entry["url"]) == ("the reply", "file:///r.html")
