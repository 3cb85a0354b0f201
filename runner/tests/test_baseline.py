# SPDX-License-Identifier: GPL-2.0-only
"""The base arm's evidence from an earlier run: when it is taken, and when it is not believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runner import baseline, evidence, host
from runner.boots import compare_saved
from runner.cli import app
from runner.comparison import Comparison
from runner.doubt import rows_on_trust
from runner.errors import UserError
from runner.experiment import Plan, command_of, plan_of
from runner.merge import merge
from runner.report import markdown
from runner.row import Change
from runner.tests.arms import FAIL, HANG, INCONCLUSIVE, REUSE, compared
from runner.tests.arms import run as outcome
from runner.tests.fakeguests import Guests, guests, rows, run

__all__ = ["guests"]


@pytest.fixture
def nightly(guests: Guests, tmp_path: Path) -> Path:
    """A run whose base arm is taken by others."""
    run(Plan(tmp_path / "nightly"))
    guests.booted.clear()
    return tmp_path / "nightly"


def gate(tmp_path: Path, nightly: Path, **changed: Any) -> Comparison:
    return run(replace(Plan(tmp_path / "gate", baseline=nightly), **changed))


def changed_rows(comparison: Comparison) -> dict[tuple[str, str], Change]:
    return {key: row.change for key, row in rows(comparison).items() if row.findings}


def test_only_the_patched_arm_is_booted_where_nothing_changed(
    guests: Guests, tmp_path: Path, nightly: Path
) -> None:
    comparison = gate(tmp_path, nightly)
    assert comparison.exit_code == 0
    assert {name.partition("-")[0] for name in guests.booted} == {"patched"}
    assert len(guests.booted) == 6
    assert all(
        len(row.base.runs) == len(row.patched.runs) == 2 for row in rows(comparison).values()
    )


def test_the_report_says_where_the_base_comes_from_and_when_it_was_made(
    tmp_path: Path, nightly: Path
) -> None:
    when = evidence.load_run(nightly).origin.when
    text = markdown(gate(tmp_path, nightly))
    assert "else its evidence, 6 boots, is that of the earlier run nightly" in text
    assert when in text
    assert host.processor() in text.replace("\\", "")
    assert command_of(tmp_path / "gate").endswith(f"--baseline {nightly}")


def test_a_row_with_a_finding_runs_again_in_both_arms(
    guests: Guests, tmp_path: Path, nightly: Path
) -> None:
    guests.does = lambda arm, swap, case, _: (
        "fail" if (arm, swap, case) == ("patched", "disk", "thp/e") else "pass"
    )
    comparison = gate(tmp_path, nightly)
    assert guests.booted[-2:] == ["base-disk-3", "patched-disk-3"]
    assert changed_rows(comparison) == {("thp/e", "disk"): Change.REGRESSED}
    row = rows(comparison)["thp/e", "disk"]
    assert (len(row.base.runs), len(row.patched.runs)) == (3, 3)


@pytest.mark.parametrize("does", ["fail", "40", "crash"])
def test_a_host_that_changed_since_is_no_regression(
    guests: Guests, tmp_path: Path, nightly: Path, does: str
) -> None:
    guests.does = lambda _arm, _swap, case, _repeat: does if case == "thp/e" else "pass"
    comparison = gate(tmp_path, nightly)
    assert changed_rows(comparison) == {("thp/e", "disk"): Change.UNDECIDED}
    assert comparison.exit_code == 3
    assert "base did something else this time than in the baseline" in markdown(comparison)


def test_a_host_that_changed_since_hides_no_regression_behind_a_gain(
    guests: Guests, tmp_path: Path
) -> None:
    """The baseline counted 90 pages; today base has 10 and the patched kernel 40."""
    guests.does = lambda *_: "90"
    run(Plan(tmp_path / "nightly"))
    guests.does = lambda arm, *_: "40" if arm == "patched" else "10"
    comparison = gate(tmp_path, tmp_path / "nightly")
    assert set(changed_rows(comparison).values()) == {Change.UNDECIDED}
    assert comparison.exit_code == 3


def test_a_base_that_failed_then_is_looked_at_again_though_nothing_changed(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = lambda _arm, _swap, case, _repeat: "fail" if case == "cow/b" else "pass"
    run(Plan(tmp_path / "nightly"))
    guests.does = lambda arm, _swap, case, _repeat: (
        "fail" if (arm, case) == ("patched", "cow/b") else "pass"
    )
    comparison = gate(tmp_path, tmp_path / "nightly")
    assert changed_rows(comparison) == {("cow/b", "zram"): Change.UNDECIDED}


def test_a_guest_that_changed_by_itself_is_booted_again_in_both_arms() -> None:
    hangs = replace(outcome(process=HANG), case="guest/boot")
    odd = compared([outcome(), replace(outcome(), case="guest/boot")], [outcome(), hangs])
    assert rows_on_trust(odd) == {"nullblk": (REUSE,)}
    assert rows_on_trust(compared([outcome()], [outcome()])) == {}
    assert rows_on_trust(compared([outcome(FAIL)], [outcome()])) == {"nullblk": (REUSE,)}
    dead = outcome(process=HANG, ran=False)
    assert rows_on_trust(compared([outcome()], [dead])) == {"nullblk": (REUSE,)}


def test_a_base_that_says_equally_little_both_times_has_not_changed() -> None:
    blind = outcome(FAIL, process=INCONCLUSIVE)
    (row,) = compared([blind] * 2, [blind]).rows
    assert row.change is Change.UNDECIDED
    assert not baseline._drifted(row)
    for other in (outcome(process=INCONCLUSIVE), outcome(process=HANG)):
        assert baseline._drifted(compared([blind] * 2, [other]).rows[0])


def test_a_baseline_without_a_second_look_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--baseline", str(tmp_path), "--confirm", "0"])
    assert done.exit_code == 2
    assert "--baseline needs --confirm 1" in done.stderr


def test_more_repeats_are_all_taken_and_fewer_are_refused(guests: Guests, tmp_path: Path) -> None:
    run(Plan(tmp_path / "nightly", repeats=3))
    comparison = gate(tmp_path, tmp_path / "nightly")
    assert {len(row.base.runs) for row in rows(comparison).values()} == {3}
    run(Plan(tmp_path / "short", repeats=1))
    with pytest.raises(UserError, match=r"has 1 run of these .* 2 are needed"):
        run(Plan(tmp_path / "other", baseline=tmp_path / "short"))


def test_a_second_look_counts_on_after_many_repeats(guests: Guests, tmp_path: Path) -> None:
    run(Plan(tmp_path / "nightly", repeats=4))
    guests.does = lambda arm, *_: "fail" if arm == "patched" else "pass"
    guests.booted.clear()
    comparison = gate(tmp_path, tmp_path / "nightly", swaps=("disk",))
    assert guests.booted == ["patched-disk-1", "patched-disk-2", "base-disk-5", "patched-disk-5"]
    assert {len(row.base.runs) for row in rows(comparison).values()} == {5}


def test_a_second_look_of_the_baseline_is_not_taken(guests: Guests, tmp_path: Path) -> None:
    """Its cases ran by themselves, and count more or less for that."""
    guests.does = lambda arm, _swap, case, repeat: (
        "90" if repeat > 2 else ("fail" if (arm, case) == ("patched", "cow/b") else "10")
    )
    run(Plan(tmp_path / "nightly", swaps=("zram",)))
    assert "base-zram-3" in guests.booted
    guests.does = lambda arm, *_: "40" if arm == "patched" else "10"
    comparison = gate(tmp_path, tmp_path / "nightly", swaps=("zram",))
    assert set(changed_rows(comparison).values()) == {Change.WORSENED}


def test_a_run_on_fewer_swaps_takes_what_it_needs(
    guests: Guests, tmp_path: Path, nightly: Path
) -> None:
    comparison = gate(tmp_path, nightly, swaps=("zram",))
    assert {swap for _, swap in rows(comparison)} == {"zram"}
    assert comparison.exit_code == 0


def test_other_cases_in_one_guest_are_no_baseline(tmp_path: Path, nightly: Path) -> None:
    """What ran before a case in its guest is part of what was run."""
    with pytest.raises(UserError, match=r"has 0 runs of these 2 cases in one guest on swap zram"):
        gate(tmp_path, nightly, cases=("cow/a", "cow/b"))


def test_a_base_run_that_failed_for_us_does_not_count(guests: Guests, tmp_path: Path) -> None:
    guests.does = lambda arm, swap, case, repeat: (
        "infra" if (arm, swap, case, repeat) == ("base", "disk", "thp/e", 2) else "pass"
    )
    run(Plan(tmp_path / "nightly"))
    with pytest.raises(UserError, match=r"has 1 run of these 3 cases in one guest on swap disk"):
        gate(tmp_path, tmp_path / "nightly")


def test_evidence_is_not_handed_on_twice(tmp_path: Path, nightly: Path) -> None:
    gate(tmp_path, nightly)
    with pytest.raises(UserError, match="nor those that it took from another run"):
        run(Plan(tmp_path / "third", baseline=tmp_path / "gate"))


@pytest.mark.parametrize(
    ("where", "changed", "word"),
    [
        ("platform", {"qemu": "QEMU 9"}, "the version of QEMU"),
        ("platform", {"accelerator": "kvm"}, "the accelerator"),
        ("platform", {"cpus": 9}, "the guest's CPUs"),
        ("platform", {"memory_mib": 2048}, "the guest's memory"),
        ("base", {"config_digest": "x"}, r"the base kernel's \.config"),
        ("base", {"compiler": "x"}, "the base kernel's compiler"),
        ("base", {"fingerprint": "x"}, r"the base kernel \(fingerprint\)"),
        ("base", {"signature": "x"}, "the base kernel's code"),
        ("base", {"programs_digest": "x"}, "the guest programs"),
        ("base", {"qemu_digest": "x"}, "QEMU's arguments"),
        ("base", {"source": "x"}, "the base kernel's source"),
    ],
)
def test_what_differs_is_named_and_refused(
    tmp_path: Path, nightly: Path, where: str, changed: dict[str, str], word: str
) -> None:
    head = json.loads((nightly / "run.json").read_text())
    head["twins"][where] |= changed
    (nightly / "run.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match=f"the baseline .*nightly differs in {word}; make a new"):
        gate(tmp_path, nightly)


def test_another_seed_host_or_case_is_refused(tmp_path: Path, nightly: Path) -> None:
    with pytest.raises(UserError, match="differs in the seed;"):
        gate(tmp_path, nightly, seed=2)
    told = (nightly / "run.json").read_text()
    (nightly / "run.json").write_text(told.replace('"deadline": 60.0', '"deadline": 61.0'))
    with pytest.raises(UserError, match="differs in the cases cow/b;"):
        run(Plan(tmp_path / "case", baseline=nightly))
    head = json.loads(told)
    head["origin"]["host"] = "64 x Fast CPU"
    (nightly / "run.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match=r"the host's processor \(64 x Fast CPU then, .* now\);"):
        run(Plan(tmp_path / "host", baseline=nightly))


def test_another_patch_is_what_a_baseline_is_for(tmp_path: Path, nightly: Path) -> None:
    head = json.loads((nightly / "run.json").read_text())
    head["twins"]["patched"]["fingerprint"] = "another patch"
    (nightly / "run.json").write_text(json.dumps(head))
    assert gate(tmp_path, nightly).exit_code == 0


def test_an_interrupted_run_on_a_baseline_is_resumed_without_it(
    guests: Guests, tmp_path: Path, nightly: Path
) -> None:
    guests.does = lambda arm, *_: "fail" if arm == "patched" else "pass"
    whole = run(Plan(tmp_path / "whole", baseline=nightly))
    guests.booted.clear()
    guests.die_at = 7
    with pytest.raises(KeyboardInterrupt):
        gate(tmp_path, nightly)
    guests.die_at = -1
    nightly.rename(tmp_path / "gone")
    assert run(plan_of(tmp_path / "gate"), resumed=True) == whole
    assert len(guests.booted) == len(set(guests.booted))


def test_shards_take_their_part_of_a_baseline_that_was_cut_like_them(
    guests: Guests, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        run(Plan(tmp_path / f"b{number}", shard=f"{number}/3"))
    merge([tmp_path / f"b{number}" for number in (1, 2, 3)], tmp_path / "nightly")
    guests.booted.clear()
    for number in (1, 2, 3):
        run(Plan(tmp_path / f"p{number}", shard=f"{number}/3", baseline=tmp_path / "nightly"))
    assert {name.partition("-")[0] for name in guests.booted} == {"patched"}
    merge([tmp_path / f"p{number}" for number in (1, 2, 3)], tmp_path / "merged")
    comparison = compare_saved(tmp_path / "merged")
    assert comparison.exit_code == 0
    assert comparison.missing == ()
