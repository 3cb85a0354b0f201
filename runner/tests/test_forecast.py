# SPDX-License-Identifier: GPL-2.0-only
"""`run --dry-run` on the tiny tree: what it says, and that nothing is built, booted or kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import build, experiment, kconfig
from runner.cli import app
from runner.errors import PatchError, UserError
from runner.experiment import Plan, read_inputs
from runner.forecast import forecast
from runner.tests import tinytree
from runner.tests.fakeguests import ROW, TABLES
from runner.tests.tinytree import patch_of

SWAPFILE = "mm/swapfile.c"
ONE = tinytree.SWAPFILE.replace("count <= 1", "count <= 2")
TWO = ONE.replace("count <= 2", "count <= 3")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A series of two patches on the tiny tree, and the five cases of made-up runs."""
    (tmp_path / "cases").mkdir()
    for group, rows in TABLES.items():
        texts = [
            ROW.format(name=f"{group}/{word}", group=group, word=word, swaps=on, deadline=deadline)
            for word, on, deadline in rows
        ]
        (tmp_path / f"cases/{group}.yaml").write_text("".join(texts))
    fragments = tinytree.write_fragments(tmp_path / "kconfigs")
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(experiment, "CASES", tmp_path / "cases")
    monkeypatch.setattr(experiment, "_kconfig_of", lambda _: kconfig.load(["swap"], fragments))
    series = tmp_path / "series"
    series.mkdir()
    for number, (old, new) in enumerate(((tinytree.SWAPFILE, ONE), (ONE, TWO)), 1):
        text = f"Subject: [PATCH] change {number}\n\n---\n{patch_of(SWAPFILE, old, new)}"
        (series / f"{number:04}-x.patch").write_text(text)
    tree = tinytree.write(tmp_path / "tiny")
    return Plan(tmp_path / "out", f"dir:{tree}", str(series), jobs=2)


def told(plan: Plan) -> list[str]:
    return list(forecast(plan, lambda _: None).lines())


def test_it_says_what_would_be_built_and_booted_and_does_neither(
    plan: Plan, tmp_path: Path
) -> None:
    assert told(plan) == [
        f"source: {plan.source} ({tmp_path}/tiny)",
        "patches: 2 of series, which apply",
        "kernel base: to be built",
        "kernel patched: to be built",
        "zram, 4 cases: cow/a, cow/b, cow/c, thp/d",
        "disk, 3 cases: cow/a, cow/c, thp/e",
        "none, 2 cases: cow/c, thp/d",
        "12 guests to boot, 2 side by side",
        "rows in doubt run again, which is not counted",
        "nothing was built or booted",
    ]
    assert not plan.folder.exists()
    assert not (tmp_path / "cache/kernels").exists()


def test_a_kept_kernel_is_told_from_one_to_be_built(plan: Plan, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build.build(read_inputs(plan, cache, lambda _: None).request(1), cache, lambda _: None)
    kernels = [line for line in told(replace(plan, each=True)) if line.startswith("kernel ")]
    assert kernels == [
        "kernel base: to be built",
        "kernel 1 change 1: kept",
        "kernel 2 change 2: to be built",
    ]


def test_what_is_remembered_of_cases_makes_a_time(plan: Plan, tmp_path: Path) -> None:
    seconds = {"zram": {"cow/a": 100.0, "cow/b": 64.0, "cow/c": 2.0, "thp/d": 4.0}}
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/durations.json").write_text(json.dumps(seconds))
    on_zram = replace(plan, swaps=("zram",))
    # four guests, two side by side: 10 s to boot and 170 s of cases
    assert "4 guests to boot, 2 side by side, about 6 min" in told(on_zram)
    only = replace(on_zram, cases=("cow/c",), repeats=1, kselftests=("mm:cow",))
    assert "2 guests to boot, 2 side by side, about 12 s" in told(only)
    assert "foreign tests are built later and not counted: mm:cow" in told(only)


@pytest.mark.parametrize(
    ("change", "guests"),
    [
        (lambda plan: replace(plan, each=True), 18),
        (lambda plan: replace(plan, baseline=plan.folder), 6),
        (lambda plan: replace(plan, shard="1/3"), 4),
        (lambda plan: replace(plan, quick=True, repeats=1), 6),
    ],
    ids=["each", "baseline", "shard", "quick"],
)
def test_a_guest_is_one_arm_on_one_swap_in_one_repeat(
    change: Callable[[Plan], Plan], guests: int, plan: Plan
) -> None:
    assert forecast(change(plan), lambda _: None).guests == guests


def test_a_swap_that_none_of_the_cases_runs_on_is_no_guest(plan: Plan, tmp_path: Path) -> None:
    seconds = {"disk": {"thp/e": 30.0}, "zram": {"cow/a": 100.0}}
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/durations.json").write_text(json.dumps(seconds))
    on_disk = replace(plan, cases=("thp/e",), swaps=("disk",))
    both = replace(on_disk, swaps=("disk", "zram"))
    assert forecast(both, lambda _: None).guests == 4
    assert told(both) == told(on_disk)


def test_a_walk_that_would_be_refused_is_not_foretold(plan: Plan) -> None:
    walk = replace(plan, each=True)
    with pytest.raises(UserError, match="needs --confirm 1 or more"):
        forecast(replace(walk, confirm=0), lambda _: None)
    with pytest.raises(UserError, match="--each needs patches; there is none"):
        forecast(replace(walk, patch="none"), lambda _: None)


def test_a_series_that_does_not_apply_is_refused(plan: Plan) -> None:
    (Path(plan.patch) / "0001-x.patch").unlink()
    with pytest.raises(PatchError, match=r"0002-x\.patch does not apply"):
        forecast(plan, lambda _: None)


def test_the_command_prints_it_and_leaves_nothing_behind(plan: Plan, tmp_path: Path) -> None:
    words = ["run", "--dry-run", "--source", plan.source, "--out", str(plan.folder), "--patch"]
    ended = CliRunner().invoke(app, [*words, plan.patch, "--quick", "--rest", "-q"])
    assert ended.exit_code == 0, ended.output
    assert ended.output.count("nothing was built or booted") == 2
    typed = CliRunner().invoke(app, [*words, "-", "-q"], input=patch_of(SWAPFILE, ONE, TWO))
    assert typed.exit_code == 2
    assert "does not apply" in typed.output
    assert not plan.folder.exists()
    refused = CliRunner().invoke(app, [*words, plan.patch, "--json", str(tmp_path / "x")])
    assert "--dry-run has no verdict" in refused.output
