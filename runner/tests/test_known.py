# SPDX-License-Identifier: GPL-2.0-only
"""Known problems excuse what they name, until they expire, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.comparison import Comparison
from runner.errors import UserError
from runner.exchange import junit, ktap
from runner.known import Problem, excuse, load
from runner.mailreply import mail_reply
from runner.outcome import Outcome
from runner.report import markdown
from runner.row import Change
from runner.splat import Splat
from runner.tests.arms import (
    CRASH,
    FAIL,
    HANG,
    INFRA,
    PASS,
    SKIP,
    compared,
    reused,
    run,
    splat,
)

TODAY = date(2026, 6, 1)
ENTRY = """
- case: cow/wr_hit
  invariant: no_leak
  reason: the child's pipe keeps a reference
  link: https://example.org/1
  expires: 2026-12-31
"""
OOPS = Splat("oops", "oops: null pointer", ("do_swap_page",), "oops: do_swap_page", "")


def entries(tmp_path: Path, text: str = ENTRY) -> tuple[Problem, ...]:
    path = tmp_path / "known.yaml"
    path.write_text(text)
    return load(path)


def about(subject: str) -> str:
    return ENTRY.replace("invariant: no_leak", subject)


def judged(comparison: Comparison, problems: tuple[Problem, ...]) -> tuple[int, list[Change]]:
    excused = excuse(comparison, problems, TODAY)
    (row,) = excused.rows
    return excused.exit_code, [finding.change for finding in row.findings]


def twice(outcome: Outcome) -> list[Outcome]:
    return [outcome, outcome]


def notes(comparison: Comparison, problems: tuple[Problem, ...]) -> tuple[str, ...]:
    return excuse(comparison, problems, TODAY).twins.notes


def test_a_known_regression_does_not_fail_the_gate_and_is_listed(tmp_path: Path) -> None:
    comparison = compared(twice(run()), twice(run(PASS, FAIL)))
    assert comparison.exit_code == 1
    known = entries(tmp_path)
    assert judged(comparison, known) == (0, [Change.KNOWN])
    text = markdown(excuse(comparison, known, TODAY))
    assert "no regression: 1 KNOWN; 0 of 1 row unchanged" in text
    assert "(known: the child's pipe keeps a reference, https://example.org/1, until" in text


def test_outputs_for_machines_and_mail_call_it_known(tmp_path: Path) -> None:
    comparison = compared(twice(run()), twice(run(PASS, FAIL)))
    excused = excuse(comparison, entries(tmp_path), TODAY)
    assert "\nok 1 cow/wr_hit on nullblk # XFAIL KNOWN: the parent's secret" in ktap(excused)
    assert 'failures="0" errors="0"' in junit(excused)
    said = mail_reply(excused, "twinboot run")
    assert "Worse, and known:" in said
    assert "Better with the patch:" not in said


@pytest.mark.parametrize(
    ("patched", "changes"),
    [
        (run(FAIL, FAIL), [Change.REGRESSED, Change.KNOWN]),
        (run(FAIL, PASS), [Change.REGRESSED]),
        (run(PASS, SKIP), [Change.NEW_SKIP]),
        (run(process=CRASH), [Change.REGRESSED]),
        (run(process=HANG), [Change.REGRESSED]),
        (run(process=FAIL), [Change.REGRESSED]),
        (run(PASS, FAIL, splats=(splat("new"),)), [Change.NEW_SPLAT, Change.KNOWN]),
        (run(PASS, FAIL, process=CRASH, splats=(OOPS,)), [Change.REGRESSED, Change.NEW_SPLAT]),
        (run(PASS, FAIL, measures={"copies": 90.0}), [Change.WORSENED, Change.KNOWN]),
    ],
)
def test_a_known_problem_hides_no_other_failure_of_its_case(
    tmp_path: Path, patched: Outcome, changes: list[Change]
) -> None:
    base = run(measures={"copies": 10.0})
    code, found = judged(compared(twice(base), twice(patched)), entries(tmp_path))
    assert found == changes
    assert code == 1


def test_one_that_happens_in_some_runs_is_known_too(tmp_path: Path) -> None:
    comparison = compared(twice(run()), [run(), run(PASS, FAIL)])
    assert comparison.exit_code == 3
    assert judged(comparison, entries(tmp_path)) == (0, [Change.KNOWN])
    skips = compared(twice(run()), [run(), run(PASS, SKIP)])
    assert judged(skips, entries(tmp_path))[0] == 3


def test_what_could_not_be_judged_stays_undecided(tmp_path: Path) -> None:
    comparison = compared(twice(run()), [run(PASS, FAIL), run(process=INFRA)])
    assert judged(comparison, entries(tmp_path))[0] == 3


@pytest.mark.parametrize(
    ("line", "excused"),
    [
        ("case: cow/wr_hit", True),
        ("case: cow/*", True),
        ('case: "*"', True),
        ("case: cow/wr", False),
        ("case: gup/*", False),
        ("case: cow/wr_hit\n  swap: nullblk", True),
        ("case: cow/wr_hit\n  swap: null*", True),
        ("case: cow/wr_hit\n  swap: zram", False),
        ("case: cow/wr_hit\n  kernel: '5.10'", True),
        ("case: cow/wr_hit\n  kernel: 5.4-5.15", True),
        ("case: cow/wr_hit\n  kernel: 5.11-6.1", False),
    ],
)
def test_an_entry_is_for_its_cases_swaps_and_kernels(
    tmp_path: Path, line: str, excused: bool
) -> None:
    known = entries(tmp_path, ENTRY.replace("case: cow/wr_hit", line))
    comparison = compared(twice(run()), twice(run(PASS, FAIL)))
    assert judged(comparison, known)[0] == (0 if excused else 1)


def test_an_expired_entry_excuses_nothing_and_is_reported(tmp_path: Path) -> None:
    known = entries(tmp_path, ENTRY.replace("2026-12-31", "2026-05-31"))
    comparison = compared(twice(run()), twice(run(PASS, FAIL)))
    assert judged(comparison, known) == (1, [Change.REGRESSED])
    assert notes(comparison, known) == (
        "the known problem cow/wr_hit, invariant `no_leak` expired on 2026-05-31; "
        "it is still there, and counts (https://example.org/1)",
    )
    quiet = compared(twice(run()), twice(run()))
    assert "it did not happen" in notes(quiet, known)[0]
    last_day = entries(tmp_path, ENTRY.replace("2026-12-31", "2026-06-01"))
    assert judged(comparison, last_day)[0] == 0


def test_one_that_did_not_happen_is_said_and_changes_no_exit_code(tmp_path: Path) -> None:
    comparison = compared(twice(run()), twice(run()))
    assert judged(comparison, entries(tmp_path))[0] == 0
    (said,) = notes(comparison, entries(tmp_path))
    assert "did not happen in 2 runs; remove it if it is solved" in said


def test_a_row_that_did_not_run_says_nothing_of_its_problem(tmp_path: Path) -> None:
    dead = compared(twice(run()), twice(run(process=CRASH, ran=False)))
    assert notes(dead, entries(tmp_path)) == ()


def test_one_on_both_kernels_is_listed_though_nothing_changed(tmp_path: Path) -> None:
    comparison = compared(twice(run(PASS, FAIL)), twice(run(PASS, FAIL)))
    assert judged(comparison, entries(tmp_path))[0] == 0
    (said,) = notes(comparison, entries(tmp_path))
    assert "is there on both kernels: cow/wr_hit on nullblk (the child's pipe" in said


@pytest.mark.parametrize(
    "text",
    [
        ENTRY.replace("cow/wr_hit", "cow/wr_hitt"),
        ENTRY.replace("no_leak", "no_leek"),
        about("measure: pages_reusd\n  limit: 3"),
    ],
)
def test_an_entry_that_matches_nothing_is_said(tmp_path: Path, text: str) -> None:
    comparison = compared(twice(run()), twice(run()))
    (said,) = notes(comparison, entries(tmp_path, text))
    assert said.startswith("known problems that match no row of this run: cow/wr_hit")


def test_an_entry_for_another_kernel_is_not_said(tmp_path: Path) -> None:
    known = entries(tmp_path, ENTRY.replace("invariant", "kernel: 6.1-6.12\n  invariant"))
    assert notes(compared(twice(run()), twice(run())), known) == ()


@pytest.mark.parametrize(("limit", "code"), [("40", 0), ("39.5", 0), ("41", 1), ("100", 1)])
def test_a_cost_is_accepted_up_to_its_limit(tmp_path: Path, limit: str, code: int) -> None:
    known = entries(tmp_path, about(f"measure: pages_reused\n  limit: {limit}"))
    worse = compared(twice(reused(90)), [reused(40), reused(45)])
    assert judged(worse, known)[0] == code


def test_a_lower_is_better_cost_has_its_limit_above(tmp_path: Path) -> None:
    known = entries(tmp_path, about("measure: copies\n  limit: 40"))
    for copies, code in ((40.0, 0), (41.0, 1)):
        after = run(measures={"copies": copies})
        worse = compared(twice(run(measures={"copies": 10.0})), twice(after))
        assert judged(worse, known)[0] == code


def test_a_splat_is_known_by_its_whole_signature(tmp_path: Path) -> None:
    comparison = compared(twice(run()), twice(run(splats=(splat("do_wp_page"),))))
    assert judged(comparison, entries(tmp_path, about("splat: 'warning: do_wp_page'")))[0] == 0
    assert judged(comparison, entries(tmp_path, about("splat: 'warning: do_wp'")))[0] == 1


def test_a_crash_is_known_when_all_that_ended_it_is(tmp_path: Path) -> None:
    known = entries(tmp_path, about("splat: 'oops: do_swap_page'"))
    crash = run(process=CRASH, splats=(OOPS,))
    assert judged(compared(twice(run()), twice(crash)), known) == (0, [Change.KNOWN] * 2)
    assert judged(compared(twice(run()), [run(), crash]), known)[0] == 0
    other = replace(OOPS, signature="oops: elsewhere")
    both = run(process=CRASH, splats=(OOPS, other))
    for odd in (both, run(process=CRASH), run(process=HANG, splats=(OOPS,)), run(process=FAIL)):
        assert judged(compared(twice(run()), [crash, odd]), known)[0] in (1, 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "must be a list of known problems"),
        ("- 3", "entry 1 is 3; write `case:`, `reason:`"),
        (ENTRY.replace("reason", "raeson"), "entry 1: there is no key `raeson`"),
        (ENTRY.replace("expires: 2026-12-31", ""), "entry 1: the key `expires` is missing"),
        (ENTRY.replace("2026-12-31", "soon"), "entry 1: `expires` is 'soon'"),
        (ENTRY.replace("https://example.org/1", "me"), "entry 1: `link` is 'me'; write the whole"),
        (ENTRY.replace("invariant: no_leak", ""), "give one of `invariant`, `measure`"),
        (about("invariant: a\n  splat: b"), "give one of `invariant`, `measure`"),
        (about("measure: copies"), "needs a `limit`"),
        (about("invariant: a\n  limit: 3"), "needs a `limit`"),
        (about("invariant: a\n  swap: tape"), "there is no swap `tape`"),
        (
            about("invariant: a\n  kernel: new"),
            '`kernel` is \'new\'; write a version or a range, as "5.10" or "5.10-5.18"$',
        ),
        (
            about("invariant: a\n  kernel: 5.10"),
            "`kernel` is 5.1, which YAML reads as no text; quote it$",
        ),
        ("- {[1]: 2}", "is not valid YAML"),
        ("[" * 20_000, "is not valid YAML"),
        (about("invariant: a\n  invariant: b"), "given twice"),
        ("- [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_with_an_entry_is_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        entries(tmp_path, text)
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the known problems"):
        load(tmp_path / "nowhere.yaml")


@settings(deadline=None)
@given(raw=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_problems_or_one_user_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "known.yaml"
    path.write_bytes(raw)
    try:
        found: tuple[Problem, ...] | str = load(path)
    except UserError as error:
        found = error.message
    assert isinstance(found, tuple) or "\n" not in found
