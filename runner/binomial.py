# SPDX-License-Identifier: GPL-2.0-only
"""How often something happens, by how often it was seen to: exact bounds of a rate. Pure.

They are those of Clopper and Pearson (Biometrika 26, 1934), found by halving.
"""

from __future__ import annotations

from math import comb

HALVINGS = 60


def lower_bound(shown: int, runs: int, risk: float) -> float:
    """The rate at which `shown` or more of the runs happen with probability `risk`; 0 for none."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(shown, runs, middle) > risk else (middle, high)
    return low


def upper_bound(shown: int, runs: int, risk: float) -> float:
    """The rate at which `shown` or fewer of the runs happen with probability `risk`; 1 for all."""
    return 1 - lower_bound(runs - shown, runs, risk)


def _at_least(shown: int, runs: int, rate: float) -> float:
    few = range(shown)
    return 1 - sum(comb(runs, each) * rate**each * (1 - rate) ** (runs - each) for each in few)
