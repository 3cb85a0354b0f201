# SPDX-License-Identifier: GPL-2.0-only
"""What an operation costs on two kernels: the change, its interval, and what base alone shows.

It knows no cases and calls nothing better or worse (comparison.py). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from statistics import median

from runner.case import MeasureSpec


@dataclass(frozen=True, slots=True)
class Ratio:
    """The figure with the patch over that on base, and how far apart it may truly lie.

    `low` and `high` are the least and the greatest ratio of any two runs. If the patch multiplies
    the cost, that interval holds the factor with `confidence`, whatever the figures' distribution:
    it misses only where all runs of one arm lie on the same side of all of the other
    (Wilcoxon's rank sum test turned into an interval, at its widest).
    """

    low: float
    middle: float
    high: float
    confidence: float


def ratio(before: tuple[float, ...], after: tuple[float, ...]) -> Ratio | None:
    """None where an arm has no figure, or one that is not above 0."""
    if not before or not after or min(*before, *after) <= 0:
        return None
    return Ratio(
        low=min(after) / max(before),
        middle=median(after) / median(before),
        high=max(after) / min(before),
        confidence=1 - 2 / comb(len(before) + len(after), len(before)),
    )


def allowed(spec: MeasureSpec, before: tuple[float, ...]) -> float:
    """The difference of medians that is no change: for a cost at least what base's runs show
    against each other, and the floor.
    """
    if not spec.floor or not before:
        return spec.tolerance
    spread = max(before) - min(before)
    return max(spec.tolerance, spec.floor * median(before), spread)
