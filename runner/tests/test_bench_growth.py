# SPDX-License-Identifier: GPL-2.0-only
"""Twice as many trials are twice the work. Calls are counted, which a busy machine does not change.

The seconds are ci/bench/growth.py.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner import evidence, report
from runner.comparison import Comparison
from runner.document import document_text
from runner.experiment import Plan, plan_of
from runner.page import page
from runner.tests.fakeguests import Guests, guests, run
from runner.transcript import Transcript

__all__ = ["guests"]
REPEATS = (16, 32, 64)
PER_REPEAT = 6
# Sorting takes n log n comparisons, and what waits for a guest wakes up now and then.
ALLOWED = 1.03
Way = Callable[[Plan, Guests], Comparison]


@dataclass
class Calls:
    """How many functions were called meanwhile, in all threads."""

    number: int = 0

    def count(self, _frame: object, event: str, _what: object) -> None:
        self.number += event in ("call", "c_call")


@contextlib.contextmanager
def counted() -> Iterator[Calls]:
    calls = Calls()
    before = sys.getprofile()
    threading.setprofile(calls.count)
    sys.setprofile(calls.count)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def whole(plan: Plan, _guests: Guests) -> Comparison:
    return run(plan)


def in_two(plan: Plan, guests: Guests) -> Comparison:
    guests.booted.clear()
    guests.die_at = plan.repeats * PER_REPEAT // 2
    with contextlib.suppress(KeyboardInterrupt):
        run(plan)
    guests.die_at = -1
    return run(plan_of(plan.folder), resumed=True)


def work(plan: Plan, way: Way, guests: Guests) -> int:
    """How many calls a run is with all its reports."""
    with counted() as calls:
        comparison = way(plan, guests)
        transcripts = evidence.load_run(plan.folder).transcripts
        document_text(comparison)
        report.markdown(comparison)
        page(comparison, transcripts, "again")
    return calls.number


def growth(way: Way, guests: Guests, folder: Path) -> float:
    """How much work the second doubling adds for each trial, compared with the first: 1, if each
    trial is the same work."""
    run(Plan(folder / "first"))  # imports, and what is compiled once
    few, more, most = (
        work(Plan(folder / str(repeats), repeats=repeats), way, guests) for repeats in REPEATS
    )
    return (most - more) / (more - few) / 2


@pytest.mark.parametrize("way", [whole, in_two])
def test_a_trial_is_the_same_work_in_a_long_run_as_in_a_short_one(
    way: Way, guests: Guests, tmp_path: Path
) -> None:
    assert growth(way, guests, tmp_path) < ALLOWED


def test_a_run_that_looks_at_all_its_evidence_for_each_trial_is_noticed(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = evidence.save_transcript

    def and_look(folder: Path, transcript: Transcript) -> Path:
        list((folder / "transcripts").glob("base-*"))
        return save(folder, transcript)

    monkeypatch.setattr(evidence, "save_transcript", and_look)
    assert growth(whole, guests, tmp_path) > ALLOWED
