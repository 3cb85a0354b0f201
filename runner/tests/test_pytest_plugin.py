# SPDX-License-Identifier: GPL-2.0-only
"""Experiments under pytest: what its users expect of -k, -x, --lf and --junitxml."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import junitparser
import pytest

from runner import case, pytest_plugin
from runner.comparison import Comparison, compare
from runner.errors import InfraError
from runner.experiment import CASES, Plan
from runner.judging import GUEST
from runner.outcome import Outcome, Verdict
from runner.splat import Splat
from runner.tests.arms import CRASH, FAIL, INFRA, PASS, SKIP, TWINS, arm, splat
from runner.twins import Twins

pytest_plugins = ["pytester"]

EXPERIMENT = """
patch: sketch
case: [gup/leak_base, gup/leak_swap_fork, thp/leak_thp]
swap: [none, zram]
"""
ROWS = (
    *("gup/leak_base@none", "thp/leak_thp@none"),
    *("gup/leak_swap_fork@zram", "thp/leak_thp@zram"),
)
TABLE = case.load(CASES)
PATIENT = "gup/leak_swap_fork@zram"


def outcome(name: str, swap: str, verdict: Verdict = PASS, *splats: Splat) -> Outcome:
    return Outcome(name, swap, 1, verdict, "made up \x1b[2J", verdict, splats=splats)


@dataclass
class Lab:
    """Stands in for kernels and guests: what each row does with the patch, and what was asked."""

    patched: dict[str, Verdict] = field(default_factory=dict)
    base: dict[str, Verdict] = field(default_factory=dict)
    splats: tuple[Splat, ...] = ()
    twins: Twins = TWINS
    breaks: str = ""
    built: list[Plan] = field(default_factory=list)
    booted: list[Plan] = field(default_factory=list)

    def build(self, plan: Plan, _cache: Path, _tell: object) -> Any:
        self.built.append(plan)
        if self.breaks:
            raise InfraError(self.breaks)

    def run(self, plan: Plan, _tell: object) -> Comparison:
        self.booted.append(plan)
        (swap,) = plan.swaps
        table = case.select(TABLE, plan.cases)
        base, patched = (
            [outcome(GUEST.id, swap, PASS, *splats)]
            + [outcome(each.id, swap, told.get(f"{each.id}@{swap}", PASS)) for each in table]
            for told, splats in ((self.base, ()), (self.patched, self.splats))
        )
        table = tuple(replace(each, measures=()) for each in table)
        return compare(table, base, patched, self.twins)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> Lab:
    made = Lab()
    monkeypatch.setattr(case, "load", lambda _folder: TABLE)
    monkeypatch.setattr(pytest_plugin, "build_arms", made.build)
    monkeypatch.setattr(pytest_plugin, "run_experiment", made.run)
    pytester.mkdir("experiments").joinpath("mine.yaml").write_text(EXPERIMENT)
    return made


def outcomes(pytester: pytest.Pytester, *words: str) -> dict[str, int]:
    return ran(pytester, *words).parseoutcomes()


def ran(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    """The plugin is loaded already, which pytest would warn of."""
    quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    return pytester.runpytest_inprocess("-p", "runner.pytest_plugin", *quiet, *words)


def test_there_is_an_item_for_each_case_on_each_swap(pytester: pytest.Pytester, lab: Lab) -> None:
    done = ran(pytester, "--collect-only", "-q")
    assert [line for line in done.outlines if "::" in line] == [
        f"experiments/mine.yaml::{row}" for row in ROWS
    ]
    assert (lab.built, lab.booted) == ([], [])


def test_each_swap_boots_once_and_kernels_are_built_once(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    assert outcomes(pytester) == {"passed": 4}
    assert [(plan.swaps, plan.cases) for plan in lab.booted] == [
        (("none",), ("gup/leak_base", "thp/leak_thp")),
        (("zram",), ("gup/leak_swap_fork", "thp/leak_thp")),
    ]
    assert len({plan.folder for plan in lab.booted}) == 2
    assert len(lab.built) == 1


def test_only_what_k_selects_is_booted(pytester: pytest.Pytester, lab: Lab) -> None:
    assert outcomes(pytester, "-k", "thp and zram") == {"passed": 1, "deselected": 3}
    assert [(plan.swaps, plan.cases) for plan in lab.booted] == [(("zram",), ("thp/leak_thp",))]


def test_x_boots_no_swap_after_the_first_failure(pytester: pytest.Pytester, lab: Lab) -> None:
    lab.patched["gup/leak_base@none"] = FAIL
    assert outcomes(pytester, "-x") == {"failed": 1}
    assert [plan.swaps for plan in lab.booted] == [("none",)]


def test_lf_runs_what_failed_and_what_was_an_error(pytester: pytest.Pytester, lab: Lab) -> None:
    lab.patched = {PATIENT: FAIL, "thp/leak_thp@none": INFRA}
    assert outcomes(pytester) == {"passed": 2, "failed": 1, "errors": 1}
    lab.booted.clear()
    assert outcomes(pytester, "--lf") == {"failed": 1, "errors": 1}
    assert [plan.cases for plan in lab.booted] == [("thp/leak_thp",), ("gup/leak_swap_fork",)]


def test_an_item_ends_as_a_gate_takes_its_row_and_others_can_read_the_junit(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    fates: tuple[tuple[Verdict, Verdict, list[type]], ...] = (
        (PASS, PASS, []),
        (FAIL, PASS, []),
        (FAIL, FAIL, []),
        (PASS, FAIL, [junitparser.Failure]),
        (PASS, CRASH, [junitparser.Failure]),
        (PASS, SKIP, [junitparser.Failure]),
        (SKIP, SKIP, [junitparser.Skipped]),
        (PASS, INFRA, [junitparser.Error]),
        (INFRA, PASS, [junitparser.Error]),
        (SKIP, FAIL, [junitparser.Error]),
    )
    names = [each.id for each in TABLE if "zram" in each.swaps][: len(fates)]
    (pytester.path / "experiments/mine.yaml").write_text(f"case: {names}\nswap: zram\n")
    for name, (base, patched, _) in zip(names, fates, strict=True):
        lab.base[f"{name}@zram"], lab.patched[f"{name}@zram"] = base, patched
    ran(pytester, "--junitxml=out.xml")
    suites = junitparser.JUnitXml.fromfile(str(pytester.path / "out.xml"))
    found = {test.name: [type(each) for each in test.result] for suite in suites for test in suite}
    assert found == {f"{name}@zram": fate for name, (*_, fate) in zip(names, fates, strict=True)}


def test_a_failure_shows_the_evidence_and_no_python(pytester: pytest.Pytester, lab: Lab) -> None:
    lab.patched[PATIENT] = FAIL
    text = str(ran(pytester, "-k", "leak_swap_fork").stdout)
    assert "base, run 1: PASS: made up" in text
    assert "patched, run 1: FAIL: made up" in text
    assert "\x1b" not in text
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text


def test_what_the_guest_itself_says_is_charged_to_the_first_item_of_its_swap(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    lab.splats = (splat("boot"),)
    done = ran(pytester, "-k", "zram")
    assert done.parseoutcomes() == {"passed": 1, "failed": 1, "deselected": 2}
    assert "guest/boot on zram" in str(done.stdout)
    assert f"FAILED experiments/mine.yaml::{PATIENT}" in str(done.stdout)


def test_a_kernel_that_cannot_be_built_is_an_error_of_every_item_tried_once(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    lab.breaks = "the patch does not apply"
    done = ran(pytester)
    assert done.parseoutcomes() == {"errors": 4}
    assert "the patch does not apply" in str(done.stdout)
    assert len(lab.built) == 1
    assert lab.booted == []


def test_arms_that_differ_in_more_than_the_patch_are_an_error(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    lab.twins = replace(TWINS, patched=arm("patched", compiler="clang"))
    assert outcomes(pytester, "-k", "zram")["errors"] == 2


def test_the_command_line_names_another_patch_and_source(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    ran(pytester, "--twinboot-patch", "mine", "--twinboot-source", "git:.@v6", "-k", "zram")
    assert [(plan.patch, plan.source) for plan in lab.booted] == [("mine", "git:.@v6")]


def test_a_bad_experiment_is_one_sentence_when_it_is_collected(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    faults = {
        "cases: gup": "there is no key 'cases'",
        "case: nosuch": "there is no case or group `nosuch`",
        "kselftest: mm:cow": "use `twinboot run --experiment`",
    }
    for number, text in enumerate(faults):
        (pytester.path / f"experiments/bad{number}.yaml").write_text(text)
    done = ran(pytester)
    assert done.parseoutcomes() == {"errors": 3}
    assert all(sentence in str(done.stdout) for sentence in faults.values())
    assert "Traceback" not in str(done.stdout)


def test_other_yaml_files_are_left_alone(pytester: pytest.Pytester, lab: Lab) -> None:
    (pytester.path / "experiments/mine.yaml").rename(pytester.path / "mine.yaml")
    assert ran(pytester).ret is pytest.ExitCode.NO_TESTS_COLLECTED
