# SPDX-License-Identifier: GPL-2.0-only
"""What decides a bisection: the wanted symptom alone; and what `git bisect run` is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner.bisect import exitcode
from runner.bisect.symptom import Sight, Symptom, Wanted, does_not_boot, look, settle
from runner.cli import app
from runner.comparison import compare
from runner.errors import (
    BuildFailed,
    CommandFailed,
    ConfigLost,
    InfraError,
    PatchError,
    TwinbootError,
    UserError,
)
from runner.judging import GUEST
from runner.ktap import Measure
from runner.outcome import Checked, Outcome, Verdict
from runner.splat import Splat
from runner.symptom import Symptom as Leak
from runner.symptom import shown
from runner.tests.arms import REUSE, TWINS
from runner.twins import Twins

PASSED = Outcome(
    case=REUSE.id,
    swap="nullblk",
    repeat=1,
    verdict=Verdict.PASS,
    reason="every invariant held",
    process=Verdict.PASS,
    invariants=(
        Checked("data_intact", Verdict.PASS, ""),
        Checked("no_leak", Verdict.PASS, ""),
    ),
    measures=(Measure("copies", 7.0, "pages"),),
)
LEAKED = replace(
    PASSED,
    verdict=Verdict.FAIL,
    invariants=(
        Checked("data_intact", Verdict.PASS, ""),
        Checked("no_leak", Verdict.FAIL, "leaks"),
    ),
)
BUG = Splat("bug", "kernel BUG at mm/x.c:1", ("f", "g"), "bug: f < g", "")
OTHER = Splat("oops", "oops: other", ("h",), "oops: h", "")
CRASHED = replace(
    PASSED, verdict=Verdict.CRASH, process=Verdict.CRASH, invariants=(), measures=(), splats=(BUG,)
)
BOOTED = Outcome(GUEST.id, "nullblk", 1, Verdict.PASS, "it booted", Verdict.PASS)
DEAD = replace(BOOTED, verdict=Verdict.CRASH, process=Verdict.CRASH, reason="it panicked")
NOT_RUN = replace(PASSED, verdict=Verdict.CRASH, ran=False, reason="it panicked", invariants=())


def seen(wanted: Wanted, *bad_end: Outcome) -> Symptom:
    found = settle(wanted, [bad_end], REUSE)
    assert found is not None
    return found


def sight(symptom: Symptom, *run: Outcome) -> bool | None:
    return look(symptom, run, REUSE.id).shown


def test_a_case_alone_means_the_invariant_that_the_bad_end_breaks() -> None:
    symptom = seen(Wanted(), BOOTED, LEAKED)
    assert symptom == Symptom("invariant", ("no_leak",))
    assert sight(symptom, BOOTED, LEAKED) is True
    assert sight(symptom, BOOTED, PASSED) is False


def test_another_invariant_that_breaks_is_not_the_wanted_one() -> None:
    symptom = seen(Wanted(), LEAKED)
    checks = (Checked("data_intact", Verdict.FAIL, ""), Checked("no_leak", Verdict.PASS, ""))
    assert sight(symptom, replace(PASSED, verdict=Verdict.FAIL, invariants=checks)) is False


@pytest.mark.parametrize("verdict", [Verdict.SKIP, Verdict.INCONCLUSIVE, Verdict.INFRA])
def test_a_run_without_a_verdict_says_nothing_though_its_invariants_held(verdict: Verdict) -> None:
    assert sight(Symptom("invariant", ("no_leak",)), replace(PASSED, verdict=verdict)) is None


@pytest.mark.parametrize("process", [Verdict.INCONCLUSIVE, Verdict.FAIL])
def test_another_failure_does_not_stand_in_for_the_proof_of_path_or_an_orderly_end(
    process: Verdict,
) -> None:
    checks = (Checked("data_intact", Verdict.FAIL, ""), Checked("no_leak", Verdict.PASS, ""))
    run = replace(PASSED, verdict=Verdict.FAIL, process=process, invariants=checks)
    for symptom in (
        Symptom("invariant", ("no_leak",)),
        Symptom("splat", ("bug: f < g",)),
        Symptom("measure", ("copies",), above=6),
        Symptom("measure", ("copies",), above=8),
        Symptom("end", ("HANG",)),
    ):
        assert sight(symptom, run) is None
    assert sight(Symptom("invariant", ("data_intact",)), run) is True


def test_a_skipped_kernel_is_told_why_though_something_graver_failed() -> None:
    run = replace(LEAKED, process=Verdict.INCONCLUSIVE, reason="no_leak: leaks", unsaid="no proof")
    told = look(Symptom("invariant", ("data_intact",)), [run], REUSE.id).text
    assert told == "FAIL: no_leak: leaks; and no proof"


def test_a_crash_says_nothing_of_an_invariant_and_what_it_was_is_told() -> None:
    run = replace(CRASHED, reason="kernel BUG at mm/x.c:1")
    found = look(Symptom("invariant", ("no_leak",)), (BOOTED, run), REUSE.id)
    assert found == Sight(None, "CRASH: kernel BUG at mm/x.c:1")


def test_a_crash_at_the_bad_end_is_looked_for_by_its_signature() -> None:
    symptom = seen(Wanted(), BOOTED, CRASHED)
    assert symptom == Symptom("splat", ("bug: f < g",))
    assert sight(symptom, BOOTED, CRASHED) is True
    assert sight(symptom, BOOTED, replace(CRASHED, splats=(OTHER,))) is None
    assert sight(symptom, BOOTED, PASSED) is False
    assert sight(symptom, BOOTED, replace(PASSED, verdict=Verdict.INCONCLUSIVE)) is None


def test_a_splat_named_by_a_part_of_its_title_stands_for_its_whole_signature() -> None:
    warned = replace(PASSED, splats=(OTHER, BUG))
    assert seen(Wanted(splat="mm/x.c"), warned).names == ("bug: f < g",)
    assert settle(Wanted(splat="nothing"), [(warned,)], REUSE) is None


def test_a_dead_boot_is_wanted_only_by_its_own_signature() -> None:
    dead = replace(DEAD, splats=(BUG,))
    symptom = seen(Wanted(boot=True), dead, NOT_RUN)
    assert symptom == Symptom("boot", ("bug: f < g",))
    assert sight(symptom, dead, NOT_RUN) is True
    assert sight(symptom, replace(DEAD, splats=(OTHER,)), NOT_RUN) is None
    assert sight(symptom, BOOTED, PASSED) is False
    assert sight(symptom, BOOTED, CRASHED) is False


def test_a_kernel_that_died_in_its_case_did_boot() -> None:
    assert does_not_boot((DEAD, NOT_RUN))
    assert not does_not_boot((DEAD, CRASHED))


def test_a_measure_is_bad_beyond_its_limit() -> None:
    above = seen(Wanted(measure="copies", above=7), PASSED)
    assert sight(above, PASSED) is False
    assert sight(seen(Wanted(measure="copies", above=6.5), PASSED), PASSED) is True
    assert sight(seen(Wanted(measure="copies", below=8), PASSED), PASSED) is True
    assert sight(above, replace(PASSED, measures=())) is None


def test_a_case_that_hangs_is_looked_for_as_a_hang() -> None:
    hung = replace(PASSED, verdict=Verdict.HANG, process=Verdict.HANG, invariants=())
    symptom = seen(Wanted(), hung)
    assert symptom == Symptom("end", ("HANG",))
    assert sight(symptom, hung) is True
    assert sight(symptom, CRASHED) is None


def ended(process: Verdict, reason: str) -> Outcome:
    return replace(PASSED, verdict=process, process=process, reason=reason, invariants=())


OOM = ended(Verdict.FAIL, "the out-of-memory killer ended the program")
SEGFAULT = ended(Verdict.FAIL, "signal 11 ended the program")
CODE = ended(Verdict.FAIL, "exit code 3 although no result is `not ok`")
OOM_PANIC = ended(Verdict.CRASH, "the kernel panicked for lack of memory")
PANIC = ended(Verdict.CRASH, "the kernel panicked (warning: at mm/x.c:1)")


@pytest.mark.parametrize("bad", [OOM, SEGFAULT, CODE, OOM_PANIC, PANIC])
def test_a_case_that_fails_by_its_end_is_looked_for_by_the_manner_of_it(bad: Outcome) -> None:
    symptom = seen(Wanted(), bad)
    for other in (OOM, SEGFAULT, CODE, OOM_PANIC, PANIC, CRASHED):
        assert sight(symptom, other) is (True if other is bad else None)
    assert sight(symptom, PASSED) is False


def test_what_else_the_console_said_is_no_part_of_the_manner() -> None:
    other = replace(PANIC, reason="the kernel panicked (warning: at mm/y.c:2)")
    assert sight(seen(Wanted(), PANIC), other) is True
    assert sight(seen(Wanted(), PANIC), replace(PANIC, splats=(BUG,))) is None


def test_an_end_that_was_saved_without_its_manner_is_any_end_of_its_kind() -> None:
    saved = Symptom("end", ("FAIL",))
    assert [sight(saved, each) for each in (OOM, SEGFAULT, PASSED)] == [True, True, False]


def test_a_bad_end_that_passes_settles_nothing() -> None:
    assert settle(Wanted(), [(BOOTED, PASSED)], REUSE) is None


def test_each_symptom_has_a_clause() -> None:
    clauses = [
        symptom.clause(REUSE, "nullblk")
        for symptom in (
            Symptom("invariant", ("no_leak",)),
            Symptom("end", ("HANG",)),
            Symptom("end", ("FAIL",), manner="signal 11 ended the program"),
            Symptom("splat", ("bug: f < g",)),
            Symptom("boot", ("it hangs",)),
            Symptom("measure", ("copies",), above=7),
        )
    ]
    assert clauses == [
        "the parent's secret reaches the child (cow/wr_hit on nullblk)",
        "cow/wr_hit on nullblk does not end",
        "cow/wr_hit on nullblk fails: signal 11 ended the program",
        "the kernel complains in cow/wr_hit on nullblk: bug: f < g",
        "the kernel does not boot: it hangs",
        "copies of cow/wr_hit on nullblk is above 7",
    ]


# git bisect run


SAME = replace(TWINS, patched=replace(TWINS.patched, signature=TWINS.base.signature, patches=()))


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (PASSED, 0),
        (LEAKED, 1),
        (CRASHED, 125),
        (replace(PASSED, verdict=Verdict.HANG), 125),
        (replace(PASSED, verdict=Verdict.SKIP), 125),
        (replace(PASSED, verdict=Verdict.INCONCLUSIVE), 125),
        (replace(PASSED, verdict=Verdict.INFRA), 125),
    ],
)
def test_one_kernel_alone_is_judged_by_its_case(run: Outcome, code: int) -> None:
    assert exitcode.of_result(compare([REUSE], [run], [run], SAME)) == code


@pytest.mark.parametrize(
    ("base", "patched", "code"),
    [(PASSED, PASSED, 0), (PASSED, LEAKED, 1), (LEAKED, LEAKED, 0)],
)
def test_two_kernels_are_judged_by_what_changed(base: Outcome, patched: Outcome, code: int) -> None:
    assert exitcode.of_result(compare([REUSE], [base], [patched], TWINS)) == code


SKIPPED = replace(PASSED, verdict=Verdict.SKIP, invariants=())
FAULT = replace(REUSE, id="gup/other")
WARNED = replace(PASSED, splats=(Splat("warning", "warning: x", ("x",), "warning: x", ""),))


@pytest.mark.parametrize("twins", [SAME, TWINS])
@pytest.mark.parametrize(
    ("named", "code"), [((REUSE.id,), 125), ((REUSE.id, FAULT.id), 125), (("cow",), 0), ((), 0)]
)
def test_a_case_chosen_by_its_id_is_not_good_where_the_kernel_skips_it(
    named: tuple[str, ...], code: int, twins: Twins
) -> None:
    """Others pass beside it; of a group or of the default selection some are always skipped."""
    runs = [SKIPPED, replace(PASSED, case=FAULT.id)]
    found = compare([REUSE, FAULT], runs, runs, twins)
    assert exitcode.of_result(found, named) == code
    assert exitcode.of_series([found, found], named) == code


@pytest.mark.parametrize(("word", "code"), [(REUSE.id, 125), (REUSE.group, 0)])
def test_the_cases_chosen_on_the_command_line_must_not_be_skipped(
    word: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [SKIPPED, replace(PASSED, case=FAULT.id)]
    found = compare([REUSE, FAULT], runs, runs, SAME)
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path))
    monkeypatch.setattr("runner.commands.run.run_experiment", lambda *_: found)
    monkeypatch.setattr("runner.commands.run.deliver", lambda comparison, *_: comparison)
    words = ["run", "--patch", "none", "--case", word, "--case", FAULT.id, "--bisect-exit"]
    assert CliRunner().invoke(app, words).exit_code == code


def test_a_case_that_passes_on_one_of_its_swaps_is_heard() -> None:
    runs = [SKIPPED, replace(PASSED, swap="zram")]
    assert exitcode.of_result(compare([REUSE], runs, runs, SAME), (REUSE.id,)) == 0


def test_a_patch_that_changes_no_code_is_good_where_a_case_fails_on_both() -> None:
    twins = replace(SAME, patched=replace(SAME.patched, patches=("comment-only.patch",)))
    assert exitcode.of_result(compare([REUSE], [LEAKED], [LEAKED], twins)) == 0


def test_a_case_that_fails_is_bad_though_a_named_one_is_skipped() -> None:
    runs = [SKIPPED, replace(LEAKED, case=FAULT.id)]
    assert exitcode.of_result(compare([REUSE, FAULT], runs, runs, SAME), (REUSE.id,)) == 1


def test_a_case_that_a_later_patch_of_the_series_makes_run_is_heard() -> None:
    found = [compare([REUSE], [SKIPPED], [run], TWINS) for run in (SKIPPED, PASSED)]
    assert exitcode.of_series([None, *found], (REUSE.id,)) == 125
    other = replace(PASSED, case=FAULT.id)
    found = [
        compare([REUSE, FAULT], [SKIPPED, other], [run, other], TWINS) for run in (SKIPPED, PASSED)
    ]
    assert exitcode.of_series(found[:1], (REUSE.id,)) == 125
    assert exitcode.of_series(found, (REUSE.id,)) == 0


def test_one_kernel_of_which_a_part_has_not_run_is_not_good() -> None:
    found = compare([REUSE], [PASSED], [PASSED], SAME)
    assert exitcode.of_result(replace(found, missing=("shard 2 of 2",), planned=2)) == 125


def test_a_complaint_that_its_case_survives_is_not_what_one_kernel_is_judged_by() -> None:
    assert exitcode.of_result(compare([REUSE], [WARNED], [WARNED], SAME)) == 0


def test_one_of_several_invariants_that_failed_decides_and_one_unknown_leaves_it_open() -> None:
    crashed = replace(CRASHED, invariants=PASSED.invariants)
    assert LEAKED.breaks("data_intact", "no_leak") is True
    assert PASSED.breaks("data_intact", "no_leak") is False
    assert PASSED.breaks("data_intact", "no_such") is None
    assert NOT_RUN.breaks("no_leak") is None
    both = Symptom("invariant", ("data_intact", "no_leak"))
    assert look(both, [crashed], REUSE.id).shown is None
    assert shown(Leak("invariant", "no_leak", ""), crashed) is None


def test_a_series_is_bad_where_any_of_its_prefixes_is() -> None:
    good, bad = (compare([REUSE], [PASSED], [run], TWINS) for run in (PASSED, LEAKED))
    open_ = compare([REUSE], [PASSED], [replace(PASSED, verdict=Verdict.INFRA)], TWINS)
    assert exitcode.of_series([good, good]) == 0
    assert exitcode.of_series([good, bad, good]) == 1
    assert exitcode.of_series([None, bad, open_]) == 1
    assert exitcode.of_series([good, None]) == 125
    assert exitcode.of_series([open_, good]) == 125


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BuildFailed("x"), 125),
        (PatchError("x"), 125),
        (ConfigLost("x"), 125),
        (CommandFailed(("flock", "x", "make", "-j2"), 2, "", Path()), 125),
        (CommandFailed(("git", "fetch"), 2, "", None), 131),
        (InfraError("the disk is full"), 131),
        (UserError("no such case"), 130),
    ],
)
def test_a_kernel_that_cannot_be_built_is_skipped_and_all_else_stops(
    error: TwinbootError, code: int
) -> None:
    assert exitcode.of_error(error) == code
