# SPDX-License-Identifier: GPL-2.0-only
"""How often a kernel has to run clean before it is called good, and how sure the answer is. Pure.

A bad kernel that shows its symptom with probability p runs clean n times with (1-p)^n: that is
how syzkaller's pkg/bisect reckons. What p is, the runs of a bad kernel tell, of which k of n show
it: the lower bound of Clopper and Pearson (Biometrika 26, 1934). The symptom is taken never to
show on a good kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.binomial import lower_bound

# A step that goes wrong is found out at the end and costs some steps, so steps may be quick.
STEP_RISK = 0.1


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of the judged runs of one bad kernel showed the symptom."""

    shown: int
    runs: int


def step_runs(rate: Rate) -> int:
    """Clean runs for one step, by the expected p of Laplace's rule of succession."""
    return _runs(min((rate.shown + 1) / (rate.runs + 2), 0.9), STEP_RISK)


@dataclass(frozen=True, slots=True)
class Surety:
    """The confidence asked for the whole answer, and its budget of error.

    Half of it is for p being lower than its bounds (one at the bad end, one at the answer), half
    for the kernels called good, shared by all that were tested: with (1-p)^n for each, the
    probability that any of them was bad is at most their sum.
    """

    confidence: float

    @property
    def _risk(self) -> float:
        return (1 - self.confidence) / 2

    def bound(self, rate: Rate) -> float:
        return lower_bound(rate.shown, rate.runs, self._risk / 2)

    def good_runs(self, rates: tuple[Rate, ...], tested: int) -> int:
        """Clean runs of the last good kernel, when so many kernels were tested."""
        return _runs(min(self.bound(rate) for rate in rates), self._risk / max(tested, 1))

    def reached(self, rates: tuple[Rate, ...], tested: int, clean: int) -> float:
        """The confidence of an answer whose last good kernel ran clean so often; 0 at least."""
        p = min(self.bound(rate) for rate in rates)
        return max(0.0, 1 - self._risk - max(tested, 1) * (1 - p) ** clean)


def _runs(p: float, risk: float) -> int:
    """The least n with (1-p)^n at most `risk`."""
    if p <= 0:
        raise ValueError("a symptom that never shows cannot be excluded")
    # 1e-9 so that 0.1^1 is enough for a risk of 0.1
    return max(1, math.ceil(math.log(risk) / math.log1p(-p) - 1e-9)) if p < 1 else 1
