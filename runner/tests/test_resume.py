# SPDX-License-Identifier: GPL-2.0-only
"""An interrupted run goes on where it stopped, and ends as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import evidence, experiment
from runner.boots import compare_saved
from runner.cli import app
from runner.comparison import Comparison
from runner.errors import InfraError, UserError
from runner.experiment import Plan, plan_of
from runner.rootfs import Rootfs
from runner.tests.fakeguests import Guests, guests, passes, run
from runner.transcript import Transcript

__all__ = ["guests"]


def flaky(arm: str, swap: str, case: str, repeat: int) -> str:
    """Something of everything, with rows in doubt."""
    if arm == "patched" and (swap, case) == ("zram", "cow/b"):
        return "crash"
    if arm == "patched" and case == "cow/a":
        return "fail" if repeat < 3 else "pass"
    return str(10 + len(case + swap) + (arm == "patched" and case == "thp/d") * 2)


def test_wherever_a_run_is_interrupted_it_ends_the_same_and_boots_nothing_twice(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = flaky
    whole = run(Plan(tmp_path / "whole"))
    boots = list(guests.booted)
    assert any(name.endswith("-3") for name in boots)
    for number in range(0, len(boots), 2):
        plan = Plan(tmp_path / f"cut-{number}")
        guests.booted.clear()
        guests.die_at = number
        with pytest.raises(KeyboardInterrupt):
            run(plan)
        guests.die_at = -1
        assert run(plan_of(plan.folder), resumed=True) == whole
        assert sorted(guests.booted) == sorted(boots)


def test_a_trial_that_was_saved_by_half_is_no_evidence_and_is_booted_again(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests.does = flaky
    whole = run(Plan(tmp_path / "whole", swaps=("zram",)))
    boots = len(guests.booted)
    save = evidence.save_transcript

    def full(folder: Path, transcript: Transcript) -> Path:
        if transcript.boot.part == 1:
            raise InfraError("cannot write: No space left on device; free space")
        return save(folder, transcript)

    plan = Plan(tmp_path / "full", swaps=("zram",))
    monkeypatch.setattr(evidence, "save_transcript", full)
    with pytest.raises(InfraError, match="free space"):
        run(plan)
    monkeypatch.setattr(evidence, "save_transcript", save)
    half = sorted((plan.folder / "transcripts").glob("patched-zram-1-*.json"))
    assert [path.name for path in half] == ["patched-zram-1-0.json"]
    assert compare_saved(plan.folder).exit_code == 3
    guests.booted.clear()
    assert run(plan_of(plan.folder), resumed=True) == whole
    assert "patched-zram-1" in guests.booted
    assert len(guests.booted) < boots


def test_what_a_killed_trial_left_does_not_mix_with_its_second_try(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = flaky
    plan = Plan(tmp_path / "run", cases=("cow",), swaps=("zram",), repeats=1, confirm=0)
    run(plan)
    (plan.folder / "transcripts/patched-zram-1-0.json").unlink()
    (plan.folder / "trials/patched-zram-1/boot-1").mkdir(parents=True)
    guests.does = passes
    assert run(plan_of(plan.folder), resumed=True).exit_code == 0
    names = [path.name for path in (plan.folder / "transcripts").glob("*.json")]
    assert sorted(names) == ["base-zram-1-0.json", "patched-zram-1-0.json"]
    assert not (plan.folder / "trials/patched-zram-1").exists()


def test_a_run_that_is_not_whole_is_not_clean(guests: Guests, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "run")
    guests.die_at = 5
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    comparison = compare_saved(plan.folder)
    assert comparison.missing == ("9 of 9 rows, which have not run as often as planned",)
    assert comparison.exit_code == 3
    guests.die_at = -1
    assert run(plan_of(plan.folder), resumed=True).exit_code == 0


def test_resuming_a_whole_run_boots_nothing(guests: Guests, tmp_path: Path) -> None:
    first = run(Plan(tmp_path / "run"))
    guests.booted.clear()
    assert run(plan_of(tmp_path / "run"), resumed=True) == first
    assert guests.booted == []


def test_a_run_that_was_killed_before_its_first_boot_begins(guests: Guests, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "run")
    run(plan)
    (plan.folder / "run.json").unlink()
    assert run(plan_of(plan.folder), resumed=True).exit_code == 0


def test_changed_kernels_programs_or_cases_are_refused(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(tmp_path / "run")
    run(plan)
    arms = experiment.build_arms(plan, tmp_path, lambda _: None)
    other = replace(arms, patched=replace(arms.patched, fingerprint="other"))
    with monkeypatch.context() as changed:
        changed.setattr(experiment, "build_arms", lambda *_: other)
        with pytest.raises(UserError, match=r"the patched kernel \(fingerprint\) changed since"):
            run(plan_of(plan.folder), resumed=True)
    with monkeypatch.context() as changed:
        programs = (experiment.chosen_cases(plan), Rootfs(tmp_path, "other"))
        changed.setattr(experiment, "choose_programs", lambda *_: programs)
        with pytest.raises(UserError, match="resumed: the guest programs changed since"):
            run(plan_of(plan.folder), resumed=True)
    table = experiment.CASES / "cow.yaml"
    table.write_text(table.read_text().replace("deadline: 60", "deadline: 61"))
    with pytest.raises(UserError, match="the cases changed since"):
        run(plan_of(plan.folder), resumed=True)


def test_where_the_cache_lies_is_no_change(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(tmp_path / "run")
    first = run(plan)
    programs = (experiment.chosen_cases(plan), Rootfs(tmp_path / "elsewhere", "programs"))
    monkeypatch.setattr(experiment, "choose_programs", lambda *_: programs)
    assert run(plan_of(plan.folder), resumed=True) == first


def test_a_plan_comes_back_from_its_folder_and_takes_its_place_from_there(
    guests: Guests, tmp_path: Path
) -> None:
    plan = Plan(tmp_path / "run", repeats=3, cases=("cow",), commands=("x=true",), jobs=1)
    guests.die_at = 0
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    assert plan_of(plan.folder) == plan
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert plan_of(moved) == replace(plan, folder=moved)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"folder": 3}'])
def test_what_is_no_plan_is_refused_with_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UserError, match="does not say which run it was"):
        plan_of(tmp_path)


def test_a_trial_is_whole_when_every_case_ran_or_was_given_up(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = flaky
    run(Plan(tmp_path / "run", swaps=("zram",), repeats=1, confirm=0))
    saved = evidence.load_run(tmp_path / "run")
    boots = saved.trials["patched", "zram", 1, 0]
    assert len(boots) == 2
    path = tmp_path / "run/transcripts/patched-zram-1-0.json"
    path.unlink()
    assert ("patched", "zram", 1, 0) not in evidence.load_run(tmp_path / "run").trials


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--repeats", "2"], "repeats"),
        (["--patch", "none"], "patch"),
        (["--case", "gup"], "case"),
        (["--out", "x"], "out"),
        (["--confirm", "1"], "confirm"),
    ],
)
def test_what_the_plan_says_is_not_said_anew(tmp_path: Path, words: list[str], named: str) -> None:
    """Not even if it is the same: what is not given is not known to be so."""
    done = CliRunner().invoke(app, ["run", "--resume", str(tmp_path), *words])
    assert done.exit_code == 2
    assert f"leave --{named} out" in done.stderr


def test_what_becomes_of_the_result_may_be_said_anew(guests: Guests, tmp_path: Path) -> None:
    guests.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(Plan(tmp_path / "run"))
    guests.die_at = -1
    said = tmp_path / "out.xml"
    words = ["run", "--resume", str(tmp_path / "run"), "--junit", str(said), "--quiet"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert said.exists()


BETTER = ("patched", "disk", "thp/e")


def once(arm: str, _swap: str, case: str, repeat: int) -> str:
    """Base fails a case once, which chance may have done."""
    return "fail" if (arm, case, repeat) == ("base", "cow/b", 1) else "pass"


def interrupted(guests: Guests, plan: Plan, left: int) -> Comparison:
    """A run that is killed when so many guests of the whole one before it are left."""
    guests.die_at = len(guests.booted) - left
    guests.booted.clear()
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    return compare_saved(plan.folder)


@pytest.mark.parametrize("left", [1, 2])
def test_a_run_that_was_killed_before_its_second_look_is_not_clean(
    guests: Guests, tmp_path: Path, left: int
) -> None:
    guests.does = once
    plan = Plan(tmp_path / "run", repeats=1)
    whole = run(replace(plan, folder=tmp_path / "whole"))
    assert whole.missing == ()
    comparison = interrupted(guests, plan, left)
    assert comparison.missing == ("the second look at 1 row in doubt",)
    assert comparison.exit_code == 3
    guests.die_at = -1
    assert run(plan_of(plan.folder), resumed=True) == whole


def test_without_a_second_look_none_is_missing(guests: Guests, tmp_path: Path) -> None:
    guests.does = once
    assert run(Plan(tmp_path / "run", repeats=1, confirm=0)).missing == ()


def test_on_a_borrowed_base_the_second_look_at_every_finding_is_owed(
    guests: Guests, tmp_path: Path
) -> None:
    run(Plan(tmp_path / "nightly"))
    guests.does = lambda arm, swap, case, _: "1" if (arm, swap, case) == BETTER else "10"
    plan = Plan(tmp_path / "run", baseline=tmp_path / "nightly")
    guests.booted.clear()
    whole = run(replace(plan, folder=tmp_path / "whole"))
    assert (whole.missing, whole.exit_code) == ((), 0)
    comparison = interrupted(guests, plan, 1)
    assert comparison.missing == ("the second look at 1 row in doubt",)
    assert comparison.exit_code == 3


def test_evidence_that_does_not_say_how_often_doubt_runs_again_owes_nothing(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = once
    plan = Plan(tmp_path / "run", repeats=1, confirm=0)
    run(plan)
    path = plan.folder / "run.json"
    path.write_text(path.read_text().replace('"confirm": 0', '"confirm": null'))
    assert compare_saved(plan.folder).missing == ()
