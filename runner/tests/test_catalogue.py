# SPDX-License-Identifier: GPL-2.0-only
"""What `twinboot list` shows."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from runner import catalogue
from runner.document import save_document
from runner.experiment import ROOT, Plan, begin_folder
from runner.experimentfile import Experiment
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
        ("a-early", "a-early.patch", source, "regression: 1 REGRESSED; 0 of 1 row unchanged"),
        ("c-broken", "c-broken.patch", source, "unreadable"),
    ]


def test_the_default_source_is_listed_with_the_version_that_it_is() -> None:
    rows = [list(column.cells) for column in catalogue.table("sources").columns]
    said = dict(zip(*rows, strict=True))
    assert "in version 5.10.223-1" in str(said["debian:linux-source-5.10"])
    assert {"debian:linux-source-6.12", "debian:linux-source-7.2"} < said.keys()


def test_the_docs_have_every_fragment_and_every_key_of_an_experiment() -> None:
    fragments = (ROOT / "docs/kconfig.md").read_text()
    for path in (ROOT / "kconfigs").glob("*.config"):
        assert f"\n| `{path.stem}` | " in fragments
    (keys,) = re.findall(r"Keys: (.*?);\nany other", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    assert re.findall(r"`([a-z-]+)`", keys) == list(Experiment.model_fields)
