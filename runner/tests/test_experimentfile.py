# SPDX-License-Identifier: GPL-2.0-only
"""Experiment files: the options of a run, the same for `twinboot run` and for pytest."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import cli
from runner.commands import run as command
from runner.errors import UserError
from runner.experiment import COST_REPEATS, ROOT, Plan
from runner.experimentfile import Experiment, read
from runner.qemu import Machine

FULL = """
source: debian:linux-source-6.1
patch: corrected
kconfig: lockdep
cc: gcc-12
case: [gup, cow/wr_hit]
swap: zram
kselftest: [mm:cow]
command: ["vm=stress-ng --vm 1"]
full: true
repeats: 3
confirm: 0
jobs: 1
accel: tcg
cpus: 4
memory: 2048
seed: 7
"""
# What says where a run's results go, not what is run
NOT_OF_THE_EXPERIMENT = {
    *("experiment", "out", "quiet", "json", "markdown", "junit", "ktap", "mail", "html", "b4"),
}


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_every_key_reaches_the_plan(tmp_path: Path) -> None:
    assert read(written(tmp_path, FULL)).plan(tmp_path / "out") == Plan(
        folder=tmp_path / "out",
        source="debian:linux-source-6.1",
        patch="corrected",
        fragments=("lockdep",),
        compiler="gcc-12",
        cases=("gup", "cow/wr_hit"),
        swaps=("zram",),
        repeats=3,
        jobs=1,
        accelerator="tcg",
        machine=Machine(cpus=4, memory_mib=2048),
        seed=7,
        full=True,
        confirm=0,
        kselftests=("mm:cow",),
        commands=("vm=stress-ng --vm 1",),
    )


def test_what_a_file_leaves_open_is_as_for_a_run_without_it(tmp_path: Path) -> None:
    assert read(written(tmp_path, "seed: 1")).plan(tmp_path) == Plan(tmp_path)


def test_a_cost_run_is_repeated_more_often_unless_the_file_or_the_command_line_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, out = written(tmp_path, "cost: true"), tmp_path / "out"
    plan = planned(monkeypatch, "--out", str(out), "--experiment", str(path))
    assert plan == read(path).plan(out)
    assert (plan.cost, plan.repeats) == (True, COST_REPEATS)
    assert planned(monkeypatch, "--cost", "--repeats", "2").repeats == 2
    assert planned(monkeypatch).repeats == Plan(tmp_path).repeats
    path.write_text("cost: true\nrepeats: 3")
    assert planned(monkeypatch, "--experiment", str(path)).repeats == 3


def test_the_keys_are_the_options_of_a_run() -> None:
    options = set(inspect.signature(command.run).parameters)
    assert set(Experiment.model_fields) <= options - NOT_OF_THE_EXPERIMENT


def planned(monkeypatch: pytest.MonkeyPatch, *words: str) -> Plan:
    """The plan that `twinboot run` makes of its command line."""
    plans: list[Plan] = []

    def stop(plan: Plan, _progress: object) -> None:
        plans.append(plan)
        raise UserError("far enough")

    monkeypatch.setattr(command, "run_experiment", stop)
    done = CliRunner().invoke(cli.app, ["run", *words])
    assert "far enough" in done.stderr, done.output
    return plans[0]


def test_the_command_line_reads_the_same_file_to_the_same_plan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, out = written(tmp_path, FULL), tmp_path / "out"
    plan = planned(monkeypatch, "--out", str(out), "--experiment", str(path))
    assert plan == read(path).plan(out)


def test_the_command_line_comes_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = written(tmp_path, FULL)
    plan = planned(
        monkeypatch, "--patch", "sketch", "--experiment", str(path), "--swap", "disk", "--seed", "1"
    )
    assert (plan.patch, plan.swaps, plan.seed) == ("sketch", ("disk",), 1)
    assert (plan.source, plan.cases) == ("debian:linux-source-6.1", ("gup", "cow/wr_hit"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("swapp: zram", r"mine\.yaml: there is no key 'swapp'; the keys are source, patch"),
        ("source: a\nrepeat: 2", "there is no key 'repeat'"),
        ("repeats: 0", "repeats is 0: input should be greater than or equal to 1"),
        ("repeats: two", "repeats is 'two': input should be a valid integer"),
        ("repeats: true", "repeats is True"),
        ("full: 1", "full is 1: input should be a valid boolean"),
        ("case: {gup: 1}", "case is dict"),
        ("case: [[gup]]", "case is list"),
        ("patch: [a, b]", "patch is list"),
        ("seed: 1\nseed: 2", "`seed` is given twice"),
        ("- patch", "must hold options of `twinboot run`"),
        ("", "must hold options of `twinboot run`"),
        ("patch: !!python/object/apply:os.system [id]", "is not valid YAML"),
        ("a: &a [x]\ncase: [*a, *a]", "there is no key 'a'"),
        ("[" * 5000, "is not valid YAML"),
        ("seed: 2022-99-99", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        read(written(tmp_path, text))
    assert "\n" not in caught.value.message


def test_a_fault_in_the_file_is_a_usage_error_of_the_command(tmp_path: Path) -> None:
    for path in (written(tmp_path, "ful: true"), tmp_path / "nowhere.yaml"):
        done = CliRunner().invoke(cli.app, ["run", "--experiment", str(path)])
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1


def test_patches_and_fragments_lie_below_the_file_wherever_one_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/fix.patch").touch()
    (tmp_path / "lean.config").touch()
    monkeypatch.chdir("/")
    found = read(written(tmp_path, "patch: mine/fix.patch\nkconfig: [lean.config, kasan]"))
    assert found.patch == str(tmp_path / "mine/fix.patch")
    assert found.kconfig == (str(tmp_path / "lean.config"), "kasan")


@pytest.mark.parametrize("key", ["patch", "kconfig"])
@pytest.mark.parametrize("where", ["/etc/passwd", "../outside", "link", "~/x", ".", "no/file"])
def test_nothing_outside_the_files_folder_is_read(tmp_path: Path, key: str, where: str) -> None:
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    os.symlink(tmp_path / "outside", folder / "link")
    with pytest.raises(UserError, match=f"{key} is .* on the command line"):
        read(written(folder, f"{key}: {where}"))


def test_the_experiments_that_come_along_can_be_read() -> None:
    found = sorted((ROOT / "ci/experiments").glob("*.yaml"))
    assert found
    for path in found:
        assert read(path).plan(ROOT)
