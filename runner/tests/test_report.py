# SPDX-License-Identifier: GPL-2.0-only
"""What people read: the terminal's table, the Markdown page, and their sentences."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from runner.comparison import Comparison
from runner.judging import GUEST
from runner.outcome import Outcome
from runner.report import change_lines, markdown, print_report, quiet_lines
from runner.row import Change
from runner.splat import Splat
from runner.tests.arms import (
    CRASH,
    FAIL,
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
from runner.wording import doubt, overall_sentence, row_doubt


def printed(comparison: Comparison, width: int = 100, colour: bool = False) -> str:
    stream = io.StringIO()
    print_report(comparison, Console(file=stream, width=width, force_terminal=colour))
    return stream.getvalue()


def told(base: list[Outcome], patched: list[Outcome]) -> list[str]:
    return [str(line) for line in change_lines(compared(base, patched))]


def test_a_fix_is_told_in_tries() -> None:
    leaks, holds = run(no_leak=FAIL, tries=(8, 8)), run(tries=(8, 0))
    assert told([leaks] * 2, [holds] * 2) == [
        "FIXED cow/wr_hit on nullblk: the parent's secret reaches the child: "
        "16 of 16 tries on base, none of 16 with the patch"
    ]


def test_without_tries_a_change_is_told_in_runs() -> None:
    assert told([run()] * 2, [run(no_leak=FAIL)] * 2) == [
        "REGRESSED cow/wr_hit on nullblk: the parent's secret reaches the child: "
        "none of 2 runs on base, 2 of 2 with the patch"
    ]


def test_a_measure_is_told_with_both_figures() -> None:
    assert told([reused(958)] * 2, [reused(0)] * 2) == [
        "WORSENED cow/wr_hit on nullblk: pages reused without a copy: 958 on base, 0 with the patch"
    ]
    assert "950 (942..958) on base" in told([reused(942), reused(958)], [reused(0)] * 2)[0]


def test_a_case_without_swap_says_so() -> None:
    base, patched = [run(swap="none")] * 2, [run(no_leak=FAIL, swap="none")] * 2
    assert told(base, patched)[0].startswith("REGRESSED cow/wr_hit without swap: ")


def test_a_crash_says_what_the_kernel_said() -> None:
    crashed = replace(run(process=CRASH), reason="the kernel panicked (kernel BUG at mm/a.c:1)")
    assert told([run()] * 2, [crashed] * 2) == [
        "REGRESSED cow/wr_hit on nullblk: ran to its end on base, "
        "CRASH (the kernel panicked (kernel BUG at mm/a.c:1)) with the patch"
    ]


def test_a_flaky_arm_is_shown_with_its_verdicts() -> None:
    assert told([run()] * 2, [run(), run(process=CRASH)]) == [
        "FLAKY cow/wr_hit on nullblk: PASS on base, PASS x1 and CRASH x1 with the patch"
    ]


def test_a_flaky_invariant_is_told_in_runs_whatever_its_tries() -> None:
    torn = [run(tries=(8, 0)), run(no_leak=FAIL, tries=(8, 1))]
    assert told([run(tries=(8, 0))] * 2, torn)[0].endswith(
        "none of 2 runs on base, 1 of 2 with the patch"
    )


def test_an_undecided_row_says_why() -> None:
    blind = replace(run(process=INFRA), reason="QEMU died while the case ran")
    assert told([run()] * 2, [run(), blind]) == [
        "UNDECIDED cow/wr_hit on nullblk: 1 of 2 runs with the patch said nothing "
        "(INFRA: QEMU died while the case ran)"
    ]


def test_a_new_splat_is_told_with_its_trace() -> None:
    assert told([run()] * 2, [run(splats=(splat("swap"),)), run()]) == [
        "NEW_SPLAT cow/wr_hit on nullblk: the kernel says `warning: at mm/swap.c:1` in swap, "
        "with the patch, never on base"
    ]


def test_a_new_skip_says_its_reason() -> None:
    assert told([run()] * 2, [run(no_leak=SKIP)] * 2)[0].startswith(
        "NEW_SKIP cow/wr_hit on nullblk: no_leak is skipped with the patch"
    )


def two_changes() -> Comparison:
    base = [run(no_leak=FAIL), run(swap="zram"), run(swap="disk")]
    patched = [run(), run(swap="zram", process=CRASH), run(swap="disk")]
    return compared(base, patched)


def test_the_most_serious_change_is_the_last_before_the_verdict() -> None:
    lines = [line for line in printed(two_changes()).splitlines() if line]
    fixed = next(i for i, line in enumerate(lines) if line.startswith("FIXED"))
    regressed = next(i for i, line in enumerate(lines) if line.startswith("REGRESSED"))
    verdict = next(i for i, line in enumerate(lines) if line.startswith("regression: "))
    unchanged = next(i for i, line in enumerate(lines) if "cow/wr_hit" in line)
    assert unchanged < fixed < regressed < verdict


def test_unchanged_cases_take_one_line_with_their_swaps() -> None:
    comparison = compared([run(), run(swap="zram")], [run(), run(swap="zram")])
    (line,) = quiet_lines(comparison)
    assert (line.case, line.swaps, line.verdict) == ("cow/wr_hit", ("nullblk", "zram"), "PASS")


def test_failing_on_both_is_shown_although_it_is_no_change() -> None:
    (line,) = quiet_lines(compared([run(no_leak=FAIL)] * 2, [run(no_leak=FAIL)] * 2))
    assert line.verdict == "FAIL on both"
    assert line.remark == "the parent's secret reaches the child on both"


def test_a_changed_row_still_says_what_fails_on_both() -> None:
    base = [run(no_leak=FAIL, measures={"copies": 1})] * 2
    patched = [run(no_leak=FAIL, measures={"copies": 9})] * 2
    (line,) = change_lines(compared(base, patched))
    assert line.also == ((Change.SAME, "the parent's secret reaches the child on both"),)
    assert "1 row failing on both" in overall_sentence(compared(base, patched))


def test_a_measure_without_direction_is_shown_where_it_differs() -> None:
    few, many = [run(measures={"faults": 1})] * 2, [run(measures={"faults": 900})] * 2
    (line,) = quiet_lines(compared(few, many))
    assert line.remark == "faults 1 on base, 900 with the patch: neither better nor worse"


def test_rows_with_one_story_are_told_once() -> None:
    swaps = ("zram", "disk", "nullblk", "ramdisk")
    base = [run(swap=swap) for swap in swaps]
    patched = [run(swap=swap, process=CRASH) for swap in swaps]
    (line,) = told(base, patched)
    assert line.startswith("REGRESSED cow/wr_hit on zram, disk, nullblk, ramdisk: ")


def test_swaps_with_about_the_same_figures_are_told_once_and_others_apart() -> None:
    figures = {"zram": 900.0, "ramdisk": 901.0, "disk": 200.0}
    base = [run(swap=swap, measures={"pages_reused": 0.0}) for swap in figures]
    patched = [run(swap=swap, measures={"pages_reused": many}) for swap, many in figures.items()]
    assert told(base, patched) == [
        "IMPROVED cow/wr_hit on zram, ramdisk: pages reused without a copy: 0 on base, "
        "900.5 (900..901) with the patch",
        "IMPROVED cow/wr_hit on disk: pages reused without a copy: 0 on base, 200 with the patch",
    ]


def test_the_guest_has_no_line_unless_something_happened() -> None:
    guest = replace(run(), case=GUEST.id, invariants=())
    warned = replace(guest, splats=(splat("boot"),))
    assert quiet_lines(compared([guest, run()], [guest, run()]))[0].case == "cow/wr_hit"
    assert quiet_lines(compared([warned], [warned]))[0].remark == (
        "known splat warning: at mm/boot.c:1"
    )


def test_the_report_says_what_was_the_same_in_both_arms() -> None:
    text = printed(two_changes())
    assert "same in both arms: source, compiler, guest programs, QEMU arguments, .config" in text
    assert "machine: TCG, 2 CPUs, 1024 MiB, QEMU 7.2; 2 runs of each case in each arm" in text


def test_the_report_says_when_the_arms_were_not_the_same() -> None:
    twins = replace(TWINS, patched=arm("patched", compiler="clang"))
    said = overall_sentence(compared([run()], [run()], twins))
    assert said == "undecided: the arms differ in more than the patch (the compiler)"


def test_the_report_says_that_a_patch_changes_no_code() -> None:
    twins = replace(TWINS, patched=arm("patched", signature="base-code"))
    assert "the patch changes no code" in printed(compared([run()], [run()], twins))


def test_the_report_states_its_doubt() -> None:
    assert doubt(compared([run()] * 2, [run()] * 2)) == (
        "a failure that happens in fewer than 78% of runs could have been missed "
        "(2 runs of each case with the patch, 95% confidence)"
    )
    (row,) = compared([run(tries=(150, 0))] * 2, [run(tries=(150, 0))] * 2).rows
    assert row_doubt(row)[1] == "no_leak: 300 clean tries, would have seen 1.0% or more"


def test_the_overall_sentence_counts_every_kind_of_change() -> None:
    assert overall_sentence(two_changes()) == (
        "regression: 1 REGRESSED; 1 FIXED; 1 of 3 rows unchanged"
    )


def test_nothing_a_guest_says_reaches_the_terminal_as_a_command() -> None:
    nasty = Splat("warning", "\x1b[2J\x07[bold]boo[/bold]", (), "warning: x", "")
    text = printed(compared([run()], [run(splats=(nasty,))]), colour=False)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]boo[/bold]" in text


def test_nothing_a_guest_says_breaks_the_markdown_table() -> None:
    nasty = Splat("warning", "a | b <script> *c* [d](e)\nf", (), "warning: x", "")
    page = markdown(compared([run()], [run(splats=(nasty,))]))
    assert r"a \| b \<script\> \*c\* \[d\](e) f" in page


def test_markdown_puts_the_verdict_first_and_has_every_row() -> None:
    page = markdown(two_changes()).splitlines()
    assert page[0].startswith("# twinboot: regression: 1 REGRESSED")
    assert sum(line.startswith("| cow/wr") for line in page) == 3
    changes = [line for line in page if line.startswith("- **")]
    assert [line.split("**")[1] for line in changes] == ["REGRESSED", "FIXED"]


def test_a_report_without_a_terminal_is_plain_and_not_wrapped() -> None:
    text = printed(two_changes(), width=40)
    assert "\x1b" not in text
    assert any(len(line) > 60 for line in text.splitlines() if line.startswith("FIXED"))


def test_every_change_has_a_colour_and_a_word() -> None:
    assert {change.name for change in Change} >= {"LOST", "SAME"}
    assert "\x1b[" in printed(two_changes(), colour=True)
    assert PASS.name in printed(two_changes(), colour=True)
