# SPDX-License-Identifier: GPL-2.0-only
"""An ordered list to search: releases, or the patches of a series. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from runner.bisect.space import Answers, Found, Next, Term


@dataclass(frozen=True, slots=True)
class Line:
    """Candidates from old to new, both ends included; with `fixes` the old end is bad."""

    candidates: tuple[str, ...]
    fixes: bool = False

    @property
    def good(self) -> str:
        return self.candidates[-1 if self.fixes else 0]

    @property
    def bad(self) -> str:
        return self.candidates[0 if self.fixes else -1]

    @property
    def size(self) -> int:
        return len(self.candidates) - 1

    def choose(self, answers: Answers) -> Next | Found:
        """The untested one nearest to the middle of what is open.

        A bad answer is seen, a good one believed: a good one beyond a bad one does not count.
        """
        order = self.candidates[::-1] if self.fixes else self.candidates
        terms = [answers.get(each) for each in order]
        bad = terms.index(Term.BAD)
        good = max(place for place in range(bad) if terms[place] is Term.GOOD)
        untested = [place for place in range(good + 1, bad) if terms[place] is None]
        if untested:
            middle = (good + bad) / 2
            return Next(order[min(untested, key=lambda place: abs(place - middle))], bad - good)
        between = range(good, bad) if self.fixes else range(good + 1, bad + 1)
        answer = tuple(order[place] for place in between)
        return Found(answer[::-1] if self.fixes else answer, (order[good],), (order[bad],))
