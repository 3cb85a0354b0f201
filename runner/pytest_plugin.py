# SPDX-License-Identifier: GPL-2.0-only
"""Experiment files as pytest items: one for each case on each kind of swap.

A file below a folder `experiments` is one experiment. Kernels are built once, and the guests of
one swap boot once, when the first of their items is set up, with the selected cases alone. They
are judged as `twinboot run` judges them: a regression fails its item; what was left open, or could
not be built or booted, is an error, since it says nothing about the patch. Not loaded by itself:
ci/conftest.py does it for ci/, `-p runner.pytest_plugin` anywhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner import experimentfile, given, host
from runner.comparison import Comparison
from runner.errors import TwinbootError, UserError
from runner.exchange import evidence, ruling
from runner.experiment import (
    DEFAULT_SOURCE,
    PATCHES,
    Arms,
    Plan,
    build_arms,
    chosen_cases,
    refuse_impossible,
    run_experiment,
    swaps_of,
)
from runner.judging import GUEST
from runner.report import clean
from runner.row import Row
from runner.wording import span

FOLDER = "experiments"

_tell = logging.getLogger("twinboot").info


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("twinboot", "kernel experiments")
    group.addoption("--twinboot-patch", metavar="PATCH", help="in place of each file's `patch`")
    group.addoption("--twinboot-source", metavar="SOURCE", help="in place of each file's `source`")
    group.addoption(
        "--twinboot-out", metavar="DIR", type=Path, help="folder for the evidence; must be new"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix in (".yaml", ".yml") and file_path.parent.name == FOLDER:
        experiment: ExperimentFile = ExperimentFile.from_parent(parent, path=file_path)
        return experiment
    return None


class ExperimentFile(pytest.File):
    """One experiment. Collecting it builds nothing."""

    plan: Plan

    def collect(self) -> Iterator[CaseItem]:
        try:
            self.plan = self._plan()
            cases = chosen_cases(self.plan)
            swaps = swaps_of(self.plan, cases)
        except TwinbootError as error:
            raise self.CollectError(clean(str(error))) from error
        for swap in swaps:
            for case in cases:
                if swap.kind in case.swaps:
                    # Not in brackets: pytest would take them for a parameter, and --lf not find it
                    name = f"{case.id}@{swap.kind}"
                    item: CaseItem = CaseItem.from_parent(self, name=name, callobj=judged)
                    item.case, item.swap = case.id, swap.kind
                    yield item

    def _plan(self) -> Plan:
        told = experimentfile.read(self.path)
        plan = told.plan(Path())
        if plan.has_foreign:
            raise UserError(
                f"{self.path}: foreign programs are known only when they are built, so pytest "
                "cannot collect them; use `twinboot run --experiment`"
            )
        asked = {
            "patch": self.config.getoption("twinboot_patch"),
            "source": self.config.getoption("twinboot_source"),
        }
        plan = replace(plan, **{name: value for name, value in asked.items() if value})
        named = asked["source"] or told.source or ""
        source, patch = given.settle(named, plan.patch, DEFAULT_SOURCE, PATCHES)
        return replace(plan, source=source, patch=patch)


class CaseItem(pytest.Function):
    """One case on one kind of swap, in both kernels."""

    case: str
    swap: str

    @property
    def plan(self) -> Plan:
        """The experiment's plan."""
        assert isinstance(self.parent, ExperimentFile)
        return self.parent.plan

    @property
    def peers(self) -> list[CaseItem]:
        """The selected items that share this one's guests, itself among them, in their order."""
        items = (each for each in self.session.items if isinstance(each, CaseItem))
        return [each for each in items if (each.path, each.swap) == (self.path, self.swap)]

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class Once:
    """What each key leads to, an error too, found out once in a session."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, find: Callable[[], Any]) -> Any:
        if key not in self._known:
            try:
                self._known[key] = find()
            except TwinbootError as error:
                self._known[key] = error
        if isinstance(self._known[key], TwinbootError):
            raise self._known[key]
        return self._known[key]


@pytest.fixture(scope="session")
def twinboot_kernels() -> Callable[[Plan], Arms]:
    """Both kernels of a plan; all experiments on the same ones share them."""
    once = Once()

    def kernels(plan: Plan) -> Arms:
        key = (plan.source, plan.patch, plan.fragments, plan.compiler)
        arms: Arms = once(key, lambda: _built(plan))
        return arms

    return kernels


def _built(plan: Plan) -> Arms:
    refuse_impossible(plan)
    return build_arms(plan, host.cache_dir(), _tell)


@pytest.fixture(scope="session")
def twinboot_guests(
    twinboot_kernels: Callable[[Plan], Arms], pytestconfig: pytest.Config
) -> Callable[[CaseItem], Comparison]:
    """What the guests of an item's swap said, with all selected cases of that swap."""
    once = Once()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-pytest")
    out = pytestconfig.getoption("twinboot_out") or host.cache_dir() / "runs" / stamp

    def boot(item: CaseItem) -> Comparison:
        twinboot_kernels(item.plan)
        plan = replace(
            item.plan,
            folder=out.absolute() / f"{item.path.stem}-{item.swap}",
            cases=tuple(each.case for each in item.peers),
            swaps=(item.swap,),
            full=False,
        )
        return run_experiment(plan, _tell)

    def guests(item: CaseItem) -> Comparison:
        comparison: Comparison = once((item.path, item.swap), lambda: boot(item))
        return comparison

    return guests


@pytest.fixture
def twinboot_rows(
    request: pytest.FixtureRequest, twinboot_guests: Callable[[CaseItem], Comparison]
) -> list[tuple[Row, str, str]]:
    """The item's row as a gate takes it, and before it the guest's own with its first item.

    What was left open fails here, in the set-up: pytest calls that an error.
    """
    item = request.node
    assert isinstance(item, CaseItem)
    try:
        comparison = twinboot_guests(item)
    except TwinbootError as error:
        pytest.fail(clean(str(error)), pytrace=False)
    wanted = [item.case] if item != item.peers[0] else [GUEST.id, item.case]
    rows = [row for row in comparison.rows if row.case.id in wanted and row.swap == item.swap]
    item.user_properties += [told for row in rows[-1:] for told in _properties(row)]
    ruled = [(row, *ruling(row, comparison)) for row in rows]
    for row, kind, message in ruled:
        if kind == "error":
            pytest.fail(_message(row, message), pytrace=False)
    if item.case not in {row.case.id for row in rows}:
        pytest.fail(f"{item.case} has no result on {item.swap}", pytrace=False)
    return ruled


def judged(twinboot_rows: list[tuple[Row, str, str]]) -> None:
    """The test itself: a regression fails it, with the evidence of both arms."""
    for row, kind, message in twinboot_rows:
        if kind == "failure":
            pytest.fail(_message(row, message), pytrace=False)
    _, kind, message = twinboot_rows[-1]
    if kind == "skipped":
        pytest.skip(clean(message))


def _message(row: Row, message: str) -> str:
    lines = list(dict.fromkeys([message, *evidence(row)]))
    return "\n".join([f"{row.case.id} on {row.swap}", *map(clean, lines)])


def _properties(row: Row) -> Iterator[tuple[str, object]]:
    yield "change", row.change.name
    for spec in row.case.measures:
        for arm, runs in (("base", row.base), ("patched", row.patched)):
            yield f"{spec.name}, {arm}", f"{span(runs.values(spec.name))} {spec.unit}"
