# SPDX-License-Identifier: GPL-2.0-only
"""`run --quick --rest`: a first verdict soon, then that of a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from runner.cli import app
from runner.tests.fakeguests import Guests, guests

__all__ = ["guests"]

FOLDERS = ("out", "out-rest")
# Three swaps in two arms, and the pair of the second look
QUICK = 8


def said(folder: Path, *more: str) -> Result:
    words = ("run", "--quick", "--rest", "--out", str(folder), "--jobs", "1", *more)
    return CliRunner().invoke(app, words)


def test_the_whole_run_comes_after_the_quick_one_in_a_folder_of_its_own(
    guests: Guests, tmp_path: Path
) -> None:
    ended = said(tmp_path / "out", "--json", str(tmp_path / "last.json"))
    assert ended.exit_code == 0, ended.output
    first, last = ended.output.index("; quick: 5 of 5 cases"), ended.output.rindex("no regression")
    assert first < last
    assert "quick:" not in ended.output[last:]
    quick, whole = (json.loads((tmp_path / name / "plan.json").read_bytes()) for name in FOLDERS)
    assert (quick["quick"], quick["repeats"]) == (True, 1)
    assert (whole["quick"], whole["repeats"]) == (False, 2)
    comparison = (tmp_path / "out-rest/comparison.json").read_text()
    assert (tmp_path / "last.json").read_text() == comparison
    # one run in each arm on the first swaps; two on all, and both arms: nothing is taken on trust
    assert guests.booted[-12:].count("base-disk-1") == 1
    assert sum(name.startswith("base-") for name in guests.booted[-12:]) == 6


@pytest.mark.parametrize("where", ["zram", "disk"])
def test_what_either_verdict_says_is_the_exit_code(
    where: str, guests: Guests, tmp_path: Path
) -> None:
    """On zram the quick run meets it; on disk only the rest does."""
    guests.does = lambda arm, swap, case, _repeat: (
        "fail" if (arm, swap, case) == ("patched", where, "cow/a") else "pass"
    )
    ended = said(tmp_path / "out")
    assert ended.exit_code == 1, ended.output
    quick, whole = (
        json.loads((tmp_path / name / "comparison.json").read_bytes())["exit_code"]
        for name in FOLDERS
    )
    assert (quick, whole) == (int(where == "zram"), 1)


def test_a_regression_of_the_quick_run_stays_one_if_the_rest_does_not_meet_it(
    guests: Guests, tmp_path: Path
) -> None:
    guests.does = lambda arm, _swap, case, _repeat: (
        "fail" if (arm, case) == ("patched", "cow/a") and len(guests.booted) <= QUICK else "pass"
    )
    assert said(tmp_path / "out").exit_code == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "--rest"), "--rest is what comes after --quick"),
        (("run", "--quick", "--rest", "--watch", "--patch", "x"), "--rest runs once"),
        (("run", "--quick", "--rest", "--bisect-exit"), "--rest runs once"),
        (("run", "--quick", "--rest", "--json", "-"), "--rest prints two verdicts"),
    ],
)
def test_what_cannot_be_done_with_it_is_a_sentence(
    words: tuple[str, ...], sentence: str, guests: Guests
) -> None:
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2
    assert sentence in ended.output
    assert not guests.booted
