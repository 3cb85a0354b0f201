# SPDX-License-Identifier: GPL-2.0-only
"""The cases on later kernels, base against base: nothing undecided, nothing that differs.

Skipped unless TWINBOOT_KERNELS=1, because it builds three kernels from nothing (docs/kernels.md).
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from runner import host
from runner.experiment import Plan
from runner.prove import KNOWN_BAD, ProofPlan, prove
from runner.tests.conftest import say
from runner.tests.test_run_vm import changes, run

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        os.environ.get("TWINBOOT_KERNELS") != "1",
        reason="TWINBOOT_KERNELS=1 runs the cases on three more kernels, each built from nothing",
    ),
]

LINES = ("6.1", "6.12", "7.2")
# PASS and SKIP, or a finding in every run: docs/kernels.md explains each. There is none so far.
FAILING: dict[str, frozenset[tuple[str, str]]] = {line: frozenset() for line in LINES}


@pytest.fixture(scope="module", params=LINES)
def later(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, int, dict[str, Any]]:
    line: str = request.param
    out = tmp_path_factory.mktemp("later") / f"linux-{line}"
    source = f"debian:linux-source-{line}"
    return line, *run(out, "--source", source, "--patch", "none", "--full")


def verdicts(document: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (row["case"], row["swap"]): {
            each["verdict"] for arm in ("base", "patched") for each in row[arm]["runs"]
        }
        for row in document["cases"]
    }


def test_base_against_base_is_silent_on_a_later_kernel(
    later: tuple[str, int, dict[str, Any]],
) -> None:
    _, code, document = later
    assert {where for where, change in changes(document).items() if change != "SAME"} == set()
    assert code == 0


def test_every_case_passes_skips_or_is_a_known_finding_of_that_kernel(
    later: tuple[str, int, dict[str, Any]],
) -> None:
    line, _, document = later
    found = {where: said - {"PASS", "SKIP"} for where, said in verdicts(document).items()}
    assert {where: said for where, said in found.items() if said} == {
        where: {"FAIL"} for where in FAILING[line]
    }


def test_a_case_that_is_skipped_says_why(later: tuple[str, int, dict[str, Any]]) -> None:
    _, _, document = later
    reasons = [
        each["reason"]
        for row in document["cases"]
        for each in row["base"]["runs"]
        if each["verdict"] == "SKIP"
    ]
    assert all(len(reason.split()) > 1 for reason in reasons)


def test_a_later_kernel_complains_of_nothing(later: tuple[str, int, dict[str, Any]]) -> None:
    _, _, document = later
    assert [each["splats"] for row in document["cases"] for each in row["base"]["runs"]] == [
        [] for row in document["cases"] for _ in row["base"]["runs"]
    ]


@pytest.mark.parametrize("line", [line for line in LINES if (KNOWN_BAD / line).is_dir()])
def test_the_known_bad_kernels_of_a_line_are_noticed_by_every_case_they_name(line: str) -> None:
    plan = Plan(host.cache_dir() / "proofs", source=f"debian:linux-source-{line}")
    table = prove(ProofPlan(plan), say)
    assert (table.unmet, table.survivors) == ((), ())
    assert len(table.bugs) == len(list((KNOWN_BAD / line).glob("*.patch")))
