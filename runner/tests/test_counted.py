# SPDX-License-Identifier: GPL-2.0-only
"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from runner import matrix
from runner.counted import counted
from runner.matrix import Matrix, trials
from runner.qemu import Machine
from runner.swap import swap_named
from runner.tests.arms import REUSE
from runner.tests.test_matrix import kernel


@pytest.mark.parametrize(("number", "said"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases")])
def test_one_is_no_plural(number: int, said: str) -> None:
    assert counted(number, "case") == said


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "patch", "patches") for number in (1, 3)] == ["1 patch", "3 patches"]


def test_a_guest_with_one_case_is_told_as_that() -> None:
    image = kernel("b")
    swaps = (swap_named("nullblk"),)
    whole = Matrix(image, image, image.image, Machine(), swaps, (REUSE,), 1, 1)
    told: list[str] = []
    matrix._Count(2, told.append).tell(next(trials(whole)), 3.0)
    assert told == ["guest 1/2: base on nullblk, run 1, 1 case, 3 s"]
