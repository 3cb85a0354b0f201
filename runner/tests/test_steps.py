# SPDX-License-Identifier: GPL-2.0-only
"""Every prefix of a series: which patch brought a change, which one ended it, what is not known."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import threading
from itertools import pairwise
from pathlib import Path

import junitparser
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from runner import (
    each,
    experiment,
    host,
    kconfig,
    matrix,
    patchset,
    recall,
    source,
    stepreport,
    steps,
)
from runner.cli import app
from runner.commands import options
from runner.comparison import Comparison, Overall
from runner.errors import PatchError, UserError
from runner.exchange import junit_series
from runner.experiment import Inputs, Plan
from runner.outcome import Outcome
from runner.patchset import PatchSet, read_patch
from runner.row import Change, Finding
from runner.steps import Step
from runner.tests import tinytree
from runner.tests.arms import (
    CRASH,
    FAIL,
    HANG,
    INCONCLUSIVE,
    INFRA,
    SKIP,
    compared,
    reused,
    run,
    splat,
)
from runner.tests.fakeguests import Guests, guests
from runner.tests.tinytree import patch_of
from runner.transcript import Transcript
from runner.trial import Trial

__all__ = ["guests"]

GOOD, BAD, FELL = run(), run(data_intact=FAIL), run(process=CRASH)
MANY = {"pages_reused": 900.0}


def walk(*patched: list[Outcome] | str, base: list[Outcome] | None = None) -> tuple[Step, ...]:
    """Steps with these outcomes of the patched arm; a text is why there is no kernel."""
    made = []
    for number, each_ in enumerate(patched, 1):
        step = Step(number, f"mm: patch {number}", Path(f"/run/{number}-mm-patch"))
        if isinstance(each_, str):
            made.append(dataclasses.replace(step, failure=each_))
        else:
            found = compared(base or [GOOD, GOOD], each_)
            made.append(dataclasses.replace(step, comparison=found))
    return tuple(made)


def lives(made: tuple[Step, ...]) -> list[tuple[str, int, int | None, tuple[int, ...]]]:
    """Every change with the patches that brought and ended it."""
    return [
        (turn.finding.change.name, turn.since, turn.until, turn.unclear)
        for turn in steps.turns(made)
    ]


# Who brought it


def test_a_change_belongs_to_the_first_patch_that_shows_it() -> None:
    made = walk([GOOD, GOOD], [GOOD, GOOD], [BAD, BAD])
    assert lives(made) == [("REGRESSED", 3, None, ())]
    assert steps.worst(made) is Overall.REGRESSION


def test_what_is_mended_later_was_broken_in_the_middle() -> None:
    made = walk([GOOD, GOOD], [BAD, BAD], [BAD, BAD], [GOOD, GOOD])
    assert lives(made) == [("REGRESSED", 2, 4, ())]
    said = list(stepreport.summary(made))
    assert "broken in the middle: REGRESSED cow/wr_hit on nullblk (data_intact), by 2/4" in said[0]
    assert "mended by 4/4" in said[0]
    assert said[-1] == "regression: worst of 4 prefixes against base, at 2/4, 3/4"


def test_a_repair_that_a_later_patch_takes_back_is_said() -> None:
    made = walk([GOOD, GOOD], [BAD, BAD], base=[BAD, BAD])
    assert lives(made) == [("FIXED", 1, 2, ())]
    assert "takes back FIXED cow/wr_hit on nullblk (data_intact), there since 1/2" in text(made)


def test_a_measure_that_turns_round_has_two_lives() -> None:
    made = walk([reused(5)] * 2, [reused(900)] * 2, base=[reused(480)] * 2)
    assert lives(made) == [("WORSENED", 1, 2, ()), ("IMPROVED", 2, None, ())]


def test_a_measure_that_moves_on_tells_its_later_values() -> None:
    made = walk([reused(400)] * 2, [reused(5)] * 2, base=[reused(480)] * 2)
    assert "480 on base, 400 with the patch; 5 at 2/2" in text(made)


def test_a_new_splat_is_followed_like_any_change() -> None:
    loud = run(splats=(splat("memory"),))
    assert lives(walk([GOOD] * 2, [loud] * 2, [GOOD] * 2)) == [("NEW_SPLAT", 2, 3, ())]


# What is not known


def test_a_patch_that_does_not_build_leaves_open_whose_change_it_is() -> None:
    made = walk([GOOD, GOOD], "mm/memory.c:7: error", [BAD, BAD])
    assert lives(made) == [("REGRESSED", 3, None, (2,))]
    assert made[1].overall is Overall.REGRESSION
    assert "not bisectable: 2/3 does not build" in list(stepreport.summary(made))
    assert "(or brought by 2/3, unclear there)" in text(made)


def test_a_crash_says_nothing_of_the_invariants_it_cut_off() -> None:
    made = walk([GOOD, GOOD], [FELL, FELL], [GOOD, GOOD], base=[BAD, BAD])
    named = [life for life in lives(made) if life[0] == "FIXED"]
    assert named == [("FIXED", 1, None, ())]


def test_flaky_and_undecided_are_told_and_decide_nothing() -> None:
    lost = run(process=INFRA)
    assert (
        lives(walk([GOOD, BAD], [BAD, BAD]))
        == [("REGRESSED", 2, None, (1,)), ("FLAKY", 1, None, ())][::-1]
    )
    made = walk([BAD, BAD], [lost, lost], [BAD, BAD])
    assert [life for life in lives(made) if life[0] == "REGRESSED"] == [("REGRESSED", 1, None, ())]
    assert steps.worst(walk([GOOD, GOOD], [lost, lost])) is Overall.UNDECIDED


def test_a_row_whose_base_is_not_trusted_mends_nothing() -> None:
    made = walk([BAD, BAD], [BAD, BAD], [BAD, BAD])
    drift = Finding(Change.UNDECIDED, "baseline", "data_intact")
    assert made[1].comparison
    rows = tuple(dataclasses.replace(row, findings=(drift,)) for row in made[1].comparison.rows)
    doubted = dataclasses.replace(made[1].comparison, rows=rows)
    made = (made[0], dataclasses.replace(made[1], comparison=doubted), made[2])
    assert ("REGRESSED", 1, None, ()) in lives(made)
    assert steps.worst(made) is Overall.REGRESSION


@pytest.mark.parametrize(
    ("broken", "after", "change", "base"),
    [
        (run(no_leak=FAIL), run(no_leak=SKIP), "REGRESSED", GOOD),
        (run(no_leak=FAIL), run(no_leak=INCONCLUSIVE, data_intact=FAIL), "REGRESSED", BAD),
        (run(process=HANG), run(process=INCONCLUSIVE, ran=False), "REGRESSED", GOOD),
        (run(process=HANG), run(SKIP, SKIP), "REGRESSED", GOOD),
        (run(splats=(splat("memory"),)), run(SKIP, SKIP), "NEW_SPLAT", GOOD),
        (reused(0), run(SKIP, SKIP), "WORSENED", reused(900)),
        (run(FAIL, measures={"pages_reused": 0}), BAD, "WORSENED", run(FAIL, measures=MANY)),
        (BAD, FELL, "REGRESSED", GOOD),
    ],
)
def test_a_patch_that_skips_loses_or_kills_a_case_mends_nothing(
    broken: Outcome, after: Outcome, change: str, base: Outcome
) -> None:
    made = walk([broken] * 2, [after] * 2, base=[base] * 2)
    assert (change, 1, None, ()) in lives(made)
    assert "mended by" not in "".join(stepreport.summary(made))
    well = walk([broken] * 2, [after] * 2, [base] * 2, base=[base] * 2)
    assert (change, 1, 3, ()) in lives(well)


def test_what_is_found_behind_a_skip_may_be_older() -> None:
    made = walk([run(no_leak=SKIP)] * 2, [run(no_leak=FAIL)] * 2, [GOOD] * 2)
    assert lives(made) == [("NEW_SKIP", 1, 3, ()), ("REGRESSED", 2, 3, (1,))]


def test_a_repair_that_a_later_patch_only_skips_is_not_taken_back() -> None:
    made = walk([GOOD] * 2, [run(SKIP)] * 2, base=[BAD] * 2)
    assert lives(made) == [("FIXED", 1, None, ()), ("NEW_SKIP", 2, None, ())]


def test_what_both_kernels_skip_hides_nothing_else() -> None:
    part = run(no_leak=SKIP)
    loud = run(no_leak=SKIP, splats=(splat("memory"),))
    made = walk([loud] * 2, [part] * 2, base=[part] * 2)
    assert lives(made) == [("NEW_SPLAT", 1, 2, ())]


def test_a_base_that_skips_does_not_mend_what_a_patch_warned_of() -> None:
    skipped = [run(SKIP, SKIP)] * 2
    warned = [run(splats=(splat("lru_add"),))] * 2
    made = walk(warned, skipped, base=skipped)
    assert ("NEW_SPLAT", 1, None, ()) in lives(made)


def test_a_lasting_fix_hides_no_end_of_a_splat() -> None:
    made = walk([run(splats=(splat("lru_add"),))] * 2, [run()] * 2, base=[run(process=HANG)] * 2)
    assert ("NEW_SPLAT", 1, 2, ()) in lives(made)


def test_swaps_with_one_story_are_told_once() -> None:
    both = [run(data_intact=FAIL, swap=swap) for swap in ("nullblk", "zram")] * 2
    clean = [run(swap=swap) for swap in ("nullblk", "zram")] * 2
    (turn,) = steps.turns(walk(clean, both, base=clean))
    assert [row.swap for row in turn.rows] == ["nullblk", "zram"]


# How it is told


def text(made: tuple[Step, ...]) -> str:
    out = io.StringIO()
    stepreport.print_steps(made, Console(file=out, width=240))
    return out.getvalue()


def test_a_clean_series_is_clean_and_has_no_line() -> None:
    made = walk([GOOD, GOOD], [GOOD, GOOD])
    assert steps.turns(made) == ()
    assert steps.worst(made).exit_code == 0
    assert "no regression: worst of 2 prefixes" in text(made)


def test_the_document_names_for_each_patch_what_it_brings_and_ends() -> None:
    told = json.loads(stepreport.document(walk([GOOD] * 2, [BAD] * 2, [GOOD] * 2)))
    assert told["exit_code"] == 1
    assert [[turn["change"] for turn in step["brings"]] for step in told["steps"]] == [
        [],
        ["REGRESSED"],
        [],
    ]
    assert told["steps"][2]["ends"][0]["since"] == 2
    assert "## 2/3 mm: patch 2" in stepreport.markdown(walk([GOOD] * 2, [BAD] * 2, [GOOD] * 2))


def test_no_title_moves_the_terminal() -> None:
    (step,) = walk([GOOD, GOOD])
    assert "\x1b" not in text((dataclasses.replace(step, title="mm: \x1b[2J [red]x"),))


# The walk


ONE = tinytree.SWAPFILE.replace("count <= 1", "count <= 2")
BROKEN = ONE.replace("count <= 2", "count <= two")
LAST = ONE.replace("count <= 2", "count <= 3")


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """The tiny tree and three patches, the second of which does not compile."""
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    tree = tinytree.write(tmp_path / "tiny")
    folder = tinytree.write_fragments(tmp_path / "kconfigs")
    fetched = source.fetch(source.parse_source(str(tree)), tmp_path / "cache", print)
    texts = [tinytree.SWAPFILE, ONE, BROKEN, LAST]
    patches = tuple(
        read_patch(f"{number}.patch", f"mm: ../{number}\x1b", patch_of("mm/swapfile.c", old, new))
        for number, (old, new) in enumerate(pairwise(texts), 1)
    )
    return Inputs(fetched, PatchSet("set", patches), kconfig.load(["swap"], folder), "gcc")


def walked(
    plan: Plan, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, resumed: bool = False
) -> list[Plan]:
    """Run the walk with guests that are made up; returns the plans that were run.

    The runs of a walk that is resumed are resumed, too.
    """
    plans: list[Plan] = []

    def ran(part: Plan, _progress: object, begun: bool) -> Comparison:
        assert begun is resumed
        plans.append(part)
        if not begun:
            experiment.begin_folder(part)
        return compared([GOOD, GOOD], [GOOD, GOOD])

    monkeypatch.setattr(each, "read_inputs", lambda *_: inputs)
    monkeypatch.setattr(each, "run_experiment", ran)
    made = each.run_each(plan, print, resumed)
    assert [bool(step.failure) for step in made] == [False, True, False]
    assert "does not compile" in made[1].failure
    return plans


def test_each_prefix_runs_in_a_folder_of_its_own_on_the_first_ones_base(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = walked(Plan(tmp_path / "out", each=True), inputs, monkeypatch)
    first, last = (tmp_path / "out/1-mm-1", tmp_path / "out/3-mm-3")
    assert [(plan.folder, plan.upto, plan.baseline) for plan in plans] == [
        (first, 1, None),
        (last, 3, first),
    ]
    assert "--each" in experiment.command_of(tmp_path / "out")
    again = experiment.plan_of(tmp_path / "out")
    assert walked(again, inputs, monkeypatch, resumed=True) == plans


def test_a_walk_needs_a_second_look_for_its_borrowed_base(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--confirm 1 or more"):
        each.run_each(Plan(tmp_path / "out", confirm=0), print)
    assert not (tmp_path / "out").exists()


def test_a_series_that_does_not_apply_is_refused_before_anything_boots(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = dataclasses.replace(inputs.patchset, patches=inputs.patchset.patches[:1] * 2)
    wrong = dataclasses.replace(inputs, patchset=twice)
    with pytest.raises(PatchError, match="does not apply"):
        walked(Plan(tmp_path / "out"), wrong, monkeypatch)
    none = dataclasses.replace(inputs, patchset=patchset.EMPTY)
    with pytest.raises(UserError, match="--each needs patches"):
        walked(Plan(tmp_path / "other"), none, monkeypatch)


def test_more_patches_than_there_are_cannot_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.patch"
    path.write_text(patch_of("mm/swapfile.c", tinytree.SWAPFILE, ONE))
    tree = tinytree.write(tmp_path / "tiny")
    with pytest.raises(UserError, match=r"--upto is 2; x has 1 patch$"):
        experiment.read_inputs(Plan(tmp_path, f"dir:{tree}", str(path), upto=2), tmp_path, print)


@pytest.fixture
def alike(guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A walk over three patches of which each kernel is there and all guests pass."""
    texts = [patch_of("mm/swapfile.c", tinytree.SWAPFILE, ONE)] * 3
    patches = tuple(read_patch("x.patch", "x", text) for text in texts)
    fetched = source.Fetched(source.Source("debian", "linux-source-5.10"), "id", "5.10.223", "d")
    made = Inputs(fetched, PatchSet("set", patches), kconfig.Kconfig(()), "gcc")
    monkeypatch.setattr(each, "read_inputs", lambda *_: made)
    for name in ("build", "try_patches"):
        monkeypatch.setattr(each, name, lambda *_: None)
    assert not guests.booted
    return Plan(tmp_path / "out", cases=("cow",), swaps=("zram",), jobs=1, each=True)


def arms(names: list[str]) -> list[str]:
    return sorted(name.partition("-")[0] for name in names)


def died_once(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second guest of base ends for a reason of ours in the first step."""

    def trial(asked: Trial, folder: Path, stop: threading.Event) -> tuple[Transcript, ...]:
        died = ("base", 2) if "1-x" in str(folder) else ()
        guests.does = lambda arm, _swap, _case, rep: "infra" if (arm, rep) == died else "pass"
        return guests.trial(asked, folder, stop)

    monkeypatch.setattr(matrix, "run_trial", trial)


def test_a_step_boots_both_arms_where_the_base_of_the_first_does_not_fit(
    alike: Plan, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_once(guests, monkeypatch)
    told: list[str] = []
    walked = each.run_each(alike, told.append)
    assert [step.overall.name for step in walked][1:] == ["CLEAN", "CLEAN"]
    (said,) = (line for line in told if "both arms are booted" in line)
    assert said.startswith("patch 2: both arms are booted, since the baseline ")
    assert "--baseline" not in said
    # the third takes its base from the second
    assert arms(guests.booted[-6:]) == ["base"] * 2 + ["patched"] * 4
    saved = [experiment.plan_of(step.folder).baseline for step in walked]
    assert saved == [None, None, walked[1].folder]


def test_a_step_that_booted_both_arms_does_so_when_it_is_resumed(
    alike: Plan, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_once(guests, monkeypatch)
    walked = each.run_each(alike, print)
    host.withdraw(walked[1].folder, ("trials", "transcripts"))
    guests.booted.clear()
    again = each.run_each(experiment.plan_of(alike.folder), print, resumed=True)
    assert again[1].overall.name == "CLEAN"
    assert arms(guests.booted) == ["base"] * 2 + ["patched"] * 2


def test_a_step_that_ended_for_want_of_a_base_goes_on_when_it_is_resumed(
    alike: Plan, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_once(guests, monkeypatch)
    first, second, _ = each.run_each(alike, print)
    whole = {path.name for path in second.folder.iterdir()}
    host.withdraw(second.folder, sorted(whole))
    experiment.begin_folder(dataclasses.replace(alike, folder=second.folder, baseline=first.folder))
    assert each.run_each(alike, print, resumed=True)[1].overall.name == "CLEAN"


def test_a_baseline_that_was_asked_for_and_does_not_fit_ends_a_walk(
    alike: Plan, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_once(guests, monkeypatch)
    first = each.run_each(alike, print)[0].folder
    asked = dataclasses.replace(alike, folder=tmp_path / "other", baseline=first)
    with pytest.raises(UserError, match=r"the baseline .* 2 are needed"):
        each.run_each(asked, print)


def test_the_base_is_booted_with_the_first_patch_and_for_what_is_in_doubt(
    alike: Plan, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(asked: Trial, folder: Path, stop: threading.Event) -> tuple[Transcript, ...]:
        bad = ("patched", "zram", "cow/a") if "2-x" in str(folder) else ()
        guests.does = lambda arm, swap, case, _: "fail" if (arm, swap, case) == bad else "pass"
        return guests.trial(asked, folder, stop)

    monkeypatch.setattr(matrix, "run_trial", trial)
    walked = each.run_each(alike, print)
    assert lives(walked) == [("REGRESSED", 2, 3, ())]
    first, second, third = guests.booted[:4], guests.booted[4:8], guests.booted[8:]
    assert arms(first) == ["base"] * 2 + ["patched"] * 2
    assert arms(second) == ["base"] + ["patched"] * 3
    assert arms(third) == ["patched"] * 2


@pytest.fixture
def made_up(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Inputs
) -> Plan:
    """A walk over three patches, of which the second does not build and the third breaks a case."""

    def trial(asked: Trial, folder: Path, stop: threading.Event) -> tuple[Transcript, ...]:
        bad = "patched" if "3-mm" in str(folder) else ""
        guests.does = lambda arm, _swap, case, _: (
            "fail" if (arm, case) == (bad, "cow/a") else "pass"
        )
        return guests.trial(asked, folder, stop)

    monkeypatch.setattr(each, "read_inputs", lambda *_: inputs)
    monkeypatch.setattr(matrix, "run_trial", trial)
    return Plan(tmp_path / "out", cases=("cow",), swaps=("zram",), jobs=1, each=True)


def compared_again(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["compare", str(folder), *words])


def test_a_walk_is_judged_again_from_its_folder_alone(made_up: Plan, guests: Guests) -> None:
    told = stepreport.document(each.run_each(made_up, print))
    booted = len(guests.booted)
    ended = compared_again(made_up.folder)
    assert ended.exit_code == 1
    assert "regression: worst of 3 prefixes against base, at 2/3, 3/3" in ended.output
    assert (made_up.folder / "series.json").read_text() == told
    assert len(guests.booted) == booted
    refused = compared_again(made_up.folder, "--html", "x").output
    assert "--each has no --html of a whole series" in refused


def test_a_walk_is_a_junit_suite_for_each_patch(
    made_up: Plan, guests: Guests, tmp_path: Path
) -> None:
    walk = each.run_each(made_up, print)
    junit, whole = tmp_path / "junit.xml", tmp_path / "series.json"
    ended = compared_again(made_up.folder, "--junit", str(junit), "--json", str(whole))
    assert ended.exit_code == 1
    suites = list(junitparser.JUnitXml.fromfile(str(junit)))
    assert [suite.name for suite in suites] == [f"{n}/3 mm: ../{n}" for n in (1, 2, 3)]
    assert [suite.failures for suite in suites] == [0, 1, 1]
    assert whole.read_text() == stepreport.document(walk)
    broken = dataclasses.replace(walk[0], comparison=None, failure="it does not compile")
    never = dataclasses.replace(walk[0], comparison=None)
    read = list(junitparser.JUnitXml.fromstring(junit_series((broken, never)).encode()))
    assert [(suite.failures, suite.errors) for suite in read] == [(1, 0), (0, 1)]


def test_a_walk_that_was_interrupted_says_what_has_not_run(made_up: Plan, guests: Guests) -> None:
    guests.die_at = 4
    with pytest.raises(KeyboardInterrupt):
        each.run_each(made_up, print)
    walk = each.compare_walk(made_up.folder)
    assert [step.overall.name for step in walk] == ["CLEAN", "REGRESSION", "UNDECIDED"]
    assert "3/3 mm: ../3 undecided" in compared_again(made_up.folder).output
    (made_up.folder / "3-mm-3/run.json").unlink()
    said = compared_again(made_up.folder).output
    assert "3/3 mm: ../3 has not run; `twinboot run --resume` goes on" in said


def test_no_title_of_a_saved_walk_leads_out_of_its_folder(made_up: Plan) -> None:
    each.run_each(made_up, print)
    path = made_up.folder / "walk.json"
    path.write_text(path.read_text().replace("mm: ../1", "../../x"))
    walk = each.compare_walk(made_up.folder)
    assert walk[0].folder == made_up.folder / "1-x"
    assert walk[0].overall is Overall.UNDECIDED
    path.write_text("[1]")
    assert "no whole walk.json" in compared_again(made_up.folder).output


def test_a_walk_does_not_go_on_with_another_series(
    made_up: Plan, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    each.run_each(made_up, print)
    other = dataclasses.replace(inputs, patchset=inputs.patchset.prefix(1))
    monkeypatch.setattr(each, "read_inputs", lambda *_: other)
    with pytest.raises(UserError, match="the patches changed since; begin a new run"):
        each.run_each(made_up, print, resumed=True)


# One step again, elsewhere, closer


def said(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_without_a_number_the_first_step_with_the_most_serious_finding_is_meant() -> None:
    fixed = run(data_intact=FAIL)
    made = walk([fixed] * 2, [GOOD] * 2, [GOOD] * 2, base=[fixed] * 2)
    for case, swap, number in (
        (None, None, 2),
        ("cow/wr_hit", None, 2),
        ("cow", "nullblk", 2),
        ("gup", None, 3),
        ("cow", "zram", 3),
    ):
        found = steps.telling(made, case, swap)
        assert found is not None
        assert found.number == number, (case, swap)
    worse = walk([GOOD] * 2, [reused(1)] * 2, [BAD] * 2, [BAD] * 2, base=[GOOD] * 2)
    found = steps.telling(worse)
    assert found is not None
    assert found.number == 3
    assert steps.telling(walk("it does not build")) is None


def test_a_step_of_a_series_is_a_run_like_any_other(made_up: Plan) -> None:
    each.run_each(made_up, print)
    told = options.former_run(made_up.folder, 0, "cow/a")
    assert told.folder == made_up.folder / "3-mm-3"
    assert [row.case.id for row in recall.rows(told, None, None)] == ["cow/a"]
    assert options.former_run(made_up.folder, 1).folder == made_up.folder / "1-mm-1"


def test_the_complaints_of_a_series_are_told_step_by_step(made_up: Plan) -> None:
    each.run_each(made_up, print)
    lines = said("splats", made_up.folder).output.splitlines()
    assert [line for line in lines if line.startswith("step ")] == [
        "step 1: mm: ../1",
        "step 3: mm: ../3",
    ]
    one = said("splats", made_up.folder, "--step", "3").output
    assert "step 3: mm: ../3" in one
    assert "step 1" not in one


@pytest.mark.parametrize("command", ["repro", "bundle", "splats", "shell"])
def test_a_step_that_is_not_there_is_refused(made_up: Plan, command: str) -> None:
    each.run_each(made_up, print)
    words = [made_up.folder] if command == "splats" else [made_up.folder, "cow/a"]
    for step, sentence in (
        ("2", "there is no run of patch 2 of .*: .*does not compile"),
        ("4", "--step is 4; the series in .* has 3 patches"),
        ("-1", "--step is -1"),
    ):
        ended = said(command, *words, "--step", step)
        assert ended.exit_code == 2
        assert re.search(sentence, ended.output), ended.output
    ended = said(command, made_up.folder / "1-mm-1", *words[1:], "--step", "1")
    assert ended.exit_code == 2
    assert "is no run with --each; leave --step out" in ended.output


@pytest.mark.parametrize("command", ["repro", "splats"])
def test_a_series_of_which_nothing_has_run_is_refused(made_up: Plan, command: str) -> None:
    each.run_each(made_up, print)
    for path in made_up.folder.glob("*/run.json"):
        path.unlink()
    ended = said(command, made_up.folder)
    assert ended.exit_code == 2
    assert "no patch of" in ended.output
    assert "`twinboot run --resume` goes on" in ended.output
