# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot list` shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner import catalogue
from runner.document import save_document
from runner.experiment import Plan, begin_folder
from runner.tests.arms import FAIL, compared, run


def test_earlier_runs_are_listed_with_their_verdicts_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBOOT_CACHE", str(tmp_path))
    for age, name in enumerate(("b-late", "a-early", "c-broken")):
        folder = tmp_path / "runs" / name
        begin_folder(Plan(folder, patch=f"{name}.patch"))
        os.utime(folder / "plan.json", (1000 - age, 1000 - age))
    save_document(compared([run()] * 2, [run(FAIL)] * 2), tmp_path / "runs/a-early/comparison.json")
    (tmp_path / "runs/c-broken/comparison.json").write_text("[")
    (tmp_path / "runs/no-run").mkdir()
    table = catalogue.table("runs")
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    source = "debian:linux-source-5.10"
    assert rows == [
        ("b-late", "b-late.patch", source, "not finished"),
        ("a-early", "a-early.patch", source, "regression: 1 REGRESSED; 0 of 1 rows unchanged"),
        ("c-broken", "c-broken.patch", source, "unreadable"),
    ]
