# SPDX-License-Identifier: GPL-2.0-only
"""A run cut into shards and merged says what the whole run says."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import evidence, experiment
from runner.boots import compare_saved
from runner.case import SWAP_NAMES, Case
from runner.comparison import compare_transcripts
from runner.errors import UserError
from runner.experiment import Plan, command_of
from runner.kconfig import Fragment, Kconfig
from runner.merge import merge
from runner.outcome import Outcome
from runner.report import markdown
from runner.shard import Cut, cut, narrowed, parse
from runner.tests.fakeguests import Guests, guests, rows, run, silent
from runner.tests.test_matrix import case

__all__ = ["guests"]
CASES = st.lists(
    st.builds(
        lambda swaps, deadline: replace(case("x/x", *swaps), deadline=deadline),
        st.lists(st.sampled_from(SWAP_NAMES), min_size=1, unique=True),
        st.floats(1.0, 600.0),
    ),
    min_size=1,
    max_size=30,
).map(lambda found: [replace(each, id=f"x/{number}") for number, each in enumerate(found)])


@settings(deadline=None)
@given(CASES, st.integers(1, 12))
def test_every_row_is_in_one_shard_and_the_shards_keep_the_order(
    cases: list[Case], count: int
) -> None:
    parts = [cut(cases, SWAP_NAMES, f"{number}/{count}") for number in range(1, count + 1)]
    whole = cut(cases, SWAP_NAMES, "")
    assert {part.shards for part in parts} == {parts[0].shards}
    assert [row for part in parts for row in part.rows] == list(whole.rows)
    assert set(whole.rows) == {(each.id, swap) for each in cases for swap in each.swaps}
    for part in parts:
        kept = narrowed(cases, part.rows)
        assert {(each.id, swap) for each in kept for swap in each.swaps} == set(part.rows)


def test_shards_take_about_as_long() -> None:
    cases = [replace(case(f"x/{n}", "zram", "disk"), deadline=20.0 + n) for n in range(60)]
    sizes = [len(cut(cases, ("zram", "disk"), f"{number}/4").rows) for number in (1, 2, 3, 4)]
    assert sum(sizes) == 120
    assert max(sizes) - min(sizes) <= 20
    heavy = [replace(case("x/h", "zram"), deadline=600.0), *cases]
    assert len(cut(heavy, ("zram", "disk"), "1/4").rows) < sizes[0]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/2", "1/2/3", "a/b", "1 /2", "/"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write it as 1/3"):
        parse(text)


def in_shards(tmp_path: Path, count: int, plan: Plan) -> list[Path]:
    folders = [tmp_path / f"s{number}" for number in range(1, count + 1)]
    for number, folder in enumerate(folders, 1):
        run(replace(plan, folder=folder, shard=f"{number}/{count}"))
    return folders


BEHAVIOURS = st.dictionaries(
    st.tuples(
        st.sampled_from(("base", "patched")),
        st.sampled_from(("none", "zram", "disk")),
        st.sampled_from(("cow/a", "cow/b", "cow/c", "thp/d", "thp/e")),
        st.integers(1, 3),
    ),
    st.sampled_from(("fail", "crash", "infra", "11", "40")),
    max_size=8,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(count=st.integers(1, 10), told=BEHAVIOURS)
def test_any_cut_merged_again_is_compared_as_the_whole_run(
    guests: Guests, count: int, told: dict[tuple[str, str, str, int], str]
) -> None:
    guests.does = lambda *where: told.get(where, "pass")
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        whole = run(Plan(top / "whole"))
        merge(in_shards(top, count, Plan(top)), top / "merged")
        merged = compare_saved(top / "merged")
        assert rows(merged) == rows(whole)
        assert (merged.overall, merged.missing) == (whole.overall, ())


def test_both_arms_of_a_row_are_booted_by_one_shard(guests: Guests, tmp_path: Path) -> None:
    for folder in in_shards(tmp_path, 4, Plan(tmp_path, repeats=1)):
        saved = evidence.load_run(folder)
        arms: dict[str, set[tuple[str, str]]] = {"base": set(), "patched": set()}
        for each in saved.transcripts:
            arms[each.boot.arm] |= {(name, each.boot.swap) for name in each.boot.planned}
        assert saved.origin.cut is not None
        assert arms["base"] == arms["patched"] == set(saved.origin.cut.rows)


def test_a_shard_with_nothing_to_do_says_so_and_is_no_error(guests: Guests, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "run", cases=("cow/b",), shard="1/2")
    empty = run(plan) if not cut_of(plan).rows else run(replace(plan, shard="2/2"))
    assert guests.booted == []
    assert empty.exit_code == 0
    assert "no regression: this shard has nothing to do" in markdown(empty)


def cut_of(plan: Plan) -> Cut:
    cases = experiment.chosen_cases(plan)
    return cut(cases, [swap.kind for swap in experiment.swaps_of(plan, cases)], plan.shard)


def test_a_missing_shard_is_named_and_leaves_the_verdict_open(
    guests: Guests, tmp_path: Path
) -> None:
    one, _, three = in_shards(tmp_path, 3, Plan(tmp_path, repeats=1))
    merge([three, one], tmp_path / "merged")
    comparison = compare_saved(tmp_path / "merged")
    assert comparison.missing == ("shard 2 of 3",)
    assert comparison.exit_code == 3
    assert "undecided: missing: shard 2 of 3; " in markdown(comparison)


def test_a_regression_is_one_whatever_is_missing(guests: Guests, tmp_path: Path) -> None:
    guests.does = lambda arm, *_: "fail" if arm == "patched" else "pass"
    one, *_ = in_shards(tmp_path, 3, Plan(tmp_path, repeats=1))
    merge([one], tmp_path / "merged")
    assert compare_saved(tmp_path / "merged").exit_code == 1


def test_the_merged_run_says_the_command_of_the_whole(guests: Guests, tmp_path: Path) -> None:
    merge(in_shards(tmp_path, 2, Plan(tmp_path, repeats=1)), tmp_path / "merged")
    assert command_of(tmp_path / "s1").endswith("--repeats 1 --seed 1 --shard 1/2")
    assert command_of(tmp_path / "merged").endswith("--repeats 1 --seed 1")


def test_the_fragments_are_kept_by_each_shard_and_by_the_merged_run(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = experiment.build_arms(Plan(tmp_path), tmp_path, silent)
    mine = Kconfig((Fragment("my own", "CONFIG_SWAP=y\n"),))
    monkeypatch.setattr(experiment, "build_arms", lambda *_: replace(made, kconfig=mine))
    merge(in_shards(tmp_path, 2, Plan(tmp_path, repeats=1)), tmp_path / "merged")
    for name in ("s1", "s2", "merged"):
        (kept,) = (tmp_path / name / "kconfigs").iterdir()
        assert (kept.name, kept.read_text()) == ("000-my_own.config", "CONFIG_SWAP=y\n")


def test_what_is_not_of_one_run_is_not_merged(guests: Guests, tmp_path: Path) -> None:
    one, two = in_shards(tmp_path, 2, Plan(tmp_path, repeats=1))
    others = {
        "the seed": replace(Plan(tmp_path / "seed", repeats=1, shard="2/2"), seed=7),
        "the repeats": Plan(tmp_path / "repeats", repeats=2, shard="2/2"),
        "how the run is cut": Plan(tmp_path / "cut", repeats=1, shard="2/3"),
        "the cases": Plan(tmp_path / "chosen", repeats=1, shard="2/2", cases=("cow",)),
        r"the plan \(confirm\)": Plan(tmp_path / "plan", repeats=1, shard="2/2", confirm=2),
    }
    for number, (word, plan) in enumerate(others.items()):
        run(plan)
        with pytest.raises(UserError, match=f"not shards of one run: they differ in {word}$"):
            merge([one, plan.folder], tmp_path / f"out-{number}")
    with pytest.raises(UserError, match="are both shard 1 of 2"):
        merge([one, two, one], tmp_path / "out")
    with pytest.raises(UserError, match="holds a run already"):
        merge([one, two], two)
    run(Plan(tmp_path / "whole", repeats=1))
    with pytest.raises(UserError, match="is no shard of a run"):
        merge([one, tmp_path / "whole"], tmp_path / "out")


@pytest.mark.parametrize(
    ("twin", "changed", "word"),
    [
        ("platform", {"qemu": "QEMU 9"}, "the version of QEMU"),
        ("platform", {"accelerator": "kvm"}, "the accelerator"),
        ("platform", {"memory_mib": 2048}, "the guest's memory"),
        ("base", {"config_digest": "x"}, "the base kernel's .config"),
        ("base", {"fingerprint": "x"}, r"the base kernel \(fingerprint\)"),
        ("patched", {"signature": "x"}, "the patched kernel's code"),
        ("patched", {"programs_digest": "x"}, "the guest programs"),
    ],
)
def test_another_kernel_or_machine_is_not_merged(
    guests: Guests, tmp_path: Path, twin: str, changed: dict[str, str], word: str
) -> None:
    one, two = in_shards(tmp_path, 2, Plan(tmp_path, repeats=1))
    head = json.loads((two / "run.json").read_text())
    head["twins"][twin] |= changed
    (two / "run.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match=f"they differ in {word}$"):
        merge([one, two], tmp_path / "out")


def test_rows_of_another_shard_are_an_overlap(guests: Guests, tmp_path: Path) -> None:
    one, two = in_shards(tmp_path, 2, Plan(tmp_path, repeats=1))
    for path in (one / "transcripts").iterdir():
        path.rename(two / "transcripts" / path.name)
    with pytest.raises(UserError, match="is shard 2 of 2, but also ran"):
        merge([one, two], tmp_path / "out")


def test_a_hostile_part_writes_nowhere_else(guests: Guests, tmp_path: Path) -> None:
    one, two = in_shards(tmp_path, 2, Plan(tmp_path, repeats=1))
    path = next((two / "transcripts").glob("*.json"))
    told = json.loads(path.read_text())
    told["boot"]["swap"] = "../../elsewhere"
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match="there is no such swap"):
        merge([one, two], tmp_path / "out")


def test_evidence_of_before_there_were_shards_is_judged_as_it_was(
    guests: Guests, tmp_path: Path
) -> None:
    run(Plan(tmp_path / "run", repeats=1))
    path = tmp_path / "run/run.json"
    head = json.loads(path.read_text())
    del head["origin"]
    path.write_text(json.dumps(head))
    saved = evidence.load_run(tmp_path / "run")
    again = compare_saved(tmp_path / "run")
    assert again == compare_transcripts(saved.cases, saved.transcripts, saved.twins)
    assert again.exit_code == 0


def test_a_run_of_a_shard_is_the_same_outcomes(guests: Guests, tmp_path: Path) -> None:
    whole = rows(run(Plan(tmp_path / "whole", repeats=1)))
    for folder in in_shards(tmp_path, 3, Plan(tmp_path, repeats=1)):
        for key, row in rows(compare_saved(folder)).items():
            outcomes: tuple[Outcome, ...] = row.patched.runs
            assert outcomes == whole[key].patched.runs


def test_a_shard_that_was_killed_before_its_second_look_leaves_the_merged_run_open(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = lambda arm, _, case, repeat: (
        "fail" if (arm, case, repeat) == ("base", "cow/b", 1) else "pass"
    )
    plans = [Plan(tmp_path / f"{number}", repeats=1, shard=f"{number}/2") for number in (1, 2)]
    for plan in plans:
        run(plan)
    merge([plan.folder for plan in plans], tmp_path / "whole")
    assert compare_saved(tmp_path / "whole").missing == ()
    (again,) = tmp_path.glob("[12]/transcripts/base-zram-2-0.json")
    for path in again.parent.glob("*-2-0.*"):
        path.unlink()
    merge([plan.folder for plan in plans], tmp_path / "merged")
    comparison = compare_saved(tmp_path / "merged")
    assert comparison.missing == ("the second look at 1 row in doubt",)
    assert comparison.exit_code == 3
