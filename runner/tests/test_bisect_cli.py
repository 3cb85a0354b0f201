# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot bisect` refuses before anything is built, in one sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from runner.bisect import session
from runner.bisect.fields import Field
from runner.bisect.plan import BisectPlan, Notebook
from runner.bisect.subsets import Subsets
from runner.bisect.walk import Asked
from runner.cli import app
from runner.tests import tinytree

CASE = ("--case", "gup/leak_base", "--swap", "none")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "--case says which case decides"),
        (("--case", "cow/wr_sync"), "--swap says which decides"),
        (("--case", "gup/nothing"), "there is no case"),
        (("--case", "gup"), "--case gup is a group, and one case decides: gup/leak_swap_fork, "),
        ((*CASE, "--patch", "sketch", "--measure", "x", "--above", "nan"), "a number, not nan"),
        ((*CASE, "--patch", "sketch", "--measure", "x", "--below", "inf"), "a number, not inf"),
        ((*CASE, "--patch", ""), "the patch has an empty name"),
        (CASE, "--good is missing"),
        ((*CASE, "--patch", "sketch", "--measure", "x"), "needs one of --above and --below"),
        ((*CASE, "--patch", "sketch", "--above", "3"), "needs one of --above and --below"),
        ((*CASE, "--patch", "sketch", "--boot", "--splat", "x"), "only one of"),
        ((*CASE, "--patch", "sketch", "--confidence", "1"), "is not between 0.5 and 1"),
        ((*CASE, "--patch", "sketch", "--most", "0"), "at least 1"),
        ((*CASE, "--patch", "sketch", "--invariant", "x"), "has no invariant x"),
        ((*CASE, "--good", "a", "--bad", "b"), "nothing is between a and b"),
        ((*CASE, "--good", "git:/a@x", "--bad", "git:/b@y"), "does not exist"),
        (("--resume", "/nowhere"), "/nowhere is not the folder of a bisection"),
        (("log", "/nowhere"), "/nowhere is not the folder of a bisection"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path))
    ended = CliRunner().invoke(app, ["bisect", *words])
    assert ended.exit_code == 2
    assert sentence in ended.output
    assert "--resume" not in words or len(ended.output.splitlines()) == 1


def test_patches_of_an_end_that_do_not_apply_leave_no_folder_behind_and_build_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    other = tinytree.SWAPFILE.replace("count <= 1", "count <= 8")
    bad = tmp_path / "bad.patch"
    bad.write_text(
        tinytree.patch_of("mm/swapfile.c", other, other.replace("count <= 8", "count <= 9"))
    )
    tree = tinytree.write(tmp_path / "tiny")
    words = [*CASE, "--source", f"dir:{tree}", "--patch", str(bad), "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, ["bisect", *words])
    assert ended.exit_code == 2
    assert "bad.patch does not apply: hunk 1 of mm/swapfile.c" in ended.output
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache/kernels").exists()


@pytest.mark.parametrize(("decided", "words"), [(True, "first"), (False, "possible first")])
def test_the_log_names_an_answer_that_is_not_decided_a_possible_one(
    decided: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Field("option", Subsets(2), cast(Any, None), lambda each: f"set {each}", "")
    monkeypatch.setattr(session, "open_field", lambda *_: searched)
    notebook = Notebook(tmp_path)
    notebook.begin(BisectPlan("", "", "gup/leak_base", "none"))
    notebook.write("answers", {"2": "skip"})
    notebook.write("result", {"decided": decided, "answer": [{"candidate": "3"}]})
    assert session.log(tmp_path) == f"# skip: set 2\n# {words} option: set 3\n"


def test_a_resumed_bisection_takes_only_another_confidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path / "cache"))
    notebook = Notebook(tmp_path / "state")
    notebook.begin(BisectPlan("nothing", "here", "gup/leak_base", "none", asked=Asked(most=7)))
    words = ["bisect", "--resume", str(notebook.folder)]
    ended = CliRunner().invoke(app, [*words, "--carry-revert", "x"])
    assert "leave --carry-revert out" in ended.output
    CliRunner().invoke(app, [*words, "--confidence", "0.9"])
    assert notebook.plan().asked == Asked(0.9, most=7)
