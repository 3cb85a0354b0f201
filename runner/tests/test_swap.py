# SPDX-License-Identifier: GPL-2.0-only
"""Swap kinds as data, and the check that a guest got what was asked for."""

from __future__ import annotations

import pytest

from runner.case import SWAP_NAMES
from runner.errors import InfraError, UserError
from runner.swap import SWAPS, parse_facts, set_up_command, swap_named, verify

ZRAM = swap_named("zram")
GOOD = "stable_writes=1\nrotational=0\nsynchronous=yes\ndevice=/dev/zram0\ntotal_kb=262140\n"


def test_the_case_table_and_the_swaps_know_the_same_kinds() -> None:
    assert tuple(swap.kind for swap in SWAPS) == SWAP_NAMES


def test_an_unknown_kind_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(UserError, match=r"no swap kind 'zrm'.*zram"):
        swap_named("zrm")


def test_a_guest_that_got_what_was_asked_for_is_accepted() -> None:
    verify(ZRAM, parse_facts(GOOD), "5.10.223")


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (GOOD.replace("stable_writes=1", "stable_writes=0"), "stable_writes"),
        (GOOD.replace("synchronous=yes", "synchronous=no"), "synchronous"),
        (GOOD.replace("total_kb=262140", "total_kb=0"), "asked for"),
        (GOOD.replace("total_kb=262140\n", ""), "asked for"),
        (GOOD.replace("synchronous=yes\n", ""), "synchronous"),
        ("error=swapon /dev/zram0: refused by the kernel\n", "refused"),
        ("", "asked for"),
    ],
)
def test_a_guest_that_got_something_else_is_an_infrastructure_error(
    broken: str, named: str
) -> None:
    with pytest.raises(InfraError, match=named):
        verify(ZRAM, parse_facts(broken), "5.10.223")


def test_swap_that_nobody_asked_for_is_noticed() -> None:
    with pytest.raises(InfraError, match="the guest has 262140"):
        verify(swap_named("none"), parse_facts(GOOD), "5.10.223")


def test_synchronous_swap_is_not_checked_where_it_cannot_show() -> None:
    verify(ZRAM, parse_facts(GOOD.replace("synchronous=yes", "synchronous=no")), "7.0.1-rc2")


def test_the_set_up_command_carries_every_fact_as_a_word_of_its_own() -> None:
    command = set_up_command(swap_named("delayed-stable"), 7, 1.0)
    assert command == ("/twinboot/guest/swap-up", "delayed-stable", "256", "1", "400", "7", "10000")


def test_on_a_slow_kernel_swap_delays_longer_and_cases_wait_longer_and_nothing_else_changes() -> (
    None
):
    quick, slow = (set_up_command(swap_named("delayed"), 7, scale) for scale in (1.0, 2.5))
    assert quick[-3:] == ("400", "7", "10000")
    assert slow == (*quick[:-3], "1000", "7", "25000")
    assert set_up_command(ZRAM, 7, 10.0)[-3:] == ("0", "7", "100000")
