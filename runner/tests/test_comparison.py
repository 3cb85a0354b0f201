# SPDX-License-Identifier: GPL-2.0-only
"""What counts as a change between two kernels, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.comparison import Comparison, Overall, detectable_rate
from runner.judging import GUEST
from runner.outcome import UNJUDGED, Outcome, Verdict
from runner.row import OPEN, REGRESSIONS, Change, Finding
from runner.tests.arms import (
    CRASH,
    FAIL,
    HANG,
    INCONCLUSIVE,
    INFRA,
    PASS,
    SKIP,
    TWINS,
    arm,
    compared,
    reused,
    run,
    splat,
)
from runner.wording import overall_sentence


def change(base: list[Outcome], patched: list[Outcome]) -> Change:
    (row,) = compared(base, patched).rows
    return row.change


def findings(base: list[Outcome], patched: list[Outcome]) -> list[tuple[Change, str]]:
    (row,) = compared(base, patched).rows
    return [(finding.change, finding.name) for finding in row.findings]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (PASS, PASS, Change.SAME),
        (FAIL, FAIL, Change.SAME),
        (SKIP, SKIP, Change.SAME),
        (PASS, FAIL, Change.REGRESSED),
        (FAIL, PASS, Change.FIXED),
        (PASS, SKIP, Change.NEW_SKIP),
        (FAIL, SKIP, Change.NEW_SKIP),
        (SKIP, PASS, Change.IMPROVED),
        (SKIP, FAIL, Change.UNDECIDED),
    ],
)
def test_an_invariant_that_changes_in_every_run_names_the_row(
    before: Verdict, after: Verdict, expected: Change
) -> None:
    assert change([run(no_leak=before)] * 2, [run(no_leak=after)] * 2) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (PASS, HANG, Change.REGRESSED),
        (PASS, CRASH, Change.REGRESSED),
        (FAIL, CRASH, Change.REGRESSED),
        (CRASH, PASS, Change.FIXED),
        (HANG, FAIL, Change.FIXED),
        (HANG, CRASH, Change.SAME),
        (CRASH, CRASH, Change.SAME),
        (SKIP, CRASH, Change.UNDECIDED),
        (CRASH, SKIP, Change.NEW_SKIP),
    ],
)
def test_how_the_run_itself_ends_is_compared_too(
    before: Verdict, after: Verdict, expected: Change
) -> None:
    assert change([run(process=before)] * 2, [run(process=after)] * 2) is expected


def test_failing_an_invariant_and_then_crashing_instead_is_a_regression() -> None:
    assert change([run(no_leak=FAIL)] * 2, [run(process=CRASH)] * 2) is Change.REGRESSED


def test_failing_in_both_arms_is_no_change_but_is_said() -> None:
    (row,) = compared([run(no_leak=FAIL)] * 2, [run(no_leak=FAIL)] * 2).rows
    assert (row.change, row.failing_on_both) == (Change.SAME, ("no_leak",))


def test_invariants_are_compared_one_by_one() -> None:
    base, patched = [run(data_intact=FAIL)] * 2, [run(no_leak=FAIL)] * 2
    assert findings(base, patched) == [
        (Change.REGRESSED, "no_leak"),
        (Change.FIXED, "data_intact"),
    ]


def test_a_fix_that_costs_something_shows_both() -> None:
    base = [run(no_leak=FAIL, measures={"pages_reused": 958})] * 2
    patched = [run(measures={"pages_reused": 0})] * 2
    assert findings(base, patched) == [
        (Change.WORSENED, "pages_reused"),
        (Change.FIXED, "no_leak"),
    ]


def test_an_arm_that_disagrees_with_itself_is_flaky_and_not_a_regression() -> None:
    steady, torn = [run()] * 2, [run(), run(no_leak=FAIL)]
    assert change(steady, torn) is Change.FLAKY
    assert change(torn, steady) is Change.FLAKY
    assert change([run()] * 2, [run(), run(process=CRASH)]) is Change.FLAKY


@pytest.mark.parametrize("blind", [INCONCLUSIVE, INFRA])
def test_one_run_that_says_nothing_leaves_the_row_undecided(blind: Verdict) -> None:
    assert change([run(), run(process=blind)], [run(no_leak=FAIL)] * 2) is Change.UNDECIDED
    assert change([run()] * 2, [run(no_leak=FAIL), run(process=blind)]) is Change.UNDECIDED


def test_a_case_that_an_arm_never_planned_is_undecided() -> None:
    assert change([run()], []) is Change.UNDECIDED
    assert change([], [run()]) is Change.UNDECIDED


def test_a_hang_is_one_although_what_base_printed_was_not_whole() -> None:
    """As cow of selftests/mm, which fails results on base and then says `Bail out!`."""
    bailed, hung = run(no_leak=FAIL, process=INCONCLUSIVE), run(process=HANG)
    assert change([bailed] * 2, [hung] * 2) is Change.REGRESSED
    assert change([bailed] * 2, [run(process=CRASH)] * 2) is Change.REGRESSED
    assert (Change.FIXED, "") in findings([hung] * 2, [bailed] * 2)
    assert change([bailed] * 2, [bailed] * 2) is Change.UNDECIDED
    assert change([bailed] * 2, [bailed, hung]) is not Change.REGRESSED


def test_a_case_that_the_patched_kernel_never_lives_to_run_is_lost() -> None:
    gone = run(process=INCONCLUSIVE, ran=False)
    assert change([run()] * 2, [gone] * 2) is Change.LOST
    assert change([gone] * 2, [run()] * 2) is Change.UNDECIDED


def test_an_invariant_that_is_no_longer_reported_is_lost() -> None:
    base = [run(data_intact=FAIL)] * 2
    patched = [run(data_intact=FAIL, no_leak=INCONCLUSIVE)] * 2
    assert findings(base, patched) == [(Change.LOST, "no_leak")]


@pytest.mark.parametrize(
    ("base", "patched", "expected"),
    [
        ((958, 958), (0, 0), Change.WORSENED),
        ((0, 0), (958, 958), Change.IMPROVED),
        ((100, 100), (102, 102), Change.SAME),  # within the tolerance of 2
        ((100, 100), (103, 103), Change.IMPROVED),
        ((90, 110), (105, 130), Change.SAME),  # the ranges overlap
        ((90, 110), (110, 130), Change.SAME),  # they touch
        ((90, 110), (111, 130), Change.IMPROVED),
    ],
)
def test_a_measure_changes_only_if_ranges_are_apart_and_the_tolerance_is_passed(
    base: tuple[float, ...], patched: tuple[float, ...], expected: Change
) -> None:
    assert change([reused(value) for value in base], [reused(v) for v in patched]) is expected


def test_the_declared_direction_decides_what_is_worse() -> None:
    few, many = [run(measures={"copies": 1})] * 2, [run(measures={"copies": 9})] * 2
    assert change(few, many) is Change.WORSENED
    assert change(many, few) is Change.IMPROVED


def test_a_measure_without_a_direction_is_never_judged() -> None:
    few, many = [run(measures={"faults": 1})] * 2, [run(measures={"faults": 900})] * 2
    assert change(few, many) is Change.SAME


def test_only_a_splat_that_base_never_had_is_new() -> None:
    old, new = splat("old"), splat("new")
    assert change([run(splats=(old,))] * 2, [run(splats=(old,))] * 2) is Change.SAME
    assert findings([run(splats=(old,))] * 2, [run(splats=(old, new)), run()]) == [
        (Change.NEW_SPLAT, "warning: new")
    ]


def test_a_splat_that_base_had_in_another_case_is_not_new() -> None:
    warned = run(splats=(splat("old"),))
    elsewhere = run(splats=(splat("old"),), swap="zram")
    rows = compared([run(), elsewhere], [warned, run(swap="zram")]).rows
    assert [row.change for row in rows if row.swap == "nullblk"] == [Change.SAME]


def test_a_stall_is_not_new_where_base_hangs_too() -> None:
    stall = replace(splat("stall"), kind="rcu-stall")
    hung, complains = run(process=HANG), run(process=HANG, splats=(stall,))
    assert findings([hung] * 2, [complains] * 2) == []
    assert (Change.NEW_SPLAT, "warning: stall") in findings([run()] * 2, [complains] * 2)


def test_a_splat_is_not_new_if_base_could_not_have_shown_it() -> None:
    patched = [run(splats=(splat("new"),))] * 2
    assert findings([run(process=INFRA)] * 2, patched) == [(Change.UNDECIDED, "")]


@pytest.mark.parametrize("ran", [True, False])
def test_a_splat_is_open_where_base_died_before_it_could_show_it(ran: bool) -> None:
    patched = [run(splats=(splat("new"),))] * 2
    assert (Change.UNDECIDED, "warning: new") in findings(
        [run(process=CRASH, ran=ran)] * 2, patched
    )


def test_a_stall_that_not_every_run_shows_is_chance() -> None:
    stalled = run(splats=(replace(splat("stall"), kind="rcu-stall"),))
    assert findings([run()] * 2, [stalled, run()]) == [(Change.FLAKY, "warning: stall")]
    assert findings([run()] * 2, [stalled] * 2) == [(Change.NEW_SPLAT, "warning: stall")]


def test_a_stall_counts_where_base_only_crashed_or_the_patched_kernel_lives_on() -> None:
    stalled = [run(splats=(replace(splat("stall"), kind="rcu-stall"),))] * 2
    assert (Change.UNDECIDED, "warning: stall") in findings([run(process=CRASH)] * 2, stalled)
    assert (Change.NEW_SPLAT, "warning: stall") in findings([run(process=HANG)] * 2, stalled)


def test_a_splat_is_not_mended_by_runs_that_did_less() -> None:
    warned = [run(splats=(splat("old"),))] * 2
    assert (Change.FIXED, "warning: old") not in findings(warned, [run(process=FAIL)] * 2)
    skipped = run(data_intact=SKIP, no_leak=SKIP)
    assert findings([replace(skipped, splats=(splat("old"),))] * 2, [skipped] * 2) == []


def test_a_splat_that_is_gone_in_every_run_is_fixed() -> None:
    warned = run(splats=(splat("old"),))
    assert findings([warned] * 2, [run()] * 2) == [(Change.FIXED, "warning: old")]
    assert findings([warned, run()], [run()] * 2) == []


def test_the_overall_word_and_exit_code_follow_the_worst_row() -> None:
    for patched, overall, code in (
        ([run()] * 2, Overall.CLEAN, 0),
        ([run(no_leak=FAIL)] * 2, Overall.REGRESSION, 1),
        ([run(no_leak=SKIP)] * 2, Overall.REGRESSION, 1),
        ([run(), run(no_leak=FAIL)], Overall.UNDECIDED, 3),
        ([run(process=INFRA)] * 2, Overall.UNDECIDED, 3),
    ):
        found = compared([run()] * 2, patched)
        assert (found.overall, found.exit_code) == (overall, code)


def test_nothing_but_skips_is_not_a_clean_bill() -> None:
    skipped = [run(no_leak=SKIP, data_intact=SKIP)] * 2
    assert compared(skipped, skipped).exit_code == 4


@pytest.mark.parametrize("dead", [HANG, CRASH])
def test_kernels_that_never_ran_a_case_prove_nothing(dead: Verdict) -> None:
    never = [run(process=dead, ran=False)] * 2
    assert findings(never, never) == [(Change.UNDECIDED, "")]
    assert compared(never, never).overall is Overall.UNDECIDED


def test_nothing_but_hangs_on_both_is_not_a_clean_bill() -> None:
    hung = [run(process=HANG)] * 2
    assert compared(hung, hung).overall is Overall.UNDECIDED
    others = [*hung, run(swap="zram"), run(swap="zram")]
    assert compared(others, others).overall is Overall.CLEAN
    assert "1 row failing on both" in overall_sentence(compared(others, others))


def test_a_failure_does_not_hide_that_the_path_is_not_proven() -> None:
    failing, blind = run(FAIL), run(FAIL, process=INCONCLUSIVE)
    assert findings([failing] * 2, [blind] * 2) == [(Change.UNDECIDED, "")]
    assert findings([blind] * 2, [failing] * 2) == [(Change.UNDECIDED, "")]
    assert compared([failing] * 2, [failing] * 2).overall is Overall.CLEAN


def test_what_holds_on_a_path_that_did_not_run_is_not_mended() -> None:
    blind = run(FAIL, PASS, process=INCONCLUSIVE)
    assert findings([run(FAIL, FAIL)] * 2, [blind] * 2) == [(Change.UNDECIDED, "")]


def test_what_fails_is_told_also_where_the_path_is_not_proven() -> None:
    told = findings([run(FAIL)] * 2, [run(FAIL, FAIL, process=INCONCLUSIVE)] * 2)
    assert told == [(Change.REGRESSED, "no_leak"), (Change.UNDECIDED, "")]


def test_a_measure_of_another_path_is_another_figure() -> None:
    before = [run(FAIL, measures={"copies": 100})] * 2
    after = [run(FAIL, process=INCONCLUSIVE, measures={"copies": 0})] * 2
    assert findings(before, after) == [(Change.UNDECIDED, "")]


def test_a_result_that_one_run_lost_behind_a_failure_is_open() -> None:
    told = findings([run(FAIL)] * 2, [run(FAIL), run(FAIL, INCONCLUSIVE)])
    assert told == [(Change.UNDECIDED, "")]


@pytest.mark.parametrize(
    "patched",
    [
        [run(process=HANG), run(process=CRASH)],
        [run(FAIL), run(process=HANG)],
        [run(FAIL), run(no_leak=FAIL)],
    ],
)
def test_failing_each_time_in_another_way_is_no_flakiness(patched: list[Outcome]) -> None:
    assert change([run()] * 2, patched) is Change.REGRESSED
    assert compared(patched, [run()] * 2).overall is not Overall.REGRESSION


def test_an_invariant_that_fails_counts_beside_a_run_that_crashed() -> None:
    blank = run(INCONCLUSIVE, INCONCLUSIVE)
    crashed = replace(blank, process=CRASH, verdict=CRASH, unsaid="")
    told = findings([run()] * 3, [crashed, run(FAIL), run(FAIL)])
    assert (Change.FLAKY, "data_intact") in told


def test_a_program_that_dies_without_a_result_on_both_tells_nothing() -> None:
    died = [run(INCONCLUSIVE, INCONCLUSIVE, process=FAIL)] * 2
    found = compared(died, died)
    assert (found.overall, found.rows[0].broken_on_both) == (Overall.UNDECIDED, True)
    half = [run(PASS, INCONCLUSIVE, process=FAIL)] * 2
    assert compared(half, half).rows[0].broken_on_both
    assert not compared(half, half).rows[0].dead_on_both


@pytest.mark.parametrize("end", [FAIL, HANG, CRASH])
def test_what_one_arm_skipped_is_not_compared_with_how_the_other_ended(end: Verdict) -> None:
    skipped = [run(SKIP, SKIP)] * 2
    died = [run(INCONCLUSIVE, INCONCLUSIVE, process=end)] * 2
    assert change(skipped, died) is Change.UNDECIDED
    assert change(died, skipped) is Change.NEW_SKIP


def test_nothing_at_all_is_not_a_clean_bill() -> None:
    assert compared([], []).overall is Overall.UNDECIDED
    guest = replace(run(), case=GUEST.id)
    assert compared([guest], [guest]).overall is Overall.UNDECIDED


def test_arms_that_differ_in_more_than_the_patch_prove_nothing() -> None:
    for what in ("compiler", "source", "programs_digest", "qemu_digest", "config_digest"):
        twins = replace(TWINS, patched=arm("patched", **{what: "another"}))
        assert len(twins.unequal()) == 1
        assert compared([run()], [run(no_leak=FAIL)], twins).overall is Overall.UNDECIDED


def test_a_patch_that_touches_kconfig_may_change_the_configuration() -> None:
    twins = replace(TWINS, patched=arm("patched", config_digest="x"), kconfig_patched=True)
    assert twins.unequal() == ()


def test_equal_signatures_mean_that_the_patch_changes_no_code() -> None:
    assert replace(TWINS, patched=arm("patched", signature="base-code")).identical
    assert not TWINS.identical
    unknown = replace(TWINS, base=arm("base", signature=""), patched=arm("patched", signature=""))
    assert not unknown.identical


def test_the_doubt_shrinks_with_the_number_of_clean_runs() -> None:
    assert detectable_rate(2) == pytest.approx(0.776, abs=0.001)
    assert detectable_rate(300) == pytest.approx(0.01, rel=0.02)
    assert detectable_rate(0) == 1.0


VERDICTS = st.sampled_from([PASS, SKIP, FAIL, INCONCLUSIVE])
COUNTS = st.integers(0, 5).map(float)
RUNS = st.builds(
    run,
    VERDICTS,
    VERDICTS,
    process=st.sampled_from([PASS, PASS, FAIL, HANG, CRASH, INCONCLUSIVE, INFRA]),
    measures=st.fixed_dictionaries({"pages_reused": COUNTS, "copies": COUNTS, "faults": COUNTS}),
    splats=st.sampled_from([(), (), (splat("a"),), (splat("b"),), (splat("a"), splat("b"))]),
)
ARM = st.lists(RUNS, min_size=1, max_size=4)
MIRROR = {
    Change.FIXED: Change.REGRESSED,
    Change.REGRESSED: Change.FIXED,
    Change.IMPROVED: Change.WORSENED,
    Change.WORSENED: Change.IMPROVED,
}


@given(ARM)
def test_an_arm_compared_with_itself_never_changes(runs: list[Outcome]) -> None:
    (row,) = compared(runs, runs).rows
    assert row.change in (Change.SAME, *OPEN)
    if len(set(runs)) == 1 and runs[0].verdict not in UNJUDGED and runs[0].ran:
        assert row.change is (Change.UNDECIDED if runs[0].unsaid else Change.SAME)


def judged_changes(comparison: Comparison) -> set[Finding]:
    (row,) = comparison.rows
    return {
        finding
        for finding in row.findings
        if finding.change in MIRROR and finding.subject in ("run", "invariant", "measure")
    }


@given(ARM, ARM)
def test_swapping_the_arms_mirrors_every_change(
    base: list[Outcome], patched: list[Outcome]
) -> None:
    there, back = judged_changes(compared(base, patched)), judged_changes(compared(patched, base))
    skips = {
        finding.name
        for finding in there | back
        if finding.change is Change.IMPROVED and finding.subject != "measure"
    }
    mirrored = {replace(finding, change=MIRROR[finding.change]) for finding in back}
    assert {f for f in there if f.name not in skips} == {f for f in mirrored if f.name not in skips}


@given(ARM, ARM)
def test_a_run_that_says_nothing_never_counts_as_good_news(
    base: list[Outcome], patched: list[Outcome]
) -> None:
    (row,) = compared(base, patched).rows
    if any(run.verdict in UNJUDGED for run in (*base, *patched)):
        assert row.change in (*OPEN, *REGRESSIONS)


@given(ARM, ARM)
def test_only_a_comparison_without_open_rows_is_clean(
    base: list[Outcome], patched: list[Outcome]
) -> None:
    found = compared(base, patched)
    (row,) = found.rows
    if found.exit_code == 0:
        assert row.change in (Change.SAME, Change.FIXED, Change.IMPROVED)
        assert not any(run.unsaid for run in (*base, *patched))
        assert max(run.verdict for run in patched) <= max(run.verdict for run in base)
