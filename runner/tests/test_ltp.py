# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the Linux Test Project: how they are named, and what their output and exit code say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import foreign
from runner.case import Case
from runner.errors import UserError
from runner.ltp import parse_ltp, unexplained
from runner.outcome import Outcome, Scene, Verdict, judge
from runner.transcript import CaseLog

HEAD = """\
tst_test.c:2048: TINFO: LTP version: 20260529-222-g695827725
tst_test.c:1876: TINFO: Overall timeout per run is 0h 02m 00s
"""
ALIVE = HEAD + "thp02.c:93: TPASS: Still alive.\n"
SUMMARY = "\nSummary:\npassed   1\nfailed   0\nbroken   0\nskipped  0\nwarnings 0\n"


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    program = tmp_path / "testcases/bin/thp02"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("LTPROOT", str(tmp_path))
    asked = foreign.parse_ltp("thp02 -s 3/4")
    (case,) = foreign.prepare([], [asked], tmp_path, lambda _: None).cases
    return case


def judged(case: Case, text: str, code: int) -> Outcome:
    log = CaseLog(case.id, "zram", 1, text, code, "exit", 1.0)
    return judge(case, log, Scene("poweroff"))


def test_a_test_becomes_a_case_with_its_arguments_in_its_name(case: Case) -> None:
    assert case.id == "ltp/thp02_-s_3_4"
    assert case.program[-2:] == ("-s", "3/4")
    assert case.foreign


@pytest.mark.parametrize("text", ["", "/bin/ls", "../thp02"])
def test_what_is_no_test_of_ltp_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a test of LTP"):
        foreign.parse_ltp(text)


def test_a_test_that_is_not_installed_names_the_folder(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"ksm99 is not in {tmp_path}/testcases/bin; set LTPROOT"):
        foreign.prepare([], [foreign.parse_ltp("ksm99")], tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("text", "code", "verdict"),
    [
        (ALIVE + SUMMARY, 0, Verdict.PASS),
        (HEAD + "ksm01.c:9: TFAIL: child 1 has 'b'\n", 1, Verdict.FAIL),
        (HEAD + "ksm01.c:9: TFAIL: child 1 has 'b'\n", 0, Verdict.FAIL),
        (HEAD + "ksm02.c:9: TCONF: no NUMA\n", 32, Verdict.SKIP),
        (ALIVE + "ksm02.c:9: TCONF: no NUMA\n", 0, Verdict.PASS),
        (HEAD + "tst_test.c:1: TBROK: Test killed by SIGBUS!\n", 2, Verdict.INCONCLUSIVE),
        (ALIVE + "tst_test.c:1: TWARN: cannot clean up\n", 4, Verdict.INCONCLUSIVE),
        ("\x1b[1;32mksm01.c:1: \x1b[0mTPASS: a\r\n", 0, Verdict.PASS),
        ("ksm 1 TPASS: of a shell test\n", 0, Verdict.PASS),
        ("vma01       1  TPASS  :  two 3*ps VMAs found.\n", 0, Verdict.PASS),
        ("vma02       1  TCONF  :  vma02.c:80: requires at least one node.\n", 32, Verdict.SKIP),
        ("ksm 1 TFAIL: of a shell test\n", 1, Verdict.FAIL),
        # what the exit code says and no line does
        (ALIVE, 1, Verdict.FAIL),
        (ALIVE, 3, Verdict.FAIL),
        (ALIVE, 139, Verdict.FAIL),
        (ALIVE, 127, Verdict.INFRA),
        # nothing came of it
        (HEAD, 0, Verdict.INCONCLUSIVE),
        ("", 0, Verdict.INCONCLUSIVE),
        ("", 32, Verdict.FAIL),
    ],
)
def test_a_run_is_judged_by_its_lines_and_by_an_exit_code_that_they_do_not_explain(
    case: Case, text: str, code: int, verdict: Verdict
) -> None:
    assert judged(case, text, code).verdict is verdict


def test_each_result_is_a_subject_known_by_its_number(case: Case) -> None:
    found = judged(case, ALIVE + "thp02.c:94: TFAIL: it is not\n", 1)
    assert [(each.name, each.verdict) for each in found.invariants] == [
        ("1", Verdict.PASS),
        ("2", Verdict.FAIL),
    ]


@given(st.text())
def test_no_output_makes_the_reader_fail(text: str) -> None:
    parse_ltp(text)
    assert unexplained(0, text) == 0
