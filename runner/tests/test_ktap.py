# SPDX-License-Identifier: GPL-2.0-only
"""What is read from a program's output, and above all what is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.ktap import KtapResult, Measure, Proof, Tries, parse_ktap

GOOD = """\
KTAP version 1
1..2
# proof: swapped_out ok 960 of 960 pages
# measure: pages_reused 958 pages
# tries: no_leak 8 failed 3
ok 1 data_intact
not ok 2 no_leak parent's byte 0x42 reached the child's pipe in 3 of 8 tries
"""


def names(result: KtapResult) -> list[tuple[str, bool]]:
    return [(point.name, point.ok) for point in result.points]


def test_results_proofs_measures_and_tries_are_read() -> None:
    result = parse_ktap(GOOD)
    assert names(result) == [("data_intact", True), ("no_leak", False)]
    assert result.points[1].text.startswith("parent's byte 0x42")
    assert result.proofs == (Proof("swapped_out", True, "960 of 960 pages"),)
    assert result.measures == (Measure("pages_reused", 958.0, "pages"),)
    assert result.tries == (Tries("no_leak", 8, 3),)
    assert (result.planned, result.problems) == (2, ())


def test_lines_of_other_kinds_are_legal() -> None:
    noise = "hello\n# a remark\n[  1.0] Kernel panic - not syncing: in a program's own words\n"
    assert parse_ktap(GOOD + noise) == parse_ktap(GOOD)


def test_carriage_returns_of_a_terminal_do_not_matter() -> None:
    assert parse_ktap(GOOD.replace("\n", "\r\n")) == parse_ktap(GOOD)


def test_a_skip_is_no_pass_whatever_it_says_first() -> None:
    for words in ("ok 1 a # SKIP no swap", "not ok 1 a # SKIP no swap", "ok 1 a # skip no swap"):
        (point,) = parse_ktap(f"KTAP version 1\n1..1\n{words}\n").points
        assert (point.passed, point.skipped, point.failed) == (False, True, False)
        assert point.reason == "no swap"


def test_an_ok_that_timed_out_is_a_failure() -> None:
    for directive in ("TIMEOUT", "ERROR"):
        (point,) = parse_ktap(f"KTAP version 1\n1..1\nok 1 a # {directive} late\n").points
        assert point.failed
        assert not point.passed


def test_a_hash_in_the_text_is_not_a_directive() -> None:
    (point,) = parse_ktap("KTAP version 1\n1..1\nok 1 a CPU #1 skipped nothing\n").points
    assert point.passed


def test_a_plan_that_skips_everything_is_read() -> None:
    result = parse_ktap("TAP version 13\n1..0 # SKIP no KSM here\n")
    assert (result.skip_all, result.problems) == ("no KSM here", ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("KTAP version 1\n1..3\nok 1 a\nok 2 b\n", "planned 3 results, found 2"),
        ("KTAP version 1\n1..1\nok 1 a\nok 2 b\n", "planned 1 results, found 2"),
        ("KTAP version 1\n1..2\nok 1 a\nok 1 b\n", "a result number is given twice"),
        ("KTAP version 1\n1..2\nok 2 a\nok 1 b\n", "result numbers are [2, 1], not 1 to 2"),
        ("KTAP version 1\nok 1 a\n", "there are results but no plan"),
        ("1..1\nok 1 a\n", "there is no version line"),
        ("KTAP version 1\n1..1\n1..1\nok 1 a\n", "the plan is given twice"),
        ("KTAP version 1\n1..1\nok 1 a\nBail out! no memory\n", "the program gave up: no memory"),
        ("KTAP version 1\n1..1\nok 1 a\nok 1", "the output stops within a line: `ok 1`"),
        (
            "KTAP version 1\n1..1\n# measure: x many pages\nok 1 a\n",
            "cannot use `# measure: x many pages` (malformed, or given twice)",
        ),
        (
            "KTAP version 1\n1..1\n# measure: x nan pages\nok 1 a\n",
            "cannot use `# measure: x nan pages` (malformed, or given twice)",
        ),
        (
            "KTAP version 1\n1..1\n# tries: a 3 failed 4\nok 1 a\n",
            "cannot use `# tries: a 3 failed 4` (malformed, or given twice)",
        ),
        (
            "KTAP version 1\n1..1\n# proof: p ok\n# proof: p missing\nok 1 a\n",
            "cannot use `# proof: p missing` (malformed, or given twice)",
        ),
    ],
)
def test_a_contradiction_is_listed(text: str, problem: str) -> None:
    assert problem in parse_ktap(text).problems


def test_a_cut_off_last_line_is_not_a_result() -> None:
    assert names(parse_ktap("KTAP version 1\n1..1\nok 1")) == []


def test_a_nested_subtest_belongs_to_the_line_after_it() -> None:
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 x\n  ok 2 y\nok 1 both\n"
    (point,) = parse_ktap(text).points
    assert [child.name for child in point.children] == ["x", "y"]


def test_a_parent_that_hides_a_failed_subtest_is_caught() -> None:
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 x\nok 1 both\n"
    assert parse_ktap(text).problems == ("`ok 1 both` although its subtest failed",)


def test_kselftest_nesting_is_read() -> None:
    text = (
        "TAP version 13\n1..1\n# TAP version 13\n# 1..2\n# ok 1 a\n# not ok 2 b\n"
        "not ok 1 selftests: mm: cow # exit=1\n"
    )
    (point,) = parse_ktap(text).points
    assert [child.failed for child in point.children] == [False, True]


def test_a_remark_that_looks_like_a_result_is_none() -> None:
    assert names(parse_ktap("KTAP version 1\n1..1\n# ok 1 rumour\n  ok 1 hearsay\nok 1 a\n")) == [
        ("a", True)
    ]


def test_a_subtest_without_its_parent_is_a_problem() -> None:
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 x\n"
    assert "a subtest has no result line of its parent" in parse_ktap(text).problems


def test_an_ok_without_a_number_is_only_talk() -> None:
    assert parse_ktap("KTAP version 1\n1..1\nok then, here we go\n").points == ()


LINES = st.sampled_from(
    [
        "KTAP version 1",
        "TAP version 13",
        "1..1",
        "1..2",
        "1..0 # SKIP none",
        "ok 1 a",
        "ok 2 b",
        "not ok 1 a",
        "not ok 2 b # SKIP c",
        "ok 1 a # TIMEOUT",
        "# proof: p ok",
        "# measure: m 1e999 pages",
        "# tries: a 1 failed 1",
        "Bail out!",
        "",
    ]
)
INDENT = st.sampled_from(["", "  ", "    ", "# ", "# # ", "\t"])
OUTPUT = st.lists(st.tuples(INDENT, LINES).map("".join)).map("\n".join)


@given(st.one_of(st.text(), OUTPUT))
def test_the_parser_never_raises_and_never_invents_a_pass(text: str) -> None:
    result = parse_ktap(text)
    claimed = sum(line.strip(" #\t\r").startswith("ok ") for line in text.split("\n"))
    assert sum(point.passed for point in result.points) <= claimed


@given(OUTPUT, st.integers(min_value=0))
def test_cutting_the_output_short_never_adds_a_pass(text: str, where: int) -> None:
    whole = parse_ktap(text + "\n")
    part = parse_ktap(text[: where % (len(text) + 1)])
    assert sum(point.passed for point in part.points) <= sum(p.passed for p in whole.points)
