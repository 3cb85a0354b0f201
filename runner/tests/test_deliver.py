# SPDX-License-Identifier: GPL-2.0-only
"""Where results go: said before anything runs, one for a place, and nothing is owed to evidence."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from runner import host
from runner.bisect.plan import BisectPlan, Notebook
from runner.cli import app
from runner.experiment import Plan, begin_folder
from runner.tests.fakeguests import Guests, guests
from runner.tests.test_evidence import kept_run

__all__ = ["guests"]


def said(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def run_in(folder: Path) -> Path:
    begin_folder(Plan(folder, patch="none"))
    kept_run(folder, "pass", "pass")
    return folder


@pytest.mark.parametrize("option", ["--json", "--markdown", "--junit", "--ktap", "--mail", "--b4"])
def test_a_path_that_cannot_be_written_is_said_before_a_guest_boots(
    option: str, guests: Guests, tmp_path: Path
) -> None:
    ended = said("run", "--patch", "none", "--out", tmp_path / "out", option, "/proc/x/y")
    assert ended.exit_code == 2
    assert "cannot write /proc/x/y: No such file or directory\n" in ended.output
    assert not guests.booted
    assert not (tmp_path / "out").exists()


def test_merge_says_so_before_it_makes_a_folder(tmp_path: Path) -> None:
    parts = [run_in(tmp_path / name) for name in "ab"]
    ended = said("merge", *parts, "--out", tmp_path / "out", "--html", tmp_path)
    assert ended.exit_code == 2
    assert "Is a directory" in ended.output
    assert not (tmp_path / "out").exists()


def test_two_results_in_one_place_are_refused(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    ended = said("compare", run, "--json", "-", "--ktap", "-")
    assert ended.exit_code == 2
    assert "--json and --ktap are both `-`; only one can be there" in ended.output
    ended = said("compare", run, "--json", tmp_path / "x", "--mail", tmp_path / "x")
    assert (ended.exit_code, (tmp_path / "x").exists()) == (2, False)
    assert said("compare", run, "--json", "/dev/null", "--mail", "/dev/null").exit_code == 0


@pytest.mark.parametrize("words", [(), ("--json", "-")])
def test_evidence_that_may_only_be_read_is_judged_all_the_same(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path / "run")
    usual = said("compare", run, *words)

    def refused(*_args: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(host, "replace_file", refused)
    ended = said("compare", run, *words)
    assert (ended.exit_code, ended.stdout) == (usual.exit_code, usual.stdout)
    why = f"cannot write {run}/comparison.json: Permission denied"
    assert ended.stderr == f"twinboot: judged, but nothing of it is kept: {why}\n"


def test_a_full_disk_is_no_reading_of_somebody_elses_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path / "run")

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(host, "replace_file", full)
    ended = said("compare", run)
    assert ended.exit_code == 3
    assert "No space left on device; free space" in ended.output


@pytest.mark.parametrize("words", [("bisect", "--resume"), ("prove", "--out")])
def test_what_searches_and_what_proves_try_their_paths_first_too(
    words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bisect.session.resume", "commands.prove.run_proof"):
        monkeypatch.setattr(f"runner.{name}", lambda *_: pytest.fail("it was begun"))
    ended = said(*words, tmp_path / "out", "--json", "/proc/x/y")
    assert ended.exit_code == 2
    assert "cannot write /proc/x/y" in ended.output


def test_a_bisection_prints_its_json_in_place_of_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Notebook(tmp_path).begin(BisectPlan("", "", "gup/leak_base", "none"))
    (tmp_path / "result.json").write_text('{"decided": true}\n')
    ended = SimpleNamespace(text="the first bad\n", result=SimpleNamespace(decided=True))
    monkeypatch.setattr("runner.bisect.session.resume", lambda *_: ended)
    assert said("bisect", "--resume", tmp_path, "--json", "-", "-q").stdout == '{"decided": true}\n'
