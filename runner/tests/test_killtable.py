# SPDX-License-Identifier: GPL-2.0-only
"""The kill table, and that no invariant of the case tables is without a kernel that breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from runner import case, killreport
from runner.comparison import compare
from runner.errors import UserError
from runner.experiment import CASES, ROOT
from runner.killtable import (
    Bug,
    Claim,
    Fate,
    KillTable,
    Trialled,
    check_claims,
    load_bug,
    load_bugs,
    notices,
)
from runner.outcome import Outcome
from runner.tests.arms import (
    CRASH,
    FAIL,
    HANG,
    INCONCLUSIVE,
    REUSE,
    SKIP,
    TWINS,
    reused,
    run,
    splat,
)

KNOWN_BAD = ROOT / "patches/known-bad"
LEAK = Claim(REUSE.id, "no_leak")


def trialled(base: Outcome, patched: Outcome, *claims: Claim) -> Trialled:
    rows = compare([REUSE], [base, base], [patched], TWINS).rows
    return Trialled(Bug("bug", Path("bug.patch"), claims), rows)


def table(*bugs: Trialled) -> KillTable:
    return KillTable("5.10.223", (REUSE,), bugs)


@pytest.mark.parametrize(
    ("base", "patched", "fate"),
    [
        (run(), run(no_leak=FAIL), Fate.KILLED),
        (run(), run(process=CRASH), Fate.KILLED),
        (run(), run(splats=(splat("memory"),)), Fate.KILLED),
        (reused(8), reused(2), Fate.TOLD_APART),
        (run(no_leak=FAIL), run(), Fate.TOLD_APART),
        (run(), run(SKIP, SKIP), Fate.TOLD_APART),
        (reused(8), reused(7), Fate.SURVIVED),
        (run(measures={"faults": 1}), run(measures={"faults": 900}), Fate.SURVIVED),
        (run(no_leak=FAIL), run(no_leak=FAIL), Fate.SURVIVED),
        (run(), run(process=HANG), Fate.UNDECIDED),
        (run(), run(process=HANG, splats=(splat("memory"),)), Fate.KILLED),
        (run(), run(process=INCONCLUSIVE), Fate.UNDECIDED),
        (run(), run(process=INCONCLUSIVE, ran=False), Fate.NOT_RUN),
    ],
)
def test_what_a_case_did_is_read_from_the_comparisons_findings(
    base: Outcome, patched: Outcome, fate: Fate
) -> None:
    assert trialled(base, patched).fates == {REUSE.id: fate}


def test_over_several_swaps_the_greatest_counts() -> None:
    base = [run(swap="zram"), run(swap="nullblk")]
    patched = [run(swap="zram"), run(no_leak=FAIL, swap="nullblk")]
    rows = compare([REUSE], base, patched, TWINS).rows
    assert Trialled(Bug("bug", Path(), ()), rows).fates == {REUSE.id: Fate.KILLED}


def test_a_bug_that_nothing_notices_is_a_survivor() -> None:
    found = table(trialled(run(), run()), trialled(run(), run(no_leak=FAIL)))
    assert found.survivors == ("bug",)
    assert found.exit_code == 1
    assert "SURVIVOR bug: nothing that ran noticed" in killreport.remarks(found)


def test_a_claim_that_is_not_met_is_a_failure_though_another_subject_noticed() -> None:
    found = table(trialled(run(), run(data_intact=FAIL), LEAK))
    assert found.survivors == ()
    assert found.unmet == (("bug", LEAK),)
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("base", "patched", "subject"),
    [
        (run(), run(no_leak=FAIL), "no_leak"),
        (run(), run(process=CRASH), "no_leak"),
        (run(no_leak=FAIL), run(), "no_leak"),
        (reused(8), reused(2), "pages_reused"),
        (run(measures={"faults": 1}), run(measures={"faults": 900}), "faults"),
    ],
)
def test_a_claim_is_met_by_its_invariant_its_measure_or_a_crash(
    base: Outcome, patched: Outcome, subject: str
) -> None:
    assert trialled(base, patched, Claim(REUSE.id, subject)).unmet == ()


@pytest.mark.parametrize(
    ("base", "patched", "subject"),
    [
        (run(process=HANG), run(process=HANG), "no_leak"),
        (run(process=CRASH), run(process=CRASH), "no_leak"),
        (run(process=FAIL), run(process=FAIL), "no_leak"),
        (run(process=CRASH), run(process=CRASH), "pages_reused"),
        (reused(8), run(process=FAIL), "pages_reused"),
        (reused(8), run(process=CRASH), "pages_reused"),
        (run(SKIP, SKIP), run(no_leak=FAIL), "no_leak"),
    ],
)
def test_a_claim_is_not_met_by_what_base_does_too_nor_a_measures_by_a_run_without_one(
    base: Outcome, patched: Outcome, subject: str
) -> None:
    (row,) = trialled(base, patched).rows
    assert not notices(row, subject)


def test_a_deadline_that_was_missed_once_meets_a_claim_only_beside_another_sign() -> None:
    (once,) = trialled(run(), run(process=HANG)).rows
    (beside,) = trialled(run(), run(process=HANG, splats=(splat("memory"),))).rows
    (twice,) = compare([REUSE], [run()] * 2, [run(process=HANG)] * 2, TWINS).rows
    assert [notices(row, "no_leak") for row in (once, beside, twice)] == [False, True, True]


def test_a_claim_that_the_base_meets_as_well_is_said_to_be_moot() -> None:
    found = table(trialled(run(no_leak=FAIL), run(data_intact=FAIL, no_leak=FAIL), LEAK))
    assert found.exit_code == 0
    assert f"note: bug: {LEAK} fails on base too" in killreport.remarks(found)


def test_a_case_that_notices_nothing_is_dead_weight() -> None:
    assert table(trialled(run(), run())).dead_weight == (REUSE.id,)
    assert table(trialled(run(), run(no_leak=FAIL)), trialled(run(), run())).dead_weight == ()


def test_a_bug_that_could_not_be_run_is_undecided() -> None:
    found = table(Trialled(Bug("bug", Path(), ()), (), "it does not apply"))
    assert (found.exit_code, found.survivors) == (3, ())
    assert "NOT RUN bug: it does not apply" in killreport.remarks(found)


def test_all_three_layouts_tell_the_same() -> None:
    found = table(trialled(run(), run(no_leak=FAIL), LEAK), trialled(run(), run()))
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    killreport.print_table(found, console)
    told = json.loads(json.dumps(killreport.document(found)))
    last = "2 known bugs in Linux 5.10.223: 1 killed, 0 told apart, 1 survived"
    assert last in console.export_text()
    assert last in killreport.markdown(found)
    assert "| bug | cow/wr_hit |  |  |" in killreport.markdown(found)
    assert "| cow/wr_hit | bug |  |" in killreport.markdown(found)
    assert "- swap: nullblk; 2 runs of cases with a bug, 2 on base" in killreport.markdown(found)
    assert [bug["cases"] for bug in told["bugs"]] == [
        {REUSE.id: "killed"},
        {REUSE.id: "survived"},
    ]


def test_a_patch_without_a_claim_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.patch").write_text("Subject: nothing\n")
    with pytest.raises(UserError, match="Caught-by"):
        check_claims([load_bug(tmp_path / "x.patch")], [REUSE])


def test_bugs_are_named_by_stem_or_path() -> None:
    (first, *_) = load_bugs(KNOWN_BAD)
    assert load_bugs(KNOWN_BAD, [first.name]) == (first,)
    assert load_bugs(KNOWN_BAD, [str(first.path)]) == (first,)
    with pytest.raises(UserError, match="no known-bad patch 'no-such-bug'"):
        load_bugs(KNOWN_BAD, ["no-such-bug"])


def test_a_folder_named_after_kernels_holds_the_bugs_for_these(tmp_path: Path) -> None:
    for name in ("old", "7.2/new", "6.12-7.2/both"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.patch").write_text("Caught-by: cow/wr_hit no_leak\n")
    found = {
        version: [bug.name for bug in load_bugs(tmp_path, (), version)]
        for version in ("5.10.223", "6.12.118", "7.2.13", "")
    }
    assert found == {
        "5.10.223": ["old"],
        "6.12.118": ["both"],
        "7.2.13": ["both", "new"],
        "": ["old", "both", "new"],
    }
    assert load_bugs(tmp_path, ["new"])[0].path == tmp_path / "7.2/new.patch"
    with pytest.raises(UserError, match="no known-bad patch 'new'; "):
        load_bugs(tmp_path, ["new"], "5.10.223")


def test_every_claim_is_of_a_case_and_a_subject_that_exist() -> None:
    check_claims(load_bugs(KNOWN_BAD), case.load(CASES))


def test_a_claim_that_no_case_declares_is_refused() -> None:
    with pytest.raises(UserError, match="cow/wr_hit nothing"):
        check_claims([Bug("bug", Path("x"), (Claim(REUSE.id, "nothing"),))], [REUSE])


def test_every_invariant_is_named_by_a_known_bad_kernel_or_excused_with_a_reason() -> None:
    excused = yaml.safe_load((KNOWN_BAD / "elsewhere.yaml").read_text())
    claimed = {str(claim) for bug in load_bugs(KNOWN_BAD) for claim in bug.claims}
    declared = {
        str(Claim(each.id, invariant.name))
        for each in case.load(CASES)
        for invariant in each.invariants
    }
    assert declared - claimed - set(excused) == set()
    assert set(excused) <= declared, "an excuse for something that is not there"
    assert all(isinstance(reason, str) and reason for reason in excused.values())
