# SPDX-License-Identifier: GPL-2.0-only
"""What is a change of cost and what is not, and that nothing else than instructions is counted."""

from __future__ import annotations

import io
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from runner import case, report
from runner.case import Case
from runner.comparison import Comparison, compare
from runner.cost import Ratio, allowed, ratio
from runner.costreport import cost_lines
from runner.doubt import rows_in_doubt
from runner.errors import UserError
from runner.experiment import CASES, COSTS, PATCHES, ROOT, Plan, chosen_cases, command_of
from runner.ktap import Measure
from runner.outcome import Outcome
from runner.qemu import BootFiles, Machine, guest_argv
from runner.rootfs import guest_programs
from runner.row import Change
from runner.tests.arms import TWINS, run

FAULT: Case = next(each for each in case.load(COSTS) if each.id == "cost/wr_sync")
PLANTED = sorted((PATCHES / "cost").glob("*.patch"))
FILES = BootFiles(Path("/k"), Path("/r"), Path("/t/keys"), Path("/t/results"))
FIGURES = st.lists(st.floats(1, 1e7), min_size=1, max_size=6).map(tuple)


def costs(*figures: float) -> list[Outcome]:
    """A run with each of these figures."""
    return [
        replace(
            run(swap="zram"),
            case=FAULT.id,
            measures=(Measure("instructions", each, "instructions"),),
        )
        for each in figures
    ]


def compared(base: tuple[float, ...], patched: tuple[float, ...]) -> Comparison:
    return compare([FAULT], costs(*base), costs(*patched), TWINS)


def change(base: tuple[float, ...], patched: tuple[float, ...]) -> Change:
    (row,) = compared(base, patched).rows
    return row.change


BASE = (5812.0, 5813.0, 5812.5, 5814.0)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1.0, Change.SAME),
        (1.004, Change.SAME),
        (0.996, Change.SAME),
        (1.01, Change.WORSENED),
        (1.10, Change.WORSENED),
        (0.99, Change.IMPROVED),
    ],
)
def test_dearer_is_worse_and_cheaper_better_beyond_the_floor(
    factor: float, expected: Change
) -> None:
    assert change(BASE, tuple(each * factor for each in BASE)) is expected


def test_what_bases_own_runs_show_against_each_other_is_no_change() -> None:
    dearer = (5900.0, 5901.0, 5901.0, 5902.0)
    assert change((5828.0, 5829.0, 5829.0, 5830.0), dearer) is Change.WORSENED
    assert change((5600.0, 5829.0, 5829.0, 5830.0), dearer) is Change.SAME


def test_one_run_of_the_patch_among_bases_takes_the_claim_back() -> None:
    assert change(BASE, (5900.0, 5901.0, 5902.0, 5813.0)) is Change.SAME


@given(st.permutations([5810.0, 5820.0, 5830.0, 5840.0]))
def test_the_same_figures_in_another_order_are_no_change(again: list[float]) -> None:
    assert change((5810.0, 5820.0, 5830.0, 5840.0), tuple(again)) is Change.SAME


@given(FIGURES, FIGURES)
def test_the_interval_holds_the_change_and_leaves_out_1_only_where_the_ranges_lie_apart(
    base: tuple[float, ...], patched: tuple[float, ...]
) -> None:
    found = ratio(base, patched)
    assert found is not None
    assert found.low <= found.middle <= found.high
    apart = max(base) < min(patched) or max(patched) < min(base)
    assert apart == (not found.low <= 1 <= found.high)


def test_four_runs_in_each_arm_give_the_95_percent_that_three_do_not() -> None:
    def confidence(runs: int) -> float:
        found = ratio((1.0,) * runs, (1.0,) * runs)
        return found.confidence if found else 0.0

    assert confidence(3) == pytest.approx(0.9)
    assert confidence(4) == pytest.approx(1 - 2 / 70)


def test_an_arm_without_figures_has_no_ratio() -> None:
    assert ratio((), (1.0,)) is None
    assert ratio((0.0, 1.0), (1.0,)) is None


def test_a_measure_without_a_floor_keeps_its_tolerance() -> None:
    spec = replace(FAULT.measures[0], floor=0.0, tolerance=8.0)
    assert allowed(spec, (100.0, 200.0)) == 8.0
    assert allowed(replace(spec, floor=0.01), (1000.0, 1000.0)) == 10.0
    assert allowed(replace(spec, floor=0.01), ()) == 8.0


def test_only_a_cost_that_barely_moved_is_looked_at_again() -> None:
    assert rows_in_doubt(compared(BASE, tuple(each * 1.008 for each in BASE)))
    assert not rows_in_doubt(compared(BASE, tuple(each * 1.03 for each in BASE)))


def test_the_table_says_the_change_and_its_interval() -> None:
    found = compared((1000.0, 1000.0, 1000.0, 1002.0), (1100.0, 1100.0, 1100.0, 1101.0))
    (line,) = cost_lines(found)
    assert line.ratio == Ratio(1100 / 1002, 1.1, 1.101, 1 - 2 / 70)
    cells = line.cells()
    assert cells[1:] == (
        "write fault that swaps its page in",
        "1,000 \u00b10.10%",
        "1,100",
        "+10.00%",
        "+9.78% to +10.10% (97%)",
        "WORSENED",
    )
    shown = io.StringIO()
    report.print_report(found, Console(width=240, file=shown))
    assert "+9.78% to +10.10% (97%)" in shown.getvalue()
    assert "| +10.00% | +9.78% to +10.10% (97%) | WORSENED |" in report.markdown(found)


def test_every_cost_case_measures_instructions_proves_the_counting_and_has_a_floor() -> None:
    for each in case.load(COSTS):
        assert [(spec.name, spec.unit) for spec in each.measures] == [
            ("instructions", "instructions")
        ], each.id
        assert each.measures[0].floor > 0, each.id
        assert "counted" in each.proof, each.id


def test_a_usual_run_has_no_cost_case_and_a_cost_run_no_other() -> None:
    usual, cost = chosen_cases(Plan(Path())), chosen_cases(Plan(Path(), cost=True))
    assert not {each.id for each in usual} & {each.id for each in cost}
    assert {each.group for each in cost} == {"cost"}
    assert not {each.id for each in case.load(CASES)} & {each.id for each in case.load(COSTS)}


def test_what_does_not_count_instructions_is_refused() -> None:
    with pytest.raises(UserError, match="KVM"):
        chosen_cases(Plan(Path(), cost=True, accelerator="kvm"))
    with pytest.raises(UserError, match="cost cases alone"):
        chosen_cases(Plan(Path(), cost=True, commands=("a=b",)))


def test_a_saved_plan_is_run_again_as_a_cost_run(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(
        '{"folder": "x", "source": "s", "patch": "p", "repeats": 4, "seed": 1, "cost": true}'
    )
    assert "--cost" in command_of(tmp_path).split()


def test_only_a_guest_that_counts_has_another_clock_and_a_fixed_layout() -> None:
    usual = guest_argv(Machine(), FILES, 22)
    counting = guest_argv(Machine(cpus=1, icount=True), FILES, 22)
    assert "-icount" in counting
    assert "tcg,thread=single" in counting
    assert {"noapictimer", "norandmaps"} <= set(" ".join(counting).split())
    assert "-icount" not in usual
    assert not {"noapictimer", "norandmaps"} & set(" ".join(usual).split())


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    return guest_programs(ROOT / "guest-tests", cache, lambda _line: None)


def test_where_time_is_time_nothing_is_measured(programs: Path) -> None:
    """This host does not count instructions."""
    env = os.environ | {"TWINBOOT_GUEST": "1", "TWINBOOT_SWAP": "zram"}
    argv = [str(programs / "cost"), "loop"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "# proof: counted missing" in done.stdout
    assert "# measure:" not in done.stdout


def test_every_cost_case_is_in_the_program(programs: Path) -> None:
    env = os.environ | {"TWINBOOT_GUEST": "1", "TWINBOOT_SWAP": "zram"}
    for each in case.load(COSTS):
        argv = [str(programs / "cost"), *each.program[1:]]
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert "KTAP version 1" in done.stdout, each.id


@pytest.mark.parametrize("patch", PLANTED, ids=lambda path: path.stem)
def test_every_planted_slow_down_names_the_cost_case_that_must_notice(patch: Path) -> None:
    named = re.findall(r"^Caught-by: (\S+) (\S+)$", patch.read_text(), re.MULTILINE)
    declared = {(each.id, spec.name) for each in case.load(COSTS) for spec in each.measures}
    assert named
    assert set(named) <= declared


def test_there_is_a_planted_slow_down_of_1_3_and_10_percent() -> None:
    assert [path.stem.partition("-")[0] for path in PLANTED] == ["one", "ten", "three"]
